//! Ends TLS in front of rmqtt's plain listener, and says who is who: docs/adr/0003 has the reasons.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use orangery_wire::topics::COORDINATOR;
use rmqtt::types::ListenerId;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::io::{self, AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::denials::Denials;
use super::tunnels::{End, Tunnels};
use crate::ca::Peer;

/// Most TLS handshakes at a time; whoever has not shown a certificate yet cannot use up the rest.
const HANDSHAKES_MAX: usize = 1_024;
/// How long the other direction may go on after one has ended.
const LINGER: Duration = Duration::from_secs(5);
/// Most that is carried at once. MQTT packets here are mostly some hundred bytes.
const BUFFER_BYTES: usize = 4 * 1024;
/// Rest after `accept` failed: without descriptors it fails again at once.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// The kernel asks a silent peer for life after this long, then three times every ten seconds.
const TCP_IDLE: Duration = Duration::from_mins(1);
const TCP_INTERVAL: Duration = Duration::from_secs(10);
const TCP_PROBES: u32 = 3;

/// Ends TLS. Cheap to clone.
#[derive(Clone)]
pub struct Terminator {
    /// The listener's TLS settings; client certificates are required.
    pub acceptor: TlsAcceptor,
    /// rmqtt's plain listeners.
    pub inner: Inner,
    /// Who is connected.
    pub tunnels: Arc<Tunnels>,
    /// What is refused.
    pub denials: Arc<Denials>,
    /// Room for tunnels.
    pub room: Arc<Semaphore>,
    /// Longest TLS handshake, and longest wait from there to a good CONNECT.
    pub patience: Duration,
    /// Threads for handshakes alone. Each costs a millisecond in which its thread does nothing else: when all nodes come back at
    /// once, what those say that are connected would wait behind all of that, at each step on its way.
    pub apart: tokio::runtime::Handle,
}

/// Where rmqtt listens. The coordinator's own link has wider limits than a node.
#[derive(Debug, Clone, Copy)]
pub struct Inner {
    /// For nodes.
    pub nodes: Door,
    /// For the link.
    pub link: Door,
}

/// One of rmqtt's listeners.
#[derive(Debug, Clone, Copy)]
pub struct Door {
    /// rmqtt's number for it.
    pub listener: ListenerId,
    /// Its address.
    pub address: SocketAddr,
}

impl Terminator {
    /// Accepts connections for ever.
    pub async fn run(self, listener: TcpListener) {
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        loop {
            let (tcp, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection; is the limit of open files too low?");
                    tokio::time::sleep(ACCEPT_REST).await;
                    continue;
                }
            };
            let Ok(permit) = handshakes.clone().try_acquire_owned() else {
                self.refuse(peer, "too many connections without a certificate");
                continue;
            };
            let terminator = self.clone();
            tokio::spawn(async move {
                let carried = async {
                    if !terminator.speaks(&tcp).await {
                        return Ok(());
                    }
                    let (tls, name) = terminator.handshake(tcp).await?;
                    drop(permit);
                    terminator.serve(tls, &name, peer).await
                };
                if let Err(reason) = carried.await {
                    terminator.refuse(peer, &reason);
                }
            });
        }
    }

    /// Whether a client says anything. Nodes open a connection and close it at once to see that they could make a new one.
    async fn speaks(&self, tcp: &TcpStream) -> bool {
        !matches!(timeout(self.patience, tcp.peek(&mut [0])).await, Ok(Ok(0)))
    }

    /// Shakes hands, and reads the name in the client's certificate. Fails with the reason, for people.
    ///
    /// In a box: a connection is a future, and a future has room for every place that a value goes through.
    async fn handshake(&self, tcp: TcpStream) -> Result<(Box<TlsStream<TcpStream>>, String), String> {
        prepare(&tcp).map_err(|error| error.to_string())?;
        let (acceptor, patience) = (self.acceptor.clone(), self.patience);
        let tls = self.apart.spawn(async move {
            let tls = timeout(patience, acceptor.accept(tcp)).await.map_err(|_| "the TLS handshake took too long")?;
            tls.map(Box::new).map_err(|error| error.to_string())
        });
        let tls = tls.await.map_err(|_| "the broker is stopping")??;
        let certificate = tls.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let name = certificate.and_then(Peer::of).ok_or("its certificate has no name")?.name;
        Ok((tls, name))
    }

    /// Carries one connection from the handshake to its end. Fails with the reason if there was nothing to carry.
    async fn serve(&self, mut tls: Box<TlsStream<TcpStream>>, name: &str, peer: SocketAddr) -> Result<(), String> {
        let _room = self.room.try_acquire().map_err(|_| "too many connections")?;
        let door = if name == COORDINATOR { self.inner.link } else { self.inner.nodes };
        let connected = connect(door.address).await;
        let mut plain = connected.map_err(|error| format!("the embedded broker does not answer: {error}"))?;
        let address = plain.local_addr().map_err(|error| error.to_string())?;
        let end = End { listener: door.listener, address };
        let mut ticket = self.tunnels.open(end, name, peer).map_err(|refused| refused.to_string())?;
        let served = tokio::select! {
            () = carry(&mut tls, &mut plain) => Ok(()),
            _ = &mut ticket.cut => Ok(()),
            () = unconnected(&mut ticket.connected, self.patience) => Err("it sent no valid MQTT CONNECT".to_owned()),
        };
        // The ticket goes before the socket, so that nobody can have its end while it stands for this node.
        drop(ticket);
        served
    }

    fn refuse(&self, peer: SocketAddr, reason: &str) {
        if let Some(unlogged) = self.denials.note() {
            tracing::warn!(%peer, reason, unlogged, "a connection is refused by the broker");
        }
    }
}

