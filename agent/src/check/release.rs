//! One release: whether it exists, and whether it is what was signed.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use orangery_wire::manifest::{Entry, Manifest, Tree, this_platform};
use orangery_wire::{AppName, Digest, ReleaseId, limits};
use ring::digest::{Context, SHA256};

use crate::disk::{Disk, Kind};
use crate::layout::Layout;

/// Where something is wrong, and what.
type Fault = (PathBuf, String);

/// The manifest that seals the release.
pub(super) fn sealed(disk: &dyn Disk, layout: &Layout, app: &AppName, release: &ReleaseId) -> Result<Manifest, Fault> {
    let path = layout.seal(app, release);
    let fault = |text: String| (path.clone(), text);
    let bytes =
        disk.read(&path, limits::MANIFEST_BYTES_MAX).map_err(|e| fault(format!("cannot read the seal: {e}")))?;
    if digest(&mut bytes.as_slice()).ok() != Some(release.0) {
        return Err(fault("its digest is not the release's name".to_owned()));
    }
    let manifest = Manifest::parse(&bytes).map_err(|e| fault(e.to_string()))?;
    if manifest.app != *app {
        return Err(fault(format!("it is a release of {}", manifest.app)));
    }
    Ok(manifest)
}

/// Whether the release is sealed and its tree has every entry as signed, and no other.
pub(super) fn whole(disk: &dyn Disk, layout: &Layout, app: &AppName, release: &ReleaseId) -> Result<(), Fault> {
    let manifest = sealed(disk, layout, app, release)?;
    let root = layout.tree(app, release);
    let platform = this_platform();
    let Some(tree) = manifest.platforms.get(&platform) else {
        return Err((root, format!("the manifest has nothing for {platform}")));
    };
    for entry in &tree.entries {
        let path = root.join(entry.path());
        check_entry(disk, &path, entry).map_err(|text| (path, text))?;
    }
    nothing_else(disk, &root, "", &signed(tree))
}

fn check_entry(disk: &dyn Disk, path: &Path, entry: &Entry) -> Result<(), String> {
    let failed = |error: io::Error| format!("cannot read it: {error}");
    let found = disk.stat(path).map_err(failed)?.ok_or("it is missing")?;
    match entry {
        Entry::Directory { .. } => right(found.kind == Kind::Directory, "it is not a directory"),
        Entry::Link { target, .. } => {
            right(found.kind == Kind::Link, "it is not a link")?;
            let says = disk.read_link(path).map_err(failed)?;
            right(says == Path::new(target), "it leads elsewhere than was signed")
        }
        Entry::File { digest: signed, size_bytes, executable, .. } => {
            right(found.kind == Kind::File, "it is not a file")?;
            right(found.size_bytes == *size_bytes, "it has another size than was signed")?;
            right(found.mode == if *executable { 0o555 } else { 0o444 }, "it has other permissions than were signed")?;
            let is = digest(&mut disk.open(path).map_err(failed)?).map_err(failed)?;
            right(is == *signed, "it has other content than was signed")
        }
    }
}

fn right(holds: bool, text: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(text.to_owned()) }
}

/// The signed paths; true for directories.
fn signed(tree: &Tree) -> BTreeMap<&str, bool> {
    tree.entries.iter().map(|entry| (entry.path(), matches!(entry, Entry::Directory { .. }))).collect()
}

/// What was not signed is not there either.
fn nothing_else(disk: &dyn Disk, root: &Path, below: &str, signed: &BTreeMap<&str, bool>) -> Result<(), Fault> {
    let directory = root.join(below);
    let names = disk.list(&directory).map_err(|e| (directory.clone(), format!("cannot list it: {e}")))?;
    for name in names {
        let path = if below.is_empty() { name.to_string_lossy().into() } else { format!("{below}/{}", name.display()) };
        match signed.get(path.as_str()) {
            None => return Err((directory.join(name), "it was not signed".to_owned())),
            Some(true) => nothing_else(disk, root, &path, signed)?,
            Some(false) => {}
        }
    }
    Ok(())
}

/// SHA-256 (FIPS 180-4).
fn digest(from: &mut dyn Read) -> io::Result<Digest> {
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => context.update(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    Ok(Digest(digest))
}
