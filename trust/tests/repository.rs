//! The repository side: what the owner and the coordinator make is what nodes accept, and what they may not make fails.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{Client, DAY, MANIFEST, NOW, Repo, key};
use orangery_trust::release::{Custom, target_file};
use orangery_trust::repository::{
    BuildError, DelegatedRole, ONLINE_VALID_SECS, Online, Published, RootContent, SigningKey, TargetsContent,
    verify_root, verify_targets,
};
use orangery_trust::{Refusal, Role, Search, Stored, TrustedSet};
use orangery_wire::AppName;
use serde_json::Value;

fn custom(version: &str) -> Custom {
    Custom { app: "greeter".parse().unwrap(), version: version.parse().unwrap(), floor: None }
}

#[test]
fn the_files_are_canonical_and_say_what_the_specification_asks_for() {
    let mut repo = Repo::new();
    repo.release("1.0.0+build.5");
    for (file, bytes) in &repo.files {
        let value: Value = serde_json::from_slice(bytes).unwrap();
        assert_eq!(&orangery_trust::canonical::to_vec(&value).unwrap(), bytes, "{file}");
        assert_eq!(value["signed"]["spec_version"], "1.0.34", "{file}");
        assert_eq!(value["signed"]["x-orangery-signed-at"], "2026-11-21T00:00:00Z", "{file}");
    }
    let root: Value = serde_json::from_slice(&repo.latest_root).unwrap();
    assert_eq!(root["signed"]["consistent_snapshot"], true);
    assert_eq!(root["signed"]["keys"].as_object().unwrap().len(), 5);
    let targets: Value = serde_json::from_slice(&repo.latest_targets).unwrap();
    let target = &targets["signed"]["targets"]["greeter/1.0.0+build.5/manifest.json"];
    assert_eq!(target["custom"], serde_json::json!({ "app": "greeter", "version": "1.0.0+build.5" }));
    let timestamp: Value = serde_json::from_slice(&repo.files["timestamp.json"]).unwrap();
    assert_eq!(timestamp["signed"]["expires"], "2027-01-05T00:00:00Z", "45 days");
}

#[test]
fn a_release_is_added_once_and_its_version_means_one_content_for_good() {
    let repo = Repo::new();
    let mut targets = TargetsContent::next(&repo.latest_root, &repo.latest_targets).unwrap();
    assert_eq!(targets.version, 2);
    assert_eq!(targets.add_release(&custom("1.0.0"), MANIFEST), Ok(true));
    assert_eq!(targets.add_release(&custom("1.0.0"), MANIFEST), Ok(false));
    assert!(matches!(targets.add_release(&custom("1.0.0"), b"{}"), Err(BuildError::Taken { .. })));
    let bytes = targets.sign(&repo.latest_root, &[&repo.targets], NOW, NOW + DAY).unwrap();
    let verified = verify_targets(&repo.latest_root, &bytes, NOW).unwrap();
    assert_eq!((verified.version, verified.expires, verified.releases().len()), (2, NOW + DAY, 1));
    let release = verified.release(&custom("1.0.0").app, &custom("1.0.0").version).unwrap();
    assert_eq!(release.file, target_file("greeter/1.0.0/manifest.json", &release.id.0));

    let mut next = TargetsContent::next(&repo.latest_root, &bytes).unwrap();
    assert!(next.remove_release(&custom("1.0.0").app, &custom("1.0.0").version));
    assert!(!next.remove_release(&custom("1.0.0").app, &custom("1.0.0").version));
}

