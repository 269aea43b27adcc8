//! Rollouts: a release brought to many nodes in waves, and holds, which keep nodes out of it.

mod sizes;

use serde::{Deserialize, Serialize};

use super::groups::ShutNode;
use crate::ids::{AppName, Digest, Generation, NodeId, ReleaseId, UnixTime, Version};
pub use sizes::{Allowance, WaveSize};

/// `POST /v1/rollouts/plan` and `POST /v1/rollouts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RolloutRequest {
    /// The app.
    pub app: AppName,
    /// The version.
    pub version: Version,
    /// Which nodes: each a name, `label=value` or `all`; together they choose whom any of them chooses.
    pub to: Vec<String>,
    /// Nodes that come first, as a wave of their own. They must be among those chosen.
    #[serde(default)]
    pub canaries: Vec<NodeId>,
    /// The waves after the canaries; the last must reach everybody. Empty: one wave of all.
    #[serde(default)]
    pub waves: Vec<WaveSize>,
    /// By which rules.
    #[serde(default)]
    pub policy: RolloutPolicy,
    /// Why it is asked for.
    #[serde(default)]
    pub deed: DeedRequest,
    /// The plan's own mark: refused when the plan has changed since it was shown.
    #[serde(default)]
    pub plan: Option<Digest>,
    /// Whether nodes are told outside of their maintenance windows too: for emergencies.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ignore_windows: bool,
}

/// A time, and what it means for a node when it has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Deadline {
    /// Seconds in which the coordinator listens: 1 to 30 days.
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 2_592_000))]
    pub secs: u64,
    /// What becomes of the node then.
    pub then: Overdue,
}

/// What a node that misses a deadline counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Overdue {
    /// A failure.
    Fail,
    /// Nothing: the wave goes on without it. It takes the release when it is back.
    Skip,
    /// The wave waits for it.
    Wait,
}

/// What a rollout does when a wave has more failures than it may have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// It tells nobody else, and waits for a person.
    #[default]
    Pause,
    /// It tells every node that it told to run what was proven there before.
    Revert,
}

/// The rules of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct RolloutPolicy {
    /// How long each node of a wave must be well before the next wave opens, in seconds, for each wave; the last one counts for
    /// all further waves. At most 30 days.
    pub soak_secs: Vec<u64>,
    /// How many nodes may fail, for each wave, as above.
    pub failures: Vec<Allowance>,
    /// What then.
    pub on_failure: OnFailure,
    /// Whether each wave but the first waits for an approval.
    pub approve_between: bool,
    /// From being told to having taken it in.
    pub start: Deadline,
    /// Without a change that the node reports, and in the soak without a sign of life.
    pub progress: Deadline,
    /// From having taken it in to the proof.
    pub done: Deadline,
    /// Whether nodes that run the release are compared, and how much worse they may be; `None`: they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compare: Option<Compare>,
}

/// How much worse a release may make a node: against the same node before, less what changed in the same time on nodes that do
/// not run it yet. Restarts, memory and how long probes take are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Compare {
    /// How much of the memory before it may hold, in hundredths: 101 to 10000.
    #[cfg_attr(feature = "openapi", schema(minimum = 101, maximum = 10_000))]
    pub memory_percent: u32,
    /// How much of the time before its probes may take, in hundredths: 101 to 10000.
    #[cfg_attr(feature = "openapi", schema(minimum = 101, maximum = 10_000))]
    pub latency_percent: u32,
    /// How long a comparison that shows nothing is waited for after the soak, in seconds, before a person is asked: at most 30 days.
    #[cfg_attr(feature = "openapi", schema(maximum = 2_592_000))]
    pub patience_secs: u64,
}

impl Default for Compare {
    fn default() -> Self {
        Self { memory_percent: 150, latency_percent: 200, patience_secs: 1_800 }
    }
}

impl Default for RolloutPolicy {
    fn default() -> Self {
        Self {
            soak_secs: vec![600],
            failures: vec![Allowance::Count(0)],
            on_failure: OnFailure::Pause,
            approve_between: false,
            start: Deadline { secs: 3_600, then: Overdue::Skip },
            progress: Deadline { secs: 3_600, then: Overdue::Fail },
            done: Deadline { secs: 4 * 3_600, then: Overdue::Fail },
            compare: None,
        }
    }
}

/// Why something is asked for: `POST /v1/rollouts/ID/pause`, `resume`, `promote`, `revert`, `approve`, `ignore-windows`. Who asks is
/// whose token comes with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct DeedRequest {
    /// Why; at most 1024 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_length = 1_024))]
    pub note: Option<String>,
}

/// Who did something, when and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Deed {
    /// The user whose token came with it.
    pub by: String,
    /// When.
    pub at: UnixTime,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Answer to `POST /v1/rollouts/plan`: the waves, written out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RolloutPlan {
    /// The app.
    pub app: AppName,
    /// The version.
    pub version: Version,
    /// The mark to send when it is begun.
    pub mark: Digest,
    /// The waves.
    pub waves: Vec<PlannedWave>,
    /// Chosen nodes that are in no wave, and why.
    pub left_out: Vec<LeftOut>,
    /// Rollouts of the app that are under way and lose nodes to this one.
    pub supersedes: Vec<Superseding>,
    /// Nodes whose maintenance window is shut now. What is told of them changes with time and is no part of the mark.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shut: Vec<ShutNode>,
}

