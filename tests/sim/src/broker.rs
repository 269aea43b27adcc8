//! The broker: who is connected, and the newest value of each topic. It may forget everything at any moment.

use std::collections::BTreeMap;

use orangery_wire::topics::Channel;

/// Embedded in the coordinator, or a program of its own.
#[derive(Debug, Default)]
pub struct Broker {
    /// It goes down with the coordinator.
    pub embedded: bool,
    /// It is there.
    pub up: bool,
    /// The session of each node that it thinks connected.
    pub sessions: BTreeMap<usize, u64>,
    /// The coordinator's session.
    pub coordinator: Option<u64>,
    retained: BTreeMap<(usize, &'static str), (Channel, Vec<u8>)>,
    given: u64,
}

impl Broker {
    /// One that is not there yet.
    pub fn new(embedded: bool) -> Self {
        Self { embedded, ..Self::default() }
    }

    /// A number for a new session.
    pub fn new_session(&mut self) -> u64 {
        self.given += 1;
        self.given
    }

    /// Keeps the newest value of a topic; an empty one clears it.
    pub fn retain(&mut self, node: usize, channel: Channel, payload: &[u8]) {
        let key = (node, channel.as_str());
        if payload.is_empty() {
            self.retained.remove(&key);
        } else {
            self.retained.insert(key, (channel, payload.to_vec()));
        }
    }

    /// The newest value of a topic.
    pub fn retained(&self, node: usize, channel: Channel) -> Option<Vec<u8>> {
        self.retained.get(&(node, channel.as_str())).map(|(_, payload)| payload.clone())
    }

    /// Everything that nodes have said and that is kept.
    pub fn said_by_nodes(&self) -> Vec<(usize, Channel, Vec<u8>)> {
        let of_nodes =
            self.retained.iter().filter(|(_, (channel, _))| matches!(channel, Channel::Reported | Channel::Online));
        of_nodes.map(|((node, _), (channel, payload))| (*node, *channel, payload.clone())).collect()
    }

    /// It goes down and forgets everything.
    pub fn forget(&mut self) {
        self.up = false;
        self.sessions.clear();
        self.coordinator = None;
        self.retained.clear();
    }
}
