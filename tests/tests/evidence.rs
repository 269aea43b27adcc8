//! What was seen of a refused release survives the way back: on the node and at the coordinator, and without secrets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use orangery_tests::fleet::{Fleet, Node};
use orangery_tests::process::{eventually, succeed};
use orangery_wire::rest::{Why, WhyLine};

/// Values of the environment, which nobody must see.
const OF_NODE: &str = "canary-of-the-nodes-settings";
const OF_RELEASE: &str = "canary-of-the-releases-env";

const MANIFEST: &str = r#"
[run]
exec = ["bin/app"]
stop_grace_secs = 2

[run.env]
RELEASE_TOKEN = "canary-of-the-releases-env"

[run.restart]
restarts_max = 1
backoff_ms = 50

[[probes]]
exec = { command = ["bin/probe", "${NODE_TOKEN}"] }
interval_ms = 100
timeout_ms = 2000
successes = 1
failures = 2
"#;

/// A release of the app `noisy` made of two scripts.
fn publish(fleet: &Fleet, version: &str, app: &str, probe: &str) {
    let tree: PathBuf = fleet.path().join("noisy").join(version);
    std::fs::create_dir_all(tree.join("bin")).unwrap();
    for (name, text) in [("app", app), ("probe", probe)] {
        let path = tree.join("bin").join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    fleet.publish_tree("noisy", version, &tree, MANIFEST);
}

const WAITS: &str = "echo ready; exec sleep 1000";

fn settings() -> String {
    format!("[apps.noisy.env]\nNODE_TOKEN = \"{OF_NODE}\"\n")
}

fn why(node: &Node) -> WhyLine {
    let text = succeed(&mut node.agent(&["why", "noisy", "--json"]));
    let why: Why = serde_json::from_str(&text).unwrap();
    why.lines.into_iter().find(|line| line.app.is_some()).unwrap()
}

fn code_is(node: &Node, code: &str) -> WhyLine {
    eventually(&format!("the node says {code}"), || {
        let line = why(node);
        (line.code == code && line.text.ends_with("1.0.0 runs.")).then_some(line)
    })
}

/// Everything that people can ask about the node.
fn told(fleet: &Fleet, node: &Node) -> Vec<String> {
    vec![
        succeed(&mut fleet.orangery(&["why", "attic", "noisy"])),
        succeed(&mut fleet.orangery(&["why", "attic", "--json"])),
        succeed(&mut fleet.orangery(&["history", "attic"])),
        succeed(&mut fleet.orangery(&["history", "attic", "--json"])),
        succeed(&mut node.agent(&["why"])),
        succeed(&mut node.agent(&["why", "--json"])),
        succeed(&mut node.agent(&["history"])),
        std::fs::read_to_string(node.state().join("apps/noisy/refused.json")).unwrap(),
    ]
}

#[test]
fn the_last_output_and_answers_of_a_refused_release_are_shown_on_both_sides() {
    let fleet = Fleet::start();
    let mut node = fleet.joined("attic", &settings());
    node.start();
    publish(&fleet, "1.0.0", WAITS, "exit 0");
    let says =
        "i=0; while [ $i -lt 70 ]; do echo line $i; i=$((i+1)); done; echo \"with $NODE_TOKEN and $RELEASE_TOKEN\"";
    publish(
        &fleet,
        "1.1.0",
        &format!("{says}; echo migration 42 is missing; exec sleep 1000"),
        "echo no table users; exit 7",
    );
    fleet.deploy("noisy@1.0.0", "attic");
    code_is(&node, "up_to_date");
    fleet.deploy("noisy@1.1.0", "attic");
    let line = code_is(&node, "unhealthy");
    let evidence = line.evidence.unwrap();
    assert_eq!(evidence.log.last().unwrap(), "migration 42 is missing");
    assert_eq!(evidence.log.iter().rev().nth(1).unwrap(), "with ${NODE_TOKEN} and ${RELEASE_TOKEN}");
    assert!(evidence.log.len() <= 50, "{}", evidence.log.len());
    assert!(!evidence.log.contains(&"ready".to_owned()), "that is of the release before");
    let [probe] = evidence.probes.as_slice() else { panic!("{evidence:?}") };
    assert!(probe.bad >= 2 && probe.last.last().unwrap().contains("no table users"), "{probe:?}");
    eventually("the coordinator has heard of it", || node.outbox_is_empty().then_some(()));
    for text in told(&fleet, &node) {
        assert!(text.contains("migration 42 is missing") && text.contains("no table users"), "{text}");
        assert!(!text.contains(OF_NODE) && !text.contains(OF_RELEASE), "a secret is shown: {text}");
    }
    node.stop();
    let line = why(&node);
    assert_eq!(line.evidence.unwrap().log.last().unwrap(), "migration 42 is missing", "without the agent too");
    node.check();
}

#[test]
fn the_way_back_does_not_need_what_was_seen_and_says_how_the_app_ended() {
    let fleet = Fleet::start();
    let mut node = fleet.joined("attic", &settings());
    node.start();
    publish(&fleet, "1.0.0", WAITS, "exit 0");
    publish(&fleet, "1.1.0", "echo I give up; exit 3", "exit 1");
    fleet.deploy("noisy@1.0.0", "attic");
    code_is(&node, "up_to_date");
    // Nothing can be written there.
    std::fs::create_dir_all(node.state().join("apps/noisy/.refused.json.new/full")).unwrap();
    fleet.deploy("noisy@1.1.0", "attic");
    let line = code_is(&node, "unhealthy");
    assert_eq!(line.evidence, None);
    let shown = eventually("the coordinator has it from the event", || {
        let shown = succeed(&mut fleet.orangery(&["why", "attic"]));
        shown.contains("it ended: exit status 3").then_some(shown)
    });
    assert!(shown.contains("| I give up"), "{shown}");
}
