//! One app at a time: save, then act.

mod meanwhile;
mod turns;

use std::collections::BTreeMap;

use orangery_wire::messages::{Evidence, Phase as PhaseName, RefusalCode, ReleaseRef, What};
use orangery_wire::{AppName, ReleaseId, Version};

use super::{CallOff, Driver, Event, Outcome, gate};
use crate::deployment::{self, Effect, Phase, Reason, Record};
use crate::evidence::Refused;
use crate::record::{self, AppState, Source};
use crate::runner::{Exit, own};

/// Pause before something that the disk did not take is tried again.
const AGAIN_PAUSE: std::time::Duration = std::time::Duration::from_secs(5);

/// What the driver remembers of an app besides its record; all of it can be lost.
#[derive(Default)]
pub struct App {
    /// As saved.
    pub state: AppState,
    /// Counts effects, so that the outcome of one given up is known for what it is.
    serial: u64,
    /// The effect under way.
    doing: Option<(Effect, CallOff)>,
    /// An event that waits until another app's trial is over: one at a time on a node.
    held: Option<deployment::Event>,
    /// What happened and the disk did not take. Nothing else is taken in, and nothing begun, before it has.
    owed: Option<deployment::Event>,
    /// It will be said again.
    again_due: bool,
    /// The last release that was wished for here, which no record may name yet.
    wished: Option<(ReleaseId, Version)>,
    /// The serial of an effect that no record asks for: it makes what is proven run as long as the disk takes none.
    meanwhile: Option<u64>,
    /// What keeps the deployment from going on at this moment, for people.
    pub waits: Option<String>,
    /// The probes of the committed release.
    watch: Option<(ReleaseId, CallOff)>,
    /// What they say.
    pub healthy: Option<bool>,
    /// A refusal happened and what ran before does not yet run again.
    refused: bool,
    /// How the trial that was just passed was gated; see [`AppState::unwitnessed`].
    unwitnessed: bool,
    /// What speaks against releases that are here, since the last look at the metadata.
    pub objections: BTreeMap<ReleaseId, Option<Reason>>,
    /// What was seen of a release that failed its trial, until that is told.
    pub evidence: Option<Box<Evidence>>,
    /// The same, until it is on the disk.
    pub unsaved: Option<Refused>,
}

impl App {
    /// Gives up what is under way.
    pub fn abandon(&mut self) {
        self.serial += 1;
        if let Some((_, call_off)) = self.doing.take() {
            call_off();
        }
        self.unwatch();
    }

    /// Whether the owner has revoked what is current.
    pub fn is_revoked(&self) -> bool {
        let objection = self.state.record.current.and_then(|id| self.objections.get(&id)?.as_ref());
        objection.is_some_and(|reason| reason.code == RefusalCode::Revoked)
    }

    fn unwatch(&mut self) {
        if let Some((_, call_off)) = self.watch.take() {
            call_off();
        }
        self.healthy = None;
    }

    fn on_trial(&self) -> bool {
        matches!(self.state.record.phase, Phase::Activating(_) | Phase::Probing(_))
    }
}

impl Driver {
    /// Loads an app's record and starts it, whatever was under way before.
    pub(super) fn wake(&mut self, name: &AppName) {
        let loaded = record::load_app(&*self.home.disk, &self.home.layout, name);
        let used = match loaded.source {
            Source::Previous => Some("its previous copy"),
            Source::Link => Some("the link to the current release"),
            Source::Primary | Source::Absent => None,
        };
        self.apps.insert(name.clone(), App { state: loaded.state, ..App::default() });
        if let Some(used) = used {
            tracing::error!(app = %name, used, "the app's record was unreadable");
            let file = format!("apps/{name}/state.json");
            self.tell(Some(name), &What::RecordRecovered { file, used: used.to_owned() });
        }
        if self.is_the_start_itself(name) {
            return self.act(name);
        }
        self.step(name, deployment::Event::Started);
    }

