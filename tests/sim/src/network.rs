//! Lines, sessions and messages. A session keeps the order of its messages and loses what is on its way when it breaks.

use orangery_agent::backoff;
use orangery_agent::driver::Event;
use orangery_agent::link::LinkEvent;
use orangery_wire::messages::Online;
use orangery_wire::topics::Channel;
use std::time::Duration;

use crate::life::RESEND_AFTER;
use crate::options::Mutant;
use crate::outside::look;
use crate::world::{Due, SECOND, World};

/// The agent's own pauses between attempts to connect.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_mins(2);
/// The broker gives a silent connection up after so long, a node within this and twice of it.
const SILENCE: u64 = 45 * SECOND;

impl World {
    /// An attempt to connect, if none is due and there is no connection.
    pub(crate) fn dial_soon(&mut self, n: usize, within: u64) {
        let node = &mut self.nodes[n];
        if node.driver.is_none() || node.line.session.is_some() || node.line.dialling {
            return;
        }
        node.line.dialling = true;
        let (life, pause) = (node.life, node.random.below(within));
        self.later(pause, Due::Dials { node: n, life });
    }

    /// After a failure; nobody dials while nothing can answer: whatever comes back says so.
    fn dial_again(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        node.line.failures = node.line.failures.saturating_add(1);
        let pause = backoff::delay(node.line.failures, FIRST_PAUSE, PAUSE_MAX, node.random.number());
        self.dial_soon(n, u64::try_from(pause.as_millis()).unwrap_or(u64::MAX).max(1));
    }

    fn can_connect(&self, n: usize) -> bool {
        let node = &self.nodes[n];
        node.powered && node.line.passes() && self.broker.up && !self.coordinator.revoked.contains(&n)
    }

    pub(crate) fn dials(&mut self, n: usize, life: u64) {
        self.nodes[n].line.dialling = false;
        if self.nodes[n].life != life || self.nodes[n].line.session.is_some() || !self.can_connect(n) {
            return;
        }
        if self.nodes[n].random.percent(3) {
            return self.dial_again(n);
        }
        self.counts.connections += 1;
        if self.broker.sessions.contains_key(&n) {
            self.publish_will(n);
        }
        let session = self.broker.new_session();
        self.broker.sessions.insert(n, session);
        self.nodes[n].line.connect(session, self.now);
        self.note(n, "connects", session, 0);
        let online = Online { online: true, boot_id: format!("boot-{}", self.nodes[n].boot) };
        self.says(n, Channel::Online, serde_json::to_vec(&online).unwrap_or_default());
        let report = look(&self.nodes[n].shared).report.clone();
        if let Some(report) = report {
            self.says(n, Channel::Reported, report);
        }
        let answered = self.nodes[n].random.between(20, 500);
        self.later(answered, Due::Connected { node: n, life, session });
    }

    /// The broker has agreed to the subscription; what it keeps for the node follows.
    pub(crate) fn connected(&mut self, n: usize, life: u64, session: u64) {
        if self.nodes[n].life != life || self.nodes[n].line.session != Some(session) {
            return;
        }
        look(&self.nodes[n].shared).up = true;
        for channel in [Channel::Desired, Channel::Acked] {
            if let Some(payload) = self.broker.retained(n, channel) {
                self.forward_to_node(n, session, channel, payload);
            }
        }
        self.tell(n, life, Event::Link(LinkEvent::Up));
    }

    /// The node publishes something.
    pub(crate) fn says(&mut self, n: usize, channel: Channel, payload: Vec<u8>) {
        let Some(session) = self.nodes[n].line.session else { return };
        if channel == Channel::Reported && self.has(Mutant::ReportsGetLost) && self.nodes[n].random.percent(20) {
            return;
        }
        self.trace.bytes(&payload);
        let takes = self.nodes[n].random.between(5, 300);
        let line = &mut self.nodes[n].line;
        let at = (self.now + takes).max(line.from_node_at + 1);
        line.from_node_at = at;
        line.travelling += 1;
        self.at(at, Due::FromNode { node: n, session, channel, payload });
    }

    pub(crate) fn reaches_broker_from_node(&mut self, n: usize, session: u64, channel: Channel, payload: Vec<u8>) {
        self.nodes[n].line.travelling -= 1;
        if self.broker.sessions.get(&n) != Some(&session) || !self.nodes[n].line.passes() {
            self.counts.messages_lost += 1;
            return;
        }
        self.counts.messages += 1;
        if matches!(channel, Channel::Reported | Channel::Online) {
            self.broker.retain(n, channel, &payload);
        }
        self.forward_to_coordinator(n, channel, payload);
    }

    /// The coordinator hears what nodes say, while it is connected.
    pub(crate) fn forward_to_coordinator(&mut self, n: usize, channel: Channel, payload: Vec<u8>) {
        let Some(session) = self.broker.coordinator else { return };
        self.nodes[n].line.travelling += 1;
        self.later(2, Due::ToCoordinator { node: n, session, channel, payload });
    }

