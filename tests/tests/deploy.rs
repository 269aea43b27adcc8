//! Releases reach nodes, bad ones go back: real processes, the embedded broker, and once more against Mosquitto.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use orangery_tests::fleet::{Fleet, GREETER, Node, Setup};
use orangery_tests::mosquitto::Mosquitto;
use orangery_tests::process::{eventually, fail, succeed};
use orangery_wire::messages::{Phase, RefusalCode, What};

/// The story that every operator lives through: good, better, bad.
fn good_then_better_then_bad(fleet: &Fleet, node: &Node) {
    fleet.publish("1.0.0", 200);
    fleet.deploy("greeter@1.0.0", &node.name);
    fleet.settled_on(&node.name, "1.0.0");
    assert_eq!(node.serves().as_deref(), Some("1.0.0"));

    fleet.publish("1.1.0", 200);
    fleet.deploy("greeter@1.1.0", "all");
    fleet.settled_on(&node.name, "1.1.0");
    assert_eq!(node.serves().as_deref(), Some("1.1.0"));

    fleet.publish("1.2.0", 500);
    fleet.deploy("greeter@1.2.0", "all");
    let report = fleet.refused(&node.name, "1.2.0");
    assert_eq!(report.refusal.map(|r| r.code), Some(RefusalCode::Unhealthy));
    assert_eq!(report.current, report.running, "what is proven is what runs");
    eventually("1.1.0 serves again", || (node.serves()? == "1.1.0").then_some(()));
    node.check();

    let codes = fleet.codes(&node.name);
    for code in ["agent_started", "committed", "refused", "restored"] {
        assert!(codes.contains(&code), "no event says {code}: {codes:?}");
    }
    let why = succeed(&mut fleet.orangery(&["why", &node.name]));
    assert!(why.contains("1.2.0") && why.contains("unhealthy") && why.contains("1.1.0"), "{why}");
}

#[test]
fn a_release_reaches_a_node_and_a_bad_one_goes_back() {
    let fleet = Fleet::start();
    let node = fleet.node("attic");
    good_then_better_then_bad(&fleet, &node);
}

#[test]
fn the_same_story_is_told_with_mosquitto_as_the_broker() {
    let Some(mosquitto) = Mosquitto::find() else { return };
    let port = orangery_tests::process::free_port();
    let mut fleet = Fleet::init(&Setup { mqtt_url: Some(format!("mqtts://127.0.0.1:{port}")), ..Setup::default() });
    let _broker = mosquitto.start(&fleet, port);
    fleet.serve();
    let node = fleet.node("attic");
    good_then_better_then_bad(&fleet, &node);
}

#[test]
fn a_node_that_lost_power_in_the_middle_of_a_trial_recovers_by_itself() {
    let fleet = Fleet::start();
    let mut node = fleet.node("attic");
    fleet.publish("1.0.0", 200);
    fleet.deploy("greeter@1.0.0", "all");
    fleet.settled_on("attic", "1.0.0");

    let slow = format!("soak_secs = 2\n{GREETER}");
    fleet.publish_with("1.1.0", "version = 1.1.0\nmessage = hello\nhealth_status = 200\n", &slow);
    fleet.deploy("greeter@1.1.0", "all");
    eventually("1.1.0 is on trial", || (fleet.greeter("attic")?.phase == Phase::Probing).then_some(()));
    node.cut_power();
    node.check();
    node.start();
    fleet.settled_on("attic", "1.1.0");
    assert_eq!(node.serves().as_deref(), Some("1.1.0"));
}

#[test]
fn an_agent_that_was_killed_finds_its_app_running_and_leaves_it_alone() {
    let fleet = Fleet::start();
    let mut node = fleet.node("attic");
    fleet.publish("1.0.0", 200);
    fleet.deploy("greeter@1.0.0", "all");
    fleet.settled_on("attic", "1.0.0");
    let before = std::fs::read_to_string(node.state().join("apps/greeter/run.json")).unwrap();
    node.kill_agent();
    assert_eq!(node.serves().as_deref(), Some("1.0.0"), "the app does not need the agent");
    node.start();
    eventually("the agent is back", || {
        fleet.codes("attic").iter().filter(|code| **code == "agent_started").nth(1).map(|_| ())
    });
    fleet.settled_on("attic", "1.0.0");
    let after = std::fs::read_to_string(node.state().join("apps/greeter/run.json")).unwrap();
    assert_eq!(before, after, "the same process serves");
}

