//! Whether the coordinator is reached: only an answer to what was asked counts.

#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "a test that cannot go on ends there; what is shared is not all used"
)]

mod linked_node;
mod scripted_broker;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use orangery_agent::link::LinkSettings;
use rustls::ClientConfig;

use linked_node::{NODE, Node, connected, settings};
use scripted_broker::{Authority, Broker, DEADLINE};

const SHORT: Duration = Duration::from_millis(300);

/// Settings by which nothing but the thing under test ends a connection or begins one.
fn patient(address: SocketAddr, tls: Arc<ClientConfig>) -> LinkSettings {
    let hour = Duration::from_hours(1);
    LinkSettings { keepalive: hour, backoff_max: hour, connect_timeout: SHORT, ..settings(address, tls) }
}

#[tokio::test]
async fn an_idle_connection_answers_within_a_round_trip() {
    let (_broker, mut peer, node) = connected().await;
    let link = node.link.clone();
    let asked = tokio::spawn(async move { link.reach_again(DEADLINE, DEADLINE).await });
    let (channel, pkid, payload) = peer.hear_publish().await;
    assert_eq!((channel.as_str(), payload.as_slice()), ("online", br#"{"online":true,"boot_id":"boot-1"}"#.as_slice()));
    peer.puback(pkid).await;
    assert_eq!(asked.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn a_connection_that_is_there_and_does_not_answer_is_none() {
    let (_broker, _peer, node) = connected().await;
    assert!(node.link.is_up());
    let trouble = node.link.reach_again(SHORT, DEADLINE).await.unwrap_err();
    assert!(!trouble.answers, "{trouble:?}");
}

#[tokio::test]
async fn an_acknowledgement_of_what_was_said_before_is_no_answer() {
    let (_broker, mut peer, node) = connected().await;
    node.link.report(b"before".to_vec());
    let (_, before, _) = peer.hear_publish().await;
    let link = node.link.clone();
    let asked = tokio::spawn(async move { link.reach_again(SHORT, SHORT).await });
    peer.hear_publish().await;
    peer.puback(before).await;
    assert!(asked.await.unwrap().is_err());
}

#[tokio::test]
async fn whoever_waits_does_not_wait_for_a_dead_connection_to_be_noticed() {
    let authority = Authority::new();
    let broker = Broker::start(&authority);
    let mut node = Node::new(patient(broker.address(), authority.client(NODE)));
    let mut dead = broker.accept().await;
    dead.welcome(false).await;
    node.up().await;
    let link = node.link.clone();
    let asked = tokio::spawn(async move { link.reach_again(DEADLINE, DEADLINE).await });
    // The first connection stays open and says nothing more; keepalives would find that out in hours.
    let mut alive = broker.accept().await;
    alive.welcome(false).await;
    assert_eq!(asked.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn a_machine_on_which_nothing_listens_has_answered_and_is_waited_for_longer() {
    let authority = Authority::new();
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let node = Node::new(LinkSettings { backoff_max: SHORT / 10, ..patient(nowhere, authority.client(NODE)) });
    let begun = Instant::now();
    let longer = SHORT * 5;
    let trouble = node.link.reach_again(SHORT, longer).await.unwrap_err();
    assert!(trouble.answers, "{trouble:?}");
    assert!(begun.elapsed() >= longer, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn whoever_waits_does_not_wait_for_a_long_pause_to_end() {
    let authority = Authority::new();
    let broker = Broker::start(&authority);
    let mut node = Node::new(LinkSettings {
        backoff_max: Duration::from_hours(1),
        ..settings(broker.address(), authority.client(NODE))
    });
    // Failures make the pauses long: sixteen seconds on average after five, and of the tenth nobody would see the end.
    for _ in 0..5 {
        drop(broker.accept().await);
        node.down().await;
        let _ = node.link.reach_again(Duration::from_millis(1), Duration::from_millis(1)).await;
    }
    let link = node.link.clone();
    let asked = tokio::spawn(async move { link.reach_again(DEADLINE, DEADLINE).await });
    broker.accept().await.welcome(false).await;
    assert_eq!(asked.await.unwrap(), Ok(()));
}
