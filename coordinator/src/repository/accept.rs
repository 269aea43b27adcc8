//! What the owner changes besides adding a release: a new root, releases taken back, everything signed anew.

use std::collections::BTreeMap;

use orangery_trust::release::target_path;
use orangery_trust::repository::{Draft, VerifiedRoot, VerifiedTargets, role_of, verify_targets, vouched_targets};
use orangery_trust::{PublicKey, Refusal, Role};
use orangery_wire::rest::TrustView;
use orangery_wire::{AppName, UnixTime, Version};

use super::online_keys::OnlineKeys;
use super::{Repository, RepositoryError, State, write};

/// What the owner's newest targets say of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nodes may be told to run it.
    Good,
    /// It was taken back.
    Revoked,
    /// It is older than the owner allows.
    BelowFloor(Version),
}

impl Repository {
    /// Takes a root, targets, or both from the owner. A root must be the next one, signed by enough keys of the present one
    /// and of its own, and name keys that this coordinator has; targets must be newer. If the root takes the targets' keys
    /// away, targets signed by the new ones must come with it. In place of targets it takes the metadata of a delegated role, by
    /// the rules that the targets set for it. The same again completes what was cut short and changes
    /// nothing else.
    pub fn accept(
        &self,
        root: Option<&[u8]>,
        targets: Option<&[u8]>,
        now: UnixTime,
    ) -> Result<TrustView, RepositoryError> {
        if let Some((metadata, role)) = targets.and_then(|bytes| Some((bytes, role_of(bytes)?))) {
            if root.is_some() {
                self.accept(root, None, now)?;
            }
            let mut state = self.lock();
            self.accept_role(&mut state, &role, metadata, now)?;
            return Ok(state.view());
        }
        let mut state = self.lock();
        let next = match root.filter(|root| *root != state.root) {
            Some(root) => Some((root, self.check_root(&state, root, now)?)),
            None => None,
        };
        let root = next.as_ref().map_or(state.root.as_slice(), |(root, _)| root).to_owned();
        let targets = self.check_targets(&state, &root, targets, now)?;
        if let Some((bytes, verified)) = &targets {
            // Before the root: a start between the two passes over targets whose keys it does not know yet.
            write(&self.files.metadata.join(format!("{}.targets.json", verified.version)), bytes)?;
        }
        if let Some((bytes, verified)) = next {
            write(&self.files.metadata.join(format!("{}.root.json", verified.version)), bytes)?;
            state.online = OnlineKeys::of(&self.files).matching(&verified.content())?;
            state.root = root;
            tracing::info!(version = verified.version, "a new trust root holds");
        }
        if let Some((bytes, verified)) = targets {
            self.take_targets(&mut state, &bytes, verified, now)?;
        }
        Ok(state.view())
    }

    /// Versions and expiry of what is published.
    pub fn view(&self) -> TrustView {
        self.lock().view()
    }

    /// When what is published expires, by role. The snapshot expires with the timestamp.
    pub fn expiries(&self) -> Vec<(&'static str, UnixTime)> {
        let state = self.lock();
        let root = super::verify_root(&state.root).ok().map(|root| ("root", root.expires));
        let targets = state.targets.as_ref().map(|(_, targets)| ("targets", targets.expires));
        let timestamp = state.published.as_ref().map(|published| ("timestamp", published.expires));
        [root, targets, timestamp].into_iter().flatten().collect()
    }

    /// Makes new online keys, which count once a root names them, and returns their public halves: snapshot, timestamp.
    pub fn prepare_online_keys(&self) -> Result<(PublicKey, PublicKey), RepositoryError> {
        let _one_at_a_time = self.lock();
        OnlineKeys::of(&self.files).prepare()
    }

    /// What the newest targets say of a release.
    pub fn standing(&self, app: &AppName, version: &Version) -> Standing {
        self.standings([(app, version)]).pop().unwrap_or(Standing::Good)
    }