    /// Whether this agent's own start is the one that the saved record pays for: it takes no other try.
    fn is_the_start_itself(&self, name: &AppName) -> bool {
        let phase = self.apps.get(name).map(|app| &app.state.record.phase);
        let Some(Phase::Activating(trial)) = phase.filter(|_| own::is_agent(name)) else { return false };
        self.outside.running(name) == Some(trial.release)
    }

    /// The outcome of an effect.
    pub(super) fn outcome(&mut self, name: &AppName, serial: u64, outcome: Outcome) {
        let Some(app) = self.apps.get_mut(name).filter(|app| app.serial == serial) else { return };
        app.doing = None;
        if app.was_meanwhile(&outcome) {
            return;
        }
        app.unwitnessed = outcome.unwitnessed;
        app.evidence = outcome.evidence;
        let phase = app.state.record.phase_name();
        let waits = outcome
            .retry
            .as_ref()
            .map(|retry| format!("the last attempt to {} failed and will be made again: {}", retry.deed, retry.reason));
        if let Some(retry) = outcome.retry {
            tracing::warn!(app = %name, reason = retry.reason, "will try again");
            if retry.first {
                let deed = retry.deed.to_owned();
                self.tell(Some(name), &What::Retrying { deed, reason: orangery_wire::limits::reason(retry.reason) });
            }
        }
        self.step(name, outcome.event);
        if let (Some(waits), Some(app)) = (waits, self.apps.get_mut(name))
            && app.state.record.phase_name() == phase
        {
            app.waits.get_or_insert(orangery_wire::limits::reason(waits));
        }
    }

    /// Lets the core say what follows from `event`, saves that, and only then acts.
    pub(super) fn step(&mut self, name: &AppName, event: deployment::Event) {
        if !self.pay(name, &event) {
            return;
        }
        let trial_elsewhere = self.apps.iter().find(|(other, app)| *other != name && app.on_trial());
        let trial_elsewhere = trial_elsewhere.map(|(other, _)| other.clone());
        let Some(app) = self.apps.get_mut(name) else { return };
        if let (Some(other), deployment::Event::Fetched) = (trial_elsewhere, &event) {
            app.held = Some(event);
            app.waits = Some(turns::waits_for(&other));
            return;
        }
        let next = app.state.record.apply(event.clone());
        if next != app.state.record {
            let mut state = AppState { record: next, ..app.state.clone() };
            state.versions.extend(app.wished.clone());
            let state = state.with_previous(&app.state.record);
            let state = gate::noted(state, &app.state.record, self.connected, app.unwitnessed);
            if let Err(error) = record::save_app(&*self.home.disk, &self.home.layout, name, &state) {
                let reason = crate::errors::chain(&error);
                tracing::error!(app = %name, reason, "cannot save the app's record; nothing is changed until it can be");
                let waits = format!("the node's disk does not take its record: {reason}");
                app.waits = Some(orangery_wire::limits::reason(waits));
                app.owed = Some(event.clone());
                if !std::mem::replace(&mut app.again_due, true) {
                    self.again_later(name, event);
                }
                return self.run_proven_meanwhile(name, &state.record);
            }
            (app.again_due, app.meanwhile) = (false, None);
            let before = std::mem::replace(&mut app.state, state).record;
            // It waited for its turn in a phase that is over.
            app.held = None;
            app.waits = None;
            self.changed(name, &before);
        }
        self.act(name);
        self.keep_evidence(name);
        self.release_held();
    }

    /// Takes in first what the disk did not take before `event`. As long as it does not, nothing may be begun: what the old
    /// record asks for may be a try that was not paid for, and a release that takes its node down would do so without end.
    fn pay(&mut self, name: &AppName, event: &deployment::Event) -> bool {
        let Some(app) = self.apps.get_mut(name) else { return true };
        let Some(owed) = app.owed.take().filter(|owed| owed != event) else { return true };
        self.step(name, owed);
        let Some(app) = self.apps.get(name).filter(|app| app.owed.is_some()) else { return true };
        if app.state.record.apply(event.clone()) != app.state.record {
            self.again_later(name, event.clone());
        }
        false
    }

