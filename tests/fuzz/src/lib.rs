//! What is fuzzed, one function for each target: it panics when a rule is broken. `agent/tests/fuzz_corpus.rs` includes this
//! file, so that every `cargo test` goes through the kept corpus and some thousand changes of it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use orangery_agent::clock::Clock;
use orangery_agent::road::{Place, Road};
use orangery_agent::unpack::{Directory, unpack};
use orangery_trust::release::Custom;
use orangery_trust::repository::{
    KeyHolders, Online, ROOT_VALID_SECS, RootContent, SigningKey, TARGETS_VALID_SECS, TargetsContent, sign_root,
    verify_root,
};
use orangery_trust::{Refresh, Role, Stored, TrustedSet, canonical};
use orangery_wire::manifest::{Entry, Tree, check_path};
use orangery_wire::{Manifest, limits};

/// 2026-11-21T00:00:00Z
const NOW: u64 = 1_795_219_200;

/// Takes an input and panics when a rule is broken.
pub type Target = fn(&[u8]);

/// All targets, by name.
pub const TARGETS: [(&str, Target); 7] = [
    ("root", root),
    ("timestamp", timestamp),
    ("snapshot", snapshot),
    ("targets", targets),
    ("manifest", manifest),
    ("bundle", bundle),
    ("tree", tree),
];

/// Whether the target `name` takes these bytes for good.
pub fn is_accepted(name: &str, bytes: &[u8]) -> bool {
    match name {
        "root" => offer(Role::Root, "2.root.json", bytes).is_some(),
        "timestamp" => offer(Role::Timestamp, "timestamp.json", bytes).is_some(),
        "snapshot" => offer(Role::Snapshot, "1.snapshot.json", bytes).is_some(),
        "targets" => offer(Role::Targets, "1.targets.json", bytes).is_some(),
        "manifest" => Manifest::parse(bytes).is_ok(),
        _ => true,
    }
}

/// Root metadata, offered to a client as its next root.
pub fn root(bytes: &[u8]) {
    if let Ok(root) = verify_root(bytes) {
        assert!(root.version > 0, "a root without a version");
    }
    metadata(Role::Root, "2.root.json", bytes);
}

/// Timestamp metadata.
pub fn timestamp(bytes: &[u8]) {
    metadata(Role::Timestamp, "timestamp.json", bytes);
}

/// Snapshot metadata.
pub fn snapshot(bytes: &[u8]) {
    metadata(Role::Snapshot, "1.snapshot.json", bytes);
}

/// Targets metadata.
pub fn targets(bytes: &[u8]) {
    metadata(Role::Targets, "1.targets.json", bytes);
}

/// Whoever does not have the keys can offer nothing but what was signed, and the verdict is always the same.
fn metadata(role: Role, file: &str, bytes: &[u8]) {
    let kept = offer(role, file, bytes);
    assert_eq!(kept, offer(role, file, bytes), "two verdicts on the same bytes");
    if let Some(kept) = kept {
        assert_eq!(kept, bytes, "what is kept is not what was served");
        assert!(bytes.len() as u64 <= role.length_max(), "longer than the limit");
        assert_eq!(signed(bytes), signed(&repository()[file]), "a forgery was accepted");
    }
    // From the disk, where anything may lie after a power cut.
    let mut stored = Stored { roots: vec![repository()["1.root.json"].clone()], ..Stored::default() };
    match role {
        Role::Root => stored.roots.push(bytes.to_vec()),
        Role::Timestamp => stored.timestamp = Some(bytes.to_vec()),
        Role::Snapshot => stored.snapshot = Some(bytes.to_vec()),
        Role::Targets => stored.targets = Some(bytes.to_vec()),
    }
    let _ = TrustedSet::load(&stored);
}

/// A refresh in which `file` is `bytes`; what of it was kept.
fn offer(role: Role, file: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    let roots = vec![repository()["1.root.json"].clone()];
    let mut refresh =
        Refresh::begin(TrustedSet::load(&Stored { roots, ..Stored::default() }).expect("a sound root"), NOW);
    while let Some(request) = refresh.next() {
        let own = request.file == file;
        let served = if own { Some(bytes) } else { repository().get(&request.file).map(Vec::as_slice) };
        let kept = refresh.supply(served);
        if own {
            return kept.ok().flatten().filter(|keep| keep.role == role).map(|keep| keep.bytes);
        }
    }
    None
}

fn signed(metadata: &[u8]) -> Vec<u8> {
    let value: serde_json::Value = serde_json::from_slice(metadata).expect("accepted metadata is JSON");
    canonical::to_vec(&value["signed"]).expect("accepted metadata has a canonical form")
}

/// A release manifest.
pub fn manifest(bytes: &[u8]) {
    let parsed = Manifest::parse(bytes);
    assert_eq!(parsed, Manifest::parse(bytes), "two verdicts on the same bytes");
    let Ok(manifest) = parsed else { return };
    assert!(bytes.len() <= limits::MANIFEST_BYTES_MAX);
    for tree in manifest.platforms.values() {
        assert!(tree.entries.len() <= limits::TREE_ENTRIES_MAX && tree.size_bytes <= limits::TREE_BYTES_MAX);
        for entry in &tree.entries {
            assert_eq!(check_path(entry.path()), Ok(()));
        }
    }
    assert_eq!(Manifest::parse(&manifest.to_bytes()).as_ref(), Ok(&manifest), "it does not survive its own bytes");
}

