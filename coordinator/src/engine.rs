//! The engine: one thread, the only writer of the coordinator's database.
//!
//! Everyone else sends it commands and waits for the answer. It takes what has gathered, does all of it in one
//! transaction (a group commit: one sync for many), and only then answers, publishes and acknowledges. So whatever was
//! acknowledged to anyone is on the disk, and a kill at any moment loses nothing that anyone was told.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use orangery_wire::rest::{
    DeedRequest, DeployRequest, GroupRequest, HoldRequest, HoldView, InviteRequest, Plan, ReleaseHoldRequest,
    RolloutRequest,
};
use orangery_wire::topics::Channel;
use orangery_wire::{AppName, Digest, NodeId, UnixTime};
use tokio::sync::{mpsc, oneshot};

mod asked;
mod attention;
mod audit;
mod command;
mod core;
mod day;
mod deploy;
mod enrol;
mod groups;
mod holds;
mod intake;
mod known;
mod listen;
mod live;
mod notices;
mod owed;
mod plan;
mod refused;
mod rollouts;
mod scene;
mod sessions;
mod users;
mod why;

pub use self::asked::Asked;
pub use self::attention::attention;
pub use self::audit::{Record, append};
pub use self::command::{Command, Issue, Joining, Renewing};
pub use self::core::{Clock, Core, Effects};
pub use self::day::Day;
pub use self::deploy::Survey;
pub use self::groups::Groups;
pub use self::live::{Live, Seen};
pub use self::plan::{Candidate, Selector, choose_release, plan, unknown_node};
pub use self::refused::Refused;
pub use self::rollouts::{Beginning, RolloutDeed, Scenes, begin, look};
pub use self::scene::describe_hold;
pub use self::sessions::{IDLE_SECS, SESSION_SECS, SESSIONS_MAX, Sessions, session_end};
pub use self::users::{Actor, Credential, Shown, User, UserDeed, Users};
pub use self::why::{Facts, brought, why};
use crate::ca::Issued;
use crate::link::LinkEvent;
use crate::rollout::RolloutId;
use crate::store::{ReleaseRow, StoreError, TargetRow};

/// Commands that may wait; after that whoever sends one waits too.
const COMMANDS_WAITING_MAX: usize = 4_096;
/// Commands in one transaction.
const BATCH_MAX: usize = 256;

/// Makes a payload the retained value of a node's topic.
pub type Publish = Box<dyn Fn(&NodeId, Channel, Vec<u8>) + Send>;
/// Ends a revoked node's connections.
pub type CutOff = Box<dyn Fn(&NodeId) + Send>;

/// What the engine does outside of the database, after each commit. Neither may block.
pub struct Outlets {
    /// Tells nodes something.
    pub publish: Publish,
    /// Ends connections.
    pub cut_off: CutOff,
}

/// The engine did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The database could not be read.
    #[error("cannot read what nodes should run")]
    Restate(#[from] StoreError),
    /// The system gave no thread.
    #[error("the system gives no thread for the engine; raise the limit of threads")]
    Thread(#[source] std::io::Error),
}

/// The engine, for everyone else. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    commands: mpsc::Sender<Command>,
    live: Arc<Live>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
    /// Who asks, if it is not the coordinator by itself.
    actor: Option<Actor>,
}

impl Engine {
    /// Says everything again that nodes should hear, then starts the thread.
    pub fn start(core: Core, outlets: Outlets) -> Result<Self, EngineError> {
        let live = core.live.clone();
        perform(core.restate()?, &outlets);
        let (commands, waiting) = mpsc::channel(COMMANDS_WAITING_MAX);
        let run = move || run(core, &outlets, waiting);
        let thread = std::thread::Builder::new().name("engine".into()).spawn(run).map_err(EngineError::Thread)?;
        Ok(Self { commands, live, thread: Arc::new(Mutex::new(Some(thread))), actor: None })
    }

    /// The same engine, asked by somebody: what is done is written down as theirs.
    #[must_use]
    pub fn by(&self, actor: Actor) -> Self {
        Self { actor: Some(actor), ..self.clone() }
    }

    /// Who is connected, and what else is true only now.
    pub fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// Takes in what the link says. Waits while the engine is busy: the broker then holds the rest back.
    pub async fn hear(&self, event: LinkEvent) -> Result<(), Refused> {
        self.commands.send(Command::Link(event)).await.map_err(|_| stopped())
    }

    /// Makes an invite whose secret has the SHA-256 `secret`; returns when it ends.
    pub async fn invite(&self, secret: Digest, request: InviteRequest) -> Result<UnixTime, Refused> {
        self.ask(|reply| Command::Invite(secret, request, reply)).await
    }

    /// Takes a board in as a node.
    pub async fn join(&self, joining: Joining) -> Result<(NodeId, Issued), Refused> {
        self.ask(|reply| Command::Join(joining, reply)).await
    }

    /// Renews a node's certificate.
    pub async fn renew(&self, renewing: Renewing) -> Result<Issued, Refused> {
        self.ask(|reply| Command::Renew(renewing, reply)).await
    }

    /// Revokes a node. Again: changes nothing.
    pub async fn revoke(&self, node: NodeId) -> Result<(), Refused> {
        self.ask(|reply| Command::Revoke(node, reply)).await
    }

