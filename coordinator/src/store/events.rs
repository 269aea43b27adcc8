//! Events of nodes, each stored once, and how far each outbox is stored without a gap.

use orangery_wire::messages::{Acked, Event, Evidence, What};
use orangery_wire::rest::EventView;
use orangery_wire::topics::Channel;
use orangery_wire::{AppName, NodeId, ReleaseId, UnixTime};
use rusqlite::{OptionalExtension as _, Row};

use super::rows::{json, parsed, to_json};
use super::{Batch, StoreError, View};

/// Most events that one read returns.
pub const EVENTS_READ_MAX: u32 = 1_000;
/// The epoch of the coordinator's own events about a node. Nodes draw theirs at random; 0 is refused at intake.
pub(crate) const OWN_EPOCH: u64 = 0;
/// Old events are deleted each time the newest id passes a multiple of this.
const PRUNE_EACH: u64 = 1_024;
/// One event about rejected messages of a kind for each of these seconds; all of them are counted.
const REJECTION_EVENT_SECS: u64 = 60;

/// What became of an event that a node offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intake {
    /// Its own place, if it is new.
    pub id: Option<u64>,
    /// How far the node's newest epoch is stored.
    pub acked: Acked,
}

fn event_view(row: &Row<'_>) -> rusqlite::Result<EventView> {
    Ok(EventView { id: row.get(0)?, stored_at: row.get(1)?, event: json(row, 2)? })
}

// Epochs are random 64-bit numbers, SQLite's integers have a sign: the bits are kept, the order does not matter.
fn column(epoch: u64) -> i64 {
    epoch.cast_signed()
}

