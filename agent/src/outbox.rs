//! What happened on this node and must not be lost: numbered events, kept until the coordinator has stored them, and for a while
//! after that as the node's history.
//!
//! The outbox has a limit in bytes. When it is full, telemetry goes first, oldest first, then whatever is oldest; an event
//! then says how many were dropped. What the store does not take waits in memory, with a limit of its own, and is stored before
//! the next event. Acknowledgements are saved with the next event, not by themselves: one that is lost only
//! makes events travel twice, and the coordinator knows them by epoch and sequence.

use std::collections::VecDeque;
use std::sync::Arc;

use orangery_wire::messages::ClockState;
use orangery_wire::messages::{Acked, Event, FORMAT, What};
use orangery_wire::{AppName, NodeId, UnixTime};

use crate::clock::Clock;
use crate::store::{Change, Store, StoreError, VALUE_BYTES_MAX};

/// Most acknowledged events that are kept as history.
pub const HISTORY_COUNT_MAX: usize = 1_000;
/// Most bytes of them.
pub const HISTORY_BYTES_MAX: u64 = 512 * 1024;

/// So many acknowledgements are remembered in memory alone before they are saved without waiting for the next event.
const ACKS_UNSAVED_MAX: u64 = 256;
/// Most events that wait in memory for a store that takes nothing.
pub const LATE_COUNT_MAX: usize = 256;
/// Entries read from the store at once.
const READ_COUNT: usize = 64;

/// Why the outbox did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The store below failed.
    #[error("the outbox cannot use its store")]
    Store(#[from] StoreError),
    /// An event cannot be written as JSON.
    #[error("an event cannot be written as JSON")]
    Encode(#[source] serde_json::Error),
}

/// The node's events, acknowledged or not.
#[derive(Debug)]
pub struct Outbox {
    store: Box<dyn Store>,
    node: NodeId,
    boot_id: String,
    clock: Arc<Clock>,
    bytes_max: u64,
    /// What is in the store, without the texts: first those that are acknowledged, then those that wait.
    kept: VecDeque<Kept>,
    /// Every event up to this one is stored by the coordinator.
    acked: u64,
    /// The last sequence given out.
    last: u64,
    /// What the store has not taken yet, oldest first.
    late: VecDeque<Late>,
    /// Events that were dropped from there.
    lost: u64,
}

/// An event that is not stored yet.
#[derive(Debug)]
struct Late {
    what: What,
    app: Option<AppName>,
    at: UnixTime,
    clock_synced: bool,
}

/// One event of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kept {
    sequence: u64,
    bytes: u64,
    worth: Worth,
}

/// What a full outbox does with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Worth {
    /// It goes first.
    Telemetry,
    /// It goes when there is no telemetry left.
    State,
    /// As [`Self::State`]; it speaks of so many others.
    Dropped(u64),
}

impl Worth {
    fn of(what: &What) -> Self {
        match what {
            What::EventsDropped { count } => Self::Dropped(*count),
            what if what.is_telemetry() => Self::Telemetry,
            _ => Self::State,
        }
    }

    /// An event of another version of the agent still travels; it is merely not understood here.
    fn of_json(json: &[u8]) -> Self {
        serde_json::from_slice::<Event>(json).map_or(Self::State, |event| Self::of(&event.what))
    }

    /// Events that nobody will hear of if this one is dropped too.
    fn count(self) -> u64 {
        if let Self::Dropped(count) = self { count } else { 1 }
    }
}

impl Outbox {
    /// The outbox that `store` holds. `bytes_max` limits what waits, in bytes of JSON; history has limits of its own.
    pub fn open(
        mut store: Box<dyn Store>,
        node: NodeId,
        boot_id: String,
        clock: Arc<Clock>,
        bytes_max: u64,
    ) -> Result<Self, OutboxError> {
        let acked = store.mark();
        let mut kept = VecDeque::new();
        let mut after = 0;
        loop {
            let entries = store.read(after, READ_COUNT)?;
            let Some((last, _)) = entries.last() else { break };
            after = *last;
            kept.extend(entries.iter().map(|(sequence, json)| {
                // What is history, most of it by far, goes by its age alone and need not be read.
                let worth = if *sequence > acked { Worth::of_json(json) } else { Worth::State };
                Kept { sequence: *sequence, bytes: length(json), worth }
            }));
        }
        let (late, lost) = (VecDeque::new(), 0);
        Ok(Self { store, node, boot_id, clock, bytes_max, kept, acked, last: after.max(acked), late, lost })
    }

    /// The store's epoch, which with the sequence names an event for good.
    pub fn epoch(&self) -> u64 {
        self.store.epoch()
    }

