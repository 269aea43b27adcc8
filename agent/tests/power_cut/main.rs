//! The power fails at every write of the real agent, and leaves every disk that it could leave. tests/README.md says how.

#![allow(clippy::unwrap_used, missing_docs, reason = "these are tests, their helpers included")]
#![allow(clippy::indexing_slicing, reason = "as above")]

mod cuts;
mod disk;
#[allow(dead_code, reason = "other tests use the rest of it")]
#[path = "../enrolment/mod.rs"]
mod enrolment;
mod explore;
mod hands;
mod image;
mod judge;
mod mutants;
mod node;
mod op;
#[path = "../origin/mod.rs"]
mod origin;
#[path = "../owner/mod.rs"]
mod owner;
mod real;
mod recovery;
mod scenarios;
mod stores;
mod strace;
mod threads;
mod timeline;
#[path = "../traced/mod.rs"]
mod traced;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use cuts::{Bounds, LARGE, SMALL};
use enrolment::Coordinator;
use explore::{Depth, Tally, explore};
use image::Image;
use judge::Judge;
use mutants::{Fate, mutants};
use node::{Board, Recording};
use orangery_agent::store::Engine;
use recovery::Truth;
use scenarios::{Scenario, Stage};

/// Recordings wait more than they work.
const RECORDERS: usize = 6;
const WORKERS: usize = 2;
/// So do real agents.
const BOOTS_AT_ONCE: usize = 3;
/// Of these scenarios every run has the mutants; at full length all have.
const OF_MUTANTS: [&str; 4] = [
    "a node joins",
    "from A to B, which is not well",
    "a refresh that brings new keys",
    "the agent replaces itself by one that is well",
];
/// How thoroughly mutants are looked at.
const MUTANTS: Bounds = Bounds { names: 2, pairs: 0 };

/// Does `deed` for each of `all`, with so many at once, and keeps the order.
fn each<T: Sync, R: Send>(all: &[T], threads: usize, deed: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((n, one)) = {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    all.get(n).map(|one| (n, one))
                } {
                    let result = deed(one);
                    done.lock().unwrap().push((n, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap();
    done.sort_by_key(|(n, _)| *n);
    done.into_iter().map(|(_, result)| result).collect()
}

/// A scenario with all that was recorded of it.
struct Recorded {
    name: &'static str,
    recordings: Vec<Recording>,
    truth: Arc<Truth>,
}

/// Records every scenario so many times; all recordings of one must be the same.
fn recorded(times: usize) -> (Vec<Recorded>, Stage) {
    let (tell, told) = std::sync::mpsc::channel();
    let (_alive, done) = tokio::sync::oneshot::channel::<()>();
    // The coordinator serves on a thread of its own until this ends.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let coordinator = Coordinator::start().await;
            tell.send(coordinator.token()).unwrap();
            let _ = done.await;
        });
    });
    let token = told.recv().unwrap();
    let (mut scenarios, stage) = scenarios::all(&token);
    if let Ok(words) = std::env::var("ORANGERY_POWER_CUT_ONLY") {
        scenarios.retain(|scenario| scenario.name.contains(&words));
    }
    let recorded = each(&scenarios, RECORDERS, |scenario| Recorded {
        name: scenario.name,
        recordings: record(scenario, &stage, times),
        truth: stage.truth(scenario),
    });
    (recorded, stage)
}

fn record(scenario: &Scenario, stage: &Stage, times: usize) -> Vec<Recording> {
    let first = scenario.record(stage);
    for _ in 1..times {
        let others = scenario.record(stage);
        assert_eq!(first.len(), others.len(), "{}", scenario.name);
        for (first, other) in first.iter().zip(&others) {
            let (first, other) = (first.shape(), other.shape());
            let paths = first.keys().chain(other.keys());
            let differ: Vec<_> = paths.filter(|path| first.get(*path) != other.get(*path)).collect();
            assert!(differ.is_empty(), "{}: recorded twice, and not the same: {differ:?}", scenario.name);
        }
    }
    first
}

/// What was found of one scenario.
struct Found {
    distinct: usize,
    boots: usize,
    wrong: BTreeSet<String>,
    fates: Vec<(String, Fate)>,
}

fn cut(scenario: &Recorded, stage: &Stage, depth: Depth) -> Found {
    let (mut tally, mut judge) = (Tally::default(), Judge::new(&scenario.truth));
    for recording in &scenario.recordings {
        explore(&recording.start, &recording.ops, &mut judge, depth, &mut tally);
        tally.violations.extend(recording.wrong.iter().cloned());
    }
    let boots = boot(&mut tally, stage);
    let states: Vec<String> = tally.states.iter().map(|(model, count)| format!("{model:?} {count}")).collect();
    let (twice, starts, wrong) = (judge.twice(), judge.starts(), tally.violations.len());
    let mut fates = Vec::new();
    // On a full disk nothing is missing that the same deployment has elsewhere.
    if let [recording] = scenario.recordings.as_slice()
        && (depth.mutants || OF_MUTANTS.contains(&scenario.name))
    {
        let found = mutants(&recording.start, &recording.ops, &mut judge, MUTANTS);
        fates.extend(found.into_iter().map(|((_, what), fate)| (what, fate)));
    }
    let caught = fates.iter().filter(|(_, fate)| is_caught(fate)).count();
    println!(
        "{}: {} operations, {}, cut twice {twice}; {starts} starts, {boots} real boots; {wrong} violations; {caught} of {} mutants caught",
        scenario.name,
        tally.ops,
        states.join(", "),
        fates.len()
    );
    tally.violations.iter().take(20).for_each(|violation| println!("    {violation}"));
    for (what, fate) in fates.iter().filter(|(_, fate)| matches!(fate, Fate::Survived(_))) {
        println!("    {fate:?}: {what}");
    }
    Found { distinct: tally.distinct() + twice, boots, wrong: tally.violations, fates }
}

