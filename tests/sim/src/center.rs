//! The coordinator in the world: what reaches it, its turns, and how it goes down and comes back.

use orangery::engine::{Command, Effects};
use orangery::link::{FromNode, LinkEvent};
use orangery_wire::messages::Acked;
use orangery_wire::topics::Channel;
use serde::Deserialize;
use tokio::sync::oneshot;

use crate::coordinator::{EventNumber, Topic};
use crate::options::Mutant;
use crate::trace::Line;
use crate::world::{Due, EPOCH_SECS, MINUTE, SECOND, World};

/// How long commands gather before a turn, if none is under way.
const TURN: u64 = 5;
/// How long a transaction takes: as the sync of a good disk.
const COMMIT: u64 = 20;
/// One turn in so many ends with the coordinator's death, after its commit.
const TURNS_TO_A_CUT: u64 = 10_000;

/// What names an event.
#[derive(Deserialize)]
struct Numbered {
    epoch: u64,
    sequence: u64,
}

impl World {
    pub(crate) fn coordinator_starts(&mut self) {
        if self.coordinator.runs() {
            return;
        }
        self.coordinator.set_time(EPOCH_SECS + self.now / SECOND);
        self.coordinator.stored.resize_with(self.nodes.len(), Default::default);
        let effects = match self.coordinator.start() {
            Ok(effects) => effects,
            Err(error) => return self.break_law(crate::laws::Law::DatabaseWorks, None, error.to_string()),
        };
        self.note(Line::NOWHERE, "coordinator starts", effects.publications.len() as u64, 0);
        self.coordinator.changed_at = self.now;
        let revoked = (0..self.nodes.len()).filter(|n| self.coordinator.has_revoked(&self.nodes[*n].id)).collect();
        self.coordinator.revoked = revoked;
        if !self.has(Mutant::NothingIsRestated) {
            self.publish(effects);
        }
        self.publish_releases();
        if self.broker.embedded {
            self.broker_starts();
        }
        self.later(SECOND, Due::CoordinatorDials);
    }

    /// Everything there is, as people would have done before; again, it changes nothing.
    fn publish_releases(&mut self) {
        let rows: Vec<_> = self.catalogue.all().map(|release| release.row.clone()).collect();
        for row in rows {
            self.command(Command::Publish(row, Vec::new(), oneshot::channel().0), None);
        }
    }

    /// Something to do for the coordinator.
    pub(crate) fn command(&mut self, command: Command, event: Option<EventNumber>) {
        if self.coordinator.runs() && self.coordinator.hear(command, event) {
            self.later(TURN, Due::Turn);
        }
    }

    pub(crate) fn coordinator_dials(&mut self) {
        if !self.coordinator.runs() || self.coordinator.session.is_some() {
            return;
        }
        if !self.broker.up {
            return self.later(5 * SECOND, Due::CoordinatorDials);
        }
        let session = self.broker.new_session();
        (self.coordinator.session, self.broker.coordinator) = (Some(session), Some(session));
        self.coordinator.changed_at = self.now;
        self.command(Command::Link(LinkEvent::Up), None);
        for (node, channel, payload) in self.broker.said_by_nodes() {
            self.forward_to_coordinator(node, channel, payload);
        }
        self.coordinator.values.restart();
        self.hand_over();
    }

    pub(crate) fn reaches_coordinator(&mut self, n: usize, session: u64, channel: Channel, payload: Vec<u8>) {
        self.nodes[n].line.travelling -= 1;
        if self.coordinator.session != Some(session) {
            self.counts.messages_lost += 1;
            return;
        }
        let event = if channel == Channel::Event { self.number(n, &payload) } else { None };
        if let Some(event) = event.filter(|_| self.has(Mutant::AcksBeforeTheCommit)) {
            self.ack_too_early(n, event);
            if self.random.percent(20) {
                return;
            }
        }
        let node = self.nodes[n].id.clone();
        let message = FromNode { node, channel, payload: payload.into() };
        self.command(Command::Link(LinkEvent::FromNode(message)), event);
    }

    fn number(&self, n: usize, payload: &[u8]) -> Option<EventNumber> {
        let numbered: Numbered = serde_json::from_slice(payload).ok()?;
        (numbered.epoch == self.nodes[n].shelf.epoch()).then_some(EventNumber { node: n, sequence: numbered.sequence })
    }

    fn ack_too_early(&mut self, n: usize, event: EventNumber) {
        let acked = Acked { epoch: self.nodes[n].shelf.epoch(), sequence: event.sequence };
        if let (Some(session), Ok(payload)) = (self.broker.sessions.get(&n).copied(), serde_json::to_vec(&acked)) {
            self.forward_to_node(n, session, Channel::Acked, payload);
        }
    }

    /// One transaction begins. It takes a while, in which more gathers.
    pub(crate) fn turn(&mut self) {
        let fails = self.now < self.coordinator.full_until && !self.has(Mutant::AcksBeforeTheCommit);
        if let Some(number) = self.coordinator.begin_turn(fails, EPOCH_SECS + self.now / SECOND) {
            self.later(COMMIT, Due::TurnEnds(number));
        }
    }

