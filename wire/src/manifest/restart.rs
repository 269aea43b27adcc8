//! What happens when the app exits, and how it is asked to.

use serde::{Deserialize, Serialize};

/// What happens when the app exits by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Restart {
    /// Restarts in a row before it counts as failed. On trial that refuses the release; afterwards it is reported and
    /// tried again at the longest delay.
    pub restarts_max: u32,
    /// An app that ran this long is no longer counted as restarting, in seconds.
    pub uptime_min_secs: u64,
    /// Delay before the first restart, in milliseconds; it doubles each time.
    pub backoff_ms: u64,
    /// Longest delay, in milliseconds.
    pub backoff_max_ms: u64,
}

impl Default for Restart {
    fn default() -> Self {
        Self { restarts_max: 3, uptime_min_secs: 10, backoff_ms: 200, backoff_max_ms: 30_000 }
    }
}

/// A signal that a program may take as a request to stop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum StopSignal {
    /// SIGTERM
    #[default]
    Term,
    /// SIGINT
    Int,
    /// SIGQUIT
    Quit,
    /// SIGHUP
    Hup,
}
