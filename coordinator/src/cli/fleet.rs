//! The fleet as a table: one row for each app of each node.

use orangery_wire::messages::{AppReport, Phase};
use orangery_wire::rest::{DesiredView, NodeView};
use orangery_wire::{AppName, NodeId, UnixTime};

use crate::engine::brought;
use crate::output::{self, Tone, Word};

/// Where one app on one node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppRow {
    /// The node.
    pub node: NodeId,
    /// The app; `None` for a node that has none.
    pub app: Option<AppName>,
    /// Where its deployment is.
    pub phase: Word,
    /// What is proven, and what is on its way or refused.
    pub release: Word,
    /// Whether its probes hold, or why nobody knows.
    pub health: Word,
}

/// One row for each app of each node, and one for each node without an app.
pub fn app_rows(nodes: &[NodeView], now: UnixTime) -> Vec<AppRow> {
    nodes.iter().flat_map(|node| rows_of(node, now)).collect()
}

/// One line for each app of each node, as a table.
pub fn fleet_table(nodes: &[NodeView], now: UnixTime) -> String {
    let cells = |row: AppRow| {
        let app = row.app.map_or_else(|| "-".to_owned(), |app| app.to_string());
        vec![Word::plain(row.node.as_str()), Word::plain(app), row.phase, row.release, row.health]
    };
    let rows: Vec<_> = app_rows(nodes, now).into_iter().map(cells).collect();
    output::table(&["node", "app", "phase", "release", "health"], &rows)
}

/// Whether a node is connected, in words.
pub fn presence(node: &NodeView, now: UnixTime) -> Word {
    match (node.revoked, node.online, node.seen_at) {
        (true, ..) => Word::new("revoked", Tone::Bad),
        (_, true, _) => Word::new("online", Tone::Good),
        (_, _, Some(seen)) => Word::new(format!("offline, heard {}", output::ago(seen, now)), Tone::Bad),
        (_, _, None) => Word::new("never heard", Tone::Wait),
    }
}

fn rows_of(node: &NodeView, now: UnixTime) -> Vec<AppRow> {
    let reports = node.reported.iter().flat_map(|reported| &reported.apps);
    let mut apps: Vec<&AppName> = node.desired.iter().map(|d| &d.app).chain(reports.map(|r| &r.app)).collect();
    apps.sort();
    apps.dedup();
    if apps.is_empty() {
        let dash = || Word::plain("-");
        return vec![AppRow {
            node: node.node.clone(),
            app: None,
            phase: dash(),
            release: dash(),
            health: presence(node, now),
        }];
    }
    apps.into_iter().map(|app| row(node, app, now)).collect()
}

fn row(node: &NodeView, app: &AppName, now: UnixTime) -> AppRow {
    let desired = node.desired.iter().find(|desired| desired.app == *app);
    let report = node.reported.iter().flat_map(|reported| &reported.apps).find(|report| report.app == *app);
    AppRow {
        node: node.node.clone(),
        app: Some(app.clone()),
        phase: phase(desired, report),
        release: release(desired, report),
        health: health(node, report, now),
    }
}

fn phase(desired: Option<&DesiredView>, report: Option<&AppReport>) -> Word {
    let Some(report) = report else { return Word::new("told", Tone::Wait) };
    match report.phase {
        Phase::Settled if desired.is_some_and(|desired| desired.generation > report.generation) => {
            Word::new("told", Tone::Wait)
        }
        Phase::Settled => Word::plain(Phase::Settled.as_str()),
        phase => Word::new(phase.as_str(), Tone::Wait),
    }
}

