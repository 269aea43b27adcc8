//! A fleet and its coordinator in virtual seconds.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use orangery::rollout::RolloutId;
use orangery_agent::deployment::{Event, Phase};
use orangery_sim::Random;
use orangery_wire::NodeId;
use orangery_wire::messages::{AppReport, DesiredApp};
use orangery_wire::rest::DeedRequest;

use crate::center::{Center, Known};
use crate::kinds::{Counts, Options};
use crate::laws::Laws;
use crate::node::{Fate, Node, Outcome, release};

/// Seconds between two looks of the coordinator.
pub const TICK: u64 = 10;
/// Seconds between two signs of life of a node.
const HEALTH_EACH: u64 = 60;
/// Seconds after which a report that was not taken is sent again.
const RESEND: u64 = 20;
/// Seconds until the broker notices that a node is gone.
const WILL: u64 = 45;

/// What is due.
pub enum Due {
    /// What an effect led to; the number says of which step of the core.
    Outcome(usize, u64, Event),
    Down(usize, u64),
    Start(usize),
    Report(usize, Box<AppReport>, u64, u64),
    Resend(usize, u64),
    Health(usize),
    Will(usize),
    Desired(usize, DesiredApp),
    /// A release shows what it is.
    Sour(usize, orangery_wire::ReleaseId),
    Tick,
    Fault,
    Person,
    Link(usize, bool),
    CenterUp,
    Listen(bool),
}

/// The world.
pub struct World {
    pub options: Options,
    pub now: u64,
    pub random: Random,
    pub nodes: Vec<Node>,
    pub center: Center,
    pub laws: Laws,
    pub counts: Counts,
    /// Seconds in which the coordinator was there and listened.
    pub listened: u64,
    order: BinaryHeap<Reverse<(u64, u64)>>,
    due: BTreeMap<(u64, u64), Due>,
    queued: u64,
    pub names: BTreeMap<NodeId, usize>,
}

impl World {
    /// A fleet that runs 1.1.0 and knows it.
    pub fn new(options: Options) -> Self {
        let mut world = Self {
            options,
            now: 0,
            random: Random::new(options.seed),
            nodes: Vec::new(),
            center: Center { is_up: true, is_listening: true, ..Center::default() },
            laws: Laws::default(),
            counts: Counts::default(),
            listened: 0,
            order: BinaryHeap::new(),
            due: BTreeMap::new(),
            queued: 0,
            names: BTreeMap::new(),
        };
        for k in 0..options.nodes {
            world.add(k);
        }
        world.at(TICK, Due::Tick);
        world
    }

    fn add(&mut self, k: usize) {
        let name: NodeId = format!("n{k}").parse().unwrap();
        let fates = vec![Fate::Good; 16];
        let node = Node::new(name.clone(), 1, fates);
        let site = if k.is_multiple_of(3) { "attic" } else { "ground" };
        let known = Known { joined: true, generation: 1, report: Some(node.report()), site, ..Known::default() };
        let desired = Some(DesiredApp { app: crate::node::app(), generation: 1, release: Some(release(1)) });
        self.center.known.insert(name.clone(), Known { desired, sequence: 1, ..known });
        self.names.insert(name, k);
        self.nodes.push(node);
        self.at(self.now + self.now % 7 + k as u64 % HEALTH_EACH, Due::Health(k));
    }

    pub fn at(&mut self, when: u64, due: Due) {
        self.queued += 1;
        self.order.push(Reverse((when, self.queued)));
        self.due.insert((when, self.queued), due);
    }

    /// Does what is due until then.
    pub fn run_until(&mut self, end: u64) {
        while let Some(Reverse((at, _))) = self.order.peek().copied()
            && at <= end
            && self.laws.broken.is_none()
        {
            let Some(Reverse(key)) = self.order.pop() else { break };
            self.now = key.0;
            let Some(due) = self.due.remove(&key) else { continue };
            self.happens(due);
        }
        self.now = end;
    }

