//! What the coordinator signs by itself: snapshot and timestamp.

use orangery_wire::UnixTime;
use serde_json::{Map, Value, json};

use super::build::{Header, sign};
use super::root::verify_root;
use super::targets::verify_targets;
use super::{BuildError, SigningKey};
use crate::hash::sha256;
use crate::metadata::{Envelope, Role, Snapshot, Timestamp};
use crate::refusal::Refusal;

/// How long snapshot and timestamp are valid from their signing, in seconds: 45 days, for nodes may be offline for weeks.
pub const ONLINE_VALID_SECS: u64 = 45 * 86_400;
/// The age at which they are to be signed anew, in seconds: one day.
pub const RENEW_AFTER_SECS: u64 = 86_400;

/// The coordinator's two keys.
#[derive(Debug)]
pub struct Online {
    /// Signs snapshots.
    pub snapshot: SigningKey,
    /// Signs timestamps.
    pub timestamp: SigningKey,
}

/// A snapshot and a timestamp that names it. Publish `snapshot` as `SNAPSHOT_VERSION.snapshot.json` first, then replace
/// `timestamp.json`: whoever reads in between sees the old state or the new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The snapshot's version.
    pub snapshot_version: u64,
    /// The snapshot's bytes.
    pub snapshot: Vec<u8>,
    /// The timestamp's version.
    pub timestamp_version: u64,
    /// The timestamp's bytes.
    pub timestamp: Vec<u8>,
    /// When the timestamp expires.
    pub expires: UnixTime,
}

impl Online {
    /// Signs a snapshot and a timestamp for `targets`, whose signatures are checked against `root` first. `before` is what
    /// was published last, or `None` the first time; versions go on from there. The same call again gives newer versions
    /// of the same content.
    ///
    /// # Errors
    /// [`BuildError::Refused`] if a node that trusts `root` and has seen `before` would refuse the result.
    pub fn publish(
        &self,
        root: &[u8],
        targets: &[u8],
        before: Option<&Published>,
        now: UnixTime,
    ) -> Result<Published, BuildError> {
        let root_content = verify_root(root)?.content;
        let targets_version = verify_targets(root, targets, now)?.version;
        if let Some(before) = before {
            let trusted = Envelope::<Snapshot>::parse(&before.snapshot)?.content.targets.version;
            if targets_version < trusted {
                return Err(Refusal::Rollback { role: Role::Targets, trusted, offered: targets_version }.into());
            }
        }
        let expires = now.saturating_add(ONLINE_VALID_SECS);
        let header = |role, before: Option<u64>| {
            let version = before.unwrap_or(0).checked_add(1).ok_or(BuildError::VersionExhausted { role })?;
            Ok::<_, BuildError>(Header { role, version, signed_at: now, expires })
        };

        let snapshot_header = header(Role::Snapshot, before.map(|before| before.snapshot_version))?;
        let snapshot = sign(snapshot_header, describe("targets.json", targets_version, targets), &[&self.snapshot]);
        Envelope::<Snapshot>::parse(&snapshot)?.verify(&root_content.snapshot)?;

        let timestamp_header = header(Role::Timestamp, before.map(|before| before.timestamp_version))?;
        let content = describe("snapshot.json", snapshot_header.version, &snapshot);
        let timestamp = sign(timestamp_header, content, &[&self.timestamp]);
        Envelope::<Timestamp>::parse(&timestamp)?.verify(&root_content.timestamp)?;

        Ok(Published {
            snapshot_version: snapshot_header.version,
            snapshot,
            timestamp_version: timestamp_header.version,
            timestamp,
            expires,
        })
    }
}

impl Published {
    /// What was published earlier, read back from its two files.
    ///
    /// # Errors
    /// [`Refusal`] if one cannot be read, or they do not belong together. Signatures are not checked: they are the
    /// coordinator's own, and versions must go on even after its keys were changed.
    pub fn read(snapshot: Vec<u8>, timestamp: Vec<u8>) -> Result<Self, Refusal> {
        let signed_timestamp = Envelope::<Timestamp>::parse(&timestamp)?;
        let signed_snapshot = Envelope::<Snapshot>::parse_named(&snapshot, &signed_timestamp.content.snapshot)?;
        Ok(Self {
            snapshot_version: signed_snapshot.version,
            snapshot,
            timestamp_version: signed_timestamp.version,
            timestamp,
            expires: signed_timestamp.expires,
        })
    }

    /// Whether nodes that trust `root` would take it, as far as its keys go: not after these were rotated.
    pub fn is_vouched(&self, root: &[u8]) -> bool {
        let vouched = || {
            let root = verify_root(root)?.content;
            Envelope::<Snapshot>::parse(&self.snapshot)?.verify(&root.snapshot)?;
            Envelope::<Timestamp>::parse(&self.timestamp)?.verify(&root.timestamp)
        };
        vouched().is_ok()
    }

    /// Whether it is time to sign anew: [`RENEW_AFTER_SECS`] have passed since the signing, or the clock has gone back
    /// before it.
    pub fn is_due(&self, now: UnixTime) -> bool {
        let signed_at = self.expires.saturating_sub(ONLINE_VALID_SECS);
        now < signed_at || now - signed_at >= RENEW_AFTER_SECS
    }
}

/// METAFILES of TUF 4.4 with one file in full: version, length and hash.
fn describe(file: &str, version: u64, bytes: &[u8]) -> Map<String, Value> {
    let meta = json!({
        file: { "version": version, "length": bytes.len(), "hashes": { "sha256": sha256(bytes).to_string() } },
    });
    let mut content = Map::new();
    content.insert("meta".to_owned(), meta);
    content
}
