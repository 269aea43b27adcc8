//! The HTTPS listener: TLS 1.3, client certificates by our CA welcome but not demanded, HTTP/1.1, and a limit on
//! everything that a stranger could make last.
//!
//! Who may ask for what is not decided here but in [`crate::api`]; this module only says who is there ([`Caller`]).

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls_pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

use crate::ca::Peer;
use crate::tls::{ServerCertificate, TlsError, client_verifier, server_config};

mod even_expired;
mod unstalled;

use even_expired::EvenExpired;
use unstalled::Unstalled;

/// Longest TLS handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Longest wait for a request's head, and for the next request on a connection.
const HEAD_MAX: Duration = Duration::from_secs(20);
/// A connection on which no byte moves in either direction for this long is closed. Event streams have a sign of life
/// every 15 seconds.
const STALL_MAX: Duration = Duration::from_mins(2);
/// Largest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Rest after `accept` failed: without descriptors it fails again at once.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Who is at the other end, as far as TLS knows. In every request's extensions.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The address.
    pub address: IpAddr,
    /// What the certificate says, if one was shown: issued by our CA, for a key that the caller has. It may be expired or
    /// revoked.
    pub certificate: Option<Arc<Peer>>,
}

/// The listener does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpsError {
    /// The address could not be listened on.
    #[error("cannot listen on {address} for HTTPS: {source}; choose another address in [https] listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Its keys cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A listener that listens, and does not serve yet.
pub struct Listener {
    tcp: TcpListener,
    address: SocketAddr,
    acceptor: TlsAcceptor,
    connections_max: usize,
}

impl Listener {
    /// Listens on `address`; port 0 is any free port.
    pub async fn bind(
        address: SocketAddr,
        ca: &CertificateDer<'static>,
        certificate: Arc<ServerCertificate>,
        connections_max: usize,
    ) -> Result<Self, HttpsError> {
        let clients = Arc::new(EvenExpired::new(client_verifier(ca, true)?));
        let mut config = server_config(clients, certificate)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let listen = |source| HttpsError::Listen { address, source };
        let tcp = TcpListener::bind(address).await.map_err(listen)?;
        let address = tcp.local_addr().map_err(listen)?;
        Ok(Self { tcp, address, acceptor: TlsAcceptor::from(Arc::new(config)), connections_max })
    }

    /// The address that is listened on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `router` until `stopping` says true; then nobody is let in any more, requests under way are answered, and it
    /// returns when the last connection has ended. Dropping the future ends all connections.
    pub async fn serve(self, router: Router, mut stopping: watch::Receiver<bool>) {
        let room = Arc::new(Semaphore::new(self.connections_max));
        let peers = Arc::new(Peers { each_max: self.connections_max / 2, open: Mutex::default() });
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let accepted = tokio::select! {
                biased;
                () = told(&mut stopping) => break,
                accepted = accept(&self.tcp, &room, &peers) => accepted,
            };
            let Some((tcp, place)) = accepted else { continue };
            let (acceptor, router, stopping) = (self.acceptor.clone(), router.clone(), stopping.clone());
            connections.spawn(async move { connection(tcp, place, acceptor, router, stopping).await });
        }
        drop(self.tcp);
        while connections.join_next().await.is_some() {}
    }
}

/// Waits for room, then for somebody to come.
async fn accept(tcp: &TcpListener, room: &Arc<Semaphore>, peers: &Arc<Peers>) -> Option<(TcpStream, Place)> {
    let permit = room.clone().acquire_owned().await.ok()?;
    match tcp.accept().await {
        Ok((stream, address)) => Some((stream, peers.enter(address.ip(), permit)?)),
        Err(error) => {
            tracing::warn!(reason = %error, "cannot accept a connection; is the limit of open files too low?");
            tokio::time::sleep(ACCEPT_REST).await;
            None
        }
    }
}

/// How many connections each address has. One address may not take all places.
#[derive(Debug)]
struct Peers {
    each_max: usize,
    open: Mutex<HashMap<IpAddr, usize>>,
}

impl Peers {
    fn enter(self: &Arc<Self>, address: IpAddr, permit: OwnedSemaphorePermit) -> Option<Place> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(address).or_default();
        if *count >= self.each_max {
            tracing::debug!(%address, "too many connections from one address");
            return None;
        }
        *count += 1;
        Some(Place { peers: self.clone(), address, _permit: permit })
    }
}

/// A connection's place; it is free again when this is dropped.
#[derive(Debug)]
struct Place {
    peers: Arc<Peers>,
    address: IpAddr,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.peers.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

async fn connection(
    tcp: TcpStream,
    place: Place,
    acceptor: TlsAcceptor,
    router: Router,
    mut stopping: watch::Receiver<bool>,
) {
    let address = place.address;
    let tls = tokio::select! {
        tls = timeout(HANDSHAKE_MAX, async { tcp.set_nodelay(true).and(Ok(()))?; acceptor.accept(tcp).await }) => tls,
        () = told(&mut stopping) => return,
    };
    let tls = match tls {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => return tracing::debug!(%address, reason = %error, "TLS handshake failed"),
        Err(_) => return tracing::debug!(%address, "TLS handshake took too long"),
    };
    let certificate = tls.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let caller = Caller { address, certificate: certificate.and_then(Peer::of).map(Arc::new) };
    let service = hyper::service::service_fn(move |request| answer(router.clone(), caller.clone(), request));
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_MAX).max_buf_size(HEAD_BYTES_MAX);
    let served = builder.serve_connection(TokioIo::new(Unstalled::new(tls, STALL_MAX)), service);
    tokio::pin!(served);
    let ended = tokio::select! {
        ended = &mut served => ended,
        () = told(&mut stopping) => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%address, reason = %error, "connection broke");
    }
}

/// Waits until it is time to stop; a sender that is gone says so too.
async fn told(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

async fn answer(router: Router, caller: Caller, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(caller);
    router.oneshot(request).await
}
