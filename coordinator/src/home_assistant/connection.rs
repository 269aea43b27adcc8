//! The connection to the house's broker. rumqttc is a transport here, never a queue, by the rules of [`crate::link`]: a new client for
//! each connection, one task that polls, payloads handed over with `try_publish` and never more than a few at a time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use ring::rand::{SecureRandom as _, SystemRandom};
use rumqttc::{
    AsyncClient, Event, EventLoop, LastWill, MqttOptions, NetworkOptions, Outgoing, Packet, Publish, QoS, SubAck,
    SubscribeFilter, SubscribeReasonCode, TlsConfiguration, Transport,
};
use rustls::ClientConfig;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use super::retained::{INFLIGHT_MAX, Retained};
use super::topics::Topics;
use crate::notify::Secret;

/// Longest wait for a connection, TLS and MQTT handshakes included.
const CONNECT_SECS: u64 = 10;
/// Time between two signs of life.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// First wait after a lost connection, and the longest; it doubles.
const BACKOFF_MIN: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// Largest packet either way. What others put at topics of ours is read up to this size; a larger one ends the connection.
const PACKET_BYTES_MAX: usize = 1024 * 1024;
/// Packet ids of the client. Far above what is handed over, so that an id never comes round while it is in use.
const PACKET_IDS: u16 = 256;
/// Longest wait for the broker to take what is said last.
const FAREWELL: Duration = Duration::from_millis(1_500);

/// What [`Topics::status`] says.
pub(super) const ONLINE: &str = "online";
pub(super) const OFFLINE: &str = "offline";

/// How to connect.
pub(super) struct Address {
    /// `HOST:PORT`
    pub(super) broker: String,
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) login: Option<(String, Secret)>,
    pub(super) topics: Topics,
    /// Where Home Assistant says that it has come up.
    pub(super) birth_topic: String,
}

/// What is heard at topics of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard {
    /// Home Assistant has come up.
    Birth,
    /// Something that the broker has kept.
    Kept {
        /// Its topic.
        topic: String,
        /// What is there.
        payload: Bytes,
    },
    /// Something that may be a command.
    Said {
        /// Its topic.
        topic: String,
        /// What is said.
        payload: Bytes,
    },
}

/// The connection. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Connection {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Debug, Default)]
struct Shared {
    sending: Mutex<Sending>,
    /// Told at each acknowledgement.
    stored: Notify,
    is_up: Arc<AtomicBool>,
}

#[derive(Default)]
struct Sending {
    retained: Retained,
    /// The client of the connection that is up.
    client: Option<AsyncClient>,
}

impl std::fmt::Debug for Sending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sending").field("retained", &self.retained).field("up", &self.client.is_some()).finish()
    }
}

impl Connection {
    /// Starts connecting and goes on for ever; the broker may be away. `heard` is waited for when it is full: the broker then
    /// holds the rest back. `is_up` says whether the broker is reached.
    pub(super) fn spawn(address: Address, heard: mpsc::Sender<Heard>, is_up: Arc<AtomicBool>) -> Self {
        let shared = Arc::new(Shared { is_up, ..Shared::default() });
        shared.lock().retained.set(&address.topics.status(), ONLINE);
        let task = tokio::spawn(run(address, shared.clone(), heard));
        Self { shared, task }
    }

    /// Changes what the broker should hold. Never waits.
    pub(super) fn with<T>(&self, change: impl FnOnce(&mut Retained) -> T) -> T {
        let mut sending = self.shared.lock();
        let result = change(&mut sending.retained);
        sending.fill();
        result
    }

