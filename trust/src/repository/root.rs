//! The root: which keys are trusted for what.

use std::collections::{BTreeMap, BTreeSet};

use orangery_wire::{Digest, UnixTime};
use serde_json::{Map, Value, json};

use super::build::{Header, sign};
use super::{BuildError, SigningKey};
use crate::client::{Stored, TrustedSet};
use crate::hash::sha256;
use crate::key::PublicKey;
use crate::metadata::{Envelope, Role, Root};
use crate::refusal::Refusal;

/// How long a root is valid from its signing, in seconds: two years.
pub const ROOT_VALID_SECS: u64 = 2 * 365 * 86_400;

/// Who may sign for a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyHolders {
    /// Their keys.
    pub keys: BTreeSet<PublicKey>,
    /// How many of them must sign; at least 1.
    pub threshold: usize,
}

impl KeyHolders {
    /// Any one of `keys` suffices.
    pub fn any_of(keys: impl IntoIterator<Item = PublicKey>) -> Self {
        Self { keys: keys.into_iter().collect(), threshold: 1 }
    }
}

/// What a root says. Consistent snapshots are always used (TUF 6.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootContent {
    /// 1 for the first, then one more each time.
    pub version: u64,
    /// When it is signed.
    pub signed_at: UnixTime,
    /// When it expires; [`ROOT_VALID_SECS`] after the signing is usual.
    pub expires: UnixTime,
    /// Who may sign the next root: usually the daily and the recovery key.
    pub root: KeyHolders,
    /// Who may sign targets.
    pub targets: KeyHolders,
    /// Who may sign snapshots: the coordinator.
    pub snapshot: KeyHolders,
    /// Who may sign timestamps: the coordinator.
    pub timestamp: KeyHolders,
}

impl RootContent {
    /// The root that follows `before`, with the same keys. Change what shall change, then [`sign_root`] it.
    ///
    /// # Errors
    /// `before` cannot be trusted, or its version cannot grow.
    pub fn next(before: &[u8], signed_at: UnixTime, expires: UnixTime) -> Result<Self, BuildError> {
        let VerifiedRoot { version, content, .. } = verify_root(before)?;
        let holders = |role| {
            let keys = content.keys_of(role);
            KeyHolders { keys: keys.keys.values().copied().collect(), threshold: keys.threshold }
        };
        Ok(Self {
            version: version.checked_add(1).ok_or(BuildError::VersionExhausted { role: Role::Root })?,
            signed_at,
            expires,
            root: holders(Role::Root),
            targets: holders(Role::Targets),
            snapshot: holders(Role::Snapshot),
            timestamp: holders(Role::Timestamp),
        })
    }

    fn roles(&self) -> [(Role, &KeyHolders); 4] {
        [
            (Role::Root, &self.root),
            (Role::Targets, &self.targets),
            (Role::Snapshot, &self.snapshot),
            (Role::Timestamp, &self.timestamp),
        ]
    }
}

/// Signs a root with `keys`. `before` is the latest root, or `None` for the first: a following root must be signed by
/// enough keys of both (TUF 6.1).
///
/// # Errors
/// A threshold that cannot be reached; signatures that do not suffice; a version that does not follow.
pub fn sign_root(content: &RootContent, keys: &[&SigningKey], before: Option<&[u8]>) -> Result<Vec<u8>, BuildError> {
    for (role, holders) in content.roles() {
        let (threshold, keys) = (holders.threshold, holders.keys.len());
        if threshold == 0 || threshold > keys {
            return Err(BuildError::Threshold { role, threshold, keys });
        }
    }
    let header =
        Header { role: Role::Root, version: content.version, signed_at: content.signed_at, expires: content.expires };
    let bytes = sign(header, to_map(content), keys);
    let roots = before.map(<[u8]>::to_vec).into_iter().chain([bytes.clone()]).collect();
    TrustedSet::load(&Stored { roots, ..Stored::default() })?;
    Ok(bytes)
}

fn to_map(content: &RootContent) -> Map<String, Value> {
    let mut keys = BTreeMap::new();
    let mut roles = Map::new();
    for (role, holders) in content.roles() {
        let ids: Vec<String> = holders.keys.iter().map(|key| key.id().to_string()).collect();
        keys.extend(ids.iter().cloned().zip(holders.keys.iter().map(|key| key.to_value())));
        roles.insert(role.as_str().to_owned(), json!({ "keyids": ids, "threshold": holders.threshold }));
    }
    let mut map = Map::new();
    map.insert("consistent_snapshot".to_owned(), true.into());
    map.insert("keys".to_owned(), Value::Object(keys.into_iter().collect()));
    map.insert("roles".to_owned(), Value::Object(roles));
    map
}

/// A root that is signed by its own keys. Whether it is *the* root only its fingerprint, or the chain before it, can say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedRoot {
    /// Its version.
    pub version: u64,
    /// When it expires.
    pub expires: UnixTime,
    /// SHA-256 of its bytes.
    pub fingerprint: Digest,
    pub(super) signed_at: Option<UnixTime>,
    pub(super) content: Root,
}

impl VerifiedRoot {
    /// Whether `key` may sign for `role`.
    pub fn trusts(&self, role: Role, key: &PublicKey) -> bool {
        self.content.keys_of(role).keys.values().any(|listed| listed == key)
    }
}

/// Reads a root and checks that it is signed by its own keys. Its expiry is left to the caller: an expired root is still
/// what the next one is signed with.
///
/// # Errors
/// [`Refusal`]
pub fn verify_root(bytes: &[u8]) -> Result<VerifiedRoot, Refusal> {
    let root = Envelope::<Root>::parse(bytes)?;
    root.verify(&root.content.root)?;
    let (fingerprint, Envelope { version, expires, signed_at, content, .. }) = (sha256(bytes), root);
    Ok(VerifiedRoot { version, expires, fingerprint, signed_at, content })
}
