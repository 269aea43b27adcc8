//! The link against a scripted broker that does what brokers do on their worst days. A new version of the MQTT client is
//! judged by it.
#![allow(clippy::unwrap_used)] // A test stops at the first surprise.

mod mqtt;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::BytesMut;
use mqtt::world::Coordinator;
use mqtt::{ca, now, until, within};
use orangery::ca::Ca;
use orangery::link::{FromNode, LinkEvent};
use orangery::mqtt::newest::INFLIGHT_MAX;
use orangery::tls::{ServerCertificate, client_verifier, server_config};
use orangery_wire::NodeId;
use orangery_wire::topics::{Channel, filter_all};
use rumqttc::mqttbytes::v4::{ConnAck, ConnectReturnCode, PubAck, Publish, SubAck, SubscribeReasonCode};
use rumqttc::{Packet, QoS};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

const PACKET_BYTES_MAX: usize = 1 << 20;

/// A broker that does what the test says.
struct Scripted {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

/// One connection to it.
struct Session {
    stream: TlsStream<TcpStream>,
    buffer: BytesMut,
    answers_pings: bool,
}

impl Scripted {
    async fn start(ca: &Ca) -> Self {
        let server = ca.issue_server(&[], now()).unwrap();
        let certificate = ServerCertificate::from_pem(&server.certificate.pem, &server.key_pem).unwrap();
        let config = server_config(client_verifier(ca.certificate(), false).unwrap(), certificate).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { listener, acceptor: TlsAcceptor::from(Arc::new(config)) }
    }

    fn link(&self, ca: &Ca) -> Coordinator {
        Coordinator::new(ca, &self.listener.local_addr().unwrap().to_string(), 100)
    }

    /// The next connection, after CONNACK: the broker remembers nothing.
    async fn connected(&self) -> Session {
        within("a connection", async {
            let (tcp, _) = self.listener.accept().await.unwrap();
            let stream = self.acceptor.accept(tcp).await.unwrap();
            let mut session = Session { stream, buffer: BytesMut::new(), answers_pings: true };
            let Some(Packet::Connect(connect)) = session.next().await else { panic!("no CONNECT") };
            assert_eq!((connect.client_id.as_str(), connect.clean_session), ("coordinator", true));
            session.send(Packet::ConnAck(ConnAck::new(ConnectReturnCode::Success, false))).await;
            session
        })
        .await
    }

    /// The next connection, after SUBACK.
    async fn subscribed(&self) -> Session {
        let mut session = self.connected().await;
        session.answer_subscribe(SubscribeReasonCode::Success(QoS::AtLeastOnce)).await;
        session
    }
}

impl Session {
    /// The next packet but pings; `None` at the end.
    async fn next(&mut self) -> Option<Packet> {
        loop {
            match Packet::read(&mut self.buffer, PACKET_BYTES_MAX) {
                Ok(Packet::PingReq) if self.answers_pings => self.send(Packet::PingResp).await,
                Ok(Packet::PingReq) => {}
                Ok(packet) => return Some(packet),
                Err(rumqttc::mqttbytes::Error::InsufficientBytes(_)) => {
                    let read = within("a packet", self.stream.read_buf(&mut self.buffer)).await;
                    if read.unwrap_or(0) == 0 {
                        return None;
                    }
                }
                Err(error) => panic!("the link sent what is not MQTT: {error}"),
            }
        }
    }

    async fn publish(&mut self) -> Publish {
        match self.next().await {
            Some(Packet::Publish(publish)) => publish,
            other => panic!("{other:?} instead of PUBLISH"),
        }
    }

