//! What an agent that has nothing to do writes to the flash within a day, in virtual time: at most 1 MiB.

#![allow(clippy::unwrap_used, reason = "these are tests, their helpers included")]

mod counting_disk;
mod origin;
mod owner;
mod refreshing;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use counting_disk::{CountingDisk, Written};
use orangery_agent::clock::{Clock, Reading};
use orangery_agent::deployment::{self, Effect, Record};
use orangery_agent::driver::{CallOff, Driver, Event, Home, Outside};
use orangery_agent::layout::Layout;
use orangery_agent::link::LinkEvent;
use orangery_agent::outbox::Outbox;
use orangery_agent::record::{self, AppState};
use orangery_agent::road::Place;
use orangery_agent::run::begin_run;
use orangery_agent::store::{Engine, open};
use orangery_agent::trusted::Trusted;
use orangery_wire::messages::{Acked, Health, ReleaseRef, TrustReport};
use orangery_wire::{AppName, Digest, ReleaseId, Version};
use owner::now;
use refreshing::World;

const DAY_SECS: u64 = 86_400;
/// The shipped interval of health messages.
const TICK_SECS: u64 = 60;
/// The shipped interval of looks for newer metadata.
const REFRESH_SECS: u64 = 3_600;
/// A coordinator signs once a day.
const SIGNED_EACH_SECS: u64 = DAY_SECS;
/// The line breaks so often a day.
const LINE_BREAKS_EACH_SECS: u64 = 7_200;
const BUDGET_BYTES: u64 = 1 << 20;

/// Everything is well there, and nothing is to be done.
struct Calm;

impl Outside for Calm {
    fn begin(&self, _: &AppName, _: u64, _: Effect, _: &AppState) -> CallOff {
        Box::new(|| {})
    }
    fn watch(&self, _: &AppName, _: ReleaseId) -> CallOff {
        Box::new(|| {})
    }
    fn later(&self, _: Duration, _: Event) {}
    fn commit(&self, _: &AppName, _: ReleaseId) {}
    fn collect(&self, _: &AppName, _: Vec<ReleaseId>) {}
    fn judge(&self, _: Vec<(AppName, ReleaseRef)>) {}
    fn bring(&self, _: AppName, _: Version, _: Place) {}
    fn brought_bytes(&self) -> Option<(u64, u64)> {
        None
    }
    fn running(&self, _: &AppName) -> Option<ReleaseId> {
        Some(release())
    }
    fn trust(&self) -> TrustReport {
        TrustReport { root: 1, targets: 1, stale: false }
    }
    fn health(&self) -> Health {
        Health::default()
    }
    fn reconnected(&self) {}
    fn slowest_reconnection(&self) -> Duration {
        Duration::from_secs(1)
    }
    fn certificate_refused(&self) {}
    fn report(&self, _: Vec<u8>) {}
    fn tell_health(&self, _: Vec<u8>) {}
    fn event(&self, _: u64, _: Vec<u8>) -> bool {
        true
    }
    fn acked(&self, _: u64) {}
    fn forget_events(&self) {}
}

fn release() -> ReleaseId {
    ReleaseId(Digest([7; 32]))
}

/// A node that runs one release, connected, with all its events told.
fn settled(home: Home, clock: Arc<Clock>) -> Driver {
    let app = "greeter".parse().unwrap();
    let id = Some(release());
    let record = Record { generation: 3, desired: id, current: id, refused: None, phase: deployment::Phase::Settled };
    let versions = BTreeMap::from([(release(), "1.0.0".parse().unwrap())]);
    record::save_app(&*home.disk, &home.layout, &app, &AppState { record, versions, ..AppState::default() }).unwrap();
    let state = begin_run(&*home.disk, &home.layout);
    let store = open(Engine::Redb, &home.layout.store()).unwrap().store;
    let epoch = store.epoch();
    let outbox = Outbox::open(store, home.node.clone(), "boot".into(), clock, 4 << 20).unwrap();
    let mut driver = Driver::with(home, Box::new(Calm), outbox, state);
    driver.begin();
    driver.take(Event::Outcome { app, serial: 1, outcome: deployment::Event::Ran.into() });
    driver.take(Event::Link(LinkEvent::Up));
    let acked = Acked { epoch, sequence: 100 };
    driver.take(Event::Link(LinkEvent::Acked(serde_json::to_vec(&acked).unwrap())));
    driver.report();
    driver
}

#[tokio::test]
async fn a_node_with_nothing_to_do_writes_at_most_a_mebibyte_a_day() {
    // Not in memory: what the kernel counts is what goes to a disk.
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let disk = Arc::new(CountingDisk::default());
    let layout = Layout::new(directory.path());
    let mut world = World::new().await;
    std::fs::create_dir_all(layout.trust()).unwrap();
    for name in ["1.root.json", "root.json"] {
        std::fs::copy(world.file(name), layout.trust().join(name)).unwrap();
    }
    let reading = Arc::new(Reading::default());
    let begun = now();
    reading.synced.store(true, Ordering::Relaxed);
    reading.system.store(begun, Ordering::Relaxed);
    let clock = Clock::simulated(begun, reading.clone());
    let mut trusted = Trusted::load(disk.clone(), layout.trust(), clock.clone());
    trusted.refresh(&world.http, clock.now()).await.unwrap();
    let home = Home {
        node: "attic".parse().unwrap(),
        url: "https://coordinator:8443".to_owned(),
        board: None,
        boot_id: "boot".to_owned(),
        labels: BTreeMap::new(),
        layout,
        disk: disk.clone(),
        clock: clock.clone(),
    };
    let mut driver = settled(home, clock.clone());
    let (told, kernel) = (disk.written(), counting_disk::kernel_bytes());
    for second in (TICK_SECS..=DAY_SECS).step_by(usize::try_from(TICK_SECS).unwrap()) {
        reading.system.store(begun + second, Ordering::Relaxed);
        reading.uptime_secs.store(second, Ordering::Relaxed);
        if second % SIGNED_EACH_SECS == SIGNED_EACH_SECS / 2 {
            world.owner.publish_at(begun + second);
            world.owner.serve(&world.origin);
        }
        if second % REFRESH_SECS == 0 {
            trusted.refresh(&world.http, clock.now()).await.unwrap();
            driver.take(Event::Refreshed);
        }
        if second % LINE_BREAKS_EACH_SECS == 0 {
            driver.take(Event::Link(LinkEvent::Down { reason: "the line".to_owned() }));
            driver.take(Event::Link(LinkEvent::Up));
        }
        driver.take(Event::Tick);
        driver.report();
    }
    let told = disk.written().since(told);
    let kernel = counting_disk::kernel_bytes().map(|after| after - kernel.unwrap());
    let Written { bytes, blocks_bytes, changes } = told;
    println!(
        "an idle day: {bytes} bytes in {changes} changes of the disk, at most {blocks_bytes} bytes with every block that a file \
         system touches for them; the kernel counted {} for the process; the budget is {BUDGET_BYTES}",
        kernel.map_or_else(|| "nothing (no disk below)".to_owned(), |bytes| format!("{bytes} bytes"))
    );
    assert!(bytes > 0, "the day's metadata and the time floor were written");
    assert!(blocks_bytes <= BUDGET_BYTES);
    assert!(kernel.is_none_or(|bytes| bytes <= BUDGET_BYTES));
}
