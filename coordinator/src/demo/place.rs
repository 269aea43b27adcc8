//! The demo's directory, and what may be left running out of it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

use crate::home::Home;
use crate::output;

/// A temporary directory with everything that the demo makes.
pub struct Place {
    directory: Option<tempfile::TempDir>,
    root: PathBuf,
    is_kept: bool,
}

impl Place {
    /// Makes it, for this user alone.
    pub fn make(is_kept: bool) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("orangery-demo-")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir()
            .context("cannot make a temporary directory for the demo")?;
        let root = directory.path().canonicalize()?;
        for name in ["logs", "nodes", "releases"] {
            fs::create_dir(root.join(name))?;
        }
        Ok(Self { directory: Some(directory), root, is_kept })
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What `orangery init` makes.
    pub fn home(&self) -> Home {
        Home::new(self.root.join("home"))
    }

    /// One node's directory.
    pub fn node(&self, name: &str) -> PathBuf {
        self.root.join("nodes").join(name)
    }

    /// One release's files.
    pub fn release(&self, version: &str) -> PathBuf {
        self.root.join("releases").join(version)
    }

    /// One program's log.
    pub fn log(&self, name: &str) -> PathBuf {
        self.root.join("logs").join(format!("{name}.log"))
    }

    /// The file in which the coordinator says that it is ready.
    pub fn ready_file(&self) -> PathBuf {
        self.root.join("coordinator-ready.json")
    }

    /// Kills every process whose program lies in this directory: apps whose agent could not stop them.
    pub fn kill_apps(&self) {
        for pid in self.apps() {
            // It may end between the look and the signal; the number is not given out again so soon.
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    fn apps(&self) -> Vec<Pid> {
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let is_ours =
            |pid: &i32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|program| program.starts_with(&self.root));
        numbers.filter(is_ours).filter_map(Pid::from_raw).collect()
    }

    /// Removes the directory, unless it is to be kept; then it says where it is.
    pub fn close(mut self) -> anyhow::Result<()> {
        let Some(directory) = self.directory.take() else { return Ok(()) };
        if self.is_kept {
            output::note(format!("Everything is left in {}", directory.keep().display()));
            return Ok(());
        }
        make_writable(&self.root);
        let path = directory.path().display().to_string();
        directory.close().with_context(|| format!("cannot remove {path}"))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Only after a failure that nobody foresaw is it still here.
        if self.directory.is_some() {
            self.kill_apps();
            make_writable(&self.root);
        }
    }
}

/// Releases on a node are read-only, directories as well; an ordinary user must change that before they can be removed.
fn make_writable(directory: &Path) {
    drop(fs::set_permissions(directory, fs::Permissions::from_mode(0o700)));
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            make_writable(&entry.path());
        }
    }
}
