//! Waves are written out when a rollout is made: percentages, counts and labels are only ways to say who is in which.

use std::collections::{BTreeMap, BTreeSet};

use orangery_wire::messages::ReleaseRef;
use orangery_wire::rest::{Allowance, Compare, Deadline, Deed, LeftOut, RolloutPolicy, RolloutRequest, WaveSize};
use orangery_wire::{NodeId, ReleaseId};

use super::{Rollout, RolloutId, Rule, Scene, Status, Turn, Wave};
use crate::sha256;

/// Most waves that a request may name.
const WAVES_MAX: usize = 64;
/// Longest soak and longest deadline: 30 days.
const SECS_MAX: u64 = 30 * 86_400;
/// How much of what was before a comparison may allow. Less than all of it would find every release worse.
const COMPARE_PERCENT: std::ops::RangeInclusive<u32> = 101..=10_000;

/// A node that was chosen, and its labels.
#[derive(Debug, Clone, Copy)]
pub struct Chosen<'a> {
    /// The node.
    pub node: &'a NodeId,
    /// Its labels, as far as it has reported them.
    pub labels: Option<&'a BTreeMap<String, String>>,
}

/// Waves that cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsound {
    /// No chosen node can take the release.
    #[error("none of the chosen nodes can take the release: {reason}")]
    Nobody {
        /// Why the first of them cannot.
        reason: String,
    },
    /// A canary is not among the chosen nodes.
    #[error("the canary {canary} is not among the nodes that can take the release")]
    StrangeCanary {
        /// The node.
        canary: NodeId,
    },
    /// A wave adds nobody, whatever it says.
    #[error("the wave {size} adds no node to those before it")]
    EmptyWave {
        /// The wave.
        size: String,
    },
    /// Some chosen nodes are in no wave.
    #[error("the waves leave {left} of the chosen nodes out: let the last one be 100%")]
    Unfinished {
        /// How many.
        left: usize,
    },
    /// A number is out of its bounds.
    #[error("{rule}")]
    OutOfBounds {
        /// The rule that it breaks.
        rule: &'static str,
    },
}

/// A rollout that was just begun, and the chosen nodes that it leaves out. `scene` says who is chosen; the labels are those that
/// nodes have reported.
pub fn begin(
    id: RolloutId,
    request: &RolloutRequest,
    release: ReleaseRef,
    begun: Deed,
    scene: &Scene,
    labels: &BTreeMap<NodeId, BTreeMap<String, String>>,
) -> Result<(Rollout, Vec<LeftOut>), Unsound> {
    let mut left_out = Vec::new();
    let mut chosen = Vec::new();
    for (node, facts) in scene.nodes.iter().filter(|(_, facts)| facts.chosen) {
        match &facts.unfit {
            Some(reason) => left_out.push(LeftOut { node: node.clone(), reason: reason.clone() }),
            None => chosen.push(Chosen { node, labels: labels.get(node) }),
        }
    }
    if chosen.is_empty() {
        let reason =
            left_out.first().map_or_else(|| "there are none".to_owned(), |out| format!("{}: {}", out.node, out.reason));
        return Err(Unsound::Nobody { reason });
    }
    let waves = written_out(request, &release.id, &chosen)?;
    let mut turns = BTreeMap::new();
    for (wave, (nodes, _)) in (0..).zip(&waves) {
        for node in nodes {
            let noted = scene.nodes.get(node).map_or(0, super::NodeFacts::told);
            turns.insert(node.clone(), Turn::new(wave, noted));
        }
    }
    let rollout = Rollout {
        id,
        app: request.app.clone(),
        release,
        to: request.to.clone(),
        ignores_windows: request.ignore_windows.then(|| begun.clone()),
        begun,
        compare: request.policy.compare,
        on_failure: request.policy.on_failure,
        waves: waves.into_iter().map(|(_, rule)| Wave::new(rule, false)).collect(),
        status: Status::Running,
        watched_secs: 0,
        looked_at: scene.now,
        gate: None,
        turns,
    };
    Ok((rollout, left_out))
}

