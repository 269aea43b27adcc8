//! Whether a release will fit, computed from the signed manifest before the first byte is fetched.

use std::io;

use orangery_wire::manifest::{Entry, Tree};
use rustix::fs::statvfs;

use crate::layout::Layout;
use crate::reserve::free_bytes;

/// Directories around the tree, and the entries that the file system may add for new names, in blocks.
const BLOCKS_AROUND: u64 = 4;

/// What a release takes from the disk.
#[derive(Debug, Clone)]
pub(super) struct Need {
    pub(super) tree: Tree,
    /// Size of the manifest.
    pub(super) seal_bytes: u64,
    /// What the reserve lacks.
    pub(super) reserve_bytes: u64,
}

/// A disk at a moment, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    free: u64,
    block: u64,
    /// What is here of the pack already.
    held: u64,
}

impl Need {
    /// The part file of its pack.
    pub(super) fn part(&self, layout: &Layout) -> std::path::PathBuf {
        layout.part(&self.tree.pack.digest)
    }

    /// What there is now.
    pub(super) fn room(&self, layout: &Layout) -> io::Result<Room> {
        let system = statvfs(layout.root())?;
        let held = std::fs::metadata(self.part(layout)).map_or(0, |part| part.len());
        Ok(Room { free: free_bytes(&system), block: system.f_frsize.max(1), held })
    }

    /// How much is missing, in bytes.
    pub(super) fn short(&self, room: Room) -> u64 {
        self.needed(room).saturating_sub(room.free)
    }

    /// Why it does not fit even if `spare` bytes more are freed. For people.
    pub(super) fn refusal(&self, room: Room, spare: u64) -> String {
        let short = self.short(room).saturating_sub(spare);
        format!(
            "needs {} on the disk ({} to download, {} unpacked, {} for the reserve); {} are free and {} can be freed, short by \
             {}; remove at least {short} bytes of other files from the node's disk, or move its state directory to a larger one",
            human(self.needed(room)),
            human(self.packed(room)),
            human(self.unpacked(room.block)),
            human(self.reserve_bytes),
            human(room.free),
            human(spare),
            human(short)
        )
    }

    fn needed(&self, room: Room) -> u64 {
        self.packed(room).saturating_add(self.unpacked(room.block)).saturating_add(self.reserve_bytes)
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

/// `212.4 MB`, rounded up: who frees that much has freed enough.
fn human(bytes: u64) -> String {
    let units = [(1_000_000_000_000_u64, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    let Some((unit, name)) = units.into_iter().find(|(unit, _)| bytes >= *unit) else {
        return format!("{bytes} bytes");
    };
    let tenths = bytes.div_ceil(unit / 10);
    format!("{}.{} {name}", tenths / 10, tenths % 10)
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
        assert_eq!(need().short(room(needed)), 0);
        assert_eq!(need().short(room(needed - 1)), 1);
    }

    #[test]
    fn a_refusal_says_what_is_needed_what_there_is_and_how_much_is_missing() {
        let room = Room { free: 20_000, block: 4_096, held: 0 };
        let text = need().refusal(room, 10_000);
        assert_eq!(
            text,
            "needs 50.2 kB on the disk (8.2 kB to download, 41.0 kB unpacked, 1.0 kB for the reserve); 20.0 kB are free \
             and 10.0 kB can be freed, short by 20.2 kB; remove at least 20152 bytes of other files from the node's disk, \
             or move its state directory to a larger one"
        );
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
        let room = Room { free: u64::MAX - 1, block: 4_096, held: 0 };
        assert_eq!(need.short(room), 1);
        assert!(!need.refusal(room, 0).is_empty());
    }

    #[test]
    fn numbers_for_people_are_never_too_small() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (999, "999 bytes"),
            (1_000, "1.0 kB"),
            (32_000_001, "32.1 MB"),
            (212_000_000, "212.0 MB"),
            (u64::MAX, "18446744.1 TB"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }
}
