//! New roots: the chain, what is forgotten with old keys, and what a power cut in between may leave behind.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{Client, NOW, Repo, key, sign};
use orangery_trust::repository::{
    BuildError, Draft, KeyHolders, Online, RootContent, SigningKey, TargetsContent, sign_root, verify_root,
};
use orangery_trust::{Keep, Refresh, Refusal, Role, Stored, TrustedSet};
use serde_json::Value;

#[test]
fn the_chain_of_roots_is_walked_step_by_step() {
    let mut repo = Repo::new();
    let mut client = Client::of(&repo);
    for _ in 0..5 {
        repo.rotate(|_| {});
    }
    assert_eq!(client.refresh(&repo), Ok(()));
    assert_eq!(client.asked[..6], ["2", "3", "4", "5", "6", "7"].map(|version| format!("{version}.root.json")));
    assert_eq!(client.versions(), [6, 1, 1, 1]);
    assert_eq!(client.stored.roots.len(), 6);
}

#[test]
fn a_new_root_needs_enough_keys_of_the_old_one_and_of_itself() {
    let mut repo = Repo::new();
    let (old, new) = (key(), key());
    repo.rotate_with(&[&old], |root| root.root = KeyHolders::any_of([old.public()]));
    let third = |keys: &[&SigningKey]| {
        let content = RootContent::next(&repo.latest_root, NOW, NOW + common::DAY).unwrap();
        let content = RootContent { root: KeyHolders::any_of([new.public()]), ..content };
        sign_root(&content, keys, Some(&repo.latest_root))
    };
    let refused = BuildError::Refused(Refusal::Unsigned { role: Role::Root, valid: 0, threshold: 1 });
    assert_eq!(third(&[&new]), Err(refused.clone()), "not signed by the old key");
    assert_eq!(third(&[&old]), Err(refused), "not signed by the new key");
    assert!(third(&[&old, &new]).is_ok());

    // A client refuses the same, whoever made it.
    let good = third(&[&old, &new]).unwrap();
    let signed = &serde_json::from_slice::<Value>(&good).unwrap()["signed"];
    for (keys, accepted) in [(vec![&old], false), (vec![&new], false), (vec![&old, &new], true)] {
        let bytes = sign(signed, &keys);
        let mut client = Client::of(&repo);
        let outcome = client.refresh_from(NOW, |request| match &*request.file {
            "3.root.json" => Some(bytes.clone()),
            _ => repo.serve(request),
        });
        assert_eq!(outcome.is_ok(), accepted, "{outcome:?}");
        assert_eq!(client.versions()[0], if accepted { 3 } else { 2 });
    }
}

#[test]
fn a_draft_gathers_signatures_in_any_order_until_both_thresholds_are_reached() {
    let mut repo = Repo::new();
    let keys = [key(), key(), key()];
    let public = |keys: &[SigningKey]| KeyHolders { keys: keys.iter().map(SigningKey::public).collect(), threshold: 2 };
    repo.rotate_with(&[&keys[0], &keys[1]], |root| root.root = public(&keys));
    let content = RootContent::next(&repo.latest_root, NOW, NOW + common::DAY).unwrap();
    let names = [(keys[0].public(), "laptop".to_owned()), (key().public(), "nobody".to_owned())].into();
    let empty = Draft::new(&content, &names).unwrap();
    assert_eq!((empty.content(), empty.signers().len()), (content.clone(), 0));
    assert_eq!(empty.names().values().collect::<Vec<_>>(), ["laptop"], "only keys that it lists have names");
    assert!(empty.check_follows(&repo.latest_root).is_err());

    let (one, stranger) = (empty.sign(&[&keys[2]]).unwrap(), empty.sign(&[&key()]).unwrap());
    assert_eq!(one.sign(&[&keys[2]]).unwrap().bytes(), one.bytes(), "the same key again changes nothing");
    assert_eq!((one.signers().len(), stranger.signers().len()), (1, 0));
    assert!(one.check_follows(&repo.latest_root).is_err());
    let other = empty.sign(&[&keys[0]]).unwrap();
    let both = one.merge(&other).unwrap().unwrap();
    assert_eq!(both.bytes(), other.merge(&one).unwrap().unwrap().bytes());
    let before = verify_root(&repo.latest_root).unwrap();
    assert_eq!(both.signers_of(&before), [keys[0].public(), keys[2].public()].into());
    let verified = both.check_follows(&repo.latest_root).unwrap();
    assert_eq!((verified.version, verified.content()), (3, content.clone()));
    let another = Draft::new(&RootContent { expires: NOW + 1, ..content }, &names).unwrap();
    assert!(both.merge(&another).unwrap().is_none(), "another root's signatures are not taken over");
    assert!(Draft::read(b"{}").is_err());
}

