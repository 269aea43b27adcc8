//! A change of keys on its way: prepared, signed here and elsewhere, published, done.
//!
//! It lies in `owner/staged/`: new keys first, then `deed`, then `root.json`, whose presence means that there is a change.
//! While it is signed only that file changes. `sent` is written before the coordinator is asked; from then on there is only one
//! way, forward, for nodes may have seen the new root. At the end new keys move to their places and the new root is written
//! last: after a cut at any moment the same step again goes on from there.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use orangery_trust::repository::{
    BuildError, Draft, SigningKey, TARGETS_VALID_SECS, TargetsContent, verify_root, vouched_targets,
};
use orangery_trust::{PublicKey, Refusal};
use orangery_wire::UnixTime;

use super::{KeyFile, OwnerError, Passphrases, Seal, latest_root, read_file, read_if_there, write_file};
use crate::durable;
use crate::home::Home;

/// Why a change of keys does not go on.
#[derive(Debug, thiserror::Error)]
pub enum StagedError {
    /// The owner's files.
    #[error(transparent)]
    Owner(#[from] OwnerError),
    /// Another change is staged.
    #[error(
        "another change of keys is staged: {deed}; finish it with `orangery keys publish`, or drop it with `orangery keys abort`"
    )]
    Other {
        /// That change.
        deed: String,
    },
    /// The change cannot be made.
    #[error("cannot change the keys: {reason}")]
    Impossible {
        /// Why.
        reason: String,
    },
    /// The new root cannot be built.
    #[error("cannot make the new root")]
    Build(#[from] BuildError),
    /// Another root was published in the meantime.
    #[error(
        "version {version} of the root was published in the meantime, and what is staged does not follow it; drop it with \
         `orangery keys abort` and begin anew"
    )]
    Overtaken {
        /// The newest root.
        version: u64,
    },
    /// It was sent, so that nodes may know of it.
    #[error(
        "the change was sent to the coordinator, and nodes may follow it already; finish it with `orangery keys publish`"
    )]
    Sent,
    /// The targets must be signed by a key that is not here.
    #[error("the releases must be signed anew, and no key that the new root names for targets is here")]
    NoTargetsKey,
    /// A file could not be moved or removed.
    #[error("cannot finish the change in {path}")]
    Finish {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Signatures that are still needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// More signatures by keys of the root that holds now.
    pub of_present: usize,
    /// More signatures by keys of the new root.
    pub of_new: usize,
    /// Any of these keys can give one; by name, or by id.
    pub by: Vec<String>,
}

/// A change on the disk.
#[derive(Debug)]
pub struct Staged {
    home: Home,
    deed: String,
    before: Vec<u8>,
    draft: Draft,
}

impl Staged {
    /// Puts a change on the disk: new keys first, the root last.
    pub(super) fn begin(
        home: &Home,
        deed: String,
        draft: Draft,
        new_keys: &[(String, SigningKey)],
        seal: &Seal,
    ) -> Result<Self, StagedError> {
        let directory = home.staged();
        clear(&directory)?;
        durable::create_directories(&directory)
            .map_err(|source| OwnerError::Write { path: directory.clone(), source })?;
        for (name, key) in new_keys {
            KeyFile::write(&directory.join(format!("{name}.key")), key, seal)?;
        }
        write_file(&directory.join("deed"), deed.as_bytes(), 0o644)?;
        write_file(&directory.join("root.json"), draft.bytes(), 0o644)?;
        Ok(Self { home: home.clone(), deed, before: latest_root(home)?, draft })
    }

    /// The change that is staged, if there is one. One whose root holds already is ended here too.
    pub fn load(home: &Home) -> Result<Option<Self>, StagedError> {
        let directory = home.staged();
        let path = directory.join("root.json");
        let Some(bytes) = read_if_there(&path)? else { return Ok(None) };
        let (before, deed) = (latest_root(home)?, read_if_there(&directory.join("deed"))?.unwrap_or_default());
        let draft = Draft::read(&bytes).map_err(|source| OwnerError::Untrusted { path, source: Box::new(source) })?;
        let is_there = verify_root(&before)?.content() == draft.content();
        let deed = String::from_utf8_lossy(&deed).into_owned();
        let staged = Self { home: home.clone(), deed, before, draft };
        if is_there {
            // Published, and cut off before the end, or published by whoever signed last.
            staged.settle()?;
            return Ok(None);
        }
        Ok(Some(staged))
    }

