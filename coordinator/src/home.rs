//! The directory that `orangery init` makes: where everything in it is. This module is its only spelling.

use std::path::{Path, PathBuf};

/// The directory of `orangery init`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// The files below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Where it is unless `--dir` says otherwise: `$ORANGERY_DIR`, or `orangery` in the user's configuration directory
    /// (XDG Base Directory Specification 0.8). `None` when the environment names no home either.
    pub fn usual() -> Option<Self> {
        let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let configuration = || named("XDG_CONFIG_HOME").or_else(|| named("HOME").map(|home| home.join(".config")));
        named("ORANGERY_DIR").or_else(|| configuration().map(|path| path.join("orangery"))).map(Self::new)
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// How the commands reach the coordinator.
    pub fn client_settings(&self) -> PathBuf {
        self.root.join("client.toml")
    }

    /// The operator's token.
    pub fn operator_token(&self) -> PathBuf {
        self.root.join("operator.token")
    }

    /// What the owner signs with, and has signed. It stays on the owner's machine.
    pub fn owner(&self) -> PathBuf {
        self.root.join("owner")
    }

    /// The key that signs root metadata day by day.
    pub fn root_key(&self) -> PathBuf {
        self.owner().join("root.key")
    }

    /// The other key that root metadata accepts; it belongs on a stick in a drawer.
    pub fn recovery_key(&self) -> PathBuf {
        self.owner().join("recovery.key")
    }

    /// The key that signs releases.
    pub fn targets_key(&self) -> PathBuf {
        self.owner().join("targets.key")
    }

    /// A change of keys that is being prepared.
    pub fn staged(&self) -> PathBuf {
        self.owner().join("staged")
    }

    /// One version of the root metadata.
    pub fn root_metadata(&self, version: u64) -> PathBuf {
        self.owner().join(format!("{version}.root.json"))
    }

    /// The first root metadata: what every node's trust begins with.
    pub fn first_root(&self) -> PathBuf {
        self.owner().join("1.root.json")
    }

    /// The newest targets metadata that was signed here.
    pub fn targets(&self) -> PathBuf {
        self.owner().join("targets.json")
    }

    /// What the coordinator runs on: this directory alone belongs on its machine.
    pub fn coordinator(&self) -> PathBuf {
        self.root.join("coordinator")
    }

    /// The coordinator's settings.
    pub fn coordinator_settings(&self) -> PathBuf {
        self.coordinator().join("coordinator.toml")
    }

    /// A file of the coordinator by its name, such as `ca.pem`.
    pub fn coordinator_file(&self, name: &str) -> PathBuf {
        self.coordinator().join(name)
    }

    /// The coordinator's database, artifacts and metadata.
    pub fn coordinator_state(&self) -> PathBuf {
        self.coordinator().join("state")
    }
}