#[test]
fn a_node_runs_its_proven_release_without_any_coordinator() {
    let mut fleet = Fleet::start();
    let mut node = fleet.node("attic");
    fleet.publish("1.0.0", 200);
    fleet.deploy("greeter@1.0.0", "all");
    fleet.settled_on("attic", "1.0.0");
    fleet.coordinator().kill();
    node.cut_power();
    assert_eq!(node.get("/"), None);
    node.start();
    eventually("1.0.0 serves", || (node.serves()? == "1.0.0").then_some(()));
    let status = succeed(&mut node.agent(&["status"]));
    assert!(status.contains("is not connected") && status.contains("1.0.0 is current"), "{status}");
    fleet.serve();
    eventually("the node is online", || fleet.view("attic")?.online.then_some(()));
}

#[test]
fn the_operator_of_a_node_can_go_back_without_any_network() {
    let mut fleet = Fleet::start();
    let node = fleet.node("attic");
    eventually("the node is online", || fleet.view("attic")?.online.then_some(()));
    let refused = fail(&mut node.agent(&["rollback", "greeter"]));
    assert!(refused.contains("greeter"), "{refused}");
    for version in ["1.0.0", "1.1.0"] {
        fleet.publish(version, 200);
        fleet.deploy(&format!("greeter@{version}"), "all");
        fleet.settled_on("attic", version);
    }
    fleet.coordinator().kill();
    succeed(&mut node.agent(&["rollback", "greeter"]));
    eventually("1.0.0 serves", || (node.serves()? == "1.0.0").then_some(()));
    fleet.serve();
    let report = fleet.settled_on("attic", "1.0.0");
    assert_eq!(report.refusal.map(|r| r.code), Some(RefusalCode::RolledBack));
    fleet.deploy("greeter@1.1.0", "all");
    fleet.settled_on("attic", "1.1.0");
}

#[test]
fn a_revoked_node_is_cut_off_and_stays_off() {
    let fleet = Fleet::start();
    let node = fleet.node("attic");
    eventually("the node is online", || fleet.view("attic")?.online.then_some(()));
    succeed(&mut fleet.orangery(&["node", "revoke", "attic"]));
    eventually("the node is offline", || (!fleet.view("attic")?.online).then_some(()));
    eventually("the node notices", || succeed(&mut node.agent(&["status"])).contains("is not connected").then_some(()));
}

#[test]
fn two_apps_are_fetched_together_and_tried_one_after_the_other() {
    let fleet = Fleet::start();
    let port = orangery_tests::process::free_port();
    let mut node = fleet.joined("attic", &format!("[apps.second.env]\nPORT = \"{port}\"\n"));
    node.start();
    let slow = format!("soak_secs = 1\n{GREETER}");
    let tree = fleet.greeter_tree("1.0.0", "version = 1.0.0\nmessage = hello\nhealth_status = 200\n");
    for app in ["greeter", "second"] {
        fleet.publish_tree(app, "1.0.0", &tree, &slow);
    }
    for app in ["greeter", "second"] {
        fleet.deploy(&format!("{app}@1.0.0"), "all");
    }
    fleet.settled_on("attic", "1.0.0");
    eventually("both run", || {
        let apps = fleet.view("attic")?.reported?.apps;
        let proven = apps.iter().filter(|app| app.current.is_some() && app.phase == Phase::Settled);
        (proven.count() == 2).then_some(())
    });
    let mut on_trial = None;
    eventually("all events have arrived", || node.outbox_is_empty().then_some(()));
    for view in fleet.events("attic") {
        match (view.event.what, view.event.app) {
            (What::PhaseChanged { phase: Phase::Activating, .. }, app) => {
                assert_eq!(on_trial, None, "{app:?} began its trial during another");
                on_trial = app;
            }
            (What::Committed { .. }, app) => assert_eq!(on_trial.take(), app),
            _ => {}
        }
    }
    node.check();
}
