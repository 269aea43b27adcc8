//! The directory of an exported repository, as `orangery repo export` writes it: on a stick, a share, a disk.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use orangery_wire::manifest::Pack;
use orangery_wire::{AppName, Version};

use super::claim;
use crate::fetch::{FetchError, Run};
use crate::unpack::Directory;

/// Most names that are looked at when releases are listed.
const NAMES_MAX: usize = 4_096;

/// An exported repository, held by descriptor. No link in it is followed.
#[derive(Debug)]
pub struct Exported {
    path: PathBuf,
    directory: Arc<Directory>,
}

impl Exported {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), directory: Arc::new(Directory::open(path, Path::new(""))?) })
    }

    pub(super) fn place(&self) -> &Path {
        &self.path
    }

    pub(super) async fn get(&self, path: &str, length_max: u64) -> Result<Option<Vec<u8>>, FetchError> {
        let (name, found) = (self.name(path), self.find(path).await);
        let Some((file, run)) = found.map_err(|source| FetchError::Local { name: name.clone(), source })? else {
            return Ok(None);
        };
        run.read(file.into(), name, length_max).await.map(Some)
    }

    pub(super) async fn pack(&self, path: &str, pack: &Pack, part: &Path) -> Result<File, FetchError> {
        let (name, found) = (self.name(path), self.find(path).await);
        let found = found.map_err(|source| FetchError::Local { name: name.clone(), source })?;
        let (file, run) = found.ok_or_else(|| FetchError::Missing { url: name.clone() })?;
        run.copy(file.into(), name, pack, part).await
    }

    /// Opens a file by its path in the repository; `None` if it is not there.
    async fn find(&self, path: &str) -> io::Result<Option<(File, Run)>> {
        let (directory, path) = (self.directory.clone(), path.trim_start_matches('/').to_owned());
        let opened = tokio::task::spawn_blocking(move || open(&directory, &path)).await;
        match opened.map_err(io::Error::other).flatten() {
            Ok(file) => {
                let length = file.metadata()?.len();
                Ok(Some((file, Run { offset: 0, length })))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn name(&self, path: &str) -> String {
        format!("{}{path}", self.path.display())
    }

    pub(super) fn claims(&self) -> Vec<(AppName, Version)> {
        let targets = self.path.join("targets");
        let (mut claims, mut left) = (Vec::new(), NAMES_MAX);
        for app in names(&targets, &mut left) {
            for version in names(&targets.join(&app), &mut left) {
                for file in names(&targets.join(&app).join(&version), &mut left) {
                    claims.extend(claim(&format!("targets/{app}/{version}/{file}")));
                }
            }
        }
        claims
    }
}

/// Every step is one name in a directory that is held.
fn open(directory: &Directory, path: &str) -> io::Result<File> {
    match path.split_once('/') {
        Some((first, rest)) => open(&directory.enter(first)?, rest),
        None => directory.read(path),
    }
}

/// At most `left` names, which become fewer by those.
fn names(directory: &Path, left: &mut usize) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten().take(*left);
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    *left -= names.len();
    names.sort();
    names
}
