//! Where numbered entries wait: the store below the outbox.
//!
//! What decides which release runs is never in here (see `record`): a store that does not open is set aside, reported and made
//! anew, and all that is lost is what had not yet been told. Two engines are shipped, redb by default and sled by choice;
//! one suite of tests holds both to the same contract.

mod memory;
mod redb;
mod sled;

#[cfg(test)]
mod conformance;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ring::rand::SecureRandom;
use serde::{Deserialize, Serialize};

use crate::disk::{self, Disk, RealDisk};

/// Largest value, in bytes. Events are far smaller; sled keeps anything larger in files of its own that nobody syncs.
pub const VALUE_BYTES_MAX: usize = 16 * 1024;

/// How often an open may end the process (a power cut, a panic in the engine) before the store is set aside unopened.
const OPENS_MAX: u8 = 3;

/// Which engine keeps the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// redb: small, one file.
    #[default]
    Redb,
    /// sled 0.34, with the syncs that it leaves out; 20 MB more memory.
    Sled,
}

impl Engine {
    /// The word in the settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Redb => "redb",
            Self::Sled => "sled",
        }
    }

    /// The engine's file or directory in the store's directory.
    fn path(self, dir: &Path) -> PathBuf {
        match self {
            Self::Redb => dir.join("events.redb"),
            Self::Sled => dir.join("events.sled"),
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One change of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Adds an entry, or replaces the one of the same key.
    Put {
        /// Its key.
        key: u64,
        /// Its value, at most [`VALUE_BYTES_MAX`].
        value: Vec<u8>,
    },
    /// Removes an entry; one that is not there is fine.
    Remove {
        /// Its key.
        key: u64,
    },
    /// Sets the store's mark, a number that means something to its owner.
    Mark(u64),
}

/// An entry: its key and its value.
pub type Entry = (u64, Vec<u8>);

/// Entries in the order of their keys, and one number.
pub trait Store: Send + fmt::Debug {
    /// Drawn at random when the store was made, from 1 to 2^53 - 1 (what JSON and SQL can hold): a store that was lost and made
    /// anew is known by it.
    fn epoch(&self) -> u64;
    /// The number that [`Change::Mark`] set last; 0 before the first.
    fn mark(&self) -> u64;
    /// Applies all changes or none. They are durable on return, over a power cut too.
    fn write(&mut self, changes: &[Change]) -> Result<(), StoreError>;
    /// At most `count_max` entries with keys above `after`, in order.
    fn read(&mut self, after: u64, count_max: usize) -> Result<Vec<Entry>, StoreError>;
}

/// What an engine says of its own failure.
type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why the store did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It does not open. It is damaged, or cannot be reached.
    #[error("cannot open the {engine} store {path}")]
    Open {
        /// The engine.
        engine: Engine,
        /// Its file or directory.
        path: PathBuf,
        /// Why.
        source: Cause,
    },
    /// Another process has it open.
    #[error("the {engine} store {path} is in use; stop the other agent first")]
    InUse {
        /// The engine.
        engine: Engine,
        /// Its file or directory.
        path: PathBuf,
    },
    /// The damaged store cannot be moved out of the way.
    #[error("cannot set the damaged store {path} aside")]
    SetAside {
        /// Its file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Entries cannot be read.
    #[error("cannot read the {engine} store")]
    Read {
        /// The engine.
        engine: Engine,
        /// Why.
        source: Cause,
    },
    /// An entry is not what was written.
    #[error("entry {key} of the store is damaged")]
    Damaged {
        /// The entry.
        key: u64,
    },
    /// Changes cannot be made. None of them was, or their durability is unknown.
    #[error("cannot write to the {engine} store")]
    Write {
        /// The engine.
        engine: Engine,
        /// Why.
        source: Cause,
    },
    /// A value is larger than [`VALUE_BYTES_MAX`].
    #[error("a value has {size} bytes; a store takes at most {VALUE_BYTES_MAX}")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
    },
}

impl StoreError {
    fn open(engine: Engine, path: &Path, source: impl Into<Cause>) -> Self {
        Self::Open { engine, path: path.to_owned(), source: source.into() }
    }

    /// Whether the disk is full or read-only: then the store may be whole, and a new one could not be made anyway.
    pub(crate) fn is_for_want_of_disk(&self) -> bool {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = next {
            let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
            if matches!(kind, Some(StorageFull | FileTooLarge | QuotaExceeded | ReadOnlyFilesystem)) {
                return true;
            }
            next = error.source();
        }
        false
    }
}

/// A store that is open.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: Box<dyn Store>,
    /// Why it is not the store of before; `None` when it is, or when there was none.
    pub rebuilt: Option<String>,
    /// Whether its entries are forgotten when the agent stops, because the disk takes nothing.
    pub in_memory: bool,
}

/// Opens the store in `dir`, or makes it.
///
/// One that does not open, or has a damaged entry, is set aside under the name `NAME.damaged` (in place of an older one) and
/// made anew. On a full or read-only disk entries are kept in memory alone until the next start.
pub fn open(engine: Engine, dir: &Path) -> Result<Opened, StoreError> {
    let path = engine.path(dir);
    let marker = Marker { path: dir.join("opening") };
    let first = disk::make_dir(&RealDisk, dir, 0o700)
        .map_err(|source| StoreError::open(engine, &path, source))
        .and_then(|()| if marker.raise() { open_whole(engine, &path) } else { Err(brought_down(engine, &path)) });
    marker.lower();
    match first {
        Ok(store) => Ok(Opened { store, rebuilt: None, in_memory: false }),
        Err(error @ StoreError::InUse { .. }) => Err(error),
        Err(error) if error.is_for_want_of_disk() => in_memory(&error),
        Err(error) => anew(engine, &path, &error),
    }
}

