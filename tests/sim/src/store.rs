//! What lies below a node's outbox: in memory, all or nothing at each write, and still there after a power cut.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use orangery_agent::store::{Change, Engine, Entry, Store, StoreError, VALUE_BYTES_MAX};

use crate::disk::SimDisk;

/// Room that a write needs.
const WRITE_BYTES: u64 = 4_096;

/// The durable part, which outlives the agent.
#[derive(Debug, Clone)]
pub struct Shelf(Arc<Mutex<Kept>>);

#[derive(Debug)]
struct Kept {
    epoch: u64,
    mark: u64,
    entries: BTreeMap<u64, Vec<u8>>,
    /// Every sequence that was ever stored and not dropped for want of room.
    promised: BTreeSet<u64>,
}

impl Shelf {
    /// An empty one.
    pub fn new(epoch: u64) -> Self {
        let kept = Kept { epoch, mark: 0, entries: BTreeMap::new(), promised: BTreeSet::new() };
        Self(Arc::new(Mutex::new(kept)))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is on it, for an agent.
    pub fn open(&self, disk: Arc<SimDisk>) -> Box<dyn Store> {
        Box::new(SimStore { shelf: self.clone(), disk })
    }

    /// Its epoch.
    pub fn epoch(&self) -> u64 {
        self.kept().epoch
    }

    /// Events that must reach the coordinator, in a range of sequences.
    pub fn promised(&self, above: u64, through: u64) -> Vec<u64> {
        let kept = self.kept();
        if above >= through { Vec::new() } else { kept.promised.range(above + 1..=through).copied().collect() }
    }

    /// A planted fault: the newest entry that nobody has acknowledged is forgotten.
    pub fn forget_one(&self) {
        let kept = &mut *self.kept();
        let waiting = kept.entries.range(kept.mark + 1..).next().map(|(key, _)| *key);
        if let Some(key) = waiting {
            kept.entries.remove(&key);
        }
    }
}

#[derive(Debug)]
struct SimStore {
    shelf: Shelf,
    disk: Arc<SimDisk>,
}

impl Store for SimStore {
    fn epoch(&self) -> u64 {
        self.shelf.epoch()
    }

    fn mark(&self) -> u64 {
        self.shelf.kept().mark
    }

    fn write(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        let engine = Engine::default();
        self.disk.store_call(WRITE_BYTES).map_err(|error| StoreError::Write { engine, source: error.into() })?;
        let too_large = |change: &Change| match change {
            Change::Put { value, .. } if value.len() > VALUE_BYTES_MAX => Some(value.len()),
            _ => None,
        };
        if let Some(size) = changes.iter().find_map(too_large) {
            return Err(StoreError::TooLarge { size });
        }
        let kept = &mut *self.shelf.kept();
        let mark = changes.iter().find_map(|change| if let Change::Mark(mark) = change { Some(*mark) } else { None });
        kept.mark = mark.unwrap_or(kept.mark);
        for change in changes {
            match change {
                Change::Put { key, value } => {
                    kept.entries.insert(*key, value.clone());
                    kept.promised.insert(*key);
                }
                Change::Remove { key } => {
                    kept.entries.remove(key);
                    if *key > kept.mark {
                        kept.promised.remove(key);
                    }
                }
                Change::Mark(_) => {}
            }
        }
        Ok(())
    }

    fn read(&mut self, after: u64, count_max: usize) -> Result<Vec<Entry>, StoreError> {
        let kept = self.shelf.kept();
        Ok(kept.entries.range(after + 1..).take(count_max).map(|(key, value)| (*key, value.clone())).collect())
    }
}
