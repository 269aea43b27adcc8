//! A new owner's directory after the old one was lost, from the recovery key and the public metadata.

use orangery_trust::repository::{BuildError, verify_root, vouched_targets};
use orangery_trust::{Role, Stored, TrustedSet};
use orangery_wire::UnixTime;

use super::change::Change;
use super::staged::StagedError;
use super::{KeyFile, OwnerError, write_file};
use crate::durable;
use crate::home::Home;

/// What is left when the laptop is gone: public metadata, from the coordinator or from a copy.
#[derive(Debug, Default)]
pub struct Lost {
    /// The roots from the first on, without a gap.
    pub roots: Vec<Vec<u8>>,
    /// The newest targets.
    pub targets: Option<Vec<u8>>,
}

/// Writes the metadata into the owner's directory of `home` and prepares the root that names a new daily key and a new
/// targets key in place of the lost ones. `given` are the keys that are left; each must be one of the latest root.
///
/// The first root must be known to be the owner's: a stranger's chain could otherwise be signed with the recovery key.
pub fn begin_recovery(
    home: &Home,
    lost: &Lost,
    given: &[KeyFile],
    lost_names: &[String],
    deed: &str,
    now: UnixTime,
) -> Result<Change, StagedError> {
    let impossible = |reason: String| StagedError::Impossible { reason };
    let (stored, latest) = (Stored { roots: lost.roots.clone(), ..Stored::default() }, lost.roots.last());
    TrustedSet::load(&stored)?;
    let latest = latest.ok_or_else(|| impossible("there is no root among the metadata".to_owned()))?;
    let root = verify_root(latest)?;
    for file in given {
        if !root.trusts(Role::Root, file.public()) {
            let path = file.path().display();
            return Err(impossible(format!("{path} is not a root key of this fleet's root {}", root.version)));
        }
    }
    if lost.targets.as_ref().is_some_and(|targets| vouched_targets(latest, targets).is_err()) {
        return Err(impossible("the targets among the metadata are not signed by this fleet's owner".to_owned()));
    }
    durable::create_directories(&home.owner()).map_err(|source| OwnerError::Write { path: home.owner(), source })?;
    for bytes in &lost.roots {
        let version = verify_root(bytes).map_err(BuildError::from)?.version;
        write_file(&home.root_metadata(version), bytes, 0o644)?;
    }
    if let Some(targets) = &lost.targets {
        write_file(&home.targets(), targets, 0o644)?;
    }
    let mut change = Change::begin(home, deed, now)?;
    replace_lost(&mut change, given, lost_names)?;
    Ok(change)
}

fn replace_lost(change: &mut Change, given: &[KeyFile], lost_names: &[String]) -> Result<(), StagedError> {
    let roots = change.content.root.keys.clone();
    let is_given = |key| given.iter().any(|file| file.public() == key);
    let is_lost = |key| match change.name(key) {
        Some(name) => lost_names.iter().any(|lost| lost == name),
        None => !is_given(key),
    };
    let lost: Vec<_> = roots.iter().filter(|key| is_lost(key)).cloned().collect();
    if lost.is_empty() {
        let reason =
            format!("the root has no key that is called {}; name the lost ones with --lost", lost_names.join(" or "));
        return Err(StagedError::Impossible { reason });
    }
    if let Some(key) = lost.iter().find(|key| is_given(key)) {
        let name = change.name(key).unwrap_or("a key").to_owned();
        return Err(StagedError::Impossible { reason: format!("{name} is said to be lost and yet given") });
    }
    let names: Vec<String> = lost.iter().map(|key| change.name(key).unwrap_or("root").to_owned()).collect();
    for (key, name) in lost.iter().zip(names) {
        change.remove(Role::Root, key);
        change.make(Role::Root, &name)?;
    }
    for key in change.content.targets.keys.clone() {
        change.remove(Role::Targets, &key);
    }
    change.content.targets.threshold = 1;
    change.make(Role::Targets, "targets")
}
