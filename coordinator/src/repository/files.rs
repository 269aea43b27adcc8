//! The repository's files, by name.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use orangery_trust::Refusal;
use orangery_trust::repository::{Published, SigningKey, is_role_name, verify_root};

use super::RepositoryError;
use crate::durable::{create_directories, replace};

/// The first root as text, and the latest of the unbroken series of roots.
pub(super) fn read_roots(metadata: &Path) -> Result<(String, Vec<u8>), RepositoryError> {
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

pub(super) fn read_key(path: &Path) -> Result<SigningKey, RepositoryError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| RepositoryError::Read { path: path.to_owned(), source })?;
    SigningKey::from_pem(&text).map_err(|source| RepositoryError::Key { path: path.to_owned(), source })
}

/// What was published last: the timestamp, and the snapshot that it names. Versions must go on from there, or nodes refuse
/// what comes next.
pub(super) fn read_published(metadata: &Path) -> Result<Option<Published>, RepositoryError> {
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
pub(super) fn numbered(metadata: &Path, role: &str) -> Result<BTreeMap<u64, PathBuf>, RepositoryError> {
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
pub(super) fn is_metadata_name(name: &str) -> bool {
    let numbered = || {
        let (number, role) = name.strip_suffix(".json")?.split_once('.')?;
        let is_number = !number.starts_with('0') && number.parse::<u64>().is_ok_and(|n| n.to_string() == number);
        Some(is_number && (["root", "snapshot", "targets"].contains(&role) || is_role_name(role)))
    };
    name == "timestamp.json" || numbered().unwrap_or(false)
}

pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, RepositoryError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(RepositoryError::Read { path: path.to_owned(), source }),
    }
}

pub(super) fn make_directory(path: &Path) -> Result<(), RepositoryError> {
    create_directories(path).map_err(|source| RepositoryError::Write { path: path.to_owned(), source })
}

pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), RepositoryError> {
    replace(path, bytes, 0o644).map_err(|source| RepositoryError::Write { path: path.to_owned(), source })
}
