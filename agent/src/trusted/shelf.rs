//! The directory of trusted metadata.
//!
//! | file | what |
//! | --- | --- |
//! | `N.root.json` | every root that was ever trusted here, from enrolment on |
//! | `root.json` | a copy of the newest |
//! | `timestamp.json`, `snapshot.json`, `targets.json` | as served, each with `.previous` |
//! | `delegated/ROLE.json` | of roles that targets are delegated to, as served, each with `.previous` |
//! | `floor.json` | the highest versions, with a checksum and `.previous` |

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use orangery_trust::repository::verify_root;
use orangery_trust::{Keep, Role, Stored, TrustedSet, Versions};
use serde::{Deserialize, Serialize};

use super::{Known, TrustedError, set_version, version_of};
use crate::disk::{self, Disk};
use crate::record::{self, Formatted, Reader, load_kept, save_kept};

const FILE_MODE: u32 = 0o644;
pub(super) const DIR_MODE: u32 = 0o755;

/// Roles whose files have a previous copy.
const COPIED: [Role; 3] = [Role::Timestamp, Role::Snapshot, Role::Targets];

/// The directory of trusted metadata.
#[derive(Debug, Clone)]
pub(super) struct Shelf {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
}

/// The floor as it is written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Floor {
    format: u32,
    root: u64,
    timestamp: u64,
    snapshot: u64,
    targets: u64,
}

impl Formatted for Floor {
    const READERS: &'static [Reader<Self>] = &[Reader::json(record::FORMAT)];
}

/// A file and its previous copy, as far as they can be read.
struct Copies {
    /// Whether there is or was anything.
    trace: bool,
    primary: Option<Vec<u8>>,
    previous: Option<Vec<u8>>,
}

impl Copies {
    /// From the best to the worst; in the end nothing. The flag says whether it is the file itself, or the lack of any.
    fn choices(&self) -> impl Iterator<Item = (Option<&Vec<u8>>, bool)> {
        let files = [(self.primary.as_ref(), true), (self.previous.as_ref(), false)];
        files.into_iter().filter(|(bytes, _)| bytes.is_some()).chain([(None, !self.trace)])
    }
}

impl Shelf {
    pub(super) fn new(disk: Arc<dyn Disk>, dir: PathBuf) -> Self {
        Self { disk, dir }
    }

    /// Where it is, for messages.
    pub(super) fn place(&self) -> String {
        self.dir.display().to_string()
    }

    /// What can still be trusted of what is there.
    pub(super) fn load(&self) -> Result<Known, TrustedError> {
        let dir = || self.dir.clone();
        let roots = self.roots();
        if roots.is_empty() {
            let trace = self.root_files().next().is_some();
            return Err(if trace {
                TrustedError::RootsDamaged { dir: dir() }
            } else {
                TrustedError::NoRoot { dir: dir() }
            });
        }
        let copies = COPIED.map(|role| self.copies(role));
        let (set, sound) = best(roots, &copies).ok_or_else(|| TrustedError::RootsDamaged { dir: dir() })?;
        let (floor, _, trouble) = load_kept::<Floor>(&*self.disk, &self.floor());
        let trace = trouble.is_some() || copies.iter().any(|copies| copies.trace);
        // Without a floor the files themselves say how new they are, if each of them is whole.
        let whole = sound && copies.iter().all(|copies| copies.primary.is_some());
        if floor.is_none() && trace && !whole {
            return Err(TrustedError::FloorLost { dir: dir() });
        }
        let saved = floor.map(|Floor { root, timestamp, snapshot, targets, .. }| Versions {
            root,
            timestamp,
            snapshot,
            targets,
        });
        let mut versions = set.versions();
        if versions.snapshot == 0 {
            // Keys of snapshot or timestamp were rotated, and with them the floor of targets was taken back. What is left
            // of the targets must not raise it again.
            versions.targets = 0;
        }
        let floor = higher(&saved.unwrap_or_default(), &versions);
        Ok(Known { floor, floor_saved: saved == Some(floor), set })
    }

    /// Makes what was accepted durable, then removes what must be forgotten with it.
    pub(super) fn keep(&self, keep: &Keep) -> io::Result<()> {
        let disk = &*self.disk;
        disk::make_dir(disk, &self.dir, DIR_MODE)?;
        if keep.role == Role::Root {
            disk::replace(disk, &self.dir.join(format!("{}.root.json", keep.version)), &keep.bytes, FILE_MODE)?;
            disk::replace(disk, &self.dir.join("root.json"), &keep.bytes, FILE_MODE)?;
        } else {
            self.replace_and_keep(&self.file(keep.role), &keep.bytes)?;
        }
        for role in &keep.forget {
            let file = self.file(*role);
            disk::remove(disk, &record::previous(&file))?;
            disk::remove(disk, &file)?;
        }
        Ok(())
    }

