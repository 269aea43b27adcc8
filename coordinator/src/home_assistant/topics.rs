//! Which topics there are, and what one that comes back means. Pure.
//!
//! ```text
//! PREFIX/device/SLUG/config           the coordinator; SLUG is BASE with `_` for `/`
//! PREFIX/device/SLUG_NODE/config      a node; no name of a node has a `_`
//! BASE/status                         online, offline; our will
//! BASE/coordinator                    state of the coordinator
//! BASE/node/NODE/state                state of a node
//! BASE/node/NODE/app/APP              state of an update entity
//! BASE/node/NODE/hold, .../release    commands: hold it, release it
//! BASE/node/NODE/app/APP/install      command: install the version in the payload
//! ```

use orangery_wire::{AppName, NodeId};

/// Longest topic that is looked at.
const TOPIC_BYTES_MAX: usize = 512;

/// The topics of one coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Topics {
    prefix: String,
    base: String,
    slug: String,
}

/// What somebody in the house asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// Hold a node.
    Hold(NodeId),
    /// Release a node.
    Release(NodeId),
    /// Install a release of an app; the payload says which.
    Install(NodeId, AppName),
}

impl Asked {
    /// Of which node.
    pub(super) fn node(&self) -> &NodeId {
        match self {
            Self::Hold(node) | Self::Release(node) | Self::Install(node, _) => node,
        }
    }
}

impl Topics {
    pub(super) fn new(prefix: &str, base: &str) -> Self {
        Self { prefix: prefix.to_owned(), base: base.to_owned(), slug: base.replace('/', "_") }
    }

    /// What Home Assistant knows the coordinator by.
    pub(super) fn coordinator_id(&self) -> &str {
        &self.slug
    }

    /// What Home Assistant knows a node by, for as long as it is one.
    pub(super) fn node_id(&self, node: &NodeId) -> String {
        format!("{}_{node}", self.slug)
    }

    pub(super) fn coordinator_config(&self) -> String {
        format!("{}/device/{}/config", self.prefix, self.slug)
    }

    pub(super) fn node_config(&self, node: &NodeId) -> String {
        format!("{}/device/{}_{node}/config", self.prefix, self.slug)
    }

    pub(super) fn status(&self) -> String {
        format!("{}/status", self.base)
    }

    pub(super) fn coordinator(&self) -> String {
        format!("{}/coordinator", self.base)
    }

    pub(super) fn node(&self, node: &NodeId) -> String {
        format!("{}/node/{node}/state", self.base)
    }

    pub(super) fn app(&self, node: &NodeId, app: &AppName) -> String {
        format!("{}/node/{node}/app/{app}", self.base)
    }

    pub(super) fn install(&self, node: &NodeId, app: &AppName) -> String {
        format!("{}/node/{node}/app/{app}/install", self.base)
    }

    pub(super) fn hold(&self, node: &NodeId) -> String {
        format!("{}/node/{node}/hold", self.base)
    }

    pub(super) fn release(&self, node: &NodeId) -> String {
        format!("{}/node/{node}/release", self.base)
    }

    /// What the coordinator hears: commands, and what it finds of its own when it connects.
    pub(super) fn filters(&self) -> [String; 2] {
        [format!("{}/node/#", self.base), format!("{}/device/+/config", self.prefix)]
    }

    /// The command that a topic carries.
    pub(super) fn asked(&self, topic: &str) -> Option<Asked> {
        let words: Vec<&str> = self.below_node(topic)?.split('/').take(5).collect();
        match words[..] {
            [node, "hold"] => Some(Asked::Hold(node.parse().ok()?)),
            [node, "release"] => Some(Asked::Release(node.parse().ok()?)),
            [node, "app", app, "install"] => Some(Asked::Install(node.parse().ok()?, app.parse().ok()?)),
            _ => None,
        }
    }

    /// The node whose description is at a topic; `None` if none of ours is.
    pub(super) fn described(&self, topic: &str) -> Option<NodeId> {
        self.own_config(topic)?.strip_prefix('_')?.parse().ok()
    }

    /// Whether nobody but this coordinator has business with a retained message there.
    pub(super) fn is_own(&self, topic: &str) -> bool {
        topic.len() <= TOPIC_BYTES_MAX && (self.below_node(topic).is_some() || self.described(topic).is_some())
    }

    fn below_node<'t>(&self, topic: &'t str) -> Option<&'t str> {
        if topic.len() > TOPIC_BYTES_MAX {
            return None;
        }
        topic.strip_prefix(&self.base)?.strip_prefix("/node/")
    }

    fn own_config<'t>(&self, topic: &'t str) -> Option<&'t str> {
        let device = topic.strip_prefix(&self.prefix)?.strip_prefix("/device/")?.strip_suffix("/config")?;
        device.strip_prefix(&self.slug)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics() -> Topics {
        Topics::new("homeassistant", "house/orangery")
    }

    #[test]
    fn a_command_is_what_was_announced_as_its_topic_and_nothing_else() {
        let (node, app): (NodeId, AppName) = ("attic".parse().unwrap(), "web".parse().unwrap());
        let topics = topics();
        assert_eq!(topics.asked(&topics.hold(&node)), Some(Asked::Hold(node.clone())));
        assert_eq!(topics.asked(&topics.release(&node)), Some(Asked::Release(node.clone())));
        assert_eq!(topics.asked(&topics.install(&node, &app)), Some(Asked::Install(node.clone(), app.clone())));
        for topic in [
            "house/orangery/node/attic/state",
            "house/orangery/node/attic/app/web",
            "house/orangery/node/attic/app/web/install/more",
            "house/orangery/node/ATTIC/hold",
            "house/orangery/node/../hold",
            "house/orangery/node//hold",
            "house/orangery/hold",
            "orangery/node/attic/hold",
            &format!("house/orangery/node/{}/hold", "a".repeat(600)),
        ] {
            assert_eq!(topics.asked(topic), None, "{topic}");
        }
    }

    #[test]
    fn only_what_is_below_its_own_names_is_its_own() {
        let topics = topics();
        let node: NodeId = "attic".parse().unwrap();
        assert_eq!(topics.described(&topics.node_config(&node)), Some(node.clone()));
        assert_eq!(topics.described(&topics.coordinator_config()), None);
        assert!(
            topics.is_own(&topics.node_config(&node)) && topics.is_own(&topics.app(&node, &"web".parse().unwrap()))
        );
        for topic in [
            "homeassistant/device/zigbee2mqtt_attic/config",
            "homeassistant/device/house_orangery2_attic/config",
            "homeassistant/device/house_orangery_a_b/config",
            "homeassistant/status",
            "house/orangery/status",
            "house/orangery2/node/attic/state",
        ] {
            assert!(!topics.is_own(topic), "{topic}");
        }
    }
}
