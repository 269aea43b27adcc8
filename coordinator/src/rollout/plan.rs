//! What follows from a rollout, the nodes and the time.

use std::collections::BTreeMap;

use orangery_wire::messages::ReleaseRef;
use orangery_wire::rest::OnFailure;
use orangery_wire::{Generation, NodeId};

use super::compare::Drift;
use super::{
    Back, Gate, Halt, LOOK_SECS_MAX, Left, NodeFacts, Rollout, Scene, Stage, Standing, Status, Turn, Waiting, Wave,
    waiting,
};

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// The rollout as it is now.
    pub next: Rollout,
    /// Whom to tell what. It is committed together with `next`, in which it counts as done.
    pub assign: Vec<Telling>,
    /// Why each node that has not ended its part waits. The one answer for log, REST, command line and pages.
    pub waiting: BTreeMap<NodeId, Waiting>,
    /// What happened, for the history.
    pub news: Vec<News>,
}

/// A node that is told something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telling {
    /// The node.
    pub node: NodeId,
    /// In which generation: one above all that it was given.
    pub generation: Generation,
    /// What it shall run; `None`: nothing of the app.
    pub release: Option<ReleaseRef>,
}

/// Something that happened to a rollout by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// The stable word.
    pub code: &'static str,
    /// The wave, counted from 0.
    pub wave: Option<u32>,
    /// The node.
    pub node: Option<NodeId>,
    /// For people.
    pub text: String,
}

/// Plans. Does nothing else: the same arguments give the same plan.
pub fn plan(rollout: &Rollout, scene: &Scene) -> Planned {
    let mut planner = Planner { next: rollout.clone(), scene, assign: Vec::new(), news: Vec::new() };
    if rollout.status.is_active() {
        planner.look();
        planner.note_gate();
    }
    let waiting = waiting::all(&planner.next, scene);
    Planned { waiting, next: planner.next, assign: planner.assign, news: planner.news }
}

struct Planner<'a> {
    next: Rollout,
    scene: &'a Scene,
    assign: Vec<Telling>,
    news: Vec<News>,
}

