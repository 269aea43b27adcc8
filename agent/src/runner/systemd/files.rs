//! The files that systemd is told by. A proven release has a unit in /etc and a link that starts it at boot; a trial has a
//! drop-in over that unit, or before the first proven release a whole unit, in /run, where a power cut takes it.

use std::io;
use std::path::{Path, PathBuf};

use orangery_wire::AppName;

use super::sockets::SocketFiles;
use super::unit::MARK;
use crate::disk::{self, Disk, RealDisk};

const FILE_MODE: u32 = 0o644;
const DIR_MODE: u32 = 0o755;
/// Longest unit that is read, in bytes; ours have a few thousand.
const UNIT_BYTES_MAX: usize = 16 << 20;

/// The files of one app's unit.
#[derive(Debug, Clone)]
pub struct Files {
    /// The unit's name.
    pub unit: String,
    /// The unit of the proven release.
    pub proven: PathBuf,
    enabled: PathBuf,
    /// The unit of a trial without a proven release below it.
    pub trial: PathBuf,
    drop_in: PathBuf,
    /// Those of its sockets.
    pub sockets: SocketFiles,
}

/// A file that could not be changed.
pub type Failure = String;

impl Files {
    /// The files of `app` in systemd's two directories.
    pub fn new(app: &AppName, unit_dir: &Path, runtime_unit_dir: &Path) -> Self {
        let unit = format!("orangery-{app}.service");
        Self {
            proven: unit_dir.join(&unit),
            enabled: unit_dir.join("multi-user.target.wants").join(&unit),
            trial: runtime_unit_dir.join(&unit),
            drop_in: runtime_unit_dir.join(format!("{unit}.d")).join("trial.conf"),
            sockets: SocketFiles::new(app, unit_dir, runtime_unit_dir),
            unit,
        }
    }

    /// Whether there is any.
    pub fn any(&self) -> bool {
        [&self.proven, &self.enabled, &self.trial, &self.drop_in].iter().any(|path| exists(path)) || self.sockets.any()
    }

    /// Whether there is a unit of a proven release.
    pub fn has_proven(&self) -> bool {
        exists(&self.proven)
    }

    /// Fails if the unit of the proven release is somebody else's.
    pub fn ensure_ours(&self) -> Result<(), Failure> {
        match read(&self.proven) {
            Some(text) if !text.starts_with(MARK) => Err(format!(
                "the unit {} was not written by Orangery and stays as it is; rename the app, or remove that unit",
                self.proven.display()
            )),
            _ => Ok(()),
        }
    }

    /// The longest time that any of the units gives its app to stop, in seconds.
    pub fn grace_secs(&self) -> u64 {
        let texts = [&self.proven, &self.trial, &self.drop_in].into_iter().filter_map(|path| read(path));
        texts.filter_map(|text| grace_in(&text)).max().unwrap_or(0)
    }

    /// Makes `unit` the unit of the proven release, starting at boot, and removes what a trial left. Durable. Says whether
    /// systemd must read its units anew.
    pub fn prove(&self, unit: &str) -> Result<bool, Failure> {
        let mut changed = false;
        if read(&self.proven).as_deref() != Some(unit) {
            replace(&self.proven, unit)?;
            changed = true;
        }
        if std::fs::read_link(&self.enabled).ok().as_deref() != Some(&self.proven) {
            let made =
                make_parent(&self.enabled).and_then(|()| disk::replace_link(&RealDisk, &self.enabled, &self.proven));
            made.map_err(|error| failed("make the link", &self.enabled, &error))?;
            changed = true;
        }
        Ok(self.remove_trial()? || changed)
    }

    /// Writes a trial: over the unit of the proven release if there is one. `drop_in` and `unit` are the two forms of it.
    pub fn try_out(&self, drop_in: &str, unit: &str) -> Result<bool, Failure> {
        let (path, text, other) =
            if self.has_proven() { (&self.drop_in, drop_in, &self.trial) } else { (&self.trial, unit, &self.drop_in) };
        let removed = remove(other)?;
        if read(path).as_deref() == Some(text) {
            return Ok(removed);
        }
        replace(path, text)?;
        Ok(true)
    }

    /// Removes what a trial left.
    pub fn remove_trial(&self) -> Result<bool, Failure> {
        let removed = remove(&self.drop_in)? | remove(&self.trial)?;
        if let Some(directory) = self.drop_in.parent() {
            // Not empty: an operator's own drop-in stays.
            let _ = std::fs::remove_dir(directory);
        }
        Ok(removed)
    }

