//! One MQTT client, version 3.1.1 or 5, that says what happened to it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rumqttc::{TlsConfiguration, Transport, v5};
use rustls::ClientConfig;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::within;

/// The protocol that a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V3,
    V5,
}

/// How to connect.
#[derive(Debug, Clone)]
pub struct Connect<'a> {
    pub address: &'a str,
    /// Without it, plain TCP.
    pub tls: Option<&'a Arc<ClientConfig>>,
    pub id: &'a str,
    /// Topic and payload; retained, QoS 1.
    pub will: Option<(&'a str, &'a str)>,
    pub version: Version,
}

#[derive(Debug)]
enum Said {
    Connected,
    Subscribed(bool),
    Published(bool),
    Message(String, Bytes),
    Ended(String),
}

enum Half {
    V3(rumqttc::AsyncClient),
    V5(v5::AsyncClient),
}

/// A connected client. Dropping it cuts the connection without a DISCONNECT.
pub struct Client {
    half: Half,
    said: mpsc::UnboundedReceiver<Said>,
    messages: VecDeque<(String, Bytes)>,
    poller: JoinHandle<()>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.poller.abort();
    }
}

impl Client {
    /// Connects, or says why not.
    pub async fn connect(how: &Connect<'_>) -> Result<Self, String> {
        let (say, said) = mpsc::unbounded_channel();
        let (half, poller) = match how.version {
            Version::V3 => connect_v3(how, say),
            Version::V5 => connect_v5(how, say),
        };
        let mut client = Self { half, said, messages: VecDeque::new(), poller };
        match client.next("an answer to CONNECT").await {
            Said::Connected => Ok(client),
            Said::Ended(reason) => Err(reason),
            other => panic!("{other:?} before CONNACK"),
        }
    }

    async fn next(&mut self, what: &str) -> Said {
        within(what, self.said.recv()).await.unwrap_or_else(|| Said::Ended("it had ended before".to_owned()))
    }

    /// Whether the subscription was granted; an error if the connection ended instead.
    pub async fn subscribe(&mut self, filter: &str) -> Result<bool, String> {
        match &self.half {
            Half::V3(client) => client.try_subscribe(filter, rumqttc::QoS::AtLeastOnce).unwrap(),
            Half::V5(client) => client.try_subscribe(filter, v5::mqttbytes::QoS::AtLeastOnce).unwrap(),
        }
        loop {
            match self.next("an answer to SUBSCRIBE").await {
                Said::Subscribed(granted) => return Ok(granted),
                Said::Message(topic, payload) => self.messages.push_back((topic, payload)),
                Said::Ended(reason) => return Err(reason),
                other => panic!("{other:?} instead of SUBACK"),
            }
        }
    }

    /// Publishes, QoS 1 and retained. Whether the broker took it; an error if the connection ended instead.
    pub async fn publish(&mut self, topic: &str, payload: impl Into<Vec<u8>>) -> Result<bool, String> {
        self.send(topic, payload);
        self.published().await
    }

    /// Publishes without waiting for the acknowledgement.
    pub fn send(&mut self, topic: &str, payload: impl Into<Vec<u8>>) {
        let payload: Vec<u8> = payload.into();
        match &self.half {
            Half::V3(client) => client.try_publish(topic, rumqttc::QoS::AtLeastOnce, true, payload).unwrap(),
            Half::V5(client) => client.try_publish(topic, v5::mqttbytes::QoS::AtLeastOnce, true, payload).unwrap(),
        }
    }

    /// The next acknowledgement.
    pub async fn published(&mut self) -> Result<bool, String> {
        loop {
            match self.next("an answer to PUBLISH").await {
                Said::Published(taken) => return Ok(taken),
                Said::Message(topic, payload) => self.messages.push_back((topic, payload)),
                Said::Ended(reason) => return Err(reason),
                other => panic!("{other:?} instead of PUBACK"),
            }
        }
    }

    /// The next message: topic and payload as text. An error if the connection ended instead.
    pub async fn message(&mut self) -> Result<(String, String), String> {
        let text = |(topic, payload): (String, Bytes)| (topic, String::from_utf8_lossy(&payload).into_owned());
        if let Some(message) = self.messages.pop_front() {
            return Ok(text(message));
        }
        loop {
            match self.next("a message").await {
                Said::Message(topic, payload) => return Ok(text((topic, payload))),
                Said::Ended(reason) => return Err(reason),
                Said::Connected | Said::Subscribed(_) | Said::Published(_) => {}
            }
        }
    }