/// The waves of a request: who is in each, and its rules. Within a wave and between waves the order of names means nothing: it
/// is drawn anew for each release, so that not always the same boards are the first.
pub fn written_out(
    request: &RolloutRequest,
    release: &ReleaseId,
    chosen: &[Chosen<'_>],
) -> Result<Vec<(Vec<NodeId>, Rule)>, Unsound> {
    check(request)?;
    let mut left: Vec<Chosen<'_>> = chosen.to_vec();
    left.sort_by_cached_key(|chosen| sha256::digest(format!("{release} {}", chosen.node).as_bytes()));
    let mut waves = Vec::new();
    if !request.canaries.is_empty() {
        waves.push(canaries(&request.canaries, &mut left)?);
    }
    let all = [WaveSize::Percent(100)];
    let rest_is_nobody = left.is_empty() && request.waves.is_empty();
    let sizes = if request.waves.is_empty() { &all[..] } else { &request.waves };
    for size in sizes.iter().filter(|_| !rest_is_nobody) {
        let taken = chosen.len() - left.len();
        let wave = take(size, chosen.len(), taken, &mut left);
        // A share of a small fleet may round to what is there already: that is no mistake of whoever wrote it.
        if !wave.is_empty() {
            waves.push(wave);
        } else if matches!(size, WaveSize::Label(..)) {
            return Err(Unsound::EmptyWave { size: size.to_string() });
        }
    }
    if !left.is_empty() {
        return Err(Unsound::Unfinished { left: left.len() });
    }
    Ok(waves.into_iter().enumerate().map(|(k, nodes)| (nodes, rule(&request.policy, k))).collect())
}

fn canaries(wanted: &[NodeId], left: &mut Vec<Chosen<'_>>) -> Result<Vec<NodeId>, Unsound> {
    let wanted: BTreeSet<&NodeId> = wanted.iter().collect();
    for canary in &wanted {
        if !left.iter().any(|chosen| chosen.node == *canary) {
            return Err(Unsound::StrangeCanary { canary: (*canary).clone() });
        }
    }
    left.retain(|chosen| !wanted.contains(chosen.node));
    Ok(wanted.into_iter().cloned().collect())
}

/// Takes a wave's nodes from those that are left, by name.
fn take(size: &WaveSize, all: usize, taken: usize, left: &mut Vec<Chosen<'_>>) -> Vec<NodeId> {
    let (mut wave, rest): (Vec<Chosen<'_>>, Vec<Chosen<'_>>) = match size {
        WaveSize::Label(name, value) => {
            left.drain(..).partition(|chosen| chosen.labels.is_some_and(|labels| labels.get(name) == Some(value)))
        }
        WaveSize::Percent(_) | WaveSize::Count(_) => {
            let count = up_to(size, all).saturating_sub(taken).min(left.len());
            let rest = left.split_off(count);
            (std::mem::take(left), rest)
        }
    };
    *left = rest;
    wave.sort_by_key(|chosen| chosen.node);
    wave.into_iter().map(|chosen| chosen.node.clone()).collect()
}

/// How many nodes are in the waves up to this one: a share is rounded up, so that 1% of ten nodes is one.
fn up_to(size: &WaveSize, all: usize) -> usize {
    match size {
        WaveSize::Percent(percent) => all.saturating_mul(usize::from(*percent)).div_ceil(100),
        WaveSize::Count(count) => usize::try_from(*count).unwrap_or(usize::MAX),
        WaveSize::Label(..) => 0,
    }
}

/// The rules of wave `k`.
fn rule(policy: &RolloutPolicy, k: usize) -> Rule {
    Rule {
        soak_secs: at(&policy.soak_secs, k).unwrap_or(0),
        failures: at(&policy.failures, k).unwrap_or(Allowance::Count(0)),
        approve: policy.approve_between && k > 0,
        start: policy.start,
        progress: policy.progress,
        done: policy.done,
    }
}

/// The value for wave `k`; the last one counts for all further waves.
fn at<T: Copy>(values: &[T], k: usize) -> Option<T> {
    values.get(k).or(values.last()).copied()
}

fn is_bounded(compare: &Compare) -> bool {
    let percents = [compare.memory_percent, compare.latency_percent];
    percents.iter().all(|percent| COMPARE_PERCENT.contains(percent)) && compare.patience_secs <= SECS_MAX
}

fn check(request: &RolloutRequest) -> Result<(), Unsound> {
    let policy = &request.policy;
    let bounded = |deadline: &Deadline| (1..=SECS_MAX).contains(&deadline.secs);
    let rule = if request.waves.len() > WAVES_MAX {
        "there can be at most 64 waves"
    } else if policy.soak_secs.len() > WAVES_MAX || policy.failures.len() > WAVES_MAX {
        "soak and failures can be given for at most 64 waves"
    } else if policy.soak_secs.iter().any(|secs| *secs > SECS_MAX) {
        "a soak can last at most 30 days"
    } else if ![policy.start, policy.progress, policy.done].iter().all(bounded) {
        "a deadline must be from 1 second to 30 days"
    } else if !policy.compare.as_ref().is_none_or(is_bounded) {
        "a comparison allows from 101% to 10000% of memory and latency, and waits at most 30 days"
    } else {
        return Ok(());
    };
    Err(Unsound::OutOfBounds { rule })
}
