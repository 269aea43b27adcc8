//! What the planner of rollouts is told of the fleet, read at one time.

use std::collections::{BTreeMap, BTreeSet};

use orangery_wire::limits::APPS_MAX;
use orangery_wire::messages::DesiredApp;
use orangery_wire::rest::HoldView;
use orangery_wire::{AppName, NodeId, UnixTime};

use super::deploy::is_gone;
use super::groups::Groups;
use super::live::Live;
use super::plan::Selector;
pub use crate::rollout::describe_hold;
use crate::rollout::{NodeFacts, Scene, Window, incompatible};
use crate::store::{NodeRow, ReleaseRow, StoreError, View};

/// The fleet as far as rollouts of one app ask.
pub struct Fleet {
    nodes: Vec<NodeRow>,
    desired: BTreeMap<NodeId, DesiredApp>,
    holds: BTreeMap<NodeId, Vec<HoldView>>,
    /// Nodes that cannot be told about one more app.
    full: BTreeSet<NodeId>,
    app: AppName,
    windows: BTreeMap<NodeId, Window>,
}

impl Fleet {
    /// Reads it, with what windows say at this moment.
    pub fn read(view: View<'_>, app: &AppName, live: &Live, now: UnixTime) -> Result<Self, StoreError> {
        let (nodes, desired) = (view.nodes()?, view.desired_of(app)?);
        let mut full = BTreeSet::new();
        for node in view.nodes_with_apps(APPS_MAX)? {
            let row = nodes.iter().find(|row| row.node == node);
            let has_room =
                |desired: &DesiredApp| desired.release.is_none() && row.is_some_and(|row| is_gone(row, desired));
            if !desired.contains_key(&node) && !view.desired_apps(&node)?.iter().any(has_room) {
                full.insert(node);
            }
        }
        let windows = Groups::read(view, live)?.look(&nodes, now);
        Ok(Self { nodes, desired, holds: view.holds()?, full, app: app.clone(), windows })
    }

    /// All nodes.
    pub fn nodes(&self) -> &[NodeRow] {
        &self.nodes
    }

    /// The labels that nodes have reported.
    pub fn labels(&self) -> BTreeMap<NodeId, BTreeMap<String, String>> {
        let labels = |row: &NodeRow| Some((row.node.clone(), row.reported.as_ref()?.labels.clone()));
        self.nodes.iter().filter_map(labels).collect()
    }

    /// What a rollout of `release` to those that `to` chooses is planned by. A node that `newer` chooses is left to that.
    pub fn scene(&self, to: &[String], release: &ReleaseRow, newer: &[String], live: &Live, now: UnixTime) -> Scene {
        let (to, newer) = (selectors(to), selectors(newer));
        let facts = |row: &NodeRow| {
            let chosen = to.iter().any(|to| to.matches(row)) && !newer.iter().any(|newer| newer.matches(row));
            (row.node.clone(), self.facts(row, release, live, chosen))
        };
        Scene { now, listening_secs: live.listening_secs(), nodes: self.nodes.iter().map(facts).collect() }
    }

    fn facts(&self, row: &NodeRow, release: &ReleaseRow, live: &Live, chosen: bool) -> NodeFacts {
        let (seen, revoked) = (live.seen(&row.node), row.revoked_at.is_some());
        let reports = row.reported.iter().flat_map(|reported| &reported.apps);
        let too_many = || format!("it is told about {APPS_MAX} apps already");
        let (constraints, platforms) = (&release.constraints, &release.view.platforms);
        let unfit = row.reported.as_ref().and_then(|reported| incompatible(reported, constraints, platforms));
        NodeFacts {
            generation: row.generation,
            desired: self.desired.get(&row.node).cloned(),
            report: reports.into_iter().find(|report| report.app == self.app).cloned(),
            has_reported: row.reported.is_some(),
            boot: row.reported.as_ref().map(|reported| reported.boot_id.clone()),
            heard_secs: seen.heard.map(|heard| heard.elapsed().as_secs()),
            heard_boot: seen.boot,
            online: seen.online && !revoked,
            revoked,
            held: self.holds.get(&row.node).and_then(|holds| held(holds, &self.app)),
            unfit: unfit.or_else(|| self.full.contains(&row.node).then(too_many)),
            chosen: chosen && !revoked,
            window: self.windows.get(&row.node).cloned(),
            vitals: live.vitals(&row.node, &self.app),
        }
    }
}

/// Selectors that were read before; one that means nothing any more chooses nobody.
fn selectors(to: &[String]) -> Vec<Selector> {
    to.iter().filter_map(|to| Selector::parse(to).ok()).collect()
}

/// Who keeps a node from being told anything of an app: "held by ann until 2026-11-22T10:00:00Z: being repaired"
pub(super) fn held(holds: &[HoldView], app: &AppName) -> Option<String> {
    holds.iter().find(|hold| hold.app.as_ref().is_none_or(|held| held == app)).map(describe_hold)
}