    fn happens(&mut self, due: Due) {
        match due {
            Due::Outcome(k, step, event) if self.nodes[k].step == step && self.nodes[k].is_on => self.core(k, &event),
            Due::Down(k, step) if self.nodes[k].step == step && self.nodes[k].is_on => self.go_down(k, 15),
            Due::Start(k) => self.start(k),
            Due::Report(k, report, sequence, boot) => self.report_arrives(k, *report, sequence, boot),
            Due::Resend(k, sequence) if self.nodes[k].sequence == sequence => self.send_report(k),
            Due::Health(k) => self.health(k),
            Due::Will(k) if !self.nodes[k].is_linked || !self.nodes[k].is_on => {
                let name = self.nodes[k].name.clone();
                self.center.known.get_mut(&name).unwrap().online = false;
            }
            // What they were about is over.
            Due::Outcome(..) | Due::Down(..) | Due::Resend(..) | Due::Will(_) => {}
            Due::Desired(k, desired) => self.desired_arrives(k, &desired),
            Due::Sour(k, id) => self.sour(k, id),
            Due::Tick => {
                self.tick();
                self.at(self.now + TICK, Due::Tick);
            }
            Due::Fault => crate::faults::fault(self),
            Due::Person => crate::faults::person(self),
            Due::Link(k, is_linked) => self.link(k, is_linked),
            Due::CenterUp => self.center_up(),
            Due::Listen(on) => {
                self.center.is_listening = on;
                if on {
                    self.center.listens_since = self.now;
                    self.everyone_reconnects();
                }
            }
        }
    }

    /// The core takes an event and the world does what it asks for.
    fn core(&mut self, k: usize, event: &Event) {
        let now = self.now;
        let node = &mut self.nodes[k];
        let (asked, before) = (node.record.effect(), node.record.current);
        let changed = node.tell(event.clone(), now);
        node.after(event, &asked, now);
        if let Some(current) = node.record.current
            && before != Some(current)
        {
            match node.fate(&current) {
                Fate::Sours(secs) | Fate::Dies(secs) => self.at(now + secs, Due::Sour(k, current)),
                _ => {}
            }
        }
        self.ask(k);
        if changed {
            self.send_report(k);
        }
    }

    fn ask(&mut self, k: usize) {
        let step = self.nodes[k].step;
        match self.nodes[k].outcome(&mut self.random) {
            (secs, Outcome::Event(event)) => self.at(self.now + secs, Due::Outcome(k, step, event)),
            (secs, Outcome::Down) => self.at(self.now + secs, Due::Down(k, step)),
            (_, Outcome::Never) => {}
        }
    }

    fn sour(&mut self, k: usize, id: orangery_wire::ReleaseId) {
        let node = &mut self.nodes[k];
        if !node.is_on || node.record.current != Some(id) || node.running != Some(id) {
            return;
        }
        if matches!(node.fate(&id), Fate::Dies(_)) {
            node.is_dead = true;
            return self.go_down(k, u64::MAX);
        }
        node.set(Some(id), Some(false), self.now);
        self.send_report(k);
    }

    /// Power goes, and comes back after so many seconds.
    pub fn go_down(&mut self, k: usize, secs: u64) {
        self.nodes[k].cut_power(self.now);
        self.at(self.now + WILL, Due::Will(k));
        if secs < u64::MAX {
            self.at(self.now + secs, Due::Start(k));
        }
    }

    pub fn start(&mut self, k: usize) {
        if self.nodes[k].is_on || self.nodes[k].is_dead {
            return;
        }
        self.nodes[k].start(self.now);
        self.ask(k);
        if self.nodes[k].is_linked {
            self.reconnect(k);
        }
    }

    pub fn link(&mut self, k: usize, is_linked: bool) {
        if std::mem::replace(&mut self.nodes[k].is_linked, is_linked) == is_linked {
            return;
        }
        if is_linked {
            self.reconnect(k);
        } else {
            self.at(self.now + WILL, Due::Will(k));
        }
    }

    /// A node says what it runs and gets what is retained for it.
    fn reconnect(&mut self, k: usize) {
        self.send_report(k);
        self.publish(k);
    }

    pub fn everyone_reconnects(&mut self) {
        (0..self.nodes.len()).for_each(|k| self.reconnect(k));
    }

    fn center_up(&mut self) {
        (self.center.is_up, self.center.listens_since) = (true, self.now);
        self.everyone_reconnects();
    }

    fn is_reached(&self, k: usize) -> bool {
        self.nodes[k].is_on && self.nodes[k].is_linked && self.center.is_up && self.center.is_listening
    }

    fn send_report(&mut self, k: usize) {
        let node = &mut self.nodes[k];
        if !node.is_on {
            return;
        }
        node.sequence += 1;
        let (sequence, boot, report) = (node.sequence, node.boots, node.report());
        self.at(self.now + RESEND, Due::Resend(k, sequence));
        if !self.random.percent(self.options.loss_percent) {
            let delay = self.random.below(5);
            self.at(self.now + delay, Due::Report(k, Box::new(report), sequence, boot));
        }
    }

    fn report_arrives(&mut self, k: usize, report: AppReport, sequence: u64, boot: u64) {
        let name = self.nodes[k].name.clone();
        if !self.is_reached(k) || !self.center.known[&name].joined {
            return;
        }
        self.center.report(&name, self.now, report, sequence, boot);
        if self.nodes[k].sequence == sequence {
            // It was taken: nothing is sent again.
            self.nodes[k].sequence += 1;
        }
    }