impl View<'_> {
    /// At most `limit` events after `after`, oldest first; of one node, if it is given.
    pub fn events(&self, after: u64, limit: u32, node: Option<&NodeId>) -> Result<Vec<EventView>, StoreError> {
        let limit = limit.min(EVENTS_READ_MAX);
        let rows = match node {
            None => {
                let sql = "SELECT id, stored_at, event FROM events WHERE id > ?1 ORDER BY id LIMIT ?2";
                let mut statement = self.connection.prepare_cached(sql)?;
                statement.query_map((after, limit), event_view)?.collect::<rusqlite::Result<_>>()?
            }
            Some(node) => {
                let sql = "SELECT id, stored_at, event FROM events WHERE node = ?3 AND id > ?1 ORDER BY id LIMIT ?2";
                let mut statement = self.connection.prepare_cached(sql)?;
                statement.query_map((after, limit, node.as_str()), event_view)?.collect::<rusqlite::Result<_>>()?
            }
        };
        Ok(rows)
    }

    /// The newest `count` events, oldest first; of one node, if it is given.
    pub fn newest_events(&self, count: u32, node: Option<&NodeId>) -> Result<Vec<EventView>, StoreError> {
        let count = count.min(EVENTS_READ_MAX);
        let mut rows: Vec<EventView> = match node {
            None => {
                let sql = "SELECT id, stored_at, event FROM events ORDER BY id DESC LIMIT ?1";
                self.connection.prepare_cached(sql)?.query_map([count], event_view)?.collect::<rusqlite::Result<_>>()?
            }
            Some(node) => {
                let sql = "SELECT id, stored_at, event FROM events WHERE node = ?2 ORDER BY id DESC LIMIT ?1";
                let mut statement = self.connection.prepare_cached(sql)?;
                statement.query_map((count, node.as_str()), event_view)?.collect::<rusqlite::Result<_>>()?
            }
        };
        rows.reverse();
        Ok(rows)
    }

    /// How many events of its own a node has stored here.
    pub fn events_of(&self, node: &NodeId) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) FROM events WHERE node = ?1 AND epoch <> ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.query_row((node.as_str(), column(OWN_EPOCH)), |row| row.get(0))?)
    }

    /// The newest event of one app on one node that says more than its phase, among the node's last hundred.
    pub fn last_event(&self, node: &NodeId, app: &AppName) -> Result<Option<EventView>, StoreError> {
        let sql = "SELECT id, stored_at, event FROM \
                   (SELECT * FROM events WHERE node = ?1 ORDER BY id DESC LIMIT 100) \
                   WHERE app = ?2 AND event ->> '$.what.code' <> 'phase_changed' ORDER BY id DESC LIMIT 1";
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.query_row([node.as_str(), app.as_str()], event_view).optional()?)
    }

    /// What a node saw of a release of an app when it refused it last, among the node's last thousand events.
    pub fn evidence(
        &self,
        node: &NodeId,
        app: &AppName,
        release: ReleaseId,
    ) -> Result<Option<Box<Evidence>>, StoreError> {
        let sql = "SELECT id, stored_at, event FROM \
                   (SELECT * FROM events WHERE node = ?1 ORDER BY id DESC LIMIT 1000) \
                   WHERE app = ?2 AND event ->> '$.what.code' = 'refused' \
                   AND event ->> '$.what.refusal.release' = ?3 ORDER BY id DESC LIMIT 1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let key = (node.as_str(), app.as_str(), release.to_string());
        let refused = statement.query_row(key, event_view).optional()?;
        Ok(refused.and_then(|refused| match refused.event.what {
            What::Refused { evidence, .. } => evidence,
            _ => None,
        }))
    }

    /// The id of the newest event; 0 when there is none.
    pub fn newest_event(&self) -> Result<u64, StoreError> {
        let sql = "SELECT coalesce(max(id), 0) FROM events";
        Ok(self.connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
    }

    /// How far the newest epoch of a node is stored.
    pub fn acked(&self, node: &NodeId) -> Result<Option<Acked>, StoreError> {
        let sql = "SELECT epoch, acked FROM epochs WHERE ordinal = (SELECT max(ordinal) FROM epochs WHERE node = ?1)";
        let acked = self.connection.prepare_cached(sql)?.query_row([node.as_str()], |row| {
            Ok(Acked { epoch: row.get::<_, i64>(0)?.cast_unsigned(), sequence: row.get(1)? })
        });
        Ok(acked.optional()?)
    }

    /// The nodes that have ever offered an event.
    pub fn nodes_with_events(&self) -> Result<Vec<NodeId>, StoreError> {
        let mut statement = self.connection.prepare_cached("SELECT DISTINCT node FROM epochs")?;
        let rows = statement.query_map([], |row| parsed(row, 0))?.collect::<rusqlite::Result<_>>()?;
        Ok(rows)
    }

    /// How many messages of a node's channel were rejected for this reason.
    pub fn rejections(&self, node: &NodeId, channel: Channel, why: &str) -> Result<u64, StoreError> {
        let sql = "SELECT count FROM rejections WHERE node = ?1 AND channel = ?2 AND why = ?3";
        let count =
            self.connection.prepare_cached(sql)?.query_row([node.as_str(), channel.as_str(), why], |row| row.get(0));
        Ok(count.optional()?.unwrap_or(0))
    }

    fn acked_in(self, node: &NodeId, epoch: u64) -> Result<Option<u64>, StoreError> {
        let sql = "SELECT acked FROM epochs WHERE node = ?1 AND epoch = ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.query_row((node.as_str(), column(epoch)), |row| row.get(0)).optional()?)
    }
}

