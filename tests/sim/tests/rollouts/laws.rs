//! What must hold, each by its name, judged by what nodes really did and not by what the planner says of itself.

use std::collections::{BTreeMap, BTreeSet};

use orangery::rollout::{NodeFacts, Planned, Rollout, RolloutId, Scene, Stage, Status, Turn, Verdict, Window};
use orangery_sim::Random;
use orangery_wire::NodeId;
use orangery_wire::messages::{Phase, ReleaseRef};
use orangery_wire::rest::Overdue;

use crate::node::Node;

/// A message may be on its way so long; what it says is not known before.
const ON_ITS_WAY_SECS: u64 = 45;

/// A law.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Law {
    /// Nobody outside the opened waves is told the release, and waves open in their order.
    OnlyOpenedWaves,
    /// No wave opens before each node of the one ahead was truly well for the soak, or is accounted for, and one was.
    WaveHasSoaked,
    /// When more have failed than may, or it is paused or goes back, nobody is told the release.
    NothingAfterTheLimit,
    /// When a rollout has gone back, every node that it told runs what was proven there before.
    RevertedIsBack,
    /// Each generation that a node is given is newer than all before.
    GenerationsGrow,
    /// A node that is held is told nothing.
    HoldIsKept,
    /// A node with windows is told the release inside of them alone, and while it is connected.
    WindowIsKept,
    /// A node is told by the newest rollout that has it alone.
    OneRolloutTells,
    /// Nobody misses a deadline in less time than it was listened to.
    DeadlineIsFair,
    /// No wave opens after a node on which a comparing rollout's release is worse, unless that was found or somebody was asked; and
    /// none is found worse that is not.
    WorseIsFound,
    /// Once faults have stopped all comes to rest in a bounded time, or says which person it waits for.
    AllComesToRest,
    /// Every node that waits has a reason, and the reason is true.
    ReasonIsTrue,
}

/// What is known of a node that a rollout told, apart from what the planner keeps.
#[derive(Debug, Clone)]
pub struct Telling {
    generation: u64,
    /// Seconds listened when it was told.
    listened: u64,
    pub earlier: Option<ReleaseRef>,
}

/// The judge.
#[derive(Default)]
pub struct Laws {
    pub broken: Option<(Law, String)>,
    pub told: BTreeMap<(RolloutId, NodeId), Telling>,
    pub failing: BTreeSet<(RolloutId, NodeId)>,
    forgiven: BTreeSet<(RolloutId, NodeId)>,
    was_held: BTreeSet<NodeId>,
    generations: BTreeMap<NodeId, u64>,
    newest: BTreeMap<NodeId, RolloutId>,
    /// From when, in seconds listened, a node could have been told and was not there.
    away: BTreeMap<(RolloutId, NodeId), u64>,
    pub shut: u64,
    pub missed: u64,
    pub worse: u64,
    pub unclear: u64,
    /// How often of a thousand looks the coordinator is killed in it.
    pub kills_per_thousand: u64,
}

impl Laws {
    pub fn breaks(&mut self, law: Law, what: impl Into<String>) {
        if self.broken.is_none() {
            self.broken = Some((law, what.into()));
        }
    }