    async fn send(&mut self, packet: Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, PACKET_BYTES_MAX).unwrap();
        self.stream.write_all(&bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    async fn ack(&mut self, publish: &Publish) {
        self.send(Packet::PubAck(PubAck::new(publish.pkid))).await;
    }

    async fn answer_subscribe(&mut self, code: SubscribeReasonCode) {
        let Some(Packet::Subscribe(subscribe)) = self.next().await else { panic!("no SUBSCRIBE") };
        let filters: BTreeSet<String> = subscribe.filters.iter().map(|filter| filter.path.clone()).collect();
        let expected = Channel::ALL.into_iter().filter(|channel| channel.is_from_node()).map(filter_all);
        assert_eq!(filters, expected.collect());
        self.send(Packet::SubAck(SubAck::new(subscribe.pkid, vec![code; subscribe.filters.len()]))).await;
    }
}

fn node(i: usize) -> NodeId {
    format!("n{i}").parse().unwrap()
}

fn text(publish: &Publish) -> String {
    String::from_utf8(publish.payload.to_vec()).unwrap()
}

#[tokio::test]
async fn what_a_lost_session_swallowed_is_sent_again_and_only_the_newest_of_it() {
    let ca = ca();
    let broker = Scripted::start(&ca).await;
    let mut coordinator = broker.link(&ca);
    let mut first = broker.subscribed().await;
    coordinator.up().await;
    for i in 0..20 {
        coordinator.link.publish(&node(i), Channel::Desired, format!("old {i}")).unwrap();
    }
    let acked = first.publish().await;
    first.ack(&acked).await;
    until("one is stored", || coordinator.link.pending() == 19).await;
    coordinator.link.publish(&node(3), Channel::Desired, "new 3").unwrap();
    drop(first);
    assert!(matches!(coordinator.event().await, LinkEvent::Down { .. }));

    let mut second = broker.subscribed().await;
    coordinator.up().await;
    let mut seen = BTreeSet::new();
    for _ in 0..20 {
        let publish = second.publish().await;
        assert!(publish.retain && publish.qos == QoS::AtLeastOnce && !publish.dup);
        seen.insert(text(&publish));
        second.ack(&publish).await;
    }
    let expected = (0..20).map(|i| if i == 3 { "new 3".to_owned() } else { format!("old {i}") });
    assert_eq!(seen, expected.collect(), "all of them, the one that was acknowledged before included");
    until("all are stored", || coordinator.link.pending() == 0).await;
}

#[tokio::test]
async fn acknowledgements_in_any_order_neither_stall_nor_confuse_it() {
    let ca = ca();
    let broker = Scripted::start(&ca).await;
    let mut coordinator = broker.link(&ca);
    let mut session = broker.subscribed().await;
    coordinator.up().await;
    // Several times round the client's packet ids.
    let total = 1_024;
    for i in 0..total {
        coordinator.link.publish(&node(i), Channel::Acked, format!("{i}")).unwrap();
    }
    let (mut seen, mut held) = (BTreeSet::new(), Vec::new());
    while seen.len() < total {
        let publish = session.publish().await;
        seen.insert(text(&publish));
        held.push(publish);
        if held.len() == INFLIGHT_MAX {
            for publish in held.drain(..).rev() {
                session.ack(&publish).await;
            }
        }
    }
    until("all are stored", || coordinator.link.pending() == 0).await;
    assert!(coordinator.events.try_recv().is_err(), "the connection held all the time");
}

#[tokio::test]
async fn no_more_values_are_on_their_way_than_allowed() {
    let ca = ca();
    let broker = Scripted::start(&ca).await;
    let mut coordinator = broker.link(&ca);
    let mut session = broker.subscribed().await;
    coordinator.up().await;
    for i in 0..1_000 {
        coordinator.link.publish(&node(i), Channel::Desired, "x").unwrap();
    }
    let mut held = Vec::new();
    for _ in 0..INFLIGHT_MAX {
        held.push(session.publish().await);
    }
    // The link answers in order: had it sent one more value, it would come before this acknowledgement.
    let mut event = Publish::new("orangery/v1/node/n0/event", QoS::AtLeastOnce, "e");
    event.pkid = 9;
    session.send(Packet::Publish(event)).await;
    assert_eq!(session.next().await, Some(Packet::PubAck(PubAck::new(9))));
    session.ack(&held[0]).await;
    session.publish().await;
}

#[tokio::test]
async fn an_acknowledgement_of_what_was_never_sent_makes_a_new_connection() {
    let ca = ca();
    let broker = Scripted::start(&ca).await;
    let mut coordinator = broker.link(&ca);
    let mut session = broker.subscribed().await;
    coordinator.up().await;
    session.send(Packet::PubAck(PubAck::new(77))).await;
    assert!(matches!(coordinator.event().await, LinkEvent::Down { .. }));
    let _session = broker.subscribed().await;
    coordinator.up().await;
}

#[tokio::test]
async fn a_broker_that_falls_silent_is_left() {
    let ca = ca();
    let broker = Scripted::start(&ca).await;
    let mut coordinator = broker.link(&ca);
    let mut silent = broker.subscribed().await;
    silent.answers_pings = false;
    coordinator.up().await;
    let listening = tokio::spawn(async move { while silent.next().await.is_some() {} });
    assert!(matches!(coordinator.event().await, LinkEvent::Down { .. }));
    listening.await.unwrap();
    let _session = broker.subscribed().await;
    coordinator.up().await;
}

#[tokio::test]
async fn a_refused_subscription_is_said_once_with_its_remedy_and_tried_again() {
    let ca = ca();
    let broker = Scripted::start(&ca).await;
    let mut coordinator = broker.link(&ca);
    for _ in 0..3 {
        let mut session = broker.connected().await;
        session.answer_subscribe(SubscribeReasonCode::Failure).await;
        assert_eq!(session.next().await, None, "the link leaves");
    }
    let _session = broker.subscribed().await;
    let LinkEvent::Down { reason } = coordinator.event().await else { panic!("not down") };
    assert!(reason.contains("orangery broker acl"), "{reason}");
    assert_eq!(coordinator.event().await, LinkEvent::Up, "said once");
}

#[tokio::test]
async fn a_packet_larger_than_any_of_ours_costs_the_connection_and_no_more() {
    let ca = ca();
    let broker = Scripted::start(&ca).await;
    let mut coordinator = broker.link(&ca);
    let mut session = broker.subscribed().await;
    coordinator.up().await;
    let publish =
        |payload: Vec<u8>| Packet::Publish(Publish::new("orangery/v1/node/a/reported", QoS::AtMostOnce, payload));
    session.send(publish(vec![b'x'; 100_000])).await;
    assert!(matches!(coordinator.event().await, LinkEvent::Down { .. }));
    let mut session = broker.subscribed().await;
    coordinator.up().await;
    session.send(publish(b"small".to_vec())).await;
    let node = "a".parse().unwrap();
    let expected = FromNode { node, channel: Channel::Reported, payload: "small".into() };
    assert_eq!(coordinator.said().await, expected);
}

#[tokio::test]
async fn messages_on_foreign_topics_are_ignored() {
    let ca = ca();
    let broker = Scripted::start(&ca).await;
    let mut coordinator = broker.link(&ca);
    let mut session = broker.subscribed().await;
    coordinator.up().await;
    for topic in ["x", "orangery/v1/node/A/event", "orangery/v1/node/a/desired", "orangery/v2/node/a/event"] {
        session.send(Packet::Publish(Publish::new(topic, QoS::AtMostOnce, "foreign"))).await;
    }
    session.send(Packet::Publish(Publish::new("orangery/v1/node/a/online", QoS::AtMostOnce, "ours"))).await;
    assert_eq!(coordinator.said().await.payload, "ours");
}
