//! A service over real HTTPS on loopback, which keeps what it is sent and answers as it is told to.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use orangery::ca::Ca;
use orangery::https::Listener;
use orangery::tls::ServerCertificate;
use serde_json::Value;
use tokio::sync::watch;

use crate::fixture::eventually;

/// What the service was sent.
#[derive(Debug, Clone)]
pub struct Post {
    pub path: String,
    pub headers: HeaderMap,
    pub raw: String,
    pub at: Instant,
}

impl Post {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.raw).unwrap()
    }

    pub fn header(&self, name: &str) -> String {
        self.headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    }
}

/// An answer other than 200.
#[derive(Debug, Clone)]
pub enum Scripted {
    Says(u16, Vec<(&'static str, String)>, String),
    /// It keeps what it was sent and never answers.
    Hangs,
}

pub struct Hook {
    pub address: SocketAddr,
    /// What it will answer first; after that 200.
    pub answers: Arc<Mutex<VecDeque<Scripted>>>,
    posts: Arc<Mutex<Vec<Post>>>,
    _stop: watch::Sender<bool>,
}

impl Hook {
    pub async fn start(ca: &Ca) -> Self {
        let server = ca.issue_server(&["127.0.0.1".into()], orangery::output::now()).unwrap();
        let certificate = ServerCertificate::from_pem(&server.certificate.pem, &server.key_pem).unwrap();
        let bound = Listener::bind("127.0.0.1:0".parse().unwrap(), ca.certificate(), certificate, 100);
        let listener = bound.await.unwrap();
        let address = listener.address();
        let (posts, answers) = (Arc::<Mutex<Vec<Post>>>::default(), Arc::<Mutex<VecDeque<Scripted>>>::default());
        let (to, script) = (posts.clone(), answers.clone());
        let router = Router::new().fallback(move |uri: Uri, headers: HeaderMap, body: Bytes| {
            let raw = String::from_utf8(body.to_vec()).unwrap();
            to.lock().unwrap().push(Post { path: uri.path().to_owned(), headers, raw, at: Instant::now() });
            let scripted = script.lock().unwrap().pop_front();
            async move { answer(scripted).await }
        });
        let (stop, stopping) = watch::channel(false);
        tokio::spawn(listener.serve(router, stopping));
        Self { address, answers, posts, _stop: stop }
    }

    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub fn will(&self, answers: impl IntoIterator<Item = Scripted>) {
        self.answers.lock().unwrap().extend(answers);
    }

    pub fn posts(&self) -> Vec<Post> {
        self.posts.lock().unwrap().clone()
    }

    /// Waits until it was sent so much.
    pub async fn gets(&self, count: usize) -> Vec<Post> {
        eventually("the service is told", async || Some(self.posts()).filter(|posts| posts.len() >= count)).await
    }
}

async fn answer(scripted: Option<Scripted>) -> Response {
    match scripted {
        None => StatusCode::OK.into_response(),
        Some(Scripted::Hangs) => {
            tokio::time::sleep(Duration::from_hours(1)).await;
            StatusCode::OK.into_response()
        }
        Some(Scripted::Says(status, headers, body)) => {
            let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
            for (name, value) in headers {
                response.headers_mut().insert(name, value.parse().unwrap());
            }
            response
        }
    }
}

/// The CA of the services, as a file.
pub fn authority(directory: &Path) -> (Ca, PathBuf) {
    let ca = Ca::create(orangery::output::now()).unwrap();
    let path = directory.join("services.pem");
    std::fs::write(&path, ca.certificate_pem()).unwrap();
    (ca, path)
}
