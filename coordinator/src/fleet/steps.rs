//! What is to be done for a directory: holds, apps that stop, and rollouts, as far as it follows from the fleet alone.

use std::collections::{BTreeMap, BTreeSet};

use orangery_wire::rest::{NodeView, RolloutPolicy, RolloutRequest};
use orangery_wire::{AppName, Generation, Manifest, NodeId, ReleaseId, Version};
use serde::Serialize;

use super::Problems;
use super::files::PolicyFile;
use super::groups::{GroupChange, group_changes};
use super::holds::{HoldChange, held, hold_changes};
use super::parse::{DEFAULT_POLICY, Desired};
use super::resolve::{Resolved, Target, Unknown};
use super::world::{World, desired as told};
use crate::rollout::{Chosen, Unsound, incompatible, written_out};

/// Most nodes that one rollout can name.
const NODES_MAX: usize = 1_000;
/// What is to be done, and what is not and why.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Draft {
    /// Groups whose maintenance windows are set or taken away.
    pub groups: Vec<GroupChange>,
    /// Holds that are set or ended.
    pub holds: Vec<HoldChange>,
    /// Apps that stop on a node.
    pub stops: Vec<Step>,
    /// Releases that are brought to nodes.
    pub rollouts: Vec<DraftRollout>,
    /// Nodes that would change and are held.
    pub held: Vec<Kept>,
    /// Nodes that cannot run what they shall.
    pub unfit: Vec<Kept>,
    /// Names that no node has.
    pub unknown: Vec<Unknown>,
    /// Rollouts of apps of the directory that are under way: what they bring is no change any more.
    pub under_way: Vec<UnderWay>,
    /// Nodes that are told already what they shall run, and refused it.
    pub refused: Vec<Kept>,
    /// What runs on nodes without a word of it in the directory; it is left alone.
    pub left_alone: Vec<Alone>,
}

/// One app on one node that changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The node.
    pub node: NodeId,
    /// The app.
    pub app: AppName,
    /// What is proven there now.
    pub from: Option<Version>,
    /// What it shall run.
    pub to: Option<Version>,
    /// `start`, `restart`, `stop`, or `none` if it runs that already and is only told so.
    pub does: &'static str,
    /// Whether the node is connected.
    pub online: bool,
    /// Bytes that it fetches; `None` if nobody knows its platform yet.
    pub wire_bytes: Option<u64>,
    /// Bytes that the release takes on its disk, unpacked.
    pub disk_bytes: Option<u64>,
    /// Bytes that are free after that, by its last health message.
    pub free_after_bytes: Option<u64>,
    /// The generation in which it was told last.
    pub generation: Generation,
}

/// A release that is brought to nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DraftRollout {
    /// The policy in `rollouts.toml`.
    pub policy: String,
    /// The release.
    pub release: ReleaseId,
    /// What is asked for.
    pub request: RolloutRequest,
    /// Its nodes, by name.
    pub steps: BTreeMap<NodeId, Step>,
}

/// A node that is not changed although the directory wants something else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// The node.
    pub node: NodeId,
    /// The app.
    pub app: AppName,
    /// What is proven there now.
    pub from: Option<Version>,
    /// What it shall run.
    pub to: Option<Version>,
    /// Why.
    pub reason: String,
}

/// A rollout that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnderWay {
    /// Its number.
    pub rollout: u64,
    /// The app.
    pub app: AppName,
    /// Its version.
    pub version: Version,
    /// Where it is.
    pub status: String,
    /// Why.
    pub reason: String,
}

/// An app on a node of which the directory says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Alone {
    /// The node.
    pub node: NodeId,
    /// The app.
    pub app: AppName,
    /// What it is told to run.
    pub version: Version,
}

