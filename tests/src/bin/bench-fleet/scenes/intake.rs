//! All nodes talk as fast as the coordinator listens.

use std::time::Instant;

use anyhow::Context;

use super::{Stage, number};
use crate::node::{Heard, Order, Seen};

/// Health messages, then events.
pub fn measure(stage: &mut Stage) -> anyhow::Result<()> {
    health(stage)?;
    events(stage)
}

/// Health messages are not answered. Each node's last one is followed by an event, which goes the same way behind it: when all
/// of these are stored, what has not been heard never will be.
fn health(stage: &mut Stage) -> anyhow::Result<()> {
    let nodes = stage.swarm.len();
    let each = (stage.messages / nodes).max(1);
    let before = counted(stage, "orangery_messages_total{channel=\"health\"}")?;
    stage.swarm.forget();
    let begun = Instant::now();
    stage.swarm.order(0..nodes, Order::Health(each));
    stage.swarm.order(0..nodes, Order::Events(1));
    let last = stage.swarm.gather(nodes, "events after health messages", stored)?.into_iter().max();
    let secs = last.context("there are nodes")?.saturating_duration_since(begun).as_secs_f64();
    let heard = counted(stage, "orangery_messages_total{channel=\"health\"}")? - before;
    stage.note("health_per_s", heard / secs);
    stage.note("health_lost", number(each * nodes) - heard);
    Ok(())
}

fn events(stage: &mut Stage) -> anyhow::Result<()> {
    let nodes = stage.swarm.len();
    let each = (stage.messages / nodes).max(1);
    let name = "orangery_events_total{code=\"phase_changed\"}";
    let before = counted(stage, name)?;
    let cpu = stage.place.cpu_secs()?;
    stage.swarm.forget();
    let begun = Instant::now();
    stage.swarm.order(0..nodes, Order::Events(each as u64));
    let last = stage.swarm.gather(nodes * each, "events stored", stored)?.into_iter().max();
    let secs = last.context("there are nodes")?.saturating_duration_since(begun).as_secs_f64();
    let cpu = stage.place.cpu_secs()? - cpu;
    let kept = counted(stage, name)? - before;
    stage.note("events_per_s", kept / secs);
    stage.note("events_lost", number(each * nodes) - kept);
    stage.note("intake_cpu_each_us", cpu * 1e6 / number(each * nodes));
    Ok(())
}

fn stored(heard: &Heard) -> Option<Instant> {
    matches!(heard.seen, Seen::Stored(_)).then_some(heard.at)
}

/// What the coordinator has counted since it started.
fn counted(stage: &Stage, name: &str) -> anyhow::Result<f64> {
    let page = stage.runtime.block_on(stage.client()?.file("/metrics"))?.context("there are metrics")?;
    let page = String::from_utf8_lossy(&page).into_owned();
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    Ok(value.unwrap_or(0.0))
}