fn is_caught(fate: &Fate) -> bool {
    matches!(fate, Fate::Caught(_) | Fate::Stuck(_))
}

/// Real programs start on these disks, and install a release from a directory.
fn boot(tally: &mut Tally, stage: &Stage) -> usize {
    // A disk from before the join, or of the driver alone, has no agent to start.
    let there = |image: &Image, path: &str| image.find(Path::new(path)).is_some();
    let mut sample = std::mem::take(&mut tally.sample);
    sample.retain(|image| there(image, "identity/coordinator.json") && there(image, "trust/1.root.json"));
    let found = each(&sample, BOOTS_AT_ONCE, |image| {
        let board = Board::with(image);
        let settled = board.boot(|agent| stage.installs_next(agent));
        let trouble = (!settled).then(|| format!("a real agent does not settle: {}", board.log()));
        trouble.into_iter().chain(recovery::violations(&real::read(&board.state), true)).collect::<Vec<_>>()
    });
    tally.violations.extend(found.into_iter().flatten());
    sample.len()
}

/// How often it came to each fate, in words.
fn fates_of<'a>(all: impl Iterator<Item = &'a Fate>) -> String {
    let mut counts = BTreeMap::<&str, usize>::new();
    for fate in all {
        let word = match fate {
            Fate::Caught(_) => "caught",
            Fate::Stuck(_) => "cannot go on",
            Fate::Idle => "change nothing",
            Fate::Repeated => "do it again at once",
            Fate::Covered => "are covered by the next sync",
            Fate::Passing => "leave out what nobody waits for",
            Fate::Removed => "leave what the next collection removes",
            Fate::Survived(_) => "SURVIVED",
        };
        *counts.entry(word).or_default() += 1;
    }
    counts.into_iter().map(|(word, count)| format!("{count} {word}")).collect::<Vec<_>>().join(", ")
}

fn all_cuts(times: usize, depth: Depth) -> usize {
    let begun = Instant::now();
    let (recorded, stage) = recorded(times);
    let all = each(&recorded, WORKERS, |scenario| cut(scenario, &stage, depth));
    let distinct: usize = all.iter().map(|found| found.distinct).sum();
    let boots: usize = all.iter().map(|found| found.boots).sum();
    let wrong: usize = all.iter().map(|found| found.wrong.len()).sum();
    let fates = || all.iter().flat_map(|found| &found.fates).map(|(_, fate)| fate);
    println!("power cuts: {} scenarios, {distinct} distinct disks, {boots} real boots, {wrong} violations", all.len());
    println!("power cuts: {} mutants: {}", fates().count(), fates_of(fates()));
    println!("power cuts: {} s", begun.elapsed().as_secs());
    assert_eq!(wrong, 0);
    assert_eq!(
        fates().filter(|fate| matches!(fate, Fate::Survived(_))).count(),
        0,
        "the test does not find these faults"
    );
    distinct
}

#[test]
fn no_power_cut_leaves_a_disk_on_which_an_invariant_is_broken() {
    if !traced::possible() {
        return;
    }
    all_cuts(3, Depth { bounds: SMALL, again: 40, boots: 100, mutants: false });
}

#[test]
#[ignore = "takes a quarter of an hour: `just test-long`"]
fn no_power_cut_leaves_a_disk_on_which_an_invariant_is_broken_at_full_length() {
    if !traced::possible() {
        return;
    }
    let distinct = all_cuts(3, Depth { bounds: LARGE, again: 4, boots: 20, mutants: true });
    assert!(distinct > 100_000, "{distinct} disks are too few");
}

#[test]
#[ignore = "it is a part of the test of the stores, which starts it"]
fn the_program_that_keeps_events() {
    stores::keep_events();
}

fn stores_are_cut(bounds: cuts::Bounds, most: usize) {
    for engine in [Engine::Redb, Engine::Sled] {
        let recording = stores::record(engine);
        let (distinct, wrong) = stores::cut(engine, &recording, &recording.ops, bounds, most);
        println!("{engine}: {} operations, {distinct} distinct disks, {} violations", recording.ops.len(), wrong.len());
        assert_eq!(wrong, Vec::<String>::new(), "{engine}");
        let (distinct, wrong) = stores::cut(engine, &recording, &stores::unsynced(&recording.ops), SMALL, 200);
        println!("{engine} without any sync: {distinct} distinct disks, {} violations", wrong.len());
        assert!(!wrong.is_empty(), "{engine}: the test would not notice");
    }
}

#[test]
fn both_stores_have_every_event_that_they_said_they_kept() {
    if !traced::possible() {
        return;
    }
    stores_are_cut(SMALL, 400);
}

#[test]
#[ignore = "takes minutes: `just test-long`"]
fn both_stores_have_every_event_that_they_said_they_kept_at_full_length() {
    if !traced::possible() {
        return;
    }
    stores_are_cut(LARGE, 20_000);
    for engine in [Engine::Redb, Engine::Sled] {
        let recording = stores::record(engine);
        let found = stores::mutants(engine, &recording, SMALL, 2_000);
        println!("{engine}: mutants {found:?}");
        assert_eq!(found.missed, Vec::<String>::new(), "{engine}: the test does not find these faults");
    }
}
