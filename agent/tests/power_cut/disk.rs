//! An [`Image`] that the agent's own code writes to: the second, faster recorder.

use std::ffi::OsString;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use orangery_agent::disk::{Disk, Kind, Stat};

use crate::image::{Image, Node, Op};

/// Where the image's state directory is.
pub const STATE: &str = "/state";

#[derive(Debug)]
struct Recorded {
    image: Image,
    ops: Vec<Op>,
    /// From this operation on there is no room.
    full_from: Option<usize>,
}

/// The disk. It keeps all that is done to it.
#[derive(Debug)]
pub struct ImageDisk(Mutex<Recorded>);

impl ImageDisk {
    pub fn new(image: Image) -> Self {
        Self(Mutex::new(Recorded { image, ops: Vec::new(), full_from: None }))
    }

    /// A disk on which there is no room from its n-th operation on.
    pub fn full_from(image: Image, n: usize) -> Self {
        Self(Mutex::new(Recorded { image, ops: Vec::new(), full_from: Some(n) }))
    }

    /// Whether it will be full, or is.
    pub fn is_full(&self) -> bool {
        self.recorded().full_from.is_some()
    }

    /// The world sees what was done.
    pub fn mark(&self, what: String) {
        self.recorded().ops.push(Op::Mark(what));
    }

    fn recorded(&self) -> MutexGuard<'_, Recorded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn image(&self) -> Image {
        self.recorded().image.clone()
    }

    /// What was done since the last time.
    pub fn take_ops(&self) -> Vec<Op> {
        std::mem::take(&mut self.recorded().ops)
    }

    fn perform(&self, op: Op) -> io::Result<()> {
        let recorded = &mut *self.recorded();
        let full = recorded.full_from.is_some_and(|from| recorded.ops.len() >= from) && op.takes_room();
        let done = if full { op.that_there_is_room_for() } else { Some(op) };
        if let Some(op) = done {
            recorded.image.apply(&op).map_err(io::Error::other)?;
            recorded.ops.push(op);
        }
        if full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn is_there(&self, path: &Path) -> bool {
        self.recorded().image.find(path).is_some()
    }

    fn must_be_there(&self, path: &Path) -> io::Result<()> {
        if self.is_there(path) { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn must_be_free(&self, path: &Path) -> io::Result<()> {
        if self.is_there(path) { Err(io::ErrorKind::AlreadyExists.into()) } else { Ok(()) }
    }
}

/// The same path, as images name it.
pub fn below(path: &Path) -> PathBuf {
    path.strip_prefix(STATE).unwrap_or(path).to_owned()
}

impl Disk for ImageDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        match self.recorded().image.node(&below(path)) {
            None => Err(io::ErrorKind::NotFound.into()),
            Some(Node::File { now, .. }) => Ok(Box::new(Cursor::new(now.bytes.clone()))),
            Some(_) => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn write_new(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        let path = below(path);
        if self.is_there(&path) {
            self.perform(Op::Truncate { path: path.clone(), length: 0 })?;
        } else {
            self.perform(Op::Create { path: path.clone(), mode })?;
        }
        self.perform(Op::Chmod { path: path.clone(), mode })?;
        self.perform(Op::Write { path, offset: None, bytes: bytes.into() })
    }

    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let path = below(path);
        self.must_be_there(&path)?;
        self.perform(Op::Write { path, offset: None, bytes: bytes.into() })
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.must_be_there(&below(path))?;
        self.perform(Op::SyncFile { path: below(path) })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.must_be_there(&below(path))?;
        self.perform(Op::SyncDir { path: below(path) })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.must_be_there(&below(from))?;
        self.perform(Op::Rename { from: below(from), to: below(to) })
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.must_be_there(&below(from))?;
        self.must_be_free(&below(to))?;
        self.perform(Op::Link { from: below(from), to: below(to) })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.must_be_there(&below(path))?;
        if matches!(self.recorded().image.node(&below(path)), Some(Node::Directory { .. })) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        self.perform(Op::Remove { path: below(path) })
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.must_be_there(&below(path))?;
        if !self.list(path)?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.perform(Op::Remove { path: below(path) })
    }

    fn create_dir(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.must_be_free(&below(path))?;
        self.perform(Op::Mkdir { path: below(path), mode })
    }

    fn symlink(&self, target: &Path, link: &Path) -> io::Result<()> {
        self.must_be_free(&below(link))?;
        self.perform(Op::Symlink { path: below(link), target: target.to_owned() })
    }

    fn read_link(&self, link: &Path) -> io::Result<PathBuf> {
        match self.recorded().image.node(&below(link)) {
            None => Err(io::ErrorKind::NotFound.into()),
            Some(Node::Link { target }) => Ok(target.clone()),
            Some(_) => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let recorded = self.recorded();
        let inode = recorded.image.find(&below(dir)).ok_or(io::ErrorKind::NotFound)?;
        let names = recorded.image.names(inode).ok_or(io::ErrorKind::NotADirectory)?;
        Ok(names.keys().cloned().collect())
    }

    fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        Ok(self.recorded().image.node(&below(path)).map(|node| match node {
            Node::File { now, mode, .. } => Stat { kind: Kind::File, size_bytes: now.bytes.len() as u64, mode: *mode },
            Node::Directory { mode, .. } => Stat { kind: Kind::Directory, size_bytes: 0, mode: *mode },
            Node::Link { target } => {
                Stat { kind: Kind::Link, size_bytes: target.as_os_str().len() as u64, mode: 0o777 }
            }
        }))
    }
}
