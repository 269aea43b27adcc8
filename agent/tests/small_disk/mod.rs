//! A file system of a chosen size.

#![allow(dead_code, reason = "each test program uses its part of it")]
#![allow(clippy::unwrap_used, missing_docs, reason = "it is a part of tests")]

use std::fs::File;
use std::path::Path;
use std::process::Command;

use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// A file system of so many bytes, unmounted when dropped.
pub struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None`, and says so, where one cannot be mounted.
    pub fn new(bytes: u64) -> Option<Self> {
        Self::with_names(bytes, 10_000)
    }

    /// One that also takes only so many files and directories.
    pub fn with_names(bytes: u64, names: u32) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let options = format!("size={bytes},nr_inodes={names},mode=0755");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(directory.path()).output();
        if mount.is_ok_and(|output| output.status.success()) {
            return Some(Self(directory));
        }
        eprintln!("SKIPPED: only root can mount the small disk that this test needs");
        None
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn free(&self) -> u64 {
        let disk = statvfs(self.path()).unwrap();
        disk.f_bavail * disk.f_frsize
    }

    /// Leaves exactly so many bytes free, in whole blocks.
    pub fn leave(&self, bytes: u64) {
        self.empty();
        let file = File::create(self.path().join("filler")).unwrap();
        let size = self.free() - bytes;
        if size > 0 {
            fallocate(&file, FallocateFlags::empty(), 0, size).unwrap();
        }
    }

    /// Takes back what [`SmallDisk::leave`] did.
    pub fn empty(&self) {
        let _ = std::fs::remove_file(self.path().join("filler"));
    }
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
