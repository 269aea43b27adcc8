//! A plan: what is to be done, with the waves that the coordinator makes of it and a digest of all that it rests on.

use orangery_wire::rest::{
    DeedRequest, DeployRequest, PlannedWave, RolloutPlan, RolloutRequest, ShutNode, Superseding,
};
use orangery_wire::{AppName, Digest, Generation, NodeId, ReleaseId};
use serde::Serialize;

use super::groups::GroupChange;
use super::holds::HoldChange;
use super::parse::Desired;
use super::steps::{Draft, DraftRollout, Kept, Step};
use crate::sha256;

/// Digits of a plan's digest: enough that two plans never have the same by chance, and few enough to be typed.
const DIGITS: usize = 12;

/// What `orangery plan` shows and `orangery apply` does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Names this plan and no other: the same directory and the same fleet give the same digest.
    pub digest: String,
    /// Whether there is anything to do.
    pub changes: bool,
    /// Releases that are brought to nodes, with their waves.
    pub rollouts: Vec<PlannedRollout>,
    /// Apps that stop on a node.
    pub stops: Vec<PlannedStop>,
    /// The rest: holds, and what is not changed and why.
    #[serde(flatten)]
    pub draft: Rest,
}

/// What of a draft needs no word of the coordinator.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Rest {
    /// Groups whose maintenance windows are set or taken away.
    pub groups: Vec<GroupChange>,
    /// Holds that are set or ended.
    pub holds: Vec<HoldChange>,
    /// Nodes that would change and are held.
    pub held: Vec<Kept>,
    /// Nodes that cannot run what they shall.
    pub unfit: Vec<Kept>,
    /// Names that no node has.
    pub unknown: Vec<super::Unknown>,
    /// Rollouts that are under way.
    pub under_way: Vec<super::UnderWay>,
    /// Nodes that refused what they shall run.
    pub refused: Vec<Kept>,
    /// What runs without a word of it in the directory.
    pub left_alone: Vec<super::Alone>,
}

/// A rollout as the coordinator would begin it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedRollout {
    /// The policy in `rollouts.toml`.
    pub policy: String,
    /// The release.
    pub release: ReleaseId,
    /// What is asked for; with the coordinator's mark it is begun only as it is shown here.
    #[serde(skip)]
    pub request: RolloutRequest,
    /// The app.
    pub app: AppName,
    /// The version.
    pub version: orangery_wire::Version,
    /// Its waves.
    pub waves: Vec<PlannedWave>,
    /// Rollouts that lose nodes to it.
    pub supersedes: Vec<Superseding>,
    /// Nodes whose maintenance window is shut now, by the windows that there were when this was planned.
    pub shut: Vec<ShutNode>,
    /// What changes on each of its nodes.
    pub steps: Vec<Step>,
}

/// An app that stops on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedStop {
    /// What changes.
    #[serde(flatten)]
    pub step: Step,
    /// The coordinator's mark.
    #[serde(skip)]
    pub mark: Digest,
}

impl PlannedStop {
    /// What is asked for, and why.
    pub fn request(step: &Step, mark: Option<Digest>, deed: DeedRequest) -> DeployRequest {
        DeployRequest { app: step.app.clone(), version: None, to: step.node.to_string(), plan: mark, deed }
    }
}

/// What a digest is made from. Who is connected, what nodes report and how much room they have is not in it: that changes by
/// the minute and changes nothing of what is done.
#[derive(Serialize)]
struct Agreed<'a> {
    desired: &'a Desired,
    groups: &'a [GroupChange],
    holds: &'a [HoldChange],
    rollouts: Vec<AgreedRollout<'a>>,
    stops: Vec<(&'a AppName, &'a NodeId, Generation, Digest)>,
}

#[derive(Serialize)]
struct AgreedRollout<'a> {
    app: &'a AppName,
    release: &'a ReleaseId,
    /// The coordinator's own mark: of the waves, of what is superseded, and of every rollout that was begun before.
    mark: Option<Digest>,
    rules: &'a orangery_wire::rest::RolloutPolicy,
    /// In which generation each node was told last: somebody else's deployment changes it.
    told: Vec<(&'a NodeId, Generation)>,
}

impl DraftRollout {
    /// With what the coordinator would make of it. Nodes that it leaves out are returned apart.
    pub fn planned(self, plan: RolloutPlan) -> (PlannedRollout, Vec<Kept>) {
        let Self { policy, release, mut request, mut steps } = self;
        let left_out = plan.left_out.into_iter().filter_map(|out| {
            let step = steps.remove(&out.node)?;
            Some(Kept { node: step.node, app: step.app, from: step.from, to: step.to, reason: out.reason })
        });
        let left_out = left_out.collect();
        request.to.retain(|name| name.parse().is_ok_and(|node: NodeId| steps.contains_key(&node)));
        request.plan = Some(plan.mark);
        let (app, version, steps) = (plan.app, plan.version, steps.into_values().collect());
        let (waves, supersedes, shut) = (plan.waves, plan.supersedes, plan.shut);
        (PlannedRollout { policy, release, request, app, version, waves, supersedes, shut, steps }, left_out)
    }
}

impl Plan {
    /// Puts a plan together, and gives it its digest.
    pub fn new(desired: &Desired, draft: Draft, rollouts: Vec<PlannedRollout>, stops: Vec<PlannedStop>) -> Self {
        let Draft { groups, holds, held, unfit, unknown, under_way, refused, left_alone, .. } = draft;
        let rest = Rest { groups, holds, held, unfit, unknown, under_way, refused, left_alone };
        let changes = !(rollouts.is_empty() && stops.is_empty() && rest.holds.is_empty() && rest.groups.is_empty());
        let digest = digest(desired, (&rest.groups, &rest.holds), &rollouts, &stops);
        Self { digest, changes, rollouts, stops, draft: rest }
    }
}

fn digest(
    desired: &Desired,
    (groups, holds): (&[GroupChange], &[HoldChange]),
    rollouts: &[PlannedRollout],
    stops: &[PlannedStop],
) -> String {
    let rollouts = rollouts.iter().map(|rollout| AgreedRollout {
        app: &rollout.app,
        release: &rollout.release,
        mark: rollout.request.plan,
        rules: &rollout.request.policy,
        told: rollout.steps.iter().map(|step| (&step.node, step.generation)).collect(),
    });
    let stops = stops.iter().map(|stop| (&stop.step.app, &stop.step.node, stop.step.generation, stop.mark));
    let agreed = Agreed { desired, groups, holds, rollouts: rollouts.collect(), stops: stops.collect() };
    // Names, numbers and texts always have a JSON form.
    let digest = sha256::digest(&serde_json::to_vec(&agreed).unwrap_or_default());
    digest.to_string().chars().take(DIGITS).collect()
}
