//! What travels over MQTT: JSON, at most [`crate::limits::PACKET_BYTES_MAX`] bytes, unknown fields ignored.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{AppName, Digest, Generation, NodeId, ReleaseId, UnixTime, Version};
use crate::limits::{APPS_MAX, PACKET_BYTES_MAX};

/// The message format that this version reads and writes.
pub const FORMAT: u32 = 1;

/// What a node should run. Complete: it replaces what was desired before. An app that is not named stays as it is; an app
/// whose release is `None` is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// Always [`FORMAT`].
    pub format: u32,
    /// The node it is for; a node ignores what is for another.
    pub node: NodeId,
    /// Grows with each change of any app.
    pub generation: Generation,
    /// The apps.
    pub apps: Vec<DesiredApp>,
}

/// What a node should run of one app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredApp {
    /// The app.
    pub app: AppName,
    /// Grows with each change of this app. One that is not newer than the node's own changes nothing.
    pub generation: Generation,
    /// The release; `None` stops the app.
    pub release: Option<ReleaseRef>,
}

/// A release, named so that a node can find it in the signed targets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReleaseRef {
    /// The digest of its manifest.
    pub id: ReleaseId,
    /// Its version.
    pub version: Version,
}

/// The proof: what the node runs, by its own observation. Retained, so it is true until the next one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Reported {
    /// Always [`FORMAT`].
    pub format: u32,
    /// The node.
    pub node: NodeId,
    /// The kernel's boot id; it changes with each boot.
    pub boot_id: String,
    /// Grows with each report since the node enrolled, over boots.
    pub sequence: u64,
    /// The newest generation of [`Desired`] that the node has taken in.
    pub generation: Generation,
    /// The agent's version.
    pub agent_version: String,
    /// Such as `linux/arm64`.
    pub platform: String,
    /// The board's model, if it says.
    #[serde(default)]
    pub board: Option<String>,
    /// The node's labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The trusted metadata.
    #[serde(default)]
    pub trust: TrustReport,
    /// Every app that the node has a record of.
    pub apps: Vec<AppReport>,
}

/// Versions of the metadata that a node trusts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TrustReport {
    /// Version of root; 0 when there is none, and then nothing installs.
    pub root: u64,
    /// Version of targets; 0 before the first refresh.
    pub targets: u64,
    /// Whether some of it has expired: no new release is deployed until it is fresh.
    pub stale: bool,
}

/// One app on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AppReport {
    /// The app.
    pub app: AppName,
    /// The generation of the app that the node works on or has settled.
    pub generation: Generation,
    /// What the node was told to run.
    #[serde(default)]
    pub desired: Option<ReleaseRef>,
    /// The proven release.
    #[serde(default)]
    pub current: Option<ReleaseRef>,
    /// The release that runs at this moment; on trial it is not the current one.
    #[serde(default)]
    pub running: Option<ReleaseRef>,
    /// Where the deployment is.
    pub phase: Phase,
    /// Why the desired release is not current, if it was tried and failed.
    #[serde(default)]
    pub refusal: Option<Refusal>,
    /// Whether the probes of the running release hold; `None` while nobody knows.
    #[serde(default)]
    pub healthy: Option<bool>,
    /// Whether the owner has revoked the current release since it was installed. It goes on running.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub revoked: bool,
}

/// Where a deployment is. See the agent's `deployment` module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// At rest.
    Settled,
    /// The release is downloaded and verified.
    Fetching,
    /// The release is started on trial.
    Activating,
    /// The release is on trial and its probes run.
    Probing,
    /// The current release is made to run again.
    Restoring,
}

impl Phase {
    /// The word used in every message, log line and listing.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Fetching => "fetching",
            Self::Activating => "activating",
            Self::Probing => "probing",
            Self::Restoring => "restoring",
        }
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a release was refused on a node. It is not tried again there until the generation changes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Refusal {
    /// The release.
    pub release: ReleaseId,
    /// The stable code.
    pub code: RefusalCode,
    /// What happened, for people; at most [`crate::limits::REASON_BYTES_MAX`] bytes.
    pub reason: String,
}

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
    /// The operator of the node rolled it back.
    RolledBack,
    /// The node could not verify it for want of a trust root.
    NoTrustRoot,
    /// The owner's signed targets do not list it: it was revoked, or was never signed.
    Revoked,
    /// It is older than the oldest version of the app that the owner still allows.
    BelowFloor,
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
            Self::RolledBack => "rolled_back",
            Self::NoTrustRoot => "no_trust_root",
            Self::Revoked => "revoked",
            Self::BelowFloor => "below_floor",
        }
    }
}

