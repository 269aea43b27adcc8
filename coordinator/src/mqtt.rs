//! A connection to an MQTT broker that holds what this program publishes: [`crate::link`] has one to the nodes' broker,
//! [`crate::home_assistant`] one to the house's.
//!
//! rumqttc is a transport here, never a queue. Each connection has a new client, so that nothing of an old one (packet
//! ids, collisions, half a session) outlives it; what has to reach the broker is in [`newest::Newest`] and is published
//! again, all of it, on every connection. One task polls and does nothing else; payloads are handed over with
//! `try_publish` only, and never more than [`newest::INFLIGHT_MAX`] at a time, so the client's channel is never full.

pub mod newest;

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ring::rand::{SecureRandom as _, SystemRandom};
use rumqttc::{
    AsyncClient, Event, EventLoop, LastWill, MqttOptions, NetworkOptions, Outgoing, Packet, Publish, QoS, SubAck,
    SubscribeFilter, SubscribeReasonCode, TlsConfiguration, Transport,
};
use rustls::ClientConfig;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::notify::Secret;
use newest::{INFLIGHT_MAX, Newest};

/// Longest wait for a connection, TLS and MQTT handshakes included.
const CONNECT_SECS: u64 = 10;
/// First wait after a lost connection; it doubles up to [`Address::backoff_max`].
const BACKOFF_MIN: Duration = Duration::from_millis(250);
/// Packet ids of the client. Far above [`INFLIGHT_MAX`], so that an id never comes round while it is in use.
const PACKET_IDS: u16 = 256;

/// Where and how to connect.
pub(crate) struct Address {
    /// The broker: `HOST:PORT`. Its certificate must name HOST.
    pub(crate) broker: String,
    /// Our name there. A broker lets go of an older connection of the same name.
    pub(crate) client_id: String,
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) login: Option<(String, Secret)>,
    /// What the broker says for us when we are gone.
    pub(crate) last_will: Option<LastWill>,
    /// What is listened to.
    pub(crate) filters: Vec<String>,
    /// What to say when the broker does not let us listen.
    pub(crate) refused: &'static str,
    /// Time between pings; at least one second. A connection without a sign of life for three of them is given up.
    pub(crate) keepalive: Duration,
    /// Longest wait between two attempts to connect.
    pub(crate) backoff_max: Duration,
    /// Largest packet either way; a larger one ends the connection.
    pub(crate) packet_bytes_max: usize,
}

/// Nobody listens any more: the connection ends for good.
#[derive(Debug)]
pub(crate) struct Unheard;

/// Who is told what happens. While it takes its time nothing is read, and the broker holds the rest back.
pub(crate) trait Listener: Send + 'static {
    /// What names a topic of ours.
    type Key: Ord + Clone + Send + 'static;

    fn topic(key: &Self::Key) -> String;
    /// Connected and subscribed; what the broker should hold goes there next.
    fn up(&mut self) -> impl Future<Output = Result<(), Unheard>> + Send;
    /// Not connected any more, or not yet: once for each `up`, and once when the first attempt fails.
    fn down(&mut self, reason: String) -> impl Future<Output = Result<(), Unheard>> + Send;
    /// Something was said. It may be old (retained) or come twice.
    fn received(&mut self, publish: Publish) -> impl Future<Output = Result<(), Unheard>> + Send;
}

/// The connection. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Connection<L: Listener> {
    shared: Arc<Shared<L>>,
    task: JoinHandle<()>,
}

impl<L: Listener> Drop for Connection<L> {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Shared<L: Listener> {
    sending: Mutex<Sending<L>>,
    /// Told at each acknowledgement, and when a connection ends.
    stored: Notify,
}

struct Sending<L: Listener> {
    newest: Newest<L::Key>,
    /// The client of the connection that is up.
    client: Option<AsyncClient>,
}

impl<L: Listener> std::fmt::Debug for Shared<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sending = self.lock();
        f.debug_struct("Sending")
            .field("pending", &sending.newest.pending())
            .field("up", &sending.client.is_some())
            .finish()
    }
}

impl<L: Listener> Connection<L> {
    /// Starts connecting, on the current tokio runtime, and goes on for ever. The broker may be away.
    pub(crate) fn spawn(address: Address, listener: L) -> Self {
        let sending = Mutex::new(Sending { newest: Newest::default(), client: None });
        let shared = Arc::new(Shared { sending, stored: Notify::new() });
        let task = tokio::spawn(run(address, shared.clone(), listener));
        Self { shared, task }
    }

    /// Changes what the broker should hold. Never waits.
    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut Newest<L::Key>) -> T) -> T {
        let mut sending = self.shared.lock();
        let result = change(&mut sending.newest);
        sending.fill();
        result
    }

    /// Waits until the broker has acknowledged everything, or is gone.
    pub(crate) async fn stored(&self) {
        loop {
            let stored = self.shared.stored.notified();
            {
                let sending = self.shared.lock();
                if sending.client.is_none() || sending.newest.pending() == 0 {
                    return;
                }
            }
            stored.await;
        }
    }

    /// Ends the connection at once. What was not acknowledged is lost with it.
    pub(crate) fn stop(&self) {
        self.task.abort();
    }
}

