//! The embedded MQTT broker: rmqtt as a library on threads of its own, behind our own TLS and our own gate.
//!
//! ```text
//! node --mTLS--> terminator --127.0.0.1--> rmqtt (gate: client id = certificate, topics below its own id)
//! ```
//!
//! It holds nothing that cannot be made again: retained messages are in memory, sessions end with their connection.

pub mod acl;
mod denials;
mod hook;
mod retained;
mod terminator;
mod tunnels;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use orangery_wire::NodeId;
use orangery_wire::limits::PACKET_BYTES_MAX;
use rmqtt::codec::types::QoS;
use rmqtt::context::ServerContext;
use rmqtt::net::{Builder, Listener};
use rmqtt::server::MqttServer;
use rustls_pki_types::CertificateDer;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};
use tokio_rustls::TlsAcceptor;

use crate::tls::{ServerCertificate, TlsError, client_verifier, server_config};
use denials::Denials;
use hook::Gate;
use retained::Retained;
use terminator::{Door, Inner, Terminator, UnlessRevoked};
use tunnels::Tunnels;

/// Connections at a time, unless the settings say otherwise. Each takes three file descriptors.
pub const CONNECTIONS_MAX: usize = 20_000;
/// Longest TLS handshake, and longest wait from there to a good MQTT CONNECT, unless the settings say otherwise.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// What a packet may have besides its payload: topic, ids, and MQTT 5 properties that nobody needs.
const HEADER_BYTES_MAX: usize = 1_024;
/// Most subscriptions of one client; a node needs two, the coordinator four.
const SUBSCRIPTIONS_MAX: usize = 8;
/// CONNECTs that rmqtt looks at at the same time, out of all that wait; it makes room for so many before the first comes, half a
/// kilobyte each.
const CONNECTS_MAX: usize = 256;
/// Connections of the link at a time: one, and those of its past that are not found dead yet.
const LINK_CONNECTIONS_MAX: usize = 64;
/// Messages to a node that it has not read; it subscribes to two topics whose newest value is all that counts.
const NODE_QUEUE_MAX: usize = 64;
/// Messages to the link that it has not read, besides the retained ones that it gets when it subscribes.
const LINK_QUEUE_MAX: usize = 16_384;
/// Retained messages that each node may have.
const RETAINED_EACH: usize = 4;
/// Unacknowledged messages to a node.
const NODE_INFLIGHT: NonZeroU16 = NonZeroU16::new(16).unwrap();
/// Unacknowledged messages to the link.
const LINK_INFLIGHT: NonZeroU16 = NonZeroU16::new(256).unwrap();
/// How long a session outlives its connection. Nothing relies on it; as an upper limit rmqtt takes zero for "none".
const SESSION_EXPIRY: Duration = Duration::from_secs(1);
/// A client that does not read is cut after this long.
const SEND_MAX: Duration = Duration::from_secs(30);
/// What runs on the broker's threads gets this long to end.
const STOP_MAX: Duration = Duration::from_secs(1);
/// By how much threads for handshakes stand back (nice(2)).
const HANDSHAKE_NICE: i32 = 10;
/// Longest keepalive that a client may ask for, in seconds.
const KEEPALIVE_SECS_MAX: u16 = 3_600;

/// What the broker needs to start.
#[derive(Debug)]
pub struct BrokerConfig {
    /// The address to listen on. Port 0 is any free port.
    pub listen: SocketAddr,
    /// The CA that issues the certificates of nodes and of the link.
    pub ca: CertificateDer<'static>,
    /// What the listener shows. It may be replaced while the broker runs.
    pub certificate: Arc<ServerCertificate>,
    /// Nodes that are shut out from the start.
    pub revoked: BTreeSet<NodeId>,
    /// Most connections at a time; see [`CONNECTIONS_MAX`].
    pub connections_max: usize,
    /// Longest TLS handshake, and longest wait from there to a good MQTT CONNECT; see [`HANDSHAKE_MAX`].
    pub handshake_max: Duration,
}

/// The broker does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// The address could not be listened on.
    #[error("cannot listen on {address} for MQTT: {source}; choose another address in [mqtt] listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The listener inside the machine could not be made.
    #[error("cannot start the embedded broker: {reason}")]
    Start {
        /// Why.
        reason: String,
    },
    /// Its keys cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The running broker. It stops when this is dropped; [`Broker::stop`] also waits until it has.
