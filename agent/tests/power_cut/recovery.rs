//! The agent's start on a disk, in this process: its own driver with its own records, where only starting processes, asking
//! probes and the network are played.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex};

use orangery_agent::check;
use orangery_agent::clock::Clock;
use orangery_agent::disk::Disk;
use orangery_agent::driver::{Driver, Event, Home};
use orangery_agent::install::sealed;
use orangery_agent::layout::Layout;
use orangery_agent::link::LinkEvent;
use orangery_agent::outbox::Outbox;
use orangery_agent::record;
use orangery_agent::runner::own;
use orangery_agent::store::{Change, Entry, Store, StoreError};
use orangery_wire::ReleaseId;
use orangery_wire::messages::{Desired, DesiredApp, FORMAT, Phase, Reported};

use crate::disk::{ImageDisk, STATE, below};
use crate::hands::{Hands, Leaving, PROVEN, Played, current, install, proven};
use crate::image::{Image, Op};
use crate::owner::Release;

/// What the world outside knows of releases.
#[derive(Debug, Clone)]
pub struct Truth {
    /// Those whose probes hold: what runs as proven must be one of them.
    pub good: BTreeSet<ReleaseId>,
    /// All that can be downloaded.
    pub releases: Vec<Release>,
    /// What the coordinator wants after all this; a good one.
    pub next: Release,
    /// Whether the trusted root is an owner's; the coordinator that the tests join gives one that is not.
    pub real_root: bool,
}

impl Truth {
    /// The directory of each release, as a number, when all of it is there.
    pub fn trees(&self) -> HashMap<ReleaseId, u64> {
        let tree = |release: &Release| {
            let disk = ImageDisk::new(Image::default());
            install(&disk, &layout(), release).unwrap();
            let id = release.wanted().id;
            (id, disk.image().digest_of(&below(&layout().tree(&release.app(), &id))))
        };
        self.releases.iter().map(tree).collect()
    }
}

/// What came of a start.
pub struct Recovered {
    pub image: Image,
    pub ops: Vec<Op>,
    pub wrong: Vec<String>,
    pub reported: Option<Reported>,
}

/// More events than this, and recovery does not end.
const EVENTS_MAX: usize = 200;
/// Of more agents than these, one after the other, it does not either.
const AGENTS_MAX: usize = 8;
/// Newer than whatever a scenario told the node.
pub const NEWEST: u64 = 1 << 40;

/// What events say is seen by the world; the real stores have tests of their own beside this.
#[derive(Debug)]
struct Forgetful(Arc<ImageDisk>);

impl Store for Forgetful {
    fn epoch(&self) -> u64 {
        1
    }

    fn mark(&self) -> u64 {
        0
    }

