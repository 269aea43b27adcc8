//! Directories held by descriptor. A step is one name in one directory: no path is walked twice, and no link is followed.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, Mode, OFlags, fchmod, fsync, mkdirat, open, openat, readlinkat, symlinkat};

/// Only the agent may enter.
pub(super) const PRIVATE: Mode = Mode::RWXU;
/// Everybody may enter, only the agent may change it: 0755.
pub(super) const PUBLIC: Mode = Mode::RWXU.union(Mode::RGRP).union(Mode::XGRP).union(Mode::ROTH).union(Mode::XOTH);

/// A directory, wherever it is by now.
#[derive(Debug)]
pub struct Directory(OwnedFd);

impl Directory {
    /// The directory `below` the directory `root`. `root` may be reached through links, nothing below it may.
    pub fn open(root: &Path, below: &Path) -> io::Result<Self> {
        let mut directory = Self(open(root, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?);
        for name in below.components() {
            let name = name.as_os_str().to_str().ok_or(io::ErrorKind::InvalidInput)?;
            directory = directory.enter(name)?;
        }
        Ok(directory)
    }

    /// The directory `name` in this one; a link to a directory is not one.
    pub fn enter(&self, name: &str) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self(openat(&self.0, one(name)?, flags, Mode::empty())?))
    }

    /// The regular file `name` in this one, for reading.
    pub fn read(&self, name: &str) -> io::Result<File> {
        // Without NONBLOCK a pipe of that name would hold the agent for good.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(openat(&self.0, one(name)?, flags, Mode::empty())?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
    }

    /// What the link `name` says.
    pub fn read_link(&self, name: &str) -> io::Result<PathBuf> {
        let target = readlinkat(&self.0, one(name)?, Vec::new())?;
        Ok(OsString::from_vec(target.into_bytes()).into())
    }

    /// How many entries it has.
    pub fn count(&self) -> io::Result<usize> {
        let mut count = 0;
        for entry in Dir::read_from(&self.0)? {
            if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
                count += 1;
            }
        }
        Ok(count)
    }

    /// A new directory in this one, with exactly these permission bits.
    pub(super) fn make(&self, name: &str, mode: Mode) -> io::Result<Self> {
        mkdirat(&self.0, one(name)?, PRIVATE)?;
        let inside = self.enter(name)?;
        // The process's umask would take bits away.
        fchmod(&inside.0, mode)?;
        Ok(inside)
    }

    /// A new file in this one. The mode holds for whoever opens it later.
    pub(super) fn create(&self, name: &str, executable: bool) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.0, one(name)?, flags, Mode::RUSR | Mode::WUSR)?;
        fchmod(&file, Mode::from_bits_retain(file_mode(executable)))?;
        Ok(file.into())
    }

    /// A new link in this one.
    pub(super) fn link(&self, name: &str, target: &str) -> io::Result<()> {
        Ok(symlinkat(target, &self.0, one(name)?)?)
    }

    /// Lets everybody in.
    pub(super) fn open_up(&self) -> io::Result<()> {
        Ok(fchmod(&self.0, PUBLIC)?)
    }

    /// Makes its names durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(fsync(&self.0)?)
    }

    /// The descriptor, to be synced by somebody else.
    pub(super) fn into_file(self) -> File {
        self.0.into()
    }
}

/// The permission bits of a file of a release.
pub fn file_mode(executable: bool) -> u32 {
    if executable { 0o555 } else { 0o444 }
}

/// Manifests are checked for it, but a name that leads elsewhere must not get through in any other way either.
fn one(name: &str) -> io::Result<&str> {
    let bad = name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']);
    if bad { Err(io::ErrorKind::InvalidInput.into()) } else { Ok(name) }
}

/// Goes through the paths of a tree in their order and keeps the directories open on the way to the last one.
pub struct Walk<'a> {
    root: &'a Directory,
    inside: Vec<(&'a str, Directory)>,
}

/// A name in its directory.
pub struct At<'w, 'a> {
    /// The directory.
    pub directory: &'w Directory,
    /// The name.
    pub name: &'a str,
}

impl<'a> Walk<'a> {
    /// Begins at the top.
    pub fn new(root: &'a Directory) -> Self {
        Self { root, inside: Vec::new() }
    }

    /// Where `path` is. Its directory must be there.
    pub fn parent(&mut self, path: &'a str) -> io::Result<At<'_, 'a>> {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parts: Vec<&str> = above.split('/').filter(|part| !part.is_empty()).collect();
        let shared = self.inside.iter().zip(&parts).take_while(|((name, _), part)| name == *part).count();
        self.inside.truncate(shared);
        for part in parts.into_iter().skip(shared) {
            let next = self.here().enter(part)?;
            self.inside.push((part, next));
        }
        Ok(At { directory: self.here(), name })
    }

    fn here(&self) -> &Directory {
        self.inside.last().map_or(self.root, |(_, directory)| directory)
    }
}
