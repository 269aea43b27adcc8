//! What each role says (TUF 4.3 to 4.6).

use std::collections::{BTreeMap, BTreeSet};

use orangery_wire::Digest;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::Role;
use super::delegation::{Delegation, RawDelegations};
use super::envelope::Content;
use crate::hash::{Hashes, Print};
use crate::key::PublicKey;
use crate::limits;

/// The keys of one role, and how many of them must sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleKeys {
    /// By id. Keys of an unknown kind, or with a wrong id, are left out: they cannot sign anything.
    pub keys: BTreeMap<String, PublicKey>,
    /// All ids, known or not.
    pub ids: Vec<String>,
    pub threshold: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "the root names the keys of the role \"root\" too")]
pub struct Root {
    pub consistent_snapshot: bool,
    pub root: RoleKeys,
    pub timestamp: RoleKeys,
    pub snapshot: RoleKeys,
    pub targets: RoleKeys,
}

#[derive(Deserialize)]
pub struct RawRoot {
    #[serde(default)]
    consistent_snapshot: bool,
    keys: BTreeMap<String, Value>,
    roles: RawRoles,
}

#[derive(Deserialize)]
struct RawRoles {
    root: RawRoleKeys,
    timestamp: RawRoleKeys,
    snapshot: RawRoleKeys,
    targets: RawRoleKeys,
}

#[derive(Deserialize)]
pub(super) struct RawRoleKeys {
    pub(super) keyids: Vec<String>,
    pub(super) threshold: usize,
}

impl RawRoleKeys {
    pub(super) fn with(self, keys: &BTreeMap<String, PublicKey>) -> Result<RoleKeys, String> {
        if self.threshold == 0 {
            return Err("a role has the threshold 0; at least 1 is needed".to_owned());
        }
        if self.keyids.len() > limits::KEYS_MAX {
            return Err(format!("a role lists {} keys; at most {} are allowed", self.keyids.len(), limits::KEYS_MAX));
        }
        // The map lists each id once, however often the role does.
        let own = self.keyids.iter().filter_map(|id| keys.get(id).map(|key| (id.clone(), key.clone()))).collect();
        Ok(RoleKeys { keys: own, ids: self.keyids, threshold: self.threshold })
    }
}

/// The keys that are listed: those that can be read, by id.
pub(super) fn keys(listed: &BTreeMap<String, Value>) -> Result<BTreeMap<String, PublicKey>, String> {
    if listed.len() > limits::KEYS_MAX {
        return Err(format!("it lists {} keys; at most {} are allowed", listed.len(), limits::KEYS_MAX));
    }
    Ok(listed.iter().filter_map(|(id, key)| Some((id.clone(), PublicKey::from_value(id, key)?))).collect())
}

impl Content for Root {
    const ROLE: Role = Role::Root;
    type Raw = RawRoot;

    fn from_raw(raw: RawRoot) -> Result<Self, String> {
        let keys = keys(&raw.keys)?;
        Ok(Self {
            consistent_snapshot: raw.consistent_snapshot,
            root: raw.roles.root.with(&keys)?,
            timestamp: raw.roles.timestamp.with(&keys)?,
            snapshot: raw.roles.snapshot.with(&keys)?,
            targets: raw.roles.targets.with(&keys)?,
        })
    }
}

impl Root {
    pub fn keys_of(&self, role: Role) -> &RoleKeys {
        match role {
            Role::Root => &self.root,
            Role::Timestamp => &self.timestamp,
            Role::Snapshot => &self.snapshot,
            Role::Targets => &self.targets,
        }
    }
}

/// A metadata file as another one describes it (METAFILES of TUF 4.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metafile {
    pub version: u64,
    pub length: Option<u64>,
    pub hashes: Option<Hashes>,
}

#[derive(Deserialize)]
struct RawMetafile {
    version: u64,
    length: Option<u64>,
    hashes: Option<Hashes>,
}

impl Metafile {
    fn from_raw(raw: RawMetafile, file: &str) -> Result<Self, String> {
        if raw.version == 0 {
            return Err(format!("the version of {file:?} is 0; versions begin with 1"));
        }
        Ok(Self { version: raw.version, length: raw.length, hashes: raw.hashes })
    }

    /// Whether a file with this print is the one described, as far as length and hashes say.
    pub fn fits(&self, print: &Print) -> bool {
        print.fits(self.length, self.hashes.as_ref())
    }
}