impl<L: Listener> Shared<L> {
    fn lock(&self) -> MutexGuard<'_, Sending<L>> {
        self.sending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<L: Listener> Sending<L> {
    /// Hands over what may be handed over.
    fn fill(&mut self) {
        let Some(client) = &self.client else { return };
        while let Some((key, payload)) = self.newest.hand_over() {
            if let Err(error) = client.try_publish(L::topic(&key), QoS::AtLeastOnce, true, payload) {
                // The channel has more room than is handed over, so the task is gone or going; nothing is lost, the
                // next connection begins with all of it.
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

impl From<Unheard> for End {
    fn from(_: Unheard) -> Self {
        Self::Unheard
    }
}

async fn run<L: Listener>(address: Address, shared: Arc<Shared<L>>, mut listener: L) {
    let mut backoff = BACKOFF_MIN;
    let mut said_down = false;
    loop {
        let begun = Instant::now();
        let mut one = One { address: &address, shared: &shared, listener: &mut listener, up: false, heard: begun };
        let end = match one.serve().await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        let was_up = one.up;
        shared.lock().client = None;
        shared.stored.notify_waiters();
        let End::Failed(reason) = end else { return };
        if was_up || !said_down {
            said_down = true;
            if listener.down(reason).await.is_err() {
                return;
            }
        } else {
            tracing::debug!(broker = address.broker, reason, "still no connection to the broker");
        }
        tokio::time::sleep(jittered(backoff)).await;
        // A connection that comes up and goes at once (two coordinators, one name) is no reason to hurry.
        let lasted = was_up && begun.elapsed() > address.backoff_max;
        backoff = if lasted { BACKOFF_MIN } else { (backoff * 2).min(address.backoff_max) };
    }
}

/// One connection.
struct One<'a, L: Listener> {
    address: &'a Address,
    shared: &'a Shared<L>,
    listener: &'a mut L,
    up: bool,
    /// When the broker last said anything.
    heard: Instant,
}

impl<L: Listener> One<'_, L> {
    /// Connects and serves until something ends it.
    async fn serve(&mut self) -> Result<std::convert::Infallible, End> {
        let (client, mut eventloop) = client(self.address)?;
        // Three pings without an answer; independent of the client's own ideas (its issues 1014 and 1056).
        let patience = self.address.keepalive * 3 + Duration::from_secs(CONNECT_SECS);
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
                let filters = self.address.filters.iter().cloned();
                client.try_subscribe_many(filters.map(|filter| SubscribeFilter::new(filter, QoS::AtLeastOnce)))?;
            }
            Event::Incoming(Packet::SubAck(ack)) => self.subscribed(&ack, client).await?,
            Event::Incoming(Packet::Publish(publish)) => {
                let received = self.listener.received(publish).await;
                // Meanwhile nothing was read, and the broker's silence does not count.
                self.heard = Instant::now();
                received?;
            }
            Event::Incoming(Packet::PubAck(ack)) => {
                let mut sending = self.shared.lock();
                if !sending.newest.acked(ack.pkid) {
                    return Err(End::Failed("the broker acknowledged what it was not sent".to_owned()));
                }
                sending.fill();
                drop(sending);
                self.shared.stored.notify_waiters();
            }
            Event::Outgoing(Outgoing::Publish(id)) => self.shared.lock().newest.sent(id),
            Event::Outgoing(Outgoing::AwaitAck(_)) => return Err(End::Failed("packet ids collide".to_owned())),
            _ => {}
        }
        Ok(())
    }

    async fn subscribed(&mut self, ack: &SubAck, client: &AsyncClient) -> Result<(), End> {
        if ack.return_codes.contains(&SubscribeReasonCode::Failure) {
            let refused = self.address.refused;
            return Err(End::Failed(format!("the broker refuses the coordinator's subscriptions; {refused}")));
        }
        self.up = true;
        let told = self.listener.up().await;
        self.heard = Instant::now();
        told?;
        let mut sending = self.shared.lock();
        sending.client = Some(client.clone());
        sending.newest.restart();
        sending.fill();
        Ok(())
    }
}

fn client(address: &Address) -> Result<(AsyncClient, EventLoop), End> {
    let (host, port) = address
        .broker
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host.trim_matches(['[', ']']), port.parse().ok()?)))
        .ok_or_else(|| End::Failed(format!("{:?} is not HOST:PORT", address.broker)))?;
    let mut options = MqttOptions::new(&address.client_id, host, port);
    options
        .set_keep_alive(address.keepalive.max(Duration::from_secs(1)))
        .set_clean_session(true)
        .set_inflight(PACKET_IDS)
        .set_max_packet_size(address.packet_bytes_max, address.packet_bytes_max);
    if let Some(last_will) = &address.last_will {
        options.set_last_will(last_will.clone());
    }
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

/// Anything between nothing and `most` ("full jitter"): after a broker's restart not everybody comes at once.
pub(crate) fn jittered(most: Duration) -> Duration {
    let mut bytes = [0; 2];
    // Without random numbers the wait is the whole one, which is as good for a single client.
    if SystemRandom::new().fill(&mut bytes).is_err() {
        return most;
    }
    most.mul_f64(f64::from(u16::from_le_bytes(bytes)) / f64::from(u16::MAX))
}
