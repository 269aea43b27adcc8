//! The desired fleet as a directory of text files, and what would have to be done for it. Pure: this module names no clock,
//! file, socket or task; `cli::directory` reads, asks and does.
//!
//! ```text
//! fleet.toml          the format, and whose fleet it is (optional, like all that follows)
//! channels.toml       names for versions: what `stable` means for each app
//! rollouts.toml       by which rules a change is brought to nodes
//! apps/APP.toml       which version or channel an app has: by default, and in groups
//! groups/GROUP.toml   nodes by name or by label
//! nodes/NODE.toml     what one node has otherwise, and why it is held
//! ```
//!
//! [`Desired::parse`] understands the files, [`resolve`] says what they mean for the nodes that there are, [`draft`] what is to
//! be done, [`export`] is the way back. What the directory does not speak of is left alone.

use std::fmt;

mod export;
mod files;
mod groups;
mod holds;
mod parse;
mod plan;
mod resolve;
mod schema;
mod steps;
mod world;

pub use export::export;
pub use files::{AppFile, Choice, FleetFile, GroupFile, HoldFile, NodeApp, NodeFile, PolicyFile, Wish};
pub use groups::GroupChange;
pub use holds::{HoldChange, written_reason};
pub use parse::{Desired, FORMAT};
pub use plan::{Plan, PlannedRollout, PlannedStop};
pub use resolve::{Resolved, Target, Unknown, resolve};
pub use schema::schemas;
pub use steps::{Alone, Draft, DraftRollout, Kept, Step, UnderWay, draft};
pub use world::{Heading, World};

/// The files of a directory: their paths in it, with `/`, and their texts.
pub type Files = std::collections::BTreeMap<String, String>;

/// Most files of a directory.
pub const FILES_MAX: usize = 20_000;
/// Longest file, in bytes.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Most bytes of all files together.
pub const ALL_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// So many mistakes are told at once.
const TOLD_MAX: usize = 20;

/// What is wrong with a directory: each text names the file and what to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<String>);

impl Problems {
    fn add(&mut self, problem: impl Into<String>) {
        self.0.push(problem.into());
    }

    /// `value`, if nothing is wrong.
    fn none_or<T>(self, value: T) -> Result<T, Self> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told: Vec<&str> = self.0.iter().take(TOLD_MAX).map(String::as_str).collect();
        f.write_str(&told.join("\n"))?;
        match self.0.len().saturating_sub(TOLD_MAX) {
            0 => Ok(()),
            more => write!(f, "\n... and {more} more"),
        }
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests;
