//! A disk that stops working at a chosen call, as it looks to an agent that is killed there: what was done before stays,
//! nothing is done after.

#![allow(dead_code, reason = "each test program uses its part of it")]
#![allow(missing_docs, reason = "it is a part of tests")]

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use orangery_agent::disk::{Disk, RealDisk, Stat};

#[derive(Debug)]
pub struct DyingDisk {
    calls_left: AtomicU32,
    dead: AtomicBool,
}

impl DyingDisk {
    /// A disk on which so many changing calls succeed.
    pub fn after(calls: u32) -> Self {
        Self { calls_left: AtomicU32::new(calls), dead: AtomicBool::new(false) }
    }

    /// Whether a call has failed.
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    fn spend(&self) -> io::Result<&'static RealDisk> {
        let spent = self.calls_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        spent.map(|_| &RealDisk).map_err(|_| {
            self.dead.store(true, Ordering::SeqCst);
            io::Error::other("the disk is dead")
        })
    }
}

impl Disk for DyingDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        RealDisk.open(path)
    }
    fn write_new(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        // A write may be cut in its middle.
        match self.spend() {
            Ok(disk) => disk.write_new(path, bytes, mode),
            Err(dead) => {
                RealDisk.write_new(path, bytes.get(..bytes.len() / 2).unwrap_or_default(), mode).and(Err(dead))
            }
        }
    }
    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.spend()?.append(path, bytes)
    }
    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.spend()?.sync_file(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.spend()?.sync_dir(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.spend()?.rename(from, to)
    }
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.spend()?.hard_link(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.spend()?.remove_file(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.spend()?.remove_dir(path)
    }
    fn create_dir(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.spend()?.create_dir(path, mode)
    }
    fn symlink(&self, target: &Path, link: &Path) -> io::Result<()> {
        self.spend()?.symlink(target, link)
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
