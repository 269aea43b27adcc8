//! The agent's start on a disk, in this process: its own driver with its own records, where only starting processes, asking
//! probes and the network are played.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use orangery_agent::check;
use orangery_agent::clock::Clock;
use orangery_agent::deployment::{self, Effect};
use orangery_agent::disk::Disk;
use orangery_agent::driver::{CallOff, Driver, Event, Home, Outcome, Outside};
use orangery_agent::install::{collect, sealed};
use orangery_agent::layout::Layout;
use orangery_agent::outbox::Outbox;
use orangery_agent::record::{self, AppState};
use orangery_agent::road::Place;
use orangery_agent::store::{Change, Entry, Store, StoreError};
use orangery_wire::messages::{Health, ReleaseRef, TrustReport};
use orangery_wire::{AppName, ReleaseId, Version};

use crate::disk::{ImageDisk, STATE};
use crate::image::{Image, Op};

/// What the world outside knows of releases.
#[derive(Debug, Clone, Default)]
pub struct Truth {
    /// Those whose probes hold.
    pub good: BTreeSet<ReleaseId>,
    /// Those that a recorded agent may have proven: what runs as proven must be one of them.
    pub provable: BTreeSet<ReleaseId>,
    /// Whether the trusted root is an owner's; the coordinator that the tests join gives one that is not.
    pub real_root: bool,
}

/// What came of a start.
pub struct Recovered {
    pub image: Image,
    pub ops: Vec<Op>,
    pub wrong: Vec<String>,
}

/// More events than this, and recovery does not end.
const EVENTS_MAX: usize = 200;

#[derive(Default)]
struct Played {
    events: VecDeque<Event>,
    wrong: Vec<String>,
}

struct Hands {
    disk: Arc<ImageDisk>,
    layout: Layout,
    truth: Truth,
    played: Arc<Mutex<Played>>,
}

impl Hands {
    fn say(&self, event: Event) {
        self.played.lock().unwrap().events.push_back(event);
    }

    fn is_wrong(&self, what: String) {
        self.played.lock().unwrap().wrong.push(what);
    }

    fn is_sealed(&self, app: &AppName, release: &ReleaseId) -> bool {
        sealed(&*self.disk, &self.layout, app, release).is_some()
    }

    fn ran(&self, app: &AppName, release: Option<ReleaseId>, trial: bool) -> deployment::Event {
        if let Some(release) = release {
            if !self.is_sealed(app, &release) {
                self.is_wrong(format!("I3: {app} {} is started and is not sealed", release.short()));
            }
            if !trial && !self.truth.provable.contains(&release) {
                self.is_wrong(format!("I14: {app} {} is started as proven and never was", release.short()));
            }
        }
        deployment::Event::Ran
    }
}

impl Outside for Hands {
    fn begin(&self, app: &AppName, serial: u64, effect: Effect, _: &AppState) -> CallOff {
        let event = match effect {
            Effect::Wait => None,
            // Without a network only what is here can be had.
            Effect::Fetch { release, .. } => self.is_sealed(app, &release).then_some(deployment::Event::Fetched),
            Effect::Run { release, trial, .. } => Some(self.ran(app, release, trial)),
            Effect::Probe { release } if self.truth.good.contains(&release) => Some(deployment::Event::Healthy),
            Effect::Probe { .. } => Some(deployment::Event::Unhealthy { reason: "it is not well".to_owned() }),
        };
        if let Some(event) = event {
            self.say(Event::Outcome { app: app.clone(), serial, outcome: Outcome::from(event) });
        }
        Box::new(|| {})
    }

    fn watch(&self, _: &AppName, _: ReleaseId) -> CallOff {
        Box::new(|| {})
    }

    fn later(&self, _: Duration, event: Event) {
        self.say(event);
    }

    fn commit(&self, _: &AppName, _: ReleaseId) {}

    fn collect(&self, app: &AppName, keep: Vec<ReleaseId>) {
        if let Err(error) = collect(&*self.disk, &self.layout, app, &keep) {
            self.is_wrong(format!("I12: old releases cannot be removed: {error}"));
        }
    }

    fn judge(&self, _: Vec<(AppName, ReleaseRef)>) {}

    fn bring(&self, _: AppName, _: Version, _: Place) {}

    fn brought_bytes(&self) -> Option<(u64, u64)> {
        None
    }

    fn running(&self, _: &AppName) -> Option<ReleaseId> {
        None
    }

    fn trust(&self) -> TrustReport {
        TrustReport::default()
    }

    fn health(&self) -> Health {
        Health::default()
    }

    fn reconnected(&self) {}

    fn slowest_reconnection(&self) -> Duration {
        Duration::ZERO
    }

    fn certificate_refused(&self) {}

    fn report(&self, _: Vec<u8>) {}

    fn tell_health(&self, _: Vec<u8>) {}

    fn event(&self, _: u64, _: Vec<u8>) -> bool {
        false
    }

    fn acked(&self, _: u64) {}

    fn forget_events(&self) {}
}

/// Events are no part of what decides; the real stores have tests of their own beside this.
#[derive(Debug)]
struct Forgetful;

impl Store for Forgetful {
    fn epoch(&self) -> u64 {
        1
    }

    fn mark(&self) -> u64 {
        0
    }

    fn write(&mut self, _: &[Change]) -> Result<(), StoreError> {
        Ok(())
    }

    fn read(&mut self, _: u64, _: usize) -> Result<Vec<Entry>, StoreError> {
        Ok(Vec::new())
    }
}

pub fn layout() -> Layout {
    Layout::new(STATE)
}

/// Starts the agent on this disk, without a network, and lets it come to rest.
pub fn start(image: &Image, truth: &Truth) -> Recovered {
    let disk = Arc::new(ImageDisk::new(image.clone()));
    let (layout, clock, played) = (layout(), Clock::new(0), Arc::new(Mutex::new(Played::default())));
    let node = record::load_node(&*disk, &layout);
    let home = Home {
        node: "attic".parse().unwrap(),
        url: "https://127.0.0.1:1".to_owned(),
        board: None,
        boot_id: "boot".to_owned(),
        labels: std::collections::BTreeMap::default(),
        layout: layout.clone(),
        disk: disk.clone() as Arc<dyn Disk>,
        clock: clock.clone(),
    };
    let outside = Hands { disk: disk.clone(), layout, truth: truth.clone(), played: played.clone() };
    let store = Box::new(Forgetful);
    let outbox = Outbox::open(store, home.node.clone(), home.boot_id.clone(), clock, 1 << 20).unwrap();
    let mut driver = Driver::with(home, Box::new(outside), outbox, node);
    driver.begin();
    let mut wrong = vec!["I7: recovery does not end".to_owned()];
    for _ in 0..EVENTS_MAX {
        let next = played.lock().unwrap().events.pop_front();
        let Some(event) = next else {
            wrong.clear();
            break;
        };
        driver.take(event);
    }
    drop(driver);
    wrong.append(&mut played.lock().unwrap().wrong);
    Recovered { image: disk.image(), ops: disk.take_ops(), wrong }
}

/// What breaks an invariant on this disk; `at_rest` after a start.
pub fn violations(image: &Image, at_rest: bool) -> Vec<String> {
    let (disk, layout) = (ImageDisk::new(image.clone()), layout());
    let found = if at_rest { check::check_at_rest(&disk, &layout) } else { check::check(&disk, &layout) };
    found.iter().map(ToString::to_string).collect()
}
