//! What is read for one look at the fleet.

use std::collections::{BTreeMap, BTreeSet};

use orangery_wire::rest::{Attention, NodeView};
use orangery_wire::{AppName, UnixTime, Version};

use super::offer::{AppState, Releases, apps};
use crate::engine::{Facts, Live, attention};
use crate::repository::{Repository, Standing};
use crate::rollout::{Rollout, Status};
use crate::store::{StoreError, View};

/// Rollouts that are looked at, the newest ones.
const ROLLOUTS_MAX: u64 = 1_000;

/// The fleet at one moment.
#[derive(Debug, Default)]
pub(super) struct Picture {
    /// Whether nodes can be heard.
    pub(super) is_listening: bool,
    /// The nodes that are not revoked.
    pub(super) nodes: Vec<NodePicture>,
}

/// One node.
#[derive(Debug)]
pub(super) struct NodePicture {
    pub(super) view: NodeView,
    pub(super) attention: Option<Attention>,
    pub(super) apps: Vec<AppState>,
}

impl Picture {
    /// Reads it.
    pub(super) fn read(
        view: View<'_>,
        live: &Live,
        repository: &Repository,
        now: UnixTime,
    ) -> Result<Self, StoreError> {
        let facts = Facts { now, broker_connected: live.broker_connected(), ..Facts::default() };
        let releases = releases(view, repository)?;
        let mut holds = view.holds()?;
        let known = view.nodes()?.into_iter().filter(|row| row.revoked_at.is_none());
        let picture = |row| {
            let node = live.node_view(view, row)?;
            let node = NodeView { holds: holds.remove(&node.node).unwrap_or_default(), ..node };
            let (attention, apps) = (attention(&node, &facts), apps(&node, &releases));
            Ok(NodePicture { view: node, attention, apps })
        };
        let nodes = known.map(picture).collect::<Result<_, StoreError>>()?;
        Ok(Self { is_listening: facts.broker_connected, nodes })
    }
}

fn releases(view: View<'_>, repository: &Repository) -> Result<Releases, StoreError> {
    let all = view.releases()?;
    let mut against = stopped(view.rollouts_after(view.next_rollout()?.saturating_sub(ROLLOUTS_MAX + 1))?);
    let standings = repository.standings(all.iter().map(|row| (&row.view.app, &row.view.version)));
    for (row, standing) in all.iter().zip(standings) {
        if !matches!(standing, Standing::Good) {
            against.insert((row.view.app.clone(), row.view.version.clone()));
        }
    }
    Ok(Releases::new(all, &against))
}

/// The releases whose newest rollout has stopped or gone back.
fn stopped(rollouts: Vec<Rollout>) -> BTreeSet<(AppName, Version)> {
    let mut newest = BTreeMap::new();
    let mut rollouts = rollouts;
    rollouts.sort_by_key(|rollout| rollout.id);
    for rollout in rollouts {
        let has_stopped = matches!(rollout.status, Status::Paused(_) | Status::Reverting(_) | Status::Reverted { .. });
        newest.insert((rollout.app, rollout.release.version), has_stopped);
    }
    newest.into_iter().filter_map(|(release, has_stopped)| has_stopped.then_some(release)).collect()
}
