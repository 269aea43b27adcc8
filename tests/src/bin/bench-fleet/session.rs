//! One MQTT session: packets over mutual TLS.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::BytesMut;
use rumqttc::mqttbytes::Error as Incomplete;
use rumqttc::tokio_rustls::TlsConnector;
use rumqttc::tokio_rustls::client::TlsStream;
use rumqttc::{Connect, ConnectReturnCode, LastWill, Packet, Publish, QoS};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::enrol::Seat;

/// Longest wait for a connection, TLS and MQTT handshakes included: the agent's.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// As the agent asks for.
pub const KEEPALIVE: Duration = Duration::from_secs(30);
const PACKET_BYTES_MAX: usize = 256 * 1024;

/// A session that the broker has let in.
pub struct Session {
    tls: TlsStream<TcpStream>,
    incoming: BytesMut,
    outgoing: BytesMut,
    packet_id: u16,
}

impl Session {
    /// Connects as the agent does: a clean session, with a will.
    pub async fn connect(seat: &Seat, broker: SocketAddr, will: LastWill) -> anyhow::Result<Self> {
        tokio::time::timeout(CONNECT_MAX, Self::try_connect(seat, broker, will)).await.context("it took too long")?
    }

    async fn try_connect(seat: &Seat, broker: SocketAddr, will: LastWill) -> anyhow::Result<Self> {
        let tcp = TcpStream::connect(broker).await.context("connect")?;
        tcp.set_nodelay(true)?;
        let connector = TlsConnector::from(seat.tls.clone());
        let tls = connector.connect(ServerName::from(broker.ip()), tcp).await.context("shake hands")?;
        let (incoming, outgoing) = (BytesMut::with_capacity(512), BytesMut::with_capacity(512));
        let mut session = Self { tls, incoming, outgoing, packet_id: 0 };
        let mut connect = Connect::new(seat.node.as_str());
        connect.keep_alive = u16::try_from(KEEPALIVE.as_secs())?;
        connect.last_will = Some(will);
        session.send(&Packet::Connect(connect)).await?;
        match session.packet().await? {
            Packet::ConnAck(answer) if answer.code == ConnectReturnCode::Success => Ok(session),
            other => bail!("the broker answers {other:?}"),
        }
    }

    /// The next packet. Nothing is lost when it is not awaited to its end.
    pub async fn packet(&mut self) -> anyhow::Result<Packet> {
        loop {
            match Packet::read(&mut self.incoming, PACKET_BYTES_MAX) {
                Ok(packet) => return Ok(packet),
                Err(Incomplete::InsufficientBytes(_)) => {}
                Err(error) => bail!("the broker sends nonsense: {error}"),
            }
            self.incoming.reserve(1_024);
            if self.tls.read_buf(&mut self.incoming).await.context("read")? == 0 {
                bail!("the broker closed the connection");
            }
        }
    }

    /// Publishes, without waiting for an acknowledgement.
    pub async fn publish(&mut self, topic: &str, qos: QoS, retain: bool, payload: Vec<u8>) -> anyhow::Result<()> {
        let mut publish = Publish::new(topic, qos, payload);
        publish.retain = retain;
        if qos != QoS::AtMostOnce {
            publish.pkid = self.next_id();
        }
        self.send(&Packet::Publish(publish)).await
    }

    /// Sends one packet at once, as a node that has nothing else to say.
    pub async fn send(&mut self, packet: &Packet) -> anyhow::Result<()> {
        packet.write(&mut self.outgoing, PACKET_BYTES_MAX)?;
        self.tls.write_all_buf(&mut self.outgoing).await.context("write")?;
        self.tls.flush().await.context("write")
    }

    /// Never 0.
    pub fn next_id(&mut self) -> u16 {
        self.packet_id = self.packet_id % u16::MAX + 1;
        self.packet_id
    }
}
