//! The release manifest: what the owner signs. A release's id is the SHA-256 of these bytes.
//!
//! A manifest with a key that this version does not know is refused, not half understood: a constraint that is skipped
//! would be a constraint that does not hold.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::ids::{AppName, Digest, Version};
use crate::limits;

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

/// What happens when the app exits by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Restart {
    /// Restarts in a row before it counts as failed. On trial that refuses the release; afterwards it is reported and
    /// tried again at the longest delay.
    pub restarts_max: u32,
    /// An app that ran this long is no longer counted as restarting, in seconds.
    pub uptime_min_secs: u64,
    /// Delay before the first restart, in milliseconds; it doubles each time.
    pub backoff_ms: u64,
    /// Longest delay, in milliseconds.
    pub backoff_max_ms: u64,
}

impl Default for Restart {
    fn default() -> Self {
        Self { restarts_max: 3, uptime_min_secs: 10, backoff_ms: 200, backoff_max_ms: 30_000 }
    }
}

/// A signal that a program may take as a request to stop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum StopSignal {
    /// SIGTERM
    #[default]
    Term,
    /// SIGINT
    Int,
    /// SIGQUIT
    Quit,
    /// SIGHUP
    Hup,
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

fn invalid(field: impl Into<String>, rule: impl Into<String>) -> InvalidManifest {
    InvalidManifest::Invalid { field: field.into(), rule: rule.into() }
}

fn ensure(good: bool, field: &str, rule: impl FnOnce() -> String) -> Result<(), InvalidManifest> {
    if good { Ok(()) } else { Err(invalid(field, rule())) }
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

fn too_long() -> String {
    format!("is longer than {} bytes", limits::TEXT_BYTES_MAX)
}

fn too_many() -> String {
    "has too many entries".into()
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

impl Run {
    fn validate(&self) -> Result<(), InvalidManifest> {
        check_words("run.exec", &self.exec)?;
        ensure(self.env.len() <= limits::WORDS_MAX, "run.env", too_many)?;
        for (name, value) in &self.env {
            ensure(is_variable(name), "run.env", || format!("{name:?} is not a variable name (A-Z, 0-9 and _)"))?;
            check_text("run.env", value)?;
        }
        ensure(self.stop_grace_secs <= 3_600, "run.stop_grace_secs", || "is longer than an hour".into())?;
        ensure(self.restart.restarts_max <= 1_000, "run.restart.restarts_max", || "is more than 1000".into())?;
        let longest = self.restart.backoff_ms.max(self.restart.backoff_max_ms) / 1_000;
        let longest = longest.max(self.restart.uptime_min_secs);
        ensure(longest <= limits::SECONDS_MAX, "run.restart", || "names a time longer than a day".into())
    }
}

impl Probe {
    /// A probe of `check` with the times and counts that a manifest without them has.
    pub fn new(check: Check) -> Self {
        Self {
            check,
            interval_ms: default_interval(),
            timeout_ms: default_timeout(),
            start_delay_ms: 0,
            successes: default_successes(),
            failures: default_failures(),
        }
    }

    fn validate(&self, field: &str) -> Result<(), InvalidManifest> {
        let longest_ms = self.interval_ms.max(self.timeout_ms).max(self.start_delay_ms);
        ensure(longest_ms <= limits::SECONDS_MAX * 1_000, field, || "names a time longer than a day".into())?;
        ensure(self.interval_ms >= 10, field, || "interval_ms is less than 10".into())?;
        ensure(self.timeout_ms >= 10, field, || "timeout_ms is less than 10".into())?;
        ensure((1..=10_000).contains(&self.successes), field, || "successes is not from 1 to 10000".into())?;
        ensure((1..=10_000).contains(&self.failures), field, || "failures is not from 1 to 10000".into())?;
        match &self.check {
            Check::Http { port, path } => {
                check_text(field, port)?;
                check_text(field, path)?;
                ensure(path.starts_with('/'), field, || format!("the path {path:?} does not begin with '/'"))
            }
            Check::Tcp { port } => check_text(field, port),
            Check::Exec { command } => check_words(field, command),
        }
    }
}

fn check_words(field: &str, words: &[String]) -> Result<(), InvalidManifest> {
    ensure(words.first().is_some_and(|w| !w.is_empty()), field, || "names no program".into())?;
    ensure(words.len() <= limits::WORDS_MAX, field, too_many)?;
    words.iter().try_for_each(|word| check_text(field, word))
}

fn check_text(field: &str, text: &str) -> Result<(), InvalidManifest> {
    ensure(text.len() <= limits::TEXT_BYTES_MAX, field, too_long)?;
    ensure(!text.contains(['\0', '\n', '\r']), field, || "has a line break or NUL in it".into())
}

/// Whether `name` can be an environment variable here: `A-Z`, `0-9`, `_`, not beginning with a digit.
pub fn is_variable(name: &str) -> bool {
    let good = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    !name.is_empty() && name.len() <= 128 && name.bytes().all(good) && !name.as_bytes()[0].is_ascii_digit()
}

impl Tree {
    fn validate(&self, field: &str) -> Result<(), InvalidManifest> {
        ensure(!self.entries.is_empty(), field, || "has no entries".into())?;
        ensure(self.entries.len() <= limits::TREE_ENTRIES_MAX, field, too_many)?;
        ensure(self.size_bytes <= limits::TREE_BYTES_MAX, field, || "is too large".into())?;
        let grown = self.pack.size_bytes.saturating_mul(limits::UNPACK_RATIO_MAX);
        let allowed = grown.saturating_add(limits::UNPACK_SLACK_BYTES);
        ensure(self.size_bytes <= allowed, field, || "would grow too much when unpacked".into())?;
        let mut sum = 0u64;
        let mut seen = Seen::default();
        let mut before: Option<&str> = None;
        for entry in &self.entries {
            let path = entry.path();
            let at = |rule: String| invalid(format!("{field}: {:?}", path.escape_default().to_string()), rule);
            check_path(path).map_err(|rule| at(rule.into()))?;
            if before.is_some_and(|before| before >= path) {
                return Err(at("entries are not sorted by path, or one path is there twice".into()));
            }
            before = Some(path);
            if let Some((parent, _)) = path.rsplit_once('/')
                && !seen.directories.contains(parent)
            {
                return Err(at(format!("its directory {parent:?} is not listed before it as a directory")));
            }
            if !seen.folded.insert(path.to_lowercase()) {
                return Err(at("another path differs from it in upper and lower case alone".into()));
            }
            match entry {
                Entry::File { size_bytes, .. } => {
                    sum = sum.saturating_add(*size_bytes);
                    seen.files.insert(path);
                }
                Entry::Directory { .. } => {
                    seen.directories.insert(path);
                }
                Entry::Link { .. } => {}
            }
        }
        ensure(sum == self.size_bytes, field, || {
            format!("size_bytes is {}, but the files have {sum}", self.size_bytes)
        })?;
        self.entries.iter().try_for_each(|entry| seen.check_link(field, entry))
    }

    fn ensure_executable(&self, command: &str, platform: &str) -> Result<(), InvalidManifest> {
        let found = command.starts_with('/')
            || self.entries.iter().any(|e| matches!(e, Entry::File { path, executable: true, .. } if path == command));
        ensure(found, "exec", || {
            format!("{command:?} is neither an absolute path nor an executable file in the tree of {platform}")
        })
    }
}

#[derive(Default)]
struct Seen<'a> {
    /// All paths without their case: a file system that ignores it could not hold two that differ in nothing else.
    folded: BTreeSet<String>,
    files: BTreeSet<&'a str>,
    directories: BTreeSet<&'a str>,
}

impl Seen<'_> {
    /// A link may lead to a listed file or directory and pass through listed directories only: `..` first, names then.
    /// So no chain of links can leave the tree.
    fn check_link(&self, field: &str, entry: &Entry) -> Result<(), InvalidManifest> {
        let Entry::Link { path, target } = entry else { return Ok(()) };
        let refused = |rule: &str| invalid(format!("{field}: {:?}", path.escape_default().to_string()), rule);
        if target.len() > limits::PATH_BYTES_MAX || target.starts_with('/') {
            return Err(refused("the link leads to an absolute path; links stay in the tree"));
        }
        let mut at: Vec<&str> = path.split('/').collect();
        at.pop();
        let mut names = false;
        for part in target.split('/') {
            if part == ".." {
                if names || at.pop().is_none() {
                    return Err(refused("the link leads out of the tree"));
                }
            } else {
                names = true;
                at.push(part);
            }
        }
        let end = at.join("/");
        let found = self.files.contains(end.as_str()) || self.directories.contains(end.as_str());
        if found { Ok(()) } else { Err(refused("the link does not lead to a file or directory of the tree")) }
    }
}

