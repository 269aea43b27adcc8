//! The search through delegated roles (TUF 4.5, 5.6.7), with real signatures: who is asked, in which order, by whose keys,
//! and where it ends.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod common;

use common::tree::{PublicValue, Tree};
use common::{DAY, NOW, describe, key, sign};
use orangery_trust::limits::{DELEGATED_BYTES_MAX, ROLES_PER_SEARCH_MAX};
use orangery_trust::{Refusal, Role, Search};
use serde_json::json;

/// The refusal of a delegated role, without the role.
fn of_role(name: &str, outcome: Result<impl std::fmt::Debug, Refusal>) -> Refusal {
    match outcome {
        Err(Refusal::Delegated { name: of, refusal }) if of == name => *refusal,
        other => panic!("{name} must be refused, not {other:?}"),
    }
}

fn unknown(path: &str) -> Refusal {
    Refusal::UnknownTarget { path: path.to_owned(), delegated: false }
}

/// Nobody has the path: who is asked for it, in which order?
fn check_order(tree: &mut Tree, path: &str, order: &[&str]) {
    tree.publish();
    let mut node = tree.client();
    assert_eq!(node.find(tree, path), Err(unknown(path)));
    assert_eq!(node.asked, order);
    // What is kept is used, and leads to the same end.
    assert_eq!(node.find(tree, path), Err(unknown(path)));
    assert_eq!(node.asked, [""; 0]);
}

#[test]
fn roles_are_asked_in_pre_order_and_in_order_of_appearance() {
    check_order(&mut Tree::of(&[]), "x", &[]);
    check_order(&mut Tree::of(&["targets A", "targets B"]), "x", &["A", "B"]);
    check_order(&mut Tree::of(&["targets B", "targets A"]), "x", &["B", "A"]);
    check_order(&mut Tree::of(&["targets A", "targets B", "A C", "A D"]), "x", &["A", "C", "D", "B"]);
    check_order(&mut Tree::of(&["targets A", "targets B", "A C", "C D"]), "x", &["A", "C", "D", "B"]);
}

#[test]
fn cycles_and_meeting_ways_are_gone_once() {
    let cycle = ["targets A", "targets B", "B C", "C D", "D B", "D D", "C targets"];
    let mut tree = Tree::new();
    for edge in cycle {
        let (from, to) = edge.split_once(' ').unwrap();
        // All ways to a role name the same key.
        match tree.signers.get(to).map(|signers| signers[0].public_value()) {
            Some(known) => tree.delegate_to(from, to, json!({ "paths": ["*"] }), &known),
            None if to == "targets" => {
                let known = tree.repo.targets.public_value();
                tree.delegate_to(from, to, json!({ "paths": ["*"] }), &known);
            }
            None => drop(tree.delegate(from, to, json!({ "paths": ["*"] }))),
        }
    }
    check_order(&mut tree, "x", &["A", "B", "C", "D"]);
}

#[test]
fn a_terminating_delegation_ends_the_search_after_its_descendants() {
    let all = json!({ "paths": ["*"] });
    let last = json!({ "paths": ["*"], "terminating": true });
    let mut tree = Tree::new();
    tree.delegate("targets", "A", all.clone()).delegate("targets", "B", all.clone());
    tree.delegate("A", "C", last).delegate("A", "D", all.clone()).delegate("C", "E", all);
    check_order(&mut tree, "x", &["A", "C", "E"]);
    tree.add("B", "x").add("D", "x").publish();
    assert_eq!(tree.client().find(&tree, "x"), Err(unknown("x")));
    tree.add("E", "x").publish();
    assert_eq!(tree.client().find(&tree, "x").unwrap().role.as_deref(), Some("E"));
}

#[test]
fn a_terminating_delegation_of_other_paths_ends_nothing() {
    let mut tree = Tree::new();
    tree.delegate("targets", "A", json!({ "paths": ["a/*"], "terminating": true }));
    tree.delegate("targets", "B", json!({ "paths": ["*", "*/*"] }));
    check_order(&mut tree, "b/x", &["B"]);
    check_order(&mut tree, "a/x", &["A"]);
}

