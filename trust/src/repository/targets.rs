//! The targets: which releases the owner vouches for.

use std::collections::{BTreeMap, BTreeSet};

use orangery_wire::{AppName, Digest, UnixTime, Version};
use serde_json::{Map, Value, json};

use super::build::{Header, sign};
use super::delegated::{Delegations, name_role};
use super::root::{VerifiedRoot, verify_root};
use super::{BuildError, SigningKey};
use crate::hash::{Hashes, Print, sha256};
use crate::key::PublicKey;
use crate::metadata::{Delegation, Envelope, Role, Target, Targets};
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
    pub(super) signed_at: Option<UnixTime>,
    targets: BTreeMap<String, Target>,
    revoked: BTreeSet<String>,
    pub(super) delegations: Vec<Delegation>,
    /// The ids of the keys whose signatures hold.
    pub signed_by: BTreeSet<Digest>,
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
            None => Err(Refusal::UnknownTarget { path, delegated: !self.delegations.is_empty() }),
        }
    }

    pub(super) fn of(signed: Envelope<Targets>, signers: &BTreeSet<PublicKey>) -> Self {
        let Envelope { version, expires, signed_at, content, print, .. } = signed;
        let Targets { targets, revoked, delegations } = content;
        let signed_by = signers.iter().map(PublicKey::id).collect();
        Self { version, expires, signed_at, targets, revoked, delegations, signed_by, print }
    }

    pub(super) fn lists(&self, path: &str) -> bool {
        self.targets.contains_key(path)
    }

    /// All paths that are listed, or were.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.targets.keys().chain(&self.revoked).map(String::as_str)
    }

    /// All releases, by path. Targets that are something else are left out.
    pub fn releases(&self) -> Vec<Release> {
        self.targets.iter().filter_map(|(path, target)| release::read(path, target).ok()).collect()
    }

    /// The paths of releases that were taken back. A version means one content for good, so none of them comes again.
    pub fn revoked(&self) -> &BTreeSet<String> {
        &self.revoked
    }

    /// Whether a release was taken back.
    pub fn is_revoked(&self, app: &AppName, version: &Version) -> bool {
        self.revoked.contains(&target_path(app, version))
    }

    /// The oldest version of the app that nodes may still be given, if the owner has set one.
    pub fn floor(&self, app: &AppName) -> Option<Version> {
        release::floor_of(&self.targets, app)
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

/// Like [`verify_targets`], at whatever time: expired targets, too, are what the next must follow.
///
/// # Errors
/// [`Refusal`]
pub fn vouched_targets(root: &[u8], targets: &[u8]) -> Result<VerifiedTargets, Refusal> {
    vouched(&verify_root(root)?, targets)
}

fn vouched(root: &VerifiedRoot, targets: &[u8]) -> Result<VerifiedTargets, Refusal> {
    let signed = Envelope::<Targets>::parse(targets)?;
    let signers = signed.verify(&root.content.targets)?;
    Ok(VerifiedTargets::of(signed, &signers))
}

/// The field in which targets list the paths that were taken back; `RawTargets` reads it.
const REVOKED: &str = "x-orangery-revoked";

/// Nodes never set their clocks back behind the time of signing (`TrustedSet::signed_at`). One laptop with a wrong clock
/// would make all metadata look expired to the whole fleet, for as long as it was ahead: so two clocks must agree.
pub(super) fn check_clock(role: Role, signed_at: Option<UnixTime>, now: UnixTime) -> Result<(), Refusal> {
    match signed_at {
        Some(signed_at) if signed_at > now.saturating_add(CLOCK_SLACK_SECS) => {
            Err(Refusal::SignedAhead { role, signed_at, now })
        }
        _ => Ok(()),
    }
}

/// Targets under construction: the owner's, or those of a delegated role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetsContent {
    /// The version that signing will give them.
    pub version: u64,
    targets: BTreeMap<String, Target>,
    revoked: BTreeSet<String>,
    delegations: Delegations,
    role: Option<String>,
}

impl TargetsContent {
    /// The first targets, empty.
    pub fn first() -> Self {
        Self::empty(1, None)
    }

    /// The first of a delegated role, empty. `version` is above all that nodes may have seen of it, 1 if they have seen none.
    pub fn first_of(role: &str, version: u64) -> Self {
        Self::empty(version, Some(role.to_owned()))
    }

    fn empty(version: u64, role: Option<String>) -> Self {
        let (targets, revoked, delegations) = (BTreeMap::new(), BTreeSet::new(), Delegations::default());
        Self { version, targets, revoked, delegations, role }
    }

    /// The targets that follow `before`, with the same entries. `before` may have expired; it must be signed by keys that
    /// `root` names, which after a change of the targets key is the root before the latest.
    ///
    /// # Errors
    /// `before` cannot be trusted, or its version cannot grow.
    pub fn next(root: &[u8], before: &[u8]) -> Result<Self, BuildError> {
        Self::after(vouched(&verify_root(root)?, before)?, Delegations::read(before), None)
    }

    /// What follows `before`, the metadata of a delegated role, with the same entries. The keys that `top` names for it must
    /// have signed `before`, which may have expired.
    ///
    /// # Errors
    /// `before` cannot be trusted, or its version cannot grow.
    pub fn next_of(top: &VerifiedTargets, role: &str, before: &[u8]) -> Result<Self, BuildError> {
        Self::after(top.vouched_role(role, before)?, Delegations::default(), Some(role.to_owned()))
    }

    fn after(before: VerifiedTargets, delegations: Delegations, role: Option<String>) -> Result<Self, BuildError> {
        let VerifiedTargets { version, targets, revoked, .. } = before;
        let version = version.checked_add(1).ok_or(BuildError::VersionExhausted { role: Role::Targets })?;
        Ok(Self { version, targets, revoked, delegations, role })
    }

