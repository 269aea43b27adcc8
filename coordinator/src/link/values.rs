//! What the broker should hold: the newest value of every topic of ours, and how far each has got. Pure.
//!
//! A value is *waiting* until it is handed to the client, *handed* until the client says which packet id it has, *flying*
//! until the broker acknowledges that packet, then *stored*. A newer value of the same topic starts again. Nothing is
//! ever forgotten but a cleared topic, so that all can be published again into a broker that lost it.

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::Bytes;
use orangery_wire::NodeId;
use orangery_wire::topics::Channel;

/// Most values between us and the broker's acknowledgement.
pub const INFLIGHT_MAX: usize = 16;

type Key = (NodeId, &'static str);

/// One value, to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// The node it is for.
    pub node: NodeId,
    /// The channel.
    pub channel: Channel,
    /// The newest payload; empty clears the topic.
    pub payload: Bytes,
}

#[derive(Debug)]
struct Latest {
    channel: Channel,
    payload: Bytes,
    version: u64,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    Sent,
    Stored,
}

/// The newest value of every topic.
#[derive(Debug, Default)]
pub struct Values {
    latest: BTreeMap<Key, Latest>,
    waiting: VecDeque<Key>,
    handed: VecDeque<(Key, u64)>,
    flying: HashMap<u16, (Key, u64)>,
    versions: u64,
}

impl Values {
    /// Makes `value` the newest of its topic. One that is already there, stored or on its way, is not sent again.
    pub fn set(&mut self, value: Value) {
        let key = (value.node, value.channel.as_str());
        if self.latest.get(&key).is_some_and(|latest| latest.payload == value.payload) {
            return;
        }
        self.versions += 1;
        let latest =
            Latest { channel: value.channel, payload: value.payload, version: self.versions, stage: Stage::Waiting };
        let queued = self.latest.insert(key.clone(), latest).is_some_and(|old| old.stage == Stage::Waiting);
        if !queued {
            self.waiting.push_back(key);
        }
    }

    /// The next value to hand to the client; `None` while enough are on their way or nothing waits.
    pub fn hand_over(&mut self) -> Option<Value> {
        if self.handed.len() + self.flying.len() >= INFLIGHT_MAX {
            return None;
        }
        let key = self.waiting.pop_front()?;
        let latest = self.latest.get_mut(&key)?;
        latest.stage = Stage::Sent;
        let value = Value { node: key.0.clone(), channel: latest.channel, payload: latest.payload.clone() };
        self.handed.push_back((key, latest.version));
        Some(value)
    }

    /// The client gave packet id `id` to the oldest value that was handed to it.
    pub fn sent(&mut self, id: u16) {
        if let Some(value) = self.handed.pop_front() {
            self.flying.insert(id, value);
        }
    }

    /// The broker has the value with packet id `id`. False if there is none: then the two sides disagree.
    pub fn acked(&mut self, id: u16) -> bool {
        let Some((key, version)) = self.flying.remove(&id) else { return false };
        if let Some(latest) = self.latest.get_mut(&key).filter(|latest| latest.version == version) {
            latest.stage = Stage::Stored;
            if latest.payload.is_empty() {
                self.latest.remove(&key);
            }
        }
        true
    }

    /// Everything waits again: for a new connection, whose broker may have lost all.
    pub fn restart(&mut self) {
        self.handed.clear();
        self.flying.clear();
        self.waiting = self.latest.keys().cloned().collect();
        self.latest.values_mut().for_each(|latest| latest.stage = Stage::Waiting);
    }

    /// How many values the broker has not acknowledged.
    pub fn pending(&self) -> usize {
        self.latest.values().filter(|latest| latest.stage != Stage::Stored).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(node: &str, payload: &str) -> Value {
        Value {
            node: node.parse().unwrap(),
            channel: Channel::Desired,
            payload: Bytes::copy_from_slice(payload.as_bytes()),
        }
    }

    fn payloads(values: &mut Values) -> Vec<Bytes> {
        std::iter::from_fn(|| values.hand_over()).map(|value| value.payload).collect()
    }

    #[test]
    fn only_the_newest_waiting_value_of_a_topic_is_sent() {
        let mut values = Values::default();
        for payload in ["1", "2", "3"] {
            values.set(value("a", payload));
        }
        values.set(value("b", "1"));
        assert_eq!(payloads(&mut values), ["3", "1"]);
        assert_eq!(values.pending(), 2);
    }

    #[test]
    fn an_acknowledgement_of_an_older_value_does_not_count_for_the_newer_one() {
        let mut values = Values::default();
        values.set(value("a", "old"));
        values.hand_over().unwrap();
        values.sent(7);
        values.set(value("a", "new"));
        assert!(values.acked(7));
        assert_eq!(values.pending(), 1, "the newer one is still to be sent");
        assert_eq!(payloads(&mut values), ["new"]);
        values.sent(8);
        assert!(values.acked(8));
        assert_eq!(values.pending(), 0);
        assert!(!values.acked(8), "an id is acknowledged once");
    }

    #[test]
    fn the_client_never_holds_more_than_the_limit() {
        let mut values = Values::default();
        for i in 0..100 {
            values.set(value(&format!("n{i}"), "x"));
        }
        assert_eq!(payloads(&mut values).len(), INFLIGHT_MAX);
        values.sent(1);
        assert_eq!(payloads(&mut values).len(), 0, "handed and flying count alike");
        assert!(values.acked(1));
        assert_eq!(payloads(&mut values).len(), 1);
    }

    #[test]
    fn a_new_connection_gets_everything_again() {
        let mut values = Values::default();
        values.set(value("a", "1"));
        values.set(value("b", "2"));
        values.hand_over().unwrap();
        values.sent(1);
        values.acked(1);
        values.hand_over().unwrap();
        values.restart();
        assert_eq!(values.pending(), 2);
        assert_eq!(payloads(&mut values), ["1", "2"]);
        assert!(!values.acked(1), "ids of the old connection mean nothing");
    }

    #[test]
    fn the_same_value_is_not_sent_twice_to_the_same_connection() {
        let mut values = Values::default();
        values.set(value("a", "1"));
        values.hand_over().unwrap();
        values.set(value("a", "1"));
        assert_eq!(values.hand_over(), None);
        values.sent(1);
        values.acked(1);
        values.set(value("a", "1"));
        assert_eq!(values.hand_over(), None);
    }

    #[test]
    fn a_cleared_topic_is_forgotten_once_the_broker_has_cleared_it() {
        let mut values = Values::default();
        values.set(value("a", "1"));
        values.hand_over().unwrap();
        values.sent(1);
        values.acked(1);
        values.set(value("a", ""));
        assert_eq!(payloads(&mut values), [""]);
        values.sent(2);
        values.acked(2);
        values.restart();
        assert_eq!(values.hand_over(), None);
    }
}
