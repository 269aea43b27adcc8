//! What Home Assistant is told, as it wants it: descriptions of devices, and states of their entities. Pure.
//!
//! The form is that of <https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload> and of the pages of
//! [update](https://www.home-assistant.io/integrations/update.mqtt/),
//! [binary sensor](https://www.home-assistant.io/integrations/binary_sensor.mqtt/),
//! [sensor](https://www.home-assistant.io/integrations/sensor.mqtt/) and
//! [button](https://www.home-assistant.io/integrations/button.mqtt/); `coordinator/tests/home-assistant/` has it as JSON Schemas.
//!
//! What a node says of itself is text of a bounded length on one line, and never part of a template. It is not in the summary of
//! a release, which Home Assistant shows as markup.

use std::collections::BTreeSet;

use orangery_wire::AppName;
use serde_json::{Map, Value, json};

use super::offer::AppState;
use super::picture::{NodePicture, Picture};
use super::topics::Topics;
use crate::notify::plain;

/// Longest state and summary that Home Assistant takes, in characters.
pub(super) const STATE_CHARS_MAX: usize = 255;
/// Longest attribute, in characters.
const ATTRIBUTE_CHARS_MAX: usize = 500;
/// Longest name of a board or version of an agent, in characters.
const NAME_CHARS_MAX: usize = 64;

/// The word that begins an install command; the version follows after a blank.
pub(super) const INSTALL: &str = "install";
/// The payload of the hold button.
pub(super) const HOLD: &str = "hold";
/// The payload of the release button.
pub(super) const RELEASE: &str = "release";

/// Where everything is: the topics, and the dashboard's address.
#[derive(Debug, Clone)]
pub(super) struct House {
    pub(super) topics: Topics,
    pub(super) url: String,
}

impl House {
    /// The coordinator as a device.
    pub(super) fn coordinator_device(&self) -> Value {
        let topic = self.topics.coordinator();
        let entity =
            |key: &str, name: &str, rest: Value| Self::entity(self.topics.coordinator_id(), key, name, &topic, rest);
        let components = json!({
            "broker": entity("broker", "Broker", json!({
                "platform": "binary_sensor", "device_class": "connectivity", "entity_category": "diagnostic",
            })),
            "nodes": entity("nodes", "Nodes", json!({ "platform": "sensor", "icon": "mdi:server-network" })),
            "attention": entity("attention", "Nodes to look at", json!({ "platform": "sensor", "icon": "mdi:alert" })),
        });
        let device = json!({
            "identifiers": [self.topics.coordinator_id()],
            "name": "Orangery",
            "manufacturer": "Orangery",
            "model": "Coordinator",
            "sw_version": env!("CARGO_PKG_VERSION"),
            "configuration_url": self.url,
        });
        self.described(&device, &components)
    }

    /// The states of the coordinator's entities.
    pub(super) fn coordinator_state(picture: &Picture) -> Value {
        json!({
            "broker": on(Some(picture.is_listening)),
            "nodes": picture.nodes.len(),
            "attention": picture.nodes.iter().filter(|node| node.attention.is_some()).count(),
        })
    }

    /// A node as a device. Entities of apps that were `gone` since it was described before are named so that they are removed.
    pub(super) fn node_device(&self, node: &NodePicture, gone: &BTreeSet<AppName>) -> Value {
        let name = &node.view.node;
        let mut components = self.node_entities(node);
        for app in &node.apps {
            components.insert(app_key(&app.app), self.update(node, app));
        }
        for app in gone {
            components.entry(app_key(app)).or_insert_with(|| json!({ "platform": "update" }));
        }
        let reported = node.view.reported.as_ref();
        let model = reported.map(|reported| reported.board.as_deref().unwrap_or(&reported.platform));
        let mut device = json!({
            "identifiers": [self.topics.node_id(name)],
            "name": name,
            "manufacturer": "Orangery",
            "model": model.map_or_else(|| "Node".to_owned(), |model| plain(model, NAME_CHARS_MAX)),
            "via_device": self.topics.coordinator_id(),
            "configuration_url": format!("{}/#/node/{name}", self.url),
        });
        if let (Some(reported), Some(device)) = (reported, device.as_object_mut()) {
            device.insert("sw_version".to_owned(), plain(&reported.agent_version, NAME_CHARS_MAX).into());
        }
        self.described(&device, &components.into())
    }

