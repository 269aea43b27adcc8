//! What a directory means for the nodes that there are.

use std::collections::{BTreeMap, BTreeSet};

use orangery_wire::rest::NodeView;
use orangery_wire::{AppName, NodeId, Version};
use serde::Serialize;

use super::Problems;
use super::files::{Choice, GroupFile, Wish};
use super::parse::Desired;
use super::world::World;
use crate::nearest::nearest;

/// What a node shall run of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// This version.
    Version(Version),
    /// Nothing.
    Stop,
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Version(version) => version.fmt(f),
            Self::Stop => f.write_str("nothing"),
        }
    }
}

/// A name in the directory that no node has, or only one that was revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unknown {
    /// The name.
    pub node: NodeId,
    /// The file that names it.
    pub named_in: String,
    /// Why nothing is done for it.
    pub reason: String,
}

/// What a directory means.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolved {
    /// What each node shall run of each app of which anything is said.
    pub targets: BTreeMap<(AppName, NodeId), Target>,
    /// Names that no node has.
    pub unknown: Vec<Unknown>,
}

/// Says what a directory means for the nodes that there are. At fault are groups without a node, groups that contradict one
/// another, and versions that nobody published.
pub fn resolve(desired: &Desired, world: &World) -> Result<Resolved, Problems> {
    let mut problems = Problems::default();
    let mut resolved = Resolved { unknown: unknown(desired, world), ..Resolved::default() };
    for (group, says) in &desired.groups {
        if !world.active().any(|node| is_in(says, node)) {
            problems.add(nobody(group, says));
        }
    }
    for app in desired.apps.keys() {
        for node in world.active() {
            match target(desired, app, node) {
                Ok(Some(target)) => drop(resolved.targets.insert((app.clone(), node.node.clone()), target)),
                Ok(None) => {}
                Err(problem) => problems.add(problem),
            }
        }
    }
    for (app, version, path) in named_versions(desired) {
        check_published(world, app, version, &path, &mut problems);
    }
    problems.none_or(resolved)
}

fn is_in(group: &GroupFile, node: &NodeView) -> bool {
    group.has(&node.node, node.reported.as_ref().map(|reported| &reported.labels))
}

fn nobody(group: &str, says: &GroupFile) -> String {
    let labels: Vec<String> = says.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let reports = (!labels.is_empty()).then(|| format!("no node reports {}", labels.join(" and ")));
    let there = (!says.nodes.is_empty()).then(|| "none of its `nodes` is there".to_owned());
    let why: Vec<String> = there.into_iter().chain(reports).collect();
    format!("groups/{group}.toml matches no node: {}; `orangery node list` shows all nodes and labels", why.join(", "))
}

/// What a node shall run: its own file first, then its groups, then the default.
fn target(desired: &Desired, app: &AppName, node: &NodeView) -> Result<Option<Target>, String> {
    let Some(file) = desired.apps.get(app) else { return Ok(None) };
    let own = desired.nodes.get(&node.node).and_then(|says| says.apps.get(app)?.wish());
    if let Some(wish) = own {
        return Ok(means(desired, app, &wish));
    }
    let mut found: Option<(&str, Target)> = None;
    for (group, wish) in &file.groups {
        if !desired.groups.get(group).is_some_and(|says| is_in(says, node)) {
            continue;
        }
        let Some(target) = means(desired, app, wish) else { continue };
        match &found {
            Some((other, before)) if *before != target => {
                return Err(format!(
                    "groups/{other}.toml and groups/{group}.toml both have {node}, and apps/{app}.toml wants {before} in the \
                     one and {target} in the other: take it out of one of them, or say it in nodes/{node}.toml",
                    node = node.node
                ));
            }
            Some(_) => {}
            None => found = Some((group.as_str(), target)),
        }
    }
    let by_default = || file.default.as_ref().and_then(|wish| means(desired, app, wish));
    Ok(found.map(|(_, target)| target).or_else(by_default))
}

fn means(desired: &Desired, app: &AppName, wish: &Wish) -> Option<Target> {
    match wish.choice()? {
        Choice::Stop => Some(Target::Stop),
        Choice::Version(version) => Some(Target::Version(version.clone())),
        Choice::Channel(channel) => desired.channels.get(channel)?.get(app).cloned().map(Target::Version),
    }
}

/// Every version in the directory, and the file that names it.
fn named_versions(desired: &Desired) -> BTreeSet<(&AppName, &Version, String)> {
    let mut named = BTreeSet::new();
    for (app, version) in desired.channels.values().flatten() {
        named.insert((app, version, "channels.toml".to_owned()));
    }
    for (app, says) in &desired.apps {
        let versions = says.default.iter().chain(says.groups.values()).filter_map(|wish| wish.version.as_ref());
        named.extend(versions.map(|version| (app, version, format!("apps/{app}.toml"))));
    }
    for (node, says) in &desired.nodes {
        let versions = says.apps.iter().filter_map(|(app, says)| Some((app, says.version.as_ref()?)));
        named.extend(versions.map(|(app, version)| (app, version, format!("nodes/{node}.toml"))));
    }
    named
}

fn check_published(world: &World, app: &AppName, version: &Version, path: &str, problems: &mut Problems) {
    let mut published: Vec<&Version> =
        world.releases.iter().filter(|release| release.app == *app).map(|release| &release.version).collect();
    published.sort();
    published.reverse();
    if published.is_empty() {
        let apps = world.releases.iter().map(|release| release.app.as_str());
        let meant = nearest(app.as_str(), apps).map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
        problems.add(format!("{path}: no release of the app {app} was published{meant}"));
    } else if !published.contains(&version) {
        let there: Vec<String> = published.iter().take(5).map(ToString::to_string).collect();
        problems.add(format!("{path}: {app} {version} was not published; published are {}", there.join(", ")));
    }
}

/// Names that no node has, or only one that was revoked.
fn unknown(desired: &Desired, world: &World) -> Vec<Unknown> {
    let in_groups = desired
        .groups
        .iter()
        .flat_map(|(group, says)| says.nodes.iter().map(move |node| (node, format!("groups/{group}.toml"))));
    let own = desired.nodes.keys().map(|node| (node, format!("nodes/{node}.toml")));
    let canaries = desired.policies.values().flat_map(|policy| &policy.canaries);
    let canaries = canaries.map(|node| (node, "rollouts.toml".to_owned()));
    let strange = |(node, named_in): (&NodeId, String)| {
        let reason = match world.node(node) {
            Some(known) if known.revoked => "it was revoked".to_owned(),
            Some(_) => return None,
            None => {
                let meant = nearest(node.as_str(), world.nodes.iter().map(|node| node.node.as_str()));
                let meant = meant.map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
                format!("no node has this name{meant}")
            }
        };
        Some(Unknown { node: node.clone(), named_in, reason })
    };
    in_groups.chain(own).chain(canaries).filter_map(strange).collect()
}
