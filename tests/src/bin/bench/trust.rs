//! What it costs to verify a repository with 500 targets: the rules alone, and an agent that has done it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::time::{SystemTime, UNIX_EPOCH};

use orangery_tests::fleet::Fleet;
use orangery_tests::process::eventually;
use orangery_trust::release::Custom;
use orangery_trust::repository::{
    KeyHolders, Online, Published, ROOT_VALID_SECS, RootContent, SigningKey, TARGETS_VALID_SECS, TargetsContent,
    sign_root,
};
use orangery_trust::{Refresh, Search, Stored, TrustedSet};

use crate::{Outcome, mega};
use orangery_tests::usage::{cpu_secs, memory};

/// Enough for a clock that ticks a hundred times a second.
const RUNS: u32 = 200;
/// As small as a release can be.
const PADDING: &str = "[run]\nexec = [\"run\"]\n";

/// Measures the core in this process, then an agent.
pub fn measure() -> Outcome {
    let targets = std::env::var("ORANGERY_TARGETS").map_or(Ok(500), |text| text.parse())?;
    core(targets)?;
    agent(targets)
}

/// From a root alone to a release: root, timestamp, snapshot and targets verified, the release looked up.
fn core(targets: u32) -> Outcome {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let repository = Repository::new(now, targets)?;
    let stored = Stored { roots: vec![repository.root.clone()], ..Stored::default() };
    let before = cpu_secs(std::process::id())?;
    for _ in 0..RUNS {
        let mut refresh = Refresh::begin(TrustedSet::load(&stored)?, now);
        while let Some(request) = refresh.next() {
            refresh.supply(repository.serve(&request.file))?;
        }
        let set = refresh.finish();
        Search::for_release(&set, &"app-0".parse()?, &"1.0.0".parse()?, now)?.release()?;
    }
    let cpu_ms = (cpu_secs(std::process::id())? - before) * 1e3 / f64::from(RUNS);
    println!(
        "trust: the rules alone, {targets} targets in {} bytes: {cpu_ms:.2} ms of CPU for a first refresh; goal less than 150 ms",
        repository.targets.len()
    );
    Ok(())
}

/// A repository in memory.
struct Repository {
    root: Vec<u8>,
    targets: Vec<u8>,
    published: Published,
}

impl Repository {
    fn new(now: u64, count: u32) -> anyhow::Result<Self> {
        let (root_key, targets_key) = (SigningKey::generate()?, SigningKey::generate()?);
        let online = Online { snapshot: SigningKey::generate()?, timestamp: SigningKey::generate()? };
        let root = RootContent {
            version: 1,
            signed_at: now,
            expires: now + ROOT_VALID_SECS,
            root: KeyHolders::any_of([root_key.public()]),
            targets: KeyHolders::any_of([targets_key.public()]),
            snapshot: KeyHolders::any_of([online.snapshot.public()]),
            timestamp: KeyHolders::any_of([online.timestamp.public()]),
        };
        let root = sign_root(&root, &[&root_key], None)?;
        let mut content = TargetsContent::first();
        for number in 0..count {
            let (app, version) = (format!("app-{}", number / 10).parse()?, format!("1.0.{}", number % 10).parse()?);
            content.add_release(&Custom { app, version, floor: None }, &number.to_le_bytes())?;
        }
        let targets = content.sign(&root, &[&targets_key], now, now + TARGETS_VALID_SECS)?;
        let published = online.publish(&root, &targets, None, now)?;
        Ok(Self { root, targets, published })
    }

    fn serve(&self, file: &str) -> Option<&[u8]> {
        match file {
            "timestamp.json" => Some(&self.published.timestamp),
            "1.snapshot.json" => Some(&self.published.snapshot),
            "1.targets.json" => Some(&self.targets),
            _ => None,
        }
    }
}

/// An agent before and after it has verified as many releases to have one of them.
fn agent(targets: u32) -> Outcome {
    let fleet = Fleet::start();
    let tree = fleet.path().join("padding");
    std::fs::create_dir_all(&tree)?;
    std::fs::write(tree.join("run"), "#!/bin/sh\n")?;
    std::fs::set_permissions(tree.join("run"), Permissions::from_mode(0o755))?;
    for number in 1..targets {
        fleet.publish_tree("padding", &format!("1.0.{number}"), &tree, PADDING);
    }
    fleet.publish("1.0.0", 200);
    let mut node = fleet.joined_idle("attic", "");
    node.start();
    eventually("the node is online", || fleet.view("attic")?.online.then_some(()));
    let pid = node.process().pid();
    let (idle, cpu) = (memory(pid)?, cpu_secs(pid)?);
    fleet.deploy("greeter@1.0.0", "attic");
    fleet.settled_on("attic", "1.0.0");
    let (cpu, after) = (cpu_secs(pid)? - cpu, memory(pid)?);
    println!(
        "trust: an agent that has verified {targets} targets and runs one of them: RSS {:.2} MB (anonymous {:.2}), {:.2} MB ({:.2}) \
         before; {cpu:.2} s of CPU for the whole deployment; goal RSS at most 6 MB",
        mega(after.rss),
        mega(after.anonymous),
        mega(idle.rss),
        mega(idle.anonymous)
    );
    Ok(())
}
