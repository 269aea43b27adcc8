//! What rumqttc 0.25.1 does by itself. These are reasons for the rules that `link` follows: when an upgrade makes one of these
//! tests fail, the rule may go.

use std::time::Duration;

use rumqttc::{AsyncClient, ConnectionError, Event, EventLoop, Incoming, MqttOptions, QoS, StateError};
use rumqttc::{TlsConfiguration, Transport};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::scripted_broker::{Authority, Broker, DEADLINE, Peer, Said};

const TOPIC: &str = "t";

fn options(authority: &Authority, broker: &Broker, inflight: u16) -> MqttOptions {
    let address = broker.address();
    let mut options = MqttOptions::new("raw", address.ip().to_string(), address.port());
    options
        .set_transport(Transport::Tls(TlsConfiguration::Rustls(authority.client("raw"))))
        .set_keep_alive(Duration::from_secs(1))
        .set_clean_session(false)
        .set_inflight(inflight);
    options
}

/// Polls for ever, as the documentation says, and tells the errors.
fn poll(mut polled: EventLoop) -> mpsc::UnboundedReceiver<ConnectionError> {
    let (tell, errors) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            if let Err(error) = polled.poll().await {
                _ = tell.send(error);
                // The library would try again at once and for ever.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    });
    errors
}

/// What the client publishes before its next ping, with nothing acknowledged or everything.
async fn until_ping(peer: &mut Peer, acknowledge: bool) -> Vec<(String, bool)> {
    peer.deaf_to_pings = true;
    let mut published = Vec::new();
    loop {
        match peer.hear().await {
            Said::Publish { pkid, payload, dup, .. } => {
                published.push((String::from_utf8(payload).unwrap(), dup));
                if acknowledge {
                    peer.puback(pkid).await;
                }
            }
            Said::Ping => return published,
            other => panic!("heard {other:?}"),
        }
    }
}

#[tokio::test]
async fn rumqttc_drops_all_it_holds_when_the_session_is_lost_and_says_nothing() {
    for (session_present, arrive) in [(false, 0), (true, 20)] {
        let authority = Authority::new();
        let broker = Broker::start(&authority);
        let (client, polled) = AsyncClient::new(options(&authority, &broker, 5), 32);
        let _errors = poll(polled);
        for n in 0..20 {
            client.try_publish(TOPIC, QoS::AtLeastOnce, false, n.to_string()).unwrap();
        }
        let mut peer = broker.accept().await;
        peer.connack(false, 0).await;
        for _ in 0..5 {
            peer.hear_publish().await;
        }
        drop(peer);

        let mut peer = broker.accept().await;
        peer.connack(session_present, 0).await;
        let published = until_ping(&mut peer, true).await;
        assert_eq!(published.len(), arrive, "session_present={session_present}: {published:?}");
        assert!(published.iter().all(|(_, dup)| !dup), "replays are not marked: receivers know them by their content");
    }
}

#[tokio::test]
async fn rumqttc_hangs_when_its_channel_is_full() {
    let authority = Authority::new();
    let broker = Broker::start(&authority);
    let (client, _never_polled) = AsyncClient::new(options(&authority, &broker, 5), 10);
    let mut accepted = 0;
    while timeout(Duration::from_millis(200), client.publish(TOPIC, QoS::AtLeastOnce, false, "x")).await.is_ok() {
        accepted += 1;
    }
    assert_eq!(accepted, 10, "and the eleventh waits for ever");
    assert!(client.try_publish(TOPIC, QoS::AtLeastOnce, false, "x").is_err(), "this at least says so");
}

#[tokio::test]
async fn rumqttc_never_sends_again_once_packet_ids_have_collided_and_the_session_is_lost() {
    let authority = Authority::new();
    let broker = Broker::start(&authority);
    let (client, polled) = AsyncClient::new(options(&authority, &broker, 3), 32);
    let mut errors = poll(polled);
    for n in 0..6 {
        client.try_publish(TOPIC, QoS::AtLeastOnce, false, n.to_string()).unwrap();
    }
    let mut peer = broker.accept().await;
    peer.connack(false, 0).await;
    // Out of order: 2 and 3 are acknowledged, 1 never. The fourth message gets packet id 1 again.
    loop {
        match peer.hear().await {
            Said::Publish { pkid: 1, .. } => {}
            Said::Publish { pkid, .. } => peer.puback(pkid).await,
            Said::Closed => break,
            other => panic!("heard {other:?}"),
        }
    }
    for attempt in 0..2 {
        let error = timeout(DEADLINE, errors.recv()).await.unwrap().unwrap();
        let ConnectionError::MqttState(StateError::CollisionTimeout) = error else { panic!("{attempt}: {error}") };
        let mut peer = broker.accept().await;
        peer.connack(false, 0).await;
        client.try_publish(TOPIC, QoS::AtLeastOnce, false, "new").unwrap();
        peer.deaf_to_pings = false;
        assert_eq!(peer.hear().await, Said::Closed, "attempt {attempt}: pings are answered, nothing is sent");
    }
}

#[tokio::test]
async fn rumqttc_breaks_off_at_a_packet_over_its_own_small_limit() {
    let authority = Authority::new();
    let broker = Broker::start(&authority);
    let (_client, mut polled) = AsyncClient::new(options(&authority, &broker, 5), 10);
    let connack = async {
        let mut peer = broker.accept().await;
        peer.connack(false, 0).await;
        peer.publish("desired", &[b' '; 10 * 1024]).await;
        peer
    };
    let (connected, _peer) = tokio::join!(polled.poll(), connack);
    assert!(matches!(connected, Ok(Event::Incoming(Incoming::ConnAck(_)))));
    let error = timeout(DEADLINE, polled.poll()).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("payload size limit exceeded"), "{error}");
}
