//! Home Assistant with real processes: a coordinator, a node, and a Mosquitto of the house, set up as the page for operators says.
//! What Home Assistant would do is done by its rules: topics and payloads are taken from the descriptions.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use orangery_tests::fleet::{Fleet, GREETER};
use orangery_tests::house::{House, Panel};
use orangery_tests::mosquitto::Mosquitto;
use orangery_tests::process::{eventually, program, succeed};
use orangery_wire::rest::AuditEntry;
use serde_json::Value;

#[path = "../../coordinator/tests/home-assistant/validate.rs"]
mod validate;

const DEVICE: &str = include_str!("../../coordinator/tests/home-assistant/device.json");
const UPDATE: &str = include_str!("../../coordinator/tests/home-assistant/update.json");
const PAGE: &str = include_str!("../../docs/operating/home-assistant.md");

const ATTIC: &str = "homeassistant/device/orangery_attic/config";
const STATE: &str = "orangery/node/attic/state";
const APP: &str = "orangery/node/attic/app/greeter";

/// A block of the page, by how it begins.
fn block(head: &str) -> &'static str {
    let (_, rest) = PAGE.split_once(head).unwrap_or_else(|| panic!("the page has no {head:?}"));
    rest.split_once("```").unwrap().0
}

struct Setting {
    fleet: Fleet,
    house: House,
    mosquitto: PathBuf,
}

impl Setting {
    /// As the page says; `None` where there is no Mosquitto.
    fn new() -> Option<Self> {
        let mosquitto = Mosquitto::find()?.program().to_owned();
        let fleet = Fleet::init(&orangery_tests::fleet::Setup::default());
        let acl = format!("user orangery{}", block("```\nuser orangery"));
        let mut house = House::new(&fleet.path().join("house"), &acl, None);
        house.start(&mosquitto);
        let setting = Self { fleet, house, mosquitto };
        setting.configure(&format!("mqtt://127.0.0.1:{}", setting.house.port()), "");
        Some(setting)
    }

    fn coordinator(&self, file: &str) -> PathBuf {
        self.fleet.home().join("coordinator").join(file)
    }

    /// Adds the page's settings, for this broker.
    fn configure(&self, url: &str, more: &str) {
        let written = block("```toml\n").replace("mqtt://homeassistant.local:1883", url);
        fs::write(self.coordinator("home-assistant.password"), self.house.password()).unwrap();
        let settings = self.coordinator("coordinator.toml");
        let text = fs::read_to_string(&settings).unwrap();
        let before = text.split("\n[home_assistant]").next().unwrap();
        fs::write(&settings, format!("{before}\n{written}{more}")).unwrap();
    }

    /// Takes the settings away.
    fn turn_off(&self) {
        let settings = self.coordinator("coordinator.toml");
        let text = fs::read_to_string(&settings).unwrap();
        fs::write(&settings, text.split("\n[home_assistant]").next().unwrap()).unwrap();
    }

    /// Runs the page's command that adds the user, with a role of one's own.
    fn add_user(&self, role: &str) {
        let orangery = program("orangery");
        let path = format!("{}:{}", orangery.parent().unwrap().display(), std::env::var("PATH").unwrap());
        let command = block("buttons take:\n\n```sh\n").replace("operator", role);
        let mut shell = Command::new("sh");
        shell.args(["-eu", "-c", &command]).env("PATH", path).env("ORANGERY_DIR", self.fleet.home());
        succeed(&mut shell);
    }

