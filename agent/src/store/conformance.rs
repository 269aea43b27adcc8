//! One contract, held by every engine.

use std::path::Path;
use std::process::Command;

use super::{Change, Engine, Entry, OPENS_MAX, Store, StoreError, VALUE_BYTES_MAX, open};
use crate::disk::{Disk, RealDisk};

const ENGINES: [Engine; 2] = [Engine::Redb, Engine::Sled];

fn put(key: u64, value: &str) -> Change {
    Change::Put { key, value: value.as_bytes().to_vec() }
}

fn entry(key: u64, value: &str) -> Entry {
    (key, value.as_bytes().to_vec())
}

/// Opens a store that must be the one of before.
fn opened(engine: Engine, dir: &Path) -> Box<dyn Store> {
    let opened = open(engine, dir).unwrap();
    assert_eq!(opened.rebuilt, None, "{engine}");
    opened.store
}

/// The store's bytes as they are on disk at this moment, as a kill would leave them.
fn copy_of(dir: &Path) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let to = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                std::fs::create_dir(&to).unwrap();
                copy(&entry.path(), &to);
            } else {
                std::fs::copy(entry.path(), to).unwrap();
            }
        }
    }
    let copied = tempfile::tempdir().unwrap();
    copy(dir, copied.path());
    copied
}

#[test]
fn entries_come_back_in_order_whatever_the_order_they_were_put_in() {
    for engine in ENGINES {
        let dir = tempfile::tempdir().unwrap();
        let mut store = opened(engine, dir.path());
        let far = 1 << 40;
        store.write(&[put(300, "c"), put(2, "b"), put(far, "d"), put(1, "a")]).unwrap();
        let all = [entry(1, "a"), entry(2, "b"), entry(300, "c"), entry(far, "d")];
        assert_eq!(store.read(0, 10).unwrap(), all, "{engine}");
        assert_eq!(store.read(2, 1).unwrap(), all[2..3], "{engine}");
        assert_eq!(store.read(far, 10).unwrap(), [], "{engine}");
        assert_eq!(store.read(u64::MAX, 10).unwrap(), [], "{engine}");
        assert_eq!(store.read(0, 0).unwrap(), [], "{engine}");
    }
}

#[test]
fn a_write_replaces_removes_and_marks_at_once() {
    for engine in ENGINES {
        let dir = tempfile::tempdir().unwrap();
        let mut store = opened(engine, dir.path());
        store.write(&[put(1, "a"), put(2, "b"), put(3, "c"), Change::Mark(7)]).unwrap();
        let changes = [put(2, "new"), Change::Remove { key: 1 }, Change::Remove { key: 99 }, Change::Mark(8)];
        store.write(&changes).unwrap();
        assert_eq!(store.read(0, 10).unwrap(), [entry(2, "new"), entry(3, "c")], "{engine}");
        assert_eq!(store.mark(), 8, "{engine}");
    }
}

#[test]
fn a_write_that_is_refused_changes_nothing() {
    for engine in ENGINES {
        let dir = tempfile::tempdir().unwrap();
        let mut store = opened(engine, dir.path());
        store.write(&[put(1, "a")]).unwrap();
        let large = Change::Put { key: 3, value: vec![0; VALUE_BYTES_MAX + 1] };
        let refused = store.write(&[put(2, "b"), Change::Mark(5), large]);
        assert!(matches!(refused, Err(StoreError::TooLarge { .. })), "{engine}: {refused:?}");
        assert_eq!(store.read(0, 10).unwrap(), [entry(1, "a")], "{engine}");
        assert_eq!(store.mark(), 0, "{engine}");
        let largest = Change::Put { key: 3, value: vec![7; VALUE_BYTES_MAX] };
        store.write(&[largest]).unwrap();
        assert_eq!(store.read(1, 10).unwrap(), [(3, vec![7; VALUE_BYTES_MAX])], "{engine}");
    }
}

#[test]
fn everything_is_there_after_it_is_opened_again() {
    for engine in ENGINES {
        let dir = tempfile::tempdir().unwrap();
        let mut store = opened(engine, dir.path());
        let epoch = store.epoch();
        assert!((1..1 << 53).contains(&epoch), "{engine}: {epoch}");
        store.write(&[put(1, "a"), put(2, "b"), Change::Mark(1)]).unwrap();
        drop(store);
        let mut store = opened(engine, dir.path());
        assert_eq!((store.epoch(), store.mark()), (epoch, 1), "{engine}");
        assert_eq!(store.read(0, 10).unwrap(), [entry(1, "a"), entry(2, "b")], "{engine}");
    }
}

