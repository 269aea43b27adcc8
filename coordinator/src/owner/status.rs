//! Who can do what with which key. It needs no passphrase: key files name themselves.

use std::collections::BTreeMap;
use std::path::PathBuf;

use orangery_trust::repository::{
    DelegatedRole, Draft, KeyNames, RootContent, VerifiedRoot, verify_root, vouched_targets,
};
use orangery_trust::{PublicKey, Role, role_file};
use orangery_wire::UnixTime;
use serde::Serialize;

use super::staged::{Missing, Staged, StagedError, key_files};
use super::{KeyFile, latest_root, read_if_there};
use crate::home::Home;

/// Metadata by version, and how long it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Term {
    /// Its version.
    pub version: u64,
    /// When it expires.
    pub expires_at: UnixTime,
}

/// Everything that `keys status` tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeysStatus {
    /// The root that holds.
    pub root: Term,
    /// The newest targets that are here.
    pub targets: Option<Term>,
    /// The newest metadata of delegated roles that is here, by role.
    pub delegated: BTreeMap<String, Term>,
    /// When the coordinator's snapshot and timestamp expire; `None` if it cannot be asked or has none.
    pub online_expires_at: Option<UnixTime>,
    /// Who can do what.
    pub roles: Vec<RoleStatus>,
    /// A change that is under way.
    pub staged: Option<StagedStatus>,
}

/// Who can do one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RoleStatus {
    /// The role of The Update Framework, or the name of a delegated one.
    pub role: String,
    /// What its keys can do.
    pub may: String,
    /// How many of them it takes.
    pub threshold: usize,
    /// Its keys.
    pub keys: Vec<Holder>,
}

/// A key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// Its id in the metadata.
    pub id: String,
    /// What people call it.
    pub name: Option<String>,
    /// Its file, if it is here.
    pub file: Option<PathBuf>,
    /// Whether that file is sealed with a passphrase.
    pub sealed: bool,
}

/// A change under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StagedStatus {
    /// What it is for.
    pub deed: String,
    /// The version of the root that it makes.
    pub version: u64,
    /// Its file, which other machines can sign.
    pub file: PathBuf,
    /// Whether the coordinator was asked to take it.
    pub is_sent: bool,
    /// More signatures needed by keys of the root that holds.
    pub missing_of_present: usize,
    /// More signatures needed by keys of the new root.
    pub missing_of_new: usize,
    /// Keys that can give them.
    pub missing_by: Vec<String>,
    /// Who could do what after it.
    pub roles: Vec<RoleStatus>,
}

impl KeysStatus {
    /// Reads it from the owner's directory.
    pub fn read(home: &Home) -> Result<Self, StagedError> {
        let bytes = latest_root(home)?;
        let root: VerifiedRoot = verify_root(&bytes)?;
        let files = key_files(home);
        let staged = Staged::load(home)?.map(|staged| staged_status(&staged, &files)).transpose()?;
        let targets = read_if_there(&home.targets())?.and_then(|targets| vouched_targets(&bytes, &targets).ok());
        let mut roles = roles(&root.content(), root.names(), &files);
        let mut delegated = BTreeMap::new();
        if let Some(targets) = &targets {
            roles.extend(targets.roles().into_iter().map(|role| delegated_role(role, &files)));
            for role in targets.roles() {
                let here = read_if_there(&home.owner().join(role_file(&role.name)))?;
                if let Some(signed) = here.and_then(|here| targets.vouched_role(&role.name, &here).ok()) {
                    delegated.insert(role.name, Term { version: signed.version, expires_at: signed.expires });
                }
            }
        }
        let targets = targets.map(|targets| Term { version: targets.version, expires_at: targets.expires });
        Ok(Self {
            root: Term { version: root.version, expires_at: root.expires },
            targets,
            online_expires_at: None,
            delegated,
            roles,
            staged,
        })
    }
}

fn staged_status(staged: &Staged, files: &[KeyFile]) -> Result<StagedStatus, StagedError> {
    let missing = match staged.missing() {
        Ok(missing) => missing.unwrap_or(Missing { of_present: 0, of_new: 0, by: Vec::new() }),
        Err(error) => return Err(error),
    };
    let content = staged.draft().content();
    Ok(StagedStatus {
        deed: staged.deed().to_owned(),
        version: content.version,
        file: staged.file(),
        is_sent: staged.is_sent(),
        missing_of_present: missing.of_present,
        missing_of_new: missing.of_new,
        missing_by: missing.by,
        roles: roles(&content, staged.draft().names(), files),
    })
}

/// Who could do what by a root that is still being signed.
pub fn draft_roles(home: &Home, draft: &Draft) -> Vec<RoleStatus> {
    roles(&draft.content(), draft.names(), &key_files(home))
}

/// Who signs an app that is left to a role of its own.
fn delegated_role(role: DelegatedRole, files: &[KeyFile]) -> RoleStatus {
    let may = match role.app() {
        Some(app) => format!("sign and revoke releases of {app}"),
        None => format!("sign targets at {}", role.paths.join(", ")),
    };
    let names = role.keys.iter().map(|key| (key.clone(), role.name.clone())).collect();
    let keys = role.keys.iter().map(|key| holder(key, &names, files)).collect();
    RoleStatus { role: role.name, may, threshold: role.threshold, keys }
}

fn holder(key: &PublicKey, names: &KeyNames, files: &[KeyFile]) -> Holder {
    let file = files.iter().find(|file| file.public() == key);
    let stem = || file.and_then(|file| file.path().file_stem()?.to_str().map(str::to_owned));
    Holder {
        id: key.id().to_string(),
        name: names.get(key).cloned().or_else(stem),
        file: file.map(|file| file.path().to_owned()),
        sealed: file.is_some_and(|file| file.cost().is_some()),
    }
}

/// Who can do what by this root, with the key files that are here.
fn roles(root: &RootContent, names: &KeyNames, files: &[KeyFile]) -> Vec<RoleStatus> {
    let all = [
        (Role::Root, "sign a new root, which says whose keys count"),
        (Role::Targets, "sign and revoke releases"),
        (Role::Snapshot, "say which signed state is the newest (the coordinator)"),
        (Role::Timestamp, "say that it still is (the coordinator)"),
    ];
    all.into_iter()
        .map(|(role, may)| {
            let holders = root.holders(role);
            let keys = holders.keys.iter().map(|key| holder(key, names, files)).collect();
            let (role, may) = (role.as_str().to_owned(), may.to_owned());
            RoleStatus { role, may, threshold: holders.threshold, keys }
        })
        .collect()
}
