//! Releases that an honest owner would never sign, each as one row: what it is, what it is refused with, and why.

#![allow(dead_code, reason = "each test program uses its part of it")]
#![allow(clippy::unwrap_used, missing_docs, reason = "it is a part of tests")]

mod kinds;
mod limits;
mod links;
mod packs;
mod paths;
mod structure;
mod surroundings;

use std::path::Path;

use orangery_agent::deployment::Reason;
use orangery_wire::manifest::{Tree, this_platform};
use orangery_wire::messages::RefusalCode;
use serde_json::{Value, json};

use crate::origin::sha256;
#[allow(unused_imports, reason = "only one of the programs looks around")]
pub use surroundings::surroundings;

/// One hostile release.
pub struct Case {
    pub name: String,
    /// What it must be refused with.
    pub code: RefusalCode,
    /// What the refusal must say.
    pub why: &'static str,
    /// As it is signed.
    pub manifest: Vec<u8>,
    /// What is served as its pack.
    pub pack: Vec<u8>,
    /// The digest that the manifest gives the pack, where that can be said.
    pub blob: String,
    /// Too many entries to be made one by one.
    pub heavy: bool,
}

impl Case {
    /// Whether this is the refusal that it must get. [`RefusalCode::Unverified`] stands for all of its kind.
    pub fn is_told(&self, reason: &Reason) -> bool {
        let fits = reason.code == self.code || (self.code == RefusalCode::Unverified && reason.code.is_unverified());
        fits && reason.text.contains(self.why)
    }

    /// Its tree, if it can be written in the manifest's words at all, whatever rules it breaks.
    pub fn tree(&self) -> Option<Tree> {
        let manifest: Value = serde_json::from_slice(&self.manifest).ok()?;
        serde_json::from_value(manifest.get("platforms")?.get(this_platform())?.clone()).ok()
    }
}

/// Done to a manifest as JSON.
type Change = Box<dyn FnOnce(&mut Value)>;

/// A release under construction: a good one, until something is done to it.
pub struct Draft {
    pub entries: Vec<Value>,
    /// The contents of the files, one after the other.
    pub content: Vec<u8>,
    /// The pack, if it is not the compressed contents.
    pub pack: Option<Vec<u8>>,
    /// Done to the manifest at the very end.
    pub change: Option<Change>,
    /// The manifest's bytes, if they are none of these.
    pub raw: Option<Vec<u8>>,
}

pub const APP: &[u8] = b"#!/bin/sh\n";

pub fn file(path: &str, content: &[u8]) -> Value {
    json!({ "file": { "path": path, "digest": sha256(content), "size_bytes": content.len() } })
}

pub fn directory(path: &str) -> Value {
    json!({ "directory": { "path": path } })
}

pub fn link(path: &str, target: &str) -> Value {
    json!({ "link": { "path": path, "target": target } })
}

pub fn zstd(content: &[u8]) -> Vec<u8> {
    zstd::encode_all(content, 3).unwrap()
}

impl Draft {
    /// One executable file, `app`, and an empty directory, `d`.
    pub fn new() -> Self {
        let app = json!({ "file": {
            "path": "app", "digest": sha256(APP), "size_bytes": APP.len(), "executable": true,
        } });
        Self { entries: vec![app, directory("d")], content: APP.to_vec(), pack: None, change: None, raw: None }
    }

    pub fn with(mut self, entry: Value) -> Self {
        self.entries.push(entry);
        self
    }

    /// One more file, its content in the pack.
    pub fn with_file(mut self, path: &str, content: &[u8]) -> Self {
        self.content.extend_from_slice(content);
        self.with(file(path, content))
    }

    pub fn packed(mut self, pack: Vec<u8>) -> Self {
        self.pack = Some(pack);
        self
    }

    /// Changes the manifest.
    pub fn changed(mut self, change: impl FnOnce(&mut Value) + 'static) -> Self {
        self.change = Some(Box::new(change));
        self
    }

    /// Changes the manifest's tree.
    pub fn tree(self, change: impl FnOnce(&mut Value) + 'static) -> Self {
        self.changed(|manifest| change(&mut manifest["platforms"][this_platform()]))
    }

    pub fn raw(mut self, manifest: impl Into<Vec<u8>>) -> Self {
        self.raw = Some(manifest.into());
        self
    }

    /// What is signed and served in the version `version`.
    fn build(self, version: &str) -> (Vec<u8>, Vec<u8>, String) {
        let pack = self.pack.unwrap_or_else(|| zstd(&self.content));
        let size_of = |entry: &Value| entry["file"]["size_bytes"].as_u64().unwrap_or(0);
        let size_bytes = self.entries.iter().map(size_of).fold(0, u64::saturating_add);
        let mut manifest = json!({
            "format": 1, "app": "greeter", "version": version, "run": { "exec": ["app"] },
            "platforms": { this_platform(): {
                "size_bytes": size_bytes,
                "pack": { "digest": sha256(&pack), "size_bytes": pack.len(), "encoding": "zstd" },
                "entries": self.entries,
            } },
        });
        if let Some(change) = self.change {
            change(&mut manifest);
        }
        let digest = &manifest["platforms"][this_platform()]["pack"]["digest"];
        let blob = digest.as_str().map_or_else(|| sha256(&pack).to_string(), str::to_owned);
        (self.raw.unwrap_or_else(|| manifest.to_string().into_bytes()), pack, blob)
    }
}

/// The rows, as they are collected.
pub struct Cases(Vec<Case>);

impl Cases {
    pub fn add(&mut self, name: impl Into<String>, code: RefusalCode, why: &'static str, draft: Draft) {
        let heavy = draft.entries.len() > 1_000;
        let (manifest, pack, blob) = draft.build(&version(self.0.len()));
        self.0.push(Case { name: name.into(), code, why, manifest, pack, blob, heavy });
    }

    /// One that breaks a rule of manifests.
    pub fn invalid(&mut self, name: impl Into<String>, why: &'static str, draft: Draft) {
        self.add(name, RefusalCode::InvalidManifest, why, draft);
    }

    /// One whose pack is not what its manifest says.
    pub fn unverified(&mut self, name: impl Into<String>, why: &'static str, draft: Draft) {
        self.add(name, RefusalCode::Unverified, why, draft);
    }
}

/// The version of the row `n`.
pub fn version(n: usize) -> String {
    format!("2.0.{n}")
}

/// One that is as it should be: its manifest and its pack.
pub fn good() -> (Vec<u8>, Vec<u8>) {
    let (manifest, pack, _) = Draft::new().with(link("l", "app")).build(&version(0));
    (manifest, pack)
}

/// All of them. `outside` is a directory that no release has any business in.
pub fn all(outside: &Path) -> Vec<Case> {
    let mut cases = Cases(Vec::new());
    paths::add(&mut cases, outside);
    links::add(&mut cases, outside);
    structure::add(&mut cases);
    kinds::add(&mut cases);
    limits::add(&mut cases);
    packs::add(&mut cases);
    cases.0
}