/// Small packets leave at once, and a peer that is gone is noticed.
fn prepare(tcp: &TcpStream) -> io::Result<()> {
    use rustix::net::sockopt;
    tcp.set_nodelay(true)?;
    sockopt::set_socket_keepalive(tcp, true)?;
    sockopt::set_tcp_keepidle(tcp, TCP_IDLE)?;
    sockopt::set_tcp_keepintvl(tcp, TCP_INTERVAL)?;
    sockopt::set_tcp_keepcnt(tcp, TCP_PROBES)?;
    Ok(())
}

async fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let plain = TcpStream::connect(to).await?;
    plain.set_nodelay(true)?;
    Ok(plain)
}

/// Resolves when the client was not let in within `patience`; never if it was.
async fn unconnected(connected: &mut oneshot::Receiver<()>, patience: Duration) {
    if let Ok(Ok(())) = timeout(patience, connected).await {
        std::future::pending::<()>().await;
    }
}

/// Carries bytes both ways. The end of one direction is passed on, and the other then has [`LINGER`] to end too; when
/// one breaks, both are over.
async fn carry(tls: &mut TlsStream<TcpStream>, plain: &mut TcpStream) {
    let (tls_read, tls_write) = io::split(tls);
    let (plain_read, plain_write) = plain.split();
    let (up, down) = (pump(tls_read, plain_write), pump(plain_read, tls_write));
    tokio::pin!(up, down);
    let end = tokio::select! {
        end = &mut up => linger(end, down).await,
        end = &mut down => linger(end, up).await,
    };
    if let Err(error) = end {
        tracing::debug!(%error, "a connection broke");
    }
}

async fn linger(end: io::Result<()>, rest: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    end?;
    timeout(LINGER, rest).await.unwrap_or(Ok(()))
}

/// Copies until the end of `from`, then closes `to`. Flushes after each piece: TLS keeps back what was not flushed.
async fn pump(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    loop {
        let bytes = piece(&mut from).await?;
        if bytes.is_empty() {
            return to.shutdown().await;
        }
        to.write_all(&bytes).await?;
        to.flush().await?;
    }
}

/// What is there to read, once something is; empty at the end. Until then nothing is held for it: nearly all connections are
/// quiet nearly all the time.
async fn piece(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    std::future::poll_fn(|context| {
        let mut room = [0; BUFFER_BYTES];
        let mut buffer = ReadBuf::new(&mut room);
        ready!(Pin::new(&mut *from).poll_read(context, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().to_vec()))
    })
    .await
}

/// Believes whom `issued` believes, unless the node is revoked: that is said within TLS, so the node learns why.
#[derive(Debug)]
pub struct UnlessRevoked {
    /// Checks issuer, use and dates.
    pub issued: Arc<dyn ClientCertVerifier>,
    /// Knows who is revoked.
    pub tunnels: Arc<Tunnels>,
}

impl ClientCertVerifier for UnlessRevoked {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.issued.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.issued.verify_client_cert(certificate, intermediates, now)?;
        let peer = Peer::of(certificate).ok_or(CertificateError::BadEncoding)?;
        if self.tunnels.is_revoked(&peer.name) {
            return Err(CertificateError::Revoked.into());
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.issued.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.issued.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.issued.supported_verify_schemes()
    }
}
