//! Getting bytes: over HTTPS from the coordinator's origin or a static web server, or out of a file that is open.
//!
//! Nothing fetched here is believed: [`Http::get`] bounds what it reads and leaves the judging to its caller,
//! [`Http::download`] returns a file only if every byte of it is what the signed manifest says. A redirect is an error and
//! no other host is ever asked, so whoever can answer in the server's name can at worst withhold.

mod download;
mod error;
mod local;
mod part;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::header::{ACCEPT_ENCODING, CONTENT_LENGTH, HeaderMap, IF_RANGE, RANGE, USER_AGENT};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

pub use error::FetchError;
pub use local::Run;
pub use part::{drop_parts, idle_parts};

const AGENT: &str = concat!("orangery-agent/", env!("CARGO_PKG_VERSION"));
/// An idle connection is closed after this time, so that a board does not keep the coordinator's descriptors busy.
const IDLE: Duration = Duration::from_secs(30);

/// How long one waits, and for how little.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patience {
    /// For a TCP connection.
    pub connect: Duration,
    /// For the head of an answer; resolving, connecting and the TLS handshake included.
    pub answer: Duration,
    /// For the next `stall_bytes` of a body. Only time spent waiting for the network counts.
    pub stall: Duration,
    /// What must arrive in each `stall`. A sender that trickles is no better than one that stopped.
    pub stall_bytes: u64,
    /// How often one call of [`Http::download`] takes an interrupted download up again, as long as each go brings bytes.
    pub resumes_max: u32,
}

impl Default for Patience {
    fn default() -> Self {
        let secs = Duration::from_secs;
        Self { connect: secs(10), answer: secs(30), stall: secs(30), stall_bytes: 16 * 1024, resumes_max: 8 }
    }
}

/// A client of one origin. Connections are kept alive and shared by its clones.
#[derive(Debug, Clone)]
pub struct Http {
    origin: String,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    patience: Patience,
    /// Whether 403 means that there is no such file: so say stores that may not be listed.
    lenient: bool,
}

/// Which bytes of a file are asked for.
#[derive(Debug, Clone, Copy)]
enum Wanted<'a> {
    All,
    /// From this byte on, if the file still has this entity tag (RFC 9110 sections 13.1.5 and 14.2).
    Rest(u64, &'a str),
}

impl Http {
    /// A client of `origin_url`, such as `https://coordinator.lan:8443`. `tls` must trust the pinned CA alone.
    ///
    /// Fails with [`FetchError::Address`] unless the address is `https://HOST[:PORT]` and nothing else.
    pub fn new(origin_url: &str, tls: Arc<rustls::ClientConfig>) -> Result<Self, FetchError> {
        Self::with_patience(origin_url, tls, Patience::default())
    }

    /// The same with other limits of patience.
    pub fn with_patience(
        origin_url: &str,
        tls: Arc<rustls::ClientConfig>,
        patience: Patience,
    ) -> Result<Self, FetchError> {
        let origin = origin_of(origin_url, Below::Nothing)?;
        Ok(Self { origin, client: client(tls, patience.connect, Plain::Never), patience, lenient: false })
    }

    /// A client of a static web server with an exported repository at `base_url`, which is `https://HOST[:PORT][/PATH]`.
    pub fn site(base_url: &str, tls: Arc<rustls::ClientConfig>) -> Result<Self, FetchError> {
        let (origin, patience) = (origin_of(base_url, Below::Path)?, Patience::default());
        Ok(Self { origin, client: client(tls, patience.connect, Plain::Never), patience, lenient: true })
    }

    /// The address below which everything is asked for.
    pub fn base(&self) -> &str {
        &self.origin
    }

    /// A client of whatever lies below `base_url`, also without TLS. Only for programs that judge the rules of trust by
    /// themselves, as the conformance suite does; the agent never makes one.
    pub fn unprotected(base_url: &str, tls: Arc<rustls::ClientConfig>) -> Self {
        let patience = Patience::default();
        let origin = base_url.trim_end_matches('/').to_owned();
        Self { origin, client: client(tls, patience.connect, Plain::Too), patience, lenient: false }
    }

    /// The same client, giving up on transfers that bring too little for so long.
    pub fn stalling_after(mut self, stall: Duration) -> Self {
        self.patience.stall = stall;
        self
    }

    /// Gets the whole of a small file; `None` if there is none (404). At most `length_max` bytes are read: a longer
    /// file is [`FetchError::TooLong`]. May be repeated freely.
    pub async fn get(&self, path: &str, length_max: u64) -> Result<Option<Vec<u8>>, FetchError> {
        let url = self.url(path)?;
        let response = match self.ask(&url, Wanted::All).await {
            Err(FetchError::Missing { .. }) => return Ok(None),
            other => other?,
        };
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status { url: url.to_string(), status: response.status().as_u16() });
        }
        let too_long = || FetchError::TooLong { url: url.to_string(), bytes_max: length_max };
        if content_length(response.headers()).is_some_and(|length| length > length_max) {
            return Err(too_long());
        }
        let mut body = Body::new(response, &url, &self.patience);
        let mut bytes = Vec::new();
        while let Some(piece) = body.next().await? {
            if (bytes.len() + piece.len()) as u64 > length_max {
                return Err(too_long());
            }
            bytes.extend_from_slice(&piece);
        }
        tracing::debug!(%url, bytes = bytes.len(), "fetched");
        Ok(Some(bytes))
    }

    /// The address of `path` on the pinned origin.
    fn url(&self, path: &str) -> Result<Uri, FetchError> {
        let url = format!("{}{path}", self.origin);
        let bad = |rule: &str| FetchError::Address { url: url.clone(), rule: rule.to_owned() };
        if !path.starts_with('/') {
            return Err(bad("the path must begin with '/'"));
        }
        url.parse().map_err(|e: hyper::http::uri::InvalidUri| bad(&e.to_string()))
    }

    /// Asks once and waits for the head of the answer. Only success comes back: 200 or 206.
    async fn ask(&self, url: &Uri, wanted: Wanted<'_>) -> Result<Response<Incoming>, FetchError> {
        // `identity`: a compressed answer would have other bytes than those that were signed.
        let request = Request::get(url.clone()).header(USER_AGENT, AGENT).header(ACCEPT_ENCODING, "identity");
        let request = match wanted {
            Wanted::All => request,
            Wanted::Rest(offset, tag) => request.header(RANGE, format!("bytes={offset}-")).header(IF_RANGE, tag),
        };
        let request = request
            .body(Empty::new())
            .map_err(|e| FetchError::Address { url: url.to_string(), rule: e.to_string() })?;
        let answer = tokio::time::timeout(self.patience.answer, self.client.request(request)).await;
        let response = answer
            .map_err(|_| FetchError::NoAnswer { url: url.to_string(), waited: self.patience.answer })?
            .map_err(|source| FetchError::Request { url: url.to_string(), source })?;
        if self.lenient && response.status() == StatusCode::FORBIDDEN {
            return Err(FetchError::Missing { url: url.to_string() });
        }
        judge(url, response)
    }
}