fn release(desired: Option<&DesiredView>, report: Option<&AppReport>) -> Word {
    let current = report.and_then(|report| report.current.as_ref());
    let now = current.map_or_else(|| "nothing".to_owned(), |current| current.version.to_string());
    let Some(desired) = desired else { return Word::plain(now) };
    let then = desired.version.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string);
    let is_there = current.map(|current| current.id) == desired.release;
    let refusal = report.and_then(|report| report.refusal.as_ref());
    let refused = refusal.filter(|refusal| Some(refusal.release) == desired.release && !is_there);
    let brought = report.and_then(|report| brought(desired, report));
    match refused {
        _ if report.is_some_and(|report| report.revoked) => {
            let then = if is_there { String::new() } else { format!(" -> {then}") };
            Word::new(format!("{now} (revoked by the owner){then}"), Tone::Bad)
        }
        _ if is_there => Word::new(now, Tone::Good),
        Some(refusal) => Word::new(format!("{now} ({then} refused: {})", refusal.code), Tone::Bad),
        None if brought.is_some() => Word::new(format!("{now} (installed there; told {then})"), Tone::Wait),
        None => Word::new(format!("{now} -> {then}"), Tone::Wait),
    }
}

fn health(node: &NodeView, report: Option<&AppReport>, now: UnixTime) -> Word {
    if node.revoked || !node.online {
        return presence(node, now);
    }
    match report.and_then(|report| report.healthy) {
        Some(true) => Word::new("healthy", Tone::Good),
        Some(false) => Word::new("unhealthy", Tone::Bad),
        None => Word::plain("unknown"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(desired: &serde_json::Value, reported: Option<&serde_json::Value>) -> NodeView {
        let reported = reported.map(|app| {
            json!({"format": 1, "node": "attic", "boot_id": "b", "sequence": 1, "generation": 1, "agent_version": "1.0.0",
                   "platform": "linux/arm64", "apps": [app]})
        });
        let node = json!({"node": "attic", "joined_at": 1, "revoked": false, "online": true, "seen_at": 90,
                          "desired": [desired], "reported": reported});
        serde_json::from_value(node).unwrap()
    }

    fn release(digit: u8) -> serde_json::Value {
        json!({"id": format!("{digit:064}"), "version": format!("1.{digit}.0")})
    }

    fn desired(digit: u8, generation: u64) -> serde_json::Value {
        json!({"app": "greeter", "generation": generation, "release": release(digit)["id"], "version": release(digit)["version"]})
    }

    fn words(node: &NodeView) -> [String; 3] {
        let row = app_rows(std::slice::from_ref(node), 100).remove(0);
        [row.phase.text, row.release.text, row.health.text]
    }

    #[test]
    fn a_row_says_what_is_proven_and_what_is_on_its_way_or_refused() {
        let report = |phase: &str, refusal: serde_json::Value| json!({"app": "greeter", "generation": 2, "current": release(1), "phase": phase, "refusal": refusal, "healthy": true});
        let there = node(&desired(1, 2), Some(&report("settled", json!(null))));
        assert_eq!(words(&there), ["settled", "1.1.0", "healthy"]);
        let under_way = node(&desired(2, 2), Some(&report("probing", json!(null))));
        assert_eq!(words(&under_way), ["probing", "1.1.0 -> 1.2.0", "healthy"]);
        let told = node(&desired(2, 3), Some(&report("settled", json!(null))));
        assert_eq!(words(&told), ["told", "1.1.0 -> 1.2.0", "healthy"]);
        let refusal = json!({"release": release(2)["id"], "code": "unhealthy", "reason": "status 500"});
        let refused = node(&desired(2, 2), Some(&report("settled", refusal)));
        assert_eq!(words(&refused), ["settled", "1.1.0 (1.2.0 refused: unhealthy)", "healthy"]);
        let mut revoked = report("settled", json!(null));
        revoked["revoked"] = json!(true);
        let revoked = node(&desired(1, 2), Some(&revoked));
        assert_eq!(words(&revoked), ["settled", "1.1.0 (revoked by the owner)", "healthy"]);
        let mut brought = report("settled", json!(null));
        brought["desired"] = release(1);
        let brought = node(&desired(2, 2), Some(&brought));
        assert_eq!(words(&brought), ["settled", "1.1.0 (installed there; told 1.2.0)", "healthy"]);
    }

    #[test]
    fn a_node_that_is_away_or_new_says_so() {
        let mut away = node(&desired(1, 1), None);
        away.online = false;
        assert_eq!(words(&away), ["told", "nothing -> 1.1.0", "offline, heard 10 s ago"]);
        away.desired.clear();
        away.revoked = true;
        assert_eq!(words(&away), ["-", "-", "revoked"]);
    }
}