    /// What the newest targets say of each of these releases, in their order. An app's floor is looked for once.
    pub fn standings<'a>(&self, releases: impl IntoIterator<Item = (&'a AppName, &'a Version)>) -> Vec<Standing> {
        let state = self.lock();
        let mut floors: BTreeMap<&AppName, Option<Version>> = BTreeMap::new();
        let judge = |(app, version)| {
            let Some((_, targets)) = &state.targets else { return Standing::Good };
            let mut signed = std::iter::once(targets).chain(state.roles.values().map(|(_, role)| role));
            if signed.clone().any(|signed| signed.is_revoked(app, version)) {
                return Standing::Revoked;
            }
            let highest =
                || signed.by_ref().filter_map(|signed| signed.floor(app)).max_by(|a, b| a.semver().cmp(b.semver()));
            match floors.entry(app).or_insert_with(highest) {
                Some(floor) if version.semver() < floor.semver() => Standing::BelowFloor(floor.clone()),
                _ => Standing::Good,
            }
        };
        releases.into_iter().map(judge).collect()
    }

    /// The ids of the keys that vouch for a release, if one does.
    pub fn signed_by(&self, app: &AppName, version: &Version) -> Vec<String> {
        let state = self.lock();
        let Some((_, top)) = &state.targets else { return Vec::new() };
        let role = top.role_for(app, version).and_then(|role| state.roles.get(role)).map(|(_, role)| role);
        let signed = role.unwrap_or(top);
        if signed.release(app, version).is_err() {
            return Vec::new();
        }
        signed.signed_by.iter().map(ToString::to_string).collect()
    }

    fn check_root(&self, state: &State, root: &[u8], now: UnixTime) -> Result<VerifiedRoot, RepositoryError> {
        let refused = |refusal| RepositoryError::RootRefused(Box::new(refusal));
        let verified = Draft::read(root).and_then(|draft| draft.check_follows(&state.root)).map_err(refused)?;
        if verified.expires <= now {
            return Err(refused(Refusal::Expired { role: Role::Root, expired_at: verified.expires, now }));
        }
        verified.check_clock(now).map_err(refused)?;
        OnlineKeys::of(&self.files).check(&verified.content())?;
        Ok(verified)
    }

    /// The targets that hold under `root`: those given, else those that are here.
    fn check_targets(
        &self,
        state: &State,
        root: &[u8],
        given: Option<&[u8]>,
        now: UnixTime,
    ) -> Result<Option<(Vec<u8>, VerifiedTargets)>, RepositoryError> {
        if let Some(given) = given {
            let verified = verify_targets(root, given, now)?;
            if let Some((_, before)) = &state.targets {
                verified.check_follows(before)?;
            }
            self.check_manifests(&verified)?;
            return Ok(Some((given.to_vec(), verified)));
        }
        let Some((bytes, _)) = &state.targets else { return Ok(None) };
        match vouched_targets(root, bytes) {
            Ok(verified) => Ok(Some((bytes.clone(), verified))),
            Err(Refusal::Unsigned { .. }) => Err(RepositoryError::TargetsNeeded),
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Targets without a manifest beside them add no release: each that they name must be here.
    pub(super) fn check_manifests(&self, targets: &VerifiedTargets) -> Result<(), RepositoryError> {
        for release in targets.releases() {
            if !self.files.targets.join(&release.file).exists() {
                let path = target_path(&release.app, &release.version);
                return Err(RepositoryError::NoManifest { path });
            }
        }
        Ok(())
    }
}

impl State {
    fn view(&self) -> TrustView {
        TrustView {
            root: super::verify_root(&self.root).map_or(0, |root| root.version),
            targets: self.targets.as_ref().map(|(_, targets)| targets.version),
            snapshot: self.published.as_ref().map(|published| published.snapshot_version),
            timestamp: self.published.as_ref().map(|published| published.timestamp_version),
            online_expires_at: self.published.as_ref().map(|published| published.expires),
            roles: self.published.as_ref().map(super::Published::roles).unwrap_or_default(),
        }
    }
}