#[test]
fn the_first_in_rank_answers() {
    let mut tree = Tree::of(&["targets A", "targets B", "A C"]);
    tree.add("B", "x").publish();
    let mut node = tree.client();
    assert_eq!(node.find(&tree, "x").unwrap().role.as_deref(), Some("B"));
    tree.add("C", "x").publish();
    node.refresh(&tree).unwrap();
    assert_eq!(node.find(&tree, "x").unwrap().role.as_deref(), Some("C"));
    tree.add("targets", "x").publish();
    node.refresh(&tree).unwrap();
    assert_eq!(node.find(&tree, "x").unwrap().role, None);
    assert_eq!(node.asked, [""; 0], "the top is asked before anybody else");
}

#[test]
fn a_path_must_be_left_to_every_role_on_the_way() {
    let mut tree = Tree::new();
    tree.delegate("targets", "B", json!({ "paths": ["releases/*/*"] }));
    tree.delegate("B", "C", json!({ "paths": ["releases/x/*", "other/*"] }));
    for path in ["releases/x/1", "releases/y/1", "other/1", "releases/x/1/2"] {
        tree.add("C", path);
    }
    tree.publish();
    let mut node = tree.client();
    assert_eq!(node.find(&tree, "releases/x/1").unwrap().role.as_deref(), Some("C"));
    assert_eq!(node.find(&tree, "releases/y/1"), Err(unknown("releases/y/1")));
    assert_eq!(node.asked, [""; 0], "C is not even looked at");
    assert_eq!(node.find(&tree, "other/1"), Err(unknown("other/1")));
    assert_eq!(node.find(&tree, "releases/x/1/2"), Err(unknown("releases/x/1/2")));
}

#[test]
fn hash_prefixes_choose_the_bin_of_a_path() {
    // `printf a | sha256sum`: ca978112...; of b: 3e23e816...
    let mut tree = Tree::new();
    tree.delegate("targets", "low", json!({ "path_hash_prefixes": ["0", "1", "2", "3e23"] }));
    tree.delegate("targets", "high", json!({ "path_hash_prefixes": ["ca9", "CA"] }));
    tree.delegate("targets", "none", json!({ "path_hash_prefixes": [] }));
    tree.delegate("targets", "nothing", json!({}));
    check_order(&mut tree, "a", &["high"]);
    check_order(&mut tree, "b", &["low"]);
    check_order(&mut tree, "c", &["low"]);
    check_order(&mut tree, "d", &["low"]);
    check_order(&mut tree, "e", &[]);
}

#[test]
fn a_kept_role_is_verified_against_the_delegator_of_this_very_search() {
    let mut tree = Tree::new();
    tree.delegate("targets", "parent-a", json!({ "paths": ["a/*"] }));
    tree.delegate("targets", "parent-b", json!({ "paths": ["b/*"] }));
    tree.delegate("parent-a", "release", json!({ "paths": ["a/*"] }));
    tree.delegate("parent-b", "release", json!({ "paths": ["b/*"] }));
    // Each parent named another key; only the first one's holder signs.
    tree.signers.get_mut("release").unwrap().truncate(1);
    tree.add("release", "a/x").add("release", "b/x").publish();
    let mut node = tree.client();
    assert_eq!(node.find(&tree, "a/x").unwrap().role.as_deref(), Some("release"));
    let refusal = of_role("release", node.find(&tree, "b/x"));
    assert_eq!(refusal, Refusal::Unsigned { role: Role::Targets, valid: 0, threshold: 1 });
    assert_eq!(node.find(&tree, "a/x").unwrap().role.as_deref(), Some("release"));
}

#[test]
fn keys_that_a_delegator_takes_back_count_no_more() {
    let mut tree = Tree::of(&["targets A"]);
    tree.add("A", "x").publish();
    let mut node = tree.client();
    node.find(&tree, "x").unwrap();
    // The top names another key; the role's metadata stays as it is, version and all.
    let mut meta = tree.meta();
    let kept = tree.repo.files[&tree.file("A")].clone();
    let (id, listed) = key().public_value();
    let delegations = &mut tree.roles.get_mut("targets").unwrap()["delegations"];
    delegations["keys"] = json!({ id.clone(): listed });
    delegations["roles"][0]["keyids"] = json!([id]);
    tree.publish();
    tree.repo.files.insert("1.A.json".to_owned(), kept);
    meta["targets.json"] = tree.meta()["targets.json"].clone();
    tree.publish_snapshot(meta);
    node.refresh(&tree).unwrap();
    let refusal = of_role("A", node.find(&tree, "x"));
    assert_eq!(refusal, Refusal::Unsigned { role: Role::Targets, valid: 0, threshold: 1 });
    assert_eq!(node.asked, ["A"], "what is kept is no longer good, so it is asked for");
}

