//! The disk, seen through a seam narrow enough to record and to break.
//!
//! [`RealDisk`] makes plain system calls and nothing else: no copies between descriptors, no maps, no allocation tricks. What
//! it does can therefore be recorded, replayed and cut at any point; `docs/disk.md` says what must hold at each of them.
//!
//! Nothing here is durable until [`Disk::sync_file`] and [`Disk::sync_dir`] have returned. [`replace`], [`replace_link`] and
//! [`make_dir`] put the calls into the one order that is safe.

use std::ffi::OsString;
use std::fmt::Debug;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// What lies at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, wherever it leads.
    Link,
    /// A socket, a pipe, a device node.
    Other,
}

/// What is known of a path without opening it. Links are not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: Kind,
    /// Length of a file in bytes; of anything else whatever the file system says.
    pub size_bytes: u64,
    /// Permission bits, at most 0o7777.
    pub mode: u32,
}

/// The calls that the agent makes on its state directory. The last part of a path is never followed if it is a link.
///
/// Every call is one or two system calls; none of them syncs but the two that say so.
pub trait Disk: Send + Sync + Debug {
    /// Opens a regular file for reading.
    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>>;
    /// Makes a file with exactly these bytes and permission bits, in place of a file that is there already.
    fn write_new(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()>;
    /// Adds bytes to the end of a file that exists.
    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Makes a file's content durable. Its name is not, before [`Self::sync_dir`] of its directory.
    fn sync_file(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Gives a file, link or directory another name; a file or link of that name is replaced at once.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file a second name, which must be free.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file or link.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes a directory with exactly these permission bits.
    fn create_dir(&self, path: &Path, mode: u32) -> io::Result<()>;
    /// Makes a symbolic link that says `target`.
    fn symlink(&self, target: &Path, link: &Path) -> io::Result<()>;
    /// What a symbolic link says.
    fn read_link(&self, link: &Path) -> io::Result<PathBuf>;
    /// The names in a directory, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>>;
    /// What lies at a path; `None` if nothing does.
    fn stat(&self, path: &Path) -> io::Result<Option<Stat>>;

    /// The whole content of a file of at most `max` bytes; a longer one is an [`io::ErrorKind::InvalidData`].
    fn read(&self, path: &Path, max: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
        self.open(path)?.take(limit).read_to_end(&mut bytes)?;
        if bytes.len() > max {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it has more than {max} bytes")));
        }
        Ok(bytes)
    }

    /// Whether anything lies at a path, be it a broken link.
    fn exists(&self, path: &Path) -> bool {
        matches!(self.stat(path), Ok(Some(_)))
    }

    /// Makes a directory and those above it that are missing; not yet durable, see [`make_dir`].
    fn create_dir_all(&self, path: &Path, mode: u32) -> io::Result<()> {
        if matches!(self.stat(path)?, Some(Stat { kind: Kind::Directory, .. })) {
            return Ok(());
        }
        if let Some(parent) = parent(path) {
            self.create_dir_all(parent, mode)?;
        }
        already(self.create_dir(path, mode))
    }

    /// Removes a directory with everything in it. Links in it are removed, not followed.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        for name in self.list(path)? {
            let inner = path.join(name);
            match self.stat(&inner)? {
                Some(Stat { kind: Kind::Directory, .. }) => self.remove_dir_all(&inner)?,
                Some(_) => self.remove_file(&inner)?,
                None => {}
            }
        }
        self.remove_dir(path)
    }
}

/// The directory that holds `path`, `.` for a bare name; `None` for a root.
fn parent(path: &Path) -> Option<&Path> {
    path.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
}

fn already(made: io::Result<()>) -> io::Result<()> {
    match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

pub(crate) fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Where the next content of `path` is written: `.NAME.new` in the same directory.
pub fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}

/// Replaces a file's content: whoever reads it, after a power cut too, finds the old or the new bytes and nothing else.
///
/// On success the new bytes are durable. After an error the old ones are in place, except that an error of the last step
/// (the directory's sync) leaves either. Repeatable.
pub fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    prepare(disk, path, bytes, mode)?;
    put_in_place(disk, path)
}

/// The first half of [`replace`]: the new bytes lie beside the old ones, durable but without effect.
pub(crate) fn prepare(disk: &dyn Disk, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let new = beside(path);
    // A cut may have left it there as a second name of the very file that is to be replaced.
    gone(disk.remove_file(&new))?;
    let written = disk.write_new(&new, bytes, mode).and_then(|()| disk.sync_file(&new));
    // A full disk is the likeliest cause: what was written is given back.
    written.inspect_err(|_| drop(disk.remove_file(&new)))
}

/// The second half of [`replace`].
pub(crate) fn put_in_place(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let new = beside(path);
    disk.rename(&new, path).inspect_err(|_| drop(disk.remove_file(&new)))?;
    sync_parent(disk, path)
}

/// Makes `link` say `target`, in one step: it never is missing or half done. Errors and durability as for [`replace`].
pub fn replace_link(disk: &dyn Disk, link: &Path, target: &Path) -> io::Result<()> {
    let new = beside(link);
    gone(disk.remove_file(&new))?;
    disk.symlink(target, &new)?;
    put_in_place(disk, link)
}

/// Removes a file or link, durably; one that is not there is fine.
pub fn remove(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    gone(disk.remove_file(path))?;
    sync_parent(disk, path)
}

/// Makes a directory and those above it that are missing, durably. One that is there is left as it is.
pub fn make_dir(disk: &dyn Disk, path: &Path, mode: u32) -> io::Result<()> {
    if matches!(disk.stat(path)?, Some(Stat { kind: Kind::Directory, .. })) {
        return Ok(());
    }
    if let Some(parent) = parent(path) {
        make_dir(disk, parent, mode)?;
    }
    already(disk.create_dir(path, mode))?;
    sync_parent(disk, path)
}

fn sync_parent(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    parent(path).map_or(Ok(()), |parent| disk.sync_dir(parent))
}

/// The file system of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl RealDisk {
    fn options() -> OpenOptions {
        let mut options = OpenOptions::new();
        options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
        options
    }
}

impl Disk for RealDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        // Without NONBLOCK a pipe of that name would hold the agent for good.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        Ok(Box::new(file))
    }

    fn write_new(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        let mut file = Self::options().write(true).create(true).truncate(true).mode(mode).open(path)?;
        // The process's umask took bits away, and a file that was there kept its own.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(bytes)
    }

    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        Self::options().append(true).open(path)?.write_all(bytes)
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        Self::options().read(true).open(path)?.sync_all()
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::hard_link(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir(path)
    }

    fn create_dir(&self, path: &Path, mode: u32) -> io::Result<()> {
        DirBuilder::new().mode(mode).create(path)?;
        std::fs::set_permissions(path, Permissions::from_mode(mode))
    }

    fn symlink(&self, target: &Path, link: &Path) -> io::Result<()> {
        std::os::unix::fs::symlink(target, link)
    }

    fn read_link(&self, link: &Path) -> io::Result<PathBuf> {
        std::fs::read_link(link)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let mut names = std::fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        let found = match std::fs::symlink_metadata(path) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            other => other?,
        };
        let kind = match found.file_type() {
            kind if kind.is_file() => Kind::File,
            kind if kind.is_dir() => Kind::Directory,
            kind if kind.is_symlink() => Kind::Link,
            _ => Kind::Other,
        };
        Ok(Some(Stat { kind, size_bytes: found.len(), mode: found.permissions().mode() & 0o7777 }))
    }
}

#[cfg(test)]
pub(crate) mod model;
#[cfg(test)]
mod tests;
