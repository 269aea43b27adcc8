//! A disk whose writes may draw on the reserve.

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{ROOMY_BYTES, Reserve};
use crate::disk::{Disk, Stat};
use crate::errors::is_full;

/// The disk below, for what must be written though the disk is full.
#[derive(Debug)]
pub struct ReservedDisk<D> {
    below: D,
    reserve: Arc<Reserve>,
}

impl<D> ReservedDisk<D> {
    /// `below`, with `reserve` for its writes.
    pub fn new(below: D, reserve: Arc<Reserve>) -> Self {
        Self { below, reserve }
    }

    /// For what cannot be done again: the next attempt of whoever asked finds room.
    fn once(&self, done: io::Result<()>) -> io::Result<()> {
        done.inspect_err(|error| {
            if is_full(error) {
                self.reserve.give_up_some(ROOMY_BYTES);
            }
        })
    }
}

impl<D: Disk> Disk for ReservedDisk<D> {
    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        self.below.open(path)
    }

    fn write_new(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        self.reserve.retrying(|| self.below.write_new(path, bytes, mode))
    }

    /// Some of the bytes may be there already.
    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.once(self.below.append(path, bytes))
    }

    /// After a sync that failed nobody knows what is on the disk; a second one would succeed and mean nothing.
    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.once(self.below.sync_file(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.once(self.below.sync_dir(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.reserve.retrying(|| self.below.rename(from, to))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.reserve.retrying(|| self.below.hard_link(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.reserve.retrying(|| self.below.remove_file(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.reserve.retrying(|| self.below.remove_dir(path))
    }

    fn create_dir(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.reserve.retrying(|| self.below.create_dir(path, mode))
    }

    fn symlink(&self, target: &Path, link: &Path) -> io::Result<()> {
        self.reserve.retrying(|| self.below.symlink(target, link))
    }

    fn read_link(&self, link: &Path) -> io::Result<PathBuf> {
        self.below.read_link(link)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        self.below.list(dir)
    }

    fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        self.below.stat(path)
    }
}
