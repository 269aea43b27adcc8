//! Maintenance windows of the simulated nodes. How windows follow from days and zones is tested where that is worked out; here
//! they come round each hour or so, by the coordinator's clock, which may be wrong.

use orangery::rollout::{Shut, Window};
use orangery_sim::Random;
use orangery_wire::UnixTime;

use crate::center::EPOCH;
use crate::world::World;

/// Open for so many seconds of each round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    pub every: u64,
    pub from: u64,
    pub secs: u64,
}

impl Round {
    pub fn is_open(self, clock: UnixTime) -> bool {
        self.passed(clock) < self.secs
    }

    /// Seconds since it opened last. A clock may have been set to before the beginning.
    fn passed(self, clock: UnixTime) -> u64 {
        (clock + self.every * 1_000_000 - EPOCH - self.from) % self.every
    }

    /// When it opens next.
    fn opens_at(self, clock: UnixTime) -> UnixTime {
        clock + self.every - self.passed(clock)
    }
}

/// Whether a node with these windows, each of another group, may be told.
pub fn is_open(rounds: &[Round], clock: UnixTime) -> bool {
    rounds.iter().all(|round| round.is_open(clock))
}

/// What the planner is told.
pub fn look(rounds: &[Round], clock: UnixTime) -> Option<Window> {
    rounds.first()?;
    if is_open(rounds, clock) {
        return Some(Window::Open);
    }
    // All are open first when the last of them opens.
    let starts = rounds.iter().flat_map(|round| (0..16).map(|k| round.opens_at(clock) + k * round.every));
    let opens_at = starts.filter(|at| is_open(rounds, *at)).min();
    Some(Window::Shut(match opens_at {
        Some(at) => {
            Shut { opens_at: Some(at), says: format!("opens at second {}", at.saturating_sub(EPOCH)), waits: true }
        }
        None => Shut { opens_at: None, says: "never opens".into(), waits: false },
    }))
}

/// In some worlds one site, or all nodes, have windows; and now and then two groups leave a node none.
pub fn prepare(world: &mut World) {
    let mut random = Random::new(world.options.seed ^ 0x0077_1d05);
    let kind = random.below(8);
    if kind > 3 {
        return;
    }
    let round = |random: &mut Random| {
        let every = random.between(900, 2_400);
        Round { every, from: random.below(every), secs: random.between(150, 500) }
    };
    let (all, ground) = (round(&mut random), round(&mut random));
    let never = [Round { every: 600, from: 0, secs: 60 }, Round { every: 600, from: 300, secs: 60 }];
    for known in world.center.known.values_mut() {
        match kind {
            0 => known.rounds = vec![all],
            1 if known.site == "ground" => known.rounds = vec![ground],
            2 if known.site == "ground" => {
                known.rounds =
                    vec![Round { every: 1_200, from: 0, secs: 300 }, Round { every: 600, from: 100, secs: 300 }];
            }
            3 if random.percent(20) => known.rounds = never.to_vec(),
            _ => {}
        }
    }
}
