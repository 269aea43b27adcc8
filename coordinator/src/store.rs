//! What the coordinator remembers: one SQLite database, written by one [`Store`], read by any [`Reader`].
//!
//! Everything that is written goes through [`Store::commit`]: all of it is on the disk when that returns `Ok`, none of it
//! when it returns `Err` or the power fails before. The functions speak of nodes, releases and events, never of SQL.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

mod audit;
mod desired;
mod enrolment;
mod events;
mod groups;
mod nodes;
mod notices;
mod releases;
mod rollouts;
mod rows;
mod sessions;
mod users;

pub use audit::AuditFilter;
pub use enrolment::Invite;
pub(crate) use events::OWN_EPOCH;
pub use events::{EVENTS_READ_MAX, Intake};
pub use groups::GroupRow;
pub use nodes::NodeRow;
pub(crate) use nodes::ReportMark;
pub use notices::TargetRow;
pub use releases::ReleaseRow;
pub use rollouts::ROLLOUTS_READ_MAX;
pub use sessions::{SessionRow, session_id};
pub use users::{OWNER, TokenRow, UserRow, token_id};

/// The schema, oldest first. A database of version N has the first N applied. Only ever append.
const MIGRATIONS: [&str; 7] = [
    include_str!("store/schema.sql"),
    include_str!("store/rollouts.sql"),
    include_str!("store/users.sql"),
    include_str!("store/audit.sql"),
    include_str!("store/sessions.sql"),
    include_str!("store/notices.sql"),
    include_str!("store/groups.sql"),
];
/// How long one connection waits for another; ours never do for long, a backup tool may.
const BUSY: Duration = Duration::from_secs(5);

/// The database failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It could not be opened.
    #[error("cannot open the database {}: {source}; is the directory there, writable, and the disk not full?", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// `PRAGMA quick_check` found damage.
    #[error("the database {} is damaged: {found}; restore a backup, or move it away: nodes, what they should run and what they do run \
        come back with their next reports", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The first thing that it found.
        found: String,
    },
    /// A newer program made it.
    #[error("the database {} has format {found}, this program knows {known}; install the newer program again", path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: usize,
        /// The newest format that this program knows.
        known: usize,
    },
    /// A statement failed.
    #[error("the database failed: {0}")]
    Sql(#[from] rusqlite::Error),
}

impl StoreError {
    /// Whether only the values of one statement were at fault, so that others may still succeed.
    pub fn is_about_values(&self) -> bool {
        use rusqlite::Error as Sql;
        match self {
            Self::Sql(Sql::ToSqlConversionFailure(_) | Sql::FromSqlConversionFailure(..)) => true,
            Self::Sql(Sql::SqliteFailure(error, _)) => error.code == rusqlite::ErrorCode::ConstraintViolation,
            _ => false,
        }
    }
}

/// The writer. There is one for each database; see [`crate::serve`] for the lock that makes it so.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
}

impl Store {
    /// Opens the database, makes it if it is not there, checks it and brings its schema up to date.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let opened = |source| StoreError::Open { path: path.to_owned(), source };
        let mut connection = Connection::open(path).map_err(opened)?;
        configure(&connection).map_err(opened)?;
        let found: String = connection
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(|error| damaged(path, &error))?;
        if found != "ok" {
            return Err(StoreError::Damaged { path: path.to_owned(), found });
        }
        migrate(&mut connection, path)?;
        Ok(Self { connection })
    }

    /// Sets how long a transaction waits for another connection that writes; 5 s unless this says otherwise.
    pub fn set_busy_timeout(&self, timeout: Duration) -> Result<(), StoreError> {
        Ok(self.connection.busy_timeout(timeout)?)
    }

    /// Runs `work` in one transaction and makes it durable. If `work` or the commit fails, nothing of it has happened.
    pub fn commit<T>(&mut self, work: impl FnOnce(&Batch<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let batch = Batch { transaction };
        let result = work(&batch)?;
        batch.transaction.commit()?;
        Ok(result)
    }

    /// Reads, seeing all that was committed.
    pub fn view(&self) -> View<'_> {
        View { connection: &self.connection }
    }
}

/// A second connection that only reads and never waits for the writer (write-ahead log).
#[derive(Debug)]
pub struct Reader {
    connection: Mutex<Connection>,
}

impl Reader {
    /// Opens a database that a [`Store`] has opened before.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = |source| StoreError::Open { path: path.to_owned(), source };
        let connection = Connection::open_with_flags(path, flags).map_err(opened)?;
        connection.busy_timeout(BUSY).and_then(|()| plan_once(&connection)).map_err(opened)?;
        Ok(Self { connection: Mutex::new(connection) })
    }

    /// Writes one consistent state into a new database at `path`, without what was deleted. The writer may go on meanwhile.
    pub fn copy_to(&self, path: &Path) -> Result<(), StoreError> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        connection.execute("VACUUM INTO ?1", [path.to_string_lossy()])?;
        Ok(())
    }

    /// Reads one consistent state. Blocks: call it where that is allowed.
    pub fn read<T>(&self, work: impl FnOnce(View<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = connection.unchecked_transaction()?;
        work(View { connection: &transaction })
    }
}

/// What can be read.
#[derive(Debug, Clone, Copy)]
pub struct View<'c> {
    connection: &'c Connection,
}

/// One transaction: what can be written, and read.
#[derive(Debug)]
pub struct Batch<'c> {
    transaction: Transaction<'c>,
}

impl Batch<'_> {
    /// Reads, seeing what this batch has written so far.
    pub fn view(&self) -> View<'_> {
        View { connection: &self.transaction }
    }

    /// Runs a part of the batch that may fail without harm to the rest: unless it returns `Ok(Ok(_))`, nothing of the part
    /// has happened, and the batch can go on.
    pub fn part<T, R>(
        &self,
        work: impl FnOnce(&Self) -> Result<Result<T, R>, StoreError>,
    ) -> Result<Result<T, R>, StoreError> {
        self.execute("SAVEPOINT part", [])?;
        let result = work(self);
        if !matches!(result, Ok(Ok(_))) {
            self.execute("ROLLBACK TO part", [])?;
        }
        self.execute("RELEASE part", [])?;
        result
    }

    /// Runs one statement; returns the count of rows that it changed.
    fn execute(&self, sql: &str, values: impl rusqlite::Params) -> Result<usize, StoreError> {
        Ok(self.transaction.prepare_cached(sql)?.execute(values)?)
    }
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(64);
    // FULL: a commit is on the disk when it returns, after a power cut too. The log is folded into the file at 4 MiB.
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "wal_autocheckpoint", 1_000)?;
    plan_once(connection)
}

/// A statement's plan does not depend on the values that are bound to it. Else SQLite prepares some of the cached ones anew
/// at each use, which was a seventh of the work of taking messages in.
fn plan_once(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(drop)
}

fn damaged(path: &Path, error: &rusqlite::Error) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), found: error.to_string() }
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let found: usize = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > MIGRATIONS.len() {
        return Err(StoreError::TooNew { path: path.to_owned(), found, known: MIGRATIONS.len() });
    }
    for (before, sql) in MIGRATIONS.iter().enumerate().skip(found) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "user_version", before + 1)?;
        transaction.commit()?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "store/tests.rs"]
mod tests;
