//! Whether a release makes a node worse: docs/adr/0025 says by what rules, and what they are worth.

use orangery_wire::rest::Compare;
use serde::{Deserialize, Serialize};

use super::window::distance;
use super::{NodeFacts, Rollout, Scene, Stage, Told, Watched};
use crate::vitals::{Quartiles, Vitals};

/// Fewer samples on either side say nothing.
const SAMPLES_MIN: u32 = 5;
/// Fewer nodes without the release say nothing of what else has changed.
const CONTROLS_MIN: usize = 3;
/// Memory and times below these are as good as these: three times very little is very little.
const MEMORY_KIB_LEAST: u32 = 4 * 1_024;
const PROBE_MICROS_LEAST: u32 = 20_000;
/// Watched for less than this before, in seconds, an app has shown nothing of how often it restarts.
const WATCHED_SECS_LEAST: u64 = 300;
/// How likely so many restarts may be by chance.
const CHANCE: f64 = 0.01;

/// What a comparison has shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// Which of the three.
    pub verdict: Verdict,
    /// By what, as what follows "it".
    pub text: String,
    /// Whether somebody has let the node pass although it showed nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub accepted: bool,
}

/// The three results. The later is the graver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is not worse.
    Pass,
    /// Too little was heard, or it speaks for both.
    Inconclusive,
    /// It is worse.
    Fail,
}

type Finding = (Verdict, String);

/// What has changed meanwhile on nodes that were told nothing, and so has another cause.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Drift {
    memory: f64,
    probes: f64,
    /// So many more in each second.
    restarts: f64,
}

impl Drift {
    pub(super) const NONE: Self = Self { memory: 1.0, probes: 1.0, restarts: 0.0 };

    /// Looks at every node of the rollout that waits.
    pub(super) fn of(rollout: &Rollout, scene: &Scene) -> Self {
        let (mut memory, mut probes, mut restarts) = (Vec::new(), Vec::new(), Vec::new());
        for (node, turn) in &rollout.turns {
            let now = scene.nodes.get(node).and_then(|facts| facts.vitals);
            let (Stage::Waiting, Some(then), Some(now)) = (&turn.stage, turn.before, now) else { continue };
            if then.release != now.release {
                continue;
            }
            memory.extend(ratio(then.memory_kib, now.memory_kib, MEMORY_KIB_LEAST));
            probes.extend(ratio(then.probe_micros, now.probe_micros, PROBE_MICROS_LEAST));
            restarts.extend(more_often(then, now));
        }
        Self { memory: middle(memory, 1.0), probes: middle(probes, 1.0), restarts: middle(restarts, 0.0) }
    }
}

impl Told {
    /// Takes in what was heard of the node since it was well.
    pub(super) fn compare(
        &mut self,
        limits: &Compare,
        before: Option<&Vitals>,
        facts: &NodeFacts,
        drift: &Drift,
        rollout: &Rollout,
    ) {
        let since = facts.vitals.filter(|vitals| vitals.release == rollout.release.id);
        // Of another release than the one that it replaced, nothing was heard that would matter.
        let before = before.filter(|before| self.earlier.as_ref().is_some_and(|earlier| earlier.id == before.release));
        let is_news = self.earlier.as_ref().is_some_and(|earlier| earlier.id != rollout.release.id);
        let (verdict, text) = if is_news {
            worst(limits, before, since.as_ref(), drift)
        } else {
            (Verdict::Pass, "has nothing to be compared with".to_owned())
        };
        let is_quiet = since.is_none_or(|since| since.restarts == 0);
        let before = self.compared.take();
        self.compared = match before {
            // What it shows is said once, not with every sample; why it shows nothing is said as it is now.
            Some(before) if before.verdict == verdict && verdict != Verdict::Inconclusive => Some(before),
            // Samples that vary undo no pass; restarts do.
            Some(before) if before.verdict == Verdict::Pass && verdict == Verdict::Inconclusive && is_quiet => {
                Some(before)
            }
            before => {
                let accepted = before.is_some_and(|before| before.accepted) && verdict != Verdict::Fail;
                Some(Compared { verdict, text, accepted })
            }
        };
    }

    /// Since when somebody is to be asked, if the comparison goes on showing nothing.
    pub(super) fn asks_from(&self, limits: &Compare, soak_secs: u64) -> Option<Watched> {
        Some(self.well_since?.saturating_add(soak_secs).saturating_add(limits.patience_secs))
    }
}

/// The gravest of what was found.
fn worst(limits: &Compare, before: Option<&Vitals>, since: Option<&Vitals>, drift: &Drift) -> Finding {
    let unclear = |text: &str| (Verdict::Inconclusive, text.to_owned());
    let Some(before) = before else { return unclear("was not heard of before it was told") };
    let Some(since) = since else { return unclear("has not said yet how the release does") };
    let memory =
        Metric { name: "memory", least: MEMORY_KIB_LEAST, percent: limits.memory_percent, drift: drift.memory };
    let probes =
        Metric { name: "probes", least: PROBE_MICROS_LEAST, percent: limits.latency_percent, drift: drift.probes };
    let findings = [
        Some(restarts(before, since, drift)),
        memory.find(before.memory_kib, since.memory_kib, kib),
        probes.find(before.probe_micros, since.probe_micros, micros),
    ];
    let pass = (Verdict::Pass, "is no worse than before".to_owned());
    findings.into_iter().flatten().fold(pass, |worst, found| if found.0 > worst.0 { found } else { worst })
}

