//! Users and the audit log with real processes: the commands of their pages, run as they stand there, and what is left of both
//! after a restore.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;
use std::process::Command;

use orangery_tests::fleet::Fleet;
use orangery_tests::process::{eventually, fail, output, program, succeed};
use orangery_wire::rest::{AuditEntry, UserView};

fn page(name: &str) -> String {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operating")).join(name);
    fs::read_to_string(path).unwrap()
}

/// A block of a page, by how it begins.
fn block(name: &str, head: &str) -> String {
    let page = page(name);
    let (_, script) = page.split_once(head).unwrap_or_else(|| panic!("{name} has no {head:?}"));
    script.split_once("```").unwrap().0.to_owned()
}

/// Runs a script in an empty directory as the owner.
fn run(fleet: &Fleet, place: &str, script: &str) -> String {
    let place = fleet.path().join(place);
    fs::create_dir_all(&place).unwrap();
    let orangery = program("orangery");
    let path = format!("{}:{}", orangery.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    shell.args(["-eu", "-c", script]).current_dir(place).env("PATH", path).env("ORANGERY_DIR", fleet.home());
    succeed(&mut shell)
}

/// `orangery` as somebody with a directory of their own.
fn by(home: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(program("orangery"));
    command.arg("--dir").arg(home).args(words).env("NO_COLOR", "1");
    command
}

fn users(fleet: &Fleet) -> Vec<UserView> {
    serde_json::from_str(&succeed(&mut fleet.orangery(&["user", "list", "--json"]))).unwrap()
}

fn audit(fleet: &Fleet, options: &[&str]) -> Vec<AuditEntry> {
    let said = succeed(fleet.orangery(&["audit", "--json"]).args(options));
    said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_commands_of_the_page_on_users_do_what_it_says() {
    let mut fleet = Fleet::start();
    let commands = block("users.md", "```sh\n");
    let (before, after) = commands.split_once("orangery user revoke").unwrap();
    let printed = run(&fleet, "first", before);
    assert!(printed.contains("\norangery_") && printed.contains("kim"), "{printed}");
    let kim = users(&fleet).into_iter().find(|user| user.name.as_str() == "kim").unwrap();
    assert_eq!(kim.role.as_str(), "viewer");
    run(&fleet, "first", &format!("orangery user revoke{}", after.replace("TOKEN-ID", &kim.tokens[0].id)));
    assert_eq!(users(&fleet).len(), 1, "the owner alone is left");

    run(&fleet, "second", &block("users.md", "```sh adduser\n"));
    let theirs = fleet.path().join("second/kim");
    let _attic = fleet.node("attic");
    fleet.publish("1.0.0", 200);
    let told = output(&mut by(&theirs, &["deploy", "greeter@1.0.0", "--to", "all", "--yes", "--detach"]));
    assert!(matches!(told.status.code(), Some(0 | 2)), "{}", String::from_utf8_lossy(&told.stderr));
    succeed(&mut by(&theirs, &["node", "hold", "attic", "--reason", "as it is"]));
    let refused = fail(&mut by(&theirs, &["node", "revoke", "attic"]));
    assert!(refused.contains("this is for the role admin, and kim has the role operator"), "{refused}");
    let refused = fail(&mut by(&theirs, &["audit"]));
    assert!(refused.contains("forbidden"), "{refused}");
    fleet.settled_on("attic", "1.0.0");
    let why = succeed(&mut fleet.orangery(&["why", "attic"]));
    assert!(why.contains("held by kim"), "{why}");

    let deeds: Vec<String> = audit(&fleet, &["--who", "kim"]).into_iter().map(|entry| entry.deed).collect();
    // The refused one too, though the engine has never heard of it.
    assert_eq!(deeds, ["deploy", "node.hold", "request"]);
    eventually("attic's proof is written down", || (audit(&fleet, &["--who", "node:attic"]).len() == 1).then_some(()));
    // Over a restart tokens, roles and the chain are the same.
    fleet.coordinator().stop();
    fleet.serve();
    succeed(&mut by(&theirs, &["status"]));
    let said = succeed(&mut fleet.orangery(&["audit", "verify"]));
    assert!(said.contains("is whole"), "{said}");
}

#[test]
fn a_restore_brings_the_audit_log_back_and_no_token_but_the_owners() {
    let mut fleet = Fleet::start();
    run(&fleet, "place", &block("users.md", "```sh adduser\n"));
    let theirs = fleet.path().join("place/kim");
    succeed(&mut by(&theirs, &["status"]));
    let password = fleet.path().join("password");
    fs::write(&password, "a quiet tram\n").unwrap();
    succeed(fleet.orangery(&["user", "password", "kim", "--file"]).arg(&password));
    assert_eq!(users(&fleet).iter().filter(|user| user.password_at.is_some()).count(), 1);
    let count = audit(&fleet, &["--since", "1d"]).len();
    let kept = fleet.path().join("kept.tar");
    succeed(fleet.orangery(&["backup", "--out"]).arg(&kept));
    succeed(&mut fleet.orangery(&["user", "remove", "kim"]));
    let end = succeed(&mut fleet.orangery(&["audit", "verify"])).lines().last().unwrap().to_owned();
    fleet.coordinator().kill();
    fs::remove_dir_all(fleet.home().join("coordinator")).unwrap();
    let said = succeed(fleet.orangery(&["restore"]).arg(&kept));
    assert!(said.contains("nor do passwords and tokens of users but the owner's token"), "{said}");
    fleet.serve();
    // The removal is undone, and the token and password that it ended do not come back with it.
    assert_eq!(users(&fleet).len(), 2);
    assert!(users(&fleet).iter().all(|user| user.password_at.is_none()));
    let refused = fail(&mut by(&theirs, &["status"]));
    assert!(refused.contains("token_wrong"), "{refused}");
    let entries = audit(&fleet, &["--since", "1d"]);
    assert_eq!((entries.len(), entries.last().unwrap().deed.as_str()), (count + 1, "coordinator.restore"));
    let said = succeed(&mut fleet.orangery(&["audit", "verify"]));
    assert!(said.contains("is whole"), "{said}");
    // What was noted after the backup is missing, and that is said.
    let answer = output(&mut fleet.orangery(&["audit", "verify", "--noted", &end]));
    assert_eq!(answer.status.code(), Some(1), "{}", String::from_utf8_lossy(&answer.stdout));
}
