//! Maintenance windows that a directory gives to groups, changes and takes away.

use orangery_wire::rest::{DeedRequest, GroupRequest, GroupView};
use serde::Serialize;

use super::files::GroupFile;
use super::holds::{is_made_by_directory, made_note};
use super::parse::Desired;
use super::world::World;

/// A group whose windows are set or taken away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GroupChange {
    /// Its name.
    pub group: String,
    /// Who belongs to it and its windows; `None`: it has none any more.
    pub says: Option<GroupFile>,
}

/// Which groups are to be changed. What a file says counts; a group that was set by hand and has no windows in a file is left as it is.
pub fn group_changes(desired: &Desired, world: &World) -> Vec<GroupChange> {
    let written = || desired.groups.iter().filter(|(_, says)| !says.windows.is_empty());
    let there = |name: &str| world.groups.iter().find(|group| group.group == name);
    let set = written().filter(|(name, says)| !there(name).is_some_and(|there| is_same(there, says)));
    let mut changes: Vec<GroupChange> =
        set.map(|(name, says)| GroupChange { group: name.clone(), says: Some(says.clone()) }).collect();
    let gone = world.groups.iter().filter(|there| {
        is_made_by_directory(there.deed.note.as_deref()) && !written().any(|(name, _)| *name == there.group)
    });
    changes.extend(gone.map(|there| GroupChange { group: there.group.clone(), says: None }));
    changes
}

fn is_same(there: &GroupView, says: &GroupFile) -> bool {
    there.members == says.members() && there.windows == says.windows
}

impl GroupChange {
    /// What is asked for; `None`: it is to be removed.
    pub fn request(&self, commit: Option<&str>) -> Option<GroupRequest> {
        let says = self.says.as_ref()?;
        let deed = DeedRequest { note: Some(made_note("windows", commit)) };
        Some(GroupRequest { members: says.members(), windows: says.windows.clone(), deed })
    }
}

/// A group as it stands in a file.
pub fn written(view: &GroupView) -> GroupFile {
    let members = view.members.clone();
    GroupFile { all: members.all, nodes: members.nodes, labels: members.labels, windows: view.windows.clone() }
}
