//! The world that a machine acts on: one node with its disk, what runs there, what a reboot starts, and somebody with
//! wishes. It does what the driver and the runners do, and whatever can happen to them.

use orangery_wire::messages::Phase;

use crate::machine::{Ask, Input, Look, Machine, Release};
use crate::records::{RecordId, Records};

/// How a release behaves wherever it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Behaviour {
    /// It starts and its probes hold.
    Good,
    /// It does not start.
    WontStart,
    /// It starts and its probes fail.
    Unhealthy,
    /// Starting it takes the node down.
    CrashesAtStart,
    /// It starts, and takes the node down while it is probed.
    CrashesInProbe,
}

impl Behaviour {
    pub const ALL: [Self; 5] =
        [Self::Good, Self::WontStart, Self::Unhealthy, Self::CrashesAtStart, Self::CrashesInProbe];
}

/// What is given: the same for a whole exploration.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Whether release 0 is current at the beginning, or nothing.
    pub begins: Begins,
    /// Releases 1, 2, ...
    pub behaviours: [Behaviour; 2],
    /// Whether the current release starts at boot without the agent (systemd), or by it alone.
    pub starts_at_boot: bool,
}

/// The node at the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begins {
    /// It has never run anything.
    Empty,
    /// Release 0 is proven and runs.
    Good,
    /// As before, and release 2 was proven before it: one can go back at once.
    GoodAfterAnother,
    /// Release 0 is proven and runs, but will never start again.
    Broken,
}

/// The node and whoever wishes, at one moment. What the agent keeps in memory only is not here: a crash loses nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct World {
    /// The record as saved.
    pub record: RecordId,
    /// What has happened and is not yet taken in.
    pub pending: Option<Input>,
    /// Releases on the disk, verified and sealed: a bit for each.
    pub sealed: u8,
    /// What runs.
    pub running: Option<Release>,
    /// The `current` link: what a reboot starts.
    pub boot: Option<Release>,
    /// What was current before; what an operator can go back to.
    pub previous: Option<Release>,
    /// The newest wish, taken in or not: its generation and its release.
    pub wish: (u8, Option<Release>),
    pub ghosts: Ghosts,
    pub left: Left,
}

/// What only the laws need to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ghosts {
    /// Releases whose probes held: a bit for each.
    pub proven: u8,
    /// Releases that were refused in the record's generation.
    pub refused: u8,
    /// What was current before the record's current, and may still be what a reboot starts.
    pub before: Option<Release>,
    /// Starts of the release on trial.
    pub starts: u8,
    /// The last attempt to run the current release failed.
    pub restore_failed: bool,
}

/// How much may still go wrong or be wished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Left {
    pub faults: u8,
    pub wishes: u8,
}

/// One thing that happens. It is what a failure report lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The effect is done, and this is how it ends.
    Effect(Ask, Input),
    /// As before, but the release takes the node down.
    TakesNodeDown(Ask),
    /// The event is taken in and the record saved.
    Save(Input),
    /// The record is saved, and before the link is moved the agent or the node goes down.
    SaveThenCrash(Input, Crash),
    /// The agent or the node goes down.
    Crash(Crash),
    /// A wish is published.
    Wish(Option<Release>),
    /// The newest wish reaches the agent.
    Deliver,
    /// As before, and the agent saves it and goes down before it moves the link.
    DeliverThenCrash(Crash),
    /// The node's operator rolls the current release back.
    RollBack,
    /// The node's operator brings a release, which is on the disk then.
    Bring(Release),
}

/// What goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The agent; apps run on.
    Agent,
    /// The agent and the apps that it started.
    AgentAndApps,
    /// The node: what was on trial leaves no trace.
    Power,
}

impl Crash {
    const ALL: [Self; 3] = [Self::Agent, Self::AgentAndApps, Self::Power];
}

pub fn bit(release: Release) -> u8 {
    1 << release
}

pub fn has(set: u8, release: Release) -> bool {
    set & bit(release) != 0
}

impl Setting {
    pub fn begin<M: Machine>(self, records: &mut Records<M>, left: Left) -> World {
        let current = (self.begins != Begins::Empty).then_some(0);
        let previous = (self.begins == Begins::GoodAfterAnother).then_some(2);
        let known = current.map_or(0, bit) | previous.map_or(0, bit);
        World {
            record: records.intern(M::settled(current)),
            pending: None,
            sealed: known,
            running: current,
            boot: current,
            previous,
            wish: (0, current),
            ghosts: Ghosts { proven: known, refused: 0, before: None, starts: 0, restore_failed: false },
            left,
        }
    }

