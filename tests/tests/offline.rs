//! Two weeks without a coordinator: what has piled up is bounded and told at a drip, and of all that was wanted meanwhile only the
//! last is done.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::{Duration, Instant};

use orangery_agent::clock::Clock;
use orangery_agent::outbox::Outbox;
use orangery_agent::store::{self, Engine};
use orangery_tests::fleet::{Fleet, Node};
use orangery_tests::process::{eventually, succeed};
use orangery_wire::messages::What;

const OUTBOX_BYTES_MAX: u64 = 64 << 10;
/// An app that ends by itself every twelve minutes.
const EXITS_IN_TWO_WEEKS: u64 = 14 * 24 * 5;
/// Something that must not be dropped for those: once a day.
const CHANGES_IN_TWO_WEEKS: u64 = 14;

/// What two weeks would have put into the outbox, put there by the outbox's own code while the agent stands still.
fn two_weeks_pass(node: &Node) -> u64 {
    let opened = store::open(Engine::Redb, &node.state().join("store")).unwrap();
    let name = node.name.parse().unwrap();
    let boot_id = "a boot".to_owned();
    let mut outbox = Outbox::open(opened.store, name, boot_id, Clock::new(0), OUTBOX_BYTES_MAX).unwrap();
    let app = "greeter".parse().unwrap();
    for n in 0..EXITS_IN_TWO_WEEKS {
        outbox.push(&What::AppExited { reason: "exit status 1".to_owned(), restarts: 1 }, Some(&app)).unwrap();
        if n % (EXITS_IN_TWO_WEEKS / CHANGES_IN_TWO_WEEKS) == 0 {
            let used = "its previous copy".to_owned();
            outbox.push(&What::RecordRecovered { file: format!("day-{n}"), used }, None).unwrap();
        }
    }
    outbox.waiting()
}

#[test]
fn after_two_weeks_offline_the_backlog_is_bounded_and_drips_and_only_the_last_wish_counts() {
    let mut fleet = Fleet::start();
    let mut node = fleet.joined("attic", &format!("[store]\noutbox_bytes_max = {OUTBOX_BYTES_MAX}\n"));
    node.start();
    let versions = ["1.0.0", "1.1.0", "1.2.0", "1.3.0", "1.4.0", "1.5.0"];
    for version in versions {
        fleet.publish(version, 200);
    }
    fleet.deploy("greeter@1.0.0", "all");
    fleet.settled_on("attic", "1.0.0");
    eventually("the outbox is empty", || node.outbox_is_empty().then_some(()));
    let before = fleet.events("attic").len();
    node.stop();

    for version in &versions[1..] {
        fleet.deploy(&format!("greeter@{version}"), "all");
    }
    let waiting = two_weeks_pass(&node);
    let happened = EXITS_IN_TWO_WEEKS + CHANGES_IN_TWO_WEEKS;
    assert!(waiting < happened / 4, "{waiting} of {happened} wait: they are bounded");
    fleet.coordinator().stop();
    fleet.serve();

    node.start();
    let back = Instant::now();
    fleet.settled_on("attic", "1.5.0");
    let deployed = back.elapsed();
    assert!(!node.outbox_is_empty(), "the backlog does not hold up the deployment");
    eventually("the backlog has drained", || node.outbox_is_empty().then_some(()));
    let drained = back.elapsed();

    let events = fleet.events("attic");
    let news = &events[before..];
    // A hundred go at once and then twenty a second.
    let least = Duration::from_millis(50 * waiting.saturating_sub(100));
    assert!(drained >= least, "{waiting} events in {drained:?}: that is not a drip");
    let committed = news.iter().filter(|view| matches!(view.event.what, What::Committed { .. })).count();
    assert_eq!(committed, 1, "only the last wish was done");
    let fetched = std::fs::read_dir(node.state().join("apps/greeter/releases")).unwrap().count();
    assert_eq!(fetched, 2, "nor were the others fetched");
    let recovered = news.iter().filter(|view| matches!(view.event.what, What::RecordRecovered { .. })).count();
    assert_eq!(recovered as u64, CHANGES_IN_TWO_WEEKS, "telemetry goes first");
    let exits = news.iter().filter(|view| matches!(view.event.what, What::AppExited { .. })).count() as u64;
    let told = |what: &What| if let What::EventsDropped { count } = what { *count } else { 0 };
    let dropped: u64 = news.iter().map(|view| told(&view.event.what)).sum();
    assert_eq!(exits + dropped, EXITS_IN_TWO_WEEKS, "what was dropped is counted");
    let shown = succeed(&mut fleet.orangery(&["node", "show", "attic"]));
    assert!(shown.contains(&format!("{dropped} were dropped on the node")), "{shown}");
    let stored = std::fs::metadata(node.state().join("store/events.redb")).unwrap().len();
    assert!(stored < 4 * OUTBOX_BYTES_MAX, "the store's file has {stored} bytes");
    println!(
        "two weeks: {happened} events happened, {waiting} waited in {OUTBOX_BYTES_MAX} bytes ({stored} on the disk), {dropped} were \
         dropped and counted; the last of 5 wishes was done after {deployed:.1?}, all was told after {drained:.1?}"
    );
}
