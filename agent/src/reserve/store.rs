//! A store whose writes may draw on the reserve.

use std::path::Path;
use std::sync::Arc;

use super::{ROOMY_BYTES, Reserve};
use crate::store::{self, Change, Engine, Entry, Opened, Store, StoreError};

/// The store below, for events that must be kept though the disk is full.
#[derive(Debug)]
pub struct ReservedStore {
    below: Box<dyn Store>,
    reserve: Arc<Reserve>,
}

/// As [`store::open`], but gives up the reserve before it keeps events in memory alone.
pub fn open_store(engine: Engine, dir: &Path, reserve: Arc<Reserve>) -> Result<Opened, StoreError> {
    let mut opened = store::open(engine, dir)?;
    while opened.in_memory && reserve.give_up_some(ROOMY_BYTES) {
        opened = store::open(engine, dir)?;
    }
    Ok(Opened { store: Box::new(ReservedStore { below: opened.store, reserve }), ..opened })
}

impl Store for ReservedStore {
    fn epoch(&self) -> u64 {
        self.below.epoch()
    }

    fn mark(&self) -> u64 {
        self.below.mark()
    }

    fn write(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        loop {
            match self.below.write(changes) {
                Err(error) if error.is_for_want_of_disk() && self.reserve.give_up_some(ROOMY_BYTES) => {}
                outcome => return outcome,
            }
        }
    }

    fn read(&mut self, after: u64, count_max: usize) -> Result<Vec<Entry>, StoreError> {
        loop {
            match self.below.read(after, count_max) {
                // After a failed write the engine is opened anew, which may write.
                Err(error) if error.is_for_want_of_disk() && self.reserve.give_up_some(ROOMY_BYTES) => {}
                outcome => return outcome,
            }
        }
    }
}