/// A file that says it is a bundle.
pub fn bundle(bytes: &[u8]) {
    let file = tempfile::NamedTempFile::new_in(scratch()).expect("a file");
    fs::write(file.path(), bytes).expect("a file can be written");
    let (clock, place) = (Clock::new(0), Place::Path(file.path().to_owned()));
    let Ok(road) = Road::open(&place, &clock) else {
        assert!(Road::open(&place, &clock).is_err(), "two verdicts on the same bytes");
        return;
    };
    assert_eq!(road.claims(), road.claims());
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let found = runtime.block_on(road.get("/metadata/timestamp.json", 1_000));
    if let Ok(Some(timestamp)) = found {
        assert!(timestamp.len() <= 1_000, "longer than the limit");
        assert!(bytes.windows(timestamp.len().max(1)).any(|window| window == timestamp) || timestamp.is_empty());
    }
}

/// A tree as JSON, a NUL, and a pack: unpacked whatever rules the tree breaks.
pub fn tree(bytes: &[u8]) {
    let Some(at) = bytes.iter().position(|byte| *byte == 0) else { return };
    let Ok(tree) = serde_json::from_slice::<Tree>(&bytes[..at]) else { return };
    if tree.entries.len() > 64 {
        return;
    }
    let base = tempfile::tempdir_in(scratch()).expect("a directory");
    for name in ["releases", "outside"] {
        fs::create_dir(base.path().join(name)).expect("a directory");
    }
    fs::write(base.path().join("outside/victim"), "untouched").expect("a file");
    let mut pack = tempfile::tempfile_in(scratch()).expect("a file");
    pack.write_all(&bytes[at + 1..]).and_then(|()| pack.rewind()).expect("a file can be written");
    let releases = Directory::open(base.path(), Path::new("releases")).expect("it is there");
    let outcome = unpack(pack, &tree, &releases, "it");
    assert_eq!(names(base.path()), ["outside", "releases"]);
    assert_eq!(names(&base.path().join("outside")), ["victim"]);
    assert_eq!(names(&base.path().join("releases")), ["it"]);
    assert_eq!(fs::read(base.path().join("outside/victim")).expect("it is there"), b"untouched");
    if outcome.is_ok() {
        are_as_said(&tree, &base.path().join("releases/it/tree"));
    }
}

/// Every file that a tree says is there, as long as it says.
fn are_as_said(tree: &Tree, root: &Path) {
    for entry in &tree.entries {
        // A path that breaks the rules may be another one in the end, but one within the tree.
        if let Entry::File { path, size_bytes, .. } = entry
            && check_path(path).is_ok()
        {
            let found = fs::symlink_metadata(root.join(path)).expect("an unpacked file is there");
            assert!(found.is_file() && found.len() == *size_bytes, "{path}");
        }
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory can be read");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Where files are made: in memory, if there is such a place.
fn scratch() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}

/// A real repository, the same in each run: two roots, a timestamp, a snapshot, and targets with one release.
pub fn repository() -> &'static BTreeMap<String, Vec<u8>> {
    static REPOSITORY: OnceLock<BTreeMap<String, Vec<u8>>> = OnceLock::new();
    REPOSITORY.get_or_init(|| {
        let (owner, signer, online) = (key(1), key(2), Online { snapshot: key(3), timestamp: key(4) });
        let content = RootContent {
            version: 1,
            signed_at: NOW,
            expires: NOW + ROOT_VALID_SECS,
            root: KeyHolders::any_of([owner.public()]),
            targets: KeyHolders::any_of([signer.public()]),
            snapshot: KeyHolders::any_of([online.snapshot.public()]),
            timestamp: KeyHolders::any_of([online.timestamp.public()]),
        };
        let first = sign_root(&content, &[&owner], None).expect("a root");
        let content = RootContent::next(&first, NOW, NOW + ROOT_VALID_SECS).expect("the next root");
        let second = sign_root(&content, &[&owner], Some(&first)).expect("the next root");
        let mut content = TargetsContent::first();
        let (app, version) = ("greeter".parse().expect("a name"), "1.0.0".parse().expect("a version"));
        content.add_release(&Custom { app, version, floor: None }, b"{}").expect("a release");
        let targets = content.sign(&second, &[&signer], NOW, NOW + TARGETS_VALID_SECS).expect("targets");
        let published = online.publish(&second, &targets, None, NOW).expect("snapshot and timestamp");
        let files = [
            ("1.root.json", first),
            ("2.root.json", second),
            ("timestamp.json", published.timestamp),
            ("1.snapshot.json", published.snapshot),
            ("1.targets.json", targets),
        ];
        files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect()
    })
}

/// RFC 8410: the key is 32 bytes behind a fixed beginning.
fn key(number: u8) -> SigningKey {
    let mut pkcs8 = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
    pkcs8.extend([number; 32]);
    let body = STANDARD.encode(pkcs8);
    SigningKey::from_pem(&format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n")).expect("a key")
}
