//! Cuts a recording at every operation, in every way, and judges each disk that is left.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::cuts::{Bounds, Model, cuts};
use crate::image::{Image, Op, hash_of};
use crate::recovery::{self, Truth};

/// What was counted, and what was found.
#[derive(Debug, Default)]
pub struct Tally {
    pub ops: usize,
    /// Distinct disks by the model that made them first.
    pub states: BTreeMap<Model, usize>,
    /// Distinct disks that a second cut, during recovery, left of one app's records and links.
    pub twice: usize,
    /// What is wrong, each once.
    pub violations: BTreeSet<String>,
    /// Disks for real boots.
    pub sample: Vec<Image>,
}

impl Tally {
    pub fn distinct(&self) -> usize {
        self.states.values().sum::<usize>() + self.twice
    }
}

/// How thorough.
#[derive(Debug, Clone, Copy)]
pub struct Depth {
    pub bounds: Bounds,
    /// Of the disks of one cut every so manieth is cut again; 0 is none.
    pub again: usize,
    /// Every so manieth disk of M1 is kept for a real boot; 0 is none.
    pub boots: usize,
}

/// Files whose replacement must be old or new, and new before the world sees anything that follows from it.
fn is_key(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let whole = !name.starts_with('.') && !name.ends_with(".previous");
    let first = path.components().next().map(|part| part.as_os_str().to_owned()).unwrap_or_default();
    whole
        && match first.to_str() {
            Some("apps") => name == "state.json" || name == "current" || name == "manifest.json",
            Some("identity") => name.contains('.'),
            Some("trust") => Path::new(name).extension().is_some_and(|ending| ending == "json"),
            Some("node.json") => true,
            _ => false,
        }
}

/// What each key file held, and since which operation.
struct Timeline {
    held: BTreeMap<PathBuf, Vec<(usize, Option<u64>)>>,
    marks: Vec<usize>,
}

impl Timeline {
    fn of(start: &Image, ops: &[Op]) -> Self {
        let touched = ops.iter().map(|op| op.shape().1).chain(start.walk().into_iter().map(|(path, _)| path));
        let paths: BTreeSet<PathBuf> = touched.filter(|path| is_key(path)).collect();
        let mut image = start.clone();
        let mut held: BTreeMap<PathBuf, Vec<(usize, Option<u64>)>> =
            paths.into_iter().map(|path| (path.clone(), vec![(0, image.seen(&path))])).collect();
        let mut marks = vec![0];
        for (n, op) in ops.iter().enumerate() {
            image.apply(op).unwrap();
            if matches!(op, Op::Mark(_)) {
                marks.push(n + 1);
            }
            for (path, held) in &mut held {
                let seen = image.seen(path);
                if held.last().is_some_and(|(_, last)| *last != seen) {
                    held.push((n + 1, seen));
                }
            }
        }
        // Whoever asked for all this has heard that it is done.
        marks.push(ops.len());
        Self { held, marks }
    }

    /// What must not be on the disk when the power fails after `done` operations.
    fn judge(&self, image: &Image, done: usize, finished: bool) -> Vec<String> {
        let seen_by_world = self.marks.iter().filter(|mark| **mark < done || (finished && **mark <= done));
        let from = seen_by_world.max().copied().unwrap_or(0);
        let mut wrong = Vec::new();
        for (path, held) in &self.held {
            let later = held.iter().filter(|(n, _)| *n > from && *n <= done);
            let at_mark = held.iter().rev().find(|(n, _)| *n <= from);
            let found = image.seen(path);
            if !later.chain(at_mark).any(|(_, held)| *held == found) {
                let what = if found.is_some() { "holds what it did not hold" } else { "is not there" };
                wrong.push(format!("durable before effect: {} {what} when it had to", path.display()));
            }
        }
        wrong
    }
}

/// Parts of the disk that are read by parts of the agent, each of which reads no other.
const PARTS: [&[&str]; 3] = [&["identity"], &["trust"], &["apps"]];

/// Judges disks; the same part of a disk is judged once.
pub struct Judge<'a> {
    truth: &'a Truth,
    parts: HashMap<(usize, u64), Vec<String>>,
    apps: HashSet<u64>,
    twice: HashSet<u64>,
    count: usize,
}

