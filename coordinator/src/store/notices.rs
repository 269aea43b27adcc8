//! Notices, how far each target was told, and what lasts that was told when it began.

use std::collections::BTreeSet;

use orangery_wire::{NodeId, UnixTime};
use rusqlite::{OptionalExtension as _, Row};

use super::rows::{json_option, parsed, to_json};
use super::{Batch, StoreError, View};
use crate::notify::{NOTICES_KEPT_MAX, Notice};

/// Old notices are deleted each time the newest id passes a multiple of this.
const PRUNE_EACH: u64 = 64;

/// How far a target was told, and how that went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetRow {
    /// Its name.
    pub name: String,
    /// The last notice that it was told, or that it did not want.
    pub told: u64,
    /// Messages that it took.
    pub sent: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Notices that it will never be told.
    pub given_up: u64,
    /// When it last took a message.
    pub succeeded_at: Option<UnixTime>,
    /// When an attempt last failed.
    pub failed_at: Option<UnixTime>,
    /// Why.
    pub failure: Option<String>,
    /// Until when it is left alone.
    pub retry_at: Option<UnixTime>,
}

fn target_row(row: &Row<'_>) -> rusqlite::Result<TargetRow> {
    Ok(TargetRow {
        name: row.get(0)?,
        told: row.get(1)?,
        sent: row.get(2)?,
        failed: row.get(3)?,
        given_up: row.get(4)?,
        succeeded_at: row.get(5)?,
        failed_at: row.get(6)?,
        failure: row.get(7)?,
        retry_at: row.get(8)?,
    })
}

const TARGET: &str =
    "SELECT name, told, sent, failed, given_up, succeeded_at, failed_at, failure, retry_at FROM notify_targets";

