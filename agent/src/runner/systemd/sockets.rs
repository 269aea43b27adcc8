//! The sockets of one app as units of systemd, which holds them while the app is restarted.
//!
//! Each has a unit of its own, named after app, name and address: `orangery-APP:NAME:ADDRESS.socket`. So sockets that two
//! releases have in common are one unit that stays, and those that differ are never in each other's way. As with the
//! service, what is proven is in /etc and starts at boot, and what only a trial has is in /run.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use orangery_wire::AppName;

use super::files::{Failure, exists, failed, make_parent, read, remove, replace};
use super::unit::MARK;
use crate::disk::{self, RealDisk};
use crate::launch::Listen;

/// The files of an app's sockets.
#[derive(Debug, Clone)]
pub struct SocketFiles {
    /// What the names of the app's socket units begin with. No other app's do: no app has ':' in its name.
    prefix: String,
    service: String,
    unit_dir: PathBuf,
    runtime_unit_dir: PathBuf,
}

impl SocketFiles {
    /// The files of `app` in systemd's two directories.
    pub fn new(app: &AppName, unit_dir: &Path, runtime_unit_dir: &Path) -> Self {
        Self {
            prefix: format!("orangery-{app}:"),
            service: format!("orangery-{app}.service"),
            unit_dir: unit_dir.to_owned(),
            runtime_unit_dir: runtime_unit_dir.to_owned(),
        }
    }

    /// What the units of all sockets of the app match.
    pub fn pattern(&self) -> String {
        format!("{}*.socket", self.prefix)
    }

    /// The units of `wanted`.
    pub fn units(&self, wanted: &[Listen]) -> BTreeSet<String> {
        wanted.iter().map(|listen| self.unit(listen)).collect()
    }

    /// The name of a unit has no brackets; what is before the last colon is the address all the same.
    fn unit(&self, listen: &Listen) -> String {
        let address = listen.address.to_string().replace(['[', ']'], "");
        format!("{}{}:{address}.socket", self.prefix, listen.name)
    }

    fn text(&self, listen: &Listen) -> String {
        let Listen { name, address } = listen;
        // Without a limit on triggers: it would close the socket of an app that keeps exiting. Restarts have their pauses.
        format!(
            "{MARK}\n[Unit]\nDescription=Socket {name} of {}, held by Orangery\n\n[Socket]\nListenStream={address}\n\
             FileDescriptorName={name}\nService={}\nFreeBind=yes\nTriggerLimitIntervalSec=0\n\n\
             [Install]\nWantedBy=sockets.target\n",
            self.service, self.service
        )
    }

    /// Whether there is any.
    pub fn any(&self) -> bool {
        !self.there(&self.unit_dir).is_empty() || !self.there(&self.runtime_unit_dir).is_empty()
    }

    /// Writes the units that a trial wants and a reboot is to forget. Says whether systemd must read its units anew.
    pub fn try_out(&self, wanted: &[Listen]) -> Result<bool, Failure> {
        let mut changed = false;
        for listen in wanted.iter().filter(|listen| !exists(&self.unit_dir.join(self.unit(listen)))) {
            changed |= written(&self.runtime_unit_dir.join(self.unit(listen)), &self.text(listen))?;
        }
        Ok(changed)
    }

    /// Writes the units of a proven release, which start at boot.
    pub fn prove(&self, wanted: &[Listen]) -> Result<bool, Failure> {
        let mut changed = false;
        for listen in wanted {
            let unit = self.unit(listen);
            let (path, enabled) = (self.unit_dir.join(&unit), self.enabled(&unit));
            changed |= written(&path, &self.text(listen))?;
            if std::fs::read_link(&enabled).ok().as_deref() != Some(&path) {
                let made = make_parent(&enabled).and_then(|()| disk::replace_link(&RealDisk, &enabled, &path));
                made.map_err(|error| failed("make the link", &enabled, &error))?;
                changed = true;
            }
        }
        Ok(changed)
    }

