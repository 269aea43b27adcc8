//! The commands' side of the REST API: HTTPS to one coordinator, whose CA is pinned, with the operator's token.

mod deed;
mod download;
mod events;
mod metadata;
mod settings;
mod trust;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use orangery_wire::Digest;
use orangery_wire::messages::blob_path;
use orangery_wire::rest::ErrorBody;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use events::EventStream;
pub use metadata::MetadataError;
pub use settings::{ClientSettings, SettingsError};

use crate::home::Home;

const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// Longest silence of the coordinator within one answer. Its event stream says something more often than that.
const SILENCE_MAX: Duration = Duration::from_mins(1);
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The settings cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Nobody answers.
    #[error("cannot reach the coordinator at {url}: {cause}; is `orangery serve` running?")]
    Unreachable {
        /// The coordinator's address.
        url: String,
        /// Why.
        cause: String,
    },
    /// Somebody answers who is not the coordinator.
    #[error(
        "{url} is not the coordinator that this directory belongs to: {cause}; compare `url` and `ca` in {settings}"
    )]
    Impostor {
        /// The coordinator's address.
        url: String,
        /// What is wrong with its certificate.
        cause: String,
        /// The settings file.
        settings: String,
    },
    /// The connection broke before the whole answer was there.
    #[error("the coordinator's answer to {request} was lost: {cause}; {next}")]
    Lost {
        /// Method and path.
        request: String,
        /// Why.
        cause: String,
        /// What to do.
        next: &'static str,
    },
    /// The answer makes no sense.
    #[error("the coordinator's answer to {request} cannot be used: {cause}")]
    Answer {
        /// Method and path.
        request: String,
        /// Why.
        cause: String,
    },
    /// The coordinator says no.
    #[error("{}{} [{}]", body.message, body.next.as_ref().map(|next| format!("; {next}")).unwrap_or_default(), body.code)]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What it says.
        body: ErrorBody,
    },
}

impl ClientError {
    /// The stable code of a refusal.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { body, .. } => Some(&body.code),
            _ => None,
        }
    }

    /// Whether nothing, or not all, was heard of the coordinator: it may be back in a moment.
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Lost { .. })
    }
}

/// A connection to the coordinator; requests share it.
#[derive(Clone)]
pub struct Client {
    settings: Arc<ClientSettings>,
    http: reqwest::Client,
}

impl Client {
    /// Reads the settings in `home`. Nothing is sent yet.
    pub fn open(home: &Home) -> Result<Self, ClientError> {
        let settings = ClientSettings::load(home)?;
        let builder = reqwest::Client::builder()
            .tls_backend_preconfigured(settings.tls()?)
            .https_only(true)
            // The coordinator is on the own network: a proxy or a redirect would only lead the token astray.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIME_MAX)
            .read_timeout(SILENCE_MAX);
        let http = builder.build().map_err(|error| SettingsError::Tls { reason: root_cause(&error) })?;
        Ok(Self { settings: Arc::new(settings), http })
    }

    /// The coordinator's address: `https://HOST:PORT`.
    pub fn url(&self) -> &str {
        &self.settings.url
    }

