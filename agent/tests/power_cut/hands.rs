//! What the driver has others do for it, played: processes start, probes answer, downloads arrive. What they leave on the disk
//! they leave by the agent's own code where it goes through the recording disk, else in the same order.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use orangery_agent::deployment::{self, Effect, Reason};
use orangery_agent::disk::{self, Disk};
use orangery_agent::driver::{CallOff, Event, Outcome, Outside};
use orangery_agent::install::{collect, sealed};
use orangery_agent::layout::Layout;
use orangery_agent::record::{self, AppState};
use orangery_agent::road::Place;
use orangery_agent::runner::own;
use orangery_wire::manifest::Entry;
use orangery_wire::messages::{Health, RefusalCode, ReleaseRef, Reported, TrustReport};
use orangery_wire::{AppName, ReleaseId, Version};

use crate::disk::{ImageDisk, STATE};
use crate::owner::Release;
use crate::recovery::Truth;

/// Where systemd is told which agent is proven; in the tests beside the rest, so that it is cut with it.
pub const PROVEN: &str = "units/10-orangery-current.conf";

/// For which agent one made way; without a release it is the package's.
#[derive(Debug, Clone, Copy)]
pub struct Leaving(pub Option<ReleaseId>);

/// What happened while the driver ran.
#[derive(Default)]
pub struct Played {
    pub events: VecDeque<Event>,
    pub wrong: Vec<String>,
    /// What was reported last.
    pub reported: Option<Reported>,
    /// What runs of each app.
    pub running: std::collections::BTreeMap<AppName, ReleaseId>,
    /// The agent made way for another.
    pub leaving: Option<Leaving>,
    /// The release of the agent that systemd took back in this boot.
    pub taken_back: Option<ReleaseId>,
    pub pauses: usize,
}

/// The hands of one process.
pub struct Hands {
    pub disk: Arc<ImageDisk>,
    pub layout: Layout,
    pub truth: Arc<Truth>,
    /// Whether releases can be had.
    pub online: bool,
    /// Which release this process is, of the agent.
    pub this: Option<ReleaseId>,
    pub played: Arc<Mutex<Played>>,
}

/// So often something is tried again; on a disk that stays full it would never end.
const PAUSES_MAX: usize = 24;

/// The release that systemd starts at boot as the agent, if one is proven.
pub fn proven(disk: &dyn Disk) -> Option<ReleaseId> {
    let bytes = disk.read(&Path::new(STATE).join(PROVEN), 4096).ok()?;
    std::str::from_utf8(&bytes).ok()?.parse().ok()
}

impl Hands {
    fn say(&self, app: &AppName, serial: u64, event: deployment::Event) {
        let event = Event::Outcome { app: app.clone(), serial, outcome: Outcome::from(event) };
        self.played.lock().unwrap().events.push_back(event);
    }

    fn is_wrong(&self, what: String) {
        self.played.lock().unwrap().wrong.push(what);
    }

    fn is_sealed(&self, app: &AppName, release: &ReleaseId) -> bool {
        sealed(&*self.disk, &self.layout, app, release).is_some()
    }

    /// Without a network only what is here can be had, and a download waits.
    fn fetch(&self, app: &AppName, id: ReleaseId) -> Option<deployment::Event> {
        if self.is_sealed(app, &id) {
            return Some(deployment::Event::Fetched);
        }
        let release = self.truth.releases.iter().find(|release| self.online && release.wanted().id == id)?;
        let installed = install(&*self.disk, &self.layout, release);
        Some(installed.map_or_else(
            |error| {
                let reason = Reason { code: RefusalCode::NoSpace, text: error.to_string() };
                deployment::Event::FetchFailed { refusal: Some(reason) }
            },
            |()| deployment::Event::Fetched,
        ))
    }

    /// A release is started, or without one what runs is stopped.
    fn run(&self, app: &AppName, release: Option<ReleaseId>, trial: bool) -> Option<deployment::Event> {
        if let Some(release) = release {
            if !self.is_sealed(app, &release) {
                self.is_wrong(format!("I3: {app} {} is started and is not sealed", release.short()));
            }
            if !trial && !self.truth.good.contains(&release) {
                self.is_wrong(format!("I14: {app} {} is started as proven and never was", release.short()));
            }
            self.disk.mark(format!("started {}", release.short()));
        }
        if own::is_agent(app) {
            return self.run_agent(release, trial);
        }
        let running = &mut self.played.lock().unwrap().running;
        match release {
            Some(release) => drop(running.insert(app.clone(), release)),
            None => drop(running.remove(app)),
        }
        Some(deployment::Event::Ran)
    }