#[test]
fn what_was_taken_back_stays_so_and_the_floor_outlives_the_release_that_set_it() {
    let repo = Repo::new();
    let floored = |version: &str, floor: &str| Custom { floor: Some(floor.parse().unwrap()), ..custom(version) };
    let mut targets = TargetsContent::next(&repo.latest_root, &repo.latest_targets).unwrap();
    for version in ["1.0.0", "1.1.0", "1.2.0"] {
        targets.add_release(&custom(version), version.as_bytes()).unwrap();
    }
    let too_high = targets.add_release(&floored("1.3.0", "1.3.1"), b"x");
    assert!(matches!(too_high, Err(BuildError::FloorTooHigh { .. })), "{too_high:?}");
    assert_eq!(targets.add_release(&floored("1.2.0", "1.1.0"), b"1.2.0"), Ok(true), "the floor is news");
    assert_eq!(targets.add_release(&floored("1.2.0", "1.1.0"), b"1.2.0"), Ok(false));
    assert_eq!(targets.add_release(&custom("1.2.0"), b"1.2.0"), Ok(false), "it stays if none is named");

    let app = custom("1.2.0").app;
    assert!(targets.remove_release(&app, &"1.2.0".parse().unwrap()));
    let again = targets.add_release(&custom("1.2.0"), b"1.2.0");
    assert!(matches!(again, Err(BuildError::Revoked { .. })), "{again:?}");
    let bytes = targets.sign(&repo.latest_root, &[&repo.targets], NOW, NOW + DAY).unwrap();
    let verified = verify_targets(&repo.latest_root, &bytes, NOW).unwrap();
    assert!(verified.is_revoked(&app, &"1.2.0".parse().unwrap()));
    assert!(!verified.is_revoked(&app, &"1.1.0".parse().unwrap()));
    assert_eq!(verified.floor(&app), Some("1.1.0".parse().unwrap()));
    let mut next = TargetsContent::next(&repo.latest_root, &bytes).unwrap();
    assert!(next.add_release(&custom("1.2.0"), b"other").is_err(), "what follows remembers it");
}

#[test]
fn targets_are_signed_by_the_targets_key_or_not_at_all() {
    let repo = Repo::new();
    let sign = |keys: &[&orangery_trust::repository::SigningKey], expires| {
        TargetsContent::first().sign(&repo.latest_root, keys, NOW, expires)
    };
    let unsigned = BuildError::Refused(Refusal::Unsigned { role: Role::Targets, valid: 0, threshold: 1 });
    assert_eq!(sign(&[&repo.root, &repo.online.snapshot], NOW + DAY), Err(unsigned.clone()));
    assert_eq!(sign(&[], NOW + DAY), Err(unsigned));
    assert!(matches!(sign(&[&repo.targets], NOW), Err(BuildError::Refused(Refusal::Expired { .. }))));
    // A key given twice signs once.
    let bytes = sign(&[&repo.targets, &repo.targets], NOW + DAY).unwrap();
    assert!(verify_targets(&repo.latest_root, &bytes, NOW).is_ok());
    // Nor is anything read that is longer than targets may be.
    let length_max = orangery_trust::limits::TARGETS_BYTES_MAX;
    let long = vec![b' '; usize::try_from(length_max).unwrap() + 1];
    assert_eq!(
        verify_targets(&repo.latest_root, &long, NOW),
        Err(Refusal::TooLong { role: Role::Targets, length: length_max + 1, length_max })
    );
    // Another owner's root does not vouch for them.
    assert!(matches!(
        verify_targets(&Repo::new().latest_root, &bytes, NOW),
        Err(Refusal::Unsigned { role: Role::Targets, .. })
    ));
}

#[test]
fn targets_take_the_place_of_older_ones_and_never_of_newer_or_other_ones() {
    let mut repo = Repo::new();
    let first = repo.latest_targets.clone();
    repo.release("1.0.0");
    let verify = |bytes: &[u8]| verify_targets(&repo.latest_root, bytes, NOW).unwrap();
    let (old, new) = (verify(&first), verify(&repo.latest_targets));
    assert_eq!(new.check_follows(&old), Ok(()));
    assert_eq!(new.check_follows(&new), Ok(()), "the same again changes nothing");
    let back = Refusal::Rollback { role: Role::Targets, trusted: 2, offered: 1 };
    assert_eq!(old.check_follows(&new), Err(back.clone()));
    let mut other = TargetsContent::next(&repo.latest_root, &first).unwrap();
    other.add_release(&custom("2.0.0"), MANIFEST).unwrap();
    let other = verify(&other.sign(&repo.latest_root, &[&repo.targets], NOW, NOW + DAY).unwrap());
    assert!(matches!(other.check_follows(&new), Err(Refusal::WrongVersion { expected: 3, offered: 2, .. })));

    let published = repo.online.publish(&repo.latest_root, &first, Some(&repo.published), NOW);
    assert_eq!(published, Err(BuildError::Refused(back)), "nor does the coordinator sign a step back");
}

