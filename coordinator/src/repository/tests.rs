use orangery_trust::release::Custom;
use orangery_trust::repository::{
    KeyHolders, ONLINE_VALID_SECS, RENEW_AFTER_SECS, ROOT_VALID_SECS, RootContent, SigningKey, TARGETS_VALID_SECS,
    TargetsContent, sign_root,
};
use orangery_trust::{PublicKey, Refresh, Stored, TrustedSet};

use super::*;

mod roots;

const NOW: UnixTime = 1_800_000_000;

struct Owner {
    directory: tempfile::TempDir,
    root_key: SigningKey,
    targets_key: SigningKey,
    root: Vec<u8>,
    before: Option<Vec<u8>>,
}

fn key() -> SigningKey {
    SigningKey::generate().unwrap()
}

impl Owner {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (root_key, targets_key, snapshot, timestamp) = (key(), key(), key(), key());
        let content = RootContent {
            version: 1,
            signed_at: NOW,
            expires: NOW + ROOT_VALID_SECS,
            root: KeyHolders::any_of([root_key.public()]),
            targets: KeyHolders::any_of([targets_key.public()]),
            snapshot: KeyHolders::any_of([snapshot.public()]),
            timestamp: KeyHolders::any_of([timestamp.public()]),
        };
        let root = sign_root(&content, &[&root_key], None).unwrap();
        std::fs::write(directory.path().join("snapshot.key"), snapshot.to_pem()).unwrap();
        std::fs::write(directory.path().join("timestamp.key"), timestamp.to_pem()).unwrap();
        std::fs::create_dir(directory.path().join("metadata")).unwrap();
        std::fs::write(directory.path().join("metadata/1.root.json"), &root).unwrap();
        Self { directory, root_key, targets_key, root, before: None }
    }

    fn files(&self) -> RepositoryFiles {
        let at = |name: &str| self.directory.path().join(name);
        RepositoryFiles {
            metadata: at("metadata"),
            targets: at("targets"),
            snapshot_key: at("snapshot.key"),
            timestamp_key: at("timestamp.key"),
        }
    }

    /// The next root with another targets key and, if there are such, other online keys; and the same targets by that key.
    fn rotate(&mut self, online: Option<(PublicKey, PublicKey)>) -> (Vec<u8>, Vec<u8>) {
        let targets_key = key();
        let mut content = RootContent::next(&self.root, NOW, NOW + ROOT_VALID_SECS).unwrap();
        content.targets = KeyHolders::any_of([targets_key.public()]);
        if let Some((snapshot, timestamp)) = online {
            content.snapshot = KeyHolders::any_of([snapshot]);
            content.timestamp = KeyHolders::any_of([timestamp]);
        }
        let root = sign_root(&content, &[&self.root_key], Some(&self.root)).unwrap();
        let targets = TargetsContent::next(&self.root, self.before.as_ref().unwrap()).unwrap();
        let targets = targets.sign(&root, &[&targets_key], NOW, NOW + TARGETS_VALID_SECS).unwrap();
        (self.root, self.targets_key, self.before) = (root.clone(), targets_key, Some(targets.clone()));
        (root, targets)
    }

    fn open(&self, now: UnixTime) -> Repository {
        Repository::open(self.files(), now).unwrap()
    }

    /// Targets that follow the last ones and add `manifest`.
    fn sign(&mut self, version: &str, manifest: &[u8]) -> Vec<u8> {
        let mut content = match &self.before {
            Some(before) => TargetsContent::next(&self.root, before).unwrap(),
            None => TargetsContent::first(),
        };
        let custom = Custom { app: app(), version: version.parse().unwrap(), floor: None };
        content.add_release(&custom, manifest).unwrap();
        let signed = content.sign(&self.root, &[&self.targets_key], NOW, NOW + TARGETS_VALID_SECS).unwrap();
        self.before = Some(signed.clone());
        signed
    }
}

fn app() -> AppName {
    "greeter".parse().unwrap()
}

fn publish(
    repository: &Repository,
    version: &str,
    manifest: &[u8],
    targets: &[u8],
    now: UnixTime,
) -> Result<ReleaseId, RepositoryError> {
    repository.publish(&app(), &version.parse().unwrap(), manifest, targets, now)
}

