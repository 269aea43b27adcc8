//! SIGKILL at random moments, again and again: no invariant is violated, no acknowledged event is lost.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use orangery_tests::fleet::{Fleet, Node};
use orangery_tests::process::eventually;
use orangery_tests::random::Random;

const VERSIONS: [&str; 3] = ["1.0.0", "1.1.0", "1.2.0"];

fn fleet_with_releases() -> (Fleet, Node) {
    let fleet = Fleet::start();
    let node = fleet.node("attic");
    for version in VERSIONS {
        fleet.publish(version, 200);
    }
    fleet.deploy("greeter@1.0.0", "all");
    fleet.settled_on("attic", "1.0.0");
    (fleet, node)
}

/// A moment is chosen by chance, not to wait for something: that is what these tests are about.
fn let_some_time_pass(random: &mut Random, millis_max: u64) {
    let end = Instant::now() + Duration::from_millis(random.below(millis_max));
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What the coordinator has stored of a node has no gap: each epoch counts on from one to the next, allowing for entries
/// that the node itself dropped and said so.
fn assert_nothing_lost(fleet: &Fleet, node: &str) -> usize {
    let mut epochs: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    let events = fleet.events(node);
    for view in &events {
        let new = epochs.entry(view.event.epoch).or_default().insert(view.event.sequence);
        assert!(new, "event {} was stored twice", view.event.sequence);
    }
    assert_eq!(epochs.len(), 1, "the node's store was rebuilt");
    for sequences in epochs.values() {
        let last = *sequences.last().unwrap_or(&0);
        assert_eq!(sequences.len() as u64, last, "events are missing among {last}");
    }
    events.len()
}

fn kill_the_agent(times: usize) {
    let mut random = Random::announced();
    let (fleet, mut node) = fleet_with_releases();
    for round in 0..times {
        let version = VERSIONS[usize::try_from(random.below(3)).unwrap()];
        fleet.deploy(&format!("greeter@{version}"), "all");
        let_some_time_pass(&mut random, 600);
        if round % 2 == 0 {
            node.kill_agent();
        } else {
            node.cut_power();
        }
        node.check();
        node.start();
    }
    fleet.deploy("greeter@1.0.0", "all");
    fleet.settled_on("attic", "1.0.0");
    eventually("1.0.0 serves", || (node.serves()? == "1.0.0").then_some(()));
    node.check();
    eventually("all events have arrived", || node.outbox_is_empty().then_some(()));
    let stored = assert_nothing_lost(&fleet, "attic");
    println!("{times} kills of the agent: {stored} events, none lost");
}

fn kill_the_coordinator(times: usize) {
    let mut random = Random::announced();
    let (mut fleet, node) = fleet_with_releases();
    let mut wanted = "1.0.0";
    for _ in 0..times {
        wanted = VERSIONS[usize::try_from(random.below(3)).unwrap()];
        fleet.deploy(&format!("greeter@{wanted}"), "all");
        let_some_time_pass(&mut random, 600);
        fleet.coordinator().kill();
        node.check();
        fleet.serve();
        // What was answered with success is known after the kill.
        let desired = fleet.view("attic").expect("the node is known").desired;
        assert_eq!(desired.first().and_then(|d| d.version.as_ref()).map(ToString::to_string).as_deref(), Some(wanted));
    }
    fleet.settled_on("attic", wanted);
    eventually("the app serves", || (node.serves()? == wanted).then_some(()));
    eventually("all events have arrived", || node.outbox_is_empty().then_some(()));
    let stored = assert_nothing_lost(&fleet, "attic");
    println!("{times} kills of the coordinator: {stored} events, none lost");
}

#[test]
fn an_agent_killed_at_random_moments_ends_where_it_should() {
    kill_the_agent(12);
}

#[test]
fn a_coordinator_killed_at_random_moments_loses_nothing_it_acknowledged() {
    kill_the_coordinator(8);
}

#[test]
#[ignore = "takes minutes; run by `just test-long`"]
fn long_200_kills_of_the_agent() {
    kill_the_agent(200);
}

#[test]
#[ignore = "takes minutes; run by `just test-long`"]
fn long_100_kills_of_the_coordinator() {
    kill_the_coordinator(100);
}
