//! Releases, and which node should run which.

use std::collections::BTreeMap;

use orangery_wire::limits::APPS_MAX;
use orangery_wire::messages::{DesiredApp, ReleaseRef};
use orangery_wire::rest::{DeployRequest, Plan, PlanStep};
use orangery_wire::{AppName, Generation, NodeId};

use super::core::{Done, Turn};
use super::live::Live;
use super::plan::{Candidate, Selector, choose_release, plan};
use super::refused::Refused;
use super::rollouts::deed;
use super::scene::held;
use crate::store::{NodeRow, ReleaseRow, StoreError, View};

/// Everything that a plan depends on, read at one time.
pub struct Survey {
    nodes: Vec<NodeRow>,
    releases: Vec<ReleaseRow>,
    desired: BTreeMap<NodeId, DesiredApp>,
    held: BTreeMap<NodeId, String>,
}

impl Survey {
    /// Reads it.
    pub fn read(view: View<'_>, app: &AppName) -> Result<Self, StoreError> {
        let (nodes, releases, desired) = (view.nodes()?, view.releases()?, view.desired_of(app)?);
        let held = view.holds()?.into_iter().filter_map(|(node, holds)| Some((node, held(&holds, app)?)));
        Ok(Self { nodes, releases, desired, held: held.collect() })
    }

    /// What the request would change.
    pub fn plan(&self, request: &DeployRequest, live: &Live) -> Result<Plan, Refused> {
        let target = self.target(request)?;
        let chosen = Selector::parse(&request.to)?.choose(&self.nodes)?;
        let candidates = chosen.into_iter().map(|row| Candidate {
            row,
            desired: self.desired.get(&row.node),
            online: live.seen(&row.node).online && row.revoked_at.is_none(),
            held: self.held.get(&row.node).map(String::as_str),
        });
        Ok(plan(&request.app, target, &candidates.collect::<Vec<_>>()))
    }

    /// The release that is asked for; `None` if the app should stop.
    fn target(&self, request: &DeployRequest) -> Result<Option<&ReleaseRow>, Refused> {
        let Some(version) = &request.version else { return Ok(None) };
        choose_release(&request.app, version, &self.releases).map(Some)
    }

    fn node(&self, node: &NodeId) -> Option<&NodeRow> {
        // They were read by name.
        let at = self.nodes.binary_search_by(|row| row.node.cmp(node)).ok()?;
        self.nodes.get(at)
    }
}

impl Turn<'_> {
    pub(super) fn publish(&mut self, release: &ReleaseRow) -> Done<ReleaseRow> {
        let (app, version) = (&release.view.app, &release.view.version);
        match self.view().release(app, version)? {
            Some(there) if there.view.id == release.view.id => return Ok(Ok(there)),
            Some(_) => return Ok(Err(Refused::VersionTaken { app: app.clone(), version: version.clone() })),
            None => {}
        }
        self.batch.add_release(release)?;
        tracing::info!(%app, release = %release.view.id, %version, "release published");
        Ok(Ok(release.clone()))
    }

    /// Makes the plan again and does it, if it is still the one that was shown.
    pub(super) fn deploy(&mut self, request: &DeployRequest) -> Done<Plan> {
        if let Err(refused) = deed(&self.actor.who, &request.deed, self.now, false) {
            return Ok(Err(refused));
        }
        let survey = Survey::read(self.view(), &request.app)?;
        let mut plan = match survey.plan(request, self.live) {
            Ok(plan) => plan,
            Err(refused) => return Ok(Err(refused)),
        };
        if request.plan.is_some_and(|shown| shown != plan.mark) {
            return Ok(Err(Refused::PlanChanged));
        }
        let release = match survey.target(request) {
            Ok(target) => target.map(ReleaseRow::reference),
            Err(refused) => return Ok(Err(refused)),
        };
        for step in &mut plan.steps {
            match self.step(&survey, &request.app, release.as_ref(), step)? {
                Ok(generation) => step.generation = generation,
                Err(refused) => return Ok(Err(refused)),
            }
        }
        self.detail("changed", plan.steps.iter().filter(|step| step.changes).count());
        Ok(Ok(plan))
    }

    /// Returns the generation in which the node was told: a new one, or, if this changes nothing, the one it has.
    fn step(
        &mut self,
        survey: &Survey,
        app: &AppName,
        release: Option<&ReleaseRef>,
        step: &PlanStep,
    ) -> Done<Generation> {
        let node = &step.node;
        let told = survey.desired.get(node).map(|desired| desired.generation);
        let Some(row) = survey.node(node).filter(|_| step.changes) else { return Ok(Ok(told.unwrap_or(0))) };
        if told.is_none()
            && let Err(refused) = self.make_room(row, app)?
        {
            return Ok(Err(refused));
        }
        let generation = row.generation + 1;
        self.batch.set_desired(node, app, generation, release)?;
        self.outcome.desired.insert(node.clone());
        let version = release.map(|release| release.version.to_string());
        tracing::info!(%node, %app, release = version, generation, "desired state changed");
        Ok(Ok(generation))
    }

    /// Sees to it that the node can be told about one more app: apps that were stopped and are gone are forgotten.
    pub(super) fn make_room(&mut self, row: &NodeRow, app: &AppName) -> Done<()> {
        let desired = self.view().desired_apps(&row.node)?;
        if desired.len() < APPS_MAX {
            return Ok(Ok(()));
        }
        let gone = |desired: &&DesiredApp| desired.release.is_none() && is_gone(row, desired);
        match desired.iter().find(gone) {
            Some(gone) => self.batch.forget_desired(&row.node, &gone.app).map(Ok),
            None => Ok(Err(Refused::TooManyApps { node: row.node.clone(), app: app.clone(), max: APPS_MAX })),
        }
    }
}

/// Whether the node has reported that it did what it was told and runs nothing of the app.
pub(super) fn is_gone(row: &NodeRow, desired: &DesiredApp) -> bool {
    row.reported.as_ref().is_some_and(|reported| {
        let report = reported.apps.iter().find(|report| report.app == desired.app);
        report.is_some_and(|report| {
            report.generation >= desired.generation && report.current.is_none() && report.running.is_none()
        })
    })
}
