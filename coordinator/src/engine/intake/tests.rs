use orangery_wire::limits::PACKET_BYTES_MAX;
use serde_json::json;

use super::*;

fn garage() -> NodeId {
    "garage".parse().unwrap()
}

fn good_report() -> Value {
    json!({
        "format": 1, "node": "garage", "boot_id": "b", "sequence": 1, "generation": 3, "agent_version": "0.1.0",
        "platform": "linux/arm64", "labels": {"site": "attic"}, "apps": [],
    })
}

fn good_event() -> Value {
    json!({
        "format": 1, "node": "garage", "epoch": 7, "sequence": 1, "at": 1, "clock_synced": true, "boot_id": "b",
        "what": {"code": "agent_stopped"},
    })
}

fn with(mut value: Value, key: &str, other: Value) -> Vec<u8> {
    value[key] = other;
    serde_json::to_vec(&value).unwrap()
}

#[test]
fn a_broken_report_is_rejected_with_a_stable_word() {
    let why = |payload: &[u8]| reported(payload, &garage()).unwrap_err().why;
    let app = json!({"app": "greeter", "generation": 1, "phase": "settled"});
    let long = "x".repeat(300);
    for (key, value, expected) in [
        ("format", json!(2), "unknown_format"),
        ("node", json!("attic"), "wrong_node"),
        ("apps", Value::Array(vec![app; 33]), "too_many_apps"),
        (
            "labels",
            (0..33).map(|n| (n.to_string(), json!("x"))).collect::<serde_json::Map<_, _>>().into(),
            "too_many_labels",
        ),
        ("labels", json!({"site": long}), "too_long"),
        ("generation", json!(u64::MAX), "out_of_range"),
        ("sequence", json!(u64::MAX), "out_of_range"),
        ("boot_id", json!(long), "too_long"),
        ("apps", json!("none"), "not_json"),
        ("apps", json!([{"app": "No", "generation": 1, "phase": "settled"}]), "not_json"),
    ] {
        assert_eq!(why(&with(good_report(), key, value)), expected, "{key}");
    }
    assert_eq!(why(b""), "not_json");
    assert_eq!(why(b"\xff\xfe"), "not_json");
    assert_eq!(why(&vec![b'['; 60_000]), "not_json");
    assert_eq!(why(&vec![b' '; PACKET_BYTES_MAX + 1]), "too_large");
    assert!(reported(&with(good_report(), "of_the_future", json!([1])), &garage()).is_ok());
}

#[test]
fn a_broken_event_is_rejected_with_a_stable_word() {
    let why = |payload: &[u8]| event(payload, &garage()).unwrap_err().why;
    for (key, value, expected) in [
        ("format", json!(0), "unknown_format"),
        ("node", json!("attic"), "wrong_node"),
        ("epoch", json!(0), "out_of_range"),
        ("sequence", json!(0), "out_of_range"),
        ("sequence", json!(u64::MAX), "out_of_range"),
        ("previous", json!(u64::MAX), "out_of_range"),
        ("boot_id", json!("x".repeat(300)), "too_long"),
        ("what", json!({"code": "nobody_knows"}), "not_json"),
        ("sequence", json!(-1), "not_json"),
    ] {
        assert_eq!(why(&with(good_event(), key, value)), expected, "{key}");
    }
    assert!(event(&with(good_event(), "epoch", json!(u64::MAX)), &garage()).is_ok(), "epochs use all bits");
}

#[test]
fn broken_health_and_presence_are_rejected() {
    assert_eq!(health(b"{}").unwrap_err().why, "not_json");
    assert_eq!(online(br#"{"online":"yes","boot_id":"b"}"#).unwrap_err().why, "not_json");
    assert!(online(br#"{"online":true,"boot_id":"b"}"#).unwrap().online);
}

#[test]
fn no_text_of_a_node_can_move_a_terminals_cursor_or_turn_its_writing() {
    let labels = json!({"si\u{1b}[2Jte": "at\u{202e}tic\r\nroot", "ümlaut": "日本"});
    let read = reported(&with(good_report(), "labels", labels), &garage()).unwrap();
    let shown: Vec<_> = read.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(shown, ["si\u{fffd}[2Jte=at\u{fffd}tic  root", "ümlaut=日本"]);
    // An escape that hides a control character in plain ASCII.
    let hidden = br#"{"online":true,"boot_id":"a\u0007b"}"#;
    assert_eq!(online(hidden).unwrap().boot_id, "a\u{fffd}b");
}

#[test]
fn the_newest_generation_is_that_of_any_app() {
    let apps = json!([{"app": "greeter", "generation": 9, "phase": "settled"}]);
    assert_eq!(newest_generation(&reported(&with(good_report(), "apps", apps), &garage()).unwrap()), 9);
}
