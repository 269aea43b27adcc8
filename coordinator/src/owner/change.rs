//! A change of keys, before it is on the disk.

use std::path::PathBuf;

use orangery_trust::repository::{BuildError, Draft, KeyNames, ROOT_VALID_SECS, RootContent, SigningKey, verify_root};
use orangery_trust::{PublicKey, Role};
use orangery_wire::UnixTime;

use super::staged::{Staged, StagedError};
use super::{KeyFile, OwnerError, Seal, latest_root};
use crate::home::Home;

/// A change under construction.
#[derive(Debug)]
pub struct Change {
    deed: String,
    /// The root that will be.
    pub content: RootContent,
    names: KeyNames,
    new_keys: Vec<(String, SigningKey)>,
}

impl Change {
    /// The latest root once more, to be changed. `deed` says in a few words what for: the same words find the same change.
    pub fn begin(home: &Home, deed: &str, now: UnixTime) -> Result<Self, StagedError> {
        let before = latest_root(home)?;
        let content = RootContent::next(&before, now, now.saturating_add(ROOT_VALID_SECS))?;
        let names = verify_root(&before).map_err(BuildError::from)?.names().clone();
        Ok(Self { deed: deed.to_owned(), content, names, new_keys: Vec::new() })
    }

    /// Lets one more key sign for a role.
    pub fn add(&mut self, role: Role, name: &str, key: PublicKey) -> Result<(), StagedError> {
        check_name(name)?;
        self.content.holders_mut(role).keys.insert(key.clone());
        self.names.insert(key, name.to_owned());
        Ok(())
    }

    /// Makes a key here and lets it sign for a role.
    pub fn make(&mut self, role: Role, name: &str) -> Result<(), StagedError> {
        let path = PathBuf::from(format!("{name}.key"));
        let key = SigningKey::generate().map_err(|source| OwnerError::Key { path, source })?;
        self.add(role, name, key.public())?;
        self.new_keys.push((name.to_owned(), key));
        Ok(())
    }

    /// Takes a key out of a role.
    pub fn remove(&mut self, role: Role, key: &PublicKey) {
        self.content.holders_mut(role).keys.remove(key);
    }

    /// The key of a role that people call so, or whose id begins so.
    pub fn find(&self, role: Role, name: &str) -> Option<PublicKey> {
        let keys = &self.content.holders(role).keys;
        let named = keys.iter().find(|key| self.names.get(key).is_some_and(|known| known == name));
        let begins = |key: &&PublicKey| name.len() >= 8 && key.id().to_string().starts_with(name);
        named.or_else(|| keys.iter().find(begins)).cloned()
    }

    /// What people call a key.
    pub fn name(&self, key: &PublicKey) -> Option<&str> {
        self.names.get(key).map(String::as_str)
    }

    /// Puts the change on the disk. Nothing counts before it is signed and published.
    pub fn stage(self, home: &Home, seal: &Seal) -> Result<Staged, StagedError> {
        let draft = Draft::new(&self.content, &self.names)?;
        let kept = self.content.keys();
        for (name, key) in &self.new_keys {
            let path = home.owner().join(format!("{name}.key"));
            if path.exists() && KeyFile::read(&path).is_ok_and(|there| kept.contains(there.public())) {
                let reason = format!("{} holds another key that goes on counting; choose another name", path.display());
                return Err(StagedError::Impossible { reason });
            }
            debug_assert!(kept.contains(&key.public()), "a new key is one that the root names");
        }
        Staged::begin(home, self.deed, draft, &self.new_keys, seal)
    }
}

/// Names become file names.
fn check_name(name: &str) -> Result<(), StagedError> {
    let is_good = (1..=63).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !name.starts_with('-');
    if is_good {
        return Ok(());
    }
    let reason = format!("{name:?} is no name for a key: use 1 to 63 of a-z, 0-9 and -");
    Err(StagedError::Impossible { reason })
}
