//! The Debian packages, in a machine with a systemd of its own: installed, joined, deployed to, upgraded and purged.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../../agent/tests/systemd_runner/container.rs"]
mod container;
mod site;

use orangery_tests::process::eventually;
use orangery_wire::messages::{Phase, What};

use site::{AGENT, APP, COORDINATOR, NAME, Site};

/// A coordinator and a node, each from its package, with 1.0.0 of the greeter on the node.
fn site_with_greeter() -> Site {
    let site = Site::new();
    site.install("orangery", 1);
    assert_eq!(site.property(COORDINATOR, "ActiveState"), "inactive", "there is nothing to serve yet");
    site.set_up_coordinator();
    let pid = site.process(COORDINATOR);
    assert_eq!(site.succeed(&["stat", "-c", "%U", &format!("/proc/{pid}")]).trim(), "orangery");

    site.install("orangery-agent", 1);
    assert_eq!(site.property(AGENT, "UnitFileState"), "enabled");
    assert_eq!(site.property(AGENT, "ActiveState"), "inactive", "it has not joined");
    site.join();
    site.fleet.publish("1.0.0", 200);
    site.fleet.deploy("greeter@1.0.0", "all");
    site.fleet.settled_on(NAME, "1.0.0");
    site.serves("1.0.0");
    site
}

#[test]
#[ignore = "needs root, systemd-nspawn, a Debian root file system and cargo-deb; run by `just test-packages`"]
fn an_upgrade_of_the_package_waits_for_the_deployment_and_then_restarts_the_agent() {
    let site = site_with_greeter();
    let before = site.process(AGENT);

    site.fleet.publish_with("1.1.0", "version = 1.1.0\nmessage = hello\nhealth_status = 200\n", site::GATED);
    site.fleet.deploy("greeter@1.1.0", "all");
    eventually("1.1.0 is on trial", || (site.fleet.greeter(NAME)?.phase == Phase::Probing).then_some(()));
    site.install("orangery-agent", 2);
    eventually("the package has looked whether it may restart the agent", || {
        let journal = site.machine.said(&["journalctl", "--unit=orangery-agent-restart.service", "--no-pager"]);
        journal.contains("a deployment is under way (probing)").then_some(())
    });
    assert_eq!(site.process(AGENT), before, "the agent was restarted in the middle of a deployment");
    assert_eq!(site.fleet.greeter(NAME).unwrap().phase, Phase::Probing);

    site.succeed(&["touch", "/var/gate"]);
    site.fleet.settled_on(NAME, "1.1.0");
    eventually("the agent runs its new program", || (site.process(AGENT) != before).then_some(()));
    eventually("it is the program of the package", || {
        let program = format!("/proc/{}/exe", site.process(AGENT));
        (site.machine.said(&["readlink", &program]).trim() == "/usr/bin/orangery-agent").then_some(())
    });
    site.serves("1.1.0");
    let started = |what: &What| matches!(what, What::PhaseChanged { phase: Phase::Activating, .. });
    let starts = site.fleet.events(NAME).iter().filter(|view| started(&view.event.what)).count();
    assert_eq!(starts, 2, "each of the two releases was started once");

    // Nothing is under way: the next one comes at once. An app does not notice.
    let (before, app) = (site.process(AGENT), site.process(APP));
    site.install("orangery-agent", 1);
    eventually("the agent runs the program of before", || (site.process(AGENT) != before).then_some(()));
    assert_eq!(site.process(APP), app);
}

#[test]
#[ignore = "needs root, systemd-nspawn, a Debian root file system and cargo-deb; run by `just test-packages`"]
fn a_coordinator_is_upgraded_under_its_nodes_and_state_is_purged_only_when_that_is_asked_for() {
    let site = site_with_greeter();
    let before = site.process(COORDINATOR);
    site.install("orangery", 2);
    assert_ne!(site.process(COORDINATOR), before);
    eventually("the node is back", || site.fleet.view(NAME)?.online.then_some(()));
    site.fleet.publish("1.1.0", 200);
    site.fleet.deploy("greeter@1.1.0", "all");
    site.fleet.settled_on(NAME, "1.1.0");

    // Taken off and put on again: the app goes on, and the agent knows who it is.
    let app = site.process(APP);
    let said = site.purge("orangery-agent", false);
    assert!(said.contains("/var/lib/orangery stays"), "{said}");
    assert!(!site.machine.has("/etc/orangery"), "settings are purged");
    assert_ne!(site.property(AGENT, "ActiveState"), "active");
    assert_eq!(site.process(APP), app);
    site.serves("1.1.0");
    site.install("orangery-agent", 1);
    eventually("the agent is back by itself", || site.fleet.view(NAME)?.online.then_some(()));
    assert_eq!(site.process(APP), app);

    site.purge("orangery-agent", true);
    for gone in ["/var/lib/orangery", "/etc/orangery", "/etc/systemd/system/orangery-greeter.service"] {
        assert!(!site.machine.has(gone), "{gone} is left");
    }
    assert_ne!(site.property(APP, "ActiveState"), "active");
    let said = site.purge("orangery", false);
    assert!(said.contains("/var/lib/orangery-coordinator stays"), "{said}");
    assert!(site.machine.has("/var/lib/orangery-coordinator/coordinator/ca.key"));
    site.install("orangery", 2);
    site.process(COORDINATOR);
    site.purge("orangery", true);
    assert!(!site.machine.has("/var/lib/orangery-coordinator"));
    let left = site.machine.said(&[
        "find",
        "/etc",
        "/usr",
        "/var/lib",
        "-path",
        "/var/lib/dpkg",
        "-prune",
        "-o",
        "-name",
        "*orangery*",
        "-print",
    ]);
    assert_eq!(left, "", "this is left");
}