/// Something that has a size.
struct Metric {
    name: &'static str,
    least: u32,
    percent: u32,
    drift: f64,
}

impl Metric {
    /// Nothing if it was not measured before: then there is nothing to be worse than.
    fn find(&self, before: Option<Quartiles>, since: Option<Quartiles>, shown: fn(u32) -> String) -> Option<Finding> {
        let (before, name) = (before?, self.name);
        let enough = |of: &Quartiles| of.samples >= SAMPLES_MIN;
        let Some(since) = since.filter(|since| enough(since) && enough(&before)) else {
            return Some((Verdict::Inconclusive, format!("has said too little of its {name} yet")));
        };
        let least = |value: u32| f64::from(value.max(self.least));
        let times = least(since.middle) / (least(before.middle) * self.drift);
        if times * 100.0 <= f64::from(self.percent) {
            return Some((Verdict::Pass, String::new()));
        }
        // The middles differ by too much. Do the samples, or do they only spread?
        if least(since.low) <= least(before.high) * self.drift {
            let text = format!("may be worse by its {name}: its samples vary too much to tell");
            return Some((Verdict::Inconclusive, text));
        }
        let allowed = f64::from(self.percent) / 100.0;
        let elsewhere = if self.drift > 1.05 {
            format!(", more than the {:.1} times on nodes that do not run it", self.drift)
        } else {
            String::new()
        };
        let went = format!("{} to {}", shown(before.middle), shown(since.middle));
        Some((Verdict::Fail, format!("its {name} went from {went}{elsewhere}; at most {allowed} times is allowed")))
    }
}

/// Exits come by themselves and one by one: so many, in so long, at the rate of before.
fn restarts(before: &Vitals, since: &Vitals, drift: &Drift) -> Finding {
    // Half a restart more than were seen: that there were none in a minute does not say that there never are.
    let rate = (f64::from(before.restarts) + 0.5) / as_float(before.watched_secs.max(1));
    let expected = (rate + drift.restarts) * as_float(since.watched_secs);
    if since.restarts == 0 {
        return (Verdict::Pass, String::new());
    }
    if before.watched_secs < WATCHED_SECS_LEAST {
        return (Verdict::Inconclusive, "restarted, and was watched for too short a time before".to_owned());
    }
    if chance_of(since.restarts, expected) >= CHANCE {
        return (Verdict::Pass, String::new());
    }
    let times = if since.restarts == 1 { "once".to_owned() } else { format!("{} times", since.restarts) };
    let text = format!(
        "restarted {times} in {}, and {} in {} before",
        distance(since.watched_secs),
        before.restarts,
        distance(before.watched_secs)
    );
    (if since.restarts == 1 { Verdict::Inconclusive } else { Verdict::Fail }, text)
}

/// How likely it is to see at least `count` where `expected` are (Poisson).
fn chance_of(count: u32, expected: f64) -> f64 {
    let (mut term, mut fewer) = ((-expected).exp(), 0.0);
    for k in 0..count.min(1_000) {
        fewer += term;
        term *= expected / f64::from(k + 1);
    }
    1.0 - fewer
}

fn ratio(then: Option<Quartiles>, now: Option<Quartiles>, least: u32) -> Option<f64> {
    let enough = |of: &Quartiles| of.samples >= SAMPLES_MIN;
    let (then, now) = (then.filter(enough)?, now.filter(enough)?);
    Some(f64::from(now.middle.max(least)) / f64::from(then.middle.max(least)))
}

/// By how much the restarts in a second have become more; nothing if the agent was started again, which counts anew.
fn more_often(then: Vitals, now: Vitals) -> Option<f64> {
    let more = now.restarts.checked_sub(then.restarts)?;
    let longer = now.watched_secs.checked_sub(then.watched_secs).filter(|secs| *secs > 0)?;
    Some(f64::from(more) / as_float(longer) - f64::from(then.restarts) / as_float(then.watched_secs.max(1)))
}

/// The middle one. What got less elsewhere excuses nothing and accuses nobody.
fn middle(mut values: Vec<f64>, least: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let is_enough = values.len() >= CONTROLS_MIN;
    values.get(values.len() / 2).filter(|_| is_enough).map_or(least, |value| value.max(least))
}

#[expect(clippy::cast_precision_loss, reason = "a rate needs no more digits")]
fn as_float(count: u64) -> f64 {
    count as f64
}

fn kib(kib: u32) -> String {
    if kib < 10 * 1_024 { format!("{kib} KiB") } else { format!("{} MiB", kib / 1_024) }
}

fn micros(micros: u32) -> String {
    if micros < 10_000 { format!("{micros} µs") } else { format!("{} ms", micros / 1_000) }
}

#[cfg(test)]
mod tests;