    /// What is written down of the user of Home Assistant.
    fn audit(&self) -> Vec<AuditEntry> {
        let said = succeed(&mut self.fleet.orangery(&["audit", "--json", "--who", "home-assistant"]));
        said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Presses what a description says is to be pressed.
fn press(panel: &Panel, description: &str, entity: &str, payload: &str) {
    let description = panel.json(description).unwrap();
    let entity = &description["components"][entity];
    panel.publish(entity["command_topic"].as_str().unwrap(), entity[payload].as_str().unwrap(), false);
}

fn versions(state: &Value) -> (&str, &str) {
    let version = |key: &str| state[key].as_str().unwrap_or_default();
    (version("installed_version"), version("latest_version"))
}

/// All that the house has kept of ours is as documented; gives the topics.
fn judge(house: &House, ca: Option<&Path>) -> Vec<String> {
    let kept = house.kept(ca);
    for (topic, text) in &kept {
        let value = serde_json::from_str(text).unwrap_or(Value::Null);
        let schema = if topic.starts_with("homeassistant/device/") { DEVICE } else { UPDATE };
        if schema == DEVICE || topic.contains("/app/") {
            assert_eq!(validate::violations(schema, &value), Vec::<String>::new(), "{topic}: {text}");
        }
    }
    kept.into_keys().collect()
}

#[test]
fn a_node_is_shown_updated_held_and_removed_from_home_assistant() {
    let Some(mut setting) = Setting::new() else { return };
    setting.fleet.serve();
    setting.add_user("operator");
    let (fleet, panel) = (&setting.fleet, setting.house.panel(None));
    let mut node = fleet.joined("attic", "[health]\ninterval_secs = 1\n");
    node.start();
    fleet.publish("1.0.0", 200);
    fleet.deploy("greeter@1.0.0", "attic");
    fleet.settled_on("attic", "1.0.0");
    panel.sees("1.0.0 is installed", APP, |state| {
        versions(state) == ("1.0.0", "1.0.0") && state["in_progress"] == false
    });
    panel.sees("the node is well", STATE, |state| state["connectivity"] == "ON" && state["problem"] == "OFF");
    assert_eq!(panel.text("orangery/status").as_deref(), Some("online"));
    let ours = ["homeassistant/device/orangery/config", ATTIC, "orangery/coordinator", APP, STATE, "orangery/status"];
    assert_eq!(judge(&setting.house, None), ours, "and nothing else is kept");

    fleet.publish_with(
        "1.1.0",
        "version = 1.1.0\nmessage = hello\nhealth_status = 200\n",
        // Long enough on trial for its progress to be looked at.
        &format!("notes = \"Says hello.\"\nsoak_secs = 2\n{GREETER}"),
    );
    let offered = panel.sees("1.1.0 is offered", APP, |state| versions(state) == ("1.0.0", "1.1.0"));
    assert_eq!((&offered["release_summary"], &offered["title"]), (&"Says hello.".into(), &"greeter".into()));
    panel.sees("the button is for 1.1.0", ATTIC, |all| {
        all["components"]["app_greeter"]["payload_install"] == "install 1.1.0"
    });
    press(&panel, ATTIC, "app_greeter", "payload_install");
    fleet.settled_on("attic", "1.1.0");
    panel.sees("1.1.0 is installed", APP, |state| {
        versions(state) == ("1.1.0", "1.1.0") && state["in_progress"] == false
    });
    let states = panel.all(APP);
    assert!(states.iter().any(|state| state.contains(r#""in_progress":true"#)), "its progress was shown: {states:?}");
    let entry = setting.audit().pop().unwrap();
    let entry = (entry.deed.as_str(), entry.object.as_str(), entry.outcome.as_str(), entry.token.as_deref());
    assert_eq!(entry, ("deploy", "greeter 1.1.0", "done", Some("home-assistant")));

    press(&panel, ATTIC, "hold", "payload_press");
    let held = panel.sees("the node is held", STATE, |state| state["held"] == "ON");
    assert_eq!(held["held_attributes"]["by"], "home-assistant");
    fleet.publish("1.2.0", 200);
    panel.publish("orangery/node/attic/app/greeter/install", "install 1.2.0", false);
    let refused = panel.sees("what is held is not updated", STATE, |state| {
        state["last_command"].as_str().is_some_and(|answer| answer.contains("1.2.0 is not offered to attic"))
    });
    assert!(refused["last_command"].as_str().unwrap().contains("refused"), "{refused}");
    press(&panel, ATTIC, "release", "payload_press");
    panel.sees("it is not held any more", STATE, |state| state["held"] == "OFF");
    panel.sees("1.2.0 is offered", APP, |state| versions(state) == ("1.1.0", "1.2.0"));
    panel.publish("orangery/node/attic/app/greeter/install", "install 1.1.0", false);
    panel.sees("an old click does nothing", STATE, |state| {
        state["last_command"].as_str().is_some_and(|answer| answer.contains("1.1.0 is not offered"))
    });

    let before = [ATTIC, STATE, APP, "orangery/coordinator"].map(|topic| panel.count(topic));
    panel.publish("homeassistant/status", "online", false);
    eventually("all is said again when Home Assistant has come up", || {
        let now = [ATTIC, STATE, APP, "orangery/coordinator"].map(|topic| panel.count(topic));
        before.iter().zip(now).all(|(before, now)| now > *before).then_some(())
    });

    succeed(&mut fleet.orangery(&["node", "revoke", "attic"]));
    eventually("a revoked node is gone with all of its topics", || {
        let kept = judge(&setting.house, None);
        (kept == ["homeassistant/device/orangery/config", "orangery/coordinator", "orangery/status"]).then_some(())
    });
}

#[test]
fn a_user_who_may_not_is_refused_and_a_command_that_was_kept_is_not_done() {
    let Some(mut setting) = Setting::new() else { return };
    setting.fleet.serve();
    let panel = setting.house.panel(None);
    let mut node = setting.fleet.joined("attic", "");
    node.start();
    setting.fleet.publish("1.0.0", 200);
    setting.fleet.deploy("greeter@1.0.0", "attic");
    setting.fleet.settled_on("attic", "1.0.0");
    setting.fleet.publish("1.1.0", 200);
    panel.sees("1.1.0 is offered", APP, |state| versions(state) == ("1.0.0", "1.1.0"));
    let says = |text: &str| {
        panel.sees(text, STATE, |state| state["last_command"].as_str().is_some_and(|answer| answer.contains(text)));
    };
    press(&panel, ATTIC, "hold", "payload_press");
    says("there is no user home-assistant");
    setting.add_user("viewer");
    panel.sees("the button is for 1.1.0", ATTIC, |all| {
        all["components"]["app_greeter"]["payload_install"] == "install 1.1.0"
    });
    press(&panel, ATTIC, "app_greeter", "payload_install");
    says("home-assistant has the role viewer");
    let refusals: Vec<_> = setting.audit().into_iter().map(|entry| (entry.deed, entry.outcome)).collect();
    let expected = [("node.hold", "unknown_user"), ("deploy", "forbidden")];
    assert_eq!(refusals, expected.map(|(deed, outcome)| (deed.to_owned(), outcome.to_owned())));
    let view = setting.fleet.view("attic").unwrap();
    assert_eq!((view.holds.len(), view.desired[0].version.as_ref().unwrap().to_string()), (0, "1.0.0".to_owned()));
    succeed(&mut setting.fleet.orangery(&["user", "role", "home-assistant", "operator"]));
    panel.publish("orangery/node/cellar/hold", "hold", false);
    panel.publish("orangery/node/attic/hold", "HOLD!", false);
    says("the payload is not the one of the button");

    // What the broker keeps of commands is as old as it may be.
    assert!(setting.fleet.coordinator().stop().success());
    assert_eq!(panel.text("orangery/status").as_deref(), Some("offline"), "a clean stop says so itself");
    panel.publish("orangery/node/attic/hold", "hold", true);
    eventually("the broker keeps it", || {
        setting.house.kept(None).contains_key("orangery/node/attic/hold").then_some(())
    });
    setting.fleet.serve();
    eventually("it is cleared", || (!setting.house.kept(None).contains_key("orangery/node/attic/hold")).then_some(()));
    press(&panel, ATTIC, "release", "payload_press");
    says("release: released");
    let holds = setting.audit().into_iter().filter(|entry| entry.deed == "node.hold").count();
    assert_eq!(holds, 1, "but for the one that was refused at first nobody asked for it");
}

#[test]
fn the_house_hears_all_again_after_its_broker_lost_it_and_nothing_of_nodes_that_went_meanwhile() {
    let Some(mut setting) = Setting::new() else { return };
    let (certificate, key) = (setting.coordinator("server.pem"), setting.coordinator("server.key"));
    let ca = setting.coordinator("ca.pem");
    let acl = format!("user orangery{}", block("```\nuser orangery"));
    setting.house.stop();
    setting.house = House::new(&setting.fleet.path().join("tls"), &acl, Some((&certificate, &key)));
    setting.house.start(&setting.mosquitto);
    setting.configure(&format!("mqtts://127.0.0.1:{}", setting.house.port()), "ca_file = \"ca.pem\"\n");
    setting.fleet.serve();
    let panel = setting.house.panel(Some(&ca));
    setting.fleet.joined("attic", "");
    setting.fleet.joined("cellar", "");
    panel
        .sees("a node that was never heard", STATE, |state| state["connectivity"] == "OFF" && state["problem"] == "ON");
    panel.sees("both are described", "orangery/coordinator", |state| state["nodes"] == 2);
    let everything =
        eventually("all is kept", || Some(judge(&setting.house, Some(&ca))).filter(|kept| kept.len() == 7));

    setting.house.stop();
    setting.house.start(&setting.mosquitto);
    eventually("a broker that forgot all has all again", || {
        (judge(&setting.house, Some(&ca)) == everything).then_some(())
    });

    setting.fleet.coordinator().kill();
    eventually("the broker says that the coordinator is gone", || {
        (panel.text("orangery/status").as_deref() == Some("offline")).then_some(())
    });
    setting.turn_off();
    setting.fleet.serve();
    succeed(&mut setting.fleet.orangery(&["node", "revoke", "cellar"]));
    assert!(
        judge(&setting.house, Some(&ca)).contains(&"orangery/node/cellar/state".to_owned()),
        "nobody clears it now"
    );
    assert!(setting.fleet.coordinator().stop().success());
    setting.configure(&format!("mqtts://127.0.0.1:{}", setting.house.port()), "ca_file = \"ca.pem\"\n");
    setting.fleet.serve();
    eventually("what is left of a node that went is cleared", || {
        let kept = judge(&setting.house, Some(&ca));
        (kept.len() == 5 && !kept.iter().any(|topic| topic.contains("cellar"))).then_some(())
    });
}
