//! What the engine can be told. Everything that changes the database is one of these.

use orangery_wire::rest::{
    DeedRequest, DeployRequest, GroupRequest, HoldRequest, HoldView, InviteRequest, Plan, ReleaseHoldRequest,
    RolloutRequest,
};
use orangery_wire::topics::Channel;
use orangery_wire::{AppName, Digest, NodeId, UnixTime};
use tokio::sync::oneshot;

use super::audit::Record;
use super::refused::Refused;
use super::rollouts::RolloutDeed;
use super::users::{Actor, UserDeed};
use crate::ca::Issued;
use crate::link::LinkEvent;
use crate::rollout::RolloutId;
use crate::store::{ReleaseRow, TargetRow};

/// Where an answer goes. It is dropped unanswered when the database failed.
pub(super) type Reply<T> = oneshot::Sender<Result<T, Refused>>;

/// Issues a certificate to a node, at a time, for a key that it was made for; `Err` says what is wrong with the request.
pub type Issue = Box<dyn FnOnce(&NodeId, UnixTime) -> Result<Issued, String> + Send>;

/// A board that wants to become a node.
pub struct Joining {
    /// SHA-256 of the invite's secret.
    pub secret: Digest,
    /// SHA-256 of the board's public key.
    pub key: Digest,
    /// The name that it would like.
    pub wish: Option<String>,
    /// Issues its certificate.
    pub issue: Issue,
}

/// A node that wants a certificate for a new key, or for the same one.
pub struct Renewing {
    /// The node.
    pub node: NodeId,
    /// SHA-256 of its public key.
    pub key: Digest,
    /// Issues its certificate.
    pub issue: Issue,
}

/// One command.
pub enum Command {
    /// Somebody asks for it. Without this it is the coordinator that does it by itself.
    By(Actor, Box<Command>),
    /// The link says something: of itself, or from a node.
    Link(LinkEvent),
    /// Make an invite whose secret has this SHA-256; answers when it ends.
    Invite(Digest, InviteRequest, oneshot::Sender<Result<UnixTime, Refused>>),
    /// Take a board in.
    Join(Joining, oneshot::Sender<Result<(NodeId, Issued), Refused>>),
    /// Renew a certificate.
    Renew(Renewing, oneshot::Sender<Result<Issued, Refused>>),
    /// Revoke a node.
    Revoke(NodeId, oneshot::Sender<Result<(), Refused>>),
    /// Add a release that these keys have signed; answers with what is there then.
    Publish(ReleaseRow, Vec<String>, oneshot::Sender<Result<ReleaseRow, Refused>>),
    /// Apply a plan.
    Deploy(DeployRequest, oneshot::Sender<Result<Plan, Refused>>),
    /// Begin a rollout; answers with its number.
    BeginRollout(RolloutRequest, oneshot::Sender<Result<RolloutId, Refused>>),
    /// Do something with a rollout.
    WithRollout(RolloutId, RolloutDeed, DeedRequest, oneshot::Sender<Result<(), Refused>>),
    /// Time has passed.
    LookAtRollouts(oneshot::Sender<Result<(), Refused>>),
    /// Hold a node.
    Hold(NodeId, HoldRequest, oneshot::Sender<Result<HoldView, Refused>>),
    /// End a hold.
    ReleaseHold(NodeId, ReleaseHoldRequest, oneshot::Sender<Result<(), Refused>>),
    /// Set a group with maintenance windows.
    SetGroup(String, GroupRequest, oneshot::Sender<Result<(), Refused>>),
    /// Remove a group.
    RemoveGroup(String, DeedRequest, oneshot::Sender<Result<(), Refused>>),
    /// Write down what was done outside of the database.
    Record(Record, oneshot::Sender<Result<(), Refused>>),
    /// Do something with users; answers when the token or session ends that was made, if one was and it does.
    User(UserDeed, oneshot::Sender<Result<Option<UnixTime>, Refused>>),
    /// Keep how far a target of notifications was told.
    MarkTarget(TargetRow, oneshot::Sender<Result<(), Refused>>),
    /// Tell a node which outputs are wanted now: an app's among them, or no longer.
    AskForOutput(NodeId, Option<AppName>, oneshot::Sender<Result<(), Refused>>),
    /// Keep the last signs of life and end.
    Stop,
}

impl Command {
    /// Whether it may change by itself what is said of the fleet.
    pub(super) fn stirs(&self) -> bool {
        match self {
            Self::By(_, command) => command.stirs(),
            Self::Link(LinkEvent::FromNode(message)) => message.channel != Channel::Health,
            Self::LookAtRollouts(_) | Self::Record(..) | Self::User(..) | Self::MarkTarget(..) | Self::Stop => false,
            _ => true,
        }
    }
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::By(_, command) => return command.fmt(f),
            Self::Link(_) => "Link",
            Self::Invite(..) => "Invite",
            Self::Join(..) => "Join",
            Self::Renew(..) => "Renew",
            Self::Revoke(..) => "Revoke",
            Self::Publish(..) => "Publish",
            Self::Deploy(..) => "Deploy",
            Self::BeginRollout(..) => "BeginRollout",
            Self::WithRollout(..) => "WithRollout",
            Self::LookAtRollouts(_) => "LookAtRollouts",
            Self::Hold(..) => "Hold",
            Self::ReleaseHold(..) => "ReleaseHold",
            Self::SetGroup(..) => "SetGroup",
            Self::RemoveGroup(..) => "RemoveGroup",
            Self::Record(..) => "Record",
            Self::User(..) => "User",
            Self::MarkTarget(..) => "MarkTarget",
            Self::AskForOutput(..) => "AskForOutput",
            Self::Stop => "Stop",
        })
    }
}