#[test]
fn a_role_that_cannot_be_had_or_trusted_ends_the_search() {
    let mut tree = Tree::of(&["targets A", "targets B"]);
    tree.add("A", "x").add("B", "x").publish();
    let (file, good) = (tree.file("A"), tree.repo.files[&tree.file("A")].clone());
    let thief = key();
    let said = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut said = serde_json::from_slice::<serde_json::Value>(&good).unwrap()["signed"].clone();
        change(&mut said);
        said
    };
    let signed = |change: &dyn Fn(&mut serde_json::Value)| sign(&said(change), &[&tree.signers["A"][0]]);
    let older = signed(&|said| said["version"] = json!(0));
    let newer = signed(&|said| said["version"] = json!(2));
    let expired = signed(&|said| said["expires"] = "2026-11-21T00:00:00Z".into());
    let stolen = sign(&said(&|_| ()), &[&thief]);
    let other_role = signed(&|said| said["_type"] = "snapshot".into());
    for (bytes, part) in [
        (None, "does not have"),
        (Some(stolen), "signed by 0"),
        (Some(older), "begin with 1"),
        (Some(newer), "has version 2; version 1 was expected"),
        (Some(expired), "expired"),
        (Some(other_role), "metadata of role \"snapshot\""),
        (Some(b"{}".to_vec()), "cannot be read"),
        (Some(vec![b' '; usize::try_from(DELEGATED_BYTES_MAX).unwrap() + 1]), "bytes; at most"),
    ] {
        // The snapshot vouches for whatever is served, so that only the rule at hand can refuse it.
        let mut meta = tree.meta();
        meta["A.json"] = json!({ "version": 1 });
        match &bytes {
            Some(bytes) => drop(tree.repo.files.insert(file.clone(), bytes.clone())),
            None => drop(tree.repo.files.remove(&file)),
        }
        tree.publish_snapshot(meta);
        let outcome = tree.client().find(&tree, "x");
        let text = outcome.clone().unwrap_err().to_string();
        of_role("A", outcome);
        assert!(text.contains(part) && text.contains("role \"A\""), "{text}");
    }
}

#[test]
fn length_and_hashes_of_the_snapshot_hold_for_delegated_roles() {
    let mut tree = Tree::of(&["targets A"]);
    tree.add("A", "x").publish();
    let node = tree.client();
    let set = node.set();
    let search = Search::begin(&set, "x", NOW).unwrap();
    assert_eq!(search.next().unwrap().length_max, tree.repo.files["1.A.json"].len() as u64);
    let mut meta = tree.meta();
    meta["A.json"]["hashes"] = describe(b"other", 1)["hashes"].clone();
    tree.publish_snapshot(meta);
    assert_eq!(of_role("A", tree.client().find(&tree, "x")), Refusal::WrongContent { role: Role::Targets });
}

#[test]
fn a_role_that_the_snapshot_does_not_list_is_not_even_asked_for() {
    let mut tree = Tree::of(&["targets A", "targets B"]);
    tree.add("A", "x").add("B", "x").publish();
    let mut meta = tree.meta();
    meta.as_object_mut().unwrap().remove("A.json");
    tree.publish_snapshot(meta);
    let mut node = tree.client();
    assert_eq!(of_role("A", node.find(&tree, "x")), Refusal::Unlisted { file: "A.json".to_owned() });
    assert_eq!(node.asked, [""; 0]);
}

