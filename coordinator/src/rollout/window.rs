//! Maintenance windows, as far as the planner asks: whether a node may be told now, and if not, when.

use orangery_wire::UnixTime;
use serde::{Deserialize, Serialize};

use super::{Stage, Turn, Watched};

/// What a node's windows say at one moment. `crate::windows` works it out; here it is only followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Window {
    /// It may be told.
    Open,
    /// It may not.
    Shut(Shut),
}

/// A window that is shut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shut {
    /// When it opens; `None`: nobody can say, or never.
    pub opens_at: Option<UnixTime>,
    /// "opens Sat 02:00 Europe/Berlin", or why nobody can say.
    pub says: String,
    /// Whether the node's wave waits for it. For a window that never opens no wave does.
    pub waits: bool,
}

/// A node with windows that was not there when it could have been told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Away {
    /// Since when.
    pub since: Watched,
    /// Why it counts as failed, if it does.
    pub failed: Option<String>,
}

impl Turn {
    /// Where it is kept why the node counts as failed, if it can.
    pub(super) fn failed_mut(&mut self) -> Option<&mut Option<String>> {
        match &mut self.stage {
            Stage::Told(told) => Some(&mut told.failed),
            Stage::Waiting => self.away.as_mut().map(|away| &mut away.failed),
            Stage::Back(_) | Stage::Left(_) => None,
        }
    }
}

/// "waits for its window: opens Sat 02:00 Europe/Berlin (in 5 h)"
pub fn opens(shut: &Shut, now: UnixTime) -> String {
    let distance = shut.opens_at.map(|at| format!(" (in {})", distance(at.saturating_sub(now)))).unwrap_or_default();
    format!("waits for its window: {}{distance}", shut.says)
}

/// One unit, rounded down: nobody needs two here.
pub(super) fn distance(secs: u64) -> String {
    match secs {
        0..=119 => format!("{secs} s"),
        120..=7_199 => format!("{} min", secs / 60),
        7_200..=172_799 => format!("{} h", secs / 3_600),
        _ => format!("{} d", secs / 86_400),
    }
}