    /// How many events the coordinator has not yet acknowledged.
    pub fn waiting(&self) -> u64 {
        length(self.kept.range(self.history_length()..))
    }

    /// Stores an event; it is durable on return. Makes room if need be. Returns the event's sequence. After an error the event
    /// waits in memory: the next call stores it too, and so does [`Outbox::catch_up`].
    pub fn push(&mut self, what: &What, app: Option<&AppName>) -> Result<u64, OutboxError> {
        let clock_synced = self.clock.state() == ClockState::Synced;
        let late = Late { what: what.clone(), app: app.cloned(), at: self.clock.now(), clock_synced };
        // One that no store ever takes would keep all others from it.
        let size = self.encode(u64::MAX, &late)?.len();
        if size > VALUE_BYTES_MAX {
            return Err(StoreError::TooLarge { size }.into());
        }
        self.late.push_back(late);
        if self.late.len() > LATE_COUNT_MAX {
            let first = self.late.iter().position(|late| late.what.is_telemetry()).unwrap_or(0);
            self.lost += self.late.remove(first).map_or(0, |late| Worth::of(&late.what).count());
        }
        let ahead = length(&self.late).saturating_sub(1);
        Ok(self.store_late()? + ahead)
    }

    /// Stores what waits in memory, if the store takes it now. Returns whether there was anything.
    pub fn catch_up(&mut self) -> Result<bool, OutboxError> {
        let any = !self.late.is_empty();
        if any {
            self.store_late()?;
        }
        Ok(any)
    }

    /// All of it in one write, and what was dropped is told with it. Returns the first sequence.
    fn store_late(&mut self) -> Result<u64, OutboxError> {
        let mut new = Vec::with_capacity(self.late.len() + 1);
        for (late, sequence) in self.late.iter().zip(self.last + 1..) {
            new.push((self.encode(sequence, late)?, Worth::of(&late.what)));
        }
        let dropped = self.to_drop(new.iter().map(|(json, _)| length(json)).sum());
        let count = self.lost + dropped.iter().map(|kept| kept.worth.count()).sum::<u64>();
        if count > 0 {
            let (what, at) = (What::EventsDropped { count }, self.clock.now());
            let clock_synced = self.clock.state() == ClockState::Synced;
            let worth = Worth::of(&what);
            let sequence = self.last + 1 + length(&new);
            new.push((self.encode(sequence, &Late { what, app: None, at, clock_synced })?, worth));
        }
        let forgotten: Vec<u64> = self.history_to_forget().chain(dropped.iter().map(|kept| kept.sequence)).collect();
        let first = self.commit(new, &forgotten)?;
        self.late.clear();
        self.lost = 0;
        Ok(first)
    }

    /// Events above `after` that wait, at most `count_max`, oldest first: sequence, and JSON as it travels.
    pub fn unacked(&mut self, after: u64, count_max: usize) -> Result<Vec<(u64, Vec<u8>)>, OutboxError> {
        let after = after.max(self.acked);
        let waiting = self.kept.range(self.history_length()..).map(|kept| kept.sequence);
        let mut previous = waiting.take_while(|sequence| *sequence <= after).last().unwrap_or(0);
        let entries = self.store.read(after, count_max)?;
        let outgoing = entries.into_iter().map(|(sequence, json)| {
            let json = as_it_travels(json, &self.node, std::mem::replace(&mut previous, sequence));
            (sequence, json)
        });
        Ok(outgoing.collect())
    }

    /// The coordinator has stored everything up to `acked`. An acknowledgement of another epoch, or of less than is known
    /// already, changes nothing.
    pub fn acked(&mut self, acked: Acked) -> Result<(), OutboxError> {
        if acked.epoch != self.epoch() || acked.sequence <= self.acked {
            return Ok(());
        }
        // Nobody can have stored what was never sent.
        self.acked = acked.sequence.min(self.last);
        if self.acked - self.store.mark() >= ACKS_UNSAVED_MAX {
            let forgotten: Vec<u64> = self.history_to_forget().collect();
            self.commit(Vec::new(), &forgotten)?;
        }
        Ok(())
    }

    /// The last `count_max` events, acknowledged or not, oldest first. Events of a newer agent are left out.
    pub fn history(&mut self, count_max: usize) -> Result<Vec<Event>, OutboxError> {
        let from = self.kept.len().saturating_sub(count_max);
        let Some(first) = self.kept.get(from) else { return Ok(Vec::new()) };
        let entries = self.store.read(first.sequence - 1, count_max)?;
        Ok(entries.iter().filter_map(|(_, json)| serde_json::from_slice(json).ok()).collect())
    }

