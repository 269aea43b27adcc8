//! A simulated node: what the agent says to the broker, in its order and with its pauses, and no apps.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::mpsc::Sender;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use anyhow::bail;
use orangery_agent::backoff;
use orangery_wire::manifest::this_platform;
use orangery_wire::messages::{
    Acked, AppReport, Desired, Event, FORMAT, Health, Online, Phase, Reported, TrustReport, What,
};
use orangery_wire::topics::{Channel, topic};
use rumqttc::{LastWill, Packet, PubAck, QoS, Subscribe, SubscribeFilter, SubscribeReasonCode};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant as Moment, sleep, sleep_until};

use crate::enrol::Seat;
use crate::session::{KEEPALIVE, Session};

/// The agent's first pause, and its longest unless its settings say otherwise.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_mins(2);
/// Events that are told and not yet acknowledged: the agent's.
const EVENTS_IN_FLIGHT: u64 = orangery_agent::link::IN_FLIGHT_MAX as u64;
/// Events that are not acknowledged for so long are told again: the agent's.
const RESEND_AFTER: Duration = Duration::from_mins(1);
const BOOT_ID: &str = "6c1e0f1c-5a53-4a5b-9d0e-0c5d8c1f2ab3";

/// How long a node waits before it connects again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pauses {
    /// As agents do: a random part of a second, of two, of four.
    Agent,
    /// All alike: at once, then one second, two, four.
    Alike,
}

/// What a node is told to do.
#[derive(Debug, Clone, Copy)]
pub enum Order {
    /// Connect, and stay connected.
    Connect(Pauses),
    /// Lose the connection without a word.
    Cut(Pauses),
    /// Say so many times how it is.
    Health(usize),
    /// So many things happen.
    Events(u64),
    /// Prove that it runs what it was told to run.
    Prove,
}

/// What a node has seen.
#[derive(Debug)]
pub enum Seen {
    /// Connected and subscribed.
    Up,
    /// An attempt or a connection ended.
    Ended(String),
    /// It was told what to run.
    Desired,
    /// An event of its is stored, so long after it happened.
    Stored(Duration),
}

/// Something that a node has seen.
#[derive(Debug)]
pub struct Heard {
    /// Which.
    pub node: usize,
    /// When.
    pub at: Instant,
    /// What.
    pub seen: Seen,
}

/// The node.
pub struct Node {
    /// Its place among the others.
    pub index: usize,
    /// Who it is.
    pub seat: Seat,
    /// Where the broker is.
    pub broker: Arc<RwLock<SocketAddr>>,
    /// What it is told.
    pub orders: UnboundedReceiver<Order>,
    /// Who hears what it sees.
    pub tell: Sender<Heard>,
    pauses: Pauses,
    said: Said,
}

/// What a node remembers, connected or not.
struct Said {
    epoch: u64,
    reports: u64,
    desired: Option<Desired>,
    proven: bool,
    /// When each event that is not stored happened.
    outbox: VecDeque<Instant>,
    stored: u64,
    /// The last event that was told on this connection.
    told: u64,
    /// When one was last acknowledged, or told for the first time.
    moved_at: Moment,
}

/// Why a connection ended.
enum End {
    Lost(anyhow::Error),
    Cut,
    Over,
}

impl From<anyhow::Error> for End {
    fn from(error: anyhow::Error) -> Self {
        Self::Lost(error)
    }
}

impl Node {
    /// A node that does nothing yet.
    pub fn new(
        index: usize,
        seat: Seat,
        broker: Arc<RwLock<SocketAddr>>,
        orders: UnboundedReceiver<Order>,
        tell: Sender<Heard>,
    ) -> Self {
        // 0 is the coordinator's own.
        let said = Said {
            epoch: backoff::random().max(1),
            reports: 0,
            desired: None,
            proven: false,
            outbox: VecDeque::new(),
            stored: 0,
            told: 0,
            moved_at: Moment::now(),
        };
        Self { index, seat, broker, orders, tell, pauses: Pauses::Agent, said }
    }

    /// Does what it is told until nobody tells it anything any more.
    pub async fn run(mut self) {
        while let Some(order) = self.orders.recv().await {
            match order {
                Order::Connect(pauses) => {
                    self.pauses = pauses;
                    return self.keep().await;
                }
                other => self.remember(other),
            }
        }
    }

