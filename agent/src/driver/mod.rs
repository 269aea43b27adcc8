//! The driver: the one place where the deployment machine meets the world, and the only writer of durable state.
//!
//! It runs on a thread of its own and takes one [`Event`] after the other. For each it (1) lets the pure core say what
//! follows, (2) saves that, (3) starts the one effect that the saved record asks for. Effects are asynchronous and end in
//! an event. What was under way when the power went is not remembered: the record is loaded and told `Started`.

mod apps;
mod bring;
mod effects;
mod events;
mod gate;
mod outside;
mod refused;
mod show;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use orangery_wire::messages::{Acked, AppReport, Desired, DesiredApp, Rejected, ReleaseRef, TrustReport, What};
use orangery_wire::{AppName, NodeId, ReleaseId};

use crate::clock::Clock;
use crate::config::Settings;
use crate::control;
use crate::deployment;
use crate::disk::Disk;
use crate::health::Sampler;
use crate::identity::Identity;
use crate::install::{InstallFailure, Installer};
use crate::layout::Layout;
use crate::link::{Link, LinkEvent};
use crate::outbox::Outbox;
use crate::record::{self, NodeState};
use crate::reserve::Reserve;
use crate::runner::{Exit, Runners};
use crate::vitals::Vitals;

use apps::App;
pub use effects::{Outcome, Retry};
use outside::Hands;
pub use outside::{CallOff, Home, Outside};

/// Everything that can happen to an agent.
pub enum Event {
    /// An effect ended.
    Outcome {
        /// The app.
        app: AppName,
        /// Which effect; an outcome of one that was given up is dropped.
        serial: u64,
        /// How it ended.
        outcome: effects::Outcome,
    },
    /// An event whose record could not be saved is due again.
    Again {
        /// The app.
        app: AppName,
        /// The record that it was for. When that has moved on, only a wish still counts.
        seen: Box<deployment::Record>,
        /// The event.
        event: deployment::Event,
    },
    /// The connection, or something that came over it.
    Link(LinkEvent),
    /// An app's process ended by itself.
    Exit(Exit),
    /// The probes of a committed release changed their mind.
    AppHealth {
        /// The app.
        app: AppName,
        /// The release that was probed.
        release: ReleaseId,
        /// Whether they hold.
        healthy: bool,
        /// Why not.
        reason: Option<String>,
    },
    /// A release that somebody on this node brought is on the disk, or is not.
    Brought(Result<ReleaseRef, InstallFailure>),
    /// Newer metadata may be here.
    Refreshed,
    /// What speaks against releases that are here.
    Judged(Vec<(AppName, ReleaseRef, Option<deployment::Reason>)>),
    /// Somebody on this node asks.
    Control(control::Request, tokio::sync::oneshot::Sender<control::Reply>),
    /// Is the driver alive? It answers with how the agent is, in a few words.
    Pulse(tokio::sync::oneshot::Sender<String>),
    /// A health message is due.
    Tick,
    /// The agent is to stop.
    Stop,
}

/// What effects and the driver share.
pub struct World {
    /// This node.
    pub node: NodeId,
    /// Its coordinator's address.
    pub url: String,
    /// Its certificate; `None` before it has joined.
    pub identity: Option<Arc<Identity>>,
    /// The board's model, if it says.
    pub board: Option<String>,
    /// This boot.
    pub boot_id: String,
    /// Its settings.
    pub settings: Settings,
    /// Where things are.
    pub layout: Layout,
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// The time.
    pub clock: Arc<Clock>,
    /// Gets releases onto the disk.
    pub installer: Arc<Installer>,
    /// The bytes that the agent keeps for itself.
    pub reserve: Arc<Reserve>,
    /// Makes them run.
    pub runners: Arc<Runners>,
    /// Where effects are spawned.
    pub runtime: tokio::runtime::Handle,
    /// Where their outcomes go.
    pub events: Sender<Event>,
    /// The way to the coordinator.
    pub link: Link,
    /// Wakes every effect that waits before its next attempt.
    pub nudge: tokio::sync::Notify,
    /// How the apps are.
    pub vitals: Arc<Vitals>,
}

