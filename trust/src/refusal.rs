//! Why metadata, or a release, is not trusted. Each refusal is an outcome that a person may have to act on, so each names
//! what was refused, why, and what helps.

use orangery_wire::messages::RefusalCode;
use orangery_wire::{AppName, UnixTime, Version};

use crate::metadata::Role;
use crate::time;

/// Why something is not trusted. Nothing that was trusted before is lost by it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no root to begin with (TUF 5.2).
    #[error("there is no trust root, so nothing can be verified; enrol the node again to get one")]
    NoRoot,
    /// The bytes are not what metadata of this role looks like.
    #[error("the {role} metadata cannot be read: {reason}")]
    Unreadable {
        /// Whose metadata.
        role: Role,
        /// What is wrong with it.
        reason: String,
    },
    /// More bytes than the limit of its role or the length that vouched metadata names (TUF 5.3.3, 5.4.1, 5.5.1, 5.6.1).
    #[error("the {role} metadata has {length} bytes; at most {length_max} are allowed")]
    TooLong {
        /// Whose metadata.
        role: Role,
        /// Bytes that were given.
        length: u64,
        /// Bytes that are allowed.
        length_max: u64,
    },
    /// Length or hash are not those which the metadata above it names (TUF 5.5.2, 5.6.2).
    #[error("the {role} metadata is not the file that the metadata above it names: its length or hash differs")]
    WrongContent {
        /// Whose metadata.
        role: Role,
    },
    /// Too few valid signatures by different keys of the role (TUF 5.3.4, 5.4.2, 5.5.3, 5.6.3).
    #[error("the {role} metadata is signed by {valid} of the keys that are named for it; {threshold} are needed")]
    Unsigned {
        /// Whose metadata.
        role: Role,
        /// Different keys with a valid signature.
        valid: usize,
        /// Keys needed.
        threshold: usize,
    },
    /// Older than what is trusted already (TUF 5.3.5, 5.4.3, 5.5.5). An attack, or a coordinator restored from an old copy.
    #[error(
        "the {role} metadata offered has version {offered}, older than the trusted {trusted}; an older state is never accepted"
    )]
    Rollback {
        /// Whose metadata goes back.
        role: Role,
        /// The version trusted.
        trusted: u64,
        /// The version offered.
        offered: u64,
    },
    /// Not the version that was asked for (TUF 5.3.5, 5.5.4, 5.6.4).
    #[error("the {role} metadata has version {offered}; version {expected} was expected")]
    WrongVersion {
        /// Whose metadata.
        role: Role,
        /// The version that had to come.
        expected: u64,
        /// The version that came.
        offered: u64,
    },
    /// A file that the trusted snapshot lists is missing from the new one (TUF 5.5.5).
    #[error("the new snapshot no longer lists {file}, which the trusted one does")]
    Vanished {
        /// The file.
        file: String,
    },
    /// No longer valid (TUF 5.3.10, 5.4.4, 5.5.6, 5.6.5). A freeze attack, or nobody has signed anew, or the clock is wrong.
    #[error(
        "the {role} metadata expired at {}, and it is {} now; let its keys sign a new one, or set the clock",
        time::format(*.expired_at), time::format(*.now)
    )]
    Expired {
        /// Whose metadata.
        role: Role,
        /// When it expired.
        expired_at: UnixTime,
        /// The time of the check.
        now: UnixTime,
    },
    /// Signed by a clock that is ahead of ours. Only the repository side refuses this.
    #[error(
        "the {role} metadata was signed at {}, which is ahead of this machine's clock ({}); set the wrong one of the two clocks and sign again",
        time::format(*.signed_at), time::format(*.now)
    )]
    SignedAhead {
        /// Whose metadata.
        role: Role,
        /// When it says that it was signed.
        signed_at: UnixTime,
        /// The time of the check.
        now: UnixTime,
    },
    /// The repository does not have a file that its own metadata names. It may be there later.
    #[error("the repository does not have {file}, which it must; try again later")]
    Missing {
        /// The file, such as `timestamp.json`.
        file: String,
    },
    /// Bytes were supplied although none were asked for: a fault of the caller.
    #[error("metadata was supplied that was not asked for")]
    NotAsked,
    /// There is no complete chain from root to targets yet.
    #[error("the {role} metadata is not there yet; refresh first")]
    Incomplete {
        /// The first role that is missing.
        role: Role,
    },
    /// The owner's targets do not list it (TUF 5.7.2).
    #[error("{path} is not among the signed targets{}", if *.delegated { "; some are left to other roles, which were not asked" } else { "" })]
    UnknownTarget {
        /// The target path.
        path: String,
        /// Whether roles which might list it were not asked.
        delegated: bool,
    },
    /// A delegated role is not trusted. The search for the target ends there: a role of lower rank must not answer in its
    /// stead (TUF 5.6.7).
    #[error("of the role {name:?}, to which targets are delegated: {refusal}")]
    Delegated {
        /// The delegated role.
        name: String,
        /// Why; its role is [`Role::Targets`].
        refusal: Box<Refusal>,
    },
    /// The snapshot does not list the metadata of a role that targets are delegated to, so no version of it is the right one.
    #[error("the snapshot does not list {file}; let the repository publish a snapshot that does")]
    Unlisted {
        /// The file as the snapshot would name it.
        file: String,
    },
    /// Too many delegated roles were asked for a target (TUF 5.6.7.1).
    #[error("{path} was not found among the targets of {roles_max} delegated roles, and more are not asked")]
    TooManyRoles {
        /// The target path.
        path: String,
        /// The limit.
        roles_max: usize,
    },
    /// The target is listed but does not say what a release must say.
    #[error("the signed target {path} is not a release: {reason}")]
    NotARelease {
        /// The target path.
        path: String,
        /// What is missing or wrong.
        reason: String,
    },
    /// The owner has set a floor for the app, and this release lies below it.
    #[error("release {version} of {app} is below the owner's floor {floor}; deploy {floor} or newer")]
    BelowFloor {
        /// The app.
        app: AppName,
        /// The version asked for.
        version: Version,
        /// The oldest version allowed.
        floor: Version,
    },
}

impl Refusal {
    /// The stable code that is reported.
    pub fn code(&self) -> RefusalCode {
        match self {
            Self::NoRoot => RefusalCode::NoTrustRoot,
            Self::Expired { .. } => RefusalCode::Expired,
            Self::Missing { .. } => RefusalCode::NotFound,
            Self::Unsigned { .. } => RefusalCode::Unsigned,
            Self::Rollback { .. } | Self::Vanished { .. } => RefusalCode::Replayed,
            Self::WrongContent { .. } => RefusalCode::Mixed,
            Self::WrongVersion { .. } => RefusalCode::WrongVersion,
            Self::TooLong { .. } => RefusalCode::TooLong,
            Self::UnknownTarget { .. } => RefusalCode::Revoked,
            Self::BelowFloor { .. } => RefusalCode::BelowFloor,
            Self::Delegated { refusal, .. } => refusal.code(),
            _ => RefusalCode::Unverified,
        }
    }

    /// Whether the same request may succeed later without anybody changing what was signed: files appear one after the
    /// other while a coordinator publishes, and a stale one may be signed anew. What is forged stays forged, but it too is
    /// only known of the bytes at hand, so that a refresh may always be begun again.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Delegated { refusal, .. } => refusal.may_pass(),
            _ => matches!(self, Self::Missing { .. } | Self::Incomplete { .. } | Self::Expired { .. }),
        }
    }
}
