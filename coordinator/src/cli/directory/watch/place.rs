//! Where a watch is: the last commit that the fleet was brought to. It is kept so that a watch that is started again neither does
//! a commit twice nor goes along with a branch that was rewritten meanwhile.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::source::Source;
use crate::home::Home;
use crate::{durable, sha256};

/// The longest file that is read.
const BYTES_MAX: u64 = 64 * 1024;

/// Why a watch has no place.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The disk failed.
    #[error("cannot {deed} {}", path.display())]
    Io {
        /// What was tried.
        deed: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Somebody follows the same already.
    #[error("another `orangery apply --watch` follows this already; it holds {}", path.display())]
    Taken {
        /// The file that is held.
        path: PathBuf,
    },
    /// What is there was not written by this program.
    #[error("{} cannot be understood; remove it, and the next commit is taken whatever was before", path.display())]
    Understand {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// A commit that the fleet was brought to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reached {
    /// What was followed, in words; for people who read the file.
    pub follows: String,
    /// The commit.
    pub commit: String,
    /// The id of the fleet directory in it.
    pub tree: String,
    /// The digest of the last plan of it.
    pub plan: String,
    /// When.
    pub at: u64,
}

/// A place, which nobody else has while this lives.
pub struct Place {
    path: PathBuf,
    reached: Option<Reached>,
    _lock: File,
}

impl Place {
    /// Takes the place of a source, in `watch` below the operator's directory.
    pub fn take(home: &Home, source: &Source) -> Result<Self, PlaceError> {
        let directory = home.root().join("watch");
        durable::create_directories(&directory).map_err(|source| io("make", &directory, source))?;
        let path = directory.join(name(source)?);
        let lock_path = path.with_extension("lock");
        let lock = File::create(&lock_path).map_err(|source| io("open", &lock_path, source))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(PlaceError::Taken { path: lock_path }),
            Err(TryLockError::Error(source)) => return Err(io("lock", &lock_path, source)),
        }
        let reached = read(&path)?;
        Ok(Self { path, reached, _lock: lock })
    }

    /// The last commit that the fleet was brought to.
    pub fn reached(&self) -> Option<&Reached> {
        self.reached.as_ref()
    }

    /// Keeps where it is now.
    pub fn keep(&mut self, reached: Reached) -> Result<(), PlaceError> {
        let text = serde_json::to_vec_pretty(&reached).map_err(|source| self.not_understood(source))?;
        durable::replace(&self.path, &text, 0o600).map_err(|source| io("write", &self.path, source))?;
        self.reached = Some(reached);
        Ok(())
    }

    fn not_understood(&self, source: serde_json::Error) -> PlaceError {
        PlaceError::Understand { path: self.path.clone(), source }
    }
}

/// One name for one repository on this machine and one directory in it.
fn name(source: &Source) -> Result<String, PlaceError> {
    let directory = source.directory();
    let whole = directory.canonicalize().map_err(|error| io("find", directory, error))?;
    let digest = sha256::digest(format!("{}\0{}", whole.display(), source.path()).as_bytes());
    Ok(format!("{}.json", digest.to_string().chars().take(16).collect::<String>()))
}

fn read(path: &Path) -> Result<Option<Reached>, PlaceError> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => io::Read::read_to_end(&mut io::Read::take(file, BYTES_MAX), &mut bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(io("open", path, source)),
    }
    .map_err(|source| io("read", path, source))?;
    let reached = serde_json::from_slice(&bytes);
    reached.map(Some).map_err(|source| PlaceError::Understand { path: path.to_owned(), source })
}

fn io(deed: &'static str, path: &Path, source: io::Error) -> PlaceError {
    PlaceError::Io { deed, path: path.to_owned(), source }
}
