//! The owner's trust as the coordinator has it, and as it changes.

use orangery_trust::repository::{Draft, verify_root};
use orangery_wire::rest::{OnlineKeysView, TrustRequest, TrustView};

use super::{Client, ClientError, MetadataError};

/// Most roots that are followed at once, as nodes do.
const ROOTS_MAX: u64 = 1_024;

impl Client {
    /// Versions and expiry of what is published.
    pub async fn trust(&self) -> Result<TrustView, ClientError> {
        self.get("/v1/trust").await
    }

    /// Gives the coordinator a root, targets, or both.
    pub async fn set_trust(&self, root: Option<&[u8]>, targets: Option<&[u8]>) -> Result<TrustView, ClientError> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.post("/v1/trust", &TrustRequest { root: root.map(text), targets: targets.map(text) }).await
    }

    /// Has the coordinator make the keys that it will sign with once a root names them.
    pub async fn new_online_keys(&self) -> Result<OnlineKeysView, ClientError> {
        self.post("/v1/trust/online-keys", &()).await
    }

    /// The first root. Whose it is, the caller must know otherwise.
    pub async fn first_root(&self) -> Result<Option<Vec<u8>>, ClientError> {
        Ok(self.file("/metadata/1.root.json").await?.map(|bytes| bytes.to_vec()))
    }

    /// The roots that follow `latest`, each verified by the one before it.
    pub async fn roots_after(&self, latest: &[u8]) -> Result<Vec<Vec<u8>>, MetadataError> {
        let mut roots: Vec<Vec<u8>> = Vec::new();
        let first = verify_root(latest)?.version.saturating_add(1);
        for version in first..first.saturating_add(ROOTS_MAX) {
            let Some(next) = self.file(&format!("/metadata/{version}.root.json")).await? else { break };
            Draft::read(&next)?.check_follows(roots.last().map_or(latest, Vec::as_slice))?;
            roots.push(next.to_vec());
        }
        Ok(roots)
    }

    /// The newest targets, expired or not; `None` before the first release. Nothing of them is verified.
    pub async fn unverified_targets(&self) -> Result<Option<Vec<u8>>, ClientError> {
        let Some(version) = self.trust().await?.targets else { return Ok(None) };
        Ok(self.file(&format!("/metadata/{version}.targets.json")).await?.map(|bytes| bytes.to_vec()))
    }

    /// The published metadata of a delegated role, with its version, whoever has signed it; `None` if there is none.
    pub async fn role(&self, name: &str) -> Result<Option<(u64, Vec<u8>)>, ClientError> {
        let Some(version) = self.trust().await?.roles.get(name).copied() else { return Ok(None) };
        let file = self.file(&format!("/metadata/{version}.{name}.json")).await?;
        Ok(file.map(|bytes| (version, bytes.to_vec())))
    }
}
