//! Where everything is on the node's disk. `docs/disk.md` is the contract; this module is its only spelling.

use std::path::{Path, PathBuf};

use orangery_wire::{AppName, Digest, ReleaseId};

/// The state directory, `/var/lib/orangery` on a board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The state directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Key, certificate and CA of the node; mode 0700.
    pub fn identity(&self) -> PathBuf {
        self.root.join("identity")
    }

    /// Trusted TUF metadata.
    pub fn trust(&self) -> PathBuf {
        self.root.join("trust")
    }

    /// What the node knows of itself; see `record::NodeState`.
    pub fn node_state(&self) -> PathBuf {
        self.root.join("node.json")
    }

    /// All apps.
    pub fn apps(&self) -> PathBuf {
        self.root.join("apps")
    }

    /// One app.
    pub fn app(&self, app: &AppName) -> PathBuf {
        self.apps().join(app.as_str())
    }

    /// The app's deployment record.
    pub fn record(&self, app: &AppName) -> PathBuf {
        self.app(app).join("state.json")
    }

    /// What was seen of the app's last refused release; see `evidence::Refused`.
    pub fn refused(&self, app: &AppName) -> PathBuf {
        self.app(app).join("refused.json")
    }

    /// The app's unpacked releases.
    pub fn releases(&self, app: &AppName) -> PathBuf {
        self.app(app).join("releases")
    }

    /// One release: `tree/` and, written last, the seal.
    pub fn release(&self, app: &AppName, release: &ReleaseId) -> PathBuf {
        self.releases(app).join(release.to_string())
    }

    /// The release's files.
    pub fn tree(&self, app: &AppName, release: &ReleaseId) -> PathBuf {
        self.release(app, release).join("tree")
    }

    /// The manifest as signed. A release without it does not exist.
    pub fn seal(&self, app: &AppName, release: &ReleaseId) -> PathBuf {
        self.release(app, release).join("manifest.json")
    }

    /// Link to the proven release's directory, relative: `releases/RELEASE`.
    pub fn current(&self, app: &AppName) -> PathBuf {
        self.app(app).join("current")
    }

    /// The app's own files; never touched.
    pub fn data(&self, app: &AppName) -> PathBuf {
        self.app(app).join("data")
    }

    /// The app's output, rotated (process runner).
    pub fn logs(&self, app: &AppName) -> PathBuf {
        self.app(app).join("logs")
    }

    /// What the process runner knows of the app's running process.
    pub fn run_state(&self, app: &AppName) -> PathBuf {
        self.app(app).join("run.json")
    }

    /// A download under way.
    pub fn part(&self, digest: &Digest) -> PathBuf {
        self.parts().join(digest.to_string())
    }

    /// All downloads under way.
    pub fn parts(&self) -> PathBuf {
        self.root.join("parts")
    }

    /// Bundles that came with the board's image.
    pub fn preload(&self) -> PathBuf {
        self.root.join("preload")
    }

    /// The outbox and history.
    pub fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    /// Blocks that are kept for when the disk is full.
    pub fn reserve(&self) -> PathBuf {
        self.root.join("reserve")
    }

    /// The agent's control socket.
    pub fn socket(&self) -> PathBuf {
        self.root.join("agent.sock")
    }
}
