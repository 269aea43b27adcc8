//! Rollouts with real processes: a coordinator that is killed in the middle, real agents, a good release and a bad one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use orangery_tests::fleet::{Fleet, GREETER, THREE as NODES};
use orangery_tests::process::{eventually, fail, succeed};
use orangery_wire::rest::{RolloutEntry, RolloutView};

fn start(fleet: &Fleet, release: &str, options: &[&str]) {
    let mut command = fleet.orangery(&["rollout", "start", release, "--nodes", "all", "--yes"]);
    succeed(command.args(options));
}

fn told(fleet: &Fleet, node: &str) -> String {
    fleet.view(node).unwrap().desired.first().and_then(|desired| desired.version.clone()).unwrap().to_string()
}

fn restart(fleet: &mut Fleet) {
    fleet.coordinator().kill();
    fleet.serve();
}

fn codes(view: &RolloutView) -> Vec<&str> {
    view.log.iter().map(|entry: &RolloutEntry| entry.code.as_str()).collect()
}

#[test]
fn a_good_release_goes_through_its_waves_and_a_bad_one_stops_at_the_canary() {
    let (mut fleet, nodes) = Fleet::of_three();

    fleet.publish("1.1.0", 200);
    start(&fleet, "greeter@1.1.0", &["--canary", "attic", "--waves", "100%", "--soak", "2s", "--approve-between"]);
    restart(&mut fleet);
    fleet.settled_on("attic", "1.1.0");
    restart(&mut fleet);
    let waits = eventually("only the approval is missing", || {
        let why = succeed(&mut fleet.orangery(&["why", "garage", "greeter"]));
        why.contains("rollout approve 1").then_some(why)
    });
    assert!(waits.contains("[in_rollout]") && waits.contains("wave 2 of 2"), "{waits}");
    assert_eq!((told(&fleet, "garage"), told(&fleet, "cellar")), ("1.0.0".to_owned(), "1.0.0".to_owned()));
    succeed(&mut fleet.orangery(&["rollout", "approve", "1", "--note", "looks fine"]));
    restart(&mut fleet);
    let done = fleet.rollout_is(1, "done");
    assert_eq!(codes(&done), ["begun", "wave_opened", "approved", "wave_opened", "done"], "{:#?}", done.log);
    assert_eq!(done.log[2].by.as_deref(), Some("owner"));
    for node in &nodes {
        fleet.settled_on(&node.name, "1.1.0");
        eventually("1.1.0 serves", || (node.serves()? == "1.1.0").then_some(()));
    }

    fleet.publish("1.2.0", 500);
    start(&fleet, "greeter@1.2.0", &["--canary", "attic", "--waves", "100%", "--soak", "2s"]);
    restart(&mut fleet);
    let paused = fleet.rollout_is(2, "paused");
    assert!(paused.reason.contains("attic") && paused.reason.contains("unhealthy"), "{}", paused.reason);
    let by_itself = paused.log.iter().find(|entry| entry.code == "paused").unwrap();
    assert_eq!(
        (by_itself.by.as_deref(), by_itself.node.as_ref().map(ToString::to_string)),
        (None, Some("attic".into()))
    );
    let why = succeed(&mut fleet.orangery(&["why", "cellar"]));
    assert!(why.contains("the rollout is paused") && why.contains("attic"), "{why}");
    restart(&mut fleet);
    succeed(&mut fleet.orangery(&["rollout", "revert", "2", "--note", "it answers 500"]));
    restart(&mut fleet);
    fleet.rollout_is(2, "reverted");
    assert_eq!(NODES.map(|name| told(&fleet, name)), ["1.1.0", "1.1.0", "1.1.0"]);
    for node in &nodes {
        fleet.settled_on(&node.name, "1.1.0");
        eventually("1.1.0 serves", || (node.serves()? == "1.1.0").then_some(()));
        node.check();
    }
    for bystander in ["cellar", "garage"] {
        assert_eq!(fleet.refusals(bystander), [], "{bystander} was never told");
    }
    let again = fail(&mut fleet.orangery(&["rollout", "resume", "2"]));
    assert!(again.contains("rollout_not_now") && again.contains("reverted"), "{again}");
}

