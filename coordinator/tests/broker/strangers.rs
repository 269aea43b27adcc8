//! Whoever is no node of ours, or does not keep to the protocol.

use std::time::Duration;

use orangery::broker::{Broker, BrokerConfig};
use orangery_wire::limits::PACKET_BYTES_MAX;
use orangery_wire::topics::Channel;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::mqtt::client::{Client, Connect, Version};
use super::mqtt::{ca, node, until, within};
use super::{as_node, config, id, raw, start, with_coordinator};

#[tokio::test]
async fn a_local_process_cannot_come_past_tls() {
    let ca = ca();
    let broker = start(&ca);
    let (address, plain) = (broker.addr().to_string(), broker.plain_addr().to_string());
    let tls = node(&ca, "a");
    let mut a = Client::connect(&as_node(&address, &tls, "a")).await.unwrap();
    for version in [Version::V3, Version::V5] {
        for name in ["a", "coordinator", ""] {
            let how = Connect { address: &plain, tls: None, id: name, will: None, version };
            assert!(Client::connect(&how).await.is_err(), "{name} over {version:?}");
        }
    }
    assert_eq!(a.publish("orangery/v1/node/a/reported", "still here").await, Ok(true));
}

#[tokio::test]
async fn the_largest_message_passes_and_a_larger_one_ends_the_connection() {
    let ca = ca();
    let (_broker, address, mut coordinator) = with_coordinator(&ca).await;
    let tls = node(&ca, "a");
    let topic = "orangery/v1/node/a/reported";
    let mut a = Client::connect(&as_node(&address, &tls, "a")).await.unwrap();
    assert_eq!(a.publish(topic, vec![b'x'; PACKET_BYTES_MAX]).await, Ok(true));
    assert_eq!(coordinator.said().await.payload.len(), PACKET_BYTES_MAX);
    for more in [1, 10_000, 500_000] {
        let mut a = Client::connect(&as_node(&address, &tls, "a")).await.unwrap();
        assert!(a.publish(topic, vec![b'x'; PACKET_BYTES_MAX + more]).await.is_err(), "{more} bytes too many");
    }
    let largest = vec![b'y'; PACKET_BYTES_MAX];
    coordinator.link.publish(&id("a"), Channel::Desired, largest).unwrap();
    assert!(coordinator.link.publish(&id("a"), Channel::Desired, vec![0; PACKET_BYTES_MAX + 1]).is_err());
    assert!(coordinator.link.publish(&id("a"), Channel::Reported, "x").is_err(), "nodes speak for themselves");
    let mut a = Client::connect(&as_node(&address, &tls, "a")).await.unwrap();
    assert_eq!(a.subscribe("orangery/v1/node/a/desired").await, Ok(true));
    assert_eq!(a.message().await.unwrap().1.len(), PACKET_BYTES_MAX);
}

#[tokio::test]
async fn what_is_not_mqtt_is_cut_and_harms_nobody() {
    let ca = ca();
    let broker = Broker::start(BrokerConfig { handshake_max: Duration::from_millis(300), ..config(&ca) }).unwrap();
    let address = broker.addr().to_string();
    let [a, b] = ["a", "b"].map(|name| node(&ca, name));
    let mut bystander = Client::connect(&as_node(&address, &b, "b")).await.unwrap();
    let connect = b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01a";
    let cases: [(&str, Vec<u8>); 6] = [
        ("nothing at all", vec![]),
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("CONNECT of 256 MiB", b"\x10\xff\xff\xff\x7f\0\x04MQTT\x04\x02\0\x3c\0\x01a".to_vec()),
        ("CONNECT cut short", connect[..9].to_vec()),
        ("PUBLISH of 256 MiB", [&connect[..], b"\x32\xff\xff\xff\x7f"].concat()),
        ("a packet type that does not exist", [&connect[..], b"\xf1\0"].concat()),
    ];
    for (what, bytes) in cases {
        let mut stream = raw(&address, &a).await;
        stream.write_all(&bytes).await.unwrap();
        stream.flush().await.unwrap();
        // The end may be a close, a reset, or TLS's word for a truncated stream: it is an end.
        let _ = within(what, stream.read_to_end(&mut Vec::new())).await;
    }
    // A socket that never even shakes hands is closed too.
    let mut silent = TcpStream::connect(&address).await.unwrap();
    let _ = within("a silent socket", silent.read_to_end(&mut Vec::new())).await;
    assert_eq!(bystander.publish("orangery/v1/node/b/reported", "untouched").await, Ok(true));
    assert!(broker.is_running());
}

#[tokio::test]
async fn connections_are_limited_and_made_room_for() {
    let ca = ca();
    let broker = Broker::start(BrokerConfig { connections_max: 2, ..config(&ca) }).unwrap();
    let address = broker.addr().to_string();
    let [a, b, c] = ["a", "b", "c"].map(|name| node(&ca, name));
    let first = Client::connect(&as_node(&address, &a, "a")).await.unwrap();
    let _second = Client::connect(&as_node(&address, &b, "b")).await.unwrap();
    assert!(Client::connect(&as_node(&address, &c, "c")).await.is_err());
    assert_eq!(broker.connected(), 2);
    drop(first);
    until("there is room again", || broker.connected() == 1).await;
    within("c gets in", async { while Client::connect(&as_node(&address, &c, "c")).await.is_err() {} }).await;
}
