//! The targets: which releases the owner vouches for.

use std::collections::BTreeMap;

use orangery_wire::{AppName, UnixTime, Version};
use serde_json::{Map, Value, json};

use super::build::{Header, sign};
use super::root::{VerifiedRoot, verify_root};
use super::{BuildError, SigningKey};
use crate::hash::{Hashes, Print, sha256};
use crate::metadata::{Envelope, Role, Target, Targets};
use crate::refusal::Refusal;
use crate::release::{self, Custom, Release, target_path};

/// How long targets are valid from their signing, in seconds: one year.
pub const TARGETS_VALID_SECS: u64 = 365 * 86_400;

/// How far the clocks of owner and coordinator may be apart, in seconds: one day.
const CLOCK_SLACK_SECS: u64 = 86_400;

/// Targets that the root's keys vouch for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedTargets {
    /// Their version.
    pub version: u64,
    /// When they expire.
    pub expires: UnixTime,
    signed_at: Option<UnixTime>,
    targets: BTreeMap<String, Target>,
    delegated: bool,
    print: Print,
}

impl VerifiedTargets {
    /// The release of an app, if it is listed.
    ///
    /// # Errors
    /// [`Refusal::UnknownTarget`], [`Refusal::NotARelease`].
    pub fn release(&self, app: &AppName, version: &Version) -> Result<Release, Refusal> {
        let path = target_path(app, version);
        match self.targets.get(&path) {
            Some(target) => release::read(&path, target),
            None => Err(Refusal::UnknownTarget { path, delegated: self.delegated }),
        }
    }

    /// All releases, by path. Targets that are something else are left out.
    pub fn releases(&self) -> Vec<Release> {
        self.targets.iter().filter_map(|(path, target)| release::read(path, target).ok()).collect()
    }

    /// Checks that these targets may take the place of `before`: a higher version, or the very same bytes again.
    ///
    /// # Errors
    /// [`Refusal::Rollback`] for a lower version; [`Refusal::WrongVersion`] for other bytes under the same one.
    pub fn check_follows(&self, before: &Self) -> Result<(), Refusal> {
        if self.version > before.version || self.print == before.print {
            return Ok(());
        }
        if self.version < before.version {
            return Err(Refusal::Rollback { role: Role::Targets, trusted: before.version, offered: self.version });
        }
        let expected = before.version.saturating_add(1);
        Err(Refusal::WrongVersion { role: Role::Targets, expected, offered: self.version })
    }
}

/// Reads `targets` and checks that the keys of `root`, the latest root, vouch for them, that they are valid at `now`, and
/// that root and targets were not signed by a clock that runs ahead.
///
/// # Errors
/// [`Refusal`]
pub fn verify_targets(root: &[u8], targets: &[u8], now: UnixTime) -> Result<VerifiedTargets, Refusal> {
    let root = verify_root(root)?;
    let verified = vouched(&root, targets)?;
    if verified.expires <= now {
        return Err(Refusal::Expired { role: Role::Targets, expired_at: verified.expires, now });
    }
    check_clock(Role::Root, root.signed_at, now)?;
    check_clock(Role::Targets, verified.signed_at, now)?;
    Ok(verified)
}

fn vouched(root: &VerifiedRoot, targets: &[u8]) -> Result<VerifiedTargets, Refusal> {
    let signed = Envelope::<Targets>::parse(targets)?;
    signed.verify(&root.content.targets)?;
    let Envelope { version, expires, signed_at, content, print, .. } = signed;
    let Targets { targets, delegated } = content;
    Ok(VerifiedTargets { version, expires, signed_at, targets, delegated, print })
}

/// Nodes never set their clocks back behind the time of signing (`TrustedSet::signed_at`). One laptop with a wrong clock
/// would make all metadata look expired to the whole fleet, for as long as it was ahead: so two clocks must agree.
fn check_clock(role: Role, signed_at: Option<UnixTime>, now: UnixTime) -> Result<(), Refusal> {
    match signed_at {
        Some(signed_at) if signed_at > now.saturating_add(CLOCK_SLACK_SECS) => {
            Err(Refusal::SignedAhead { role, signed_at, now })
        }
        _ => Ok(()),
    }
}

/// Targets under construction, on the owner's side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetsContent {
    /// The version that signing will give them.
    pub version: u64,
    targets: BTreeMap<String, Target>,
}

impl TargetsContent {
    /// The first targets, empty.
    pub fn first() -> Self {
        Self { version: 1, targets: BTreeMap::new() }
    }

    /// The targets that follow `before`, with the same entries. `before` may have expired; it must be signed by keys that
    /// `root` names, which after a change of the targets key is the root before the latest.
    ///
    /// # Errors
    /// `before` cannot be trusted, its version cannot grow, or it has delegations, which would be lost.
    pub fn next(root: &[u8], before: &[u8]) -> Result<Self, BuildError> {
        let VerifiedTargets { version, targets, delegated, .. } = vouched(&verify_root(root)?, before)?;
        if delegated {
            return Err(BuildError::Delegated);
        }
        let version = version.checked_add(1).ok_or(BuildError::VersionExhausted { role: Role::Targets })?;
        Ok(Self { version, targets })
    }

    /// Adds a release with the bytes of its manifest. `false` if the very same is there already: then nothing changes, and
    /// nothing needs to be signed.
    ///
    /// # Errors
    /// [`BuildError::Taken`] if the version is there with other content.
    pub fn add_release(&mut self, custom: &Custom, manifest: &[u8]) -> Result<bool, BuildError> {
        let path = target_path(&custom.app, &custom.version);
        let digest = sha256(manifest);
        if let Some(signed) = self.targets.get(&path) {
            if signed.is(manifest) {
                return Ok(false);
            }
            let signed =
                signed.sha256().map_or_else(|| "a file without SHA-256".to_owned(), |digest| digest.to_string());
            return Err(BuildError::Taken { path, signed });
        }
        let custom = match serde_json::to_value(custom) {
            Ok(Value::Object(custom)) => custom,
            // Names and versions always make an object of texts.
            _ => Map::new(),
        };
        let target = Target { length: manifest.len() as u64, hashes: Hashes::of_sha256(digest), custom };
        self.targets.insert(path, target);
        Ok(true)
    }

    /// Takes a release out: nodes that refresh no longer accept it. `false` if it was not there.
    pub fn remove_release(&mut self, app: &AppName, version: &Version) -> bool {
        self.targets.remove(&target_path(app, version)).is_some()
    }

    /// Signs with `keys`, which must suffice for `root`.
    ///
    /// # Errors
    /// [`BuildError::Refused`] if nodes that trust `root` would not accept the result at `signed_at`.
    pub fn sign(
        &self,
        root: &[u8],
        keys: &[&SigningKey],
        signed_at: UnixTime,
        expires: UnixTime,
    ) -> Result<Vec<u8>, BuildError> {
        let targets: Map<String, Value> =
            self.targets.iter().map(|(path, target)| (path.clone(), to_value(target))).collect();
        let mut content = Map::new();
        content.insert("targets".to_owned(), Value::Object(targets));
        let header = Header { role: Role::Targets, version: self.version, signed_at, expires };
        let bytes = sign(header, content, keys);
        verify_targets(root, &bytes, signed_at)?;
        Ok(bytes)
    }
}

fn to_value(target: &Target) -> Value {
    let mut value = json!({ "length": target.length, "hashes": target.hashes.to_value() });
    if let (false, Some(object)) = (target.custom.is_empty(), value.as_object_mut()) {
        object.insert("custom".to_owned(), Value::Object(target.custom.clone()));
    }
    value
}
