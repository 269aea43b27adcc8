use std::collections::BTreeSet;

use orangery_wire::rest::{Attention, NodeView};
use orangery_wire::{AppName, NodeId, Version};
use serde_json::{Value, json};

use super::command::Wish;
use super::offer::{AppState, Releases, apps};
use super::payload::{House, app_state, node_state};
use super::picture::{NodePicture, Picture};
use super::topics::{Asked, Topics};
use crate::store::ReleaseRow;

#[path = "../../tests/home-assistant/validate.rs"]
mod validate;

const DEVICE: &str = include_str!("../../tests/home-assistant/device.json");
const UPDATE: &str = include_str!("../../tests/home-assistant/update.json");

fn house() -> House {
    House { topics: Topics::new("homeassistant", "orangery"), url: "https://nas.local:8443".to_owned() }
}

fn release(version: &str) -> Value {
    json!({ "id": id(version), "version": version })
}

/// A digest that belongs to a version.
fn id(version: &str) -> String {
    crate::sha256::digest(version.as_bytes()).to_string()
}

/// A node that was told `told` of web in generation 2; `report` is added to what it reports.
fn node(told: Option<&str>, report: &Value) -> NodeView {
    let mut all = json!({ "app": "web", "generation": 2, "phase": "settled", "healthy": true,
        "desired": told.map(release), "current": release("1.0.0"), "running": release("1.0.0") });
    all.as_object_mut().unwrap().extend(report.as_object().unwrap().clone());
    let desired = told.map(|told| json!({ "app": "web", "generation": 2, "release": id(told), "version": told }));
    serde_json::from_value(json!({
        "node": "attic", "joined_at": 1, "revoked": false, "online": true, "seen_at": 100,
        "desired": desired.into_iter().collect::<Vec<_>>(),
        "reported": { "format": 1, "node": "attic", "boot_id": "b", "sequence": 1, "generation": 2, "agent_version": "0.1.0",
            "platform": "linux/arm64", "apps": [all] },
    }))
    .unwrap()
}

fn row(version: &str, platform: &str) -> ReleaseRow {
    let view = json!({ "app": "web", "version": version, "id": id(version), "platforms": [platform],
        "notes": format!("What is new in {version}."), "published_at": 1 });
    ReleaseRow { view: serde_json::from_value(view).unwrap(), constraints: serde_json::from_value(json!({})).unwrap() }
}

fn published(versions: &[&str]) -> Releases {
    Releases::new(versions.iter().map(|version| row(version, "linux/arm64")).collect(), &BTreeSet::new())
}

