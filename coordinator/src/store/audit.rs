//! The audit log, as rows. What is in them, and how they hang together, is in [`crate::audit`].

use orangery_wire::messages::ReleaseRef;
use orangery_wire::rest::{AuditEntry, AuditLine};
use orangery_wire::{AppName, Generation, NodeId, UnixTime};
use rusqlite::{OptionalExtension as _, Row};

use super::{Batch, StoreError, View};
use crate::audit::{Link, NOTHING};

/// Most entries that one read returns.
pub const AUDIT_READ_MAX: u32 = 1_000;
/// Most entries that one read looks through.
const LOOKED_AT_MAX: u64 = 10_000;

/// Which entries are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only what was done at that time or later.
    pub since: Option<UnixTime>,
    /// Only what somebody did.
    pub who: Option<String>,
}

impl AuditFilter {
    /// An entry that cannot be read is for everyone to see.
    fn wants(&self, line: &AuditLine) -> bool {
        if *self == Self::default() {
            return true;
        }
        let Ok(entry) = serde_json::from_str::<AuditEntry>(&line.entry) else { return true };
        self.since.is_none_or(|since| entry.at >= since) && self.who.as_ref().is_none_or(|who| entry.who == *who)
    }
}

fn line(row: &Row<'_>) -> rusqlite::Result<AuditLine> {
    Ok(AuditLine { sequence: row.get(0)?, digest: row.get(1)?, entry: row.get(2)? })
}

impl View<'_> {
    /// The newest entry, by its place and digest.
    pub fn audit_end(&self) -> Result<Link, StoreError> {
        let newest = self.newest_audit(1)?.pop();
        // One that was tampered with must not keep the coordinator from starting: the chain is broken, and whoever verifies
        // it is told.
        Ok(newest.map_or(Link::START, |line| Link {
            sequence: line.sequence,
            digest: line.digest.parse().unwrap_or(NOTHING),
        }))
    }

    /// The oldest entry that is there.
    pub fn oldest_audit(&self) -> Result<Option<AuditLine>, StoreError> {
        let sql = "SELECT sequence, digest, entry FROM audit ORDER BY sequence LIMIT 1";
        Ok(self.connection.prepare_cached(sql)?.query_row([], line).optional()?)
    }

    /// One entry.
    pub fn audit_at(&self, sequence: u64) -> Result<Option<AuditLine>, StoreError> {
        let sql = "SELECT sequence, digest, entry FROM audit WHERE sequence = ?1";
        Ok(self.connection.prepare_cached(sql)?.query_row([sequence], line).optional()?)
    }

    /// Entries after a place, oldest first, and after which place to go on; `None` if that was all.
    pub fn audit(
        &self,
        after: u64,
        limit: u32,
        filter: &AuditFilter,
    ) -> Result<(Vec<AuditLine>, Option<u64>), StoreError> {
        let sql = "SELECT sequence, digest, entry FROM audit WHERE sequence > ?1 ORDER BY sequence";
        let limit = limit.clamp(1, AUDIT_READ_MAX) as usize;
        let mut statement = self.connection.prepare_cached(sql)?;
        let (mut found, mut looked_at) = (Vec::new(), 0);
        for row in statement.query_map([after], line)? {
            let line = row?;
            let sequence = line.sequence;
            if filter.wants(&line) {
                found.push(line);
            }
            looked_at += 1;
            if found.len() >= limit || looked_at >= LOOKED_AT_MAX {
                return Ok((found, Some(sequence)));
            }
        }
        Ok((found, None))
    }

    /// The newest entries, oldest first.
    pub fn newest_audit(&self, count: u32) -> Result<Vec<AuditLine>, StoreError> {
        let sql = "SELECT sequence, digest, entry FROM audit ORDER BY sequence DESC LIMIT ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([count.min(AUDIT_READ_MAX)], line)?;
        let mut lines: Vec<AuditLine> = rows.collect::<rusqlite::Result<_>>()?;
        lines.reverse();
        Ok(lines)
    }
}

impl Batch<'_> {
    /// Adds an entry.
    pub fn add_audit(&self, end: Link, entry: &str) -> Result<(), StoreError> {
        // What stands in its place was not put there by the coordinator.
        let sql = "INSERT OR REPLACE INTO audit (sequence, digest, entry) VALUES (?1, ?2, ?3)";
        self.execute(sql, (end.sequence, end.digest.to_string(), entry))?;
        Ok(())
    }

    /// Deletes entries from the oldest on.
    pub fn prune_audit(&self, last: u64) -> Result<(), StoreError> {
        self.execute("DELETE FROM audit WHERE sequence <= ?1", [last])?;
        Ok(())
    }

    /// Notes that a node has proven what it was told. `false`: it was not told that, or it is known.
    pub fn prove(
        &self,
        node: &NodeId,
        app: &AppName,
        generation: Generation,
        release: &ReleaseRef,
        at: UnixTime,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE desired SET proved_at = ?5 \
             WHERE node = ?1 AND app = ?2 AND generation = ?3 AND release = ?4 AND proved_at IS NULL";
        Ok(self.execute(sql, (node.as_str(), app.as_str(), generation, release.id.to_string(), at))? > 0)
    }
}
