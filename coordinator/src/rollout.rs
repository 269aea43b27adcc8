//! Rollouts: a release is brought to many nodes in waves, and stops by itself when it is bad. Pure: this module names no clock,
//! file, socket or task.
//!
//! [`plan`] says what follows from a rollout, what is known of the nodes, and the time: the rollout as it is then, whom to tell
//! what, and why each node waits. The engine commits all of that together, and only then tells nodes. So a rollout that is
//! planned again, at any time, after any kill, goes on where it was.
//!
//! Five rules, and all else follows from them:
//!
//! 1. A wave opens when each node of the one ahead has proven the release for as long as its soak, by what it reports itself,
//!    or is accounted for: it failed and that many may, it was away and that is skipped, it cannot be told.
//! 2. When more nodes of a wave fail than may, nobody is told the release any more.
//! 3. If that is asked for, a node has proven the release only when it is no worse with it than before: see [`Compared`].
//! 4. A node with maintenance windows is told inside of them alone, and only while it is connected.
//! 5. Time counts only while the coordinator listens ([`Rollout::watched_secs`]): a coordinator that was away, a broker that was
//!    not reached or a clock that jumped end no soak and make no node late. docs/adr/0013 says why.

use std::collections::BTreeMap;

use orangery_wire::messages::{AppReport, DesiredApp, ReleaseRef};
use orangery_wire::rest::{Allowance, Compare, Deadline, Deed, OnFailure};
use orangery_wire::{AppName, Generation, NodeId, UnixTime};
use serde::{Deserialize, Serialize};

use crate::vitals::Vitals;

mod compare;
mod deeds;
mod fit;
mod plan;
mod standing;
mod waiting;
mod waves;
mod window;

pub use compare::{Compared, Verdict};
pub use deeds::NotNow;
pub use fit::{describe_hold, incompatible};
pub use plan::{News, Planned, Telling, plan};
pub use standing::{Missed, Standing};
pub use waiting::{Waiting, counted, halted};
pub use waves::{Chosen, Unsound, begin, written_out};
pub use window::{Away, Shut, Window, opens};

/// Counts from 1.
pub type RolloutId = u64;

/// Seconds in which the coordinator listened, since the rollout began.
pub type Watched = u64;

/// Most seconds that count as watched between two looks, whatever the clock says.
pub const LOOK_SECS_MAX: u64 = 10;

/// A rollout, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// Its number.
    pub id: RolloutId,
    /// The app.
    pub app: AppName,
    /// The release.
    pub release: ReleaseRef,
    /// By what its nodes were chosen; nodes that this chooses later come in a trailing wave.
    pub to: Vec<String>,
    /// Who began it.
    pub begun: Deed,
    /// What it does when a wave has too many failures.
    pub on_failure: OnFailure,
    /// Who lets it tell nodes outside of their maintenance windows too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignores_windows: Option<Deed>,
    /// How much worse it may make a node, if nodes are compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compare: Option<Compare>,
    /// The waves, in the order in which they open. Which node is in which is in `turns`.
    pub waves: Vec<Wave>,
    /// Where it is.
    pub status: Status,
    /// How long it was watched.
    pub watched_secs: Watched,
    /// When it was last looked at.
    pub looked_at: UnixTime,
    /// What it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
    /// Each node's part in it. Kept apart, one by one: only what changes is written.
    #[serde(skip)]
    pub turns: BTreeMap<NodeId, Turn>,
}

/// What keeps a rollout from going on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    /// A stable word: `approval`, `nobody_proved`, `paused`, or what the node that is furthest behind is at: `not_taken_in`,
    /// `in_progress`, `soaking`, `comparing`, `inconclusive`, `overdue`, `window`, `away`.
    pub cause: String,
    /// Since when it has been this.
    pub since: Watched,
}

/// One wave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wave {
    /// Its rules.
    pub rule: Rule,
    /// Whether it is for nodes that came later.
    pub trailing: bool,
    /// Who approved it.
    pub approved: Option<Deed>,
    /// Who opened it before its time.
    pub promoted: Option<Deed>,
    /// When it was opened. A wave that is open stays open.
    pub opened_at: Option<UnixTime>,
}

