//! An owner and a coordinator with real keys, who publish on an [`Origin`].

#![allow(dead_code, reason = "each test program uses its part of it")]
#![allow(clippy::unwrap_used, missing_docs, reason = "it is a part of tests")]

use std::time::{SystemTime, UNIX_EPOCH};

use orangery_trust::release::{Custom, target_file, target_path};
use orangery_trust::repository::{
    KeyHolders, Online, Published, ROOT_VALID_SECS, RootContent, SigningKey, TARGETS_VALID_SECS, TargetsContent,
    sign_root,
};
use orangery_wire::manifest::{Encoding, Entry, Pack, Tree, this_platform};
use orangery_wire::messages::ReleaseRef;
use orangery_wire::{AppName, Manifest, ReleaseId, UnixTime};

use crate::origin::{Origin, sha256};

pub const DAY: u64 = 86_400;

pub fn now() -> UnixTime {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// All keys, and what was signed last.
#[derive(Debug)]
pub struct Owner {
    pub root_key: SigningKey,
    pub targets_key: SigningKey,
    pub online: Online,
    pub roots: Vec<Vec<u8>>,
    pub targets: Option<Vec<u8>>,
    pub published: Option<Published>,
}

pub fn key() -> SigningKey {
    SigningKey::generate().unwrap()
}

impl Owner {
    pub fn new() -> Self {
        let (root_key, targets_key) = (key(), key());
        let online = Online { snapshot: key(), timestamp: key() };
        // Signed a while ago, so that everything else can have been signed since.
        let signed_at = now() - 300 * DAY;
        let root = RootContent {
            version: 1,
            signed_at,
            expires: signed_at + ROOT_VALID_SECS,
            root: KeyHolders::any_of([root_key.public()]),
            targets: KeyHolders::any_of([targets_key.public()]),
            snapshot: KeyHolders::any_of([online.snapshot.public()]),
            timestamp: KeyHolders::any_of([online.timestamp.public()]),
        };
        let roots = vec![sign_root(&root, &[&root_key], None).unwrap()];
        Self { root_key, targets_key, online, roots, targets: None, published: None }
    }

    pub fn root(&self) -> &[u8] {
        self.roots.last().unwrap()
    }

    /// The next root, with what `change` does to it.
    pub fn change_root(&mut self, change: impl FnOnce(&mut RootContent)) {
        let mut root = RootContent::next(self.root(), now(), now() + ROOT_VALID_SECS).unwrap();
        change(&mut root);
        let root = sign_root(&root, &[&self.root_key], Some(self.root())).unwrap();
        self.roots.push(root);
    }

    /// Signs targets with what `change` does to them, at the time `at`.
    pub fn sign_targets_at(&mut self, at: UnixTime, change: impl FnOnce(&mut TargetsContent)) {
        let mut content = match &self.targets {
            Some(before) => TargetsContent::next(self.root(), before).unwrap(),
            None => TargetsContent::first(),
        };
        change(&mut content);
        let targets = content.sign(self.root(), &[&self.targets_key], at, at + TARGETS_VALID_SECS);
        self.targets = Some(targets.unwrap());
    }

    /// Signs targets as they are.
    pub fn sign_targets(&mut self) {
        self.sign_targets_at(now(), |_| {});
    }

    /// The coordinator's part, at the time `at`.
    pub fn publish_at(&mut self, at: UnixTime) {
        let published = self.online.publish(self.root(), self.targets.as_ref().unwrap(), self.published.as_ref(), at);
        self.published = Some(published.unwrap());
    }

    /// Serves all metadata at `origin`.
    pub fn serve(&self, origin: &Origin) {
        for (n, root) in self.roots.iter().enumerate() {
            origin.put(format!("/metadata/{}.root.json", n + 1), root.clone());
        }
        let Published { snapshot_version, snapshot, timestamp, .. } = self.published.clone().unwrap();
        origin.put(format!("/metadata/{snapshot_version}.snapshot.json"), snapshot);
        origin.put("/metadata/timestamp.json", timestamp);
        let targets = self.targets.clone().unwrap();
        let version = serde_json::from_slice::<serde_json::Value>(&targets).unwrap()["signed"]["version"].clone();
        origin.put(format!("/metadata/{version}.targets.json"), targets);
    }

    /// Signs and serves the same content anew: every version grows.
    pub fn renew(&mut self, origin: &Origin) {
        self.sign_targets();
        self.publish_at(now());
        self.serve(origin);
    }

    /// Signs, publishes and serves a release.
    pub fn release(&mut self, origin: &Origin, release: &Release) -> ReleaseRef {
        let custom = release.custom();
        let manifest = release.bytes();
        self.sign_targets_at(now(), |targets| assert!(targets.add_release(&custom, &manifest).unwrap()));
        self.publish_at(now());
        self.serve(origin);
        release.serve(origin);
        release.wanted()
    }
}

/// A release under construction.
#[derive(Debug, Clone)]
pub struct Release {
    pub manifest: Manifest,
    pub pack: Vec<u8>,
    pub floor: Option<&'static str>,
}

impl Release {
    /// A release for this platform with an executable `app` of this content, a directory, a small file and a link.
    pub fn new(app: &str, version: &str, content: &[u8]) -> Self {
        let file = |path: &str, content: &[u8], executable| Entry::File {
            path: path.into(),
            digest: sha256(content),
            size_bytes: content.len() as u64,
            executable,
        };
        let entries = vec![
            file("app", content, true),
            Entry::Directory { path: "share".into() },
            Entry::Link { path: "share/latest".into(), target: "notes".into() },
            file("share/notes", b"notes", false),
        ];
        let pack = zstd::encode_all(&*[content, b"notes"].concat(), 3).unwrap();
        let tree = Tree {
            size_bytes: content.len() as u64 + 5,
            pack: Pack { digest: sha256(&pack), size_bytes: pack.len() as u64, encoding: Encoding::Zstd },
            entries,
        };
        let json = serde_json::json!({
            "format": 1, "app": app, "version": version, "run": { "exec": ["app"] },
            "platforms": { this_platform(): tree },
        });
        Self { manifest: Manifest::parse(json.to_string().as_bytes()).unwrap(), pack, floor: None }
    }

    pub fn app(&self) -> AppName {
        self.manifest.app.clone()
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.manifest.to_bytes()
    }

    pub fn wanted(&self) -> ReleaseRef {
        ReleaseRef { id: ReleaseId(sha256(&self.bytes())), version: self.manifest.version.clone() }
    }

    pub fn tree(&self) -> &Tree {
        self.manifest.platforms.values().next().unwrap()
    }

    pub fn tree_mut(&mut self) -> &mut Tree {
        self.manifest.platforms.values_mut().next().unwrap()
    }

    pub fn custom(&self) -> Custom {
        let floor = self.floor.map(|floor| floor.parse().unwrap());
        Custom { app: self.app(), version: self.manifest.version.clone(), floor }
    }

    /// Where its pack is served.
    pub fn blob(&self) -> String {
        format!("/blobs/{}", self.tree().pack.digest)
    }

    /// Where its manifest is served.
    pub fn target(&self) -> String {
        let path = target_path(&self.app(), &self.manifest.version);
        format!("/targets/{}", target_file(&path, &sha256(&self.bytes())))
    }

    pub fn serve(&self, origin: &Origin) {
        origin.put(self.target(), self.bytes());
        origin.put(self.blob(), self.pack.clone());
    }
}
