//! Groups of nodes with maintenance windows: when their nodes may be told something new by a rollout.

mod window;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::rollouts::{Deed, DeedRequest};
use crate::ids::{NodeId, UnixTime};
pub use window::{Day, MaintenanceWindow, TimeOfDay};

/// Most groups of a coordinator.
pub const GROUPS_MAX: usize = 200;
/// Most windows of a group.
pub const WINDOWS_MAX: usize = 16;
/// Most nodes that a group names, and most labels.
pub const MEMBERS_MAX: usize = 1_000;

/// Which nodes belong to a group: those that are named, and those that report all the labels; or all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Members {
    /// Every node, whatever else stands here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// Nodes by name; at most 1,000.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub nodes: BTreeSet<NodeId>,
    /// Labels that a node must report, all of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl Members {
    /// Whether nothing could ever belong to it.
    pub fn is_nobody(&self) -> bool {
        !self.all && self.nodes.is_empty() && self.labels.is_empty()
    }

    /// Whether a node that reports these labels belongs to it.
    pub fn has(&self, node: &NodeId, labels: Option<&BTreeMap<String, String>>) -> bool {
        let reports = || labels.is_some_and(|has| self.labels.iter().all(|(name, value)| has.get(name) == Some(value)));
        self.all || self.nodes.contains(node) || (!self.labels.is_empty() && reports())
    }
}

/// `POST /v1/groups/GROUP`: who belongs to it, and its windows. It replaces what the group was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct GroupRequest {
    /// Who belongs to it; at least one node that is there.
    pub members: Members,
    /// When they may be told something new: 1 to 16 windows, and being inside of one is enough.
    pub windows: Vec<MaintenanceWindow>,
    /// Why.
    #[serde(default)]
    pub deed: DeedRequest,
}

/// A group that has windows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GroupView {
    /// Its name.
    pub group: String,
    /// Who belongs to it.
    pub members: Members,
    /// How many nodes that are.
    pub count: u32,
    /// Its windows.
    pub windows: Vec<MaintenanceWindow>,
    /// Whether one of them is open now.
    pub open: bool,
    /// When that changes; `None` if it does not within a year.
    #[serde(default)]
    pub changes_at: Option<UnixTime>,
    /// Who set it.
    pub deed: Deed,
}

/// A node whose window is shut now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ShutNode {
    /// The node.
    pub node: NodeId,
    /// When it opens; `None` if nobody can say.
    #[serde(default)]
    pub opens_at: Option<UnixTime>,
    /// The sentence, without the node's name.
    pub text: String,
}