/// What follows from a directory and the fleet. At fault are releases that were taken back, and waves that leave nodes out.
pub fn draft(desired: &Desired, resolved: &Resolved, world: &World) -> Result<Draft, Problems> {
    let mut problems = Problems::default();
    let mut draft = Draft {
        groups: group_changes(desired, world),
        holds: hold_changes(desired, world),
        unknown: resolved.unknown.clone(),
        under_way: under_way(desired, world),
        left_alone: left_alone(resolved, world),
        ..Draft::default()
    };
    let mut groups: BTreeMap<(&AppName, &Version), BTreeMap<NodeId, Step>> = BTreeMap::new();
    for ((app, name), target) in &resolved.targets {
        let Some(node) = world.node(name) else { continue };
        let Some(step) = step(world, node, app, target) else {
            draft.refused.extend(refusal(node, app, target));
            continue;
        };
        let kept = |reason| Kept {
            node: name.clone(),
            app: app.clone(),
            from: step.from.clone(),
            to: step.to.clone(),
            reason,
        };
        if let Some(reason) = held(node, app, &draft.holds) {
            draft.held.push(kept(reason));
        } else if let Some(reason) = unfit(world, node, app, target) {
            draft.unfit.push(kept(reason));
        } else if let Target::Version(version) = target {
            groups.entry((app, version)).or_default().insert(name.clone(), step);
        } else {
            draft.stops.push(step);
        }
    }
    for ((app, version), steps) in groups {
        match rollout(desired, world, app, version, steps) {
            Ok(rollout) => draft.rollouts.push(rollout),
            Err(problem) => problems.add(problem),
        }
    }
    problems.none_or(draft)
}

/// What changes on a node; `None` if it is heading where it shall.
fn step(world: &World, node: &NodeView, app: &AppName, target: &Target) -> Option<Step> {
    let heading = world.heading(node, app);
    let proven = World::proven(node, app);
    let to = match target {
        Target::Version(version) => Some(version.clone()),
        Target::Stop => None,
    };
    let is_there = match &to {
        Some(_) => heading.version == to,
        None => heading.version.is_none() && (heading.is_spoken_of || proven.is_none()),
    };
    if is_there {
        return None;
    }
    let release = to.as_ref().and_then(|to| world.release(app, to)).map(|release| release.id);
    let has_it = release.is_some() && proven.as_ref().map(|(id, _)| *id) == release;
    let does = match (&to, &proven) {
        (None, _) => "stop",
        (Some(_), None) => "start",
        (Some(_), Some(_)) if has_it => "none",
        (Some(_), Some(_)) => "restart",
    };
    let costs = release.and_then(|id| world.manifests.get(&id)).and_then(|manifest| costs(manifest, node, has_it));
    let free = node.health.as_ref().map(|health| health.disk_free_bytes);
    Some(Step {
        node: node.node.clone(),
        app: app.clone(),
        from: proven.map(|(_, version)| version),
        to,
        does,
        online: node.online,
        wire_bytes: costs.map(|(wire, _)| wire),
        disk_bytes: costs.map(|(_, disk)| disk),
        free_after_bytes: costs.zip(free).map(|((_, disk), free)| free.saturating_sub(disk)),
        generation: heading.generation,
    })
}

/// Bytes on the wire and on the disk of a node whose platform is known.
fn costs(manifest: &Manifest, node: &NodeView, has_it: bool) -> Option<(u64, u64)> {
    let tree = manifest.platforms.get(&node.reported.as_ref()?.platform)?;
    Some(if has_it { (0, 0) } else { (tree.pack.size_bytes, tree.size_bytes) })
}

fn unfit(world: &World, node: &NodeView, app: &AppName, target: &Target) -> Option<String> {
    let Target::Version(version) = target else { return None };
    let manifest = world.manifests.get(&world.release(app, version)?.id)?;
    let platforms: Vec<String> = manifest.platforms.keys().cloned().collect();
    incompatible(node.reported.as_ref()?, &manifest.constraints, &platforms)
}

/// A node that was told what it shall run and refused it. Another try is for a person to order.
fn refusal(node: &NodeView, app: &AppName, target: &Target) -> Option<Kept> {
    let told = told(node, app)?;
    let report = node.reported.as_ref()?.apps.iter().find(|report| report.app == *app)?;
    let refusal = report.refusal.as_ref().filter(|refusal| Some(refusal.release) == told.release)?;
    let is_meant = matches!(target, Target::Version(version) if told.version.as_ref() == Some(version));
    is_meant.then(|| Kept {
        node: node.node.clone(),
        app: app.clone(),
        from: report.current.as_ref().map(|current| current.version.clone()),
        to: told.version.clone(),
        reason: format!("{} [{}]", refusal.reason, refusal.code),
    })
}

