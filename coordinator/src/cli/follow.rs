//! Following a deployment until every node that can has settled it.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use orangery_wire::messages::{Phase, Refusal, What};
use orangery_wire::rest::{DeployRequest, EventView, NodeView, Plan, PlanStep, Status};
use orangery_wire::{AppName, Generation, NodeId};
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use crate::client::{Client, ClientError, EventStream};

/// Longest time between two looks at the proofs when no event comes.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How it ended on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ending {
    /// The node.
    pub node: NodeId,
    /// How.
    #[serde(flatten)]
    pub how: How,
}

/// How a deployment ended on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "ending", rename_all = "snake_case")]
pub enum How {
    /// The release is proven there.
    Runs,
    /// The node refused it and runs what it ran before.
    Refused {
        /// Why.
        refusal: Refusal,
    },
    /// The node was revoked in the meantime.
    Revoked,
    /// Somebody told the node something newer.
    Superseded,
    /// The node was offline all the time.
    Offline,
    /// The node was reached but is not there yet.
    TimedOut,
}

/// What can go wrong while one follows.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The coordinator cannot be asked.
    #[error("cannot follow the deployment, which goes on without us")]
    Client(#[from] ClientError),
    /// What happened cannot be shown.
    #[error(transparent)]
    Show(#[from] io::Error),
}

/// A deployment that is followed from before it begins.
pub struct Follow {
    client: Client,
    events: EventStream,
}

impl Follow {
    /// Applies a request. It listens first, so that none of the deployment's events is missed. With the mark of a plan in it
    /// the request is refused if that plan no longer holds. The plan that comes back has the generations that the changes
    /// got.
    pub async fn apply(client: &Client, request: &DeployRequest) -> Result<(Self, Plan), ClientError> {
        let newest = client.newest_event().await?;
        let follow = Self { client: client.clone(), events: client.events(newest).await? };
        let applied = client.post("/v1/deployments", request).await?;
        Ok((follow, applied))
    }

    /// Shows every event of the plan's deployment until each changed node has settled, or `longest` has passed. A node that
    /// was offline from the beginning is not waited for once the others have settled.
    pub async fn until_settled(
        &mut self,
        plan: &Plan,
        longest: Duration,
        mut show: impl FnMut(&EventView) -> io::Result<()>,
    ) -> Result<Vec<Ending>, FollowError> {
        let deadline = Instant::now() + longest;
        let steps: BTreeMap<&NodeId, &PlanStep> =
            plan.steps.iter().filter(|step| step.changes).map(|step| (&step.node, step)).collect();
        let mut seen_online: Vec<NodeId> =
            steps.values().filter(|step| step.online).map(|step| step.node.clone()).collect();
        let mut found = BTreeMap::new();
        loop {
            match self.client.get::<Status>("/v1/status").await {
                Ok(status) => {
                    let online = status.nodes.iter().filter(|node| node.online);
                    seen_online.extend(online.map(|node| node.node.clone()));
                    found = look(&steps, &plan.app, &status.nodes);
                }
                // The nodes go on by themselves, and the coordinator may be back in a moment.
                Err(error) if error.is_silence() && Instant::now() < deadline => {
                    tracing::info!(reason = %error, "the coordinator is away");
                }
                Err(error) => return Err(error.into()),
            }
            let waits_for = |step: &&PlanStep| !found.contains_key(&step.node) && seen_online.contains(&step.node);
            if !steps.values().any(waits_for) || Instant::now() >= deadline {
                return Ok(endings(&steps, &found, &seen_online));
            }
            self.show_events(&steps, &plan.app, deadline.min(Instant::now() + LOOK_EVERY), &mut show).await?;
        }
    }

    /// Shows events until one says that a node has settled, or until `pause_ends`.
    async fn show_events(
        &mut self,
        steps: &BTreeMap<&NodeId, &PlanStep>,
        app: &AppName,
        pause_ends: Instant,
        show: &mut impl FnMut(&EventView) -> io::Result<()>,
    ) -> Result<(), FollowError> {
        while let Ok(event) = timeout_at(pause_ends, self.events.next()).await {
            let event = match event {
                Ok(event) => event,
                Err(error) if error.is_silence() => {
                    tokio::time::sleep_until(pause_ends).await;
                    break;
                }
                Err(error) => return Err(error.into()),
            };
            let step = steps.get(&event.event.node).filter(|_| event.event.app.as_ref().is_none_or(|of| of == app));
            let Some(step) = step else { continue };
            if generation(&event.event.what).is_some_and(|generation| generation != step.generation) {
                continue;
            }
            show(&event)?;
            if is_last(&event.event.what) {
                break;
            }
        }
        Ok(())
    }
}

fn endings(steps: &BTreeMap<&NodeId, &PlanStep>, found: &BTreeMap<NodeId, How>, seen_online: &[NodeId]) -> Vec<Ending> {
    let left = |node: &NodeId| if seen_online.contains(node) { How::TimedOut } else { How::Offline };
    let how = |node: &NodeId| found.get(node).cloned().unwrap_or_else(|| left(node));
    steps.keys().map(|node| Ending { node: (*node).clone(), how: how(node) }).collect()
}

/// The generation that an event is about, if it is about one.
fn generation(what: &What) -> Option<Generation> {
    match what {
        What::PhaseChanged { generation, .. }
        | What::Committed { generation, .. }
        | What::Refused { generation, .. }
        | What::Restored { generation, .. } => Some(*generation),
        _ => None,
    }
}

/// Whether the node is settled after this. Its proof may come a moment later.
fn is_last(what: &What) -> bool {
    matches!(what, What::Committed { .. } | What::Restored { .. } | What::PhaseChanged { phase: Phase::Settled, .. })
}

/// How it ended on each node where it has ended, by the nodes' own proofs.
fn look(steps: &BTreeMap<&NodeId, &PlanStep>, app: &AppName, nodes: &[NodeView]) -> BTreeMap<NodeId, How> {
    let ending = |node: &NodeView| {
        let step = steps.get(&node.node)?;
        Some((node.node.clone(), ended(step, app, node)?))
    };
    nodes.iter().filter_map(ending).collect()
}

fn ended(step: &PlanStep, app: &AppName, node: &NodeView) -> Option<How> {
    if node.revoked {
        return Some(How::Revoked);
    }
    let desired = node.desired.iter().find(|desired| desired.app == *app)?;
    if desired.generation > step.generation {
        return Some(How::Superseded);
    }
    let report = node.reported.iter().flat_map(|reported| &reported.apps).find(|report| report.app == *app)?;
    if report.generation != step.generation || report.phase != Phase::Settled {
        return None;
    }
    match &report.refusal {
        _ if report.current.as_ref().map(|current| current.id) == desired.release => Some(How::Runs),
        Some(refusal) if Some(refusal.release) == desired.release => Some(How::Refused { refusal: refusal.clone() }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn release(digit: u8) -> serde_json::Value {
        json!({"id": format!("{digit:064}"), "version": format!("1.{digit}.0")})
    }

    fn step() -> PlanStep {
        let step = json!({"node": "attic", "online": true, "then": "1.2.0", "changes": true, "generation": 5});
        serde_json::from_value(step).unwrap()
    }

    /// A node told to run 1.2.0 in generation 5, which reports `current` in `generation` and `phase`.
    fn node(generation: u64, phase: &str, current: u8, refusal: &serde_json::Value) -> NodeView {
        let app = json!({"app": "greeter", "generation": generation, "current": release(current), "phase": phase, "refusal": refusal});
        let node = json!({
            "node": "attic", "joined_at": 1, "revoked": false, "online": true,
            "desired": [{"app": "greeter", "generation": 5, "release": release(2)["id"], "version": "1.2.0"}],
            "reported": {"format": 1, "node": "attic", "boot_id": "b", "sequence": 1, "generation": generation,
                         "agent_version": "1.0.0", "platform": "linux/arm64", "apps": [app]},
        });
        serde_json::from_value(node).unwrap()
    }

    fn how(node: &NodeView) -> Option<How> {
        ended(&step(), &"greeter".parse().unwrap(), node)
    }

    #[test]
    fn only_a_settled_proof_of_this_generation_ends_it() {
        let none = json!(null);
        assert_eq!(how(&node(5, "settled", 2, &none)), Some(How::Runs));
        assert_eq!(how(&node(4, "settled", 1, &none)), None, "not taken in yet");
        assert_eq!(how(&node(5, "probing", 1, &none)), None, "under way");
        assert_eq!(how(&node(5, "settled", 1, &none)), None, "settled on the old one, and not refused");
    }

    #[test]
    fn a_refusal_ends_it_only_when_the_old_release_runs_again() {
        let refusal = json!({"release": release(2)["id"], "code": "unhealthy", "reason": "status 500"});
        assert_eq!(how(&node(5, "restoring", 1, &refusal)), None);
        assert!(matches!(how(&node(5, "settled", 1, &refusal)), Some(How::Refused { .. })));
    }

    #[test]
    fn what_others_do_meanwhile_ends_it_too() {
        let mut other = node(5, "probing", 1, &json!(null));
        other.desired[0].generation = 6;
        assert_eq!(how(&other), Some(How::Superseded));
        other.revoked = true;
        assert_eq!(how(&other), Some(How::Revoked));
    }
}
