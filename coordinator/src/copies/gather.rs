//! Everything small of a copy, verified: metadata and manifests. Packs are named only; they are fetched when written.

use std::collections::{BTreeMap, BTreeSet};

use orangery_trust::release::{Custom, target_file, target_path};
use orangery_trust::{Refresh, Role, Stored, TrustedSet, role_file};
use orangery_wire::{AppName, Digest, Manifest, UnixTime, Version, limits};
use serde::Deserialize as _;
use serde_json::Value;

use super::CopyError;
use crate::client::Client;
use crate::sha256;

/// Most metadata files of delegated roles.
const ROLES_MAX: usize = 256;

/// A copy that is not yet written.
#[derive(Debug, Default)]
pub struct Copies {
    /// Path in the repository and content, the timestamp last: before it is there, a reader sees the old state.
    pub files: Vec<(String, Vec<u8>)>,
    /// The packs, with their sizes in bytes.
    pub packs: BTreeMap<Digest, u64>,
    /// The releases.
    pub releases: Vec<(AppName, Version)>,
    /// When the first of the metadata expires; without a newer copy no node installs anything from then on.
    pub expires: UnixTime,
}

/// A target that is a release.
struct Listed {
    app: AppName,
    version: Version,
    digest: Digest,
    length: u64,
}

/// Gathers all metadata, and the releases in `only`, or all of them if that is empty.
pub async fn gather(
    client: &Client,
    first_root: &[u8],
    only: &[(AppName, Version)],
    now: UnixTime,
) -> Result<Copies, CopyError> {
    let mut copies = Copies { expires: UnixTime::MAX, ..Copies::default() };
    let mut chain = metadata(client, first_root, now, &mut copies).await?;
    let mut listed = Vec::new();
    let targets = chain.remove(&Role::Targets).ok_or(CopyError::Nothing)?;
    releases(&targets, &mut listed)?;
    let snapshot = chain.remove(&Role::Snapshot).ok_or(CopyError::Nothing)?;
    for (file, bytes) in delegated(client, &snapshot).await? {
        releases(&bytes, &mut listed)?;
        copies.files.push((format!("metadata/{file}"), bytes));
    }
    for (app, version) in only {
        if !listed.iter().any(|listed| listed.app == *app && listed.version == *version) {
            return Err(CopyError::Unlisted { app: app.clone(), version: version.clone() });
        }
    }
    let chosen = |listed: &Listed| {
        only.is_empty() || only.iter().any(|(app, version)| listed.app == *app && listed.version == *version)
    };
    let mut seen = BTreeSet::new();
    for listed in listed.into_iter().filter(chosen) {
        if seen.insert(target_path(&listed.app, &listed.version)) {
            release(client, listed, &mut copies).await?;
        }
    }
    // It was fetched first of all that it names.
    if let Some(at) = copies.files.iter().position(|(path, _)| path == "metadata/timestamp.json") {
        let timestamp = copies.files.remove(at);
        copies.files.push(timestamp);
    }
    Ok(copies)
}

/// The chain from the first root to the targets, by the client workflow of TUF 5.3 to 5.6.
async fn metadata(
    client: &Client,
    first_root: &[u8],
    now: UnixTime,
    copies: &mut Copies,
) -> Result<BTreeMap<Role, Vec<u8>>, CopyError> {
    let set = TrustedSet::load(&Stored { roots: vec![first_root.to_vec()], ..Stored::default() })?;
    copies.files.push((format!("metadata/{}.root.json", set.versions().root), first_root.to_vec()));
    let mut refresh = Refresh::begin(set, now);
    let mut chain = BTreeMap::new();
    while let Some(request) = refresh.next() {
        let path = format!("metadata/{}", request.file);
        let bytes = fetch(client, &path).await?;
        if bytes.is_none() && request.role == Role::Timestamp {
            return Err(CopyError::Nothing);
        }
        if let Some(keep) = refresh.supply(bytes.as_deref())? {
            chain.insert(keep.role, keep.bytes.clone());
            copies.files.push((path, keep.bytes));
        }
    }
    let set = refresh.finish();
    set.check(now)?;
    copies.expires = Role::ALL.into_iter().filter_map(|role| set.expires(role)).min().unwrap_or_default();
    Ok(chain)
}