    fn again_later(&self, name: &AppName, event: deployment::Event) {
        let Some(app) = self.apps.get(name) else { return };
        let seen = Box::new(app.state.record.clone());
        self.outside.later(AGAIN_PAUSE, Event::Again { app: name.clone(), seen, event });
    }

    /// An event is due again. An outcome belongs to the record that waited for it and to no other; a wish has its
    /// generation and is judged by that.
    pub(super) fn again(&mut self, name: &AppName, seen: &Record, event: deployment::Event) {
        let Some(app) = self.apps.get_mut(name) else { return };
        app.again_due &= app.owed.as_ref() != Some(&event);
        let same = app.state.record == *seen;
        if same || matches!(event, deployment::Event::Desired { .. }) {
            self.step(name, event);
        }
    }

    /// The record was saved: tells what happened, and makes the `current` link follow it.
    fn changed(&mut self, name: &AppName, before: &Record) {
        let Some(app) = self.apps.get_mut(name) else { return };
        let after = app.state.record.clone();
        let refusal = after.refused.clone().filter(|_| before.refused != after.refused);
        let left_restoring = before.phase_name() == PhaseName::Restoring && after.phase_name() != PhaseName::Restoring;
        let restored = app.refused && left_restoring;
        app.refused = (app.refused || refusal.is_some()) && !restored;
        let generation = after.generation;
        let current = after.current.and_then(|id| self.named(name, id));
        if let Some(refusal) = refusal {
            self.tell_refused(name, generation, refusal);
        }
        let proven = matches!(before.phase, Phase::Probing(_)) && before.current != after.current;
        if proven || (before.current.is_some() && after.current.is_none()) {
            self.committed(name, current.clone(), generation);
        }
        if restored {
            self.tell(Some(name), &What::Restored { generation, release: current });
        }
        if before.phase_name() != after.phase_name() {
            let release = after.subject().and_then(|id| self.named(name, id));
            let phase = after.phase_name();
            let short = after.subject().map(|id| id.short());
            tracing::info!(app = %name, generation, %phase, release = short, "the deployment moved on");
            self.tell(Some(name), &What::PhaseChanged { generation, release, phase });
            if phase == PhaseName::Settled {
                self.collect(name);
                self.judge();
            }
        }
    }

    fn committed(&mut self, name: &AppName, release: Option<ReleaseRef>, generation: u64) {
        tracing::info!(app = %name, generation, release = release.as_ref().map(|r| r.id.short()), "the release is current");
        if let Some(release) = &release {
            if !self.point_current(name) {
                // As after a start: the link is made to follow the record before anything else.
                self.again_later(name, deployment::Event::Started);
            }
            self.outside.commit(name, release.id);
        }
        let unwitnessed = self.apps.get(name).is_some_and(|app| app.state.unwitnessed);
        self.tell(Some(name), &What::Committed { generation, release, unwitnessed });
    }