/// What a node that knows only the first root comes to trust, asking as nodes ask.
fn node_trusts(repository: &Repository, version: &str, now: UnixTime) -> Result<Vec<u8>, Refusal> {
    let roots = vec![repository.first_root().as_bytes().to_vec()];
    let trusted = TrustedSet::load(&Stored { roots, timestamp: None, snapshot: None, targets: None })?;
    let mut refresh = Refresh::begin(trusted, now);
    while let Some(request) = refresh.next() {
        let answer = repository.metadata(&request.file).unwrap();
        refresh.supply(answer.as_deref())?;
    }
    let release = refresh.finish().release(&app(), &version.parse().unwrap(), now)?;
    let name = release.file.rsplit('/').next().unwrap();
    Ok(repository.manifest(&app(), &version.parse().unwrap(), name).unwrap().unwrap())
}

fn timestamp(repository: &Repository) -> Vec<u8> {
    repository.metadata("timestamp.json").unwrap().unwrap()
}

#[test]
fn a_node_finds_what_was_published_and_the_same_again_changes_nothing() {
    let mut owner = Owner::new();
    let repository = owner.open(NOW);
    assert!(node_trusts(&repository, "1.0.0", NOW).is_err(), "nothing is there yet");
    let one = owner.sign("1.0.0", b"one");
    publish(&repository, "1.0.0", b"one", &one, NOW).unwrap();
    let two = owner.sign("1.1.0", b"two");
    publish(&repository, "1.1.0", b"two", &two, NOW).unwrap();
    assert_eq!(node_trusts(&repository, "1.0.0", NOW).unwrap(), b"one");
    assert_eq!(node_trusts(&repository, "1.1.0", NOW).unwrap(), b"two");
    let before = timestamp(&repository);
    publish(&repository, "1.1.0", b"two", &two, NOW + 5).unwrap();
    assert_eq!(timestamp(&repository), before);
}

#[test]
fn targets_that_are_older_forged_expired_or_of_another_manifest_are_refused_and_change_nothing() {
    let mut owner = Owner::new();
    let repository = owner.open(NOW);
    let one = owner.sign("1.0.0", b"one");
    let two = owner.sign("1.1.0", b"two");
    publish(&repository, "1.1.0", b"two", &two, NOW).unwrap();
    let before = timestamp(&repository);

    let older = publish(&repository, "1.0.0", b"one", &one, NOW).unwrap_err();
    assert!(matches!(older, RepositoryError::Refused(Refusal::Rollback { .. })), "{older}");
    let stranger = Owner::new().sign("1.2.0", b"three");
    let forged = publish(&repository, "1.2.0", b"three", &stranger, NOW).unwrap_err();
    assert!(matches!(forged, RepositoryError::Refused(Refusal::Unsigned { .. })), "{forged}");
    let expired = publish(&repository, "1.1.0", b"two", &two, NOW + TARGETS_VALID_SECS + 1).unwrap_err();
    assert!(matches!(expired, RepositoryError::Refused(Refusal::Expired { .. })), "{expired}");
    let other = publish(&repository, "1.1.0", b"too", &two, NOW).unwrap_err();
    assert!(matches!(other, RepositoryError::WrongManifest { .. }), "{other}");
    let unknown = publish(&repository, "9.9.9", b"two", &two, NOW).unwrap_err();
    assert!(matches!(unknown, RepositoryError::Refused(Refusal::UnknownTarget { .. })), "{unknown}");
    assert_eq!(timestamp(&repository), before);
}

#[test]
fn versions_go_on_after_a_restart() {
    let mut owner = Owner::new();
    let one = owner.sign("1.0.0", b"one");
    publish(&owner.open(NOW), "1.0.0", b"one", &one, NOW).unwrap();
    let before = timestamp(&owner.open(NOW));
    let repository = owner.open(NOW);
    assert_eq!(timestamp(&repository), before, "a start alone signs nothing");
    let two = owner.sign("1.1.0", b"two");
    publish(&repository, "1.1.0", b"two", &two, NOW).unwrap();
    assert!(repository.metadata("2.snapshot.json").unwrap().is_some());
    assert_eq!(node_trusts(&repository, "1.1.0", NOW).unwrap(), b"two");
}

#[test]
fn a_publication_that_a_kill_cut_short_is_completed_at_the_next_start() {
    let mut owner = Owner::new();
    let one = owner.sign("1.0.0", b"one");
    publish(&owner.open(NOW), "1.0.0", b"one", &one, NOW).unwrap();
    // Killed after each write of the second publication: the manifest, the targets, the snapshot.
    let two = owner.sign("1.1.0", b"two");
    let metadata = owner.directory.path().join("metadata");
    let manifests = owner.directory.path().join("targets/greeter/1.1.0");
    std::fs::create_dir_all(&manifests).unwrap();
    std::fs::write(manifests.join(format!("{}.manifest.json", sha256::digest(b"two"))), b"two").unwrap();
    assert!(node_trusts(&owner.open(NOW), "1.1.0", NOW).is_err());
    std::fs::write(metadata.join("2.snapshot.json"), b"half a snap").unwrap();
    assert_eq!(node_trusts(&owner.open(NOW), "1.0.0", NOW).unwrap(), b"one");
    std::fs::write(metadata.join("2.targets.json"), &two).unwrap();
    assert_eq!(node_trusts(&owner.open(NOW), "1.1.0", NOW).unwrap(), b"two");
}

