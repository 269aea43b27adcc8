//! What a node goes through, each from the state that a real one would be in before it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use orangery_agent::runner::own;
use orangery_wire::messages::AppReport;

use crate::disk::ImageDisk;
use crate::image::{Image, Node, file};
use crate::node::{Agent, Board, Recording, directory};
use crate::owner::{Owner, Release, key};
use crate::recovery::{self, Truth};
use orangery_wire::token::Token;

/// One scenario: how it begins, what happens.
pub struct Scenario {
    pub name: &'static str,
    start: Image,
    deed: Deed,
    is_of_the_agent: bool,
}

/// What is done to an agent that runs.
type Done = Box<dyn Fn(&Agent<'_>, &Stage) + Sync + Send>;

/// What the agent's driver does on the recording disk.
type Played = Box<dyn Fn(&Image, &Arc<Truth>, &Stage) -> Vec<Recording> + Sync + Send>;

enum Deed {
    Join,
    Run(Done),
    Play(Played),
}

/// The owner's releases, each in a directory that a node can install from.
pub struct Stage {
    _directory: tempfile::TempDir,
    roads: PathBuf,
    pub releases: Vec<Release>,
    /// Releases of the agent; the third is not well.
    agents: Vec<Release>,
    token: String,
}

/// A release of the first app that no scenario has, and one of the agent.
const NEXT: usize = 7;
const NEXT_AGENT: usize = 3;

/// Well and quickly proven; unwell; well, but long on trial.
const WELL: &str = "#!/bin/sh\nexec sleep 600\n";
const ILL: &str = "#!/bin/sh\nexit 3\n";

fn release(app: &str, version: &str, script: &str, uptime_min_secs: u64) -> Release {
    // No two releases have the same bytes.
    let mut release = Release::new(app, version, format!("{script}# {app} {version}\n").as_bytes());
    release.manifest.run.restart.uptime_min_secs = uptime_min_secs;
    release.manifest.run.restart.restarts_max = 0;
    release
}

impl Stage {
    pub fn new(token: String) -> (Self, Owner) {
        let directory = directory();
        let roads = directory.path().to_owned();
        let mut owner = Owner::new();
        let agents = ["1.0.0", "1.1.0", "1.2.0", "1.3.0"].map(|version| release(own::APP, version, WELL, 1)).into();
        let mut stage = Self { _directory: directory, roads, releases: Vec::new(), agents, token };
        let all = [
            ("greeter", "1.0.0", WELL, 1),
            ("greeter", "1.1.0", WELL, 1),
            ("greeter", "1.2.0", ILL, 1),
            ("greeter", "1.3.0", WELL, 3),
            ("greeter", "1.4.0", WELL, 1),
            ("clock", "1.0.0", WELL, 1),
        ];
        for (app, version, script, uptime) in all {
            stage.publish(&mut owner, release(app, version, script, uptime));
        }
        // The coordinator gets new keys, twice, and one more release is signed.
        for _ in 0..2 {
            let new = orangery_trust::repository::Online { snapshot: key(), timestamp: key() };
            owner.change_root(|root| {
                root.snapshot = orangery_trust::repository::KeyHolders::any_of([new.snapshot.public()]);
                root.timestamp = orangery_trust::repository::KeyHolders::any_of([new.timestamp.public()]);
            });
            (owner.online, owner.published) = (new, None);
        }
        stage.publish(&mut owner, release("greeter", "2.0.0", WELL, 1));
        stage.publish(&mut owner, release("greeter", "3.0.0", WELL, 1));
        (stage, owner)
    }

    /// As a directory that has this release and those before it.
    fn publish(&mut self, owner: &mut Owner, release: Release) {
        let (custom, manifest) = (release.custom(), release.bytes());
        owner.sign_targets_at(crate::owner::now(), |targets| assert!(targets.add_release(&custom, &manifest).unwrap()));
        owner.publish_at(crate::owner::now());
        self.releases.push(release);
        let road = self.road(self.releases.len() - 1);
        let published = owner.published.clone().unwrap();
        let targets = owner.targets.clone().unwrap();
        let version = &serde_json::from_slice::<serde_json::Value>(&targets).unwrap()["signed"]["version"];
        let put = |name: String, bytes: &[u8]| {
            let path = road.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        };
        for (n, root) in owner.roots.iter().enumerate() {
            put(format!("metadata/{}.root.json", n + 1), root);
        }
        put(format!("metadata/{version}.targets.json"), &targets);
        put(format!("metadata/{}.snapshot.json", published.snapshot_version), &published.snapshot);
        put("metadata/timestamp.json".to_owned(), &published.timestamp);
        for release in &self.releases {
            put(release.target()[1..].to_owned(), &release.bytes());
            put(release.blob()[1..].to_owned(), &release.pack);
        }
    }

    pub fn road(&self, n: usize) -> PathBuf {
        self.roads.join(n.to_string())
    }

    pub fn truth(&self, scenario: &Scenario) -> Arc<Truth> {
        let all: Vec<Release> = self.releases.iter().chain(&self.agents).cloned().collect();
        let ill = [&self.releases[2], &self.agents[2]].map(|release| release.wanted().id);
        let good = all.iter().map(|release| release.wanted().id).filter(|id| !ill.contains(id)).collect();
        let next = if scenario.is_of_the_agent { &self.agents[NEXT_AGENT] } else { &self.releases[NEXT] };
        Arc::new(Truth { good, releases: all, next: next.clone(), real_root: !matches!(scenario.deed, Deed::Join) })
    }

    /// What any node that works can install.
    pub fn installs_next(&self, agent: &Agent<'_>) {
        self.installs(agent, NEXT);
    }

    fn installs(&self, agent: &Agent<'_>, n: usize) {
        agent.installs(&self.releases[n], &self.road(n));
    }
}

impl Scenario {
    fn run(name: &'static str, start: &Image, deed: impl Fn(&Agent<'_>, &Stage) + Sync + Send + 'static) -> Self {
        Self { name, start: start.clone(), deed: Deed::Run(Box::new(deed)), is_of_the_agent: false }
    }

    fn play(
        name: &'static str,
        start: &Image,
        deed: impl Fn(&Image, &Arc<Truth>, &Stage) -> Vec<Recording> + Sync + Send + 'static,
    ) -> Self {
        Self { name, start: start.clone(), deed: Deed::Play(Box::new(deed)), is_of_the_agent: false }
    }

    fn of_the_agent(mut self) -> Self {
        self.is_of_the_agent = true;
        self
    }

    pub fn record(&self, stage: &Stage) -> Vec<Recording> {
        match &self.deed {
            Deed::Join => vec![Board::with(&self.start).record_command(&["join", &stage.token, "--name", "attic"])],
            Deed::Run(deed) => vec![Board::with(&self.start).record(|agent| deed(agent, stage))],
            Deed::Play(deed) => deed(&self.start, &stage.truth(self), stage),
        }
    }
}

