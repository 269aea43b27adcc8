//! Both engines of the store under power cuts: a program that keeps events is recorded, each disk that a cut leaves is opened.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use orangery_agent::clock::Clock;
use orangery_agent::outbox::Outbox;
use orangery_agent::store::{self, Engine};
use orangery_wire::messages::{Acked, What};

use crate::cuts::{Bounds, Model, cuts};
use crate::image::{Image, Op};
use crate::node::{Recording, directory, strace_to};
use crate::{real, strace};

const CHILD: &str = "ORANGERY_POWER_CUT_STORE";
const EVENTS: u64 = 6;

fn outbox(engine: Engine, state: &Path) -> (Outbox, Option<String>) {
    let opened = store::open(engine, &state.join("store")).unwrap();
    let clock: Arc<Clock> = Clock::new(0);
    let outbox = Outbox::open(opened.store, "attic".parse().unwrap(), "boot".to_owned(), clock, 1 << 20).unwrap();
    (outbox, opened.rebuilt)
}

fn event() -> What {
    What::AppExited { reason: "it fell over ".repeat(20), restarts: 1 }
}

/// What is recorded: events are kept, the coordinator acknowledges some, more are kept; each deed is said when it is done.
pub fn keep_events() {
    let Ok(order) = std::env::var(CHILD) else { return };
    let (engine, state) = order.split_once(' ').unwrap();
    let engine = if engine == "sled" { Engine::Sled } else { Engine::Redb };
    let (mut outbox, _) = outbox(engine, Path::new(state));
    println!("\nMARK epoch {}", outbox.epoch());
    for n in 1..=EVENTS {
        assert_eq!(outbox.push(&event(), None).unwrap(), n);
        println!("MARK kept {n}");
        if n == EVENTS / 2 {
            outbox.acked(Acked { epoch: outbox.epoch(), sequence: 2 }).unwrap();
        }
    }
    // As a power cut does it, without a word to the engine.
    std::process::exit(0);
}

pub fn record(engine: Engine) -> Recording {
    let directory = directory();
    let state = directory.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let trace = directory.path().join("trace");
    let start = real::read(&state);
    let mut command: Command = strace_to(&trace);
    command.arg(std::env::current_exe().unwrap());
    command.args(["--exact", "the_program_that_keeps_events", "--nocapture", "--ignored", "--test-threads=1"]);
    command.env(CHILD, format!("{engine} {}", state.display())).stdout(Stdio::piped());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let end = real::read(&state);
    let text = std::fs::read_to_string(&trace).unwrap();
    let ops = strace::read(&text, &state, start.clone()).unwrap();
    let recording = Recording { start, ops, end, wrong: Vec::new() };
    recording.is_true();
    recording
}

/// What a store is found to be.
fn judge(engine: Engine, image: &Image, kept: u64, epoch: Option<u64>) -> Option<String> {
    let directory = directory();
    let state = directory.path().join("state");
    std::fs::create_dir(&state).unwrap();
    real::write(image, &state);
    let (mut outbox, rebuilt) = outbox(engine, &state);
    // It was never said to be there: then it may be made anew, and says so.
    let epoch = epoch?;
    if let Some(reason) = rebuilt {
        return Some(format!("it does not open: {reason}"));
    }
    if outbox.epoch() != epoch {
        return Some("it was made anew without a word".to_owned());
    }
    let found = outbox.history(100).unwrap().len() as u64;
    (found < kept).then(|| format!("{found} of {kept} events are there"))
}

/// Cuts everywhere; at most `most` disks are opened, spread evenly. Returns distinct disks, and what was wrong.
pub fn cut(engine: Engine, recording: &Recording, ops: &[Op], bounds: Bounds, most: usize) -> (usize, Vec<String>) {
    let (mut image, mut seen, mut wrong) = (recording.start.clone(), HashSet::new(), Vec::new());
    let (mut kept, mut epoch, mut left) = (0, None, Vec::new());
    for done in 0..=ops.len() {
        if let Some(op) = done.checked_sub(1).map(|n| &ops[n]) {
            image.apply(op).unwrap();
            if let Op::Mark(text) = op {
                match text.split_once(' ') {
                    Some(("kept", number)) => kept = number.parse().unwrap(),
                    Some(("epoch", number)) => epoch = number.parse().ok(),
                    _ => {}
                }
                // What was said since makes the same disk another case.
                seen.clear();
            }
        }
        for model in [Model::M1, Model::M2, Model::M3] {
            let _ = cuts(&image, model, bounds, &mut seen, &mut |state| {
                left.push((state, kept, epoch));
                ControlFlow::Continue(())
            });
        }
    }
    let distinct: HashSet<u64> = left.iter().map(|(state, ..)| state.digest()).collect();
    for (state, kept, epoch) in left.iter().step_by(left.len().div_ceil(most).max(1)) {
        wrong.extend(judge(engine, state, *kept, *epoch));
    }
    (distinct.len(), wrong)
}

/// What became of the same program without each one of its syncs.
#[derive(Debug, Default)]
pub struct Mutants {
    pub caught: usize,
    /// What was to be synced was durable already.
    pub idle: usize,
    /// The same is synced again before anything is said, and no disk until then breaks anything.
    pub covered: usize,
    /// The count of opens that did not end: a power cut may take one from it.
    pub counts: usize,
    pub missed: Vec<String>,
}

pub fn mutants(engine: Engine, recording: &Recording, bounds: Bounds, most: usize) -> Mutants {
    let mut found = Mutants::default();
    for (n, op) in recording.ops.iter().enumerate().filter(|(_, op)| op.is_sync()) {
        let said = said_without(recording, n);
        if said == Some(n) {
            found.idle += 1;
            continue;
        }
        let mut ops = recording.ops.clone();
        ops[n] = Op::Nothing;
        let (name, path) = op.shape();
        if !cut(engine, recording, &ops, bounds, most).1.is_empty() {
            found.caught += 1;
        } else if said.is_some() {
            found.covered += 1;
        } else if counts_opens(&recording.ops[..n], &path) {
            found.counts += 1;
        } else {
            found.missed.push(format!("{n}: {name} {}", path.display()));
        }
    }
    found
}

/// Whether this sync is of the count of opens, or of its name.
fn counts_opens(before: &[Op], path: &Path) -> bool {
    let renamed = before.last().is_some_and(|op| matches!(op, Op::Rename { to, .. } if to.ends_with("opening")));
    path.ends_with(".opening.new") || renamed
}

/// After which operation it no longer matters that the n-th was not done; `None` if something is said before that.
fn said_without(recording: &Recording, n: usize) -> Option<usize> {
    let (mut with, mut without) = (recording.start.clone(), recording.start.clone());
    for (m, op) in recording.ops.iter().enumerate() {
        with.apply(op).unwrap();
        if m != n {
            without.apply(op).unwrap();
        }
        if m >= n && with.is_as_durable_as(&without) {
            return Some(m);
        }
        if m > n && matches!(op, Op::Mark(_)) {
            return None;
        }
    }
    None
}

/// The same program without any sync.
pub fn unsynced(ops: &[Op]) -> Vec<Op> {
    ops.iter().map(|op| if op.is_sync() { Op::Nothing } else { op.clone() }).collect()
}
