//! Copies of what nodes fetch, for roads without a coordinator: a directory for any static web server or a USB stick, or
//! one file.
//!
//! A copy is gathered over the API and verified as a node would, from the owner's first root on, before any of it is
//! written. It needs no secrets: everything in it is signed, and nodes judge it by the same rules as all else.

mod bundle;
mod export;
mod gather;

use std::path::PathBuf;

use orangery_trust::Refusal;
use orangery_wire::manifest::InvalidManifest;
use orangery_wire::{AppName, Digest, Version};

use crate::client::ClientError;
use crate::release::archive::BadArchive;

pub use bundle::bundle;
pub use export::{Exported, export};
pub use gather::{Copies, gather};

/// Why no copy was made. One that was there before is as it was, or holds newer files that are whole.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The coordinator cannot be asked, or refuses.
    #[error("cannot get {path} from the coordinator")]
    Fetch {
        /// What was asked for.
        path: String,
        /// Why.
        source: ClientError,
    },
    /// The coordinator lacks a file that its metadata names.
    #[error("the coordinator does not have {path}; publish the release again")]
    Missing {
        /// The file.
        path: String,
    },
    /// What the coordinator has is not what the owner signed, or has expired.
    #[error("no node would take what the coordinator has")]
    Refused(#[from] Refusal),
    /// Nothing was published.
    #[error("nothing was published yet; `orangery release publish` does that")]
    Nothing,
    /// The owner's targets do not list the release.
    #[error("{app}@{version} is not among the signed releases; `orangery release list` shows them")]
    Unlisted {
        /// The app.
        app: AppName,
        /// The version.
        version: Version,
    },
    /// A file is not what was signed.
    #[error("{path} is not what was signed: its digest is {got}; publish the release again")]
    WrongContent {
        /// The file.
        path: String,
        /// The digest of what came.
        got: Digest,
    },
    /// A signed manifest breaks a rule.
    #[error("the manifest {path} cannot be used; build the release again")]
    Manifest {
        /// The file.
        path: String,
        /// Which rule.
        source: InvalidManifest,
    },
    /// Signed metadata does not name what it must.
    #[error("the metadata {file} cannot be used: {rule}")]
    Metadata {
        /// The file.
        file: String,
        /// What is wrong with it.
        rule: String,
    },
    /// A file cannot be written, or not read again.
    #[error("cannot write {}: {source}; free space, or choose another place", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What was written is not what was read again.
    #[error("{} was written and is damaged; use another disk or stick", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The bundle that was written cannot be read again.
    #[error("the bundle {} was written and is damaged; use another disk or stick", path.display())]
    DamagedBundle {
        /// The file.
        path: PathBuf,
        /// How.
        source: BadArchive,
    },
}
