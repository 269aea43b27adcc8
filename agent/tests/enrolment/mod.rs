//! A coordinator as far as joining and renewing see it: a real HTTPS server with a CA, which answers as it is told.

pub mod board;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use orangery_wire::Digest;
use orangery_wire::rest::{ErrorBody, JoinRequest, JoinResponse, RenewRequest, RenewResponse};
use orangery_wire::token::Token;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

pub const ROOT: &str = r#"{"signed":{"_type":"root","version":1},"signatures":[]}"#;
pub const SECRET: &str = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I";

/// From when until when a certificate is good, in days from now.
pub type Days = (i64, i64);

/// A CA. Two of them have the same name and differ in their keys alone, as a re-made coordinator's would.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Orangery CA");
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    pub fn der(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    pub fn fingerprint(&self) -> Digest {
        sha256(&self.der())
    }

    /// A server's certificate with its key, without the CA's.
    pub fn server(&self, name: &str, days: Days) -> (CertificateDer<'static>, KeyPair) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        set(&mut params, days);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().der().clone(), key)
    }

    /// A node's certificate for the key in its request, in PEM.
    pub fn node(&self, csr_pem: &str, days: Days) -> String {
        let mut request = CertificateSigningRequestParams::from_pem(csr_pem).unwrap();
        set(&mut request.params, days);
        request.params.distinguished_name.push(DnType::CommonName, "attic");
        request.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        request.signed_by(&self.issuer).unwrap().pem()
    }
}

fn set(params: &mut CertificateParams, (from, until): Days) {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let day = |days: i64| {
        let seconds = since_1970.as_secs().checked_add_signed(days * 86_400).unwrap();
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds)
    };
    params.not_before = day(from);
    params.not_after = day(until);
}

pub fn sha256(bytes: &[u8]) -> Digest {
    Digest(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref().try_into().unwrap())
}

