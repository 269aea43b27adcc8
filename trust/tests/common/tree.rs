//! A repository whose targets are delegated, on top of [`Repo`].

use std::collections::BTreeMap;

use orangery_trust::repository::SigningKey;
use orangery_trust::{Found, Refusal, Role, Search, TrustedSet, role_file};
use serde_json::{Value, json};

use super::{Client, NOW, Repo, describe, key, sign};

/// Targets roles, the top among them, and who may sign for each.
pub struct Tree {
    pub repo: Repo,
    /// What each role says, without version and expiry.
    pub roles: BTreeMap<String, Value>,
    /// By role: all keys that sign for it.
    pub signers: BTreeMap<String, Vec<SigningKey>>,
    /// Of the last publication; 0 before it.
    pub version: u64,
    pub consistent: bool,
}

impl Tree {
    pub fn new() -> Self {
        let roles = BTreeMap::from([("targets".to_owned(), blank())]);
        Self { repo: Repo::new(), roles, signers: BTreeMap::new(), version: 0, consistent: true }
    }

    /// From "FROM TO" pairs: each delegates all paths.
    pub fn of(edges: &[&str]) -> Self {
        let mut tree = Self::new();
        for edge in edges {
            let (from, to) = edge.split_once(' ').unwrap();
            tree.delegate(from, to, json!({ "paths": ["*"] }));
        }
        tree
    }

    /// `from` delegates to `to`, with a key of its own for it. `rule` is the rest of the entry.
    pub fn delegate(&mut self, from: &str, to: &str, rule: Value) -> &mut Self {
        let key = key();
        self.delegate_to(from, to, rule, &key.public_value());
        self.signers.entry(to.to_owned()).or_default().push(key);
        self
    }

    #[expect(clippy::needless_pass_by_value, reason = "it is made for the call")]
    pub fn delegate_to(&mut self, from: &str, to: &str, rule: Value, (id, listed): &(String, Value)) {
        self.roles.entry(to.to_owned()).or_insert_with(blank);
        let delegations = &mut self.roles.get_mut(from).unwrap()["delegations"];
        delegations["keys"][id] = listed.clone();
        let mut entry = json!({ "name": to, "keyids": [id], "threshold": 1, "terminating": false });
        entry.as_object_mut().unwrap().extend(rule.as_object().unwrap().clone());
        delegations["roles"].as_array_mut().unwrap().push(entry);
    }

    pub fn add(&mut self, role: &str, path: &str) -> &mut Self {
        let target = json!({ "length": 3, "hashes": describe(b"abc", 1)["hashes"] });
        self.roles.get_mut(role).unwrap()["targets"][path] = target;
        self
    }

    /// Signs and serves everything in the next version.
    pub fn publish(&mut self) -> &mut Self {
        self.version += 1;
        let mut meta = json!({});
        for (role, said) in &self.roles {
            let mut said = said.clone();
            said["version"] = self.version.into();
            let signers = match self.signers.get(role) {
                Some(signers) => signers.iter().collect(),
                None => vec![&self.repo.targets],
            };
            let bytes = sign(&said, &signers);
            meta[format!("{role}.json")] = describe(&bytes, self.version);
            let file = self.file(role);
            self.repo.files.insert(file, bytes);
        }
        self.publish_snapshot(meta)
    }

    /// Serves a snapshot and a timestamp of the current version.
    pub fn publish_snapshot(&mut self, meta: Value) -> &mut Self {
        let version = self.version;
        let snapshot = self.repo.forged("1.snapshot.json", &[&self.repo.online.snapshot], |signed| {
            signed["version"] = version.into();
            signed["meta"] = meta;
        });
        let listed = describe(&snapshot, version);
        let file = if self.consistent { format!("{version}.snapshot.json") } else { "snapshot.json".to_owned() };
        self.repo.files.insert(file, snapshot);
        self.repo.forge("timestamp.json", Role::Timestamp, |signed| {
            signed["version"] = version.into();
            signed["meta"]["snapshot.json"] = listed;
        });
        self
    }

    /// What the current snapshot lists.
    pub fn meta(&self) -> Value {
        let snapshot = &self.repo.files[&format!("{}.snapshot.json", self.version)];
        serde_json::from_slice::<Value>(snapshot).unwrap()["signed"]["meta"].clone()
    }

    /// Where the current metadata of a targets role is served.
    pub fn file(&self, role: &str) -> String {
        let file = role_file(role);
        if self.consistent { format!("{}.{file}", self.version) } else { file }
    }

    /// A node that has refreshed.
    pub fn client(&self) -> Finder {
        let mut client = Client::of(&self.repo);
        client.refresh(&self.repo).unwrap();
        Finder { client, stored: BTreeMap::new(), asked: Vec::new() }
    }
}

/// A node that looks for targets.
pub struct Finder {
    pub client: Client,
    /// Metadata of delegated roles.
    pub stored: BTreeMap<String, Vec<u8>>,
    /// The roles whose metadata was fetched in the last search.
    pub asked: Vec<String>,
}

impl Finder {
    pub fn refresh(&mut self, tree: &Tree) -> Result<(), Refusal> {
        self.client.refresh(&tree.repo)
    }

    pub fn find(&mut self, tree: &Tree, path: &str) -> Result<Found, Refusal> {
        let set = self.client.set();
        self.run(tree, Search::begin(&set, path, NOW)?)?.finish()
    }

    pub fn run<'a>(&mut self, tree: &Tree, mut search: Search<'a>) -> Result<Search<'a>, Refusal> {
        self.asked.clear();
        while let Some(request) = search.next() {
            let name = request.delegated.clone().unwrap();
            if self.stored.get(&name).is_some_and(|bytes| search.try_stored(bytes)) {
                continue;
            }
            self.asked.push(name.clone());
            let keep = search.supply(tree.repo.serve(&request).as_deref())?;
            assert_eq!((keep.role, keep.delegated.as_deref()), (Role::Targets, Some(name.as_str())));
            assert_eq!(Some(&keep.bytes), tree.repo.files.get(&request.file), "byte for byte");
            self.stored.insert(name, keep.bytes);
        }
        Ok(search)
    }

    pub fn set(&self) -> TrustedSet {
        self.client.set()
    }
}

pub fn blank() -> Value {
    json!({
        "_type": "targets",
        "spec_version": "1.0.34",
        "expires": "2027-11-21T00:00:00Z",
        "targets": {},
        "delegations": { "keys": {}, "roles": [] },
    })
}

/// A key as metadata lists it.
pub trait PublicValue {
    fn public_value(&self) -> (String, Value);
}

impl PublicValue for SigningKey {
    fn public_value(&self) -> (String, Value) {
        let text = self.public().to_string();
        let public = text.strip_prefix("ed25519:").unwrap();
        (self.id().to_string(), json!({ "keytype": "ed25519", "scheme": "ed25519", "keyval": { "public": public } }))
    }
}
