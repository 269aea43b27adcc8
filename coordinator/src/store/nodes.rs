//! Nodes: who they are and what they last said.

use orangery_wire::messages::{Health, Reported};
use orangery_wire::{Generation, NodeId, UnixTime};
use rusqlite::{OptionalExtension as _, Row};
use serde::Deserialize;

use super::rows::{json_option, parsed, to_json};
use super::{Batch, StoreError, View};

/// One node.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeRow {
    /// The node.
    pub node: NodeId,
    /// When it enrolled, or was first heard of by a database that did not know it.
    pub joined_at: UnixTime,
    /// When it was revoked, if it was.
    pub revoked_at: Option<UnixTime>,
    /// The newest generation that it was given or has named.
    pub generation: Generation,
    /// Its last proof.
    pub reported: Option<Reported>,
    /// Its health when it sent that.
    pub health: Option<Health>,
    /// When that was.
    pub seen_at: Option<UnixTime>,
}

/// What tells two proofs of a node apart, and which is the newer one.
#[derive(Debug, Deserialize)]
pub(crate) struct ReportMark {
    /// Grows with each report, over restarts too.
    pub(crate) sequence: u64,
    /// The boot that it was sent in.
    pub(crate) boot_id: String,
}

const COLUMNS: &str = "node, joined_at, revoked_at, generation, reported, health, seen_at";

fn node_row(row: &Row<'_>) -> rusqlite::Result<NodeRow> {
    Ok(NodeRow {
        node: parsed(row, 0)?,
        joined_at: row.get(1)?,
        revoked_at: row.get(2)?,
        generation: row.get(3)?,
        reported: json_option(row, 4)?,
        health: json_option(row, 5)?,
        seen_at: row.get(6)?,
    })
}

impl View<'_> {
    /// One node.
    pub fn node(&self, node: &NodeId) -> Result<Option<NodeRow>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM nodes WHERE node = ?1");
        Ok(self.connection.prepare_cached(&sql)?.query_row([node.as_str()], node_row).optional()?)
    }

    /// The mark of a node's last proof, without reading the rest of it.
    pub(crate) fn last_report(self, node: &NodeId) -> Result<Option<ReportMark>, StoreError> {
        let mut statement = self.connection.prepare_cached("SELECT reported FROM nodes WHERE node = ?1")?;
        let mark = statement.query_row([node.as_str()], |row| json_option(row, 0)).optional()?;
        Ok(mark.flatten())
    }

    /// All nodes, by name.
    pub fn nodes(&self) -> Result<Vec<NodeRow>, StoreError> {
        self.nodes_after(None, None)
    }

    /// Those that come after one by name, at most so many.
    pub fn nodes_after(&self, after: Option<&NodeId>, limit: Option<u32>) -> Result<Vec<NodeRow>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM nodes WHERE node > ?1 ORDER BY node LIMIT ?2");
        let mut statement = self.connection.prepare_cached(&sql)?;
        // Every name is above the empty one, and a negative limit is none.
        let (after, limit) = (after.map_or("", NodeId::as_str), limit.map_or(-1, i64::from));
        let rows = statement.query_map((after, limit), node_row)?.collect::<rusqlite::Result<_>>()?;
        Ok(rows)
    }

    /// The names of all nodes.
    pub fn node_names(&self) -> Result<Vec<NodeId>, StoreError> {
        let mut statement = self.connection.prepare_cached("SELECT node FROM nodes ORDER BY node")?;
        let rows = statement.query_map([], |row| parsed(row, 0))?.collect::<rusqlite::Result<_>>()?;
        Ok(rows)
    }
}

impl Batch<'_> {
    /// Adds a node. If it is there, nothing changes.
    pub fn admit(&self, node: &NodeId, at: UnixTime) -> Result<(), StoreError> {
        let sql = "INSERT INTO nodes (node, joined_at) VALUES (?1, ?2) ON CONFLICT (node) DO NOTHING";
        self.execute(sql, (node.as_str(), at))?;
        Ok(())
    }

    /// Revokes a node and all its certificates. Again: changes nothing.
    pub fn revoke(&self, node: &NodeId, at: UnixTime) -> Result<(), StoreError> {
        self.execute("UPDATE nodes SET revoked_at = ?2 WHERE node = ?1 AND revoked_at IS NULL", (node.as_str(), at))?;
        self.execute(
            "UPDATE certificates SET revoked_at = ?2 WHERE node = ?1 AND revoked_at IS NULL",
            (node.as_str(), at),
        )?;
        Ok(())
    }

    /// Keeps a proof, the health that belongs to it, and the newest generation.
    pub fn set_reported(
        &self,
        reported: &Reported,
        health: Option<&Health>,
        generation: Generation,
        at: UnixTime,
    ) -> Result<(), StoreError> {
        self.execute(
            "UPDATE nodes SET reported = ?2, health = coalesce(?3, health), seen_at = ?4, generation = max(generation, ?5) \
             WHERE node = ?1",
            (reported.node.as_str(), to_json(reported), health.map(to_json), at, generation),
        )?;
        Ok(())
    }

    /// Keeps the last sign of life of a node.
    pub fn set_seen(&self, node: &NodeId, health: Option<&Health>, at: UnixTime) -> Result<(), StoreError> {
        self.execute(
            "UPDATE nodes SET health = coalesce(?2, health), seen_at = ?3 WHERE node = ?1",
            (node.as_str(), health.map(to_json), at),
        )?;
        Ok(())
    }
}
