//! The world: everything that is due, in the order of virtual time, and one thing after the other done.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use orangery_agent::driver::Event;
use orangery_wire::topics::Channel;
use orangery_wire::{AppName, ReleaseId};

use crate::broker::Broker;
use crate::coordinator::{Coordinator, Topic};
use crate::faults::Fault;
use crate::laws::{Law, Violation};
use crate::node::Node;
use crate::options::{Mutant, Options};
use crate::queue::Queue;
use crate::random::Random;
use crate::releases::Catalogue;
use crate::summary::Counts;
use crate::trace::{Line, Trace};

/// One virtual second, in the milliseconds that everything is counted in.
pub const SECOND: u64 = 1_000;
/// One virtual minute.
pub const MINUTE: u64 = 60 * SECOND;
/// One virtual hour.
pub const HOUR: u64 = 60 * MINUTE;
/// One virtual day.
pub const DAY: u64 = 24 * HOUR;
/// When the world begins, as Unix time: long after every build of these programs, whose time is a floor.
pub const EPOCH_SECS: u64 = 4_000_000_000;

/// Something that is due.
pub enum Due {
    /// A board gets power.
    PowerOn(usize),
    /// Its agent starts, if the board has not gone down since.
    AgentStarts { node: usize, boot: u64 },
    /// A time server answers.
    TimeIsKnown { node: usize, boot: u64 },
    /// The driver of this life is told something.
    Tell { node: usize, life: u64, event: Event },
    /// An effect's pause is over.
    EffectBegins { node: usize, life: u64, app: AppName, serial: u64 },
    /// It is done, one way or another.
    EffectEnds { node: usize, life: u64, app: AppName, serial: u64 },
    /// Releases that nothing needs go.
    Collect { node: usize, life: u64, app: AppName },
    /// What was proven there fails after all, or is seen to be well.
    Probed { node: usize, life: u64, app: AppName, release: ReleaseId, healthy: bool, off: Arc<AtomicBool> },
    /// A node tries to connect.
    Dials { node: usize, life: u64 },
    /// It is connected.
    Connected { node: usize, life: u64, session: u64 },
    /// It finds that its connection is gone.
    NodeNotices { node: usize, session: u64 },
    /// The broker finds that.
    BrokerNotices { node: usize, session: u64 },
    /// A message reaches a node.
    ToNode { node: usize, session: u64, channel: Channel, payload: Vec<u8> },
    /// A message of a node reaches the broker.
    FromNode { node: usize, session: u64, channel: Channel, payload: Vec<u8> },
    /// Events have waited for their acknowledgement.
    Resend { node: usize, life: u64 },
    /// A health message is due.
    Tick { node: usize, life: u64 },
    /// A message of a node reaches the coordinator.
    ToCoordinator { node: usize, session: u64, channel: Channel, payload: Vec<u8> },
    /// A value of the coordinator reaches the broker.
    ToBroker { session: u64, packet: u16, topic: Topic, payload: Vec<u8> },
    /// The broker has it.
    BrokerAcks { session: u64, packet: u16 },
    /// The coordinator does what has gathered.
    Turn,
    /// What it did is durable, and what follows leaves it.
    TurnEnds(u64),
    /// It starts.
    CoordinatorStarts,
    /// It tries to reach its broker.
    CoordinatorDials,
    /// The broker is there again.
    BrokerStarts,
    /// People want something.
    People,
    /// Something breaks on a node.
    NodeFault(usize),
    /// It is mended.
    Mended(usize, Fault),
    /// Something breaks that is not on a node.
    CommonFault,
    /// A site is reached again.
    SiteMended(u64),
    /// From now on nothing breaks that is not broken.
    Calm,
    /// Somebody asks why.
    Look,
}

/// All of it.
pub struct World {
    /// How it was made.
    pub options: Options,
    /// Virtual milliseconds since the beginning.
    pub now: u64,
    /// The boards.
    pub nodes: Vec<Node>,
    /// The broker.
    pub broker: Broker,
    /// The coordinator.
    pub coordinator: Coordinator,
    /// What there is to run.
    pub catalogue: Catalogue,
    /// Chance for what is not on a node.
    pub random: Random,
    /// What happened.
    pub trace: Trace,
    /// How often.
    pub counts: Counts,
    /// The first law that was broken.
    pub broken: Option<Violation>,
    queue: Queue<Due>,
}

impl World {
    /// The world of a seed, with everything that it begins with due.
    pub fn new(options: Options) -> Result<Self, String> {
        let random = Random::new(options.seed);
        let mut nodes = Vec::with_capacity(options.nodes);
        for index in 0..options.nodes {
            let node = Node::new(index, random.fork(1_000 + index as u64)).ok_or("a node's name is not one")?;
            nodes.push(node);
        }
        let mut of_world = random.fork(1);
        let catalogue = Catalogue::new(&mut random.fork(2));
        let broker = Broker::new(of_world.percent(50));
        let coordinator = Coordinator::new()?;
        let trace = Trace::new(options.printing);
        let mut world = Self {
            now: 0,
            nodes,
            broker,
            coordinator,
            catalogue,
            random: of_world,
            trace,
            counts: Counts::default(),
            broken: None,
            queue: Queue::default(),
            options,
        };
        world.begin();
        Ok(world)
    }

