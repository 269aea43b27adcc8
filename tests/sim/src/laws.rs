//! What must hold, whatever happens. The ghosts here know what the nodes cannot: what was proven by the world's own
//! measure, what was refused, what was tried how often.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use orangery_agent::deployment::{Phase, Record, TRIES};
use orangery_agent::record;
use orangery_wire::messages::{Acked, RefusalCode};
use orangery_wire::{AppName, Generation, ReleaseId};

use crate::node::Node;
use crate::world::{DAY, HOUR, MINUTE, SECOND, World};

/// Longest time that something unproven runs while its node and its agent are up and have room.
const TRIAL_MAX: u64 = HOUR;

/// The laws.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Law {
    /// `current` names nothing whose probes did not hold on that very node.
    CurrentIsProven,
    /// What runs after a boot, before the agent is up, was proven there.
    OnlyProvenStartsAtBoot,
    /// The generation of an app never decreases, over cuts too.
    GenerationNeverGoesBack,
    /// What was refused is not started again in the same generation.
    RefusedIsNotRetried,
    /// A release is started on trial at most so many times in a generation.
    TriesAreBounded,
    /// What is unproven runs for a bounded time.
    TrialIsBounded,
    /// What was acknowledged to a node is in the coordinator's database.
    NoAcknowledgedEventIsLost,
    /// In the end every event of every node is stored, once, but those that were dropped and counted.
    EveryEventIsStored,
    /// In the end the coordinator's picture of each node is what the node is.
    ViewIsTruth,
    /// In the end every node has settled on what was wanted, or refused it.
    EverythingConverges,
    /// In the end what runs is what is current, and nothing else.
    OneReleaseRuns,
    /// Whoever asks why is told the true cause.
    WhyIsTrue,
    /// The database does what it is asked to.
    DatabaseWorks,
}

/// A law that was broken.
#[derive(Debug, Clone)]
pub struct Violation {
    /// The law.
    pub law: Law,
    /// The node.
    pub node: Option<usize>,
    /// When; virtual milliseconds.
    pub at: u64,
    /// How.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (day, hour, minute) = (self.at / DAY, self.at / HOUR % 24, self.at / MINUTE % 60);
        write!(f, "{:?} on day {day} at {hour:02}:{minute:02}:{:02}", self.law, self.at / SECOND % 60)?;
        if let Some(node) = self.node {
            write!(f, " on n{node}")?;
        }
        write!(f, ": {}", self.text)
    }
}

/// What the laws remember of one node.
#[derive(Debug, Default)]
pub struct Ghosts {
    apps: BTreeMap<AppName, Ghost>,
    acked: u64,
    /// The changing calls of the disk when its records were judged last.
    judged_at: u64,
}

#[derive(Debug, Default)]
struct Ghost {
    generation: Generation,
    proven: BTreeSet<ReleaseId>,
    refused: BTreeSet<(Generation, ReleaseId)>,
    tries: BTreeMap<(Generation, ReleaseId), u8>,
    downs: BTreeMap<(Generation, ReleaseId), u8>,
    causes: BTreeSet<(ReleaseId, &'static str)>,
    file: Option<u64>,
    unproven_since: Option<u64>,
    at_gate: Option<u64>,
}

impl Ghosts {
    fn of(&mut self, app: &AppName) -> &mut Ghost {
        self.apps.entry(app.clone()).or_default()
    }

    /// The probes of a release held.
    pub fn prove(&mut self, app: &AppName, release: ReleaseId) {
        self.of(app).proven.insert(release);
    }

    /// Whether they ever did.
    pub fn is_proven(&self, app: &AppName, release: ReleaseId) -> bool {
        self.apps.get(app).is_some_and(|ghost| ghost.proven.contains(&release))
    }

    /// There is a true cause to refuse a release with this code.
    pub fn may_be_refused(&mut self, app: &AppName, release: ReleaseId, code: RefusalCode) {
        self.of(app).causes.insert((release, code.as_str()));
    }

    /// Whether there ever was.
    pub fn has_cause(&self, app: &AppName, release: ReleaseId, code: RefusalCode) -> bool {
        self.apps.get(app).is_some_and(|ghost| ghost.causes.contains(&(release, code.as_str())))
    }

    /// Whether this effect waits for the coordinator already; the first question makes it wait.
    pub fn waits_at_gate(&mut self, app: &AppName, serial: u64) -> bool {
        self.of(app).at_gate.replace(serial) == Some(serial)
    }

    /// The node or its agent went down while a record said this.
    pub fn went_down(&mut self, app: &AppName, record: &Record) {
        let (Phase::Activating(trial) | Phase::Probing(trial)) = &record.phase else { return };
        let ghost = self.of(app);
        let downs = ghost.downs.entry((trial.generation, trial.release)).or_default();
        *downs += 1;
        if *downs >= TRIES {
            ghost.causes.insert((trial.release, RefusalCode::CrashLoop.as_str()));
        }
    }
}

impl World {
    /// After each step: what is on the disk must be right, should the next thing be a cut.
    pub(crate) fn judge_disk(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        let calls = node.disk.calls();
        if std::mem::replace(&mut node.ghosts.judged_at, calls) != calls {
            self.judge_records(n);
        }
        self.judge_running(n);
    }

