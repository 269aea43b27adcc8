//! `release push`: a signed bundle goes to the coordinator, the packs that it lacks first.

use std::io;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _};
use indicatif::ProgressBar;
use orangery_trust::Refusal;
use orangery_trust::repository::{VerifiedTargets, role_of, verify_targets};
use orangery_wire::rest::{PublishRequest, ReleaseView};
use orangery_wire::{AppName, Digest, Manifest, ReleaseId, Version};
use tokio::io::AsyncReadExt as _;
use tokio_util::io::ReaderStream;

use super::bundle::Bundle;
use crate::client::{Client, ClientError};
use crate::output;
use crate::owner::goes_on_from;

/// Why a release was not published.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// It is not signed.
    #[error("{id:?} is not signed, and no node would take it; run `orangery release sign` on its file first")]
    Unsigned {
        /// The release.
        id: ReleaseId,
    },
    /// Its signature does not go on from what is published.
    #[error(
        "{app} {version} was signed on top of an older state than the one that is published; run `orangery release sign` on \
         its file again [signature_outdated]"
    )]
    Outdated {
        /// The app.
        app: AppName,
        /// The version.
        version: Version,
    },
    /// Its signature does not hold.
    #[error("the signature of the release does not hold; run `orangery release sign` on its file")]
    Untrusted(#[source] Box<Refusal>),
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
/// bytes, those that are there already among them. `root` is the owner's latest.
pub async fn push(
    client: &Client,
    root: &[u8],
    bundle: &Bundle,
    progress: &ProgressBar,
) -> Result<ReleaseView, PushError> {
    let targets = bundle.targets().ok_or_else(|| PushError::Unsigned { id: bundle.id() })?;
    let standing = standing(client, root, bundle, targets).await?;
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
    let Manifest { app, version, .. } = bundle.manifest();
    match standing {
        Standing::Next => client.post("/v1/releases", &request).await.map_err(PushError::Publish),
        Standing::Published => {
            client.get(&format!("/v1/releases/{app}/{version}")).await.map_err(|error| match error {
                // The targets were taken, and then something went wrong: the newest signature completes it.
                ClientError::Refused { .. } => outdated(bundle),
                error => PushError::Publish(error),
            })
        }
    }
}

/// How a bundle stands to what is published.
enum Standing {
    /// It comes next.
    Next,
    /// It is published, and more was signed since.
    Published,
}

/// Publishing must make nothing vanish that is published. If that cannot be seen here the coordinator has to decide.
async fn standing(client: &Client, root: &[u8], bundle: &Bundle, targets: &[u8]) -> Result<Standing, PushError> {
    let now = output::now();
    let untrusted = |refusal| PushError::Untrusted(Box::new(refusal));
    let top = client.newest_targets(root, now).await.ok().flatten();
    let top = top.and_then(|top| verify_targets(root, &top, now).ok());
    let (ours, published) = match role_of(targets) {
        None => (verify_targets(root, targets, now).map_err(untrusted)?, top),
        Some(role) => {
            let nothing = || Refusal::Missing { file: "targets.json".to_owned() };
            let top = top.ok_or_else(|| untrusted(nothing()))?;
            let ours = top.verify_role(&role, targets, now).map_err(untrusted)?;
            (ours, published_role(client, &top, &role).await)
        }
    };
    let manifest = bundle.manifest();
    match published {
        Some(published) if !goes_on_from(&ours, &published) => {
            let theirs = published.release(&manifest.app, &manifest.version);
            let is_there = theirs.is_ok_and(|release| release.id == bundle.id());
            if is_there { Ok(Standing::Published) } else { Err(outdated(bundle)) }
        }
        _ => Ok(Standing::Next),
    }
}

async fn published_role(client: &Client, top: &VerifiedTargets, role: &str) -> Option<VerifiedTargets> {
    let (_, published) = client.role(role).await.ok().flatten()?;
    top.vouched_role(role, &published).ok()
}

fn outdated(bundle: &Bundle) -> PushError {
    let Manifest { app, version, .. } = bundle.manifest().clone();
    PushError::Outdated { app, version }
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
