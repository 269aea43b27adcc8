//! The coordinator's own connection to the broker, embedded or not: what nodes say comes in as [`LinkEvent`]s, what they
//! should do goes out by [`Link::publish`]. How it is kept up: [`crate::mqtt`].

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use orangery_wire::NodeId;
use orangery_wire::limits::PACKET_BYTES_MAX;
use orangery_wire::topics::{COORDINATOR, Channel, filter_all, parse, topic};
use rumqttc::Publish;
use tokio::sync::mpsc;

use crate::mqtt::{Address, Connection, Listener, Unheard};

/// What a packet has besides its payload: topic, ids, lengths, and what MQTT 5 brokers may add.
const HEADER_BYTES_MAX: usize = 8 * 1024;

/// Where and how to connect.
#[derive(Debug, Clone)]
pub struct LinkSettings {
    /// The broker: `HOST:PORT`. Its certificate must name HOST.
    pub broker: String,
    /// From [`crate::tls::client_config`], with the certificate named `coordinator`.
    pub tls: Arc<rustls::ClientConfig>,
    /// Time between pings; at least one second. A connection without a sign of life for three of them is given up.
    pub keepalive: Duration,
    /// Longest wait between two attempts to connect.
    pub backoff_max: Duration,
}

/// What the link tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// Connected, subscribed to everything that nodes say, and all values are on their way to the broker.
    Up,
    /// Not connected any more, or not yet: sent once for each `Up`, and once when the first attempt fails.
    Down {
        /// Why, for people.
        reason: String,
    },
    /// A node said something. It may be old (retained) or come twice.
    FromNode(FromNode),
}

/// What a node said. Its sender is certain (the broker checks it), its content is not: read it with `wire::messages`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FromNode {
    /// The node.
    pub node: NodeId,
    /// One of the channels that nodes write.
    pub channel: Channel,
    /// The payload, at most a few KiB above [`PACKET_BYTES_MAX`]; empty if the node cleared the topic.
    pub payload: Bytes,
}

/// A value that is never sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// No broker or node would take it.
    #[error("the {channel} message for {node} has {bytes} bytes; at most {PACKET_BYTES_MAX} are allowed")]
    TooLarge {
        /// The node it was for.
        node: NodeId,
        /// The channel.
        channel: &'static str,
        /// Its size.
        bytes: usize,
    },
    /// Only nodes write this channel.
    #[error("the coordinator does not publish {channel} messages")]
    NotOurs {
        /// The channel.
        channel: &'static str,
    },
}

/// The connection. Cheap to clone; all clones are one connection, which ends with [`Link::stop`] or the last clone.
#[derive(Debug, Clone)]
pub struct Link(Arc<Connection<Nodes>>);

impl Link {
    /// Starts connecting, on the current tokio runtime, and goes on for ever. The broker may be away.
    ///
    /// When `events` is full, health messages are dropped and everything else waits: the link then stops reading, and
    /// the broker holds the rest back. The link ends when the receiver is dropped.
    pub fn spawn(settings: LinkSettings, events: mpsc::Sender<LinkEvent>) -> Self {
        let address = Address {
            broker: settings.broker.clone(),
            client_id: COORDINATOR.to_owned(),
            tls: Some(settings.tls),
            login: None,
            last_will: None,
            filters: Channel::ALL.into_iter().filter(|channel| channel.is_from_node()).map(filter_all).collect(),
            refused: "give it the ACL of `orangery broker acl`",
            keepalive: settings.keepalive,
            backoff_max: settings.backoff_max,
            packet_bytes_max: PACKET_BYTES_MAX + HEADER_BYTES_MAX,
        };
        Self(Arc::new(Connection::spawn(address, Nodes { broker: settings.broker, events })))
    }

    /// Makes `payload` the value of a node's `desired` or `acked` topic: retained, QoS 1, sent until the broker has
    /// acknowledged it, and again after each reconnect. Only the newest value of a topic is sent. An empty payload clears
    /// the topic. May be called from any thread, at any time, repeatedly; it never waits.
    pub fn publish(&self, node: &NodeId, channel: Channel, payload: impl Into<Bytes>) -> Result<(), PublishError> {
        let payload = payload.into();
        if channel.is_from_node() {
            return Err(PublishError::NotOurs { channel: channel.as_str() });
        }
        if payload.len() > PACKET_BYTES_MAX {
            let (node, channel, bytes) = (node.clone(), channel.as_str(), payload.len());
            return Err(PublishError::TooLarge { node, channel, bytes });
        }
        self.0.with(|newest| newest.set((node.clone(), channel), payload));
        Ok(())
    }

    /// How many values the broker has not acknowledged on this connection.
    pub fn pending(&self) -> usize {
        self.0.with(|newest| newest.pending())
    }

    /// Ends the connection at once. Values that were not acknowledged are lost with it; whoever made them keeps them.
    pub fn stop(&self) {
        self.0.stop();
    }
}

/// What is heard of the nodes.
#[derive(Debug)]
struct Nodes {
    broker: String,
    events: mpsc::Sender<LinkEvent>,
}

impl Listener for Nodes {
    type Key = (NodeId, Channel);

    fn topic((node, channel): &Self::Key) -> String {
        topic(node, *channel)
    }

    async fn up(&mut self) -> Result<(), Unheard> {
        tracing::info!("the link to the broker is up");
        self.tell(LinkEvent::Up).await
    }

    async fn down(&mut self, reason: String) -> Result<(), Unheard> {
        tracing::warn!(broker = self.broker, reason, "the link to the broker is down; trying again");
        self.tell(LinkEvent::Down { reason }).await
    }

    async fn received(&mut self, publish: Publish) -> Result<(), Unheard> {
        let Some((node, channel)) = parse(&publish.topic).filter(|(_, channel)| channel.is_from_node()) else {
            tracing::warn!(topic = publish.topic, "a message on a foreign topic is ignored");
            return Ok(());
        };
        let event = LinkEvent::FromNode(FromNode { node, channel, payload: publish.payload });
        if channel != Channel::Health {
            return self.tell(event).await;
        }
        match self.events.try_send(event) {
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Unheard),
            Err(mpsc::error::TrySendError::Full(_)) => {
                tracing::debug!("a health message is dropped: the engine is behind");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }
}

impl Nodes {
    async fn tell(&self, event: LinkEvent) -> Result<(), Unheard> {
        self.events.send(event).await.map_err(|_| Unheard)
    }
}
