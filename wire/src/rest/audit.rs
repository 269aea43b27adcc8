//! What was done, by whom: entries of the audit log. Each holds the digest of the one before it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{Digest, UnixTime};

/// One entry. Its canonical bytes are its JSON text: all members, in this order, without white space. Every value is a text,
/// a number that is not negative, or null, and so there is one such text only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditEntry {
    /// Always 1.
    pub format: u32,
    /// Counts from 1, without a gap.
    pub sequence: u64,
    /// SHA-256 of the canonical bytes of the entry before; 64 zeros in the first.
    pub previous: Digest,
    /// When, by the coordinator's clock.
    pub at: UnixTime,
    /// Who: a user's name, `node:NAME`, `invite:ID`, or `coordinator` for what it does by itself.
    pub who: String,
    /// The id of the token that came with it.
    pub token: Option<String>,
    /// The address that it came from.
    pub from: Option<String>,
    /// What was done, such as `rollout.pause`.
    pub deed: String,
    /// With what, such as `rollout 7`.
    pub object: String,
    /// `done`, or the code of the refusal.
    pub outcome: String,
    /// What else is known of it, by name.
    pub detail: BTreeMap<String, String>,
}

impl AuditEntry {
    /// The bytes whose digest the next entry holds.
    pub fn canonical(&self) -> String {
        // Texts, numbers and null always have a JSON form.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// `GET /v1/audit`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditPage {
    /// The entries, oldest first.
    pub entries: Vec<AuditLine>,
    /// The `after` that goes on from here; absent if that was all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// An entry as it is kept, so that whoever asks can check the chain themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditLine {
    /// Its place in the log.
    pub sequence: u64,
    /// The SHA-256 that was kept with it.
    pub digest: String,
    /// Its canonical bytes: the JSON of an AuditEntry, as text, unless somebody has changed it.
    pub entry: String,
}