#[test]
fn a_release_that_is_bad_on_the_canaries_goes_back_by_itself_and_a_held_node_is_left_alone() {
    let (fleet, _nodes) = Fleet::of_three();
    succeed(&mut fleet.orangery(&["node", "hold", "garage", "--for", "1h", "--reason", "being repaired"]));
    fleet.publish("1.1.0", 500);
    start(&fleet, "greeter@1.1.0", &["--waves", "100%", "--on-failure", "revert", "--soak", "1s", "--failures", "1"]);
    let reverted = fleet.rollout_is(1, "reverted");
    assert!(codes(&reverted).contains(&"reverting"), "{:#?}", reverted.log);
    assert_eq!(NODES.map(|name| told(&fleet, name)), ["1.0.0", "1.0.0", "1.0.0"]);
    let held = fleet.view("garage").unwrap();
    assert_eq!((held.desired[0].generation, held.holds.len()), (1, 1), "it was told nothing");
    let why = succeed(&mut fleet.orangery(&["why", "garage"]));
    assert!(why.contains("[held]") && why.contains("being repaired"), "{why}");
    succeed(&mut fleet.orangery(&["node", "release", "garage"]));
    assert!(fleet.view("garage").unwrap().holds.is_empty());
}

#[test]
fn a_release_that_is_well_but_holds_more_memory_than_before_goes_back_and_one_that_does_not_goes_through() {
    let (fleet, nodes) = Fleet::of_three();
    let measured = |node: &str, secs: u64| {
        let apps = fleet.view(node)?.health?.apps;
        let app = apps.into_iter().find(|app| app.watched_secs >= secs)?;
        assert!(app.memory_bytes.is_some_and(|bytes| bytes > 0) && app.restarts == 0, "{app:?}");
        Some(app)
    };
    for node in NODES {
        let app = eventually("there are samples of before", || measured(node, 14));
        assert!(app.memory_bytes < Some(20 << 20), "{app:?}");
    }
    // Asked often, so that each message has a sample.
    let asked = GREETER.replace("interval_ms = 100", "interval_ms = 20");
    fleet.publish_with("1.1.0", "version = 1.1.0\nmessage = hello\nmemory_mib = 64\n", &asked);
    let rules = ["--canary", "attic", "--waves", "100%", "--soak", "1s", "--on-failure", "revert", "--compare"];
    start(&fleet, "greeter@1.1.0", &rules);
    let reverted = fleet.rollout_is(1, "reverted");
    assert!(
        reverted
            .reason
            .contains("attic failed in wave 1, where 0 may fail: it is worse than before: its memory went from"),
        "{}",
        reverted.reason
    );
    assert_eq!(NODES.map(|name| told(&fleet, name)), ["1.0.0", "1.0.0", "1.0.0"]);
    eventually("there are samples of 1.0.0 again", || measured("attic", 14));

    fleet.publish_with("1.2.0", "version = 1.2.0\nmessage = hello\n", &asked);
    let rules =
        ["--canary", "attic", "--waves", "100%", "--soak", "1s", "--compare=memory=200%,latency=1000%,patience=1h"];
    let mut start = fleet.orangery(&["rollout", "start", "greeter@1.2.0", "--nodes", "all", "--yes"]);
    assert!(succeed(start.args(rules)).contains("compared with itself before: memory=200%"));
    let done = fleet.rollout_is(2, "done");
    assert_eq!(done.compare.map(|limits| (limits.memory_percent, limits.latency_percent)), Some((200, 1_000)));
    let shown = succeed(&mut fleet.orangery(&["rollout", "show", "2"]));
    assert!(shown.contains("memory=200%,latency=1000%,patience=1h"), "{shown}");
    let wrong =
        fail(&mut fleet.orangery(&["rollout", "start", "greeter@1.2.0", "--nodes", "all", "--compare=memory=2"]));
    assert!(wrong.contains("memory=150%"), "{wrong}");
    nodes.iter().for_each(orangery_tests::fleet::Node::check);
}
