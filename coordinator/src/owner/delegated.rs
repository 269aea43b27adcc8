//! Apps that are left to a role of their own: the owner says so, and the holder of the role's key signs.

use std::path::PathBuf;

use orangery_trust::repository::{
    BuildError, TargetsContent, VerifiedTargets, role_of, verify_targets, vouched_targets,
};
use orangery_trust::{PublicKey, Refusal};
use orangery_wire::{AppName, UnixTime, Version};

use super::staged::key_files;
use super::{Owner, OwnerError, OwnerLock, Passphrases, latest_root, read_if_there, write_file};
use crate::home::Home;

/// A delegated role, as the owner's targets have it.
pub(super) struct Role {
    pub name: String,
    pub top: VerifiedTargets,
    /// The highest version of its metadata that nodes may have seen.
    seen: u64,
}

impl Role {
    pub fn path(&self, home: &Home) -> PathBuf {
        home.owner().join(format!("{}.json", self.name))
    }

    pub fn next(&self, before: Option<&[u8]>) -> Result<TargetsContent, BuildError> {
        match before {
            Some(before) => TargetsContent::next_of(&self.top, &self.name, before),
            None => Ok(TargetsContent::first_of(&self.name, self.seen.saturating_add(1))),
        }
    }
}

impl Owner {
    /// Opens the directory for signing as the role `name` to which `targets`, the owner's newest, leave some app. Nothing of
    /// the owner's is needed but the public root and the role's key. `seen` is the version of the role's metadata that is
    /// published, 0 if there is none.
    pub fn open_role(
        home: &Home,
        targets: &[u8],
        name: &str,
        seen: u64,
        passphrases: &Passphrases,
    ) -> Result<Self, OwnerError> {
        let lock = OwnerLock::take(home)?;
        let root = latest_root(home)?;
        let untrusted = |source| OwnerError::Untrusted { path: home.targets(), source: Box::new(source) };
        let top = vouched_targets(&root, targets).map_err(untrusted)?;
        let roles = top.roles();
        let may_sign = |key: &PublicKey| roles.iter().any(|role| role.name == name && role.keys.contains(key));
        let key = key_files(home).into_iter().find(|file| may_sign(file.public()));
        let missing = || OwnerError::NoRoleKey { role: name.to_owned(), owner: home.owner() };
        let key = key.ok_or_else(missing)?.open(passphrases)?;
        // By these the release file is verified here later, without a network.
        let here = read_if_there(&home.targets())?.and_then(|here| vouched_targets(&root, &here).ok());
        if here.is_none_or(|here| here.version < top.version) {
            write_file(&home.targets(), targets, 0o644)?;
        }
        let role = Some(Role { name: name.to_owned(), top, seen });
        Ok(Self { home: home.clone(), root, key, role, _lock: lock })
    }

    /// Leaves `app` to the role `name` with this key, and returns the targets that say so; `None` if they do already.
    pub fn delegate(
        &self,
        name: &str,
        app: &AppName,
        key: &PublicKey,
        now: UnixTime,
    ) -> Result<Option<Vec<u8>>, OwnerError> {
        self.change(now, |content| content.delegate(name, app, key))
    }

    /// Takes `app` back, and returns the targets that say so; `None` if it is left to nobody.
    pub fn undelegate(&self, app: &AppName, now: UnixTime) -> Result<Option<Vec<u8>>, OwnerError> {
        self.change(now, |content| Ok(content.undelegate(app)))
    }

    fn change(
        &self,
        now: UnixTime,
        make: impl FnOnce(&mut TargetsContent) -> Result<bool, BuildError>,
    ) -> Result<Option<Vec<u8>>, OwnerError> {
        let failed = |source| OwnerError::Targets(Box::new(source));
        let mut content = self.next(self.targets()?.as_deref()).map_err(failed)?;
        if !make(&mut content).map_err(failed)? {
            return Ok(None);
        }
        let targets = self.sign_targets(&content, now).map_err(failed)?;
        write_file(&self.path(), &targets, 0o644)?;
        Ok(Some(targets))
    }

    /// What is signed here, as it was signed last.
    pub fn latest(&self) -> Result<Option<Vec<u8>>, OwnerError> {
        self.targets()
    }
}

/// The role that signs this release by `targets`, or else by the targets that are here, with the targets that say so; `None`
/// if it is the owner.
pub fn signer_of(
    home: &Home,
    targets: Option<&[u8]>,
    app: &AppName,
    version: &Version,
) -> Result<Option<(String, Vec<u8>)>, OwnerError> {
    let here = match targets {
        Some(targets) => Some(targets.to_vec()),
        None => read_if_there(&home.targets())?,
    };
    let Some(targets) = here else { return Ok(None) };
    let top = vouched_targets(&latest_root(home)?, &targets).ok();
    let role = top.and_then(|top| top.role_for(app, version).map(str::to_owned));
    Ok(role.map(|role| (role, targets)))
}

/// Verifies what was signed as the owner's targets, or as a delegated role's by the targets that are here.
pub fn verify_signed(home: &Home, signed: &[u8], now: UnixTime) -> Result<VerifiedTargets, OwnerError> {
    let root = latest_root(home)?;
    let verified = match role_of(signed) {
        None => verify_targets(&root, signed, now),
        Some(role) => {
            let missing = || Refusal::Missing { file: "targets.json".to_owned() };
            let top = read_if_there(&home.targets())?.ok_or_else(missing);
            top.and_then(|top| vouched_targets(&root, &top)?.verify_role(&role, signed, now))
        }
    };
    verified
        .map_err(|source| OwnerError::Untrusted { path: "the release's signature".into(), source: Box::new(source) })
}
