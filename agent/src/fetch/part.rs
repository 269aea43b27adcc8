//! The part file of a download, hashed while it is written.
//!
//! The file is never synced: after a power cut it may hold anything. That is found by its digest, which covers every byte
//! that is in it, however it got there.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use orangery_wire::Digest;
use ring::digest::{Context, SHA256};
use rustix::fs::{FlockOperation, OFlags, flock};
use tokio::task::{JoinHandle, spawn_blocking};

use super::FetchError;

/// Bytes that are collected before they are written in one go.
const BATCH_BYTES: usize = 256 * 1024;

/// The file, and the digest of all that is in it.
struct Part {
    file: File,
    hash: Context,
    len: u64,
}

impl Part {
    /// Opens or creates the part and hashes what is in it. One that is longer than `size_bytes` is emptied.
    fn open(path: &Path, size_bytes: u64) -> io::Result<Box<Self>> {
        let file = open(path, true)?;
        // Held until the file is closed, wherever it is passed on to: two writers would spoil each other's work.
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        let mut part = Box::new(Self { file, hash: Context::new(&SHA256), len: 0 });
        if part.file.metadata()?.len() > size_bytes {
            part.empty()?;
        }
        part.take_in()?;
        Ok(part)
    }

    fn take_in(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; BATCH_BYTES];
        loop {
            let read = match self.file.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            self.hash.update(buffer.get(..read).unwrap_or_default());
            self.len += read as u64;
        }
    }

    fn append(&mut self, pieces: &[Bytes]) -> io::Result<()> {
        for piece in pieces {
            self.file.write_all(piece)?;
            self.hash.update(piece);
            self.len += piece.len() as u64;
        }
        Ok(())
    }

    fn empty(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        (self.hash, self.len) = (Context::new(&SHA256), 0);
        Ok(())
    }
}

enum Writer {
    Idle(Box<Part>),
    Busy(JoinHandle<io::Result<Box<Part>>>),
    Failed,
}

/// Takes bytes in while the previous ones are hashed and written on another thread.
pub(super) struct Sink {
    path: PathBuf,
    writer: Writer,
    waiting: Vec<Bytes>,
    waiting_bytes: usize,
    len: u64,
}

impl Sink {
    pub(super) async fn open(path: &Path, size_bytes: u64) -> Result<Self, FetchError> {
        let owned = path.to_owned();
        let opened = spawn_blocking(move || Part::open(&owned, size_bytes)).await.map_err(io::Error::other).flatten();
        let part = opened.map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => FetchError::Busy { path: path.to_owned() },
            _ => FetchError::part("opening", path, source),
        })?;
        let len = part.len;
        Ok(Self { path: path.to_owned(), writer: Writer::Idle(part), waiting: Vec::new(), waiting_bytes: 0, len })
    }

    /// Bytes taken in, those of earlier downloads included.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) async fn push(&mut self, bytes: Bytes) -> Result<(), FetchError> {
        self.len += bytes.len() as u64;
        self.waiting_bytes += bytes.len();
        self.waiting.push(bytes);
        if self.waiting_bytes >= BATCH_BYTES { self.write().await } else { Ok(()) }
    }

    /// Starts all over.
    pub(super) async fn empty(&mut self) -> Result<(), FetchError> {
        (self.waiting, self.waiting_bytes, self.len) = (Vec::new(), 0, 0);
        let mut part = self.part().await?;
        self.writer = Writer::Busy(spawn_blocking(move || part.empty().map(|()| part)));
        Ok(())
    }

    /// Waits until everything is written.
    pub(super) async fn settle(&mut self) -> Result<(), FetchError> {
        self.write().await?;
        self.writer = Writer::Idle(self.part().await?);
        Ok(())
    }

    /// Waits until everything is written, and says what its digest is.
    pub(super) async fn digest(&mut self) -> Result<Digest, FetchError> {
        self.write().await?;
        let part = self.part().await?;
        let mut digest = [0; 32];
        digest.copy_from_slice(part.hash.clone().finish().as_ref());
        self.writer = Writer::Idle(part);
        Ok(Digest(digest))
    }

    /// The file, at its beginning.
    pub(super) async fn into_file(mut self) -> Result<File, FetchError> {
        let mut part = self.part().await?;
        part.file.rewind().map_err(|e| FetchError::part("reading", &self.path, e))?;
        Ok(part.file)
    }

    /// Removes the part; what it held is of no use.
    pub(super) async fn delete(mut self) -> Result<(), FetchError> {
        // Not before the last write is over.
        let _ = self.part().await;
        let path = self.path.clone();
        let removed = spawn_blocking(move || std::fs::remove_file(path)).await.map_err(io::Error::other).flatten();
        removed.map_err(|e| FetchError::part("removing", &self.path, e))
    }

    /// Hands what is waiting to the writer, once that is done with what it had.
    async fn write(&mut self) -> Result<(), FetchError> {
        let mut part = self.part().await?;
        let pieces = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        self.writer = Writer::Busy(spawn_blocking(move || part.append(&pieces).map(|()| part)));
        Ok(())
    }

    async fn part(&mut self) -> Result<Box<Part>, FetchError> {
        let part = match std::mem::replace(&mut self.writer, Writer::Failed) {
            Writer::Idle(part) => Ok(part),
            Writer::Busy(writing) => writing.await.map_err(io::Error::other).flatten(),
            Writer::Failed => Err(io::Error::other("an earlier write failed")),
        };
        part.map_err(|e| FetchError::part("writing", &self.path, e))
    }
}

/// Removes [`idle_parts`]. Returns how many went. Blocking.
pub fn drop_parts(dir: &Path, idle: Duration, but: Option<&Path>) -> io::Result<u32> {
    let mut count = 0;
    for path in idle_parts(dir, idle, but)? {
        std::fs::remove_file(&path)?;
        count += 1;
    }
    Ok(count)
}

/// The part files in `dir` that nobody wrote to for `idle`, except `but` and those that a download is at work on. Blocking.
pub fn idle_parts(dir: &Path, idle: Duration, but: Option<&Path>) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if but != Some(path.as_path()) && is_idle(&path, idle)? {
            found.push(path);
        }
    }
    Ok(found)
}

/// Where the clock went back, nothing looks old.
fn is_idle(path: &Path, idle: Duration) -> io::Result<bool> {
    let Ok(file) = open(path, false) else { return Ok(false) };
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(false);
    }
    let age = SystemTime::now().duration_since(file.metadata()?.modified()?).unwrap_or_default();
    Ok(age >= idle)
}

fn open(path: &Path, create: bool) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = OpenOptions::new().read(true).write(true).create(create).mode(0o600).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
}
