//! Published releases.

use orangery_wire::manifest::Constraints;
use orangery_wire::messages::ReleaseRef;
use orangery_wire::rest::ReleaseView;
use orangery_wire::{AppName, Manifest, ReleaseId, UnixTime, Version};
use rusqlite::{OptionalExtension as _, Row};

use super::rows::{json, parsed, to_json};
use super::{Batch, StoreError, View};

/// A release, as far as choosing among releases needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseRow {
    /// What everyone sees of it.
    pub view: ReleaseView,
    /// Which nodes may run it.
    pub constraints: Constraints,
}

impl ReleaseRow {
    /// The row of a manifest.
    pub fn of(manifest: &Manifest, id: ReleaseId, published_at: UnixTime) -> Self {
        let view = ReleaseView {
            app: manifest.app.clone(),
            version: manifest.version.clone(),
            id,
            platforms: manifest.platforms.keys().cloned().collect(),
            notes: manifest.notes.clone(),
            published_at,
            withdrawn: None,
            signed_by: Vec::new(),
        };
        Self { view, constraints: manifest.constraints.clone() }
    }

    /// How desired states name it.
    pub fn reference(&self) -> ReleaseRef {
        ReleaseRef { id: self.view.id, version: self.view.version.clone() }
    }
}

const COLUMNS: &str = "app, version, id, platforms, notes, published_at, constraints";

fn release_row(row: &Row<'_>) -> rusqlite::Result<ReleaseRow> {
    let view = ReleaseView {
        app: parsed(row, 0)?,
        version: parsed(row, 1)?,
        id: parsed(row, 2)?,
        platforms: json(row, 3)?,
        notes: row.get(4)?,
        published_at: row.get(5)?,
        withdrawn: None,
        signed_by: Vec::new(),
    };
    Ok(ReleaseRow { view, constraints: json(row, 6)? })
}

impl View<'_> {
    /// One release.
    pub fn release(&self, app: &AppName, version: &Version) -> Result<Option<ReleaseRow>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM releases WHERE app = ?1 AND version = ?2");
        let mut statement = self.connection.prepare_cached(&sql)?;
        Ok(statement.query_row([app.as_str(), &version.to_string()], release_row).optional()?)
    }

    /// All releases: by app, the newest version first.
    pub fn releases(&self) -> Result<Vec<ReleaseRow>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM releases");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows: Vec<ReleaseRow> = statement.query_map([], release_row)?.collect::<rusqlite::Result<_>>()?;
        rows.sort_by(|a, b| (&a.view.app, &b.view.version).cmp(&(&b.view.app, &a.view.version)));
        Ok(rows)
    }
}

impl Batch<'_> {
    /// Adds a release. The same one again changes nothing.
    pub fn add_release(&self, release: &ReleaseRow) -> Result<(), StoreError> {
        let view = &release.view;
        self.execute(
            "INSERT INTO releases (app, version, id, platforms, notes, published_at, constraints) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (app, version) DO NOTHING",
            (
                view.app.as_str(),
                view.version.to_string(),
                view.id.to_string(),
                to_json(&view.platforms),
                &view.notes,
                view.published_at,
                to_json(&release.constraints),
            ),
        )?;
        Ok(())
    }
}
