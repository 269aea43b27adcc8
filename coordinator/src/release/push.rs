//! `release push`: a signed bundle goes to the coordinator, the packs that it lacks first.

use std::io;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _};
use indicatif::ProgressBar;
use orangery_wire::rest::{PublishRequest, ReleaseView};
use orangery_wire::{Digest, ReleaseId};
use tokio::io::AsyncReadExt as _;
use tokio_util::io::ReaderStream;

use super::bundle::Bundle;
use crate::client::{Client, ClientError};

/// Why a release was not published.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// It is not signed.
    #[error("{id:?} is not signed, and no node would take it; run `orangery release sign` on its file first")]
    Unsigned {
        /// The release.
        id: ReleaseId,
    },
    /// Metadata that is not text.
    #[error("the release file carries metadata that is not UTF-8; sign it again")]
    NotText,
    /// A pack cannot be read.
    #[error("cannot read the pack {digest}")]
    Read {
        /// The pack.
        digest: Digest,
        /// Why.
        source: io::Error,
    },
    /// A pack was not taken.
    #[error("cannot upload the pack {digest}")]
    Upload {
        /// The pack.
        digest: Digest,
        /// Why.
        source: ClientError,
    },
    /// The release was not taken.
    #[error("the coordinator does not take the release")]
    Publish(#[source] ClientError),
}

/// Uploads the packs that the coordinator lacks, then publishes. Doing it again changes nothing. `progress` counts packed
/// bytes, those that are there already among them.
pub async fn push(client: &Client, bundle: &Bundle, progress: &ProgressBar) -> Result<ReleaseView, PushError> {
    let targets = bundle.targets().ok_or_else(|| PushError::Unsigned { id: bundle.id() })?;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| PushError::NotText);
    let request = PublishRequest { manifest: text(bundle.manifest_bytes())?, targets: text(targets)? };
    progress.set_length(bundle.packs().map(|(_, size_bytes)| size_bytes).sum());
    for (digest, size_bytes) in bundle.packs() {
        let failed = |source| PushError::Upload { digest, source };
        if client.has_blob(&digest).await.map_err(failed)? {
            progress.inc(size_bytes);
            continue;
        }
        let content = pack_stream(bundle, &digest, progress).map_err(|source| PushError::Read { digest, source })?;
        client.put_blob(&digest, size_bytes, content).await.map_err(failed)?;
    }
    client.post("/v1/releases", &request).await.map_err(PushError::Publish)
}

fn pack_stream(
    bundle: &Bundle,
    digest: &Digest,
    progress: &ProgressBar,
) -> io::Result<impl Stream<Item = io::Result<Bytes>> + Send + Sync + 'static> {
    let (file, size_bytes) = bundle.pack_file(digest)?;
    let reader = tokio::fs::File::from_std(file).take(size_bytes);
    let progress = progress.clone();
    let count = move |part: &Bytes| progress.inc(part.len() as u64);
    Ok(ReaderStream::with_capacity(reader, 64 * 1024).inspect_ok(count))
}
