//! Delegated roles: apps whose releases somebody else signs. What may be published under them the owner's targets say; here
//! it is checked as every node checks it, before anything is written.
//!
//! The newest file of a role is the one that counts, or none: an older one must not come back when a key does.

use std::collections::BTreeMap;

use orangery_trust::Refusal;
use orangery_trust::release::target_path;
use orangery_trust::repository::{Published, VerifiedTargets, is_role_name};
use orangery_wire::{AppName, ReleaseId, UnixTime, Version};

use super::files::{numbered, read, write};
use super::{Repository, RepositoryError, State, check_manifest};

impl Repository {
    /// Takes a release that a delegated role signs.
    pub(super) fn publish_role(
        &self,
        state: &mut State,
        role: &str,
        (app, version): (&AppName, &Version),
        manifest: &[u8],
        metadata: &[u8],
        now: UnixTime,
    ) -> Result<ReleaseId, RepositoryError> {
        let verified = check_role(state, role, metadata, now)?;
        let is_left = state
            .targets
            .as_ref()
            .is_some_and(|(_, top)| top.role_for(app, version) == Some(role) && !top.is_revoked(app, version));
        if !is_left {
            return Err(RepositoryError::NotLeft { role: role.to_owned(), path: target_path(app, version) });
        }
        let release = check_manifest(&verified, app, version, manifest)?;
        self.write_manifest(&release, manifest)?;
        self.take_role(state, role, metadata, verified, now)?;
        Ok(release.id)
    }

    /// Takes newer metadata of a delegated role that adds no release.
    pub(super) fn accept_role(
        &self,
        state: &mut State,
        role: &str,
        metadata: &[u8],
        now: UnixTime,
    ) -> Result<(), RepositoryError> {
        let verified = check_role(state, role, metadata, now)?;
        self.check_manifests(&verified)?;
        self.take_role(state, role, metadata, verified, now)
    }

    /// Writes metadata that was checked, and tells nodes of it. The same again completes what was cut short.
    fn take_role(
        &self,
        state: &mut State,
        role: &str,
        metadata: &[u8],
        verified: VerifiedTargets,
        now: UnixTime,
    ) -> Result<(), RepositoryError> {
        write(&self.files.metadata.join(format!("{}.{role}.json", verified.version)), metadata)?;
        let version = verified.version;
        state.roles.insert(role.to_owned(), (metadata.to_vec(), verified));
        if let Some((targets, top)) = state.targets.clone()
            && !state.is_told(top.version)
        {
            self.tell(state, &targets, &top, now)?;
            tracing::info!(role, version, "metadata of a delegated role published");
        }
        Ok(())
    }

    /// The newest file of each role to which `top` delegates, if the keys vouch for it that `top` names now.
    pub(super) fn load_roles(
        &self,
        top: &VerifiedTargets,
        published: Option<&Published>,
    ) -> Result<BTreeMap<String, (Vec<u8>, VerifiedTargets)>, RepositoryError> {
        let mut roles = BTreeMap::new();
        for role in top.roles().into_iter().map(|role| role.name).filter(|name| is_role_name(name)) {
            let newest = numbered(&self.files.metadata, &role)?.pop_last();
            let Some((_, path)) = newest else { continue };
            let Some(bytes) = read(&path)? else { continue };
            let vouched = top.vouched_role(&role, &bytes).and_then(|verified| {
                published.map_or(Ok(()), |published| published.check_role(&role, verified.version, &bytes))?;
                Ok(verified)
            });
            match vouched {
                Ok(verified) => {
                    roles.insert(role, (bytes, verified));
                }
                Err(refusal) => {
                    tracing::info!(path = %path.display(), reason = %refusal, "nobody vouches for this role's metadata now");
                }
            }
        }
        Ok(roles)
    }
}

/// Metadata of a role that nodes would take now, and that goes on from what they may have seen.
fn check_role(state: &State, role: &str, metadata: &[u8], now: UnixTime) -> Result<VerifiedTargets, RepositoryError> {
    let unlisted = || Refusal::Unlisted { file: format!("{role}.json") };
    let top = state.targets.as_ref().filter(|_| is_role_name(role)).map(|(_, top)| top).ok_or_else(unlisted)?;
    let verified = top.verify_role(role, metadata, now)?;
    if let Some(published) = &state.published {
        published.check_role(role, verified.version, metadata)?;
    }
    if let Some((_, before)) = state.roles.get(role) {
        verified.check_follows(before)?;
    }
    Ok(verified)
}