#[test]
fn the_recovery_key_alone_replaces_a_lost_key() {
    let mut repo = Repo::new();
    let mut client = Client::of(&repo);
    client.refresh(&repo).unwrap();
    let (new_root, new_targets) = (key(), key());
    let mut content = RootContent::next(&repo.latest_root, NOW, NOW + common::DAY).unwrap();
    content.root = KeyHolders::any_of([new_root.public(), repo.recovery.public()]);
    content.targets = KeyHolders::any_of([new_targets.public()]);
    let bytes = sign_root(&content, &[&repo.recovery], Some(&repo.latest_root)).unwrap();
    repo.files.insert("2.root.json".to_owned(), bytes.clone());

    // The same targets, but by a key that no longer counts: they are neither kept nor accepted again.
    let refused = Refusal::Unsigned { role: Role::Targets, valid: 0, threshold: 1 };
    assert_eq!(client.refresh(&repo), Err(refused));
    assert_eq!(client.versions(), [2, 1, 1, 0]);
    assert_eq!(client.set().target("x", NOW), Err(Refusal::Incomplete { role: Role::Targets }));

    // The owner takes the releases over from what the old root vouches for.
    let targets = TargetsContent::next(&repo.latest_root, &repo.latest_targets).unwrap();
    (repo.latest_root, repo.targets) = (bytes, new_targets);
    repo.latest_targets = targets.sign(&repo.latest_root, &[&repo.targets], NOW, NOW + common::DAY).unwrap();
    repo.publish();
    assert_eq!(client.refresh(&repo), Ok(()));
    assert_eq!(client.versions(), [2, 2, 2, 2]);
}

#[test]
fn a_new_root_is_kept_when_a_later_step_fails() {
    let mut repo = Repo::new();
    let mut client = Client::of(&repo);
    client.refresh(&repo).unwrap();
    repo.replace_online_keys();

    // Whoever holds back everything else cannot bring the old keys back into trust.
    let blocked = client.refresh_from(NOW, |request| repo.serve(request).filter(|_| request.role == Role::Root));
    assert_eq!(blocked, Err(Refusal::Missing { file: "timestamp.json".to_owned() }));
    assert_eq!(client.versions(), [2, 0, 0, 1]);
    let replayed = client.refresh(&repo);
    assert_eq!(replayed, Err(Refusal::Unsigned { role: Role::Timestamp, valid: 0, threshold: 1 }));

    // And in memory too, without a way over the disk.
    let mut refresh = Refresh::begin(Client::of(&repo).set(), NOW);
    refresh.supply(repo.files.get("2.root.json").map(Vec::as_slice)).unwrap();
    refresh.supply(Some(b"broken")).unwrap_err();
    assert_eq!(refresh.finish().versions().root, 2);
}

#[test]
fn versions_pushed_far_forward_by_a_thief_do_not_outlive_his_keys() {
    // For each role: the thief's version, then the owner's recovery by new keys (TUF 5.3.11).
    for stolen in [Role::Timestamp, Role::Snapshot, Role::Targets] {
        let mut repo = Repo::new();
        repo.release("1.0.0");
        let mut client = Client::of(&repo);
        client.refresh(&repo).unwrap();
        let mut honest = client.clone();

        let far = 1 << 60;
        let file = if stolen == Role::Timestamp { "timestamp.json" } else { "2.snapshot.json" };
        repo.forge(file, stolen_key(stolen), |signed| match stolen {
            Role::Targets => signed["meta"]["targets.json"]["version"] = far.into(),
            _ => signed["version"] = far.into(),
        });
        if stolen != Role::Timestamp {
            let bytes = repo.files["2.snapshot.json"].clone();
            let version = if stolen == Role::Snapshot { far } else { 3 };
            if stolen == Role::Targets {
                repo.forge("2.snapshot.json", Role::Snapshot, |signed| signed["version"] = 3.into());
            }
            let bytes = if stolen == Role::Targets { repo.files["2.snapshot.json"].clone() } else { bytes };
            repo.files.insert(format!("{version}.snapshot.json"), bytes.clone());
            repo.forge("timestamp.json", Role::Timestamp, |signed| {
                signed["version"] = 3.into();
                signed["meta"]["snapshot.json"] = common::describe(&bytes, version);
            });
        }
        let attacked = client.refresh(&repo);
        assert_eq!(attacked.is_ok(), stolen != Role::Targets, "{stolen}: {attacked:?}");

        // Without new keys the owner is blocked.
        repo.publish();
        repo.publish();
        assert!(matches!(client.refresh(&repo), Err(Refusal::Rollback { .. })), "{stolen}");
        assert_eq!(honest.refresh(&repo), Ok(()), "{stolen}");

        repo.replace_online_keys();
        repo.publish();
        assert_eq!(client.refresh(&repo), Ok(()), "{stolen}");
        assert_eq!(client.versions(), [2, 5, 5, 2], "{stolen}");
        assert!(client.set().check(NOW).is_ok());
    }
}

