//! The drill: the coordinator's machine burns, and another takes its place from a backup. And the same without one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use orangery_tests::fleet::Fleet;
use orangery_tests::process::{eventually, fail, succeed};

/// Backs the coordinator up, and says where.
fn backup(fleet: &Fleet, name: &str, options: &[&str]) -> PathBuf {
    let out = fleet.path().join(name);
    succeed(fleet.orangery(&["backup", "--out"]).arg(&out).args(options));
    out
}

/// The machine burns: nothing is left of the coordinator but what is elsewhere.
fn burn(fleet: &mut Fleet) {
    fleet.coordinator().kill();
    fs::remove_dir_all(fleet.home().join("coordinator")).unwrap();
}

#[test]
fn after_a_restore_nodes_come_back_and_what_was_decided_since_is_not_undone() {
    let mut fleet = Fleet::start();
    let attic = fleet.node("attic");
    fleet.publish("1.0.0", 200);
    fleet.deploy("greeter@1.0.0", "attic");
    fleet.settled_on("attic", "1.0.0");
    let invited = fleet.token(&["--name", "garden"]);
    let kept = backup(&fleet, "kept.tar", &[]);
    assert_eq!(fs::metadata(&kept).unwrap().len() % 512, 0, "a tar archive");

    // Since the backup: other releases, published and deployed.
    for version in ["1.0.1", "1.0.2", "1.0.3", "1.1.0"] {
        fleet.publish(version, 200);
    }
    fleet.deploy("greeter@1.1.0", "attic");
    fleet.settled_on("attic", "1.1.0");
    let seen = fleet.events("attic").len();
    burn(&mut fleet);
    let said = succeed(fleet.orangery(&["restore"]).arg(&kept));
    assert!(said.contains("Invites do not hold any more"), "{said}");
    fleet.serve();
    eventually("attic is back", || fleet.view("attic")?.online.then_some(()));
    fleet.settled_on("attic", "1.1.0");
    eventually("the board still serves 1.1.0", || (attic.serves()? == "1.1.0").then_some(()));
    let refused = fail(fleet.board("garden").agent(&["join", &invited]).env("RUST_BACKTRACE", "0"));
    assert!(refused.contains("token"), "{refused}");

    // Nodes take what is published from now on, though they have seen newer metadata than the backup had.
    fleet.publish("1.2.0", 200);
    fleet.deploy("greeter@1.2.0", "attic");
    fleet.settled_on("attic", "1.2.0");
    assert!(fleet.events("attic").len() < seen + 20, "events that were stored before came again");
    let _garden = fleet.node("garden");
    fleet.deploy("greeter@1.0.0", "garden");
    fleet.settled_on("garden", "1.0.0");
}

#[test]
fn without_a_backup_of_the_database_the_fleet_is_known_again_by_the_proofs_of_its_nodes() {
    let mut fleet = Fleet::start();
    let _attic = fleet.node("attic");
    fleet.publish("1.0.0", 200);
    fleet.deploy("greeter@1.0.0", "attic");
    fleet.settled_on("attic", "1.0.0");
    fleet.coordinator().kill();
    for name in ["coordinator.db", "coordinator.db-wal", "coordinator.db-shm"] {
        let _ = fs::remove_file(fleet.home().join("coordinator/state").join(name));
    }
    fleet.serve();
    fleet.settled_on("attic", "1.0.0");
    let view = fleet.view("attic").unwrap();
    assert!(view.online && view.desired.len() == 1, "{view:?}");
}

#[test]
fn a_backup_that_is_made_while_nodes_report_is_whole() {
    let mut fleet = Fleet::start();
    let nodes: Vec<_> = (0..3).map(|n| fleet.node(&format!("n{n}"))).collect();
    let settled = |fleet: &Fleet| {
        for node in &nodes {
            fleet.settled_on(&node.name, "1.3.0");
        }
    };
    for version in ["1.0.0", "1.1.0", "1.2.0", "1.3.0"] {
        fleet.publish(version, 200);
        fleet.deploy(&format!("greeter@{version}"), "all");
        // In the middle of it.
        backup(&fleet, &format!("{version}.tar"), &[]);
    }
    settled(&fleet);
    burn(&mut fleet);
    for version in ["1.0.0", "1.1.0", "1.2.0", "1.3.0"] {
        succeed(fleet.orangery(&["restore"]).arg(fleet.path().join(format!("{version}.tar"))));
        fleet.serve();
        settled(&fleet);
        burn(&mut fleet);
    }
}

/// Changes one byte, or cuts the file.
fn spoilt(whole: &Path, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let mut bytes = Vec::new();
    fs::File::open(whole).unwrap().read_to_end(&mut bytes).unwrap();
    change(&mut bytes);
    let path = whole.with_file_name(name);
    fs::File::create(&path).unwrap().write_all(&bytes).unwrap();
    path
}

