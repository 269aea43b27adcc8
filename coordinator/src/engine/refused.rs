//! What the engine will not do, and why. Each has a stable code; each text names the deed, the object and the cause.

use orangery_wire::{AppName, NodeId, UnixTime, UserName, Version};

use crate::store::StoreError;

/// Why a command was not done. Nothing of it has happened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// No node has this name.
    #[error("there is no node {node}{}", meant.as_ref().map(|m| format!("; did you mean {m}?")).unwrap_or_default())]
    UnknownNode {
        /// The name.
        node: String,
        /// The closest name that there is.
        meant: Option<String>,
    },
    /// No release of this app was published.
    #[error("no release of the app {app} was published{}", meant.as_ref().map(|m| format!("; did you mean {m}?")).unwrap_or_default())]
    UnknownApp {
        /// The app.
        app: AppName,
        /// The closest name that there is.
        meant: Option<String>,
    },
    /// This version of the app was not published.
    #[error("{app} {version} was not published; published are {published}")]
    UnknownVersion {
        /// The app.
        app: AppName,
        /// The version.
        version: Version,
        /// The newest ones that there are.
        published: String,
    },
    /// No node has this label with this value.
    #[error("no node has the label {selector}; {known}")]
    UnknownLabel {
        /// The selector.
        selector: String,
        /// The labels that there are, as a clause.
        known: String,
    },
    /// Not a selector.
    #[error("{to:?} chooses no nodes: use a node's name, label=value or all")]
    InvalidSelector {
        /// The text.
        to: String,
    },
    /// `all` of no nodes.
    #[error("there are no nodes yet")]
    NoNodes,
    /// What would be changed is not what the plan showed.
    #[error("the plan has changed since it was shown")]
    PlanChanged,
    /// A node can be told about so many apps only.
    #[error("{node} is told about {max} apps already, and {app} would be one more")]
    TooManyApps {
        /// The node.
        node: NodeId,
        /// The app.
        app: AppName,
        /// How many it may be.
        max: usize,
    },
    /// No invite has this secret.
    #[error("the invite token is not known here")]
    TokenUnknown,
    /// The invite was used as often as it may be.
    #[error("the invite token was used already")]
    TokenUsed,
    /// The invite ended.
    #[error("the invite token expired at {}", orangery_trust::time::format(*.expired_at))]
    TokenExpired {
        /// When it ended.
        expired_at: UnixTime,
    },
    /// Another node has the name.
    #[error("there is a node {node} already")]
    NameTaken {
        /// The name.
        node: NodeId,
    },
    /// The name was revoked. It is never given again: whoever has the old key could otherwise pass for the new node.
    #[error("the node {node} was revoked, and a revoked name is never given again")]
    NameRevoked {
        /// The name.
        node: NodeId,
    },
    /// The name means something else.
    #[error("no node can be named {name}: the word has a meaning of its own")]
    NameReserved {
        /// The name.
        name: String,
    },
    /// Not a node name.
    #[error("{reason}")]
    NameInvalid {
        /// Why.
        reason: String,
    },
    /// An invite that cannot be made.
    #[error("the invite cannot be made: {rule}")]
    InviteInvalid {
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// The certificate signing request was refused.
    #[error("{reason}")]
    RequestInvalid {
        /// Why.
        reason: String,
    },
    /// The node was revoked.
    #[error("the node {node} was revoked")]
    Revoked {
        /// The node.
        node: NodeId,
    },
    /// The version is published with other content.
    #[error("{app} {version} is published already, with other content: a version names one content for good")]
    VersionTaken {
        /// The app.
        app: AppName,
        /// The version.
        version: Version,
    },
    /// No rollout has this number.
    #[error("there is no rollout {rollout}")]
    UnknownRollout {
        /// The number.
        rollout: u64,
    },
    /// A rollout that cannot be made.
    #[error("the rollout cannot be begun: {reason}")]
    RolloutInvalid {
        /// Why.
        reason: String,
    },
    /// No group with windows has this name.
    #[error("there is no group {group} with maintenance windows")]
    UnknownGroup {
        /// The name.
        group: String,
    },
    /// A group that cannot be set.
    #[error("the group cannot be set: {reason}")]
    GroupInvalid {
        /// Why.
        reason: String,
    },
    /// The rollout is not where the deed makes sense.
    #[error("cannot {deed} rollout {rollout}: {reason}")]
    RolloutNotNow {
        /// The number.
        rollout: u64,
        /// What was to be done.
        deed: &'static str,
        /// Why not.
        reason: String,
    },
    /// Who does it, or why, cannot be kept.
    #[error("it cannot be done like that: {rule}")]
    DeedInvalid {
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// No user has this name.
    #[error("there is no user {user}{}", meant.as_ref().map(|m| format!("; did you mean {m}?")).unwrap_or_default())]
    UnknownUser {
        /// The name.
        user: UserName,
        /// The closest name that there is.
        meant: Option<String>,
    },
    /// No token is named so.
    #[error("there is no token {id}")]
    UnknownToken {
        /// Its id, as it was given.
        id: String,
    },
    /// There is a user of that name.
    #[error("there is a user {name} already")]
    UserTaken {
        /// The name.
        name: UserName,
    },
    /// The name means something else.
    #[error("no user can be named {name}: the word has a meaning of its own")]
    UserReserved {
        /// The name.
        name: UserName,
    },
    /// A user or token that cannot be made.
    #[error("it cannot be done: {rule}")]
    UserInvalid {
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// The owner is always there, with the one token that is on the coordinator's machine.
    #[error("the owner has one token and one role, which are not changed here, and a password that nobody else sets")]
    OwnerFixed,
    /// Who changes their own password shows the one that they have.
    #[error("you have a password already, and changing it takes that one too")]
    OldPasswordNeeded,
    /// It was checked against a password that has been changed since.
    #[error("the password was changed while it was being checked")]
    PasswordChanged,
    /// The database failed, or the coordinator stops.
    #[error("the coordinator cannot do it now: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
}

impl Refused {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownNode { .. } => "unknown_node",
            Self::UnknownApp { .. } => "unknown_app",
            Self::UnknownVersion { .. } => "unknown_version",
            Self::UnknownLabel { .. } => "unknown_label",
            Self::InvalidSelector { .. } => "invalid_selector",
            Self::NoNodes => "no_nodes",
            Self::PlanChanged => "plan_changed",
            Self::TooManyApps { .. } => "too_many_apps",
            Self::TokenUnknown => "token_unknown",
            Self::TokenUsed => "token_used",
            Self::TokenExpired { .. } => "token_expired",
            Self::NameTaken { .. } => "name_taken",
            Self::NameRevoked { .. } => "name_revoked",
            Self::NameReserved { .. } => "name_reserved",
            Self::NameInvalid { .. } => "name_invalid",
            Self::InviteInvalid { .. } => "invite_invalid",
            Self::RequestInvalid { .. } => "request_invalid",
            Self::Revoked { .. } => "revoked",
            Self::VersionTaken { .. } => "version_taken",
            Self::UnknownRollout { .. } => "unknown_rollout",
            Self::RolloutInvalid { .. } => "rollout_invalid",
            Self::UnknownGroup { .. } => "unknown_group",
            Self::GroupInvalid { .. } => "group_invalid",
            Self::RolloutNotNow { .. } => "rollout_not_now",
            Self::DeedInvalid { .. } => "deed_invalid",
            Self::UnknownUser { .. } => "unknown_user",
            Self::UnknownToken { .. } => "unknown_token",
            Self::UserTaken { .. } => "user_taken",
            Self::UserReserved { .. } => "user_reserved",
            Self::UserInvalid { .. } => "user_invalid",
            Self::OwnerFixed => "owner_fixed",
            Self::OldPasswordNeeded => "old_password_needed",
            Self::PasswordChanged => "password_changed",
            Self::Unavailable { .. } => "unavailable",
        }
    }

    /// What helps.
    pub fn next(&self) -> Option<&'static str> {
        Some(match self {
            Self::UnknownNode { .. } | Self::UnknownLabel { .. } => {
                "`orangery node list` shows all nodes and their labels"
            }
            Self::UnknownApp { .. } | Self::UnknownVersion { .. } => {
                "`orangery release list` shows what was published, `orangery release publish` adds to it"
            }
            Self::NoNodes => "`orangery node invite` makes a token, `orangery-agent join TOKEN` uses it on the board",
            Self::UnknownRollout { .. } => "`orangery rollout list` shows all",
            Self::UnknownGroup { .. } => "`orangery group list` shows all",
            Self::RolloutNotNow { .. } => "`orangery rollout show` says where it is and what it waits for",
            Self::PlanChanged => "look at the new plan and apply that one",
            Self::TooManyApps { .. } => "stop an app that the node no longer needs, and wait until it has",
            Self::TokenUnknown | Self::TokenUsed | Self::TokenExpired { .. } => {
                "`orangery node invite` makes a new token"
            }
            Self::NameTaken { .. }
            | Self::NameRevoked { .. }
            | Self::NameReserved { .. }
            | Self::NameInvalid { .. } => "choose another name: `orangery node invite --name NAME`",
            Self::UnknownUser { .. } | Self::UnknownToken { .. } => {
                "`orangery user list` shows all users and their tokens"
            }
            Self::UserTaken { .. } | Self::UserReserved { .. } => "choose another name",
            Self::OldPasswordNeeded => {
                "`orangery user password` asks for both; if it is forgotten, another admin sets a new one"
            }
            Self::PasswordChanged => "try again with the new one",
            Self::OwnerFixed => "`orangery keys operator-token` on the coordinator's machine makes a new one",
            Self::Unavailable { .. } => "try again; if it goes on, the coordinator's log says what failed",
            Self::InvalidSelector { .. }
            | Self::InviteInvalid { .. }
            | Self::RolloutInvalid { .. }
            | Self::GroupInvalid { .. }
            | Self::DeedInvalid { .. }
            | Self::RequestInvalid { .. }
            | Self::Revoked { .. }
            | Self::UserInvalid { .. }
            | Self::VersionTaken { .. } => return None,
        })
    }
}

impl From<&StoreError> for Refused {
    fn from(error: &StoreError) -> Self {
        Self::Unavailable { reason: error.to_string() }
    }
}