fn rollout(
    desired: &Desired,
    world: &World,
    app: &AppName,
    version: &Version,
    steps: BTreeMap<NodeId, Step>,
) -> Result<DraftRollout, String> {
    let release = world.release(app, version).ok_or_else(|| format!("{app} {version} was not published"))?;
    if let Some(withdrawn) = &release.withdrawn {
        let count = steps.len();
        return Err(format!(
            "{app} {version} was taken back ({withdrawn}): {count} nodes would refuse it; name another version"
        ));
    }
    if steps.len() > NODES_MAX {
        return Err(format!(
            "{app} {version} is news to {} nodes, and a rollout of a directory names at most {NODES_MAX}: begin with some groups, \
             or bring it to all with `orangery rollout start {app}@{version} --nodes all`; what is under way is no change any more",
            steps.len()
        ));
    }
    let name = desired.apps.get(app).and_then(|says| says.rollout.as_deref()).unwrap_or(DEFAULT_POLICY);
    let usual = PolicyFile::default();
    let policy = desired.policies.get(name).unwrap_or(&usual);
    let request = RolloutRequest {
        app: app.clone(),
        version: version.clone(),
        to: steps.keys().map(ToString::to_string).collect(),
        canaries: policy.canaries.iter().filter(|canary| steps.contains_key(*canary)).cloned().collect(),
        waves: policy.waves.clone(),
        policy: policy.rules(),
        deed: orangery_wire::rest::DeedRequest::default(),
        plan: None,
        ignore_windows: false,
    };
    let request =
        without_empty_waves(world, &release.id, request).map_err(|e| format!("rollouts.toml: [{name}]: {e}"))?;
    Ok(DraftRollout { policy: name.to_owned(), release: release.id, request, steps })
}

/// A wave by label is written for the whole fleet: if none of its nodes changes now, there is no such wave.
fn without_empty_waves(
    world: &World,
    release: &ReleaseId,
    mut request: RolloutRequest,
) -> Result<RolloutRequest, Unsound> {
    let names: BTreeSet<&str> = request.to.iter().map(String::as_str).collect();
    let nodes = world.active().filter(|node| names.contains(node.node.as_str()));
    let chosen: Vec<Chosen<'_>> = nodes
        .map(|node| Chosen { node: &node.node, labels: node.reported.as_ref().map(|reported| &reported.labels) })
        .collect();
    loop {
        match written_out(&request, release, &chosen) {
            Ok(_) => return Ok(request),
            Err(Unsound::EmptyWave { size }) if request.waves.len() > 1 => {
                request.waves.retain(|wave| wave.to_string() != size);
            }
            Err(unsound) => return Err(unsound),
        }
    }
}

impl PolicyFile {
    /// The rules, with what `orangery rollout start` does when nothing is said.
    fn rules(&self) -> RolloutPolicy {
        let usual = RolloutPolicy::default();
        let soaks: Vec<u64> = self.soak.iter().map(|soak| soak.0.as_secs()).collect();
        RolloutPolicy {
            soak_secs: if soaks.is_empty() { usual.soak_secs } else { soaks },
            failures: if self.failures.is_empty() { usual.failures } else { self.failures.clone() },
            on_failure: self.on_failure.unwrap_or(usual.on_failure),
            approve_between: self.approve_between.unwrap_or(usual.approve_between),
            start: self.start_within.map_or(usual.start, |within| within.0),
            progress: self.progress_within.map_or(usual.progress, |within| within.0),
            done: self.done_within.map_or(usual.done, |within| within.0),
            compare: self.compare.map(|limits| limits.0),
        }
    }
}

fn under_way(desired: &Desired, world: &World) -> Vec<UnderWay> {
    let ours = world.under_way().filter(|rollout| desired.apps.contains_key(&rollout.app));
    let view = |rollout: &orangery_wire::rest::RolloutView| UnderWay {
        rollout: rollout.rollout,
        app: rollout.app.clone(),
        version: rollout.version.clone(),
        status: rollout.status.clone(),
        reason: rollout.reason.clone(),
    };
    ours.map(view).collect()
}

fn left_alone(resolved: &Resolved, world: &World) -> Vec<Alone> {
    let mut alone = Vec::new();
    for node in world.active() {
        let apps: BTreeSet<&AppName> = node.desired.iter().map(|desired| &desired.app).collect();
        for app in apps.into_iter().filter(|app| !resolved.targets.contains_key(&((*app).clone(), node.node.clone()))) {
            if let Some(version) = world.heading(node, app).version {
                alone.push(Alone { node: node.node.clone(), app: app.clone(), version });
            }
        }
    }
    alone
}