/// One wave of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PlannedWave {
    /// Its nodes.
    pub nodes: Vec<NodeId>,
    /// How long each must be well.
    pub soak_secs: u64,
    /// How many may fail.
    pub failures: Allowance,
    /// Whether it waits for an approval.
    pub approve: bool,
}

/// A node that a rollout leaves out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LeftOut {
    /// The node.
    pub node: NodeId,
    /// Why.
    pub reason: String,
}

/// A rollout that another one takes nodes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Superseding {
    /// The older rollout.
    pub rollout: u64,
    /// Its version.
    pub version: Version,
    /// The nodes that it loses.
    pub nodes: Vec<NodeId>,
}

/// One rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RolloutView {
    /// Counts from 1.
    pub rollout: u64,
    /// The app.
    pub app: AppName,
    /// The version.
    pub version: Version,
    /// The release.
    pub release: ReleaseId,
    /// `running`, `paused`, `reverting`, `done`, `reverted` or `superseded`.
    pub status: String,
    /// Why it is so, or what it waits for.
    pub reason: String,
    /// What it does when a wave has too many failures.
    pub on_failure: OnFailure,
    /// Who began it.
    pub begun: Deed,
    /// Who lets it tell nodes outside of their maintenance windows, if somebody does.
    #[serde(default)]
    pub ignores_windows: Option<Deed>,
    /// How much worse the release may make a node, if that is compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compare: Option<Compare>,
    /// The waves.
    pub waves: Vec<WaveView>,
    /// What was done with it and what came of it, oldest first; the newest 200.
    #[serde(default)]
    pub log: Vec<RolloutEntry>,
}

/// One wave of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WaveView {
    /// Counts from 1.
    pub wave: u32,
    /// How long each node must be well, in seconds.
    pub soak_secs: u64,
    /// How many may fail.
    pub failures: Allowance,
    /// Whether it is for nodes that came later.
    pub trailing: bool,
    /// Whether it waits for an approval.
    pub approve: bool,
    /// Who approved it.
    #[serde(default)]
    pub approved: Option<Deed>,
    /// Who opened it before its time.
    #[serde(default)]
    pub promoted: Option<Deed>,
    /// When it was opened.
    #[serde(default)]
    pub opened_at: Option<UnixTime>,
    /// Its nodes.
    pub nodes: Vec<RolloutNode>,
}

/// One node of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RolloutNode {
    /// The node.
    pub node: NodeId,
    /// A stable word: `wave_ahead`, `approval`, `nobody_proved`, `window`, `away`, `paused`, `reverting`, `held`, `unfit`, `revoked`, `not_taken_in`,
    /// `in_progress`, `soaking`, `comparing`, `inconclusive`, `overdue`, `failed`, `soaked`, `going_back`, `back`, `superseded`, `told_otherwise`, `not_reached`,
    /// `not_told`.
    pub state: String,
    /// The sentence, without the node's name.
    pub text: String,
    /// The generation in which it was told; `None` before that.
    #[serde(default)]
    pub generation: Option<Generation>,
    /// What was proven there before it was told; `None` if nothing was, or it was not told.
    #[serde(default)]
    pub earlier: Option<Version>,
}

/// One entry of a rollout's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RolloutEntry {
    /// When.
    pub at: UnixTime,
    /// A stable word: `begun`, `wave_opened`, `failed`, `paused`, `resumed`, `approved`, `promoted`, `reverting`, `reverted`, `done`,
    /// `joined_late`, `superseded`, `told_otherwise`, `windows_ignored`.
    pub code: String,
    /// Who did it; `None` if the rollout did.
    #[serde(default)]
    pub by: Option<String>,
    /// The wave.
    #[serde(default)]
    pub wave: Option<u32>,
    /// The node.
    #[serde(default)]
    pub node: Option<NodeId>,
    /// What happened.
    pub text: String,
}

/// `POST /v1/nodes/NODE/hold`: the node is told nothing new until it is released.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct HoldRequest {
    /// Only this app, which is thereby pinned to what the node was told to run; `None`: all apps.
    #[serde(default)]
    pub app: Option<AppName>,
    /// How long, in seconds, at most a year; `None`: until it is released.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 31_622_400))]
    pub expires_secs: Option<u64>,
    /// Why it is held. A reason is needed.
    pub deed: DeedRequest,
}

/// `POST /v1/nodes/NODE/release`: ends a hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ReleaseHoldRequest {
    /// The app whose hold ends; `None`: the one of all apps.
    #[serde(default)]
    pub app: Option<AppName>,
}

/// A hold of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HoldView {
    /// The app; `None`: all apps.
    #[serde(default)]
    pub app: Option<AppName>,
    /// When it ends by itself.
    #[serde(default)]
    pub expires_at: Option<UnixTime>,
    /// Who, when and why.
    pub deed: Deed,
}
