//! The power is cut at every call that redb makes of its file, and again with each unsynced write lost or torn.

use std::io;
use std::sync::{Arc, Mutex};

use redb::StorageBackend;

use super::*;

/// One change of the file.
#[derive(Debug, Clone)]
enum Call {
    Write(usize, Vec<u8>),
    Length(usize),
    Sync,
}

/// A file in memory that remembers what was done to it.
#[derive(Debug, Clone, Default)]
struct Tape(Arc<Mutex<(Vec<u8>, Vec<Call>)>>);

impl Tape {
    fn of(image: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new((image, Vec::new()))))
    }

    fn with<T>(&self, deed: impl FnOnce(&mut Vec<u8>, &mut Vec<Call>) -> T) -> T {
        let (image, calls) = &mut *self.0.lock().unwrap();
        deed(image, calls)
    }

    fn call(&self, call: Call) {
        self.with(|image, calls| {
            apply_to(image, &call);
            calls.push(call);
        });
    }

    fn calls(&self) -> Vec<Call> {
        self.with(|_, calls| calls.clone())
    }
}

fn apply_to(image: &mut Vec<u8>, call: &Call) {
    match call {
        Call::Write(offset, bytes) => {
            let end = offset + bytes.len();
            image.resize(image.len().max(end), 0);
            image[*offset..end].copy_from_slice(bytes);
        }
        Call::Length(length) => image.resize(*length, 0),
        Call::Sync => {}
    }
}

fn at(number: u64) -> usize {
    usize::try_from(number).unwrap()
}

impl StorageBackend for Tape {
    fn len(&self) -> io::Result<u64> {
        Ok(self.with(|image, _| image.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.with(|image, _| {
            let found = image.get(at(offset)..at(offset) + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            out.copy_from_slice(found);
            Ok(())
        })
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.call(Call::Length(at(length)));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.call(Call::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.call(Call::Write(at(offset), bytes.to_vec()));
        Ok(())
    }
}

fn database(tape: &Tape) -> Result<Database, DatabaseError> {
    Database::builder().set_cache_size(CACHE_BYTES_MAX).create_with_backend(tape.clone())
}

/// One step of an outbox: an entry more, the oldest of five less, the mark moved.
fn step(database: &Database, key: u64) {
    let changes = [
        Change::Put { key, value: vec![u8::try_from(key).unwrap(); 700] },
        Change::Remove { key: key.saturating_sub(5) },
        Change::Mark(key),
    ];
    let sealed = changes.iter().map(|change| match change {
        Change::Put { key, value } => (change, seal(*key, value).unwrap()),
        Change::Remove { .. } | Change::Mark(_) => (change, Vec::new()),
    });
    apply(database, &sealed.collect::<Vec<_>>()).unwrap();
}

/// Every image that a cut right before call `n` could leave: what was synced, and of the rest nothing, all, each beginning
/// with its last write torn, and all but one.
fn cuts(calls: &[Call], n: usize) -> Vec<Vec<u8>> {
    let synced = calls[..n].iter().rposition(|call| matches!(call, Call::Sync)).map_or(0, |sync| sync + 1);
    let mut image = Vec::new();
    calls[..synced].iter().for_each(|call| apply_to(&mut image, call));
    let unsynced = &calls[synced..n];
    let build = |kept: &mut dyn Iterator<Item = Call>| {
        let mut image = image.clone();
        kept.for_each(|call| apply_to(&mut image, &call));
        image
    };
    let mut images = vec![build(&mut unsynced.iter().cloned())];
    for (k, call) in unsynced.iter().enumerate() {
        let torn = match call {
            Call::Write(offset, bytes) => Call::Write(*offset, bytes[..bytes.len() / 2].to_vec()),
            other => other.clone(),
        };
        images.push(build(&mut unsynced[..k].iter().cloned().chain([torn])));
        images.push(build(&mut unsynced[..k].iter().cloned()));
        images.push(build(&mut unsynced[..k].iter().chain(&unsynced[k + 1..]).cloned()));
    }
    images.sort_unstable();
    images.dedup();
    images
}

#[test]
fn nothing_acknowledged_is_lost_at_any_cut_of_the_power() {
    let tape = Tape::default();
    let first = database(&tape).unwrap();
    let (epoch, _) = numbers(&first, 42).unwrap();
    let begun = tape.calls().len();
    let mut acknowledged = Vec::new();
    for key in 1..=12 {
        step(&first, key);
        acknowledged.push((tape.calls().len(), key));
    }
    let calls = tape.calls();
    let mut count = 0;
    for n in begun..=calls.len() {
        let last = acknowledged.iter().rfind(|(end, _)| *end <= n).map_or(0, |(_, key)| *key);
        for image in cuts(&calls, n) {
            count += 1;
            let found = database(&Tape::of(image)).unwrap();
            let (found_epoch, mark) = numbers(&found, 7).unwrap();
            assert_eq!(found_epoch, epoch, "call {n}");
            assert!(mark == last || mark == last + 1, "call {n}: mark {mark} after {last}");
            let keys: Vec<u64> =
                entries(&found, 0, 100).unwrap().iter().map(|(key, sealed)| unseal(*key, sealed).unwrap().0).collect();
            let whole: Vec<u64> = (mark.saturating_sub(4).max(1)..=mark).collect();
            assert_eq!(keys, whole, "call {n}: each step is there as a whole or not at all");
        }
    }
    println!("{count} cuts of {} calls", calls.len());
    assert!(count > 300, "{count}");
}

#[test]
fn a_store_whose_disk_failed_once_works_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Redb::open(&dir.path().join("events.redb")).unwrap();
    store.write(&[Change::Put { key: 1, value: b"a".to_vec() }, Change::Mark(1)]).unwrap();
    // As after an error: the database is closed, and the next call opens it.
    store.database = None;
    assert_eq!(store.read(0, 9).unwrap(), [(1, b"a".to_vec())]);
    store.database = None;
    store.write(&[Change::Put { key: 2, value: b"b".to_vec() }]).unwrap();
    assert_eq!((store.read(0, 9).unwrap().len(), store.mark()), (2, 1));
}