    /// Makes the floor durable.
    pub(super) fn save_floor(&self, versions: &Versions) -> io::Result<()> {
        let Versions { root, timestamp, snapshot, targets } = *versions;
        let floor = Floor { format: record::FORMAT, root, timestamp, snapshot, targets };
        save_kept(&*self.disk, &self.floor(), &floor)
    }

    /// The previous copy is a second name of the old file, so that nothing is written twice.
    pub(super) fn replace_and_keep(&self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        let disk = &*self.disk;
        disk::prepare(disk, file, bytes, FILE_MODE)?;
        if disk.exists(file) {
            let previous = record::previous(file);
            match disk.remove_file(&previous) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => disk.hard_link(file, &previous)?,
            }
        }
        disk::put_in_place(disk, file)
    }

    fn file(&self, role: Role) -> PathBuf {
        self.dir.join(format!("{role}.json"))
    }

    fn floor(&self) -> PathBuf {
        self.dir.join("floor.json")
    }

    fn copies(&self, role: Role) -> Copies {
        let file = self.file(role);
        let previous = record::previous(&file);
        let max = usize::try_from(role.length_max()).unwrap_or(usize::MAX);
        let read = |path| self.disk.read(path, max).ok();
        let trace = self.disk.exists(&file) || self.disk.exists(&previous);
        Copies { trace, primary: read(&file), previous: read(&previous) }
    }

    fn root_files(&self) -> impl Iterator<Item = PathBuf> {
        let names = self.disk.list(&self.dir).unwrap_or_default();
        let roots = names.into_iter().filter(|name| {
            name.to_str()
                .is_some_and(|name| !name.starts_with('.') && (name == "root.json" || name.ends_with(".root.json")))
        });
        roots.map(|name| self.dir.join(name))
    }

    /// The longest chain without a gap or a damaged link that ends in the newest root, in ascending versions.
    fn roots(&self) -> Vec<Vec<u8>> {
        let max = usize::try_from(Role::Root.length_max()).unwrap_or(usize::MAX);
        let mut by_version = BTreeMap::new();
        for file in self.root_files() {
            if let Ok(bytes) = self.disk.read(&file, max)
                && let Ok(root) = verify_root(&bytes)
            {
                by_version.insert(root.version, bytes);
            }
        }
        let mut chain: Vec<Vec<u8>> = Vec::new();
        for bytes in by_version.into_values().rev() {
            if chain.last().is_some_and(|newer| !follows(&bytes, newer)) {
                break;
            }
            chain.push(bytes);
        }
        chain.reverse();
        chain
    }
}

/// Whether a node that trusts `older` would accept `newer` as the next root.
fn follows(older: &[u8], newer: &[u8]) -> bool {
    let roots = vec![older.to_vec(), newer.to_vec()];
    TrustedSet::load(&Stored { roots, ..Stored::default() }).is_ok()
}

/// The best of the copies that fit together, and whether no file had to be replaced by its previous copy or left out.
fn best(roots: Vec<Vec<u8>>, [timestamps, snapshots, targets]: &[Copies; 3]) -> Option<(TrustedSet, bool)> {
    let mut stored = Stored { roots, ..Stored::default() };
    for (timestamp, first) in timestamps.choices() {
        for (snapshot, second) in snapshots.choices() {
            stored.timestamp = timestamp.cloned();
            stored.snapshot = snapshot.cloned();
            if TrustedSet::load(&stored).is_ok() {
                let (set, third) = with_targets(stored, targets)?;
                return Some((set, first && second && third));
            }
        }
    }
    None
}

/// Targets that do not fit are left out by the rules; the previous ones may fit.
fn with_targets(mut stored: Stored, targets: &Copies) -> Option<(TrustedSet, bool)> {
    for (bytes, sound) in targets.choices() {
        stored.targets = bytes.cloned();
        let set = TrustedSet::load(&stored).ok()?;
        if set.versions().targets > 0 || bytes.is_none() {
            return Some((set, sound));
        }
    }
    None
}

/// For each role the higher of two versions.
fn higher(one: &Versions, other: &Versions) -> Versions {
    let mut higher = *one;
    for role in Role::ALL {
        set_version(&mut higher, role, version_of(one, role).max(version_of(other, role)));
    }
    higher
}
