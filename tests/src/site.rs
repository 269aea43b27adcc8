//! A static web server: HTTPS with a certificate of its own, GET, and the files of one directory. It knows nothing of
//! releases, and remembers who asked for what.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

/// A web server with the files of one directory. It serves until the test ends.
pub struct Site {
    /// Its address, below which the directory lies.
    pub url: String,
    /// Its own certificate, in PEM: what `--ca-file` names.
    pub ca_file: PathBuf,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// What was asked for.
    pub path: String,
    /// Whether whoever asked showed a certificate. Nobody should: this server is a stranger.
    pub showed_certificate: bool,
}

impl Site {
    /// Serves `directory`. Clients may show a certificate of the authority in `node_ca`, which is noticed. The server's own
    /// certificate is written to `ca_file`.
    pub fn start(directory: &Path, node_ca: &Path, ca_file: PathBuf) -> Self {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("a certificate");
        std::fs::write(&ca_file, certificate.pem()).expect("the certificate can be written");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = Arc::new(config(certificate.der().clone(), key, node_ca));
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let url = format!("https://{}/fleet", listener.local_addr().expect("an address"));
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let (directory, to) = (directory.to_owned(), asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (directory, config, to) = (directory.clone(), config.clone(), to.clone());
                std::thread::spawn(move || {
                    // Whoever goes away early misses the rest.
                    let _ = answer(stream, config, &directory, &to);
                });
            }
        });
        Self { url, ca_file, asked }
    }

    /// All requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn config(certificate: CertificateDer<'static>, key: PrivateKeyDer<'static>, node_ca: &Path) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(node_ca).expect("the fleet's CA")).expect("a CA");
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_client_cert_verifier(clients.allow_unauthenticated().build().expect("a verifier"))
        .with_single_cert(vec![certificate], key)
        .expect("a certificate with its key")
}

/// One request on each connection.
fn answer(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    directory: &Path,
    asked: &Mutex<Vec<Asked>>,
) -> std::io::Result<()> {
    let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < 16 * 1024 {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend_from_slice(&byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let showed_certificate = stream.conn.peer_certificates().is_some();
    asked.lock().unwrap_or_else(PoisonError::into_inner).push(Asked { path: path.clone(), showed_certificate });
    let below = path.strip_prefix("/fleet/").filter(|path| !path.contains(".."));
    let found = below.and_then(|below| std::fs::read(directory.join(below)).ok());
    let (status, body) = found.map_or(("404 Not Found", Vec::new()), |body| ("200 OK", body));
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    stream.write_all(&body)?;
    stream.conn.send_close_notify();
    stream.flush()
}