    pub fn demand(&mut self, law: Law, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.breaks(law, what());
        }
    }

    /// Whether the coordinator is killed now: before (`false`) or after (`true`) its commit.
    pub fn chance_of_kill(&self, random: &mut Random) -> Option<bool> {
        (random.below(1_000) < self.kills_per_thousand).then(|| random.percent(50))
    }

    /// Somebody went on in spite of the failures that are known.
    pub fn resumed(&mut self, id: RolloutId) {
        let known: Vec<_> = self.failing.iter().filter(|(rollout, _)| *rollout == id).cloned().collect();
        self.forgiven.extend(known);
    }

    #[allow(clippy::too_many_arguments, reason = "a judge hears everybody")]
    pub fn judge(
        &mut self,
        now: u64,
        listened: u64,
        nodes: &mut [Node],
        names: &BTreeMap<NodeId, usize>,
        scene: &Scene,
        before: &Rollout,
        planned: &Planned,
    ) {
        self.was_held
            .extend(scene.nodes.iter().filter(|(_, facts)| facts.held.is_some()).map(|(node, _)| node.clone()));
        for node in planned.next.turns.keys() {
            let newest = self.newest.entry(node.clone()).or_default();
            *newest = (*newest).max(before.id);
        }
        self.follow_windows(listened, scene, before);
        let too_many = self.count_failures(listened, scene, before);
        self.judge_comparisons(nodes, names, planned);
        self.judge_tellings(scene, before, planned, too_many.as_deref());
        for wave in 1..planned.next.waves.len() {
            let was_closed = before.waves.get(wave).is_none_or(|wave| wave.opened_at.is_none());
            let opened = &planned.next.waves[wave];
            if was_closed && opened.opened_at.is_some() && opened.promoted.is_none() {
                self.judge_opening(now, listened, nodes, names, scene, &planned.next, wave);
            }
        }
        for news in planned.news.iter().filter(|news| news.text.contains("missed a deadline")) {
            let told = news.node.clone().and_then(|node| self.told.get(&(before.id, node)));
            let shortest = |wave: &orangery::rollout::Wave| {
                wave.rule.start.secs.min(wave.rule.progress.secs).min(wave.rule.done.secs)
            };
            let shortest = before.waves.iter().map(shortest).min();
            let away = news.node.clone().and_then(|node| self.away.get(&(before.id, node)));
            let passed = told.map(|told| told.listened).or(away.copied()).map_or(0, |since| listened - since);
            let fair = shortest.is_none_or(|shortest| passed + ON_ITS_WAY_SECS > shortest);
            self.demand(Law::DeadlineIsFair, fair, || format!("{} after {passed} s of listening", news.text));
        }
        self.judge_reasons(scene, planned);
    }

    /// Who waits for a window, and who was away while one was open.
    fn follow_windows(&mut self, listened: u64, scene: &Scene, rollout: &Rollout) {
        for (node, turn) in &rollout.turns {
            let key = (rollout.id, node.clone());
            let is_open = rollout.waves[turn.wave as usize].opened_at.is_some();
            let facts = scene.nodes.get(node).filter(|_| turn.stage == Stage::Waiting && is_open);
            match facts.map(|facts| (&facts.window, facts.online)) {
                Some((Some(Window::Open), false)) => {
                    self.missed += 1;
                    self.away.entry(key).or_insert(listened);
                }
                Some((Some(Window::Shut(_)), is_online)) => {
                    self.shut += 1;
                    if is_online {
                        self.away.remove(&key);
                    }
                }
                _ => drop(self.away.remove(&key)),
            }
        }
    }

    /// Whether a node that was told nothing need not be waited for: its windows never open, or it was away too long.
    fn is_excused(&self, listened: u64, scene: &Scene, rollout: &Rollout, node: &NodeId, turn: &Turn) -> bool {
        let never = matches!(&scene.nodes[node].window, Some(Window::Shut(shut)) if shut.opens_at.is_none());
        let start = rollout.waves[turn.wave as usize].rule.start;
        let since = self.away.get(&(rollout.id, node.clone()));
        let long = since.is_some_and(|since| listened + ON_ITS_WAY_SECS > since + start.secs);
        never || (long && start.then != Overdue::Wait)
    }

    /// Who has failed, as far as the coordinator has heard; the wave in which more have than may.
    fn count_failures(&mut self, listened: u64, scene: &Scene, rollout: &Rollout) -> Option<String> {
        self.failing.retain(|(id, _)| *id != rollout.id);
        let mut failed = vec![0; rollout.waves.len()];
        for (node, turn) in &rollout.turns {
            let key = (rollout.id, node.clone());
            let (Some(told), Some(facts)) = (self.told.get(&key), scene.nodes.get(node)) else { continue };
            if facts.told() != told.generation || matches!(turn.stage, Stage::Left(_) | Stage::Back(_)) {
                continue;
            }
            if has_failed(facts, told.generation, &rollout.release) || is_overdue(rollout, turn, told, listened, facts)
            {
                if has_failed(facts, told.generation, &rollout.release) && !self.forgiven.contains(&key) {
                    failed[turn.wave as usize] += 1;
                }
                self.failing.insert(key);
            }
        }
        let too_many = |wave: usize| {
            let may = rollout.waves[wave].rule.failures.of(rollout.members(wave).count());
            (failed[wave] > may).then(|| format!("{} of wave {} have failed, {may} may", failed[wave], wave + 1))
        };
        (0..failed.len()).find_map(too_many)
    }

    fn judge_tellings(&mut self, scene: &Scene, before: &Rollout, planned: &Planned, too_many: Option<&str>) {
        let next = &planned.next;
        let mut was_open = true;
        for (k, wave) in next.waves.iter().enumerate() {
            let is_open = wave.opened_at.is_some();
            self.demand(Law::OnlyOpenedWaves, was_open || !is_open, || format!("wave {} opened before {k}", k + 1));
            was_open = is_open;
        }
        for telling in &planned.assign {
            let (node, generation) = (&telling.node, telling.generation);
            let newest = self.generations.get(node).copied().unwrap_or(1);
            self.demand(Law::GenerationsGrow, generation > newest, || {
                format!("{node} got {generation} after {newest}")
            });
            let is_held = scene.nodes[node].held.is_some();
            self.demand(Law::HoldIsKept, !is_held, || format!("{node} is held and was told"));
            let by = self.newest.get(node).copied().unwrap_or(0);
            let what = || format!("{node} was told by rollout {}, and rollout {by} has it", before.id);
            self.demand(Law::OneRolloutTells, by == before.id, what);
            if telling.release.as_ref().map(|release| release.id) != Some(next.release.id) {
                continue;
            }
            let is_open = next.turns.get(node).is_some_and(|turn| next.waves[turn.wave as usize].opened_at.is_some());
            self.demand(Law::OnlyOpenedWaves, is_open, || format!("{node} was told before its wave"));
            if let Some(too_many) = too_many {
                self.breaks(Law::NothingAfterTheLimit, format!("{node} was told, though {too_many}"));
            }
            let facts = &scene.nodes[node];
            let in_time = facts.window.is_none() || (facts.window == Some(Window::Open) && facts.online);
            let in_time = in_time || next.ignores_windows.is_some();
            let what = || format!("{node} was told, connected: {}, its window: {:?}", facts.online, facts.window);
            self.demand(Law::WindowIsKept, in_time, what);
            let runs = matches!(next.status, Status::Running | Status::Done { .. });
            self.demand(Law::NothingAfterTheLimit, runs, || format!("{node} was told by a rollout that is stopped"));
        }
    }

    #[allow(clippy::too_many_arguments, reason = "a judge hears everybody")]
    fn judge_opening(
        &mut self,
        now: u64,
        listened: u64,
        nodes: &mut [Node],
        names: &BTreeMap<NodeId, usize>,
        scene: &Scene,
        next: &Rollout,
        wave: usize,
    ) {
        let ahead = &next.waves[wave - 1];
        let (mut proven, mut told_any, mut strays, mut seen) = (0, false, Vec::new(), Vec::new());
        for (node, turn) in next.members(wave - 1) {
            let well = nodes[names[node]].longest_well(&next.release.id, now);
            let key = (next.id, node.clone());
            let told = self.told.get(&key);
            told_any |= matches!(turn.stage, Stage::Told(_));
            let left = matches!(turn.stage, Stage::Left(_));
            seen.push(format!("{node} was well for {well} s of {}", ahead.rule.soak_secs));
            let overdue = told.is_some_and(|told| is_overdue(next, turn, told, listened, &scene.nodes[node]));
            if well + ON_ITS_WAY_SECS >= ahead.rule.soak_secs && well > 0 {
                proven += 1;
            } else if !(left
                || overdue
                || self.is_excused(listened, scene, next, node, turn)
                || self.failing.contains(&key)
                || self.was_held.contains(node))
            {
                strays.push(format!("{node} was well for {well} s of {}", ahead.rule.soak_secs));
            }
        }
        self.judge_worse_ahead(nodes, names, scene, next, wave);
        let what = || format!("wave {} of rollout {} opened: {}", wave + 1, next.id, strays.join(", "));
        self.demand(Law::WaveHasSoaked, strays.is_empty(), what);
        let what = || {
            format!("wave {} of rollout {} opened, and nobody ahead proved it: {}", wave + 1, next.id, seen.join(", "))
        };
        self.demand(Law::WaveHasSoaked, proven > 0 || !told_any, what);
    }

    /// What was planned is saved: those who were told are known from now on.
    pub fn committed(&mut self, listened: u64, scene: &Scene, planned: &Planned) {
        let next = &planned.next;
        for telling in &planned.assign {
            self.generations.insert(telling.node.clone(), telling.generation);
            let key = (next.id, telling.node.clone());
            if telling.release.as_ref().map(|release| release.id) == Some(next.release.id) {
                let earlier = scene.nodes[&telling.node].proven().cloned();
                self.forgiven.remove(&key);
                self.told.insert(key, Telling { generation: telling.generation, listened, earlier });
            }
        }
    }

    fn judge_reasons(&mut self, scene: &Scene, planned: &Planned) {
        let next = &planned.next;
        if !next.status.is_active() {
            return;
        }
        for (node, turn) in &next.turns {
            let Some(facts) = scene.nodes.get(node) else { continue };
            let waits = matches!(turn.stage, Stage::Waiting)
                || matches!(&turn.stage, Stage::Told(told) if told.well_since.is_none());
            let Some(waiting) = planned.waiting.get(node) else {
                self.demand(Law::ReasonIsTrue, !waits, || {
                    format!("{node} waits in rollout {} and nobody says why", next.id)
                });
                continue;
            };
            let is_true = is_true(waiting.code, next, turn, facts);
            let what = || {
                format!("{node} in rollout {}, {}: {} [{}]", next.id, next.status.as_str(), waiting.text, waiting.code)
            };
            self.demand(Law::ReasonIsTrue, is_true, what);
        }
    }

    /// When all is at rest: those who were told to go back have.
    pub fn judge_end(
        &mut self,
        rollouts: &BTreeMap<RolloutId, Rollout>,
        nodes: &[Node],
        names: &BTreeMap<NodeId, usize>,
    ) {
        for ((id, node), told) in &self.told {
            let rollout = &rollouts[id];
            let has_left = rollout.turns.get(node).is_some_and(|turn| matches!(turn.stage, Stage::Left(_)));
            let is_last = rollouts.range(id + 1..).all(|(_, newer)| !newer.turns.contains_key(node));
            if has_left || !is_last || !matches!(rollout.status, Status::Reverted { .. }) {
                continue;
            }
            let current = nodes[names[node]].record.current;
            if current != told.earlier.as_ref().map(|earlier| earlier.id) {
                self.broken.get_or_insert_with(|| {
                    let version = told.earlier.as_ref().map(|earlier| earlier.version.to_string());
                    let what = format!("{node} of rollout {id}, which went back, has {current:?} and not {version:?}");
                    (Law::RevertedIsBack, what)
                });
            }
        }
    }
}

