//! A real repository in memory, a client that behaves as [`orangery_trust::Refresh`] demands, and a forger.

#![allow(dead_code, reason = "each test program uses its own part")]

pub mod tree;

use std::cell::Cell;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use orangery_trust::release::Custom;
use orangery_trust::repository::{
    KeyHolders, ONLINE_VALID_SECS, Online, Published, ROOT_VALID_SECS, RootContent, SigningKey, TARGETS_VALID_SECS,
    TargetsContent, sign_root,
};
use orangery_trust::{Keep, Refresh, Refusal, Request, Role, Stored, TrustedSet, canonical};
use ring::signature::Ed25519KeyPair;
use serde_json::{Value, json};

/// 2026-11-21T00:00:00Z
pub const NOW: u64 = 1_795_219_200;
pub const DAY: u64 = 86_400;
pub const MANIFEST: &[u8] = b"{\"format\":1}";

/// All files of a repository, and the keys of everybody.
pub struct Repo {
    pub root: SigningKey,
    pub recovery: SigningKey,
    pub targets: SigningKey,
    pub online: Online,
    pub now: u64,
    /// What the web server has below /metadata/.
    pub files: BTreeMap<String, Vec<u8>>,
    pub latest_root: Vec<u8>,
    pub latest_targets: Vec<u8>,
    pub published: Published,
}

thread_local! {
    static KEYS_MADE: Cell<u8> = const { Cell::new(0) };
}

