use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use orangery_trust::repository::{KeyHolders, Online, RootContent, SigningKey, TargetsContent, sign_root};
use orangery_wire::manifest::{Encoding, Entry, Manifest, Pack, Run, Tree, this_platform};
use orangery_wire::messages::{Refusal, RefusalCode};
use orangery_wire::{AppName, Digest, ReleaseId};

use super::*;
use crate::deployment::{Phase, Record, TRIES, Trial};
use crate::disk::RealDisk;
use crate::record::{self, AppState};

/// A node on a real disk with one app, at rest on its first release.
struct Node {
    _dir: tempfile::TempDir,
    layout: Layout,
    app: AppName,
    state: AppState,
}

impl Node {
    fn at_rest() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().join("state"));
        let mut node = Self { _dir: dir, layout, app: "web".parse().unwrap(), state: AppState::default() };
        let release = node.put_release("1.0.0");
        node.state.record = Record { desired: Some(release), current: Some(release), ..Record::default() };
        node.save();
        node.point(Some(release));
        node
    }

    fn current(&self) -> ReleaseId {
        self.state.record.current.unwrap()
    }

    fn save(&self) {
        record::save_app(&RealDisk, &self.layout, &self.app, &self.state).unwrap();
    }

    fn point(&self, release: Option<ReleaseId>) {
        record::set_current(&RealDisk, &self.layout, &self.app, release.as_ref()).unwrap();
    }

    /// Puts a whole release on the disk.
    fn put_release(&self, version: &str) -> ReleaseId {
        let content = format!("I am {version}");
        let manifest = manifest(&self.app, version, content.as_bytes());
        let seal = manifest.to_bytes();
        let release = ReleaseId(sha256(&seal));
        let tree = self.layout.tree(&self.app, &release);
        fs::create_dir_all(tree.join("share")).unwrap();
        fs::write(tree.join("app"), content).unwrap();
        fs::set_permissions(tree.join("app"), fs::Permissions::from_mode(0o555)).unwrap();
        std::os::unix::fs::symlink("../app", tree.join("share/latest")).unwrap();
        fs::write(self.layout.seal(&self.app, &release), seal).unwrap();
        release
    }

    fn in_tree(&self, path: &str) -> PathBuf {
        self.layout.tree(&self.app, &self.current()).join(path)
    }

    fn violations(&self) -> Vec<Violation> {
        check(&RealDisk, &self.layout)
    }
}

