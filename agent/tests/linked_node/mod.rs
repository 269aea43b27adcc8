//! A link with its ears: the node's side of the tests.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use orangery_agent::link::{Link, LinkEvent, LinkSettings};
use rustls::ClientConfig;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::scripted_broker::{Authority, Broker, DEADLINE, Peer};

pub const NODE: &str = "attic";

pub fn settings(address: SocketAddr, tls: Arc<ClientConfig>) -> LinkSettings {
    let settings = LinkSettings::new(NODE.parse().unwrap(), address.to_string(), tls, "boot-1".to_owned());
    LinkSettings { keepalive: Duration::from_secs(1), backoff_max: Duration::from_millis(50), ..settings }
}

/// A link with what it told, in order.
pub struct Node {
    pub link: Link,
    pub told: mpsc::UnboundedReceiver<LinkEvent>,
}

impl Node {
    pub fn new(settings: LinkSettings) -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        let link = Link::spawn(settings, Box::new(move |event| _ = tell.send(event)));
        Self { link, told }
    }

    /// Passes over what was told until `wanted` makes something of it.
    pub async fn told<T>(&mut self, wanted: impl Fn(LinkEvent) -> Option<T>) -> T {
        let found = async {
            loop {
                let event = self.told.recv().await.expect("the link is gone");
                if let Some(found) = wanted(event) {
                    return found;
                }
            }
        };
        timeout(DEADLINE, found).await.expect("the link did not tell")
    }

    pub async fn up(&mut self) {
        self.told(|event| (event == LinkEvent::Up).then_some(())).await;
    }

    pub async fn down(&mut self) -> String {
        self.told(|event| if let LinkEvent::Down { reason } = event { Some(reason) } else { None }).await
    }
}

/// A broker and a node that has just connected to it.
pub async fn connected() -> (Broker, Peer, Node) {
    let authority = Authority::new();
    let broker = Broker::start(&authority);
    let mut node = Node::new(settings(broker.address(), authority.client(NODE)));
    let mut peer = broker.accept().await;
    peer.welcome(false).await;
    node.up().await;
    (broker, peer, node)
}

/// The driver's part: offers what is not acknowledged whenever there may be room.
pub fn drive(mut node: Node, events: u64) -> Arc<Mutex<BTreeSet<u64>>> {
    let waiting = Arc::new(Mutex::new((1..=events).collect::<BTreeSet<u64>>()));
    let left = Arc::clone(&waiting);
    tokio::spawn(async move {
        while let Some(event) = node.told.recv().await {
            match event {
                LinkEvent::Acked(payload) => {
                    let sequence = String::from_utf8(payload).unwrap().parse().unwrap();
                    left.lock().unwrap().retain(|waiting| *waiting > sequence);
                    node.link.acked(sequence);
                }
                LinkEvent::Up | LinkEvent::Resend | LinkEvent::Room => {}
                _ => continue,
            }
            let offered: Vec<u64> = left.lock().unwrap().iter().copied().collect();
            let _ = offered.into_iter().all(|sequence| node.link.event(sequence, sequence.to_string().into_bytes()));
        }
    });
    waiting
}

/// Until the driver has nothing left to offer.
pub async fn all_acknowledged(waiting: &Mutex<BTreeSet<u64>>) {
    let emptied = async {
        while !waiting.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, emptied).await.expect("events are still waiting");
}

pub fn sequence(payload: &[u8]) -> u64 {
    std::str::from_utf8(payload).unwrap().parse().unwrap()
}

/// The last event before the first gap, as the coordinator counts.
pub fn contiguous(seen: &BTreeMap<u64, u32>) -> u64 {
    let mut last = 0;
    while seen.contains_key(&(last + 1)) {
        last += 1;
    }
    last
}

/// Takes events and acknowledges them, as broker and as coordinator, until all have come.
pub async fn take_events(peer: &mut Peer, events: u64, seen: &mut BTreeMap<u64, u32>) {
    while seen.len() < usize::try_from(events).unwrap() {
        let (channel, pkid, payload) = peer.hear_publish().await;
        peer.puback(pkid).await;
        if channel == "event" {
            *seen.entry(sequence(&payload)).or_default() += 1;
            peer.publish("acked", contiguous(seen).to_string().as_bytes()).await;
        }
    }
}
