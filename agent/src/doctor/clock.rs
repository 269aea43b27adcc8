//! The time, and who vouches for it.

use orangery_wire::messages::ClockState;

use super::{Code, Findings, Node};
use crate::clock::{build_time, utc};

/// So far ahead of the floor no node was without its coordinator.
const AHEAD_SECS: u64 = 5 * 365 * 86_400;

pub(super) fn clock(node: &Node, found: &mut Findings) {
    let state = node.view().map_or_else(|| node.clock.state(), |view| view.clock);
    let system = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let battery =
        if std::path::Path::new("/dev/rtc0").exists() { "" } else { "; this board has no clock with a battery" };
    let shown = utc(system);
    match state {
        ClockState::BehindFloor => {
            found.add(
                Code::ClockBehind,
                format!("it says {shown}, and it is at least {}{battery}", utc(node.clock.now())),
            );
        }
        ClockState::Unsynced if system > build_time().saturating_add(AHEAD_SECS) => {
            found.add(Code::ClockAhead, format!("it says {shown}, years after this program was built{battery}"));
        }
        ClockState::Unsynced => found.add(Code::ClockUnsynced, format!("it says {shown}{battery}")),
        ClockState::Synced => found.ok(format!("{shown}, synchronised{battery}")),
    }
}
