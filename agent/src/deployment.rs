//! The deployment machine: one record for each app, and the rules by which it changes. Pure: this module names no clock,
//! file, socket or task.
//!
//! The driver keeps three promises, and everything else follows from them:
//!
//! 1. It saves the record before it does what [`Record::effect`] says.
//! 2. It does that one thing, which is idempotent, and feeds the outcome back with [`Record::apply`].
//! 3. After a start, whatever went before, it loads the record and says [`Event::Started`].
//!
//! A release becomes `current` only after its probes held. Going back is "make `current` run": there are no undo steps.

use orangery_wire::messages::{Phase as PhaseName, Refusal, RefusalCode};
use orangery_wire::{Generation, ReleaseId};
use serde::{Deserialize, Serialize};

/// How often a release is started before it is trusted, over crashes and power cuts.
pub const TRIES: u8 = 3;

/// The durable state of one app's deployment.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Record {
    /// Generation of `desired`. It never decreases.
    pub generation: Generation,
    /// What should run.
    pub desired: Option<ReleaseId>,
    /// What is proven: its probes held. `None` before the first, or after the app was stopped.
    pub current: Option<ReleaseId>,
    /// What failed here in this generation, and why.
    pub refused: Option<Refusal>,
    /// Where the deployment is.
    pub phase: Phase,
}

/// Where a deployment is, with what that place needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// At rest.
    Settled,
    /// The release is being downloaded and verified.
    Fetching {
        /// The release.
        release: ReleaseId,
        /// Attempts that failed before this one.
        attempt: u32,
    },
    /// The release is being started on trial.
    Activating(Trial),
    /// The release runs on trial and is being probed.
    Probing(Trial),
    /// `current` is being made to run.
    Restoring {
        /// Attempts that failed before this one.
        attempt: u32,
    },
}

/// A release that runs before it is trusted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Trial {
    /// The release.
    pub release: ReleaseId,
    /// The generation that wanted it.
    pub generation: Generation,
    /// Starts that are left after this one. Saved before each start.
    pub tries_left: u8,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Event {
    /// The agent started; nothing is known of what was under way.
    Started,
    /// The coordinator (or the node's operator) wants this release, or none.
    Desired {
        /// The generation of the wish.
        generation: Generation,
        /// The release.
        release: Option<ReleaseId>,
    },
    /// The release is on the disk, verified and sealed.
    Fetched,
    /// It is not.
    FetchFailed {
        /// `None` when trying again may help; else why it never will.
        refusal: Option<Reason>,
    },
    /// What was to run, runs.
    Ran,
    /// It does not.
    RunFailed {
        /// Why.
        reason: String,
    },
    /// All probes held through the soak.
    Healthy,
    /// They did not.
    Unhealthy {
        /// Why.
        reason: String,
    },
    /// They held, but the node lost its coordinator when the release was started and does not reach it again.
    Disconnected {
        /// What was tried.
        reason: String,
    },
    /// The node's operator takes back the trust in `current` and names the release to go back to. It takes no generation of
    /// its own: a wish that is on its way meanwhile is newer and still counts.
    RolledBack {
        /// The release to go back to.
        release: ReleaseId,
    },
    /// The node's operator brought this release, which is on the disk, and wants it. It takes no generation of its own, as
    /// [`Event::RolledBack`]; a release that was refused in this generation is tried again.
    Brought {
        /// The release.
        release: ReleaseId,
    },
}

/// A refusal's code and text, before the release is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reason {
    /// The stable code.
    pub code: RefusalCode,
    /// For people.
    pub text: String,
}

/// The one thing that a record asks of the world. It may be done any number of times.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Nothing.
    Wait,
    /// Have this release on the disk, verified and sealed. `attempt` failed before: wait accordingly.
    Fetch {
        /// The release.
        release: ReleaseId,
        /// Attempts that failed before.
        attempt: u32,
    },
    /// Make exactly this release run, or none; any other of the app is stopped. If it runs already, do nothing.
    Run {
        /// The release.
        release: Option<ReleaseId>,
        /// Whether it is on trial: if so nothing durable may start it at boot.
        trial: bool,
        /// Attempts that failed before.
        attempt: u32,
    },
    /// Ask the app's probes until they held through the soak or failed.
    Probe {
        /// The release.
        release: ReleaseId,
    },
}