impl Wave {
    /// A wave that is not open yet.
    pub fn new(rule: Rule, trailing: bool) -> Self {
        Self { rule, trailing, approved: None, promoted: None, opened_at: None }
    }
}

/// The rules of one wave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// How long each node must be well before the next wave opens.
    pub soak_secs: u64,
    /// How many may fail.
    pub failures: Allowance,
    /// Whether the wave waits for an approval.
    pub approve: bool,
    /// From being told to having taken it in.
    pub start: Deadline,
    /// Without a change that the node reports, and in the soak without a sign of life.
    pub progress: Deadline,
    /// From having taken it in to the proof.
    pub done: Deadline,
}

/// Where a rollout is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Waves open one after the other.
    Running,
    /// Nobody is told anything until somebody says how it goes on.
    Paused(Halt),
    /// Nodes are told to run again what was proven there before.
    Reverting(Halt),
    /// Every wave is open and every node has proven it or is accounted for.
    Done {
        /// Since when.
        at: UnixTime,
    },
    /// Every node was told to go back, and those that were heard of since have.
    Reverted {
        /// Since when.
        at: UnixTime,
        /// Why.
        halt: Halt,
    },
    /// It has no node any more: newer rollouts have them, or they were told something else.
    Superseded {
        /// Since when.
        at: UnixTime,
        /// The newest rollout that took some.
        by: Option<RolloutId>,
    },
}

impl Status {
    /// The stable word.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused(_) => "paused",
            Self::Reverting(_) => "reverting",
            Self::Done { .. } => "done",
            Self::Reverted { .. } => "reverted",
            Self::Superseded { .. } => "superseded",
        }
    }

    /// Whether anything may still happen by itself or by a word.
    pub fn is_active(&self) -> bool {
        matches!(self, Self::Running | Self::Paused(_) | Self::Reverting(_))
    }
}

/// Why a rollout does not go on as it was meant to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halt {
    /// When.
    pub at: UnixTime,
    /// Who wanted it; `None` if the rollout did it by itself.
    pub by: Option<String>,
    /// The wave that had too many failures, counted from 0.
    pub wave: Option<u32>,
    /// The node that was one too many.
    pub node: Option<NodeId>,
    /// Why.
    pub reason: String,
}

/// One node's part in a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Its wave, counted from 0.
    pub wave: u32,
    /// The generation of the app in which the node was told last when it came in; 0 if never. If that changes before the
    /// rollout tells it anything, somebody else has a newer wish for it.
    pub noted: Generation,
    /// How far it is.
    pub stage: Stage,
    /// That it was away when it could have been told, if it has windows and was told nothing yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub away: Option<Away>,
    /// How the app was there: until the node is told when a wave was opened last, then when it was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Vitals>,
}

impl Turn {
    /// A node that was told nothing yet.
    pub fn new(wave: u32, noted: Generation) -> Self {
        Self { wave, noted, stage: Stage::Waiting, away: None, before: None }
    }
}

/// How far a node is in a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It was told nothing.
    Waiting,
    /// It was told to run the release.
    Told(Told),
    /// It was told to go back.
    Back(Back),
    /// It is no part of the rollout any more.
    Left(Left),
}

/// A node that was told to run the release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// In which generation of the app.
    pub generation: Generation,
    /// When.
    pub at: Watched,
    /// What was proven there before.
    pub earlier: Option<ReleaseRef>,
    /// When it had taken it in, or was well last: from then on it has its time for the proof.
    pub taken_at: Option<Watched>,
    /// When what it reports changed last.
    pub moved_at: Watched,
    /// What it reported then: generation and phase.
    pub mark: Option<(Generation, orangery_wire::messages::Phase)>,
    /// Since when it has been well without a break, as far as it was heard.
    pub well_since: Option<Watched>,
    /// Whether it was well for the whole soak, and still is.
    #[serde(default)]
    pub soaked: bool,
    /// In which boot: a board that was started again in the soak begins it anew.
    pub boot: Option<String>,
    /// Why it counts as failed.
    pub failed: Option<String>,
    /// Whether somebody went on in spite of that.
    pub forgiven: bool,
    /// What the comparison with before shows, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compared: Option<Compared>,
}