    /// Another agent is started in place of this one, as `runner/own` has systemd do it.
    fn run_agent(&self, release: Option<ReleaseId>, trial: bool) -> Option<deployment::Event> {
        let failed = |reason: &str| Some(deployment::Event::RunFailed { reason: reason.to_owned() });
        if release == self.this {
            return Some(deployment::Event::Ran);
        }
        let mut played = self.played.lock().unwrap();
        if trial && played.taken_back == release {
            return failed("it did not prove itself");
        }
        let proves = || match release {
            Some(release) => prove(&*self.disk, release),
            None => disk::remove(&*self.disk, &Path::new(STATE).join(PROVEN)),
        };
        if !trial && proves().is_err() {
            return failed("the unit cannot be written");
        }
        played.leaving = Some(Leaving(release));
        None
    }
}

/// As `runner/own` makes a release start at boot.
fn prove(disk: &dyn Disk, release: ReleaseId) -> std::io::Result<()> {
    let path = Path::new(STATE).join(PROVEN);
    disk::make_dir(disk, &Path::new(STATE).join("units"), 0o755)?;
    disk::replace(disk, &path, release.to_string().as_bytes(), 0o644)
}

/// Puts a release on the disk as the installer does: what lies there goes, the tree comes, all of it durable, then the seal.
pub fn install(disk: &dyn Disk, layout: &Layout, release: &Release) -> std::io::Result<()> {
    let (app, id) = (release.app(), release.wanted().id);
    let others = disk.list(&layout.releases(&app)).unwrap_or_default();
    let others = others.iter().filter_map(|name| name.to_str()?.parse().ok()).filter(|other| *other != id);
    collect(disk, layout, &app, &others.collect::<Vec<_>>())?;
    let tree = layout.tree(&app, &id);
    disk::make_dir(disk, &tree, 0o755)?;
    let bytes = zstd::decode_all(release.pack.as_slice())?;
    let (mut rest, mut directories) = (bytes.as_slice(), vec![tree.clone()]);
    for entry in &release.tree().entries {
        let path: PathBuf = tree.join(entry.path());
        match entry {
            Entry::Directory { .. } => {
                disk.create_dir(&path, 0o755)?;
                directories.push(path);
            }
            Entry::Link { target, .. } => disk.symlink(Path::new(target), &path)?,
            Entry::File { size_bytes, executable, .. } => {
                let (own, others) = rest.split_at(usize::try_from(*size_bytes).unwrap());
                disk.write_new(&path, own, if *executable { 0o555 } else { 0o444 })?;
                disk.sync_file(&path)?;
                rest = others;
            }
        }
    }
    directories.iter().try_for_each(|directory| disk.sync_dir(directory))?;
    disk::replace(disk, &layout.seal(&app, &id), &release.bytes(), 0o644)
}

impl Outside for Hands {
    fn begin(&self, app: &AppName, serial: u64, effect: Effect, _: &AppState) -> CallOff {
        let event = match effect {
            Effect::Wait => None,
            Effect::Fetch { release, .. } => self.fetch(app, release),
            Effect::Run { release, trial, .. } => self.run(app, release, trial),
            Effect::Probe { release } if self.truth.good.contains(&release) => Some(deployment::Event::Healthy),
            Effect::Probe { .. } => Some(deployment::Event::Unhealthy { reason: "it is not well".to_owned() }),
        };
        if let Some(event) = event {
            self.say(app, serial, event);
        }
        Box::new(|| {})
    }

    fn watch(&self, _: &AppName, _: ReleaseId) -> CallOff {
        Box::new(|| {})
    }

    fn later(&self, _: Duration, event: Event) {
        let mut played = self.played.lock().unwrap();
        played.pauses += 1;
        if !self.disk.is_full() || played.pauses < PAUSES_MAX {
            played.events.push_back(event);
        }
    }

    fn commit(&self, app: &AppName, release: ReleaseId) {
        // On a full disk it stays as it was, and the next start does it.
        if own::is_agent(app) && prove(&*self.disk, release).is_err() && !self.disk.is_full() {
            self.is_wrong("the agent's unit cannot be written".to_owned());
        }
    }

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

    fn running(&self, app: &AppName) -> Option<ReleaseId> {
        if own::is_agent(app) { self.this } else { self.played.lock().unwrap().running.get(app).copied() }
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

    fn report(&self, report: Vec<u8>) {
        self.played.lock().unwrap().reported = serde_json::from_slice(&report).ok();
    }

    fn tell_health(&self, _: Vec<u8>) {}

    fn event(&self, _: u64, _: Vec<u8>) -> bool {
        false
    }

    fn acked(&self, _: u64) {}

    fn forget_events(&self) {}
}

/// What the record of an app has as current.
pub fn current(disk: &dyn Disk, layout: &Layout, app: &AppName) -> Option<ReleaseId> {
    record::load_app(disk, layout, app).state.record.current
}
