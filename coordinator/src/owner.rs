//! The owner's side of trust: the keys that sign what may run, and what they have signed. The files lie on the owner's
//! machine alone; the coordinator gets signed bytes.

mod change;
mod delegated;
mod error;
mod key_file;
mod new;
mod passphrase;
mod recover;
mod staged;
mod status;

use std::fs::File;
use std::path::{Path, PathBuf};

use orangery_trust::Refusal;
use orangery_trust::release::Custom;
use orangery_trust::repository::{
    self, BuildError, Draft, SigningKey, TARGETS_VALID_SECS, TargetsContent, VerifiedTargets, verify_targets,
    vouched_targets,
};
use orangery_wire::{AppName, Digest, UnixTime, Version};

use self::error::is_missing;
use crate::home::Home;
use crate::release::bundle::Bundle;
use crate::{durable, sha256};

pub use change::Change;
pub use delegated::{signer_of, verify_signed};
pub use error::OwnerError;
pub use key_file::{Cost, KeyFile, Seal};
pub use new::NewOwner;
pub use passphrase::{Passphrase, PassphraseError, Passphrases, VARIABLE};
pub use recover::{Lost, begin_recovery};
pub use staged::{Missing, Staged, StagedError};
pub use status::{Holder, KeysStatus, RoleStatus, StagedStatus, Term, draft_roles};

/// Targets that go on for less than this are signed anew even when nothing is added to them: 90 days, in seconds.
const RENEW_BEFORE_SECS: u64 = 90 * 86_400;

/// Others that sign in the owner's directory wait until this is dropped.
pub struct OwnerLock {
    _directory: File,
}

impl OwnerLock {
    /// Waits for the lock.
    pub fn take(home: &Home) -> Result<Self, OwnerError> {
        let owner = home.owner();
        let read = |source| OwnerError::Read { path: owner.clone(), source };
        let directory = File::open(&owner).map_err(read)?;
        directory.lock().map_err(read)?;
        Ok(Self { _directory: directory })
    }
}

/// The owner's directory, opened for signing targets, or the metadata of one delegated role. Others that sign there wait
/// until it is dropped.
pub struct Owner {
    home: Home,
    root: Vec<u8>,
    key: SigningKey,
    role: Option<delegated::Role>,
    _lock: OwnerLock,
}

/// What became of the coordinator's targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Adopted {
    /// Ours go on from them already.
    Nothing,
    /// They are ours now.
    Theirs {
        /// Releases, as `APP@VERSION`, that were signed here and are not among them.
        lost: Vec<String>,
    },
}

/// Whether `later` may be published after `before`: the very same, or a higher version that has every release of it or has
/// revoked it, and what was revoked stays so. Otherwise a release that is published would vanish, one that was taken back
/// would come again, or two contents would share a version.
pub fn goes_on_from(later: &VerifiedTargets, before: &VerifiedTargets) -> bool {
    let releases = later.releases();
    later.check_follows(before).is_ok()
        && later.revoked().is_superset(before.revoked())
        && before
            .releases()
            .iter()
            .all(|release| releases.contains(release) || later.is_revoked(&release.app, &release.version))
}

/// What signing came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The delegated role that has signed; `None` for the owner.
    pub role: Option<String>,
    /// The version of the targets metadata that vouches for the release.
    pub targets_version: u64,
    /// When it expires.
    pub expires: UnixTime,
    /// False if the very same release had been signed before, so that nothing was.
    pub is_new: bool,
}

impl Owner {
    /// Reads the trust root and the key that signs releases.
    pub fn open(home: &Home, passphrases: &Passphrases) -> Result<Self, OwnerError> {
        let lock = OwnerLock::take(home)?;
        if let Some(deed) = staged::unfinished(home) {
            return Err(OwnerError::Unfinished { deed });
        }
        let targets_key = KeyFile::read(&home.targets_key())?.open(passphrases)?;
        Ok(Self { root: latest_root(home)?, key: targets_key, role: None, home: home.clone(), _lock: lock })
    }

    /// The latest root.
    pub fn root(&self) -> &[u8] {
        &self.root
    }