#[test]
fn expired_targets_are_still_what_the_next_must_follow() {
    let mut owner = Owner::new();
    let one = owner.sign("1.0.0", b"one");
    let two = owner.sign("1.1.0", b"two");
    publish(&owner.open(NOW), "1.1.0", b"two", &two, NOW).unwrap();
    for now in [NOW + TARGETS_VALID_SECS + 1, 0] {
        let repository = owner.open(now);
        let older = publish(&repository, "1.0.0", b"one", &one, NOW).unwrap_err();
        assert!(matches!(older, RepositoryError::Refused(Refusal::Rollback { .. })), "{older}");
    }
}

#[test]
fn snapshot_and_timestamp_are_signed_anew_long_before_they_expire() {
    let mut owner = Owner::new();
    let repository = owner.open(NOW);
    assert!(!repository.renew(NOW).unwrap(), "there is nothing to sign yet");
    let one = owner.sign("1.0.0", b"one");
    publish(&repository, "1.0.0", b"one", &one, NOW).unwrap();
    assert!(!repository.renew(NOW + RENEW_AFTER_SECS - 1).unwrap());
    let mut now = NOW;
    while now < NOW + 2 * ONLINE_VALID_SECS {
        now += RENEW_AFTER_SECS;
        assert!(repository.renew(now).unwrap());
    }
    assert_eq!(node_trusts(&repository, "1.0.0", now).unwrap(), b"one");
    let files = std::fs::read_dir(owner.directory.path().join("metadata")).unwrap().count();
    assert!(files < 15, "{files} files: the old ones are not kept for ever");
}

#[test]
fn targets_alone_may_take_releases_back_and_never_add_what_is_not_here() {
    let mut owner = Owner::new();
    let repository = owner.open(NOW);
    let one = owner.sign("1.0.0", b"one");
    publish(&repository, "1.0.0", b"one", &one, NOW).unwrap();
    let two = owner.sign("1.1.0", b"two");
    let unknown = repository.accept(None, Some(&two), NOW).unwrap_err();
    assert!(matches!(unknown, RepositoryError::NoManifest { .. }), "{unknown}");
    publish(&repository, "1.1.0", b"two", &two, NOW).unwrap();
    let mut content = TargetsContent::next(&owner.root, &two).unwrap();
    assert!(content.remove_release(&app(), &"1.1.0".parse().unwrap()));
    let three = content.sign(&owner.root, &[&owner.targets_key], NOW, NOW + TARGETS_VALID_SECS).unwrap();
    assert_eq!(repository.accept(None, Some(&three), NOW).unwrap().targets, Some(3));
    assert_eq!(repository.standing(&app(), &"1.1.0".parse().unwrap()), Standing::Revoked);
    assert_eq!(repository.standing(&app(), &"1.0.0".parse().unwrap()), Standing::Good);
    assert!(node_trusts(&repository, "1.1.0", NOW).is_err());
    let older = repository.accept(None, Some(&two), NOW).unwrap_err();
    assert!(matches!(older, RepositoryError::Refused(Refusal::Rollback { .. })), "{older}");
}

#[test]
fn without_a_root_or_with_a_key_that_it_does_not_name_nothing_starts() {
    let owner = Owner::new();
    std::fs::write(owner.directory.path().join("timestamp.key"), key().to_pem()).unwrap();
    let error = Repository::open(owner.files(), NOW).unwrap_err();
    assert!(matches!(error, RepositoryError::KeyNotTrusted { role: Role::Timestamp }), "{error}");
    std::fs::remove_file(owner.directory.path().join("metadata/1.root.json")).unwrap();
    let error = Repository::open(owner.files(), NOW).unwrap_err();
    assert!(matches!(error, RepositoryError::NoRoot { .. }) && error.to_string().contains("orangery init"), "{error}");
}

