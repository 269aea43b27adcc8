//! Kinds of worlds, the faults that are planted into them, and what was tried.

use orangery_sim::Random;

use crate::laws::Law;

/// A fault that is planted into the planner, or around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    SoakIsSkipped,
    LimitIsIgnored,
    UnopenedIsTold,
    RevertForgetsOne,
    GenerationIsReused,
    InstalledCounts,
    SilenceIsProof,
    UnwatchedTimeCounts,
    HoldIsIgnored,
    OlderGoesOn,
    DeadlinesNeverEnd,
    ReasonIsMissing,
    ReasonIsOld,
    WindowIsIgnored,
    AwayIsTold,
    ShutIsPassed,
    ComparisonIsSkipped,
    ComparedWithItself,
}

impl Mutant {
    /// Each, with the laws that are about it.
    pub const ALL: [(Self, &'static [Law]); 18] = [
        (Self::SoakIsSkipped, &[Law::WaveHasSoaked]),
        // Or nobody was left to be told, and what the rollout does is never what it should.
        (Self::LimitIsIgnored, &[Law::NothingAfterTheLimit, Law::AllComesToRest]),
        (Self::UnopenedIsTold, &[Law::OnlyOpenedWaves]),
        (Self::RevertForgetsOne, &[Law::RevertedIsBack]),
        (Self::GenerationIsReused, &[Law::GenerationsGrow]),
        // It says that a node soaks which does not run the release yet.
        (Self::InstalledCounts, &[Law::WaveHasSoaked, Law::ReasonIsTrue]),
        (Self::SilenceIsProof, &[Law::WaveHasSoaked]),
        (Self::UnwatchedTimeCounts, &[Law::DeadlineIsFair, Law::WaveHasSoaked]),
        (Self::HoldIsIgnored, &[Law::HoldIsKept]),
        (Self::OlderGoesOn, &[Law::OneRolloutTells]),
        (Self::DeadlinesNeverEnd, &[Law::AllComesToRest]),
        (Self::ReasonIsMissing, &[Law::ReasonIsTrue]),
        (Self::ReasonIsOld, &[Law::ReasonIsTrue]),
        (Self::WindowIsIgnored, &[Law::WindowIsKept]),
        (Self::AwayIsTold, &[Law::WindowIsKept]),
        (Self::ShutIsPassed, &[Law::WaveHasSoaked]),
        (Self::ComparisonIsSkipped, &[Law::WorseIsFound]),
        (Self::ComparedWithItself, &[Law::WorseIsFound]),
    ];
}

/// What kind of world it is.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub seed: u64,
    pub nodes: usize,
    /// Messages that are lost, of a hundred.
    pub loss_percent: u64,
    pub mutant: Option<Mutant>,
    /// Whether some releases are worse, and some rollouts compare.
    pub compares: bool,
}

impl Options {
    /// The usual world of a seed.
    pub fn of(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x5eed);
        let nodes = 3 + random.index(14);
        Self { seed, nodes, loss_percent: random.below(15), mutant: None, compares: true }
    }
}

/// What was tried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub cores: u64,
    pub commits: u64,
    pub refusals: u64,
    pub kills: u64,
    pub late: u64,
    pub promoted: u64,
    pub paused: u64,
    pub done: u64,
    pub reverted: u64,
    pub superseded: u64,
    /// Looks at a node that waited for its window.
    pub shut: u64,
    /// Looks at a node that was away while its window was open.
    pub missed: u64,
    /// Rollouts that look at no windows.
    pub ignored: u64,
    /// Nodes that failed because the release is worse there.
    pub worse: u64,
    /// Looks at a node whose comparison showed nothing.
    pub unclear: u64,
}

impl Counts {
    pub fn add(&mut self, other: &Self) {
        let Self { cores, commits, refusals, kills, late, promoted, paused, done, reverted, superseded, .. } = other;
        self.cores += cores;
        self.commits += commits;
        self.refusals += refusals;
        self.kills += kills;
        self.late += late;
        self.promoted += promoted;
        self.paused += paused;
        self.done += done;
        self.reverted += reverted;
        self.superseded += superseded;
        self.shut += other.shut;
        self.missed += other.missed;
        self.ignored += other.ignored;
        self.worse += other.worse;
        self.unclear += other.unclear;
    }
}