/// Checks one path of a tree: relative, no empty, `.` or `..` part, printable, within the limits.
pub fn check_path(path: &str) -> Result<(), &'static str> {
    if path.is_empty() || path.len() > limits::PATH_BYTES_MAX {
        return Err("a path must have 1 to 512 bytes");
    }
    if path.starts_with('/') {
        return Err("the path is absolute; paths are relative to the tree");
    }
    if path.chars().any(|c| c.is_control() || c == '\\') {
        return Err("the path has a control character or backslash in it");
    }
    if path.chars().any(is_deceptive) {
        return Err("the path has an invisible or combining character in it; write letters with marks as one (NFC)");
    }
    if path.split('/').count() > limits::TREE_DEPTH_MAX {
        return Err("the path is too deep");
    }
    for part in path.split('/') {
        match part {
            "" | "." => return Err("the path has an empty or '.' part"),
            ".." => return Err("the path has a '..' part"),
            _ if part.len() > 255 => return Err("a part of the path is longer than 255 bytes"),
            _ => {}
        }
    }
    Ok(())
}

/// Characters by which two different paths can look alike, or be one to a file system that normalises names (UAX #15):
/// marks that combine with the letter before, parts of Hangul syllables, and what is not seen at all.
fn is_deceptive(c: char) -> bool {
    matches!(c,
        '\u{300}'..='\u{36f}'
        | '\u{1100}'..='\u{11ff}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{ad}')
}

/// A `${NAME}` that nothing defines, or a `${` without its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} names the variable {name:?}, which neither the manifest's [run.env] nor the node's settings define")]
pub struct UnknownVariable {
    /// The text with the variable in it.
    pub text: String,
    /// The variable.
    pub name: String,
}

/// Replaces each `${NAME}` by its value. Values are not expanded again; `$` alone stands for itself.
pub fn expand(text: &str, variables: &BTreeMap<String, String>) -> Result<String, UnknownVariable> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        let unknown = |name: &str| UnknownVariable { text: text.to_owned(), name: name.to_owned() };
        let (name, after) = after.split_once('}').ok_or_else(|| unknown(after))?;
        out.push_str(variables.get(name).ok_or_else(|| unknown(name))?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests;