impl std::fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// Something that happened on a node and must not be lost: kept in the node's outbox until the coordinator has stored it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Event {
    /// Always [`FORMAT`].
    pub format: u32,
    /// The node.
    pub node: NodeId,
    /// Drawn at random when the node's store is made; with `sequence` it names the event for good.
    pub epoch: u64,
    /// Counts from 1 in each epoch, without a gap.
    pub sequence: u64,
    /// The sequence of the entry before this one in the node's outbox, set by the outbox when it hands the entry out; 0 when
    /// nothing is before it. What lies between was acknowledged, or dropped for want of room: the coordinator need not
    /// wait for it. `None` (an outbox that does not say) means `sequence - 1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<u64>,
    /// When, by the node's clock or its floor.
    pub at: UnixTime,
    /// Whether that clock was known to be right.
    pub clock_synced: bool,
    /// The boot it happened in.
    pub boot_id: String,
    /// The app, if it is about one.
    #[serde(default)]
    pub app: Option<AppName>,
    /// What happened.
    pub what: What,
}

/// What happened on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum What {
    /// The agent started.
    AgentStarted {
        /// Its version.
        version: String,
    },
    /// The agent was asked to stop and did.
    AgentStopped,
    /// A deployment moved on.
    PhaseChanged {
        /// The generation of the app.
        generation: Generation,
        /// The release that the phase is about.
        release: Option<ReleaseRef>,
        /// The new phase.
        phase: Phase,
    },
    /// A release became current.
    Committed {
        /// The generation of the app.
        generation: Generation,
        /// The release; `None` when the app was stopped as desired.
        release: Option<ReleaseRef>,
    },
    /// A release was refused.
    Refused {
        /// The generation of the app.
        generation: Generation,
        /// Its version, if known.
        #[serde(default)]
        version: Option<Version>,
        /// Why.
        refusal: Refusal,
    },
    /// A release that somebody brought to the node was not installed. Nothing was changed by it.
    NotInstalled {
        /// Its version.
        version: Version,
        /// Where it was to come from: a path or an address.
        source: String,
        /// The stable code; `None` when trying again may help.
        #[serde(default)]
        refusal: Option<RefusalCode>,
        /// Why.
        reason: String,
    },
    /// The owner has revoked the current release. It goes on running.
    ReleaseRevoked {
        /// The release.
        release: ReleaseRef,
    },
    /// The current release runs again after a refusal.
    Restored {
        /// The generation of the app.
        generation: Generation,
        /// What runs; `None` when there was nothing before.
        release: Option<ReleaseRef>,
    },
    /// An attempt failed and will be made again.
    Retrying {
        /// What was tried: "fetch", "restore", "refresh".
        deed: String,
        /// Why it failed.
        reason: String,
    },
    /// A message was not understood and dropped.
    MessageRejected {
        /// Its topic.
        topic: String,
        /// A stable word: "too_large", "not_json", "wrong_node", "unknown_format", "too_many_apps".
        why: String,
        /// For people.
        reason: String,
    },
    /// The app exited by itself and was started again, or given up for now.
    AppExited {
        /// How it ended, such as "exit status 1".
        reason: String,
        /// Restarts in a row.
        restarts: u32,
    },
    /// The app's probes changed their mind.
    AppHealth {
        /// Whether they hold.
        healthy: bool,
        /// Why not.
        #[serde(default)]
        reason: Option<String>,
    },
    /// A record on disk was unreadable and its previous copy, or the link, was used.
    RecordRecovered {
        /// The file.
        file: String,
        /// What was used instead.
        used: String,
    },
    /// The store did not open; it was set aside and a new one made.
    StoreRebuilt {
        /// Why.
        reason: String,
    },
    /// Entries were dropped because the outbox was full.
    EventsDropped {
        /// How many.
        count: u64,
    },
}

impl What {
    /// The stable code, as in JSON.
    pub fn code(&self) -> &'static str {
        match self {
            Self::AgentStarted { .. } => "agent_started",
            Self::AgentStopped => "agent_stopped",
            Self::PhaseChanged { .. } => "phase_changed",
            Self::Committed { .. } => "committed",
            Self::Refused { .. } => "refused",
            Self::NotInstalled { .. } => "not_installed",
            Self::ReleaseRevoked { .. } => "release_revoked",
            Self::Restored { .. } => "restored",
            Self::Retrying { .. } => "retrying",
            Self::MessageRejected { .. } => "message_rejected",
            Self::AppExited { .. } => "app_exited",
            Self::AppHealth { .. } => "app_health",
            Self::RecordRecovered { .. } => "record_recovered",
            Self::StoreRebuilt { .. } => "store_rebuilt",
            Self::EventsDropped { .. } => "events_dropped",
        }
    }

    /// Whether a full outbox may drop it to keep the others.
    pub fn is_telemetry(&self) -> bool {
        matches!(
            self,
            Self::PhaseChanged { .. } | Self::Retrying { .. } | Self::AppExited { .. } | Self::AppHealth { .. }
        )
    }
}

