//! What is measured, under which names, and how it is shown.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::json;

use crate::arguments::Broker;

/// Values by name; every name is in [`FIGURES`].
pub type Values = BTreeMap<&'static str, f64>;

/// One figure.
pub struct Figure {
    /// Its name in JSON. It ends with the unit.
    pub name: &'static str,
    /// What it is.
    pub what: &'static str,
    /// The goal, in words.
    pub goal: &'static str,
}

const fn figure(name: &'static str, what: &'static str, goal: &'static str) -> Figure {
    Figure { name, what, goal }
}

/// All of them, in the order of the table.
pub const FIGURES: [Figure; 47] = [
    figure("enrol_each_ms", "one node joins, of 32 at a time", ""),
    figure("empty_mb", "memory without a node", ""),
    figure("memory_mb", "memory, all connected and told", "at most 64 for 1000"),
    figure("memory_each_kb", "for each node", "at most 48"),
    figure("memory_later_mb", "memory at the end of everything", ""),
    figure("connect_s", "all connect at the same moment", ""),
    figure("connect_cpu_each_ms", "CPU for each", ""),
    figure("change_planned_ms", "change: until the first node hears (planned and stored)", ""),
    figure("change_fan_out_ms", "change: from the first to the last node", ""),
    figure("change_p50_ms", "change: until half have heard", ""),
    figure("change_p99_ms", "change: until 99 % have heard", ""),
    figure("change_last_ms", "change: until the last has heard", "at most 350 for 5000"),
    figure("change_answered_ms", "change: until the request is answered", ""),
    figure("change_proven_ms", "change: from all proofs sent to the rollout done", ""),
    figure("health_per_s", "health messages heard", "at least 20000"),
    figure("health_lost", "of these not heard (QoS 0)", "0"),
    figure("events_per_s", "events stored, QoS 1 and acknowledged", ""),
    figure("events_lost", "of these not stored", "0"),
    figure("intake_cpu_each_us", "CPU for each event", ""),
    figure("calm_p50_ms", "event until stored, nothing else going on: half", ""),
    figure("calm_p99_ms", "the same, 99 %", ""),
    figure("cut_s", "all but 1 % are cut off: until all are back", "at most 60"),
    figure("cut_cpu_each_ms", "CPU for each", ""),
    figure("cut_p99_ms", "event of the others until stored meanwhile, 99 %", "as when calm"),
    figure("alike_s", "the same without the agents' random pauses", ""),
    figure("alike_cpu_each_ms", "CPU for each", ""),
    figure("alike_p99_ms", "event of the others until stored meanwhile, 99 %", ""),
    figure("restart_s", "broker killed and started: until all are back", "at most 60"),
    figure("restart_stored_s", "until an event of each is stored", ""),
    figure("rest_fleet_ms", "GET /v1/fleet", ""),
    figure("rest_fleet_kb", "its size", ""),
    figure("rest_status_ms", "GET /v1/status", ""),
    figure("rest_status_kb", "its size", ""),
    figure("rest_nodes_ms", "GET /v1/nodes", ""),
    figure("rest_nodes_kb", "its size", ""),
    figure("rest_node_ms", "GET /v1/nodes/NODE", ""),
    figure("rest_node_kb", "its size", ""),
    figure("rest_why_ms", "GET /v1/nodes/NODE/why", ""),
    figure("rest_why_kb", "its size", ""),
    figure("rest_rollouts_ms", "GET /v1/rollouts", ""),
    figure("rest_rollouts_kb", "its size", ""),
    figure("rest_rollout_ms", "GET /v1/rollouts/3", ""),
    figure("rest_rollout_kb", "its size", ""),
    figure("rest_events_ms", "GET /v1/events?newest=100", ""),
    figure("rest_events_kb", "its size", ""),
    figure("rest_metrics_ms", "GET /metrics", ""),
    figure("rest_metrics_kb", "its size", ""),
];

/// A figure that is not measured any more is a mistake of this program.
pub fn are_all_there(values: &Values) -> anyhow::Result<()> {
    let missing: Vec<&str> =
        FIGURES.iter().map(|figure| figure.name).filter(|name| !values.contains_key(name)).collect();
    anyhow::ensure!(missing.is_empty(), "not measured: {missing:?}");
    let unnamed: Vec<_> = values.keys().filter(|name| FIGURES.iter().all(|figure| figure.name != **name)).collect();
    anyhow::ensure!(unnamed.is_empty(), "without a line in the table: {unnamed:?}");
    Ok(())
}

