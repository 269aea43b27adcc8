//! Apps whose releases somebody else signs: what the owner's targets say of it, and what their holder signs.

use std::collections::BTreeSet;

use orangery_wire::{AppName, UnixTime, Version};
use serde_json::{Map, Value, json};

use super::BuildError;
use super::targets::{VerifiedTargets, check_clock};
use crate::hash::sha256;
use crate::json;
use crate::key::PublicKey;
use crate::limits::DELEGATED_BYTES_MAX;
use crate::metadata::{Delegation, Envelope, Paths, Role, Targets};
use crate::refusal::Refusal;
use crate::release::target_path;

/// The field in which a delegated role's metadata says whose it is.
const ROLE: &str = "x-orangery-role";

/// A role to which targets are delegated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelegatedRole {
    /// Its name.
    pub name: String,
    /// The patterns of the target paths that are left to it.
    pub paths: Vec<String>,
    /// Who may sign for it.
    pub keys: BTreeSet<PublicKey>,
    /// How many of them must.
    pub threshold: usize,
}

impl DelegatedRole {
    /// The app whose releases are left to it, if it is just that: `APP/*/*`.
    pub fn app(&self) -> Option<AppName> {
        let [path] = self.paths.as_slice() else { return None };
        path.strip_suffix("/*/*")?.parse().ok()
    }
}

/// Whether a delegated role may be called so: as an app may, and not like a role of the top.
pub fn is_role_name(name: &str) -> bool {
    name.parse::<AppName>().is_ok() && Role::ALL.iter().all(|role| role.as_str() != name)
}

/// The delegated role that this metadata says it is of; nothing of it is trusted. `None` for the owner's targets, and for
/// what cannot be read.
pub fn role_of(metadata: &[u8]) -> Option<String> {
    let envelope = json::parse(metadata).ok()?;
    envelope.get("signed")?.get(ROLE)?.as_str().map(str::to_owned)
}

pub(super) fn name_role(content: &mut Map<String, Value>, role: &str) {
    content.insert(ROLE.to_owned(), role.into());
}

impl VerifiedTargets {
    /// The roles to which these targets are delegated, in the order of their rank.
    pub fn roles(&self) -> Vec<DelegatedRole> {
        self.delegations.iter().map(role).collect()
    }

    /// The role that signs this release: the first to which its path is left. `None` if it is these targets themselves.
    pub fn role_for(&self, app: &AppName, version: &Version) -> Option<&str> {
        let path = target_path(app, version);
        let digest = sha256(path.as_bytes());
        let covering = self.delegations.iter().find(|delegation| delegation.covers(&path, &digest))?;
        (!self.lists(&path)).then_some(covering.name.as_str())
    }

    /// Reads the metadata of the role `name` and checks that the keys vouch for it that these targets name, and that it says
    /// nothing of paths which are not left to it. It may have expired.
    ///
    /// # Errors
    /// [`Refusal::Delegated`], which says why.
    pub fn vouched_role(&self, name: &str, metadata: &[u8]) -> Result<Self, Refusal> {
        let refused = |refusal| Refusal::Delegated { name: name.to_owned(), refusal: Box::new(refusal) };
        let delegation = self.delegations.iter().find(|delegation| delegation.name == name);
        let file = format!("{name}.json");
        let delegation = delegation.ok_or_else(|| refused(Refusal::Unlisted { file }))?;
        vouched(delegation, metadata).map_err(refused)
    }

    /// As [`Self::vouched_role`], and it must be valid at `now` and not signed by a clock that runs ahead.
    ///
    /// # Errors
    /// [`Refusal::Delegated`], which says why.
    pub fn verify_role(&self, name: &str, metadata: &[u8], now: UnixTime) -> Result<Self, Refusal> {
        let refused = |refusal| Refusal::Delegated { name: name.to_owned(), refusal: Box::new(refusal) };
        let verified = self.vouched_role(name, metadata)?;
        if verified.expires <= now {
            return Err(refused(Refusal::Expired { role: Role::Targets, expired_at: verified.expires, now }));
        }
        check_clock(Role::Targets, verified.signed_at, now).map_err(refused)?;
        Ok(verified)
    }
}

