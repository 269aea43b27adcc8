//! The trusted metadata: a chain of roots without a gap, and nothing older than what was trusted before.

use std::path::PathBuf;

use orangery_trust::{Role, Stored, TrustedSet, Versions};
use serde::{Deserialize, Serialize};

use super::Findings;
use crate::disk::Disk;
use crate::record::{self, Formatted, Reader};

/// The highest versions ever trusted, as they lie beside the metadata.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Floor {
    pub(super) format: u32,
    pub(super) timestamp: u64,
    pub(super) snapshot: u64,
    pub(super) targets: u64,
}

impl Formatted for Floor {
    const READERS: &'static [Reader<Self>] = &[Reader::json(record::FORMAT)];
}

pub(super) fn check(found: &mut Findings<'_>) {
    let Some(roots) = roots(found) else { return };
    let [timestamps, snapshots, mut targets] =
        [Role::Timestamp, Role::Snapshot, Role::Targets].map(|role| copies(found, role));
    let targets = targets.swap_remove(0);
    let pairs = timestamps.iter().flat_map(|timestamp| snapshots.iter().map(move |snapshot| (timestamp, snapshot)));
    let mut refusals = Vec::new();
    for (timestamp, snapshot) in pairs {
        let (timestamp, snapshot, targets) = (timestamp.clone(), snapshot.clone(), targets.clone());
        match TrustedSet::load(&Stored { roots: roots.clone(), timestamp, snapshot, targets }) {
            // Previous copies may be older than the floor; the agent knows, and believes nothing of them.
            Ok(set) if refusals.is_empty() => return check_floor(found, &set.versions()),
            Ok(_) => return,
            Err(refusal) => refusals.push(refusal),
        }
    }
    if let Some(refusal) = refusals.first() {
        let directory = found.layout.trust();
        found.add("I8", &directory, format!("what was trusted does not verify any more: {refusal}"));
    }
}

/// All roots in ascending versions; `None` if there is nothing to check, or nothing more.
fn roots(found: &mut Findings<'_>) -> Option<Vec<Vec<u8>>> {
    let directory = found.layout.trust();
    let names = found.disk.list(&directory).unwrap_or_default();
    let version = |name: &std::ffi::OsString| name.to_str()?.strip_suffix(".root.json")?.parse::<u64>().ok();
    let mut versions: Vec<u64> = names.iter().filter_map(version).collect();
    versions.sort_unstable();
    let gap = versions.windows(2).any(|pair| matches!(pair, [one, next] if one + 1 != *next));
    found.ensure(!gap, "I8", &directory, || format!("the chain of roots has a gap: {versions:?}"));
    let mut roots = Vec::new();
    for version in versions {
        let path = directory.join(format!("{version}.root.json"));
        match read(found.disk, &path, Role::Root) {
            Some(bytes) => roots.push(bytes),
            None => found.add("I8", &path, "it cannot be read"),
        }
    }
    (!gap && !roots.is_empty()).then_some(roots)
}

/// A file and its previous copy, the better one first. Never empty.
fn copies(found: &Findings<'_>, role: Role) -> Vec<Option<Vec<u8>>> {
    let file = found.layout.trust().join(format!("{role}.json"));
    let files: [PathBuf; 2] = [file.clone(), record::previous(&file)];
    let copies: Vec<_> = files.iter().filter_map(|file| read(found.disk, file, role)).map(Some).collect();
    if copies.is_empty() { vec![None] } else { copies }
}

fn read(disk: &dyn Disk, path: &std::path::Path, role: Role) -> Option<Vec<u8>> {
    disk.read(path, usize::try_from(role.length_max()).unwrap_or(usize::MAX)).ok()
}

/// The floor follows the files, so what is in them is never below it.
fn check_floor(found: &mut Findings<'_>, versions: &Versions) {
    let path = found.layout.trust().join("floor.json");
    let (floor, _, trouble) = record::load_kept::<Floor>(found.disk, &path);
    let Some(floor) = floor else {
        return found
            .ensure(trouble.is_none(), "I8", &path, || "neither it nor its previous copy can be read".to_owned());
    };
    for (role, is, least) in [
        (Role::Timestamp, versions.timestamp, floor.timestamp),
        (Role::Snapshot, versions.snapshot, floor.snapshot),
        (Role::Targets, versions.targets, floor.targets),
    ] {
        let older = is > 0 && is < least;
        found.ensure(!older, "I8", &path, || format!("{role} is of version {is}, after version {least} was trusted"));
    }
}
