//! Bytes that the agent keeps for itself: a file of real blocks, given up piece by piece when the disk is full.
//!
//! What decides which release runs, what is trusted and what is told must be written even when something else has filled the
//! disk. So the agent holds a file `reserve`. A write of that kind that finds no room shortens the file by a step and is made
//! again; the step is small, so that whoever filled the disk does not get the whole reserve at once. When there is room the
//! file is made whole again. Releases and downloads never draw on it: they are refused instead.
//!
//! Nothing depends on the file being there, so it is never synced for its content; a power cut costs at most the reserve.

mod disk;
mod store;

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use orangery_wire::messages::ReserveState;
use rustix::fs::{FallocateFlags, OFlags, StatVfs, fallocate, statvfs};

use crate::errors::is_full;
use crate::layout::Layout;

pub use disk::ReservedDisk;
pub use store::{ReservedStore, open_store};

/// On a small disk the reserve is at most this part of it.
const PART_OF_DISK: u64 = 16;
/// The reserve is given up in so many steps.
const STEPS: u64 = 8;
/// The smallest step, in bytes.
const STEP_BYTES_MIN: u64 = 64 * 1024;
/// With so many bytes free it is not bytes that a disk is short of, but names, and the reserve would be given up in vain.
const ROOMY_BYTES: u64 = 4 << 20;
/// Zeros that are written in one go where a file system cannot allocate without.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// The reserve of a state directory. Shared by all that may draw on it.
#[derive(Debug)]
pub struct Reserve {
    path: PathBuf,
    size_bytes: u64,
    held: Mutex<Held>,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    bytes: u64,
    /// Some of it was given up since it was last whole.
    freed: bool,
}

impl Reserve {
    /// The reserve of this state directory: what an earlier agent left of it, until [`Reserve::fill`]. It has `bytes_max`, or
    /// the sixteenth part of the file system where that is less; 0 is no reserve at all.
    pub fn new(layout: &Layout, bytes_max: u64) -> Self {
        let path = layout.reserve();
        let disk = statvfs(layout.root()).map_or(u64::MAX, |disk| disk.f_blocks.saturating_mul(disk.f_frsize));
        let bytes = std::fs::symlink_metadata(&path).map_or(0, |found| real_bytes(&found));
        let size_bytes = bytes_max.min(disk / PART_OF_DISK);
        Self { path, size_bytes, held: Mutex::new(Held { bytes: bytes.min(size_bytes), freed: bytes > 0 }) }
    }

    /// How large it is when it is whole, in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// What it lacks, in bytes.
    pub fn missing_bytes(&self) -> u64 {
        self.size_bytes.saturating_sub(self.held().bytes)
    }

    /// How it is; `None` when the settings want none.
    pub fn state(&self) -> Option<ReserveState> {
        let held = *self.held();
        match held.bytes {
            _ if self.size_bytes == 0 => None,
            bytes if bytes >= self.size_bytes => Some(ReserveState::Full),
            _ if held.freed => Some(ReserveState::Freed),
            _ => Some(ReserveState::Missing),
        }
    }

    /// Makes it whole if there is room for that and a step more; otherwise leaves it as it is. A file that is longer than the
    /// settings say is shortened. Repeatable. Blocking.
    pub fn fill(&self) -> io::Result<()> {
        let mut held = self.held();
        if self.size_bytes == 0 {
            held.bytes = 0;
            return crate::disk::gone(std::fs::remove_file(&self.path));
        }
        let missing = self.size_bytes - held.bytes;
        if missing > 0 && self.free_bytes()? < missing + self.step() {
            return Ok(());
        }
        let file = self.open(true)?;
        file.set_len(self.size_bytes)?;
        if real_bytes(&file.metadata()?) < self.size_bytes
            && let Err(error) = allocate(&file, self.size_bytes)
        {
            file.set_len(held.bytes)?;
            return Err(error);
        }
        *held = Held { bytes: self.size_bytes, freed: false };
        Ok(())
    }

    /// Does `deed`; when there is no room for it, gives up a step of the reserve and does it again, as long as there is one.
    /// `deed` must be one that can be done again after it failed.
    pub fn retrying<T>(&self, mut deed: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        loop {
            match deed() {
                Err(error) if is_full(&error) && self.give_up_some(ROOMY_BYTES) => {}
                outcome => return outcome,
            }
        }
    }

    /// As [`Reserve::retrying`], for a deed whose failure does not say whether the disk is full.
    pub fn persisting<T, E>(&self, mut deed: impl FnMut() -> Result<T, E>) -> Result<T, E> {
        loop {
            match deed() {
                Err(_) if self.relieve() => {}
                outcome => return outcome,
            }
        }
    }

    /// Gives up a step if the disk is full, for a deed whose failure does not say whether that is why. Returns whether it did.
    pub fn relieve(&self) -> bool {
        self.give_up_some(STEP_BYTES_MIN)
    }

    /// Gives up a step unless so many bytes are free.
    fn give_up_some(&self, enough_bytes: u64) -> bool {
        let mut held = self.held();
        if held.bytes == 0 || self.free_bytes().is_ok_and(|free| free >= enough_bytes) {
            return false;
        }
        let left = held.bytes.saturating_sub(self.step());
        // The sync makes the file system let go of the blocks at once. Without it they are free a little later.
        let given = self.open(false).and_then(|file| file.set_len(left).map(|()| drop(file.sync_all())));
        let given = if left == 0 { std::fs::remove_file(&self.path).or(given) } else { given };
        match given {
            Ok(()) => tracing::warn!(left_bytes = left, "the disk is full; gave up a part of the reserve"),
            Err(error) => {
                tracing::error!(reason = %error, "the disk is full, and the reserve cannot be given up");
                // Nothing is there to be given up; the next look at the disk is at the next start.
                *held = Held { bytes: 0, freed: true };
                return false;
            }
        }
        *held = Held { bytes: left, freed: true };
        true
    }

    fn step(&self) -> u64 {
        (self.size_bytes / STEPS).max(STEP_BYTES_MIN)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let disk = statvfs(self.path.parent().unwrap_or(Path::new(".")))?;
        Ok(free_bytes(&disk))
    }

    fn open(&self, create: bool) -> io::Result<File> {
        let flags = OFlags::NOFOLLOW.bits().cast_signed();
        OpenOptions::new().write(true).create(create).mode(0o600).custom_flags(flags).open(&self.path)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What anybody may still write to a file system.
pub(crate) fn free_bytes(disk: &StatVfs) -> u64 {
    disk.f_bavail.saturating_mul(disk.f_frsize)
}

/// The bytes of a file that lie on the disk: a hole is none.
fn real_bytes(file: &Metadata) -> u64 {
    file.len().min(file.blocks().saturating_mul(512))
}

/// Gives the file real blocks up to `size_bytes`, without writing them where the file system can.
fn allocate(mut file: &File, size_bytes: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, size_bytes) {
        Err(rustix::io::Errno::OPNOTSUPP) => {}
        done => return Ok(done?),
    }
    let mut left = size_bytes;
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(ZEROS.len());
        let written = file.write(ZEROS.get(..most).unwrap_or_default())?;
        left -= written as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
