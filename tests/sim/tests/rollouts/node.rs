//! A node: the agent's real deployment core, and a world around it that does what the core asks for.

use orangery_agent::deployment::{Effect, Event, Phase, Reason, Record};
use orangery_sim::Random;
use orangery_wire::messages::{AppReport, DesiredApp, RefusalCode, ReleaseRef};
use orangery_wire::{AppName, Digest, NodeId, ReleaseId};

/// What a release does on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is well.
    Good,
    /// Its probes fail.
    Unhealthy,
    /// It does not start.
    WontStart,
    /// It does not arrive as it was signed.
    Unverified,
    /// It takes the board down, each time.
    CrashLoop,
    /// It is well at first; its probes fail so many seconds after it was proven.
    Sours(u64),
    /// It is well at first; so many seconds after it was proven, the board is silent until somebody comes.
    Dies(u64),
    /// It never comes to an end of its download.
    Stuck,
    /// It is well, and holds three times as much memory.
    Heavy,
    /// It is well, and takes five times as long to answer.
    Slow,
    /// It is well, and exits every minute or so.
    Restless,
}

/// The release of version `1.N.0`, by its number.
pub fn release(number: u8) -> ReleaseRef {
    ReleaseRef { id: ReleaseId(Digest([number; 32])), version: format!("1.{number}.0").parse().unwrap() }
}

/// The number of a release.
pub fn number(release: &ReleaseId) -> u8 {
    release.0.0[0]
}

pub fn app() -> AppName {
    "greeter".parse().unwrap()
}

/// One node.
pub struct Node {
    pub name: NodeId,
    pub record: Record,
    pub is_on: bool,
    pub is_linked: bool,
    /// Nobody comes: it stays off until all faults stop.
    pub is_dead: bool,
    pub running: Option<ReleaseId>,
    pub healthy: Option<bool>,
    /// Reports that were made.
    pub sequence: u64,
    pub boots: u64,
    /// Counts what the core was told; an outcome of before is no outcome any more.
    pub step: u64,
    /// When it began to be well on what it runs, in true time and in this boot.
    well_since: Option<(ReleaseId, u64)>,
    /// The longest that it was well on each release, by number.
    longest_well: Vec<u64>,
    /// What each release does here, by number.
    pub fates: Vec<Fate>,
    pub refusals: u64,
    pub commits: u64,
}

/// What comes of an effect, and when.
pub enum Outcome {
    Event(Event),
    /// The board goes down.
    Down,
    Never,
}

impl Node {
    pub fn new(name: NodeId, proven: u8, fates: Vec<Fate>) -> Self {
        let mut record = Record { generation: 1, ..Record::default() };
        let id = release(proven).id;
        (record.desired, record.current) = (Some(id), Some(id));
        Self {
            name,
            record,
            is_on: true,
            is_linked: true,
            is_dead: false,
            running: Some(id),
            healthy: Some(true),
            sequence: 1,
            boots: 1,
            step: 0,
            well_since: Some((id, 0)),
            longest_well: vec![0; fates.len()],
            fates,
            refusals: 0,
            commits: 1,
        }
    }

    pub fn fate(&self, release: &ReleaseId) -> Fate {
        self.fates.get(usize::from(number(release))).copied().unwrap_or(Fate::Good)
    }

    /// Tells the core something. Returns whether anything changed that a report would show.
    pub fn tell(&mut self, event: Event, now: u64) -> bool {
        let before = self.record.clone();
        self.record = self.record.apply(event);
        self.step += 1;
        if self.record.refused.is_some() && before.refused != self.record.refused {
            self.refusals += 1;
        }
        if self.record.current != before.current {
            self.commits += 1;
        }
        assert!(self.record.generation >= before.generation, "the core's generation went back");
        self.note(now);
        before != self.record
    }

    /// What runs, or how well it is, has changed.
    pub fn set(&mut self, running: Option<ReleaseId>, healthy: Option<bool>, now: u64) {
        (self.running, self.healthy) = (running, healthy);
        self.note(now);
    }