/// The metadata of every delegated role that the snapshot names. Who may sign it is for the nodes to judge, in each search
/// anew; here it must be the file that the snapshot means.
async fn delegated(client: &Client, snapshot: &[u8]) -> Result<Vec<(String, Vec<u8>)>, CopyError> {
    let snapshot = json("snapshot.json", snapshot)?;
    let meta = snapshot.pointer("/signed/meta").and_then(Value::as_object);
    let mut files = Vec::new();
    for (name, named) in meta.into_iter().flatten().filter(|(name, _)| *name != "targets.json").take(ROLES_MAX) {
        let unusable = |rule: &str| CopyError::Metadata { file: name.clone(), rule: rule.to_owned() };
        let role = name.strip_suffix(".json").ok_or_else(|| unusable("its name does not end in .json"))?;
        let version = named.get("version").and_then(Value::as_u64).ok_or_else(|| unusable("it has no version"))?;
        let file = format!("{version}.{}", role_file(role));
        let path = format!("metadata/{file}");
        let bytes = fetch(client, &path).await?.ok_or_else(|| CopyError::Missing { path: path.clone() })?;
        let got = sha256::digest(&bytes);
        if let Some(signed) = named.pointer("/hashes/sha256").and_then(Value::as_str)
            && signed != got.to_string()
        {
            return Err(CopyError::WrongContent { path, got });
        }
        files.push((file, bytes));
    }
    Ok(files)
}

/// Adds the releases that targets metadata lists. Other targets are none of ours.
fn releases(targets: &[u8], to: &mut Vec<Listed>) -> Result<(), CopyError> {
    let targets = json("targets.json", targets)?;
    for (path, target) in targets.pointer("/signed/targets").and_then(Value::as_object).into_iter().flatten() {
        let custom = target.get("custom").and_then(|custom| Custom::deserialize(custom).ok());
        let Some(Custom { app, version, .. }) = custom.filter(|c| target_path(&c.app, &c.version) == *path) else {
            continue;
        };
        let digest = target.pointer("/hashes/sha256").and_then(Value::as_str).and_then(|digest| digest.parse().ok());
        let length = target.get("length").and_then(Value::as_u64);
        if let (Some(digest), Some(length)) = (digest, length) {
            to.push(Listed { app, version, digest, length });
        }
    }
    Ok(())
}

/// A release's manifest, and the names of its packs.
async fn release(client: &Client, listed: Listed, copies: &mut Copies) -> Result<(), CopyError> {
    let Listed { app, version, digest, length } = listed;
    let path = format!("targets/{}", target_file(&target_path(&app, &version), &digest));
    let bytes = fetch(client, &path).await?.ok_or_else(|| CopyError::Missing { path: path.clone() })?;
    let got = sha256::digest(&bytes);
    if got != digest || bytes.len() as u64 != length || bytes.len() > limits::MANIFEST_BYTES_MAX {
        return Err(CopyError::WrongContent { path, got });
    }
    let manifest = Manifest::parse(&bytes).map_err(|source| CopyError::Manifest { path: path.clone(), source })?;
    copies.packs.extend(manifest.platforms.values().map(|tree| (tree.pack.digest, tree.pack.size_bytes)));
    copies.files.push((path, bytes));
    copies.releases.push((app, version));
    Ok(())
}

async fn fetch(client: &Client, path: &str) -> Result<Option<Vec<u8>>, CopyError> {
    let bytes = client.file(&format!("/{path}")).await;
    bytes.map(|bytes| bytes.map(Into::into)).map_err(|source| CopyError::Fetch { path: path.to_owned(), source })
}

fn json(file: &str, bytes: &[u8]) -> Result<Value, CopyError> {
    serde_json::from_slice(bytes)
        .map_err(|error| CopyError::Metadata { file: file.to_owned(), rule: error.to_string() })
}