    fn node_entities(&self, node: &NodePicture) -> Map<String, Value> {
        let name = &node.view.node;
        let (id, topic) = (self.topics.node_id(name), self.topics.node(name));
        let attributes = |of: &str| format!("{{{{ value_json.{of} | tojson }}}}");
        let sensors = [
            (
                "connectivity",
                "Connectivity",
                json!({
                    "platform": "binary_sensor", "device_class": "connectivity", "entity_category": "diagnostic",
                }),
            ),
            (
                "problem",
                "Problem",
                json!({
                    "platform": "binary_sensor", "device_class": "problem", "json_attributes_topic": topic,
                    "json_attributes_template": attributes("problem_attributes"),
                }),
            ),
            (
                "held",
                "Held",
                json!({
                    "platform": "binary_sensor", "icon": "mdi:pause-circle", "json_attributes_topic": topic,
                    "json_attributes_template": attributes("held_attributes"),
                }),
            ),
            (
                "last_command",
                "Last command",
                json!({
                    "platform": "sensor", "icon": "mdi:message-reply-text", "entity_category": "diagnostic",
                }),
            ),
        ];
        let sensors = sensors.map(|(key, name, rest)| (key, Self::entity(&id, key, name, &topic, rest)));
        let button = |key: &str, name: &str, icon: &str, topic: String| {
            json!({
                "platform": "button", "unique_id": format!("{id}_{key}"), "name": name, "icon": icon,
                "entity_category": "config", "command_topic": topic, "payload_press": key,
            })
        };
        let buttons = [
            (HOLD, button(HOLD, "Hold", "mdi:pause", self.topics.hold(name))),
            (RELEASE, button(RELEASE, "Release", "mdi:play", self.topics.release(name))),
        ];
        sensors.into_iter().chain(buttons).map(|(key, entity)| (key.to_owned(), entity)).collect()
    }

    /// The version to install is part of the description, so that a click means what was shown.
    fn update(&self, node: &NodePicture, app: &AppState) -> Value {
        let name = &node.view.node;
        let mut entity = json!({
            "platform": "update",
            "unique_id": format!("{}_{}", self.topics.node_id(name), app_key(&app.app)),
            "name": app.app,
            "title": app.app,
            "state_topic": self.topics.app(name, &app.app),
        });
        if let (Some(latest), Some(entity)) = (&app.latest, entity.as_object_mut()) {
            entity.insert("command_topic".to_owned(), self.topics.install(name, &app.app).into());
            entity.insert("payload_install".to_owned(), format!("{INSTALL} {latest}").into());
        }
        entity
    }

    fn entity(id: &str, key: &str, name: &str, topic: &str, rest: Value) -> Value {
        let mut entity = json!({
            "unique_id": format!("{id}_{key}"),
            "name": name,
            "state_topic": topic,
            "value_template": format!("{{{{ value_json.{key} }}}}"),
        });
        if let (Some(entity), Value::Object(rest)) = (entity.as_object_mut(), rest) {
            entity.extend(rest);
        }
        entity
    }

    fn described(&self, device: &Value, components: &Value) -> Value {
        json!({
            "device": device,
            "origin": {
                "name": "Orangery",
                "sw_version": env!("CARGO_PKG_VERSION"),
                "support_url": env!("CARGO_PKG_REPOSITORY"),
            },
            "components": components,
            "availability_topic": self.topics.status(),
            "qos": 1,
        })
    }
}

/// The states of a node's entities. `answer` is what the last command came to.
pub(super) fn node_state(node: &NodePicture, is_listening: bool, answer: Option<&str>) -> Value {
    let problem = node.attention.as_ref().map_or_else(
        || json!({}),
        |attention| json!({ "code": attention.code, "text": plain(&attention.text, ATTRIBUTE_CHARS_MAX) }),
    );
    let held = node.view.holds.first().map_or_else(
        || json!({}),
        |hold| {
            let reason = plain(hold.deed.note.as_deref().unwrap_or_default(), ATTRIBUTE_CHARS_MAX);
            json!({ "by": hold.deed.by, "reason": reason, "app": hold.app })
        },
    );
    json!({
        "connectivity": on(is_listening.then_some(node.view.online)),
        "problem": on(Some(node.attention.is_some())),
        "problem_attributes": problem,
        "held": on(Some(!node.view.holds.is_empty())),
        "held_attributes": held,
        "last_command": answer.map_or_else(|| UNKNOWN.to_owned(), |answer| plain(answer, STATE_CHARS_MAX)),
    })
}

/// The state of an update entity: its keys and no others, for Home Assistant refuses a message with one that it does not know.
pub(super) fn app_state(app: &AppState) -> Value {
    let mut state = json!({
        "title": app.app,
        "release_summary": summary(app),
        "in_progress": app.in_progress,
        "update_percentage": app.percentage,
    });
    if let Some(state) = state.as_object_mut() {
        let versions = [("installed_version", &app.installed), ("latest_version", &app.latest)];
        state
            .extend(versions.into_iter().filter_map(|(key, version)| Some((key.to_owned(), json!(version.as_ref()?)))));
    }
    state
}

fn summary(app: &AppState) -> String {
    let notes = app.notes.as_deref().unwrap_or_default();
    match &app.refused {
        Some(code) => plain(&format!("Refused here before ({code}). {notes}"), STATE_CHARS_MAX),
        None => plain(notes, STATE_CHARS_MAX),
    }
}

/// The key of an app's entity. No other key has that beginning.
pub(super) fn app_key(app: &AppName) -> String {
    format!("app_{app}")
}

/// What Home Assistant takes for "nobody knows".
const UNKNOWN: &str = "None";

fn on(state: Option<bool>) -> &'static str {
    match state {
        Some(true) => "ON",
        Some(false) => "OFF",
        None => UNKNOWN,
    }
}