fn has_failed(facts: &NodeFacts, generation: u64, release: &ReleaseRef) -> bool {
    facts.report.as_ref().filter(|report| report.generation >= generation).is_some_and(|report| {
        let refused = report.refusal.as_ref().is_some_and(|refusal| refusal.release == release.id);
        let sour = report.phase == Phase::Settled && report.healthy == Some(false);
        refused || (sour && report.current.as_ref().is_some_and(|current| current.id == release.id))
    })
}

/// Whether the node had the time of some deadline after which it need not be waited for.
fn is_overdue(rollout: &Rollout, turn: &Turn, told: &Telling, listened: u64, _: &NodeFacts) -> bool {
    let rule = &rollout.waves[turn.wave as usize].rule;
    let passed = listened.saturating_sub(told.listened) + ON_ITS_WAY_SECS;
    [rule.start, rule.progress, rule.done]
        .iter()
        .any(|deadline| deadline.then != Overdue::Wait && passed > deadline.secs)
}

fn is_true(code: &str, next: &Rollout, turn: &Turn, facts: &NodeFacts) -> bool {
    let is_open = next.waves[turn.wave as usize].opened_at.is_some();
    let first_closed = next.waves.iter().find(|wave| wave.opened_at.is_none());
    let is_waiting = matches!(turn.stage, Stage::Waiting);
    let report = facts.report.as_ref();
    let taken = |generation: u64| report.is_some_and(|report| report.generation >= generation);
    let runs_it =
        report.and_then(|report| report.running.as_ref()).is_some_and(|running| running.id == next.release.id);
    let rests = report.is_some_and(|report| report.phase == Phase::Settled);
    match (code, &turn.stage) {
        ("paused", _) => is_waiting && matches!(next.status, Status::Paused(_)),
        ("reverting", _) => is_waiting && matches!(next.status, Status::Reverting(_)),
        ("held", _) => facts.held.is_some(),
        ("wave_ahead" | "nobody_proved", _) => is_waiting && !is_open,
        ("approval", _) => first_closed.is_some_and(|wave| wave.rule.approve && wave.approved.is_none()),
        ("window", Stage::Waiting) => {
            is_open && next.ignores_windows.is_none() && matches!(facts.window, Some(Window::Shut(_)))
        }
        ("away", Stage::Waiting) => is_open && !facts.online && facts.window == Some(Window::Open),
        ("overdue", Stage::Waiting) => is_open && !facts.online && facts.window.is_some(),
        ("not_taken_in", Stage::Told(told)) => !taken(told.generation),
        ("in_progress", Stage::Told(told)) => taken(told.generation) && told.well_since.is_none(),
        ("soaking", Stage::Told(_)) => runs_it,
        ("comparing" | "inconclusive", Stage::Told(told)) => runs_it && told.soaked,
        ("soaked", Stage::Told(_)) => runs_it && matches!(next.status, Status::Reverting(_)),
        ("failed", Stage::Told(told)) => {
            let is_worse = told.compared.as_ref().is_some_and(|compared| compared.verdict == Verdict::Fail);
            is_worse || has_failed(facts, told.generation, &next.release)
        }
        ("overdue", Stage::Told(told)) => told.well_since.is_some() || !(taken(told.generation) && runs_it && rests),
        ("going_back" | "not_reached", Stage::Back(back)) => {
            !taken(back.generation) || report.is_some_and(|report| report.phase != Phase::Settled)
        }
        _ => false,
    }
}
