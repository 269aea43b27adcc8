//! Debian's prometheus-node-exporter, older and newer: software that none of us wrote. `tests/debian-packages.sh` fetches it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::succeed;

/// One version of it.
pub struct Exporter {
    /// What its own metrics call it.
    pub version: String,
    /// Its files, with the program at `usr/bin/prometheus-node-exporter`.
    pub tree: PathBuf,
}

/// The older and the newer for an architecture of Debian's (`amd64`, `arm64`), unpacked below `into`; `None` if they have not been
/// fetched.
pub fn exporters(architecture: &str, into: &Path) -> Option<[Exporter; 2]> {
    let cache = std::env::var_os("ORANGERY_CACHE").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/orangery")))?;
    let packages = cache.join("node-exporter");
    let one = |suite| unpacked(&package(&packages.join(suite), architecture)?, into.join(suite));
    Some([one("bullseye")?, one("bookworm")?])
}

fn package(directory: &Path, architecture: &str) -> Option<PathBuf> {
    let end = format!("_{architecture}.deb");
    let mut files = std::fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path());
    files.find(|file| file.to_string_lossy().ends_with(&end))
}

fn unpacked(package: &Path, tree: PathBuf) -> Option<Exporter> {
    let version = package.file_name()?.to_str()?.split('_').nth(1)?.split(['-', '+']).next()?.to_owned();
    succeed(Command::new("dpkg-deb").arg("-x").arg(package).arg(&tree));
    Some(Exporter { version, tree })
}
