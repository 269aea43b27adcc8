//! Faults that the test must find: the agent without one of its syncs, or without one of its renames.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;
use std::path::Path;

use crate::cuts::{Bounds, Model, cuts};
use crate::image::{Image, Op};
use crate::judge::Judge;
use crate::timeline::{REFUSED, Timeline};

/// How a mutant ended.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// A disk that it leaves breaks this.
    Caught(String),
    /// What the agent does next cannot be done then.
    Stuck(String),
    /// What was to be synced was durable already, or what was put in place says the same as what lay there.
    Idle,
    /// The same is synced again before anything else is done.
    Repeated,
    /// The next sync of the same thing comes before the world sees any of it, and until then no disk breaks anything.
    Covered,
    /// Nobody waits for this to be durable, and it is whole or not there.
    Passing,
    /// What was removed may come back, without a seal, and is removed again by the next collection.
    Removed,
    /// No disk breaks anything; with what was done before it and after.
    Survived(String),
}

/// Whether the disks that are left of this are judged here; events are in `stores.rs`, and what an app writes is its own.
fn is_ours(path: &Path) -> bool {
    let of_an_app =
        path.components().nth(2).is_some_and(|part| part.as_os_str() == "logs" || part.as_os_str() == "data");
    !path.starts_with("store") && !of_an_app
}

fn is_candidate(ops: &[Op], n: usize) -> bool {
    let op = &ops[n];
    // The name of the store's directory.
    let made = ops[..n].iter().rev().find(|op| !matches!(op, Op::Mark(_) | Op::Chmod { .. }));
    let of_store = made.is_some_and(|made| matches!(made, Op::Mkdir { path, .. } if path.starts_with("store")));
    (op.is_sync() || matches!(op, Op::Rename { .. })) && is_ours(&op.shape().1) && !of_store
}

/// Every mutant of this recording with its fate, by the operation that it lacks.
pub fn mutants(start: &Image, ops: &[Op], judge: &mut Judge, bounds: Bounds) -> BTreeMap<(usize, String), Fate> {
    let timeline = Timeline::of(start, ops);
    let mut image = start.clone();
    let mut fates = BTreeMap::new();
    for (n, op) in ops.iter().enumerate() {
        if is_candidate(ops, n) {
            let fate = fate(&image, (ops, n), &timeline, judge, bounds);
            let (name, path) = op.shape();
            let fate = if matches!(fate, Fate::Survived(_)) { harmless(&image, ops, n).unwrap_or(fate) } else { fate };
            fates.insert((n, format!("{name} {}", path.display())), fate);
        }
        image.apply(op).unwrap();
    }
    fates
}

/// Why it does not matter that this is missing, where that can be seen.
fn harmless(image: &Image, ops: &[Op], n: usize) -> Option<Fate> {
    let (op, path) = (ops.get(n)?, ops.get(n)?.shape().1);
    let after = ops.get(n + 1..)?.iter().find(|other| other.is_sync() || !matches!(other, Op::Mark(_)));
    if after == Some(op) {
        return Some(Fate::Repeated);
    }
    if matches!(op, Op::Rename { from, to } if image.seen(from) == image.seen(to)) {
        return Some(Fate::Idle);
    }
    // Others may have worked elsewhere meanwhile.
    let before = ops.get(..n)?.iter().rev().find(|other| other.shape().1.parent() == Some(&path))?;
    match (op, before) {
        (Op::SyncDir { .. }, Op::Rename { to, .. }) if image.seen(to) == image.seen_if_cut(to) => Some(Fate::Idle),
        (Op::SyncDir { .. }, Op::Rename { to, .. }) if to.ends_with(REFUSED) => Some(Fate::Passing),
        (Op::SyncDir { .. }, Op::Remove { .. }) if path.ends_with("releases") => Some(Fate::Removed),
        _ => None,
    }
}

fn fate(before: &Image, (ops, n): (&[Op], usize), timeline: &Timeline, judge: &mut Judge, bounds: Bounds) -> Fate {
    let (mut mutant, mut agent) = (before.clone(), before.clone());
    agent.apply(&ops[n]).unwrap();
    if agent.is_as_durable_as(&mutant) {
        return Fate::Idle;
    }
    let (mut seen, mut seen_of) = (HashSet::new(), false);
    let (_, path) = ops[n].shape();
    for done in n + 1..=ops.len() {
        if done > n + 1 {
            if let Err(error) = mutant.apply(&ops[done - 1]) {
                return Fate::Stuck(error);
            }
            agent.apply(&ops[done - 1]).unwrap();
        }
        if agent.is_as_durable_as(&mutant) {
            return if seen_of { Fate::Survived(around(ops, n)) } else { Fate::Covered };
        }
        seen_of |= timeline.is_seen_of(done, &path);
        let told = timeline.is_seen(done);
        if told {
            seen.clear();
        }
        let mut found = None;
        let _ = cuts(&mutant, Model::M3, bounds, &mut seen, &mut |state| {
            let late = timeline.judge(&state, done, told);
            found = late.into_iter().chain(judge.judge(&state, None)).next();
            if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if let Some(found) = found {
            return Fate::Caught(found);
        }
    }
    Fate::Survived(around(ops, n))
}

fn around(ops: &[Op], n: usize) -> String {
    let words = |op: &Op| format!("{} {}", op.shape().0, op.shape().1.display());
    let near = &ops[n.saturating_sub(3)..ops.len().min(n + 8)];
    near.iter().map(words).collect::<Vec<_>>().join("; ")
}