    /// Adds a release that these keys have signed; the same one again changes nothing.
    pub async fn publish(&self, release: ReleaseRow, keys: Vec<String>) -> Result<ReleaseRow, Refused> {
        self.ask(|reply| Command::Publish(release, keys, reply)).await
    }

    /// Writes down what was done outside of the database.
    pub async fn record(&self, record: Record) -> Result<(), Refused> {
        self.ask(|reply| Command::Record(record, reply)).await
    }

    /// Applies a plan. What nodes were told already is not told again, unless they refused it: then it is a retry.
    pub async fn deploy(&self, request: DeployRequest) -> Result<Plan, Refused> {
        self.ask(|reply| Command::Deploy(request, reply)).await
    }

    /// Begins a rollout; returns its number.
    pub async fn begin_rollout(&self, request: RolloutRequest) -> Result<RolloutId, Refused> {
        self.ask(|reply| Command::BeginRollout(request, reply)).await
    }

    /// Does something with a rollout that is there.
    pub async fn with_rollout(&self, id: RolloutId, deed: RolloutDeed, request: DeedRequest) -> Result<(), Refused> {
        self.ask(|reply| Command::WithRollout(id, deed, request, reply)).await
    }

    /// Looks at every rollout that is under way and does what follows. To be asked every second or so.
    pub async fn look_at_rollouts(&self) -> Result<(), Refused> {
        self.ask(Command::LookAtRollouts).await
    }

    /// Holds a node.
    pub async fn hold(&self, node: NodeId, request: HoldRequest) -> Result<HoldView, Refused> {
        self.ask(|reply| Command::Hold(node, request, reply)).await
    }

    /// Ends a hold. Again: changes nothing.
    pub async fn release_hold(&self, node: NodeId, request: ReleaseHoldRequest) -> Result<(), Refused> {
        self.ask(|reply| Command::ReleaseHold(node, request, reply)).await
    }

    /// Sets a group with maintenance windows in place of one of the same name.
    pub async fn set_group(&self, name: String, request: GroupRequest) -> Result<(), Refused> {
        self.ask(|reply| Command::SetGroup(name, request, reply)).await
    }

    /// Removes a group.
    pub async fn remove_group(&self, name: String, request: DeedRequest) -> Result<(), Refused> {
        self.ask(|reply| Command::RemoveGroup(name, request, reply)).await
    }

    /// Does something with users; answers when the token or session ends that was made, if one was and it does.
    pub async fn user(&self, deed: UserDeed) -> Result<Option<UnixTime>, Refused> {
        self.ask(|reply| Command::User(deed, reply)).await
    }

    /// Keeps how far a target of notifications was told.
    pub async fn mark_target(&self, row: TargetRow) -> Result<(), Refused> {
        self.ask(|reply| Command::MarkTarget(row, reply)).await
    }

    /// Tells a node what is desired once more, with the outputs that it is asked for now: `app`'s among them, or no longer.
    pub async fn ask_for_output(&self, node: NodeId, app: Option<AppName>) -> Result<(), Refused> {
        self.ask(|reply| Command::AskForOutput(node, app, reply)).await
    }

    /// Does what was sent before, keeps the last signs of life, and ends the thread. Blocks until it has ended.
    pub fn stop(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return };
        // When it is gone already there is nothing to tell it.
        let _ = self.commands.blocking_send(Command::Stop);
        if thread.join().is_err() {
            tracing::error!("the engine ended by a panic");
        }
    }

    /// Waits until the thread has ended, which it does by itself only through a fault of the program.
    pub async fn ended(&self) {
        self.commands.closed().await;
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<Result<T, Refused>>) -> Command) -> Result<T, Refused> {
        let (reply, answer) = oneshot::channel();
        let command = command(reply);
        let command = match &self.actor {
            Some(actor) => Command::By(actor.clone(), Box::new(command)),
            None => command,
        };
        self.commands.send(command).await.map_err(|_| stopped())?;
        answer.await.unwrap_or_else(|_| Err(failed()))
    }
}

fn stopped() -> Refused {
    Refused::Unavailable { reason: "it is stopping".to_owned() }
}

fn failed() -> Refused {
    Refused::Unavailable { reason: "its database did not take it; is the disk full?".to_owned() }
}

fn run(mut core: Core, outlets: &Outlets, mut waiting: mpsc::Receiver<Command>) {
    while let Some(first) = waiting.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH_MAX
            && let Ok(next) = waiting.try_recv()
        {
            batch.push(next);
        }
        let stop = batch.iter().any(|command| matches!(command, Command::Stop));
        match core.apply(batch) {
            Ok(effects) => perform(effects, outlets),
            // Nobody was answered and no event acknowledged: whoever asked hears so, and nodes offer again.
            Err(error) => tracing::error!(reason = %error, "a batch could not be stored"),
        }
        if stop {
            break;
        }
    }
    if let Err(error) = core.keep_seen() {
        tracing::warn!(reason = %error, "the last signs of life were not stored");
    }
}

fn perform(effects: Effects, outlets: &Outlets) {
    for (node, channel, payload) in &effects.publications {
        (outlets.publish)(node, *channel, payload.clone());
    }
    effects.cut_off.iter().for_each(|node| (outlets.cut_off)(node));
    effects.reply();
}