    /// Stays connected, as `agent/src/link/connection.rs` does.
    async fn keep(&mut self) {
        let mut failures = 0_u32;
        loop {
            let begun = Instant::now();
            let end = match self.connection().await {
                Err(End::Over) | Ok(()) => return,
                Err(end) => end,
            };
            failures = if begun.elapsed() >= KEEPALIVE * 2 { 1 } else { failures.saturating_add(1) };
            let reason = if let End::Lost(error) = end {
                error.to_string()
            } else {
                failures = 1;
                "cut".to_owned()
            };
            self.say(Seen::Ended(reason));
            sleep(self.pause(failures)).await;
        }
    }

    fn pause(&self, failures: u32) -> Duration {
        match self.pauses {
            Pauses::Agent => backoff::delay(failures, PAUSE_FIRST, PAUSE_MAX, backoff::random()),
            Pauses::Alike => failures
                .checked_sub(2)
                .map_or(Duration::ZERO, |doublings| PAUSE_FIRST.saturating_mul(1 << doublings.min(16)).min(PAUSE_MAX)),
        }
    }

    fn say(&self, seen: Seen) {
        // Whoever listened has all that was wanted.
        let _ = self.tell.send(Heard { node: self.index, at: Instant::now(), seen });
    }

    fn topic(&self, channel: Channel) -> String {
        topic(&self.seat.node, channel)
    }

    async fn connection(&mut self) -> Result<(), End> {
        let broker = *self.broker.read().map_err(|_| End::Over)?;
        let will = LastWill::new(self.topic(Channel::Online), online(false), QoS::AtLeastOnce, true);
        let mut session = Session::connect(&self.seat, broker, will).await?;
        session.publish(&self.topic(Channel::Online), QoS::AtLeastOnce, true, online(true)).await?;
        let filter = |channel| SubscribeFilter::new(self.topic(channel), QoS::AtLeastOnce);
        let mut subscribe = Subscribe::new_many([filter(Channel::Desired), filter(Channel::Acked)]);
        subscribe.pkid = session.next_id();
        session.send(&Packet::Subscribe(subscribe)).await?;
        self.said.told = self.said.stored;
        self.said.moved_at = Moment::now();
        let mut ping = Moment::now() + KEEPALIVE;
        loop {
            let again = self.said.moved_at + RESEND_AFTER;
            tokio::select! {
                packet = session.packet() => self.heard(&mut session, packet?).await?,
                order = self.orders.recv() => self.obey(&mut session, order.ok_or(End::Over)?).await?,
                () = sleep_until(again), if self.said.told > self.said.stored => {
                    self.said.told = self.said.stored;
                    self.said.moved_at = Moment::now();
                    self.offer(&mut session).await?;
                }
                () = sleep_until(ping) => {
                    session.send(&Packet::PingReq).await?;
                    ping = Moment::now() + KEEPALIVE;
                }
            }
        }
    }

    async fn heard(&mut self, session: &mut Session, packet: Packet) -> anyhow::Result<()> {
        match packet {
            Packet::SubAck(ack) if ack.return_codes.contains(&SubscribeReasonCode::Failure) => {
                bail!("the broker refuses the subscription")
            }
            Packet::SubAck(_) => {
                self.say(Seen::Up);
                self.report(session).await?;
                self.offer(session).await?;
            }
            Packet::Publish(publish) => {
                if publish.topic.ends_with("/desired") {
                    let desired: Desired = serde_json::from_slice(&publish.payload)?;
                    self.say(Seen::Desired);
                    self.said.proven = self.said.desired.as_ref() == Some(&desired) && self.said.proven;
                    self.said.desired = Some(desired);
                } else {
                    self.acked(serde_json::from_slice(&publish.payload)?);
                }
                session.send(&Packet::PubAck(PubAck::new(publish.pkid))).await?;
                self.offer(session).await?;
            }
            _ => {}
        }
        Ok(())
    }

    fn acked(&mut self, acked: Acked) {
        if acked.epoch != self.said.epoch {
            return;
        }
        while self.said.stored < acked.sequence
            && let Some(happened) = self.said.outbox.pop_front()
        {
            self.said.stored += 1;
            self.said.moved_at = Moment::now();
            self.say(Seen::Stored(happened.elapsed()));
        }
        self.said.told = self.said.told.max(self.said.stored);
    }