#[test]
fn what_is_not_a_whole_backup_is_refused_and_nothing_is_overwritten() {
    let mut fleet = Fleet::start();
    fleet.publish("1.0.0", 200);
    let kept = backup(&fleet, "kept.tar", &[]);
    let again = fail(fleet.orangery(&["backup", "--out"]).arg(&kept));
    assert!(again.contains("never overwritten"), "{again}");
    let inside = fail(fleet.orangery(&["backup", "--out"]).arg(fleet.home().join("coordinator/b.tar")));
    assert!(inside.contains("outside"), "{inside}");
    let link = fleet.home().join("coordinator/link");
    std::os::unix::fs::symlink("ca.pem", &link).unwrap();
    let linked = fail(fleet.orangery(&["backup", "--out"]).arg(fleet.path().join("linked.tar")));
    assert!(linked.contains("no plain file"), "{linked}");
    fs::remove_file(link).unwrap();
    let over = fail(fleet.orangery(&["restore"]).arg(&kept));
    assert!(over.contains("nothing is restored over a coordinator"), "{over}");
    burn(&mut fleet);

    let settings = fs::read(&kept).unwrap().windows(9).position(|bytes| bytes == b"state_dir").unwrap();
    for (name, bad, reason) in [
        (
            "flipped",
            spoilt(&kept, "flipped.tar", |bytes| bytes[settings] = b'S'),
            "coordinator.toml is not as it was written",
        ),
        (
            "short",
            spoilt(&kept, "short.tar", |bytes| bytes.truncate(bytes.len() / 2 / 512 * 512)),
            "not a whole backup",
        ),
        ("endless", spoilt(&kept, "endless.tar", |bytes| bytes.truncate(bytes.len() - 10 * 512)), "not a whole backup"),
        ("empty", spoilt(&kept, "empty.tar", Vec::clear), "it is empty"),
        ("text", spoilt(&kept, "text.tar", |bytes| *bytes = b"hello".repeat(200)), "not a whole backup"),
    ] {
        let said = fail(fleet.orangery(&["restore"]).arg(bad));
        assert!(said.contains(reason), "{name}: {said}");
        let left: Vec<_> = fs::read_dir(fleet.home()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(!left.iter().any(|name| name.to_string_lossy().contains("coordinator")), "{name}: {left:?}");
    }
    succeed(fleet.orangery(&["restore", "--json"]).arg(&kept));
    fleet.serve();
}

#[test]
fn artifacts_may_be_left_out_and_pushed_again() {
    let mut fleet = Fleet::start();
    let tree = fleet.greeter_tree("1.0.0", "version = 1.0.0\nmessage = hello\nhealth_status = 200\n");
    let file = fleet.path().join("greeter-1.0.0.orangery");
    let mut build = fleet.release("build", "greeter", "1.0.0", &tree, orangery_tests::fleet::GREETER);
    succeed(build.arg("--out").arg(&file));
    succeed(fleet.orangery(&["release", "sign"]).arg(&file));
    succeed(fleet.orangery(&["release", "push"]).arg(&file));
    let (small, large) = (backup(&fleet, "small.tar", &["--without-artifacts"]), backup(&fleet, "large.tar", &[]));
    assert!(fs::metadata(small).unwrap().len() < fs::metadata(large).unwrap().len());
    burn(&mut fleet);
    succeed(fleet.orangery(&["restore"]).arg(fleet.path().join("small.tar")));
    fleet.serve();
    succeed(fleet.orangery(&["release", "push"]).arg(&file));
    let _attic = fleet.node("attic");
    fleet.deploy("greeter@1.0.0", "attic");
    fleet.settled_on("attic", "1.0.0");
}

/// Puts another text in the place of one that must be there.
fn change(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{} has no {from}", path.display());
    fs::write(path, text.replace(from, to)).unwrap();
}

/// The commands of docs/operating/coordinator-machine.md, with loopback's second address for the new machine.
#[test]
fn a_coordinator_moves_to_another_address_and_its_nodes_come_along_without_joining_again() {
    let mut fleet = Fleet::start();
    let mut attic = fleet.node("attic");
    fleet.publish("1.0.0", 200);
    fleet.deploy("greeter@1.0.0", "attic");
    fleet.settled_on("attic", "1.0.0");
    fleet.coordinator().stop();
    let kept = backup(&fleet, "moved.tar", &[]);
    burn(&mut fleet);
    succeed(fleet.orangery(&["restore"]).arg(&kept));
    let certificate = fleet.home().join("coordinator/server.pem");
    let before = fs::read_to_string(&certificate).unwrap();
    change(&fleet.home().join("coordinator/coordinator.toml"), "127.0.0.1", "127.0.0.2");
    change(&fleet.home().join("client.toml"), "127.0.0.1", "127.0.0.2");
    fleet.serve();
    let after = fs::read_to_string(&certificate).unwrap();
    assert_ne!(after, before, "it is for the new address, too");
    assert!(!fleet.view("attic").unwrap().online);
    attic.stop();
    change(&attic.state().join("identity/coordinator.json"), "127.0.0.1", "127.0.0.2");
    attic.start();
    eventually("attic is back", || fleet.view("attic")?.online.then_some(()));
    fleet.publish("1.1.0", 200);
    fleet.deploy("greeter@1.1.0", "attic");
    fleet.settled_on("attic", "1.1.0");
    // The next start finds nothing to do, and a renewed one has the old names as well.
    fleet.coordinator().stop();
    fleet.serve();
    assert_eq!(fs::read_to_string(&certificate).unwrap(), after);
    assert!(fleet.coordinator().log().contains("the servers' certificate is for these addresses as well"));
}
