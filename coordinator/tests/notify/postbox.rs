//! A mail server on loopback: as much of SMTP (RFC 5321) as a sender uses, with STARTTLS, and a login by AUTH PLAIN.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use orangery::ca::Ca;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// What it took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Letter {
    pub from: String,
    pub to: Vec<String>,
    /// As it stands in the box: dots that were doubled on the way are single again.
    pub data: String,
    pub login: Option<(String, String)>,
}

pub struct Postbox {
    pub port: u16,
    letters: Arc<Mutex<Vec<Letter>>>,
}

impl Postbox {
    pub async fn start(ca: &Ca) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let letters = Arc::<Mutex<Vec<Letter>>>::default();
        let (to, acceptor) = (letters.clone(), acceptor(ca));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, acceptor.clone(), to.clone()));
            }
        });
        Self { port, letters }
    }

    pub fn letters(&self) -> Vec<Letter> {
        self.letters.lock().unwrap().clone()
    }
}

fn acceptor(ca: &Ca) -> TlsAcceptor {
    let server = ca.issue_server(&["127.0.0.1".into()], orangery::output::now()).unwrap();
    let certificate = CertificateDer::from_pem_slice(server.certificate.pem.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(server.key_pem.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, letters: Arc<Mutex<Vec<Letter>>>) {
    let mut plain = BufReader::new(stream);
    plain.write_all(b"220 postbox\r\n").await.unwrap();
    let Some(()) = converse(&mut plain, false, &letters).await else { return };
    let Ok(secured) = acceptor.accept(plain.into_inner()).await else { return };
    converse(&mut BufReader::new(secured), true, &letters).await;
}

/// Talks until the sender goes, or until TLS should begin.
async fn converse<S>(stream: &mut BufReader<S>, secured: bool, letters: &Mutex<Vec<Letter>>) -> Option<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut letter = Letter::default();
    loop {
        let line = read_line(stream).await?;
        let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let answer = match verb.to_ascii_uppercase().as_str() {
            "EHLO" if secured => "250-postbox\r\n250 AUTH PLAIN",
            "EHLO" => "250-postbox\r\n250 STARTTLS",
            "STARTTLS" => {
                stream.write_all(b"220 go\r\n").await.ok()?;
                return Some(());
            }
            "AUTH" => match login(rest) {
                Some((user, password)) if password == "letmein-please" => {
                    letter.login = Some((user, password));
                    "235 welcome"
                }
                _ => "535 5.7.8 wrong",
            },
            "MAIL" => {
                letter.from = address(rest);
                "250 ok"
            }
            "RCPT" => {
                letter.to.push(address(rest));
                "250 ok"
            }
            "DATA" => {
                stream.write_all(b"354 go\r\n").await.ok()?;
                letter.data = read_data(stream).await?;
                letters.lock().unwrap().push(letter.clone());
                "250 queued as 4711"
            }
            "QUIT" => {
                stream.write_all(b"221 bye\r\n").await.ok()?;
                return None;
            }
            _ => "250 ok",
        };
        stream.write_all(format!("{answer}\r\n").as_bytes()).await.ok()?;
        stream.flush().await.ok()?;
    }
}

async fn read_line<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> Option<String> {
    let mut line = String::new();
    let read = stream.read_line(&mut line).await.ok()?;
    (read > 0).then(|| line.trim_end_matches("\r\n").to_owned())
}

async fn read_data<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> Option<String> {
    let mut lines = Vec::new();
    loop {
        let line = read_line(stream).await?;
        if line == "." {
            return Some(lines.join("\n"));
        }
        lines.push(line.strip_prefix('.').map(str::to_owned).unwrap_or(line));
    }
}

fn address(rest: &str) -> String {
    rest.split(['<', '>']).nth(1).unwrap_or_default().to_owned()
}

/// RFC 4616: nothing, the user and the password, each after a zero.
fn login(rest: &str) -> Option<(String, String)> {
    let (_, encoded) = rest.split_once(' ')?;
    let text = String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok()?;
    let mut parts = text.split('\0').skip(1);
    Some((parts.next()?.to_owned(), parts.next()?.to_owned()))
}
