//! The power fails at every write of the real agent, and leaves every disk that it could leave. tests/README.md says how.

#![allow(clippy::unwrap_used, missing_docs, reason = "these are tests, their helpers included")]
#![allow(clippy::indexing_slicing, reason = "as above")]

mod cuts;
mod disk;
#[allow(dead_code, reason = "other tests use the rest of it")]
#[path = "../enrolment/mod.rs"]
mod enrolment;
mod explore;
mod image;
mod node;
#[path = "../origin/mod.rs"]
mod origin;
#[path = "../owner/mod.rs"]
mod owner;
mod real;
mod recovery;
mod scenarios;
mod stores;
mod strace;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use cuts::{LARGE, SMALL};
use enrolment::Coordinator;
use explore::{Depth, Tally, explore};
use node::{Board, Recording, directory};
use orangery_agent::store::Engine;
use recovery::Truth;
use scenarios::{Scenario, Stage};

/// Recordings wait more than they work.
const RECORDERS: usize = 6;
const WORKERS: usize = 2;

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

struct Recorded {
    scenarios: Vec<Scenario>,
    recordings: Vec<Recording>,
    truths: Vec<Truth>,
}

/// Records every scenario so many times; all recordings of one must be the same.
fn recorded(times: usize) -> Recorded {
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
    let (scenarios, stage) = scenarios::all(&token);
    let recordings = each(&scenarios, RECORDERS, |scenario| record(scenario, &stage, times));
    let truths = scenarios.iter().map(|scenario| stage.truth(scenario)).collect();
    Recorded { scenarios, recordings, truths }
}

fn record(scenario: &Scenario, stage: &Stage, times: usize) -> Recording {
    let mut recordings: Vec<Recording> = (0..times).map(|_| scenario.record(stage)).collect();
    let first = recordings.remove(0);
    for other in recordings {
        let (first, other) = (first.shape(), other.shape());
        let differ: Vec<_> =
            first.keys().chain(other.keys()).filter(|path| first.get(*path) != other.get(*path)).collect();
        assert!(differ.is_empty(), "{}: recorded twice, and not the same: {differ:?}", scenario.name);
    }
    first
}

fn told(name: &str, tally: &Tally) {
    let states: Vec<String> = tally.states.iter().map(|(model, count)| format!("{model:?} {count}")).collect();
    let (ops, twice, wrong) = (tally.ops, tally.twice, tally.violations.len());
    println!("{name}: {ops} operations, {}, cut twice {twice}; {wrong} violations", states.join(", "));
    tally.violations.iter().take(20).for_each(|violation| println!("    {violation}"));
}

/// Real programs start on these disks.
fn boot(tally: &Tally) -> Vec<String> {
    let mut wrong = Vec::new();
    for image in &tally.sample {
        let memory = directory();
        let state = memory.path().join("state");
        std::fs::create_dir(&state).unwrap();
        real::write(image, &state);
        let board = Board::at(memory, state);
        // A disk from before the join has no agent to start.
        if board.state.join("identity/coordinator.json").exists() {
            if !board.boot() {
                wrong.push(format!("a real agent does not settle: {}", board.log()));
            }
            wrong.extend(recovery::violations(&real::read(&board.state), true));
        }
    }
    wrong
}

fn all_cuts(times: usize, depth: Depth) {
    let recorded = recorded(times);
    let pairs: Vec<_> = recorded.scenarios.iter().zip(&recorded.recordings).zip(&recorded.truths).collect();
    let tallies = each(&pairs, WORKERS, |((scenario, recording), truth)| {
        let mut tally = explore(&recording.start, &recording.ops, &recording.ops, truth, depth);
        tally.violations.extend(boot(&tally));
        told(scenario.name, &tally);
        tally
    });
    let distinct: usize = tallies.iter().map(Tally::distinct).sum();
    let boots: usize = tallies.iter().map(|tally| tally.sample.len()).sum();
    let wrong: usize = tallies.iter().map(|tally| tally.violations.len()).sum();
    println!("{} scenarios, {distinct} distinct disks, {boots} real boots, {wrong} violations", tallies.len());
    assert_eq!(wrong, 0);
}

#[test]
fn no_power_cut_leaves_a_disk_on_which_an_invariant_is_broken() {
    all_cuts(3, Depth { bounds: SMALL, again: 40, boots: 100 });
}

#[test]
#[ignore = "takes half an hour: `just test-long`"]
fn no_power_cut_leaves_a_disk_on_which_an_invariant_is_broken_at_full_length() {
    all_cuts(3, Depth { bounds: LARGE, again: 1, boots: 1 });
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
    stores_are_cut(SMALL, 400);
}

#[test]
#[ignore = "takes minutes: `just test-long`"]
fn both_stores_have_every_event_that_they_said_they_kept_at_full_length() {
    stores_are_cut(LARGE, 20_000);
}