/// The node takes these releases from a coordinator, the last of which is recorded.
fn takes(start: &Image, truth: &Arc<Truth>, releases: &[&Release]) -> Vec<Recording> {
    let (mut start, mut recordings) = (start.clone(), Vec::new());
    for (release, generation) in releases.iter().zip(1..) {
        let came = recovery::deploys(ImageDisk::new(start.clone()), truth, release, generation);
        start.settle();
        let mut end = came.image.clone();
        end.settle();
        recordings = vec![Recording {
            start: std::mem::replace(&mut start, end.clone()),
            ops: came.ops,
            end,
            wrong: came.wrong,
        }];
    }
    recordings
}

/// The node is to take this release, and at each step of that the disk is full.
fn fills(start: &Image, truth: &Arc<Truth>, release: &Release) -> Vec<Recording> {
    let steps = recovery::deploys(ImageDisk::new(start.clone()), truth, release, 1).ops.len();
    let full = |step: usize| {
        let came = recovery::deploys(ImageDisk::full_from(start.clone(), step), truth, release, 1);
        let mut wrong = came.wrong;
        let runs = |app: &AppReport| app.app == release.app() && app.running.is_some();
        if !came.reported.is_some_and(|reported| reported.apps.iter().any(runs)) {
            wrong.push(format!("I14: on a disk that is full from step {step} on nothing runs, or nothing is reported"));
        }
        Recording { start: start.clone(), ops: came.ops, end: came.image, wrong }
    };
    (0..steps).map(full).collect()
}

/// A node that has joined, with the owner's first root.
fn joined(stage: &Stage, owner: &Owner) -> Image {
    let board = Board::with(&Image::default());
    let recording = board.record_command(&["join", &stage.token, "--name", "attic"]);
    let mut image = recording.end.only(&["identity", "apps", "parts", "lock"]);
    // From here on nobody answers.
    let port = |bytes: &[u8]| {
        let mut value: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        (value["url"], value["mqtt"]) = ("https://127.0.0.1:1".into(), "127.0.0.1:1".into());
        serde_json::to_vec(&value).unwrap()
    };
    image = with_bytes(&image, "identity/coordinator.json", port);
    image.place_directory(Path::new("trust"), 0o700);
    for name in ["trust/root.json", "trust/1.root.json"] {
        image.place(Path::new(name), file(owner.roots[0].clone(), 0o644));
    }
    image
}

