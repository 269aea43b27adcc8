//! Cuts a recording at every operation, in every way, and has each disk that is left judged.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::ControlFlow;

use crate::cuts::{Bounds, Model, cuts};
use crate::image::{Image, Op};
use crate::judge::Judge;
use crate::timeline::Timeline;

/// What was counted, and what was found.
#[derive(Debug, Default)]
pub struct Tally {
    pub ops: usize,
    /// Distinct disks by the model that made them first.
    pub states: BTreeMap<Model, usize>,
    /// What is wrong, each once.
    pub violations: BTreeSet<String>,
    /// Disks for real boots.
    pub sample: Vec<Image>,
    seen: HashSet<u64>,
}

impl Tally {
    pub fn distinct(&self) -> usize {
        self.states.values().sum()
    }
}

/// How thorough.
#[derive(Debug, Clone, Copy)]
pub struct Depth {
    pub bounds: Bounds,
    /// The start of every so manieth disk is cut again.
    pub again: usize,
    /// Every so manieth disk of M1 is kept for a real boot.
    pub boots: usize,
    /// Whether every scenario is also tried without each of its syncs and renames.
    pub mutants: bool,
}

/// Cuts after each of `ops`.
pub fn explore(start: &Image, ops: &[Op], judge: &mut Judge, depth: Depth, tally: &mut Tally) {
    tally.ops += ops.len();
    let timeline = Timeline::of(start, ops);
    let mut image = start.clone();
    let mut seen = std::mem::take(&mut tally.seen);
    for done in 0..=ops.len() {
        if done > 0 {
            image.apply(&ops[done - 1]).unwrap();
        }
        // A state that was met before must hold up again where the world has seen more of it since.
        if timeline.is_seen(done) {
            let _ = cuts(&image, Model::M3, depth.bounds, &mut HashSet::new(), &mut |state| {
                tally.violations.extend(timeline.judge(&state, done, true));
                ControlFlow::Continue(())
            });
        }
        for model in [Model::M1, Model::M2, Model::M3] {
            let _ = cuts(&image, model, depth.bounds, &mut seen, &mut |state| {
                let count = tally.states.entry(model).or_default();
                *count += 1;
                if model == Model::M1 && (*count).is_multiple_of(depth.boots) {
                    tally.sample.push(state.clone());
                }
                tally.violations.extend(timeline.judge(&state, done, false));
                tally.violations.extend(judge.judge(&state, Some((depth.again, depth.bounds))));
                ControlFlow::Continue(())
            });
        }
    }
    tally.seen = seen;
}