impl View<'_> {
    /// All notices after one, oldest first. One that a newer program wrote, which cannot be read, is left out.
    pub fn notices_after(&self, after: u64) -> Result<Vec<Notice>, StoreError> {
        let sql = "SELECT id, at, notice FROM notices WHERE id > ?1 ORDER BY id LIMIT ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let read = statement.query_map((after, NOTICES_KEPT_MAX + PRUNE_EACH), |row| {
            let (id, at) = (row.get(0)?, row.get(1)?);
            Ok(json_option::<Notice>(row, 2)?.map(|notice| Notice { id, at, ..notice }))
        })?;
        Ok(read.collect::<rusqlite::Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// The id of the newest notice that there ever was; 0 when there was none.
    pub fn newest_notice(&self) -> Result<u64, StoreError> {
        let sql = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'notices'";
        Ok(self.connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
    }

    /// How far a target was told.
    pub fn notify_target(&self, name: &str) -> Result<Option<TargetRow>, StoreError> {
        let mut statement = self.connection.prepare_cached(&format!("{TARGET} WHERE name = ?1"))?;
        Ok(statement.query_row([name], target_row).optional()?)
    }

    /// How far all targets were told, by name.
    pub fn notify_targets(&self) -> Result<Vec<TargetRow>, StoreError> {
        let mut statement = self.connection.prepare_cached(&format!("{TARGET} ORDER BY name"))?;
        let rows = statement.query_map([], target_row)?.collect::<rusqlite::Result<_>>()?;
        Ok(rows)
    }

    /// What lasts: of which condition, and what it is about.
    pub fn conditions(&self) -> Result<BTreeSet<(String, String)>, StoreError> {
        let mut statement = self.connection.prepare_cached("SELECT condition, subject FROM conditions")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?;
        Ok(rows)
    }

    /// The nodes that are not revoked, with when each joined and was last seen before the coordinator started.
    pub fn signs_of_nodes(&self) -> Result<Vec<(NodeId, UnixTime, Option<UnixTime>)>, StoreError> {
        let sql = "SELECT node, joined_at, seen_at FROM nodes WHERE revoked_at IS NULL";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([], |row| Ok((parsed(row, 0)?, row.get(1)?, row.get(2)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}

impl Batch<'_> {
    /// Adds a notice, of which the oldest go when there are too many. Returns its id.
    pub fn add_notice(&self, notice: &Notice, at: UnixTime) -> Result<u64, StoreError> {
        self.execute("INSERT INTO notices (at, notice) VALUES (?1, ?2)", (at, to_json(notice)))?;
        let id = self.transaction.last_insert_rowid().cast_unsigned();
        if id.is_multiple_of(PRUNE_EACH) {
            self.execute("DELETE FROM notices WHERE id <= ?1", [id.saturating_sub(NOTICES_KEPT_MAX)])?;
        }
        Ok(id)
    }

    /// These targets there are, and no others. One that is new is told what happens from now on.
    pub fn set_notify_targets<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<(), StoreError> {
        let (names, newest) = (BTreeSet::from_iter(names), self.view().newest_notice()?);
        for row in self.view().notify_targets()? {
            if !names.contains(row.name.as_str()) {
                self.execute("DELETE FROM notify_targets WHERE name = ?1", [&row.name])?;
            }
        }
        for name in names {
            let sql = "INSERT INTO notify_targets (name, told) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING";
            self.execute(sql, (name, newest))?;
        }
        Ok(())
    }

    /// Keeps how far a target was told. One that is not there any more stays away.
    pub fn set_notify_target(&self, row: &TargetRow) -> Result<(), StoreError> {
        self.execute(
            "UPDATE notify_targets SET told = ?2, sent = ?3, failed = ?4, given_up = ?5, succeeded_at = ?6, \
             failed_at = ?7, failure = ?8, retry_at = ?9 WHERE name = ?1",
            (
                &row.name,
                row.told,
                row.sent,
                row.failed,
                row.given_up,
                row.succeeded_at,
                row.failed_at,
                &row.failure,
                row.retry_at,
            ),
        )?;
        Ok(())
    }

    /// A condition begins.
    pub fn begin_condition(&self, condition: &str, subject: &str, at: UnixTime) -> Result<(), StoreError> {
        let sql = "INSERT INTO conditions (condition, subject, since) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
        self.execute(sql, (condition, subject, at))?;
        Ok(())
    }

    /// A condition ends.
    pub fn end_condition(&self, condition: &str, subject: &str) -> Result<(), StoreError> {
        self.execute("DELETE FROM conditions WHERE condition = ?1 AND subject = ?2", (condition, subject))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::Kind;
    use crate::store::Store;

    fn open() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("coordinator.db")).unwrap();
        (directory, store)
    }

    #[test]
    fn the_list_is_bounded_and_its_ids_are_never_used_again() {
        let (_directory, mut store) = open();
        let notice = Notice::new(Kind::NodeSilent, "x");
        store
            .commit(|batch| (0..NOTICES_KEPT_MAX + 200).try_for_each(|at| batch.add_notice(&notice, at).map(drop)))
            .unwrap();
        let kept = store.view().notices_after(0).unwrap();
        assert!((NOTICES_KEPT_MAX..NOTICES_KEPT_MAX + PRUNE_EACH).contains(&(kept.len() as u64)), "{}", kept.len());
        assert_eq!(kept.last().map(|last| last.id), Some(NOTICES_KEPT_MAX + 200));
        store.commit(|batch| batch.execute("DELETE FROM notices", [])).unwrap();
        assert_eq!(store.view().newest_notice().unwrap(), NOTICES_KEPT_MAX + 200);
    }

    #[test]
    fn a_new_target_is_told_what_happens_from_now_on_and_an_old_one_keeps_its_place() {
        let (_directory, mut store) = open();
        let notice = Notice::new(Kind::NodeSilent, "x");
        store.commit(|batch| batch.set_notify_targets(["old", "gone"])).unwrap();
        store.commit(|batch| batch.add_notice(&notice, 1)).unwrap();
        store.commit(|batch| batch.set_notify_targets(["old", "new"])).unwrap();
        let told: Vec<_> = store.view().notify_targets().unwrap().into_iter().map(|row| (row.name, row.told)).collect();
        assert_eq!(told, [("new".to_owned(), 1), ("old".to_owned(), 0)]);
    }
}
