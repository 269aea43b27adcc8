//! What an app wrote last is shown to whoever asks for it, while it runs, and without secrets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::os::unix::fs::PermissionsExt;

use orangery_tests::fleet::{Fleet, Node};
use orangery_tests::process::{eventually, succeed};
use orangery_wire::rest::OutputView;
use rustix::process::{Pid, Signal};

const MANIFEST: &str = r#"
[run]
exec = ["bin/app"]
stop_grace_secs = 2

[run.env]
RELEASE_TOKEN = "canary-of-the-releases-env"
"#;

/// It has much to say at first, and then counts.
const APP: &str = r#"#!/bin/sh
i=0
while [ $i -lt 700 ]; do echo "line $i"; i=$((i+1)); done
printf 'with %s and %s \033]0;title\007 \n' "$NODE_TOKEN" "$RELEASE_TOKEN"
while :; do i=$((i+1)); echo "now $i"; sleep 0.05; done
"#;

fn with_an_app(fleet: &Fleet) -> Node {
    let mut node = fleet.joined("attic", "[apps.chatty.env]\nNODE_TOKEN = \"canary-of-the-nodes-settings\"\n");
    node.start();
    let tree = fleet.path().join("chatty");
    std::fs::create_dir_all(tree.join("bin")).unwrap();
    std::fs::write(tree.join("bin/app"), APP).unwrap();
    std::fs::set_permissions(tree.join("bin/app"), std::fs::Permissions::from_mode(0o755)).unwrap();
    fleet.publish_tree("chatty", "1.0.0", &tree, MANIFEST);
    fleet.deploy("chatty@1.0.0", "attic");
    eventually("the app runs", || {
        let apps = fleet.view("attic")?.reported?.apps;
        apps.iter().any(|app| app.current.is_some()).then_some(())
    });
    node
}

fn logs(fleet: &Fleet, words: &[&str]) -> Vec<String> {
    let text = succeed(fleet.orangery(&["logs", "attic", "chatty", "--json"]).args(words));
    serde_json::from_str::<OutputView>(&text).unwrap().lines
}

fn newest(lines: &[String]) -> u32 {
    lines.last().unwrap().strip_prefix("now ").unwrap().parse().unwrap()
}

fn signal(node: &mut Node, signal: Signal) {
    let pid = i32::try_from(node.process().pid()).unwrap();
    rustix::process::kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

fn refused(fleet: &Fleet, words: &[&str]) -> String {
    let output = fleet.orangery(words).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn whoever_asks_sees_the_last_lines_of_a_running_app_with_names_for_secrets() {
    let fleet = Fleet::start();
    let mut node = with_an_app(&fleet);
    let lines = eventually("it counts", || {
        let lines = logs(&fleet, &["--lines", "500"]);
        lines.last().unwrap().starts_with("now ").then_some(lines)
    });
    assert_eq!(lines.len(), 500, "of more than 700");
    let said = lines.iter().find(|line| line.starts_with("with ")).unwrap();
    assert_eq!(said, "with ${NODE_TOKEN} and ${RELEASE_TOKEN}  ]0;title");

    // Asked again, the node looks again.
    eventually("newer lines are shown", || (newest(&logs(&fleet, &[])) > newest(&lines)).then_some(()));
    assert_eq!(logs(&fleet, &["-n", "1"]).len(), 1);
    let plain = succeed(&mut fleet.orangery(&["logs", "attic", "chatty"]));
    assert_eq!(plain.lines().count(), 100);
    let written = succeed(&mut fleet.orangery(&["audit", "--json"]));
    assert!(written.contains("output.show") && written.contains("chatty on attic"), "{written}");

    let other = refused(&fleet, &["logs", "attic", "web"]);
    assert!(other.contains("there is no app \"web\" on attic; it has chatty"), "{other}");
    let nobody = refused(&fleet, &["logs", "atic", "chatty"]);
    assert!(nobody.contains("did you mean attic?"), "{nobody}");

    node.stop();
    eventually("the coordinator has seen it go", || (!fleet.view("attic")?.online).then_some(()));
    let offline = refused(&fleet, &["logs", "attic", "chatty"]);
    assert!(offline.contains("attic is not connected") && offline.contains("orangery history attic"), "{offline}");
}

#[test]
fn a_node_that_does_not_answer_is_not_waited_for_for_ever() {
    let fleet = Fleet::start();
    let mut node = with_an_app(&fleet);
    signal(&mut node, Signal::STOP);
    let silent = refused(&fleet, &["logs", "attic", "chatty"]);
    assert!(silent.contains("attic did not say within 15 s what chatty wrote"), "{silent}");
    signal(&mut node, Signal::CONT);
    let asked_again = || fleet.orangery(&["logs", "attic", "chatty"]).output().unwrap().status.success();
    eventually("it answers as soon as it is back", || asked_again().then_some(()));
    assert_eq!(node.log().matches("taken=true").count(), 1, "the first asking was over");
}