#[test]
fn what_was_acknowledged_is_in_the_files_when_the_agent_is_killed() {
    for engine in ENGINES {
        let dir = tempfile::tempdir().unwrap();
        let mut store = opened(engine, dir.path());
        for key in 1..=30 {
            store.write(&[put(key, &"x".repeat(300)), Change::Mark(key)]).unwrap();
            let killed = copy_of(dir.path());
            let mut found = opened(engine, killed.path());
            assert_eq!(found.read(0, 100).unwrap(), store.read(0, 100).unwrap(), "{engine} at {key}");
            assert_eq!((found.mark(), found.epoch()), (key, store.epoch()), "{engine}");
        }
    }
}

#[test]
fn a_store_that_does_not_open_is_set_aside_and_made_anew() {
    for engine in ENGINES {
        let dir = tempfile::tempdir().unwrap();
        let mut store = opened(engine, dir.path());
        let epoch = store.epoch();
        store.write(&[put(1, "a")]).unwrap();
        drop(store);
        damage(engine, dir.path(), b"not what an engine wrote");

        let again = open(engine, dir.path()).unwrap();
        let why = again.rebuilt.expect("it says that it is new");
        assert!(why.contains("cannot open"), "{engine}: {why}");
        let mut store = again.store;
        assert_ne!(store.epoch(), epoch, "{engine}: what was lost must be known for another");
        assert_eq!(store.read(0, 10).unwrap(), [], "{engine}");
        store.write(&[put(1, "b")]).unwrap();
        drop(store);
        assert_eq!(opened(engine, dir.path()).read(0, 10).unwrap(), [entry(1, "b")], "{engine}");
        assert!(aside(engine, dir.path()).exists(), "{engine}: the damaged one is kept");

        // A second one takes the place of the first, so that damage cannot fill the disk.
        damage(engine, dir.path(), b"nor is this");
        assert!(open(engine, dir.path()).unwrap().rebuilt.is_some(), "{engine}");
        let names = RealDisk.list(dir.path()).unwrap();
        assert_eq!(names.len(), 2, "{engine}: {names:?}");
    }
}

/// Breaks the file that the engine reads first.
fn damage(engine: Engine, dir: &Path, bytes: &[u8]) {
    let file = match engine {
        Engine::Redb => engine.path(dir),
        Engine::Sled => engine.path(dir).join("conf"),
    };
    std::fs::write(file, bytes).unwrap();
}

fn aside(engine: Engine, dir: &Path) -> std::path::PathBuf {
    dir.join(format!("events.{engine}.damaged"))
}

#[test]
fn an_entry_that_is_not_what_was_put_is_found_when_the_store_is_opened() {
    for engine in ENGINES {
        let dir = tempfile::tempdir().unwrap();
        let mut store = opened(engine, dir.path());
        let sealed = super::seal(2, b"b").unwrap();
        store.write(&[put(1, "a"), put(2, "b")]).unwrap();
        drop(store);
        forge(engine, dir.path(), &sealed);
        let why = open(engine, dir.path()).unwrap().rebuilt;
        assert_eq!(why.as_deref(), Some("entry 1 of the store is damaged"), "{engine}");
    }
}

/// Puts `sealed` where entry 1 is, past the store's own code.
fn forge(engine: Engine, dir: &Path, sealed: &[u8]) {
    let path = engine.path(dir);
    match engine {
        Engine::Redb => {
            let database = ::redb::Database::create(path).unwrap();
            let change = database.begin_write().unwrap();
            let table = ::redb::TableDefinition::<u64, &[u8]>::new("entries");
            change.open_table(table).unwrap().insert(1, sealed).unwrap();
            change.commit().unwrap();
        }
        Engine::Sled => {
            let database = ::sled::Config::new().path(path).segment_size(64 * 1024).open().unwrap();
            let mut key = vec![b'e'];
            key.extend_from_slice(&1u64.to_be_bytes());
            database.insert(key, sealed).unwrap();
            database.flush().unwrap();
        }
    }
}

#[test]
fn a_store_in_use_is_left_alone() {
    for engine in ENGINES {
        let dir = tempfile::tempdir().unwrap();
        let mut store = opened(engine, dir.path());
        let second = open(engine, dir.path());
        assert!(matches!(second, Err(StoreError::InUse { .. })), "{engine}: {second:?}");
        store.write(&[put(1, "a")]).unwrap();
        drop(store);
        assert_eq!(opened(engine, dir.path()).read(0, 10).unwrap(), [entry(1, "a")], "{engine}");
    }
}

