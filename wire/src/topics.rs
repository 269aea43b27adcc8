//! MQTT topics and who may use them. One rule, used by the embedded broker and rendered into other brokers' ACL files.

use crate::ids::NodeId;

/// Every topic begins with this.
pub const PREFIX: &str = "orangery/v1/";

/// The coordinator's own client id and certificate name. No node can have it: node names are checked at enrolment.
pub const COORDINATOR: &str = "coordinator";

/// What a node's topic carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// [`crate::messages::Desired`], from the coordinator; QoS 1, retained.
    Desired,
    /// [`crate::messages::Acked`], from the coordinator; QoS 1, retained.
    Acked,
    /// [`crate::messages::Reported`], from the node; QoS 1, retained.
    Reported,
    /// [`crate::messages::Health`], from the node; QoS 0.
    Health,
    /// [`crate::messages::Event`], from the node; QoS 1.
    Event,
    /// [`crate::messages::Online`], from the node, and its last will; QoS 1, retained.
    Online,
}

impl Channel {
    /// All channels.
    pub const ALL: [Self; 6] = [Self::Desired, Self::Acked, Self::Reported, Self::Health, Self::Event, Self::Online];

    /// The last level of the topic.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Desired => "desired",
            Self::Acked => "acked",
            Self::Reported => "reported",
            Self::Health => "health",
            Self::Event => "event",
            Self::Online => "online",
        }
    }

    /// Whether the node writes it (and the coordinator reads it), or the other way round.
    pub fn is_from_node(self) -> bool {
        !matches!(self, Self::Desired | Self::Acked)
    }
}

/// The topic of one node's channel.
pub fn topic(node: &NodeId, channel: Channel) -> String {
    format!("{PREFIX}node/{node}/{}", channel.as_str())
}

/// The coordinator's subscription to one channel of all nodes.
pub fn filter_all(channel: Channel) -> String {
    format!("{PREFIX}node/+/{}", channel.as_str())
}

/// Takes a topic apart. `None` if it is not one of ours.
pub fn parse(topic: &str) -> Option<(NodeId, Channel)> {
    let (node, channel) = topic.strip_prefix(PREFIX)?.strip_prefix("node/")?.split_once('/')?;
    let channel = Channel::ALL.into_iter().find(|c| c.as_str() == channel)?;
    Some((node.parse().ok()?, channel))
}

/// Whether the client whose certificate names it `client` may publish on `topic`.
pub fn may_publish(client: &str, topic: &str) -> bool {
    match parse(topic) {
        Some((_, channel)) if client == COORDINATOR => !channel.is_from_node(),
        Some((node, channel)) => client == node.as_str() && channel.is_from_node(),
        None => false,
    }
}

/// Whether the client whose certificate names it `client` may subscribe to `filter`. Nodes subscribe to exact topics of
/// their own; only the coordinator may use a wildcard, and only in the place of the node.
pub fn may_subscribe(client: &str, filter: &str) -> bool {
    if client == COORDINATOR {
        return Channel::ALL.into_iter().any(|c| c.is_from_node() && filter == filter_all(c))
            || parse(filter).is_some_and(|(_, channel)| channel.is_from_node());
    }
    parse(filter).is_some_and(|(node, channel)| client == node.as_str() && !channel.is_from_node())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_reaches_its_own_topics_and_nothing_else() {
        let own = |c: &str| format!("orangery/v1/node/a/{c}");
        assert!(may_publish("a", &own("reported")));
        assert!(may_subscribe("a", &own("desired")));
        for (client, topic) in [
            ("a", "orangery/v1/node/b/reported"),
            ("a", "orangery/v1/node/a/desired"),
            ("a", "orangery/v1/node/a/reported/x"),
            ("a", "$SYS/broker"),
            ("a", "orangery/v1/node/a"),
            ("", "orangery/v1/node//reported"),
            ("coordinator", "orangery/v1/node/a/reported"),
        ] {
            assert!(!may_publish(client, topic), "{client} publishes {topic}");
        }
        for filter in [
            "#",
            "+/#",
            "orangery/v1/node/+/desired",
            "orangery/v1/node/a/#",
            "orangery/v1/node/b/desired",
            "$SYS/#",
            "",
        ] {
            assert!(!may_subscribe("a", filter), "a subscribes to {filter}");
        }
        assert!(may_subscribe(COORDINATOR, &filter_all(Channel::Event)));
        assert!(!may_subscribe(COORDINATOR, "#"));
    }
}