fn brought_down(engine: Engine, path: &Path) -> StoreError {
    StoreError::open(engine, path, format!("the agent went down in each of {OPENS_MAX} attempts to open it"))
}

fn anew(engine: Engine, path: &Path, why: &StoreError) -> Result<Opened, StoreError> {
    set_aside(path).map_err(|source| StoreError::SetAside { path: path.to_owned(), source })?;
    let rebuilt = Some(crate::errors::chain(why));
    match open_whole(engine, path) {
        Ok(store) => Ok(Opened { store, rebuilt, in_memory: false }),
        Err(error) if error.is_for_want_of_disk() => in_memory(&error),
        Err(error) => Err(error),
    }
}

fn in_memory(why: &StoreError) -> Result<Opened, StoreError> {
    let why = format!("events are kept in memory until the next start: {}", crate::errors::chain(why));
    Ok(Opened { store: Box::new(memory::Memory::new(new_epoch()?)), rebuilt: Some(why), in_memory: true })
}

/// How long whoever had a store open may take to let go of it.
const LET_GO_MAX: Duration = Duration::from_secs(2);

/// Opens a store that may just have been closed: sled's threads end a little after it is dropped, and a program that is
/// being started holds the agent's locks until it is loaded.
fn once_let_go<T>(open: impl Fn() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let start = Instant::now();
    loop {
        match open() {
            Err(StoreError::InUse { .. }) if start.elapsed() < LET_GO_MAX => {
                std::thread::sleep(Duration::from_millis(10));
            }
            outcome => return outcome,
        }
    }
}

/// Opens or makes an engine's store and reads every entry once. One that could not be made to its end leaves nothing behind:
/// the next attempt would take it for a damaged one.
fn open_whole(engine: Engine, path: &Path) -> Result<Box<dyn Store>, StoreError> {
    let is_new = !RealDisk.exists(path);
    open_and_read(engine, path).inspect_err(|error| {
        if is_new && error.is_for_want_of_disk() {
            // A store is a file or a directory.
            let _ = RealDisk.remove_file(path).or_else(|_| RealDisk.remove_dir_all(path));
        }
    })
}

fn open_and_read(engine: Engine, path: &Path) -> Result<Box<dyn Store>, StoreError> {
    let mut store: Box<dyn Store> = match engine {
        Engine::Redb => Box::new(redb::Redb::open(path)?),
        Engine::Sled => Box::new(sled::Sled::open(path)?),
    };
    let mut after = 0;
    while let Some((last, _)) = store.read(after, 64)?.last() {
        after = *last;
    }
    Ok(store)
}

fn set_aside(path: &Path) -> io::Result<()> {
    let Some(found) = RealDisk.stat(path)? else { return Ok(()) };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".damaged");
    let aside = path.with_file_name(name);
    if found.kind == disk::Kind::Directory && RealDisk.exists(&aside) {
        RealDisk.remove_dir_all(&aside)?;
    }
    RealDisk.rename(path, &aside)?;
    path.parent().map_or(Ok(()), |dir| RealDisk.sync_dir(dir))
}

/// A file that counts opens under way, so that an engine that ends the process when it meets damage does so a few times only.
struct Marker {
    path: PathBuf,
}

impl Marker {
    /// Counts one more open; false when there were enough. A marker that cannot be written is done without.
    fn raise(&self) -> bool {
        let before = RealDisk.read(&self.path, 1).ok().and_then(|bytes| bytes.first().copied()).unwrap_or(0);
        let enough = before >= OPENS_MAX;
        let next = if enough { 0 } else { before.saturating_add(1) };
        let _ = disk::replace(&RealDisk, &self.path, &[next], 0o600);
        !enough
    }

    fn lower(&self) {
        let _ = RealDisk.remove_file(&self.path);
    }
}

/// The mark after `changes`, if they set it.
fn last_mark(changes: &[Change]) -> Option<u64> {
    changes.iter().rev().find_map(|change| if let Change::Mark(mark) = change { Some(*mark) } else { None })
}

/// An epoch for a new store.
fn new_epoch() -> Result<u64, StoreError> {
    let mut bytes = [0; 8];
    ring::rand::SystemRandom::new().fill(&mut bytes).map_err(|_| StoreError::Write {
        engine: Engine::default(),
        source: "the system gives no random numbers".into(),
    })?;
    Ok((u64::from_le_bytes(bytes) >> 11).max(1))
}

const SEAL_VERSION: u8 = 1;
const SEAL_BYTES: usize = 9;

/// A value as engines keep it: a version byte, eight bytes of the SHA-256 of key and value, the value.
fn seal(key: u64, value: &[u8]) -> Result<Vec<u8>, StoreError> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(StoreError::TooLarge { size: value.len() });
    }
    let mut sealed = Vec::with_capacity(SEAL_BYTES + value.len());
    sealed.push(SEAL_VERSION);
    sealed.extend_from_slice(&checksum(key, value));
    sealed.extend_from_slice(value);
    Ok(sealed)
}

/// The value of an entry as it was put, or the finding that it is not that.
fn unseal(key: u64, sealed: &[u8]) -> Result<Entry, StoreError> {
    let damaged = StoreError::Damaged { key };
    let Some((head, value)) = sealed.split_at_checked(SEAL_BYTES) else { return Err(damaged) };
    let whole =
        head.split_first().is_some_and(|(version, sum)| *version == SEAL_VERSION && *sum == checksum(key, value));
    if whole { Ok((key, value.to_owned())) } else { Err(damaged) }
}

fn checksum(key: u64, value: &[u8]) -> [u8; 8] {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    context.update(&key.to_be_bytes());
    context.update(value);
    let mut sum = [0; 8];
    sum.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
    sum
}
