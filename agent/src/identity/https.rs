//! One request, one answer, one connection: all that joining, renewing and showing an output need of HTTP.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use orangery_wire::rest::ErrorBody;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long the whole exchange may take. Signing takes the coordinator milliseconds; a slow board and a slow line the rest.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Largest answer that is read.
pub(super) const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Why there is no answer, or not the one that was hoped for.
#[derive(Debug, thiserror::Error)]
pub enum HttpsError {
    /// The address is not usable.
    #[error("{url:?} is not an address of a coordinator; it must look like https://HOST:PORT")]
    Address {
        /// As given.
        url: String,
    },
    /// No connection.
    #[error("cannot connect to {authority}")]
    Connect {
        /// Host and port.
        authority: String,
        /// Why.
        source: std::io::Error,
    },
    /// No trust.
    #[error("cannot make a secure connection to {authority}")]
    Secure {
        /// Host and port.
        authority: String,
        /// Why.
        source: std::io::Error,
    },
    /// The exchange broke off.
    #[error("the connection to {authority} broke off before the answer")]
    Exchange {
        /// Host and port.
        authority: String,
        /// Why.
        source: hyper::Error,
    },
    /// It took too long.
    #[error("{authority} did not answer within {} s", .patience.as_secs())]
    Timeout {
        /// Host and port.
        authority: String,
        /// How long.
        patience: Duration,
    },
    /// The answer cannot be read.
    #[error("cannot read the answer of {authority}: {reason}")]
    Read {
        /// Host and port.
        authority: String,
        /// Why.
        reason: String,
    },
    /// The coordinator says no.
    #[error("the coordinator refuses: {} ({})", .body.message, .body.code)]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What it says.
        body: ErrorBody,
    },
}

impl HttpsError {
    /// What was wrong with the server's certificate, if that was it.
    pub(super) fn certificate(&self) -> Option<&rustls::CertificateError> {
        let Self::Secure { source, .. } = self else { return None };
        match source.get_ref()?.downcast_ref()? {
            rustls::Error::InvalidCertificate(error) => Some(error),
            _ => None,
        }
    }
}

/// Posts `body` as JSON to `path` at the coordinator and reads its answer, within `patience`.
pub(crate) async fn post<A: DeserializeOwned>(
    url: &str,
    tls: Arc<ClientConfig>,
    path: &str,
    body: &impl Serialize,
    patience: Duration,
) -> Result<A, HttpsError> {
    let origin = Origin::parse(url).ok_or_else(|| HttpsError::Address { url: url.to_owned() })?;
    let timeout = HttpsError::Timeout { authority: origin.authority.clone(), patience };
    let exchange = async {
        let (status, bytes) = origin.exchange(tls, path, body).await?;
        origin.read(status, &bytes)
    };
    tokio::time::timeout(patience, exchange).await.map_err(|_| timeout)?
}

/// Where a coordinator is.
struct Origin {
    authority: String,
    host: String,
    port: u16,
    name: ServerName<'static>,
}

impl Origin {
    fn parse(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let host = uri.host()?;
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host).to_owned();
        let name = ServerName::try_from(host.clone()).ok()?;
        let port = uri.port_u16().unwrap_or(443);
        let bare = uri.scheme_str() == Some("https") && matches!(uri.path(), "" | "/") && uri.query().is_none();
        bare.then(|| Self { authority: uri.authority().map(ToString::to_string).unwrap_or_default(), host, port, name })
    }

    async fn exchange(
        &self,
        tls: Arc<ClientConfig>,
        path: &str,
        body: &impl Serialize,
    ) -> Result<(StatusCode, Bytes), HttpsError> {
        let authority = || self.authority.clone();
        let request = self.request(path, body)?;
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await;
        let tcp = tcp.map_err(|source| HttpsError::Connect { authority: authority(), source })?;
        let tls = TlsConnector::from(tls).connect(self.name.clone(), tcp).await;
        let tls = tls.map_err(|source| HttpsError::Secure { authority: authority(), source })?;
        let broken = |source| HttpsError::Exchange { authority: authority(), source };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.map_err(broken)?;
        // Ends with the sender, at the latest when this function does.
        tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| self.unreadable(&error))?;
        Ok((status, body.to_bytes()))
    }

    fn request(&self, path: &str, body: &impl Serialize) -> Result<Request<Full<Bytes>>, HttpsError> {
        let body = serde_json::to_vec(body).map_err(|error| self.unreadable(&error))?;
        let mut request = Request::new(Full::from(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = path.parse().map_err(|error| self.unreadable(&error))?;
        let host = HeaderValue::from_str(&self.authority).map_err(|error| self.unreadable(&error))?;
        request.headers_mut().insert(HOST, host);
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        Ok(request)
    }

    fn read<A: DeserializeOwned>(&self, status: StatusCode, bytes: &[u8]) -> Result<A, HttpsError> {
        if status.is_success() {
            return serde_json::from_slice(bytes).map_err(|error| self.unreadable(&error));
        }
        let plain = |_| ErrorBody { code: "http".to_owned(), message: format!("it answers {status}"), next: None };
        let body = serde_json::from_slice(bytes).unwrap_or_else(plain);
        Err(HttpsError::Refused { status: status.as_u16(), body: printable(body) })
    }

    fn unreadable(&self, error: &dyn std::fmt::Display) -> HttpsError {
        HttpsError::Read { authority: self.authority.clone(), reason: error.to_string() }
    }
}

/// What a server says may end on a terminal: no control characters, and no more than a few lines.
fn printable(body: ErrorBody) -> ErrorBody {
    let clean = |text: String| {
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        orangery_wire::limits::reason(text)
    };
    ErrorBody { code: clean(body.code), message: clean(body.message), next: body.next.map(clean) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coordinator_is_an_https_origin_and_nothing_more() {
        let parsed = |url| Origin::parse(url).map(|o| format!("{} {} {}", o.authority, o.host, o.port));
        assert_eq!(parsed("https://nas.local:8443").as_deref(), Some("nas.local:8443 nas.local 8443"));
        assert_eq!(parsed("https://nas.local/").as_deref(), Some("nas.local nas.local 443"));
        assert_eq!(parsed("https://[::1]:8443").as_deref(), Some("[::1]:8443 ::1 8443"));
        let bad = ["", "nas.local", "http://nas.local", "https://", "https://a/b", "https://a?b", "file:///etc/passwd"];
        for bad in bad {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_is_given_up() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let tls = crate::tls::join_config(orangery_wire::Digest([0; 32]), crate::clock::Clock::new(0));
        let patience = Duration::from_millis(50);
        let answer: Result<(), _> = post(&url, tls, "/v1/join", &"hello", patience).await;
        assert!(matches!(answer, Err(HttpsError::Timeout { .. })), "{answer:?}");
    }

    #[test]
    fn what_a_server_says_cannot_drive_a_terminal() {
        let body = ErrorBody { code: "a\nb".into(), message: "\u{1b}[31m".repeat(1_000), next: Some("\r".into()) };
        let body = printable(body);
        assert_eq!((body.code.as_str(), body.next.as_deref()), ("a b", Some(" ")));
        assert!(body.message.len() <= 1_024 && !body.message.contains('\u{1b}'));
    }
}
