//! What a new owner begins with.

use orangery_trust::PublicKey;
use orangery_trust::repository::{Draft, KeyHolders, ROOT_VALID_SECS, RootContent, SigningKey, verify_root};
use orangery_wire::UnixTime;

use super::{KeyFile, OwnerError, Seal, write_file};
use crate::home::Home;

/// Keys and root metadata of a new fleet, before anything is on disk.
pub struct NewOwner {
    root: SigningKey,
    recovery: SigningKey,
    targets: SigningKey,
    first_root: Vec<u8>,
}

impl NewOwner {
    /// Makes the owner's keys and signs the first root, which names them and the coordinator's `snapshot` and `timestamp`
    /// keys. The root is valid for [`ROOT_VALID_SECS`]; either of the owner's two root keys can sign the next.
    pub fn create(snapshot: &PublicKey, timestamp: &PublicKey, now: UnixTime) -> Result<Self, OwnerError> {
        let generate =
            |path: &str| SigningKey::generate().map_err(|source| OwnerError::Key { path: path.into(), source });
        let (root, recovery, targets) = (generate("root.key")?, generate("recovery.key")?, generate("targets.key")?);
        let content = RootContent {
            version: 1,
            signed_at: now,
            expires: now.saturating_add(ROOT_VALID_SECS),
            root: KeyHolders::any_of([root.public(), recovery.public()]),
            targets: KeyHolders::any_of([targets.public()]),
            snapshot: KeyHolders::any_of([snapshot.clone()]),
            timestamp: KeyHolders::any_of([timestamp.clone()]),
        };
        let failed = |source| OwnerError::Root(Box::new(source));
        let names = [
            (root.public(), "root"),
            (recovery.public(), "recovery"),
            (targets.public(), "targets"),
            (snapshot.clone(), "snapshot"),
            (timestamp.clone(), "timestamp"),
        ];
        let names = names.into_iter().map(|(key, name)| (key, name.to_owned())).collect();
        let draft = Draft::new(&content, &names).and_then(|draft| draft.sign(&[&root])).map_err(failed)?;
        let first_root = draft.bytes().to_vec();
        verify_root(&first_root).map_err(|refusal| failed(refusal.into()))?;
        Ok(Self { root, recovery, targets, first_root })
    }

    /// `1.root.json`, as every node will pin it.
    pub fn first_root(&self) -> &[u8] {
        &self.first_root
    }

    /// Writes everything into the owner's directory of `home`, which exists and is empty. Keys are readable by their
    /// owner alone from the first moment.
    pub fn save(&self, home: &Home, seal: &Seal) -> Result<(), OwnerError> {
        for (path, key) in
            [(home.root_key(), &self.root), (home.recovery_key(), &self.recovery), (home.targets_key(), &self.targets)]
        {
            KeyFile::write(&path, key, seal)?;
        }
        write_file(&home.first_root(), &self.first_root, 0o644)
    }
}
