//! One change of the disk.

use std::path::PathBuf;
use std::sync::Arc;

/// One change of the disk, by paths relative to the state directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// A new, empty file.
    Create {
        path: PathBuf,
        mode: u32,
    },
    /// Bytes at an offset; `None` is the end.
    Write {
        path: PathBuf,
        offset: Option<usize>,
        bytes: Arc<[u8]>,
    },
    /// A file gets this length.
    Truncate {
        path: PathBuf,
        length: usize,
    },
    Chmod {
        path: PathBuf,
        mode: u32,
    },
    Mkdir {
        path: PathBuf,
        mode: u32,
    },
    Symlink {
        path: PathBuf,
        target: PathBuf,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Link {
        from: PathBuf,
        to: PathBuf,
    },
    Remove {
        path: PathBuf,
    },
    SyncFile {
        path: PathBuf,
    },
    SyncDir {
        path: PathBuf,
    },
    /// Nothing on the disk: from here on the world outside has seen that all before it was done.
    Mark(String),
    /// What a program without syncs does not do.
    Nothing,
}

impl Op {
    /// Its name and its object, without content.
    pub fn shape(&self) -> (&'static str, PathBuf) {
        let (name, path) = match self {
            Self::Create { path, .. } => ("create", path.clone()),
            Self::Write { path, .. } => ("write", path.clone()),
            Self::Truncate { path, .. } => ("truncate", path.clone()),
            Self::Chmod { path, .. } => ("chmod", path.clone()),
            Self::Mkdir { path, .. } => ("mkdir", path.clone()),
            Self::Symlink { path, .. } => ("symlink", path.clone()),
            Self::Rename { to, .. } => ("rename", to.clone()),
            Self::Link { to, .. } => ("link", to.clone()),
            Self::Remove { path } => ("remove", path.clone()),
            Self::SyncFile { path } => ("sync", path.clone()),
            Self::SyncDir { path } => ("sync directory", path.clone()),
            Self::Mark(text) => ("mark", PathBuf::from(text)),
            Self::Nothing => ("nothing", PathBuf::new()),
        };
        (name, path)
    }

    pub fn is_sync(&self) -> bool {
        matches!(self, Self::SyncFile { .. } | Self::SyncDir { .. })
    }

    /// Whether a full disk refuses it.
    pub fn takes_room(&self) -> bool {
        use Op::{Create, Link, Mkdir, Symlink, Write};
        matches!(self, Create { .. } | Write { .. } | Mkdir { .. } | Symlink { .. } | Link { .. })
    }

    /// What a full disk does of it: half of a write, nothing of anything else.
    pub fn that_there_is_room_for(self) -> Option<Self> {
        match self {
            Self::Write { path, offset, bytes } => {
                Some(Self::Write { path, offset, bytes: bytes[..bytes.len() / 2].into() })
            }
            _ => None,
        }
    }
}
