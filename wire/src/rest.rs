//! What travels over HTTPS besides files: JSON bodies of the coordinator's REST API.

mod audit;
mod glance;
mod groups;
mod notify;
mod output;
mod rollouts;
mod sessions;
mod users;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{AppName, Digest, Generation, NodeId, ReleaseId, UnixTime, Version};
use crate::messages::{Event, Evidence, Health, RefusalCode, Reported};
pub use audit::{AuditEntry, AuditLine, AuditPage};
pub use glance::{Attention, FleetApp, FleetNode, FleetView, HealthHistory, HealthPoint};
pub use groups::{
    Day, GROUPS_MAX, GroupRequest, GroupView, MEMBERS_MAX, MaintenanceWindow, Members, ShutNode, TimeOfDay, WINDOWS_MAX,
};
pub use notify::{NotifyTargetView, NotifyTestView};
pub use output::{OutputRequest, OutputTaken, OutputView};
pub use rollouts::{
    Allowance, Compare, Deadline, Deed, DeedRequest, HoldRequest, HoldView, LeftOut, OnFailure, Overdue, PlannedWave,
    ReleaseHoldRequest, RolloutEntry, RolloutNode, RolloutPlan, RolloutPolicy, RolloutRequest, RolloutView,
    Superseding, WaveSize, WaveView,
};
pub use sessions::{OwnPasswordRequest, PasswordRequest, SessionView, SignInRequest, SignedInView};
pub use users::{NewToken, Role, RoleRequest, TokenRequest, TokenView, UserRequest, UserView};

/// Every error answer has this body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ErrorBody {
    /// A stable word, such as `token_used`.
    pub code: String,
    /// What failed and why, for people.
    pub message: String,
    /// What to do next, if there is something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// `POST /v1/invites`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct InviteRequest {
    /// The name that the node gets; without it the board's host name is used.
    #[serde(default)]
    pub name: Option<NodeId>,
    /// How long the invite lasts, in seconds: 1 to 30 days.
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 2_592_000))]
    pub expires_secs: u64,
    /// How many boards may use it: 1 to 1000. With a name, only 1.
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 1_000))]
    pub uses: u32,
}

/// Answer to [`InviteRequest`]. The client adds the trust root's fingerprint and makes the token of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InviteResponse {
    /// Where nodes reach the coordinator.
    pub url: String,
    /// SHA-256 of the CA certificate (DER).
    pub ca: Digest,
    /// The secret; it is shown this once.
    pub secret: String,
    /// When it ends.
    pub expires_at: UnixTime,
    /// SHA-256 of the first root that the coordinator has. Who has the owner's own takes that instead: a token made with this one
    /// trusts the coordinator to name the owner.
    #[serde(default)]
    pub root: Option<Digest>,
}

/// `POST /v1/join`, authorised by the secret alone.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JoinRequest {
    /// The token's secret.
    pub secret: String,
    /// The name that the board would like: its host name.
    pub name: Option<String>,
    /// PKCS#10 request for the node's own key (PEM). Its subject is ignored.
    pub csr_pem: String,
}

/// Answer to [`JoinRequest`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JoinResponse {
    /// The node's name: the common name of its certificate.
    pub node: NodeId,
    /// The certificate (PEM).
    pub certificate_pem: String,
    /// The CA (PEM). The node checks it against the token's fingerprint.
    pub ca_pem: String,
    /// `1.root.json`, as signed by the owner. The node checks it against the token's fingerprint.
    pub root: String,
    /// The broker, as `host:port`.
    pub mqtt: String,
}

/// `POST /v1/renew`, authorised by the node's present certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RenewRequest {
    /// PKCS#10 request (PEM); its subject is ignored.
    pub csr_pem: String,
}

/// Answer to [`RenewRequest`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RenewResponse {
    /// The new certificate (PEM).
    pub certificate_pem: String,
}

/// One node, as the coordinator knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NodeView {
    /// The node.
    pub node: NodeId,
    /// When it enrolled.
    pub joined_at: UnixTime,
    /// Whether its certificate was revoked.
    pub revoked: bool,
    /// Whether it is connected.
    pub online: bool,
    /// When anything was last heard of it.
    #[serde(default)]
    pub seen_at: Option<UnixTime>,
    /// What it was told to run.
    pub desired: Vec<DesiredView>,
    /// Its last proof.
    #[serde(default)]
    pub reported: Option<Reported>,
    /// Its last health message.
    #[serde(default)]
    pub health: Option<Health>,
    /// What keeps it from being told anything new.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<HoldView>,
}

/// What a node was told to run of one app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DesiredView {
    /// The app.
    pub app: AppName,
    /// Its generation.
    pub generation: Generation,
    /// The release; `None` stops the app.
    #[serde(default)]
    pub release: Option<ReleaseId>,
    /// Its version.
    #[serde(default)]
    pub version: Option<Version>,
}