impl<'a> Judge<'a> {
    pub fn new(truth: &'a Truth) -> Self {
        Self { truth, parts: HashMap::new(), apps: HashSet::new(), twice: HashSet::new(), count: 0 }
    }

    fn parts(&mut self, image: &Image) -> Vec<String> {
        let mut wrong = Vec::new();
        for (n, part) in PARTS.iter().enumerate() {
            if *part == ["trust"] && !self.truth.real_root {
                continue;
            }
            let key = (n, image.digest_of(Path::new(part[0])));
            let found = self.parts.entry(key).or_insert_with(|| recovery::violations(&image.only(part), false));
            wrong.extend(found.iter().cloned());
        }
        wrong
    }

    /// The agent starts, twice. `again`: and the power fails at each operation of the first of them.
    fn recovery(&mut self, image: &Image, again: Option<Bounds>) -> Vec<String> {
        if !self.apps.insert(image.digest_of(Path::new("apps"))) {
            return Vec::new();
        }
        self.count += 1;
        let image = image.only(&["apps"]);
        let first = recovery::start(&image, self.truth);
        let mut wrong = first.wrong;
        wrong.extend(recovery::violations(&first.image, true));
        let second = recovery::start(&first.image, self.truth);
        if settled_digest(&second.image) != settled_digest(&first.image) {
            wrong.push("I6: a second start changes what the first one left".to_owned());
        }
        if let Some(bounds) = again {
            wrong.extend(self.cut_again(&image, &first.ops, bounds));
        }
        wrong
    }

    fn cut_again(&mut self, image: &Image, ops: &[Op], bounds: Bounds) -> Vec<String> {
        let (mut image, mut wrong) = (image.clone(), Vec::new());
        let mut seen = std::mem::take(&mut self.twice);
        for n in 0..=ops.len() {
            if n > 0 {
                image.apply(&ops[n - 1]).unwrap();
            }
            cuts(&image, Model::M3, bounds, &mut seen, &mut |state, _| {
                let found = self.parts(&state).into_iter().chain(self.recovery(&state, None));
                wrong.extend(found.map(|wrong| format!("cut twice: {wrong}")));
            });
        }
        self.twice = seen;
        wrong
    }
}

/// What is on the disk but for previous copies: each start saves, and what it saved before is one save older.
fn settled_digest(image: &Image) -> u64 {
    let seen = image.walk().into_iter().filter(|(path, _)| path.extension().is_none_or(|ending| ending != "previous"));
    hash_of(&seen.map(|(path, _)| (image.seen(&path), path)).collect::<Vec<_>>())
}

/// Cuts after each of `ops`, which may be a mutant's; `meant` are those of the agent.
pub fn explore(start: &Image, ops: &[Op], meant: &[Op], truth: &Truth, depth: Depth) -> Tally {
    let mut tally = Tally { ops: ops.len(), ..Tally::default() };
    let timeline = Timeline::of(start, meant);
    let mut judge = Judge::new(truth);
    let (mut image, mut seen) = (start.clone(), HashSet::new());
    for done in 0..=ops.len() {
        if done > 0 && image.apply(&ops[done - 1]).is_err() {
            // Without what the mutant left out this cannot be done: it would have ended here.
            break;
        }
        let finished = done == ops.len();
        // A state that was met before must hold up again where the world has seen more of it since.
        if finished || (done > 0 && matches!(ops[done - 1], Op::Mark(_))) {
            cuts(&image, Model::M3, depth.bounds, &mut HashSet::new(), &mut |state, _| {
                tally.violations.extend(timeline.judge(&state, done, true));
            });
        }
        for model in [Model::M1, Model::M2, Model::M3] {
            cuts(&image, model, depth.bounds, &mut seen, &mut |state, _| {
                let count = tally.states.entry(model).or_default();
                *count += 1;
                if depth.boots > 0 && model == Model::M1 && (*count).is_multiple_of(depth.boots) {
                    tally.sample.push(state.clone());
                }
                tally.violations.extend(timeline.judge(&state, done, false));
                tally.violations.extend(judge.parts(&state));
                let again = depth.again > 0 && judge.count.is_multiple_of(depth.again);
                tally.violations.extend(judge.recovery(&state, again.then_some(depth.bounds)));
            });
        }
    }
    tally.twice = judge.twice.len();
    tally
}
