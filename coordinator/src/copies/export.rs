//! A copy as a directory, laid out as nodes ask for it: `metadata/`, `targets/`, `blobs/`. Any web server that serves files
//! can serve it, and so can a USB stick.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use orangery_wire::Digest;
use orangery_wire::messages::blob_path;

use super::{Copies, CopyError};
use crate::client::Client;
use crate::durable;
use crate::sha256;

const FILE_MODE: u32 = 0o644;

/// What an export did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exported {
    /// Files that were written.
    pub written: usize,
    /// Files that were there already, as they should be.
    pub kept: usize,
}

/// Writes `copies` into `directory`, the timestamp last. What is there and right is left alone; what is there and of no use
/// any more stays. A cut leaves the old state or the new one for readers, and the same command again completes it.
pub async fn export(
    client: &Client,
    copies: &Copies,
    directory: &Path,
    progress: &ProgressBar,
) -> Result<Exported, CopyError> {
    progress.set_length(copies.packs.values().sum());
    let mut done = Exported::default();
    for (digest, size_bytes) in &copies.packs {
        let path = directory.join(blob_path(digest).trim_start_matches('/'));
        if holds(&path, digest, *size_bytes, progress) {
            done.kept += 1;
            continue;
        }
        pack(client, digest, &path, progress).await?;
        done.written += 1;
    }
    for (name, bytes) in &copies.files {
        let path = directory.join(name);
        if std::fs::read(&path).is_ok_and(|found| found == *bytes) {
            done.kept += 1;
            continue;
        }
        make_parent(&path)?;
        durable::replace(&path, bytes, FILE_MODE).map_err(|source| CopyError::Write { path: path.clone(), source })?;
        if std::fs::read(&path).ok().as_ref() != Some(bytes) {
            return Err(CopyError::Damaged { path });
        }
        done.written += 1;
    }
    Ok(done)
}

/// Fetches a pack beside its place, reads it again, and puts it there.
async fn pack(client: &Client, digest: &Digest, path: &Path, progress: &ProgressBar) -> Result<(), CopyError> {
    make_parent(path)?;
    let beside = path.with_extension("new");
    let write = |source| CopyError::Write { path: beside.clone(), source };
    let mut file = File::create(&beside).map_err(write)?;
    let fetched = client.blob(digest, |piece| {
        progress.inc(piece.len() as u64);
        file.write_all(piece)
    });
    fetched.await?;
    file.sync_all().map_err(write)?;
    drop(file);
    if hash(&beside).map_err(write)? != *digest {
        return Err(CopyError::Damaged { path: beside });
    }
    let place = || {
        std::fs::rename(&beside, path)?;
        path.parent().map_or(Ok(()), durable::sync_directory)
    };
    place().map_err(|source| CopyError::Write { path: path.to_owned(), source })
}

/// Whether the pack is there already and right.
fn holds(path: &Path, digest: &Digest, size_bytes: u64, progress: &ProgressBar) -> bool {
    let right = std::fs::metadata(path).is_ok_and(|found| found.len() == size_bytes)
        && hash(path).is_ok_and(|found| found == *digest);
    if right {
        progress.inc(size_bytes);
    }
    right
}

fn hash(path: &Path) -> io::Result<Digest> {
    sha256::of(&mut File::open(path)?)
}

/// Readable for the web server's user, unlike the coordinator's own directories.
fn make_parent(path: &Path) -> Result<(), CopyError> {
    let parent: PathBuf = path.parent().map(Path::to_owned).unwrap_or_default();
    std::fs::create_dir_all(&parent).map_err(|source| CopyError::Write { path: parent, source })
}
