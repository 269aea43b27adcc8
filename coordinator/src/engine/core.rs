//! What the engine does with a batch of commands: one transaction, and then the effects that follow from it. The two are
//! apart so that everything that leaves the coordinator leaves it after the commit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use orangery_wire::messages::{Acked, Desired};
use orangery_wire::topics::Channel;
use orangery_wire::{NodeId, UnixTime};

use super::audit::{Log, Record};
use super::command::{Command, Reply};
use super::known::Known;
use super::live::Live;
use super::notices::Telling;
use super::owed::lasting;
use super::refused::Refused;
use super::users::{Actor, Users};
use crate::audit::Kept;
use crate::link::LinkEvent;
use crate::store::{Batch, Store, StoreError, View};

/// The present time. Tests have their own.
pub type Clock = Arc<dyn Fn() -> UnixTime + Send + Sync>;

/// The engine without its thread: the only writer of the database.
pub struct Core {
    store: Store,
    pub(super) live: Arc<Live>,
    pub(super) clock: Clock,
    pub(super) events_kept_max: u64,
    pub(super) known: Known,
    /// What the database did not take and nobody will say again.
    owed: Vec<LinkEvent>,
    log: Log,
    telling: Telling,
}

/// What a committed batch owes the world. All of it may be done again; if it is lost, the next start does it
/// ([`Core::restate`]), or the node asks again.
#[derive(Default)]
pub struct Effects {
    /// What nodes should hear, by topic. An empty payload clears the topic.
    pub publications: Vec<(NodeId, Channel, Vec<u8>)>,
    /// Nodes whose connections end now.
    pub cut_off: Vec<NodeId>,
    /// Answers to whoever gave the commands.
    pub(super) replies: Vec<Box<dyn FnOnce() + Send>>,
}

impl Effects {
    /// Answers everyone who waits for an answer.
    pub fn reply(self) {
        self.replies.into_iter().for_each(|reply| reply());
    }
}

/// What a batch has led to so far.
#[derive(Default)]
pub(super) struct Outcome {
    /// Nodes whose desired state changed.
    pub(super) desired: BTreeSet<NodeId>,
    /// How far each outbox is stored; said again even if it is not news, for the node may have missed it.
    pub(super) acked: BTreeMap<NodeId, Acked>,
    pub(super) newest_event: u64,
    pub(super) newest_notice: u64,
    /// Events that were stored, by code.
    pub(super) events: BTreeMap<&'static str, u64>,
    pub(super) cut_off: Vec<NodeId>,
    /// Who may use the coordinator from now on, if that has changed.
    pub(super) users: Option<Users>,
    replies: Vec<Box<dyn FnOnce() + Send>>,
}

impl Outcome {
    pub(super) fn reply<T: Send + 'static>(&mut self, reply: Reply<T>, answer: Result<T, Refused>) {
        // Whoever asked may have gone; what was committed stays.
        self.replies.push(Box::new(move || drop(reply.send(answer))));
    }

    pub(super) fn stored(&mut self, id: u64, code: &'static str) {
        self.newest_event = self.newest_event.max(id);
        *self.events.entry(code).or_default() += 1;
    }
}

impl Core {
    /// Takes the database over.
    pub fn new(store: Store, live: Arc<Live>, clock: Clock, events_kept_max: u64) -> Result<Self, StoreError> {
        let known = Known::new(store.view().node_names()?);
        let log = Log::new(store.view().audit_end()?, Kept::default());
        let telling = Telling::default();
        Ok(Self { store, live, clock, events_kept_max, known, owed: Vec::new(), log, telling })
    }

    /// The same, with other bounds for the audit log.
    #[must_use]
    pub fn keeping(self, kept: Kept) -> Self {
        Self { log: Log::new(self.log.end, kept), ..self }
    }

    /// The same, writing down what targets of notifications are told. A node is silent after so many seconds.
    #[must_use]
    pub fn telling(self, silent_secs: u64) -> Self {
        Self { telling: Telling::of(silent_secs), ..self }
    }

    /// Everything that nodes should hear, from the database alone: said at each start, so that the broker needs no memory
    /// and nothing is lost between a commit and its effects.
    pub fn restate(&self) -> Result<Effects, StoreError> {
        let view = self.store.view();
        let mut effects = Effects::default();
        for node in view.nodes_with_desired()? {
            effects.publications.extend(desired(view, &self.live, &node)?);
        }
        for node in view.nodes_with_events()? {
            effects.publications.extend(view.acked(&node)?.map(|acked| acknowledgement(&node, acked)));
        }
        Ok(effects)
    }

