//! One board: its disk, its clock, what runs on it, and its agent while that runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use orangery_agent::clock::{Clock, Reading};
use orangery_agent::driver::{Driver, Home};
use orangery_agent::layout::Layout;
use orangery_agent::outbox::Outbox;
use orangery_agent::{record, run};
use orangery_wire::{AppName, NodeId, ReleaseId};

use crate::disk::SimDisk;
use crate::laws::Ghosts;
use crate::outside::{Shared, SimOutside, Underway, look};
use crate::random::Random;
use crate::store::Shelf;
use crate::world::{EPOCH_SECS, SECOND};

/// Room on a board's disk.
const DISK_BYTES: u64 = 1 << 20;

/// A board.
pub struct Node {
    /// Its name.
    pub id: NodeId,
    /// Its own chance.
    pub random: Random,
    /// Its disk.
    pub disk: Arc<SimDisk>,
    /// What lies below its outbox.
    pub shelf: Shelf,
    /// Where things are.
    pub layout: Layout,
    /// It has power.
    pub powered: bool,
    /// It will never have power again.
    pub dead: bool,
    /// Counts boots.
    pub boot: u64,
    /// Counts runs of the agent, over boots.
    pub life: u64,
    /// What the agent and this world share; it outlives the agent, for apps do.
    pub shared: Arc<Mutex<Shared>>,
    /// The agent, while it runs.
    pub driver: Option<Driver>,
    /// The one effect of each app.
    pub underway: BTreeMap<AppName, Underway>,
    /// Its way to the coordinator.
    pub line: Line,
    /// What systemd starts at boot; `None` if the agent alone starts apps there.
    pub units: Option<BTreeSet<AppName>>,
    /// What the laws know.
    pub ghosts: Ghosts,
    /// Room that somebody else took.
    pub taken_bytes: u64,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Most bytes that wait in the outbox.
    pub outbox_bytes_max: u64,
    clock: WallClock,
    reading: Arc<Reading>,
}

/// The way to the coordinator.
#[derive(Debug, Default)]
pub struct Line {
    /// Reasons for which no packet passes.
    pub cuts: u32,
    /// An app that runs here cuts the node off.
    pub cut_by: Option<AppName>,
    /// The session, as the node has it.
    pub session: Option<u64>,
    /// Failed attempts in a row.
    pub failures: u32,
    /// An attempt is due.
    pub dialling: bool,
    /// When it last changed; virtual milliseconds.
    pub changed_at: u64,
    /// Nothing arrives before this, in either direction: a connection keeps its order.
    pub to_node_at: u64,
    /// The same, away from the node.
    pub from_node_at: u64,
    /// Messages on their way, in both directions.
    pub travelling: u32,
}

/// The board's own idea of the time.
#[derive(Debug, Default)]
struct WallClock {
    has_battery: bool,
    off_by_secs: i64,
    synced: bool,
    booted_at: u64,
}

impl Line {
    /// A session begins at this virtual millisecond; nothing of an earlier one is on its way any more.
    pub fn connect(&mut self, session: u64, now: u64) {
        (self.session, self.failures, self.changed_at) = (Some(session), 0, now);
        (self.to_node_at, self.from_node_at) = (now, now);
    }

    /// Whether packets pass.
    pub fn passes(&self) -> bool {
        self.cuts == 0 && self.cut_by.is_none()
    }
}

impl Node {
    /// A new board, without power.
    pub fn new(index: usize, mut random: Random) -> Option<Self> {
        let id: NodeId = format!("n{index}").parse().ok()?;
        let site = format!("s{}", index % 7);
        let epoch = 1 + (random.number() >> 11);
        Some(Self {
            id,
            disk: SimDisk::new(DISK_BYTES),
            shelf: Shelf::new(epoch),
            layout: Layout::new("/orangery-sim"),
            powered: false,
            dead: false,
            boot: 0,
            life: 0,
            shared: Arc::default(),
            driver: None,
            underway: BTreeMap::new(),
            line: Line::default(),
            units: random.percent(60).then(BTreeSet::new),
            ghosts: Ghosts::default(),
            taken_bytes: 0,
            labels: BTreeMap::from([("site".to_owned(), site)]),
            outbox_bytes_max: if random.percent(20) { 24 << 10 } else { 256 << 10 },
            clock: WallClock { has_battery: random.percent(50), ..WallClock::default() },
            reading: Arc::default(),
            random,
        })
    }

