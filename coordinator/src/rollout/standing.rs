//! Where a node stands in a rollout, by what it reports itself.

use std::fmt;

use orangery_wire::NodeId;
use orangery_wire::messages::Phase;
use orangery_wire::rest::Overdue;

use super::compare::Drift;
use super::{
    Away, Back, Compared, Left, NodeFacts, Rollout, Rule, Scene, Shut, Stage, Status, Told, Turn, Verdict, Window,
};

/// Where a node stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It was told nothing, and can be told when its wave opens.
    Ready,
    /// It was told nothing, and cannot be: revoked.
    Revoked,
    /// It was told nothing, and cannot be: somebody holds it.
    Held(String),
    /// It was told nothing, and cannot run the release.
    Unfit(String),
    /// It was told nothing, for its maintenance window is shut.
    Shut(Shut),
    /// It was told nothing, for its maintenance window is open and it is not connected: it would take it in later, outside.
    Away,
    /// It was told, and has not taken that in.
    NotTaken {
        /// Whether it is connected.
        online: bool,
    },
    /// It works on it.
    Working(Phase),
    /// It settled on the release, but what runs is not that, or nobody knows.
    NotRunning,
    /// It is well, and must be for some time more.
    Soaking {
        /// Seconds for which it must be watched; 0: it must be heard once more.
        left_secs: u64,
    },
    /// It has been well for the whole soak, and whether it is worse than before is not clear yet.
    Comparing(String),
    /// The same, and it was waited for long enough: somebody is asked.
    Inconclusive(String),
    /// It has been well for the whole soak, and is no worse than before if that was to be compared.
    Soaked,
    /// It refused the release, or the release fails there.
    Failed(String),
    /// It has missed a deadline.
    Overdue(Missed),
    /// It was told to go back and is not there yet.
    GoingBack {
        /// Whether it is connected.
        online: bool,
    },
    /// It settled in the generation in which it was told to go back.
    Back,
    /// It was told to go back, and was not heard of within the time that it had.
    NotReached,
    /// It is no part of the rollout any more.
    Left(Left),
}

/// A deadline that was missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missed {
    /// Which: "start", "progress" or "done".
    pub deadline: &'static str,
    /// How long it was, in seconds.
    pub secs: u64,
    /// What the node counts as.
    pub then: Overdue,
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing = match self.deadline {
            "start" => "it was not taken in",
            "progress" => "nothing new was heard",
            _ => "it was not proven",
        };
        write!(f, "{missing} within {} s", self.secs)
    }
}

impl Standing {
    /// Why the node counts as failed, if it does.
    pub(super) fn failure(&self) -> Option<String> {
        match self {
            Self::Failed(reason) => Some(reason.clone()),
            Self::Overdue(missed) if missed.then == Overdue::Fail => Some(format!("it missed a deadline: {missed}")),
            _ => None,
        }
    }

    /// Whether the wave cannot be judged before this changes.
    pub(super) fn is_open(&self) -> bool {
        match self {
            Self::Ready
            | Self::Away
            | Self::NotTaken { .. }
            | Self::Working(_)
            | Self::NotRunning
            | Self::Soaking { .. }
            | Self::Comparing(_)
            | Self::Inconclusive(_) => true,
            Self::Shut(shut) => shut.waits,
            Self::Overdue(missed) => missed.then == Overdue::Wait,
            _ => false,
        }
    }
}

impl Rollout {
    /// Takes in what a node's newest proof says of its turn.
    pub(super) fn observe(&self, turn: &mut Turn, facts: &NodeFacts, drift: &Drift) {
        let told = facts.told();
        let asked = facts.desired.as_ref().and_then(|desired| desired.release.as_ref());
        let is_ours = asked.is_some_and(|asked| asked.id == self.release.id);
        match &mut turn.stage {
            // Somebody told it this very release meanwhile: that is as good.
            Stage::Waiting if told != turn.noted && is_ours => {
                turn.stage = Stage::Told(self.telling(told, facts.proven().cloned()));
            }
            Stage::Waiting if told != turn.noted => turn.stage = told_otherwise(told),
            // Somebody told it again, which is how one tries again.
            Stage::Told(before) if told != before.generation && is_ours => {
                *before = self.telling(told, before.earlier.clone());
            }
            Stage::Told(before) if told != before.generation => turn.stage = told_otherwise(told),
            Stage::Back(back) if told != back.generation => turn.stage = told_otherwise(told),
            Stage::Waiting | Stage::Told(_) | Stage::Back(_) | Stage::Left(_) => {}
        }
        self.observe_absence(turn, facts);
        let soak_secs = self.rule(turn).map_or(0, |rule| rule.soak_secs);
        if let Stage::Told(told) = &mut turn.stage {
            self.follow(told, facts, soak_secs);
            match &self.compare {
                Some(limits) if told.well_since.is_some() => {
                    told.compare(limits, turn.before.as_ref(), facts, drift, self);
                }
                _ => told.compared = None,
            }
        }
    }

