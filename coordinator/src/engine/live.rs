//! What is true only while the coordinator runs: who is connected, when each node was last heard, its newest health.
//! Written by the engine, read by everyone.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Instant;

use orangery_wire::messages::{AppVitals, Health};
use orangery_wire::rest::{DesiredView, HealthHistory, NodeView};
use orangery_wire::topics::Channel;
use orangery_wire::{AppName, NodeId, UnixTime};
use tokio::sync::watch;

use super::asked::Asked;
use super::day::Day;
use super::users::Users;
use crate::store::{NodeRow, StoreError, View};
use crate::vitals::{Apps, Vitals};

/// Signs of life of one node since the coordinator started.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    /// Whether it is connected.
    pub online: bool,
    /// When it was last heard.
    pub at: Option<UnixTime>,
    /// When that was, by a clock that nobody sets.
    pub heard: Option<Instant>,
    /// The boot that it named when it connected.
    pub boot: Option<String>,
    /// Its newest health.
    pub health: Option<Health>,
    /// By how many seconds its clock was ahead of the coordinator's then; `None` if nobody vouches for its clock.
    pub ahead_secs: Option<i64>,
}

impl Seen {
    /// It was heard itself.
    pub(super) fn hear(&mut self, now: UnixTime) {
        (self.at, self.heard) = (Some(now), Some(Instant::now()));
    }
}

/// The shared state.
#[derive(Debug)]
pub struct Live {
    nodes: Mutex<HashMap<NodeId, Seen>>,
    days: Mutex<HashMap<NodeId, Day>>,
    vitals: Mutex<HashMap<NodeId, Apps>>,
    revoked: RwLock<HashSet<NodeId>>,
    users: RwLock<Users>,
    users_changed: watch::Sender<()>,
    broker_connected: watch::Sender<bool>,
    /// Since when the broker is reached without a break.
    listening: Mutex<Option<Instant>>,
    newest_event: watch::Sender<u64>,
    newest_notice: watch::Sender<u64>,
    events: Mutex<BTreeMap<&'static str, u64>>,
    stirred: watch::Sender<()>,
    messages: Mutex<BTreeMap<&'static str, u64>>,
    asked: Asked,
}

