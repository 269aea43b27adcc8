//! Rollouts, what happened to them, and holds.

use std::collections::BTreeMap;

use orangery_wire::rest::{HoldView, RolloutEntry};
use orangery_wire::{AppName, NodeId, UnixTime};
use rusqlite::{OptionalExtension as _, Row};

use super::rows::{json, parsed, to_json};
use super::{Batch, StoreError, View};
use crate::rollout::{Rollout, RolloutId, Turn};

/// Most entries of a rollout's history that one read returns.
const LOG_READ_MAX: u32 = 200;
/// Entries of a rollout's history that are kept.
const LOG_KEPT_MAX: u32 = 2_000;
/// Most rollouts that one read returns.
pub const ROLLOUTS_READ_MAX: u32 = 100;

fn hold_view(row: &Row<'_>) -> rusqlite::Result<(NodeId, HoldView)> {
    let app = if row.get_ref(1)?.as_str()?.is_empty() { None } else { Some(parsed(row, 1)?) };
    Ok((parsed(row, 0)?, HoldView { app, expires_at: row.get(2)?, deed: json(row, 3)? }))
}

fn app_column(app: Option<&AppName>) -> &str {
    app.map_or("", AppName::as_str)
}

impl View<'_> {
    /// One rollout.
    pub fn rollout(self, id: RolloutId) -> Result<Option<Rollout>, StoreError> {
        let sql = "SELECT rollout FROM rollouts WHERE id = ?1";
        let found: Option<Rollout> =
            self.connection.prepare_cached(sql)?.query_row([id], |row| json(row, 0)).optional()?;
        found.map(|rollout| self.with_turns(rollout)).transpose()
    }

    /// Those that are under way, the newest first.
    pub fn active_rollouts(self) -> Result<Vec<Rollout>, StoreError> {
        self.rollouts_by("SELECT rollout FROM rollouts WHERE is_active = 1 ORDER BY id DESC")
    }

    /// The newest first, at most so many and a hundred; only those that are older than one, if it is named.
    pub fn rollouts(self, before: Option<RolloutId>, limit: Option<u32>) -> Result<Vec<Rollout>, StoreError> {
        // One more says whether there are more.
        let limit = limit.unwrap_or(ROLLOUTS_READ_MAX).min(ROLLOUTS_READ_MAX + 1);
        let before = before.and_then(|before| i64::try_from(before).ok()).unwrap_or(i64::MAX);
        let sql = format!("SELECT rollout FROM rollouts WHERE id < {before} ORDER BY id DESC LIMIT {limit}");
        self.rollouts_by(&sql)
    }

    /// All that are newer than one, without their turns.
    pub fn rollouts_after(&self, id: RolloutId) -> Result<Vec<Rollout>, StoreError> {
        let mut statement = self.connection.prepare_cached("SELECT rollout FROM rollouts WHERE id > ?1")?;
        let found = statement.query_map([id], |row| json(row, 0))?.collect::<rusqlite::Result<_>>()?;
        Ok(found)
    }

    fn rollouts_by(self, sql: &str) -> Result<Vec<Rollout>, StoreError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let found: Vec<Rollout> = statement.query_map([], |row| json(row, 0))?.collect::<rusqlite::Result<_>>()?;
        found.into_iter().map(|rollout| self.with_turns(rollout)).collect()
    }

    fn with_turns(self, mut rollout: Rollout) -> Result<Rollout, StoreError> {
        let mut statement = self.connection.prepare_cached("SELECT node, turn FROM turns WHERE rollout = ?1")?;
        let turns = statement.query_map([rollout.id], |row| Ok((parsed(row, 0)?, json(row, 1)?)))?;
        rollout.turns = turns.collect::<rusqlite::Result<BTreeMap<NodeId, Turn>>>()?;
        Ok(rollout)
    }

    /// The number that the next rollout gets.
    pub fn next_rollout(&self) -> Result<RolloutId, StoreError> {
        let sql = "SELECT coalesce(max(id), 0) + 1 FROM rollouts";
        Ok(self.connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
    }

    /// The newest entries of a rollout's history, oldest first.
    pub fn rollout_log(&self, id: RolloutId) -> Result<Vec<RolloutEntry>, StoreError> {
        let sql = "SELECT entry FROM rollout_log WHERE rollout = ?1 ORDER BY id DESC LIMIT ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut entries: Vec<RolloutEntry> =
            statement.query_map((id, LOG_READ_MAX), |row| json(row, 0))?.collect::<rusqlite::Result<_>>()?;
        entries.reverse();
        Ok(entries)
    }

    /// All holds, by node.
    pub fn holds(&self) -> Result<BTreeMap<NodeId, Vec<HoldView>>, StoreError> {
        let sql = "SELECT node, app, expires_at, deed FROM holds ORDER BY node, app";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut holds: BTreeMap<NodeId, Vec<HoldView>> = BTreeMap::new();
        for hold in statement.query_map([], hold_view)? {
            let (node, hold) = hold?;
            holds.entry(node).or_default().push(hold);
        }
        Ok(holds)
    }
}

