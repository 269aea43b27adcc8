//! Whether a release will fit, computed from the signed manifest before the first byte is fetched.

use std::io;
use std::time::Duration;

use orangery_wire::manifest::{Entry, Tree};
use rustix::fs::statvfs;

use crate::fetch;
use crate::layout::Layout;

/// Directories around the tree, and the entries that the file system may add for new names, in blocks.
const BLOCKS_AROUND: u64 = 4;

/// What a release takes from the disk.
#[derive(Debug, Clone)]
pub(super) struct Need {
    pub(super) tree: Tree,
    /// Size of the manifest.
    pub(super) seal_bytes: u64,
    /// What must stay free beside it.
    pub(super) reserve_bytes: u64,
}

/// A disk at a moment, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Room {
    free: u64,
    block: u64,
    /// What is here of the pack already.
    held: u64,
}

impl Need {
    /// Whether it fits. If it does not, downloads that nobody is at work on are removed, and it is asked again; the text of
    /// the inner error says what is needed and what there is.
    pub(super) fn ensure(&self, layout: &Layout) -> io::Result<Result<(), String>> {
        let verdict = self.judge(self.room(layout)?);
        if verdict.is_err() && fetch::drop_parts(&layout.parts(), Duration::ZERO, Some(&self.part(layout)))? > 0 {
            return Ok(self.judge(self.room(layout)?));
        }
        Ok(verdict)
    }

    fn part(&self, layout: &Layout) -> std::path::PathBuf {
        layout.part(&self.tree.pack.digest)
    }

    fn room(&self, layout: &Layout) -> io::Result<Room> {
        let system = statvfs(layout.root())?;
        let held = std::fs::metadata(self.part(layout)).map_or(0, |part| part.len());
        Ok(Room { free: system.f_bavail.saturating_mul(system.f_frsize), block: system.f_frsize.max(1), held })
    }

    fn judge(&self, room: Room) -> Result<(), String> {
        let (packed, unpacked) = (self.packed(room), self.unpacked(room.block));
        let needed = packed.saturating_add(unpacked).saturating_add(self.reserve_bytes);
        if needed <= room.free {
            return Ok(());
        }
        Err(format!(
            "needs {needed} bytes on the disk ({packed} to download, {unpacked} unpacked, {} to stay free), and {} are \
             free; free space on the node, or move its state directory to a larger disk",
            self.reserve_bytes, room.free
        ))
    }

    /// What is still to be downloaded. A part that is too long will be emptied first, so it does not count.
    fn packed(&self, room: Room) -> u64 {
        let size = self.tree.pack.size_bytes;
        let held = Some(room.held).filter(|held| *held <= size).unwrap_or(0);
        (size - held).div_ceil(room.block).saturating_mul(room.block)
    }

    /// Files, rounded up to blocks, and one block for each directory or link.
    fn unpacked(&self, block: u64) -> u64 {
        let entries = self.tree.entries.iter().map(|entry| match entry {
            Entry::File { size_bytes, .. } => size_bytes.div_ceil(block),
            Entry::Directory { .. } | Entry::Link { .. } => 1,
        });
        let blocks = entries.chain([self.seal_bytes.div_ceil(block), BLOCKS_AROUND]).fold(0, u64::saturating_add);
        blocks.saturating_mul(block)
    }
}

#[cfg(test)]
mod tests {
    use orangery_wire::Digest;
    use orangery_wire::manifest::{Encoding, Pack};

    use super::*;

    fn need() -> Need {
        let file = |path: &str, size_bytes| Entry::File {
            path: path.into(),
            digest: Digest([0; 32]),
            size_bytes,
            executable: false,
        };
        let entries = vec![
            Entry::Directory { path: "a".into() },
            file("a/empty", 0),
            file("a/one", 1),
            file("a/two-blocks", 4_097),
            Entry::Link { path: "b".into(), target: "a".into() },
        ];
        let pack = Pack { digest: Digest([0; 32]), size_bytes: 4_100, encoding: Encoding::Zstd };
        Need { tree: Tree { size_bytes: 4_098, pack, entries }, seal_bytes: 500, reserve_bytes: 1_000 }
    }

    #[test]
    fn every_block_counts() {
        // Directory 1, files 0 + 1 + 2, link 1, seal 1, around 4.
        assert_eq!(need().unpacked(4_096), 10 * 4_096);
        let needed = 2 * 4_096 + 10 * 4_096 + 1_000;
        let room = |free| Room { free, block: 4_096, held: 0 };
        assert_eq!(need().judge(room(needed)), Ok(()));
        let text = need().judge(room(needed - 1)).unwrap_err();
        assert!(text.contains(&needed.to_string()) && text.contains(&(needed - 1).to_string()), "{text}");
    }

    #[test]
    fn what_was_downloaded_already_is_not_needed_again() {
        let packed = |held| need().packed(Room { free: 0, block: 4_096, held });
        assert_eq!([0, 4, 5, 4_100, 4_101].map(packed), [8_192, 4_096, 4_096, 0, 8_192]);
    }

    #[test]
    fn sizes_that_no_disk_has_do_not_overflow() {
        let mut need = need();
        need.reserve_bytes = u64::MAX;
        need.seal_bytes = u64::MAX;
        assert!(need.judge(Room { free: u64::MAX - 1, block: 4_096, held: 0 }).is_err());
    }
}
