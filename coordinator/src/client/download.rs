//! Artifacts from the coordinator, hashed while they arrive.

use std::io;

use orangery_wire::Digest;
use orangery_wire::messages::blob_path;
use reqwest::Method;

use super::{Client, ClientError, root_cause};
use crate::copies::CopyError;
use crate::sha256::Hash;

impl Client {
    /// Gives an artifact to `take`, piece by piece. Fails if it is not there, or is not what it is named after; whoever took
    /// the pieces must drop them then.
    pub async fn blob(&self, digest: &Digest, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> Result<(), CopyError> {
        let path = blob_path(digest);
        let fetch = |source| CopyError::Fetch { path: path.clone(), source };
        let mut response = match self.send(Method::GET, &path, |request| request).await {
            Err(ClientError::Refused { status: 404, .. }) => return Err(CopyError::Missing { path }),
            other => other.map_err(fetch)?,
        };
        let mut hash = Hash::default();
        let cut = |error| fetch(ClientError::Answer { request: path.clone(), cause: root_cause(&error) });
        while let Some(piece) = response.chunk().await.map_err(cut)? {
            hash.update(&piece);
            take(&piece).map_err(|source| CopyError::Write { path: path.clone().into(), source })?;
        }
        let got = hash.finish();
        if got == *digest { Ok(()) } else { Err(CopyError::WrongContent { path, got }) }
    }
}
