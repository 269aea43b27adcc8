//! The embedded broker, with real clients over real mutual TLS.
#![allow(clippy::unwrap_used)] // A test stops at the first surprise.

#[path = "../mqtt/mod.rs"]
mod mqtt;

mod strangers;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mqtt::client::{Client, Connect, Version};
use mqtt::world::{ATTEMPTS, Attempt, Coordinator, Outcome, World};
use mqtt::{ca, node, node_issued_at, now, until};
use orangery::broker::{Broker, BrokerConfig, BrokerError};
use orangery::ca::{Ca, NODE_DAYS};
use orangery::link::LinkEvent;
use orangery::tls::{ServerCertificate, client_config};
use orangery_wire::NodeId;
use orangery_wire::topics::Channel;
use rustls::ClientConfig;
use tokio::net::TcpStream;

const ANYWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

fn certificate(ca: &Ca) -> Arc<ServerCertificate> {
    let server = ca.issue_server(&[], now()).unwrap();
    ServerCertificate::from_pem(&server.certificate.pem, &server.key_pem).unwrap()
}

fn config(ca: &Ca) -> BrokerConfig {
    BrokerConfig {
        listen: ANYWHERE,
        ca: ca.certificate().clone(),
        certificate: certificate(ca),
        revoked: BTreeSet::new(),
        connections_max: 100,
        handshake_max: Duration::from_secs(10),
    }
}

fn start(ca: &Ca) -> Broker {
    Broker::start(config(ca)).unwrap()
}

/// A broker, where it is, and the coordinator's link on it.
async fn with_coordinator(ca: &Ca) -> (Broker, String, Coordinator) {
    let broker = start(ca);
    let address = broker.addr().to_string();
    let mut coordinator = Coordinator::new(ca, &address, 100);
    coordinator.up().await;
    (broker, address, coordinator)
}

fn id(name: &str) -> NodeId {
    name.parse().unwrap()
}

fn as_node<'a>(address: &'a str, tls: &'a Arc<ClientConfig>, id: &'a str) -> Connect<'a> {
    Connect { address, tls: Some(tls), id, will: None, version: Version::V3 }
}

/// A TLS connection as node `a` that speaks whatever it likes.
async fn raw(address: &str, tls: &Arc<ClientConfig>) -> tokio_rustls::client::TlsStream<TcpStream> {
    let tcp = TcpStream::connect(address).await.unwrap();
    let host = rustls_pki_types::ServerName::try_from("127.0.0.1").unwrap();
    tokio_rustls::TlsConnector::from(tls.clone()).connect(host, tcp).await.unwrap()
}