/// How the coordinator answers.
#[derive(Clone)]
pub enum Reply {
    /// With a certificate for so many days.
    Certificate(Days),
    /// With one of another CA.
    Foreign,
    /// With one for another key.
    OtherKey,
    /// With another owner's root.
    OtherRoot,
    /// With another CA than the one that its server has.
    OtherCa,
    /// With this error, whose message repeats the secret.
    Error(u16, &'static str),
    /// With a status and a page, as something in between would.
    Page(u16),
    /// With so many bytes.
    Bytes(usize),
    /// Not at all: the connection is cut once the request was read.
    Cut,
}

#[derive(Default)]
struct Seen {
    joins: Vec<JoinRequest>,
    renewals: Vec<RenewRequest>,
    /// The certificate that the client showed, for each request.
    shown: Vec<Option<CertificateDer<'static>>>,
}

/// The server. It ends when it is dropped.
pub struct Coordinator {
    pub url: String,
    pub authority: Arc<Authority>,
    reply: Arc<Mutex<Reply>>,
    seen: Arc<Mutex<Seen>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Coordinator {
    pub async fn start() -> Self {
        let authority = Arc::new(Authority::new());
        let (server, key) = authority.server("127.0.0.1", (-1, 90));
        let chain = vec![server, authority.der()];
        Self::with(authority, chain, &key).await
    }

    /// One whose server shows any chain.
    pub async fn with(authority: Arc<Authority>, chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Self {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let reply = Arc::new(Mutex::new(Reply::Certificate((-1, 90))));
        let seen = Arc::new(Mutex::new(Seen::default()));
        let acceptor = TlsAcceptor::from(server_config(&authority, chain, key));
        let desk = Desk { authority: Arc::clone(&authority), reply: Arc::clone(&reply), seen: Arc::clone(&seen) };
        let serving = tokio::spawn(serve(listener, acceptor, desk));
        Self { url, authority, reply, seen, serving }
    }

    pub fn token(&self) -> Token {
        let (ca, root) = (self.authority.fingerprint(), sha256(ROOT.as_bytes()));
        Token { url: self.url.clone(), ca, root, secret: SECRET.to_owned() }
    }

    pub fn answer(&self, reply: Reply) {
        *self.reply.lock().unwrap() = reply;
    }

    pub fn joins(&self) -> Vec<JoinRequest> {
        self.seen.lock().unwrap().joins.clone()
    }

    pub fn renewals(&self) -> usize {
        self.seen.lock().unwrap().renewals.len()
    }

    /// What the last client showed.
    pub fn shown(&self) -> Option<CertificateDer<'static>> {
        self.seen.lock().unwrap().shown.last().cloned().flatten()
    }
}

fn server_config(authority: &Authority, chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(authority.der()).unwrap();
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(clients.allow_unauthenticated().build().unwrap())
        .with_single_cert(chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into())
        .unwrap();
    Arc::new(config)
}

#[derive(Clone)]
struct Desk {
    authority: Arc<Authority>,
    reply: Arc<Mutex<Reply>>,
    seen: Arc<Mutex<Seen>>,
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, desk: Desk) {
    while let Ok((tcp, _)) = listener.accept().await {
        let (acceptor, desk) = (acceptor.clone(), desk.clone());
        tokio::spawn(async move {
            let Ok(tls) = acceptor.accept(tcp).await else { return };
            let shown = tls.get_ref().1.peer_certificates().and_then(|chain| chain.first().cloned());
            let service = service_fn(move |request| answer(desk.clone(), shown.clone(), request));
            // Ends with an error where it is told to.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tls), service).await;
        });
    }
}

async fn answer(
    desk: Desk,
    shown: Option<CertificateDer<'static>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let mut seen = desk.seen.lock().unwrap();
    seen.shown.push(shown.clone());
    let reply = desk.reply.lock().unwrap().clone();
    let (csr_pem, joining) = if path == "/v1/join" {
        seen.joins.push(serde_json::from_slice(&body).unwrap());
        (seen.joins.last().unwrap().csr_pem.clone(), true)
    } else {
        assert_eq!(path, "/v1/renew");
        assert!(shown.is_some(), "renewing takes a certificate");
        seen.renewals.push(serde_json::from_slice(&body).unwrap());
        (seen.renewals.last().unwrap().csr_pem.clone(), false)
    };
    drop(seen);
    Ok(match reply {
        Reply::Error(status, code) => error(status, code),
        Reply::Page(status) => text(status, "<html>"),
        Reply::Bytes(count) => text(200, &" ".repeat(count)),
        Reply::Cut => return Err(std::io::Error::other("cut")),
        other => certified(&desk.authority, &other, &csr_pem, joining),
    })
}

fn certified(authority: &Authority, reply: &Reply, csr_pem: &str, joining: bool) -> Response<Full<Bytes>> {
    let certificate_pem = match reply {
        Reply::Certificate(days) => authority.node(csr_pem, *days),
        Reply::Foreign => Authority::new().node(csr_pem, (-1, 90)),
        Reply::OtherKey => {
            let other = CertificateParams::default().serialize_request(&KeyPair::generate().unwrap()).unwrap();
            authority.node(&other.pem().unwrap(), (-1, 90))
        }
        _ => authority.node(csr_pem, (-1, 90)),
    };
    if !joining {
        return json(&RenewResponse { certificate_pem });
    }
    let other = Authority::new();
    let ca = if matches!(reply, Reply::OtherCa) { &other } else { authority };
    let root = if matches!(reply, Reply::OtherRoot) { ROOT.replace('1', "2") } else { ROOT.to_owned() };
    let (node, mqtt) = ("attic".parse().unwrap(), "127.0.0.1:8883".to_owned());
    json(&JoinResponse { node, certificate_pem, ca_pem: ca.issuer.pem(), root, mqtt })
}

fn error(status: u16, code: &str) -> Response<Full<Bytes>> {
    let body = ErrorBody { code: code.to_owned(), message: format!("no: {SECRET}"), next: Some("do that".to_owned()) };
    let mut response = json(&body);
    *response.status_mut() = status.try_into().unwrap();
    response
}

fn json(body: &impl serde::Serialize) -> Response<Full<Bytes>> {
    Response::new(Full::from(serde_json::to_vec(body).unwrap()))
}

fn text(status: u16, text: &str) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::from(text.as_bytes().to_vec())).unwrap()
}
