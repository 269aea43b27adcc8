//! The files that systemd is told by when the agent replaces itself, in the order in which one lies over the other:
//!
//! | file | what | gone with |
//! | --- | --- | --- |
//! | the package's unit | the program of the package | the package |
//! | `/etc/.../UNIT.d/10-orangery-current.conf` | the proven release | its successor |
//! | `/run/.../UNIT.d/20-orangery-trial.conf` | the release on trial | commit, way back, power cut |
//! | `/run/.../UNIT.d/30-orangery-package.conf` | the program of the package, because the proven release does not start | reboot, another trial |

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use orangery_wire::ReleaseId;

use super::super::systemd::files::{Failure, exists, failed, read, remove, replace};
use super::text::{self, Started};

/// The files of the agent's own unit.
#[derive(Debug, Clone)]
pub struct Files {
    /// The unit's name.
    pub unit: String,
    current: PathBuf,
    package_ready: PathBuf,
    package_service: PathBuf,
    trial: PathBuf,
    taken_back: PathBuf,
    package: PathBuf,
    restore_service: PathBuf,
    restore_timer: PathBuf,
}

impl Files {
    /// The files of `unit` in systemd's two directories.
    pub fn new(unit: &str, unit_dir: &Path, runtime_unit_dir: &Path) -> Self {
        let (durable, fleeting) = (unit_dir.join(format!("{unit}.d")), runtime_unit_dir.join(format!("{unit}.d")));
        let stem = unit.trim_end_matches(".service");
        Self {
            unit: unit.to_owned(),
            current: durable.join("10-orangery-current.conf"),
            // systemd reads only what ends in ".conf".
            package_ready: durable.join("orangery-package"),
            package_service: unit_dir.join(format!("{stem}.package.service")),
            trial: fleeting.join("20-orangery-trial.conf"),
            taken_back: fleeting.join("orangery-taken-back"),
            package: fleeting.join("30-orangery-package.conf"),
            restore_service: runtime_unit_dir.join(format!("{stem}.restore.service")),
            restore_timer: runtime_unit_dir.join(format!("{stem}.restore.timer")),
        }
    }

    /// The timer that ends a trial.
    pub fn timer_unit(&self) -> String {
        name(&self.restore_timer)
    }

    /// Whether that timer may be running.
    pub fn has_timer(&self) -> bool {
        exists(&self.restore_timer)
    }

    /// The release whose trial systemd ended in this boot.
    pub fn taken_back(&self) -> Option<ReleaseId> {
        text::release(&read(&self.taken_back)?)
    }

    /// When that trial began, as Unix time.
    pub fn tried_at(&self) -> u64 {
        let modified = std::fs::metadata(&self.taken_back).and_then(|metadata| metadata.modified());
        modified.ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok()).map_or(0, |since| since.as_secs())
    }

    /// Removes the trace of that trial.
    pub fn forget_taken_back(&self) -> Result<(), Failure> {
        remove(&self.taken_back).map(drop)
    }

    /// Whether systemd gave up on the proven release in this boot.
    pub fn gave_up(&self) -> bool {
        exists(&self.package)
    }

    /// Writes a trial with its ways back, none of which a power cut leaves.
    pub fn try_out(&self, started: &Started, start_secs: u64, budget_secs: u64) -> Result<(), Failure> {
        self.forget_taken_back()?;
        replace(&self.restore_service, &text::restore_service(&self.unit, &self.trial, &self.taken_back)?)?;
        replace(&self.restore_timer, &text::restore_timer(budget_secs))?;
        replace(&self.trial, &text::trial(started, &name(&self.restore_service), start_secs)?)?;
        // It would lie over the trial.
        remove(&self.package).map(drop)
    }

    /// Makes the proven release start at boot, and before it the way to the package's program, which is described in
    /// `fragment`. Durable.
    pub fn prove(&self, started: &Started, fragment: &str) -> Result<(), Failure> {
        let unit = std::fs::read_to_string(fragment)
            .map_err(|error| failed("read the agent's unit", Path::new(fragment), &error))?;
        put(&self.package_ready, &text::package(&unit)?)?;
        put(&self.package_service, &text::package_service(&self.unit, &self.package_ready, &self.package)?)?;
        put(&self.current, &text::current(started, &name(&self.package_service))?)
    }

    /// Removes what a trial left, and what systemd left for the package's agent. The trace of one that systemd ended stays.
    pub fn remove_trial(&self) -> Result<(), Failure> {
        remove(&self.trial)?;
        remove(&self.package).map(drop)
    }

    /// Removes the way back from a trial, whose timer has been stopped.
    pub fn remove_way_back(&self) -> Result<(), Failure> {
        remove(&self.restore_timer)?;
        remove(&self.restore_service).map(drop)
    }

    /// Nothing but the package's program starts at boot any more. Durable.
    pub fn remove_proven(&self) -> Result<(), Failure> {
        for path in [&self.current, &self.package_ready, &self.package_service] {
            remove(path)?;
        }
        if let Some(directory) = self.current.parent() {
            // Not empty: an operator's own drop-in stays.
            let _ = std::fs::remove_dir(directory);
        }
        Ok(())
    }
}

