//! Groups with maintenance windows: set, forgotten, and what they mean for each node.

use std::collections::BTreeMap;

use orangery_wire::rest::{DeedRequest, GROUPS_MAX, GroupRequest, GroupView, MEMBERS_MAX, WINDOWS_MAX};
use orangery_wire::{AppName, NodeId, UnixTime};

use super::core::{Done, Turn};
use super::live::Live;
use super::refused::Refused;
use super::rollouts::deed;
use crate::rollout::Window;
use crate::store::{GroupRow, NodeRow, StoreError, View};
use crate::windows::{self, Schedule};

/// The groups that there are, with their windows.
pub struct Groups {
    groups: Vec<(GroupRow, Schedule)>,
    /// Why the coordinator's clock is not believed.
    doubt: Option<String>,
}

impl Groups {
    /// Reads them. One whose zone is not known any more, by an older program, is as good as none: it says so in the log.
    pub fn read(view: View<'_>, live: &Live) -> Result<Self, StoreError> {
        let groups = view.groups()?;
        let doubt = if groups.is_empty() { None } else { windows::doubt(live.clocks_ahead()) };
        Ok(Self { groups: groups.into_iter().filter_map(understood).collect(), doubt })
    }

    /// What each node's windows say now. Nodes without a window are not in it.
    pub fn look(&self, nodes: &[NodeRow], now: UnixTime) -> BTreeMap<NodeId, Window> {
        let mut known: BTreeMap<Vec<usize>, Option<Window>> = BTreeMap::new();
        let mut said = BTreeMap::new();
        for row in nodes {
            let mine = self.of(row);
            let window = known.entry(mine).or_insert_with_key(|mine| self.window(mine, now));
            if let Some(window) = window {
                said.insert(row.node.clone(), window.clone());
            }
        }
        said
    }

    fn of(&self, row: &NodeRow) -> Vec<usize> {
        let has = |(k, (group, _)): (usize, &(GroupRow, Schedule))| has(group, row).then_some(k);
        self.groups.iter().enumerate().filter_map(has).collect()
    }

    fn window(&self, mine: &[usize], now: UnixTime) -> Option<Window> {
        let named = |(group, schedule): &'_ (GroupRow, Schedule)| (group.name.clone(), schedule.clone());
        let groups: Vec<(String, Schedule)> = mine.iter().filter_map(|k| self.groups.get(*k)).map(named).collect();
        let groups: Vec<(&str, &Schedule)> = groups.iter().map(|(name, schedule)| (name.as_str(), schedule)).collect();
        match &self.doubt {
            Some(why) if !groups.is_empty() => Some(windows::doubted(why)),
            _ => windows::look(&groups, now),
        }
    }

    /// All of them, for whoever asks.
    pub fn views(&self, nodes: &[NodeRow], now: UnixTime) -> Vec<GroupView> {
        self.groups.iter().map(|(group, schedule)| view(group, schedule, nodes, now)).collect()
    }
}

fn understood(group: GroupRow) -> Option<(GroupRow, Schedule)> {
    match Schedule::new(&group.request.windows) {
        Ok(schedule) => Some((group, schedule)),
        Err(reason) => {
            tracing::error!(group = group.name, reason, "the windows of a group are not understood, and do not count");
            None
        }
    }
}

fn has(group: &GroupRow, row: &NodeRow) -> bool {
    let labels = row.reported.as_ref().map(|reported| &reported.labels);
    row.revoked_at.is_none() && group.request.members.has(&row.node, labels)
}

fn view(group: &GroupRow, schedule: &Schedule, nodes: &[NodeRow], now: UnixTime) -> GroupView {
    GroupView {
        group: group.name.clone(),
        members: group.request.members.clone(),
        count: u32::try_from(nodes.iter().filter(|row| has(group, row)).count()).unwrap_or(u32::MAX),
        windows: group.request.windows.clone(),
        open: windows::is_open(&[schedule], now),
        changes_at: windows::changes_at(&[schedule], now),
        deed: group.deed.clone(),
    }
}

fn invalid<T>(reason: impl Into<String>) -> Result<T, Refused> {
    Err(Refused::GroupInvalid { reason: reason.into() })
}

/// What is wrong with a group by itself.
fn check(name: &str, request: &GroupRequest) -> Result<Schedule, Refused> {
    if let Err(invalid) = name.parse::<AppName>() {
        return Err(Refused::GroupInvalid { reason: format!("its name is not valid: {}", invalid.rule) });
    }
    if request.members.is_nobody() {
        return invalid("it has no members: name nodes or labels, or say all");
    }
    if request.members.nodes.len() > MEMBERS_MAX || request.members.labels.len() > MEMBERS_MAX {
        return invalid(format!("it names at most {MEMBERS_MAX} nodes and labels"));
    }
    if request.windows.is_empty() || request.windows.len() > WINDOWS_MAX {
        return invalid(format!("it has from 1 to {WINDOWS_MAX} windows; without one it is removed"));
    }
    Schedule::new(&request.windows).or_else(invalid)
}

impl Turn<'_> {
    /// Sets a group in place of one of the same name. Nobody in it may be left without a time at which it can be told.
    pub(super) fn set_group(&mut self, name: &str, request: &GroupRequest) -> Done<()> {
        let checked = check(name, request)
            .and_then(|schedule| Ok((schedule, deed(&self.actor.who, &request.deed, self.now, false)?)));
        let (schedule, deed) = match checked {
            Ok(checked) => checked,
            Err(refused) => return Ok(Err(refused)),
        };
        let nodes = self.view().nodes()?;
        let mut groups = Groups { doubt: None, ..Groups::read(self.view(), self.live)? };
        let request = GroupRequest { deed: DeedRequest::default(), ..request.clone() };
        let row = GroupRow { name: name.to_owned(), request, deed };
        if !nodes.iter().any(|node| has(&row, node)) {
            return Ok(invalid(
                "no node that is there belongs to it; `orangery node list` shows all nodes and their labels",
            ));
        }
        groups.groups.retain(|(other, _)| other.name != name);
        if groups.groups.len() >= GROUPS_MAX {
            return Ok(invalid(format!("there are {GROUPS_MAX} groups already, and no more can be")));
        }
        groups.groups.push((row.clone(), schedule));
        groups.groups.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
        let said = groups.look(&nodes, self.now);
        let never = said.iter().find(|(_, window)| matches!(window, Window::Shut(shut) if !shut.waits));
        if let Some((node, Window::Shut(shut))) = never {
            return Ok(invalid(format!("the window of {node} {}", shut.says)));
        }
        self.batch.set_group(&row)?;
        tracing::info!(group = name, by = row.deed.by, "group set");
        self.look_at_rollouts()?;
        Ok(Ok(()))
    }

    /// Forgets a group: its nodes have no windows by it any more.
    pub(super) fn remove_group(&mut self, name: &str) -> Done<()> {
        if !self.batch.remove_group(name)? {
            return Ok(Err(Refused::UnknownGroup { group: name.chars().take(80).collect() }));
        }
        tracing::info!(group = name, "group removed");
        self.look_at_rollouts()?;
        Ok(Ok(()))
    }
}