#[derive(Deserialize)]
pub struct RawMeta {
    meta: BTreeMap<String, RawMetafile>,
}

impl RawMeta {
    fn files(self) -> Result<BTreeMap<String, Metafile>, String> {
        self.meta.into_iter().map(|(file, raw)| Metafile::from_raw(raw, &file).map(|meta| (file, meta))).collect()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timestamp {
    pub snapshot: Metafile,
}

impl Content for Timestamp {
    const ROLE: Role = Role::Timestamp;
    type Raw = RawMeta;

    fn from_raw(raw: RawMeta) -> Result<Self, String> {
        let snapshot = raw.files()?.remove("snapshot.json").ok_or("it does not list snapshot.json")?;
        Ok(Self { snapshot })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub targets: Metafile,
    /// All files, `targets.json` among them; those of delegated roles count in the check for rollback.
    pub files: BTreeMap<String, Metafile>,
}

impl Content for Snapshot {
    const ROLE: Role = Role::Snapshot;
    type Raw = RawMeta;

    fn from_raw(raw: RawMeta) -> Result<Self, String> {
        let files = raw.files()?;
        let targets = files.get("targets.json").cloned().ok_or("it does not list targets.json")?;
        Ok(Self { targets, files })
    }
}

/// A file that the owner vouches for (TARGETS of TUF 4.5).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Target {
    /// Its length in bytes; never fetch more.
    pub length: u64,
    pub(crate) hashes: Hashes,
    /// What else the owner says of it; opaque to TUF.
    #[serde(default)]
    pub custom: CustomFields,
}

/// The custom fields of a target: a JSON object, kept as text. There may be thousands of them, and few are ever read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CustomFields(Option<Box<str>>);

impl CustomFields {
    /// The fields.
    pub fn fields(&self) -> Map<String, Value> {
        // It was an object when it was read.
        self.0.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }
}

impl From<Map<String, Value>> for CustomFields {
    fn from(fields: Map<String, Value>) -> Self {
        Self((!fields.is_empty()).then(|| Value::Object(fields).to_string().into()))
    }
}

impl<'de> Deserialize<'de> for CustomFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        match text.get() {
            "{}" => Ok(Self(None)),
            text if text.starts_with('{') => Ok(Self(Some(text.into()))),
            _ => Err(D::Error::custom("\"custom\" is not an object")),
        }
    }
}

impl Target {
    /// Its SHA-256, if the metadata names that one.
    pub fn sha256(&self) -> Option<Digest> {
        self.hashes.sha256()
    }

    /// Whether `bytes` are the file: length and every hash that is known hold (TUF 5.7.3).
    pub fn is(&self, bytes: &[u8]) -> bool {
        bytes.len() as u64 == self.length && Print::of(bytes).fits(Some(self.length), Some(&self.hashes))
    }
}

impl Target {
    /// Where it is served below `/targets/`: with consistent snapshots a hash stands before the file's name
    /// (TUF 5.7.3, 6.2). SHA-256 if it is listed.
    pub(crate) fn file(&self, path: &str, consistent_snapshot: bool) -> String {
        let hash = self.hashes.to_value();
        let hash = hash.get("sha256").or_else(|| hash.get("sha512")).and_then(Value::as_str);
        match (hash.filter(|_| consistent_snapshot), path.rsplit_once('/')) {
            (None, _) => path.to_owned(),
            (Some(hash), Some((directory, name))) => format!("{directory}/{hash}.{name}"),
            (Some(hash), None) => format!("{hash}.{path}"),
        }
    }
}

/// The targets of the top, or of a delegated role.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "TUF calls both the role and what it lists so")]
pub struct Targets {
    pub targets: BTreeMap<String, Target>,
    /// Paths that were taken back for good: an addition of ours to the format.
    pub revoked: BTreeSet<String>,
    /// In the order of their rank.
    pub delegations: Vec<Delegation>,
}

#[derive(Deserialize)]
pub struct RawTargets {
    targets: BTreeMap<String, Target>,
    #[serde(default, rename = "x-orangery-revoked")]
    revoked: BTreeSet<String>,
    delegations: Option<RawDelegations>,
}

impl Content for Targets {
    const ROLE: Role = Role::Targets;
    type Raw = RawTargets;

    fn from_raw(raw: RawTargets) -> Result<Self, String> {
        let delegations = raw.delegations.map_or(Ok(Vec::new()), RawDelegations::read)?;
        Ok(Self { targets: raw.targets, revoked: raw.revoked, delegations })
    }
}