    fn encode(&self, sequence: u64, late: &Late) -> Result<Vec<u8>, OutboxError> {
        let event = Event {
            format: FORMAT,
            node: self.node.clone(),
            epoch: self.epoch(),
            sequence,
            previous: None,
            at: late.at,
            clock_synced: late.clock_synced,
            boot_id: self.boot_id.clone(),
            app: late.app.clone(),
            what: late.what.clone(),
        };
        serde_json::to_vec(&event).map_err(OutboxError::Encode)
    }

    /// Everything that one deed changes, in one write. Memory follows the store, never the other way round.
    fn commit(&mut self, new: Vec<(Vec<u8>, Worth)>, forgotten: &[u64]) -> Result<u64, OutboxError> {
        let mut changes: Vec<Change> = forgotten.iter().map(|key| Change::Remove { key: *key }).collect();
        if self.acked != self.store.mark() {
            changes.push(Change::Mark(self.acked));
        }
        let first = self.last + 1;
        let mut added = Vec::with_capacity(new.len());
        for ((json, worth), sequence) in new.into_iter().zip(first..) {
            added.push(Kept { sequence, bytes: length(&json), worth });
            changes.push(Change::Put { key: sequence, value: json });
        }
        self.store.write(&changes)?;
        self.kept.retain(|kept| forgotten.binary_search(&kept.sequence).is_err());
        self.last = added.last().map_or(self.last, |kept| kept.sequence);
        self.kept.extend(added);
        Ok(first)
    }

    /// How many of the events kept are acknowledged.
    fn history_length(&self) -> usize {
        self.kept.partition_point(|kept| kept.sequence <= self.acked)
    }

    /// Acknowledged events beyond the limits of the history, oldest first.
    fn history_to_forget(&self) -> impl Iterator<Item = u64> {
        let length = self.history_length();
        let mut bytes = 0;
        let fits = |kept: &&Kept| {
            bytes += kept.bytes;
            bytes <= HISTORY_BYTES_MAX
        };
        let stay = self.kept.range(..length).rev().take(HISTORY_COUNT_MAX).take_while(fits).count();
        self.kept.range(..length - stay).map(|kept| kept.sequence)
    }

    /// Waiting events that must go so that `bytes` more have room, in order of their sequence.
    ///
    /// An eighth of the limit is freed at once: else a full outbox would be rewritten with every event.
    fn to_drop(&self, bytes: u64) -> Vec<Kept> {
        let waiting: Vec<Kept> = self.kept.range(self.history_length()..).copied().collect();
        let held: u64 = waiting.iter().map(|kept| kept.bytes).sum();
        if held + bytes <= self.bytes_max {
            return Vec::new();
        }
        let mut excess = (held + bytes).saturating_sub(self.bytes_max - self.bytes_max / 8);
        let telemetry = waiting.iter().filter(|kept| kept.worth == Worth::Telemetry);
        let state = waiting.iter().filter(|kept| kept.worth != Worth::Telemetry);
        let mut dropped = Vec::new();
        for kept in telemetry.chain(state) {
            if excess == 0 {
                break;
            }
            excess = excess.saturating_sub(kept.bytes);
            dropped.push(*kept);
        }
        dropped.sort_unstable_by_key(|kept| kept.sequence);
        dropped
    }
}

/// Adds what is before an event when it is handed out; that can have changed since it was stored. So can the name of the node, which
/// joined anew since: what happened happened on this board, and nobody may speak for the name that it had.
fn as_it_travels(json: Vec<u8>, node: &NodeId, previous: u64) -> Vec<u8> {
    const NAME: &[u8] = b"\"previous\"";
    // As this version stores events: by this name, without that member, and with others.
    let head = format!("{{\"format\":{FORMAT},\"node\":\"{node}\",");
    let plain = |members: &&[u8]| !members.windows(NAME.len()).any(|m| m == NAME);
    if let Some(members) = json.strip_prefix(head.as_bytes()).filter(plain) {
        return [head.as_bytes(), b"\"previous\":", previous.to_string().as_bytes(), b",", members].concat();
    }
    let Ok(mut event) = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&json) else {
        return json;
    };
    event.insert("previous".to_owned(), previous.into());
    event.insert("node".to_owned(), node.as_str().into());
    serde_json::to_vec(&event).unwrap_or(json)
}

/// A count or length in the width that bytes are counted in.
fn length<I: IntoIterator<IntoIter: ExactSizeIterator>>(items: I) -> u64 {
    items.into_iter().len() as u64
}

#[cfg(test)]
mod tests;