    /// Makes the link follow the record. The record decides; the link is what units run.
    fn point_current(&mut self, name: &AppName) -> bool {
        let Some(app) = self.apps.get(name) else { return false };
        let current = app.state.record.current;
        match record::set_current(&*self.home.disk, &self.home.layout, name, current.as_ref()) {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(app = %name, reason = %crate::errors::chain(&error), "cannot move the `current` link");
                false
            }
        }
    }

    /// Starts the one effect that the saved record asks for, if it is not under way.
    fn act(&mut self, name: &AppName) {
        let Some(app) = self.apps.get_mut(name) else { return };
        let effect = app.state.record.effect();
        if app.doing.as_ref().is_some_and(|(doing, _)| *doing == effect) {
            return;
        }
        // Another one can only be a download that a newer wish made useless; its bytes are kept.
        if let Some((_, call_off)) = app.doing.take() {
            call_off();
        }
        app.serial += 1;
        match effect {
            Effect::Wait | Effect::Fetch { .. } => self.watch(name),
            Effect::Run { trial: false, .. } if !self.point_current(name) => {
                return self.again_later(name, deployment::Event::Started);
            }
            Effect::Run { .. } | Effect::Probe { .. } => self.unwatch(name),
        }
        if effect != Effect::Wait {
            self.begin_effect(name, effect);
        }
    }

    fn begin_effect(&mut self, name: &AppName, effect: Effect) {
        let Some(app) = self.apps.get_mut(name) else { return };
        let call_off = self.outside.begin(name, app.serial, effect.clone(), &app.state);
        app.doing = Some((effect, call_off));
    }

    fn unwatch(&mut self, name: &AppName) {
        if let Some(app) = self.apps.get_mut(name) {
            app.unwatch();
        }
    }

    /// Keeps the probes of the current release going while it is what runs.
    fn watch(&mut self, name: &AppName) {
        let Some(app) = self.apps.get_mut(name) else { return };
        let Some(current) = app.state.record.current else { return };
        if app.watch.as_ref().is_some_and(|(watched, _)| *watched == current) {
            return;
        }
        app.unwatch();
        // It is here because its probes held, or because it runs again; the probes will say if that is wrong.
        app.watch = Some((current, self.outside.watch(name, current)));
    }

    /// An app's process ended by itself; the runner has its restart policy, this only tells.
    pub(super) fn exited(&mut self, exit: Exit) {
        tracing::warn!(app = %exit.app, reason = exit.reason, restarts = exit.restarts, "the app exited");
        let reason = orangery_wire::limits::reason(exit.reason);
        self.tell(Some(&exit.app), &What::AppExited { reason, restarts: exit.restarts });
    }

    /// The probes of a committed release changed their mind.
    pub(super) fn probed(&mut self, name: &AppName, release: ReleaseId, healthy: bool, reason: Option<String>) {
        let Some(app) = self.apps.get_mut(name) else { return };
        if app.watch.as_ref().is_none_or(|(watched, _)| *watched != release) {
            return;
        }
        let before = app.healthy.replace(healthy);
        if before == Some(healthy) || (before.is_none() && healthy) {
            return;
        }
        let reason = reason.map(orangery_wire::limits::reason);
        self.tell(Some(name), &What::AppHealth { healthy, reason });
    }

    /// Removes releases that nothing needs: all but current, desired, on trial and the one before.
    fn collect(&self, name: &AppName) {
        let Some(app) = self.apps.get(name) else { return };
        let record = &app.state.record;
        let refused = record.refused.as_ref().map(|refusal| refusal.release);
        let desired = record.desired.filter(|release| refused != Some(*release));
        let keep: Vec<ReleaseId> =
            [record.current, record.subject(), desired, app.state.previous].into_iter().flatten().collect();
        self.outside.collect(name, keep);
    }

    /// The node operator's way back to the release before. Answers with the version gone back to.
    pub(super) fn roll_back(&mut self, name: &AppName) -> Result<String, String> {
        let app = self.apps.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.apps.keys().map(AppName::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            format!("no app named {name} is on this node; there is: {known}")
        })?;
        let record = &app.state.record;
        if !matches!(record.phase, Phase::Settled) {
            return Err(format!("{name} is {}; wait until it has settled and ask again", record.phase_name()));
        }
        let current = record.current.ok_or_else(|| format!("{name} runs nothing that one could go back from"))?;
        let previous = app.state.previous.filter(|previous| *previous != current);
        let previous =
            previous.ok_or_else(|| format!("there is no release of {name} before the current one on this node"))?;
        if crate::install::sealed(&*self.home.disk, &self.home.layout, name, &previous).is_none() {
            let version = self.version(name, previous).map_or_else(|| previous.short(), |version| version.to_string());
            return Err(format!(
                "{name} {version}, the release before the current one, is no longer on this node: it was removed to make room \
                 for another; deploy or install the version that you want"
            ));
        }
        if let Some(Some(reason)) = app.objections.get(&previous)
            && matches!(reason.code, RefusalCode::BelowFloor | RefusalCode::Revoked)
        {
            return Err(format!("{name} does not go back: {} [{}]", reason.text, reason.code));
        }
        self.step(name, deployment::Event::RolledBack { release: previous });
        let version = self.version(name, previous).map_or_else(|| previous.short(), |version| version.to_string());
        Ok(version)
    }
}
