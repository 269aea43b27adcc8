//! The client workflow against a real repository: what becomes trusted, and what does not.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{Client, DAY, MANIFEST, NOW, Repo};
use orangery_trust::release::target_path;
use orangery_trust::{Refresh, Refusal, Role, Stored, TrustedSet};
use orangery_wire::messages::RefusalCode;
use serde_json::{Value, json};

fn path(version: &str) -> String {
    target_path(&"greeter".parse().unwrap(), &version.parse().unwrap())
}

#[test]
fn a_first_refresh_walks_the_whole_chain_and_a_second_only_looks() {
    let mut repo = Repo::new();
    repo.release("1.0.0");
    let mut client = Client::of(&repo);
    assert_eq!(client.refresh(&repo), Ok(()));
    assert_eq!(client.asked, ["2.root.json", "timestamp.json", "2.snapshot.json", "2.targets.json"]);
    assert_eq!(client.versions(), [1, 2, 2, 2]);
    assert_eq!(client.stored.targets.as_deref(), Some(&*repo.latest_targets), "the bytes are kept as served");

    let set = client.set();
    let target = set.target(&path("1.0.0"), NOW).unwrap();
    assert!(target.is(MANIFEST));
    assert!(!target.is(b"{\"format\":2}"));
    assert!(!target.is(b"{\"format\":1} "));

    assert_eq!(client.refresh(&repo), Ok(()));
    assert_eq!(client.asked, ["2.root.json", "timestamp.json"]);

    repo.publish();
    assert_eq!(client.refresh(&repo), Ok(()));
    assert_eq!(client.asked, ["2.root.json", "timestamp.json", "3.snapshot.json"], "the targets are the same");
}

#[test]
fn a_release_is_found_by_app_and_version_and_says_where_its_manifest_lies() {
    let mut repo = Repo::new();
    repo.release("1.0.0");
    let mut client = Client::of(&repo);
    client.refresh(&repo).unwrap();
    let (app, version) = ("greeter".parse().unwrap(), "1.0.0".parse().unwrap());
    let release = client.set().release(&app, &version, NOW).unwrap();
    assert_eq!(release.length, MANIFEST.len() as u64);
    assert_eq!(release.file, format!("greeter/1.0.0/{}.manifest.json", release.id));

    let unknown = client.set().release(&app, &"1.0.1".parse().unwrap(), NOW).unwrap_err();
    assert_eq!(unknown.code(), RefusalCode::Revoked);
    assert!(matches!(unknown, Refusal::UnknownTarget { delegated: false, .. }), "{unknown}");
}

#[test]
fn releases_below_the_owners_floor_are_refused_and_those_above_it_are_free() {
    let mut repo = Repo::new();
    repo.release("1.9.0");
    repo.release("1.10.0");
    repo.release_with("2.0.0", Some("1.10.0"));
    let mut client = Client::of(&repo);
    client.refresh(&repo).unwrap();
    let app = "greeter".parse().unwrap();
    let release = |version: &str| client.set().release(&app, &version.parse().unwrap(), NOW);
    assert!(matches!(release("1.9.0"), Err(Refusal::BelowFloor { .. })));
    assert!(release("1.10.0").is_ok());
    assert!(release("2.0.0").is_ok());
}

#[test]
fn a_target_that_contradicts_its_path_is_no_release() {
    let mut repo = Repo::new();
    repo.release("1.0.0");
    repo.forge("2.targets.json", Role::Targets, |signed| {
        signed["version"] = 3.into();
        signed["targets"]["greeter/1.0.0/manifest.json"]["custom"]["version"] = "0.9.0".into();
    });
    repo.latest_targets = repo.files["2.targets.json"].clone();
    repo.publish();
    let mut client = Client::of(&repo);
    client.refresh(&repo).unwrap();
    let refusal = client.set().release(&"greeter".parse().unwrap(), &"1.0.0".parse().unwrap(), NOW).unwrap_err();
    assert!(matches!(refusal, Refusal::NotARelease { .. }), "{refusal}");
}

#[test]
fn nothing_is_trusted_without_a_root_or_before_a_refresh() {
    assert_eq!(TrustedSet::load(&Stored::default()).map(|_| ()), Err(Refusal::NoRoot));
    assert_eq!(Refusal::NoRoot.code(), RefusalCode::NoTrustRoot);
    let repo = Repo::new();
    let set = Client::of(&repo).set();
    assert_eq!(set.check(NOW), Err(Refusal::Incomplete { role: Role::Timestamp }));
    assert_eq!(set.target("x", NOW), Err(Refusal::Incomplete { role: Role::Timestamp }));
    assert!(set.expired(NOW).is_empty());
}

#[test]
fn a_timestamp_of_the_same_version_changes_nothing() {
    let mut repo = Repo::new();
    let mut client = Client::of(&repo);
    client.refresh(&repo).unwrap();
    repo.forge("timestamp.json", Role::Timestamp, |signed| signed["meta"]["snapshot.json"]["version"] = 100.into());
    let before = client.stored.clone();
    assert_eq!(client.refresh(&repo), Ok(()));
    assert_eq!(client.asked, ["2.root.json", "timestamp.json"]);
    assert_eq!(client.stored, before);
}

