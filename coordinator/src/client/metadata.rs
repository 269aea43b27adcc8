//! The owner's targets as the coordinator has them: fetched and verified as a node would.

use orangery_trust::{Keep, Refresh, Refusal, Role, Stored, TrustedSet};
use orangery_wire::UnixTime;

use super::{Client, ClientError};

/// Why the coordinator's targets cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// The coordinator cannot be asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// What it has is not what the owner signed.
    #[error("the coordinator's metadata cannot be trusted")]
    Refused(#[from] Refusal),
}

impl Client {
    /// The newest `targets.json` of the coordinator, verified against `root`; `None` before the first release.
    pub async fn newest_targets(&self, root: &[u8], now: UnixTime) -> Result<Option<Vec<u8>>, MetadataError> {
        let set = TrustedSet::load(&Stored { roots: vec![root.to_vec()], ..Stored::default() })?;
        let mut refresh = Refresh::begin(set, now);
        let mut targets = None;
        while let Some(request) = refresh.next() {
            let bytes = self.file(&format!("/metadata/{}", request.file)).await?;
            if bytes.is_none() && request.role == Role::Timestamp {
                return Ok(None);
            }
            if let Some(Keep { role: Role::Targets, bytes, .. }) = refresh.supply(bytes.as_deref())? {
                targets = Some(bytes);
            }
        }
        Ok(targets)
    }
}