/// The driver's own state. Only its thread has it.
pub struct Driver {
    home: Home,
    outside: Box<dyn Outside>,
    outbox: Outbox,
    node: NodeState,
    /// Counts the reports of this run.
    reports: u64,
    /// What it said of the apps; it is sent again only when that changes.
    last_reported: Option<(TrustReport, Vec<AppReport>)>,
    apps: BTreeMap<AppName, App>,
    connected: bool,
    /// Highest event that the link has taken since it came up.
    offered: u64,
    /// The last acknowledgement on this connection.
    last_acked: Option<Acked>,
    /// The last message that was rejected, so that a retained one is reported once and not at every reconnect.
    rejected: Option<(String, Vec<u8>)>,
    /// Whether the last event was not stored.
    outbox_fails: bool,
    /// When the time floor was last saved.
    floor_saved: u64,
    /// The last release that somebody on this node brought.
    brought: Option<bring::Brought>,
    /// Outputs that were asked for and are shown.
    shown: show::Shown,
}

/// The floor is saved when it has moved this far, in seconds: a few writes a day.
const FLOOR_STEP_SECS: u64 = 6 * 3_600;

impl Driver {
    /// A driver with everything that it needs, before it has looked at the disk.
    pub fn new(world: Arc<World>, link: Link, outbox: Outbox, node: NodeState) -> Self {
        let (home, sampler) = (Home::of(&world), Sampler::new(world.layout.root()));
        Self::with(home, Box::new(Hands { world, link, sampler }), outbox, node)
    }

    /// The same for a node that has others outside.
    pub fn with(home: Home, outside: Box<dyn Outside>, outbox: Outbox, node: NodeState) -> Self {
        let floor_saved = node.time_floor;
        Self {
            home,
            outside,
            outbox,
            node,
            reports: 0,
            last_reported: None,
            apps: BTreeMap::new(),
            connected: false,
            offered: 0,
            last_acked: None,
            rejected: None,
            outbox_fails: false,
            floor_saved,
            brought: None,
            shown: show::Shown::default(),
        }
    }

    /// Loads every record, brings it to life and serves events until [`Event::Stop`].
    pub fn run(mut self, events: &Receiver<Event>) {
        self.begin();
        while let Ok(event) = events.recv() {
            if matches!(event, Event::Stop) {
                break;
            }
            self.take(event);
            // What came meanwhile is taken in before the report, which is then sent once.
            while let Ok(event) = events.try_recv() {
                if matches!(event, Event::Stop) {
                    return self.stop();
                }
                self.take(event);
            }
            self.report();
        }
        self.stop();
    }

    /// Loads every record and brings it to life: what comes before the first event.
    pub fn begin(&mut self) {
        self.tell(None, &What::AgentStarted { version: env!("CARGO_PKG_VERSION").to_owned() });
        for app in record::apps(&*self.home.disk, &self.home.layout) {
            self.wake(&app);
        }
        self.judge();
        self.report();
        self.outside.mend_reserve();
    }

    /// Takes one event in. [`Driver::report`] follows when nothing else is waiting.
    pub fn take(&mut self, event: Event) {
        match event {
            Event::Outcome { app, serial, outcome } => self.outcome(&app, serial, outcome),
            Event::Again { app, seen, event } => self.again(&app, &seen, event),
            Event::Link(event) => self.linked(event),
            Event::Exit(exit) => self.exited(exit),
            Event::AppHealth { app, release, healthy, reason } => self.probed(&app, release, healthy, reason),
            Event::Brought(outcome) => self.brought(outcome),
            // What it says of the trusted metadata is part of the proof, which is sent if that has changed.
            Event::Refreshed => self.judge(),
            Event::Judged(judged) => self.judged(judged),
            Event::Control(request, reply) => {
                let answer = self.answer(request);
                // Whoever asked may have gone; then nobody needs the answer.
                let _ = reply.send(answer);
            }
            Event::Pulse(answer) => drop(answer.send(self.in_few_words())),
            Event::Tick => self.tick(),
            Event::Stop => {}
        }
    }

