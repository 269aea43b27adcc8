//! Targets of notifications: how each was told, and tests of them.

use serde::{Deserialize, Serialize};

use crate::ids::UnixTime;

/// One target of notifications.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NotifyTargetView {
    /// Its name.
    pub name: String,
    /// How it is told: `webhook`, `ntfy`, `slack`, `discord` or `smtp`.
    pub kind: String,
    /// Where it is, without what is secret of that: scheme, host and port.
    pub address: String,
    /// What it is told of.
    pub events: Vec<String>,
    /// What matters less is not told: `info`, `warning` or `error`.
    pub severity: String,
    /// Notices that it was not told yet.
    pub waiting: u64,
    /// Messages that it took.
    pub sent: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Notices that it will never be told.
    pub given_up: u64,
    /// When it last took a message.
    pub succeeded_at: Option<UnixTime>,
    /// When an attempt last failed.
    pub failed_at: Option<UnixTime>,
    /// Why.
    pub failure: Option<String>,
    /// Until when it is left alone.
    pub retry_at: Option<UnixTime>,
}

/// What became of a test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NotifyTestView {
    /// The target.
    pub target: String,
    /// Whether it took the message.
    pub delivered: bool,
    /// What it answered, or why there is no answer.
    pub answer: String,
}