/// The key that a thief needs to push the role's version: that of targets stands in the snapshot.
fn stolen_key(role: Role) -> Role {
    if role == Role::Targets { Role::Snapshot } else { role }
}

#[test]
fn what_is_signed_by_keys_that_stay_is_not_forgotten() {
    let mut repo = Repo::new();
    let mut client = Client::of(&repo);
    client.refresh(&repo).unwrap();
    let (timestamp, more) = (repo.online.timestamp.public(), key().public());
    repo.rotate(|root| root.timestamp = KeyHolders::any_of([timestamp, more]));
    client.refresh_from(NOW, |request| repo.serve(request).filter(|_| request.role == Role::Root)).unwrap_err();
    assert_eq!(client.versions(), [2, 1, 1, 1], "a key was added, none taken away");
    repo.rotate(|root| root.timestamp.threshold = 2);
    client.refresh_from(NOW, |request| repo.serve(request).filter(|_| request.role == Role::Root)).unwrap_err();
    assert_eq!(client.versions(), [3, 0, 0, 1], "one signature is no longer enough");
}

#[test]
fn a_key_taken_away_takes_what_it_signed_with_it_even_if_another_signed_too() {
    for role in [Role::Timestamp, Role::Snapshot] {
        let mut repo = Repo::new();
        let (leaving, staying) = (repo.key(role).public(), key());
        let holders = |root: &mut RootContent, keys: KeyHolders| match role {
            Role::Snapshot => root.snapshot = keys,
            _ => root.timestamp = keys,
        };
        repo.rotate(|root| holders(root, KeyHolders::any_of([leaving, staying.public()])));
        let file = if role == Role::Snapshot { "1.snapshot.json" } else { "timestamp.json" };
        let both = repo.forged(file, &[repo.key(role), &staying], |_| {});
        repo.files.insert(file.to_owned(), both.clone());
        if role == Role::Snapshot {
            repo.forge("timestamp.json", Role::Timestamp, |signed| {
                signed["meta"]["snapshot.json"] = common::describe(&both, 1);
            });
        }
        let mut client = Client::of(&repo);
        client.refresh(&repo).unwrap();
        repo.rotate(|root| holders(root, KeyHolders::any_of([staying.public()])));
        client.refresh_from(NOW, |request| repo.serve(request).filter(|_| request.role == Role::Root)).unwrap_err();
        assert_eq!(client.versions(), [3, 0, 0, 1], "{role}");
        assert_eq!(client.refresh(&repo), Ok(()));
    }
}

/// Power cuts: a refresh writes and removes files one after the other, in the order of [`Keep`]; after any of them the
/// node must come up again, trust no less than it has to, and refresh well.
#[test]
fn after_a_power_cut_between_any_two_writes_the_node_goes_on() {
    for replaced in [[true, true], [true, false], [false, true], [false, false]] {
        let mut repo = Repo::new();
        repo.release("1.0.0");
        let mut client = Client::of(&repo);
        client.refresh(&repo).unwrap();
        let old = repo.files.clone();

        let fresh = Online { snapshot: key(), timestamp: key() };
        if replaced[0] {
            repo.online.snapshot = fresh.snapshot;
        }
        if replaced[1] {
            repo.online.timestamp = fresh.timestamp;
        }
        let (snapshot, timestamp) = (repo.online.snapshot.public(), repo.online.timestamp.public());
        repo.rotate(|root| {
            root.snapshot = KeyHolders::any_of([snapshot]);
            root.timestamp = KeyHolders::any_of([timestamp]);
        });
        repo.release("1.1.0");

        let mut cuts = 0;
        for state in states_of_a_refresh(&client, &repo) {
            cuts += 1;
            let mut node = Client { stored: state, asked: Vec::new() };
            let before = node.versions();
            // First comes whoever replays yesterday's repository; he never gets a node to go back.
            let replayed = node.refresh_from(NOW, |request| old.get(&request.file).cloned());
            let after = node.versions();
            assert!(
                after.iter().zip(before).all(|(after, before)| *after >= before),
                "{replayed:?}: {before:?} {after:?}"
            );
            assert_eq!(node.refresh(&repo), Ok(()), "{replaced:?}, cut {cuts}");
            assert_eq!(node.versions(), [2, 3, 3, 3]);
        }
        assert!(cuts >= 5, "{cuts}");
    }
}

