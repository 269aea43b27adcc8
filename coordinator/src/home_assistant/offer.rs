//! What of each app is installed on a node, what could be, and what is under way: an update entity's facts. Pure.
//!
//! What is *offered* is the newest published release that the node could run and that nothing speaks against: the owner has not
//! taken it back, no rollout of it has stopped or gone back, the node has not refused it, nobody holds the node. A release that
//! the node refused is offered again, by itself alone, to be tried once more; see docs/adr/0019.

use std::collections::{BTreeMap, BTreeSet};

use orangery_wire::messages::{AppReport, Phase};
use orangery_wire::rest::{DesiredView, HoldView, NodeView};
use orangery_wire::{AppName, Version};

use crate::rollout::incompatible;
use crate::store::ReleaseRow;

/// One app of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AppState {
    /// The app.
    pub(super) app: AppName,
    /// What is proven there.
    pub(super) installed: Option<Version>,
    /// What is told, or offered, or else what is installed.
    pub(super) latest: Option<Version>,
    /// Whether the latest can be installed now, by a command.
    pub(super) is_offered: bool,
    /// Steps of a deployment that are done, of a hundred; `None` if none is under way or nobody can say.
    pub(super) percentage: Option<u8>,
    /// Whether the node works on it now.
    pub(super) in_progress: bool,
    /// The stable word for why the latest was refused there, if it was.
    pub(super) refused: Option<String>,
    /// What the owner has written of the latest.
    pub(super) notes: Option<String>,
}

/// The releases that may be offered: by app, the newest first.
#[derive(Debug, Default)]
pub(super) struct Releases {
    by_app: BTreeMap<AppName, Vec<ReleaseRow>>,
}

impl Releases {
    /// All that are published, but for those of which `speaks_against` knows something.
    pub(super) fn new(all: Vec<ReleaseRow>, speaks_against: &BTreeSet<(AppName, Version)>) -> Self {
        let mut by_app: BTreeMap<AppName, Vec<ReleaseRow>> = BTreeMap::new();
        for row in all {
            if !speaks_against.contains(&(row.view.app.clone(), row.view.version.clone())) {
                by_app.entry(row.view.app.clone()).or_default().push(row);
            }
        }
        for rows in by_app.values_mut() {
            rows.sort_by(|a, b| b.view.version.cmp(&a.view.version));
        }
        Self { by_app }
    }

    fn of(&self, app: &AppName) -> &[ReleaseRow] {
        self.by_app.get(app).map_or(&[], Vec::as_slice)
    }
}

/// The apps of a node that have something to do with it: it was told to run them, or runs them.
pub(super) fn apps(node: &NodeView, releases: &Releases) -> Vec<AppState> {
    let reports = node.reported.iter().flat_map(|reported| &reported.apps);
    let mut apps: BTreeMap<&AppName, (Option<&DesiredView>, Option<&AppReport>)> =
        reports.map(|report| (&report.app, (None, Some(report)))).collect();
    for desired in &node.desired {
        apps.entry(&desired.app).or_default().0 = Some(desired);
    }
    let runs = |desired: Option<&DesiredView>, report: Option<&AppReport>| match desired {
        Some(desired) => desired.release.is_some(),
        None => report.is_some_and(|report| report.current.is_some()),
    };
    let running = apps.into_iter().filter(|(_, (desired, report))| runs(*desired, *report));
    running.map(|(app, (desired, report))| Question { node, releases, app, desired, report }.state()).collect()
}

struct Question<'a> {
    node: &'a NodeView,
    releases: &'a Releases,
    app: &'a AppName,
    desired: Option<&'a DesiredView>,
    report: Option<&'a AppReport>,
}

impl Question<'_> {
    fn state(&self) -> AppState {
        let installed = self.installed();
        let told = self.desired.and_then(|desired| desired.version.as_ref());
        let refused = self.refused();
        let newer = self.newest().filter(|newest| installed.is_none_or(|installed| newest > &installed));
        let again = told.filter(|told| refused.is_some() && newer.is_none_or(|newer| *told >= newer) && self.may(told));
        let is_under_way = self.is_under_way();
        let offered = if is_under_way || self.is_held() { None } else { again.or(newer) };
        let latest = if is_under_way { told } else { offered.or(installed) }.cloned();
        let is_at_work = is_under_way && self.node.online;
        AppState {
            app: self.app.clone(),
            installed: installed.cloned(),
            is_offered: offered.is_some(),
            percentage: if is_at_work { self.percentage() } else { None },
            in_progress: is_at_work,
            refused: refused.filter(|_| latest.as_ref() == told),
            notes: self.notes(latest.as_ref()),
            latest,
        }
    }

    fn installed(&self) -> Option<&Version> {
        self.report.and_then(|report| report.current.as_ref()).map(|current| &current.version)
    }

    /// Why the node did not take what it was told, if it has said so since it was told.
    fn refused(&self) -> Option<String> {
        let (desired, report) = (self.desired?, self.report?);
        let refusal = report.refusal.as_ref().filter(|refusal| Some(refusal.release) == desired.release)?;
        (report.generation >= desired.generation).then(|| refusal.code.as_str().to_owned())
    }

    /// Whether what it was told is still to come, or what it is told is being done.
    fn is_under_way(&self) -> bool {
        let is_at_rest = self.report.is_none_or(|report| report.phase == Phase::Settled);
        let Some(desired) = self.desired else { return !is_at_rest };
        !is_at_rest || self.report.is_none_or(|report| report.generation < desired.generation)
    }

    fn is_held(&self) -> bool {
        self.node.holds.iter().any(|hold: &HoldView| hold.app.as_ref().is_none_or(|app| app == self.app))
    }

    /// The newest release that may be offered, whatever is installed.
    fn newest(&self) -> Option<&Version> {
        let refused = self.desired.filter(|_| self.refused().is_some()).and_then(|desired| desired.release);
        let takes_previews = self.installed().is_some_and(|installed| !installed.semver().pre.is_empty());
        let fits = |row: &&ReleaseRow| {
            let is_preview = !row.view.version.semver().pre.is_empty();
            Some(row.view.id) != refused && (takes_previews || !is_preview) && self.fits(row)
        };
        self.releases.of(self.app).iter().find(fits).map(|row| &row.view.version)
    }

    fn fits(&self, row: &ReleaseRow) -> bool {
        let reported = self.node.reported.as_ref();
        reported.is_some_and(|reported| incompatible(reported, &row.constraints, &row.view.platforms).is_none())
    }

    /// Whether this very release may be offered.
    fn may(&self, version: &Version) -> bool {
        self.releases.of(self.app).iter().any(|row| row.view.version == *version && self.fits(row))
    }

    /// Steps, not bytes: fetched, activated, probed, proven.
    fn percentage(&self) -> Option<u8> {
        let taken = self.report.is_some_and(|report| {
            self.desired.is_none_or(|desired| report.generation >= desired.generation) || report.phase != Phase::Settled
        });
        match self.report.map(|report| report.phase).filter(|_| taken) {
            None | Some(Phase::Fetching) => Some(0),
            Some(Phase::Activating) => Some(33),
            Some(Phase::Probing) => Some(66),
            Some(Phase::Settled | Phase::Restoring) => None,
        }
    }

    fn notes(&self, latest: Option<&Version>) -> Option<String> {
        let row = self.releases.of(self.app).iter().find(|row| Some(&row.view.version) == latest)?;
        row.view.notes.clone()
    }
}
