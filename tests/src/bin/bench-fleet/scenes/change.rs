//! A release reaches every node: a rollout in one wave of all.

use std::time::{Duration, Instant};

use anyhow::Context;
use orangery_tests::process::eventually;
use orangery_wire::rest::{DeedRequest, RolloutPolicy, RolloutRequest, RolloutView};

use super::{Stage, number};
use crate::figures::{median, percentile};
use crate::node::{Order, Seen};

/// One rollout of each.
pub const VERSIONS: [&str; 3] = ["1.0.0", "1.1.0", "1.2.0"];

/// The times of one rollout, in milliseconds since it was asked for.
struct Times {
    answered: f64,
    first: f64,
    heard: Vec<f64>,
    proven: f64,
}

/// Three rollouts, one after the other; the medians.
pub fn measure(stage: &mut Stage) -> anyhow::Result<()> {
    let mut times = Vec::new();
    for version in VERSIONS {
        times.push(roll_out(stage, version)?);
    }
    let mut note = |name, pick: &mut dyn FnMut(&mut Times) -> f64| {
        stage.values.insert(name, median(times.iter_mut().map(pick).collect()));
    };
    note("change_planned_ms", &mut |times| times.first);
    note("change_fan_out_ms", &mut |times| percentile(&mut times.heard, 1.0) - times.first);
    note("change_p50_ms", &mut |times| percentile(&mut times.heard, 0.5));
    note("change_p99_ms", &mut |times| percentile(&mut times.heard, 0.99));
    note("change_last_ms", &mut |times| percentile(&mut times.heard, 1.0));
    note("change_answered_ms", &mut |times| times.answered);
    note("change_proven_ms", &mut |times| times.proven);
    Ok(())
}

fn roll_out(stage: &mut Stage, version: &str) -> anyhow::Result<Times> {
    let client = stage.client()?;
    let request = RolloutRequest {
        app: "greeter".parse()?,
        version: version.parse()?,
        to: vec!["all".to_owned()],
        canaries: Vec::new(),
        waves: Vec::new(),
        policy: RolloutPolicy { soak_secs: vec![0], ..RolloutPolicy::default() },
        deed: DeedRequest::default(),
        plan: None,
        ignore_windows: false,
    };
    // The connection for the request is there: it is not what is measured.
    stage.runtime.block_on(client.get::<serde_json::Value>("/v1/session"))?;
    stage.swarm.forget();
    let begun = Instant::now();
    let since = |at: Instant| (at.saturating_duration_since(begun)).as_secs_f64() * 1e3;
    let rollout =
        stage.runtime.block_on(client.post::<RolloutView>("/v1/rollouts", &request)).context("begin the rollout")?;
    let answered = since(Instant::now());
    let count = stage.swarm.len();
    let told = |heard: &crate::node::Heard| matches!(heard.seen, Seen::Desired).then(|| since(heard.at));
    let mut heard = stage.swarm.gather(count, "nodes told of the change", told)?;
    let first = percentile(&mut heard, 1.0 / number(count));
    let begun = Instant::now();
    stage.swarm.order(0..count, Order::Prove);
    eventually("the rollout is done", || {
        let view: RolloutView =
            stage.runtime.block_on(client.get(&format!("/v1/rollouts/{}", rollout.rollout))).ok()?;
        // To ask costs the coordinator something in a large fleet.
        std::thread::sleep(Duration::from_millis(80));
        (view.status == "done").then_some(())
    });
    Ok(Times { answered, first, heard, proven: begun.elapsed().as_secs_f64() * 1e3 })
}
