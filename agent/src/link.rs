//! The connection to the coordinator: MQTT 3.1.1 over mutual TLS.
//!
//! rumqttc carries packets here and never keeps any. It drops all it holds when a broker has lost the session, hangs or
//! loops for ever in known cases, and says nothing of either; `tests/link.rs` shows each. So:
//!
//! - A client lives for one connection. Whatever ends it (an error, a refused subscription, silence) ends the client, and
//!   the next attempt begins with an empty one. No packet, packet id or collision outlives its connection.
//! - What has to arrive is kept elsewhere: the proof in [`Link`] (the latest only), events in the outbox until the
//!   coordinator, not the broker, has acknowledged them, everything else in retained messages.
//! - One task polls the client and does nothing else. Nobody waits to publish: what has no room is offered again.
//! - Each connection says "online" first, subscribes once, and counts as up only when the broker has agreed to that.

mod connection;
mod drip;
mod ended;
mod network;
mod outbound;
mod reach;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use orangery_wire::NodeId;
use orangery_wire::limits::PACKET_BYTES_MAX;
use orangery_wire::topics::Channel;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use outbound::{Outbound, Taken};
pub use reach::Trouble;
use reach::Watchman;

/// Events handed over and not yet acknowledged by the coordinator.
pub const IN_FLIGHT_MAX: usize = 10;

/// Largest packet that is read. Larger than any message may be, so that a message that is too large is rejected by its
/// reader, once and with a reason. A packet beyond this ends the connection before it takes memory.
pub const INCOMING_BYTES_MAX: usize = 256 * 1024;

/// How long [`Link::stop`] takes at most.
pub const STOP_MAX: Duration = Duration::from_secs(2);

/// Where to connect, as whom, and how patiently.
#[derive(Debug, Clone)]
pub struct LinkSettings {
    /// This node: the client id, and the name in its certificate.
    pub node: NodeId,
    /// The broker, as `host:port`. An IPv6 address stands in brackets.
    pub mqtt: String,
    /// Whom to trust and who we are; see [`crate::tls::client_config`].
    pub tls: Arc<rustls::ClientConfig>,
    /// A ping is sent this often; whole seconds, at least one. Nothing heard for three of them ends the connection.
    pub keepalive: Duration,
    /// This boot, for the online message and the will.
    pub boot_id: String,
    /// Longest pause between two attempts. Pauses double from one second, with full jitter.
    pub backoff_max: Duration,
    /// How long connecting may take, and the answer to the subscription after that.
    pub connect_timeout: Duration,
    /// Events that the coordinator has not acknowledged for so long are asked for again ([`LinkEvent::Resend`]): it may
    /// have been away while the broker was there.
    pub resend_after: Duration,
    /// The longest that the node took to come back after a loss, as far as it remembers.
    pub slowest_reconnection: Duration,
}

impl LinkSettings {
    /// Settings for boards: keepalive 30 s, pauses up to 60 s, connecting up to 10 s, events again after 60 s.
    pub fn new(node: NodeId, mqtt: String, tls: Arc<rustls::ClientConfig>, boot_id: String) -> Self {
        Self {
            node,
            mqtt,
            tls,
            boot_id,
            keepalive: Duration::from_secs(30),
            backoff_max: Duration::from_mins(1),
            connect_timeout: Duration::from_secs(10),
            resend_after: Duration::from_mins(1),
            slowest_reconnection: Duration::ZERO,
        }
    }

    /// The keepalive as MQTT can say it (16 bits of seconds, MQTT 3.1.1 section 3.1.2.10). Zero would turn it off.
    fn keepalive(&self) -> Duration {
        Duration::from_secs(self.keepalive.as_secs().clamp(1, u64::from(u16::MAX)))
    }
}

/// What the link tells. The receiver must not block: it is called from the task that polls the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// Connected and subscribed. Nothing of an earlier connection counts: offer every unacknowledged event again.
    Up,
    /// A connection ended, or an attempt failed. Said after each; another attempt follows.
    Down {
        /// Why, for people.
        reason: String,
    },
    /// The broker would not have the node's certificate: expired, revoked or unknown. Said before the [`Self::Down`] that
    /// follows. Renewing it may help.
    CertificateRefused,
    /// What is desired, as it came; at most [`INCOMING_BYTES_MAX`] bytes, otherwise unchecked.
    Desired(Vec<u8>),
    /// How far events are stored, likewise.
    Acked(Vec<u8>),
    /// Events in flight were forgotten, for nobody acknowledged them: offer every unacknowledged event again.
    Resend,
    /// There is room again for events that were refused: offer the next ones.
    Room,
    /// A message of this node is over the limit and was not sent. It never will be; this is a fault of this program.
    Oversized {
        /// What it was.
        channel: Channel,
        /// Its size; the limit is [`PACKET_BYTES_MAX`].
        size_bytes: usize,
    },
}

type Tell = Box<dyn Fn(LinkEvent) + Send + Sync>;

/// The node's connection, whether it is up at the moment or not. Clones are the same connection; dropping the last cuts it,
/// and the broker then publishes the will. All methods may be called from any thread, and none but [`Link::stop`] waits.
#[derive(Debug, Clone)]
pub struct Link(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    polling: Mutex<Option<JoinHandle<()>>>,
}

/// What the handle and the polling task share.
struct Shared {
    settings: LinkSettings,
    outbound: Mutex<Outbound>,
    watchman: Watchman,
    tell: Tell,
    runtime: tokio::runtime::Handle,
    /// [`LinkEvent::Room`] is on its way.
    room_due: AtomicBool,
}

