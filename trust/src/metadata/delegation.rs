//! Roles that part of the targets are left to (DELEGATIONS of TUF 4.5).

use std::collections::{BTreeMap, BTreeSet};

use orangery_wire::Digest;
use serde::Deserialize;
use serde_json::Value;

use super::glob;
use super::roles::{RawRoleKeys, RoleKeys, keys};
use crate::key::PublicKey;
use crate::limits;

/// A role, whose keys and paths are what its delegator says of it: the same name under another delegator may mean other
/// keys and other paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegation {
    pub name: String,
    pub keys: RoleKeys,
    pub paths: Paths,
    /// Whether a path that is left to this role is left to nobody after it.
    pub terminating: bool,
}

/// What is left to a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Paths {
    Patterns(Vec<String>),
    /// Beginnings of the SHA-256 of the path, in lower-case hexadecimal.
    HashPrefixes(Vec<String>),
}

impl Delegation {
    /// Whether `path`, whose SHA-256 is `digest`, is left to the role.
    pub fn covers(&self, path: &str, digest: &Digest) -> bool {
        match &self.paths {
            Paths::Patterns(patterns) => patterns.iter().any(|pattern| glob::matches(pattern, path)),
            Paths::HashPrefixes(prefixes) => {
                let digest = digest.to_string();
                prefixes.iter().any(|prefix| digest.starts_with(prefix.as_str()))
            }
        }
    }
}

#[derive(Deserialize)]
pub struct RawDelegations {
    #[serde(default)]
    keys: BTreeMap<String, Value>,
    #[serde(default)]
    roles: Vec<RawDelegation>,
}

#[derive(Deserialize)]
struct RawDelegation {
    name: String,
    keyids: Vec<String>,
    threshold: usize,
    terminating: bool,
    paths: Option<Vec<String>>,
    path_hash_prefixes: Option<Vec<String>>,
}

impl RawDelegations {
    /// In the order of appearance, which is that of their rank.
    pub fn read(self) -> Result<Vec<Delegation>, String> {
        let count = self.roles.len();
        if count > limits::DELEGATIONS_MAX {
            return Err(format!("it delegates to {count} roles; at most {} are allowed", limits::DELEGATIONS_MAX));
        }
        let keys = keys(&self.keys)?;
        let mut names = BTreeSet::new();
        let mut delegations = Vec::new();
        for raw in self.roles {
            // "The rolename MUST be unique in the delegations object."
            if !names.insert(raw.name.clone()) {
                return Err(format!("it delegates to the role {:?} twice", raw.name));
            }
            delegations.push(raw.read(&keys)?);
        }
        Ok(delegations)
    }
}

impl RawDelegation {
    fn read(self, keys: &BTreeMap<String, PublicKey>) -> Result<Delegation, String> {
        let Self { name, keyids, threshold, terminating, paths, path_hash_prefixes } = self;
        if name.is_empty() || name.len() > limits::ROLE_NAME_BYTES_MAX {
            let max = limits::ROLE_NAME_BYTES_MAX;
            return Err(format!("a delegated role's name has {} bytes; 1 to {max} are allowed", name.len()));
        }
        let paths = match (paths, path_hash_prefixes) {
            (Some(patterns), None) if patterns.iter().any(|pattern| pattern.len() > limits::TARGET_PATH_BYTES_MAX) => {
                let max = limits::TARGET_PATH_BYTES_MAX;
                return Err(format!("a path of the delegated role {name:?} is longer than {max} bytes"));
            }
            (Some(patterns), None) => Paths::Patterns(patterns),
            (None, Some(prefixes)) => Paths::HashPrefixes(prefixes),
            // Both are optional: then nothing is left to the role.
            (None, None) => Paths::Patterns(Vec::new()),
            (Some(_), Some(_)) => {
                return Err(format!("it delegates to the role {name:?} by paths and by hashes at once"));
            }
        };
        let keys = RawRoleKeys { keyids, threshold }.with(keys)?;
        Ok(Delegation { name, keys, paths, terminating })
    }
}
