//! What is on the disk, what of it is durable, and what a cut makes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::random::Random;

/// What files are counted in.
const BLOCK_BYTES: u64 = 4_096;

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) files: BTreeMap<u64, Content>,
    /// By their paths, as texts: comparing those is quick.
    pub(super) dirs: BTreeMap<OsString, Dir>,
    pub(super) next: u64,
    pub(super) calls: u64,
    /// Nothing is done any more: the agent or the node is down.
    pub(super) off: bool,
    /// Calls until it goes down.
    pub(super) until_off: Option<u64>,
    pub(super) free_bytes: u64,
    /// A planted fault: syncs do nothing and say that they did.
    pub(super) syncs_nothing: bool,
    /// A planted fault: a record takes its place only when the next step begins.
    pub(super) renames_late: bool,
    pub(super) late: Option<(PathBuf, PathBuf)>,
}

#[derive(Debug, Clone)]
pub(super) struct Content {
    pub(super) bytes: Vec<u8>,
    /// What a cut may leave, if it was not synced since.
    pub(super) before: Option<Vec<u8>>,
    pub(super) names: u32,
}

#[derive(Debug, Default)]
pub(super) struct Dir {
    pub(super) names: BTreeMap<OsString, Entry>,
    /// Changes that were not synced: the name, what it was, what it is.
    pub(super) changes: Vec<(OsString, Option<Entry>, Option<Entry>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    File(u64),
    Link(PathBuf),
    Dir,
}

pub(super) fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

pub(super) fn blocks(bytes: &[u8]) -> u64 {
    (bytes.len() as u64).div_ceil(BLOCK_BYTES) * BLOCK_BYTES
}

impl State {
    /// Counts a call that changes something; from the one that was chosen on, all fail.
    pub(super) fn call(&mut self) -> io::Result<()> {
        if let Some(left) = &mut self.until_off {
            *left = left.saturating_sub(1);
            self.off |= *left == 0;
        }
        if self.off {
            return Err(io::Error::other("the node is down"));
        }
        self.calls += 1;
        Ok(())
    }

    pub(super) fn dir(&self, path: &Path) -> io::Result<&Dir> {
        self.dirs.get(path.as_os_str()).ok_or_else(missing)
    }

    pub(super) fn entry(&self, path: &Path) -> io::Result<&Entry> {
        let (dir, name) = place(path)?;
        self.dir(dir)?.names.get(name).ok_or_else(missing)
    }

