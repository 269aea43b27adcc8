//! A broker that does what its test says, packet by packet, over real TLS with client certificates: MQTT 3.1.1 spelled out by
//! hand, because a real broker cannot be made to misbehave on demand.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// No wait of a test is longer; all are far shorter when things work.
pub const DEADLINE: Duration = Duration::from_secs(15);

/// The CA of a test, as both sides need it.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test CA");
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        Arc::new(roots)
    }

    fn issue(&self, name: &str) -> (Vec<rustls::pki_types::CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (vec![certificate.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }

    /// What a node named `name` connects with.
    pub fn client(&self, name: &str) -> Arc<ClientConfig> {
        let (chain, key) = self.issue(name);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(self.roots())
            .with_client_auth_cert(chain, key)
            .unwrap();
        Arc::new(config)
    }

    fn server(&self, clients: &Authority) -> TlsAcceptor {
        let (chain, key) = self.issue("127.0.0.1");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(clients.roots(), provider.clone()).build().unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Listens; what happens then is up to the test.
pub struct Broker {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Broker {
    /// On a free port, with a receive buffer as small as the system has, so that a broker that does not read is soon felt.
    pub fn start(authority: &Authority) -> Self {
        Self::at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), authority, authority)
    }

    /// At an address of its own, letting in the clients of another CA.
    pub fn at(address: SocketAddr, authority: &Authority, clients: &Authority) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.bind(address).unwrap();
        Self { listener: socket.listen(64).unwrap(), acceptor: authority.server(clients) }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// A TCP connection, before anything was said on it.
    pub async fn accept_tcp(&self) -> TcpStream {
        timeout(DEADLINE, self.listener.accept()).await.expect("nobody connected").unwrap().0
    }

    /// The next connection whose TLS handshake succeeds, with its CONNECT.
    pub async fn accept(&self) -> Peer {
        let tcp = self.accept_tcp().await;
        let stream = timeout(DEADLINE, self.acceptor.accept(tcp)).await.expect("no handshake").unwrap();
        let mut peer = Peer { stream, connect: Connect::default(), deaf_to_pings: false };
        let (header, body) = peer.packet().await.expect("closed before CONNECT");
        assert_eq!(header, 0x10, "the first packet is CONNECT");
        peer.connect = Connect::read(&body);
        peer
    }

    /// Goes through a handshake that is expected to fail.
    pub async fn refuse_tls(&self) {
        let tcp = self.accept_tcp().await;
        assert!(timeout(DEADLINE, self.acceptor.accept(tcp)).await.expect("no handshake").is_err());
    }
}

/// What a CONNECT said.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Connect {
    pub client_id: String,
    pub clean_session: bool,
    pub keepalive_secs: u16,
    pub will: Option<Said>,
}

impl Connect {
    /// MQTT 3.1.1 section 3.1.
    fn read(body: &[u8]) -> Self {
        let (protocol, rest) = text(body);
        assert_eq!((protocol.as_str(), rest[0]), ("MQTT", 4));
        let flags = rest[1];
        let (client_id, rest) = (text(&rest[4..]), u16::from_be_bytes([rest[2], rest[3]]));
        let (keepalive_secs, (client_id, rest)) = (rest, client_id);
        let will = (flags & 4 != 0).then(|| {
            let (topic, rest) = text(rest);
            let payload = text(rest).0.into_bytes();
            Said::Publish { topic, qos: flags >> 3 & 3, retain: flags & 0x20 != 0, pkid: 0, dup: false, payload }
        });
        Self { client_id, clean_session: flags & 2 != 0, keepalive_secs, will }
    }
}

/// What a client says after CONNECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    Publish { topic: String, qos: u8, retain: bool, pkid: u16, dup: bool, payload: Vec<u8> },
    Subscribe { pkid: u16, filters: Vec<String> },
    PubAck,
    Ping,
    Disconnect,
    Closed,
}

/// One client's connection.
pub struct Peer {
    stream: TlsStream<TcpStream>,
    pub connect: Connect,
    /// Whether pings are left unanswered and returned by [`Peer::hear`].
    pub deaf_to_pings: bool,
}

impl Peer {
    /// The next thing that the client says. Pings are answered on the way.
    pub async fn hear(&mut self) -> Said {
        timeout(DEADLINE, self.listen()).await.expect("the client says nothing but pings")
    }

