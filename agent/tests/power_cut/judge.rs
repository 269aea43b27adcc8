//! Judges disks that a power cut left.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use orangery_wire::ReleaseId;

use crate::cuts::{Bounds, Model, cuts};
use crate::disk::ImageDisk;
use crate::image::{Image, Op, hash_of};
use crate::recovery::{self, Truth};

/// Parts of the disk that are read by parts of the agent, each of which reads no other.
const PARTS: [&str; 3] = ["identity", "trust", "apps"];
/// What decides which releases run.
const DECIDING: [&str; 2] = ["apps", "units"];

/// Judges disks; the same part of a disk is judged once.
pub struct Judge {
    pub truth: Arc<Truth>,
    trees: HashMap<ReleaseId, u64>,
    parts: HashMap<(usize, u64), Vec<String>>,
    starts: HashMap<u64, Vec<String>>,
    rests: HashMap<u64, Vec<String>>,
    twice: HashSet<u64>,
}

impl Judge {
    pub fn new(truth: &Arc<Truth>) -> Self {
        let (truth, trees) = (truth.clone(), truth.trees());
        Self {
            truth,
            trees,
            parts: HashMap::new(),
            starts: HashMap::new(),
            rests: HashMap::new(),
            twice: HashSet::new(),
        }
    }

    /// Distinct disks on which the agent was started, which a cut of an earlier start left.
    pub fn twice(&self) -> usize {
        self.twice.len()
    }

    /// Distinct disks, as far as they decide what runs, on which the agent was started.
    pub fn starts(&self) -> usize {
        self.starts.len()
    }

    /// All that is wrong with this disk. `again`: of every so manieth disk the first start is cut too.
    pub fn judge(&mut self, image: &Image, again: Option<(usize, Bounds)>) -> Vec<String> {
        let mut wrong = self.parts(image);
        wrong.extend(self.start(image, again));
        wrong
    }

    fn parts(&mut self, image: &Image) -> Vec<String> {
        let mut wrong = Vec::new();
        for (n, part) in PARTS.iter().enumerate() {
            if *part == "trust" && !self.truth.real_root {
                continue;
            }
            let key = (n, image.digest_of(Path::new(part)));
            let found = self.parts.entry(key).or_insert_with(|| {
                let image = image.only(&[part]);
                let mut found = recovery::violations(&image, false);
                if *part == "trust" {
                    found.extend(recovery::floor_behind(&image));
                }
                if *part == "apps" {
                    found.extend(recovery::torn_releases(&image, &self.trees));
                }
                found
            });
            wrong.extend(found.iter().cloned());
        }
        wrong
    }

    /// The agent starts without a network.
    fn start(&mut self, image: &Image, again: Option<(usize, Bounds)>) -> Vec<String> {
        let digest = hash_of(&DECIDING.map(|part| image.digest_of(Path::new(part))));
        if let Some(known) = self.starts.get(&digest) {
            return known.clone();
        }
        let image = image.only(&DECIDING);
        let first = recovery::start(&image, &self.truth);
        let mut wrong = first.wrong;
        wrong.extend(self.rest(&first.image));
        self.starts.insert(digest, wrong.clone());
        if let Some((_, bounds)) = again.filter(|(every, _)| self.starts.len().is_multiple_of(*every)) {
            wrong.extend(self.cut_again(&image, &first.ops, bounds));
        }
        wrong
    }

    /// Nothing is left to do; the agent starts a second time, and then has a coordinator.
    fn rest(&mut self, image: &Image) -> Vec<String> {
        let digest = settled_digest(image);
        if let Some(known) = self.rests.get(&digest) {
            return known.clone();
        }
        let mut wrong = recovery::violations_offline(image);
        let second = recovery::start(image, &self.truth);
        if settled_digest(&second.image) != digest {
            wrong.push("I6: a second start changes what the first one left".to_owned());
        }
        let next = &self.truth.next;
        let deployed = recovery::deploys(ImageDisk::new(image.clone()), &self.truth, next, recovery::NEWEST);
        wrong.extend(recovery::violations(&deployed.image, true));
        wrong.extend(recovery::wrong_deployment(&deployed, next));
        wrong.extend(second.wrong.into_iter().chain(deployed.wrong));
        self.rests.insert(digest, wrong.clone());
        wrong
    }

    fn cut_again(&mut self, image: &Image, ops: &[Op], bounds: Bounds) -> Vec<String> {
        let (mut image, mut wrong) = (image.clone(), Vec::new());
        let mut seen = std::mem::take(&mut self.twice);
        for n in 0..=ops.len() {
            if n > 0 {
                image.apply(&ops[n - 1]).unwrap();
            }
            let _ = cuts(&image, Model::M3, bounds, &mut seen, &mut |state| {
                wrong.extend(self.judge(&state, None).into_iter().map(|wrong| format!("cut twice: {wrong}")));
                ControlFlow::Continue(())
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