    pub(super) fn content(&self, path: &Path) -> io::Result<(u64, &Content)> {
        match self.entry(path)? {
            Entry::File(number) => self.files.get(number).map(|content| (*number, content)).ok_or_else(missing),
            Entry::Link(_) | Entry::Dir => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    pub(super) fn set(&mut self, path: &Path, after: Option<Entry>) -> io::Result<()> {
        let (dir, name) = place(path)?;
        let dir = self.dirs.get_mut(dir.as_os_str()).ok_or_else(missing)?;
        let before = match &after {
            Some(entry) => dir.names.insert(name.to_owned(), entry.clone()),
            None => dir.names.remove(name),
        };
        if let Some(Entry::File(number)) = &after {
            self.files.entry(*number).and_modify(|content| content.names += 1);
        }
        if let Some(Entry::File(number)) = &before {
            self.files.entry(*number).and_modify(|content| content.names -= 1);
        }
        dir.changes.push((name.to_owned(), before, after));
        Ok(())
    }

    pub(super) fn put(&mut self, path: &Path, bytes: Vec<u8>) -> io::Result<()> {
        let size = blocks(&bytes);
        let old = self.content(path).map_or(0, |(_, content)| blocks(&content.bytes));
        if size > self.free_bytes + old {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let known = self.content(path).map(|(number, _)| number);
        if let Ok(number) = known {
            if let Some(content) = self.files.get_mut(&number) {
                let before = std::mem::replace(&mut content.bytes, bytes);
                content.before.get_or_insert(before);
            }
        } else {
            if self.entry(path).is_ok() {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            self.next += 1;
            self.files.insert(self.next, Content { bytes, before: Some(Vec::new()), names: 0 });
            let number = self.next;
            self.set(path, Some(Entry::File(number)))?;
        }
        self.free_bytes = self.free_bytes + old - size;
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let entry = self.entry(from)?.clone();
        if entry == Entry::Dir {
            return Err(io::ErrorKind::Unsupported.into());
        }
        if self.entry(to).is_ok_and(|there| *there == entry) {
            return Ok(());
        }
        self.set(to, Some(entry))?;
        self.set(from, None)
    }

    /// Files that no name leads to are gone, and so are those that a sync has made unreachable for good.
    pub(super) fn sweep(&mut self) {
        let held: BTreeSet<u64> = self
            .dirs
            .values()
            .flat_map(|dir| dir.changes.iter().filter_map(|(_, before, _)| before.as_ref()))
            .filter_map(|entry| if let Entry::File(number) = entry { Some(*number) } else { None })
            .collect();
        let gone: Vec<u64> = self
            .files
            .iter()
            .filter(|(number, content)| content.names == 0 && !held.contains(number))
            .map(|(number, _)| *number)
            .collect();
        for number in gone {
            self.free_bytes += self.files.remove(&number).map_or(0, |content| blocks(&content.bytes));
        }
    }

    pub(super) fn cut(&mut self, random: &mut Random) {
        self.late = None;
        let in_order = random.percent(50);
        for dir in self.dirs.values_mut() {
            dir.cut(in_order, random);
        }
        let all: Vec<OsString> = self.dirs.iter().flat_map(|(path, dir)| dir.inner(Path::new(path))).collect();
        for path in all {
            self.dirs.entry(path).or_default();
        }
        let lost: Vec<OsString> = self.dirs.keys().filter(|path| !self.leads_to(Path::new(path))).cloned().collect();
        for path in lost {
            self.dirs.remove(&path);
        }
        self.count_names();
        for content in self.files.values_mut() {
            let size = blocks(&content.bytes);
            content.cut(random);
            self.free_bytes = self.free_bytes + size - blocks(&content.bytes).min(size);
        }
        self.sweep();
    }

    pub(super) fn leads_to(&self, path: &Path) -> bool {
        place(path).is_err()
            || path.ancestors().all(|path| place(path).is_err() || matches!(self.entry(path), Ok(Entry::Dir)))
    }

    pub(super) fn count_names(&mut self) {
        self.files.values_mut().for_each(|content| content.names = 0);
        for entry in self.dirs.values().flat_map(|dir| dir.names.values()) {
            if let Entry::File(number) = entry {
                self.files.entry(*number).and_modify(|content| content.names += 1);
            }
        }
    }
}

impl Dir {
    /// The directories in it; one whose removal was undone is empty.
    fn inner(&self, path: &Path) -> Vec<OsString> {
        let dirs = self.names.iter().filter(|(_, entry)| **entry == Entry::Dir);
        dirs.map(|(name, _)| path.join(name).into_os_string()).collect()
    }

    /// Some of the changes are undone: those after a moment, or any.
    pub(super) fn cut(&mut self, in_order: bool, random: &mut Random) {
        let changes = std::mem::take(&mut self.changes);
        for (name, before, _) in changes.iter().rev() {
            put_name(&mut self.names, name, before.clone());
        }
        let moment = random.below(changes.len() as u64 + 1);
        for (n, (name, _, after)) in changes.iter().enumerate() {
            let kept = if in_order { (n as u64) < moment } else { random.percent(50) };
            if kept {
                put_name(&mut self.names, name, after.clone());
            }
        }
    }
}

impl Content {
    pub(super) fn cut(&mut self, random: &mut Random) {
        let Some(before) = self.before.take() else { return };
        match random.below(4) {
            0 => self.bytes = before,
            1 => self.bytes.truncate(self.bytes.len() / 2),
            2 => self.bytes.iter_mut().for_each(|byte| *byte = 0),
            _ => {}
        }
    }
}

pub(super) fn put_name(names: &mut BTreeMap<OsString, Entry>, name: &OsStr, entry: Option<Entry>) {
    match entry {
        Some(entry) => drop(names.insert(name.to_owned(), entry)),
        None => drop(names.remove(name)),
    }
}

/// Directory and name of a path. All paths here are absolute and plain, so its text can be cut at the last slash.
pub(super) fn place(path: &Path) -> io::Result<(&Path, &OsStr)> {
    let text = path.as_os_str().as_bytes();
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    let slash = text.iter().rposition(|byte| *byte == b'/').ok_or_else(invalid)?;
    let (dir, name) = (&text[..slash.max(1)], &text[slash + 1..]);
    if name.is_empty() { Err(invalid()) } else { Ok((Path::new(OsStr::from_bytes(dir)), OsStr::from_bytes(name))) }
}
