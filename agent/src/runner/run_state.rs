//! `run.json`: which process an app runs as, so that the agent after this one finds it.
//!
//! It is believed only in the boot that it was written in, so it is replaced without a sync: a power cut takes the process
//! with it. That saves flash.

use std::fs;
use std::io;
use std::path::Path;

use orangery_wire::manifest::StopSignal;
use orangery_wire::{Digest, ReleaseId};
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use super::group::Group;

/// The format that this version reads and writes.
const FORMAT: u32 = 1;

/// What is written of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunState {
    /// Always 1.
    format: u32,
    /// The boot that it was started in.
    boot_id: String,
    /// Its number, also that of its group.
    pid: i32,
    /// When it was started, see [`super::procfs::Stat`].
    start_ticks: u64,
    /// What it runs.
    pub key: Key,
    /// The signal that asks it to stop.
    pub stop_signal: StopSignal,
    /// How long it may take to.
    pub stop_grace_secs: u64,
}

/// Two launches with the same key make the same process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// The release.
    pub release: ReleaseId,
    /// Its command and environment on this node.
    pub launch: Digest,
}

impl RunState {
    /// Describes a process that was just started. `None` if it has ended already.
    pub fn of(group: &Group, key: Key, boot_id: &str, run: &orangery_wire::manifest::Run) -> Option<Self> {
        Some(Self {
            format: FORMAT,
            boot_id: boot_id.to_owned(),
            pid: group.pid().as_raw_nonzero().get(),
            start_ticks: super::procfs::stat(group.pid())?.start_ticks,
            key,
            stop_signal: run.stop_signal,
            stop_grace_secs: run.stop_grace_secs,
        })
    }

    /// Replaces the file: whoever reads it finds the old or the new state, never half of one.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let beside = path.with_extension("json.new");
        fs::write(&beside, serde_json::to_vec(self)?)?;
        fs::rename(beside, path)
    }

    /// What an earlier agent wrote in this boot; `None` if there is nothing to be believed.
    pub fn read(path: &Path, boot_id: &str) -> Option<Self> {
        let state: Self = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        (state.format == FORMAT && state.boot_id == boot_id && !boot_id.is_empty()).then_some(state)
    }

    /// The number of the process and of its group.
    pub fn leader(&self) -> Option<Pid> {
        Pid::from_raw(self.pid.max(0))
    }

    /// The process, if it still runs.
    pub fn group(&self) -> Option<Group> {
        Group::adopt(self.pid, self.start_ticks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(pid: i32, start_ticks: u64) -> RunState {
        RunState {
            format: FORMAT,
            boot_id: "boot".into(),
            pid,
            start_ticks,
            key: Key { release: ReleaseId(Digest([1; 32])), launch: Digest([2; 32]) },
            stop_signal: StopSignal::Quit,
            stop_grace_secs: 3,
        }
    }

    #[test]
    fn it_is_believed_in_its_own_boot_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run.json");
        state(5, 7).write(&path).unwrap();
        assert_eq!(RunState::read(&path, "boot"), Some(state(5, 7)));
        assert_eq!(RunState::read(&path, "other"), None);
        std::fs::write(&path, "{").unwrap();
        assert_eq!(RunState::read(&path, "boot"), None);
    }

    #[tokio::test]
    async fn another_process_of_the_same_number_is_not_adopted() {
        let me = rustix::process::getpid();
        let start = super::super::procfs::stat(me).unwrap().start_ticks;
        let pid = me.as_raw_nonzero().get();
        assert!(state(pid, start).group().is_some());
        assert!(state(pid, start + 1).group().is_none());
        assert!(state(i32::MAX, start).group().is_none());
        assert!(state(0, start).group().is_none());
        assert!(state(-1, start).group().is_none());
    }
}