    async fn listen(&mut self) -> Said {
        loop {
            let Some((header, body)) = self.packet().await else { return Said::Closed };
            match header >> 4 {
                3 => return publish(header, &body),
                4 => return Said::PubAck,
                8 => {
                    let mut filters = Vec::new();
                    let mut rest = &body[2..];
                    while !rest.is_empty() {
                        let (filter, after) = text(rest);
                        filters.push(filter);
                        rest = &after[1..];
                    }
                    return Said::Subscribe { pkid: u16::from_be_bytes([body[0], body[1]]), filters };
                }
                12 if self.deaf_to_pings => return Said::Ping,
                12 => self.raw(&[0xd0, 0]).await,
                14 => return Said::Disconnect,
                other => panic!("packet type {other}"),
            }
        }
    }

    /// Like [`Peer::hear`] for a PUBLISH: its topic's last level, packet id and payload.
    pub async fn hear_publish(&mut self) -> (String, u16, Vec<u8>) {
        loop {
            match self.hear().await {
                Said::Publish { topic, pkid, payload, .. } => {
                    return (topic.rsplit('/').next().unwrap_or_default().to_owned(), pkid, payload);
                }
                Said::PubAck => {}
                other => panic!("expected a PUBLISH, heard {other:?}"),
            }
        }
    }

    pub async fn connack(&mut self, session_present: bool, code: u8) {
        self.raw(&[0x20, 2, u8::from(session_present), code]).await;
    }

    pub async fn suback(&mut self, pkid: u16, codes: &[u8]) {
        let [high, low] = pkid.to_be_bytes();
        let mut body = vec![high, low];
        body.extend(codes);
        self.raw(&framed(0x90, &body)).await;
    }

    pub async fn puback(&mut self, pkid: u16) {
        let [high, low] = pkid.to_be_bytes();
        self.raw(&[0x40, 2, high, low]).await;
    }

    /// A QoS 0 message on a topic of the client's own.
    pub async fn publish(&mut self, channel: &str, payload: &[u8]) {
        self.raw(&self.message(channel, payload)).await;
    }

    /// The bytes of such a message.
    pub fn message(&self, channel: &str, payload: &[u8]) -> Vec<u8> {
        let topic = format!("orangery/v1/node/{}/{channel}", self.connect.client_id);
        let length = u16::try_from(topic.len()).unwrap().to_be_bytes();
        framed(0x31, &[&length, topic.as_bytes(), payload].concat())
    }

    /// Any bytes at all. That the client may be gone already is its own business.
    pub async fn raw(&mut self, bytes: &[u8]) {
        let _ = timeout(DEADLINE, self.stream.write_all(bytes)).await;
        let _ = timeout(DEADLINE, self.stream.flush()).await;
    }

    /// Accepts the client and its subscription, acknowledging what it says on the way.
    pub async fn welcome(&mut self, session_present: bool) {
        self.connack(session_present, 0).await;
        loop {
            match self.hear().await {
                Said::Subscribe { pkid, .. } => return self.suback(pkid, &[1, 1]).await,
                Said::Publish { pkid, .. } => self.puback(pkid).await,
                other => panic!("expected SUBSCRIBE, heard {other:?}"),
            }
        }
    }

    async fn packet(&mut self) -> Option<(u8, Vec<u8>)> {
        let header = self.byte().await?;
        let (mut length, mut shift) = (0_usize, 0);
        loop {
            let byte = self.byte().await?;
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        timeout(DEADLINE, self.stream.read_exact(&mut body)).await.expect("half a packet").ok()?;
        Some((header, body))
    }

    async fn byte(&mut self) -> Option<u8> {
        timeout(DEADLINE, self.stream.read_u8()).await.expect("the client says nothing").ok()
    }
}

fn publish(header: u8, body: &[u8]) -> Said {
    let qos = header >> 1 & 3;
    let (topic, rest) = text(body);
    let (pkid, payload) = match qos {
        0 => (0, rest),
        _ => (u16::from_be_bytes([rest[0], rest[1]]), &rest[2..]),
    };
    Said::Publish { topic, qos, retain: header & 1 != 0, pkid, dup: header & 8 != 0, payload: payload.to_vec() }
}

fn text(bytes: &[u8]) -> (String, &[u8]) {
    let end = 2 + usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    (String::from_utf8(bytes[2..end].to_vec()).unwrap(), &bytes[end..])
}

fn framed(header: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![header];
    let mut length = body.len();
    loop {
        let more = length >> 7 != 0;
        packet.push(u8::try_from(length & 0x7f).unwrap() | if more { 0x80 } else { 0 });
        length >>= 7;
        if !more {
            break;
        }
    }
    packet.extend(body);
    packet
}
