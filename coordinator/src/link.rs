//! The coordinator's own connection to the broker, embedded or not: what nodes say comes in as [`LinkEvent`]s, what they
//! should do goes out by [`Link::publish`].
//!
//! rumqttc is a transport here, never a queue. Each connection has a new client, so that nothing of an old one (packet
//! ids, collisions, half a session) outlives it; what has to reach the broker is in [`values::Values`] and is published
//! again, all of it, on every connection. One task polls and does nothing else; values are handed over with
//! `try_publish` only, and never more than [`values::INFLIGHT_MAX`] at a time, so the client's channel is never full.

pub mod values;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use orangery_wire::NodeId;
use orangery_wire::limits::PACKET_BYTES_MAX;
use orangery_wire::topics::{COORDINATOR, Channel, filter_all, parse, topic};
use ring::rand::{SecureRandom as _, SystemRandom};
use rumqttc::{
    AsyncClient, Event, EventLoop, MqttOptions, NetworkOptions, Outgoing, Packet, QoS, SubAck, SubscribeFilter,
    SubscribeReasonCode, TlsConfiguration, Transport,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use values::{INFLIGHT_MAX, Value, Values};

/// Longest wait for a connection, TLS and MQTT handshakes included.
const CONNECT_SECS: u64 = 10;
/// What a packet has besides its payload: topic, ids, lengths, and what MQTT 5 brokers may add.
const HEADER_BYTES_MAX: usize = 8 * 1024;
/// First wait after a lost connection; it doubles up to [`LinkSettings::backoff_max`].
const BACKOFF_MIN: Duration = Duration::from_millis(250);
/// Packet ids of the client. Far above [`INFLIGHT_MAX`], so that an id never comes round while it is in use.
const PACKET_IDS: u16 = 256;

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
pub struct Link {
    shared: Arc<Shared>,
    task: Arc<Task>,
}

#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Debug, Default)]
struct Shared(Mutex<Sending>);

#[derive(Default)]
struct Sending {
    values: Values,
    /// The client of the connection that is up.
    client: Option<AsyncClient>,
}

impl std::fmt::Debug for Sending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sending").field("pending", &self.values.pending()).field("up", &self.client.is_some()).finish()
    }
}

impl Link {
    /// Starts connecting, on the current tokio runtime, and goes on for ever. The broker may be away.
    ///
    /// When `events` is full, health messages are dropped and everything else waits: the link then stops reading, and
    /// the broker holds the rest back. The link ends when the receiver is dropped.
    pub fn spawn(settings: LinkSettings, events: mpsc::Sender<LinkEvent>) -> Self {
        let shared = Arc::new(Shared::default());
        let task = tokio::spawn(run(settings, shared.clone(), events));
        Self { shared, task: Arc::new(Task(task)) }
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
        let mut sending = self.shared.lock();
        sending.values.set(Value { node: node.clone(), channel, payload });
        sending.fill();
        Ok(())
    }

    /// How many values the broker has not acknowledged on this connection.
    pub fn pending(&self) -> usize {
        self.shared.lock().values.pending()
    }

    /// Ends the connection at once. Values that were not acknowledged are lost with it; whoever made them keeps them.
    pub fn stop(&self) {
        self.task.0.abort();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Sending> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sending {
    /// Hands over what may be handed over.
    fn fill(&mut self) {
        let Some(client) = &self.client else { return };
        while let Some(value) = self.values.hand_over() {
            let topic = topic(&value.node, value.channel);
            if let Err(error) = client.try_publish(topic, QoS::AtLeastOnce, true, value.payload) {
                // The channel has more room than is handed over, so the task is gone or going; the value is not
                // lost, the next connection begins with all of them.
                tracing::debug!(%error, "the client takes no more values");
                self.client = None;
                return;
            }
        }
    }
}

/// Why a connection ended.
enum End {
    /// Try again.
    Failed(String),
    /// Nobody listens any more.
    Unheard,
}

impl<E: std::error::Error> From<E> for End {
    fn from(error: E) -> Self {
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            if !reason.contains(&text) {
                reason = format!("{reason}: {text}");
            }
            source = cause.source();
        }
        Self::Failed(reason)
    }
}

async fn run(settings: LinkSettings, shared: Arc<Shared>, events: mpsc::Sender<LinkEvent>) {
    let mut backoff = BACKOFF_MIN;
    let mut said_down = false;
    loop {
        let begun = Instant::now();
        let mut connection = Connection { shared: &shared, events: &events, up: false, heard: begun };
        let end = connection.run(&settings).await;
        let was_up = connection.up;
        shared.lock().client = None;
        let End::Failed(reason) = end else { return };
        if was_up || !said_down {
            tracing::warn!(broker = settings.broker, reason, "the link to the broker is down; trying again");
            said_down = true;
            if events.send(LinkEvent::Down { reason }).await.is_err() {
                return;
            }
        } else {
            tracing::debug!(broker = settings.broker, reason, "still no link to the broker");
        }
        tokio::time::sleep(jittered(backoff)).await;
        // A connection that comes up and goes at once (two coordinators, one name) is no reason to hurry.
        let lasted = was_up && begun.elapsed() > settings.backoff_max;
        backoff = if lasted { BACKOFF_MIN } else { (backoff * 2).min(settings.backoff_max) };
    }
}

struct Connection<'a> {
    shared: &'a Shared,
    events: &'a mpsc::Sender<LinkEvent>,
    up: bool,
    /// When the broker last said anything.
    heard: Instant,
}