    /// Removes everything; what starts at boot goes first.
    pub fn remove_all(&self) -> Result<bool, Failure> {
        Ok(remove(&self.enabled)? | remove(&self.proven)? | self.remove_trial()? | self.sockets.tidy(&[])?)
    }
}

fn grace_in(text: &str) -> Option<u64> {
    let value = text.lines().rev().find_map(|line| line.strip_prefix("TimeoutStopSec="))?;
    value.strip_suffix('s')?.parse().ok()
}

/// Whether something of that name is there; a link need not lead anywhere.
pub fn exists(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}

/// The text of a file that is there and is one.
pub fn read(path: &Path) -> Option<String> {
    String::from_utf8(RealDisk.read(path, UNIT_BYTES_MAX).ok()?).ok()
}

/// Puts a file in place durably, with its directory.
pub fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let written = make_parent(path).and_then(|()| disk::replace(&RealDisk, path, text.as_bytes(), FILE_MODE));
    written.map_err(|error| failed("write the unit", path, &error))
}

pub fn make_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| disk::make_dir(&RealDisk, parent, DIR_MODE))
}

/// Removes a file durably; says whether it was there.
pub fn remove(path: &Path) -> Result<bool, Failure> {
    if !exists(path) {
        return Ok(false);
    }
    disk::remove(&RealDisk, path).map_err(|error| failed("remove", path, &error))?;
    Ok(true)
}

/// A failure in words.
pub fn failed(deed: &str, path: &Path, error: &io::Error) -> Failure {
    format!("cannot {deed} {}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER: &str = "[Service]\n";

    fn files() -> (tempfile::TempDir, Files) {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::new(&"a".parse().unwrap(), &directory.path().join("etc"), &directory.path().join("run"));
        (directory, files)
    }

    #[test]
    fn a_first_trial_leaves_nothing_that_a_reboot_would_find() {
        let (directory, files) = files();
        assert_eq!(files.try_out("drop-in", "unit"), Ok(true));
        assert_eq!(files.try_out("drop-in", "unit"), Ok(false), "nothing to read anew");
        assert!(!directory.path().join("etc").exists());
        assert_eq!(read(&files.trial).as_deref(), Some("unit"));
    }

    #[test]
    fn a_later_trial_lies_over_the_proven_unit_and_a_commit_takes_its_place() {
        let (_keep, files) = files();
        assert_eq!(files.prove("one"), Ok(true));
        assert_eq!(files.prove("one"), Ok(false));
        files.try_out("drop-in", "unit").unwrap();
        assert_eq!(read(&files.proven).as_deref(), Some("one"));
        assert_eq!(read(&files.drop_in).as_deref(), Some("drop-in"));
        assert!(!exists(&files.trial));
        assert_eq!(files.prove("two"), Ok(true));
        assert_eq!(read(&files.proven).as_deref(), Some("two"));
        assert!(!exists(files.drop_in.parent().unwrap()));
        assert_eq!(std::fs::read_link(&files.enabled).unwrap(), files.proven);
    }

    #[test]
    fn removing_leaves_nothing_and_may_be_repeated() {
        let (_keep, files) = files();
        files.prove("one").unwrap();
        files.try_out("drop-in", "unit").unwrap();
        assert!(files.any());
        assert_eq!(files.remove_all(), Ok(true));
        assert_eq!(files.remove_all(), Ok(false));
        assert!(!files.any());
    }

    #[test]
    fn a_unit_that_is_not_ours_is_left_alone() {
        let (_keep, files) = files();
        assert_eq!(files.ensure_ours(), Ok(()));
        replace(&files.proven, OTHER).unwrap();
        assert!(files.ensure_ours().unwrap_err().contains("orangery-a.service"));
        replace(&files.proven, MARK).unwrap();
        assert_eq!(files.ensure_ours(), Ok(()));
    }

    #[test]
    fn the_longest_grace_of_any_unit_counts() {
        let (_keep, files) = files();
        assert_eq!(files.grace_secs(), 0);
        files.prove("TimeoutStopSec=30s\n").unwrap();
        files.try_out("TimeoutStopSec=5s\n", "").unwrap();
        assert_eq!(files.grace_secs(), 30);
    }
}
