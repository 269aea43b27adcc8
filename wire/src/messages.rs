//! What travels over MQTT: JSON, at most [`crate::limits::PACKET_BYTES_MAX`] bytes, unknown fields ignored.

mod event;
mod evidence;
mod refusal_code;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{AppName, Digest, Generation, NodeId, ReleaseId, UnixTime, Version};
use crate::limits::{APPS_MAX, PACKET_BYTES_MAX, SHOW_MAX};
pub use event::{Event, What};
pub use evidence::{Evidence, ProbeEvidence};
pub use refusal_code::RefusalCode;

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
    /// Whose output somebody would like to see now; at most [`crate::limits::SHOW_MAX`]. Nothing that a node runs depends on it,
    /// and an agent that does not know it leaves it unanswered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub show: Vec<Show>,
}

/// An output that somebody would like to see. The answer is [`crate::rest::OutputRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Show {
    /// The app.
    pub app: AppName,
    /// Which asking it is. The same number again is the same asking.
    pub request: u64,
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
    /// Whether the current release was proven by its probes alone, for the node had no connection to its coordinator when
    /// the trial began.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unwitnessed: bool,
    /// What keeps the deployment from going on at this moment, if something does, for people: the disk, an attempt that
    /// failed, the trial of another app. At most [`crate::limits::REASON_BYTES_MAX`] bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
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
    /// The bytes that the agent keeps for itself; `None` when the node's settings want none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserve: Option<ReserveState>,
    /// The hottest sensor, in degrees Celsius.
    #[serde(default)]
    pub temperature_celsius: Option<f32>,
    /// Since boot, in seconds.
    pub uptime_secs: u64,
    /// How far the clock can be believed.
    pub clock: ClockState,
    /// The agent's version.
    pub agent_version: String,
    /// How the apps are whose release is proven and watched; at most [`crate::limits::APPS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub apps: Vec<AppVitals>,
}

/// How an app is, as far as its release can be compared with another one by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AppVitals {
    /// The app.
    pub app: AppName,
    /// The release that is watched.
    pub release: ReleaseId,
    /// For how long this agent has watched it without a break, in seconds.
    pub watched_secs: u64,
    /// How often it exited by itself in that time.
    pub restarts: u32,
    /// Memory that it holds now, in bytes, without what the kernel could drop at any time, such as copies of files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// How long good answers to its probes took since the last message, on average, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe_micros: Option<u32>,
}

/// The bytes that an agent keeps so that it can restore, record and report on a full disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ReserveState {
    /// All of them are held.
    Full,
    /// Some were given up because the disk was full.
    Freed,
    /// There was no room for them.
    Missing,
}

impl ReserveState {
    /// The word used in every message, log line and listing.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Freed => "freed",
            Self::Missing => "missing",
        }
    }
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
        if desired.show.len() > SHOW_MAX {
            return rejected(
                "too_many_shows",
                format!("{} outputs; at most {SHOW_MAX} are allowed", desired.show.len()),
            );
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
        let good = Desired { format: FORMAT, node: node.clone(), generation: 1, apps: vec![], show: vec![] };
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
        let what = What::Refused { generation: 1, version: None, refusal, evidence: None };
        let json = serde_json::to_value(&what).unwrap();
        assert_eq!(json["code"], what.code());
        assert_eq!(json["refusal"]["code"], RefusalCode::NoSpace.as_str());
        assert_eq!(serde_json::to_value(Phase::Probing).unwrap(), Phase::Probing.as_str());
    }
}
