//! Roots with other keys.

use super::*;

#[test]
fn a_root_with_other_keys_is_taken_with_the_targets_that_they_signed_and_nodes_follow() {
    let mut owner = Owner::new();
    let repository = owner.open(NOW);
    let one = owner.sign("1.0.0", b"one");
    publish(&repository, "1.0.0", b"one", &one, NOW).unwrap();
    let before = timestamp(&repository);
    let online = repository.prepare_online_keys().unwrap();
    assert_eq!(repository.prepare_online_keys().unwrap(), online, "the same again gives the same keys");
    let (root, targets) = owner.rotate(Some(online));

    let alone = repository.accept(Some(&root), None, NOW).unwrap_err();
    assert!(matches!(alone, RepositoryError::TargetsNeeded), "{alone}");
    assert_eq!(timestamp(&repository), before);
    let view = repository.accept(Some(&root), Some(&targets), NOW).unwrap();
    assert_eq!((view.root, view.targets), (2, Some(2)));
    assert_eq!(node_trusts(&repository, "1.0.0", NOW).unwrap(), b"one");
    let told = timestamp(&repository);
    assert_eq!(repository.accept(Some(&root), Some(&targets), NOW).unwrap(), view);
    assert_eq!(timestamp(&repository), told, "the same again changes nothing");
    assert_eq!(owner.open(NOW).view(), view);
    let two = owner.sign("1.1.0", b"two");
    publish(&repository, "1.1.0", b"two", &two, NOW).unwrap();
    assert_eq!(node_trusts(&repository, "1.1.0", NOW).unwrap(), b"two");
}

#[test]
fn a_root_that_nodes_would_refuse_or_that_names_strange_online_keys_is_refused_and_changes_nothing() {
    let mut owner = Owner::new();
    let repository = owner.open(NOW);
    let one = owner.sign("1.0.0", b"one");
    publish(&repository, "1.0.0", b"one", &one, NOW).unwrap();
    let before = timestamp(&repository);
    let next = |change: &dyn Fn(&mut RootContent)| {
        let mut content = RootContent::next(&owner.root, NOW, NOW + ROOT_VALID_SECS).unwrap();
        change(&mut content);
        content
    };
    let sign = |content: &RootContent, key: &SigningKey| {
        let draft =
            orangery_trust::repository::Draft::new(content, &orangery_trust::repository::KeyNames::new()).unwrap();
        draft.sign(&[key]).unwrap().bytes().to_vec()
    };
    let refused = |root: &[u8]| repository.accept(Some(root), None, NOW).unwrap_err();
    let unsigned = refused(&sign(&next(&|_| {}), &key()));
    assert!(
        matches!(&unsigned, RepositoryError::RootRefused(r) if matches!(**r, Refusal::Unsigned { .. })),
        "{unsigned}"
    );
    let skipped = refused(&sign(&next(&|root| root.version = 3), &owner.root_key));
    assert!(
        matches!(&skipped, RepositoryError::RootRefused(r) if matches!(**r, Refusal::WrongVersion { .. })),
        "{skipped}"
    );
    let expired = refused(&sign(&next(&|root| root.expires = NOW), &owner.root_key));
    assert!(matches!(&expired, RepositoryError::RootRefused(r) if matches!(**r, Refusal::Expired { .. })), "{expired}");
    let ahead = refused(&sign(&next(&|root| root.signed_at = NOW + 90_000), &owner.root_key));
    assert!(matches!(&ahead, RepositoryError::RootRefused(r) if matches!(**r, Refusal::SignedAhead { .. })), "{ahead}");
    let strange = next(&|root| root.snapshot = KeyHolders::any_of([key().public()]));
    let strange = refused(&sign(&strange, &owner.root_key));
    assert!(matches!(strange, RepositoryError::KeyNotTrusted { role: Role::Snapshot }), "{strange}");
    let junk = refused(b"{}");
    assert!(matches!(&junk, RepositoryError::RootRefused(r) if matches!(**r, Refusal::Unreadable { .. })), "{junk}");
    assert_eq!(timestamp(&repository), before);
    assert_eq!(repository.view().root, 1);
}

#[test]
fn a_new_root_that_a_kill_cut_short_is_completed_at_the_next_start_or_by_the_same_call() {
    // How many of the writes are done: targets, root, both keys.
    for done in 0..=4 {
        let mut owner = Owner::new();
        let one = owner.sign("1.0.0", b"one");
        let repository = owner.open(NOW);
        publish(&repository, "1.0.0", b"one", &one, NOW).unwrap();
        let (root, targets) = owner.rotate(Some(repository.prepare_online_keys().unwrap()));
        drop(repository);
        let at = |name: &str| owner.directory.path().join(name);
        if done >= 1 {
            std::fs::write(at("metadata/2.targets.json"), &targets).unwrap();
        }
        if done >= 2 {
            std::fs::write(at("metadata/2.root.json"), &root).unwrap();
        }
        if done >= 3 {
            std::fs::rename(at("snapshot.key.next"), at("snapshot.key")).unwrap();
        }
        if done >= 4 {
            std::fs::rename(at("timestamp.key.next"), at("timestamp.key")).unwrap();
        }
        let repository = owner.open(NOW);
        assert_eq!(node_trusts(&repository, "1.0.0", NOW).unwrap(), b"one", "cut after {done} writes");
        assert_eq!(repository.view().root, if done >= 2 { 2 } else { 1 });
        let view = repository.accept(Some(&root), Some(&targets), NOW).unwrap();
        assert_eq!((view.root, view.targets), (2, Some(2)), "cut after {done} writes");
        assert_eq!(node_trusts(&repository, "1.0.0", NOW).unwrap(), b"one", "cut after {done} writes");
    }
}