    fn begin(&mut self) {
        self.later(0, Due::BrokerStarts);
        self.later(0, Due::CoordinatorStarts);
        self.later(MINUTE, Due::People);
        self.later(HOUR, Due::CommonFault);
        self.later(HOUR, Due::Look);
        self.at(self.options.rough_ends_at(), Due::Calm);
        for node in 0..self.nodes.len() {
            self.plant(node);
            // Most are there at the beginning, the others join later.
            let late = self.options.rough_ends_at().min(5 * DAY);
            let joins = if self.random.percent(90) { self.random.below(HOUR) } else { self.random.below(late) };
            self.later(joins, Due::PowerOn(node));
            let breaks = self.pause_before_fault(node);
            self.later(joins + breaks, Due::NodeFault(node));
        }
    }

    fn plant(&mut self, node: usize) {
        let mutant = self.options.mutant;
        self.nodes[node].disk.plant(mutant == Some(Mutant::SyncsNothing), mutant == Some(Mutant::ActsBeforeTheSave));
    }

    /// Whether this fault is planted.
    pub fn has(&self, mutant: Mutant) -> bool {
        self.options.mutant == Some(mutant)
    }

    /// Has something happen after a while.
    pub fn later(&mut self, pause: u64, due: Due) {
        self.at(self.now + pause, due);
    }

    /// Has something happen at a time.
    pub fn at(&mut self, at: u64, due: Due) {
        self.queue.push(at.max(self.now), due);
    }

    /// Adds a line to the trace.
    pub fn note(&mut self, place: usize, what: &'static str, one: u64, two: u64) {
        self.trace.note(Line { at: self.now, place, what, one, two });
    }

    /// Faults still happen.
    pub fn is_rough(&self) -> bool {
        self.options.faults_percent > 0 && self.now < self.options.rough_ends_at()
    }

    /// A law that does not hold; the first ends the run.
    pub fn break_law(&mut self, law: Law, node: Option<usize>, text: impl Into<String>) {
        if self.broken.is_none() {
            let (at, text) = (self.now, text.into());
            self.note(node.unwrap_or(Line::NOWHERE), "LAW BROKEN", law as u64, 0);
            self.broken = Some(Violation { law, node, at, text });
        }
    }

    /// Goes on until the end of the time, or until a law is broken.
    pub fn run(&mut self) {
        let end = self.options.ends_at();
        while self.broken.is_none() {
            let Some((at, due)) = self.queue.pop() else { break };
            if at > end {
                break;
            }
            self.now = at;
            self.counts.steps += 1;
            self.happens(due);
        }
        self.now = self.now.max(end);
        if self.broken.is_none() {
            self.judge_the_end();
        }
    }

    fn happens(&mut self, due: Due) {
        match due {
            Due::PowerOn(node) => self.power_on(node),
            Due::AgentStarts { node, boot } => self.agent_starts(node, boot),
            Due::TimeIsKnown { node, boot } => self.time_is_known(node, boot),
            Due::Tell { node, life, event } => self.tell(node, life, event),
            Due::EffectBegins { node, life, app, serial } => self.effect_begins(node, life, &app, serial),
            Due::EffectEnds { node, life, app, serial } => self.effect_ends(node, life, &app, serial),
            Due::Collect { node, life, app } => self.collect(node, life, &app),
            Due::Probed { node, life, app, release, healthy, off } => {
                self.probed(node, life, app, release, healthy, &off);
            }
            Due::Dials { node, life } => self.dials(node, life),
            Due::Connected { node, life, session } => self.connected(node, life, session),
            Due::NodeNotices { node, session } => self.node_notices(node, session),
            Due::BrokerNotices { node, session } => self.broker_notices(node, session),
            Due::ToNode { node, session, channel, payload } => self.reaches_node(node, session, channel, payload),
            Due::FromNode { node, session, channel, payload } => {
                self.reaches_broker_from_node(node, session, channel, payload);
            }
            Due::Resend { node, life } => self.resend(node, life),
            Due::Tick { node, life } => self.tick(node, life),
            Due::ToCoordinator { node, session, channel, payload } => {
                self.reaches_coordinator(node, session, channel, payload);
            }
            Due::ToBroker { session, packet, topic, payload } => self.reaches_broker(session, packet, topic, payload),
            Due::BrokerAcks { session, packet } => self.broker_acks(session, packet),
            Due::Turn => self.turn(),
            Due::TurnEnds(number) => self.turn_ends(number),
            Due::CoordinatorStarts => self.coordinator_starts(),
            Due::CoordinatorDials => self.coordinator_dials(),
            Due::BrokerStarts => self.broker_starts(),
            Due::People => self.people(),
            Due::NodeFault(node) => self.node_fault(node),
            Due::Mended(node, fault) => self.mended(node, fault),
            Due::CommonFault => self.common_fault(),
            Due::SiteMended(site) => self.site_mended(site),
            Due::Calm => self.calm(),
            Due::Look => self.look_around(),
        }
    }
}