    /// The broker has something for a node.
    pub(crate) fn forward_to_node(&mut self, n: usize, session: u64, channel: Channel, payload: Vec<u8>) {
        let takes = self.nodes[n].random.between(5, 300);
        let line = &mut self.nodes[n].line;
        let at = (self.now + takes).max(line.to_node_at + 1);
        line.to_node_at = at;
        line.travelling += 1;
        self.at(at, Due::ToNode { node: n, session, channel, payload });
    }

    pub(crate) fn reaches_node(&mut self, n: usize, session: u64, channel: Channel, payload: Vec<u8>) {
        let node = &mut self.nodes[n];
        node.line.travelling -= 1;
        if node.line.session != Some(session) || !node.line.passes() {
            self.counts.messages_lost += 1;
            return;
        }
        self.counts.messages += 1;
        let life = node.life;
        if channel == Channel::Acked {
            self.judge_acked(n, &payload);
        }
        let event = match channel {
            Channel::Desired => LinkEvent::Desired(payload),
            _ => LinkEvent::Acked(payload),
        };
        self.tell(n, life, Event::Link(event));
    }

    /// As the link does: as long as events wait for their acknowledgement, somebody looks for how long they do.
    pub(crate) fn watch_events(&mut self, n: usize, life: u64) {
        let mut shared = look(&self.nodes[n].shared);
        let (watched, at) = (std::mem::replace(&mut shared.watched, true), shared.moved_at + RESEND_AFTER);
        drop(shared);
        if !watched {
            self.at(at, Due::Resend { node: n, life });
        }
    }

    pub(crate) fn resend(&mut self, n: usize, life: u64) {
        let node = &self.nodes[n];
        if node.life != life {
            return;
        }
        let mut shared = look(&node.shared);
        shared.watched = false;
        let (waits, stuck) = (shared.up && !shared.in_flight.is_empty(), self.now >= shared.moved_at + RESEND_AFTER);
        if waits && stuck {
            shared.in_flight.clear();
        }
        drop(shared);
        if waits && stuck {
            self.tell(n, life, Event::Link(LinkEvent::Resend));
        } else if waits {
            self.watch_events(n, life);
        }
    }

    /// A node's session is over. `heard`: the broker learns it at once, by a reset; else by silence.
    pub(crate) fn session_breaks(&mut self, n: usize, heard: bool) {
        let node = &mut self.nodes[n];
        node.line.dialling = false;
        node.line.changed_at = self.now;
        let Some(session) = node.line.session.take() else { return };
        let mut shared = look(&node.shared);
        shared.up = false;
        shared.in_flight.clear();
        drop(shared);
        let after = if heard { 1 } else { SILENCE };
        self.later(after, Due::BrokerNotices { node: n, session });
    }

    /// No packet passes any more. Neither side knows yet.
    pub(crate) fn line_is_cut(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        node.line.changed_at = self.now;
        let Some(session) = node.line.session else { return };
        let notices = node.random.between(SILENCE / 2, 2 * SILENCE);
        self.later(notices, Due::NodeNotices { node: n, session });
        self.later(SILENCE, Due::BrokerNotices { node: n, session });
    }

    /// Packets may pass again.
    pub(crate) fn line_is_back(&mut self, n: usize) {
        if self.nodes[n].line.passes() {
            self.nodes[n].line.changed_at = self.now;
            self.dial_soon(n, 90 * SECOND);
        }
    }

    pub(crate) fn node_notices(&mut self, n: usize, session: u64) {
        let node = &mut self.nodes[n];
        if node.line.session != Some(session) {
            return;
        }
        self.session_breaks(n, true);
        let reason = "nothing was heard of the broker".to_owned();
        self.drive(n, |driver| driver.take(Event::Link(LinkEvent::Down { reason })));
        self.dial_soon(n, 90 * SECOND);
    }

    pub(crate) fn broker_notices(&mut self, n: usize, session: u64) {
        if self.broker.sessions.get(&n) == Some(&session) {
            self.broker.sessions.remove(&n);
            self.nodes[n].line.changed_at = self.now;
            self.publish_will(n);
        }
    }

    fn publish_will(&mut self, n: usize) {
        if self.has(Mutant::NoWill) {
            return;
        }
        let offline = Online { online: false, boot_id: format!("boot-{}", self.nodes[n].boot) };
        let payload = serde_json::to_vec(&offline).unwrap_or_default();
        self.broker.retain(n, Channel::Online, &payload);
        self.forward_to_coordinator(n, Channel::Online, payload);
    }

    /// The broker goes down and takes every session with it.
    pub(crate) fn broker_falls(&mut self) {
        self.counts.broker_restarts += 1;
        self.broker.forget();
        for n in 0..self.nodes.len() {
            if let Some(session) = self.nodes[n].line.session {
                let notices = self.nodes[n].random.between(1, 5 * SECOND);
                self.later(notices, Due::NodeNotices { node: n, session });
            }
        }
    }

    pub(crate) fn broker_starts(&mut self) {
        self.broker.up = true;
        for n in 0..self.nodes.len() {
            self.dial_soon(n, 90 * SECOND);
        }
    }
}
