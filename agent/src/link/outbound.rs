//! What the node has to say, and what it has said on the present connection.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use orangery_wire::NodeId;
use orangery_wire::messages::Online;
use orangery_wire::topics::{self, Channel};
use rumqttc::{AsyncClient, ClientError, LastWill, QoS, SubscribeFilter};

use super::IN_FLIGHT_MAX;
use super::drip::Drip;

/// Room in the client for everything that is said at once: the events in flight and what every connection begins with.
pub(super) const CLIENT_ROOM: u16 = 16;

/// Holds the latest proof and knows which events are in flight. Everything else about a connection ends with it.
pub(super) struct Outbound {
    pub(super) topics: Topics,
    online: Vec<u8>,
    offline: Vec<u8>,
    report: Option<Vec<u8>>,
    /// The client of the present connection, from the broker's answer to CONNECT until the end.
    client: Option<AsyncClient>,
    /// Whether the broker has agreed to the subscription.
    up: bool,
    /// What is still to be handed to the client, in order.
    due: VecDeque<Saying>,
    stopping: bool,
    in_flight: BTreeSet<u64>,
    drip: Drip,
    /// When an event was last acknowledged, or the first put in flight.
    moved_at: Instant,
}

/// Whether an event was taken to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is on its way.
    Yes,
    /// There is no connection, or no room on it.
    No,
    /// So many went before it that it has to wait a little.
    Later,
}

/// The topics of this node.
pub(super) struct Topics {
    pub(super) desired: String,
    pub(super) acked: String,
    reported: String,
    health: String,
    event: String,
    online: String,
}

/// Something that must be said on this connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Saying {
    Online,
    Subscribe,
    Report,
    Offline,
    Goodbye,
}

impl Outbound {
    pub(super) fn new(node: &NodeId, boot_id: &str) -> Self {
        let says = |online| {
            let message = Online { online, boot_id: boot_id.to_owned() };
            // A bool and a text cannot fail to serialise.
            serde_json::to_vec(&message).unwrap_or_default()
        };
        Self {
            topics: Topics::of(node),
            online: says(true),
            offline: says(false),
            report: None,
            client: None,
            up: false,
            due: VecDeque::new(),
            stopping: false,
            in_flight: BTreeSet::new(),
            drip: Drip::new(Instant::now()),
            moved_at: Instant::now(),
        }
    }

    /// What the broker publishes when the connection ends without a farewell.
    pub(super) fn will(&self) -> LastWill {
        LastWill::new(&self.topics.online, self.offline.clone(), QoS::AtLeastOnce, true)
    }

    /// A connection stands: says "online" first, then subscribes, then reports.
    pub(super) fn begin(&mut self, client: AsyncClient) {
        self.end();
        self.client = Some(client);
        self.due = VecDeque::from([Saying::Online, Saying::Subscribe]);
        if self.report.is_some() {
            self.due.push_back(Saying::Report);
        }
        if self.stopping {
            self.due.extend([Saying::Offline, Saying::Goodbye]);
        }
        self.speak();
    }

    /// The broker has agreed to the subscription: events may follow.
    pub(super) fn subscribed(&mut self) {
        self.up = true;
    }

    /// The connection is gone, and with it whatever its client held.
    pub(super) fn end(&mut self) {
        self.client = None;
        self.up = false;
        self.due.clear();
        self.in_flight.clear();
    }

    pub(super) fn report(&mut self, payload: Vec<u8>) {
        self.report = Some(payload);
        if self.client.is_some() && !self.stopping && !self.due.contains(&Saying::Report) {
            self.due.push_back(Saying::Report);
            self.speak();
        }
    }

    /// Says "online" once more on the connection that is there, for the sake of the answer. A connection that is being made
    /// says it anyway.
    pub(super) fn ask(&mut self) {
        if self.client.is_some() && !self.stopping && !self.due.contains(&Saying::Online) {
            self.due.push_back(Saying::Online);
            self.speak();
        }
    }

    pub(super) fn health(&mut self, payload: Vec<u8>) {
        if let (true, Some(client)) = (self.up && self.due.is_empty(), &self.client) {
            // No room: dropped, the next one is newer.
            let _ = client.try_publish(&self.topics.health, QoS::AtMostOnce, false, payload);
        }
    }

    pub(super) fn event(&mut self, sequence: u64, payload: Vec<u8>) -> Taken {
        if self.in_flight.contains(&sequence) {
            return Taken::Yes;
        }
        let ready = self.up && self.due.is_empty() && self.in_flight.len() < IN_FLIGHT_MAX;
        let Some(client) = self.client.as_ref().filter(|_| ready) else { return Taken::No };
        if !self.drip.take(Instant::now()) {
            return Taken::Later;
        }
        if client.try_publish(&self.topics.event, QoS::AtLeastOnce, false, payload).is_err() {
            return Taken::No;
        }
        if self.in_flight.is_empty() {
            self.moved_at = Instant::now();
        }
        self.in_flight.insert(sequence);
        Taken::Yes
    }

    pub(super) fn acked(&mut self, sequence: u64) {
        let before = self.in_flight.len();
        self.in_flight.retain(|waiting| *waiting > sequence);
        if self.in_flight.len() < before {
            self.moved_at = Instant::now();
        }
    }

    /// Nothing is in flight any more: who should have taken it was away.
    pub(super) fn forget_events(&mut self) {
        self.in_flight.clear();
    }

    /// Whether events have waited for their acknowledgement for `patience`. If so they are no longer in flight.
    pub(super) fn gave_up_waiting(&mut self, patience: Duration) -> bool {
        let stuck = !self.in_flight.is_empty() && self.moved_at.elapsed() >= patience;
        if stuck {
            self.in_flight.clear();
        }
        stuck
    }

    /// The last words of this link. Nothing but these is said from now on.
    pub(super) fn farewell(&mut self) {
        if self.stopping {
            return;
        }
        self.stopping = true;
        self.due.retain(|saying| *saying != Saying::Report);
        if self.client.is_some() {
            self.due.extend([Saying::Offline, Saying::Goodbye]);
            self.speak();
        }
    }

    /// Hands the client as much of what is due as it has room for. Called after everything that may have made room.
    pub(super) fn speak(&mut self) {
        while let Some(saying) = self.due.front() {
            if self.say(*saying).is_err() {
                return;
            }
            self.due.pop_front();
        }
    }

    fn say(&self, saying: Saying) -> Result<(), ClientError> {
        let Some(client) = &self.client else { return Ok(()) };
        let keep =
            |topic: &String, payload: &Vec<u8>| client.try_publish(topic, QoS::AtLeastOnce, true, payload.clone());
        match saying {
            Saying::Online => keep(&self.topics.online, &self.online),
            Saying::Offline => keep(&self.topics.online, &self.offline),
            Saying::Report => self.report.as_ref().map_or(Ok(()), |report| keep(&self.topics.reported, report)),
            Saying::Goodbye => client.try_disconnect(),
            Saying::Subscribe => {
                let filters = [&self.topics.desired, &self.topics.acked];
                client.try_subscribe_many(filters.map(|topic| SubscribeFilter::new(topic.clone(), QoS::AtLeastOnce)))
            }
        }
    }
}

impl Topics {
    fn of(node: &NodeId) -> Self {
        let topic = |channel| topics::topic(node, channel);
        Self {
            desired: topic(Channel::Desired),
            acked: topic(Channel::Acked),
            reported: topic(Channel::Reported),
            health: topic(Channel::Health),
            event: topic(Channel::Event),
            online: topic(Channel::Online),
        }
    }
}