fn web(node: &NodeView, releases: &Releases) -> AppState {
    let mut all = apps(node, releases);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

/// The latest version, and whether it can be installed.
fn offer(node: &NodeView, releases: &Releases) -> (String, bool) {
    let state = web(node, releases);
    (state.latest.map(|latest| latest.to_string()).unwrap_or_default(), state.is_offered)
}

fn is(latest: &str, is_offered: bool) -> (String, bool) {
    (latest.to_owned(), is_offered)
}

fn picture(view: NodeView, releases: &Releases) -> NodePicture {
    let apps = apps(&view, releases);
    let attention = Some(Attention { code: "unhealthy".into(), text: "<b>web</b> {{ 1 }}\n".repeat(200) });
    NodePicture { view, attention, apps }
}

#[test]
fn the_newest_release_that_nothing_speaks_against_is_offered() {
    let settled = node(Some("1.0.0"), &json!({}));
    assert_eq!(offer(&settled, &published(&["1.0.0"])), is("1.0.0", false));
    assert_eq!(offer(&settled, &published(&["0.9.0", "1.1.0", "1.0.0", "1.2.0", "2.0.0-rc.1"])), is("1.2.0", true));
    let preview = node(Some("1.0.0"), &json!({ "current": release("2.0.0-beta.1") }));
    assert_eq!(offer(&preview, &published(&["1.2.0", "2.0.0-rc.1"])), is("2.0.0-rc.1", true));
    let rows = || vec![row("1.1.0", "linux/arm64"), row("1.2.0", "linux/arm64"), row("1.3.0", "linux/amd64")];
    let stopped = BTreeSet::from([("web".parse::<AppName>().unwrap(), "1.2.0".parse::<Version>().unwrap())]);
    assert_eq!(offer(&settled, &Releases::new(rows(), &BTreeSet::new())), is("1.2.0", true), "another platform");
    assert_eq!(offer(&settled, &Releases::new(rows(), &stopped)), is("1.1.0", true), "its rollout has stopped");
}

#[test]
fn nothing_is_offered_to_a_node_that_is_held_or_whose_app_is_held() {
    let releases = published(&["1.0.0", "1.1.0"]);
    let held = |app: Value| {
        let holds = json!([{ "app": app, "deed": { "by": "ann", "at": 1, "note": "being repaired" } }]);
        NodeView { holds: serde_json::from_value(holds).unwrap(), ..node(Some("1.0.0"), &json!({})) }
    };
    assert_eq!(offer(&held(Value::Null), &releases), is("1.0.0", false));
    assert_eq!(offer(&held(json!("web")), &releases), is("1.0.0", false));
    assert_eq!(offer(&held(json!("radio")), &releases), is("1.1.0", true));
}

#[test]
fn what_was_told_is_shown_step_by_step_and_nothing_else_is_offered_meanwhile() {
    let releases = published(&["1.0.0", "1.1.0", "1.2.0"]);
    let steps = |report: Value| {
        let state = web(&node(Some("1.1.0"), &report), &releases);
        assert!(!state.is_offered && state.latest.unwrap().to_string() == "1.1.0");
        (state.in_progress, state.percentage)
    };
    assert_eq!(steps(json!({ "generation": 1, "desired": release("1.0.0") })), (true, Some(0)), "not taken in");
    assert_eq!(steps(json!({ "phase": "fetching" })), (true, Some(0)));
    assert_eq!(steps(json!({ "phase": "activating" })), (true, Some(33)));
    assert_eq!(steps(json!({ "phase": "probing" })), (true, Some(66)));
    assert_eq!(steps(json!({ "phase": "restoring" })), (true, None));
    let away = NodeView { online: false, ..node(Some("1.1.0"), &json!({ "phase": "fetching" })) };
    let state = web(&away, &releases);
    assert_eq!((state.in_progress, state.percentage, state.is_offered), (false, None, false), "nobody works on it");
}

#[test]
fn a_release_that_was_refused_is_offered_again_until_there_is_a_newer_one() {
    let refusal = json!({ "refusal": { "release": id("1.1.0"), "code": "unhealthy", "reason": "<script>" } });
    let refused = node(Some("1.1.0"), &refusal);
    let releases = published(&["1.0.0", "1.1.0"]);
    assert_eq!(offer(&refused, &releases), is("1.1.0", true));
    let told = app_state(&web(&refused, &releases));
    assert_eq!(told["release_summary"], "Refused here before (unhealthy). What is new in 1.1.0.");
    assert_eq!(offer(&refused, &published(&["1.0.0", "1.1.0", "1.1.1"])), is("1.1.1", true));
    assert_eq!(offer(&refused, &published(&["1.0.0", "1.1.0", "1.0.5"])), is("1.1.0", true));
    assert_eq!(offer(&refused, &published(&["1.0.0"])), is("1.0.0", false), "it was taken back since");
}

#[test]
fn an_app_has_an_entity_while_a_node_runs_it_or_was_told_to() {
    let releases = published(&["1.0.0"]);
    let mut view = node(None, &json!({}));
    assert_eq!(web(&view, &releases).app.as_str(), "web", "it came by another road");
    view.desired = serde_json::from_value(json!([{ "app": "web", "generation": 3 }])).unwrap();
    assert_eq!(apps(&view, &releases), [], "it was told to stop it");
    let new = NodeView { reported: None, ..node(Some("1.0.0"), &json!({})) };
    let state = app_state(&web(&new, &releases));
    assert_eq!((&state["latest_version"], state.get("installed_version")), (&json!("1.0.0"), None));
}

#[test]
fn descriptions_are_as_home_assistant_documents_them_whatever_a_node_says_of_itself() {
    let mut view = node(Some("1.0.0"), &json!({}));
    let reported = view.reported.as_mut().unwrap();
    reported.board = Some("Rock 5B\n{{ states('x') }}\u{202e}".repeat(100));
    reported.agent_version = "9".repeat(5_000);
    let node = picture(view, &published(&["1.0.0", "1.1.0"]));
    let gone = BTreeSet::from(["radio".parse().unwrap(), "web".parse().unwrap()]);
    let device = house().node_device(&node, &gone);
    assert_eq!(validate::violations(DEVICE, &device), Vec::<String>::new(), "{device:#}");
    assert_eq!(validate::violations(DEVICE, &house().coordinator_device()), Vec::<String>::new());
    let components = &device["components"];
    assert_eq!(components["app_web"]["payload_install"], "install 1.1.0", "a click means what was shown");
    assert_eq!(components["app_radio"], json!({ "platform": "update" }), "that removes it");
    assert_eq!(device["device"]["identifiers"], json!(["orangery_attic"]));
    assert_eq!(device["device"]["via_device"], house().coordinator_device()["device"]["identifiers"][0]);
    assert_eq!(device["device"]["configuration_url"], "https://nas.local:8443/#/node/attic");
    let model = device["device"]["model"].as_str().unwrap();
    assert!(model.chars().count() <= 64 && !model.contains(['\n', '\u{202e}']), "{model}");
}

#[test]
fn what_is_not_as_documented_is_found() {
    let node = picture(node(Some("1.0.0"), &json!({})), &published(&["1.0.0"]));
    let good = house().node_device(&node, &BTreeSet::new());
    let breaks = |path: &str, value: Value| {
        let mut bad = good.clone();
        let (parent, key) = path.rsplit_once('/').unwrap();
        bad.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(key.to_owned(), value);
        assert_ne!(validate::violations(DEVICE, &bad), Vec::<String>::new(), "{path}");
    };
    breaks("/origin", Value::Null);
    breaks("/device/identifiers", json!([]));
    breaks("/device/serial", json!("1"));
    breaks("/availability_topic", json!("orangery/#"));
    breaks("/components/app_web/unique_id", json!("a b"));
    breaks("/components/app_web/state_topic", json!(""));
    breaks("/components/hold/command_topic", Value::Null);
    breaks("/components/problem/value_template", json!("{{ value_json.problem }} <b>"));
    breaks("/components/connectivity/device_class", json!("connected"));
    breaks("/components/last_command/platform", json!("text_sensor"));
}

#[test]
fn states_are_as_home_assistant_documents_them_and_bounded() {
    let rows = ["1.0.0", "1.1.0"].map(|version| {
        let mut row = row(version, "linux/arm64");
        row.view.notes = Some("Long notes, ünd more.\n".repeat(180));
        row
    });
    let releases = Releases::new(rows.into(), &BTreeSet::new());
    for report in [json!({}), json!({ "phase": "probing" }), json!({ "current": null })] {
        let state = app_state(&web(&node(Some("1.0.0"), &report), &releases));
        assert_eq!(validate::violations(UPDATE, &state), Vec::<String>::new(), "{state}");
        assert_eq!(state["release_summary"].as_str().unwrap().chars().count(), 255);
    }
    for (key, bad) in [("installed_version", Value::Null), ("skipped", json!(true)), ("update_percentage", json!(101))]
    {
        let mut state = app_state(&web(&node(Some("1.0.0"), &json!({})), &releases));
        state.as_object_mut().unwrap().insert(key.to_owned(), bad);
        assert_ne!(validate::violations(UPDATE, &state), Vec::<String>::new(), "{key}");
    }
    let node = picture(node(Some("1.0.0"), &json!({})), &releases);
    let state = node_state(&node, true, Some(&"no\n".repeat(500)));
    assert_eq!(
        (&state["connectivity"], &state["problem"], &state["held"]),
        (&json!("ON"), &json!("ON"), &json!("OFF"))
    );
    assert!(state["last_command"].as_str().unwrap().chars().count() <= 255);
    assert!(state["problem_attributes"]["text"].as_str().unwrap().chars().count() <= 500);
    assert_eq!(node_state(&node, false, None)["connectivity"], "None", "nobody knows");
    let picture = Picture { is_listening: false, nodes: vec![node] };
    assert_eq!(House::coordinator_state(&picture), json!({ "broker": "OFF", "nodes": 1, "attention": 1 }));
}

#[test]
fn a_command_must_be_the_one_that_was_announced() {
    let (attic, web): (NodeId, AppName) = ("attic".parse().unwrap(), "web".parse().unwrap());
    let install = |payload: &[u8]| Wish::of(Asked::Install(attic.clone(), web.clone()), payload);
    let version: Version = "1.1.0".parse().unwrap();
    assert_eq!(install(b"install 1.1.0"), Ok(Wish::Install(attic.clone(), web.clone(), version)));
    assert_eq!(Wish::of(Asked::Hold(attic.clone()), b"hold"), Ok(Wish::Hold(attic.clone())));
    let long = format!("install {}", "1".repeat(1_000));
    for bad in [&b"install"[..], b"install latest", b"1.1.0", b"install 1.1.0 --to all", b"\xff\xfe", long.as_bytes()] {
        assert!(install(bad).is_err(), "{bad:?}");
    }
    assert!(Wish::of(Asked::Release(attic.clone()), b"hold").is_err());
    assert!(Wish::of(Asked::Hold(attic), b"").is_err());
}