impl Shared {
    fn outbound(&self) -> MutexGuard<'_, Outbound> {
        // Nothing panics while it is held; if it did, the state would still be whole after each statement.
        self.outbound.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Link {
    /// Begins to connect and goes on for ever, on the current tokio runtime (whose time and IO drivers must be enabled).
    pub fn spawn(settings: LinkSettings, tell: Tell) -> Self {
        let shared = shared(settings, tell);
        let (stop, stopped) = watch::channel(false);
        let polling = tokio::spawn(connection::keep(Arc::clone(&shared), stopped));
        Self(Arc::new(Handle { shared, stop, polling: Mutex::new(Some(polling)) }))
    }

    /// The link of a node that has not joined: nothing is ever sent, and nothing comes.
    pub fn to_nobody(settings: LinkSettings) -> Self {
        let (stop, _) = watch::channel(false);
        Self(Arc::new(Handle { shared: shared(settings, Box::new(drop)), stop, polling: Mutex::new(None) }))
    }

    /// The proof to have published, retained. Only the latest counts; it is sent again on each connection.
    pub fn report(&self, payload: Vec<u8>) {
        if self.fits(Channel::Reported, &payload) {
            self.0.shared.outbound().report(payload);
        }
    }

    /// A health message. It is dropped when there is no connection, or no room: the next one is newer.
    pub fn health(&self, payload: Vec<u8>) {
        if self.fits(Channel::Health, &payload) {
            self.0.shared.outbound().health(payload);
        }
    }

    /// Hands over an event. False when there is no connection, [`IN_FLIGHT_MAX`] events wait for their acknowledgement, or many
    /// were handed over just now: offer it again after the next [`LinkEvent::Acked`], [`LinkEvent::Up`], [`LinkEvent::Resend`]
    /// or [`LinkEvent::Room`]. One that is in flight already is not sent twice. Never waits.
    pub fn event(&self, sequence: u64, payload: Vec<u8>) -> bool {
        // An event that can never be sent must not keep back those behind it.
        if !self.fits(Channel::Event, &payload) {
            return true;
        }
        let taken = self.0.shared.outbound().event(sequence, payload);
        if taken == Taken::Later && !self.0.shared.room_due.swap(true, Ordering::Relaxed) {
            let shared = Arc::downgrade(&self.0.shared);
            self.0.shared.runtime.spawn(async move {
                tokio::time::sleep(drip::PAUSE).await;
                let Some(shared) = shared.upgrade() else { return };
                shared.room_due.store(false, Ordering::Relaxed);
                (shared.tell)(LinkEvent::Room);
            });
        }
        taken == Taken::Yes
    }

    /// The coordinator has stored every event up to this one: there is room for more.
    pub fn acked(&self, sequence: u64) {
        self.0.shared.outbound().acked(sequence);
    }

    /// Forgets which events are in flight, for the coordinator was away while the broker was not: offer them again.
    pub fn forget_events(&self) {
        self.0.shared.outbound().forget_events();
    }

    /// Says "offline" and disconnects, within [`STOP_MAX`]. If the broker does not take it in that time the connection is
    /// cut and the will says the same. Again, it does nothing.
    pub async fn stop(&self) {
        self.0.shared.outbound().farewell();
        self.0.stop.send_replace(true);
        let polling = self.0.polling.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut polling) = polling else { return };
        if tokio::time::timeout(STOP_MAX, &mut polling).await.is_err() {
            polling.abort();
            // Wait until the abort has dropped the connection.
            let _ = polling.await;
        }
    }

    fn fits(&self, channel: Channel, payload: &[u8]) -> bool {
        let size_bytes = payload.len();
        if size_bytes > PACKET_BYTES_MAX {
            tracing::error!(channel = channel.as_str(), size_bytes, "a message is too large and was not sent");
            (self.0.shared.tell)(LinkEvent::Oversized { channel, size_bytes });
        }
        size_bytes <= PACKET_BYTES_MAX
    }
}

fn shared(settings: LinkSettings, tell: Tell) -> Arc<Shared> {
    let outbound = Mutex::new(Outbound::new(&settings.node, &settings.boot_id));
    let watchman = Watchman::new(settings.slowest_reconnection);
    let (runtime, room_due) = (tokio::runtime::Handle::current(), AtomicBool::new(false));
    Arc::new(Shared { settings, outbound, watchman, tell, runtime, room_due })
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Some(polling) = self.polling.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            polling.abort();
        }
    }
}

/// Takes `host:port` apart; the brackets around an IPv6 address are dropped. `None` if it is not that.
pub fn broker_address(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let port = port.parse().ok().filter(|port| *port != 0)?;
    rustls_pki_types::ServerName::try_from(host).ok()?;
    Some((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_a_host_and_a_port() {
        let parsed = |text| broker_address(text).map(|(host, port)| format!("{host} {port}"));
        assert_eq!(parsed("broker.example:8883").as_deref(), Some("broker.example 8883"));
        assert_eq!(parsed("192.168.1.10:8883").as_deref(), Some("192.168.1.10 8883"));
        assert_eq!(parsed("[fd00::1]:8883").as_deref(), Some("fd00::1 8883"));
        for bad in ["", "broker", "broker:", ":8883", "broker:0", "broker:99999", "mqtts://broker:8883", "a b:1"] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }
}
