//! Why the owner's side failed.

use std::io;
use std::path::PathBuf;

use orangery_trust::Refusal;
use orangery_trust::repository::{BuildError, KeyError};

use super::PassphraseError;
use crate::release::bundle::BundleError;

/// What was not done, and why.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// A file cannot be read.
    #[error("cannot read {path}{}", if is_missing(source) { "; `orangery init` makes it, and --dir names another directory" } else { "" })]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A key cannot be made or read.
    #[error("cannot use the key {path}")]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KeyError,
    },
    /// A key file is not understood.
    #[error("cannot use the key file {path}: {reason}")]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The passphrase does not open the key.
    #[error("the passphrase does not open {path}, or the file was changed")]
    WrongPassphrase {
        /// The file.
        path: PathBuf,
    },
    /// There is no passphrase.
    #[error(transparent)]
    Passphrase(#[from] PassphraseError),
    /// A change of keys was sent to the coordinator and is not finished here.
    #[error("a change of keys is under way ({deed}); finish it with `orangery keys publish`")]
    Unfinished {
        /// The change.
        deed: String,
    },
    /// The release is not among the targets.
    #[error("{app} {version} is not among the signed releases; `orangery release list` shows what was published")]
    NotSigned {
        /// The app.
        app: String,
        /// The version.
        version: String,
    },
    /// The app is left to a role whose key is elsewhere.
    #[error(
        "{role} signs this app, and its key is not in {owner}; whoever has it signs, or `orangery keys undelegate` takes the app back"
    )]
    NoRoleKey {
        /// The role.
        role: String,
        /// Where keys are looked for.
        owner: PathBuf,
    },
    /// What is signed here already cannot be trusted.
    #[error("cannot use {path}")]
    Untrusted {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<Refusal>,
    },
    /// The version is signed already, with other content.
    #[error(
        "{app} {version} is signed already, with other content ({signed}), and a version names one content for good; give \
         the changed release a new version [version_taken]"
    )]
    Taken {
        /// The app.
        app: String,
        /// The version.
        version: String,
        /// The digest of the manifest that is signed.
        signed: String,
    },
    /// The release cannot be signed.
    #[error("cannot sign {app} {version}")]
    Sign {
        /// The app.
        app: String,
        /// The version.
        version: String,
        /// Why.
        source: Box<BuildError>,
    },
    /// The targets cannot be signed anew.
    #[error("cannot sign the targets anew")]
    Targets(#[source] Box<BuildError>),
    /// The first root cannot be signed.
    #[error("cannot sign the trust root")]
    Root(#[source] Box<BuildError>),
    /// The bundle cannot be written.
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

pub(super) fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}