/// One release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReleaseView {
    /// The app.
    pub app: AppName,
    /// Its version.
    pub version: Version,
    /// Its id.
    pub id: ReleaseId,
    /// Its platforms.
    pub platforms: Vec<String>,
    /// What changed.
    #[serde(default)]
    pub notes: Option<String>,
    /// When it was published.
    pub published_at: UnixTime,
    /// Why no node would install it any more: `release_revoked` or `below_floor`; `None` if it can be deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<String>,
    /// The ids of the keys that vouch for it in the newest metadata; none if that does not name it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signed_by: Vec<String>,
}

/// `POST /v1/trust`: what the owner signed anew. The same request again changes nothing.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TrustRequest {
    /// The next `N.root.json`; without it the root stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// Newer targets, or newer metadata of a delegated role, which name no release that is not here already; without them
    /// they stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<String>,
}

/// The metadata that the coordinator publishes: versions, 0 or `null` where there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TrustView {
    /// Of the latest root.
    pub root: u64,
    /// Of the targets.
    #[serde(default)]
    pub targets: Option<u64>,
    /// Of the snapshot.
    #[serde(default)]
    pub snapshot: Option<u64>,
    /// Of the timestamp.
    #[serde(default)]
    pub timestamp: Option<u64>,
    /// When snapshot and timestamp expire; the coordinator signs them anew every day.
    #[serde(default)]
    pub online_expires_at: Option<UnixTime>,
    /// Of the delegated roles, by name; those that have ended are among them.
    #[serde(default)]
    pub roles: BTreeMap<String, u64>,
}

/// Answer to `POST /v1/trust/online-keys`: the keys that the coordinator will sign with once a root names them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OnlineKeysView {
    /// For snapshots, as `ed25519:HEX`.
    pub snapshot: String,
    /// For timestamps, as `ed25519:HEX`.
    pub timestamp: String,
}

/// `POST /v1/releases`: the manifest and the targets metadata that vouches for it. The artifacts are there already
/// (`PUT /v1/blobs/DIGEST`). The same request again changes nothing.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PublishRequest {
    /// The manifest's bytes, which are UTF-8 JSON.
    pub manifest: String,
    /// `targets.json` as signed by the owner, or the metadata of the delegated role that signs the app.
    pub targets: String,
}

/// `POST /v1/deployments/plan` and `POST /v1/deployments`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct DeployRequest {
    /// The app.
    pub app: AppName,
    /// The version; `None` stops the app.
    #[serde(default)]
    pub version: Option<Version>,
    /// Which nodes: a name, `label=value` or `all`.
    pub to: String,
    /// The plan's own mark: apply is refused when the plan has changed since it was shown.
    #[serde(default)]
    pub plan: Option<Digest>,
    /// Why.
    #[serde(default)]
    pub deed: DeedRequest,
}

/// Answer to [`DeployRequest`]: what would change, or has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Plan {
    /// The app.
    pub app: AppName,
    /// The mark to send with apply.
    pub mark: Digest,
    /// One step for each node chosen.
    pub steps: Vec<PlanStep>,
}

/// One node of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PlanStep {
    /// The node.
    pub node: NodeId,
    /// Whether it is connected now.
    pub online: bool,
    /// What it runs now, as far as is known.
    #[serde(default)]
    pub now: Option<Version>,
    /// What it shall run.
    #[serde(default)]
    pub then: Option<Version>,
    /// Whether anything changes.
    pub changes: bool,
    /// Why it will not work, if that is known already (revoked, wrong platform, label missing).
    #[serde(default)]
    pub warning: Option<String>,
    /// The generation that the change got; 0 in a plan.
    pub generation: Generation,
}

/// An event with its place in the coordinator's own order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EventView {
    /// Counts from 1; use it to go on where one stopped.
    pub id: u64,
    /// When the coordinator stored it.
    pub stored_at: UnixTime,
    /// The event.
    pub event: Event,
}

/// `GET /v1/nodes/NODE/why`: why each app of a node is where it is. Always at least one line for each app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Why {
    /// The node.
    pub node: NodeId,
    /// The answers.
    pub lines: Vec<WhyLine>,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WhyLine {
    /// The app; `None` when it is about the node.
    #[serde(default)]
    pub app: Option<AppName>,
    /// A stable word: a refusal's code, or `up_to_date`, `offline`, `not_taken_in`, `in_progress`, `revoked`, `never_seen`,
    /// `nothing_desired`, `unhealthy_now`, `held`, `in_rollout`.
    pub code: String,
    /// The refusal's code, if that is what it is.
    #[serde(default)]
    pub refusal: Option<RefusalCode>,
    /// What the node saw of the release that it refused, if it came to a trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Box<Evidence>>,
    /// The whole sentence.
    pub text: String,
}

/// `GET /v1/status`: the fleet at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Status {
    /// The coordinator's version.
    pub version: String,
    /// Whether it reaches its broker.
    pub broker_connected: bool,
    /// All nodes.
    pub nodes: Vec<NodeView>,
}
