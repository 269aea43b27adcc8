//! No engine at all: entries in memory, for as long as the disk takes nothing.

use std::collections::BTreeMap;

use super::{Change, Entry, Store, StoreError, VALUE_BYTES_MAX};

/// A store that is forgotten when the agent stops.
#[derive(Debug)]
pub struct Memory {
    epoch: u64,
    mark: u64,
    entries: BTreeMap<u64, Vec<u8>>,
}

impl Memory {
    /// An empty store.
    pub fn new(epoch: u64) -> Self {
        Self { epoch, mark: 0, entries: BTreeMap::new() }
    }
}

impl Store for Memory {
    fn epoch(&self) -> u64 {
        self.epoch
    }

    fn mark(&self) -> u64 {
        self.mark
    }

    fn write(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        for change in changes {
            if let Change::Put { value, .. } = change
                && value.len() > VALUE_BYTES_MAX
            {
                return Err(StoreError::TooLarge { size: value.len() });
            }
        }
        for change in changes {
            match change {
                Change::Put { key, value } => drop(self.entries.insert(*key, value.clone())),
                Change::Remove { key } => drop(self.entries.remove(key)),
                Change::Mark(mark) => self.mark = *mark,
            }
        }
        Ok(())
    }

    fn read(&mut self, after: u64, count_max: usize) -> Result<Vec<Entry>, StoreError> {
        let above = self.entries.iter().filter(|(key, _)| **key > after);
        Ok(above.take(count_max).map(|(key, value)| (*key, value.clone())).collect())
    }
}