#[derive(Debug)]
pub struct Broker {
    addresses: Addresses,
    tunnels: Arc<Tunnels>,
    denials: Arc<Denials>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Clone, Copy)]
struct Addresses {
    public: SocketAddr,
    plain: SocketAddr,
}

impl Broker {
    /// Starts the broker on threads of its own. Returns when it accepts connections, within milliseconds.
    pub fn start(config: BrokerConfig) -> Result<Self, BrokerError> {
        let tunnels = Tunnels::new(config.revoked.clone());
        let denials = Arc::new(Denials::default());
        let (stop, stopped) = oneshot::channel();
        let (ready, started) = mpsc::channel();
        let gate = Gate::new(tunnels.clone(), denials.clone());
        let thread = std::thread::Builder::new()
            .name("broker".to_owned())
            .spawn({
                let (tunnels, denials) = (tunnels.clone(), denials.clone());
                move || run(config, tunnels, denials, &gate, &ready, stopped)
            })
            .map_err(start_failed)?;
        let addresses = started.recv().unwrap_or_else(|_| Err(start_failed("its thread ended")))?;
        tracing::info!(address = %addresses.public, "the embedded broker listens");
        Ok(Self { addresses, tunnels, denials, stop: Some(stop), thread: Some(thread) })
    }

    /// The address that nodes connect to.
    pub fn addr(&self) -> SocketAddr {
        self.addresses.public
    }

    /// `HOST:PORT` at which the coordinator's own link finds the broker: the loopback address, if it is listened on.
    pub fn link_address(&self) -> String {
        let mut address = self.addresses.public;
        if address.ip().is_unspecified() {
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        address.to_string()
    }

    /// The address inside this machine behind the TLS listener. Whoever else connects to it is refused.
    pub fn plain_addr(&self) -> SocketAddr {
        self.addresses.plain
    }

    /// Cuts the node's connections now and refuses it from now on. Repeatable.
    pub fn revoke(&self, node: &NodeId) {
        self.tunnels.revoke(node);
        tracing::info!(%node, "revoked at the broker");
    }

    /// How many nodes are connected.
    pub fn connected(&self) -> usize {
        self.tunnels.connected()
    }

    /// How much the broker has refused since it started: handshakes, connections, subscriptions and messages.
    pub fn denied(&self) -> u64 {
        self.denials.count()
    }

    /// Whether it still runs. It never ends by itself but for a fault of its own.
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Cuts all connections and waits, about a second at most, until the broker has ended. Blocks the thread.
    pub fn stop(mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The broker's thread.
fn run(
    config: BrokerConfig,
    tunnels: Arc<Tunnels>,
    denials: Arc<Denials>,
    gate: &Gate,
    ready: &mpsc::Sender<Result<Addresses, BrokerError>>,
    stopped: oneshot::Receiver<()>,
) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("broker")
        .enable_all()
        .build()
        .map_err(start_failed);
    let apart = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(handshake_threads())
        .thread_name("handshakes")
        .on_thread_start(let_others_go_first)
        .enable_time()
        .build()
        .map_err(start_failed);
    let (runtime, apart) = match runtime.and_then(|runtime| Ok((runtime, apart?))) {
        Ok(runtimes) => runtimes,
        Err(error) => return drop(ready.send(Err(error))),
    };
    runtime.block_on(async {
        match start(config, tunnels, denials, gate, apart.handle().clone()).await {
            Ok((addresses, server, terminator)) => {
                let _ = ready.send(Ok(addresses));
                // `run` returns on no condition, and never ends the process, as `start` would.
                let server = tokio::spawn(server.run());
                tokio::select! {
                    // The sender was dropped, which is how `Broker` says stop.
                    _ = stopped => {}
                    _ = server => tracing::error!("the embedded broker ended by itself"),
                    _ = tokio::spawn(terminator) => tracing::error!("the TLS listener of the broker ended by itself"),
                }
            }
            Err(error) => drop(ready.send(Err(error))),
        }
    });
    apart.shutdown_background();
    runtime.shutdown_timeout(STOP_MAX);
    gate.remove();
}

/// Half of the processors: the other half is for those that are connected.
fn handshake_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get().div_ceil(2))
}

/// On Linux this is the calling thread's alone, whatever POSIX says of processes. What nodes say that are connected is heard meanwhile,
/// however many come back at once; a system that refuses it only makes that a little slower.
fn let_others_go_first() {
    if let Err(error) = rustix::process::nice(HANDSHAKE_NICE) {
        tracing::debug!(%error, "handshakes have no lower priority");
    }
}