    /// Whether this is what comes after `before`: the next version of the same entries.
    pub fn follows(&self, before: &Self) -> bool {
        let next = Self { version: before.version.saturating_add(1), ..before.clone() };
        *self == next
    }

    /// Leaves the releases of `app` to the role `name`, which signs with `key` alone. `false` if it is so already.
    ///
    /// # Errors
    /// [`BuildError::RoleName`]; [`BuildError::DelegatedAlready`] if the app or the name is taken.
    pub fn delegate(&mut self, name: &str, app: &AppName, key: &PublicKey) -> Result<bool, BuildError> {
        self.delegations.add(name, app, key)
    }

    /// Ends that: nodes that refresh take nothing any more that the role has signed. `false` if the app was left to nobody.
    pub fn undelegate(&mut self, app: &AppName) -> bool {
        self.delegations.remove(app)
    }

    /// Takes back for good what somebody else has signed, or could. `false` if it was taken back before.
    pub fn veto(&mut self, app: &AppName, version: &Version) -> bool {
        self.remove_release(app, version) || self.revoked.insert(target_path(app, version))
    }

    /// Adds a release with the bytes of its manifest. `false` if the very same is there already: then nothing changes, and
    /// nothing needs to be signed. A floor that was set stays if `custom` names none.
    ///
    /// # Errors
    /// [`BuildError::Taken`] if the version is there with other content; [`BuildError::Revoked`] if it was taken back;
    /// [`BuildError::FloorTooHigh`] for a floor above the release itself.
    pub fn add_release(&mut self, custom: &Custom, manifest: &[u8]) -> Result<bool, BuildError> {
        let path = target_path(&custom.app, &custom.version);
        let digest = sha256(manifest);
        if let Some(floor) = custom.floor.as_ref().filter(|floor| floor.semver() > custom.version.semver()) {
            let (app, version, floor) = (custom.app.clone(), custom.version.clone(), floor.clone());
            return Err(BuildError::FloorTooHigh { app, version, floor });
        }
        if self.revoked.contains(&path) {
            return Err(BuildError::Revoked { path });
        }
        if let Some(signed) = self.targets.get_mut(&path) {
            if signed.is(manifest) {
                return Ok(custom.floor.as_ref().is_some_and(|floor| set_floor(signed, floor)));
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
        let target = Target { length: manifest.len() as u64, hashes: Hashes::of_sha256(digest), custom: custom.into() };
        self.targets.insert(path, target);
        Ok(true)
    }

    /// Takes a release out for good: nodes that refresh no longer accept it. `false` if it was not there. The app's floor
    /// stays as it was: if this release set it, the newest that is left does from now on.
    pub fn remove_release(&mut self, app: &AppName, version: &Version) -> bool {
        let path = target_path(app, version);
        let floor = release::floor_of(&self.targets, app);
        if self.targets.remove(&path).is_none() {
            return false;
        }
        self.revoked.insert(path);
        if floor != release::floor_of(&self.targets, app) {
            let left =
                self.targets.iter_mut().filter_map(|(path, target)| Some((release::read(path, target).ok()?, target)));
            let newest = left
                .filter(|(release, _)| release.app == *app)
                .max_by(|(a, _), (b, _)| a.version.semver().cmp(b.version.semver()));
            if let (Some((_, newest)), Some(floor)) = (newest, floor) {
                set_floor(newest, &floor);
            }
        }
        true
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
        let bytes = self.to_bytes(keys, signed_at, expires);
        verify_targets(root, &bytes, signed_at)?;
        Ok(bytes)
    }

    /// Signs the metadata of a delegated role with `keys`, which must suffice for what `top` says of it.
    ///
    /// # Errors
    /// [`BuildError::Refused`] if nodes that trust `top` would not accept the result at `signed_at`.
    pub fn sign_role(
        &self,
        top: &VerifiedTargets,
        keys: &[&SigningKey],
        signed_at: UnixTime,
        expires: UnixTime,
    ) -> Result<Vec<u8>, BuildError> {
        let bytes = self.to_bytes(keys, signed_at, expires);
        top.verify_role(self.role.as_deref().unwrap_or_default(), &bytes, signed_at)?;
        Ok(bytes)
    }

    fn to_bytes(&self, keys: &[&SigningKey], signed_at: UnixTime, expires: UnixTime) -> Vec<u8> {
        let targets: Map<String, Value> =
            self.targets.iter().map(|(path, target)| (path.clone(), to_value(target))).collect();
        let mut content = Map::new();
        content.insert("targets".to_owned(), Value::Object(targets));
        if !self.revoked.is_empty() {
            let revoked = self.revoked.iter().map(|path| path.as_str().into()).collect();
            content.insert(REVOKED.to_owned(), Value::Array(revoked));
        }
        if let Some(delegations) = self.delegations.to_value() {
            content.insert("delegations".to_owned(), delegations);
        }
        if let Some(role) = &self.role {
            name_role(&mut content, role);
        }
        sign(Header { role: Role::Targets, version: self.version, signed_at, expires }, content, keys)
    }
}

/// Whether that changes anything.
fn set_floor(target: &mut Target, floor: &Version) -> bool {
    let floor = Value::from(floor.to_string());
    let mut fields = target.custom.fields();
    let before = fields.insert("floor".to_owned(), floor.clone());
    target.custom = fields.into();
    before != Some(floor)
}

fn to_value(target: &Target) -> Value {
    let mut value = json!({ "length": target.length, "hashes": target.hashes.to_value() });
    let fields = target.custom.fields();
    if let (false, Some(object)) = (fields.is_empty(), value.as_object_mut()) {
        object.insert("custom".to_owned(), Value::Object(fields));
    }
    value
}
