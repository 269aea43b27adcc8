//! Whether a release on the disk still is what was signed: nothing changed, nothing missing, nothing added.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use orangery_wire::manifest::{Entry, Tree};
use orangery_wire::{AppName, Digest, ReleaseId};
use ring::digest::{Context, SHA256};

use crate::layout::Layout;
use crate::unpack::{Directory, Walk, file_mode};

const BUFFER_BYTES: usize = 128 * 1024;

/// Reads all files of the release; an error says what is not as signed. Blocking.
pub(super) fn check(layout: &Layout, app: &AppName, release: &ReleaseId, tree: &Tree) -> io::Result<()> {
    let path = layout.tree(app, release);
    let root = Directory::open(layout.root(), path.strip_prefix(layout.root()).unwrap_or(&path))?;
    let mut walk = Walk::new(&root);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::from([("", 0)]);
    for entry in &tree.entries {
        let path = entry.path();
        *counts.entry(path.rsplit_once('/').map_or("", |(parent, _)| parent)).or_default() += 1;
        if matches!(entry, Entry::Directory { .. }) {
            counts.entry(path).or_default();
        }
        check_entry(&mut walk, entry)?;
    }
    for (path, count) in counts {
        let at = walk.parent(path)?;
        let directory = if path.is_empty() { root.count()? } else { at.directory.enter(at.name)?.count()? };
        ensure(directory == count, path, "has other entries than were signed")?;
    }
    Ok(())
}

fn check_entry<'a>(walk: &mut Walk<'a>, entry: &'a Entry) -> io::Result<()> {
    let at = walk.parent(entry.path())?;
    match entry {
        Entry::Directory { path } => at.directory.enter(at.name).map(drop).map_err(|e| named(path, &e)),
        Entry::Link { path, target } => {
            let says = at.directory.read_link(at.name).map_err(|e| named(path, &e))?;
            ensure(says == Path::new(target), path, "leads elsewhere than was signed")
        }
        Entry::File { path, digest, size_bytes, executable } => {
            let file = at.directory.read(at.name).map_err(|e| named(path, &e))?;
            let found = file.metadata()?;
            let mode = found.permissions().mode() & 0o7777;
            ensure(found.len() == *size_bytes, path, "has another size than was signed")?;
            ensure(mode == file_mode(*executable), path, "has other permissions than were signed")?;
            ensure(hash(file)? == *digest, path, "has other content than was signed")
        }
    }
}

fn hash(mut file: File) -> io::Result<Digest> {
    let mut hash = Context::new(&SHA256);
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => hash.update(buffer.get(..read).unwrap_or_default()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(hash.finish().as_ref());
    Ok(Digest(digest))
}

fn ensure(good: bool, path: &str, rule: &str) -> io::Result<()> {
    if good { Ok(()) } else { Err(io::Error::new(io::ErrorKind::InvalidData, format!("{path:?} {rule}"))) }
}

fn named(path: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{path:?}: {error}"))
}
