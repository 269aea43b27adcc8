//! A file system of a chosen size.

#![allow(dead_code, reason = "each test program uses its part of it")]
#![allow(clippy::unwrap_used, missing_docs, reason = "it is a part of tests")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// A file system of so many bytes, unmounted when dropped.
pub struct SmallDisk {
    path: PathBuf,
    /// Where it has one of its own.
    _directory: Option<tempfile::TempDir>,
}

impl SmallDisk {
    /// `None`, and says so, where one cannot be mounted.
    pub fn new(bytes: u64) -> Option<Self> {
        Self::with_names(bytes, 10_000)
    }

    /// One that also takes only so many files and directories.
    pub fn with_names(bytes: u64, names: u32) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        mount(&path, bytes, names).then_some(Self { path, _directory: Some(directory) })
    }

    /// One that is mounted at an empty directory.
    pub fn at(path: PathBuf, bytes: u64) -> Option<Self> {
        std::fs::create_dir_all(&path).unwrap();
        mount(&path, bytes, 10_000).then_some(Self { path, _directory: None })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn free(&self) -> u64 {
        let disk = statvfs(self.path()).unwrap();
        disk.f_bavail * disk.f_frsize
    }

    /// Leaves exactly so many bytes free, in whole blocks; fewer, if there are not so many.
    pub fn leave(&self, bytes: u64) {
        self.empty();
        let file = File::create(self.path().join("filler")).unwrap();
        // Somebody else may write meanwhile.
        loop {
            let size = self.free().saturating_sub(bytes);
            if size == 0 || fallocate(&file, FallocateFlags::empty(), 0, size).is_ok() {
                return;
            }
        }
    }

    /// Mounts it anew, read-only or not. Nobody may have a file there open for writing.
    pub fn remount(&self, how: &str) {
        let done = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(&self.path).status();
        assert!(done.unwrap().success(), "{} cannot be mounted {how}", self.path.display());
    }

    /// Takes back what [`SmallDisk::leave`] did.
    pub fn empty(&self) {
        let _ = std::fs::remove_file(self.path().join("filler"));
    }
}

fn mount(path: &Path, bytes: u64, names: u32) -> bool {
    let options = format!("size={bytes},nr_inodes={names},mode=0755");
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(path).output();
    let mounted = mount.is_ok_and(|output| output.status.success());
    if !mounted {
        eprintln!("SKIPPED: only root can mount the small disk that this test needs");
    }
    mounted
}

/// The exact number of bytes that a refusal says are missing.
pub fn short_by(text: &str) -> u64 {
    let (_, after) = text.split_once("remove at least ").unwrap();
    after.split(' ').next().unwrap().parse().unwrap()
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}
