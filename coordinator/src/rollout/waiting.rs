//! Why a node waits, and why a wave is not open: the one answer that is told everywhere.

use std::collections::BTreeMap;

use orangery_wire::messages::Phase;
use orangery_wire::rest::Overdue::Skip;
use orangery_wire::{NodeId, UnixTime};

use super::window::opens;
use super::{Halt, Left, Missed, Rollout, Scene, Stage, Standing, Status, Turn};

/// Where a node is in a rollout, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The stable word; see [`orangery_wire::rest::RolloutNode::state`].
    pub code: &'static str,
    /// The sentence, without the node's name and without a full stop.
    pub text: String,
}

fn says(code: &'static str, text: impl Into<String>) -> Waiting {
    Waiting { code, text: text.into() }
}

/// "1 node", "3 nodes"
pub fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

pub(super) fn nodes(count: usize) -> String {
    counted(count, "node")
}

/// Why each node waits that has something to wait for.
pub(super) fn all(rollout: &Rollout, scene: &Scene) -> BTreeMap<NodeId, Waiting> {
    let mut waiting = BTreeMap::new();
    if !rollout.status.is_active() {
        return waiting;
    }
    let gate = closed(rollout, scene);
    for (node, turn) in &rollout.turns {
        let Some(facts) = scene.nodes.get(node) else { continue };
        let standing = rollout.standing_of(turn, facts, scene);
        let has_ended = matches!(standing, Standing::Soaked | Standing::Back | Standing::Left(_));
        let goes_back = matches!((&rollout.status, &turn.stage), (Status::Reverting(_), Stage::Told(_)));
        if !has_ended || goes_back {
            let held = facts.held.as_deref();
            waiting.insert(node.clone(), of_node(rollout, turn, &standing, held, gate.as_ref(), scene.now));
        }
    }
    waiting
}

/// Where a node is, and why, for every node.
pub(super) fn of_node(
    rollout: &Rollout,
    turn: &Turn,
    standing: &Standing,
    held: Option<&str>,
    gate: Option<&(usize, Waiting)>,
    now: UnixTime,
) -> Waiting {
    match (&rollout.status, &turn.stage, held) {
        (Status::Reverting(_), Stage::Told(_), Some(held)) => {
            return says("held", format!("stays as it is, for it is {held}"));
        }
        (_, Stage::Waiting, _) if *standing == Standing::Ready => return of_unopened(rollout, turn, gate),
        _ => {}
    }
    match standing {
        Standing::Ready => of_unopened(rollout, turn, gate),
        Standing::Revoked => says("revoked", "was revoked and is told nothing"),
        Standing::Held(held) => says("held", format!("is {held}")),
        Standing::Unfit(reason) => says("unfit", format!("is left out: {reason}")),
        Standing::Shut(shut) => says("window", opens(shut, now)),
        Standing::Away => {
            says("away", "is not connected, and is told only while its window is open and it is connected")
        }
        Standing::Soaked => says("soaked", "has proven it for the whole soak"),
        Standing::Failed(reason) if is_forgiven(turn) => {
            says("failed", format!("failed ({reason}), and the rollout was resumed in spite of that"))
        }
        Standing::Failed(reason) => says("failed", format!("failed: {reason}")),
        Standing::Overdue(missed) if matches!(turn.stage, Stage::Waiting) && missed.then == Skip => says(
            "overdue",
            "was away while its window was open, and the wave goes on without it; it is told in its next window if the rollout still runs then",
        ),
        Standing::Overdue(missed) => says("overdue", overdue(missed)),
        Standing::Back => says("back", "was told to go back and has settled"),
        Standing::NotReached => {
            says("not_reached", "was told to go back and was not heard of in time; it does when it is back")
        }
        Standing::Left(Left::Superseded { by }) => says("superseded", format!("belongs to rollout {by} now")),
        Standing::Left(Left::ToldOtherwise { generation }) => {
            says("told_otherwise", format!("was told something else since (generation {generation}) and is left alone"))
        }
        doing => says(code(doing), doing_text(doing)),
    }
}

fn is_forgiven(turn: &Turn) -> bool {
    matches!(&turn.stage, Stage::Told(told) if told.forgiven)
}

fn overdue(missed: &Missed) -> String {
    use orangery_wire::rest::Overdue::{Fail, Skip, Wait};
    let counts = match missed.then {
        Fail => "which counts as a failure",
        Skip => "and the wave goes on without it; it takes the release when it is back",
        Wait => "and the wave waits for it",
    };
    format!("missed a deadline: {missed}, {counts}")
}