#[test]
fn a_store_that_brings_the_agent_down_is_opened_a_few_times_only() {
    for engine in ENGINES {
        let dir = tempfile::tempdir().unwrap();
        drop(opened(engine, dir.path()));
        // As left by an agent that went down in its last allowed attempt.
        std::fs::write(dir.path().join("opening"), [OPENS_MAX]).unwrap();
        let why = open(engine, dir.path()).unwrap().rebuilt.expect("it is set aside");
        assert!(why.contains("went down in each of 3 attempts"), "{engine}: {why}");
        assert!(aside(engine, dir.path()).exists(), "{engine}");
        // One attempt fewer, and it is the store of before.
        std::fs::write(dir.path().join("opening"), [OPENS_MAX - 1]).unwrap();
        drop(opened(engine, dir.path()));
        assert!(!dir.path().join("opening").exists(), "{engine}: an open that ended well is forgotten");
    }
}

#[test]
fn a_long_life_does_not_let_the_files_grow() {
    for engine in ENGINES {
        let dir = tempfile::tempdir().unwrap();
        let mut store = opened(engine, dir.path());
        let mut largest = 0;
        for key in 1..=600u64 {
            let mut changes = vec![put(key, &"x".repeat(2_000))];
            changes.extend(key.checked_sub(20).map(|key| Change::Remove { key }));
            store.write(&changes).unwrap();
            if key % 100 == 0 {
                largest = size_bytes(dir.path());
            }
        }
        // Forty thousand bytes are alive.
        assert!(largest < 3 << 20, "{engine}: {largest} bytes");
    }
}

fn size_bytes(path: &Path) -> u64 {
    let found = std::fs::metadata(path).unwrap();
    if !found.is_dir() {
        return found.len();
    }
    std::fs::read_dir(path).unwrap().map(|entry| size_bytes(&entry.unwrap().path())).sum()
}

#[test]
fn on_a_full_disk_a_write_fails_and_what_was_there_is_still_read() {
    for engine in ENGINES {
        let dir = tempfile::tempdir().unwrap();
        on_a_disk_of(2 << 20, "until_it_is_full", engine, dir.path());
        // Room again: all that was acknowledged in there is found.
        let mut store = opened(engine, dir.path());
        let found = store.read(0, usize::MAX).unwrap();
        assert!(found.len() > 10 && found.iter().all(|(_, value)| value.len() == 10_000), "{engine}");
        assert!(store.mark() <= u64::try_from(found.len()).unwrap(), "{engine}");
    }
}

#[test]
fn on_a_disk_without_room_events_are_kept_in_memory() {
    for engine in ENGINES {
        let dir = tempfile::tempdir().unwrap();
        on_a_disk_of(0, "without_room", engine, dir.path());
        assert!(!aside(engine, dir.path()).exists(), "{engine}: nothing was wrong with the store");
        drop(opened(engine, dir.path()));
    }
}

/// Runs one of the tests below in a child process for which the kernel lets no file grow beyond a limit.
fn on_a_disk_of(bytes: u64, test: &str, engine: Engine, dir: &Path) {
    let limited = format!(
        "trap '' XFSZ; ulimit -f {}; exec \"$0\" --exact {}::{test} --ignored --nocapture",
        bytes / 512,
        module_path!().split_once("::").unwrap().1
    );
    let output = Command::new("sh")
        .args(["-c", &limited])
        .arg(std::env::current_exe().unwrap())
        .env("LIMITED_ENGINE", engine.as_str())
        .env("LIMITED_DIR", dir)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{engine}: {said}{output:?}");
}

/// The engine and directory of a child; `None` when somebody runs all ignored tests.
fn limited() -> Option<(Engine, std::path::PathBuf)> {
    let name = std::env::var("LIMITED_ENGINE").ok()?;
    let engine = ENGINES.into_iter().find(|engine| engine.as_str() == name)?;
    Some((engine, std::env::var_os("LIMITED_DIR")?.into()))
}

#[test]
#[ignore = "run in a child by on_a_full_disk_a_write_fails_and_what_was_there_is_still_read"]
fn until_it_is_full() {
    let Some((engine, dir)) = limited() else { return };
    let mut store = opened(engine, &dir);
    let mut last = 0;
    let error = loop {
        match store.write(&[put(last + 1, &"x".repeat(10_000)), Change::Mark(last + 1)]) {
            Ok(()) => last += 1,
            Err(error) => break error,
        }
        assert!(last < 10_000, "the disk never was full");
    };
    assert!(error.is_for_want_of_disk(), "{error:?}");
    let kept = store.read(0, usize::MAX).unwrap().len();
    assert!(kept >= last.try_into().unwrap(), "{kept} of {last}");
}

#[test]
#[ignore = "run in a child by on_a_disk_without_room_events_are_kept_in_memory"]
fn without_room() {
    let Some((engine, dir)) = limited() else { return };
    let mut opened = open(engine, &dir).unwrap();
    let why = opened.rebuilt.expect("it says where events are");
    assert!(why.starts_with("events are kept in memory until the next start"), "{why}");
    opened.store.write(&[put(1, "a")]).unwrap();
    assert_eq!(opened.store.read(0, 10).unwrap(), [entry(1, "a")]);
}
