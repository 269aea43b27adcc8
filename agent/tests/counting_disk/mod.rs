//! A real disk that counts what is written to it, and what the kernel counts for this process.

#![allow(dead_code, reason = "each test program uses its part of it")]
#![allow(missing_docs, reason = "it is a part of tests")]

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use orangery_agent::disk::{Disk, RealDisk, Stat};

const BLOCK: u64 = 4_096;
/// Blocks that a file system with a journal may write for one sync besides the content: an inode, a directory, two bitmaps and a
/// group's description, each in the journal and later in its place, and the journal's two frames.
const BLOCKS_OF_A_SYNC: u64 = 12;

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Bytes of files.
    pub bytes: u64,
    /// All blocks that a file system may write for them, their names and syncs; more than most do.
    pub blocks_bytes: u64,
    /// Calls that change something, or make it durable.
    pub changes: u64,
}

impl Written {
    pub fn since(self, before: Self) -> Self {
        Self {
            bytes: self.bytes - before.bytes,
            blocks_bytes: self.blocks_bytes - before.blocks_bytes,
            changes: self.changes - before.changes,
        }
    }
}

#[derive(Debug, Default)]
pub struct CountingDisk(Mutex<Written>);

impl CountingDisk {
    pub fn written(&self) -> Written {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn count(&self, bytes: usize, blocks: u64) -> &'static RealDisk {
        let mut written = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let bytes = bytes as u64;
        written.bytes += bytes;
        written.blocks_bytes += (bytes.div_ceil(BLOCK) + blocks) * BLOCK;
        written.changes += 1;
        &RealDisk
    }
}

impl Disk for CountingDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        RealDisk.open(path)
    }
    fn write_new(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        self.count(bytes.len(), 0).write_new(path, bytes, mode)
    }
    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.count(bytes.len(), 0).append(path, bytes)
    }
    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.count(0, BLOCKS_OF_A_SYNC).sync_file(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.count(0, BLOCKS_OF_A_SYNC).sync_dir(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.count(0, 0).rename(from, to)
    }
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.count(0, 0).hard_link(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.count(0, 0).remove_file(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.count(0, 0).remove_dir(path)
    }
    fn create_dir(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.count(0, 0).create_dir(path, mode)
    }
    fn symlink(&self, target: &Path, link: &Path) -> io::Result<()> {
        self.count(0, 0).symlink(target, link)
    }
    fn read_link(&self, link: &Path) -> io::Result<PathBuf> {
        RealDisk.read_link(link)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        RealDisk.list(dir)
    }
    fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        RealDisk.stat(path)
    }
}

/// Bytes that this process had the kernel write to disks, less those that were taken back in time; `None` where files are in memory.
pub fn kernel_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/io").ok()?;
    let number =
        |name: &str| -> Option<u64> { text.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok() };
    let written = number("write_bytes:")?.saturating_sub(number("cancelled_write_bytes:")?);
    Some(written).filter(|bytes| *bytes > 0)
}