fn code(doing: &Standing) -> &'static str {
    match doing {
        Standing::NotTaken { .. } => "not_taken_in",
        Standing::Soaking { .. } => "soaking",
        Standing::Comparing(_) => "comparing",
        Standing::Inconclusive(_) => "inconclusive",
        Standing::GoingBack { .. } => "going_back",
        Standing::Overdue(_) => "overdue",
        Standing::Shut(_) => "window",
        Standing::Away => "away",
        _ => "in_progress",
    }
}

/// What a node is at, as what follows its name.
fn doing_text(doing: &Standing) -> String {
    match doing {
        Standing::NotTaken { online: true } => "was told and has not taken that in yet".to_owned(),
        Standing::NotTaken { online: false } => "was told and is not connected".to_owned(),
        Standing::Working(Phase::Fetching) => "downloads it".to_owned(),
        Standing::Working(Phase::Activating) => "starts it on trial".to_owned(),
        Standing::Working(Phase::Probing) => "runs it on trial".to_owned(),
        Standing::Working(_) => "makes what was proven before run again".to_owned(),
        Standing::Soaking { left_secs: 0 } => "was well for the whole soak and must be heard once more".to_owned(),
        Standing::Soaking { left_secs } => format!("runs it, and must stay well for {left_secs} s more"),
        Standing::Comparing(text) => format!("was well for the whole soak, and is compared with before: it {text}"),
        Standing::Inconclusive(text) => {
            format!("was well for the whole soak, but the comparison shows nothing: it {text}")
        }
        Standing::GoingBack { online: true } => "was told to go back and is not there yet".to_owned(),
        Standing::GoingBack { online: false } => "was told to go back and is not connected".to_owned(),
        _ => "has settled and does not run it".to_owned(),
    }
}

/// Why a node waits that was told nothing and can be told.
fn of_unopened(rollout: &Rollout, turn: &Turn, gate: Option<&(usize, Waiting)>) -> Waiting {
    let (wave, waves) = (turn.wave as usize + 1, rollout.waves.len());
    let place = format!("is in wave {wave} of {waves}");
    if !rollout.status.is_active() {
        return says("not_told", format!("{place} and was told nothing; the rollout is {}", rollout.status.as_str()));
    }
    match (&rollout.status, gate) {
        (Status::Paused(halt), _) => says("paused", format!("{place}, and the rollout is paused: {}", halted(halt))),
        (Status::Reverting(halt), _) => {
            says("reverting", format!("{place}, and the rollout goes back: {}", halted(halt)))
        }
        (_, Some((closed, why))) if *closed + 1 == wave => {
            Waiting { code: why.code, text: format!("{place}: {}", why.text) }
        }
        (_, Some((closed, why))) => {
            Waiting { code: "wave_ahead", text: format!("{place}; wave {} is not open yet: {}", closed + 1, why.text) }
        }
        (_, None) => says("wave_ahead", format!("{place} and is about to be told")),
    }
}

/// Who stopped it and why.
pub fn halted(halt: &Halt) -> String {
    match &halt.by {
        Some(by) => format!("{by}: {}", halt.reason),
        None => halt.reason.clone(),
    }
}

/// The first wave that is not open, and why.
pub(super) fn closed(rollout: &Rollout, scene: &Scene) -> Option<(usize, Waiting)> {
    let wave = rollout.next_wave()?;
    gate(rollout, scene, wave).map(|why| (wave, why))
}

/// Why a wave may not open; `None` if it may.
pub(super) fn gate(rollout: &Rollout, scene: &Scene, wave: usize) -> Option<Waiting> {
    let ahead = wave.checked_sub(1)?;
    if rollout.waves.get(ahead).is_none_or(|ahead| ahead.opened_at.is_none()) {
        return Some(says("wave_ahead", format!("wave {} is not open yet", ahead + 1)));
    }
    undecided(rollout, scene, ahead).or_else(|| unproven(rollout, scene, ahead)).or_else(|| {
        let wave = rollout.waves.get(wave).filter(|wave| wave.rule.approve && wave.approved.is_none())?;
        let what = if wave.trailing { "the wave of latecomers" } else { "the next wave" };
        Some(says("approval", format!("{what} waits for `orangery rollout approve {}`", rollout.id)))
    })
}

/// Nodes of a wave that it cannot be judged without; who is furthest behind comes first, for that says most.
fn open_of<'a>(rollout: &'a Rollout, scene: &Scene, wave: usize) -> Vec<(&'a NodeId, Standing)> {
    let standing = |(node, turn)| Some((node, rollout.standing(node, turn, scene)?));
    let mut open: Vec<(&NodeId, Standing)> =
        rollout.members(wave).filter_map(standing).filter(|(_, standing)| standing.is_open()).collect();
    open.sort_by_key(|(_, standing)| match standing {
        Standing::Inconclusive(_) => 3,
        Standing::Comparing(_) => 2,
        Standing::Soaking { .. } => 1,
        _ => 0,
    });
    open
}

