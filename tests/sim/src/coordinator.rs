//! The coordinator: its real engine without the thread, on its real database in memory.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use orangery::engine::{Command, Core, Effects, Live};
use orangery::mqtt::newest::Newest;
use orangery::store::{Store, StoreError};
use orangery_wire::NodeId;
use orangery_wire::topics::Channel;

use crate::world::EPOCH_SECS;

/// Worlds of one process have databases of their own.
static DATABASES: AtomicU64 = AtomicU64::new(0);
/// More events than any run has.
const EVENTS_KEPT_MAX: u64 = 100_000_000;
/// Commands in one transaction, as in the engine's thread.
const BATCH_MAX: usize = 256;
/// One start in so many opens the database anew, with SQLite's check of all that is in it; the others take it over, open.
const STARTS_TO_AN_OPENING: u64 = 8;

/// What names a topic of the coordinator's.
pub type Topic = (NodeId, Channel);

/// An event of a node, by its number.
#[derive(Debug, Clone, Copy)]
pub struct EventNumber {
    /// The node.
    pub node: usize,
    /// Its sequence.
    pub sequence: u64,
}

/// The coordinator, running or not.
pub struct Coordinator {
    /// Keeps the database in memory while the coordinator is down, and reads it.
    pub keeper: Store,
    /// The engine, while it runs.
    pub core: Option<Core>,
    /// Who is connected, as far as the running engine knows.
    pub live: Option<Arc<Live>>,
    /// What the broker should hold.
    pub values: Newest<Topic>,
    /// Its session with the broker.
    pub session: Option<u64>,
    /// When it started, or lost or found its broker; virtual milliseconds.
    pub changed_at: u64,
    /// Until then the database takes nothing; virtual milliseconds.
    pub full_until: u64,
    /// A turn is due.
    pub turn_due: bool,
    /// Nothing of it arrives at the broker before this.
    pub to_broker_at: u64,
    /// Nodes that it lets in no more, while it runs.
    pub revoked: BTreeSet<usize>,
    /// What is committed of each node's events.
    pub stored: Vec<BTreeSet<u64>>,
    inbox: Vec<(Command, Option<EventNumber>)>,
    packet: u16,
    database: PathBuf,
    clock: Arc<AtomicU64>,
    /// The database of the engine that ran before.
    left: Option<Store>,
    starts: u64,
    turn: Option<Turn>,
    turns: u64,
}

/// A transaction under way.
struct Turn {
    number: u64,
    fails: bool,
    events: Vec<EventNumber>,
    outcome: Result<Effects, StoreError>,
}

impl Coordinator {
    /// One that does not run yet, with an empty database.
    pub fn new() -> Result<Self, String> {
        let number = DATABASES.fetch_add(1, Ordering::Relaxed);
        let database = PathBuf::from(format!("file:/orangery-sim-{number}?vfs=memdb"));
        let keeper = Store::open(&database).map_err(|error| error.to_string())?;
        Ok(Self {
            keeper,
            core: None,
            live: None,
            values: Newest::default(),
            session: None,
            changed_at: 0,
            full_until: 0,
            turn_due: false,
            to_broker_at: 0,
            revoked: BTreeSet::new(),
            stored: Vec::new(),
            inbox: Vec::new(),
            packet: 0,
            database,
            clock: Arc::new(AtomicU64::new(EPOCH_SECS)),
            left: None,
            starts: 0,
            turn: None,
            turns: 0,
        })
    }

    /// Sets its clock, which is right.
    pub fn set_time(&self, secs: u64) {
        self.clock.store(secs, Ordering::Relaxed);
    }