/// A node that was told to go back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Back {
    /// In which generation.
    pub generation: Generation,
    /// When.
    pub at: Watched,
    /// To what; `None`: to nothing.
    pub release: Option<ReleaseRef>,
}

/// Why a node is no part of a rollout any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Left {
    /// A newer rollout has it.
    Superseded {
        /// Which.
        by: RolloutId,
    },
    /// It was told something else since.
    ToldOtherwise {
        /// In which generation.
        generation: Generation,
    },
}

/// What is known of one node, as far as a rollout of one app asks.
#[derive(Debug, Clone, Default, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "they are four facts, and any of them goes with any other")]
pub struct NodeFacts {
    /// The newest generation that it was given or has named.
    pub generation: Generation,
    /// What it was told of the app.
    pub desired: Option<DesiredApp>,
    /// Its last proof of the app.
    pub report: Option<AppReport>,
    /// Whether it has ever sent a proof.
    pub has_reported: bool,
    /// The boot in which it sent that.
    pub boot: Option<String>,
    /// Seconds since it was last heard itself; `None`: not since the coordinator was started.
    pub heard_secs: Option<u64>,
    /// The boot that it named when it connected; `None`: not since the coordinator was started. Until it has sent a proof in that
    /// boot, a sign of life says nothing of what it runs.
    pub heard_boot: Option<String>,
    /// Whether it is connected.
    pub online: bool,
    /// Whether it was revoked.
    pub revoked: bool,
    /// Who holds it and why.
    pub held: Option<String>,
    /// Why it cannot run the release.
    pub unfit: Option<String>,
    /// Whether it is chosen by `to` and by no newer rollout.
    pub chosen: bool,
    /// What its maintenance windows say now; `None` if it has none.
    pub window: Option<Window>,
    /// How the app is there, as far as it was heard since the coordinator was started.
    pub vitals: Option<Vitals>,
}

impl NodeFacts {
    /// The generation in which it was told of the app; 0 if never.
    pub fn told(&self) -> Generation {
        self.desired.as_ref().map_or(0, |desired| desired.generation)
    }

    /// What is proven there, as far as is known.
    pub fn proven(&self) -> Option<&ReleaseRef> {
        match &self.report {
            Some(report) => report.current.as_ref(),
            None if self.has_reported => None,
            // A node that has never said what it runs is believed to run what it was told.
            None => self.desired.as_ref().and_then(|desired| desired.release.as_ref()),
        }
    }
}

/// What a rollout is planned by.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scene {
    /// The time by the coordinator's clock.
    pub now: UnixTime,
    /// For how many seconds nodes can be heard without a break, for the broker is reached; `None` if they cannot.
    pub listening_secs: Option<u64>,
    /// Every node of the fleet.
    pub nodes: BTreeMap<NodeId, NodeFacts>,
}

impl Rollout {
    /// The nodes of a wave.
    pub fn members(&self, wave: usize) -> impl Iterator<Item = (&NodeId, &Turn)> {
        self.turns.iter().filter(move |(_, turn)| turn.wave as usize == wave)
    }

    /// The first wave that is not open.
    pub fn next_wave(&self) -> Option<usize> {
        self.waves.iter().position(|wave| wave.opened_at.is_none())
    }

    /// The rule of a node's wave.
    fn rule(&self, turn: &Turn) -> Option<&Rule> {
        self.waves.get(turn.wave as usize).map(|wave| &wave.rule)
    }

    /// When a node was last heard, in watched time: negative if that was before the rollout.
    fn heard(&self, facts: &NodeFacts) -> Option<i64> {
        let watched = i64::try_from(self.watched_secs).unwrap_or(i64::MAX);
        facts.heard_secs.map(|ago| watched.saturating_sub_unsigned(ago))
    }
}

#[cfg(test)]
mod tests;
