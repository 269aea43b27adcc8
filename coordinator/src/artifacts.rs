//! Artifacts: files that are named by their SHA-256. One that is there is complete and never changes, unless its disk fails.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use orangery_wire::Digest;
use ring::rand::SecureRandom as _;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::durable::{create_directories, sync_directory};
use crate::sha256::Hash;

/// Files under way begin with this; what a kill left behind is removed at the next start.
const INCOMING: &str = ".incoming-";

/// Bytes are synced in portions of this size, so that the last sync, for which the sender waits in silence, is short.
const SYNC_EACH_BYTES: usize = 32 << 20;

/// Largest artifact that is read again before it is believed to be there: seconds from a slow card, for which a client waits.
const READ_AGAIN_BYTES_MAX: u64 = 256 << 20;
/// Bytes read at once then.
const READ_BYTES: usize = 256 << 10;

/// An artifact could not be taken or given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArtifactError {
    /// The directory could not be made ready.
    #[error("cannot use {} for artifacts: {source}", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// More bytes than the settings allow.
    #[error("the artifact has more than {bytes_max} bytes; [limits] blob_bytes_max says how many it may have")]
    TooLarge {
        /// The limit.
        bytes_max: u64,
    },
    /// The bytes are not what they are said to be.
    #[error("the bytes that came have the SHA-256 {found}, not {expected}; they were changed or cut on the way")]
    WrongDigest {
        /// The name.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// The sender stopped.
    #[error("the upload ended early: {reason}")]
    Interrupted {
        /// Why.
        reason: String,
    },
    /// The disk is full.
    #[error("the coordinator's disk is full")]
    NoSpace,
    /// The disk failed.
    #[error("cannot write the artifact {digest}: {source}")]
    Write {
        /// Its name.
        digest: Digest,
        /// Why.
        source: io::Error,
    },
    /// The disk failed.
    #[error("cannot read the artifact {digest}: {source}")]
    Read {
        /// Its name.
        digest: Digest,
        /// Why.
        source: io::Error,
    },
}

/// All artifacts.
#[derive(Debug)]
pub struct Artifacts {
    directory: PathBuf,
    bytes_max: u64,
}

impl Artifacts {
    /// Opens the directory, makes it if it is not there, and removes what uploads that were killed left in it.
    pub fn open(directory: &Path, bytes_max: u64) -> Result<Self, ArtifactError> {
        let open = || {
            create_directories(directory)?;
            for entry in std::fs::read_dir(directory)? {
                let entry = entry?;
                if entry.file_name().to_string_lossy().starts_with(INCOMING) {
                    std::fs::remove_file(entry.path())?;
                }
            }
            Ok(())
        };
        open().map_err(|source| ArtifactError::Open { path: directory.to_owned(), source })?;
        Ok(Self { directory: directory.to_owned(), bytes_max })
    }

    /// Most bytes that one may have.
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// The size of an artifact in bytes; `None` if it is not there.
    pub async fn size(&self, digest: &Digest) -> Result<Option<u64>, ArtifactError> {
        Ok(self.open_one(digest).await?.map(|(_, size)| size))
    }

    /// The same for whoever would upload it: one whose bytes have changed on the disk is as good as missing. Those
    /// above 256 MiB are believed by their size.
    pub async fn whole(&self, digest: &Digest) -> Result<Option<u64>, ArtifactError> {
        let Some((mut file, size)) = self.open_one(digest).await? else { return Ok(None) };
        if size > READ_AGAIN_BYTES_MAX {
            return Ok(Some(size));
        }
        let (mut hash, mut piece) = (Hash::default(), vec![0; READ_BYTES]);
        loop {
            match file.read(&mut piece).await.map_err(|source| ArtifactError::Read { digest: *digest, source })? {
                0 => break,
                count => hash.update(piece.get(..count).unwrap_or_default()),
            }
        }
        let found = hash.finish();
        if found != *digest {
            tracing::error!(%digest, %found, "an artifact is damaged on the disk; the next upload of it takes its place");
            return Ok(None);
        }
        Ok(Some(size))
    }

    /// An artifact, open, and its size in bytes; `None` if it is not there.
    pub async fn open_one(&self, digest: &Digest) -> Result<Option<(File, u64)>, ArtifactError> {
        let read = |source| ArtifactError::Read { digest: *digest, source };
        let file = match File::open(self.path(digest)).await {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(read(error)),
        };
        let size = file.metadata().await.map_err(read)?.len();
        Ok(Some((file, size)))
    }

    /// Takes an artifact piece by piece and puts it in its place once its digest is right and it is on the disk. One that
    /// is there already, whole, is left as it is. Returns its size in bytes, and whether it is new.
    pub async fn put<E: std::fmt::Display>(
        &self,
        digest: &Digest,
        pieces: impl Stream<Item = Result<Bytes, E>> + Unpin,
    ) -> Result<(u64, bool), ArtifactError> {
        if let Some(size) = self.whole(digest).await? {
            return Ok((size, false));
        }
        let incoming = Incoming(self.directory.join(format!("{INCOMING}{}", random_name(digest)?)));
        let size = self.receive(digest, pieces, &incoming.0).await?;
        let (from, to, directory) = (incoming.0.clone(), self.path(digest), self.directory.clone());
        let publish = move || std::fs::rename(from, to).and_then(|()| sync_directory(&directory));
        tokio::task::spawn_blocking(publish)
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)))
            .map_err(|source| failed(digest, source))?;
        tracing::info!(%digest, size, "artifact stored");
        Ok((size, true))
    }

    async fn receive<E: std::fmt::Display>(
        &self,
        digest: &Digest,
        mut pieces: impl Stream<Item = Result<Bytes, E>> + Unpin,
        path: &Path,
    ) -> Result<u64, ArtifactError> {
        let failed = |source| failed(digest, source);
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(path).await.map_err(failed)?;
        let (mut hash, mut size, mut unsynced) = (Hash::default(), 0_u64, 0);
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| ArtifactError::Interrupted { reason: error.to_string() })?;
            size = size.saturating_add(piece.len() as u64);
            if size > self.bytes_max {
                return Err(ArtifactError::TooLarge { bytes_max: self.bytes_max });
            }
            hash.update(&piece);
            file.write_all(&piece).await.map_err(failed)?;
            unsynced += piece.len();
            if unsynced >= SYNC_EACH_BYTES {
                file.flush().await.map_err(failed)?;
                file.sync_data().await.map_err(failed)?;
                unsynced = 0;
            }
        }
        let found = hash.finish();
        if found != *digest {
            return Err(ArtifactError::WrongDigest { expected: *digest, found });
        }
        file.flush().await.map_err(failed)?;
        file.sync_all().await.map_err(failed)?;
        Ok(size)
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.directory.join(digest.to_string())
    }
}

/// An upload under way. However it ends, nothing is left of it but the artifact.
struct Incoming(PathBuf);

impl Drop for Incoming {
    fn drop(&mut self) {
        // After the rename it is not there any more.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Two uploads of one artifact at the same time must not share a file.
fn random_name(digest: &Digest) -> Result<String, ArtifactError> {
    let mut bytes = [0; 8];
    ring::rand::SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| failed(digest, io::Error::other("the system gives no random numbers")))?;
    Ok(format!("{:016x}", u64::from_le_bytes(bytes)))
}

fn failed(digest: &Digest, source: io::Error) -> ArtifactError {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ArtifactError::NoSpace,
        _ => ArtifactError::Write { digest: *digest, source },
    }
}

#[cfg(test)]
#[path = "artifacts/tests.rs"]
mod tests;
