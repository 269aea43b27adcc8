//! Holds that a directory makes, changes and ends. Those that somebody made by hand are left to that person.

use std::collections::BTreeMap;

use orangery_wire::rest::{HoldView, NodeView};
use orangery_wire::{AppName, NodeId, UnixTime};
use serde::Serialize;

use super::files::{HoldFile, NodeFile};
use super::parse::Desired;
use super::world::World;
use crate::rollout::describe_hold;

/// Ends of holds that are nearer to each other than this are the same: the clocks of two machines may differ.
const UNTIL_SECS: u64 = 600;
/// What stands after the reason of a hold that a directory made. Only such a hold is changed and ended by a directory.
const MADE_BY: &str = " [fleet directory";

/// A hold that is set or ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HoldChange {
    /// The node.
    pub node: NodeId,
    /// The app; `None`: all apps.
    pub app: Option<AppName>,
    /// The reason; `None` ends the hold.
    pub reason: Option<String>,
    /// When it ends by itself.
    pub until: Option<UnixTime>,
}

/// Which holds are to be set or ended. Holds that somebody made by hand are left as they are.
pub fn hold_changes(desired: &Desired, world: &World) -> Vec<HoldChange> {
    let mut changes = Vec::new();
    for node in world.active() {
        let written: BTreeMap<Option<&AppName>, &HoldFile> =
            desired.nodes.get(&node.node).into_iter().flat_map(NodeFile::holds).collect();
        let written = written.into_iter().filter_map(|(app, hold)| {
            let until = hold.until.as_deref().and_then(orangery_trust::time::parse);
            until.is_none_or(|until| until > world.now).then_some((app, (hold, until)))
        });
        let written: BTreeMap<_, _> = written.collect();
        for (app, (hold, until)) in &written {
            let there = node.holds.iter().find(|there| there.app.as_ref() == *app);
            if there.is_none_or(|there| is_ours(there) && !is_same(there, hold, *until)) {
                let reason = Some(hold.reason.clone());
                changes.push(HoldChange { node: node.node.clone(), app: app.cloned(), reason, until: *until });
            }
        }
        let ended = node.holds.iter().filter(|there| is_ours(there) && !written.contains_key(&there.app.as_ref()));
        changes.extend(ended.map(|there| HoldChange {
            node: node.node.clone(),
            app: there.app.clone(),
            reason: None,
            until: None,
        }));
    }
    changes
}

/// The reason of a hold as it stands in a file.
pub fn written_reason(hold: &HoldView) -> &str {
    let note = hold.deed.note.as_deref().unwrap_or_default();
    note.rsplit_once(MADE_BY).map_or(note, |(reason, _)| reason)
}

fn is_ours(hold: &HoldView) -> bool {
    is_made_by_directory(hold.deed.note.as_deref())
}

/// Whether a note says that a directory did it.
pub fn is_made_by_directory(note: Option<&str>) -> bool {
    note.is_some_and(|note| note.contains(MADE_BY) && note.ends_with(']'))
}

/// A note that says that a directory did it, and from which commit.
pub fn made_note(reason: &str, commit: Option<&str>) -> String {
    let of = commit.map(|commit| format!(", commit {commit}")).unwrap_or_default();
    format!("{reason}{MADE_BY}{of}]")
}

fn is_same(there: &HoldView, hold: &HoldFile, until: Option<UnixTime>) -> bool {
    let ends = match (there.expires_at, until) {
        (Some(there), Some(until)) => there.abs_diff(until) <= UNTIL_SECS,
        (there, until) => there == until,
    };
    ends && written_reason(there) == hold.reason
}

impl HoldChange {
    /// The reason as it is kept with the hold: it says that a directory made it, and from which commit.
    pub fn note(&self, commit: Option<&str>) -> Option<String> {
        self.reason.as_ref().map(|reason| made_note(reason, commit))
    }
}

/// Who keeps an app on a node as it is, once the holds have been changed.
pub fn held(node: &NodeView, app: &AppName, changes: &[HoldChange]) -> Option<String> {
    let concerns = |held: &Option<AppName>| held.as_ref().is_none_or(|held| held == app);
    let mine = || changes.iter().filter(|change| change.node == node.node && concerns(&change.app));
    if let Some(reason) = mine().find_map(|change| change.reason.as_ref()) {
        return Some(format!("it will be held: {reason}"));
    }
    let is_ended = |hold: &HoldView| mine().any(|change| change.app == hold.app && change.reason.is_none());
    let hold = node.holds.iter().find(|hold| concerns(&hold.app) && !is_ended(hold))?;
    Some(describe_hold(hold))
}