    /// Takes over the targets that the coordinator has, expired or not, if ours do not go on from them: somebody else with
    /// the same keys has signed in the meantime. What was signed here and never published is then to be signed again; it is
    /// named.
    pub fn adopt(&self, targets: &[u8]) -> Result<Adopted, OwnerError> {
        let theirs = match self.vouched(targets) {
            // What another key has signed for the role before is no basis.
            Err(_) if self.role.is_some() => return Ok(Adopted::Nothing),
            theirs => theirs.map_err(|source| OwnerError::Untrusted {
                path: "the coordinator's targets metadata".into(),
                source: Box::new(source),
            })?,
        };
        let ours = self.targets()?.and_then(|ours| self.vouched(&ours).ok());
        if ours.as_ref().is_some_and(|ours| goes_on_from(ours, &theirs)) {
            return Ok(Adopted::Nothing);
        }
        write_file(&self.path(), targets, 0o644)?;
        let published = theirs.releases();
        let ours = ours.map(|ours| ours.releases()).unwrap_or_default();
        let lost = ours
            .into_iter()
            .filter(|release| !published.contains(release) && !theirs.is_revoked(&release.app, &release.version));
        Ok(Adopted::Theirs { lost: lost.map(|release| format!("{}@{}", release.app, release.version)).collect() })
    }

    /// Signs the release of `bundle` and writes the signed targets into it. A release that is signed already is left as
    /// it is, unless its signature ends soon or `floor` is news: the oldest version of the app that nodes may be given from
    /// now on.
    pub fn sign(&self, bundle: &mut Bundle, floor: Option<Version>, now: UnixTime) -> Result<Signed, OwnerError> {
        let before = self.targets()?;
        let manifest = bundle.manifest();
        let custom = Custom { app: manifest.app.clone(), version: manifest.version.clone(), floor };
        let failed = |source| {
            let (app, version) = (custom.app.to_string(), custom.version.to_string());
            match source {
                BuildError::Taken { signed, .. } => OwnerError::Taken { app, version, signed },
                source => OwnerError::Sign { app, version, source: Box::new(source) },
            }
        };
        let mut content = self.next(before.as_deref()).map_err(failed)?;
        let is_new = content.add_release(&custom, bundle.manifest_bytes()).map_err(failed)?;
        let lasting = before.filter(|before| !is_new && self.lasts(before, now));
        let targets = match lasting {
            Some(before) => before,
            None => self.sign_targets(&content, now).map_err(failed)?,
        };
        write_file(&self.path(), &targets, 0o644)?;
        if bundle.targets() != Some(&targets) {
            bundle.set_targets(&targets)?;
        }
        let verified = self.verify(&targets, now).map_err(|refusal| failed(refusal.into()))?;
        Ok(Signed {
            role: self.role.as_ref().map(|role| role.name.clone()),
            targets_version: verified.version,
            expires: verified.expires,
            is_new,
        })
    }

    /// Takes a release back for good, and returns the targets that say so. The same again returns the same. The owner can take
    /// back what a delegated role has signed, too.
    pub fn revoke(&self, app: &AppName, version: &Version, now: UnixTime) -> Result<Vec<u8>, OwnerError> {
        let failed = |source| {
            let (app, version) = (app.to_string(), version.to_string());
            OwnerError::Sign { app, version, source: Box::new(source) }
        };
        let before = self.targets()?;
        let says = |question: &dyn Fn(&VerifiedTargets) -> bool| {
            let before = before.as_deref().and_then(|before| self.vouched(before).ok());
            before.is_some_and(|before| question(&before))
        };
        let is_revoked = |_: &&Vec<u8>| says(&|targets| targets.is_revoked(app, version));
        if let Some(before) = before.as_ref().filter(is_revoked) {
            return Ok(before.clone());
        }
        let mut content = self.next(before.as_deref()).map_err(failed)?;
        let is_delegated = says(&|targets| targets.role_for(app, version).is_some());
        let is_new = if is_delegated { content.veto(app, version) } else { content.remove_release(app, version) };
        if !is_new {
            return Err(OwnerError::NotSigned { app: app.to_string(), version: version.to_string() });
        }
        let targets = self.sign_targets(&content, now).map_err(failed)?;
        write_file(&self.path(), &targets, 0o644)?;
        Ok(targets)
    }

