//! The same release by every road, and what is refused on each of them: real processes, a real web server, real files.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};

use orangery_tests::fleet::{Fleet, GREETER, Node};
use orangery_tests::process::{eventually, fail, output, succeed};
use orangery_tests::site::Site;
use orangery_tests::small_disk::SmallDisk;
use orangery_wire::messages::RefusalCode::{
    self, Incompatible, Replayed, Revoked, Unverified, WrongDigest, WrongManifest,
};
use orangery_wire::messages::What;

fn site(fleet: &Fleet, directory: &Path) -> Site {
    Site::start(directory, &fleet.home().join("coordinator/ca.pem"), fleet.path().join("site.pem"))
}

fn export(fleet: &Fleet, name: &str) -> PathBuf {
    let directory = fleet.path().join(name);
    succeed(fleet.orangery(&["repo", "export"]).arg(&directory));
    directory
}

fn bundle(fleet: &Fleet, release: &str) -> PathBuf {
    let file = fleet.path().join(format!("{release}.bundle"));
    succeed(fleet.orangery(&["bundle", release, "--out"]).arg(&file));
    file
}

/// `orangery-agent install` must succeed.
fn installs(node: &Node, words: &[&str], source: &Path) {
    listens(node);
    let text = succeed(node.agent(&["install"]).args(words).arg(source));
    assert!(text.contains("is current"), "{text}");
}

/// `orangery-agent install` must end with this exit code; gives what it said.
fn install_fails(node: &Node, words: &[&str], source: &Path, exit: i32) -> String {
    let ended = output(node.agent(&["install"]).args(words).arg(source));
    let text = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(exit), "{text}");
    text
}

/// The agent takes requests.
fn listens(node: &Node) {
    let running = || succeed(&mut node.agent(&["status", "--json"])).contains("\"running\": true");
    eventually(&format!("the agent of {} listens", node.name), || running().then_some(()));
}

fn serves(node: &Node, version: &str) {
    eventually(&format!("{} serves {version}", node.name), || (node.serves()? == version).then_some(()));
    node.check();
}

#[test]
fn the_same_release_arrives_by_every_road() {
    let mut fleet = Fleet::start();
    fleet.publish("1.0.0", 200);
    let copy = export(&fleet, "copy");
    let stick = bundle(&fleet, "greeter@1.0.0");
    let site = site(&fleet, &copy);
    let mirrored = format!("[repository]\nurl = \"{}\"\nca_file = \"{}\"\n", site.url, site.ca_file.display());
    let nodes = ["network", "web", "file", "directory"].map(|name| fleet.node(name));
    let mut mirror = fleet.joined("mirror", &mirrored);
    mirror.start();
    for name in ["network", "mirror"] {
        fleet.deploy("greeter@1.0.0", name);
        fleet.settled_on(name, "1.0.0");
    }
    assert!(site.asked().iter().any(|asked| asked.path.starts_with("/fleet/blobs/")), "the mirror was asked");
    let before = site.asked().len();
    // From here on there is no coordinator.
    fleet.coordinator().kill();
    let [_, web, file, directory] = &nodes;
    let ca_file = site.ca_file.display().to_string();
    let address = PathBuf::from(&site.url);
    installs(web, &["greeter@1.0.0", "--ca-file", &ca_file, "--from"], &address);
    assert!(site.asked().len() > before, "the web server was asked");
    installs(file, &[], &stick);
    installs(directory, &[], &copy);
    for node in nodes.iter().chain([&mirror]) {
        serves(node, "1.0.0");
    }
    assert!(site.asked().iter().all(|asked| !asked.showed_certificate), "strangers are shown nothing");
    // What runs already is not started again.
    installs(file, &[], &copy);
    // It is known where each got it from once there is a coordinator.
    fleet.serve();
    let reported = ["web", "file", "directory"].map(|name| fleet.settled_on(name, "1.0.0").current);
    assert!(reported.iter().all(|current| *current == reported[0]), "{reported:?}");
}

#[test]
fn an_export_is_repeatable_and_a_part_of_it_may_be_chosen() {
    let fleet = Fleet::start();
    let nothing = fail(&mut fleet.orangery(&["bundle", "greeter@1.0.0", "--out", "/nonexistent/x"]));
    assert!(nothing.contains("nothing was published"), "{nothing}");
    for version in ["1.0.0", "1.1.0"] {
        fleet.publish(version, 200);
    }
    let part = fleet.path().join("part");
    succeed(fleet.orangery(&["repo", "export"]).arg(&part).arg("greeter@1.1.0"));
    assert!(part.join("targets/greeter/1.1.0").is_dir() && !part.join("targets/greeter/1.0.0").exists());
    let again = succeed(fleet.orangery(&["repo", "export"]).arg(&part));
    assert!(again.contains("2 releases") && part.join("targets/greeter/1.0.0").is_dir(), "{again}");
    let same = succeed(fleet.orangery(&["repo", "export"]).arg(&part));
    assert!(same.contains(" 0 files written"), "{same}");
    let unknown = fail(&mut fleet.orangery(&["bundle", "greeter@9.0.0", "--out", "/nonexistent/x"]));
    assert!(unknown.contains("not among the signed releases"), "{unknown}");
    // Unpacked by tar, a bundle is such a directory.
    let file = bundle(&fleet, "greeter@1.0.0");
    let unpacked = fleet.path().join("unpacked");
    std::fs::create_dir(&unpacked).unwrap();
    succeed(std::process::Command::new("tar").arg("-xf").arg(&file).arg("-C").arg(&unpacked));
    let node = fleet.node("attic");
    installs(&node, &[], &unpacked);
    serves(&node, "1.0.0");
    let several = install_fails(&node, &[], &part, 1);
    assert!(several.contains("greeter@1.0.0, greeter@1.1.0"), "{several}");
}