/// Every state of the disk during a refresh of `client`.
fn states_of_a_refresh(client: &Client, repo: &Repo) -> Vec<Stored> {
    let mut node = client.clone();
    let mut states = vec![node.stored.clone()];
    let mut refresh = Refresh::begin(TrustedSet::load(&node.stored).unwrap(), NOW);
    while let Some(request) = refresh.next() {
        if let Some(keep) = refresh.supply(repo.serve(&request).as_deref()).unwrap() {
            let forget = keep.forget.clone();
            node.keep(Keep { forget: Vec::new(), ..keep });
            states.push(node.stored.clone());
            for role in forget {
                *node.file(role) = None;
                states.push(node.stored.clone());
            }
        }
    }
    states
}

#[test]
fn a_power_cut_during_the_recovery_from_a_thief_does_not_undo_it() {
    // The thief had the snapshot key alone, and the timestamp names his snapshot of version 2^60.
    let mut repo = Repo::new();
    let far = 1 << 60;
    repo.forge("1.snapshot.json", Role::Snapshot, |signed| signed["version"] = far.into());
    let bytes = repo.files["1.snapshot.json"].clone();
    repo.files.insert(format!("{far}.snapshot.json"), bytes.clone());
    repo.forge("timestamp.json", Role::Timestamp, |signed| {
        signed["meta"]["snapshot.json"] = common::describe(&bytes, far);
    });
    let mut client = Client::of(&repo);
    client.refresh(&repo).unwrap();
    assert_eq!(client.versions(), [1, 1, far, 1]);

    repo.online.snapshot = key();
    let snapshot = repo.online.snapshot.public();
    repo.rotate(|root| root.snapshot = KeyHolders::any_of([snapshot]));
    repo.publish();
    // The new root is on the disk; then the plug is pulled, before anything is removed.
    client.stored.roots.push(repo.latest_root.clone());
    assert_eq!(client.versions(), [2, 0, 0, 1]);
    assert_eq!(client.refresh(&repo), Ok(()));
    assert_eq!(client.versions(), [2, 2, 2, 1]);
}

#[test]
fn damaged_files_are_never_taken_for_absent_ones() {
    let mut repo = Repo::new();
    repo.rotate(|_| {});
    let mut client = Client::of(&repo);
    client.refresh(&repo).unwrap();
    let good = client.stored.clone();
    for role in [Role::Timestamp, Role::Snapshot] {
        for damage in [&b""[..], b"{}", b"\0\0\0\0"] {
            *client.file(role) = Some(damage.to_vec());
            assert!(TrustedSet::load(&client.stored).is_err(), "{role}");
            client.stored = good.clone();
        }
        let signed_by_nobody =
            repo.forged(if role == Role::Timestamp { "timestamp.json" } else { "1.snapshot.json" }, &[&key()], |_| {});
        *client.file(role) = Some(signed_by_nobody);
        assert!(matches!(TrustedSet::load(&client.stored), Err(Refusal::Unsigned { .. })), "{role}");
        client.stored = good.clone();
    }
    client.stored.roots[1].truncate(100);
    assert!(TrustedSet::load(&client.stored).is_err());

    // Targets whose hash nobody names must be signed all the same.
    repo.forge("1.snapshot.json", Role::Snapshot, |signed| {
        signed["meta"]["targets.json"] = serde_json::json!({ "version": 1 });
    });
    let bytes = repo.files["1.snapshot.json"].clone();
    repo.forge("timestamp.json", Role::Timestamp, |signed| {
        signed["meta"]["snapshot.json"] = common::describe(&bytes, 1);
    });
    let mut other = Client::of(&repo);
    other.refresh(&repo).unwrap();
    other.stored.targets = Some(repo.forged("1.targets.json", &[&key()], |_| {}));
    assert_eq!(other.versions(), [2, 1, 1, 0]);

    // Targets are another matter: the snapshot keeps them from going back, and they are fetched again.
    client.stored = Stored { targets: Some(b"{}".to_vec()), ..good };
    assert_eq!(client.versions(), [2, 1, 1, 0]);
    assert_eq!(client.refresh(&repo), Ok(()));
    assert_eq!(client.asked, ["3.root.json", "timestamp.json", "1.targets.json"]);
}
