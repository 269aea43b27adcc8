//! Why a node refuses a release, as a word that programs can rely on.

use serde::{Deserialize, Serialize};

/// Stable codes of refusals. A new one may be added; none is ever renamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// Not what was signed, in another way than those below; or there is nothing left to verify it with.
    Unverified,
    /// Too few signatures by the keys that are named for it.
    Unsigned,
    /// The metadata is older than what the node has seen.
    Replayed,
    /// Metadata of different times: a file is not the one that the metadata above it names.
    Mixed,
    /// The metadata has another version than the metadata above it names.
    WrongVersion,
    /// More bytes than signed, or than ever allowed.
    TooLong,
    /// An artifact of another size than signed.
    WrongSize,
    /// An artifact with another digest than signed.
    WrongDigest,
    /// The manifest is not the one that was signed: that of another app or version, or a changed one.
    WrongManifest,
    /// The metadata that vouches for it has expired.
    Expired,
    /// Its manifest breaks a rule.
    InvalidManifest,
    /// Not for this platform, board, label or agent.
    Incompatible,
    /// The node's disk has no room for it.
    NoSpace,
    /// The node could not read or write its disk.
    DiskFailed,
    /// The coordinator does not have it.
    NotFound,
    /// It could not be started.
    WontStart,
    /// It was started as often as allowed and the node or agent went down each time.
    CrashLoop,
    /// Its probes failed, or it kept exiting.
    Unhealthy,
    /// The node had its coordinator before it was started and did not reach it again.
    Disconnected,
    /// The operator of the node rolled it back.
    RolledBack,
    /// The node could not verify it for want of a trust root.
    NoTrustRoot,
    /// The owner's signed targets do not list it: it was revoked, or was never signed.
    Revoked,
    /// It is older than the oldest version of the app that the owner still allows.
    BelowFloor,
    /// A code that a newer version has and this one does not know.
    #[serde(other)]
    Other,
}

impl RefusalCode {
    /// Whether what came is not what the owner signed, in whichever way; [`Self::Unverified`] is the least exact of them.
    pub fn is_unverified(self) -> bool {
        matches!(
            self,
            Self::Unverified
                | Self::Unsigned
                | Self::Replayed
                | Self::Mixed
                | Self::WrongVersion
                | Self::TooLong
                | Self::WrongSize
                | Self::WrongDigest
                | Self::WrongManifest
        )
    }

    /// The code as it stands in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unverified => "unverified",
            Self::Unsigned => "unsigned",
            Self::Replayed => "replayed",
            Self::Mixed => "mixed",
            Self::WrongVersion => "wrong_version",
            Self::TooLong => "too_long",
            Self::WrongSize => "wrong_size",
            Self::WrongDigest => "wrong_digest",
            Self::WrongManifest => "wrong_manifest",
            Self::Expired => "expired",
            Self::InvalidManifest => "invalid_manifest",
            Self::Incompatible => "incompatible",
            Self::NoSpace => "no_space",
            Self::DiskFailed => "disk_failed",
            Self::NotFound => "not_found",
            Self::WontStart => "wont_start",
            Self::CrashLoop => "crash_loop",
            Self::Unhealthy => "unhealthy",
            Self::Disconnected => "disconnected",
            Self::RolledBack => "rolled_back",
            Self::NoTrustRoot => "no_trust_root",
            Self::Revoked => "revoked",
            Self::BelowFloor => "below_floor",
            Self::Other => "other",
        }
    }
}

impl std::fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}