/// The stable word for what a rollout waits for before its next wave opens, or before it is done.
pub(super) fn cause(rollout: &Rollout, scene: &Scene) -> Option<&'static str> {
    let Some((wave, why)) = closed(rollout, scene) else {
        let waves = (0..rollout.waves.len()).rev();
        return waves.into_iter().find_map(|wave| open_of(rollout, scene, wave).first().map(|(_, it)| code(it)));
    };
    let open = wave.checked_sub(1).map(|ahead| open_of(rollout, scene, ahead)).unwrap_or_default();
    Some(open.first().map_or(why.code, |(_, standing)| code(standing)))
}

/// What the wave ahead still waits for.
fn undecided(rollout: &Rollout, scene: &Scene, ahead: usize) -> Option<Waiting> {
    let open = open_of(rollout, scene, ahead);
    let (node, standing) = open.first()?;
    let doing = match standing {
        Standing::Overdue(missed) => overdue(missed),
        Standing::Inconclusive(_) => {
            format!("{}; `orangery rollout approve {}` goes on in spite of that", doing_text(standing), rollout.id)
        }
        Standing::Ready => "is about to be told".to_owned(),
        Standing::Shut(shut) => opens(shut, scene.now),
        Standing::Away => "is not connected while its window is open".to_owned(),
        doing => doing_text(doing),
    };
    let others = match open.len() - 1 {
        0 => String::new(),
        1 => " (and 1 node more is not through)".to_owned(),
        others => format!(" (and {others} nodes more are not through)"),
    };
    Some(says("wave_ahead", format!("wave {} has not passed: {node} {doing}{others}", ahead + 1)))
}

/// A wave is no proof if nobody in it has proven anything: all were away, or were left out.
fn unproven(rollout: &Rollout, scene: &Scene, ahead: usize) -> Option<Waiting> {
    let is_soaked = |(node, turn): (&NodeId, &Turn)| rollout.standing(node, turn, scene) == Some(Standing::Soaked);
    let was_told = rollout.members(ahead).any(|(_, turn)| matches!(turn.stage, Stage::Told(_)));
    let proven = if was_told {
        rollout.members(ahead).any(is_soaked)
    } else {
        (0..ahead).any(|wave| rollout.members(wave).any(is_soaked))
    };
    let text = || {
        format!(
            "no node of wave {} has proven it; `orangery rollout promote {}` opens the next wave all the same",
            ahead + 1,
            rollout.id
        )
    };
    (!proven).then(|| says("nobody_proved", text()))
}

impl Rollout {
    /// Where a node is in the rollout, and why.
    pub fn place(&self, scene: &Scene, node: &NodeId) -> Option<Waiting> {
        let (turn, facts) = (self.turns.get(node)?, scene.nodes.get(node)?);
        let standing = self.standing_of(turn, facts, scene);
        Some(of_node(self, turn, &standing, facts.held.as_deref(), closed(self, scene).as_ref(), scene.now))
    }

    /// Where every node is, and why.
    pub fn places(&self, scene: &Scene) -> BTreeMap<NodeId, Waiting> {
        let gate = closed(self, scene);
        let place = |(node, turn): (&NodeId, &Turn)| {
            let facts = scene.nodes.get(node)?;
            let standing = self.standing_of(turn, facts, scene);
            let held = facts.held.as_deref();
            Some((node.clone(), of_node(self, turn, &standing, held, gate.as_ref(), scene.now)))
        };
        self.turns.iter().filter_map(place).collect()
    }

    /// The first wave that is not open, counted from 0, and what it waits for.
    pub fn gate(&self, scene: &Scene) -> Option<(usize, Waiting)> {
        closed(self, scene)
    }

    /// In a sentence why the rollout is where it is, or what it waits for.
    pub fn reason(&self, scene: &Scene) -> String {
        match &self.status {
            Status::Paused(halt) | Status::Reverting(halt) | Status::Reverted { halt, .. } => halted(halt),
            Status::Done { .. } => "every node has proven it or is accounted for".to_owned(),
            Status::Superseded { by: Some(by), .. } => format!("its nodes belong to rollout {by} now"),
            Status::Superseded { by: None, .. } => "its nodes were told something else since".to_owned(),
            Status::Running => match closed(self, scene) {
                Some((wave, why)) => format!("wave {} of {} is not open yet: {}", wave + 1, self.waves.len(), why.text),
                None => (0..self.waves.len())
                    .rev()
                    .find_map(|wave| undecided(self, scene, wave))
                    .map_or_else(|| "about to go on".to_owned(), |why| why.text),
            },
        }
    }
}
