//! The release directories of an app: which exist, and how they go away.

use std::io;
use std::time::Duration;

use orangery_wire::{AppName, Manifest, ReleaseId, limits};

use super::sha256;
use crate::disk::{self, Disk, Kind};
use crate::fetch;
use crate::layout::Layout;

/// A download that nobody went on with for so long is given up.
pub(super) const PART_IDLE: Duration = Duration::from_hours(7 * 24);

/// The manifest of a release that exists: its seal is there and is the one that the release is named after. Its files are
/// not looked at.
pub fn sealed(disk: &dyn Disk, layout: &Layout, app: &AppName, release: &ReleaseId) -> Option<Manifest> {
    let seal = disk.read(&layout.seal(app, release), limits::MANIFEST_BYTES_MAX).ok()?;
    Manifest::parse(&seal).ok().filter(|_| sha256(&seal) == release.0)
}

/// The same for a release that is about to be tried, and it still exists after a power cut: whoever sealed it may have died
/// before its seal was durable.
pub fn sealed_durably(
    disk: &dyn Disk,
    layout: &Layout,
    app: &AppName,
    release: &ReleaseId,
) -> io::Result<Option<Manifest>> {
    let manifest = sealed(disk, layout, app, release);
    if manifest.is_some() {
        disk.sync_dir(&layout.release(app, release))?;
    }
    Ok(manifest)
}

/// Removes all releases of `app` but those in `keep`, whether sealed or not, and downloads that were given up. Returns how
/// many releases went. May be repeated. Blocking.
pub fn collect(disk: &dyn Disk, layout: &Layout, app: &AppName, keep: &[ReleaseId]) -> io::Result<u32> {
    let mut count = 0;
    for name in list(disk, layout, app)? {
        if let Some(release) = name.to_str().and_then(|name| name.parse().ok())
            && !keep.contains(&release)
        {
            clear(disk, layout, app, &release)?;
            count += 1;
        }
    }
    fetch::drop_parts(&layout.parts(), PART_IDLE, None)?;
    Ok(count)
}

pub(super) fn list(disk: &dyn Disk, layout: &Layout, app: &AppName) -> io::Result<Vec<std::ffi::OsString>> {
    match disk.list(&layout.releases(app)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other,
    }
}

/// Takes a release's seal away, durably: from then on it does not exist.
pub(super) fn unseal(disk: &dyn Disk, layout: &Layout, app: &AppName, release: &ReleaseId) -> io::Result<()> {
    let seal = layout.seal(app, release);
    if disk.exists(&seal) { disk::remove(disk, &seal) } else { Ok(()) }
}

/// Removes whatever is where a release would be; nothing is fine. The seal goes first and durably, so that there is never a
/// sealed release with files missing.
pub(super) fn clear(disk: &dyn Disk, layout: &Layout, app: &AppName, release: &ReleaseId) -> io::Result<()> {
    let directory = layout.release(app, release);
    match disk.stat(&directory)?.map(|stat| stat.kind) {
        None => return Ok(()),
        Some(Kind::Directory) => {
            unseal(disk, layout, app, release)?;
            disk.remove_dir_all(&directory)?;
        }
        // A link, or anything else that is no release: it is removed itself, not what it leads to.
        Some(_) => disk.remove_file(&directory)?,
    }
    disk.sync_dir(&layout.releases(app))
}
