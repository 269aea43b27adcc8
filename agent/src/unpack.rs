//! From a verified pack to a release's files.
//!
//! The release directory is made anew and everything in it is reached through its descriptor, one name at a time and never
//! through a link, so there is no path that something else could bend meanwhile. While it is unpacked only the agent
//! may enter. Every byte is counted and hashed against the manifest on its way to the disk, and when [`unpack`] returns,
//! every file and every directory is durable. The seal is not written here: it comes after, and only then the release
//! exists.

mod below;
mod sync;

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::PathBuf;

use orangery_wire::Digest;
use orangery_wire::manifest::{Encoding, Entry, Tree};
use orangery_wire::messages::RefusalCode;
use ring::digest::{Context, SHA256};

pub use below::{At, Directory, Walk, file_mode};
use below::{PRIVATE, PUBLIC};
use sync::Syncers;

use crate::errors::disk_code;

/// The directory in a release's directory that holds its files.
pub const TREE: &str = "tree";

/// Largest window that a pack may ask for, as a power of two: 8 MiB. A frame that wants more could make a board allocate
/// gigabytes (RFC 8878 section 3.1.1.1.2).
const WINDOW_LOG_MAX: u32 = 23;

const BUFFER_BYTES: usize = 128 * 1024;

/// Why a pack was not unpacked. What was made of it so far is left behind, without a seal.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The pack or a file in it is not what the manifest says.
    #[error("unpacking {path:?} failed: {reason}; build and push the release again")]
    Content {
        /// The file, relative to the tree; empty for the pack as a whole.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The disk did not do as asked.
    #[error("{deed} {} failed", path.display())]
    Disk {
        /// "making", "writing", "syncing", ...
        deed: &'static str,
        /// The file or directory, relative to the release.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl UnpackError {
    fn content(path: &str, reason: impl Into<String>) -> Self {
        Self::Content { path: path.to_owned(), reason: reason.into() }
    }

    fn disk(deed: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self::Disk { deed, path: path.into(), source: source.into() }
    }

    /// The code to refuse the release with.
    pub fn code(&self) -> RefusalCode {
        match self {
            Self::Content { .. } => RefusalCode::Unverified,
            Self::Disk { source, .. } => disk_code(source),
        }
    }
}

/// Unpacks `pack` into the new directory `name` below `releases`, as `name/tree/...`. Fails if `name` exists. Blocking.
///
/// `tree` must come from a valid manifest. Modes are 0444 for files, 0555 for executable ones, 0755 for directories,
/// whatever the umask. On success everything is durable, `name` itself included.
pub fn unpack(pack: File, tree: &Tree, releases: &Directory, name: &str) -> Result<(), UnpackError> {
    let release = releases.make(name, PRIVATE).map_err(|e| UnpackError::disk("making", name, e))?;
    let root = release.make(TREE, PUBLIC).map_err(|e| UnpackError::disk("making", TREE, e))?;
    let mut contents = Contents::open(pack, tree).map_err(|e| pack_error("", &e))?;
    // In no particular order, for nothing of it counts before the seal; but all of it is durable when this returns.
    Syncers::run(|syncers| {
        write_files(&mut contents, tree, &root, syncers)?;
        contents.finish()?;
        make_links(tree, &root)?;
        release.open_up().map_err(|e| UnpackError::disk("opening up", name, e))?;
        sync_directories(tree, &root, syncers)?;
        syncers.sync(root.into_file(), TREE)?;
        syncers.sync(release.into_file(), name)
    })?;
    releases.sync().map_err(|e| UnpackError::disk("syncing", "releases", e))
}

/// Makes every directory and file in the order of the entries, which is the order of the pack.
fn write_files(contents: &mut Contents, tree: &Tree, root: &Directory, syncers: &Syncers) -> Result<(), UnpackError> {
    let mut walk = Walk::new(root);
    let mut buffer = vec![0; BUFFER_BYTES];
    for entry in &tree.entries {
        let path = entry.path();
        let in_parent = walk.parent(path).map_err(|e| UnpackError::disk("opening the directory of", path, e))?;
        let made = |e| UnpackError::disk("making", path, e);
        match entry {
            Entry::Directory { .. } => drop(in_parent.directory.make(in_parent.name, PUBLIC).map_err(made)?),
            Entry::File { digest, size_bytes, executable, .. } => {
                let mut file = in_parent.directory.create(in_parent.name, *executable).map_err(made)?;
                contents.copy(&mut file, path, *size_bytes, digest, &mut buffer)?;
                syncers.sync(file, path)?;
            }
            // Later, when nothing is written through any path any more.
            Entry::Link { .. } => {}
        }
    }
    Ok(())
}

fn make_links(tree: &Tree, root: &Directory) -> Result<(), UnpackError> {
    let mut walk = Walk::new(root);
    for entry in &tree.entries {
        if let Entry::Link { path, target } = entry {
            let made = walk.parent(path).and_then(|at| at.directory.link(at.name, target));
            made.map_err(|e| UnpackError::disk("linking", path, e))?;
        }
    }
    Ok(())
}

/// Makes the names in every directory of the tree durable.
fn sync_directories(tree: &Tree, root: &Directory, syncers: &Syncers) -> Result<(), UnpackError> {
    let mut walk = Walk::new(root);
    for entry in &tree.entries {
        if let Entry::Directory { path } = entry {
            let opened = walk.parent(path).and_then(|at| at.directory.enter(at.name));
            let directory = opened.map_err(|e| UnpackError::disk("opening", path, e))?;
            syncers.sync(directory.into_file(), path)?;
        }
    }
    Ok(())
}

/// The contents of all files of a tree, one after the other.
enum Contents {
    Plain(BufReader<File>),
    Zstd(Box<zstd::Decoder<'static, BufReader<File>>>),
}

impl Contents {
    fn open(pack: File, tree: &Tree) -> io::Result<Self> {
        let pack = BufReader::with_capacity(BUFFER_BYTES, pack);
        Ok(match tree.pack.encoding {
            Encoding::None => Self::Plain(pack),
            Encoding::Zstd => {
                // One frame: what follows it is not part of the pack.
                let mut decoder = zstd::Decoder::with_buffer(pack)?.single_frame();
                decoder.window_log_max(WINDOW_LOG_MAX)?;
                Self::Zstd(Box::new(decoder))
            }
        })
    }

    /// The next bytes of the contents; none at their end.
    fn next(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = match self {
                Self::Plain(reader) => reader.read(buffer),
                Self::Zstd(decoder) => decoder.read(buffer),
            };
            match read {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// Writes the next `size_bytes` to `file`, if they have the right digest.
    fn copy(
        &mut self,
        file: &mut File,
        path: &str,
        size_bytes: u64,
        digest: &Digest,
        buffer: &mut [u8],
    ) -> Result<(), UnpackError> {
        let mut hash = Context::new(&SHA256);
        let mut left = size_bytes;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let Some(room) = buffer.get_mut(..most) else { break };
            let read = self.next(room).map_err(|e| pack_error(path, &e))?;
            let bytes = room.get(..read).filter(|bytes| !bytes.is_empty());
            let bytes = bytes.ok_or_else(|| UnpackError::content(path, "the pack ends before the file does"))?;
            hash.update(bytes);
            file.write_all(bytes).map_err(|e| UnpackError::disk("writing", path, e))?;
            left -= read as u64;
        }
        if hash.finish().as_ref() == digest.0 {
            return Ok(());
        }
        Err(UnpackError::content(path, "its digest is not the one in the manifest"))
    }

    /// Makes sure that nothing follows the last file, packed or unpacked.
    fn finish(mut self) -> Result<(), UnpackError> {
        let mut more = self.next(&mut [0]).map_err(|e| pack_error("", &e))?;
        if let Self::Zstd(decoder) = self {
            more += decoder.finish().read(&mut [0]).map_err(|e| pack_error("", &e))?;
        }
        if more == 0 { Ok(()) } else { Err(UnpackError::content("", "the pack goes on after the last file")) }
    }
}

/// An error of the operating system is the disk's; any other is one of the decoder, and so the pack's.
fn pack_error(path: &str, error: &io::Error) -> UnpackError {
    match error.raw_os_error() {
        Some(code) => UnpackError::disk("reading the pack of", path, io::Error::from_raw_os_error(code)),
        None => UnpackError::content(path, format!("the pack cannot be decompressed ({error})")),
    }
}

#[cfg(test)]
mod tests;
