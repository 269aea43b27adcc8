//! How delegations are written down and where what they lead to is served (TUF 4.5, 5.7.3, 6.2).
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod common;

use common::tree::Tree;
use orangery_trust::limits::{DELEGATIONS_MAX, ROLE_NAME_BYTES_MAX};
use orangery_trust::role_file;
use serde_json::json;

#[test]
fn odd_names_are_quoted_in_addresses_and_harmless_as_files() {
    for (name, file) in [
        ("?", "%3F.json"),
        ("#", "%23.json"),
        ("/etc/passwd", "%2Fetc%2Fpasswd.json"),
        ("../role", "..%2Frole.json"),
        (".", "..json"),
        ("%2F", "%252F.json"),
        ("ä b", "%C3%A4%20b.json"),
    ] {
        assert_eq!(role_file(name), file);
        let mut tree = Tree::new();
        tree.delegate("targets", name, json!({ "paths": ["*"] })).add(name, "x").publish();
        let mut node = tree.client();
        assert_eq!(node.find(&tree, "x").unwrap().role.as_deref(), Some(name));
    }
}

#[test]
fn without_consistent_snapshots_names_have_no_prefix() {
    let mut tree = Tree::of(&["targets A"]);
    tree.consistent = false;
    let root =
        tree.repo.forged("1.root.json", &[&tree.repo.root], |signed| signed["consistent_snapshot"] = false.into());
    tree.repo.files.insert("1.root.json".to_owned(), root);
    tree.add("A", "d/x").add("A", "y").publish();
    let mut node = tree.client();
    assert_eq!(node.client.asked, ["2.root.json", "timestamp.json", "snapshot.json", "targets.json"]);
    assert_eq!(node.find(&tree, "y").unwrap().file, "y");
}

#[test]
fn with_consistent_snapshots_a_hash_stands_before_the_name() {
    let mut tree = Tree::new();
    tree.add("targets", "d/x").publish();
    let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let found = tree.client().find(&tree, "d/x").unwrap();
    assert_eq!(found.file, format!("d/{hash}.x"));
    assert!(found.target.is(b"abc") && !found.target.is(b"abd"));
}

#[test]
fn delegations_that_break_the_format_spoil_the_whole_file() {
    let entry = json!({ "name": "A", "keyids": [], "threshold": 1, "terminating": false, "paths": ["*"] });
    let with = |field: &str, value: serde_json::Value| {
        let mut entry = entry.clone();
        entry[field] = value;
        json!([entry])
    };
    for (roles, part) in [
        (json!([entry, entry]), "twice"),
        (with("threshold", json!(0)), "threshold 0"),
        (with("threshold", json!(-1)), "invalid value"),
        (with("name", json!("")), "0 bytes"),
        (with("name", json!("x".repeat(ROLE_NAME_BYTES_MAX + 1))), "65 bytes"),
        (with("path_hash_prefixes", json!(["0"])), "at once"),
        (with("terminating", json!(null)), "invalid type"),
        (with("paths", json!(["*".repeat(1_025)])), "longer than 1024 bytes"),
        (json!(vec![entry.clone(); DELEGATIONS_MAX + 1]), "at most 4096"),
    ] {
        let mut tree = Tree::new();
        tree.roles.get_mut("targets").unwrap()["delegations"]["roles"] = roles;
        tree.publish();
        let mut client = common::Client::of(&tree.repo);
        let refusal = client.refresh(&tree.repo).unwrap_err().to_string();
        assert!(refusal.contains(part), "{refusal}");
    }
}
