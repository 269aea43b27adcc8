//! The attacks that TUF is made against (section 1.5.2 of the specification), each on a real repository.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{Client, DAY, NOW, ONLINE_EXPIRES, Repo, describe, key, sign};
use orangery_trust::release::target_path;
use orangery_trust::{Refusal, Role, limits};
use orangery_wire::messages::RefusalCode;
use serde_json::json;

fn path(version: &str) -> String {
    target_path(&"greeter".parse().unwrap(), &version.parse().unwrap())
}

#[test]
fn metadata_of_each_role_signed_by_another_key_is_refused() {
    for (file, role, trusted) in [
        ("2.root.json", Role::Root, [1, 0, 0, 0]),
        ("timestamp.json", Role::Timestamp, [2, 0, 0, 0]),
        ("1.snapshot.json", Role::Snapshot, [2, 1, 0, 0]),
        ("1.targets.json", Role::Targets, [2, 1, 1, 0]),
    ] {
        let mut repo = Repo::new();
        repo.rotate(|_| {});
        // Hashes would catch it first; here the signature must.
        repo.forge("1.snapshot.json", Role::Snapshot, |signed| {
            signed["meta"]["targets.json"] = json!({ "version": 1 });
        });
        repo.forge("timestamp.json", Role::Timestamp, |signed| {
            signed["meta"]["snapshot.json"] = json!({ "version": 1 });
        });
        Client::of(&repo).refresh(&repo).unwrap();
        let forged = repo.forged(file, &[&key()], |_| {});
        repo.files.insert(file.to_owned(), forged);
        let mut client = Client::of(&repo);
        assert_eq!(client.refresh(&repo), Err(Refusal::Unsigned { role, valid: 0, threshold: 1 }), "{file}");
        assert_eq!(client.versions(), trusted, "{file}");
    }
}

#[test]
fn the_key_of_one_role_does_not_sign_for_another() {
    let mut repo = Repo::new();
    repo.forge("timestamp.json", Role::Snapshot, |_| {});
    assert!(matches!(Client::of(&repo).refresh(&repo), Err(Refusal::Unsigned { role: Role::Timestamp, .. })));

    // Nor is a genuine file of one role taken for that of another, even where one key may sign both.
    let mut repo = Repo::new();
    let snapshot = repo.files["1.snapshot.json"].clone();
    repo.files.insert("timestamp.json".to_owned(), snapshot);
    assert!(matches!(Client::of(&repo).refresh(&repo), Err(Refusal::Unreadable { role: Role::Timestamp, .. })));
}

#[test]
fn an_old_state_is_refused_for_each_role() {
    let mut old = Repo::new();
    old.release("1.0.0");
    let before = old.files.clone();
    old.release("1.1.0");
    let new = old;
    let mut client = Client::of(&new);
    client.refresh(&new).unwrap();
    assert_eq!(client.versions(), [1, 3, 3, 3]);

    // Timestamp (TUF 5.4.3.1): the whole repository of yesterday.
    let replay = |client: &mut Client| client.refresh_from(NOW, |request| before.get(&request.file).cloned());
    assert_eq!(replay(&mut client), Err(Refusal::Rollback { role: Role::Timestamp, trusted: 3, offered: 2 }));

    // Snapshot (TUF 5.4.3.2): a new timestamp by a stolen online key that names the old snapshot.
    let timestamp = |version: u64, snapshot: &serde_json::Value| {
        let signed = json!({
            "_type": "timestamp", "spec_version": "1.0.0", "version": version,
            "expires": "2026-12-24T00:00:00Z", "meta": { "snapshot.json": snapshot },
        });
        sign(&signed, &[&new.online.timestamp])
    };
    let mut files = new.files.clone();
    files.insert("timestamp.json".to_owned(), timestamp(4, &describe(&new.files["2.snapshot.json"], 2)));
    let outcome = client.refresh_from(NOW, |request| files.get(&request.file).cloned());
    assert_eq!(outcome, Err(Refusal::Rollback { role: Role::Snapshot, trusted: 3, offered: 2 }));

    // Targets (TUF 5.5.5): and a new snapshot too, that names the old targets.
    let signed = json!({
        "_type": "snapshot", "spec_version": "1.0.0", "version": 4, "expires": "2026-12-24T00:00:00Z",
        "meta": { "targets.json": describe(&new.files["2.targets.json"], 2) },
    });
    let snapshot = sign(&signed, &[&new.online.snapshot]);
    files.insert("timestamp.json".to_owned(), timestamp(4, &describe(&snapshot, 4)));
    files.insert("4.snapshot.json".to_owned(), snapshot);
    let outcome = client.refresh_from(NOW, |request| files.get(&request.file).cloned());
    assert_eq!(outcome, Err(Refusal::Rollback { role: Role::Targets, trusted: 3, offered: 2 }));
    assert_eq!(client.versions(), [1, 4, 3, 3]);

    // The timestamp now names a snapshot that is not here, so that no target is given out.
    let refusal = client.set().target(&path("1.1.0"), NOW).unwrap_err();
    assert_eq!(refusal, Refusal::Incomplete { role: Role::Snapshot });
}