/// One run.
pub struct Run {
    /// How many nodes.
    pub nodes: usize,
    /// With which broker.
    pub broker: Broker,
    /// The machine's load average over a minute, before and after.
    pub load: [f64; 2],
    /// What was measured.
    pub values: Values,
}

/// A value that divides the values in two halves.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The value below which this share of them lies.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "an index")]
pub fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = (values.len() as f64 * share).ceil() as usize;
    values.get(at.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// The medians of runs with one broker.
fn medians(runs: &[Run], nodes: usize, broker: Broker) -> Option<Values> {
    let of: Vec<&Run> = runs.iter().filter(|run| run.nodes == nodes && run.broker == broker).collect();
    let value = |figure: &Figure| {
        let values: Vec<f64> = of.iter().filter_map(|run| run.values.get(figure.name).copied()).collect();
        (!values.is_empty()).then(|| (figure.name, median(values)))
    };
    (!of.is_empty()).then(|| FIGURES.iter().filter_map(value).collect())
}

/// The medians of the pairs' ratios: runs with the embedded broker, each to the one with Mosquitto after it.
fn ratios(runs: &[Run], nodes: usize) -> Values {
    let of = |broker| runs.iter().filter(move |run| run.nodes == nodes && run.broker == broker);
    let ratio = |figure: &Figure| {
        let pairs = of(Broker::Embedded).zip(of(Broker::Mosquitto));
        let ratios: Vec<f64> = pairs
            .filter_map(|(ours, other)| Some(ours.values.get(figure.name)? / other.values.get(figure.name)?))
            .filter(|ratio| ratio.is_finite())
            .collect();
        (!ratios.is_empty()).then(|| (figure.name, median(ratios)))
    };
    FIGURES.iter().filter_map(ratio).collect()
}

fn sizes(runs: &[Run]) -> Vec<usize> {
    let mut sizes: Vec<usize> = runs.iter().map(|run| run.nodes).collect();
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

/// Everything, for programs.
pub fn to_json(runs: &[Run]) -> serde_json::Value {
    let each = runs.iter().map(|run| {
        json!({ "nodes": run.nodes, "broker": run.broker.as_str(), "load_average": run.load, "figures": run.values })
    });
    let fleets = sizes(runs).into_iter().map(|nodes| {
        json!({ "nodes": nodes, "embedded": medians(runs, nodes, Broker::Embedded),
            "mosquitto": medians(runs, nodes, Broker::Mosquitto), "ratio": ratios(runs, nodes) })
    });
    json!({ "format": 1, "runs": each.collect::<Vec<_>>(), "medians": fleets.collect::<Vec<_>>() })
}

/// Everything, for people.
pub fn to_table(runs: &[Run]) -> String {
    let mut text = String::new();
    for nodes in sizes(runs) {
        let load: Vec<String> = runs
            .iter()
            .filter(|run| run.nodes == nodes)
            .map(|run| format!("{:.1} to {:.1}", run.load[0], run.load[1]))
            .collect();
        let _ = writeln!(text, "{nodes} nodes; load average of each run: {}", load.join(", "));
        let (ours, other) = (medians(runs, nodes, Broker::Embedded), medians(runs, nodes, Broker::Mosquitto));
        let ratios = ratios(runs, nodes);
        let _ = writeln!(text, "{:<56} {:>10} {:>10} {:>7}  goal", "", "embedded", "mosquitto", "ratio");
        for Figure { name, what, goal } in &FIGURES {
            let shown = |values: Option<&Values>| match values.and_then(|values| values.get(name)) {
                Some(value) => format!("{value:.1}"),
                None => "-".to_owned(),
            };
            let ratio = ratios.get(name).map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
            let unit = name.rsplit_once('_').map_or("", |(_, unit)| unit);
            let unit = match unit {
                "lost" => "",
                "s" if name.ends_with("_per_s") => "/s",
                unit => unit,
            };
            let what = format!("{what}{}{unit}", if unit.is_empty() { "" } else { ", " });
            let _ = writeln!(
                text,
                "{what:<56} {:>10} {:>10} {ratio:>7}  {goal}",
                shown(ours.as_ref()),
                shown(other.as_ref())
            );
        }
        text.push('\n');
    }
    text
}