    /// What is kept of a node that is told now.
    pub(super) fn telling(&self, generation: u64, earlier: Option<orangery_wire::messages::ReleaseRef>) -> Told {
        Told {
            generation,
            at: self.watched_secs,
            earlier,
            taken_at: None,
            moved_at: self.watched_secs,
            mark: None,
            well_since: None,
            soaked: false,
            boot: None,
            failed: None,
            forgiven: false,
            compared: None,
        }
    }

    fn follow(&self, told: &mut Told, facts: &NodeFacts, soak_secs: u64) {
        let Some(report) = facts.report.as_ref().filter(|report| report.generation >= told.generation) else { return };
        told.taken_at.get_or_insert(self.watched_secs);
        let mark = Some((report.generation, report.phase));
        if told.mark != mark {
            (told.mark, told.moved_at) = (mark, self.watched_secs);
        }
        if !self.is_well(facts) {
            // A board that is started again later has its time anew.
            if told.well_since.take().is_some() {
                (told.taken_at, told.soaked) = (Some(self.watched_secs), false);
            }
            return;
        }
        if told.well_since.is_none() || told.boot != facts.boot {
            // It was well when it was last heard; nothing is known of the time since.
            let heard = self.heard(facts).and_then(|heard| u64::try_from(heard).ok()).unwrap_or(self.watched_secs);
            told.well_since = Some(heard.clamp(told.at, self.watched_secs));
            told.boot.clone_from(&facts.boot);
            told.soaked = false;
        }
        let ends = told.well_since.map(|since| since.saturating_add(soak_secs));
        let heard = self.heard(facts).and_then(|heard| u64::try_from(heard).ok());
        let is_of_this_boot = facts.heard_boot.is_none() || facts.heard_boot == facts.boot;
        told.soaked |= is_of_this_boot && heard >= ends;
    }

    /// Whether the node's last proof is that it runs the release, which is proven there, and that its probes hold. That it has
    /// it on the disk, or tries it, is no proof.
    fn is_well(&self, facts: &NodeFacts) -> bool {
        facts.report.as_ref().is_some_and(|report| {
            let is_it = |release: &Option<orangery_wire::messages::ReleaseRef>| {
                release.as_ref().is_some_and(|release| release.id == self.release.id)
            };
            report.phase == Phase::Settled
                && is_it(&report.current)
                && is_it(&report.running)
                && report.healthy != Some(false)
        })
    }

    /// Where a node stands, after `observe`; `None` for one that nobody knows.
    pub fn standing(&self, node: &NodeId, turn: &Turn, scene: &Scene) -> Option<Standing> {
        let facts = scene.nodes.get(node)?;
        Some(self.standing_of(turn, facts, scene))
    }

    pub(super) fn standing_of(&self, turn: &Turn, facts: &NodeFacts, scene: &Scene) -> Standing {
        match &turn.stage {
            Stage::Left(left) => Standing::Left(left.clone()),
            Stage::Waiting | Stage::Told(_) if facts.revoked => Standing::Revoked,
            Stage::Waiting => match (&facts.held, &facts.unfit) {
                (Some(held), _) => Standing::Held(held.clone()),
                (None, Some(unfit)) => Standing::Unfit(unfit.clone()),
                (None, None) => self.untold(turn, facts),
            },
            Stage::Back(back) => self.way_back(turn, back, facts),
            Stage::Told(told) => match self.rule(turn) {
                Some(rule) => self.told(told, rule, facts, scene.listening_secs),
                None => Standing::Ready,
            },
        }
    }

    /// Whether windows matter to a node that was told nothing: only when its wave is open and it would be told.
    fn asks_windows(&self, turn: &Turn) -> bool {
        let is_open = self.waves.get(turn.wave as usize).is_some_and(|wave| wave.opened_at.is_some());
        is_open && self.ignores_windows.is_none() && self.status == Status::Running
    }

    /// From when its window was first open and it was not there, until it is told, or is back and its window is shut.
    fn observe_absence(&self, turn: &mut Turn, facts: &NodeFacts) {
        let is_told_nothing = matches!(turn.stage, Stage::Waiting);
        if !is_told_nothing || facts.window.is_none() || facts.online || self.ignores_windows.is_some() {
            turn.away = None;
        } else if self.asks_windows(turn) && facts.window == Some(Window::Open) {
            turn.away.get_or_insert(Away { since: self.watched_secs, failed: None });
        }
    }