/// How far the coordinator has stored a node's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acked {
    /// The epoch it counts in.
    pub epoch: u64,
    /// Every event up to this one is stored.
    pub sequence: u64,
}

/// Whether the node is connected; also its last will.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Online {
    /// True from the node, false from its will or on a clean stop.
    pub online: bool,
    /// The boot it was said in.
    pub boot_id: String,
}

/// How the node is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Health {
    /// When, by the node's clock or its floor.
    pub at: UnixTime,
    /// Load average over one minute.
    pub load_1m: f64,
    /// Memory of the node, in bytes.
    pub memory_bytes: u64,
    /// Memory in use, in bytes.
    pub memory_used_bytes: u64,
    /// Size of the file system that holds the state, in bytes.
    pub disk_bytes: u64,
    /// Free space there, in bytes.
    pub disk_free_bytes: u64,
    /// The hottest sensor, in degrees Celsius.
    #[serde(default)]
    pub temperature_celsius: Option<f32>,
    /// Since boot, in seconds.
    pub uptime_secs: u64,
    /// How far the clock can be believed.
    pub clock: ClockState,
    /// The agent's version.
    pub agent_version: String,
}

/// How far a node's clock can be believed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ClockState {
    /// The kernel says that it is synchronised.
    Synced,
    /// It runs ahead of the floor, but nobody vouches for it.
    #[default]
    Unsynced,
    /// It is behind the newest time that was ever certain: the floor is used instead.
    BehindFloor,
}

/// Why an incoming message is dropped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}: {reason}")]
pub struct Rejected {
    /// A stable word; see [`What::MessageRejected`].
    pub why: &'static str,
    /// For people.
    pub reason: String,
}

/// Reads any message of this module, within the size limit.
pub fn read<T: serde::de::DeserializeOwned>(payload: &[u8]) -> Result<T, Rejected> {
    if payload.len() > PACKET_BYTES_MAX {
        let reason = format!("{} bytes; at most {PACKET_BYTES_MAX} are allowed", payload.len());
        return Err(Rejected { why: "too_large", reason });
    }
    serde_json::from_slice(payload).map_err(|e| Rejected { why: "not_json", reason: e.to_string() })
}

impl Desired {
    /// Reads a desired state and checks that it is for `node`.
    pub fn read(payload: &[u8], node: &NodeId) -> Result<Self, Rejected> {
        let desired: Self = read(payload)?;
        let rejected = |why, reason| Err(Rejected { why, reason });
        if desired.format != FORMAT {
            return rejected("unknown_format", format!("format {} is not {FORMAT}", desired.format));
        }
        if desired.node != *node {
            return rejected("wrong_node", format!("it is for {}, this is {node}", desired.node));
        }
        if desired.apps.len() > APPS_MAX {
            return rejected("too_many_apps", format!("{} apps; at most {APPS_MAX} are allowed", desired.apps.len()));
        }
        Ok(desired)
    }
}

/// Which blob of the coordinator holds an artifact.
pub fn blob_path(digest: &Digest) -> String {
    format!("/blobs/{digest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_desired_state_is_rejected_with_a_stable_word() {
        let node: NodeId = "a".parse().unwrap();
        let good = Desired { format: FORMAT, node: node.clone(), generation: 1, apps: vec![] };
        let bytes = serde_json::to_vec(&good).unwrap();
        assert_eq!(Desired::read(&bytes, &node), Ok(good));
        let why = |payload: &[u8]| Desired::read(payload, &node).unwrap_err().why;
        assert_eq!(why(b"{"), "not_json");
        assert_eq!(why(br#"{"format":1,"node":"b","generation":1,"apps":[]}"#), "wrong_node");
        assert_eq!(why(br#"{"format":2,"node":"a","generation":1,"apps":[]}"#), "unknown_format");
        assert_eq!(why(&vec![b' '; PACKET_BYTES_MAX + 1]), "too_large");
        let extra = br#"{"format":1,"node":"a","generation":1,"apps":[],"new":true}"#;
        assert!(Desired::read(extra, &node).is_ok(), "unknown fields are ignored");
    }

    #[test]
    fn codes_are_the_words_that_json_has() {
        let refusal =
            Refusal { release: ReleaseId(Digest([0; 32])), code: RefusalCode::NoSpace, reason: String::new() };
        let what = What::Refused { generation: 1, version: None, refusal };
        let json = serde_json::to_value(&what).unwrap();
        assert_eq!(json["code"], what.code());
        assert_eq!(json["refusal"]["code"], RefusalCode::NoSpace.as_str());
        assert_eq!(serde_json::to_value(Phase::Probing).unwrap(), Phase::Probing.as_str());
    }
}
