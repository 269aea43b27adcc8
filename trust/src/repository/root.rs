//! The root: which keys are trusted for what.

use std::collections::{BTreeMap, BTreeSet};

use orangery_wire::{Digest, UnixTime};
use serde_json::{Map, Value, json};

use super::build::{Header, sign};
use super::{BuildError, KeyNames, SigningKey};
use crate::client::{Stored, TrustedSet};
use crate::hash::sha256;
use crate::json;
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
        let version = version.checked_add(1).ok_or(BuildError::VersionExhausted { role: Role::Root })?;
        Ok(Self::of(version, signed_at, expires, &content))
    }

    pub(super) fn of(version: u64, signed_at: UnixTime, expires: UnixTime, content: &Root) -> Self {
        let holders = |role| {
            let keys = content.keys_of(role);
            KeyHolders { keys: keys.keys.values().cloned().collect(), threshold: keys.threshold }
        };
        Self {
            version,
            signed_at,
            expires,
            root: holders(Role::Root),
            targets: holders(Role::Targets),
            snapshot: holders(Role::Snapshot),
            timestamp: holders(Role::Timestamp),
        }
    }

    /// Who may sign for `role`.
    pub fn holders(&self, role: Role) -> &KeyHolders {
        match role {
            Role::Root => &self.root,
            Role::Targets => &self.targets,
            Role::Snapshot => &self.snapshot,
            Role::Timestamp => &self.timestamp,
        }
    }

    /// The same, to be changed.
    pub fn holders_mut(&mut self, role: Role) -> &mut KeyHolders {
        match role {
            Role::Root => &mut self.root,
            Role::Targets => &mut self.targets,
            Role::Snapshot => &mut self.snapshot,
            Role::Timestamp => &mut self.timestamp,
        }
    }

    /// Every key that it names, once.
    pub fn keys(&self) -> BTreeSet<PublicKey> {
        self.roles().into_iter().flat_map(|(_, holders)| holders.keys.iter().cloned()).collect()
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
    check_thresholds(content)?;
    let header =
        Header { role: Role::Root, version: content.version, signed_at: content.signed_at, expires: content.expires };
    let bytes = sign(header, to_map(content, &KeyNames::new()), keys);
    let roots = before.map(<[u8]>::to_vec).into_iter().chain([bytes.clone()]).collect();
    TrustedSet::load(&Stored { roots, ..Stored::default() })?;
    Ok(bytes)
}

/// Whether every role has as many keys as must sign for it.
pub(super) fn check_thresholds(content: &RootContent) -> Result<(), BuildError> {
    for (role, holders) in content.roles() {
        let (threshold, keys) = (holders.threshold, holders.keys.len());
        if threshold == 0 || threshold > keys {
            return Err(BuildError::Threshold { role, threshold, keys });
        }
    }
    Ok(())
}

/// The field in which a root tells people what its keys are called: `{KEYID: NAME}`.
const NAMES: &str = "x-orangery-key-names";
/// Most bytes of one name.
const NAME_BYTES_MAX: usize = 63;

/// The names that a root gives to keys which it lists. What is no short text is left out: names decide nothing.
pub(super) fn names_in(bytes: &[u8], content: &Root) -> KeyNames {
    let envelope = json::parse(bytes).unwrap_or_default();
    let named = envelope.get("signed").and_then(|signed| signed.get(NAMES)?.as_object().cloned()).unwrap_or_default();
    let all = Role::ALL.into_iter().flat_map(|role| &content.keys_of(role).keys);
    all.filter_map(|(id, key)| {
        let name = named.get(id)?.as_str()?;
        let is_plain = !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.chars().all(|c| !c.is_control());
        is_plain.then(|| (key.clone(), name.to_owned()))
    })
    .collect()
}

pub(super) fn to_map(content: &RootContent, names: &KeyNames) -> Map<String, Value> {
    let mut keys = BTreeMap::new();
    let mut roles = Map::new();
    for (role, holders) in content.roles() {
        let ids: Vec<String> = holders.keys.iter().map(|key| key.id().to_string()).collect();
        keys.extend(ids.iter().cloned().zip(holders.keys.iter().map(PublicKey::to_value)));
        roles.insert(role.as_str().to_owned(), json!({ "keyids": ids, "threshold": holders.threshold }));
    }
    let mut map = Map::new();
    let listed = content.keys();
    let names: Map<String, Value> = names
        .iter()
        .filter(|(key, _)| listed.contains(key))
        .map(|(key, name)| (key.id().to_string(), name.as_str().into()))
        .collect();
    if !names.is_empty() {
        map.insert(NAMES.to_owned(), Value::Object(names));
    }
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
    names: KeyNames,
}

impl VerifiedRoot {
    /// What it says.
    pub fn content(&self) -> RootContent {
        RootContent::of(self.version, self.signed_at.unwrap_or(0), self.expires, &self.content)
    }

    /// What people call its keys.
    pub fn names(&self) -> &KeyNames {
        &self.names
    }

    /// Refuses a root that was signed by a clock which runs more than a day ahead of `now`.
    ///
    /// # Errors
    /// [`Refusal::SignedAhead`]
    pub fn check_clock(&self, now: UnixTime) -> Result<(), Refusal> {
        super::targets::check_clock(Role::Root, self.signed_at, now)
    }

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
    let names = names_in(bytes, &content);
    Ok(VerifiedRoot { version, expires, fingerprint, signed_at, content, names })
}