fn manifest(app: &AppName, version: &str, content: &[u8]) -> Manifest {
    let entries = vec![
        Entry::File { path: "app".into(), digest: sha256(content), size_bytes: content.len() as u64, executable: true },
        Entry::Directory { path: "share".into() },
        Entry::Link { path: "share/latest".into(), target: "../app".into() },
    ];
    let pack = Pack { digest: sha256(content), size_bytes: content.len() as u64, encoding: Encoding::None };
    let tree = Tree { size_bytes: content.len() as u64, pack, entries };
    let run: Run = serde_json::from_str(r#"{"exec":["app"]}"#).unwrap();
    let manifest = Manifest {
        format: 1,
        app: app.clone(),
        version: version.parse().unwrap(),
        notes: None,
        source: None,
        constraints: orangery_wire::manifest::Constraints::default(),
        run,
        probes: Vec::new(),
        soak_secs: 0,
        gate: orangery_wire::manifest::Gate::default(),
        platforms: BTreeMap::from([(this_platform(), tree)]),
    };
    manifest.validate().unwrap();
    manifest
}

fn sha256(bytes: &[u8]) -> Digest {
    let mut digest = [0; 32];
    digest.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    Digest(digest)
}

/// Exactly one invariant is not kept, and this is how it is told.
#[track_caller]
fn assert_one(violations: &[Violation], invariant: &str, subject: &str, text: &str) {
    assert_eq!(violations.len(), 1, "{violations:#?}");
    let found = &violations[0];
    assert!(
        found.invariant == invariant && found.subject.contains(subject) && found.text.contains(text),
        "{found} instead of {invariant} {subject}: {text}"
    );
}

#[test]
fn a_node_at_rest_keeps_every_invariant() {
    let node = Node::at_rest();
    assert_eq!(node.violations(), []);
    assert_eq!(check_at_rest(&RealDisk, &node.layout), []);
    assert_eq!(check(&RealDisk, &Layout::new(node.layout.root().join("none"))), [], "nor does a node that never was");
}

#[test]
fn every_way_in_which_the_current_release_can_differ_from_what_was_signed_is_found() {
    type Way = (&'static str, &'static str, fn(&Path));
    let ways: [Way; 7] = [
        ("app", "other content", |path| write(path, "I am 1.0.1", 0o555)),
        ("app", "another size", |path| write(path, "I am 1.0.0 ", 0o555)),
        ("app", "other permissions", |path| write(path, "I am 1.0.0", 0o755)),
        ("app", "missing", |path| fs::remove_file(path).unwrap()),
        ("share/extra", "not signed", |path| fs::write(path, "").unwrap()),
        ("share/latest", "leads elsewhere", |path| {
            fs::remove_file(path).unwrap();
            std::os::unix::fs::symlink("/bin/sh", path).unwrap();
        }),
        ("app", "not a file", |path| {
            fs::remove_file(path).unwrap();
            std::os::unix::fs::symlink("/bin/sh", path).unwrap();
        }),
    ];
    for (path, text, spoil) in ways {
        let node = Node::at_rest();
        spoil(&node.in_tree(path));
        assert_one(&node.violations(), "I1", path, text);
    }
}

fn write(path: &Path, content: &str, mode: u32) {
    fs::remove_file(path).unwrap();
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_current_release_without_its_seal_is_found_and_so_is_the_link_to_it() {
    let node = Node::at_rest();
    fs::write(node.layout.seal(&node.app, &node.current()), "{}").unwrap();
    let violations = node.violations();
    assert_eq!(violations.iter().map(|found| found.invariant).collect::<Vec<_>>(), ["I2", "I1"]);
}

#[test]
fn the_link_may_name_the_release_before_but_no_other() {
    let mut node = Node::at_rest();
    let (old, new) = (node.current(), node.put_release("1.1.0"));
    let before = node.state.record.clone();
    node.state.record = Record { desired: Some(new), current: Some(new), ..before.clone() };
    node.state = node.state.clone().with_previous(&before);
    node.save();
    assert_eq!(node.violations(), [], "the cut was between the save and the move of the link");
    assert_one(&check_at_rest(&RealDisk, &node.layout), "I1", "apps/web/current", &old.short());

    let other = node.put_release("9.9.9");
    node.point(Some(other));
    assert_one(&node.violations(), "I1", "apps/web/current", "it names");
    node.point(None);
    assert_one(&node.violations(), "I1", "apps/web/current", "it names nothing");
}

#[test]
fn after_a_rollback_the_link_may_still_name_what_was_rolled_back() {
    let mut node = Node::at_rest();
    let (old, bad) = (node.current(), node.put_release("1.1.0"));
    node.point(Some(bad));
    let refused = Refusal { release: bad, code: RefusalCode::RolledBack, reason: String::new() };
    let record = &mut node.state.record;
    (record.desired, record.refused, record.phase) = (Some(bad), Some(refused), Phase::Restoring { attempt: 0 });
    node.save();
    assert_eq!(node.violations(), []);
    node.point(Some(old));
    assert_eq!(node.violations(), []);
}

#[test]
fn a_trial_must_be_sealed_counted_and_known() {
    let trial = |release, generation, tries_left| Phase::Probing(Trial { release, generation, tries_left });
    let mut node = Node::at_rest();
    let sealed = node.put_release("1.1.0");
    let unsealed = ReleaseId(Digest([7; 32]));
    for (phase, broken) in [
        (trial(sealed, 0, TRIES - 1), None),
        (trial(unsealed, 0, 0), Some(("I3", "not sealed"))),
        (trial(sealed, 0, TRIES), Some(("I11", "tries are left"))),
        (trial(sealed, 1, 0), Some(("I5", "yet to come"))),
    ] {
        node.state.record.phase = phase;
        node.state.record.desired = Some(sealed);
        node.save();
        match broken {
            None => assert_eq!(node.violations(), []),
            Some((invariant, text)) => assert_one(&node.violations(), invariant, "state.json", text),
        }
    }
}

#[test]
fn a_record_that_contradicts_itself_is_found() {
    let mut node = Node::at_rest();
    let other = node.put_release("1.1.0");
    node.state.record.desired = Some(other);
    node.save();
    assert_one(&node.violations(), "I5", "state.json", "settled");
    let refused = Refusal { release: node.current(), code: RefusalCode::Unhealthy, reason: String::new() };
    node.state.record.refused = Some(refused);
    node.state.record.desired = Some(node.current());
    node.save();
    assert_one(&node.violations(), "I5", "state.json", "refused release is current");
}

#[test]
fn one_damaged_record_is_no_violation_two_are() {
    let node = Node::at_rest();
    node.save();
    let path = node.layout.record(&node.app);
    fs::write(&path, "torn").unwrap();
    assert_eq!(node.violations(), []);
    fs::write(record::previous(&path), "torn too").unwrap();
    assert_one(&node.violations(), "I5", "apps/web/state.json", "neither");
}

#[test]
fn more_releases_than_a_cut_leaves_are_found() {
    let node = Node::at_rest();
    node.put_release("2.0.0");
    node.put_release("3.0.0");
    assert_eq!(node.violations(), []);
    node.put_release("4.0.0");
    assert_one(&node.violations(), "I12", "apps/web/releases", "3 releases");
}

#[test]
fn a_private_key_that_others_can_read_is_found() {
    let node = Node::at_rest();
    let directory = node.layout.identity();
    fs::create_dir(&directory).unwrap();
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(&directory, 0o700);
    let key = directory.join("node.key");
    fs::write(&key, "key").unwrap();
    mode(&key, 0o600);
    assert_eq!(node.violations(), [], "a join that was cut");
    mode(&key, 0o640);
    assert_one(&node.violations(), "I9", "identity/node.key", "others");
    mode(&key, 0o600);
    mode(&directory, 0o750);
    assert_one(&node.violations(), "I9", "identity", "alone");
}

#[test]
fn a_key_that_is_lost_after_the_node_joined_is_found() {
    let node = Node::at_rest();
    let directory = node.layout.identity();
    crate::disk::make_dir(&RealDisk, &directory, 0o700).unwrap();
    for name in ["coordinator.json", "ca.pem", "node.pem"] {
        crate::disk::replace(&RealDisk, &directory.join(name), b"{}", 0o600).unwrap();
    }
    let violations = node.violations();
    assert!(violations.iter().any(|found| found.invariant == "I9" && found.subject == "identity/node.key"));
}

/// Metadata of an owner, as the agent keeps it.
struct Metadata {
    root: Vec<u8>,
    timestamps: Vec<Vec<u8>>,
    snapshots: Vec<Vec<u8>>,
    targets: Vec<u8>,
}

impl Metadata {
    fn of_two_publications() -> Self {
        let key = || SigningKey::generate().unwrap();
        let (root_key, targets_key, online) = (key(), key(), Online { snapshot: key(), timestamp: key() });
        let (now, later) = (1_800_000_000, 1_900_000_000);
        let root = RootContent {
            version: 1,
            signed_at: now,
            expires: later,
            root: KeyHolders::any_of([root_key.public()]),
            targets: KeyHolders::any_of([targets_key.public()]),
            snapshot: KeyHolders::any_of([online.snapshot.public()]),
            timestamp: KeyHolders::any_of([online.timestamp.public()]),
        };
        let root = sign_root(&root, &[&root_key], None).unwrap();
        let targets = TargetsContent::first().sign(&root, &[&targets_key], now, later).unwrap();
        let first = online.publish(&root, &targets, None, now).unwrap();
        let next = TargetsContent::next(&root, &targets).unwrap().sign(&root, &[&targets_key], now, later).unwrap();
        let second = online.publish(&root, &next, Some(&first), now).unwrap();
        Self {
            root,
            timestamps: vec![first.timestamp, second.timestamp],
            snapshots: vec![first.snapshot, second.snapshot],
            targets: next,
        }
    }

    fn write(&self, layout: &Layout) {
        let put = |name: &str, bytes: &[u8]| fs::write(layout.trust().join(name), bytes).unwrap();
        fs::create_dir_all(layout.trust()).unwrap();
        put("1.root.json", &self.root);
        put("root.json", &self.root);
        put("timestamp.json.previous", &self.timestamps[0]);
        put("timestamp.json", &self.timestamps[1]);
        put("snapshot.json.previous", &self.snapshots[0]);
        put("snapshot.json", &self.snapshots[1]);
        put("targets.json", &self.targets);
        let floor = trust::Floor { format: record::FORMAT, timestamp: 2, snapshot: 2, targets: 2 };
        record::save_kept(&RealDisk, &layout.trust().join("floor.json"), &floor).unwrap();
    }
}

#[test]
fn trusted_metadata_that_went_back_or_is_damaged_is_found() {
    let node = Node::at_rest();
    let metadata = Metadata::of_two_publications();
    metadata.write(&node.layout);
    assert_eq!(node.violations(), []);
    let put = |name: &str, bytes: &[u8]| fs::write(node.layout.trust().join(name), bytes).unwrap();

    put("timestamp.json", b"torn");
    assert_eq!(node.violations(), [], "its previous copy is whole");
    put("timestamp.json.previous", b"torn");
    assert_one(&node.violations(), "I8", "trust", "does not verify");

    put("timestamp.json", &metadata.timestamps[0]);
    put("snapshot.json", &metadata.snapshots[0]);
    let violations = node.violations();
    assert!(violations.iter().all(|found| found.invariant == "I8") && violations.len() == 2, "{violations:#?}");

    metadata.write(&node.layout);
    put("3.root.json", &metadata.root);
    assert_one(&node.violations(), "I8", "trust", "gap");
}