    fn health(&mut self, k: usize) {
        self.at(self.now + HEALTH_EACH, Due::Health(k));
        let name = self.nodes[k].name.clone();
        let is_heard = self.is_reached(k) && self.center.known[&name].joined;
        if is_heard && !self.random.percent(self.options.loss_percent) {
            self.center.hear(&name, self.now, self.nodes[k].boots);
            self.center.hear_vitals(&name, &crate::worse::vitals(&self.nodes[k], self.now));
        }
        if self.nodes[k].healthy.is_none()
            && matches!(self.nodes[k].record.phase, Phase::Settled)
            && self.nodes[k].is_on
        {
            let running = self.nodes[k].running;
            self.nodes[k].set(running, Some(true), self.now);
            self.send_report(k);
        }
    }

    /// Brings what is retained for a node on its way.
    pub fn publish(&mut self, k: usize) {
        let name = &self.nodes[k].name;
        let Some(desired) = self.center.known[name].desired.clone() else { return };
        let delay = if self.random.percent(self.options.loss_percent) { 60 } else { self.random.below(5) };
        self.at(self.now + delay, Due::Desired(k, desired));
    }

    fn desired_arrives(&mut self, k: usize, desired: &DesiredApp) {
        if !self.nodes[k].is_on || !self.nodes[k].is_linked {
            return;
        }
        let step = self.nodes[k].step;
        let changed = self.nodes[k].desire(desired, self.now);
        if changed {
            self.ask(k);
            self.send_report(k);
        } else {
            // Nothing new: what is under way goes on.
            self.nodes[k].step = step;
        }
    }

    /// The coordinator looks at its rollouts. It may be killed before it has committed, or before it has told anybody.
    fn tick(&mut self) {
        if !self.center.is_up {
            return;
        }
        self.listened += if self.center.is_listening { TICK } else { 0 };
        let now = self.now;
        for known in self.center.known.values_mut() {
            known.hold.take_if(|hold| hold.until <= now);
        }
        for id in self.center.active() {
            if self.center.is_up {
                self.look(id);
            }
        }
    }

    fn look(&mut self, id: RolloutId) {
        let before = self.center.rollouts[&id].clone();
        let (scene, planned) = crate::faults::planned(self, id);
        self.laws.judge(self.now, self.listened, &mut self.nodes, &self.names, &scene, &before, &planned);
        let killed = self.laws.chance_of_kill(&mut self.random);
        if killed == Some(false) {
            return self.kill();
        }
        self.center.commit(self.now, id, &planned);
        self.laws.committed(self.listened, &scene, &planned);
        if killed == Some(true) {
            return self.kill();
        }
        for telling in &planned.assign {
            let k = self.names[&telling.node];
            self.publish(k);
        }
    }

    pub fn kill(&mut self) {
        self.counts.kills += 1;
        self.center.kill();
        let secs = self.random.between(5, 600);
        self.at(self.now + secs, Due::CenterUp);
    }

    /// Somebody does something to a rollout; whether it was possible.
    pub fn deed(&mut self, id: RolloutId, what: &str, note: Option<&str>) -> Result<String, String> {
        let asked = DeedRequest { note: note.map(str::to_owned) };
        let deed = orangery_wire::rest::Deed { by: "ann".into(), at: self.center.clock(self.now), note: asked.note };
        let rollout = self.center.rollouts.get_mut(&id).ok_or("there is no such rollout")?;
        let done = match what {
            "pause" => rollout.pause(&deed).map(|()| "paused".to_owned()),
            "resume" => rollout.resume().map(|()| "resumed".to_owned()),
            "promote" => rollout.promote(&deed).map(|wave| format!("wave {} promoted", wave + 1)),
            "approve" => rollout.approve(&deed).map(|wave| match wave {
                Some(wave) => format!("wave {} approved", wave + 1),
                None => "goes on in spite of the comparison".to_owned(),
            }),
            "ignore-windows" => rollout.ignore_windows(&deed).map(|()| "looks at no window any more".to_owned()),
            "revert" => rollout.revert(&deed).map(|()| "reverting".to_owned()),
            other => return Err(format!("no deed is named {other}")),
        };
        if what == "resume" && done.is_ok() {
            self.laws.resumed(id);
        }
        let done = done.map_err(|error| error.to_string());
        if let Ok(done) = &done {
            self.center.note(self.now, format_args!("rollout {id}: {done} by ann"));
        }
        done
    }
}