    /// `GET path`, a path with its query below the coordinator's address.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.json(Method::GET, path, |request| request).await
    }

    /// `POST path` with a JSON body, to a path that answers and changes nothing.
    pub async fn ask<T: DeserializeOwned>(&self, path: &str, body: &(impl Serialize + Sync)) -> Result<T, ClientError> {
        self.json(Method::POST, path, |request| request.json(body)).await
    }

    /// A file of at most 64 MiB; `None` if the coordinator does not have it.
    pub async fn file(&self, path: &str) -> Result<Option<Bytes>, ClientError> {
        match self.send(Method::GET, path, |request| request).await {
            Ok(response) => self.body(response, &Method::GET, path).await.map(Some),
            Err(ClientError::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the coordinator has an artifact.
    pub async fn has_blob(&self, digest: &Digest) -> Result<bool, ClientError> {
        match self.send(Method::HEAD, &format!("/v1{}", blob_path(digest)), |request| request).await {
            Ok(_) => Ok(true),
            Err(ClientError::Refused { status: 404, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives the coordinator an artifact. One that it has already is left as it is.
    pub async fn put_blob<S>(&self, digest: &Digest, size_bytes: u64, content: S) -> Result<(), ClientError>
    where
        S: Stream<Item = std::io::Result<Bytes>> + Send + Sync + 'static,
    {
        let path = format!("/v1{}", blob_path(digest));
        let body = reqwest::Body::wrap_stream(content);
        let with_body = |request: RequestBuilder| request.header("content-length", size_bytes).body(body);
        self.send(Method::PUT, &path, with_body).await.map(drop)
    }

    async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        build: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<T, ClientError> {
        let answer = self.answer(method.clone(), path, build).await?;
        understand(&method, path, &answer)
    }

    /// The whole answer to a request that was granted.
    async fn answer(
        &self,
        method: Method,
        path: &str,
        build: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Bytes, ClientError> {
        let response = self.send(method.clone(), path, build).await?;
        self.body(response, &method, path).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        build: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, ClientError> {
        let url = format!("{}{path}", self.settings.url);
        let request = build(self.http.request(method.clone(), url).bearer_auth(&self.settings.token));
        let response = request.send().await.map_err(|error| self.unanswered(&error, &method, path))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let bytes = self.body(response, &method, path).await.unwrap_or_default();
        Err(refusal(status, &bytes, &format!("{method} {path}")))
    }

    async fn body(&self, mut response: Response, method: &Method, path: &str) -> Result<Bytes, ClientError> {
        let mut bytes = Vec::new();
        while let Some(part) = response.chunk().await.map_err(|error| lost(&error, method, path))? {
            if bytes.len() + part.len() > ANSWER_BYTES_MAX {
                let request = format!("{method} {path}");
                return Err(ClientError::Answer {
                    request,
                    cause: format!("it has more than {ANSWER_BYTES_MAX} bytes"),
                });
            }
            bytes.extend_from_slice(&part);
        }
        Ok(bytes.into())
    }

    /// Why there is no answer: nobody is there, somebody else is, or the connection broke when the request was under way.
    fn unanswered(&self, error: &reqwest::Error, method: &Method, path: &str) -> ClientError {
        let (url, cause) = (self.settings.url.clone(), root_cause(error));
        if sources(error).any(is_tls) {
            let settings = self.settings.path.display().to_string();
            return ClientError::Impostor { url, cause, settings };
        }
        if error.is_timeout() {
            return ClientError::Unreachable { url, cause: "it does not answer".into() };
        }
        if error.is_connect() { ClientError::Unreachable { url, cause } } else { lost(error, method, path) }
    }
}

fn lost(error: &reqwest::Error, method: &Method, path: &str) -> ClientError {
    let next =
        if method.is_safe() { "try again" } else { "it may have been done all the same: look before you try again" };
    ClientError::Lost { request: format!("{method} {path}"), cause: root_cause(error), next }
}

fn understand<T: DeserializeOwned>(method: &Method, path: &str, answer: &[u8]) -> Result<T, ClientError> {
    let cause = |error: serde_json::Error| ClientError::Answer {
        request: format!("{method} {path}"),
        cause: error.to_string(),
    };
    serde_json::from_slice(answer).map_err(cause)
}

fn refusal(status: StatusCode, bytes: &[u8], request: &str) -> ClientError {
    // HEAD has no body, and what stands between may have words of its own.
    let plain = || ErrorBody { code: "http".into(), message: format!("{request}: HTTP status {status}"), next: None };
    let body = serde_json::from_slice(bytes).unwrap_or_else(|_| plain());
    ClientError::Refused { status: status.as_u16(), body }
}

/// Whether a cause is the TLS library's. On its way it is wrapped in one `io::Error` or two, which do not name it as their
/// source.
fn is_tls(cause: &(dyn std::error::Error + 'static)) -> bool {
    let wrapped = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    cause.is::<rustls::Error>() || wrapped.is_some_and(|wrapped| is_tls(wrapped))
}

fn sources<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

/// The innermost cause: the layers around it say "error sending request" in three ways.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    sources(error).last().map(ToString::to_string).unwrap_or_default()
}
