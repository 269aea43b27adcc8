//! The repository side: what the owner signs (root, targets) and what the coordinator signs (snapshot, timestamp).
//! Everything made here is read back and verified by the client's own code before it is handed out.
//!
//! - `orangery init`: [`SigningKey::generate`] for each role, then [`RootContent`] and [`sign_root`].
//! - `orangery release sign`: [`TargetsContent::next`] or [`TargetsContent::first`], [`TargetsContent::add_release`],
//!   [`TargetsContent::sign`].
//! - the coordinator, on publishing: [`verify_targets`], then [`Online::publish`]; again whenever
//!   [`Published::is_due`].

mod build;
mod change;
mod delegated;
mod online;
mod root;
mod signing_key;
mod targets;

pub use change::{Draft, KeyNames};
pub use delegated::{DelegatedRole, is_role_name, role_of};
pub use online::{ONLINE_VALID_SECS, Online, Published, RENEW_AFTER_SECS};
pub use root::{KeyHolders, ROOT_VALID_SECS, RootContent, VerifiedRoot, sign_root, verify_root};
pub use signing_key::{KeyError, SigningKey, read_public_key};
pub use targets::{TARGETS_VALID_SECS, TargetsContent, VerifiedTargets, verify_targets, vouched_targets};

use orangery_wire::{AppName, Version};

use crate::metadata::Role;
use crate::refusal::Refusal;

/// Why metadata was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// What was built would be refused by every node, or the metadata it builds on cannot be trusted.
    #[error("cannot build metadata that nodes would trust")]
    Refused(#[from] Refusal),
    /// More keys are required to sign for a role than it has.
    #[error(
        "cannot make a root in which {role} needs {threshold} of {keys} keys; the threshold must be from 1 to the number of keys"
    )]
    Threshold {
        /// The role.
        role: Role,
        /// Signatures required.
        threshold: usize,
        /// Different keys that it has.
        keys: usize,
    },
    /// The release was revoked. It stays so: another content must have another version.
    #[error("{path} was revoked, which is for good; give the release a new version")]
    Revoked {
        /// The target path.
        path: String,
    },
    /// The floor lies above the release that sets it, which every node would then refuse.
    #[error("the floor {floor} of {app} lies above {version}, the release that would set it")]
    FloorTooHigh {
        /// The app.
        app: AppName,
        /// The release.
        version: Version,
        /// The floor.
        floor: Version,
    },
    /// The release is there already, with other content. A version names one content for good.
    #[error("{path} is signed already, as {signed}; give the changed release a new version")]
    Taken {
        /// The target path.
        path: String,
        /// The digest that is signed.
        signed: String,
    },
    /// A delegated role cannot be called so.
    #[error(
        "a role cannot be called {name:?}; choose a name as an app has, and none of root, targets, snapshot and timestamp"
    )]
    RoleName {
        /// The name.
        name: String,
    },
    /// The app is left to another role or key, or the role has another app.
    #[error(
        "cannot leave {app} to that key: the role {role} stands for it, or for another app, already; end that first with \
         `orangery keys undelegate`, or choose another --name"
    )]
    DelegatedAlready {
        /// The app.
        app: AppName,
        /// The role that is in the way.
        role: String,
    },
    /// The version cannot grow any more.
    #[error("the version of the {role} metadata cannot grow any more")]
    VersionExhausted {
        /// The role.
        role: Role,
    },
}
