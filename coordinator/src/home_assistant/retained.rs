//! What the house's broker should hold: the newest payload of each topic of ours, and how far each has got. Pure.
//!
//! Like [`crate::link::values`], with two differences: the order in which payloads became what they are is kept, for an entity
//! must be described before its state is told, and a payload can be sent once more.

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::Bytes;

/// Most payloads between us and the broker's acknowledgement.
pub(super) const INFLIGHT_MAX: usize = 16;

#[derive(Debug)]
struct Latest {
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

/// The newest payload of every topic.
#[derive(Debug, Default)]
pub(super) struct Retained {
    latest: BTreeMap<String, Latest>,
    waiting: VecDeque<String>,
    handed: VecDeque<(String, u64)>,
    flying: HashMap<u16, (String, u64)>,
    versions: u64,
}

impl Retained {
    /// Makes `payload` the newest of its topic; an empty one clears it. What is there already, stored or on its way, is not sent
    /// again. Returns whether it is news.
    pub(super) fn set(&mut self, topic: &str, payload: impl Into<Bytes>) -> bool {
        let payload = payload.into();
        let is_news = self.latest.get(topic).is_none_or(|latest| latest.payload != payload);
        if is_news {
            self.put(topic, payload);
        }
        is_news
    }

    /// Sends the newest payload of a topic once more, if there is one: whoever reads it may have forgotten it.
    pub(super) fn repeat(&mut self, topic: &str) {
        if let Some(payload) = self.latest.get(topic).map(|latest| latest.payload.clone()) {
            self.put(topic, payload);
        }
    }

    fn put(&mut self, topic: &str, payload: Bytes) {
        self.versions += 1;
        let latest = Latest { payload, version: self.versions, stage: Stage::Waiting };
        let queued = self.latest.insert(topic.to_owned(), latest).is_some_and(|old| old.stage == Stage::Waiting);
        if queued {
            self.waiting.retain(|waits| waits != topic);
        }
        self.waiting.push_back(topic.to_owned());
    }

    /// Whether a topic should hold anything.
    pub(super) fn has(&self, topic: &str) -> bool {
        self.latest.get(topic).is_some_and(|latest| !latest.payload.is_empty())
    }

    /// The topics that should hold something.
    pub(super) fn topics(&self) -> impl Iterator<Item = &str> {
        self.latest.iter().filter(|(_, latest)| !latest.payload.is_empty()).map(|(topic, _)| topic.as_str())
    }

    /// The next one to hand to the client; `None` while enough are on their way or nothing waits.
    pub(super) fn hand_over(&mut self) -> Option<(String, Bytes)> {
        if self.handed.len() + self.flying.len() >= INFLIGHT_MAX {
            return None;
        }
        let topic = self.waiting.pop_front()?;
        let latest = self.latest.get_mut(&topic)?;
        latest.stage = Stage::Sent;
        self.handed.push_back((topic.clone(), latest.version));
        Some((topic, latest.payload.clone()))
    }

    /// The client gave packet id `id` to the oldest one that was handed to it.
    pub(super) fn sent(&mut self, id: u16) {
        if let Some(handed) = self.handed.pop_front() {
            self.flying.insert(id, handed);
        }
    }

    /// The broker has the one with packet id `id`. False if there is none: then the two sides disagree.
    pub(super) fn acked(&mut self, id: u16) -> bool {
        let Some((topic, version)) = self.flying.remove(&id) else { return false };
        if let Some(latest) = self.latest.get_mut(&topic).filter(|latest| latest.version == version) {
            latest.stage = Stage::Stored;
            if latest.payload.is_empty() {
                self.latest.remove(&topic);
            }
        }
        true
    }

    /// All of it waits again, in the order in which it became what it is: for a new connection, whose broker may have lost all.
    pub(super) fn restart(&mut self) {
        self.handed.clear();
        self.flying.clear();
        self.repeat_all();
    }

    /// The same on a connection that goes on: for a reader that may have lost all.
    pub(super) fn repeat_all(&mut self) {
        let all = self.order();
        self.waiting.clear();
        for (_, topic) in all {
            self.versions += 1;
            if let Some(latest) = self.latest.get_mut(&topic) {
                (latest.version, latest.stage) = (self.versions, Stage::Waiting);
                self.waiting.push_back(topic);
            }
        }
    }

    fn order(&self) -> Vec<(u64, String)> {
        let mut all: Vec<_> = self.latest.iter().map(|(topic, latest)| (latest.version, topic.clone())).collect();
        all.sort_unstable();
        all
    }

    /// Whether the broker has acknowledged everything on this connection.
    pub(super) fn is_stored(&self) -> bool {
        self.latest.values().all(|latest| latest.stage == Stage::Stored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payloads(retained: &mut Retained) -> Vec<Bytes> {
        std::iter::from_fn(|| retained.hand_over()).map(|(_, payload)| payload).collect()
    }

    fn stored(retained: &mut Retained, ids: std::ops::RangeInclusive<u16>) {
        for id in ids {
            retained.sent(id);
            assert!(retained.acked(id));
        }
    }

    #[test]
    fn what_is_repeated_goes_after_what_was_set_before_it_on_every_connection() {
        let mut retained = Retained::default();
        assert!(retained.set("b", "state") && !retained.set("b", "state"));
        assert_eq!(payloads(&mut retained), ["state"]);
        stored(&mut retained, 1..=1);
        retained.set("c", "how to read it");
        retained.repeat("b");
        retained.repeat("nothing there");
        assert_eq!(payloads(&mut retained), ["how to read it", "state"]);
        retained.restart();
        assert_eq!(payloads(&mut retained), ["how to read it", "state"]);
        assert!(!retained.is_stored());
        stored(&mut retained, 1..=2);
        assert!(retained.is_stored() && !retained.acked(1), "an id is acknowledged once");
    }

    #[test]
    fn one_that_waits_and_is_repeated_goes_once_and_last() {
        let mut retained = Retained::default();
        retained.set("b", "state");
        retained.set("c", "how to read it");
        retained.repeat("b");
        assert_eq!(payloads(&mut retained), ["how to read it", "state"]);
    }

    #[test]
    fn the_client_never_holds_more_than_the_limit_and_an_old_acknowledgement_stores_nothing_new() {
        let mut retained = Retained::default();
        assert!((0..100).all(|i| retained.set(&format!("t{i:03}"), "x")));
        assert_eq!(payloads(&mut retained).len(), INFLIGHT_MAX);
        retained.sent(7);
        retained.set("t000", "newer");
        assert!(retained.acked(7));
        assert_eq!(payloads(&mut retained).len(), 1);
        assert!(retained.has("t000") && !retained.is_stored());
    }

    #[test]
    fn a_cleared_topic_is_forgotten_once_the_broker_has_cleared_it() {
        let mut retained = Retained::default();
        retained.set("a", "1");
        retained.set("a", "");
        assert!(!retained.has("a") && retained.topics().next().is_none());
        assert_eq!(payloads(&mut retained), [""]);
        stored(&mut retained, 1..=1);
        retained.restart();
        assert_eq!(retained.hand_over(), None);
    }
}
