use serde_json::json;

use super::*;

const DAY: u64 = 86_400;
const NOW: u64 = 1_000 * DAY;

fn seen() -> Seen {
    Seen {
        fleet: serde_json::from_value(json!({ "version": "0.1.0", "now": NOW, "broker_connected": true, "newest_event": 0,
            "nodes": [{ "node": "attic", "online": true, "revoked": false, "seen_at": NOW, "labels": {}, "held": false, "apps": [] }] }))
        .unwrap(),
        rollouts: vec![],
        notify: vec![],
        metrics: format!(
            "# HELP x y\norangery_disk_free_bytes 5e10\n\
             orangery_metadata_expires_timestamp_seconds{{role=\"root\"}} {}\n\
             orangery_metadata_expires_timestamp_seconds{{role=\"timestamp\"}} {}\n\
             orangery_node_certificate_expires_timestamp_seconds{{node=\"attic\"}} {}\n",
            NOW + 300 * DAY,
            NOW + 45 * DAY,
            NOW + 60 * DAY
        ),
        now: NOW + 2,
    }
}

/// What is wrong after a change: the codes.
fn wrong(change: impl FnOnce(&mut Seen)) -> Vec<&'static str> {
    let mut seen = seen();
    change(&mut seen);
    examine(&seen).iter().filter_map(|finding| finding.code).collect()
}

#[test]
fn where_all_is_well_it_says_so() {
    let findings = examine(&seen());
    assert!(findings.iter().all(|finding| finding.level == Level::Ok && finding.code.is_none()), "{findings:#?}");
    assert_eq!(findings.len(), 5, "{findings:#?}");
}

#[test]
fn each_thing_that_is_wrong_is_found_by_its_code() {
    assert_eq!(wrong(|seen| seen.fleet.broker_connected = false), ["broker_away"]);
    assert_eq!(wrong(|seen| seen.now += 400), ["clock_differs"]);
    let metric = |name: &str, value: u64| {
        let (name, line) = (name.to_owned(), format!("{name} {value}"));
        move |seen: &mut Seen| {
            let others = seen.metrics.lines().filter(|line| !line.starts_with(&name));
            seen.metrics = others.chain([line.as_str()]).collect::<Vec<_>>().join("\n");
        }
    };
    assert_eq!(wrong(metric("orangery_disk_free_bytes", 900 << 20)), ["disk_low"]);
    assert_eq!(wrong(metric("orangery_disk_free_bytes", 90 << 20)), ["disk_full"]);
    let role = |role: &str| format!("orangery_metadata_expires_timestamp_seconds{{role=\"{role}\"}}");
    assert_eq!(wrong(metric(&role("root"), NOW + 29 * DAY)), ["metadata_ends"]);
    assert_eq!(wrong(metric(&role("targets"), NOW - 1)), ["metadata_ended"]);
    assert_eq!(wrong(metric(&role("timestamp"), NOW + 39 * DAY)), ["metadata_not_renewed"]);
    let certificate = "orangery_node_certificate_expires_timestamp_seconds{node=\"attic\"}";
    assert_eq!(wrong(metric(certificate, NOW + DAY)), ["certificate_ends"]);
    let strange = certificate.replace("attic", "gone");
    assert_eq!(wrong(metric(&strange, NOW - DAY)), [] as [&str; 0], "a node that is not there any more");
    let needs = |seen: &mut Seen| {
        seen.fleet.nodes[0].attention = serde_json::from_value(json!({ "code": "offline", "text": "away" })).unwrap();
    };
    assert_eq!(wrong(needs), ["node_needs_a_look"]);
    let revoked = |seen: &mut Seen| {
        needs(seen);
        seen.fleet.nodes[0].revoked = true;
    };
    assert_eq!(wrong(revoked), [] as [&str; 0]);
    assert_eq!(unanswered("refused")[0].code, Some("no_answer"));
}

#[test]
fn rollouts_that_ask_and_targets_that_are_not_told_are_named() {
    let rollout = |status: &str, state: &str| -> RolloutView {
        serde_json::from_value(json!({ "rollout": 3, "app": "web", "version": "1.0.0", "release": "0".repeat(64), "status": status,
            "reason": "it waits", "on_failure": "pause", "begun": { "by": "ann", "at": 1 }, "waves": [{ "wave": 1, "soak_secs": 1,
            "failures": "0", "trailing": false, "approve": false, "nodes": [{ "node": "attic", "state": state, "text": "" }] }] }))
        .unwrap()
    };
    for (status, state, asks) in [
        ("paused", "failed", true),
        ("running", "approval", true),
        ("running", "inconclusive", true),
        ("running", "soaking", false),
        ("done", "approval", false),
    ] {
        let codes = wrong(|seen| seen.rollouts.push(rollout(status, state)));
        assert_eq!(codes == ["rollout_asks"], asks, "{status} {state}");
    }
    let target = |failed: Option<u64>, succeeded: Option<u64>| -> NotifyTargetView {
        serde_json::from_value(json!({ "name": "phone", "kind": "ntfy", "address": "https://ntfy.sh", "events": [], "severity": "info",
            "waiting": 2, "sent": 0, "failed": 1, "given_up": 0, "succeeded_at": succeeded, "failed_at": failed, "failure": "timeout",
            "retry_at": null }))
        .unwrap()
    };
    assert_eq!(wrong(|seen| seen.notify.push(target(Some(9), Some(8)))), ["notify_fails"]);
    assert_eq!(wrong(|seen| seen.notify.push(target(Some(8), Some(9)))), [] as [&str; 0]);
    assert_eq!(wrong(|seen| seen.notify.push(target(None, None))), [] as [&str; 0]);
}

#[test]
fn of_many_nodes_some_are_named_and_the_rest_is_counted() {
    let findings = {
        let mut seen = seen();
        seen.fleet.nodes[0].attention =
            serde_json::from_value(json!({ "code": "offline", "text": "away\u{1b}[2J" })).unwrap();
        seen.fleet.nodes = vec![seen.fleet.nodes[0].clone(); 50];
        examine(&seen)
    };
    let told: Vec<_> = findings.iter().filter(|finding| finding.code == Some("node_needs_a_look")).collect();
    assert_eq!(told.len(), NAMED_MAX + 1);
    assert!(told[NAMED_MAX].what.contains("30 nodes more"), "{}", told[NAMED_MAX].what);
    assert!(told.iter().all(|finding| !finding.what.contains('\u{1b}')), "what nodes say is text");
}

#[test]
fn the_page_has_every_code() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operating/doctor.md")).unwrap();
    let row =
        |entry: &Entry| format!("| `{}` | {} | {} | {} |", entry.word, entry.level.as_str(), entry.why, entry.fix);
    let rows: Vec<String> = CODES.iter().map(row).collect();
    let missing: Vec<&String> = rows.iter().filter(|row| !page.contains(row.as_str())).collect();
    assert!(missing.is_empty(), "docs/operating/doctor.md is to have these rows:\n{}", rows.join("\n"));
}
