//! The release manifest: what the owner signs. A release's id is the SHA-256 of these bytes.
//!
//! A manifest with a key that this version does not know is refused, not half understood: a constraint that is skipped
//! would be a constraint that does not hold.

mod gate;
mod restart;
mod rules;
mod socket;
mod variables;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{AppName, Digest, Version};
use crate::limits;
pub use gate::{Connectivity, Gate};
pub use restart::{Restart, StopSignal};
pub use rules::check_path;
use rules::{ensure, too_long, too_many};
pub use socket::{Socket, UnusableSocket};
pub use variables::{UnknownVariable, expand, is_variable};

/// The manifest format that this version reads and writes.
pub const FORMAT: u32 = 1;

/// A release of one app for one or more platforms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Always [`FORMAT`].
    pub format: u32,
    /// The app.
    pub app: AppName,
    /// The version, unique within the app.
    pub version: Version,
    /// What changed, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
    /// The source revision that it was built from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Which nodes may run it.
    #[serde(default)]
    pub constraints: Constraints,
    /// How it runs.
    pub run: Run,
    /// How one knows that it is well.
    #[serde(default)]
    pub probes: Vec<Probe>,
    /// How long all probes must hold before the release becomes current, in seconds.
    #[serde(default)]
    pub soak_secs: u64,
    /// What else must hold before the release becomes current.
    #[serde(default, skip_serializing_if = "Gate::is_default")]
    pub gate: Gate,
    /// The files, for each platform such as `linux/arm64`.
    pub platforms: BTreeMap<String, Tree>,
}

/// Which nodes a release allows. Empty means any.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Constraints {
    /// Labels that the node must have, each with this value.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Board models, one of which the node must be (the device tree's `model`, compared without case).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub boards: Vec<String>,
    /// The oldest agent that may run it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_min: Option<Version>,
}

/// Which part of the node runs the app.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runner {
    /// Whatever the node's settings say.
    #[default]
    Any,
    /// A child of the agent in its own process group.
    Process,
    /// A systemd unit.
    Systemd,
}

/// How the app runs. Texts may name variables as `${NAME}`; see [`expand`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// What runs it.
    #[serde(default)]
    pub runner: Runner,
    /// The command: a path in the tree (or an absolute path of the node's own system) and its arguments.
    pub exec: Vec<String>,
    /// Environment variables. The node's settings for the app are laid over them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Sockets that are held for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sockets: Vec<Socket>,
    /// What happens when it exits.
    #[serde(default)]
    pub restart: Restart,
    /// The signal that asks it to stop.
    #[serde(default)]
    pub stop_signal: StopSignal,
    /// How long it may take to stop before it is killed, in seconds.
    #[serde(default = "default_grace")]
    pub stop_grace_secs: u64,
    /// Memory limit in bytes (systemd runner).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes_max: Option<u64>,
    /// CPU limit in percent of one core (systemd runner).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_percent_max: Option<u32>,
    /// Whether systemd confines it (systemd runner): a dynamic user, a read-only system, no new privileges.
    #[serde(default = "default_true")]
    pub sandbox: bool,
}

fn default_grace() -> u64 {
    10
}

fn default_true() -> bool {
    true
}

/// One question to the app, asked again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// What is asked.
    pub check: Check,
    /// Time from one question to the next, in milliseconds.
    #[serde(default = "default_interval")]
    pub interval_ms: u64,
    /// Time for an answer, in milliseconds.
    #[serde(default = "default_timeout")]
    pub timeout_ms: u64,
    /// Time before failures count, in milliseconds.
    #[serde(default)]
    pub start_delay_ms: u64,
    /// Good answers in a row that it takes.
    #[serde(default = "default_successes")]
    pub successes: u32,
    /// Bad answers in a row that refuse the release.
    #[serde(default = "default_failures")]
    pub failures: u32,
}

fn default_interval() -> u64 {
    1_000
}
fn default_timeout() -> u64 {
    2_000
}
fn default_successes() -> u32 {
    1
}
fn default_failures() -> u32 {
    3
}

/// What a probe asks. Ports and paths may name variables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Check {
    /// GET on 127.0.0.1; any status from 200 to 399 is good.
    Http {
        /// The port, as text, so that it can be a variable.
        port: String,
        /// The path, beginning with `/`.
        path: String,
    },
    /// A connection to 127.0.0.1 is accepted.
    Tcp {
        /// The port, as text, so that it can be a variable.
        port: String,
    },
    /// A command exits with 0; the first word as in [`Run::exec`].
    Exec {
        /// The command and its arguments.
        command: Vec<String>,
    },
}

/// All files of one platform, and the one artifact that carries them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tree {
    /// Sum of the sizes of all files, in bytes.
    pub size_bytes: u64,
    /// The artifact.
    pub pack: Pack,
    /// Every file, directory and link, sorted by path; each directory before what is in it.
    pub entries: Vec<Entry>,
}

