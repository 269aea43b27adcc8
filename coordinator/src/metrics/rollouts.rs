//! Rollouts that are under way. Labels are bounded: numbers of rollouts that have not ended, apps, and stable words.

use std::collections::BTreeMap;

use super::{Page, whole};

/// One rollout that is under way.
#[derive(Debug, Default)]
pub struct Rollout {
    /// Its number.
    pub id: u64,
    /// Its app.
    pub app: String,
    /// Its status.
    pub status: &'static str,
    /// How many nodes are in each state.
    pub states: BTreeMap<&'static str, i64>,
    /// What it waits for, and for how many seconds that has been so while the coordinator listened.
    pub gate: Option<(String, u64)>,
}

/// Statuses that are always told of: a count that is not there is no zero.
const STATUSES: [&str; 3] = ["running", "paused", "reverting"];

pub(super) fn tell(page: &Page, rollouts: &[Rollout]) -> prometheus::Result<()> {
    let counts = page.whole("orangery_rollouts", "Rollouts that have not ended, by status.", &["status"])?;
    for status in STATUSES {
        let count = rollouts.iter().filter(|rollout| rollout.status == status).count();
        counts.with_label_values(&[status]).set(whole(count as u64));
    }
    let help = "Nodes of a rollout that has not ended, by where they are and why they wait.";
    let nodes = page.whole("orangery_rollout_nodes", help, &["rollout", "app", "state"])?;
    let help = "For how long a rollout has waited for the same thing, in seconds in which the coordinator listened.";
    let gate = page.whole("orangery_rollout_gate_seconds", help, &["rollout", "app", "reason"])?;
    for rollout in rollouts {
        let (id, app) = (rollout.id.to_string(), rollout.app.as_str());
        for (state, count) in &rollout.states {
            nodes.with_label_values(&[id.as_str(), app, *state]).set(*count);
        }
        if let Some((reason, secs)) = &rollout.gate {
            gate.with_label_values(&[id.as_str(), app, reason.as_str()]).set(whole(*secs));
        }
    }
    Ok(())
}