/// Replaces a file unless it says so already: flash wears.
fn put(path: &Path, text: &str) -> Result<(), Failure> {
    if read(path).as_deref() == Some(text) { Ok(()) } else { replace(path, text) }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use orangery_wire::Digest;

    use super::*;

    fn files() -> (tempfile::TempDir, Files) {
        let directory = tempfile::tempdir().unwrap();
        let (etc, run) = (directory.path().join("etc"), directory.path().join("run"));
        (directory, Files::new("orangery-agent.service", &etc, &run))
    }

    fn started(n: u8) -> Started {
        Started {
            release: ReleaseId(Digest([n; 32])),
            version: "1.0.0".parse().unwrap(),
            program: format!("/releases/{n}/agent"),
            arguments: vec!["run".to_owned()],
        }
    }

    fn listed(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        let mut open = vec![directory.to_owned()];
        while let Some(path) = open.pop() {
            for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
                if entry.path().is_dir() {
                    open.push(entry.path());
                } else {
                    names.push(entry.file_name().into_string().unwrap());
                }
            }
        }
        names.sort();
        names
    }

    #[test]
    fn a_trial_leaves_nothing_that_a_reboot_would_find() {
        let (directory, files) = files();
        files.try_out(&started(1), 120, 300).unwrap();
        assert!(!directory.path().join("etc").exists());
        assert!(files.has_timer() && files.taken_back().is_none());
        files.remove_trial().unwrap();
        files.remove_way_back().unwrap();
        assert_eq!(listed(directory.path()), Vec::<String>::new());
    }

    #[test]
    fn a_trial_that_systemd_ended_is_known_until_it_is_forgotten_or_another_begins() {
        let (_keep, files) = files();
        let end = || std::fs::rename(&files.trial, &files.taken_back).unwrap();
        files.try_out(&started(1), 120, 300).unwrap();
        end();
        assert_eq!(files.taken_back(), Some(started(1).release));
        assert!(files.tried_at() > 0);
        files.forget_taken_back().unwrap();
        assert_eq!(files.taken_back(), None);
        files.try_out(&started(1), 120, 300).unwrap();
        end();
        files.try_out(&started(2), 120, 300).unwrap();
        assert_eq!(files.taken_back(), None);
    }

    #[test]
    fn what_is_proven_takes_the_place_of_the_trial_and_of_the_package() {
        let (directory, files) = files();
        let unit = directory.path().join("unit");
        std::fs::write(&unit, "[Service]\nExecStart=/usr/bin/orangery-agent run\n").unwrap();
        files.try_out(&started(1), 120, 300).unwrap();
        replace(&files.package, "[Service]\n").unwrap();
        assert!(files.gave_up());
        files.prove(&started(1), unit.to_str().unwrap()).unwrap();
        files.remove_trial().unwrap();
        assert!(!files.gave_up() && !exists(&files.trial));
        assert!(read(&files.current).unwrap().contains("ExecStart=:\"/releases/1/agent\" \"run\"\n"));
        files.remove_proven().unwrap();
        files.remove_way_back().unwrap();
        assert_eq!(listed(directory.path()), ["unit"]);
    }
}
