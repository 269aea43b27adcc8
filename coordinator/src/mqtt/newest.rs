//! What a broker should hold: the newest payload of every topic of ours, and how far each has got. Pure.
//!
//! A payload is *waiting* until it is handed to the client, *handed* until the client says which packet id it has, *flying*
//! until the broker acknowledges that packet, then *stored*. A newer payload of the same topic starts again. Nothing is
//! ever forgotten but a cleared topic, so that all can be published again into a broker that lost it. The order in which
//! payloads became what they are is kept, for what describes something must be there before what tells its state.

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::Bytes;

/// Most payloads between us and the broker's acknowledgement.
pub const INFLIGHT_MAX: usize = 16;

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

/// The newest payload of every topic. `K` names a topic.
#[derive(Debug)]
pub struct Newest<K> {
    latest: BTreeMap<K, Latest>,
    waiting: VecDeque<K>,
    handed: VecDeque<(K, u64)>,
    flying: HashMap<u16, (K, u64)>,
    versions: u64,
}

impl<K> Default for Newest<K> {
    fn default() -> Self {
        Self {
            latest: BTreeMap::new(),
            waiting: VecDeque::new(),
            handed: VecDeque::new(),
            flying: HashMap::new(),
            versions: 0,
        }
    }
}

impl<K: Ord + Clone> Newest<K> {
    /// Makes `payload` the newest of its topic; an empty one clears it. What is there already, stored or on its way, is not
    /// sent again. One that waits keeps its place. Returns whether it is news.
    pub fn set(&mut self, key: K, payload: impl Into<Bytes>) -> bool {
        let payload = payload.into();
        if self.latest.get(&key).is_some_and(|latest| latest.payload == payload) {
            return false;
        }
        self.versions += 1;
        let latest = Latest { payload, version: self.versions, stage: Stage::Waiting };
        let queued = self.latest.insert(key.clone(), latest).is_some_and(|old| old.stage == Stage::Waiting);
        if !queued {
            self.waiting.push_back(key);
        }
        true
    }

    /// Sends the newest payload of a topic once more and after all that waits, if there is one: whoever reads it may have
    /// forgotten it.
    pub fn repeat(&mut self, key: &K) {
        let Some(latest) = self.latest.get_mut(key) else { return };
        if latest.stage == Stage::Waiting {
            self.waiting.retain(|waits| waits != key);
        }
        self.versions += 1;
        (latest.version, latest.stage) = (self.versions, Stage::Waiting);
        self.waiting.push_back(key.clone());
    }

    /// Whether a topic should hold anything.
    pub fn has(&self, key: &K) -> bool {
        self.latest.get(key).is_some_and(|latest| !latest.payload.is_empty())
    }