/// The state after these releases were installed, one after the other.
fn after(start: &Image, stage: &Stage, releases: &[usize]) -> Image {
    let board = Board::with(start);
    board.record(|agent| releases.iter().for_each(|n| stage.installs(agent, *n))).end
}

fn with_bytes(image: &Image, path: &str, change: impl FnOnce(&[u8]) -> Vec<u8>) -> Image {
    let mut image = image.clone();
    let inode = image.find(Path::new(path)).unwrap_or_else(|| panic!("{path}"));
    let Node::File { now, mode, .. } = &image.nodes[inode] else { panic!("{path}") };
    image.nodes[inode] = file(change(&now.bytes), *mode);
    image
}

/// Records as an agent of the first release wrote them: without what later ones added, and without a checksum.
fn of_old(image: &Image) -> Image {
    let strip = |bytes: &[u8]| {
        let mut value: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        let object = value.as_object_mut().unwrap();
        for later in ["sha256", "connected_before", "unwitnessed", "reconnection_secs_max"] {
            object.remove(later);
        }
        serde_json::to_vec_pretty(&value).unwrap()
    };
    with_bytes(&with_bytes(image, "node.json", strip), "apps/greeter/state.json", strip)
}

/// All scenarios. The token's coordinator must live as long as they are recorded.
pub fn all(token: &Token) -> (Vec<Scenario>, Stage) {
    let (stage, owner) = Stage::new(token.to_text());
    let joined = joined(&stage, &owner);
    let (one, two) = std::thread::scope(|scope| {
        let two = scope.spawn(|| after(&joined, &stage, &[0, 1]));
        (after(&joined, &stage, &[0]), two.join().unwrap())
    });
    let broken = with_bytes(&one, "store/events.redb", |bytes| vec![7; bytes.len()]);
    let old = of_old(&one);
    let scenarios = vec![
        Scenario { name: "a node joins", start: Image::default(), deed: Deed::Join, is_of_the_agent: false },
        Scenario::run("the first release of all", &joined, |agent, stage| stage.installs(agent, 0)),
        Scenario::run("from A to B, which is well", &one, |agent, stage| stage.installs(agent, 1)),
        Scenario::run("from A to B, which is not well", &one, |agent, stage| {
            agent.refuses(&stage.releases[2], &stage.road(2));
        }),
        Scenario::run("C while B is on trial", &one, |agent, stage| {
            agent.wants(&stage.releases[3], &stage.road(3));
            agent.is_trying();
            stage.installs(agent, 4);
        }),
        Scenario::run("B is cancelled while it is on trial", &two, |agent, stage| {
            agent.wants(&stage.releases[3], &stage.road(4));
            agent.is_trying();
            agent.installs(&stage.releases[1], &stage.road(4));
        }),
        Scenario::run("a refresh that brings new keys", &one, |agent, stage| stage.installs(agent, 6)),
        Scenario::run("old releases are collected", &two, |agent, stage| stage.installs(agent, 4)),
        Scenario::run("back to the release before", &two, |agent, stage| agent.rolls_back(&stage.releases[1])),
        Scenario::run("a second app", &one, |agent, stage| stage.installs(agent, 5)),
        Scenario::run("a store is set aside and made anew", &broken, |agent, _| agent.all_settle()),
        Scenario::run("records of an older agent", &old, |agent, stage| stage.installs(agent, 1)),
        Scenario::play("the agent replaces itself by one that is well", &Image::default(), |start, truth, stage| {
            takes(start, truth, &[&stage.agents[0], &stage.agents[1]])
        })
        .of_the_agent(),
        Scenario::play(
            "the agent replaces itself by one that is not well",
            &Image::default(),
            |start, truth, stage| takes(start, truth, &[&stage.agents[0], &stage.agents[1], &stage.agents[2]]),
        )
        .of_the_agent(),
        Scenario::play("the disk is full from each step of a deployment on", &two, |start, truth, stage| {
            fills(&start.only(&["apps"]), truth, &stage.releases[4])
        }),
    ];
    (scenarios, stage)
}
