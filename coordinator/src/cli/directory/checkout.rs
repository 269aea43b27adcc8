//! The git checkout that a directory is in, if it is in one: only asked, never changed.

use std::path::Path;
use std::process::{Command, Stdio};

use serde::Serialize;

/// A checkout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checkout {
    /// The commit's id.
    pub commit: String,
    /// Whether the directory has changes that are in no commit.
    pub dirty: bool,
}

impl Checkout {
    /// Asks git. `None` if the directory is in no checkout, nothing was committed, or git is not there or will not say.
    pub fn of(directory: &Path) -> Option<Self> {
        let commit = ask(directory, &["rev-parse", "--verify", "HEAD"])?.trim().to_owned();
        let is_id = matches!(commit.len(), 40 | 64) && commit.bytes().all(|b| b.is_ascii_hexdigit());
        let changes = ask(directory, &["status", "--porcelain", "--untracked-files=all", "--", "."])?;
        is_id.then(|| Self { commit, dirty: !changes.trim().is_empty() })
    }

    /// The commit in words.
    pub fn text(&self) -> String {
        let with = if self.dirty { " and changes that are in no commit" } else { "" };
        format!("commit {}{with}", self.commit)
    }
}

/// What git answers. Programs that the checkout's own settings name are not run.
fn ask(directory: &Path, words: &[&str]) -> Option<String> {
    let mut git = Command::new("git");
    git.arg("-C").arg(directory).args(["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"]).args(words);
    git.env("GIT_OPTIONAL_LOCKS", "0").stdin(Stdio::null()).stderr(Stdio::null());
    let answer = git.output().ok().filter(|answer| answer.status.success())?;
    String::from_utf8(answer.stdout).ok()
}
