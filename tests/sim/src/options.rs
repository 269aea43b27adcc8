//! How a world is made. Everything in it follows from this.

use crate::trace::Printing;
use crate::world::DAY;

/// At the end nothing breaks for so long, and everything must have come to rest.
const QUIET_DAYS: u64 = 2;

/// Seed and size of a world.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Where all chance comes from.
    pub seed: u64,
    /// Boards.
    pub nodes: usize,
    /// Virtual days, at least three: the last two are quiet.
    pub days: u64,
    /// How much breaks, in percent of what is usual here; 0 for nothing.
    pub faults_percent: u64,
    /// A fault that is planted, to see that it is found.
    pub mutant: Option<Mutant>,
    /// What is printed while it runs.
    pub printing: Option<Printing>,
}

impl Options {
    /// A small world: what the usual tests go through.
    pub fn small(seed: u64) -> Self {
        Self { seed, nodes: 8, days: 6, faults_percent: 100, mutant: None, printing: None }
    }

    /// When faults end.
    pub fn rough_ends_at(&self) -> u64 {
        self.days.saturating_sub(QUIET_DAYS) * DAY
    }

    /// When all ends.
    pub fn ends_at(&self) -> u64 {
        self.days * DAY
    }
}

/// Faults that can be planted in what surrounds the real code. Each must be found by a law.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// The disk says that it has synced, and has not.
    SyncsNothing,
    /// Records are saved only after what follows from them was begun.
    ActsBeforeTheSave,
    /// Events are acknowledged before they are stored.
    AcksBeforeTheCommit,
    /// The outbox forgets an event at a restart.
    OutboxForgets,
    /// An older desired state comes again as if it were new.
    OldDesiredComesAgain,
    /// The coordinator does not say everything again when it starts.
    NothingIsRestated,
    /// The broker keeps no will.
    NoWill,
    /// What is on trial starts at boot.
    TrialStartsAtBoot,
    /// Probes always hold.
    ProbesAlwaysHold,
    /// A refusal is forgotten when the agent starts.
    RefusalIsForgotten,
    /// Tries are counted anew when the agent starts.
    TriesAreNotCounted,
    /// Proofs get lost on a connection that stands.
    ReportsGetLost,
    /// What failed its trial is not stopped.
    RestoresNothing,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::SyncsNothing,
        Self::ActsBeforeTheSave,
        Self::AcksBeforeTheCommit,
        Self::OutboxForgets,
        Self::OldDesiredComesAgain,
        Self::NothingIsRestated,
        Self::NoWill,
        Self::TrialStartsAtBoot,
        Self::ProbesAlwaysHold,
        Self::RefusalIsForgotten,
        Self::TriesAreNotCounted,
        Self::ReportsGetLost,
        Self::RestoresNothing,
    ];
}
