//! What the coordinator is asked for a plan.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, bail};
use orangery_trust::release::{target_file, target_path};
use orangery_wire::rest::{DeedRequest, Plan as Deployment, RolloutPlan};
use orangery_wire::{AppName, Manifest, ReleaseId, Version};

use crate::client::Client;
use crate::fleet::{Desired, Draft, Plan, PlannedStop, Resolved, Target, World, draft, resolve};
use crate::{output, sha256};

/// A plan is made so often anew when the fleet changes under it.
const TRIES: usize = 3;

/// The fleet as it is. Manifests are not in it yet.
pub async fn world(client: &Client) -> anyhow::Result<World> {
    let (nodes, releases) = (client.get("/v1/nodes").await?, client.get("/v1/releases").await?);
    let (rollouts, groups) = (client.get("/v1/rollouts").await?, client.get("/v1/groups").await?);
    Ok(World { now: output::now(), nodes, releases, rollouts, groups, manifests: BTreeMap::new() })
}

/// Plans what a directory says. The answers that it takes are given at different times: if what was to be done is not the
/// same after the last of them, all is asked again.
pub async fn plan(client: &Client, desired: &Desired) -> anyhow::Result<Plan> {
    let mut before = drafted(client, desired).await?;
    for _ in 0..TRIES {
        let plan = planned(client, desired, before.clone()).await?;
        let after = drafted(client, desired).await?;
        if is_same(&before, &after) {
            return Ok(plan);
        }
        before = after;
    }
    bail!("the fleet changes while the plan is made; try again")
}

/// Whether two drafts would do the same.
fn is_same(before: &Draft, after: &Draft) -> bool {
    let stops = |draft: &Draft| {
        draft.stops.iter().map(|step| (step.app.clone(), step.node.clone(), step.generation)).collect::<Vec<_>>()
    };
    let rollouts = |draft: &Draft| {
        let told = |rollout: &crate::fleet::DraftRollout| {
            let told: Vec<u64> = rollout.steps.values().map(|step| step.generation).collect();
            (rollout.request.clone(), told)
        };
        draft.rollouts.iter().map(told).collect::<Vec<_>>()
    };
    let states = before.holds == after.holds && before.groups == after.groups;
    states && stops(before) == stops(after) && rollouts(before) == rollouts(after)
}

async fn drafted(client: &Client, desired: &Desired) -> anyhow::Result<Draft> {
    let mut world = world(client).await?;
    let resolved = resolve(desired, &world)?;
    for (app, version, id) in news(&resolved, &world) {
        world.manifests.insert(id, manifest(client, &app, &version, id).await?);
    }
    Ok(draft(desired, &resolved, &world)?)
}

/// The releases that are news to somebody.
fn news(resolved: &Resolved, world: &World) -> BTreeSet<(AppName, Version, ReleaseId)> {
    let news = |((app, node), target): (&(AppName, orangery_wire::NodeId), &Target)| {
        let Target::Version(version) = target else { return None };
        let heading = world.heading(world.node(node)?, app);
        let release = world.release(app, version).filter(|_| heading.version.as_ref() != Some(version))?;
        Some((app.clone(), version.clone(), release.id))
    };
    resolved.targets.iter().filter_map(news).collect()
}

/// A release's manifest, which is what its id says.
async fn manifest(client: &Client, app: &AppName, version: &Version, id: ReleaseId) -> anyhow::Result<Manifest> {
    let path = format!("/targets/{}", target_file(&target_path(app, version), &id.0));
    let failed = || format!("cannot read the manifest of {app} {version}");
    let bytes = client.file(&path).await.with_context(failed)?;
    let bytes = bytes.with_context(|| format!("the coordinator has no manifest of {app} {version} any more"))?;
    if sha256::digest(&bytes) != id.0 {
        bail!("the coordinator's manifest of {app} {version} is not the one that was published");
    }
    Manifest::parse(&bytes).with_context(failed)
}

/// Lets the coordinator say what it would make of it.
async fn planned(client: &Client, desired: &Desired, mut draft: Draft) -> anyhow::Result<Plan> {
    let mut rollouts = Vec::new();
    for rollout in std::mem::take(&mut draft.rollouts) {
        let plan: RolloutPlan = client.ask("/v1/rollouts/plan", &rollout.request).await?;
        let (rollout, left_out) = rollout.planned(plan);
        draft.unfit.extend(left_out);
        rollouts.push(rollout);
    }
    let mut stops = Vec::new();
    for step in std::mem::take(&mut draft.stops) {
        let plan: Deployment =
            client.ask("/v1/deployments/plan", &PlannedStop::request(&step, None, DeedRequest::default())).await?;
        stops.push(PlannedStop { step, mark: plan.mark });
    }
    Ok(Plan::new(desired, draft, rollouts, stops))
}
