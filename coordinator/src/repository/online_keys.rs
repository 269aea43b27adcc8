//! The coordinator's own keys, and how they are replaced: new ones lie beside the old as `KEY.next` until a root of the owner
//! names them. Whatever moment a kill chooses, the root on the disk says which of the two counts.

use std::io;
use std::path::{Path, PathBuf};

use orangery_trust::repository::{Online, RootContent, SigningKey};
use orangery_trust::{PublicKey, Role};

use super::files::read_key;
use super::{RepositoryError, RepositoryFiles};
use crate::durable::{replace, sync_directory};

/// Where the two keys are.
pub(super) struct OnlineKeys<'a> {
    snapshot: &'a Path,
    timestamp: &'a Path,
}

impl<'a> OnlineKeys<'a> {
    pub(super) fn of(files: &'a RepositoryFiles) -> Self {
        Self { snapshot: &files.snapshot_key, timestamp: &files.timestamp_key }
    }

    /// The keys that `root` names, among those that are here. New ones that it names take the place of the old.
    pub(super) fn matching(&self, root: &RootContent) -> Result<Online, RepositoryError> {
        Ok(Online {
            snapshot: choose(self.snapshot, Role::Snapshot, root)?,
            timestamp: choose(self.timestamp, Role::Timestamp, root)?,
        })
    }

    /// Whether keys that `root` names are here. Changes nothing.
    pub(super) fn check(&self, root: &RootContent) -> Result<(), RepositoryError> {
        for (path, role) in [(self.snapshot, Role::Snapshot), (self.timestamp, Role::Timestamp)] {
            let is_named = |path: &Path| read_key(path).is_ok_and(|key| names(root, role, &key.public()));
            if !is_named(path) && !is_named(&next(path)) {
                return Err(RepositoryError::KeyNotTrusted { role });
            }
        }
        Ok(())
    }

    /// The public halves of the keys to come: snapshot and timestamp. They are made if they are not here yet; the same call
    /// again gives the same keys.
    pub(super) fn prepare(&self) -> Result<(PublicKey, PublicKey), RepositoryError> {
        Ok((prepare(self.snapshot)?, prepare(self.timestamp)?))
    }
}

fn next(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".next");
    name.into()
}

fn names(root: &RootContent, role: Role, key: &PublicKey) -> bool {
    let holders = root.holders(role);
    holders.threshold == 1 && holders.keys.contains(key)
}

fn choose(path: &Path, role: Role, root: &RootContent) -> Result<SigningKey, RepositoryError> {
    let present = read_key(path);
    if let Ok(key) = present
        && names(root, role, &key.public())
    {
        return Ok(key);
    }
    let beside = next(path);
    match read_key(&beside) {
        Ok(key) if names(root, role, &key.public()) => {
            let failed = |source| RepositoryError::Write { path: path.to_owned(), source };
            std::fs::rename(&beside, path).map_err(failed)?;
            path.parent().map_or(Ok(()), sync_directory).map_err(failed)?;
            tracing::info!(%role, "a new online key counts from now on");
            Ok(key)
        }
        // What is wrong with the present key is what a person needs to know.
        _ => read_key(path).and(Err(RepositoryError::KeyNotTrusted { role })),
    }
}

fn prepare(path: &Path) -> Result<PublicKey, RepositoryError> {
    let beside = next(path);
    match read_key(&beside) {
        Ok(key) => return Ok(key.public()),
        Err(RepositoryError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let key = SigningKey::generate().map_err(RepositoryError::MakeKey)?;
    replace(&beside, key.to_pem().as_bytes(), 0o600)
        .map_err(|source| RepositoryError::Write { path: beside, source })?;
    Ok(key.public())
}
