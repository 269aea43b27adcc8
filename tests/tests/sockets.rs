//! A held socket: while releases take each other's place, nobody who connects is refused.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use orangery_tests::fleet::{Fleet, HELD};
use orangery_tests::load::Load;

const SWITCHES: usize = 20;

#[test]
fn nobody_is_refused_and_every_request_is_answered_across_twenty_switches() {
    let fleet = Fleet::start();
    let node = fleet.node("attic");
    let versions = ["1.0.0", "1.1.0"];
    for version in versions {
        fleet.publish_with(version, &format!("version = {version}\nmessage = hello\n"), HELD);
    }
    fleet.deploy("greeter@1.0.0", "all");
    fleet.settled_on("attic", "1.0.0");
    let load = Load::on(node.port);
    for n in 1..=SWITCHES {
        let version = versions[n % 2];
        fleet.deploy(&format!("greeter@{version}"), "all");
        fleet.settled_on("attic", version);
    }
    let seen = load.end();
    println!("{SWITCHES} switches: {seen}");
    assert!(seen.answered > 1_000 && seen.versions.len() == 2, "{seen}");
    assert_eq!((seen.refused, seen.broken), (0, 0), "{seen}");
    node.check();
}
