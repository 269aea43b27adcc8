//! An app that is left to a key of its own: its releases reach nodes, until that ends.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use orangery_tests::fleet::Fleet;
use orangery_tests::process::{eventually, succeed};
use orangery_wire::messages::RefusalCode;

#[test]
fn a_node_runs_what_a_delegated_key_signs_and_refuses_it_once_the_delegation_has_ended() {
    let fleet = Fleet::start();
    let node = fleet.node("attic");
    fleet.publish("1.0.0", 200);
    fleet.deploy("greeter@1.0.0", "all");
    fleet.settled_on("attic", "1.0.0");

    succeed(&mut fleet.orangery(&["keys", "delegate", "greeter", "--name", "team"]));
    fleet.publish("1.1.0", 200);
    fleet.publish("1.2.0", 200);
    fleet.deploy("greeter@1.1.0", "all");
    fleet.settled_on("attic", "1.1.0");
    eventually("1.1.0 serves", || (node.serves()? == "1.1.0").then_some(()));
    // The same by a stick: what is copied has the role's metadata with it.
    let stick = fleet.path().join("stick");
    succeed(&mut fleet.orangery(&["repo", "export", stick.to_str().unwrap()]));
    assert!(stick.join("metadata/2.team.json").exists());

    succeed(&mut fleet.orangery(&["keys", "undelegate", "greeter"]));
    fleet.deploy("greeter@1.2.0", "all");
    let report = fleet.refused("attic", "1.2.0");
    assert_eq!(report.refusal.map(|refusal| refusal.code), Some(RefusalCode::Revoked));
    assert_eq!(node.serves().as_deref(), Some("1.1.0"), "what runs goes on running");
    fleet.publish("1.3.0", 200);
    fleet.deploy("greeter@1.3.0", "all");
    fleet.settled_on("attic", "1.3.0");
    node.check();
}