impl Connection<'_> {
    /// Connects and serves until something ends it.
    async fn run(&mut self, settings: &LinkSettings) -> End {
        match self.serve(settings).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn serve(&mut self, settings: &LinkSettings) -> Result<std::convert::Infallible, End> {
        let (client, mut eventloop) = client(settings)?;
        // Three pings without an answer; independent of the client's own ideas (its issues 1014 and 1056).
        let patience = settings.keepalive * 3 + Duration::from_secs(CONNECT_SECS);
        loop {
            match timeout_at(self.heard + patience, eventloop.poll()).await {
                Ok(Ok(event)) => self.handle(event, &client).await?,
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => return Err(End::Failed("the broker is silent".to_owned())),
            }
        }
    }

    async fn handle(&mut self, event: Event, client: &AsyncClient) -> Result<(), End> {
        if matches!(event, Event::Incoming(_)) {
            self.heard = Instant::now();
        }
        match event {
            Event::Incoming(Packet::ConnAck(_)) => {
                let filters = Channel::ALL.into_iter().filter(|channel| channel.is_from_node());
                client.try_subscribe_many(filters.map(|c| SubscribeFilter::new(filter_all(c), QoS::AtLeastOnce)))?;
            }
            Event::Incoming(Packet::SubAck(ack)) => self.subscribed(&ack, client).await?,
            Event::Incoming(Packet::Publish(publish)) => self.received(&publish.topic, publish.payload).await?,
            Event::Incoming(Packet::PubAck(ack)) => {
                let mut sending = self.shared.lock();
                if !sending.values.acked(ack.pkid) {
                    return Err(End::Failed("the broker acknowledged what it was not sent".to_owned()));
                }
                sending.fill();
            }
            Event::Outgoing(Outgoing::Publish(id)) => self.shared.lock().values.sent(id),
            Event::Outgoing(Outgoing::AwaitAck(_)) => return Err(End::Failed("packet ids collide".to_owned())),
            _ => {}
        }
        Ok(())
    }

    async fn subscribed(&mut self, ack: &SubAck, client: &AsyncClient) -> Result<(), End> {
        if ack.return_codes.contains(&SubscribeReasonCode::Failure) {
            let reason = "the broker refuses the coordinator's subscriptions; give it the ACL of `orangery broker acl`";
            return Err(End::Failed(reason.to_owned()));
        }
        tracing::info!("the link to the broker is up");
        self.up = true;
        self.tell(LinkEvent::Up).await?;
        let mut sending = self.shared.lock();
        sending.client = Some(client.clone());
        sending.values.restart();
        sending.fill();
        Ok(())
    }

    async fn received(&mut self, topic: &str, payload: Bytes) -> Result<(), End> {
        let Some((node, channel)) = parse(topic).filter(|(_, channel)| channel.is_from_node()) else {
            tracing::warn!(topic, "a message on a foreign topic is ignored");
            return Ok(());
        };
        let event = LinkEvent::FromNode(FromNode { node, channel, payload });
        if channel != Channel::Health {
            return self.tell(event).await;
        }
        match self.events.try_send(event) {
            Err(mpsc::error::TrySendError::Closed(_)) => Err(End::Unheard),
            Err(mpsc::error::TrySendError::Full(_)) => {
                tracing::debug!("a health message is dropped: the engine is behind");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Waits until the event is taken. Meanwhile nothing is read, and the broker's silence does not count.
    async fn tell(&mut self, event: LinkEvent) -> Result<(), End> {
        let told = self.events.send(event).await;
        self.heard = Instant::now();
        told.map_err(|_| End::Unheard)
    }
}

fn client(settings: &LinkSettings) -> Result<(AsyncClient, EventLoop), End> {
    let (host, port) = settings
        .broker
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host.trim_matches(['[', ']']), port.parse().ok()?)))
        .ok_or_else(|| End::Failed(format!("{:?} is not HOST:PORT", settings.broker)))?;
    let packet_bytes_max = PACKET_BYTES_MAX + HEADER_BYTES_MAX;
    let mut options = MqttOptions::new(COORDINATOR, host, port);
    options
        .set_keep_alive(settings.keepalive.max(Duration::from_secs(1)))
        .set_clean_session(true)
        .set_inflight(PACKET_IDS)
        .set_max_packet_size(packet_bytes_max, packet_bytes_max)
        .set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(settings.tls.clone())));
    let (client, mut eventloop) = AsyncClient::new(options, 2 * INFLIGHT_MAX);
    let mut network = NetworkOptions::new();
    network.set_connection_timeout(CONNECT_SECS).set_tcp_nodelay(true);
    eventloop.set_network_options(network);
    Ok((client, eventloop))
}

/// Anything between nothing and `most` ("full jitter"): after a broker's restart not everybody comes at once.
fn jittered(most: Duration) -> Duration {
    let mut bytes = [0; 2];
    // Without random numbers the wait is the whole one, which is as good for a single client.
    if SystemRandom::new().fill(&mut bytes).is_err() {
        return most;
    }
    most.mul_f64(f64::from(u16::from_le_bytes(bytes)) / f64::from(u16::MAX))
}
