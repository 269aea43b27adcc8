//! Groups with maintenance windows.

use orangery_wire::rest::{Deed, GroupRequest};

use super::rows::{json, to_json};
use super::{Batch, StoreError, View};

/// A group, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRow {
    /// Its name.
    pub name: String,
    /// Who belongs to it, and its windows.
    pub request: GroupRequest,
    /// Who set it.
    pub deed: Deed,
}

impl View<'_> {
    /// All groups, by name.
    pub fn groups(&self) -> Result<Vec<GroupRow>, StoreError> {
        let mut statement = self.connection.prepare_cached("SELECT name, request, deed FROM groups ORDER BY name")?;
        let row =
            |row: &rusqlite::Row<'_>| Ok(GroupRow { name: row.get(0)?, request: json(row, 1)?, deed: json(row, 2)? });
        let found = statement.query_map([], row)?.collect::<rusqlite::Result<_>>()?;
        Ok(found)
    }
}

impl Batch<'_> {
    /// Keeps a group in place of one of the same name.
    pub fn set_group(&self, group: &GroupRow) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO groups (name, request, deed) VALUES (?1, ?2, ?3) \
             ON CONFLICT (name) DO UPDATE SET request = ?2, deed = ?3",
            (&group.name, to_json(&group.request), to_json(&group.deed)),
        )?;
        Ok(())
    }

    /// Forgets a group. Returns whether there was one.
    pub fn remove_group(&self, name: &str) -> Result<bool, StoreError> {
        Ok(self.execute("DELETE FROM groups WHERE name = ?1", [name])? == 1)
    }
}
