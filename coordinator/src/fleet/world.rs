//! The fleet as it is: what the coordinator answers, read at one time.

use std::collections::BTreeMap;

use orangery_wire::rest::{DesiredView, GroupView, NodeView, ReleaseView, RolloutView};
use orangery_wire::{AppName, Generation, Manifest, NodeId, ReleaseId, UnixTime, Version};

/// All that a plan is made from.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// The time.
    pub now: UnixTime,
    /// Every node.
    pub nodes: Vec<NodeView>,
    /// Every release.
    pub releases: Vec<ReleaseView>,
    /// The newest rollouts; those that have ended do not matter.
    pub rollouts: Vec<RolloutView>,
    /// Groups that have maintenance windows.
    pub groups: Vec<GroupView>,
    /// The manifests of the releases that the directory names.
    pub manifests: BTreeMap<ReleaseId, Manifest>,
}

/// Where a node is heading with an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heading {
    /// What it is told to run, or will be by a rollout that is under way; `None`: nothing.
    pub version: Option<Version>,
    /// Whether anybody ever said anything of it.
    pub is_spoken_of: bool,
    /// The generation in which it was told last; 0 if never.
    pub generation: Generation,
}

impl World {
    /// Nodes that were not revoked.
    pub fn active(&self) -> impl Iterator<Item = &NodeView> {
        self.nodes.iter().filter(|node| !node.revoked)
    }

    /// One node.
    pub fn node(&self, name: &NodeId) -> Option<&NodeView> {
        self.nodes.iter().find(|node| node.node == *name)
    }

    /// One release.
    pub fn release(&self, app: &AppName, version: &Version) -> Option<&ReleaseView> {
        self.releases.iter().find(|release| release.app == *app && release.version == *version)
    }

    /// Rollouts that go on by themselves or by a word.
    pub fn under_way(&self) -> impl Iterator<Item = &RolloutView> {
        self.rollouts.iter().filter(|rollout| matches!(rollout.status.as_str(), "running" | "paused" | "reverting"))
    }

    /// Where a node is heading with an app. A rollout that has stopped counts as if it went on: what becomes of it is for a
    /// person to say. One that goes back does not: those that it has told are told otherwise, and it tells no more.
    pub fn heading(&self, node: &NodeView, app: &AppName) -> Heading {
        let told = desired(node, app);
        let generation = told.map_or(0, |told| told.generation);
        let onward = self.under_way().filter(|rollout| rollout.status != "reverting" && rollout.app == *app);
        let rollout = onward.filter(|rollout| has(rollout, &node.node)).max_by_key(|rollout| rollout.rollout);
        let told_version = || told.and_then(|told| told.version.clone());
        let is_spoken_of = rollout.is_some() || told.is_some();
        let version = rollout.map(|rollout| rollout.version.clone()).or_else(told_version);
        Heading { version, is_spoken_of, generation }
    }

    /// What is proven on a node, as far as is known: a node that never said so is believed to run what it was told.
    pub fn proven(node: &NodeView, app: &AppName) -> Option<(ReleaseId, Version)> {
        let Some(reported) = &node.reported else {
            let told = desired(node, app)?;
            return told.release.zip(told.version.clone());
        };
        let report = reported.apps.iter().find(|report| report.app == *app)?;
        report.current.as_ref().map(|current| (current.id, current.version.clone()))
    }
}

/// What a node was told of an app.
pub fn desired<'a>(node: &'a NodeView, app: &AppName) -> Option<&'a DesiredView> {
    node.desired.iter().find(|desired| desired.app == *app)
}

/// Whether a rollout still has the node.
fn has(rollout: &RolloutView, node: &NodeId) -> bool {
    let mut nodes = rollout.waves.iter().flat_map(|wave| &wave.nodes);
    nodes.any(|turn| turn.node == *node && !matches!(turn.state.as_str(), "superseded" | "told_otherwise"))
}
