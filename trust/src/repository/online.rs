//! What the coordinator signs by itself: snapshot and timestamp.

use std::collections::BTreeMap;

use orangery_wire::UnixTime;
use serde_json::{Map, Value, json};

use super::build::{Header, sign};
use super::root::verify_root;
use super::targets::verify_targets;
use super::{BuildError, SigningKey};
use crate::hash::{Print, sha256};
use crate::metadata::{Envelope, Metafile, Role, Snapshot, Timestamp};
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
        self.publish_with(root, targets, &BTreeMap::new(), before, now)
    }

    /// As [`Self::publish`], with the metadata of delegated roles by name, for which the keys must vouch that `targets`
    /// name. Roles that `before` lists are listed for good, as TUF 5.5.5 has it.
    ///
    /// # Errors
    /// [`BuildError::Refused`] if a node that trusts `root` and has seen `before` would refuse the result.
    pub fn publish_with(
        &self,
        root: &[u8],
        targets: &[u8],
        roles: &BTreeMap<String, Vec<u8>>,
        before: Option<&Published>,
        now: UnixTime,
    ) -> Result<Published, BuildError> {
        let root_content = verify_root(root)?.content;
        let verified = verify_targets(root, targets, now)?;
        let targets_version = verified.version;
        let mut meta = Map::new();
        for (file, listed) in before.map(Published::listed).unwrap_or_default() {
            meta.insert(file, to_value(&listed));
        }
        for (name, bytes) in roles {
            let role = verified.vouched_role(name, bytes)?;
            before.map_or(Ok(()), |before| before.check_role(name, role.version, bytes))?;
            meta.insert(format!("{name}.json"), describe(role.version, bytes));
        }
        meta.insert("targets.json".to_owned(), describe(targets_version, targets));
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
        let snapshot = sign(snapshot_header, content_of(meta), &[&self.snapshot]);
        Envelope::<Snapshot>::parse(&snapshot)?.verify(&root_content.snapshot)?;

        let timestamp_header = header(Role::Timestamp, before.map(|before| before.timestamp_version))?;
        let meta = Map::from_iter([("snapshot.json".to_owned(), describe(snapshot_header.version, &snapshot))]);
        let timestamp = sign(timestamp_header, content_of(meta), &[&self.timestamp]);
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

    /// The delegated roles that it lists, and in which version.
    pub fn roles(&self) -> BTreeMap<String, u64> {
        let files = self.listed().into_iter();
        files.filter_map(|(file, listed)| Some((file.strip_suffix(".json")?.to_owned(), listed.version))).collect()
    }

    /// Checks that this metadata of a delegated role may take the place of what is listed: a higher version, or the very
    /// same bytes again.
    ///
    /// # Errors
    /// [`Refusal::Rollback`] for a lower version; [`Refusal::WrongVersion`] for other bytes under the same one.
    pub fn check_role(&self, name: &str, version: u64, bytes: &[u8]) -> Result<(), Refusal> {
        let listed = self.listed().remove(&format!("{name}.json"));
        let Some(listed) = listed.filter(|listed| listed.version >= version) else { return Ok(()) };
        let (role, trusted) = (Role::Targets, listed.version);
        if trusted > version {
            return Err(Refusal::Rollback { role, trusted, offered: version });
        }
        if listed.fits(&Print::of(bytes)) {
            return Ok(());
        }
        Err(Refusal::WrongVersion { role, expected: trusted.saturating_add(1), offered: version })
    }

    /// The files of delegated roles, as the snapshot lists them. It was read once, so it can be read.
    fn listed(&self) -> BTreeMap<String, Metafile> {
        let mut files =
            Envelope::<Snapshot>::parse(&self.snapshot).map(|signed| signed.content.files).unwrap_or_default();
        files.remove("targets.json");
        files
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

/// METAFILES of TUF 4.4.
fn content_of(meta: Map<String, Value>) -> Map<String, Value> {
    Map::from_iter([("meta".to_owned(), Value::Object(meta))])
}

/// One file in full: version, length and hash.
fn describe(version: u64, bytes: &[u8]) -> Value {
    json!({ "version": version, "length": bytes.len(), "hashes": { "sha256": sha256(bytes).to_string() } })
}

/// The same of a file that was listed before, with what was said of it.
fn to_value(listed: &Metafile) -> Value {
    let mut value = json!({ "version": listed.version });
    if let (Some(object), Some(length)) = (value.as_object_mut(), listed.length) {
        object.insert("length".to_owned(), length.into());
    }
    if let (Some(object), Some(hashes)) = (value.as_object_mut(), &listed.hashes) {
        object.insert("hashes".to_owned(), hashes.to_value());
    }
    value
}
