//! What people and pages ask, of the whole fleet.

use std::time::Instant;

use anyhow::Context;
use tokio::runtime::Runtime;

use super::mega;
use crate::figures::{Values, median};
use crate::place::Place;

const TIMES: usize = 5;

/// Each route, how long its answer takes and how large it is.
pub fn measure(place: &Place, runtime: &Runtime, values: &mut Values) -> anyhow::Result<()> {
    let routes = [
        ("/v1/fleet", "rest_fleet_ms", "rest_fleet_kb"),
        ("/v1/status", "rest_status_ms", "rest_status_kb"),
        ("/v1/nodes", "rest_nodes_ms", "rest_nodes_kb"),
        ("/v1/nodes/node-00001", "rest_node_ms", "rest_node_kb"),
        ("/v1/nodes/node-00001/why", "rest_why_ms", "rest_why_kb"),
        ("/v1/rollouts", "rest_rollouts_ms", "rest_rollouts_kb"),
        ("/v1/rollouts/3", "rest_rollout_ms", "rest_rollout_kb"),
        ("/v1/events?newest=100", "rest_events_ms", "rest_events_kb"),
        ("/metrics", "rest_metrics_ms", "rest_metrics_kb"),
    ];
    let client = place.fleet.client()?;
    for (path, ms, kb) in routes {
        let (mut took, mut bytes) = (Vec::new(), 0);
        for _ in 0..TIMES {
            let begun = Instant::now();
            let answer = runtime.block_on(client.file(path))?.with_context(|| format!("{path} is there"))?;
            took.push(begun.elapsed().as_secs_f64() * 1e3);
            bytes = answer.len();
        }
        values.insert(ms, median(took));
        values.insert(kb, mega(bytes as u64) * 1e3);
    }
    Ok(())
}