#[test]
fn a_laptop_whose_clock_runs_ahead_cannot_set_the_fleets_clock() {
    let repo = Repo::new();
    let ahead = NOW + 2 * DAY;
    let bytes = TargetsContent::first().sign(&repo.latest_root, &[&repo.targets], ahead, ahead + DAY).unwrap();
    let refusal = verify_targets(&repo.latest_root, &bytes, NOW).unwrap_err();
    assert_eq!(refusal, Refusal::SignedAhead { role: Role::Targets, signed_at: ahead, now: NOW });
    assert!(refusal.to_string().contains("2026-11-23T00:00:00Z"), "{refusal}");
    assert!(verify_targets(&repo.latest_root, &bytes, ahead - DAY).is_ok());
    // A coordinator whose own clock is at 1970 signs nothing that would be expired at once everywhere else.
    let at_1970 = repo.online.publish(&repo.latest_root, &repo.latest_targets, None, 0);
    assert!(matches!(at_1970, Err(BuildError::Refused(Refusal::SignedAhead { role: Role::Root, .. }))));
}

#[test]
fn the_coordinator_goes_on_from_its_files_and_signs_anew_each_day() {
    let mut repo = Repo::new();
    let again = Published::read(repo.published.snapshot.clone(), repo.published.timestamp.clone()).unwrap();
    assert_eq!(again, repo.published);
    assert_eq!((again.snapshot_version, again.timestamp_version), (1, 1));
    assert_eq!(again.expires, NOW + ONLINE_VALID_SECS);
    assert!(!again.is_due(NOW + DAY - 1));
    assert!(again.is_due(NOW + DAY));
    assert!(again.is_due(NOW - 1), "it was signed by a clock that has gone back since");

    let mut client = Client::of(&repo);
    client.refresh(&repo).unwrap();
    repo.now += DAY;
    repo.publish();
    assert_eq!(client.refresh(&repo), Ok(()));
    assert_eq!(client.versions(), [1, 2, 2, 1]);
    // Files of two publications do not belong together.
    assert!(Published::read(again.snapshot, repo.published.timestamp.clone()).is_err());
}

#[test]
fn a_coordinator_with_keys_that_the_root_does_not_name_signs_nothing() {
    let repo = Repo::new();
    let refused = |online: &Online| online.publish(&repo.latest_root, &repo.latest_targets, None, NOW).unwrap_err();
    let own = |key: &orangery_trust::repository::SigningKey| {
        orangery_trust::repository::SigningKey::from_pem(&key.to_pem()).unwrap()
    };
    let role = |error| match error {
        BuildError::Refused(Refusal::Unsigned { role, .. }) => role,
        other => panic!("{other:?}"),
    };
    let online = Online { snapshot: key(), timestamp: own(&repo.online.timestamp) };
    assert_eq!(role(refused(&online)), Role::Snapshot);
    let online = Online { snapshot: own(&repo.online.snapshot), timestamp: key() };
    assert_eq!(role(refused(&online)), Role::Timestamp);
    let root = verify_root(&repo.latest_root).unwrap();
    assert!(root.trusts(Role::Snapshot, &repo.online.snapshot.public()));
    assert!(!root.trusts(Role::Snapshot, &repo.online.timestamp.public()));
    assert!(root.trusts(Role::Root, &repo.recovery.public()));
}

#[test]
fn a_following_root_has_the_next_version_and_the_same_keys() {
    let mut repo = Repo::new();
    let next = RootContent::next(&repo.latest_root, NOW, NOW + DAY).unwrap();
    assert_eq!(next.version, 2);
    assert_eq!(next.root.keys, [repo.root.public(), repo.recovery.public()].into());
    repo.rotate(|_| {});
    let (first, second) = (verify_root(&repo.files["1.root.json"]), verify_root(&repo.latest_root));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!((first.version, second.version), (1, 2));
    assert_ne!(first.fingerprint, second.fingerprint);
}