#[test]
fn what_a_stick_must_not_bring_is_refused_and_reported_while_the_app_runs_on() {
    let mut fleet = Fleet::start();
    let node = fleet.node("attic");
    listens(&node);
    fleet.publish("1.0.0", 200);
    let old = bundle(&fleet, "greeter@1.0.0");
    fleet.publish("1.1.0", 200);
    fleet.publish("1.2.0", 500);
    let elsewhere = format!("[constraints.labels]\nsite = \"cellar\"\n{GREETER}");
    fleet.publish_with("1.3.0", "version = 1.3.0\nmessage = hello\nhealth_status = 200\n", &elsewhere);
    let new = export(&fleet, "new");
    installs(&node, &["greeter@1.1.0", "--from"], &new);
    serves(&node, "1.1.0");
    let before = std::fs::read_to_string(node.state().join("apps/greeter/run.json")).unwrap();
    fleet.coordinator().kill();

    let text = install_fails(&node, &[], &old, 11);
    assert!(text.contains("older than the trusted"), "{text}");
    install_fails(&node, &["greeter@1.3.0", "--from"], &new, 1);
    let text = install_fails(&node, &["other@1.0.0", "--from"], &new, 11);
    assert!(text.contains("[revoked]"), "{text}");
    let text = install_fails(&node, &["greeter@1.0.0", "--from"], &fleet.path().join("absent"), 1);
    assert!(text.contains("is the stick mounted"), "{text}");
    for (name, at, code) in [
        ("pack", "blobs", WrongDigest),
        ("timestamp", "metadata/timestamp.json", Unverified),
        ("manifest", "targets/greeter/1.0.0", WrongManifest),
    ] {
        let bad = tampered(&fleet, &new, name, at);
        let text = install_fails(&node, &["greeter@1.0.0", "--from"], &bad, 11);
        assert!(text.contains(&format!("[{code}]")), "{name}: {text}");
    }
    let cut = fleet.path().join("cut");
    let bytes = std::fs::read(&old).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    install_fails(&node, &[], &cut, 11);
    let after = std::fs::read_to_string(node.state().join("apps/greeter/run.json")).unwrap();
    assert_eq!(before, after, "the same process runs");

    // One that is signed and does not hold is tried and goes back.
    install_fails(&node, &["greeter@1.2.0", "--from"], &new, 110);
    serves(&node, "1.1.0");

    fleet.serve();
    eventually("all refusals are reported", || {
        let mut refusals: Vec<RefusalCode> = Vec::new();
        for view in fleet.events("attic") {
            if let What::NotInstalled { refusal: Some(code), .. } = view.event.what {
                refusals.push(code);
            }
        }
        (refusals == [Replayed, Incompatible, Revoked, WrongDigest, Unverified, WrongManifest]).then_some(())
    });
    assert_eq!(fleet.refusals("attic").last().map(|refusal| refusal.code), Some(RefusalCode::Unhealthy));
}

/// A copy of an exported repository in which every file at or below `at` has another first byte.
fn tampered(fleet: &Fleet, export: &Path, name: &str, at: &str) -> PathBuf {
    let bad = fleet.path().join(format!("tampered-{name}"));
    succeed(std::process::Command::new("cp").arg("-r").arg(export).arg(&bad));
    let place = bad.join(at);
    let files = if place.is_dir() {
        std::fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().path()).collect()
    } else {
        vec![place]
    };
    for file in files {
        let mut bytes = std::fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&file, bytes).unwrap();
    }
    bad
}

#[test]
fn a_stick_helps_neither_a_node_without_trust_or_space_nor_one_for_which_it_has_expired() {
    let fleet = Fleet::start();
    fleet.publish("1.0.0", 200);
    let stick = bundle(&fleet, "greeter@1.0.0");

    let stranger = fleet.board("stranger");
    let text = install_fails(&stranger, &[], &stick, 11);
    assert!(text.contains("no trust root") && text.contains("join"), "{text}");

    let resting = fleet.joined("resting", "");
    let text = install_fails(&resting, &[], &stick, 1);
    assert!(text.contains("no agent runs"), "{text}");

    let mut full = fleet.joined("full", "");
    if let Some(_mounted) = SmallDisk::under(&full, "5m") {
        full.start();
        listens(&full);
        let text = install_fails(&full, &[], &stick, 60);
        assert!(text.contains("short by"), "{text}");
        full.stop();
    }

    // A node that knows that it is half a year later.
    let mut late = fleet.joined("late", "");
    let floor = orangery::output::now() + 180 * 86_400;
    let text = format!("{{\"format\": 1, \"generation\": 0, \"time_floor\": {floor}, \"starts\": 1}}");
    std::fs::write(late.state().join("node.json"), text).unwrap();
    late.start();
    listens(&late);
    let text = install_fails(&late, &[], &stick, 12);
    assert!(text.contains("[expired]"), "{text}");
}

