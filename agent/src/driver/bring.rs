//! Releases that somebody on this node brings by a road of his own, and what the owner says of those that are here.
//!
//! A release that is brought is first had on the disk, verified and sealed, while nothing else changes. Only then the
//! deployment machine is told of it; its trial, commit or refusal are as any other's.

use orangery_wire::messages::{RefusalCode, ReleaseRef, What};
use orangery_wire::{AppName, ReleaseId, Version, limits};

use super::Driver;
use crate::control::InstallView;
use crate::deployment::{self, Phase, Reason, Record};
use crate::install::InstallFailure;
use crate::road::Place;

/// Attempts to run the release before after which a person is told that it does not work.
const RESTORES_MAX: u32 = 3;

/// A release that was brought, and how it goes.
pub struct Brought {
    app: AppName,
    version: Version,
    place: Place,
    stage: Stage,
}

enum Stage {
    /// It is read and verified.
    Reading,
    /// It is on the disk, and the deployment machine knows.
    Wanted(ReleaseId),
    /// It is not on the disk.
    Failed(InstallFailure),
}

impl Driver {
    /// Begins to read a release; [`Driver::brought`] goes on. One at a time.
    pub(super) fn bring(&mut self, app: AppName, version: Version, place: Place) -> Result<(), String> {
        if let Some(Brought { app, version, stage: Stage::Reading, .. }) = &self.brought {
            return Err(format!("{app} {version} is being installed; wait until that has ended and ask again"));
        }
        if !self.apps.contains_key(&app) && self.apps.len() >= limits::APPS_MAX {
            return Err(format!("this node has {} apps, and no more are allowed; stop one first", limits::APPS_MAX));
        }
        tracing::info!(%app, release = %version, source = %place, "somebody on this node brings a release");
        self.outside.bring(app.clone(), version.clone(), place.clone());
        self.brought = Some(Brought { app, version, place, stage: Stage::Reading });
        Ok(())
    }

    /// The release is on the disk: it is wanted now. Or it is not: then that is told, and nothing has changed.
    pub(super) fn brought(&mut self, outcome: Result<ReleaseRef, InstallFailure>) {
        let Some(brought) = &mut self.brought else { return };
        let app = brought.app.clone();
        match outcome {
            Ok(release) => {
                brought.stage = Stage::Wanted(release.id);
                self.apps.entry(app.clone()).or_default().hears_of(&release);
                self.step(&app, deployment::Event::Brought { release: release.id });
            }
            Err(failure) => {
                let (refusal, reason) = code_and_text(&failure);
                let (version, source) = (brought.version.clone(), limits::reason(brought.place.to_string()));
                tracing::warn!(%app, release = %version, source, reason, "a release that was brought is not installed");
                brought.stage = Stage::Failed(failure);
                self.tell(Some(&app), &What::NotInstalled { version, source, refusal, reason: limits::reason(reason) });
            }
        }
    }

    /// How the last release that was brought goes.
    pub(super) fn install_view(&self) -> InstallView {
        let Some(brought) = &self.brought else { return InstallView::None };
        match &brought.stage {
            Stage::Reading => {
                let (done_bytes, all_bytes) = self.outside.brought_bytes().unwrap_or_default();
                InstallView::Reading { done_bytes, all_bytes }
            }
            Stage::Failed(failure) => {
                let (code, reason) = code_and_text(failure);
                InstallView::Failed { code, reason, restored: true }
            }
            Stage::Wanted(release) => match self.apps.get(&brought.app) {
                Some(app) => view(&app.state.record, *release),
                None => InstallView::None,
            },
        }
    }

    /// Asks what speaks against the releases that are here. [`Driver::judged`] hears the answer.
    pub(super) fn judge(&self) {
        let mut releases = Vec::new();
        for (name, app) in &self.apps {
            let here = [app.state.record.current, app.state.previous].into_iter().flatten();
            releases.extend(here.filter_map(|id| Some((name.clone(), self.named(name, id)?))));
        }
        self.outside.judge(releases);
    }

    /// What speaks against the releases that are here. None of it stops what runs.
    pub(super) fn judged(&mut self, judged: Vec<(AppName, ReleaseRef, Option<Reason>)>) {
        for app in self.apps.values_mut() {
            let named = app.state.named();
            app.objections.retain(|release, _| named.contains(release));
        }
        for (name, release, objection) in judged {
            let Some(app) = self.apps.get_mut(&name) else { continue };
            let was_well = app.objections.get(&release.id).is_some_and(Option::is_none);
            app.objections.insert(release.id, objection);
            if was_well && app.state.record.current == Some(release.id) && app.is_revoked() {
                tracing::warn!(app = %name, release = release.id.short(), "the owner has revoked what runs here");
                self.tell(Some(&name), &What::ReleaseRevoked { release });
            }
        }
    }
}

/// How the deployment machine takes a release that was brought.
fn view(record: &Record, release: ReleaseId) -> InstallView {
    let phase = record.phase_name();
    let trial = matches!(&record.phase, Phase::Activating(trial) | Phase::Probing(trial) if trial.release == release);
    if record.desired != Some(release) && !trial {
        let reason = "something newer was deployed meanwhile; see `orangery-agent status`".to_owned();
        return InstallView::Failed { code: None, reason, restored: true };
    }
    let refused = record.refused.as_ref().filter(|refusal| refusal.release == release);
    match (refused, &record.phase) {
        (None, Phase::Settled) => InstallView::Current,
        (Some(refusal), Phase::Settled) => {
            InstallView::Failed { code: Some(refusal.code), reason: refusal.reason.clone(), restored: true }
        }
        (Some(refusal), Phase::Restoring { attempt }) if *attempt >= RESTORES_MAX => {
            InstallView::Failed { code: Some(refusal.code), reason: refusal.reason.clone(), restored: false }
        }
        _ => InstallView::Trying { phase },
    }
}

fn code_and_text(failure: &InstallFailure) -> (Option<RefusalCode>, String) {
    match failure {
        InstallFailure::Again(text) => (None, text.clone()),
        InstallFailure::Refused(reason) => (Some(reason.code), reason.text.clone()),
    }
}