impl Live {
    /// Nothing heard yet; revocations come from the database.
    pub fn load(view: View<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            nodes: Mutex::default(),
            days: Mutex::default(),
            vitals: Mutex::default(),
            revoked: RwLock::new(view.revoked_nodes()?.into_iter().collect()),
            users: RwLock::new(Users::load(view)?),
            users_changed: watch::Sender::new(()),
            broker_connected: watch::Sender::new(false),
            listening: Mutex::default(),
            newest_event: watch::Sender::new(view.newest_event()?),
            newest_notice: watch::Sender::new(view.newest_notice()?),
            events: Mutex::default(),
            stirred: watch::Sender::new(()),
            messages: Mutex::default(),
            asked: Asked::default(),
        })
    }

    /// Whether a node's certificates are no longer believed, whatever TLS says. Quick: it is asked at each request.
    pub fn is_revoked(&self, node: &NodeId) -> bool {
        self.revoked.read().unwrap_or_else(PoisonError::into_inner).contains(node)
    }

    pub(super) fn revoke(&self, node: &NodeId) {
        self.revoked.write().unwrap_or_else(PoisonError::into_inner).insert(node.clone());
    }

    /// Who may use the coordinator. Quick: it is asked at each request.
    pub fn users(&self) -> RwLockReadGuard<'_, Users> {
        self.users.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_users(&self, users: Users) {
        let mut known = self.users.write().unwrap_or_else(PoisonError::into_inner);
        *known = users.after(&known);
        drop(known);
        self.users_changed.send_replace(());
    }

    /// Hears when who may use the coordinator has changed. That a token or session ends by itself is no change.
    pub fn users_changed(&self) -> watch::Receiver<()> {
        self.users_changed.subscribe()
    }

    /// Whether the broker is reached.
    pub fn broker_connected(&self) -> bool {
        *self.broker_connected.borrow()
    }

    /// Follows the id of the newest event: it changes when there are new ones to read.
    pub fn newest_event(&self) -> watch::Receiver<u64> {
        self.newest_event.subscribe()
    }

    /// Follows the id of the newest notice, like that of the newest event.
    pub fn newest_notice(&self) -> watch::Receiver<u64> {
        self.newest_notice.subscribe()
    }

    /// Hears when something has happened that may change what is said of the fleet. Health alone does not count, nor that time
    /// passes.
    pub fn stirs(&self) -> watch::Receiver<()> {
        self.stirred.subscribe()
    }

    pub(super) fn stir(&self) {
        self.stirred.send_replace(());
    }

    /// Events that were stored since the coordinator started, by code.
    pub fn events_counted(&self) -> BTreeMap<&'static str, u64> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn count_events(&self, events: BTreeMap<&'static str, u64>) {
        let mut counted = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        for (code, count) in events {
            *counted.entry(code).or_default() += count;
        }
    }

    /// Messages of nodes that were heard since the coordinator started, by channel.
    pub fn messages_counted(&self) -> BTreeMap<&'static str, u64> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn count_message(&self, channel: Channel) {
        *self.messages.lock().unwrap_or_else(PoisonError::into_inner).entry(channel.as_str()).or_default() += 1;
    }

    /// Outputs of apps that somebody waits for.
    pub fn asked(&self) -> &Asked {
        &self.asked
    }

    /// Signs of life of a node.
    pub fn seen(&self, node: &NodeId) -> Seen {
        self.lock().get(node).cloned().unwrap_or_default()
    }

    /// By how many seconds the clocks of connected nodes are ahead of the coordinator's, of those that somebody vouches for.
    pub fn clocks_ahead(&self) -> Vec<i64> {
        self.lock().values().filter(|seen| seen.online).filter_map(|seen| seen.ahead_secs).collect()
    }

    /// For how many seconds nodes can be heard without a break; `None` if they cannot.
    pub fn listening_secs(&self) -> Option<u64> {
        let listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        listening.map(|since| since.elapsed().as_secs())
    }

    pub(super) fn set_broker_connected(&self, connected: bool) {
        self.broker_connected.send_replace(connected);
        let mut listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        *listening = connected.then(|| listening.unwrap_or_else(Instant::now));
        drop(listening);
        if !connected {
            // Nobody knows; the broker says it again once it is reached.
            self.lock().values_mut().for_each(|seen| seen.online = false);
        }
    }

    pub(super) fn set_newest_event(&self, id: u64) {
        self.newest_event.send_if_modified(|newest| std::mem::replace(newest, id.max(*newest)) < id);
    }

    pub(super) fn set_newest_notice(&self, id: u64) {
        self.newest_notice.send_if_modified(|newest| std::mem::replace(newest, id.max(*newest)) < id);
    }

    /// Goes through what was heard of each node.
    pub(super) fn each(&self, mut look: impl FnMut(&NodeId, &Seen)) {
        self.lock().iter().for_each(|(node, seen)| look(node, seen));
    }

    pub(super) fn update(&self, node: &NodeId, change: impl FnOnce(&mut Seen)) {
        change(self.lock().entry(node.clone()).or_default());
    }

    /// How a node was over the last day, as far as it was heard since the coordinator started.
    pub fn history(&self, node: &NodeId, now: UnixTime) -> HealthHistory {
        let days = self.days.lock().unwrap_or_else(PoisonError::into_inner);
        days.get(node).cloned().unwrap_or_default().history(now)
    }

    pub(super) fn note_health(&self, node: &NodeId, now: UnixTime, health: &Health) {
        let mut days = self.days.lock().unwrap_or_else(PoisonError::into_inner);
        match days.get_mut(node) {
            Some(day) => day.add(now, health),
            None => days.entry(node.clone()).or_default().add(now, health),
        }
    }

    /// How an app of a node is, as far as it was heard since the coordinator started.
    pub fn vitals(&self, node: &NodeId, app: &AppName) -> Option<Vitals> {
        self.vitals.lock().unwrap_or_else(PoisonError::into_inner).get(node)?.vitals(app)
    }

    /// Most nodes have said how their apps are before.
    pub(super) fn note_vitals(&self, node: &NodeId, apps: &[AppVitals]) {
        if apps.is_empty() {
            return;
        }
        let mut known = self.vitals.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get_mut(node) {
            Some(before) => before.note(apps),
            None => known.entry(node.clone()).or_default().note(apps),
        }
    }

    /// Everything heard so far, to be kept over a restart.
    pub(super) fn all(&self) -> BTreeMap<NodeId, Seen> {
        self.lock().iter().map(|(node, seen)| (node.clone(), seen.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, Seen>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One node as everyone sees it: the database's row, what it should run, and the newest signs of life.
    pub fn node_view(&self, view: View<'_>, row: NodeRow) -> Result<NodeView, StoreError> {
        let seen = self.seen(&row.node);
        let desired = view.desired_apps(&row.node)?.into_iter().map(|desired| {
            let (release, version) = desired.release.map(|r| (r.id, r.version)).unzip();
            DesiredView { app: desired.app, generation: desired.generation, release, version }
        });
        Ok(NodeView {
            desired: desired.collect(),
            joined_at: row.joined_at,
            revoked: row.revoked_at.is_some(),
            online: seen.online && row.revoked_at.is_none(),
            // What was heard since the start goes first, not what is later: the clock may have been wrong before.
            seen_at: seen.at.or(row.seen_at),
            reported: row.reported,
            health: seen.health.or(row.health),
            node: row.node,
            holds: Vec::new(),
        })
    }
}
