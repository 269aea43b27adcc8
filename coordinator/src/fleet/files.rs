//! The files as they are written. Their JSON Schemas, in docs/schema, are made from these types.

use std::collections::{BTreeMap, BTreeSet};

use orangery_wire::rest::{Allowance, MaintenanceWindow, Members, OnFailure, WaveSize};
use orangery_wire::{AppName, NodeId, Version};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::span::{Limits, Soak, Within};

/// `fleet.toml`: what all the other files are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FleetFile {
    /// The format of the directory: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<u32>,
    /// The only coordinator that this directory is for, as in the `url` of the operator's settings: `https://HOST:PORT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coordinator: Option<String>,
}

/// `channels.toml`: for each channel the version that it means of each app.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChannelsFile(pub BTreeMap<String, BTreeMap<AppName, Version>>);

/// `rollouts.toml`: policies by name. `default` counts for every app that names none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoliciesFile(pub BTreeMap<String, PolicyFile>);

/// By which rules a change is brought to nodes. What is left out is as in `orangery rollout start`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyFile {
    /// Nodes that come first, as a wave of their own, if the change is for them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub canaries: BTreeSet<NodeId>,
    /// How far each wave reaches: `10%` or `5` of the nodes that change, from the first on, or `label=value`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub waves: Vec<WaveSize>,
    /// How long each node must be well before the next wave opens, such as `1h`; one for each wave, the last for all further ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub soak: Vec<Soak>,
    /// How many nodes of a wave may fail: `1` or `5%`; one for each wave, the last for all further ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub failures: Vec<Allowance>,
    /// What then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
    /// Whether each wave but the first waits for an approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approve_between: Option<bool>,
    /// Time for a node to take it in, and what it counts as after that: `1h:skip`, `1h:fail` or `1h:wait`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub start_within: Option<Within>,
    /// Longest time without news of a node that has begun, and what it counts as after that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub progress_within: Option<Within>,
    /// Time from taking it in to the proof, and what the node counts as after that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub done_within: Option<Within>,
    /// Compares each node with itself before, and with nodes that do not run it yet: `yes`, or how much worse it may be:
    /// `memory=150%,latency=200%,patience=30m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub compare: Option<Limits>,
}

/// What a node is to run of an app: exactly one of the three.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// This version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// The version that `channels.toml` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// Nothing: the app is stopped. Only `true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<bool>,
}

/// `apps/APP.toml`: which version an app has where. What a node's own file says goes before what its groups say, and that
/// before the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AppFile {
    /// The policy in `rollouts.toml` by which it is changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<String>,
    /// On every node; without it only on nodes of which a group or a node's own file says something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Wish>,
    /// On the nodes of a group. Two groups that have a node in common must not differ.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, Wish>,
}

/// `groups/GROUP.toml`: nodes that are named, and nodes that report all the labels. At least one node must be there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupFile {
    /// Nodes by name.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub nodes: BTreeSet<NodeId>,
    /// Labels that a node must report, all of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Every node, whatever else stands here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// When rollouts may tell its nodes something; without one at any time. A node of two groups must be inside a window of each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<MaintenanceWindow>,
}

/// `nodes/NODE.toml`: what one node has otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeFile {
    /// Keeps the node from being told anything new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<HoldFile>,
    /// By app.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub apps: BTreeMap<AppName, NodeApp>,
}

/// What one node has otherwise of one app: at most one of `version`, `channel` and `stop`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeApp {
    /// This version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// The version that `channels.toml` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// Nothing: the app is stopped. Only `true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<bool>,
    /// Pins the app to what the node was told to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<HoldFile>,
}

/// A hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HoldFile {
    /// Why: everybody who asks is told.
    pub reason: String,
    /// When it ends by itself, in UTC: `2026-12-24T18:00:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// What a [`Wish`] is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice<'a> {
    /// This version.
    Version(&'a Version),
    /// What this channel says.
    Channel(&'a str),
    /// Nothing.
    Stop,
}

impl Wish {
    /// What it is for; `None` if it says nothing, or more than one thing.
    pub fn choice(&self) -> Option<Choice<'_>> {
        match (&self.version, &self.channel, self.stop) {
            (Some(version), None, None) => Some(Choice::Version(version)),
            (None, Some(channel), None) => Some(Choice::Channel(channel)),
            (None, None, Some(true)) => Some(Choice::Stop),
            _ => None,
        }
    }
}

impl NodeApp {
    /// What it says of the version; `None` if it only holds.
    pub fn wish(&self) -> Option<Wish> {
        let wish = Wish { version: self.version.clone(), channel: self.channel.clone(), stop: self.stop };
        (wish != Wish::default()).then_some(wish)
    }
}

impl NodeFile {
    /// What it holds: all apps (`None`) or one.
    pub fn holds(&self) -> impl Iterator<Item = (Option<&AppName>, &HoldFile)> {
        let apps = self.apps.iter().filter_map(|(app, says)| Some((Some(app), says.hold.as_ref()?)));
        self.hold.iter().map(|hold| (None, hold)).chain(apps)
    }
}

impl GroupFile {
    /// Whether a node with these labels is in it.
    pub fn has(&self, node: &NodeId, labels: Option<&BTreeMap<String, String>>) -> bool {
        self.members().has(node, labels)
    }

    /// Who belongs to it, as the coordinator is told.
    pub fn members(&self) -> Members {
        Members { all: self.all, nodes: self.nodes.clone(), labels: self.labels.clone() }
    }
}