#[test]
fn what_the_owner_takes_back_runs_on_and_is_told_and_comes_nowhere_else() {
    let fleet = Fleet::start();
    let mut node = fleet.joined("attic", "[repository]\nrefresh_secs = 1\n");
    node.start();
    let other = fleet.node("garage");
    listens(&other);
    for version in ["1.0.0", "1.1.0"] {
        fleet.publish(version, 200);
        fleet.deploy(&format!("greeter@{version}"), "attic");
        fleet.settled_on("attic", version);
    }
    let stick = bundle(&fleet, "greeter@1.1.0");
    succeed(&mut fleet.orangery(&["release", "revoke", "greeter@1.1.0"]));
    eventually("the node says that its release was revoked", || fleet.greeter("attic")?.revoked.then_some(()));
    serves(&node, "1.1.0");
    let why = succeed(&mut fleet.orangery(&["why", "attic"]));
    assert!(why.contains("revoked greeter 1.1.0"), "{why}");
    for text in [
        succeed(&mut fleet.orangery(&["status"])),
        succeed(&mut fleet.orangery(&["node", "show", "attic"])),
        succeed(&mut node.agent(&["status"])),
    ] {
        assert!(text.to_lowercase().contains("revoked by the owner"), "{text}");
    }
    eventually("it is an event", || fleet.codes("attic").contains(&"release_revoked").then_some(()));
    // The node has seen newer metadata than the stick has.
    install_fails(&node, &[], &stick, 11);
    let text = install_fails(&other, &["greeter@1.1.0", "--from"], &export(&fleet, "copy"), 11);
    assert!(text.contains("[revoked]"), "{text}");
}

#[test]
fn below_the_owners_floor_nothing_is_installed_and_nothing_goes_back() {
    let fleet = Fleet::start();
    let mut node = fleet.joined("attic", "[repository]\nrefresh_secs = 1\n");
    node.start();
    for version in ["1.0.0", "1.1.0"] {
        fleet.publish(version, 200);
        fleet.deploy(&format!("greeter@{version}"), "attic");
        fleet.settled_on("attic", version);
    }
    let targets = fleet.view("attic").unwrap().reported.unwrap().trust.targets;
    let tree = fleet.greeter_tree("1.2.0", "version = 1.2.0\nmessage = hello\nhealth_status = 200\n");
    succeed(fleet.release("publish", "greeter", "1.2.0", &tree, GREETER).args(["--floor", "1.1.0"]));
    eventually("the node has heard of it", || (fleet.view("attic")?.reported?.trust.targets > targets).then_some(()));
    let text = eventually("the way back is closed", || {
        let ended = output(&mut node.agent(&["rollback", "greeter"]));
        (!ended.status.success()).then(|| String::from_utf8_lossy(&ended.stderr).into_owned())
    });
    assert!(text.contains("[below_floor]"), "{text}");
    let text = install_fails(&node, &["greeter@1.0.0", "--from"], &export(&fleet, "copy"), 11);
    assert!(text.contains("[below_floor]"), "{text}");
    serves(&node, "1.1.0");
    let text = fail(&mut fleet.orangery(&["deploy", "greeter@1.0.0", "--to", "attic", "--yes"]));
    assert!(text.contains("[below_floor]"), "{text}");
}

#[test]
fn an_agent_that_is_killed_while_it_reads_a_stick_runs_on_and_takes_it_the_next_time() {
    let mut fleet = Fleet::start();
    let mut node = fleet.node("attic");
    fleet.publish("1.0.0", 200);
    installs(&node, &[], &bundle(&fleet, "greeter@1.0.0"));
    // Large enough to be in the middle of it, and no packer makes it smaller.
    let tree = fleet.greeter_tree("1.1.0", "version = 1.1.0\nmessage = hello\nhealth_status = 200\n");
    let mut state = 1_u64;
    let next = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    });
    std::fs::write(tree.join("pad"), next.take(30_000_000).collect::<Vec<u8>>()).unwrap();
    succeed(&mut fleet.release("publish", "greeter", "1.1.0", &tree, GREETER));
    let stick = bundle(&fleet, "greeter@1.1.0");
    fleet.coordinator().kill();
    let mut asking = node.agent(&["install"]);
    let mut asking = asking.arg(&stick).stderr(std::process::Stdio::null()).spawn().unwrap();
    let parts = node.state().join("parts");
    eventually("it is being read", || std::fs::read_dir(&parts).unwrap().next().map(|_| ()));
    node.cut_power();
    assert!(!asking.wait().unwrap().success());
    node.check();
    node.start();
    serves(&node, "1.0.0");
    installs(&node, &[], &stick);
    serves(&node, "1.1.0");
}