#[test]
fn a_root_cannot_go_back_or_skip_a_version() {
    let mut repo = Repo::new();
    repo.rotate(|_| {});
    repo.rotate(|_| {});
    let mut client = Client::of(&repo);
    let swapped = client.refresh_from(NOW, |request| match &*request.file {
        "2.root.json" => repo.files.get("3.root.json").cloned(),
        _ => None,
    });
    assert_eq!(swapped, Err(Refusal::WrongVersion { role: Role::Root, expected: 2, offered: 3 }));
    client.refresh(&repo).unwrap();
    let replayed = client.refresh_from(NOW, |request| match &*request.file {
        "4.root.json" => repo.files.get("2.root.json").cloned(),
        _ => None,
    });
    assert_eq!(replayed, Err(Refusal::Rollback { role: Role::Root, trusted: 3, offered: 2 }));
    assert_eq!(client.versions()[0], 3);
}

#[test]
fn a_targets_file_cannot_vanish_from_the_snapshot() {
    let mut repo = Repo::new();
    let forge = |repo: &mut Repo, version: u64, meta: serde_json::Value| {
        repo.forge("1.snapshot.json", Role::Snapshot, |signed| {
            signed["version"] = version.into();
            signed["meta"] = meta;
        });
        let bytes = repo.files["1.snapshot.json"].clone();
        repo.files.insert(format!("{version}.snapshot.json"), bytes.clone());
        repo.forge("timestamp.json", Role::Timestamp, |signed| {
            signed["version"] = version.into();
            signed["meta"]["snapshot.json"] = describe(&bytes, version);
        });
    };
    let mut client = Client::of(&repo);
    forge(&mut repo, 2, json!({ "targets.json": { "version": 1 }, "team.json": { "version": 4 } }));
    assert_eq!(client.refresh(&repo), Ok(()));
    forge(&mut repo, 3, json!({ "targets.json": { "version": 1 }, "team.json": { "version": 3 } }));
    assert_eq!(client.refresh(&repo), Err(Refusal::Rollback { role: Role::Targets, trusted: 4, offered: 3 }));
    forge(&mut repo, 4, json!({ "targets.json": { "version": 1 } }));
    assert_eq!(client.refresh(&repo), Err(Refusal::Vanished { file: "team.json".to_owned() }));
}

#[test]
fn files_of_different_states_are_never_mixed() {
    let mut repo = Repo::new();
    repo.release("1.0.0");
    let old = repo.files.clone();
    repo.release("1.1.0");
    for (file, other, role) in
        [("3.snapshot.json", "2.snapshot.json", Role::Snapshot), ("3.targets.json", "2.targets.json", Role::Targets)]
    {
        let mut client = Client::of(&repo);
        let outcome =
            client.refresh_from(
                NOW,
                |request| {
                    if request.file == file { old.get(other).cloned() } else { repo.serve(request) }
                },
            );
        assert_eq!(outcome, Err(Refusal::WrongContent { role }), "{file}");
        assert!(client.set().target(&path("1.0.0"), NOW).is_err());
    }

    // The same where the metadata above names no hashes: then the version decides (TUF 5.5.4).
    repo.forge("timestamp.json", Role::Timestamp, |signed| signed["meta"]["snapshot.json"] = json!({ "version": 3 }));
    let outcome = Client::of(&repo).refresh_from(NOW, |request| {
        if request.file == "3.snapshot.json" { old.get("2.snapshot.json").cloned() } else { repo.serve(request) }
    });
    assert_eq!(outcome, Err(Refusal::WrongVersion { role: Role::Snapshot, expected: 3, offered: 2 }));

    // And for targets (TUF 5.6.4).
    repo.forge("3.snapshot.json", Role::Snapshot, |signed| signed["meta"]["targets.json"] = json!({ "version": 3 }));
    let outcome = Client::of(&repo).refresh_from(NOW, |request| {
        if request.file == "3.targets.json" { old.get("2.targets.json").cloned() } else { repo.serve(request) }
    });
    assert_eq!(outcome, Err(Refusal::WrongVersion { role: Role::Targets, expected: 3, offered: 2 }));
}