    fn judge_records(&mut self, n: usize) {
        let node = &self.nodes[n];
        let mut changed = Vec::new();
        for app in record::apps(&*node.disk, &node.layout) {
            let file = node.disk.file_number(&node.layout.record(&app));
            if file.is_some() && node.ghosts.apps.get(&app).is_none_or(|ghost| ghost.file != file) {
                changed.push((app, file));
            }
        }
        for (app, file) in changed {
            self.counts.states += 1;
            self.judge_record(n, &app);
            self.nodes[n].ghosts.of(&app).file = file;
        }
    }

    fn judge_record(&mut self, n: usize, app: &AppName) {
        let record = self.record_of(n, app);
        let node = &self.nodes[n];
        let linked = record::current_link(&*node.disk, &node.layout, app);
        let ghost = self.nodes[n].ghosts.of(app);
        let known = ghost.generation;
        ghost.generation = known.max(record.generation);
        let unproven = [record.current, linked].into_iter().flatten().find(|release| !ghost.proven.contains(release));
        let news = record.refused.as_ref().map(|refusal| (record.generation, refusal.release));
        let refused = news.is_some_and(|news| ghost.refused.insert(news));
        self.counts.refusals += u64::from(refused);
        if record.generation < known {
            let text = format!("{app} is in generation {}, and was in {known}", record.generation);
            self.break_law(Law::GenerationNeverGoesBack, Some(n), text);
        }
        if let Some(release) = unproven {
            let text = format!("{app} has {} as current, whose probes never held", release.short());
            self.break_law(Law::CurrentIsProven, Some(n), text);
        }
    }

    /// What is unproven may run for a while, and no longer.
    fn judge_running(&mut self, n: usize) {
        let now = self.now;
        let Node { shared, ghosts, taken_bytes, .. } = &mut self.nodes[n];
        let shared = crate::outside::look(shared);
        let mut late = None;
        for (app, ghost) in &mut ghosts.apps {
            let unproven = shared.running.get(app).is_some_and(|release| !ghost.proven.contains(release));
            if !unproven || *taken_bytes > 0 {
                ghost.unproven_since = None;
            } else if now.saturating_sub(*ghost.unproven_since.get_or_insert(now)) > TRIAL_MAX {
                late = Some(app.clone());
            }
        }
        drop(shared);
        if let Some(app) = late {
            let text = format!("{app} runs unproven for more than an hour");
            self.break_law(Law::TrialIsBounded, Some(n), text);
        }
    }

    pub(crate) fn judge_boot(&mut self, n: usize) {
        let running = crate::outside::look(&self.nodes[n].shared).running.clone();
        let stray = running.iter().find(|(app, release)| !self.nodes[n].ghosts.is_proven(app, **release));
        if let Some((app, release)) = stray {
            let text = format!("{app} {} was started by the boot, and its probes never held", release.short());
            self.break_law(Law::OnlyProvenStartsAtBoot, Some(n), text);
        }
    }

    /// A try is about to be made.
    pub(crate) fn judge_try(&mut self, n: usize, app: &AppName, release: ReleaseId, generation: Generation) {
        self.counts.tries += 1;
        let ghost = self.nodes[n].ghosts.of(app);
        let tries = ghost.tries.entry((generation, release)).or_default();
        *tries += 1;
        let (tries, refused) = (*tries, ghost.refused.contains(&(generation, release)));
        if refused {
            let text = format!("{app} {} was refused in generation {generation} and is tried again", release.short());
            self.break_law(Law::RefusedIsNotRetried, Some(n), text);
        }
        if tries > TRIES {
            let text = format!("{app} {} is started the {tries}th time in generation {generation}", release.short());
            self.break_law(Law::TriesAreBounded, Some(n), text);
        }
    }

    /// An acknowledgement reaches a node: what it names must be stored.
    pub(crate) fn judge_acked(&mut self, n: usize, payload: &[u8]) {
        let Ok(acked) = serde_json::from_slice::<Acked>(payload) else { return };
        let node = &mut self.nodes[n];
        if acked.epoch != node.shelf.epoch() || acked.sequence <= node.ghosts.acked {
            return;
        }
        let promised = node.shelf.promised(node.ghosts.acked, acked.sequence);
        node.ghosts.acked = acked.sequence;
        let stored = &self.coordinator.stored[n];
        if let Some(lost) = promised.iter().find(|sequence| !stored.contains(sequence)) {
            let text = format!("{} was acknowledged, and event {lost} is not stored", acked.sequence);
            self.break_law(Law::NoAcknowledgedEventIsLost, Some(n), text);
        }
    }

    /// Before a node or its agent goes down: which trials that interrupts.
    pub(crate) fn note_interrupted_trials(&mut self, n: usize) {
        let node = &self.nodes[n];
        let records: Vec<(AppName, Record)> = record::apps(&*node.disk, &node.layout)
            .into_iter()
            .map(|app| (app.clone(), self.record_of(n, &app)))
            .collect();
        for (app, record) in records {
            self.nodes[n].ghosts.went_down(&app, &record);
        }
    }
}