impl Planner<'_> {
    fn look(&mut self) {
        self.watch();
        self.let_late_ones_join();
        self.observe();
        self.stop_if_too_many_failed();
        if self.next.status == Status::Running {
            self.open_waves();
        }
        if matches!(self.next.status, Status::Reverting(_)) {
            self.go_back();
        }
        self.end();
    }

    /// What it waits for now, and since when it has been that.
    fn note_gate(&mut self) {
        let cause = match self.next.status {
            Status::Paused(_) => Some("paused"),
            Status::Running => waiting::cause(&self.next, self.scene),
            _ => None,
        };
        if self.next.gate.as_ref().map(|gate| gate.cause.as_str()) != cause {
            let since = self.next.watched_secs;
            self.next.gate = cause.map(|cause| Gate { cause: cause.to_owned(), since });
        }
    }

    fn tell(&mut self, code: &'static str, wave: Option<u32>, node: Option<&NodeId>, text: impl Into<String>) {
        self.news.push(News { code, wave, node: node.cloned(), text: text.into() });
    }

    /// Time counts while the coordinator listens, and never faster than it can look.
    fn watch(&mut self) {
        let passed = self.scene.now.saturating_sub(self.next.looked_at).min(LOOK_SECS_MAX);
        if self.scene.listening_secs.is_some() {
            self.next.watched_secs = self.next.watched_secs.saturating_add(passed);
        }
        self.next.looked_at = self.scene.now;
    }

    /// Nodes that are chosen now and were not before come after all others.
    fn let_late_ones_join(&mut self) {
        if matches!(self.next.status, Status::Reverting(_)) {
            return;
        }
        let is_late = |node: &NodeId, facts: &NodeFacts| {
            let can = facts.chosen && facts.has_reported && !facts.revoked && facts.unfit.is_none();
            can && !self.next.turns.contains_key(node)
        };
        let scene = self.scene;
        let late: Vec<_> = scene.nodes.iter().filter(|(node, facts)| is_late(node, facts)).collect();
        if late.is_empty() {
            return;
        }
        let wave = self.trailing_wave();
        for (node, facts) in late {
            let turn = Turn::new(wave, facts.told());
            self.next.turns.insert(node.clone(), turn);
            self.tell("joined_late", Some(wave), Some(node), format!("{node} is chosen now too"));
        }
    }

    /// The wave for latecomers that is not open yet: it has the same gates as the last one that was asked for.
    fn trailing_wave(&mut self) -> u32 {
        let waves = &mut self.next.waves;
        if waves.last().is_none_or(|last| !last.trailing || last.opened_at.is_some())
            && let Some(rule) = waves.last().map(|last| last.rule.clone())
        {
            waves.push(Wave::new(rule, true));
        }
        u32::try_from(waves.len().saturating_sub(1)).unwrap_or(u32::MAX)
    }

    fn observe(&mut self) {
        let drift = match self.next.compare {
            Some(_) => Drift::of(&self.next, self.scene),
            None => Drift::NONE,
        };
        let mut turns = std::mem::take(&mut self.next.turns);
        for (node, turn) in &mut turns {
            let Some(facts) = self.scene.nodes.get(node) else { continue };
            let had_left = matches!(turn.stage, Stage::Left(_));
            self.next.observe(turn, facts, &drift);
            if !had_left && matches!(turn.stage, Stage::Left(Left::ToldOtherwise { .. })) {
                let text = format!("{node} was told something else meanwhile and is left alone");
                self.tell("told_otherwise", Some(turn.wave), Some(node), text);
            }
            let failure = self.next.standing_of(turn, facts, self.scene).failure();
            let wave = turn.wave;
            if let Some(failed) = turn.failed_mut()
                && *failed != failure
            {
                let before = std::mem::replace(failed, failure.clone());
                if let (None, Some(reason)) = (before, failure) {
                    self.tell("failed", Some(wave), Some(node), format!("{node} failed: {reason}"));
                }
            }
        }
        self.next.turns = turns;
    }

    /// Nodes of a wave that failed, without those in spite of which somebody went on.
    fn failed(&self, wave: usize) -> Vec<(&NodeId, &str)> {
        let failed = self.next.members(wave).filter_map(|(node, turn)| match &turn.stage {
            Stage::Told(told) if !told.forgiven => Some((node, told.failed.as_deref()?)),
            Stage::Waiting => Some((node, turn.away.as_ref()?.failed.as_deref()?)),
            _ => None,
        });
        failed.collect()
    }

    fn stop_if_too_many_failed(&mut self) {
        if self.next.status != Status::Running {
            return;
        }
        let (waves, next) = (self.next.waves.len(), &self.next);
        let too_many = (0..waves).find_map(|wave| {
            let failed = self.failed(wave);
            let may = next.waves.get(wave)?.rule.failures.of(next.members(wave).count());
            let (node, reason) = failed.get(may)?;
            let others = match failed.len() - 1 {
                0 => String::new(),
                others => format!(" and {others} more"),
            };
            let place = format!("wave {}, where {may} may fail", wave + 1);
            let text = format!("{node}{others} failed in {place}: {reason}");
            Some((wave, (*node).clone(), text))
        });
        let Some((wave, node, reason)) = too_many else { return };
        let wave = u32::try_from(wave).ok();
        let halt = Halt { at: self.scene.now, by: None, wave, node: Some(node.clone()), reason: reason.clone() };
        let code = match self.next.on_failure {
            OnFailure::Pause => {
                self.next.status = Status::Paused(halt);
                "paused"
            }
            OnFailure::Revert => {
                self.next.status = Status::Reverting(halt);
                "reverting"
            }
        };
        self.tell(code, wave, Some(&node), reason);
    }

    fn open_waves(&mut self) {
        for wave in 0..self.next.waves.len() {
            let is_open = self.next.waves.get(wave).is_some_and(|wave| wave.opened_at.is_some());
            if !is_open && !self.may_open(wave) {
                return;
            }
            if !is_open {
                self.open(wave);
            }
            self.tell_members(wave);
        }
    }

    fn may_open(&self, wave: usize) -> bool {
        let promoted = self.next.waves.get(wave).is_some_and(|wave| wave.promoted.is_some());
        promoted || waiting::gate(&self.next, self.scene, wave).is_none()
    }

    fn open(&mut self, wave: usize) {
        let count = self.next.members(wave).count();
        if let Some(opened) = self.next.waves.get_mut(wave) {
            opened.opened_at = Some(self.scene.now);
        }
        if self.next.compare.is_some() {
            self.remember_how_it_is();
        }
        let text = format!("wave {} is open, with {}", wave + 1, waiting::nodes(count));
        self.tell("wave_opened", u32::try_from(wave).ok(), None, text);
    }

    /// How the app is on nodes that wait: what changes on them from now on has another cause than the release.
    fn remember_how_it_is(&mut self) {
        let waiting = self.next.turns.iter_mut().filter(|(_, turn)| turn.stage == Stage::Waiting);
        for (node, turn) in waiting {
            turn.before = self.scene.nodes.get(node).and_then(|facts| facts.vitals).or(turn.before);
        }
    }

    /// Tells every node of an open wave that was not told yet and can be.
    fn tell_members(&mut self, wave: usize) {
        let mut turns = std::mem::take(&mut self.next.turns);
        for (node, turn) in turns.iter_mut().filter(|(_, turn)| turn.wave as usize == wave) {
            let Some(facts) = self.scene.nodes.get(node) else { continue };
            if self.next.standing_of(turn, facts, self.scene) == Standing::Ready {
                let generation = self.told_already(facts).unwrap_or_else(|| {
                    let generation = facts.generation.max(facts.told()) + 1;
                    let release = Some(self.next.release.clone());
                    self.assign.push(Telling { node: node.clone(), generation, release });
                    generation
                });
                turn.stage = Stage::Told(self.next.telling(generation, facts.proven().cloned()));
                turn.away = None;
                if self.next.compare.is_some() {
                    turn.before = facts.vitals.or(turn.before);
                }
            }
        }
        self.next.turns = turns;
    }

    /// The generation in which a node was told this very release already, if telling it again is no news to it: it did not
    /// refuse it then, and nobody there wants something else since.
    fn told_already(&self, facts: &NodeFacts) -> Option<Generation> {
        let is_it = |id| id == self.next.release.id;
        let desired = facts.desired.as_ref()?;
        desired.release.as_ref().filter(|release| is_it(release.id))?;
        let news =
            facts.report.as_ref().filter(|report| report.generation >= desired.generation).is_some_and(|report| {
                let refused = report.refusal.as_ref().is_some_and(|refusal| is_it(refusal.release));
                refused || report.desired.as_ref().is_some_and(|there| !is_it(there.id))
            });
        (!news).then_some(desired.generation)
    }

    /// Tells every node that was told the release to run what was proven there before.
    fn go_back(&mut self) {
        let mut turns = std::mem::take(&mut self.next.turns);
        for (node, turn) in &mut turns {
            let (Stage::Told(told), Some(facts)) = (&turn.stage, self.scene.nodes.get(node)) else { continue };
            if facts.revoked || facts.held.is_some() {
                continue;
            }
            let is_same = told.earlier.as_ref().is_some_and(|earlier| earlier.id == self.next.release.id);
            let generation = if is_same { told.generation } else { facts.generation.max(facts.told()) + 1 };
            let back = Back { generation, at: self.next.watched_secs, release: told.earlier.clone() };
            if !is_same {
                self.assign.push(Telling { node: node.clone(), generation, release: back.release.clone() });
            }
            turn.stage = Stage::Back(back);
        }
        self.next.turns = turns;
    }

    fn end(&mut self) {
        let at = self.scene.now;
        let all = |ended: fn(&Standing) -> bool| {
            let has_ended = |(node, turn): (&NodeId, &Turn)| {
                self.next.standing(node, turn, self.scene).is_none_or(|standing| ended(&standing))
            };
            self.next.turns.iter().all(has_ended)
        };
        let has_left = |turn: &Turn| matches!(turn.stage, Stage::Left(_));
        match &self.next.status {
            _ if !self.next.turns.is_empty() && self.next.turns.values().all(has_left) => self.end_without_nodes(),
            Status::Running if self.next.next_wave().is_none() && all(|standing| !standing.is_open()) => {
                self.next.status = Status::Done { at };
                let text = self.summary("run it", |standing| *standing == Standing::Soaked);
                self.tell("done", None, None, text);
            }
            Status::Reverting(halt) if all(has_gone_back) => {
                self.next.status = Status::Reverted { at, halt: halt.clone() };
                let text = self.summary("went back", |standing| *standing == Standing::Back);
                self.tell("reverted", None, None, text);
            }
            _ => {}
        }
    }

    fn end_without_nodes(&mut self) {
        let taken = |turn: &Turn| match &turn.stage {
            Stage::Left(Left::Superseded { by }) => Some(*by),
            _ => None,
        };
        let by = self.next.turns.values().filter_map(taken).max();
        self.next.status = Status::Superseded { at: self.scene.now, by };
        let text = by.map_or_else(
            || "its nodes were told something else".to_owned(),
            |by| format!("rollout {by} has its nodes now"),
        );
        self.tell("superseded", None, None, text);
    }

    /// "3 of 4 nodes went back"
    fn summary(&self, what: &str, did: impl Fn(&Standing) -> bool) -> String {
        let turns = self.next.turns.iter().filter(|(_, turn)| matches!(turn.stage, Stage::Told(_) | Stage::Back(_)));
        let standings: Vec<Standing> =
            turns.filter_map(|(node, turn)| self.next.standing(node, turn, self.scene)).collect();
        let count = standings.iter().filter(|standing| did(standing)).count();
        let were = if standings.len() == 1 { "was" } else { "were" };
        format!("{count} of {} that {were} told {what}", waiting::nodes(standings.len()))
    }
}

/// Whether a rollout that goes back need not wait for the node any more. One that is held has still to be told.
fn has_gone_back(standing: &Standing) -> bool {
    use Standing::{Back, Held, Left, NotReached, Ready, Revoked, Unfit};
    matches!(standing, Back | NotReached | Left(_) | Revoked | Ready | Held(_) | Unfit(_))
}