    /// What it is for.
    pub fn deed(&self) -> &str {
        &self.deed
    }

    /// The new root.
    pub fn draft(&self) -> &Draft {
        &self.draft
    }

    /// The file that other machines can sign.
    pub fn file(&self) -> PathBuf {
        self.home.staged().join("root.json")
    }

    /// Whether the coordinator was asked to take it.
    pub fn is_sent(&self) -> bool {
        self.sent().exists()
    }

    fn sent(&self) -> PathBuf {
        self.home.staged().join("sent")
    }

    /// Signs with as many of the keys here, and of `others`, as are needed. New keys always sign, which shows that they work.
    /// The daily keys come first, so that the recovery key is opened only if there is no other way.
    pub fn sign(&mut self, others: &[KeyFile], passphrases: &Passphrases) -> Result<(), StagedError> {
        let own = key_files(&self.home);
        let before = verify_root(&self.before).map_err(BuildError::from)?;
        let staged = self.home.staged();
        let mut candidates: Vec<&KeyFile> = own.iter().chain(others).collect();
        candidates.sort_by_key(|file| (!file.path().starts_with(&staged), is_recovery(file.path())));
        for file in candidates {
            let key = file.public();
            let (old, new) = (before.content(), self.draft.content());
            let (of_old, of_new) = (self.draft.signers_of(&before), self.draft.signers());
            let helps = |holders: &BTreeSet<PublicKey>, threshold: usize, signers: &BTreeSet<PublicKey>| {
                holders.contains(key) && !signers.contains(key) && signers.len() < threshold
            };
            let is_new = file.path().starts_with(&staged) && new.root.keys.contains(key) && !of_new.contains(key);
            if is_new
                || helps(&old.root.keys, old.root.threshold, &of_old)
                || helps(&new.root.keys, new.root.threshold, &of_new)
            {
                self.draft = self.draft.sign(&[&file.open(passphrases)?])?;
            }
        }
        Ok(write_file(&self.file(), self.draft.bytes(), 0o644)?)
    }

    /// Takes over the signatures of the same root from elsewhere. `false` if it is another root.
    pub fn merge(&mut self, other: &Draft) -> Result<bool, StagedError> {
        let Some(merged) = self.draft.merge(other)? else { return Ok(false) };
        self.draft = merged;
        write_file(&self.file(), self.draft.bytes(), 0o644)?;
        Ok(true)
    }

    /// Which signatures are still needed; `None` if it can be published.
    pub fn missing(&self) -> Result<Option<Missing>, StagedError> {
        let before = verify_root(&self.before).map_err(BuildError::from)?;
        let (old, new) = (before.content(), self.draft.content());
        if new.version != old.version + 1 {
            return Err(StagedError::Overtaken { version: old.version });
        }
        let (of_old, of_new) = (self.draft.signers_of(&before), self.draft.signers());
        let missing = Missing {
            of_present: old.root.threshold.saturating_sub(of_old.len()),
            of_new: new.root.threshold.saturating_sub(of_new.len()),
            by: Vec::new(),
        };
        if missing.of_present == 0 && missing.of_new == 0 {
            return Ok(None);
        }
        let from_old = old.root.keys.iter().filter(|key| missing.of_present > 0 && !of_old.contains(key));
        let from_new = new.root.keys.iter().filter(|key| missing.of_new > 0 && !of_new.contains(key));
        let keys: BTreeSet<&PublicKey> = from_old.chain(from_new).collect();
        let name = |key: &PublicKey| {
            let name = self.draft.names().get(key).or_else(|| before.names().get(key));
            name.cloned().unwrap_or_else(|| key.id().to_string().chars().take(12).collect())
        };
        Ok(Some(Missing { by: keys.into_iter().map(name).collect(), ..missing }))
    }

    /// The targets that must go along with the new root: none if those of the coordinator, `newest`, hold under it. They are
    /// signed once and kept, so that the same step again sends the same bytes.
    pub fn targets(
        &self,
        newest: Option<&[u8]>,
        passphrases: &Passphrases,
        now: UnixTime,
    ) -> Result<Option<Vec<u8>>, StagedError> {
        let root = self.draft.bytes();
        let ours = read_if_there(&self.home.targets())?;
        let Some(basis) = newest.or(ours.as_deref()) else { return Ok(None) };
        let path = self.home.staged().join("targets.json");
        if vouched_targets(root, basis).is_ok() {
            return Ok(None);
        }
        let content = TargetsContent::next(&self.before, basis)?;
        if let Some(signed) = read_if_there(&path)?
            && TargetsContent::next(root, &signed).is_ok_and(|after| after.follows(&content))
        {
            return Ok(Some(signed));
        }
        let holders = self.draft.content().targets;
        let key = key_files(&self.home).into_iter().find(|file| holders.keys.contains(file.public()));
        let key = key.ok_or(StagedError::NoTargetsKey)?.open(passphrases)?;
        let signed = content.sign(root, &[&key], now, now.saturating_add(TARGETS_VALID_SECS))?;
        write_file(&path, &signed, 0o644)?;
        Ok(Some(signed))
    }

