//! Every schedule of one setting: depth first, each state once, runs counted over all ways that lead to it.

use std::collections::{HashMap, HashSet};

use crate::laws::{self, Broken};
use crate::machine::{Ask, Input, Machine};
use crate::records::{RecordId, Records};
use crate::world::{Left, Setting, Step, World};

/// What was covered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Covered {
    /// Runs: different sequences of steps from the beginning to a rest.
    pub runs: u128,
    /// Different states of the world, each judged by the laws.
    pub states: u64,
    /// Steps from one state to another, each executed and judged.
    pub steps: u64,
    /// Different records of the machine.
    pub records: u64,
    /// Steps of the longest run.
    pub longest: u32,
}

impl Covered {
    pub fn add(&mut self, other: Self) {
        self.runs += other.runs;
        self.states += other.states;
        self.steps += other.steps;
        self.records = self.records.max(other.records);
        self.longest = self.longest.max(other.longest);
    }
}

/// A law that was broken, and how.
#[derive(Debug)]
pub struct Violation {
    pub law: Broken,
    pub story: String,
}

/// Runs that begin in a state, and the steps of the longest.
#[derive(Clone, Copy)]
struct Ahead {
    runs: u128,
    longest: u32,
}

struct Explorer<M: Machine> {
    setting: Setting,
    records: Records<M>,
    /// `None` while the state is on the way that is being followed.
    seen: HashMap<World, Option<Ahead>>,
    judged: HashSet<RecordId>,
    way: Vec<(Step, World)>,
    steps: u64,
}

/// Explores a setting with at most `left` faults and wishes.
pub fn explore<M: Machine>(setting: Setting, left: Left) -> Result<Covered, Violation> {
    let mut records = Records::<M>::new();
    let begin = setting.begin(&mut records, left);
    let mut explorer =
        Explorer { setting, records, seen: HashMap::new(), judged: HashSet::new(), way: Vec::new(), steps: 0 };
    match explorer.judge(&begin).and_then(|()| explorer.visit(begin)) {
        Ok(ahead) => Ok(Covered {
            runs: ahead.runs,
            states: explorer.seen.len() as u64,
            steps: explorer.steps,
            records: explorer.records.count() as u64,
            longest: ahead.longest,
        }),
        Err(law) => Err(Violation { law, story: explorer.story(&begin) }),
    }
}

impl<M: Machine> Explorer<M> {
    fn visit(&mut self, world: World) -> Result<Ahead, Broken> {
        match self.seen.get(&world) {
            Some(Some(ahead)) => return Ok(*ahead),
            // It came back to where it was, and nothing that is limited was used up.
            Some(None) => return Err("it_always_comes_to_rest"),
            None => drop(self.seen.insert(world, None)),
        }
        let mut ahead = Ahead { runs: u128::from(self.ends(&world)?), longest: 0 };
        for (step, next) in self.setting.steps(&world, &mut self.records) {
            self.steps += 1;
            if step == Step::Save(Input::RunFailed) && self.is_futile(&world) {
                continue;
            }
            self.way.push((step, next));
            if !self.seen.contains_key(&next) {
                self.judge(&next)?;
            }
            self.judge_change(&world, step, &next)?;
            let further = self.visit(next)?;
            self.way.pop();
            ahead = Ahead { runs: ahead.runs + further.runs, longest: ahead.longest.max(further.longest + 1) };
        }
        if ahead.runs == 0 {
            return Err("it_always_comes_to_rest");
        }
        self.seen.insert(world, Some(ahead));
        Ok(ahead)
    }

    fn judge(&mut self, world: &World) -> Result<(), Broken> {
        if self.judged.insert(world.record) {
            laws::of_record(world.record, &mut self.records)?;
        }
        laws::of_state(world, self.records.look(world.record))
    }

    fn judge_change(&self, before: &World, step: Step, after: &World) -> Result<(), Broken> {
        let (was, is) = (self.records.look(before.record), self.records.look(after.record));
        let event = match step {
            Step::Save(event) | Step::SaveThenCrash(event, _) => event,
            Step::Deliver | Step::DeliverThenCrash(_) => {
                Input::Desired { generation: before.wish.0, release: before.wish.1 }
            }
            Step::RollBack => match before.previous {
                Some(release) => Input::RolledBack { release },
                None => return Ok(()),
            },
            Step::Bring(release) => Input::Brought { release },
            Step::Effect(..) | Step::TakesNodeDown(_) | Step::Crash(_) | Step::Wish(_) => return Ok(()),
        };
        laws::of_change(was, event, is)
    }

    /// Whether a run may end here, for nothing more happens by itself.
    fn ends(&mut self, world: &World) -> Result<bool, Broken> {
        let look = self.records.look(world.record);
        if !world.is_heard(look) {
            return Ok(false);
        }
        if self.is_futile(world) {
            return laws::of_standstill(world, look).map(|()| true);
        }
        if world.pending.is_some() || look.ask != Ask::Wait {
            return Ok(false);
        }
        laws::of_rest(world, look).map(|()| true)
    }

    /// A broken release failed to start once more, and all that follows is to start it again.
    fn is_futile(&mut self, world: &World) -> bool {
        let broken = self.setting.is_broken(self.records.look(world.record).current);
        broken
            && world.pending == Some(Input::RunFailed)
            && world.ghosts.restore_failed
            && self.records.apply(world.record, Input::RunFailed) == world.record
    }

    fn story(&self, begin: &World) -> String {
        use std::fmt::Write;
        let mut story = format!("{:?}\n", self.setting);
        let line = |story: &mut String, step: &dyn std::fmt::Debug, world: &World| {
            let _ = writeln!(story, "  {step:?}\n      {:?}\n      {world:?}", self.records.look(world.record));
        };
        line(&mut story, &"begin", begin);
        for (step, world) in &self.way {
            line(&mut story, step, world);
        }
        story
    }
}
