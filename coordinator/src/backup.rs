//! All that a coordinator must not lose, in one file: settings, keys, CA, database, metadata, manifests and artifacts.
//!
//! The file is a tar archive (POSIX.1-2008 ustar with GNU long names) that begins with `backup.json` and ends with `SHA256SUMS`, which
//! `sha256sum -c` understands. It holds secret keys.
//!
//! It is written while the coordinator runs. The database is taken first, by itself and consistent; what it names was there before
//! it, and files are replaced as a whole or not at all. `timestamp.json` goes before the files that it leads to, which were there
//! before it.

mod make;
mod restore;

use std::io;
use std::path::{Path, PathBuf};

use orangery_wire::UnixTime;
use serde::{Deserialize, Serialize};

use crate::config::ConfigError;
use crate::repository::RepositoryError;
use crate::store::StoreError;

pub use make::{Plan, plan};
pub use restore::restore;

/// The format of backups.
pub const FORMAT: u32 = 1;

const HEAD: &str = "backup.json";
const SUMS: &str = "SHA256SUMS";
/// Most bytes of head and sums that are read; the sums of a million files fit.
const TEXT_BYTES_MAX: u64 = 256 << 20;
/// How far the versions of snapshot and timestamp leap at a restore: nodes may have seen newer ones than the backup has.
const LEAP: u64 = 1_000_000;

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Always [`FORMAT`].
    pub format: u32,
    /// The version of the program that wrote it.
    pub version: String,
    /// When it was made.
    pub made_at: UnixTime,
    /// Whether artifacts are in it.
    pub artifacts: bool,
}

/// What was written or restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// What the backup says of itself.
    pub head: Head,
    /// Files in it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A backup was not made, or not restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The settings are not good.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The settings name a file somewhere else.
    #[error("{} is outside {}, so a backup of that directory would not be whole; move it there, and say so in coordinator.toml", path.display(), directory.display())]
    Elsewhere {
        /// The file.
        path: PathBuf,
        /// The coordinator's directory.
        directory: PathBuf,
    },
    /// Something that is no file and no directory, and would not be there after a restore.
    #[error("{} is a link or something else that is no plain file; put the file itself there, or move it out of the directory", path.display())]
    Strange {
        /// It.
        path: PathBuf,
    },
    /// It would overwrite something, or be a part of itself.
    #[error("cannot write {}: {reason}", path.display())]
    Place {
        /// The backup.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The database could not be copied or opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is a coordinator where one should be restored.
    #[error("{} is there already; move it away first: nothing is restored over a coordinator", path.display())]
    Exists {
        /// Its directory.
        path: PathBuf,
    },
    /// It is no backup, or not as it was written.
    #[error("{} is not a whole backup: {reason}; nothing was restored", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// What was restored could not be told to nodes.
    #[error("the metadata in the backup cannot be published again; nothing was restored")]
    Repository(#[from] RepositoryError),
}

fn read_failed(path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::Read { path, source }
}

fn write_failed(path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::Write { path, source }
}