#[test]
fn only_metadata_and_manifests_can_be_asked_for() {
    let owner = Owner::new();
    let repository = owner.open(NOW);
    assert!(repository.metadata("1.root.json").unwrap().is_some());
    for name in [
        "01.root.json",
        "+1.root.json",
        "root.json",
        "../snapshot.key",
        "1.root.json/..",
        "",
        ".root.json",
        "1.timestamp.json",
    ] {
        assert!(repository.metadata(name).unwrap().is_none(), "{name}");
    }
    let version = "1.0.0".parse().unwrap();
    for name in ["manifest.json", "../../../snapshot.key", "x.manifest.json"] {
        assert!(repository.manifest(&app(), &version, name).unwrap().is_none(), "{name}");
    }
}

/// Metadata of the role "team" that follows `before` and adds `manifest`.
fn sign_role(
    top: &[u8],
    owner: &Owner,
    key: &SigningKey,
    before: Option<&[u8]>,
    version: &str,
    manifest: &[u8],
) -> Vec<u8> {
    let top = verify_targets(&owner.root, top, NOW).unwrap();
    let mut content = match before {
        Some(before) => TargetsContent::next_of(&top, "team", before).unwrap(),
        None => TargetsContent::first_of("team", 1),
    };
    content.add_release(&Custom { app: app(), version: version.parse().unwrap(), floor: None }, manifest).unwrap();
    content.sign_role(&top, &[key], NOW, NOW + TARGETS_VALID_SECS).unwrap()
}

#[test]
fn a_delegated_role_is_published_as_the_targets_have_it_whenever_a_kill_comes() {
    let (mut owner, team) = (Owner::new(), key());
    let targets = owner.sign("1.0.0", b"one");
    let mut content = TargetsContent::next(&owner.root, &targets).unwrap();
    content.delegate("team", &app(), &team.public()).unwrap();
    let delegating = content.sign(&owner.root, &[&owner.targets_key], NOW, NOW + TARGETS_VALID_SECS).unwrap();
    let repository = owner.open(NOW);
    publish(&repository, "1.0.0", b"one", &targets, NOW).unwrap();
    let role = sign_role(&delegating, &owner, &team, None, "2.0.0", b"two");
    publish(&repository, "2.0.0", b"two", &role, NOW).unwrap_err();
    repository.accept(None, Some(&delegating), NOW).unwrap();
    publish(&repository, "1.0.0", b"one", &role, NOW).unwrap_err();
    publish(&repository, "2.0.0", b"other", &role, NOW).unwrap_err();
    publish(&repository, "2.0.0", b"two", &role, NOW).unwrap();
    assert_eq!(repository.view().roles, [("team".to_owned(), 1)].into());
    assert_eq!(repository.metadata("1.team.json").unwrap(), Some(role.clone()));
    assert_eq!(repository.metadata("1.../x.json").unwrap(), None);

    // Cut after the role's file, and after the snapshot: the start completes it.
    let next = sign_role(&delegating, &owner, &team, Some(&role), "2.1.0", b"three");
    let metadata = owner.directory.path().join("metadata");
    let timestamp = std::fs::read(metadata.join("timestamp.json")).unwrap();
    publish(&repository, "2.1.0", b"three", &next, NOW).unwrap();
    for snapshot_too in [true, false] {
        let version = owner.open(NOW).view().snapshot.unwrap();
        if snapshot_too {
            std::fs::remove_file(metadata.join(format!("{version}.snapshot.json"))).unwrap();
        }
        std::fs::write(metadata.join("timestamp.json"), &timestamp).unwrap();
        assert_eq!(owner.open(NOW).view().roles, [("team".to_owned(), 2)].into());
    }
    let repository = owner.open(NOW);
    assert!(publish(&repository, "2.0.0", b"two", &role, NOW).is_err(), "no step back");
    assert_eq!(repository.standing(&app(), &"2.1.0".parse().unwrap()), Standing::Good);
    // It ends: nodes are told, and what was listed stays listed and is served (TUF 5.5.5).
    let mut content = TargetsContent::next(&owner.root, &delegating).unwrap();
    assert!(content.undelegate(&app()));
    content.veto(&app(), &"2.1.0".parse().unwrap());
    let ended = content.sign(&owner.root, &[&owner.targets_key], NOW, NOW + TARGETS_VALID_SECS).unwrap();
    let view = repository.accept(None, Some(&ended), NOW).unwrap();
    assert_eq!((view.targets, view.roles), (Some(3), [("team".to_owned(), 2)].into()));
    assert!(repository.metadata("2.team.json").unwrap().is_some());
    assert!(publish(&repository, "2.1.0", b"three", &next, NOW).is_err());
    assert_eq!(repository.standing(&app(), &"2.1.0".parse().unwrap()), Standing::Revoked);
    node_trusts(&repository, "1.0.0", NOW).unwrap();
}
