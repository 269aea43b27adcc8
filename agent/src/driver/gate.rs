//! The gate that a release passes after its probes held: a node that had its coordinator before must have it again, or the
//! release has cut it off and nobody could ever mend that from afar. See `docs/operating/network.md`.

use std::time::Duration;

use orangery_wire::AppName;
use orangery_wire::manifest::{Connectivity, Gate};

use super::{Driver, World};
use crate::deployment::{Phase, Record};
use crate::record::AppState;
use crate::runner::own;

/// Shortest budget of a manifest that names none.
const BUDGET_MIN: Duration = Duration::from_mins(1);
/// While the coordinator's machine answers and the coordinator does not, it is waited for so many budgets.
const BUDGETS_FOR_A_RESTART: u32 = 10;
/// A node that is not gated says "witnessed" if the coordinator answers within this time.
const WITNESS_PAUSE: Duration = Duration::from_secs(2);
/// A slower reconnection is saved when it is slower by this, in seconds: there are few writes in a life.
const SLOWER_BY_SECS: u64 = 5;

/// The state that is to be saved, with what it must remember for the gate. `before` is the record that it follows.
pub fn noted(state: AppState, before: &Record, connected: bool, unwitnessed: bool) -> AppState {
    let trial_begins = matches!((&before.phase, &state.record.phase), (Phase::Fetching { .. }, Phase::Activating(_)));
    let proven = matches!(before.phase, Phase::Probing(_));
    let moved = before.current != state.record.current;
    AppState {
        connected_before: if trial_begins { connected } else { state.connected_before },
        unwitnessed: if moved { proven && unwitnessed } else { state.unwitnessed },
        ..state
    }
}

/// Waits until the coordinator is reached again if it was there `before`. `Ok` says whether nobody but this node saw the
/// release well; `Err` says, for people, how it cut the node off.
pub async fn pass(world: &World, app: &AppName, gate: &Gate, before: bool) -> Result<bool, String> {
    if !before || gate.connectivity == Connectivity::None {
        let seen = world.link.is_up() && world.link.reach_again(WITNESS_PAUSE, WITNESS_PAUSE).await.is_ok();
        return Ok(!seen);
    }
    let budget = budget(gate, world.link.slowest_reconnection());
    // An agent that cannot talk to a coordinator that is there looks like one whose coordinator is being restarted.
    let patience = if own::is_agent(app) { budget } else { budget * BUDGETS_FOR_A_RESTART };
    tracing::debug!(%app, budget_secs = budget.as_secs(), "the probes held; the coordinator must answer");
    match world.link.reach_again(budget, patience).await {
        Ok(()) => Ok(false),
        Err(trouble) => Err(format!(
            "the node had its coordinator before this release was started and has not reached it for {} s after: {}; \
             `[gate] connectivity` in its manifest sets how long that may take",
            if trouble.answers { patience } else { budget }.as_secs(),
            trouble.reason
        )),
    }
}

/// How long the coordinator may take to answer again.
pub fn budget(gate: &Gate, slowest: Duration) -> Duration {
    gate.connectivity_secs.map_or_else(|| BUDGET_MIN.max(slowest * 3), Duration::from_secs)
}

impl Driver {
    /// The connection came back: remembers how long that took, if it never took so long before.
    pub(super) fn note_reconnection(&mut self) {
        let slowest = self.outside.slowest_reconnection().as_secs();
        if slowest >= self.node.reconnection_secs_max.saturating_add(SLOWER_BY_SECS) {
            self.node.reconnection_secs_max = slowest;
            self.save_node();
        }
    }
}

#[cfg(test)]
mod tests {
    use orangery_wire::{Digest, ReleaseId};

    use super::*;
    use crate::deployment::Event;

    const RELEASE: ReleaseId = ReleaseId(Digest([1; 32]));

    fn follow(state: &AppState, event: Event, connected: bool, unwitnessed: bool) -> AppState {
        let next = AppState { record: state.record.apply(event), ..state.clone() };
        noted(next, &state.record, connected, unwitnessed)
    }

    #[test]
    fn the_connection_counts_that_was_there_when_the_trial_began_whatever_comes_after() {
        for before in [true, false] {
            let wanted = AppState::default();
            let wanted = follow(&wanted, Event::Desired { generation: 1, release: Some(RELEASE) }, !before, false);
            let trial = follow(&wanted, Event::Fetched, before, false);
            assert_eq!(trial.connected_before, before);
            let again = follow(&follow(&trial, Event::Ran, !before, false), Event::Started, !before, false);
            assert_eq!(again.connected_before, before, "a restart of the agent changes nothing");
            let proven = follow(&follow(&again, Event::Ran, !before, false), Event::Healthy, !before, !before);
            assert_eq!((proven.record.current, proven.unwitnessed), (Some(RELEASE), !before));
            let next = follow(&proven, Event::Desired { generation: 2, release: None }, true, false);
            assert_eq!(next.unwitnessed, !before && next.record.current.is_some());
        }
    }

    #[test]
    fn the_budget_is_what_the_manifest_says_or_follows_the_slowest_reconnection() {
        let of =
            |secs, slowest| budget(&Gate { connectivity_secs: secs, ..Gate::default() }, Duration::from_secs(slowest));
        assert_eq!(of(None, 0), BUDGET_MIN);
        assert_eq!(of(None, 19), BUDGET_MIN);
        assert_eq!(of(None, 50), Duration::from_secs(150));
        assert_eq!(of(Some(5), 50), Duration::from_secs(5));
    }
}
