//! The rules of a manifest that its types do not hold by themselves.

use std::collections::BTreeSet;

use super::{
    Check, Entry, InvalidManifest, Probe, Run, Tree, default_failures, default_interval, default_successes,
    default_timeout, is_variable, socket,
};
use crate::limits;

fn invalid(field: impl Into<String>, rule: impl Into<String>) -> InvalidManifest {
    InvalidManifest::Invalid { field: field.into(), rule: rule.into() }
}

pub(super) fn ensure(good: bool, field: &str, rule: impl FnOnce() -> String) -> Result<(), InvalidManifest> {
    if good { Ok(()) } else { Err(invalid(field, rule())) }
}

pub(super) fn too_long() -> String {
    format!("is longer than {} bytes", limits::TEXT_BYTES_MAX)
}

pub(super) fn too_many() -> String {
    "has too many entries".into()
}

impl Run {
    pub(super) fn validate(&self) -> Result<(), InvalidManifest> {
        check_words("run.exec", &self.exec)?;
        ensure(self.env.len() <= limits::WORDS_MAX, "run.env", too_many)?;
        for (name, value) in &self.env {
            ensure(is_variable(name), "run.env", || format!("{name:?} is not a variable name (A-Z, 0-9 and _)"))?;
            check_text("run.env", value)?;
        }
        socket::validate(&self.sockets)?;
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

    pub(super) fn validate(&self, field: &str) -> Result<(), InvalidManifest> {
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

pub(super) fn check_text(field: &str, text: &str) -> Result<(), InvalidManifest> {
    ensure(text.len() <= limits::TEXT_BYTES_MAX, field, too_long)?;
    ensure(!text.contains(['\0', '\n', '\r']), field, || "has a line break or NUL in it".into())
}

impl Tree {
    pub(super) fn validate(&self, field: &str) -> Result<(), InvalidManifest> {
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

    pub(super) fn ensure_executable(&self, command: &str, platform: &str) -> Result<(), InvalidManifest> {
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