    /// The topics that should hold something.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.latest.iter().filter(|(_, latest)| !latest.payload.is_empty()).map(|(key, _)| key)
    }

    /// The next one to hand to the client; `None` while enough are on their way or nothing waits.
    pub fn hand_over(&mut self) -> Option<(K, Bytes)> {
        if self.handed.len() + self.flying.len() >= INFLIGHT_MAX {
            return None;
        }
        let key = self.waiting.pop_front()?;
        let latest = self.latest.get_mut(&key)?;
        latest.stage = Stage::Sent;
        self.handed.push_back((key.clone(), latest.version));
        Some((key, latest.payload.clone()))
    }

    /// The client gave packet id `id` to the oldest one that was handed to it.
    pub fn sent(&mut self, id: u16) {
        if let Some(handed) = self.handed.pop_front() {
            self.flying.insert(id, handed);
        }
    }

    /// The broker has the one with packet id `id`. False if there is none: then the two sides disagree.
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

    /// All of it waits again, in the order in which it became what it is: for a new connection, whose broker may have lost all.
    pub fn restart(&mut self) {
        self.handed.clear();
        self.flying.clear();
        self.repeat_all();
    }

    /// The same on a connection that goes on: for a reader that may have lost all.
    pub fn repeat_all(&mut self) {
        let mut all: Vec<_> = self.latest.iter().map(|(key, latest)| (latest.version, key.clone())).collect();
        all.sort_unstable_by_key(|(version, _)| *version);
        self.waiting.clear();
        for (_, key) in all {
            self.versions += 1;
            if let Some(latest) = self.latest.get_mut(&key) {
                (latest.version, latest.stage) = (self.versions, Stage::Waiting);
                self.waiting.push_back(key);
            }
        }
    }

    /// How many the broker has not acknowledged on this connection.
    pub fn pending(&self) -> usize {
        self.latest.values().filter(|latest| latest.stage != Stage::Stored).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Topics = Newest<&'static str>;

    fn payloads<K: Ord + Clone>(newest: &mut Newest<K>) -> Vec<Bytes> {
        std::iter::from_fn(|| newest.hand_over()).map(|(_, payload)| payload).collect()
    }

    fn stored(newest: &mut Topics, ids: std::ops::RangeInclusive<u16>) {
        for id in ids {
            newest.sent(id);
            assert!(newest.acked(id));
        }
    }

    #[test]
    fn only_the_newest_waiting_payload_of_a_topic_is_sent_and_it_keeps_its_place() {
        let mut newest = Topics::default();
        for payload in ["1", "2"] {
            newest.set("a", payload);
        }
        newest.set("b", "1");
        newest.set("a", "3");
        assert_eq!(payloads(&mut newest), ["3", "1"]);
        assert_eq!(newest.pending(), 2);
    }

    #[test]
    fn an_acknowledgement_of_an_older_payload_does_not_count_for_the_newer_one() {
        let mut newest = Topics::default();
        newest.set("a", "old");
        newest.hand_over().unwrap();
        newest.sent(7);
        newest.set("a", "new");
        assert!(newest.acked(7));
        assert_eq!(newest.pending(), 1, "the newer one is still to be sent");
        assert_eq!(payloads(&mut newest), ["new"]);
        stored(&mut newest, 8..=8);
        assert_eq!(newest.pending(), 0);
        assert!(!newest.acked(8), "an id is acknowledged once");
    }

    #[test]
    fn the_client_never_holds_more_than_the_limit() {
        let mut newest = Newest::<String>::default();
        assert!((0..100).all(|i| newest.set(format!("n{i}"), "x")));
        assert_eq!(payloads(&mut newest).len(), INFLIGHT_MAX);
        newest.sent(1);
        assert_eq!(payloads(&mut newest).len(), 0, "handed and flying count alike");
        assert!(newest.acked(1));
        assert_eq!(payloads(&mut newest).len(), 1);
    }

    #[test]
    fn a_new_connection_gets_everything_again() {
        let mut newest = Topics::default();
        newest.set("b", "1");
        newest.set("a", "2");
        newest.hand_over().unwrap();
        newest.sent(1);
        newest.acked(1);
        newest.hand_over().unwrap();
        newest.restart();
        assert_eq!(newest.pending(), 2);
        assert_eq!(payloads(&mut newest), ["1", "2"]);
        assert!(!newest.acked(1), "ids of the old connection mean nothing");
    }

    #[test]
    fn the_same_payload_is_not_sent_twice_to_the_same_connection() {
        let mut newest = Topics::default();
        assert!(newest.set("a", "1"));
        newest.hand_over().unwrap();
        assert!(!newest.set("a", "1"));
        assert_eq!(newest.hand_over(), None);
        stored(&mut newest, 1..=1);
        assert!(!newest.set("a", "1"));
        assert_eq!(newest.hand_over(), None);
    }

    #[test]
    fn a_cleared_topic_is_forgotten_once_the_broker_has_cleared_it() {
        let mut newest = Topics::default();
        newest.set("a", "1");
        newest.hand_over().unwrap();
        stored(&mut newest, 1..=1);
        assert!(newest.has(&"a") && newest.keys().eq([&"a"]));
        newest.set("a", "");
        assert!(!newest.has(&"a") && newest.keys().next().is_none());
        assert_eq!(payloads(&mut newest), [""]);
        stored(&mut newest, 2..=2);
        newest.restart();
        assert_eq!(newest.hand_over(), None);
    }

    #[test]
    fn what_is_repeated_goes_after_what_was_set_before_it_on_every_connection() {
        let mut newest = Topics::default();
        newest.set("b", "state");
        assert_eq!(payloads(&mut newest), ["state"]);
        stored(&mut newest, 1..=1);
        newest.set("c", "how to read it");
        newest.repeat(&"b");
        newest.repeat(&"nothing there");
        assert_eq!(payloads(&mut newest), ["how to read it", "state"]);
        newest.restart();
        assert_eq!(payloads(&mut newest), ["how to read it", "state"]);
        stored(&mut newest, 1..=2);
        assert_eq!(newest.pending(), 0);
    }

    #[test]
    fn one_that_waits_and_is_repeated_goes_once_and_last() {
        let mut newest = Topics::default();
        newest.set("b", "state");
        newest.set("c", "how to read it");
        newest.repeat(&"b");
        assert_eq!(payloads(&mut newest), ["how to read it", "state"]);
    }
}