    fn behaviour(self, release: Release) -> Behaviour {
        release.checked_sub(1).map_or(Behaviour::Good, |n| self.behaviours[usize::from(n)])
    }

    /// Whether it once was good and never starts again.
    pub fn is_broken(self, release: Option<Release>) -> bool {
        release == Some(0) && self.begins == Begins::Broken
    }

    /// Everything that can happen next, with the world after it.
    pub fn steps<M: Machine>(self, world: &World, records: &mut Records<M>) -> Vec<(Step, World)> {
        let mut steps = Vec::with_capacity(16);
        let look = records.look(world.record);
        match world.pending {
            Some(event) => self.taking_in(world, event, records, &mut steps),
            None => self.effects(world, look.ask, &mut steps),
        }
        if world.pending != Some(Input::Started) {
            self.wishes(world, look, records, &mut steps);
        }
        for crash in world.faults() {
            steps.push((Step::Crash(crash), self.crash(world.with_fault(), crash)));
        }
        steps
    }

    /// An event is taken in: applied, saved, the link moved. A crash before the save is the same as one before the event.
    fn taking_in<M: Machine>(self, world: &World, event: Input, records: &mut Records<M>, to: &mut Vec<(Step, World)>) {
        let saved = save(world, event, records);
        let followed = follow(saved, records.look(world.record), records.look(saved.record));
        to.push((Step::Save(event), followed));
        for crash in world.faults().filter(|_| followed != saved) {
            to.push((Step::SaveThenCrash(event, crash), self.crash(saved.with_fault(), crash)));
        }
    }

    /// The effect that the saved record asks for is done, well or badly.
    fn effects(self, world: &World, ask: Ask, to: &mut Vec<(Step, World)>) {
        let end = |world: World, outcome| (Step::Effect(ask, outcome), World { pending: Some(outcome), ..world });
        let fault = (world.left.faults > 0).then(|| world.with_fault());
        match ask {
            Ask::Wait => {}
            Ask::Fetch(release) => {
                to.push(end(World { sealed: world.sealed | bit(release), ..*world }, Input::Fetched));
                to.extend(fault.map(|world| end(world, Input::FetchFailed)));
                to.extend(fault.map(|world| end(world, Input::FetchRefused)));
            }
            Ask::Run { release, trial } => {
                to.push(self.run(world, release, trial));
                let stopped = |world| World { running: None, ..pointed(world, release, trial) };
                to.extend(fault.map(|world| end(stopped(world), Input::RunFailed)));
            }
            Ask::Probe(release) => match self.behaviour(release) {
                Behaviour::CrashesInProbe => {
                    to.push((Step::TakesNodeDown(ask), self.crash(*world, Crash::Power)));
                }
                Behaviour::Unhealthy => to.push(end(*world, Input::Unhealthy)),
                Behaviour::Good | Behaviour::WontStart | Behaviour::CrashesAtStart => {
                    to.push(end(*world, Input::Healthy));
                    to.extend(fault.map(|world| end(world, Input::Unhealthy)));
                    to.extend(fault.map(|world| end(world, Input::Disconnected)));
                }
            },
        }
    }

    /// What runs is replaced, as the release itself allows it. Only what is not on trial may start at boot.
    fn run(self, world: &World, release: Option<Release>, trial: bool) -> (Step, World) {
        let ask = Ask::Run { release, trial };
        let mut world = pointed(*world, release, trial);
        let unchanged = world.running == release;
        let behaviour = release.map_or(Behaviour::Good, |release| self.behaviour(release));
        if !unchanged && behaviour == Behaviour::CrashesAtStart {
            return (Step::TakesNodeDown(ask), self.crash(world, Crash::Power));
        }
        let starts = behaviour != Behaviour::WontStart && !self.is_broken(release);
        let outcome = if unchanged || starts { Input::Ran } else { Input::RunFailed };
        world.running = release.filter(|_| outcome == Input::Ran);
        world.pending = Some(outcome);
        (Step::Effect(ask, outcome), world)
    }