fn vouched(delegation: &Delegation, metadata: &[u8]) -> Result<VerifiedTargets, Refusal> {
    let length = metadata.len() as u64;
    if length > DELEGATED_BYTES_MAX {
        return Err(Refusal::TooLong { role: Role::Targets, length, length_max: DELEGATED_BYTES_MAX });
    }
    let signed = Envelope::<Targets>::parse(metadata)?;
    let signers = signed.verify(&delegation.keys)?;
    let verified = VerifiedTargets::of(signed, &signers);
    let unreadable = |reason: String| Refusal::Unreadable { role: Role::Targets, reason };
    if !verified.delegations.is_empty() {
        return Err(unreadable("a delegated role may not delegate further".to_owned()));
    }
    if role_of(metadata).as_ref() != Some(&delegation.name) {
        return Err(unreadable(format!("{ROLE} does not say that it is of the role {}", delegation.name)));
    }
    if let Some(path) = verified.paths().find(|path| !delegation.covers(path, &sha256(path.as_bytes()))) {
        return Err(unreadable(format!("{path} is not left to the role {}", delegation.name)));
    }
    Ok(verified)
}

fn role(delegation: &Delegation) -> DelegatedRole {
    let paths = match &delegation.paths {
        Paths::Patterns(patterns) => patterns.clone(),
        Paths::HashPrefixes(_) => Vec::new(),
    };
    let (keys, threshold) = (delegation.keys.keys.values().cloned().collect(), delegation.keys.threshold);
    DelegatedRole { name: delegation.name.clone(), paths, keys, threshold }
}

/// DELEGATIONS of TUF 4.5 as they stand in the targets, kept word for word: what other tools put there is carried on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Delegations {
    keys: Map<String, Value>,
    roles: Vec<Value>,
}

impl Delegations {
    pub(super) fn read(targets: &[u8]) -> Self {
        let envelope = json::parse(targets).unwrap_or_default();
        let listed = envelope.get("signed").and_then(|signed| signed.get("delegations"));
        let part = |name: &str| listed.and_then(|listed| listed.get(name)).cloned().unwrap_or_default();
        Self {
            keys: part("keys").as_object().cloned().unwrap_or_default(),
            roles: part("roles").as_array().cloned().unwrap_or_default(),
        }
    }

    pub(super) fn to_value(&self) -> Option<Value> {
        (!self.roles.is_empty()).then(|| json!({ "keys": self.keys, "roles": self.roles }))
    }

    /// Leaves an app to a role of one key. `false` if it is so already.
    pub(super) fn add(&mut self, name: &str, app: &AppName, key: &PublicKey) -> Result<bool, BuildError> {
        if !is_role_name(name) {
            return Err(BuildError::RoleName { name: name.to_owned() });
        }
        let (id, pattern) = (key.id().to_string(), format!("{app}/*/*"));
        let wanted = json!({
            "name": name, "keyids": [&id], "threshold": 1, "terminating": true, "paths": [&pattern],
        });
        if self.roles.contains(&wanted) {
            return Ok(false);
        }
        let is_in_the_way = |role: &&Value| role_name(role) == Some(name) || role.get("paths") == wanted.get("paths");
        if let Some(role) = self.roles.iter().find(is_in_the_way) {
            let role = role_name(role).unwrap_or_default().to_owned();
            return Err(BuildError::DelegatedAlready { app: app.clone(), role });
        }
        self.keys.insert(id, key.to_value());
        self.roles.push(wanted);
        Ok(true)
    }

    /// Takes an app back. `false` if it was left to nobody.
    pub(super) fn remove(&mut self, app: &AppName) -> bool {
        let (before, pattern) = (self.roles.len(), json!([format!("{app}/*/*")]));
        self.roles.retain(|role| role.get("paths") != Some(&pattern));
        let used: BTreeSet<&str> = self
            .roles
            .iter()
            .filter_map(|role| role.get("keyids")?.as_array())
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        self.keys.retain(|id, _| used.contains(id.as_str()));
        self.roles.len() != before
    }
}

fn role_name(role: &Value) -> Option<&str> {
    role.get("name")?.as_str()
}