    /// Does all commands in one transaction. When the database fails, none has happened, and whoever waits for an answer
    /// learns that by the end of the waiting; what nodes will not say again is done with the next batch.
    pub fn apply(&mut self, commands: Vec<Command>) -> Result<Effects, StoreError> {
        let owed = std::mem::take(&mut self.owed).into_iter().map(Command::Link);
        let commands: Vec<Command> = owed.chain(commands).collect();
        let lasting = lasting(&commands);
        let stirs = commands.iter().any(Command::stirs);
        let now = (self.clock)();
        let Self { store, live, known, events_kept_max, log: before, telling, .. } = self;
        let events_kept_max = *events_kept_max;
        known.begin();
        let committed = store.commit(|batch| {
            let outcome = Outcome::default();
            let actor = Actor::coordinator();
            let (log, record, own) = (*before, None, Vec::new());
            let mut turn = Turn { batch, live, known, now, events_kept_max, outcome, actor, log, record, own, telling };
            for command in commands {
                turn.command(command)?;
            }
            turn.effects()
        });
        match committed {
            Ok((effects, outcome, log)) => {
                self.log = log;
                outcome.cut_off.iter().for_each(|node| self.live.revoke(node));
                if let Some(users) = outcome.users {
                    self.live.set_users(users);
                }
                self.live.set_newest_event(outcome.newest_event);
                self.live.set_newest_notice(outcome.newest_notice);
                self.live.count_events(outcome.events);
                if stirs || !effects.publications.is_empty() {
                    self.live.stir();
                }
                Ok(effects)
            }
            Err(error) => {
                self.owed = lasting;
                self.known.undo(0);
                Err(error)
            }
        }
    }

    /// What is committed.
    pub fn view(&self) -> View<'_> {
        self.store.view()
    }

    /// The database, for whoever takes it over. What was not committed is gone.
    pub fn into_store(self) -> Store {
        self.store
    }

    /// Keeps the last signs of life, of nodes, tokens and sessions, over a stop.
    pub fn keep_seen(&mut self) -> Result<(), StoreError> {
        let all = self.live.all();
        self.store.commit(|batch| {
            for (node, seen) in &all {
                if let Some(at) = seen.at {
                    batch.set_seen(node, seen.health.as_ref(), at)?;
                }
            }
            let users = self.live.users();
            users.to_keep(true).iter().try_for_each(|(digest, at)| batch.set_token_used(digest, *at))?;
            let used = users.sessions().to_keep(true);
            used.iter().try_for_each(|(digest, at)| batch.set_session_used(digest, *at))
        })
    }
}

/// What a command comes to: the database failed, or it was refused, or it was done.
pub(super) type Done<T> = Result<Result<T, Refused>, StoreError>;

/// One batch under way.
pub(super) struct Turn<'a> {
    pub(super) batch: &'a Batch<'a>,
    pub(super) live: &'a Live,
    pub(super) known: &'a mut Known,
    pub(super) now: UnixTime,
    pub(super) events_kept_max: u64,
    pub(super) outcome: Outcome,
    /// Who asks.
    pub(super) actor: Actor,
    /// The audit log.
    pub(super) log: Log,
    /// What is written down of the command under way, once it has ended.
    pub(super) record: Option<Record>,
    /// What the coordinator itself has done meanwhile.
    pub(super) own: Vec<Record>,
    pub(super) telling: &'a mut Telling,
}

impl Turn<'_> {
    pub(super) fn view(&self) -> View<'_> {
        self.batch.view()
    }

    /// Runs a part of the batch that may fail without harm to the rest. Unless it returns `Ok(Ok(_))`, nothing of it has
    /// happened, and whom it has met is as unknown as before.
    pub(super) fn part<T, R>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<Result<T, R>, StoreError>,
    ) -> Result<Result<T, R>, StoreError> {
        let (batch, before, end) = (self.batch, self.known.moment(), self.log);
        let result = batch.part(|_| work(self));
        if !matches!(result, Ok(Ok(_))) {
            self.known.undo(before);
            self.log = end;
        }
        result
    }

    /// Answers with what `work` did, or with why not; then nothing of it has happened.
    pub(super) fn answer<T: Send + 'static>(
        &mut self,
        reply: Reply<T>,
        work: impl FnOnce(&mut Self) -> Done<T>,
    ) -> Result<(), StoreError> {
        let own = self.own.len();
        let answer = match self.part(work) {
            Err(error) if error.is_about_values() => {
                tracing::error!(reason = %error, "the database refused a command");
                Err(Refused::from(&error))
            }
            other => other?,
        };
        if let Err(refused) = &answer {
            self.own.truncate(own);
            self.write_down_answer(refused.code())?;
        } else {
            self.write_down_answer("done")?;
        }
        self.write_down_own()?;
        self.outcome.reply(reply, answer);
        Ok(())
    }

    fn effects(self) -> Result<(Effects, Outcome, Log), StoreError> {
        let mut outcome = self.outcome;
        let mut effects = Effects { replies: std::mem::take(&mut outcome.replies), ..Effects::default() };
        for node in &outcome.desired {
            effects.publications.extend(desired(self.batch.view(), self.live, node)?);
        }
        effects.publications.extend(outcome.acked.iter().map(|(node, acked)| acknowledgement(node, *acked)));
        let cleared = outcome.cut_off.iter().map(|node| (node.clone(), Channel::Desired, Vec::new()));
        effects.publications.extend(cleared);
        effects.cut_off.clone_from(&outcome.cut_off);
        Ok((effects, outcome, self.log))
    }
}

fn desired(view: View<'_>, live: &Live, node: &NodeId) -> Result<Option<(NodeId, Channel, Vec<u8>)>, StoreError> {
    // Names and numbers always have a JSON form.
    let bytes =
        |desired: Desired| serde_json::to_vec(&Desired { show: live.asked().of(node), ..desired }).unwrap_or_default();
    Ok(view.desired(node)?.map(|desired| (node.clone(), Channel::Desired, bytes(desired))))
}

fn acknowledgement(node: &NodeId, acked: Acked) -> (NodeId, Channel, Vec<u8>) {
    (node.clone(), Channel::Acked, serde_json::to_vec(&acked).unwrap_or_default())
}