/// The artifact of one platform: the contents of the tree's files, one after the other in the order of the entries,
/// compressed as a whole. There is no archive format and so nothing in it to parse: the manifest says where each file
/// ends and what its digest must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pack {
    /// SHA-256 of the packed bytes.
    pub digest: Digest,
    /// Count of the packed bytes.
    pub size_bytes: u64,
    /// How they are compressed.
    pub encoding: Encoding,
}

/// How a pack is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// One Zstandard frame (RFC 8878) with a window of at most 8 MiB.
    Zstd,
    /// Not at all.
    None,
}

/// One entry of a tree. There is no way to say "setuid", "device" or "owned by".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Entry {
    /// A regular file, mode 0444 or 0555.
    File {
        /// Where, relative to the tree.
        path: String,
        /// SHA-256 of its content.
        digest: Digest,
        /// Its size.
        size_bytes: u64,
        /// Whether it can be executed.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        executable: bool,
    },
    /// A directory, mode 0755.
    Directory {
        /// Where, relative to the tree.
        path: String,
    },
    /// A symbolic link to a file or directory of the same tree, reached through directories alone.
    Link {
        /// Where, relative to the tree.
        path: String,
        /// What the link says, relative to the link's own directory.
        target: String,
    },
}

impl Entry {
    /// Where, relative to the tree.
    pub fn path(&self) -> &str {
        match self {
            Self::File { path, .. } | Self::Directory { path } | Self::Link { path, .. } => path,
        }
    }
}

/// Why a manifest is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidManifest {
    /// Not JSON, a key missing, a key unknown, or a value of the wrong kind.
    #[error("the manifest cannot be read: {0}")]
    Unreadable(String),
    /// Too large to be read at all.
    #[error("the manifest has {size} bytes; at most {max} are allowed")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The limit.
        max: usize,
    },
    /// A rule is broken.
    #[error("the manifest is not valid: {field}: {rule}")]
    Invalid {
        /// The field, as a path of keys.
        field: String,
        /// The rule.
        rule: String,
    },
}

impl Manifest {
    /// Reads and checks a manifest.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidManifest> {
        if bytes.len() > limits::MANIFEST_BYTES_MAX {
            return Err(InvalidManifest::TooLarge { size: bytes.len(), max: limits::MANIFEST_BYTES_MAX });
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(|e| InvalidManifest::Unreadable(e.to_string()))?;
        manifest.validate()?;
        Ok(manifest)
    }

    /// The bytes that are signed. The same manifest always gives the same bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Maps are ordered and no value can fail to serialise.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The name of the release's TUF target: `APP/VERSION/manifest.json`.
    pub fn target_path(&self) -> String {
        target_path(&self.app, &self.version)
    }

    /// Checks every rule that the types do not hold by themselves.
    pub fn validate(&self) -> Result<(), InvalidManifest> {
        ensure(self.format == FORMAT, "format", || {
            format!("is {}, and this version knows {FORMAT}; update the agent", self.format)
        })?;
        let texts = self.notes.iter().chain(&self.source);
        ensure(texts.map(String::len).all(|n| n <= limits::TEXT_BYTES_MAX), "notes, source", too_long)?;
        ensure(self.constraints.labels.len() <= limits::LABELS_MAX, "constraints.labels", too_many)?;
        ensure(self.constraints.boards.len() <= limits::LABELS_MAX, "constraints.boards", too_many)?;
        ensure(self.soak_secs <= limits::SECONDS_MAX, "soak_secs", || "is longer than a day".into())?;
        self.gate.validate()?;
        ensure(!self.platforms.is_empty(), "platforms", || "is empty; a release needs at least one".into())?;
        ensure(self.platforms.len() <= limits::PLATFORMS_MAX, "platforms", too_many)?;
        ensure(self.probes.len() <= limits::PROBES_MAX, "probes", too_many)?;
        self.run.validate()?;
        for (n, probe) in self.probes.iter().enumerate() {
            probe.validate(&format!("probes[{n}]"))?;
        }
        for (name, tree) in &self.platforms {
            ensure(is_platform(name), "platforms", || format!("{name:?} is not like linux/arm64"))?;
            tree.validate(&format!("platforms.{name}"))?;
            for command in self.commands() {
                tree.ensure_executable(command, name)?;
            }
        }
        Ok(())
    }

    fn commands(&self) -> impl Iterator<Item = &str> {
        let probes = self.probes.iter().filter_map(|probe| match &probe.check {
            Check::Exec { command } => command.first(),
            Check::Http { .. } | Check::Tcp { .. } => None,
        });
        self.run.exec.first().into_iter().chain(probes).map(String::as_str)
    }
}

/// The name of a release's TUF target.
pub fn target_path(app: &AppName, version: &Version) -> String {
    format!("{app}/{version}/manifest.json")
}

/// Whether `name` looks like `linux/arm64`.
pub fn is_platform(name: &str) -> bool {
    let word = |w: &str| {
        !w.is_empty() && w.len() <= 32 && w.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    name.split_once('/').is_some_and(|(os, arch)| word(os) && arch.split('/').all(word) && arch.split('/').count() <= 2)
}

/// The platform that this program was built for, as manifests name it.
pub fn this_platform() -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{}/{arch}", std::env::consts::OS)
}

#[cfg(test)]
mod tests;
