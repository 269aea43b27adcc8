//! A broker with the coordinator's link and node `b` on it, and node `a`, who tries everything.

use std::sync::Arc;
use std::time::Duration;

use orangery::ca::Ca;
use orangery::link::{FromNode, Link, LinkEvent, LinkSettings};
use orangery_wire::NodeId;
use orangery_wire::topics::Channel;
use rustls::ClientConfig;
use tokio::sync::mpsc;

use super::client::{Client, Connect, Version};
use super::{link_identity, node, within};

/// What node `a` may not do.
#[derive(Debug, Clone, Copy)]
pub enum Attempt {
    Subscribe(&'static str),
    Publish(&'static str),
    Will(&'static str),
    /// Connect under another name, and then listen to what is for `b`.
    Name(&'static str),
}

/// Everything that node `a` tries.
pub const ATTEMPTS: &[Attempt] = &[
    Attempt::Subscribe("orangery/v1/node/b/desired"),
    Attempt::Subscribe("orangery/v1/node/b/acked"),
    Attempt::Subscribe("orangery/v1/node/b/reported"),
    Attempt::Subscribe("orangery/v1/node/a/reported"),
    Attempt::Subscribe("orangery/v1/node/+/desired"),
    Attempt::Subscribe("orangery/v1/node/+/reported"),
    Attempt::Subscribe("orangery/v1/node/a/#"),
    Attempt::Subscribe("orangery/v1/node/b/+"),
    Attempt::Subscribe("orangery/#"),
    Attempt::Subscribe("#"),
    Attempt::Subscribe("+/#"),
    Attempt::Subscribe("$SYS/#"),
    Attempt::Subscribe("$share/x/orangery/v1/node/b/desired"),
    Attempt::Publish("orangery/v1/node/b/reported"),
    Attempt::Publish("orangery/v1/node/b/event"),
    Attempt::Publish("orangery/v1/node/b/online"),
    Attempt::Publish("orangery/v1/node/b/health"),
    Attempt::Publish("orangery/v1/node/b/desired"),
    Attempt::Publish("orangery/v1/node/b/acked"),
    Attempt::Publish("orangery/v1/node/a/desired"),
    Attempt::Publish("orangery/v1/node/a/reported/b"),
    Attempt::Publish("orangery/v1/node/coordinator/reported"),
    Attempt::Publish("elsewhere"),
    Attempt::Will("orangery/v1/node/b/online"),
    Attempt::Will("orangery/v1/node/b/desired"),
    Attempt::Name("b"),
    Attempt::Name("coordinator"),
    Attempt::Name(""),
];

/// How an attempt went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The connection was refused.
    NotConnected(String),
    /// The subscription was refused.
    NotSubscribed,
    /// The connection was cut.
    Cut(String),
    /// The broker made no objection; only what came of it can tell.
    NoObjection,
}

/// The coordinator's link and its events.
pub struct Coordinator {
    pub link: Link,
    pub events: mpsc::Receiver<LinkEvent>,
}

impl Coordinator {
    /// A link to the broker at `address`, with room for `room` events.
    pub fn new(ca: &Ca, address: &str, room: usize) -> Self {
        let (say, events) = mpsc::channel(room);
        let settings = LinkSettings {
            broker: address.to_owned(),
            tls: link_identity(ca),
            keepalive: Duration::from_secs(2),
            backoff_max: Duration::from_millis(500),
        };
        Self { link: Link::spawn(settings, say), events }
    }

    /// The next event.
    pub async fn event(&mut self) -> LinkEvent {
        within("an event of the link", self.events.recv()).await.expect("the link has ended")
    }

    /// Waits until the link is up.
    pub async fn up(&mut self) {
        while self.event().await != LinkEvent::Up {}
    }

    /// The next thing that a node said.
    pub async fn said(&mut self) -> FromNode {
        loop {
            if let LinkEvent::FromNode(message) = self.event().await {
                return message;
            }
        }
    }
}

/// The broker and everybody on it.
pub struct World {
    address: String,
    version: Version,
    a: Arc<ClientConfig>,
    b: Client,
    coordinator: Coordinator,
    round: u32,
}

const A_ACKED: &str = "orangery/v1/node/a/acked";

impl World {
    /// Connects the coordinator and node `b`; `a` will speak `version`.
    pub async fn new(ca: &Ca, address: &str, version: Version) -> Self {
        let mut coordinator = Coordinator::new(ca, address, 1_000);
        coordinator.up().await;
        let tls = node(ca, "b");
        let how = Connect { address, tls: Some(&tls), id: "b", will: None, version: Version::V3 };
        let mut b = Client::connect(&how).await.unwrap();
        for channel in ["desired", "acked"] {
            assert_eq!(b.subscribe(&format!("orangery/v1/node/b/{channel}")).await, Ok(true));
        }
        Self { address: address.to_owned(), version, a: node(ca, "a"), b, coordinator, round: 0 }
    }

    async fn connect_a(&self, id: &str, will: Option<(&str, &str)>) -> Result<Client, String> {
        let version = self.version;
        let how = Connect { address: &self.address, tls: Some(&self.a), id, will, version };
        let mut client = Client::connect(&how).await?;
        // What is really for `a` must reach it: else nothing would be proved by the absence of the rest.
        assert_eq!(client.subscribe(A_ACKED).await, Ok(true));
        Ok(client)
    }

    /// Makes one attempt, lets the others go about their business, and sees that `a` had no part in it.
    pub async fn attempt(&mut self, attempt: Attempt) -> Outcome {
        self.round += 1;
        let (mut client, outcome) = self.make(attempt).await;
        self.business_as_usual(client.as_mut().filter(|_| !matches!(outcome, Outcome::Cut(_)))).await;
        outcome
    }

    async fn make(&self, attempt: Attempt) -> (Option<Client>, Outcome) {
        let forged = format!("forged {}", self.round);
        match attempt {
            Attempt::Subscribe(filter) => {
                let mut client = self.connect_a("a", None).await.unwrap();
                let outcome = subscribe(&mut client, filter).await;
                (Some(client), outcome)
            }
            Attempt::Publish(topic) => {
                let mut client = self.connect_a("a", None).await.unwrap();
                let outcome = match client.publish(topic, forged).await {
                    Ok(_) => Outcome::NoObjection,
                    Err(reason) => Outcome::Cut(reason),
                };
                (Some(client), outcome)
            }
            Attempt::Will(topic) => match self.connect_a("a", Some((topic, &forged))).await {
                Err(reason) => (None, Outcome::NotConnected(reason)),
                Ok(client) => {
                    // Cut, so that the will is due; once `a` is back under its name, it has been dealt with.
                    drop(client);
                    (Some(self.connect_a("a", None).await.unwrap()), Outcome::NoObjection)
                }
            },
            Attempt::Name(id) => match self.connect_a(id, None).await {
                Err(reason) => (None, Outcome::NotConnected(reason)),
                Ok(mut client) => {
                    subscribe(&mut client, "orangery/v1/node/b/desired").await;
                    (Some(client), Outcome::NoObjection)
                }
            },
        }
    }

    /// The coordinator and `b` talk. Each must hear exactly the other, and `a` nothing but what is for `a`.
    async fn business_as_usual(&mut self, a: Option<&mut Client>) {
        let round = self.round;
        let (desired, reported, sentinel) =
            (format!("secret {round}"), format!("honest {round}"), format!("sentinel {round}"));
        self.coordinator.link.publish(&id("b"), Channel::Desired, desired.clone()).unwrap();
        let heard = self.b.message().await.expect("b is still connected");
        assert_eq!(heard, ("orangery/v1/node/b/desired".to_owned(), desired), "what b hears");

        assert_eq!(self.b.publish("orangery/v1/node/b/reported", reported.clone()).await, Ok(true));
        let heard = self.coordinator.said().await;
        let expected = FromNode { node: id("b"), channel: Channel::Reported, payload: reported.into() };
        assert_eq!(heard, expected, "what the coordinator hears");

        // Sent after all that: when `a` has this one, it would have had the others.
        self.coordinator.link.publish(&id("a"), Channel::Acked, sentinel.clone()).unwrap();
        let Some(a) = a else { return };
        loop {
            let (topic, payload) = a.message().await.expect("a is still connected");
            assert!(topic == A_ACKED && payload.starts_with("sentinel"), "a hears {payload:?} on {topic}");
            if payload == sentinel {
                break;
            }
        }
    }

    /// Sees that nothing forged was kept for those who come later.
    pub async fn newcomers_find_nothing_forged(&mut self, ca: &Ca) {
        let mut a = self.connect_a("a", None).await.unwrap();
        self.coordinator.link.publish(&id("a"), Channel::Desired, "sentinel").unwrap();
        assert_eq!(a.subscribe("orangery/v1/node/a/desired").await, Ok(true));
        while let Ok((topic, payload)) = a.message().await {
            assert!(payload.starts_with("sentinel"), "a finds {payload:?} on {topic}");
            if topic.ends_with("desired") {
                break;
            }
        }
        let mut late = Coordinator::new(ca, &self.address, 1_000);
        late.up().await;
        let (reported, done) = ("orangery/v1/node/a/reported", "done");
        assert_eq!(a.publish(reported, done).await, Ok(true));
        loop {
            let heard = late.said().await;
            assert!(!heard.payload.starts_with(b"forged"), "kept: {heard:?}");
            if heard.payload == done {
                break;
            }
        }
    }
}

async fn subscribe(client: &mut Client, filter: &str) -> Outcome {
    match client.subscribe(filter).await {
        Ok(true) => Outcome::NoObjection,
        Ok(false) => Outcome::NotSubscribed,
        Err(reason) => Outcome::Cut(reason),
    }
}

fn id(name: &str) -> NodeId {
    name.parse().unwrap()
}
