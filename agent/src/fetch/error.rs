//! Why something was not fetched, and whether asking again may help.

use std::path::{Path, PathBuf};
use std::time::Duration;

use orangery_wire::Digest;
use orangery_wire::messages::RefusalCode;

use crate::errors::disk_code;

/// Why something was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The address is not one of the pinned origin.
    #[error("the address {url:?} cannot be used: {rule}; correct it")]
    Address {
        /// The address as given.
        url: String,
        /// The rule it breaks.
        rule: String,
    },
    /// No connection, no TLS session, or it broke before the head of the answer was there.
    #[error("the request for {url} failed")]
    Request {
        /// What was asked for.
        url: String,
        /// The cause.
        source: hyper_util::client::legacy::Error,
    },
    /// The head of the answer did not come in time.
    #[error("no answer to the request for {url} within {waited:?}")]
    NoAnswer {
        /// What was asked for.
        url: String,
        /// How long was waited.
        waited: Duration,
    },
    /// The body came too slowly or not at all.
    #[error("the transfer of {url} stalled: too little arrived within {waited:?}")]
    Stalled {
        /// What was asked for.
        url: String,
        /// How long was waited.
        waited: Duration,
    },
    /// The connection ended before the body did.
    #[error("the transfer of {url} was cut")]
    Cut {
        /// What was asked for.
        url: String,
        /// The cause.
        source: hyper::Error,
    },
    /// The body ended, as far as anybody can tell, but bytes are missing.
    #[error("the transfer of {url} ended at byte {got} of {size_bytes}")]
    Short {
        /// What was asked for.
        url: String,
        /// The bytes that are there.
        got: u64,
        /// The bytes that were signed.
        size_bytes: u64,
    },
    /// An answer to a range request that does not fit the request.
    #[error("the answer to a range request for {url} does not fit: {got}")]
    Range {
        /// What was asked for.
        url: String,
        /// The answer's range.
        got: String,
    },
    /// A redirect. None is followed.
    #[error("{url} answered with a redirect ({status}); none is followed: the server must have the file itself")]
    Redirected {
        /// What was asked for.
        url: String,
        /// The status.
        status: u16,
    },
    /// Any other status that is not success.
    #[error("{url} answered with status {status}; see the server's log")]
    Status {
        /// What was asked for.
        url: String,
        /// The status.
        status: u16,
    },
    /// The origin has no such file.
    #[error("there is no {url}; publish the release again, or make the copy anew")]
    Missing {
        /// What was asked for.
        url: String,
    },
    /// The file is longer than it may be.
    #[error("{url} is longer than the {bytes_max} bytes it may have; push the release again from its source")]
    TooLong {
        /// What was asked for.
        url: String,
        /// The limit, from signed metadata.
        bytes_max: u64,
    },
    /// The server has the file, but with another size.
    #[error("{url} has {got} bytes, but {size_bytes} were signed; push the release again from its source")]
    WrongSize {
        /// What was asked for.
        url: String,
        /// The size there.
        got: u64,
        /// The size that was signed.
        size_bytes: u64,
    },
    /// The server sent all of it, and it is not what was signed.
    #[error("{url} is not what was signed: its digest is {got}; push the release again from its source")]
    WrongDigest {
        /// What was asked for.
        url: String,
        /// The digest of what came.
        got: Digest,
    },
    /// Pieces from several answers do not make up what was signed. They were dropped.
    #[error("the pieces of {url} do not make up what was signed; they were dropped to begin anew")]
    Mixed {
        /// What was asked for.
        url: String,
    },
    /// A file on this machine could not be read.
    #[error("reading {name} failed; put the stick or the file back and try again")]
    Local {
        /// The file.
        name: String,
        /// The cause.
        source: std::io::Error,
    },
    /// Another download of the same file is under way.
    #[error("another download into {} is under way", path.display())]
    Busy {
        /// The part file.
        path: PathBuf,
    },
    /// The part file could not be read or written.
    #[error("{deed} the download {} failed", path.display())]
    Part {
        /// "opening", "writing", ...
        deed: &'static str,
        /// The part file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

impl FetchError {
    pub(super) fn part(deed: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Part { deed, path: path.to_owned(), source }
    }

    /// Whether trying again later may help: the network or the server is to blame, not the file.
    pub fn again(&self) -> bool {
        self.refusal().is_none()
    }

    /// The code to refuse the release with; `None` when trying again may help.
    pub fn refusal(&self) -> Option<RefusalCode> {
        match self {
            Self::Request { .. }
            | Self::NoAnswer { .. }
            | Self::Stalled { .. }
            | Self::Cut { .. }
            | Self::Short { .. }
            | Self::Range { .. }
            | Self::Redirected { .. }
            | Self::Status { .. }
            | Self::Mixed { .. }
            | Self::Local { .. }
            | Self::Busy { .. } => None,
            Self::Address { .. } | Self::Missing { .. } => Some(RefusalCode::NotFound),
            Self::TooLong { .. } => Some(RefusalCode::TooLong),
            Self::WrongSize { .. } => Some(RefusalCode::WrongSize),
            Self::WrongDigest { .. } => Some(RefusalCode::WrongDigest),
            Self::Part { source, .. } => Some(disk_code(source)),
        }
    }
}