    /// What runs of an app.
    pub fn running(&self, app: &AppName) -> Option<ReleaseId> {
        look(&self.shared).running.get(app).copied()
    }

    /// Sets everything that the node can read of the time.
    pub fn set_time(&mut self, now: u64) {
        look(&self.shared).now = now;
        let uptime = now.saturating_sub(self.clock.booted_at) / SECOND;
        let right = EPOCH_SECS + now / SECOND;
        let system = if self.clock.synced {
            right
        } else if self.clock.has_battery {
            right.saturating_add_signed(self.clock.off_by_secs)
        } else {
            uptime
        };
        self.reading.system.store(system, Ordering::Relaxed);
        self.reading.uptime_secs.store(uptime, Ordering::Relaxed);
        self.reading.synced.store(self.clock.synced, Ordering::Relaxed);
    }

    /// Somebody sets the clock wrong.
    pub fn jump(&mut self, secs: i64) {
        self.clock.off_by_secs = secs;
        self.clock.synced = false;
    }

    /// A time server answers.
    pub fn sync_time(&mut self) {
        self.clock.synced = true;
    }

    /// Power comes; what a boot starts without the agent runs.
    pub fn switch_on(&mut self, now: u64) {
        self.powered = true;
        self.boot += 1;
        self.clock.booted_at = now;
        self.clock.synced = false;
        self.disk.on();
        let mut running = BTreeMap::new();
        for app in self.units.iter().flatten() {
            let linked = record::current_link(&*self.disk, &self.layout, app);
            let sealed = linked
                .filter(|release| orangery_agent::install::sealed(&*self.disk, &self.layout, app, release).is_some());
            running.extend(sealed.map(|release| (app.clone(), release)));
        }
        look(&self.shared).running = running;
    }

    /// The agent is gone, however it went. Apps run on.
    pub fn lose_agent(&mut self) {
        self.driver = None;
        self.life += 1;
        self.underway.clear();
        let shared = &mut *look(&self.shared);
        let running = std::mem::take(&mut shared.running);
        *shared = Shared { running, now: shared.now, slowest: shared.slowest, ..Shared::default() };
    }

    /// Power goes, and with it all that was not durable.
    pub fn switch_off(&mut self) {
        self.lose_agent();
        self.powered = false;
        let mut random = self.random.fork(self.disk.calls());
        self.disk.cut(&mut random);
        look(&self.shared).running.clear();
    }

    /// Starts the agent, as `run` does. `false`: it went down in it.
    pub fn start_agent(&mut self, now: u64) -> bool {
        self.life += 1;
        self.disk.on();
        self.set_time(now);
        let state = run::begin_run(&*self.disk, &self.layout);
        let clock = Clock::simulated(state.time_floor.max(EPOCH_SECS), self.reading.clone());
        let boot_id = format!("boot-{}-{}", self.id, self.boot);
        let store = self.shelf.open(self.disk.clone());
        let Ok(outbox) = Outbox::open(store, self.id.clone(), boot_id.clone(), clock.clone(), self.outbox_bytes_max)
        else {
            return false;
        };
        let home = Home {
            node: self.id.clone(),
            url: "https://coordinator:8443".to_owned(),
            board: None,
            boot_id,
            labels: self.labels.clone(),
            layout: self.layout.clone(),
            disk: self.disk.clone(),
            clock: clock.clone(),
        };
        let outside = SimOutside::new(self.shared.clone(), clock);
        let mut driver = Driver::with(home, Box::new(outside), outbox, state);
        driver.begin();
        self.driver = Some(driver);
        !self.disk.is_off()
    }
}
