//! What happens on a node, told once and for good.

use serde::{Deserialize, Serialize};

use super::{Evidence, Phase, Refusal, RefusalCode, ReleaseRef};
use crate::ids::{AppName, Generation, NodeId, UnixTime, Version};

/// Something that happened on a node and must not be lost: kept in the node's outbox until the coordinator has stored it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Event {
    /// The format of messages: 1.
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
        /// As in [`super::AppReport`].
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        unwitnessed: bool,
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
        /// What was seen of it during its trial, if it came to one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        evidence: Option<Box<Evidence>>,
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
