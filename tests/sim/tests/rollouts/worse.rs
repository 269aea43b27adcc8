//! Releases whose probes hold and which are worse all the same, and what nodes say of themselves by which that shows.

use orangery::rollout::{Rollout, Stage, Turn, Verdict};
use orangery_sim::Random;
use orangery_wire::messages::{AppVitals, ReleaseRef};
use orangery_wire::rest::Compare;

use crate::node::{Fate, Node, app};
use crate::world::World;

const MEMORY_BYTES: u64 = 40 << 20;
const PROBE_MICROS: u32 = 100_000;

/// Whether the release is worse on this node than what ran there before, by what a comparison looks at.
pub fn is_worse(node: &Node, release: &ReleaseRef, earlier: Option<&ReleaseRef>) -> bool {
    let fate = node.fate(&release.id);
    let is_bad = matches!(fate, Fate::Heavy | Fate::Slow | Fate::Restless);
    is_bad && earlier.is_some_and(|earlier| node.fate(&earlier.id) != fate)
}

/// Whether a worse release may pass here: somebody was asked, or it was found and that many may fail.
pub fn may_pass(next: &Rollout, turn: &Turn) -> bool {
    let Stage::Told(told) = &turn.stage else { return true };
    let compared = told.compared.as_ref();
    next.compare.is_none()
        || told.forgiven
        || compared.is_some_and(|compared| compared.accepted || compared.verdict == Verdict::Fail)
}

/// What the node says of its app now; nothing while a deployment is under way.
pub fn vitals(node: &Node, now: u64) -> Vec<AppVitals> {
    let Some((release, since)) = node.well_since() else { return vec![] };
    let (fate, watched_secs) = (node.fate(&release), now - since);
    // Up to a tenth more or less, by a dice of its own: other stories stay as they were.
    let name = node.name.as_str().bytes().map(u64::from).sum::<u64>();
    let noise = Random::new(now ^ (name << 32)).between(90, 110);
    let memory = if fate == Fate::Heavy { 3 * MEMORY_BYTES } else { MEMORY_BYTES };
    let probe = if fate == Fate::Slow { 5 * PROBE_MICROS } else { PROBE_MICROS };
    vec![AppVitals {
        app: app(),
        release,
        watched_secs,
        restarts: if fate == Fate::Restless { u32::try_from(watched_secs / 50).unwrap() } else { 0 },
        memory_bytes: Some(memory * noise / 100),
        probe_micros: Some(probe * u32::try_from(noise).unwrap() / 100),
    }]
}

/// Makes a release worse on some nodes, and says whether the rollout compares. By a dice of its own, too.
pub fn prepare(world: &mut World, number: u8) -> Option<Compare> {
    if !world.options.compares {
        return None;
    }
    let mut random = Random::new(world.options.seed ^ (u64::from(number) << 40));
    let share = [0, 0, 30, 100][random.index(4)];
    for node in &mut world.nodes {
        let fate = &mut node.fates[usize::from(number)];
        if random.percent(share) && *fate == Fate::Good {
            *fate = [Fate::Heavy, Fate::Slow, Fate::Restless][random.index(3)];
        }
    }
    random.percent(40).then(|| Compare { patience_secs: random.between(60, 900), ..Compare::default() })
}