#[test]
fn a_frozen_repository_is_noticed_and_what_was_trusted_stays() {
    let mut repo = Repo::new();
    repo.release("1.0.0");
    let mut client = Client::of(&repo);
    client.refresh(&repo).unwrap();
    assert!(client.set().target(&path("1.0.0"), ONLINE_EXPIRES - 1).is_ok());
    assert_eq!(client.refresh_from(ONLINE_EXPIRES - 1, |request| repo.serve(request)), Ok(()));

    // At the very second of its expiry it is expired: for a node that knows it, for a new one, and for the target.
    let expired = Refusal::Expired { role: Role::Timestamp, expired_at: ONLINE_EXPIRES, now: ONLINE_EXPIRES };
    assert_eq!(client.refresh_from(ONLINE_EXPIRES, |request| repo.serve(request)), Err(expired.clone()));
    assert_eq!(Client::of(&repo).refresh_from(ONLINE_EXPIRES, |request| repo.serve(request)), Err(expired.clone()));
    assert_eq!(client.set().target(&path("1.0.0"), ONLINE_EXPIRES).map(|_| ()), Err(expired.clone()));
    assert_eq!(client.set().expired(ONLINE_EXPIRES), [Role::Timestamp, Role::Snapshot]);
    assert_eq!(client.versions(), [1, 2, 2, 2]);
    assert_eq!(expired.code(), RefusalCode::Expired);
    assert!(expired.may_pass());

    // A new timestamp around the old snapshot does not help, known as the snapshot is.
    repo.now = ONLINE_EXPIRES;
    repo.forge("timestamp.json", Role::Timestamp, |signed| {
        signed["version"] = 3.into();
        signed["expires"] = "2027-06-01T00:00:00Z".into();
    });
    let expired = Refusal::Expired { role: Role::Snapshot, expired_at: ONLINE_EXPIRES, now: ONLINE_EXPIRES };
    assert_eq!(client.refresh(&repo), Err(expired));

    // Signed anew, all is well.
    repo.publish();
    repo.publish();
    assert_eq!(client.refresh(&repo), Ok(()));
    assert!(client.set().target(&path("1.0.0"), ONLINE_EXPIRES).is_ok());
}

#[test]
fn each_role_must_be_valid_when_it_is_accepted() {
    for (file, role) in [("1.snapshot.json", Role::Snapshot), ("1.targets.json", Role::Targets)] {
        let mut repo = Repo::new();
        repo.forge("1.targets.json", Role::Targets, |signed| {
            if role == Role::Targets {
                signed["expires"] = "2026-11-21T00:00:00Z".into();
            }
        });
        let meta = describe(&repo.files["1.targets.json"], 1);
        repo.forge("1.snapshot.json", Role::Snapshot, |signed| {
            signed["meta"]["targets.json"] = meta;
            if role == Role::Snapshot {
                signed["expires"] = "2026-11-21T00:00:00Z".into();
            }
        });
        let meta = describe(&repo.files["1.snapshot.json"], 1);
        repo.forge("timestamp.json", Role::Timestamp, |signed| signed["meta"]["snapshot.json"] = meta);
        let outcome = Client::of(&repo).refresh(&repo);
        assert_eq!(outcome, Err(Refusal::Expired { role, expired_at: NOW, now: NOW }), "{file}");
    }
}

#[test]
fn an_expired_root_stops_the_refresh_unless_a_newer_one_follows() {
    let mut repo = Repo::new();
    let mut client = Client::of(&repo);
    let later = NOW + 3 * 365 * DAY;
    repo.now = later;
    assert!(matches!(client.refresh(&repo), Err(Refusal::Expired { role: Role::Root, .. })));
    assert_eq!(client.asked, ["2.root.json"], "nothing else is asked for");
    repo.rotate(|_| {});
    repo.forge("1.targets.json", Role::Targets, |signed| signed["expires"] = "2099-01-01T00:00:00Z".into());
    repo.latest_targets = repo.files["1.targets.json"].clone();
    repo.publish();
    assert_eq!(client.refresh(&repo), Ok(()));

    // Nor is a target given out under an expired root, whatever else is valid.
    repo.rotate(|root| root.expires = later + DAY);
    assert_eq!(client.refresh(&repo), Ok(()));
    assert!(client.set().check(later + DAY - 1).is_ok());
    assert!(matches!(client.set().check(later + DAY), Err(Refusal::Expired { role: Role::Root, .. })));
}

#[test]
fn endless_data_is_refused_by_its_length_before_it_is_read() {
    let repo = Repo::new();
    let snapshot_length = repo.files["1.snapshot.json"].len() as u64;
    let targets_length = repo.files["1.targets.json"].len() as u64;
    for (file, role, length_max) in [
        ("2.root.json", Role::Root, limits::ROOT_BYTES_MAX),
        ("timestamp.json", Role::Timestamp, limits::TIMESTAMP_BYTES_MAX),
        ("1.snapshot.json", Role::Snapshot, snapshot_length),
        ("1.targets.json", Role::Targets, targets_length),
    ] {
        let mut client = Client::of(&repo);
        let outcome = client.refresh_from(NOW, |request| {
            if request.file != file {
                return repo.serve(request);
            }
            assert_eq!(request.length_max, length_max);
            Some(vec![b' '; usize::try_from(length_max).unwrap() + 1])
        });
        assert_eq!(outcome, Err(Refusal::TooLong { role, length: length_max + 1, length_max }));
    }
}

#[test]
fn a_length_in_metadata_never_raises_the_limit_of_the_role() {
    let mut repo = Repo::new();
    repo.forge("timestamp.json", Role::Timestamp, |signed| {
        signed["meta"]["snapshot.json"] = json!({ "version": 1, "length": u64::MAX });
    });
    let mut seen = 0;
    let outcome = Client::of(&repo).refresh_from(NOW, |request| {
        if request.role == Role::Snapshot {
            seen = request.length_max;
        }
        repo.serve(request)
    });
    assert_eq!(seen, limits::SNAPSHOT_BYTES_MAX);
    assert_eq!(outcome, Err(Refusal::WrongContent { role: Role::Snapshot }));
}
