//! The default engine: one file, a transaction for each write, one sync for each transaction.

use std::path::{Path, PathBuf};

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition};

use super::{Cause, Change, Engine, Entry, Store, StoreError, new_epoch, once_let_go, seal, unseal};
use crate::disk::{Disk, RealDisk};

const ENTRIES: TableDefinition<u64, &[u8]> = TableDefinition::new("entries");
const NUMBERS: TableDefinition<&str, u64> = TableDefinition::new("numbers");
const EPOCH: &str = "epoch";
const MARK: &str = "mark";

/// A bound, not an allocation.
const CACHE_BYTES_MAX: usize = 1 << 20;

/// A store in one redb file.
#[derive(Debug)]
pub struct Redb {
    path: PathBuf,
    /// `None` after an error: redb refuses everything after a failed write until it is opened again.
    database: Option<Database>,
    epoch: u64,
    mark: u64,
}

impl Redb {
    /// Opens the file or makes it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let database = once_let_go(|| open_file(path))?;
        // The file itself has just been synced; its name has not.
        let named = path.parent().map_or(Ok(()), |dir| RealDisk.sync_dir(dir));
        named.map_err(|source| StoreError::open(Engine::Redb, path, source))?;
        let fresh = new_epoch()?;
        let (epoch, mark) =
            numbers(&database, fresh).map_err(|error| StoreError::open(Engine::Redb, path, cause(error)))?;
        Ok(Self { path: path.to_owned(), database: Some(database), epoch, mark })
    }

    fn database(&mut self) -> Result<&Database, StoreError> {
        let database = match self.database.take() {
            Some(database) => database,
            None => once_let_go(|| open_file(&self.path))?,
        };
        Ok(self.database.insert(database))
    }
}

fn open_file(path: &Path) -> Result<Database, StoreError> {
    Database::builder().set_cache_size(CACHE_BYTES_MAX).create(path).map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::InUse { engine: Engine::Redb, path: path.to_owned() },
        DatabaseError::Storage(StorageError::Io(source)) => StoreError::open(Engine::Redb, path, source),
        other => StoreError::open(Engine::Redb, path, other),
    })
}

/// The epoch and the mark; the epoch is set if this is a new file.
fn numbers(database: &Database, fresh: u64) -> Result<(u64, u64), redb::Error> {
    let change = database.begin_write()?;
    let found = {
        drop(change.open_table(ENTRIES)?);
        let mut table = change.open_table(NUMBERS)?;
        let epoch = table.get(EPOCH)?.map(|found| found.value());
        if epoch.is_none() {
            table.insert(EPOCH, fresh)?;
        }
        let mark = table.get(MARK)?.map_or(0, |found| found.value());
        (epoch, mark)
    };
    match found {
        (Some(epoch), mark) => {
            change.abort()?;
            Ok((epoch, mark))
        }
        (None, mark) => {
            change.commit()?;
            Ok((fresh, mark))
        }
    }
}

fn apply(database: &Database, changes: &[(&Change, Vec<u8>)]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut entries = transaction.open_table(ENTRIES)?;
        let mut numbers = transaction.open_table(NUMBERS)?;
        for (change, sealed) in changes {
            match change {
                Change::Put { key, .. } => drop(entries.insert(key, sealed.as_slice())?),
                Change::Remove { key } => drop(entries.remove(key)?),
                Change::Mark(mark) => drop(numbers.insert(MARK, mark)?),
            }
        }
    }
    Ok(transaction.commit()?)
}

fn entries(database: &Database, after: u64, count_max: usize) -> Result<Vec<(u64, Vec<u8>)>, redb::Error> {
    let Some(from) = after.checked_add(1) else { return Ok(Vec::new()) };
    let table = database.begin_read()?.open_table(ENTRIES)?;
    let mut found = Vec::new();
    for entry in table.range(from..)?.take(count_max) {
        let (key, value) = entry?;
        found.push((key.value(), value.value().to_owned()));
    }
    Ok(found)
}

/// redb wraps what the disk said; the store's callers look for it.
fn cause(error: redb::Error) -> Cause {
    match error {
        redb::Error::Io(error) => error.into(),
        other => other.into(),
    }
}

impl Store for Redb {
    fn epoch(&self) -> u64 {
        self.epoch
    }

    fn mark(&self) -> u64 {
        self.mark
    }

    fn write(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        let mut sealed = Vec::with_capacity(changes.len());
        for change in changes {
            let value = if let Change::Put { key, value } = change { seal(*key, value)? } else { Vec::new() };
            sealed.push((change, value));
        }
        if let Err(error) = apply(self.database()?, &sealed) {
            self.database = None;
            return Err(StoreError::Write { engine: Engine::Redb, source: cause(error) });
        }
        self.mark = super::last_mark(changes).unwrap_or(self.mark);
        Ok(())
    }

    fn read(&mut self, after: u64, count_max: usize) -> Result<Vec<Entry>, StoreError> {
        match entries(self.database()?, after, count_max) {
            Ok(found) => found.into_iter().map(|(key, sealed)| unseal(key, &sealed)).collect(),
            Err(error) => {
                self.database = None;
                Err(StoreError::Read { engine: Engine::Redb, source: cause(error) })
            }
        }
    }
}

#[cfg(test)]
mod tests;