fn judge(url: &Uri, response: Response<Incoming>) -> Result<Response<Incoming>, FetchError> {
    let (url, status) = (url.to_string(), response.status());
    match status {
        StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(response),
        StatusCode::NOT_FOUND | StatusCode::GONE => Err(FetchError::Missing { url }),
        StatusCode::RANGE_NOT_SATISFIABLE => Err(FetchError::Range { url, got: status.to_string() }),
        _ if status.is_redirection() => Err(FetchError::Redirected { url, status: status.as_u16() }),
        _ => Err(FetchError::Status { url, status: status.as_u16() }),
    }
}

/// Whether an address may go on after host and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Below {
    Nothing,
    Path,
}

/// Checks an address and brings it into the form that paths are appended to.
fn origin_of(url: &str, below: Below) -> Result<String, FetchError> {
    let bad = |rule: &str| FetchError::Address { url: url.to_owned(), rule: rule.to_owned() };
    let uri: Uri = url.parse().map_err(|e: hyper::http::uri::InvalidUri| bad(&e.to_string()))?;
    if uri.scheme_str() != Some("https") {
        return Err(bad("it must begin with https://"));
    }
    let authority = uri.authority().ok_or_else(|| bad("it names no host"))?;
    let plain = !authority.as_str().contains('@') && uri.query().is_none();
    match below {
        Below::Nothing if !plain || uri.path() != "/" => Err(bad("it must be https://HOST[:PORT] and nothing else")),
        Below::Path if !plain => Err(bad("it must be https://HOST[:PORT][/PATH] and nothing else")),
        _ => Ok(format!("https://{authority}{}", uri.path().trim_end_matches('/'))),
    }
}

/// Whether a connection may be without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plain {
    Never,
    Too,
}

fn client(
    tls: Arc<rustls::ClientConfig>,
    connect: Duration,
    plain: Plain,
) -> Client<HttpsConnector<HttpConnector>, Empty<Bytes>> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(connect));
    tcp.set_nodelay(true);
    let mut connector = HttpsConnector::from((tcp, tls));
    if plain == Plain::Never {
        connector.enforce_https();
    }
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(2)
        .build(connector)
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A body that must keep coming.
struct Body<'a> {
    incoming: Incoming,
    url: &'a Uri,
    patience: &'a Patience,
    left: Duration,
    arrived: u64,
}

impl<'a> Body<'a> {
    fn new(response: Response<Incoming>, url: &'a Uri, patience: &'a Patience) -> Self {
        Self { incoming: response.into_body(), url, patience, left: patience.stall, arrived: 0 }
    }

    /// The next bytes; `None` at the end that the server meant. A cut connection is an error.
    async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        loop {
            let asked = Instant::now();
            let Ok(frame) = tokio::time::timeout(self.left, self.incoming.frame()).await else {
                return Err(FetchError::Stalled { url: self.url.to_string(), waited: self.patience.stall });
            };
            self.left = self.left.saturating_sub(asked.elapsed());
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|source| FetchError::Cut { url: self.url.to_string(), source })?;
            // Trailers say nothing that is asked here.
            let Ok(bytes) = frame.into_data() else { continue };
            self.note(bytes.len() as u64);
            return Ok(Some(bytes));
        }
    }

    fn note(&mut self, bytes: u64) {
        self.arrived += bytes;
        if self.arrived >= self.patience.stall_bytes {
            (self.arrived, self.left) = (0, self.patience.stall);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_https_with_a_host_and_nothing_else() {
        for good in ["https://coordinator.lan:8443", "https://10.0.0.2", "https://[::1]:8443/"] {
            assert!(origin_of(good, Below::Nothing).is_ok(), "{good}");
        }
        assert_eq!(origin_of("https://mirror/fleet/", Below::Path).unwrap(), "https://mirror/fleet");
        for bad in [
            "http://coordinator.lan",
            "coordinator.lan",
            "https://",
            "https://user@coordinator.lan",
            "https://coordinator.lan/path",
            "https://coordinator.lan/?q",
            "file:///etc/passwd",
            "",
        ] {
            assert!(matches!(origin_of(bad, Below::Nothing), Err(FetchError::Address { .. })), "{bad}");
            let with_path = origin_of(bad, Below::Path).is_ok();
            assert_eq!(with_path, bad == "https://coordinator.lan/path", "{bad}");
        }
    }
}