    /// It is durable, and what follows from it is done; or there is a power cut between the two.
    pub(crate) fn turn_ends(&mut self, number: u64) {
        let Some((fails, done)) = self.coordinator.end_turn(number) else { return };
        let dies = self.is_rough() && self.random.below(TURNS_TO_A_CUT) == 0;
        let effects = match done {
            Err(_) if fails => {
                self.note(Line::NOWHERE, "turn failed", 0, 0);
                return self.next_turn();
            }
            Err(error) => return self.break_law(crate::laws::Law::DatabaseWorks, None, error.to_string()),
            Ok(effects) => effects,
        };
        self.note(Line::NOWHERE, "turn", effects.publications.len() as u64, effects.cut_off.len() as u64);
        if dies {
            return self.kill_coordinator(MINUTE);
        }
        self.publish(effects);
        self.next_turn();
    }

    fn next_turn(&mut self) {
        if self.coordinator.has_more() {
            self.later(1, Due::Turn);
        }
    }

    fn publish(&mut self, effects: Effects) {
        for (node, channel, payload) in &effects.publications {
            self.counts.deployments += u64::from(*channel == Channel::Desired);
            self.coordinator.values.set((node.clone(), *channel), payload.clone());
        }
        for node in &effects.cut_off {
            if let Some(n) = self.index(node.as_str()) {
                self.coordinator.revoked.insert(n);
                self.broker.sessions.remove(&n);
                self.session_breaks(n, true);
            }
        }
        effects.reply();
        self.hand_over();
    }

    pub(crate) fn index(&self, node: &str) -> Option<usize> {
        node.strip_prefix('n')?.parse().ok().filter(|n| *n < self.nodes.len())
    }

    /// As the link does: values go out as long as there is room.
    fn hand_over(&mut self) {
        let Some(session) = self.coordinator.session else { return };
        while let Some((topic, payload)) = self.coordinator.values.hand_over() {
            let packet = self.coordinator.next_packet();
            self.coordinator.values.sent(packet);
            let at = (self.now + self.random.between(1, 4)).max(self.coordinator.to_broker_at);
            self.coordinator.to_broker_at = at;
            self.at(at, Due::ToBroker { session, packet, topic, payload: payload.to_vec() });
        }
    }

    pub(crate) fn reaches_broker(&mut self, session: u64, packet: u16, (node, channel): Topic, mut payload: Vec<u8>) {
        if self.broker.coordinator != Some(session) {
            return;
        }
        self.later(1, Due::BrokerAcks { session, packet });
        let Some(n) = self.index(node.as_str()) else { return };
        if channel == Channel::Desired && self.has(Mutant::OldDesiredComesAgain) {
            payload = self.older(n, payload);
        }
        self.broker.retain(n, channel, &payload);
        if let Some(session) = self.broker.sessions.get(&n).copied()
            && !payload.is_empty()
        {
            self.forward_to_node(n, session, channel, payload);
        }
    }

    /// What was desired before, in the generations of now.
    fn older(&self, n: usize, payload: Vec<u8>) -> Vec<u8> {
        let parse = |bytes: &[u8]| serde_json::from_slice::<orangery_wire::messages::Desired>(bytes).ok();
        let before = self.broker.retained(n, Channel::Desired).and_then(|before| parse(&before));
        let (Some(before), Some(mut desired)) = (before, parse(&payload)) else { return payload };
        for app in &mut desired.apps {
            if let Some(old) = before.apps.iter().find(|old| old.app == app.app) {
                app.release.clone_from(&old.release);
            }
        }
        serde_json::to_vec(&desired).unwrap_or(payload)
    }

    pub(crate) fn broker_acks(&mut self, session: u64, packet: u16) {
        if self.coordinator.session == Some(session) {
            self.coordinator.values.acked(packet);
            self.hand_over();
        }
    }

    /// The coordinator is killed; an embedded broker goes with it.
    pub(crate) fn kill_coordinator(&mut self, usual: u64) {
        if !self.coordinator.runs() {
            return;
        }
        self.counts.coordinator_kills += 1;
        self.coordinator.stop();
        self.coordinator.changed_at = self.now;
        let away = self.random.long_tailed(usual);
        self.note(Line::NOWHERE, "coordinator killed", away, 0);
        if self.broker.embedded {
            self.broker_falls();
        } else {
            self.broker.coordinator = None;
        }
        self.later(away, Due::CoordinatorStarts);
    }

    /// A broker of its own is restarted.
    pub(crate) fn restart_broker(&mut self) {
        if self.broker.embedded || !self.broker.up {
            return;
        }
        self.note(Line::NOWHERE, "broker restarted", 0, 0);
        self.broker_falls();
        let away = self.random.long_tailed(MINUTE);
        self.later(away, Due::BrokerStarts);
        if self.coordinator.session.take().is_some() {
            self.coordinator.changed_at = self.now;
            self.command(Command::Link(LinkEvent::Down { reason: "the broker is gone".to_owned() }), None);
            self.later(SECOND, Due::CoordinatorDials);
        }
    }
}
