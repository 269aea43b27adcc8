//! What each node should run.

use std::collections::BTreeMap;

use orangery_wire::messages::{Desired, DesiredApp, FORMAT, ReleaseRef};
use orangery_wire::{AppName, Generation, NodeId};
use rusqlite::Row;

use super::rows::{parsed, parsed_option};
use super::{Batch, StoreError, View};

fn desired_app(row: &Row<'_>) -> rusqlite::Result<DesiredApp> {
    let release = parsed_option(row, 2)?.zip(parsed_option(row, 3)?);
    Ok(DesiredApp {
        app: parsed(row, 0)?,
        generation: row.get(1)?,
        release: release.map(|(id, version)| ReleaseRef { id, version }),
    })
}

impl View<'_> {
    /// What one node should run, by app.
    pub fn desired_apps(&self, node: &NodeId) -> Result<Vec<DesiredApp>, StoreError> {
        let sql = "SELECT app, generation, release, version FROM desired WHERE node = ?1 ORDER BY app";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([node.as_str()], desired_app)?.collect::<rusqlite::Result<_>>()?;
        Ok(rows)
    }

    /// What every node should run of one app.
    pub fn desired_of(&self, app: &AppName) -> Result<BTreeMap<NodeId, DesiredApp>, StoreError> {
        let sql = "SELECT app, generation, release, version, node FROM desired WHERE app = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([app.as_str()], |row| Ok((parsed(row, 4)?, desired_app(row)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The nodes that are told about so many apps or more.
    pub fn nodes_with_apps(&self, count: usize) -> Result<Vec<NodeId>, StoreError> {
        let sql = "SELECT node FROM desired GROUP BY node HAVING count(*) >= ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([count], |row| parsed(row, 0))?.collect::<rusqlite::Result<_>>()?;
        Ok(rows)
    }

    /// The message that tells a node what to run. `None` when there never was anything.
    pub fn desired(&self, node: &NodeId) -> Result<Option<Desired>, StoreError> {
        let apps = self.desired_apps(node)?;
        let Some(generation) = apps.iter().map(|app| app.generation).max() else { return Ok(None) };
        Ok(Some(Desired { format: FORMAT, node: node.clone(), generation, apps, show: Vec::new() }))
    }

    /// The nodes that should run something.
    pub fn nodes_with_desired(&self) -> Result<Vec<NodeId>, StoreError> {
        let sql = "SELECT DISTINCT node FROM desired JOIN nodes USING (node) WHERE revoked_at IS NULL";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([], |row| parsed(row, 0))?.collect::<rusqlite::Result<_>>()?;
        Ok(rows)
    }
}

impl Batch<'_> {
    /// Says what a node should run of one app, in a generation that becomes the node's newest.
    pub fn set_desired(
        &self,
        node: &NodeId,
        app: &AppName,
        generation: Generation,
        release: Option<&ReleaseRef>,
    ) -> Result<(), StoreError> {
        let (id, version) = (release.map(|r| r.id.to_string()), release.map(|r| r.version.to_string()));
        self.execute(
            "INSERT INTO desired (node, app, generation, release, version) VALUES (?1, ?2, ?3, ?4, ?5) \
             ON CONFLICT (node, app) DO UPDATE SET generation = ?3, release = ?4, version = ?5, proved_at = NULL",
            (node.as_str(), app.as_str(), generation, id, version),
        )?;
        self.execute("UPDATE nodes SET generation = max(generation, ?2) WHERE node = ?1", (node.as_str(), generation))?;
        Ok(())
    }

    /// Forgets an app that was stopped and is gone from the node.
    pub fn forget_desired(&self, node: &NodeId, app: &AppName) -> Result<(), StoreError> {
        self.execute("DELETE FROM desired WHERE node = ?1 AND app = ?2", (node.as_str(), app.as_str()))?;
        Ok(())
    }
}