    fn linked(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up => {
                tracing::info!(node = %self.home.node, "connected to the coordinator");
                self.connected = true;
                self.note_reconnection();
                self.offered = 0;
                self.last_acked = None;
                self.outside.reconnected();
                let report = self.reported_bytes();
                self.outside.report(report);
                self.send_health();
                self.offer();
            }
            LinkEvent::Down { reason } => {
                if self.connected {
                    tracing::warn!(node = %self.home.node, reason, "lost the coordinator; will connect again");
                }
                self.connected = false;
            }
            LinkEvent::CertificateRefused => self.outside.certificate_refused(),
            LinkEvent::Resend => {
                self.offered = 0;
                self.offer();
            }
            LinkEvent::Room => self.offer(),
            LinkEvent::Oversized { channel, size_bytes } => {
                tracing::error!(
                    channel = channel.as_str(),
                    size_bytes,
                    "a message of this node is too large and was not sent"
                );
            }
            LinkEvent::Desired(payload) => match Desired::read(&payload, &self.home.node) {
                Ok(mut desired) => {
                    let show = std::mem::take(&mut desired.show);
                    self.desired(desired);
                    self.show(show);
                }
                Err(rejected) => self.reject("desired", payload, rejected),
            },
            LinkEvent::Acked(payload) => match orangery_wire::messages::read(&payload) {
                Ok(acked) => self.acked(acked),
                Err(rejected) => self.reject("acked", payload, rejected),
            },
        }
    }

    /// Takes in a desired state. Apps are handled one by one; a cut in between is mended by the retained message.
    fn desired(&mut self, desired: Desired) {
        if desired.generation < self.node.generation {
            tracing::warn!(generation = desired.generation, "ignored a desired state older than one already taken in");
            return;
        }
        for DesiredApp { app, generation, release } in desired.apps {
            if !self.apps.contains_key(&app) {
                if release.is_none() {
                    continue;
                }
                self.apps.insert(app.clone(), App::default());
            }
            if let (Some(release), Some(app)) = (&release, self.apps.get_mut(&app)) {
                app.hears_of(release);
            }
            self.step(&app, deployment::Event::Desired { generation, release: release.map(|r| r.id) });
        }
        if desired.generation > self.node.generation {
            self.node.generation = desired.generation;
            self.save_node();
        }
    }

    /// A message that is not understood is reported once and dropped; nothing else happens.
    fn reject(&mut self, topic: &str, payload: Vec<u8>, rejected: Rejected) {
        let seen = self.rejected.as_ref().is_some_and(|(t, p)| t == topic && *p == payload);
        if seen {
            return;
        }
        tracing::warn!(topic, reason = %rejected, "dropped a message that is not understood");
        let why = rejected.why.to_owned();
        let reason = orangery_wire::limits::reason(rejected.reason);
        self.tell(None, &What::MessageRejected { topic: topic.to_owned(), why, reason });
        self.rejected = Some((topic.to_owned(), payload));
    }

    fn in_few_words(&self) -> String {
        let reached = if self.connected { "the coordinator is reached" } else { "the coordinator is not reached" };
        match self.apps.len() {
            1 => format!("1 app; {reached}"),
            apps => format!("{apps} apps; {reached}"),
        }
    }

    fn tick(&mut self) {
        self.send_health();
        self.outside.mend_reserve();
        self.catch_up();
        let floor = self.home.clock.floor_to_save();
        if floor >= self.floor_saved.saturating_add(FLOOR_STEP_SECS) {
            self.save_node();
        }
    }

    fn send_health(&mut self) {
        if !self.connected {
            return;
        }
        if let Ok(bytes) = serde_json::to_vec(&self.outside.health()) {
            self.outside.tell_health(bytes);
        }
    }

    fn save_node(&mut self) {
        self.node.time_floor = self.node.time_floor.max(self.home.clock.floor_to_save());
        match record::save_node(&*self.home.disk, &self.home.layout, &self.node) {
            Ok(()) => self.floor_saved = self.node.time_floor,
            // It is rebuilt from the next desired state; no deployment waits for it.
            Err(error) => tracing::warn!(reason = %crate::errors::chain(&error), "cannot save the node's state"),
        }
    }

    /// The last words of this run.
    pub fn stop(mut self) {
        for app in self.apps.values_mut() {
            app.abandon();
        }
        self.tell(None, &What::AgentStopped);
        self.save_node();
        tracing::info!(node = %self.home.node, "the agent stops");
    }
}