    /// Whether it is well on what is current, in truth.
    pub fn is_well(&self) -> Option<ReleaseId> {
        let rests = matches!(self.record.phase, Phase::Settled) && self.is_on;
        self.record.current.filter(|current| rests && self.running == Some(*current) && self.healthy != Some(false))
    }

    /// Keeps count of how long it has been well.
    pub fn note(&mut self, now: u64) {
        if let Some((id, since)) = self.well_since {
            let longest = &mut self.longest_well[usize::from(number(&id))];
            *longest = (*longest).max(now - since);
        }
        let well = self.is_well();
        if self.well_since.map(|(id, _)| id) != well {
            self.well_since = well.map(|id| (id, now));
        }
    }

    /// The release that it is well on, and since when.
    pub fn well_since(&self) -> Option<(ReleaseId, u64)> {
        self.well_since.filter(|_| self.is_on)
    }

    pub fn longest_well(&mut self, release: &ReleaseId, now: u64) -> u64 {
        self.note(now);
        self.longest_well[usize::from(number(release))]
    }

    /// Power comes back, or the agent is started again.
    pub fn start(&mut self, now: u64) {
        self.is_on = true;
        self.boots += 1;
        self.set(self.record.current, None, now);
        self.tell(Event::Started, now);
    }

    pub fn cut_power(&mut self, now: u64) {
        self.note(now);
        (self.is_on, self.running, self.healthy) = (false, None, None);
        self.step += 1;
        self.note(now);
    }

    /// What the present effect will lead to, and after how many seconds.
    pub fn outcome(&self, random: &mut Random) -> (u64, Outcome) {
        match self.record.effect() {
            Effect::Wait => (0, Outcome::Never),
            Effect::Fetch { release, .. } => match self.fate(&release) {
                Fate::Stuck => (0, Outcome::Never),
                Fate::Unverified => {
                    let reason = Reason { code: RefusalCode::WrongDigest, text: "another digest".into() };
                    (random.between(1, 20), Outcome::Event(Event::FetchFailed { refusal: Some(reason) }))
                }
                _ if random.percent(10) => (20, Outcome::Event(Event::FetchFailed { refusal: None })),
                _ => (random.between(1, 40), Outcome::Event(Event::Fetched)),
            },
            Effect::Run { release: Some(release), trial: true, .. } if self.fate(&release) == Fate::WontStart => {
                (2, Outcome::Event(Event::RunFailed { reason: "exit status 1".into() }))
            }
            Effect::Run { .. } => (random.between(1, 4), Outcome::Event(Event::Ran)),
            Effect::Probe { release } => match self.fate(&release) {
                Fate::Unhealthy => (15, Outcome::Event(Event::Unhealthy { reason: "status 500".into() })),
                Fate::CrashLoop => (5, Outcome::Down),
                _ => (random.between(5, 20), Outcome::Event(Event::Healthy)),
            },
        }
    }

    /// What the core's last change means for what runs.
    pub fn after(&mut self, event: &Event, asked: &Effect, now: u64) {
        match (event, asked) {
            (Event::Ran, Effect::Run { release, .. }) => self.set(*release, None, now),
            (Event::RunFailed { .. }, _) => self.set(None, None, now),
            (Event::Healthy, Effect::Probe { .. }) => self.set(self.running, Some(true), now),
            _ => {}
        }
    }

    /// What it would report now.
    pub fn report(&self) -> AppReport {
        let named = |id: Option<ReleaseId>| id.map(|id| release(number(&id)));
        AppReport {
            app: app(),
            generation: self.record.generation,
            desired: named(self.record.desired),
            current: named(self.record.current),
            running: named(self.running),
            phase: self.record.phase_name(),
            refusal: self.record.refused.clone(),
            healthy: self.healthy,
            revoked: false,
            unwitnessed: false,
            waits: None,
        }
    }

    /// Takes in what it is told.
    pub fn desire(&mut self, desired: &DesiredApp, now: u64) -> bool {
        let release = desired.release.as_ref().map(|release| release.id);
        self.tell(Event::Desired { generation: desired.generation, release }, now)
    }
}
