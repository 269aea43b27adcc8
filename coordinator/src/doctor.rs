//! What is wrong with the coordinator and its fleet, by what the coordinator answers: `orangery doctor`. Pure.
//!
//! What it finds is what the alerts of docs/examples/monitoring would tell, for those who have no Prometheus, with what to do.

mod code;

use std::collections::BTreeMap;

use orangery_wire::UnixTime;
use orangery_wire::rest::{FleetView, NotifyTargetView, RolloutView};
use serde::Serialize;

pub use code::{CODES, Entry, Level};

use crate::output::{ago, size};

/// Clocks that are farther apart than this are not right, in seconds. It is what maintenance windows go by.
const CLOCK_SECS_MAX: u64 = 300;
/// Metadata that the owner signs ends soon, in seconds: 30 days. What the coordinator signs it signs anew each day, for 45.
const OWNERS_SECS_LEAST: u64 = 30 * 86_400;
const OWN_SECS_LEAST: u64 = 40 * 86_400;
/// Certificates of nodes renew themselves at two thirds of their life; a week before its end something is wrong.
const CERTIFICATE_SECS_LEAST: u64 = 7 * 86_400;
/// Free space of the coordinator's disk, in bytes.
const DISK_LOW: u64 = 1 << 30;
const DISK_FULL: u64 = 100 << 20;
/// Of many nodes only so many are named.
const NAMED_MAX: usize = 20;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was looked at: "coordinator", "trust", "nodes", ...
    pub look: &'static str,
    /// The stable code; `None` if all is well.
    pub code: Option<&'static str>,
    /// What was found.
    pub what: String,
    /// Why it matters.
    pub why: Option<&'static str>,
    /// What to do.
    pub fix: Option<&'static str>,
}

/// What the coordinator answered.
#[derive(Debug, Clone)]
pub struct Seen {
    /// `GET /v1/fleet`
    pub fleet: FleetView,
    /// `GET /v1/rollouts`
    pub rollouts: Vec<RolloutView>,
    /// `GET /v1/notify`
    pub notify: Vec<NotifyTargetView>,
    /// `GET /metrics`
    pub metrics: String,
    /// The time here.
    pub now: UnixTime,
}

/// The coordinator did not answer at all: nothing else can be looked at.
pub fn unanswered(error: &str) -> Vec<Finding> {
    vec![found("coordinator", "no_answer", error)]
}

/// Judges what was answered, what is about the coordinator itself first.
pub fn examine(seen: &Seen) -> Vec<Finding> {
    let numbers = Numbers::read(&seen.metrics);
    let mut all = coordinator(seen, &numbers);
    all.extend(trust(seen, &numbers));
    all.extend(nodes(seen, &numbers));
    all.extend(rollouts(seen));
    all.extend(notify(seen));
    all
}

fn found(look: &'static str, word: &str, what: impl Into<String>) -> Finding {
    let entry = CODES.iter().find(|entry| entry.word == word);
    let (level, word) = entry.map_or((Level::Warning, None), |entry| (entry.level, Some(entry.word)));
    let (why, fix) = (entry.map(|entry| entry.why), entry.map(|entry| entry.fix));
    Finding { level, look, code: word, what: crate::output::clean(&what.into()), why, fix }
}

fn well(look: &'static str, what: impl Into<String>) -> Finding {
    Finding { level: Level::Ok, look, code: None, what: what.into(), why: None, fix: None }
}

fn coordinator(seen: &Seen, numbers: &Numbers) -> Vec<Finding> {
    let fleet = &seen.fleet;
    let mut all = Vec::new();
    if fleet.broker_connected {
        all.push(well("coordinator", format!("version {} answers and reaches its broker", fleet.version)));
    } else {
        all.push(found("coordinator", "broker_away", "the coordinator does not reach its MQTT broker"));
    }
    let apart = fleet.now.abs_diff(seen.now);
    if apart > CLOCK_SECS_MAX {
        let way = if fleet.now > seen.now { "ahead of" } else { "behind" };
        all.push(found("coordinator", "clock_differs", format!("its clock is {apart} s {way} the one here")));
    }
    let free = numbers.only("orangery_disk_free_bytes");
    let says = |free: u64| format!("{} are free where its database is", size(free));
    match free {
        Some(free) if free < DISK_FULL => all.push(found("coordinator", "disk_full", says(free))),
        Some(free) if free < DISK_LOW => all.push(found("coordinator", "disk_low", says(free))),
        Some(free) => all.push(well("coordinator", says(free))),
        None => {}
    }
    all
}

