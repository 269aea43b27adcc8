//! A real Prometheus watches a real fleet, with the files that users copy.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use orangery_tests::fleet::{Fleet, Node};
use orangery_tests::process::{eventually, succeed};
use orangery_tests::prometheus::{EXAMPLES, Prometheus, possible};

#[test]
fn prometheus_sees_what_nodes_run_and_raises_an_alert_for_a_refused_release() {
    if !possible() {
        return;
    }
    let mut fleet = Fleet::start();
    let token = succeed(&mut fleet.orangery(&["keys", "metrics-token"]));
    fleet.coordinator().stop();
    fleet.serve();
    let _attic = fleet.node("attic");
    fleet.publish("1.0.0", 200);
    fleet.publish("1.1.0", 500);
    let prometheus = Prometheus::start(&fleet, &token);
    fleet.deploy("greeter@1.0.0", "all");
    fleet.settled_on("attic", "1.0.0");
    let says = |query: &str, label: &str, expected: (&str, &str)| {
        let mut seen = Vec::new();
        eventually(&format!("{query} is {expected:?}"), || {
            seen = prometheus.ask(query, label);
            seen.iter().any(|(name, value)| (name.as_str(), value.as_str()) == expected).then_some(())
        });
    };
    says("up", "job", ("orangery", "1"));
    says("orangery_node_online", "node", ("attic", "1"));
    says("orangery_app_current_info", "version", ("1.0.0", "1"));
    says("orangery_app_converged", "node", ("attic", "1"));
    says("orangery_broker_connections > bool 0", "job", ("orangery", "1"));
    says("orangery_events_total{code=\"committed\"}", "code", ("committed", "1"));

    fleet.deploy("greeter@1.1.0", "all");
    fleet.refused("attic", "1.1.0");
    says("ALERTS{alertstate=\"firing\"}", "alertname", ("OrangeryReleaseRefused", "1"));
    says("orangery_app_current_info", "version", ("1.0.0", "1"));
}

#[test]
fn the_alerts_fire_when_they_should_and_not_before() {
    if !possible() {
        return;
    }
    let rules = Path::new(EXAMPLES).join("orangery.rules.test.yml");
    succeed(Command::new("promtool").args(["test", "rules"]).arg(rules));
}

/// Every `orangery_…` that a text speaks of.
fn names(text: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !word(c)).filter(|word| word.starts_with("orangery_")).map(str::to_owned).collect()
}

#[test]
fn alerts_and_dashboard_speak_of_metrics_that_there_are() {
    let manual = names(include_str!("../../docs/operating/monitoring.md"));
    let rules = names(include_str!("../../docs/examples/monitoring/orangery.rules.yml"));
    let dashboard = include_str!("../../docs/examples/monitoring/grafana.json");
    assert!(serde_json::from_str::<serde_json::Value>(dashboard).unwrap()["panels"].as_array().unwrap().len() > 10);
    for name in rules.iter().chain(&names(dashboard)) {
        assert!(manual.contains(name), "{name} is not in the manual");
    }
}

#[test]
fn a_node_tells_prometheus_itself_how_it_is_with_and_without_its_agent() {
    let fleet = Fleet::start();
    let mut node = fleet.node("attic");
    fleet.publish("1.0.0", 200);
    fleet.deploy("greeter@1.0.0", "attic");
    fleet.settled_on("attic", "1.0.0");
    let out = fleet.path().join("orangery.prom");
    let told = |node: &Node| {
        succeed(&mut node.agent(&["metrics", "--out", out.to_str().unwrap()]));
        std::fs::read_to_string(&out).unwrap()
    };
    let text = told(&node);
    assert!(text.contains("\norangery_agent_up 1\n") && text.contains("\norangery_agent_connected 1\n"), "{text}");
    assert!(text.contains("orangery_agent_app_current_info{app=\"greeter\",version=\"1.0.0\"} 1\n"), "{text}");
    if possible() {
        let check = format!("promtool check metrics <{}", out.display());
        succeed(Command::new("sh").args(["-c", &check]));
    }
    node.kill_agent();
    let text = told(&node);
    assert!(text.contains("\norangery_agent_up 0\n") && text.contains("version=\"1.0.0\"} 1\n"), "{text}");
}