impl Default for Record {
    fn default() -> Self {
        Self { generation: 0, desired: None, current: None, refused: None, phase: Phase::Settled }
    }
}

impl Record {
    /// What the world is asked for, derived from the saved state alone.
    pub fn effect(&self) -> Effect {
        match &self.phase {
            Phase::Settled => Effect::Wait,
            Phase::Fetching { release, attempt } => Effect::Fetch { release: *release, attempt: *attempt },
            Phase::Activating(trial) => Effect::Run { release: Some(trial.release), trial: true, attempt: 0 },
            Phase::Probing(trial) => Effect::Probe { release: trial.release },
            Phase::Restoring { attempt } => Effect::Run { release: self.current, trial: false, attempt: *attempt },
        }
    }

    /// The record after `event`. An event that the phase does not wait for changes nothing.
    #[must_use]
    pub fn apply(&self, event: Event) -> Self {
        let mut next = self.clone();
        next.step(event);
        next
    }

    /// The phase's name for reports.
    pub fn phase_name(&self) -> PhaseName {
        match self.phase {
            Phase::Settled => PhaseName::Settled,
            Phase::Fetching { .. } => PhaseName::Fetching,
            Phase::Activating(_) => PhaseName::Activating,
            Phase::Probing(_) => PhaseName::Probing,
            Phase::Restoring { .. } => PhaseName::Restoring,
        }
    }

    /// The release that the phase is about.
    pub fn subject(&self) -> Option<ReleaseId> {
        match &self.phase {
            Phase::Fetching { release, .. } => Some(*release),
            Phase::Activating(trial) | Phase::Probing(trial) => Some(trial.release),
            Phase::Settled | Phase::Restoring { .. } => self.current,
        }
    }

    fn step(&mut self, event: Event) {
        match (event, self.phase.clone()) {
            (Event::Desired { generation, release }, phase) => self.wish(generation, release, &phase),
            (Event::RolledBack { release }, phase) => self.roll_back(release, &phase),
            (Event::Brought { release }, phase) => self.want(Some(release), &phase),
            (Event::Started, Phase::Activating(trial) | Phase::Probing(trial)) => self.try_again(&trial),
            (Event::Started, Phase::Settled | Phase::Fetching { .. } | Phase::Restoring { .. }) => self.restore(),
            (Event::Fetched, Phase::Fetching { release, .. }) => self.begin_trial(release),
            (Event::FetchFailed { refusal: None }, Phase::Fetching { release, attempt }) => {
                self.phase = Phase::Fetching { release, attempt: attempt.saturating_add(1) };
            }
            (Event::FetchFailed { refusal: Some(why) }, Phase::Fetching { release, .. }) => {
                self.refuse(release, self.generation, why.code, why.text);
            }
            (Event::Ran, Phase::Activating(trial)) => self.phase = Phase::Probing(trial),
            (Event::RunFailed { reason }, Phase::Activating(trial)) => {
                self.refuse(trial.release, trial.generation, RefusalCode::WontStart, reason);
            }
            (Event::Healthy, Phase::Probing(trial)) => self.commit(&trial),
            (Event::Unhealthy { reason }, Phase::Probing(trial)) => {
                self.refuse(trial.release, trial.generation, RefusalCode::Unhealthy, reason);
            }
            (Event::Disconnected { reason }, Phase::Probing(trial)) => {
                self.refuse(trial.release, trial.generation, RefusalCode::Disconnected, reason);
            }
            (Event::Ran, Phase::Restoring { .. }) => self.settle(),
            (Event::RunFailed { .. }, Phase::Restoring { attempt }) => self.restore_failed(attempt),
            // Late or foreign outcomes: the phase they belonged to is over.
            (
                Event::Fetched
                | Event::FetchFailed { .. }
                | Event::Ran
                | Event::RunFailed { .. }
                | Event::Healthy
                | Event::Unhealthy { .. }
                | Event::Disconnected { .. },
                _,
            ) => {}
        }
    }