fn trust(seen: &Seen, numbers: &Numbers) -> Vec<Finding> {
    let now = seen.fleet.now;
    let roles = numbers.by("orangery_metadata_expires_timestamp_seconds", "role");
    let judge = |(role, ends): (&String, &u64)| {
        let is_own = role == "timestamp";
        let least = if is_own { OWN_SECS_LEAST } else { OWNERS_SECS_LEAST };
        let left = ends.saturating_sub(now);
        let word = match (left, is_own) {
            (0, _) => "metadata_ended",
            (left, true) if left < least => "metadata_not_renewed",
            (left, false) if left < least => "metadata_ends",
            _ => return None,
        };
        let what = if left == 0 { "has ended".to_owned() } else { format!("ends in {} days", left / 86_400) };
        Some(found("trust", word, format!("{role} {what}")))
    };
    let findings: Vec<Finding> = roles.iter().filter_map(judge).collect();
    if findings.is_empty() && !roles.is_empty() {
        return vec![well("trust", "what the owner and the coordinator have signed lasts")];
    }
    findings
}

fn nodes(seen: &Seen, numbers: &Numbers) -> Vec<Finding> {
    let fleet = &seen.fleet;
    let known = || fleet.nodes.iter().filter(|node| !node.revoked);
    let mut all: Vec<Finding> = Vec::new();
    let mut asks = 0;
    for node in known() {
        let Some(attention) = &node.attention else { continue };
        asks += 1;
        if asks <= NAMED_MAX {
            let heard = node.seen_at.map(|at| format!("; last heard {}", ago(at, fleet.now))).unwrap_or_default();
            let what = format!("{}: {} [{}]{heard}", node.node, attention.text, attention.code);
            all.push(found("nodes", "node_needs_a_look", what));
        }
    }
    if asks > NAMED_MAX {
        let what = format!("... and {} nodes more; `orangery status` shows all", asks - NAMED_MAX);
        all.push(found("nodes", "node_needs_a_look", what));
    }
    for (node, ends) in numbers.by("orangery_node_certificate_expires_timestamp_seconds", "node") {
        let left = ends.saturating_sub(fleet.now);
        if left < CERTIFICATE_SECS_LEAST && known().any(|known| *known.node.as_str() == *node) {
            let what = if left == 0 { "has ended".to_owned() } else { format!("ends in {} days", left / 86_400) };
            all.push(found("nodes", "certificate_ends", format!("the certificate of {node} {what}")));
        }
    }
    if all.is_empty() {
        let (count, online) = (known().count(), known().filter(|node| node.online).count());
        all.push(well("nodes", format!("none of {count} needs a look; {online} are connected")));
    }
    all
}

fn rollouts(seen: &Seen) -> Vec<Finding> {
    let asks = |rollout: &&RolloutView| {
        let states = || rollout.waves.iter().flat_map(|wave| &wave.nodes).map(|node| node.state.as_str());
        rollout.status == "paused"
            || (rollout.status == "running"
                && states().any(|state| matches!(state, "approval" | "nobody_proved" | "inconclusive")))
    };
    let told = seen.rollouts.iter().filter(asks).map(|rollout| {
        let RolloutView { rollout, app, version, status, reason, .. } = rollout;
        found("rollouts", "rollout_asks", format!("rollout {rollout} of {app} {version} is {status}: {reason}"))
    });
    let told: Vec<Finding> = told.collect();
    if told.is_empty() { vec![well("rollouts", "none waits for a person")] } else { told }
}

fn notify(seen: &Seen) -> Vec<Finding> {
    let fails = |target: &&NotifyTargetView| target.failed_at.is_some() && target.failed_at > target.succeeded_at;
    let told = seen.notify.iter().filter(fails).map(|target| {
        let NotifyTargetView { name, waiting, failure, .. } = target;
        let failure = failure.as_deref().unwrap_or("no reason is known");
        found("notify", "notify_fails", format!("{name} was not told, {waiting} notices wait: {failure}"))
    });
    told.collect()
}

/// Numbers in Prometheus' text format, as far as they are looked at: a name, labels, and a value that is a whole number.
struct Numbers(Vec<(String, BTreeMap<String, String>, u64)>);

impl Numbers {
    fn read(page: &str) -> Self {
        let lines = page.lines().filter(|line| !line.starts_with('#'));
        Self(lines.filter_map(Self::line).collect())
    }

    /// Labels of the metrics that are asked for are names of roles and nodes: there is nothing escaped in them.
    fn line(line: &str) -> Option<(String, BTreeMap<String, String>, u64)> {
        let (head, value) = line.rsplit_once(' ')?;
        let value: f64 = value.parse().ok().filter(|value: &f64| (0.0..1e18).contains(value))?;
        let (name, labels) = head.split_once('{').unwrap_or((head, ""));
        let labels = labels.trim_end_matches('}').split(',').filter_map(|label| {
            let (name, value) = label.split_once('=')?;
            Some((name.to_owned(), value.trim_matches('"').to_owned()))
        });
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is in bounds")]
        let value = value as u64;
        Some((name.to_owned(), labels.collect(), value))
    }

    fn only(&self, name: &str) -> Option<u64> {
        self.0.iter().find(|(known, ..)| known == name).map(|(.., value)| *value)
    }

    fn by(&self, name: &str, label: &str) -> BTreeMap<String, u64> {
        let wanted = self.0.iter().filter(|(known, ..)| known == name);
        wanted.filter_map(|(_, labels, value)| Some((labels.get(label)?.clone(), *value))).collect()
    }
}

#[cfg(test)]
mod tests;
