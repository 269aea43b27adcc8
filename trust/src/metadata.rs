//! The four roles' metadata, read out of the bytes as served (TUF 4). Unknown fields are part of what is signed and are
//! otherwise not looked at.

mod delegation;
mod envelope;
mod glob;
mod roles;

use std::fmt;

pub(crate) use delegation::{Delegation, Paths};
pub(crate) use envelope::{Content, Envelope, signed_by};
pub use roles::Target;
pub(crate) use roles::{Metafile, RoleKeys, Root, Snapshot, Targets, Timestamp};

use crate::limits;

/// A role of TUF: what a key is trusted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Names the keys of all roles.
    Root,
    /// Names the newest snapshot, and is signed often.
    Timestamp,
    /// Names the version of the targets metadata, so that no old state can be mixed with a new one.
    Snapshot,
    /// Names the releases.
    Targets,
}

impl Role {
    /// All roles, in the order in which they are refreshed.
    pub const ALL: [Self; 4] = [Self::Root, Self::Timestamp, Self::Snapshot, Self::Targets];

    /// The role's name in metadata and file names.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Timestamp => "timestamp",
            Self::Snapshot => "snapshot",
            Self::Targets => "targets",
        }
    }

    /// Most bytes that metadata of the role may have.
    pub fn length_max(self) -> u64 {
        match self {
            Self::Root => limits::ROOT_BYTES_MAX,
            Self::Timestamp => limits::TIMESTAMP_BYTES_MAX,
            Self::Snapshot => limits::SNAPSHOT_BYTES_MAX,
            Self::Targets => limits::TARGETS_BYTES_MAX,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