#[test]
fn a_delegated_role_signs_its_app_and_nothing_else_and_the_owner_has_the_last_word() {
    let repo = Repo::new();
    let team = key();
    let (app, other): (AppName, AppName) = ("greeter".parse().unwrap(), "other".parse().unwrap());
    let mut content = TargetsContent::next(&repo.latest_root, &repo.latest_targets).unwrap();
    assert_eq!(content.delegate("team", &app, &team.public()), Ok(true));
    assert_eq!(content.delegate("team", &app, &team.public()), Ok(false));
    for (name, app) in [("team", &other), ("second", &app)] {
        assert!(matches!(content.delegate(name, app, &team.public()), Err(BuildError::DelegatedAlready { .. })));
    }
    for name in ["root", "targets", "../x", ""] {
        assert!(matches!(content.delegate(name, &other, &team.public()), Err(BuildError::RoleName { .. })), "{name}");
    }
    let signed = content.sign(&repo.latest_root, &[&repo.targets], NOW, NOW + DAY).unwrap();
    let top = verify_targets(&repo.latest_root, &signed, NOW).unwrap();
    let version = "2.0.0".parse().unwrap();
    assert_eq!(top.role_for(&app, &version), Some("team"));
    assert_eq!(top.role_for(&other, &version), None);
    assert_eq!(top.roles().iter().map(DelegatedRole::app).collect::<Vec<_>>(), [Some(app.clone())]);

    let sign = |app: &AppName, key: &SigningKey, version: u64| {
        let mut role = TargetsContent::first_of("team", version);
        let custom = Custom { app: app.clone(), version: "2.0.0".parse().unwrap(), floor: None };
        role.add_release(&custom, MANIFEST).unwrap();
        role.sign_role(&top, &[key], NOW, NOW + DAY)
    };
    let refusal = |error: BuildError| match error {
        BuildError::Refused(Refusal::Delegated { refusal, .. }) => *refusal,
        error => panic!("{error:?}"),
    };
    assert!(refusal(sign(&other, &team, 1).unwrap_err()).to_string().contains("other/2.0.0"), "another app");
    assert!(matches!(refusal(sign(&app, &key(), 1).unwrap_err()), Refusal::Unsigned { .. }), "another key");
    assert!(top.vouched_role("team", &signed).is_err(), "targets are no role's metadata");
    let role = sign(&app, &team, 3).unwrap();
    assert!(top.verify_role("team", &role, NOW + DAY).is_err(), "it has expired");
    assert!(verify_targets(&repo.latest_root, &role, NOW).is_err(), "and a role's metadata are no targets");

    let roles = |bytes: &[u8]| [("team".to_owned(), bytes.to_vec())].into();
    let publish = |targets: &[u8], roles, before: &Published| {
        repo.online.publish_with(&repo.latest_root, targets, &roles, Some(before), NOW)
    };
    let published = publish(&signed, roles(&role), &repo.published).unwrap();
    assert_eq!(published.roles(), [("team".to_owned(), 3)].into());
    assert!(publish(&signed, roles(&sign(&app, &team, 2).unwrap()), &published).is_err(), "no step back");
    let mut content = TargetsContent::next(&repo.latest_root, &signed).unwrap();
    assert!(content.undelegate(&app) && !content.undelegate(&app));
    let targets = content.sign(&repo.latest_root, &[&repo.targets], NOW, NOW + DAY).unwrap();
    assert!(publish(&targets, roles(&role), &published).is_err(), "nobody vouches for it now");
    let ended = publish(&targets, std::collections::BTreeMap::new(), &published).unwrap();
    assert_eq!(ended.roles(), published.roles(), "what was listed stays listed");

    // Nodes: found by way of the role, unless the owner has taken it back.
    for vetoed in [false, true] {
        let mut content = TargetsContent::next(&repo.latest_root, &signed).unwrap();
        assert!(!vetoed || content.veto(&app, &version));
        let targets = content.sign(&repo.latest_root, &[&repo.targets], NOW, NOW + DAY).unwrap();
        let after = publish(&targets, roles(&role), &published).unwrap();
        let stored = Stored {
            roots: vec![repo.latest_root.clone()],
            timestamp: Some(after.timestamp),
            snapshot: Some(after.snapshot),
            targets: Some(targets),
        };
        let set = TrustedSet::load(&stored).unwrap();
        let mut search = Search::for_release(&set, &app, &version, NOW).unwrap();
        assert_eq!(search.next().is_some(), !vetoed);
        while search.next().is_some() {
            search.supply(Some(&role)).unwrap();
        }
        assert_eq!(search.release().is_ok(), !vetoed);
    }
}