#[test]
fn at_most_so_many_roles_are_asked() {
    let names: Vec<String> = (0..=ROLES_PER_SEARCH_MAX).map(|number| format!("r{number}")).collect();
    for (count, outcome) in [
        (ROLES_PER_SEARCH_MAX, unknown("x")),
        (ROLES_PER_SEARCH_MAX + 1, Refusal::TooManyRoles { path: "x".to_owned(), roles_max: ROLES_PER_SEARCH_MAX }),
    ] {
        let (mut wide, mut deep) = (Tree::new(), Tree::new());
        let mut from = "targets";
        for name in &names[..count] {
            wide.delegate("targets", name, json!({ "paths": ["*"] }));
            deep.delegate(from, name, json!({ "paths": ["*"] }));
            from = name;
        }
        for mut tree in [wide, deep] {
            let mut node = tree.publish().client();
            assert_eq!(node.find(&tree, "x"), Err(outcome.clone()));
            assert_eq!(node.asked.len(), ROLES_PER_SEARCH_MAX);
        }
    }
}

#[test]
fn a_delegated_role_never_goes_back() {
    let mut tree = Tree::of(&["targets A"]);
    tree.add("A", "x").publish();
    let old = tree.repo.files["1.A.json"].clone();
    tree.publish();
    let mut node = tree.client();
    node.find(&tree, "x").unwrap();
    // The coordinator lists the old version in a new snapshot.
    let mut meta = tree.meta();
    tree.version = 3;
    meta["A.json"] = describe(&old, 1);
    tree.publish_snapshot(meta);
    let rollback = Refusal::Rollback { role: Role::Targets, trusted: 2, offered: 1 };
    assert_eq!(node.refresh(&tree), Err(rollback));
    // Or leaves the role out.
    let mut meta = tree.meta();
    tree.version = 4;
    meta.as_object_mut().unwrap().remove("A.json");
    tree.publish_snapshot(meta);
    assert_eq!(node.refresh(&tree), Err(Refusal::Vanished { file: "A.json".to_owned() }));
}

#[test]
fn an_owner_recovers_from_delegated_versions_pushed_far_forward() {
    let mut tree = Tree::of(&["targets A"]);
    tree.add("A", "x").publish();
    let genuine = tree.meta();
    tree.version = u64::MAX - 1;
    tree.publish();
    let mut node = tree.client();
    node.find(&tree, "x").unwrap();
    tree.repo.replace_online_keys();
    tree.version = 1;
    tree.publish_snapshot(genuine);
    node.refresh(&tree).unwrap();
    assert_eq!(node.client.versions(), [2, 1, 1, 1]);
    assert_eq!(node.find(&tree, "x").unwrap().role.as_deref(), Some("A"));
    assert_eq!(node.asked, ["A"], "what is kept is of the thief's version");
}

#[test]
fn a_search_needs_a_chain_that_is_valid_now() {
    let tree = &mut Tree::of(&["targets A"]);
    let node = tree.add("A", "x").publish().client();
    let set = node.set();
    let late = Search::begin(&set, "x", NOW + 400 * DAY).map(drop).unwrap_err();
    assert!(matches!(late, Refusal::Expired { .. }), "{late}");
    let long = Search::begin(&set, &"x".repeat(2_000), NOW).map(drop).unwrap_err();
    assert!(matches!(long, Refusal::UnknownTarget { .. }), "{long}");
    let search = Search::begin(&set, "x", NOW).unwrap();
    assert_eq!(search.finish(), Err(Refusal::Incomplete { role: Role::Targets }), "it is not over yet");
}

#[test]
fn what_a_role_said_last_is_good_enough_to_go_on_with_but_not_under_other_keys() {
    let mut tree = Tree::of(&["targets A"]);
    tree.add("A", "x").publish();
    let mut node = tree.client();
    node.find(&tree, "x").unwrap();
    let old = node.stored["A"].clone();
    tree.publish();
    node.refresh(&tree).unwrap();
    let set = node.set();
    let mut search = Search::begin(&set, "x", NOW).unwrap();
    assert!(!search.try_stored(&old), "the snapshot names another version");
    assert!(search.try_outdated(&old));
    assert_eq!(search.finish().unwrap().role.as_deref(), Some("A"));
    let mut search = Search::begin(&set, "x", NOW).unwrap();
    let said = serde_json::from_slice::<serde_json::Value>(&old).unwrap()["signed"].clone();
    assert!(!search.try_outdated(&sign(&said, &[&key()])));
    assert!(search.next().is_some(), "nothing was taken");
}