async fn start(
    config: BrokerConfig,
    tunnels: Arc<Tunnels>,
    denials: Arc<Denials>,
    gate: &Gate,
    apart: tokio::runtime::Handle,
) -> Result<(Addresses, MqttServer, impl Future<Output = ()> + Send + use<>), BrokerError> {
    let verifier = UnlessRevoked { issued: client_verifier(&config.ca, false)?, tunnels: tunnels.clone() };
    let tls = server_config(Arc::new(verifier), config.certificate)?;
    let listen = |source| BrokerError::Listen { address: config.listen, source };
    let public = TcpListener::bind(config.listen).await.map_err(listen)?;

    let context = ServerContext::new()
        .busy_check_enable(false) // it refuses clients when the machine is busy with anything at all
        .build()
        .await;
    *context.extends.retain_mut().await = Box::new(Retained::default());
    gate.install(&context).await;
    let nodes = plain_listener(config.connections_max, NODE_QUEUE_MAX, NODE_INFLIGHT)?;
    let link_queue_max = LINK_QUEUE_MAX + RETAINED_EACH * config.connections_max;
    let link = plain_listener(LINK_CONNECTIONS_MAX, link_queue_max, LINK_INFLIGHT)?;
    let door = |listener: &Listener, number| {
        let address = listener.local_addr().map_err(start_failed)?;
        Ok::<_, BrokerError>(Door { listener: number, address })
    };
    let inner = Inner { nodes: door(&nodes, 1)?, link: door(&link, 2)? };
    let server = MqttServer::new(context)
        .listener_by_id(nodes, inner.nodes.listener)
        .listener_by_id(link, inner.link.listener)
        .build();

    let addresses = Addresses { public: public.local_addr().map_err(listen)?, plain: inner.nodes.address };
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let room = Arc::new(Semaphore::new(config.connections_max));
    let terminator = Terminator { acceptor, inner, tunnels, denials, room, patience: config.handshake_max, apart };
    Ok((addresses, server, terminator.run(public)))
}

/// A listener of rmqtt that only the terminator has business with.
fn plain_listener(connections_max: usize, queue_max: usize, inflight: NonZeroU16) -> Result<Listener, BrokerError> {
    let packet_bytes_max = u32::try_from(PACKET_BYTES_MAX + HEADER_BYTES_MAX).unwrap_or(u32::MAX);
    Builder::new()
        .name("orangery")
        .laddr(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        .nodelay(true)
        .allow_anonymous(false)
        .max_connections(connections_max)
        .max_handshaking_limit(connections_max.min(CONNECTS_MAX))
        .handshake_timeout(HANDSHAKE_MAX)
        .send_timeout(SEND_MAX)
        .max_packet_size(packet_bytes_max)
        .max_clientid_len(orangery_wire::limits::NAME_BYTES_MAX)
        .max_subscriptions(SUBSCRIPTIONS_MAX)
        .max_topic_levels(SUBSCRIPTIONS_MAX)
        .max_qos_allowed(QoS::AtLeastOnce)
        .max_inflight(inflight)
        .max_mqueue_len(queue_max)
        .max_keepalive(KEEPALIVE_SECS_MAX)
        .allow_zero_keepalive(false)
        .session_expiry_interval(SESSION_EXPIRY)
        .max_session_expiry_interval(SESSION_EXPIRY)
        // Retained state is true until the next; and MQTT 3.1.1 repeats nothing within a connection (section 4.4).
        .message_expiry_interval(Duration::ZERO)
        .message_retry_interval(Duration::ZERO)
        .bind()
        .and_then(rmqtt::net::Listener::tcp)
        .map_err(start_failed)
}

fn start_failed(reason: impl std::fmt::Display) -> BrokerError {
    BrokerError::Start { reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use rustix::process::getpriority_process;

    #[test]
    fn a_thread_for_handshakes_stands_back_and_no_other_does() {
        let before = getpriority_process(None).unwrap();
        let handshakes = std::thread::spawn(|| {
            super::let_others_go_first();
            getpriority_process(None).unwrap()
        });
        assert_eq!(handshakes.join().unwrap(), (before + super::HANDSHAKE_NICE).min(19));
        assert_eq!(getpriority_process(None).unwrap(), before);
    }
}