    fn untold(&self, turn: &Turn, facts: &NodeFacts) -> Standing {
        let Some(window) = facts.window.as_ref().filter(|_| self.asks_windows(turn)) else { return Standing::Ready };
        let missed = turn
            .away
            .as_ref()
            .zip(self.rule(turn))
            .filter(|_| !facts.online)
            .and_then(|(away, rule)| missed("start", rule.start, self.watched_secs.saturating_sub(away.since)));
        missed.unwrap_or_else(|| match window {
            Window::Shut(shut) => Standing::Shut(shut.clone()),
            Window::Open if facts.online => Standing::Ready,
            Window::Open => Standing::Away,
        })
    }

    fn told(&self, told: &Told, rule: &Rule, facts: &NodeFacts, listening_secs: Option<u64>) -> Standing {
        let since = |then: u64| self.watched_secs.saturating_sub(then);
        let report = facts.report.as_ref().filter(|report| report.generation >= told.generation);
        let Some(report) = report else {
            let missed = missed("start", rule.start, since(told.at));
            return missed.unwrap_or(Standing::NotTaken { online: facts.online });
        };
        if let Some(refusal) = report.refusal.as_ref().filter(|refusal| refusal.release == self.release.id) {
            return Standing::Failed(format!("{}: {}", refusal.code, refusal.reason.trim_end_matches('.')));
        }
        if let Some(well_since) = told.well_since {
            return self.soak(told, well_since, rule, facts, listening_secs);
        }
        if self.is_well(facts) {
            // Nobody has looked since it said so.
            return Standing::Soaking { left_secs: rule.soak_secs };
        }
        let is_current = report.current.as_ref().is_some_and(|current| current.id == self.release.id);
        if report.phase == Phase::Settled && is_current && report.healthy == Some(false) {
            return Standing::Failed("its probes fail, though they held at first".to_owned());
        }
        let late = missed("done", rule.done, since(told.taken_at.unwrap_or(told.at)));
        let late = late.or_else(|| missed("progress", rule.progress, since(told.moved_at)));
        late.unwrap_or(match report.phase {
            Phase::Settled => Standing::NotRunning,
            phase => Standing::Working(phase),
        })
    }

    /// The soak ends when the node was heard, still well, after it: a node that went silent meanwhile has not proven anything.
    fn soak(
        &self,
        told: &Told,
        well_since: u64,
        rule: &Rule,
        facts: &NodeFacts,
        listening_secs: Option<u64>,
    ) -> Standing {
        let compared = self.compare.as_ref().zip(told.compared.as_ref());
        if let Some((_, Compared { text, .. })) = compared.filter(|(_, it)| it.verdict == Verdict::Fail) {
            return Standing::Failed(format!("it is worse than before: {text}"));
        }
        if told.soaked {
            return match compared.filter(|(_, it)| it.verdict == Verdict::Inconclusive && !it.accepted) {
                None => Standing::Soaked,
                Some((limits, it)) if told.asks_from(limits, rule.soak_secs) <= Some(self.watched_secs) => {
                    Standing::Inconclusive(it.text.clone())
                }
                Some((_, it)) => Standing::Comparing(it.text.clone()),
            };
        }
        // Silence is the node's only while somebody listens.
        let listening = listening_secs.unwrap_or(0);
        let silent = facts.heard_secs.map_or(listening, |heard| heard.min(listening));
        let ends = well_since.saturating_add(rule.soak_secs);
        let left_secs = ends.saturating_sub(self.watched_secs);
        missed("progress", rule.progress, silent).unwrap_or(Standing::Soaking { left_secs })
    }

    fn way_back(&self, turn: &Turn, back: &Back, facts: &NodeFacts) -> Standing {
        let home = facts
            .report
            .as_ref()
            .is_some_and(|report| report.generation >= back.generation && report.phase == Phase::Settled);
        if home {
            return Standing::Back;
        }
        let patience = self.rule(turn).map_or(0, |rule| rule.start.secs.saturating_add(rule.done.secs));
        if facts.revoked || self.watched_secs.saturating_sub(back.at) > patience {
            return Standing::NotReached;
        }
        Standing::GoingBack { online: facts.online }
    }
}

fn told_otherwise(generation: u64) -> Stage {
    Stage::Left(Left::ToldOtherwise { generation })
}

fn missed(deadline: &'static str, of: orangery_wire::rest::Deadline, passed: u64) -> Option<Standing> {
    (passed > of.secs).then_some(Standing::Overdue(Missed { deadline, secs: of.secs, then: of.then }))
}
