//! Whether the invariants of the state directory are kept, as far as the disk can tell. Reads only.
//!
//! It shares the readers of records and metadata with the agent, and nothing else: what makes a release, a link or a file is
//! judged here anew, from the manifest and `docs/disk.md`.

mod apps;
mod identity;
mod release;
mod trust;

#[cfg(test)]
mod tests;

use std::fmt;

use serde::Serialize;

use crate::disk::Disk;
use crate::layout::Layout;

/// An invariant that is not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Its number; `docs/disk.md` says what it promises:
    /// I1 current is whole and signed, I2 what a reboot starts is there, I3 nothing unsealed is run, I5 records can be read and
    /// agree with themselves, I8 trusted metadata is whole and never older than it was, I9 the key is there and private,
    /// I11 tries are counted, I12 disk use is bounded.
    pub invariant: &'static str,
    /// The file or directory, relative to the state directory.
    pub subject: String,
    /// What is wrong with it.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.invariant, self.subject, self.text)
    }
}

/// Everything that is wrong with the state directory. Nothing may be, whenever the agent or the node went down.
pub fn check(disk: &dyn Disk, layout: &Layout) -> Vec<Violation> {
    let mut found = Findings::new(disk, layout);
    identity::check(&mut found);
    trust::check(&mut found);
    apps::check(&mut found);
    found.violations
}

/// As [`check`], and what must hold besides once the agent has come to rest: nothing is under way, the `current` link has
/// followed the record, and nothing that was being written is left.
pub fn check_at_rest(disk: &dyn Disk, layout: &Layout) -> Vec<Violation> {
    let mut found = Findings::new(disk, layout);
    identity::check(&mut found);
    trust::check(&mut found);
    apps::check(&mut found);
    apps::check_rest(&mut found);
    found.violations
}

/// The disk that is judged, and what was found.
struct Findings<'a> {
    disk: &'a dyn Disk,
    layout: &'a Layout,
    violations: Vec<Violation>,
}

impl<'a> Findings<'a> {
    fn new(disk: &'a dyn Disk, layout: &'a Layout) -> Self {
        Self { disk, layout, violations: Vec::new() }
    }

    /// Notes that `path` breaks an invariant.
    fn add(&mut self, invariant: &'static str, path: &std::path::Path, text: impl Into<String>) {
        let subject = path.strip_prefix(self.layout.root()).unwrap_or(path);
        let subject = subject.to_string_lossy().into_owned();
        self.violations.push(Violation { invariant, subject, text: text.into() });
    }

    /// Notes it unless `holds`.
    fn ensure(&mut self, holds: bool, invariant: &'static str, path: &std::path::Path, text: impl FnOnce() -> String) {
        if !holds {
            self.add(invariant, path, text());
        }
    }
}