    /// Starts; returns what nodes should hear again.
    pub fn start(&mut self) -> Result<Effects, StoreError> {
        self.starts += 1;
        let store = match self.left.take().filter(|_| !self.starts.is_multiple_of(STARTS_TO_AN_OPENING)) {
            Some(store) => store,
            None => Store::open(&self.database)?,
        };
        // A wait would pass in the world's time, of which this one knows nothing.
        store.set_busy_timeout(Duration::ZERO)?;
        let live = Arc::new(Live::load(store.view())?);
        let clock = self.clock.clone();
        let core = Core::new(store, live.clone(), Arc::new(move || clock.load(Ordering::Relaxed)), EVENTS_KEPT_MAX)?;
        let effects = core.restate();
        (self.core, self.live) = (Some(core), Some(live));
        effects
    }

    /// It is gone, with everything that was not committed. What it was at is: nobody hears what would have followed.
    pub fn stop(&mut self) {
        if let Some(turn) = self.turn.take()
            && turn.outcome.is_ok()
        {
            self.note_stored(&turn.events);
        }
        self.revoked.clear();
        self.left = self.core.take().map(Core::into_store);
        (self.live, self.session) = (None, None);
        self.values = Newest::default();
        self.inbox.clear();
        self.turn_due = false;
    }

    /// Something to do in the next turn. `true`: none was due yet.
    pub fn hear(&mut self, command: Command, event: Option<EventNumber>) -> bool {
        self.inbox.push((command, event));
        !std::mem::replace(&mut self.turn_due, true)
    }

    /// Nothing waits to be done or said.
    pub fn is_idle(&self) -> bool {
        self.inbox.is_empty() && self.turn.is_none() && self.values.pending() == 0
    }

    /// Begins to do what has gathered, in one transaction, which may be made to fail. Returns its number; `None` when there
    /// is nothing to do, or the coordinator does not run, or is still at work.
    pub fn begin_turn(&mut self, fails: bool, now_secs: u64) -> Option<u64> {
        if self.turn.is_some() {
            return None;
        }
        let Some(core) = &mut self.core else {
            self.turn_due = false;
            return None;
        };
        self.clock.store(now_secs, Ordering::Relaxed);
        let rest = self.inbox.split_off(self.inbox.len().min(BATCH_MAX));
        let batch = std::mem::replace(&mut self.inbox, rest);
        let (commands, events): (Vec<Command>, Vec<Option<EventNumber>>) = batch.into_iter().unzip();
        let outcome = if fails {
            // Somebody else holds the database: the engine's own transaction does not even begin.
            self.keeper.commit(|_| Ok(core.apply(commands))).and_then(|applied| applied)
        } else {
            core.apply(commands)
        };
        self.turns += 1;
        self.turn_due = true;
        self.turn = Some(Turn { number: self.turns, fails, events: events.into_iter().flatten().collect(), outcome });
        Some(self.turns)
    }

    /// The end of a turn, with whether it was made to fail. `None` if the coordinator died in it.
    pub fn end_turn(&mut self, number: u64) -> Option<(bool, Result<Effects, StoreError>)> {
        let turn = self.turn.take_if(|turn| turn.number == number)?;
        self.turn_due = false;
        if turn.outcome.is_ok() {
            self.note_stored(&turn.events);
        }
        Some((turn.fails, turn.outcome))
    }

    fn note_stored(&mut self, events: &[EventNumber]) {
        for event in events {
            if let Some(stored) = self.stored.get_mut(event.node) {
                stored.insert(event.sequence);
            }
        }
    }

    /// Whether it runs.
    pub fn runs(&self) -> bool {
        self.live.is_some()
    }

    /// Whether a node was revoked, for one that has just started.
    pub fn has_revoked(&self, node: &NodeId) -> bool {
        self.live.as_ref().is_some_and(|live| live.is_revoked(node))
    }

    /// Whether another turn is needed.
    pub fn has_more(&mut self) -> bool {
        let more = !self.inbox.is_empty();
        more && !std::mem::replace(&mut self.turn_due, true)
    }

    /// A number for the next packet.
    pub fn next_packet(&mut self) -> u16 {
        self.packet = self.packet.checked_add(1).unwrap_or(1);
        self.packet
    }
}