    /// Somebody wishes, or a wish arrives.
    fn wishes<M: Machine>(self, world: &World, look: Look, records: &mut Records<M>, to: &mut Vec<(Step, World)>) {
        if world.left.wishes > 0 {
            let left = Left { wishes: world.left.wishes - 1, ..world.left };
            // A new wish is numbered above what was wished and what the node has reported.
            let generation = world.wish.0.max(look.generation) + 1;
            let first = Release::from(self.begins == Begins::Empty);
            for release in (first..=2).map(Some).chain([None]) {
                to.push((Step::Wish(release), World { wish: (generation, release), left, ..*world }));
            }
            if let Some(release) = world.previous.filter(|release| has(world.sealed, *release)) {
                let event = Input::RolledBack { release };
                let saved = save(&World { left, ..*world }, event, records);
                let after = records.look(saved.record);
                to.push((Step::RollBack, follow(saved, look, after)));
            }
            for release in first..=2 {
                let brought = World { left, sealed: world.sealed | bit(release), ..*world };
                let saved = save(&brought, Input::Brought { release }, records);
                to.push((Step::Bring(release), follow(saved, look, records.look(saved.record))));
            }
        }
        if world.wish.0 > look.generation {
            let (generation, release) = world.wish;
            let saved = save(world, Input::Desired { generation, release }, records);
            let followed = follow(saved, look, records.look(saved.record));
            to.push((Step::Deliver, followed));
            for crash in world.faults().filter(|_| followed != saved) {
                to.push((Step::DeliverThenCrash(crash), self.crash(saved.with_fault(), crash)));
            }
        }
    }

    fn crash(self, world: World, crash: Crash) -> World {
        let running = match crash {
            Crash::Agent => world.running,
            Crash::AgentAndApps => None,
            Crash::Power => world.boot.filter(|_| self.starts_at_boot && !self.is_broken(world.boot)),
        };
        World { running, pending: Some(Input::Started), ..world }
    }
}

impl World {
    fn with_fault(&self) -> Self {
        Self { left: Left { faults: self.left.faults.saturating_sub(1), ..self.left }, ..*self }
    }

    fn faults(&self) -> impl Iterator<Item = Crash> + use<> {
        Crash::ALL.into_iter().take(if self.left.faults > 0 { 3 } else { 0 })
    }

    /// The newest wish is what the record works on. A rollback is a wish as well.
    pub fn is_heard(&self, look: Look) -> bool {
        self.wish.0 <= look.generation
    }
}

/// Before anything proven is run, the link is made to name it, as the driver does.
fn pointed(world: World, release: Option<Release>, trial: bool) -> World {
    if trial { world } else { World { boot: release, ..world } }
}

/// The record after `event` is on the disk. An effect that is no longer asked for is given up and its outcome dropped; a
/// restore is begun anew.
fn save<M: Machine>(world: &World, event: Input, records: &mut Records<M>) -> World {
    let before = records.look(world.record);
    let record = records.apply(world.record, event);
    let after = records.look(record);
    let mut next = World { record, ..*world };
    let restores = matches!(after.ask, Ask::Run { trial: false, .. });
    if world.pending == Some(event) || after.ask != before.ask || restores {
        next.pending = None;
    }
    if let Input::RolledBack { .. } | Input::Brought { .. } = event
        && after != before
        && world.wish.0 <= before.generation
    {
        // The operator is at the node: what was wished before is over. What was wished since must still be heard.
        next.wish = (after.generation, after.desired);
    }
    if after.current != before.current {
        next.ghosts.before = before.current;
        if before.current.is_some() {
            next.previous = before.current.filter(|release| !after.refuses(*release));
        }
    }
    next.ghosts.note(event, before, after);
    next
}

/// After a commit the driver moves the link and removes releases that nothing needs.
fn follow(mut world: World, before: Look, after: Look) -> World {
    if after.current == before.current {
        return world;
    }
    if before.phase == Phase::Probing {
        world.boot = after.current;
    }
    let kept = [after.current, after.desired, after.subject, world.previous].into_iter().flatten();
    world.sealed &= kept.fold(0, |set, release| set | bit(release));
    world
}

impl Ghosts {
    fn note(&mut self, event: Input, before: Look, after: Look) {
        if before.generation != after.generation {
            self.refused = 0;
        }
        if let Some((release, _)) = after.refused.filter(|_| after.refused != before.refused) {
            self.refused |= bit(release);
        }
        match event {
            Input::Brought { release } => self.refused &= !bit(release),
            Input::Healthy if before.phase == Phase::Probing => {
                self.proven |= before.subject.map_or(0, bit);
                self.restore_failed = false;
            }
            Input::Ran if before.phase == Phase::Restoring => self.restore_failed = false,
            Input::RunFailed if before.phase == Phase::Restoring => self.restore_failed = true,
            _ => {}
        }
        let begins = after.phase == Phase::Activating && (before.phase != Phase::Activating || event == Input::Started);
        self.starts = match (after.trial, begins) {
            (None, _) => 0,
            (Some(trial), true) if before.trial == Some(trial) => self.starts + 1,
            (Some(_), true) => 1,
            (Some(_), false) => self.starts,
        };
    }
}