    fn write(&mut self, _: &[Change]) -> Result<(), StoreError> {
        self.0.mark("an event is kept".to_owned());
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
pub fn start(image: &Image, truth: &Arc<Truth>) -> Recovered {
    boot(ImageDisk::new(image.clone()), truth, None)
}

/// The same with a coordinator that wants `release`.
pub fn deploys(disk: ImageDisk, truth: &Arc<Truth>, release: &Release, generation: u64) -> Recovered {
    boot(disk, truth, Some((release, generation)))
}

/// From the boot until nothing is left to do, over all agents that run one after the other.
fn boot(disk: ImageDisk, truth: &Arc<Truth>, wanted: Option<(&Release, u64)>) -> Recovered {
    let disk = Arc::new(disk);
    let mut wrong: Vec<String> = wrong_unit(&disk, truth).into_iter().collect();
    let (mut this, mut taken_back, mut reported, mut ended) = (proven(&*disk), None, None, false);
    for _ in 0..AGENTS_MAX {
        let played = Arc::new(Mutex::new(Played { taken_back, ..Played::default() }));
        let hands = Hands {
            disk: disk.clone(),
            layout: layout(),
            truth: truth.clone(),
            online: wanted.is_some(),
            this,
            played: played.clone(),
        };
        live(hands, wanted);
        let mut played = played.lock().unwrap();
        wrong.append(&mut played.wrong);
        reported = played.reported.take();
        let Some(Leaving(next)) = played.leaving else {
            ended = true;
            break;
        };
        this = next;
        if let Some(ill) = next.filter(|next| !truth.good.contains(next)) {
            // It ends at once, and systemd takes its drop-in away.
            (this, taken_back) = (proven(&*disk), Some(ill));
        }
    }
    if !ended {
        wrong.push("I7: agents take turns without end".to_owned());
    }
    wrong.extend(wrong_unit(&disk, truth));
    Recovered { image: disk.image(), ops: disk.take_ops(), wrong, reported }
}

/// The life of one process.
fn live(hands: Hands, wanted: Option<(&Release, u64)>) {
    let (disk, played) = (hands.disk.clone(), hands.played.clone());
    let (layout, clock) = (layout(), Clock::new(0));
    let node = record::load_node(&*disk, &layout);
    let home = Home {
        node: "attic".parse().unwrap(),
        url: "https://127.0.0.1:1".to_owned(),
        board: None,
        boot_id: "boot".to_owned(),
        labels: std::collections::BTreeMap::default(),
        layout,
        disk: disk.clone() as Arc<dyn Disk>,
        clock: clock.clone(),
    };
    let outbox =
        Outbox::open(Box::new(Forgetful(disk)), home.node.clone(), home.boot_id.clone(), clock, 1 << 20).unwrap();
    let mut driver = Driver::with(home, Box::new(hands), outbox, node);
    driver.begin();
    come_to_rest(&mut driver, &played);
    if let Some((release, generation)) = wanted {
        driver.take(Event::Link(LinkEvent::Up));
        driver.take(Event::Link(LinkEvent::Desired(desired(release, generation))));
        come_to_rest(&mut driver, &played);
        // The report on a connection says how it is now.
        driver.take(Event::Link(LinkEvent::Up));
    }
}

fn come_to_rest(driver: &mut Driver, played: &Mutex<Played>) {
    for _ in 0..EVENTS_MAX {
        let next = {
            let mut played = played.lock().unwrap();
            if played.leaving.is_some() { None } else { played.events.pop_front() }
        };
        let Some(event) = next else { return };
        driver.take(event);
    }
    played.lock().unwrap().wrong.push("I7: recovery does not end".to_owned());
}

fn desired(release: &Release, generation: u64) -> Vec<u8> {
    let app = DesiredApp { app: release.app(), generation, release: Some(release.wanted()) };
    let node = "attic".parse().unwrap();
    serde_json::to_vec(&Desired { format: FORMAT, node, generation, apps: vec![app], show: Vec::new() }).unwrap()
}

/// What is wrong with the agent that systemd starts at boot.
fn wrong_unit(disk: &ImageDisk, truth: &Truth) -> Option<String> {
    if !disk.exists(&Path::new(STATE).join(PROVEN)) {
        return None;
    }
    let Some(release) = proven(disk) else { return Some("I2: the agent's unit is not whole".to_owned()) };
    let whole = sealed(disk, &layout(), &own::APP.parse().unwrap(), &release).is_some();
    (!whole || !truth.good.contains(&release)).then(|| format!("I2: a reboot starts agent {}", release.short()))
}

/// Releases that are sealed, and not all of which is there: nothing may take such a one for whole.
pub fn torn_releases(image: &Image, trees: &HashMap<ReleaseId, u64>) -> Vec<String> {
    let (disk, layout) = (ImageDisk::new(image.clone()), layout());
    let mut torn = Vec::new();
    for app in record::apps(&disk, &layout) {
        for name in disk.list(&layout.releases(&app)).unwrap_or_default() {
            let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            let tree = image.digest_of(&below(&layout.tree(&app, &id)));
            if sealed(&disk, &layout, &app, &id).is_some() && trees.get(&id) != Some(&tree) {
                torn.push(format!("I3: {app} {} is sealed and not whole", id.short()));
            }
        }
    }
    torn
}

/// The floor must know of the newest root before that root is there: it takes back what the keys of the one before had signed.
pub fn floor_behind(image: &Image) -> Option<String> {
    let number = |bytes: &[u8], member: &[&str]| {
        let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
        member.iter().try_fold(&value, |value, name| value.get(name))?.as_u64()
    };
    let disk = ImageDisk::new(image.clone());
    let trust = layout().trust();
    let read = |name: &str| disk.read(&trust.join(name), 1 << 20).ok();
    let mut floors = ["floor.json", "floor.json.previous"].into_iter().filter_map(read);
    let floor = floors.find_map(|bytes| number(&bytes, &["root"]))?;
    let names = disk.list(&trust).unwrap_or_default();
    let roots = names.iter().filter_map(|name| name.to_str().filter(|name| name.ends_with(".root.json")));
    let root = roots.filter_map(read).filter_map(|bytes| number(&bytes, &["signed", "version"])).max()?;
    (root > floor).then(|| format!("I8: root {root} is trusted, and the floor is of root {floor}"))
}

/// What is wrong after `recovered` was to have `release`.
pub fn wrong_deployment(recovered: &Recovered, release: &Release) -> Option<String> {
    let disk = ImageDisk::new(recovered.image.clone());
    let wanted = release.wanted();
    if current(&disk, &layout(), &release.app()) != Some(wanted.id) {
        return Some("with a coordinator, the node does not take the next release".to_owned());
    }
    let told = recovered.reported.iter().flat_map(|reported| &reported.apps);
    let mut told = told.filter(|app| app.app == release.app() && app.phase == Phase::Settled);
    let tells = told.any(|app| app.current.as_ref() == Some(&wanted));
    (!tells).then(|| "with a coordinator, the node does not report the release that it took".to_owned())
}

/// The same after a start without a network, where a download may be waited for.
pub fn violations_offline(image: &Image) -> Vec<String> {
    let mut found = violations(image, true);
    found.retain(|violation| !(violation.starts_with("I7") && violation.contains("it is fetching")));
    found
}

/// What breaks an invariant on this disk; `at_rest` after a start.
pub fn violations(image: &Image, at_rest: bool) -> Vec<String> {
    let (disk, layout) = (ImageDisk::new(image.clone()), layout());
    let found = if at_rest { check::check_at_rest(&disk, &layout) } else { check::check(&disk, &layout) };
    found.iter().map(ToString::to_string).collect()
}
