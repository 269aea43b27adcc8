//! The rules by which one more file becomes trusted. Each either changes the set or leaves it exactly as it was.

use std::sync::Arc;

use orangery_wire::UnixTime;

use super::{Trusted, TrustedSet};
use crate::metadata::{Envelope, Metafile, Role, RoleKeys, Root, Snapshot, Targets, Timestamp, signed_by};
use crate::refusal::Refusal;

impl<T> Trusted<T> {
    pub(super) fn new(signed: Envelope<T>, signers: std::collections::BTreeSet<crate::key::PublicKey>) -> Self {
        let Envelope { content, version, expires, signed_at, print, .. } = signed;
        Self { content, version, expires, signed_at, print, signers }
    }
}

impl TrustedSet {
    /// The root of a chain: trusted as it stands, if only it is signed by its own keys (TUF 5.2).
    pub(super) fn from_root(bytes: &[u8]) -> Result<Self, Refusal> {
        let root = Envelope::<Root>::parse(bytes)?;
        let signers = root.verify(&root.content.root)?;
        let root = Trusted::new(root, signers);
        Ok(Self { root, timestamp: None, snapshot: None, targets: None, leftover: Vec::new() })
    }

    /// The next root (TUF 5.3.4 to 5.3.8). Says which roles' metadata must be forgotten with it.
    pub(super) fn accept_root(&mut self, bytes: &[u8]) -> Result<Vec<Role>, Refusal> {
        let new = Envelope::<Root>::parse(bytes)?;
        // 5.3.4: by the trusted root's keys and by its own.
        new.verify(&self.root.content.root)?;
        let signers = new.verify(&new.content.root)?;
        // 5.3.5: exactly one version further.
        let expected = self.root.version.saturating_add(1);
        if new.version < expected {
            return Err(Refusal::Rollback { role: Role::Root, trusted: self.root.version, offered: new.version });
        }
        if new.version > expected {
            return Err(Refusal::WrongVersion { role: Role::Root, expected, offered: new.version });
        }
        let old = std::mem::replace(&mut self.root, Trusted::new(new, signers));
        Ok(self.forget_rotated(&old.content))
    }

    /// TUF 5.3.11: if keys of timestamp or snapshot were rotated, what they signed is deleted, so that versions which a
    /// thief has pushed far forward do not block the owner. Targets of rotated keys are no longer trusted either.
    fn forget_rotated(&mut self, old: &Root) -> Vec<Role> {
        let new = &self.root.content;
        let online = rotated(&old.timestamp, &new.timestamp)
            || rotated(&old.snapshot, &new.snapshot)
            || self.timestamp.as_ref().is_some_and(|trusted| !signed_by(&trusted.signers, &new.timestamp))
            || self.snapshot.as_ref().is_some_and(|trusted| !signed_by(&trusted.signers, &new.snapshot));
        let targets = self.targets.as_ref().is_some_and(|trusted| !signed_by(&trusted.signers, &new.targets));
        let mut forgotten = Vec::new();
        if online {
            (self.timestamp, self.snapshot) = (None, None);
            forgotten.extend([Role::Timestamp, Role::Snapshot]);
        }
        if targets {
            self.targets = None;
            forgotten.push(Role::Targets);
        }
        forgotten
    }

    /// TUF 5.3.10.
    pub(super) fn check_root_expiry(&self, now: UnixTime) -> Result<(), Refusal> {
        self.root.check_expiry(Role::Root, now)
    }

    /// A newer timestamp (TUF 5.4.2 to 5.4.4). `false` if it is the trusted one again.
    pub(super) fn accept_timestamp(&mut self, bytes: &[u8], now: UnixTime) -> Result<bool, Refusal> {
        self.check_root_expiry(now)?;
        let new = Envelope::<Timestamp>::parse(bytes)?;
        let signers = new.verify(&self.root.content.timestamp)?;
        if let Some(trusted) = &self.timestamp {
            // 5.4.3.1
            refuse_older(Role::Timestamp, trusted.version, new.version)?;
            if new.version == trusted.version {
                // Discarded, and no error; but what is trusted in its stead must still be valid, or a frozen
                // repository would go unnoticed.
                trusted.check_expiry(Role::Timestamp, now)?;
                return Ok(false);
            }
            // 5.4.3.2
            refuse_older(Role::Snapshot, trusted.content.snapshot.version, new.content.snapshot.version)?;
        }
        new.check_expiry(now)?;
        self.timestamp = Some(Trusted::new(new, signers));
        Ok(true)
    }

    /// The snapshot that the timestamp names (TUF 5.5.2 to 5.5.6).
    pub(super) fn accept_snapshot(&mut self, bytes: &[u8], now: UnixTime) -> Result<(), Refusal> {
        let timestamp = self.timestamp.as_ref().ok_or(Refusal::Incomplete { role: Role::Timestamp })?;
        let new = Envelope::<Snapshot>::parse_named(bytes, &timestamp.content.snapshot)?;
        let signers = new.verify(&self.root.content.snapshot)?;
        check_version(&new, Role::Snapshot, &timestamp.content.snapshot)?;
        if let Some(trusted) = &self.snapshot {
            check_files(&trusted.content, &new.content)?;
        }
        new.check_expiry(now)?;
        self.snapshot = Some(Trusted::new(new, signers));
        Ok(())
    }

    /// The targets that the snapshot names (TUF 5.6.2 to 5.6.5).
    pub(super) fn accept_targets(&mut self, bytes: &[u8], now: UnixTime) -> Result<(), Refusal> {
        let snapshot = self.current_snapshot().ok_or(Refusal::Incomplete { role: Role::Snapshot })?;
        let new = Envelope::<Targets>::parse_named(bytes, &snapshot.content.targets)?;
        let signers = new.verify(&self.root.content.targets)?;
        check_version(&new, Role::Targets, &snapshot.content.targets)?;
        new.check_expiry(now)?;
        self.targets = Some(Arc::new(Trusted::new(new, signers)));
        Ok(())
    }
}

/// Whether a key that could sign for the role no longer can.
fn rotated(old: &RoleKeys, new: &RoleKeys) -> bool {
    old.ids.iter().any(|id| !new.ids.contains(id))
}

fn refuse_older(role: Role, trusted: u64, offered: u64) -> Result<(), Refusal> {
    if offered < trusted {
        return Err(Refusal::Rollback { role, trusted, offered });
    }
    Ok(())
}

/// TUF 5.5.4, 5.6.4.
fn check_version<T>(new: &Envelope<T>, role: Role, named: &Metafile) -> Result<(), Refusal> {
    if new.version == named.version {
        return Ok(());
    }
    Err(Refusal::WrongVersion { role, expected: named.version, offered: new.version })
}

/// TUF 5.5.5: no targets metadata goes back or vanishes.
fn check_files(trusted: &Snapshot, new: &Snapshot) -> Result<(), Refusal> {
    for (file, before) in &trusted.files {
        let Some(after) = new.files.get(file) else {
            return Err(Refusal::Vanished { file: file.clone() });
        };
        refuse_older(Role::Targets, before.version, after.version)?;
    }
    Ok(())
}