    /// From here on it only goes forward.
    pub fn mark_sent(&self) -> Result<(), StagedError> {
        self.draft.check_follows(&self.before).map_err(BuildError::from)?;
        Ok(write_file(&self.sent(), b"", 0o644)?)
    }

    /// The coordinator has said no, so that nodes know nothing of it.
    pub fn mark_refused(&self) -> Result<(), StagedError> {
        let path = self.sent();
        std::fs::remove_file(&path).map_err(|source| StagedError::Finish { path, source })
    }

    /// The coordinator has it: new keys move to their places, then the root is written, which ends the change.
    pub fn complete(self) -> Result<(), StagedError> {
        let version = self.draft.content().version;
        self.promote()?;
        write_file(&self.home.root_metadata(version), self.draft.bytes(), 0o644)?;
        clear(&self.home.staged())
    }

    fn settle(self) -> Result<(), StagedError> {
        self.promote()?;
        clear(&self.home.staged())
    }

    fn promote(&self) -> Result<(), StagedError> {
        let (staged, owner) = (self.home.staged(), self.home.owner());
        for file in files(&staged) {
            let name = file.file_name().unwrap_or_default();
            let failed = |source| StagedError::Finish { path: file.clone(), source };
            if is_key(&file) {
                std::fs::rename(&file, owner.join(name)).map_err(failed)?;
            }
        }
        durable::sync_directory(&owner).map_err(|source| StagedError::Finish { path: owner, source })?;
        if let Some(targets) = read_if_there(&staged.join("targets.json"))? {
            write_file(&self.home.targets(), &targets, 0o644)?;
        }
        Ok(())
    }

    /// Drops it, new keys included. One that was sent stays, unless `is_unknown`: the coordinator does not have it.
    pub fn abort(self, is_unknown: bool) -> Result<(), StagedError> {
        if self.is_sent() && !is_unknown {
            return Err(StagedError::Sent);
        }
        clear(&self.home.staged())
    }
}

/// The deed of a change that was sent and is not finished.
pub(super) fn unfinished(home: &Home) -> Option<String> {
    let staged = home.staged();
    let is_open = staged.join("sent").exists() && staged.join("root.json").exists();
    is_open.then(|| {
        let deed = read_file(&staged.join("deed")).unwrap_or_default();
        String::from_utf8_lossy(&deed).into_owned()
    })
}

/// The key files of the owner: those of a staged change first. One that cannot be read is said and left out.
pub(super) fn key_files(home: &Home) -> Vec<KeyFile> {
    let all = files(&home.staged()).into_iter().chain(files(&home.owner()));
    all.filter(|path| is_key(path))
        .filter_map(|path| match KeyFile::read(&path) {
            Ok(file) => Some(file),
            Err(error) => {
                tracing::warn!(path = %path.display(), reason = %error, "a key file is left out");
                None
            }
        })
        .collect()
}

fn is_key(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "key")
}

fn is_recovery(path: &Path) -> bool {
    path.file_stem().is_some_and(|stem| stem == "recovery")
}

/// What is in a directory, in order; nothing if it is not there.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    found.sort();
    found
}

/// Removes a staged change, its root first: what is left then is no change.
fn clear(directory: &Path) -> Result<(), StagedError> {
    let failed = |source| StagedError::Finish { path: directory.to_owned(), source };
    let absent_is_fine = |result: io::Result<()>| match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    absent_is_fine(std::fs::remove_file(directory.join("root.json"))).map_err(failed)?;
    if directory.exists() {
        durable::sync_directory(directory).map_err(failed)?;
    }
    absent_is_fine(std::fs::remove_dir_all(directory)).map_err(failed)
}

impl From<Refusal> for StagedError {
    fn from(refusal: Refusal) -> Self {
        Self::Build(refusal.into())
    }
}
