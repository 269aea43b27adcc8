//! The coordinator's part in the trust: it keeps the files that the owner signed and signs the snapshot and the timestamp
//! that tell nodes of them. It can say which of the owner's targets are the newest, and nothing else.
//!
//! Files are written in the order in which a reader needs them, each as a whole, the timestamp last: a reader, and a start
//! after a kill, sees the old state or the new one.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use orangery_trust::release::{Release, target_path};
use orangery_trust::repository::{
    BuildError, KeyError, Online, Published, SigningKey, VerifiedTargets, verify_root, verify_targets,
};
use orangery_trust::{Refusal, Role};
use orangery_wire::{AppName, ReleaseId, UnixTime, Version};

use crate::durable::{create_directories, replace};
use crate::sha256;

/// Superseded snapshots and targets that stay, for nodes in the middle of a refresh.
const OLD_KEPT: usize = 8;

/// The repository failed, or refused what it was given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepositoryError {
    /// There is no root.
    #[error("there is no trust root at {}: `orangery init` makes one; a lost one comes back from a backup of the owner's directory", path.display())]
    NoRoot {
        /// Where it should be.
        path: PathBuf,
    },
    /// A root is not good.
    #[error("the trust root {} cannot be used", path.display())]
    Root {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<Refusal>,
    },
    /// An online key is not good.
    #[error("cannot use the key {}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KeyError,
    },
    /// The owner's root does not name the key.
    #[error(
        "the owner's trust root does not name the {role} key of this coordinator; restore the key that it names, or let the owner \
        sign a root that names this one"
    )]
    KeyNotTrusted {
        /// What the key is for.
        role: Role,
    },
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The targets that were uploaded are not trusted, or older than those that are here.
    #[error("the targets are refused")]
    Refused(#[from] Refusal),
    /// The targets are good, but they do not name this manifest.
    #[error("the targets name another manifest at {path}: {named}, not {given}")]
    WrongManifest {
        /// The target path.
        path: String,
        /// What they name.
        named: ReleaseId,
        /// What was given.
        given: ReleaseId,
    },
    /// Snapshot or timestamp could not be made.
    #[error("cannot sign the snapshot and the timestamp")]
    Sign(#[source] Box<BuildError>),
}

impl From<BuildError> for RepositoryError {
    fn from(error: BuildError) -> Self {
        Self::Sign(Box::new(error))
    }
}

/// Where the files and keys are.
#[derive(Debug, Clone)]
pub struct RepositoryFiles {
    /// The directory of the metadata.
    pub metadata: PathBuf,
    /// The directory of the manifests.
    pub targets: PathBuf,
    /// The key that signs snapshots.
    pub snapshot_key: PathBuf,
    /// The key that signs timestamps.
    pub timestamp_key: PathBuf,
}

/// The repository. All calls block on the disk.
#[derive(Debug)]
pub struct Repository {
    files: RepositoryFiles,
    online: Online,
    first_root: String,
    root: Vec<u8>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    targets: Option<(Vec<u8>, VerifiedTargets)>,
    published: Option<Published>,
}

impl Repository {
    /// Reads what is there, checks that the owner's root names the online keys, and completes a publication that a kill cut
    /// short.
    pub fn open(files: RepositoryFiles, now: UnixTime) -> Result<Self, RepositoryError> {
        make_directory(&files.metadata)?;
        make_directory(&files.targets)?;
        let (first_root, root) = read_roots(&files.metadata)?;
        let online = Online { snapshot: read_key(&files.snapshot_key)?, timestamp: read_key(&files.timestamp_key)? };
        let latest = verify_root(&root)?;
        for (role, key) in [(Role::Snapshot, &online.snapshot), (Role::Timestamp, &online.timestamp)] {
            if !latest.trusts(role, &key.public()) {
                return Err(RepositoryError::KeyNotTrusted { role });
            }
        }
        let state = Mutex::new(State { targets: None, published: read_published(&files.metadata)? });
        let repository = Self { files, online, first_root, root, state };
        repository.load_targets(now)?;
        Ok(repository)
    }

    /// The owner's first root, as signed: what a new node starts from.
    pub fn first_root(&self) -> &str {
        &self.first_root
    }

    /// Takes a release: the manifest and targets of the owner that name it. The targets must be those that are here, or
    /// newer. The same again completes what was cut short and changes nothing else.
    pub fn publish(
        &self,
        app: &AppName,
        version: &Version,
        manifest: &[u8],
        targets: &[u8],
        now: UnixTime,
    ) -> Result<ReleaseId, RepositoryError> {
        let verified = verify_targets(&self.root, targets, now)?;
        let release = check_manifest(&verified, app, version, manifest)?;
        let mut state = self.lock();
        if let Some((_, before)) = &state.targets {
            verified.check_follows(before)?;
        }
        self.write_manifest(&release, manifest)?;
        let path = self.files.metadata.join(format!("{}.targets.json", verified.version));
        write(&path, targets)?;
        let news = state.targets.as_ref().is_none_or(|(bytes, _)| bytes != targets);
        if news || state.published.is_none() {
            let published = self.online.publish(&self.root, targets, state.published.as_ref(), now)?;
            self.write_published(&published)?;
            state.published = Some(published);
            tracing::info!(targets = verified.version, "targets published");
        }
        state.targets = Some((targets.to_vec(), verified));
        Ok(release.id)
    }

    /// Signs snapshot and timestamp anew if it is time. Call it every hour or so. Returns whether it was.
    pub fn renew(&self, now: UnixTime) -> Result<bool, RepositoryError> {
        let mut state = self.lock();
        let Some((targets, verified)) = &state.targets else { return Ok(false) };
        let names_newest = match &state.published {
            Some(published) if published.is_due(now) => false,
            Some(published) => names(published, verified.version),
            None => false,
        };
        if names_newest {
            return Ok(false);
        }
        let published = self.online.publish(&self.root, targets, state.published.as_ref(), now)?;
        self.write_published(&published)?;
        tracing::info!(version = published.timestamp_version, "snapshot and timestamp signed anew");
        state.published = Some(published);
        Ok(true)
    }

    /// A metadata file, by the name under which nodes ask for it; `None` if there is none of that name.
    pub fn metadata(&self, name: &str) -> Result<Option<Vec<u8>>, RepositoryError> {
        if !is_metadata_name(name) {
            return Ok(None);
        }
        read(&self.files.metadata.join(name))
    }

    /// A manifest, by the name under which nodes ask for it: `SHA256.manifest.json`.
    pub fn manifest(&self, app: &AppName, version: &Version, name: &str) -> Result<Option<Vec<u8>>, RepositoryError> {
        let digest = name.strip_suffix(".manifest.json").and_then(|digest| digest.parse::<ReleaseId>().ok());
        if digest.is_none() {
            return Ok(None);
        }
        read(&self.files.targets.join(app.as_str()).join(version.to_string()).join(name))
    }

    /// The newest targets that the owner's keys vouch for. Expired ones too: they are what the next must follow.
    fn load_targets(&self, now: UnixTime) -> Result<(), RepositoryError> {
        for (_, path) in numbered(&self.files.metadata, "targets")?.into_iter().rev() {
            let Some(bytes) = read(&path)? else { continue };
            match verify_whenever(&self.root, &bytes, now) {
                Ok(verified) => {
                    self.lock().targets = Some((bytes, verified));
                    if let Err(error) = self.renew(now) {
                        tracing::error!(reason = %chain(&error), "nodes will not get fresh metadata");
                    }
                    return Ok(());
                }
                Err(refusal) => {
                    tracing::warn!(path = %path.display(), reason = %refusal, "targets are not trusted and left alone");
                }
            }
        }
        Ok(())
    }

    fn write_manifest(&self, release: &Release, manifest: &[u8]) -> Result<(), RepositoryError> {
        let path = self.files.targets.join(&release.file);
        if let Some(directory) = path.parent() {
            make_directory(directory)?;
        }
        write(&path, manifest)
    }

    fn write_published(&self, published: &Published) -> Result<(), RepositoryError> {
        let directory = &self.files.metadata;
        write(&directory.join(format!("{}.snapshot.json", published.snapshot_version)), &published.snapshot)?;
        write(&directory.join("timestamp.json"), &published.timestamp)?;
        for role in ["snapshot", "targets"] {
            let all = numbered(directory, role)?;
            let old = all.len().saturating_sub(OLD_KEPT);
            for path in all.into_values().take(old) {
                if let Err(error) = std::fs::remove_file(&path) {
                    tracing::warn!(path = %path.display(), reason = %error, "old metadata stays");
                }
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error with what caused it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Like [`verify_targets`], but targets that were taken before count whatever the clock says now.
fn verify_whenever(root: &[u8], targets: &[u8], now: UnixTime) -> Result<VerifiedTargets, Refusal> {
    match verify_targets(root, targets, now) {
        Err(Refusal::Expired { expired_at, .. }) => verify_targets(root, targets, expired_at.saturating_sub(1)),
        Err(Refusal::SignedAhead { signed_at, .. }) => verify_targets(root, targets, signed_at),
        other => other,
    }
}

fn check_manifest(
    targets: &VerifiedTargets,
    app: &AppName,
    version: &Version,
    manifest: &[u8],
) -> Result<Release, RepositoryError> {
    let release = targets.release(app, version)?;
    let given = ReleaseId(sha256::digest(manifest));
    if release.id != given || release.length != manifest.len() as u64 {
        let path = target_path(app, version);
        return Err(RepositoryError::WrongManifest { path, named: release.id, given });
    }
    Ok(release)
}

/// Whether a snapshot names this version of the targets: it says so as a JSON number, and is our own.
fn names(published: &Published, targets: u64) -> bool {
    let snapshot: serde_json::Value = serde_json::from_slice(&published.snapshot).unwrap_or_default();
    snapshot.pointer("/signed/meta/targets.json/version").and_then(serde_json::Value::as_u64) == Some(targets)
}

/// The first root as text, and the latest of the unbroken series of roots.
fn read_roots(metadata: &Path) -> Result<(String, Vec<u8>), RepositoryError> {
    let path = metadata.join("1.root.json");
    let Some(first) = read(&path)? else { return Err(RepositoryError::NoRoot { path }) };
    let check = |path: &Path, bytes: &[u8]| {
        verify_root(bytes)
            .map(drop)
            .map_err(|source| RepositoryError::Root { path: path.to_owned(), source: source.into() })
    };
    check(&path, &first)?;
    let mut latest = first.clone();
    for version in 2_u64.. {
        let path = metadata.join(format!("{version}.root.json"));
        let Some(next) = read(&path)? else { break };
        check(&path, &next)?;
        latest = next;
    }
    let first = String::from_utf8(first)
        .map_err(|error| RepositoryError::Read { path, source: io::Error::new(io::ErrorKind::InvalidData, error) })?;
    Ok((first, latest))
}

fn read_key(path: &Path) -> Result<SigningKey, RepositoryError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| RepositoryError::Read { path: path.to_owned(), source })?;
    SigningKey::from_pem(&text).map_err(|source| RepositoryError::Key { path: path.to_owned(), source })
}

/// What was published last: the timestamp, and the snapshot that it names. Versions must go on from there, or nodes refuse
/// what comes next.
fn read_published(metadata: &Path) -> Result<Option<Published>, RepositoryError> {
    let Some(timestamp) = read(&metadata.join("timestamp.json"))? else { return Ok(None) };
    let mut refusal = None;
    for path in numbered(metadata, "snapshot")?.into_values().rev() {
        let Some(snapshot) = read(&path)? else { continue };
        match Published::read(snapshot, timestamp.clone()) {
            Ok(published) => return Ok(Some(published)),
            Err(other) => refusal = Some(other),
        }
    }
    Err(refusal.unwrap_or(Refusal::Missing { file: "snapshot.json".to_owned() }).into())
}

/// The files `N.ROLE.json`, by N.
fn numbered(metadata: &Path, role: &str) -> Result<BTreeMap<u64, PathBuf>, RepositoryError> {
    let failed = |source| RepositoryError::Read { path: metadata.to_owned(), source };
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(metadata).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let Some((number, rest)) = name.to_str().and_then(|name| name.split_once('.')) else { continue };
        if let (Ok(number), true) = (number.parse(), rest == format!("{role}.json")) {
            found.insert(number, entry.path());
        }
    }
    Ok(found)
}

/// `timestamp.json` or `N.ROLE.json`: nothing else, and above all no path.
fn is_metadata_name(name: &str) -> bool {
    let numbered = |role: &str| {
        name.strip_suffix(role).is_some_and(|number| {
            !number.starts_with('0') && number.parse::<u64>().is_ok_and(|n| n.to_string() == number)
        })
    };
    name == "timestamp.json" || [".root.json", ".snapshot.json", ".targets.json"].into_iter().any(numbered)
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, RepositoryError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(RepositoryError::Read { path: path.to_owned(), source }),
    }
}

fn make_directory(path: &Path) -> Result<(), RepositoryError> {
    create_directories(path).map_err(|source| RepositoryError::Write { path: path.to_owned(), source })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), RepositoryError> {
    replace(path, bytes, 0o644).map_err(|source| RepositoryError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
#[path = "repository/tests.rs"]
mod tests;
