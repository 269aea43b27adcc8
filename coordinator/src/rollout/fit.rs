//! Whether a node may be told of a release: what the release asks of it, and holds.

use orangery_wire::Version;
use orangery_wire::manifest::Constraints;
use orangery_wire::messages::Reported;
use orangery_wire::rest::HoldView;

/// Why a node cannot run a release, by what it last reported of itself; `None` if nothing speaks against it.
pub fn incompatible(reported: &Reported, constraints: &Constraints, platforms: &[String]) -> Option<String> {
    if !platforms.contains(&reported.platform) {
        return Some(format!("the node is {}, the release is for {}", reported.platform, platforms.join(", ")));
    }
    if let Some((name, value)) =
        constraints.labels.iter().find(|(name, value)| reported.labels.get(*name) != Some(value))
    {
        return Some(format!("the release is for nodes with the label {name}={value}"));
    }
    let board = reported.board.as_deref().unwrap_or("an unknown board");
    if !constraints.boards.is_empty() && !constraints.boards.iter().any(|b| b.to_lowercase() == board.to_lowercase()) {
        return Some(format!("the node is {board}, the release is for {}", constraints.boards.join(", ")));
    }
    let too_old = |min: &&Version| reported.agent_version.parse::<Version>().is_ok_and(|agent| agent < **min);
    let oldest = constraints.agent_min.as_ref().filter(too_old)?;
    Some(format!("the node's agent is {}, the release needs {oldest}", reported.agent_version))
}

/// A hold in words: "held by ann until 2026-11-22T10:00:00Z: being repaired"
pub fn describe_hold(hold: &HoldView) -> String {
    let until = hold.expires_at.map(|at| format!(" until {}", orangery_trust::time::format(at))).unwrap_or_default();
    let what = hold.app.as_ref().map(|app| format!(", {app} alone,")).unwrap_or_default();
    let reason = hold.deed.note.as_deref().unwrap_or("no reason given");
    format!("held{what} by {}{until}: {reason}", hold.deed.by)
}
