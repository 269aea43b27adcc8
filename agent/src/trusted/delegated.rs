//! Metadata of roles that targets are delegated to, in `delegated/`, with previous copies as everything that is served.
//!
//! It is kept so that nobody needs to be asked twice, and proves nothing by lying there: `orangery-trust` verifies it anew on
//! every use, and takes it for current only if it is of the version that the trusted snapshot names. So no floor of its own
//! is needed, and nothing is lost if a file is.

use std::io;
use std::path::PathBuf;

use orangery_trust::{Keep, Search, limits::DELEGATED_BYTES_MAX, role_file};

use super::shelf::{DIR_MODE, Shelf};
use crate::disk;
use crate::record;

/// Most files, previous copies among them. When there are as many, room is made by dropping all.
const FILES_MAX: usize = 256;

impl Shelf {
    /// Offers what is kept of the role that the search needs next to `take`. `false` if nothing was taken.
    pub(super) fn offer<'a>(&self, search: &mut Search<'a>, take: impl Fn(&mut Search<'a>, &[u8]) -> bool) -> bool {
        let Some(name) = search.next().and_then(|request| request.delegated) else { return false };
        let file = self.delegated().join(role_file(&name));
        let max = usize::try_from(DELEGATED_BYTES_MAX).unwrap_or(usize::MAX);
        let copies = [record::previous(&file), file];
        copies.iter().rev().any(|file| self.disk.read(file, max).is_ok_and(|bytes| take(search, &bytes)))
    }

    /// Makes the metadata of a delegated role durable.
    pub(super) fn keep_delegated(&self, keep: &Keep) -> io::Result<()> {
        let Some(name) = &keep.delegated else { return Ok(()) };
        let (disk, dir) = (&*self.disk, self.delegated());
        disk::make_dir(disk, &dir, DIR_MODE)?;
        let names = disk.list(&dir)?;
        if names.len() >= FILES_MAX {
            names.iter().try_for_each(|name| disk::remove(disk, &dir.join(name)))?;
        }
        self.replace_and_keep(&dir.join(role_file(name)), &keep.bytes)
    }

    fn delegated(&self) -> PathBuf {
        self.dir.join("delegated")
    }
}
