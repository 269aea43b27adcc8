//! What is released in this world, and how it behaves on whom.

use std::collections::BTreeMap;

use orangery::sha256;
use orangery::store::ReleaseRow;
use orangery_wire::manifest::{Constraints, Encoding, Entry, FORMAT, Pack, Restart, Run, Runner, StopSignal, Tree};
use orangery_wire::messages::ReleaseRef;
use orangery_wire::{AppName, Manifest, ReleaseId, Version};

use crate::random::Random;

/// Releases of each app.
const RELEASES: u64 = 14;
/// The apps.
const APPS: [&str; 3] = ["greeter", "lamp", "meter"];

/// How a release behaves where it is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// It starts and its probes hold.
    Good,
    /// It does not start.
    WontStart,
    /// It starts and its probes fail.
    Unhealthy,
    /// Starting it takes the node down, each time.
    CrashesAtStart,
    /// It starts, and takes the node down while it is probed, each time.
    CrashesInProbe,
    /// What is downloaded is not what was signed.
    BadDownload,
    /// While it runs the node does not reach its coordinator.
    CutsOff,
    /// Its probes hold through the soak; later they fail.
    DiesLater,
}

/// One release.
#[derive(Debug, Clone)]
pub struct Release {
    /// How messages name it.
    pub reference: ReleaseRef,
    /// What is signed.
    pub seal: Vec<u8>,
    /// As the coordinator has it.
    pub row: ReleaseRow,
    /// The same in every build, unlike the digest.
    number: u64,
    /// How it behaves where it is bad.
    behaviour: Behaviour,
    /// On so many of a hundred nodes.
    share: u64,
}

/// All releases.
#[derive(Debug)]
pub struct Catalogue {
    releases: BTreeMap<ReleaseId, Release>,
    by_app: BTreeMap<AppName, Vec<ReleaseId>>,
}

impl Catalogue {
    /// The releases of a seed.
    pub fn new(random: &mut Random) -> Self {
        let mut catalogue = Self { releases: BTreeMap::new(), by_app: BTreeMap::new() };
        for (place, app) in (0..).zip(APPS.iter().filter_map(|app| app.parse::<AppName>().ok())) {
            for n in 0..RELEASES {
                // The first of each app is good, so that there is something to go back to.
                let (behaviour, share) = if n == 0 { (Behaviour::Good, 0) } else { behaviour(random) };
                if let Some(release) = release(&app, place * RELEASES + n, n, behaviour, share) {
                    catalogue.by_app.entry(app.clone()).or_default().push(release.reference.id);
                    catalogue.releases.insert(release.reference.id, release);
                }
            }
        }
        catalogue
    }

    /// One of them.
    pub fn get(&self, id: ReleaseId) -> Option<&Release> {
        self.releases.get(&id)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Release> {
        self.releases.values()
    }

    /// The apps.
    pub fn apps(&self) -> Vec<AppName> {
        self.by_app.keys().cloned().collect()
    }

    /// Any release of an app.
    pub fn any(&self, app: &AppName, random: &mut Random) -> Option<&Release> {
        self.releases.get(random.pick(self.by_app.get(app)?)?)
    }

    /// The first release of an app, which is good.
    pub fn first(&self, app: &AppName) -> Option<&Release> {
        self.releases.get(self.by_app.get(app)?.first()?)
    }

    /// How a release behaves on a node.
    pub fn behaviour(&self, id: ReleaseId, node: usize) -> Behaviour {
        let Some(release) = self.get(id) else { return Behaviour::Good };
        let hit = Random::new(release.number).fork(node as u64).percent(release.share);
        if hit { release.behaviour } else { Behaviour::Good }
    }
}

fn behaviour(random: &mut Random) -> (Behaviour, u64) {
    use Behaviour::{BadDownload, CrashesAtStart, CrashesInProbe, CutsOff, DiesLater, Good, Unhealthy, WontStart};
    let bad = [WontStart, Unhealthy, CrashesAtStart, CrashesInProbe, BadDownload, CutsOff, DiesLater];
    if random.percent(50) {
        return (Good, 0);
    }
    let behaviour = random.pick(&bad).copied().unwrap_or(Good);
    (behaviour, if random.percent(50) { 100 } else { 10 })
}

fn release(app: &AppName, number: u64, n: u64, behaviour: Behaviour, share: u64) -> Option<Release> {
    let version: Version = format!("1.{n}.0").parse().ok()?;
    let manifest = manifest(app, &version);
    let seal = manifest.to_bytes();
    let reference = ReleaseRef { id: ReleaseId(sha256::digest(&seal)), version };
    let row = ReleaseRow::of(&manifest, reference.id, 0);
    Some(Release { reference, seal, row, number, behaviour, share })
}

fn manifest(app: &AppName, version: &Version) -> Manifest {
    let content = format!("{app} {version}");
    let digest = sha256::digest(content.as_bytes());
    let size_bytes = content.len() as u64;
    let file = Entry::File { path: "program".into(), digest, size_bytes, executable: true };
    let tree = Tree { size_bytes, pack: Pack { digest, size_bytes, encoding: Encoding::None }, entries: vec![file] };
    Manifest {
        format: FORMAT,
        app: app.clone(),
        version: version.clone(),
        notes: None,
        source: None,
        constraints: Constraints::default(),
        run: Run {
            runner: Runner::Any,
            exec: vec!["program".into()],
            env: BTreeMap::new(),
            restart: Restart::default(),
            stop_signal: StopSignal::default(),
            stop_grace_secs: 1,
            memory_bytes_max: None,
            cpu_percent_max: None,
            sandbox: true,
            sockets: Vec::new(),
        },
        probes: vec![],
        soak_secs: 30,
        gate: orangery_wire::manifest::Gate::default(),
        platforms: [(orangery_wire::manifest::this_platform(), tree)].into(),
    }
}
