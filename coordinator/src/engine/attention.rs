//! Which node somebody should look at, and why: the gravest of what [`super::why()`] answers. Pure.

use orangery_wire::messages::RefusalCode;
use orangery_wire::rest::{Attention, NodeView, WhyLine};

use super::{Facts, why};

/// Why somebody should look at a node, if somebody should. What a person did on purpose (a hold, a revocation) and what is under
/// way is nothing to look at; a coordinator that hears nobody is not the nodes' fault.
pub fn attention(node: &NodeView, facts: &Facts) -> Option<Attention> {
    if node.revoked {
        return None;
    }
    let lines = why(node, facts).lines;
    let grave = lines.into_iter().filter_map(|line| Some((gravity(node, facts, &line)?, line)));
    let (_, line) = grave.min_by_key(|(gravity, _)| *gravity)?;
    Some(Attention { code: line.code, text: line.text })
}

/// The least is the gravest.
fn gravity(node: &NodeView, facts: &Facts, line: &WhyLine) -> Option<u8> {
    match line.code.as_str() {
        _ if line.refusal.is_some_and(|code| code != RefusalCode::RolledBack) => Some(0),
        "unhealthy_now" => Some(1),
        "release_revoked" => Some(2),
        "expired" => Some(3),
        "never_seen" | "offline" => facts.broker_connected.then_some(4),
        "in_progress" | "not_taken_in" => waits(node, line).then_some(5),
        "installed_there" | "rolled_back" => Some(6),
        _ => None,
    }
}

/// Whether the node says that it cannot go on.
fn waits(node: &NodeView, line: &WhyLine) -> bool {
    let mut reports = node.reported.iter().flat_map(|reported| &reported.apps);
    reports.any(|report| Some(&report.app) == line.app.as_ref() && report.waits.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(online: bool, app: &serde_json::Value) -> NodeView {
        let release =
            |version: &str| serde_json::json!({ "id": version.repeat(64), "version": format!("{version}.0.0") });
        let mut report = serde_json::json!({ "app": "web", "generation": 2, "desired": release("2"), "current": release("2"),
            "running": release("2"), "phase": "settled", "healthy": true });
        report.as_object_mut().unwrap().extend(app.as_object().unwrap().clone());
        serde_json::from_value(serde_json::json!({
            "node": "attic", "joined_at": 1, "revoked": false, "online": online, "seen_at": 100,
            "desired": [{ "app": "web", "generation": 2, "release": "2".repeat(64), "version": "2.0.0" }],
            "reported": { "format": 1, "node": "attic", "boot_id": "b", "sequence": 1, "generation": 2, "agent_version": "1",
                "platform": "linux/arm64", "apps": [report] },
        }))
        .unwrap()
    }

    fn code(node: &NodeView, broker_connected: bool) -> Option<String> {
        attention(node, &Facts { now: 200, broker_connected, ..Facts::default() }).map(|attention| attention.code)
    }

    #[test]
    fn the_gravest_answer_is_told_and_what_is_as_it_should_be_is_not() {
        let refusal =
            serde_json::json!({ "refusal": { "release": "2".repeat(64), "code": "unhealthy", "reason": "500" } });
        let says = |online, app| code(&node(online, &app), true);
        assert_eq!(says(true, serde_json::json!({})), None);
        assert_eq!(says(true, serde_json::json!({ "phase": "fetching" })), None, "under way");
        assert_eq!(
            says(true, serde_json::json!({ "phase": "fetching", "waits": "no space" })).as_deref(),
            Some("in_progress")
        );
        assert_eq!(says(true, serde_json::json!({ "healthy": false })).as_deref(), Some("unhealthy_now"));
        assert_eq!(says(true, refusal.clone()).as_deref(), Some("unhealthy"));
        assert_eq!(says(false, serde_json::json!({})).as_deref(), Some("offline"));
        assert_eq!(says(false, refusal).as_deref(), Some("unhealthy"), "more than that it is not connected");
    }

    #[test]
    fn nodes_are_not_blamed_for_a_coordinator_that_hears_nobody_nor_for_what_was_decided() {
        let silent = node(false, &serde_json::json!({}));
        assert_eq!(code(&silent, false), None);
        assert_eq!(code(&NodeView { revoked: true, ..silent }, true), None);
    }
}
