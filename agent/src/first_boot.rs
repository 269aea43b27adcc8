//! Enrolment of a freshly flashed board: a file on the boot partition, where a laptop can put it, has an invite token.
//!
//! The agent joins by itself, wipes the token, and says in plain text beside it how that went, for whoever takes the card
//! out again. A power cut between the two is mended by the next start: [`clean`].

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use orangery_wire::NodeId;
use orangery_wire::token::Token;
use serde::Deserialize;

use crate::backoff;
use crate::clock::Clock;
use crate::disk::Disk;
use crate::errors::chain;
use crate::identity::{self, Identity, JoinError};
use crate::layout::Layout;

/// What is written beside the file.
const OUTCOME: &str = "orangery-status.txt";
/// Longest file that is read.
const BYTES_MAX: u64 = 16 * 1024;
/// Attempts in one run of the agent: about a minute. Then it ends and is started again.
const ATTEMPTS: u32 = 6;
/// Pause after the first of them; it doubles.
const PAUSE: Duration = Duration::from_secs(2);
/// Longest pause between two of them.
const PAUSE_MAX: Duration = Duration::from_secs(20);
/// Pause after an answer that asking again will not change: somebody has to bring another token.
const REFUSED_PAUSE: Duration = Duration::from_mins(2);

/// The file's content.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    token: Option<String>,
    name: Option<NodeId>,
}

/// Why the node has not joined by its file.
#[derive(Debug, thiserror::Error)]
pub enum FirstBootError {
    /// It is not one.
    #[error("cannot use {path}: {reason}; it needs `token = \"…\"` with a token from `orangery node invite`")]
    Understand {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The coordinator was not reached, or refused.
    #[error("cannot join with the token in {path}")]
    Join {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<JoinError>,
    },
}

/// What a file on the boot partition says.
#[derive(Debug)]
pub struct Invited {
    /// The token.
    pub token: Token,
    /// The name that the node asks for: the one in the file, or the host's.
    pub name: Option<NodeId>,
}

/// What the first of `files` that is there says, if it can be understood.
pub fn invited(files: &[PathBuf]) -> Option<Invited> {
    files.iter().find(|path| path.exists()).and_then(|path| understood(path).ok())
}

fn understood(path: &Path) -> Result<Invited, FirstBootError> {
    let understand = |reason| FirstBootError::Understand { path: path.to_owned(), reason };
    let text = read(path).map_err(|error| understand(error.to_string()))?;
    let written: Written = toml::from_str(&text).map_err(|error| understand(error.message().to_owned()))?;
    let token = written.token.ok_or_else(|| understand("there is no token in it".to_owned()))?;
    let token = token.trim().parse().map_err(|error| understand(format!("{error}")))?;
    let host = || crate::run::host_name()?.parse().ok();
    Ok(Invited { token, name: written.name.or_else(host) })
}

/// Joins with the first of `files` that is there; `None` if none is. Tries for about a minute, and says beside the file how it
/// went. May be repeated.
pub async fn join(
    files: &[PathBuf],
    disk: &dyn Disk,
    layout: &Layout,
    clock: &Arc<Clock>,
) -> Result<Option<Identity>, FirstBootError> {
    let Some(path) = files.iter().find(|path| path.exists()) else { return Ok(None) };
    match attempts(path, disk, layout, clock).await {
        Ok(identity) => {
            clean(files, &identity);
            Ok(Some(identity))
        }
        Err(error) => {
            not_yet(path, &error);
            if !is_transient(&error) {
                tracing::error!(reason = %chain(&error), "the node cannot join; waiting for another token");
                tokio::time::sleep(REFUSED_PAUSE).await;
            }
            Err(error)
        }
    }
}

/// Wipes the token of a node that has joined, and says what it is.
pub fn clean(files: &[PathBuf], identity: &Identity) {
    for path in files {
        let Ok(text) = read(path) else { continue };
        if toml::from_str::<Written>(&text).is_ok_and(|written| written.token.is_none()) {
            continue;
        }
        match wipe(path, text.len(), identity) {
            Ok(()) => tracing::info!(node = %identity.node, "joined, and wiped the token from the boot partition"),
            // It opens nothing any more: a token is used up by joining.
            Err(error) => tracing::warn!(path = %path.display(), reason = %error, "cannot wipe the token"),
        }
        say(path, &format!("This node is {} and belongs to {}.\n", identity.node, identity.url));
    }
}

async fn attempts(
    path: &Path,
    disk: &dyn Disk,
    layout: &Layout,
    clock: &Arc<Clock>,
) -> Result<Identity, FirstBootError> {
    let Invited { token, name } = understood(path)?;
    let wish = name.as_ref().map(NodeId::as_str);
    let mut attempt = 1;
    loop {
        match identity::join(disk, layout, &token, wish, clock).await {
            Ok(identity) => return Ok(identity),
            Err(error) => {
                let error = FirstBootError::Join { path: path.to_owned(), source: Box::new(error) };
                if attempt == ATTEMPTS || !is_transient(&error) {
                    return Err(error);
                }
                not_yet(path, &error);
                tracing::warn!(reason = %chain(&error), "the node has not joined; will try again");
            }
        }
        tokio::time::sleep(backoff::delay(attempt, PAUSE, PAUSE_MAX, backoff::random())).await;
        attempt += 1;
    }
}

/// Whether the same token may do the next time.
fn is_transient(error: &FirstBootError) -> bool {
    match error {
        FirstBootError::Understand { .. } => false,
        FirstBootError::Join { source, .. } => {
            matches!(**source, JoinError::Reach { .. } | JoinError::Write { .. } | JoinError::Answer { .. })
        }
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// Writes over the very bytes first: the boot partition's file system would otherwise only forget where they are.
fn wipe(path: &Path, length: usize, identity: &Identity) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.write_all("#".repeat(length).as_bytes())?;
    file.sync_all()?;
    let text = format!("# This node has joined as {}; the token was removed.\n", identity.node);
    std::fs::write(path, text)?;
    std::fs::File::open(path)?.sync_all()
}

fn not_yet(path: &Path, error: &FirstBootError) {
    say(path, &format!("This node has not joined yet.\n\n{}\n\nIt goes on trying.\n", chain(error)));
}

/// Writes the outcome if it is another one than before: cards wear out.
fn say(path: &Path, text: &str) {
    let outcome = path.with_file_name(OUTCOME);
    if read(&outcome).is_ok_and(|before| before == text) {
        return;
    }
    let written = std::fs::write(&outcome, text).and_then(|()| std::fs::File::open(&outcome)?.sync_all());
    if let Err(error) = written {
        tracing::warn!(path = %outcome.display(), reason = %error, "cannot say on the boot partition how the node is");
    }
}