    async fn obey(&mut self, session: &mut Session, order: Order) -> Result<(), End> {
        match order {
            Order::Cut(pauses) => {
                self.pauses = pauses;
                return Err(End::Cut);
            }
            Order::Health(count) => {
                let topic = self.topic(Channel::Health);
                for number in 0..count {
                    session.publish(&topic, QoS::AtMostOnce, false, health(number)).await?;
                    // Each node has its turn.
                    tokio::task::yield_now().await;
                }
            }
            Order::Prove => {
                self.said.proven = true;
                self.report(session).await?;
            }
            other => {
                self.remember(other);
                self.offer(session).await?;
            }
        }
        Ok(())
    }

    fn remember(&mut self, order: Order) {
        if let Order::Events(count) = order {
            self.said.outbox.extend((0..count).map(|_| Instant::now()));
        }
    }

    /// Tells events that were not told on this connection, as many as may be under way.
    async fn offer(&mut self, session: &mut Session) -> anyhow::Result<()> {
        let happened = self.said.stored + self.said.outbox.len() as u64;
        if self.said.told == self.said.stored {
            self.said.moved_at = Moment::now();
        }
        while self.said.told < happened.min(self.said.stored + EVENTS_IN_FLIGHT) {
            self.said.told += 1;
            let event = self.event(self.said.told)?;
            session.publish(&self.topic(Channel::Event), QoS::AtLeastOnce, false, event).await?;
        }
        Ok(())
    }

    fn event(&self, sequence: u64) -> anyhow::Result<Vec<u8>> {
        let what = What::PhaseChanged { generation: sequence, release: None, phase: Phase::Settled };
        let previous = if sequence == self.said.stored + 1 { 0 } else { sequence - 1 };
        let event = Event {
            format: FORMAT,
            node: self.seat.node.clone(),
            epoch: self.said.epoch,
            sequence,
            previous: Some(previous),
            at: 1_790_000_000,
            clock_synced: true,
            boot_id: BOOT_ID.to_owned(),
            app: Some("greeter".parse()?),
            what,
        };
        Ok(serde_json::to_vec(&event)?)
    }

    async fn report(&mut self, session: &mut Session) -> anyhow::Result<()> {
        self.said.reports += 1;
        let desired = self.said.desired.as_ref();
        let apps = desired.iter().flat_map(|desired| &desired.apps).map(|told| AppReport {
            app: told.app.clone(),
            generation: told.generation,
            desired: told.release.clone(),
            current: told.release.clone().filter(|_| self.said.proven),
            running: told.release.clone().filter(|_| self.said.proven),
            phase: if self.said.proven { Phase::Settled } else { Phase::Fetching },
            refusal: None,
            healthy: self.said.proven.then_some(true),
            revoked: false,
            unwitnessed: false,
            waits: None,
        });
        let reported = Reported {
            format: FORMAT,
            node: self.seat.node.clone(),
            boot_id: BOOT_ID.to_owned(),
            sequence: self.said.reports,
            generation: desired.map_or(0, |desired| desired.generation),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            platform: this_platform(),
            board: Some("Raspberry Pi 4 Model B Rev 1.4".to_owned()),
            labels: BTreeMap::from([("site".to_owned(), format!("site-{}", self.index % 20))]),
            trust: TrustReport { root: 1, targets: 7, stale: false },
            apps: apps.collect(),
        };
        let payload = serde_json::to_vec(&reported)?;
        session.publish(&self.topic(Channel::Reported), QoS::AtLeastOnce, true, payload).await
    }
}

fn online(online: bool) -> Vec<u8> {
    serde_json::to_vec(&Online { online, boot_id: BOOT_ID.to_owned() }).unwrap_or_default()
}

fn health(number: usize) -> Vec<u8> {
    let health = Health {
        at: 1_790_000_000,
        load_1m: 0.07,
        memory_bytes: 4_030_627_840,
        memory_used_bytes: 411_041_792,
        disk_bytes: 31_268_536_320,
        disk_free_bytes: 25_013_764_096,
        temperature_celsius: Some(47.2),
        uptime_secs: number as u64,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Health::default()
    };
    serde_json::to_vec(&health).unwrap_or_default()
}