impl Batch<'_> {
    /// Stores an event that a node offered and says how far its outbox is stored now.
    ///
    /// An epoch of which nothing is known begins at the first event that is offered, or, if the outbox says what is before
    /// it ([`Event::previous`]), at the one that has nothing before it: a database that was lost must not wait for events that
    /// the node was told to forget.
    pub fn take_in(&self, event: &Event, at: UnixTime) -> Result<Intake, StoreError> {
        let (node, epoch) = (&event.node, event.epoch);
        let before = event.sequence.saturating_sub(1);
        let acked = match self.view().acked_in(node, epoch)? {
            Some(acked) => acked,
            None => self.begin_epoch(node, epoch, if event.previous.is_some() { 0 } else { before })?,
        };
        let previous = event.previous.unwrap_or(before);
        let id = self.insert(event, previous, at)?;
        if event.sequence > acked && previous <= acked {
            let through = self.last_without_gap(node, epoch, event.sequence)?;
            self.execute(
                "UPDATE epochs SET acked = ?3 WHERE node = ?1 AND epoch = ?2",
                (node.as_str(), column(epoch), through),
            )?;
        }
        let acked = self.view().acked(node)?.unwrap_or(Acked { epoch, sequence: 0 });
        Ok(Intake { id, acked })
    }

    fn begin_epoch(&self, node: &NodeId, epoch: u64, acked: u64) -> Result<u64, StoreError> {
        self.execute(
            "INSERT INTO epochs (node, epoch, acked) VALUES (?1, ?2, ?3)",
            (node.as_str(), column(epoch), acked),
        )?;
        Ok(acked)
    }

    /// Returns the new row's id, or `None` if the event is there already; then what is before it may have changed.
    fn insert(&self, event: &Event, previous: u64, at: UnixTime) -> Result<Option<u64>, StoreError> {
        let (node, app) = (event.node.as_str(), event.app.as_ref().map(AppName::as_str));
        let inserted = self.execute(
            "INSERT INTO events (node, epoch, sequence, previous, stored_at, app, event) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
             ON CONFLICT (node, epoch, sequence) DO NOTHING",
            (node, column(event.epoch), event.sequence, previous, at, app, to_json(event)),
        )?;
        if inserted == 1 {
            return Ok(Some(self.transaction.last_insert_rowid().cast_unsigned()));
        }
        self.execute(
            "UPDATE events SET previous = ?4 WHERE node = ?1 AND epoch = ?2 AND sequence = ?3 AND previous > ?4",
            (node, column(event.epoch), event.sequence, previous),
        )?;
        Ok(None)
    }

    /// Follows the events after `sequence` that are stored already, as long as nothing is missing before each.
    fn last_without_gap(&self, node: &NodeId, epoch: u64, mut sequence: u64) -> Result<u64, StoreError> {
        let sql =
            "SELECT sequence, previous FROM events WHERE node = ?1 AND epoch = ?2 AND sequence > ?3 ORDER BY sequence";
        let mut statement = self.transaction.prepare_cached(sql)?;
        let mut rows = statement.query((node.as_str(), column(epoch), sequence))?;
        while let Some(row) = rows.next()? {
            if row.get::<_, u64>(1)? > sequence {
                break;
            }
            sequence = row.get(0)?;
        }
        Ok(sequence)
    }

    /// Counts a message that was dropped. Returns whether an event should tell of it: the first of its kind does, and one a
    /// minute after that, so that a node gone mad does not push out the events of the others.
    pub fn count_rejection(
        &self,
        node: &NodeId,
        channel: Channel,
        why: &str,
        at: UnixTime,
    ) -> Result<bool, StoreError> {
        let key = (node.as_str(), channel.as_str(), why);
        self.execute(
            "INSERT INTO rejections (node, channel, why, count, event_at) VALUES (?1, ?2, ?3, 1, 0) \
             ON CONFLICT (node, channel, why) DO UPDATE SET count = count + 1",
            key,
        )?;
        let told = self.execute(
            "UPDATE rejections SET event_at = ?4 WHERE node = ?1 AND channel = ?2 AND why = ?3 AND event_at <= ?5",
            (key.0, key.1, key.2, at, at.saturating_sub(REJECTION_EVENT_SECS)),
        )?;
        Ok(told == 1)
    }

    /// Stores an event of the coordinator's own about a node; its epoch and sequence are set here. Returns its id.
    pub fn add_own_event(&self, mut event: Event, at: UnixTime) -> Result<Option<u64>, StoreError> {
        event.epoch = OWN_EPOCH;
        let sql = "SELECT coalesce(max(sequence), 0) + 1 FROM events WHERE node = ?1 AND epoch = ?2";
        let next = (event.node.as_str(), column(OWN_EPOCH));
        event.sequence = self.transaction.prepare_cached(sql)?.query_row(next, |row| row.get(0))?;
        self.insert(&event, 0, at)
    }

    /// Deletes the oldest events so that about `kept_max` stay. `newest` was just stored.
    pub fn prune_events(&self, newest: u64, kept_max: u64) -> Result<(), StoreError> {
        if newest.is_multiple_of(PRUNE_EACH) {
            self.execute("DELETE FROM events WHERE id <= ?1", [newest.saturating_sub(kept_max)])?;
        }
        Ok(())
    }
}