    /// Removes the files of units that are not among `kept`; of a trial also those that are in /etc by now.
    pub fn tidy_trial(&self, kept: &[Listen]) -> Result<bool, Failure> {
        let kept = self.units(kept);
        let mut changed = false;
        for unit in self.there(&self.runtime_unit_dir) {
            if !kept.contains(&unit) || exists(&self.unit_dir.join(&unit)) {
                changed |= remove(&self.runtime_unit_dir.join(&unit))?;
            }
        }
        Ok(changed)
    }

    /// As [`Self::tidy_trial`], and what starts at boot, too.
    pub fn tidy(&self, kept: &[Listen]) -> Result<bool, Failure> {
        let units = self.units(kept);
        let mut changed = self.tidy_trial(kept)?;
        for unit in self.there(&self.unit_dir).difference(&units) {
            changed |= remove(&self.enabled(unit))? | remove(&self.unit_dir.join(unit))?;
        }
        Ok(changed)
    }

    fn enabled(&self, unit: &str) -> PathBuf {
        self.unit_dir.join("sockets.target.wants").join(unit)
    }

    fn there(&self, directory: &Path) -> BTreeSet<String> {
        let names = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.file_name());
        let ours = |name: &String| name.starts_with(&self.prefix) && name.ends_with(".socket");
        names.filter_map(|name| name.into_string().ok()).filter(ours).collect()
    }
}

fn written(path: &Path, text: &str) -> Result<bool, Failure> {
    if read(path).as_deref() == Some(text) {
        return Ok(false);
    }
    replace(path, text).map(|()| true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(name: &str, address: &str) -> Listen {
        Listen { name: name.parse().unwrap(), address: address.parse().unwrap() }
    }

    fn files() -> (tempfile::TempDir, SocketFiles) {
        let directory = tempfile::tempdir().unwrap();
        let files =
            SocketFiles::new(&"a".parse().unwrap(), &directory.path().join("etc"), &directory.path().join("run"));
        (directory, files)
    }

    fn all(files: &SocketFiles) -> (Vec<String>, Vec<String>) {
        let in_directory = |directory| files.there(directory).into_iter().collect();
        (in_directory(&files.unit_dir), in_directory(&files.runtime_unit_dir))
    }

    #[test]
    fn no_two_sockets_have_one_unit() {
        let (_keep, files) = files();
        let several = [
            listen("http", "127.0.0.1:80"),
            listen("http", "[::1]:80"),
            listen("http", "[::]:180"),
            listen("http", "[::1:1]:80"),
            listen("http-1", "127.0.0.1:80"),
        ];
        assert_eq!(files.units(&several).len(), several.len());
        assert_eq!(files.unit(&several[1]), "orangery-a:http:::1:80.socket");
    }

    #[test]
    fn a_trial_adds_only_what_it_does_not_share_and_a_commit_keeps_only_what_it_has() {
        let (_keep, files) = files();
        let (shared, old, new) = (listen("a", "127.0.0.1:1"), listen("b", "127.0.0.1:2"), listen("c", "127.0.0.1:3"));
        files.prove(&[shared.clone(), old.clone()]).unwrap();
        let trial = [shared, new];
        assert_eq!(files.try_out(&trial), Ok(true));
        assert_eq!(files.try_out(&trial), Ok(false));
        files.tidy_trial(&trial).unwrap();
        assert_eq!(all(&files).1, [files.unit(&trial[1])]);
        assert_eq!(all(&files).0.len(), 2, "a reboot finds what it found before");
        files.prove(&trial).unwrap();
        assert_eq!(files.tidy(&trial), Ok(true));
        assert_eq!(files.tidy(&trial), Ok(false));
        let units: Vec<_> = files.units(&trial).into_iter().collect();
        assert_eq!(all(&files), (units, vec![]));
        assert!(!exists(&files.enabled(&files.unit(&old))));
        assert!(exists(&files.enabled(&files.unit(&trial[1]))));
        files.tidy(&[]).unwrap();
        assert!(!files.any());
    }

    #[test]
    fn other_apps_sockets_are_left_alone() {
        let (_keep, files) = files();
        let other = SocketFiles::new(&"a-b".parse().unwrap(), &files.unit_dir, &files.runtime_unit_dir);
        other.prove(&[listen("http", "127.0.0.1:80")]).unwrap();
        assert!(!files.any());
        files.tidy(&[]).unwrap();
        assert!(other.any());
    }
}
