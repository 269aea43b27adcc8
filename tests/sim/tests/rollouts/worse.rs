//! Releases whose probes hold and which are worse all the same, and what nodes say of themselves by which that shows.

use std::collections::BTreeMap;

use orangery::rollout::{Planned, Rollout, Scene, Stage, Standing, Told, Turn, Verdict};
use orangery_sim::Random;
use orangery_wire::NodeId;
use orangery_wire::messages::{AppVitals, ReleaseRef};
use orangery_wire::rest::Compare;

use crate::laws::{Law, Laws};
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

impl Laws {
    /// What was found worse is worse.
    pub fn judge_comparisons(&mut self, nodes: &[Node], names: &BTreeMap<NodeId, usize>, planned: &Planned) {
        let next = &planned.next;
        for (node, turn) in &next.turns {
            let Stage::Told(Told { earlier, compared: Some(compared), .. }) = &turn.stage else { continue };
            match compared.verdict {
                Verdict::Fail => {
                    let worse = is_worse(&nodes[names[node]], &next.release, earlier.as_ref());
                    self.demand(Law::WorseIsFound, worse, || format!("{node} is not worse, though {}", compared.text));
                    self.worse += u64::from(self.failing.insert((next.id, node.clone())));
                }
                Verdict::Inconclusive => self.unclear += 1,
                Verdict::Pass => {}
            }
        }
    }

    /// A wave opens: on nobody ahead is the release worse, unless that was found or somebody was asked.
    pub fn judge_worse_ahead(
        &mut self,
        nodes: &[Node],
        names: &BTreeMap<NodeId, usize>,
        scene: &Scene,
        next: &Rollout,
        wave: usize,
    ) {
        for (node, turn) in next.members(wave - 1) {
            let earlier = self.told.get(&(next.id, node.clone())).and_then(|told| told.earlier.as_ref());
            let worse = is_worse(&nodes[names[node]], &next.release, earlier);
            let what = || format!("wave {} of rollout {} opened, and {node} is worse", wave + 1, next.id);
            let soaked = next.standing(node, turn, scene) == Some(Standing::Soaked);
            self.demand(Law::WorseIsFound, !worse || !soaked || may_pass(next, turn), what);
        }
    }
}