    /// Signs the same targets again, for a full term; `None` if nothing was signed yet.
    pub fn renew(&self, now: UnixTime) -> Result<Option<Vec<u8>>, OwnerError> {
        let Some(before) = self.targets()? else { return Ok(None) };
        let failed = |source| OwnerError::Targets(Box::new(source));
        let content = self.next(Some(&before)).map_err(failed)?;
        let targets = self.sign_targets(&content, now).map_err(failed)?;
        write_file(&self.path(), &targets, 0o644)?;
        Ok(Some(targets))
    }

    fn next(&self, before: Option<&[u8]>) -> Result<TargetsContent, BuildError> {
        match (&self.role, before) {
            (None, None) => Ok(TargetsContent::first()),
            (None, Some(before)) => TargetsContent::next(&self.root, before),
            (Some(role), before) => role.next(before),
        }
    }

    fn sign_targets(&self, content: &TargetsContent, now: UnixTime) -> Result<Vec<u8>, BuildError> {
        let (keys, expires) = ([&self.key], now.saturating_add(TARGETS_VALID_SECS));
        match &self.role {
            None => content.sign(&self.root, &keys, now, expires),
            Some(role) => content.sign_role(&role.top, &keys, now, expires),
        }
    }

    /// Where what is signed here lies.
    fn path(&self) -> PathBuf {
        match &self.role {
            None => self.home.targets(),
            Some(role) => role.path(&self.home),
        }
    }

    fn targets(&self) -> Result<Option<Vec<u8>>, OwnerError> {
        let found = read_if_there(&self.path())?;
        // What another key has signed for the role before is no basis.
        Ok(found.filter(|found| self.role.is_none() || self.vouched(found).is_ok()))
    }

    fn vouched(&self, targets: &[u8]) -> Result<VerifiedTargets, Refusal> {
        match &self.role {
            None => vouched_targets(&self.root, targets),
            Some(role) => role.top.vouched_role(&role.name, targets),
        }
    }

    fn verify(&self, targets: &[u8], now: UnixTime) -> Result<VerifiedTargets, Refusal> {
        match &self.role {
            None => verify_targets(&self.root, targets, now),
            Some(role) => role.top.verify_role(&role.name, targets, now),
        }
    }

    fn lasts(&self, targets: &[u8], now: UnixTime) -> bool {
        self.verify(targets, now.saturating_add(RENEW_BEFORE_SECS)).is_ok()
    }
}

/// Takes over roots that follow the latest one here: somebody else with the owner's keys has changed them.
pub fn follow_roots(home: &Home, roots: &[Vec<u8>]) -> Result<(), OwnerError> {
    for bytes in roots {
        let failed =
            |source| OwnerError::Untrusted { path: "the coordinator's root metadata".into(), source: Box::new(source) };
        let latest = latest_root(home)?;
        let verified = Draft::read(bytes).and_then(|draft| draft.check_follows(&latest)).map_err(failed)?;
        write_file(&home.root_metadata(verified.version), bytes, 0o644)?;
    }
    Ok(())
}

/// The root metadata with the highest version in the owner's directory.
pub fn latest_root(home: &Home) -> Result<Vec<u8>, OwnerError> {
    let path = |version: u32| home.owner().join(format!("{version}.root.json"));
    let last = (1..=u32::MAX).take_while(|version| path(*version).exists()).last().unwrap_or(1);
    let bytes = read_file(&path(last))?;
    repository::verify_root(&bytes)
        .map_err(|source| OwnerError::Untrusted { path: path(last), source: Box::new(source) })?;
    Ok(bytes)
}

/// The fingerprint of the first root, which invite tokens carry.
pub fn first_root_fingerprint(home: &Home) -> Result<Digest, OwnerError> {
    read_file(&home.first_root()).map(|bytes| sha256::digest(&bytes))
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, OwnerError> {
    match read_file(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(OwnerError::Read { source, .. }) if is_missing(&source) => Ok(None),
        Err(error) => Err(error),
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, OwnerError> {
    std::fs::read(path).map_err(|source| OwnerError::Read { path: path.to_owned(), source })
}

/// Puts a file in its place as a whole; it has its mode from the beginning.
pub(crate) fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<(), OwnerError> {
    durable::replace(path, bytes, mode).map_err(|source| OwnerError::Write { path: path.to_owned(), source })
}
