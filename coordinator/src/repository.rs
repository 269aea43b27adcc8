//! The coordinator's part in the trust: it keeps the files that the owner signed and signs the snapshot and the timestamp
//! that tell nodes of them. It can say which of the owner's targets are the newest, and nothing else.
//!
//! Files are written in the order in which a reader needs them, each as a whole, the timestamp last: a reader, and a start
//! after a kill, sees the old state or the new one.

mod accept;
mod delegated;
mod files;
mod online_keys;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use orangery_trust::release::{Release, target_path};
use orangery_trust::repository::{
    BuildError, KeyError, Online, Published, VerifiedTargets, role_of, verify_root, verify_targets, vouched_targets,
};
use orangery_trust::{Refusal, Role};
use orangery_wire::{AppName, ReleaseId, UnixTime, Version};

use self::files::{is_metadata_name, make_directory, numbered, read, read_published, read_roots, write};
use self::online_keys::OnlineKeys;
use crate::sha256;

pub use self::accept::Standing;

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
    /// The root that was uploaded does not follow the one that is here.
    #[error("the root is refused")]
    RootRefused(#[source] Box<Refusal>),
    /// The root is good, but the targets that are here are not signed by the keys that it names.
    #[error(
        "the root names other keys for the targets than those that signed the targets which are published; newer ones must come with it"
    )]
    TargetsNeeded,
    /// A key could not be made.
    #[error("cannot make new online keys")]
    MakeKey(#[source] KeyError),
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
    /// The targets name a release that was never uploaded.
    #[error("the targets name {path}, whose manifest is not here; push that release first")]
    NoManifest {
        /// The target path.
        path: String,
    },
    /// The role is not the one that signs the release.
    #[error(
        "the role {role} cannot publish {path}: the owner's targets do not leave it to that role, or have listed or revoked it \
         themselves"
    )]
    NotLeft {
        /// The role.
        role: String,
        /// The target path.
        path: String,
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
    first_root: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    root: Vec<u8>,
    online: Online,
    targets: Option<(Vec<u8>, VerifiedTargets)>,
    /// Delegated roles for which the targets vouch, by name.
    roles: BTreeMap<String, (Vec<u8>, VerifiedTargets)>,
    published: Option<Published>,
}

impl Repository {
    /// Reads what is there, checks that the owner's root names the online keys, and completes a publication that a kill cut
    /// short.
    pub fn open(files: RepositoryFiles, now: UnixTime) -> Result<Self, RepositoryError> {
        make_directory(&files.metadata)?;
        make_directory(&files.targets)?;
        let (first_root, root) = read_roots(&files.metadata)?;
        let online = OnlineKeys::of(&files).matching(&verify_root(&root)?.content())?;
        let (published, roles) = (read_published(&files.metadata)?, BTreeMap::new());
        let state = Mutex::new(State { root, online, targets: None, roles, published });
        let repository = Self { files, first_root, state };
        repository.load_targets(now)?;
        Ok(repository)
    }

    /// The owner's first root, as signed: what a new node starts from.
    pub fn first_root(&self) -> &str {
        &self.first_root
    }

    /// Takes a release: the manifest, and targets of the owner, or metadata of the delegated role that signs the app, which
    /// name it. They must be those that are here, or newer. The same again completes what was cut short and changes nothing else.
    pub fn publish(
        &self,
        app: &AppName,
        version: &Version,
        manifest: &[u8],
        targets: &[u8],
        now: UnixTime,
    ) -> Result<ReleaseId, RepositoryError> {
        let mut state = self.lock();
        if let Some(role) = role_of(targets) {
            return self.publish_role(&mut state, &role, (app, version), manifest, targets, now);
        }
        let verified = verify_targets(&state.root, targets, now)?;
        let release = check_manifest(&verified, app, version, manifest)?;
        if let Some((_, before)) = &state.targets {
            verified.check_follows(before)?;
        }
        self.write_manifest(&release, manifest)?;
        self.take_targets(&mut state, targets, verified, now)?;
        Ok(release.id)
    }

    /// Writes targets that were verified, and tells nodes of them. The same again completes what was cut short.
    fn take_targets(
        &self,
        state: &mut State,
        targets: &[u8],
        verified: VerifiedTargets,
        now: UnixTime,
    ) -> Result<(), RepositoryError> {
        let path = self.files.metadata.join(format!("{}.targets.json", verified.version));
        write(&path, targets)?;
        let news = state.targets.as_ref().is_none_or(|(bytes, _)| bytes != targets);
        if news || !state.is_told(verified.version) {
            self.tell(state, targets, &verified, now)?;
            tracing::info!(targets = verified.version, "targets published");
        }
        state.targets = Some((targets.to_vec(), verified));
        Ok(())
    }

    /// Signs a snapshot and a timestamp for these targets and the roles that they name, and writes them.
    fn tell(
        &self,
        state: &mut State,
        targets: &[u8],
        verified: &VerifiedTargets,
        now: UnixTime,
    ) -> Result<(), RepositoryError> {
        let roles = self.load_roles(verified, state.published.as_ref())?;
        let signed = roles.iter().map(|(name, (bytes, _))| (name.clone(), bytes.clone())).collect();
        let published = state.online.publish_with(&state.root, targets, &signed, state.published.as_ref(), now)?;
        self.write_published(&published)?;
        (state.roles, state.published) = (roles, Some(published));
        Ok(())
    }

    /// Signs snapshot and timestamp anew if it is time. Call it every hour or so. Returns whether it was.
    pub fn renew(&self, now: UnixTime) -> Result<bool, RepositoryError> {
        let mut state = self.lock();
        let Some((targets, verified)) = &state.targets else { return Ok(false) };
        let is_fresh = state.published.as_ref().is_some_and(|published| !published.is_due(now));
        if is_fresh && state.is_told(verified.version) {
            return Ok(false);
        }
        let (targets, verified) = (targets.clone(), verified.clone());
        self.tell(&mut state, &targets, &verified, now)?;
        let version = state.published.as_ref().map(|published| published.timestamp_version);
        tracing::info!(version, "snapshot and timestamp signed anew");
        Ok(true)
    }

    /// Signs snapshot and timestamp anew with versions that are so much higher, for nodes that may have seen newer ones than are here.
    pub fn leap(&self, versions: u64, now: UnixTime) -> Result<(), RepositoryError> {
        let mut state = self.lock();
        let Some((targets, verified)) = state.targets.clone() else { return Ok(()) };
        if let Some(published) = &mut state.published {
            published.snapshot_version = published.snapshot_version.saturating_add(versions);
            published.timestamp_version = published.timestamp_version.saturating_add(versions);
        }
        self.tell(&mut state, &targets, &verified, now)
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
            let verified = vouched_targets(&self.lock().root, &bytes);
            match verified {
                Ok(verified) => {
                    let mut state = self.lock();
                    state.roles = self.load_roles(&verified, state.published.as_ref())?;
                    state.targets = Some((bytes, verified));
                    drop(state);
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
        let roles = published.roles();
        for role in ["snapshot", "targets"].into_iter().chain(roles.keys().map(String::as_str)) {
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

impl State {
    /// Whether nodes are told of this version of the targets and of the roles that are here, by keys that the root names.
    fn is_told(&self, targets: u64) -> bool {
        self.published.as_ref().is_some_and(|published| {
            let listed = published.roles();
            names(published, targets)
                && self.roles.iter().all(|(name, (_, role))| listed.get(name) == Some(&role.version))
                && published.is_vouched(&self.root)
        })
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

#[cfg(test)]
mod tests;