async fn every_attempt_is_refused(version: Version) {
    let ca = ca();
    let broker = start(&ca);
    let address = broker.addr().to_string();
    let mut world = World::new(&ca, &address, version).await;
    for &attempt in ATTEMPTS {
        let before = broker.denied();
        let outcome = world.attempt(attempt).await;
        let refused = match attempt {
            // MQTT 3.1.1 has no SUBACK for a filter that the broker cannot read; it is cut instead.
            Attempt::Subscribe(filter) if filter.starts_with("$share") => outcome != Outcome::NoObjection,
            Attempt::Subscribe(_) => outcome == Outcome::NotSubscribed,
            Attempt::Publish(_) => matches!(outcome, Outcome::Cut(_)),
            Attempt::Will(_) | Attempt::Name(_) => matches!(outcome, Outcome::NotConnected(_)),
        };
        assert!(refused, "{attempt:?} with {version:?} ended in {outcome:?}");
        assert!(broker.denied() > before, "{attempt:?} is not counted");
    }
    world.newcomers_find_nothing_forged(&ca).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_reaches_nothing_of_another_over_mqtt_3() {
    every_attempt_is_refused(Version::V3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_reaches_nothing_of_another_over_mqtt_5() {
    every_attempt_is_refused(Version::V5).await;
}

#[tokio::test]
async fn only_a_valid_certificate_of_our_own_ca_gets_in() {
    let ca = ca();
    let broker = start(&ca);
    let address = broker.addr().to_string();
    let identity = |certificate: &str, key: &str| client_config(ca.certificate(), (certificate, key)).unwrap();

    let stranger = {
        let other = mqtt::ca();
        let link = other.issue_link(now()).unwrap();
        identity(&link.certificate.pem, &link.key_pem)
    };
    let self_signed = {
        let made = rcgen::generate_simple_self_signed(vec!["a".to_owned()]).unwrap();
        identity(&made.cert.pem(), &made.signing_key.serialize_pem())
    };
    let server = {
        let server = ca.issue_server(&["a".to_owned()], now()).unwrap();
        identity(&server.certificate.pem, &server.key_pem)
    };
    let expired = node_issued_at(&ca, "a", now() - (NODE_DAYS + 1) * 86_400);
    let without = {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(ca.certificate().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
    };
    let cases = [
        ("another CA's", &stranger),
        ("self-signed", &self_signed),
        ("a server's", &server),
        ("expired", &expired),
        ("none", &without),
    ];
    for (what, tls) in cases {
        for name in ["a", "coordinator"] {
            let before = broker.denied();
            let refused = Client::connect(&as_node(&address, tls, name)).await;
            assert!(refused.is_err(), "a client with this certificate got in as {name}: {what}");
            until("the refusal is counted", || broker.denied() > before).await;
        }
    }
    let good = node(&ca, "a");
    Client::connect(&as_node(&address, &good, "a")).await.expect("a good certificate gets in");
}

#[tokio::test]
async fn a_revoked_node_is_cut_within_a_second_and_stays_out() {
    let ca = ca();
    let broker = Broker::start(BrokerConfig { revoked: BTreeSet::from([id("old")]), ..config(&ca) }).unwrap();
    let address = broker.addr().to_string();
    let [old, a, b] = ["old", "a", "b"].map(|name| node(&ca, name));
    let refused = Client::connect(&as_node(&address, &old, "old")).await.err().unwrap();
    assert!(refused.to_lowercase().contains("revoked"), "the node learns why: {refused}");

    let mut live = Client::connect(&as_node(&address, &a, "a")).await.unwrap();
    let mut bystander = Client::connect(&as_node(&address, &b, "b")).await.unwrap();
    let begun = Instant::now();
    broker.revoke(&id("a"));
    live.ended().await;
    assert!(begun.elapsed() < Duration::from_secs(1), "it took {:?}", begun.elapsed());
    for _ in 0..3 {
        let refused = Client::connect(&as_node(&address, &a, "a")).await.err().unwrap();
        assert!(refused.to_lowercase().contains("revoked"), "{refused}");
    }
    assert_eq!(bystander.publish("orangery/v1/node/b/reported", "untouched").await, Ok(true));
}

#[tokio::test]
async fn desired_state_waits_for_a_node_that_comes_later() {
    let ca = ca();
    let broker = start(&ca);
    let address = broker.addr().to_string();
    let mut coordinator = Coordinator::new(&ca, &broker.link_address(), 100);
    coordinator.up().await;
    for payload in ["first", "newest"] {
        coordinator.link.publish(&id("a"), Channel::Desired, payload).unwrap();
    }
    until("the broker has it", || coordinator.link.pending() == 0).await;
    let tls = node(&ca, "a");
    for version in [Version::V3, Version::V5] {
        let mut a = Client::connect(&Connect { version, ..as_node(&address, &tls, "a") }).await.unwrap();
        assert_eq!(a.subscribe("orangery/v1/node/a/desired").await, Ok(true));
        let newest = ("orangery/v1/node/a/desired".to_owned(), "newest".to_owned());
        assert_eq!(a.message().await, Ok(newest), "{version:?}");
    }
}

#[tokio::test]
async fn the_will_of_a_node_that_is_cut_reaches_the_coordinator() {
    let ca = ca();
    let (_broker, address, mut coordinator) = with_coordinator(&ca).await;
    let tls = node(&ca, "a");
    let topic = "orangery/v1/node/a/online";
    for version in [Version::V3, Version::V5] {
        let will = Some((topic, "offline"));
        let mut a = Client::connect(&Connect { will, version, ..as_node(&address, &tls, "a") }).await.unwrap();
        assert_eq!(a.publish(topic, "online").await, Ok(true));
        assert_eq!(coordinator.said().await.payload, "online");
        let cut = Instant::now();
        drop(a);
        let said = coordinator.said().await;
        assert_eq!((said.channel, said.payload), (Channel::Online, "offline".into()), "{version:?}");
        assert!(cut.elapsed() < Duration::from_secs(3), "it took {:?}", cut.elapsed());
    }
    let mut late = Coordinator::new(&ca, &address, 100);
    late.up().await;
    assert_eq!(late.said().await.payload, "offline", "a will is retained like any other state");
}

#[tokio::test]
async fn the_will_of_an_old_connection_does_not_contradict_the_new_one() {
    let ca = ca();
    let (_broker, address, mut coordinator) = with_coordinator(&ca).await;
    let tls = node(&ca, "a");
    let topic = "orangery/v1/node/a/online";
    let connect = Connect { will: Some((topic, "offline")), ..as_node(&address, &tls, "a") };
    let mut before = Client::connect(&connect).await.unwrap();
    assert_eq!(before.publish(topic, "online 0").await, Ok(true));
    for round in 1..20 {
        let mut after = Client::connect(&connect).await.unwrap();
        before.ended().await;
        assert_eq!(after.publish(topic, format!("online {round}")).await, Ok(true));
        before = after;
    }
    // The last word comes on another topic, after everything that the old connections had to say.
    assert_eq!(before.publish("orangery/v1/node/a/reported", "last").await, Ok(true));
    let mut heard = Vec::new();
    loop {
        let said = coordinator.said().await;
        if said.channel == Channel::Reported {
            break;
        }
        heard.push(String::from_utf8(said.payload.to_vec()).unwrap());
    }
    assert_eq!(heard, (0..20).map(|round| format!("online {round}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_node_that_was_cut_gets_in_again_at_once() {
    let ca = ca();
    let broker = start(&ca);
    let address = broker.addr().to_string();
    let tls = node(&ca, "a");
    let will = Some(("orangery/v1/node/a/online", "offline"));
    for (version, rounds) in [(Version::V3, 400), (Version::V5, 20)] {
        for round in 0..rounds {
            let how = Connect { will, version, ..as_node(&address, &tls, "a") };
            let again = Client::connect(&how).await;
            assert!(again.is_ok(), "{version:?}, round {round}: {:?}", again.err());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_broker_knows_everything_again() {
    const NODES: usize = 200;
    let ca = ca();
    let broker = start(&ca);
    let listen = broker.addr();
    let address = listen.to_string();
    let mut coordinator = Coordinator::new(&ca, &address, 100);
    coordinator.up().await;
    let name = |i: usize| id(&format!("n{i}"));
    for i in 0..NODES {
        coordinator.link.publish(&name(i), Channel::Desired, format!("desired {i}")).unwrap();
        coordinator.link.publish(&name(i), Channel::Acked, format!("acked {i}")).unwrap();
    }
    until("the broker has all", || coordinator.link.pending() == 0).await;
    tokio::task::spawn_blocking(|| broker.stop()).await.unwrap();
    assert!(matches!(coordinator.event().await, LinkEvent::Down { .. }));
    coordinator.link.publish(&name(0), Channel::Desired, "changed meanwhile").unwrap();

    let broker = Broker::start(BrokerConfig { listen, ..config(&ca) }).unwrap();
    coordinator.up().await;
    until("the broker has all again", || coordinator.link.pending() == 0).await;
    for (i, desired) in [(0, "changed meanwhile"), (NODES - 1, "desired 199")] {
        let tls = node(&ca, name(i).as_str());
        let mut client = Client::connect(&as_node(&address, &tls, name(i).as_str())).await.unwrap();
        for (channel, expected) in [("desired", desired.to_owned()), ("acked", format!("acked {i}"))] {
            let topic = format!("orangery/v1/node/{}/{channel}", name(i));
            assert_eq!(client.subscribe(&topic).await, Ok(true));
            assert_eq!(client.message().await, Ok((topic, expected)));
        }
    }
    drop(broker);
}

#[tokio::test]
async fn an_engine_that_falls_behind_loses_no_event_of_a_node() {
    const EVENTS: usize = 1_000;
    let ca = ca();
    let broker = start(&ca);
    let address = broker.addr().to_string();
    let mut coordinator = Coordinator::new(&ca, &address, 2);
    coordinator.up().await;
    let tls = node(&ca, "a");
    let mut a = Client::connect(&as_node(&address, &tls, "a")).await.unwrap();
    for i in 0..EVENTS {
        a.send("orangery/v1/node/a/event", format!("event {i}"));
        a.send("orangery/v1/node/a/health", "well");
    }
    // The broker has taken all of them while nobody reads more than two.
    for _ in 0..2 * EVENTS {
        assert_eq!(a.published().await, Ok(true));
    }
    let mut next = 0;
    while next < EVENTS {
        let said = coordinator.said().await;
        if said.channel == Channel::Event {
            assert_eq!(said.payload, format!("event {next}"));
            next += 1;
        }
    }
}

#[tokio::test]
async fn a_new_server_certificate_is_shown_without_a_restart() {
    let ca = ca();
    let shown = certificate(&ca);
    let broker = Broker::start(BrokerConfig { certificate: shown.clone(), ..config(&ca) }).unwrap();
    let address = broker.addr().to_string();
    let tls = node(&ca, "a");
    let serial = |stream: &tokio_rustls::client::TlsStream<TcpStream>| {
        orangery::ca::Peer::of(&stream.get_ref().1.peer_certificates().unwrap()[0]).unwrap().serial
    };
    let old = serial(&raw(&address, &tls).await);
    let new = ca.issue_server(&[], now()).unwrap();
    shown.replace(&new.certificate.pem, &new.key_pem).unwrap();
    let seen = serial(&raw(&address, &tls).await);
    assert_eq!(seen, new.certificate.serial);
    assert_ne!(seen, old);
}

#[test]
fn an_address_in_use_is_an_error_and_a_stopped_broker_frees_it() {
    let ca = ca();
    let broker = start(&ca);
    let listen = broker.addr();
    let error = Broker::start(BrokerConfig { listen, ..config(&ca) }).unwrap_err();
    assert!(matches!(error, BrokerError::Listen { .. }), "{error}");
    assert!(error.to_string().contains(&listen.to_string()), "{error}");
    assert!(broker.is_running());
    broker.stop();
    Broker::start(BrokerConfig { listen, ..config(&ca) }).unwrap();
}
