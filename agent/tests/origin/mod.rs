//! A real HTTPS origin on loopback: TLS 1.3, client certificates required, ranges, entity tags. It answers honestly until
//! it is told to misbehave.

#![allow(dead_code, reason = "each test program uses its part of it")]
#![allow(clippy::unwrap_used, missing_docs, reason = "it is a part of tests")]

mod body;
mod tls;

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{CONTENT_RANGE, ETAG, IF_RANGE, LOCATION, RANGE};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use orangery_wire::Digest;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

pub use body::{End, Script};
pub use tls::Authority;

/// How one answer goes wrong.
#[derive(Debug, Clone)]
pub enum Trick {
    /// As it should be.
    Honest,
    /// The connection is closed after so many bytes of the body.
    CutAfter(usize),
    /// Nothing more comes after so many bytes of the body.
    StallAfter(usize),
    /// One byte at a time, with a pause before each.
    Trickle,
    /// So many bytes more than there are, the length not announced.
    Longer(usize),
    /// So many bytes more than there are, and the length says so.
    LongerAnnounced(usize),
    /// So many bytes fewer than there are, properly ended.
    Shorter(usize),
    /// One byte is another.
    Wrong,
    /// The whole file, whatever range was asked for.
    Whole,
    /// 206 with this range instead of the right one.
    RangeSays(&'static str),
    /// The file is said to have another entity tag.
    Retagged,
    /// A status and no more.
    Status(u16),
    /// A redirect to this address.
    Redirect(String),
    /// Not even a head.
    Silence,
}

/// One request that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub path: String,
    pub range: Option<String>,
    pub if_range: Option<String>,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<String, Bytes>,
    tricks: VecDeque<Trick>,
    seen: Vec<Seen>,
    connections: usize,
}

/// The origin. It serves until it is dropped.
#[derive(Debug)]
pub struct Origin {
    pub url: String,
    state: Arc<Mutex<State>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Origin {
    pub async fn start(authority: &Authority) -> Self {
        Self::start_with(authority.server()).await
    }

    /// One that lets in whoever comes: a static web server.
    pub async fn public(authority: &Authority) -> Self {
        Self::start_with(authority.public_server()).await
    }

    async fn start_with(tls: Arc<rustls::ServerConfig>) -> Self {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let serving = tokio::spawn(accept(listener, TlsAcceptor::from(tls), Arc::clone(&state)));
        Self { url, state, serving }
    }

    /// Has what `other` has, and plays the tricks that it would play.
    pub fn mirror(&self, other: &Self) {
        let (files, tricks) = (other.files(), other.lock().tricks.clone());
        let mut state = self.lock();
        (state.files, state.tricks) = (files, tricks);
    }

    /// All that it serves, by path.
    pub fn files(&self) -> BTreeMap<String, Bytes> {
        self.lock().files.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves `bytes` at `path` from now on.
    pub fn put(&self, path: impl Into<String>, bytes: impl Into<Bytes>) {
        self.lock().files.insert(path.into(), bytes.into());
    }

    pub fn remove(&self, path: &str) {
        self.lock().files.remove(path);
    }

    /// The next answers, one after the other; then honest again.
    pub fn play(&self, tricks: impl IntoIterator<Item = Trick>) {
        self.lock().tricks.extend(tricks);
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.lock().seen.clone()
    }

    pub fn forget_seen(&self) {
        self.lock().seen.clear();
    }

    /// TCP connections accepted so far.
    pub fn connections(&self) -> usize {
        self.lock().connections
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, state: Arc<Mutex<State>>) {
    // All of it ends with the origin.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        state.lock().unwrap().connections += 1;
        tcp.set_nodelay(true).unwrap();
        let (acceptor, state) = (acceptor.clone(), Arc::clone(&state));
        connections.spawn(async move {
            let Ok(tls) = acceptor.accept(tcp).await else { return };
            let service = service_fn(move |request| answer(Arc::clone(&state), request));
            // Cut connections end with an error: as ordered.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tls), service).await;
        });
    }
}

async fn answer(state: Arc<Mutex<State>>, request: Request<Incoming>) -> Result<Response<Script>, Infallible> {
    let header =
        |name| request.headers().get(name).map(|v: &hyper::header::HeaderValue| v.to_str().unwrap().to_owned());
    let seen = Seen { path: request.uri().path().to_owned(), range: header(RANGE), if_range: header(IF_RANGE) };
    let (file, trick) = {
        let mut state = state.lock().unwrap();
        state.seen.push(seen.clone());
        (state.files.get(&seen.path).cloned(), state.tricks.pop_front().unwrap_or(Trick::Honest))
    };
    if matches!(trick, Trick::Silence) {
        std::future::pending::<()>().await;
    }
    Ok(match file {
        Some(file) => perform(&trick, &file, &seen),
        None => bare(StatusCode::NOT_FOUND),
    })
}

fn bare(status: StatusCode) -> Response<Script> {
    let mut response = Response::new(Script::all(Bytes::new()));
    *response.status_mut() = status;
    response
}

/// The entity tag of a file: its digest, as the coordinator tags.
pub fn tag(file: &[u8]) -> String {
    format!("\"{}\"", sha256(file))
}

pub fn sha256(bytes: &[u8]) -> Digest {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    Digest(digest.as_ref().try_into().unwrap())
}

fn perform(trick: &Trick, file: &Bytes, seen: &Seen) -> Response<Script> {
    match trick {
        Trick::Status(status) => return bare(StatusCode::from_u16(*status).unwrap()),
        Trick::Redirect(to) => {
            let mut response = bare(StatusCode::FOUND);
            response.headers_mut().insert(LOCATION, to.parse().unwrap());
            return response;
        }
        _ => {}
    }
    let tag = if matches!(trick, Trick::Retagged) { "\"other\"".to_owned() } else { tag(file) };
    let from = seen.range.as_ref().filter(|_| !matches!(trick, Trick::Whole) && seen.if_range.as_ref() == Some(&tag));
    let from = from.map(|range| range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap());
    let body = script(trick, file.slice(from.unwrap_or(0)..));
    let mut response = Response::builder().header(ETAG, tag);
    if let Some(from) = from {
        let right = format!("bytes {from}-{}/{}", file.len() - 1, file.len());
        let range = if let Trick::RangeSays(wrong) = trick { (*wrong).to_owned() } else { right };
        response = response.status(StatusCode::PARTIAL_CONTENT).header(CONTENT_RANGE, range);
    }
    response.body(body).unwrap()
}

fn script(trick: &Trick, bytes: Bytes) -> Script {
    let longer = |n: usize| Bytes::from([&bytes[..], &vec![7; n]].concat());
    match trick {
        Trick::CutAfter(n) => Script::part(bytes, *n, End::Cut),
        Trick::StallAfter(n) => Script::part(bytes, *n, End::Stall),
        Trick::Trickle => Script::trickle(bytes),
        Trick::Longer(n) => Script::unannounced(longer(*n)),
        Trick::LongerAnnounced(n) => Script::all(longer(*n)),
        Trick::Shorter(n) => Script::unannounced(bytes.slice(..bytes.len() - n)),
        Trick::Wrong => {
            let mut bytes = bytes.to_vec();
            *bytes.last_mut().unwrap() ^= 1;
            Script::all(bytes.into())
        }
        _ => Script::all(bytes),
    }
}