#[test]
fn a_missing_file_is_named_and_the_next_refresh_goes_on() {
    let repo = Repo::new();
    for file in ["timestamp.json", "1.snapshot.json", "1.targets.json"] {
        let mut client = Client::of(&repo);
        let outcome = client.refresh_from(NOW, |request| repo.serve(request).filter(|_| request.file != file));
        let refusal = Refusal::Missing { file: file.to_owned() };
        assert_eq!(outcome, Err(refusal.clone()));
        assert_eq!((refusal.code(), refusal.may_pass()), (RefusalCode::NotFound, true));
        assert_eq!(client.refresh(&repo), Ok(()));
        assert_eq!(client.versions(), [1, 1, 1, 1]);
    }
}

#[test]
fn bytes_that_nobody_asked_for_are_refused() {
    let repo = Repo::new();
    let mut refresh = Refresh::begin(Client::of(&repo).set(), NOW);
    assert!(refresh.supply(Some(b"{}")).is_err());
    assert_eq!(refresh.next(), None);
    assert_eq!(refresh.supply(Some(b"{}")), Err(Refusal::NotAsked));
    assert_eq!(refresh.supply(None), Err(Refusal::NotAsked));
}

#[test]
fn the_top_level_targets_alone_do_not_answer_for_delegated_roles() {
    let mut repo = Repo::new();
    repo.forge("1.targets.json", Role::Targets, |signed| {
        signed["delegations"] = json!({ "keys": {}, "roles": [{ "name": "team", "keyids": [], "threshold": 1, "paths": ["*"], "terminating": false }] });
    });
    repo.latest_targets = repo.files["1.targets.json"].clone();
    repo.publish();
    let mut client = Client::of(&repo);
    client.refresh(&repo).unwrap();
    let set = client.set();
    let refusal = set.target("team/file", NOW).unwrap_err();
    assert!(refusal.to_string().contains("left to other roles, which were not asked"), "{refusal}");
    // Whoever signs the next targets carries them on, made with whatever tool.
    let next = orangery_trust::repository::TargetsContent::next(&repo.latest_root, &repo.latest_targets).unwrap();
    let next = next.sign(&repo.latest_root, &[&repo.targets], NOW, NOW + DAY).unwrap();
    let delegations = |bytes: &[u8]| {
        let metadata: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        metadata["signed"]["delegations"].clone()
    };
    assert_eq!(delegations(&next), delegations(&repo.latest_targets));
}

#[test]
fn the_time_of_signing_is_taken_from_the_owner_and_never_from_the_coordinator() {
    let mut repo = Repo::new();
    repo.now = NOW + 5 * DAY;
    repo.release("1.0.0");
    repo.now = NOW + 9 * DAY;
    repo.publish();
    repo.forge("timestamp.json", Role::Timestamp, |signed| {
        signed["x-orangery-signed-at"] = "9999-01-01T00:00:00Z".into();
    });
    let mut client = Client::of(&repo);
    assert_eq!(client.set().signed_at(), Some(NOW));
    client.refresh(&repo).unwrap();
    assert_eq!(client.set().signed_at(), Some(NOW + 5 * DAY));
}

#[test]
fn metadata_that_is_not_of_its_kind_is_refused_whoever_signed_it() {
    let change = |change: &dyn Fn(&mut Value)| {
        let mut repo = Repo::new();
        repo.forge("timestamp.json", Role::Timestamp, change);
        Client::of(&repo).refresh(&repo)
    };
    let set = |name: &'static str, value: Value| change(&move |signed| signed[name] = value.clone());
    for (name, value) in [
        ("_type", json!("snapshot")),
        ("_type", json!("Timestamp")),
        ("version", json!(0)),
        ("version", json!(-1)),
        ("version", json!("1")),
        ("version", json!(null)),
        ("spec_version", json!("2.0.0")),
        ("spec_version", json!("10.0")),
        ("spec_version", json!(1)),
        ("expires", json!("2030-01-01")),
        ("expires", json!(4_000_000_000_u64)),
        ("meta", json!({})),
        ("meta", json!([])),
        ("meta", json!({ "snapshot.json": {} })),
        ("meta", json!({ "snapshot.json": { "version": 0 } })),
        ("meta", json!({ "snapshot.json": { "version": 1, "hashes": {} } })),
        ("meta", json!({ "snapshot.json": { "version": 1, "hashes": { "sha256": "abc" } } })),
        ("meta", json!({ "snapshot.json": { "version": 1, "length": -1 } })),
    ] {
        let outcome = set(name, value.clone());
        assert!(
            matches!(outcome, Err(Refusal::Unreadable { role: Role::Timestamp, .. })),
            "{name} {value}: {outcome:?}"
        );
    }
    let unknown_hash = json!({ "snapshot.json": { "version": 1, "hashes": { "blake9": "00" } } });
    assert_eq!(set("meta", unknown_hash), Err(Refusal::WrongContent { role: Role::Snapshot }));
    for (name, value) in [
        ("unknown", json!({ "nested": [1, "\n"] })),
        ("spec_version", json!("1.0")),
        ("spec_version", json!("1.99.0")),
        ("x-orangery-signed-at", json!("some day")),
    ] {
        assert_eq!(set(name, value.clone()), Ok(()), "{name} {value}");
    }
    // A field that has to be there.
    for name in ["_type", "version", "spec_version", "expires", "meta"] {
        let outcome = change(&move |signed| drop(signed.as_object_mut().unwrap().remove(name)));
        assert!(matches!(outcome, Err(Refusal::Unreadable { .. })), "without {name}: {outcome:?}");
    }
}