impl Batch<'_> {
    /// Keeps a rollout. Of its turns, only those that differ from `before` are written.
    pub fn set_rollout(&self, before: Option<&Rollout>, rollout: &Rollout) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO rollouts (id, is_active, rollout) VALUES (?1, ?2, ?3) \
             ON CONFLICT (id) DO UPDATE SET is_active = ?2, rollout = ?3",
            (rollout.id, rollout.status.is_active(), to_json(rollout)),
        )?;
        for (node, turn) in &rollout.turns {
            if before.and_then(|before| before.turns.get(node)) != Some(turn) {
                self.execute(
                    "INSERT INTO turns (rollout, node, turn) VALUES (?1, ?2, ?3) \
                     ON CONFLICT (rollout, node) DO UPDATE SET turn = ?3",
                    (rollout.id, node.as_str(), to_json(turn)),
                )?;
            }
        }
        Ok(())
    }

    /// Adds to a rollout's history, of which the oldest entries go when it is too long: a node may change its mind for ever.
    pub fn add_to_log(&self, id: RolloutId, entry: &RolloutEntry) -> Result<(), StoreError> {
        self.execute("INSERT INTO rollout_log (rollout, entry) VALUES (?1, ?2)", (id, to_json(entry)))?;
        self.execute(
            "DELETE FROM rollout_log WHERE rollout = ?1 AND id <= \
             (SELECT id FROM rollout_log WHERE rollout = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
            (id, LOG_KEPT_MAX),
        )?;
        Ok(())
    }

    /// Holds a node; a hold of the same app is replaced.
    pub fn set_hold(&self, node: &NodeId, hold: &HoldView) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO holds (node, app, expires_at, deed) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT (node, app) DO UPDATE SET expires_at = ?3, deed = ?4",
            (node.as_str(), app_column(hold.app.as_ref()), hold.expires_at, to_json(&hold.deed)),
        )?;
        Ok(())
    }

    /// Ends the holds whose time is over.
    pub fn end_expired_holds(&self, now: UnixTime) -> Result<(), StoreError> {
        self.execute("DELETE FROM holds WHERE expires_at <= ?1", [now])?;
        Ok(())
    }

    /// Ends a hold. Returns whether there was one.
    pub fn end_hold(&self, node: &NodeId, app: Option<&AppName>) -> Result<bool, StoreError> {
        let ended = self.execute("DELETE FROM holds WHERE node = ?1 AND app = ?2", (node.as_str(), app_column(app)))?;
        Ok(ended == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[test]
    fn a_history_loses_its_oldest_entries_and_never_those_of_another_rollout() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = Store::open(&directory.path().join("coordinator.db")).unwrap();
        let entry =
            |text: String| RolloutEntry { at: 0, code: "failed".into(), by: None, wave: None, node: None, text };
        store
            .commit(|batch| {
                for id in [1, 2] {
                    batch.execute("INSERT INTO rollouts (id, is_active, rollout) VALUES (?1, 0, '{}')", [id])?;
                }
                batch.add_to_log(1, &entry("the other".into()))?;
                (0..LOG_KEPT_MAX + 50).try_for_each(|n| batch.add_to_log(2, &entry(n.to_string())))
            })
            .unwrap();
        let count = |id: u64| -> u32 {
            let sql = "SELECT count(*) FROM rollout_log WHERE rollout = ?1";
            store.view().connection.query_row(sql, [id], |row| row.get(0)).unwrap()
        };
        assert_eq!((count(1), count(2)), (1, LOG_KEPT_MAX));
        let newest = store.view().rollout_log(2).unwrap().pop().unwrap();
        assert_eq!(newest.text, (LOG_KEPT_MAX + 49).to_string());
    }
}