    /// Waits until the connection has ended, and says why.
    pub async fn ended(&mut self) -> String {
        loop {
            if let Said::Ended(reason) = self.next("the end of the connection").await {
                return reason;
            }
        }
    }
}

fn host_and_port(address: &str) -> (&str, u16) {
    let (host, port) = address.rsplit_once(':').unwrap();
    (host, port.parse().unwrap())
}

fn transport(how: &Connect<'_>) -> Transport {
    how.tls.map_or(Transport::Tcp, |tls| Transport::tls_with_config(TlsConfiguration::Rustls(tls.clone())))
}

/// Without it each step of a test would wait for the kernel's delayed acknowledgement.
fn network() -> rumqttc::NetworkOptions {
    let mut network = rumqttc::NetworkOptions::new();
    network.set_tcp_nodelay(true);
    network
}

const KEEPALIVE: Duration = Duration::from_secs(30);
const PACKET_BYTES_MAX: usize = 1 << 20;

fn connect_v3(how: &Connect<'_>, say: mpsc::UnboundedSender<Said>) -> (Half, JoinHandle<()>) {
    use rumqttc::{AsyncClient, Event, LastWill, MqttOptions, Packet, QoS, SubscribeReasonCode};
    let (host, port) = host_and_port(how.address);
    let mut options = MqttOptions::new(how.id, host, port);
    options.set_transport(transport(how)).set_keep_alive(KEEPALIVE);
    options.set_max_packet_size(PACKET_BYTES_MAX, PACKET_BYTES_MAX);
    if let Some((topic, payload)) = how.will {
        options.set_last_will(LastWill::new(topic, payload, QoS::AtLeastOnce, true));
    }
    let (client, mut eventloop) = AsyncClient::new(options, 2_000);
    eventloop.set_network_options(network());
    let poller = tokio::spawn(async move {
        loop {
            let said = match eventloop.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => Said::Connected,
                Ok(Event::Incoming(Packet::SubAck(ack))) => {
                    Said::Subscribed(!ack.return_codes.contains(&SubscribeReasonCode::Failure))
                }
                Ok(Event::Incoming(Packet::PubAck(_))) => Said::Published(true),
                Ok(Event::Incoming(Packet::Publish(publish))) => Said::Message(publish.topic, publish.payload),
                Ok(_) => continue,
                Err(error) => {
                    let _ = say.send(Said::Ended(error.to_string()));
                    return;
                }
            };
            let _ = say.send(said);
        }
    });
    (Half::V3(client), poller)
}

fn connect_v5(how: &Connect<'_>, say: mpsc::UnboundedSender<Said>) -> (Half, JoinHandle<()>) {
    use v5::mqttbytes::QoS;
    use v5::mqttbytes::v5::{LastWill, Packet, PubAckReason, SubscribeReasonCode};
    use v5::{AsyncClient, Event, MqttOptions};
    let (host, port) = host_and_port(how.address);
    let mut options = MqttOptions::new(how.id, host, port);
    options.set_transport(transport(how)).set_keep_alive(KEEPALIVE);
    options.set_network_options(network());
    if let Some((topic, payload)) = how.will {
        options.set_last_will(LastWill::new(topic, payload, QoS::AtLeastOnce, true, None));
    }
    let (client, mut eventloop) = AsyncClient::new(options, 2_000);
    let poller = tokio::spawn(async move {
        loop {
            let said = match eventloop.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => Said::Connected,
                Ok(Event::Incoming(Packet::SubAck(ack))) => Said::Subscribed(
                    ack.return_codes.iter().all(|code| matches!(code, SubscribeReasonCode::Success(_))),
                ),
                Ok(Event::Incoming(Packet::PubAck(ack))) => {
                    Said::Published(matches!(ack.reason, PubAckReason::Success | PubAckReason::NoMatchingSubscribers))
                }
                Ok(Event::Incoming(Packet::Publish(publish))) => {
                    Said::Message(String::from_utf8_lossy(&publish.topic).into_owned(), publish.payload)
                }
                Ok(_) => continue,
                Err(error) => {
                    let _ = say.send(Said::Ended(error.to_string()));
                    return;
                }
            };
            let _ = say.send(said);
        }
    });
    (Half::V5(client), poller)
}