    /// Says that nobody is here any more, waits for the broker to take that for a short while, and ends.
    pub(super) async fn stop(self, status: &str) {
        self.with(|retained| retained.set(status, OFFLINE));
        let taken = async {
            loop {
                let stored = self.shared.stored.notified();
                {
                    let sending = self.shared.lock();
                    if sending.client.is_none() || sending.retained.is_stored() {
                        return;
                    }
                }
                stored.await;
            }
        };
        if timeout(FAREWELL, taken).await.is_err() {
            tracing::warn!("the house's broker did not take in time that the coordinator stops; it will say so itself");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Sending> {
        self.sending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_up(&self, is_up: bool) {
        self.is_up.store(is_up, Ordering::Relaxed);
    }
}

impl Sending {
    /// Hands over what may be handed over.
    fn fill(&mut self) {
        let Some(client) = &self.client else { return };
        while let Some((topic, payload)) = self.retained.hand_over() {
            if let Err(error) = client.try_publish(topic, QoS::AtLeastOnce, true, payload) {
                // The task is gone or going; the next connection begins with all of it.
                tracing::debug!(%error, "the client takes no more");
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

async fn run(address: Address, shared: Arc<Shared>, heard: mpsc::Sender<Heard>) {
    let mut backoff = BACKOFF_MIN;
    let mut said_down = false;
    loop {
        let begun = Instant::now();
        let mut one = One { address: &address, shared: &shared, heard: &heard, is_up: false, last: begun };
        let end = match one.serve().await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        let was_up = one.is_up;
        shared.lock().client = None;
        shared.set_up(false);
        shared.stored.notify_waiters();
        let End::Failed(reason) = end else { return };
        if was_up || !said_down {
            let broker = &address.broker;
            tracing::warn!(broker, reason, "Home Assistant's broker is not reached; trying again");
            said_down = true;
        } else {
            tracing::debug!(broker = address.broker, reason, "still no connection to Home Assistant's broker");
        }
        tokio::time::sleep(jittered(backoff)).await;
        let lasted = was_up && begun.elapsed() > BACKOFF_MAX;
        backoff = if lasted { BACKOFF_MIN } else { (backoff * 2).min(BACKOFF_MAX) };
    }
}

/// One connection.
struct One<'a> {
    address: &'a Address,
    shared: &'a Shared,
    heard: &'a mpsc::Sender<Heard>,
    is_up: bool,
    /// When the broker last said anything.
    last: Instant,
}

impl One<'_> {
    /// Connects and serves until something ends it.
    async fn serve(&mut self) -> Result<std::convert::Infallible, End> {
        let (client, mut eventloop) = client(self.address)?;
        // Three pings without an answer; independent of the client's own ideas.
        let patience = KEEPALIVE * 3 + Duration::from_secs(CONNECT_SECS);
        loop {
            match timeout_at(self.last + patience, eventloop.poll()).await {
                Ok(Ok(event)) => self.take(event, &client).await?,
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => return Err(End::Failed("the broker is silent".to_owned())),
            }
        }
    }

    async fn take(&mut self, event: Event, client: &AsyncClient) -> Result<(), End> {
        if matches!(event, Event::Incoming(_)) {
            self.last = Instant::now();
        }
        match event {
            Event::Incoming(Packet::ConnAck(_)) => {
                let filters = self.address.topics.filters().into_iter().chain([self.address.birth_topic.clone()]);
                client.try_subscribe_many(filters.map(|filter| SubscribeFilter::new(filter, QoS::AtLeastOnce)))?;
            }
            Event::Incoming(Packet::SubAck(ack)) => self.subscribed(&ack, client)?,
            Event::Incoming(Packet::Publish(publish)) => self.received(publish).await?,
            Event::Incoming(Packet::PubAck(ack)) => {
                let mut sending = self.shared.lock();
                if !sending.retained.acked(ack.pkid) {
                    return Err(End::Failed("the broker acknowledged what it was not sent".to_owned()));
                }
                sending.fill();
                drop(sending);
                self.shared.stored.notify_waiters();
            }
            Event::Outgoing(Outgoing::Publish(id)) => self.shared.lock().retained.sent(id),
            Event::Outgoing(Outgoing::AwaitAck(_)) => return Err(End::Failed("packet ids collide".to_owned())),
            _ => {}
        }
        Ok(())
    }

    fn subscribed(&mut self, ack: &SubAck, client: &AsyncClient) -> Result<(), End> {
        if ack.return_codes.contains(&SubscribeReasonCode::Failure) {
            let reason =
                "the broker refuses the coordinator's subscriptions; docs/operating/home-assistant.md has its rules";
            return Err(End::Failed(reason.to_owned()));
        }
        tracing::info!(broker = self.address.broker, "connected to Home Assistant's broker");
        self.is_up = true;
        self.shared.set_up(true);
        let mut sending = self.shared.lock();
        sending.client = Some(client.clone());
        sending.retained.restart();
        sending.fill();
        Ok(())
    }

    /// What is said at topics where nothing is asked for, ours among them, ends here.
    async fn received(&mut self, publish: Publish) -> Result<(), End> {
        let Publish { topic, payload, retain, .. } = publish;
        let topics = &self.address.topics;
        let heard = if topic == self.address.birth_topic {
            // An old one says nothing: all was published for this connection anyway.
            if retain || payload != ONLINE.as_bytes() {
                return Ok(());
            }
            Heard::Birth
        } else if retain && topics.is_own(&topic) && !payload.is_empty() {
            Heard::Kept { topic, payload }
        } else if !retain && topics.asked(&topic).is_some() && !payload.is_empty() {
            Heard::Said { topic, payload }
        } else {
            return Ok(());
        };
        // Meanwhile nothing is read, and the broker's silence does not count.
        let told = self.heard.send(heard).await;
        self.last = Instant::now();
        told.map_err(|_| End::Unheard)
    }
}

fn client(address: &Address) -> Result<(AsyncClient, EventLoop), End> {
    let (host, port) = address
        .broker
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host.trim_matches(['[', ']']), port.parse().ok()?)))
        .ok_or_else(|| End::Failed(format!("{:?} is not HOST:PORT", address.broker)))?;
    let topics = &address.topics;
    let mut options = MqttOptions::new(format!("orangery-{}", topics.coordinator_id()), host, port);
    options
        .set_keep_alive(KEEPALIVE)
        .set_clean_session(true)
        .set_inflight(PACKET_IDS)
        .set_max_packet_size(PACKET_BYTES_MAX, PACKET_BYTES_MAX)
        .set_last_will(LastWill::new(topics.status(), OFFLINE, QoS::AtLeastOnce, true));
    if let Some((user, password)) = &address.login {
        options.set_credentials(user, password.expose());
    }
    if let Some(tls) = &address.tls {
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls.clone())));
    }
    let (client, mut eventloop) = AsyncClient::new(options, 2 * INFLIGHT_MAX);
    let mut network = NetworkOptions::new();
    network.set_connection_timeout(CONNECT_SECS).set_tcp_nodelay(true);
    eventloop.set_network_options(network);
    Ok((client, eventloop))
}

/// Anything between nothing and `most`: not everybody comes at once.
pub(super) fn jittered(most: Duration) -> Duration {
    let mut bytes = [0; 2];
    // Without random numbers the wait is the whole one.
    if SystemRandom::new().fill(&mut bytes).is_err() {
        return most;
    }
    most.mul_f64(f64::from(u16::from_le_bytes(bytes)) / f64::from(u16::MAX))
}
