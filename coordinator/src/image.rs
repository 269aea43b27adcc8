//! Stock images of boards, made into images of nodes: offline, without root, without loop devices.
//!
//! The file systems in an image are written by the tools of those who maintain them: e2fsprogs for ext4, mtools for FAT,
//! util-linux for the partition table. The stock image is only ever read. What was written is read back before the new
//! image gets its name.

mod board;
mod customize;
mod ext4;
mod fat;
mod partitions;
mod stock;
mod tools;

use std::path::PathBuf;

use orangery_wire::NodeId;

pub use customize::{Customized, customize};
pub use stock::{Checksum, Stock};

/// What a node's image is to have.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The node's name, also the board's host name.
    pub name: NodeId,
    /// The invite token.
    pub token: String,
    /// The agent's program, for the image's processor; `None` for an image that has one.
    pub agent: Option<PathBuf>,
    /// Bundles with one release each, and the file names that they get: the board installs them without any network.
    pub preload: Vec<(String, PathBuf)>,
    /// Labels of the node.
    pub labels: Vec<(String, String)>,
    /// A wireless network to join.
    pub wifi: Option<Wifi>,
    /// Public keys that may log in as root.
    pub ssh_keys: Option<String>,
}

/// A wireless network.
#[derive(Clone)]
pub struct Wifi {
    /// Its name.
    pub ssid: String,
    /// Its passphrase; `None` for an open one.
    pub passphrase: Option<String>,
    /// The country whose rules of radio hold, as two letters (ISO 3166-1).
    pub country: Option<String>,
}

impl std::fmt::Debug for Wifi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wifi").field("ssid", &self.ssid).field("country", &self.country).finish_non_exhaustive()
    }
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A program is missing.
    #[error("cannot run `{program}`, which this needs; install it: apt-get install {package}")]
    MissingTool {
        /// The program.
        program: &'static str,
        /// Debian's package with it.
        package: &'static str,
    },
    /// A program failed.
    #[error("`{program}` failed: {reason}")]
    Tool {
        /// The program.
        program: &'static str,
        /// What it says.
        reason: String,
    },
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {path}; nothing is left of it")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is there.
    #[error("{path} is there already; name another file, or write over it with --force")]
    OutExists {
        /// The file.
        path: PathBuf,
    },
    /// It is the stock image.
    #[error("{path} is the stock image, which is never written to; name another file with --out")]
    OutIsStock {
        /// The file.
        path: PathBuf,
    },
    /// Nobody says what the stock image should be.
    #[error(
        "there is no checksum for {path}: put the vendor's beside it as {beside}, or give it with --checksum; \
         --unchecked goes without"
    )]
    NoChecksum {
        /// The stock image.
        path: PathBuf,
        /// Where it is looked for.
        beside: String,
    },
    /// It is something else.
    #[error(
        "{path} is not what its vendor published: its SHA-256 is {found}, and should be {expected}; download it again"
    )]
    WrongChecksum {
        /// The stock image.
        path: PathBuf,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// Compressed in a way that is not known, or not an image.
    #[error("{path} cannot be used: {reason}")]
    NotAnImage {
        /// The stock image.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The image does not fit where it is to go.
    #[error("{path} needs {needed_bytes} bytes, and {free_bytes} are free there; free space or name another place")]
    NoSpace {
        /// Where it is to go.
        path: PathBuf,
        /// How much it takes.
        needed_bytes: u64,
        /// How much there is.
        free_bytes: u64,
    },
    /// Nothing in it looks like a board's system.
    #[error(
        "{path} has no partition that can be used: {found}; images of Armbian, Raspberry Pi OS and Debian have an ext4 \
         partition with /etc/os-release"
    )]
    UnknownLayout {
        /// The stock image.
        path: PathBuf,
        /// What is there.
        found: String,
    },
    /// The root partition is too full.
    #[error(
        "the image's root partition has {free_bytes} bytes left, and {needed_bytes} are needed; let it grow with --grow 256M"
    )]
    PartitionFull {
        /// How much is left.
        free_bytes: u64,
        /// How much is needed.
        needed_bytes: u64,
    },
    /// The agent is for another processor.
    #[error("{agent} is for {found}, and the image for {expected}; give the agent of that processor with --agent")]
    WrongProcessor {
        /// The agent's program.
        agent: PathBuf,
        /// What it is for.
        found: String,
        /// What the image is for.
        expected: String,
    },
    /// The image's system lacks something that was asked for.
    #[error("the image cannot have {what}: {reason}")]
    Unsupported {
        /// What was asked for.
        what: &'static str,
        /// What is missing.
        reason: String,
    },
    /// What was written is not what is read.
    #[error("{subject} is not in the image as it was written; the tools on this machine cannot write this image")]
    NotWritten {
        /// The file in the image.
        subject: String,
    },
}
