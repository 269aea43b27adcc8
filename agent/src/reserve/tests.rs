use std::sync::Arc;

use super::*;
use crate::disk::{Disk, RealDisk};
use crate::store::{Change, Engine};

const MB: u64 = 1 << 20;

/// A file system of so many bytes, unmounted when dropped. `None`, and says so, where one cannot be mounted.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(bytes: u64) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let options = format!("size={bytes},mode=0755");
        let mount = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(directory.path())
            .output();
        if mount.is_ok_and(|output| output.status.success()) {
            return Some(Self(directory));
        }
        eprintln!("SKIPPED: only root can mount the small disk that this test needs");
        None
    }

    fn layout(&self) -> Layout {
        Layout::new(self.0.path())
    }

    fn free(&self) -> u64 {
        free_bytes(&statvfs(self.0.path()).unwrap())
    }

    /// Leaves exactly `bytes` free.
    fn fill(&self, bytes: u64) {
        let path = self.0.path().join("filler");
        let _ = std::fs::remove_file(&path);
        let file = File::create(path).unwrap();
        let size = self.free() - bytes;
        if size > 0 {
            fallocate(&file, FallocateFlags::empty(), 0, size).unwrap();
        }
        assert_eq!(self.free(), bytes);
    }

    fn spill(&self) {
        std::fs::remove_file(self.0.path().join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn the_reserve_has_real_blocks_and_is_found_again() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::new(directory.path());
    let reserve = Reserve::new(&layout, MB);
    assert_eq!((reserve.state(), reserve.missing_bytes()), (Some(ReserveState::Missing), MB));
    reserve.fill().unwrap();
    assert_eq!((reserve.state(), reserve.missing_bytes()), (Some(ReserveState::Full), 0));
    let file = std::fs::metadata(layout.reserve()).unwrap();
    assert!(file.len() == MB && file.blocks() * 512 >= MB && file.mode() & 0o777 == 0o600);

    assert_eq!(Reserve::new(&layout, MB).state(), Some(ReserveState::Full));
    let larger = Reserve::new(&layout, 2 * MB);
    assert_eq!(larger.missing_bytes(), MB);
    larger.fill().unwrap();
    let smaller = Reserve::new(&layout, MB / 2);
    smaller.fill().unwrap();
    assert_eq!(std::fs::metadata(layout.reserve()).unwrap().len(), MB / 2);
    let none = Reserve::new(&layout, 0);
    none.fill().unwrap();
    assert!(none.state().is_none() && !layout.reserve().exists());
}

#[test]
fn a_hole_of_the_right_length_is_no_reserve() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::new(directory.path());
    File::create(layout.reserve()).unwrap().set_len(MB).unwrap();
    let reserve = Reserve::new(&layout, MB);
    assert_eq!(reserve.missing_bytes(), MB);
    reserve.fill().unwrap();
    assert!(std::fs::metadata(layout.reserve()).unwrap().blocks() * 512 >= MB);
}

#[test]
fn a_full_disk_takes_what_must_be_written_until_the_reserve_is_used_up() {
    let Some(small) = SmallDisk::new(64 * MB) else { return };
    let reserve = Arc::new(Reserve::new(&small.layout(), 64 * MB));
    assert_eq!(reserve.size_bytes(), 4 * MB, "the sixteenth part of the disk");
    reserve.fill().unwrap();
    small.fill(0);
    let disk = ReservedDisk::new(RealDisk, reserve.clone());
    let bytes = vec![1; 100_000];
    let file = |n: u64| small.0.path().join(format!("file-{n}"));
    assert!(is_full(&RealDisk.write_new(&file(0), &bytes, 0o600).unwrap_err()));
    let mut written = 0;
    while disk.write_new(&file(written), &bytes, 0o600).is_ok() {
        assert_eq!(disk.read(&file(written), 100_000).unwrap(), bytes);
        assert_eq!(reserve.state(), Some(ReserveState::Freed));
        assert!(small.free() <= reserve.step(), "not all of it is given up at once");
        written += 1;
    }
    assert_eq!((written, reserve.missing_bytes(), small.layout().reserve().exists()), (40, 4 * MB, false));
    assert!(!reserve.relieve());

    small.spill();
    reserve.fill().unwrap();
    assert_eq!((reserve.state(), reserve.missing_bytes()), (Some(ReserveState::Full), 0));
}

#[test]
fn the_reserve_is_made_only_where_a_step_more_than_it_is_free() {
    let Some(small) = SmallDisk::new(64 * MB) else { return };
    let reserve = Reserve::new(&small.layout(), 4 * MB);
    for (free, made) in
        [(0, false), (4 * MB, false), (4 * MB + reserve.step() - 4_096, false), (4 * MB + reserve.step(), true)]
    {
        small.fill(free);
        reserve.fill().unwrap();
        assert_eq!(reserve.missing_bytes() == 0, made, "{free} bytes free");
    }
}

#[test]
fn a_disk_that_is_short_of_something_else_keeps_its_reserve() {
    let directory = tempfile::tempdir().unwrap();
    let reserve = Reserve::new(&Layout::new(directory.path()), MB);
    reserve.fill().unwrap();
    let full = || io::Error::from(io::ErrorKind::StorageFull);
    assert!(reserve.retrying(|| Err::<(), _>(full())).is_err());
    assert!(!reserve.relieve());
    assert_eq!(reserve.state(), Some(ReserveState::Full));
}

#[test]
fn a_store_is_opened_and_written_on_a_full_disk() {
    for engine in [Engine::Redb, Engine::Sled] {
        let Some(small) = SmallDisk::new(128 * MB) else { return };
        let reserve = Arc::new(Reserve::new(&small.layout(), 8 * MB));
        reserve.fill().unwrap();
        small.fill(0);
        let mut opened = open_store(engine, &small.layout().store(), reserve.clone()).unwrap();
        assert!(!opened.in_memory && opened.rebuilt.is_none(), "{engine}: {:?}", opened.rebuilt);
        for key in 1..=200 {
            opened.store.write(&[Change::Put { key, value: vec![2; 1_000] }]).unwrap();
        }
        drop(opened);
        let mut opened = open_store(engine, &small.layout().store(), reserve.clone()).unwrap();
        assert_eq!((opened.rebuilt, opened.store.read(0, 1_000).unwrap().len()), (None, 200), "{engine}");
        assert_eq!(reserve.state(), Some(ReserveState::Freed), "{engine}");
    }
}