/// Another key with each call, but the same ones in each run of a test: a seed then stands for the very same bytes.
pub fn key() -> SigningKey {
    let number = KEYS_MADE.replace(KEYS_MADE.get().checked_add(1).unwrap());
    // RFC 8410: the key is 32 bytes behind a fixed beginning.
    let mut pkcs8 = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
    pkcs8.extend([number; 32]);
    let body = STANDARD.encode(pkcs8);
    SigningKey::from_pem(&format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n")).unwrap()
}

impl Repo {
    /// Root 1, targets 1 without releases, snapshot 1, timestamp 1.
    pub fn new() -> Self {
        let (root, recovery, targets) = (key(), key(), key());
        let online = Online { snapshot: key(), timestamp: key() };
        let content = RootContent {
            version: 1,
            signed_at: NOW,
            expires: NOW + ROOT_VALID_SECS,
            root: KeyHolders::any_of([root.public(), recovery.public()]),
            targets: KeyHolders::any_of([targets.public()]),
            snapshot: KeyHolders::any_of([online.snapshot.public()]),
            timestamp: KeyHolders::any_of([online.timestamp.public()]),
        };
        let latest_root = sign_root(&content, &[&root], None).unwrap();
        let latest_targets =
            TargetsContent::first().sign(&latest_root, &[&targets], NOW, NOW + TARGETS_VALID_SECS).unwrap();
        let published = online.publish(&latest_root, &latest_targets, None, NOW).unwrap();
        let mut repo = Self {
            root,
            recovery,
            targets,
            online,
            now: NOW,
            files: BTreeMap::from([("1.root.json".to_owned(), latest_root.clone())]),
            latest_root,
            latest_targets,
            published,
        };
        repo.write();
        repo
    }

    fn write(&mut self) {
        let targets_version = version(&self.latest_targets);
        self.files.insert(format!("{targets_version}.targets.json"), self.latest_targets.clone());
        let snapshot = format!("{}.snapshot.json", self.published.snapshot_version);
        self.files.insert(snapshot, self.published.snapshot.clone());
        self.files.insert("timestamp.json".to_owned(), self.published.timestamp.clone());
    }

    /// The owner signs one more release.
    pub fn release(&mut self, version: &str) {
        self.release_with(version, None);
    }

    pub fn release_with(&mut self, version: &str, floor: Option<&str>) {
        let custom = Custom {
            app: "greeter".parse().unwrap(),
            version: version.parse().unwrap(),
            floor: floor.map(|floor| floor.parse().unwrap()),
        };
        let mut targets = TargetsContent::next(&self.latest_root, &self.latest_targets).unwrap();
        assert!(targets.add_release(&custom, MANIFEST).unwrap());
        let expires = self.now + TARGETS_VALID_SECS;
        self.latest_targets = targets.sign(&self.latest_root, &[&self.targets], self.now, expires).unwrap();
        self.publish();
    }

    /// The coordinator signs a new snapshot and timestamp.
    pub fn publish(&mut self) {
        let before = self.published.clone();
        self.published = self.online.publish(&self.latest_root, &self.latest_targets, Some(&before), self.now).unwrap();
        self.write();
    }

    /// The owner signs the next root, changed by `change`. Metadata of other roles stays as it is.
    pub fn rotate(&mut self, change: impl FnOnce(&mut RootContent)) {
        self.rotate_with(&[], change);
    }

    pub fn rotate_with(&mut self, more: &[&SigningKey], change: impl FnOnce(&mut RootContent)) {
        let mut content = RootContent::next(&self.latest_root, self.now, self.now + ROOT_VALID_SECS).unwrap();
        change(&mut content);
        let keys: Vec<_> = [&self.root, &self.recovery].into_iter().chain(more.iter().copied()).collect();
        self.latest_root = sign_root(&content, &keys, Some(&self.latest_root)).unwrap();
        self.files.insert(format!("{}.root.json", content.version), self.latest_root.clone());
    }

    /// The coordinator gets new keys. Its old snapshot and timestamp stay published.
    pub fn replace_online_keys(&mut self) {
        self.online = Online { snapshot: key(), timestamp: key() };
        let (snapshot, timestamp) = (self.online.snapshot.public(), self.online.timestamp.public());
        self.rotate(|root| {
            root.snapshot = KeyHolders::any_of([snapshot]);
            root.timestamp = KeyHolders::any_of([timestamp]);
        });
    }

    pub fn serve(&self, request: &Request) -> Option<Vec<u8>> {
        self.files.get(&request.file).cloned()
    }

    /// Replaces `file` by its own content as changed by `change`, signed by the genuine key of `role`.
    pub fn forge(&mut self, file: &str, role: Role, change: impl FnOnce(&mut Value)) {
        let bytes = self.forged(file, &[self.key(role)], change);
        self.files.insert(file.to_owned(), bytes);
    }

    /// The content of `file` as changed by `change`, signed by `keys`.
    pub fn forged(&self, file: &str, keys: &[&SigningKey], change: impl FnOnce(&mut Value)) -> Vec<u8> {
        let mut metadata: Value = serde_json::from_slice(&self.files[file]).unwrap();
        change(&mut metadata["signed"]);
        sign(&metadata["signed"], keys)
    }

    pub fn key(&self, role: Role) -> &SigningKey {
        match role {
            Role::Root => &self.root,
            Role::Timestamp => &self.online.timestamp,
            Role::Snapshot => &self.online.snapshot,
            Role::Targets => &self.targets,
        }
    }
}

/// Metadata around `signed`, whatever it says.
pub fn sign(signed: &Value, keys: &[&SigningKey]) -> Vec<u8> {
    let message = canonical::to_vec(signed).unwrap();
    let signatures: Vec<Value> =
        keys.iter().map(|key| json!({ "keyid": key.id().to_string(), "sig": signature(key, &message) })).collect();
    serde_json::to_vec(&json!({ "signatures": signatures, "signed": signed })).unwrap()
}

/// The library signs only what it would accept, so a forger must use ring.
pub fn signature(key: &SigningKey, message: &[u8]) -> String {
    let pem = key.to_pem();
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&STANDARD.decode(body).unwrap()).unwrap();
    hex(pair.sign(message).as_ref())
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// METAFILES entry for `bytes`.
pub fn describe(bytes: &[u8], version: u64) -> Value {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    json!({ "version": version, "length": bytes.len(), "hashes": { "sha256": hex(digest.as_ref()) } })
}

pub fn version(metadata: &[u8]) -> u64 {
    serde_json::from_slice::<Value>(metadata).unwrap()["signed"]["version"].as_u64().unwrap()
}

/// A node: what it has on disk.
#[derive(Clone)]
pub struct Client {
    pub stored: Stored,
    /// The files asked for in the last refresh.
    pub asked: Vec<String>,
}

impl Client {
    pub fn new(root: &[u8]) -> Self {
        Self { stored: Stored { roots: vec![root.to_vec()], ..Stored::default() }, asked: Vec::new() }
    }

    pub fn of(repo: &Repo) -> Self {
        Self::new(&repo.files["1.root.json"])
    }

    pub fn set(&self) -> TrustedSet {
        TrustedSet::load(&self.stored).unwrap()
    }

    /// Versions of root, timestamp, snapshot and targets.
    pub fn versions(&self) -> [u64; 4] {
        let versions = self.set().versions();
        [versions.root, versions.timestamp, versions.snapshot, versions.targets]
    }

    /// A refresh from disk to disk, as a node does it after a reboot.
    pub fn refresh(&mut self, repo: &Repo) -> Result<(), Refusal> {
        self.refresh_from(repo.now, |request| repo.serve(request))
    }

    pub fn refresh_from(
        &mut self,
        now: u64,
        mut serve: impl FnMut(&Request) -> Option<Vec<u8>>,
    ) -> Result<(), Refusal> {
        self.asked.clear();
        let mut refresh = Refresh::begin(TrustedSet::load(&self.stored)?, now);
        let mut outcome = Ok(());
        while let Some(request) = refresh.next() {
            self.asked.push(request.file.clone());
            match refresh.supply(serve(&request).as_deref()) {
                Ok(Some(keep)) => self.keep(keep),
                Ok(None) => {}
                Err(refusal) => outcome = Err(refusal),
            }
        }
        // What is in memory and what is on disk must never differ.
        assert_eq!(refresh.finish().versions(), self.set().versions());
        outcome
    }

    pub fn keep(&mut self, keep: Keep) {
        match keep.role {
            Role::Root => self.stored.roots.push(keep.bytes),
            role => *self.file(role) = Some(keep.bytes),
        }
        for role in keep.forget {
            *self.file(role) = None;
        }
    }

    pub fn file(&mut self, role: Role) -> &mut Option<Vec<u8>> {
        match role {
            Role::Root => unreachable!("roots are never forgotten"),
            Role::Timestamp => &mut self.stored.timestamp,
            Role::Snapshot => &mut self.stored.snapshot,
            Role::Targets => &mut self.stored.targets,
        }
    }
}

/// Where the online metadata of a repository at [`NOW`] expires.
pub const ONLINE_EXPIRES: u64 = NOW + ONLINE_VALID_SECS;