    /// A newer wish. A switch that is under way is finished first; a download may be abandoned, its bytes are kept.
    fn wish(&mut self, generation: Generation, release: Option<ReleaseId>, phase: &Phase) {
        if generation <= self.generation {
            return;
        }
        self.generation = generation;
        self.want(release, phase);
    }

    /// What somebody wants now, whoever it is.
    fn want(&mut self, release: Option<ReleaseId>, phase: &Phase) {
        self.desired = release;
        self.refused = None;
        match phase {
            Phase::Settled => self.settle(),
            Phase::Fetching { .. } => self.restore(),
            Phase::Activating(_) | Phase::Probing(_) | Phase::Restoring { .. } => {}
        }
    }

    /// The operator's way back: `current` loses its trust at once, the named release takes its place untried, because it
    /// was proven here before. Only from rest; the driver says so otherwise.
    fn roll_back(&mut self, release: ReleaseId, phase: &Phase) {
        let Some(current) = self.current else { return };
        if !matches!(phase, Phase::Settled) || release == current {
            return;
        }
        self.desired = Some(current);
        self.current = Some(release);
        let text = "the node's operator rolled it back".to_owned();
        self.refuse(current, self.generation, RefusalCode::RolledBack, text);
    }

    fn try_again(&mut self, trial: &Trial) {
        let Some(tries_left) = trial.tries_left.checked_sub(1) else {
            let text = format!("the node or its agent went down in each of {TRIES} tries");
            return self.refuse(trial.release, trial.generation, RefusalCode::CrashLoop, text);
        };
        self.phase = Phase::Activating(Trial { tries_left, ..trial.clone() });
    }

    fn begin_trial(&mut self, release: ReleaseId) {
        let trial = Trial { release, generation: self.generation, tries_left: TRIES - 1 };
        self.phase = Phase::Activating(trial);
    }

    /// The only place where a release becomes current by being proven.
    fn commit(&mut self, trial: &Trial) {
        self.current = Some(trial.release);
        self.settle();
    }

    /// A refusal counts against the wish that it was tried for; a newer wish for the same release may try it again.
    fn refuse(&mut self, release: ReleaseId, generation: Generation, code: RefusalCode, reason: String) {
        if generation == self.generation {
            self.refused = Some(Refusal { release, code, reason: orangery_wire::limits::reason(reason) });
        }
        self.restore();
    }

    fn restore(&mut self) {
        self.phase = Phase::Restoring { attempt: 0 };
    }

    /// `current` does not run. If something else is wanted, or nothing, that may be the cure; else it is tried again.
    fn restore_failed(&mut self, attempt: u32) {
        if self.wanted().is_some() || self.is_unwanted() {
            self.settle();
        } else {
            self.phase = Phase::Restoring { attempt: attempt.saturating_add(1) };
        }
    }

    /// Comes to rest, or goes on to what is still wanted.
    fn settle(&mut self) {
        self.phase = match self.wanted() {
            Some(release) => Phase::Fetching { release, attempt: 0 },
            None if self.is_unwanted() => {
                self.current = None;
                Phase::Restoring { attempt: 0 }
            }
            None => Phase::Settled,
        };
    }

    /// `current` should be stopped and nothing run in its place.
    fn is_unwanted(&self) -> bool {
        self.desired.is_none() && self.current.is_some()
    }

    /// The release that should be fetched and tried, if any.
    fn wanted(&self) -> Option<ReleaseId> {
        let desired = self.desired?;
        let refused = self.refused.as_ref().is_some_and(|refusal| refusal.release == desired);
        (self.current != Some(desired) && !refused).then_some(desired)
    }
}
