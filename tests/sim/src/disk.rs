//! A node's disk: small, in memory, and as forgetful as the worst real one that is mounted with barriers.
//!
//! At a power cut any of the names that were changed in a directory since its last sync is as before or as after, and a file
//! that was not synced has its last synced content, its new one, half of it, or zeros of its length. A killed agent
//! loses nothing, but goes no further: from that call on, every call fails until somebody starts it again.

mod state;

use std::ffi::{OsStr, OsString};
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use orangery_agent::disk::{Disk, Kind, Stat};

use state::{Dir, Entry, State, missing, place};

use crate::random::Random;

/// The disk. Calls that change something are numbered.
#[derive(Debug)]
pub struct SimDisk(Mutex<State>);

impl SimDisk {
    /// An empty disk with a root, and so much room.
    pub fn new(size_bytes: u64) -> Arc<Self> {
        let mut state = State { free_bytes: size_bytes, ..State::default() };
        state.dirs.insert(OsString::from("/"), Dir::default());
        Arc::new(Self(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plants faults.
    pub fn plant(&self, syncs_nothing: bool, renames_late: bool) {
        let mut state = self.state();
        (state.syncs_nothing, state.renames_late) = (syncs_nothing, renames_late);
    }

    /// From the n-th changing call on, nothing is done.
    pub fn go_off_in(&self, calls: u64) {
        self.state().until_off = Some(calls);
    }

    /// It goes on as long as it is asked to, unless it is down already.
    pub fn never_go_off(&self) {
        self.state().until_off = None;
    }

    /// The planted fault: what the last step has saved takes its place.
    pub fn save_late(&self) {
        let mut state = self.state();
        if let Some((from, to)) = state.late.take() {
            state.calls += 1;
            // It was checked when it was asked for.
            let _ = state.rename(&from, &to);
        }
    }

    /// Whether it is down.
    pub fn is_off(&self) -> bool {
        self.state().off
    }

    /// It is up again.
    pub fn on(&self) {
        let mut state = self.state();
        (state.off, state.until_off) = (false, None);
    }

    /// Calls that changed something.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Room that is left.
    pub fn free_bytes(&self) -> u64 {
        self.state().free_bytes
    }

    /// Somebody else takes so much room, at most all; returns what was taken.
    pub fn take(&self, bytes: u64) -> u64 {
        let mut state = self.state();
        let taken = bytes.min(state.free_bytes);
        state.free_bytes -= taken;
        taken
    }

    /// Gives it back.
    pub fn give(&self, bytes: u64) {
        self.state().free_bytes += bytes;
    }

    /// Which file lies at a path: another number means another content.
    pub fn file_number(&self, path: &Path) -> Option<u64> {
        match self.state().entry(path) {
            Ok(Entry::File(number)) => Some(*number),
            _ => None,
        }
    }

    /// A call of a store: it fails when the node goes down in it, or when there is no room.
    pub fn store_call(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.state();
        state.call()?;
        if state.free_bytes < bytes { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    /// The power is cut: what was not synced is as chance will have it.
    pub fn cut(&self, random: &mut Random) {
        self.state().cut(random);
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        let bytes = self.state().content(path)?.1.bytes.clone();
        Ok(Box::new(Cursor::new(bytes)))
    }

    fn read(&self, path: &Path, max: usize) -> io::Result<Vec<u8>> {
        let state = self.state();
        let bytes = &state.content(path)?.1.bytes;
        if bytes.len() > max { Err(io::ErrorKind::InvalidData.into()) } else { Ok(bytes.clone()) }
    }

    fn write_new(&self, path: &Path, bytes: &[u8], _mode: u32) -> io::Result<()> {
        let mut state = self.state();
        state.call()?;
        state.put(path, bytes.to_vec())
    }

    fn append(&self, path: &Path, more: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        state.call()?;
        let mut bytes = state.content(path)?.1.bytes.clone();
        bytes.extend_from_slice(more);
        state.put(path, bytes)
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.call()?;
        let number = state.content(path)?.0;
        if !state.syncs_nothing
            && let Some(content) = state.files.get_mut(&number)
        {
            content.before = None;
        }
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.call()?;
        let nothing = state.syncs_nothing;
        let dir = state.dirs.get_mut(path.as_os_str()).ok_or_else(missing)?;
        if !nothing && !dir.changes.is_empty() {
            dir.changes.clear();
            state.sweep();
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.call()?;
        if state.renames_late && to.file_name() == Some(OsStr::new("state.json")) {
            state.late = Some((from.to_owned(), to.to_owned()));
            return Ok(());
        }
        state.rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.call()?;
        let number = state.content(from)?.0;
        if state.entry(to).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.set(to, Some(Entry::File(number)))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if *state.entry(path)? == Entry::Dir {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        state.call()?;
        state.set(path, None)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.call()?;
        if !state.dir(path)?.names.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        state.dirs.remove(path.as_os_str());
        state.set(path, None)
    }

    fn create_dir(&self, path: &Path, _mode: u32) -> io::Result<()> {
        let mut state = self.state();
        if state.entry(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.call()?;
        state.set(path, Some(Entry::Dir))?;
        state.dirs.insert(path.as_os_str().to_owned(), Dir::default());
        Ok(())
    }

    fn symlink(&self, target: &Path, link: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.call()?;
        if state.entry(link).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.set(link, Some(Entry::Link(target.to_owned())))
    }

    fn read_link(&self, link: &Path) -> io::Result<PathBuf> {
        match self.state().entry(link)? {
            Entry::Link(target) => Ok(target.clone()),
            Entry::File(_) | Entry::Dir => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        Ok(self.state().dir(dir)?.names.keys().cloned().collect())
    }

    fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        let state = self.state();
        if place(path).is_err() {
            return Ok(Some(Stat { kind: Kind::Directory, size_bytes: 0, mode: 0o755 }));
        }
        Ok(state.entry(path).ok().map(|entry| match entry {
            Entry::File(number) => {
                let size_bytes = state.files.get(number).map_or(0, |content| content.bytes.len() as u64);
                Stat { kind: Kind::File, size_bytes, mode: 0o644 }
            }
            Entry::Link(_) => Stat { kind: Kind::Link, size_bytes: 0, mode: 0o777 },
            Entry::Dir => Stat { kind: Kind::Directory, size_bytes: 0, mode: 0o755 },
        }))
    }
}
