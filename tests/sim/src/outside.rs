//! What a node's driver has around it here: it notes what is asked for and answers what it must answer at once. The world
//! does the rest when the driver has returned, unless the node went down meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use orangery_agent::clock::Clock;
use orangery_agent::deployment::{Effect, Phase};
use orangery_agent::driver::{CallOff, Event, Outside};
use orangery_agent::link::IN_FLIGHT_MAX;
use orangery_agent::record::AppState;
use orangery_agent::road::Place;
use orangery_wire::messages::{Health, ReleaseRef, TrustReport};
use orangery_wire::{AppName, Generation, ReleaseId, Version};

/// Something that the driver asked for.
pub enum Ask {
    /// An effect.
    Begin(Underway),
    /// The probes of what is current.
    Watch(AppName, ReleaseId, Arc<AtomicBool>),
    /// An event after a pause.
    Later(Duration, Event),
    /// A release may start at boot.
    Commit(AppName, ReleaseId),
    /// Releases that nothing needs may go.
    Collect(AppName),
    /// What speaks against these?
    Judge(Vec<(AppName, ReleaseRef)>),
    /// Attempts that wait are made at once.
    Reconnected,
    /// The proof.
    Report(Vec<u8>),
    /// A health message.
    Health(Vec<u8>),
    /// An event.
    Event(Vec<u8>),
}

/// An effect that was begun.
#[derive(Debug, Clone)]
pub struct Underway {
    /// The app.
    pub app: AppName,
    /// Which effect of the app.
    pub serial: u64,
    /// What is to be done.
    pub effect: Effect,
    /// The generation of the trial, if it is one.
    pub trial: Option<Generation>,
    /// Whether the node had its coordinator when the trial began.
    pub connected_before: bool,
    /// Whether it is being done, or waits before another attempt.
    pub doing: bool,
    /// It has ended.
    pub over: bool,
    /// It was called off.
    pub off: Arc<AtomicBool>,
}

impl Underway {
    /// Neither over nor called off. What is over stays here until the next one of its app.
    pub fn is_at_work(&self) -> bool {
        !self.over && !self.off.load(Ordering::Relaxed)
    }
}

/// What driver and world share of one run of an agent.
#[derive(Default)]
pub struct Shared {
    /// What runs, also without the agent.
    pub running: BTreeMap<AppName, ReleaseId>,
    /// Whether the connection is up for the driver.
    pub up: bool,
    /// Events that were handed over and not acknowledged.
    pub in_flight: BTreeSet<u64>,
    /// When one was acknowledged last, or the first put in flight; virtual milliseconds.
    pub moved_at: u64,
    /// Somebody looks whether events wait for too long.
    pub watched: bool,
    /// The present.
    pub now: u64,
    /// The proof, as it was handed over last.
    pub report: Option<Vec<u8>>,
    /// The longest reconnection.
    pub slowest: Duration,
    /// What was asked for since the world looked last.
    pub asks: Vec<Ask>,
}

/// The outside of one run.
pub struct SimOutside {
    shared: Arc<Mutex<Shared>>,
    clock: Arc<Clock>,
}

/// Looks at what is shared.
pub fn look(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SimOutside {
    /// The outside over what is shared.
    pub fn new(shared: Arc<Mutex<Shared>>, clock: Arc<Clock>) -> Self {
        Self { shared, clock }
    }

    fn ask(&self, ask: Ask) {
        look(&self.shared).asks.push(ask);
    }
}

fn call_off(flag: &Arc<AtomicBool>) -> CallOff {
    let flag = flag.clone();
    Box::new(move || flag.store(true, Ordering::Relaxed))
}

impl Outside for SimOutside {
    fn begin(&self, app: &AppName, serial: u64, effect: Effect, state: &AppState) -> CallOff {
        let trial = match &state.record.phase {
            Phase::Activating(trial) | Phase::Probing(trial) => Some(trial.generation),
            _ => None,
        };
        let off = Arc::new(AtomicBool::new(false));
        let connected_before = state.connected_before;
        let call_off = call_off(&off);
        self.ask(Ask::Begin(Underway {
            app: app.clone(),
            serial,
            effect,
            trial,
            connected_before,
            doing: false,
            over: false,
            off,
        }));
        call_off
    }

    fn watch(&self, app: &AppName, release: ReleaseId) -> CallOff {
        let off = Arc::new(AtomicBool::new(false));
        let call_off = call_off(&off);
        self.ask(Ask::Watch(app.clone(), release, off));
        call_off
    }

    fn later(&self, pause: Duration, event: Event) {
        self.ask(Ask::Later(pause, event));
    }

    fn commit(&self, app: &AppName, release: ReleaseId) {
        self.ask(Ask::Commit(app.clone(), release));
    }

    fn collect(&self, app: &AppName, _keep: Vec<ReleaseId>) {
        self.ask(Ask::Collect(app.clone()));
    }

    fn judge(&self, releases: Vec<(AppName, ReleaseRef)>) {
        self.ask(Ask::Judge(releases));
    }

    /// Nobody brings anything here.
    fn bring(&self, _app: AppName, _version: Version, _place: Place) {}

    fn brought_bytes(&self) -> Option<(u64, u64)> {
        None
    }

    fn running(&self, app: &AppName) -> Option<ReleaseId> {
        look(&self.shared).running.get(app).copied()
    }

    fn trust(&self) -> TrustReport {
        TrustReport { root: 1, targets: 1, stale: false }
    }

    fn health(&self) -> Health {
        Health { at: self.clock.now(), clock: self.clock.state(), ..Health::default() }
    }

    fn reconnected(&self) {
        self.ask(Ask::Reconnected);
    }

    fn slowest_reconnection(&self) -> Duration {
        look(&self.shared).slowest
    }

    fn certificate_refused(&self) {}

    fn report(&self, report: Vec<u8>) {
        let mut shared = look(&self.shared);
        shared.report = Some(report.clone());
        shared.asks.push(Ask::Report(report));
    }

    fn tell_health(&self, health: Vec<u8>) {
        self.ask(Ask::Health(health));
    }

    fn event(&self, sequence: u64, payload: Vec<u8>) -> bool {
        let mut shared = look(&self.shared);
        if shared.in_flight.contains(&sequence) {
            return true;
        }
        if !shared.up || shared.in_flight.len() >= IN_FLIGHT_MAX {
            return false;
        }
        if shared.in_flight.is_empty() {
            shared.moved_at = shared.now;
        }
        shared.in_flight.insert(sequence);
        shared.asks.push(Ask::Event(payload));
        true
    }

    fn acked(&self, sequence: u64) {
        let mut shared = look(&self.shared);
        let before = shared.in_flight.len();
        shared.in_flight.retain(|waiting| *waiting > sequence);
        if shared.in_flight.len() < before {
            shared.moved_at = shared.now;
        }
    }

    fn forget_events(&self) {
        look(&self.shared).in_flight.clear();
    }
}
