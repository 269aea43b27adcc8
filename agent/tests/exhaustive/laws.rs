//! What must hold, each by its name: after every step, and at rest.

use orangery_wire::messages::{Phase, RefusalCode};

use crate::machine::{Ask, Input, Look, Machine};
use crate::records::{RecordId, Records};
use crate::world::{Ghosts, World, has};

/// A law's name, when it is broken.
pub type Broken = &'static str;

/// Starts that a release gets before it is refused.
const STARTS_MAX: u8 = orangery_agent::deployment::TRIES;

/// Laws of one state of the world.
pub fn of_state(world: &World, look: Look) -> Result<(), Broken> {
    let Ghosts { proven, refused, before, starts, restore_failed } = world.ghosts;
    law("only_what_was_proven_is_current", look.current.is_none_or(|release| has(proven, release)))?;
    law("a_reboot_starts_only_what_was_proven", world.boot.is_none_or(|release| has(proven, release)))?;
    law("a_reboot_starts_current_or_its_predecessor", world.boot == look.current || world.boot == before)?;
    law("what_is_current_stays_on_the_disk", look.current.is_none_or(|release| has(world.sealed, release)))?;
    law("what_is_refused_is_not_current", look.current.is_none_or(|release| !look.refuses(release)))?;
    law("tries_are_bounded", starts <= STARTS_MAX)?;
    if world.pending.is_some() {
        return Ok(());
    }
    match look.ask {
        Ask::Wait => {}
        Ask::Fetch(release) => {
            law("what_was_refused_is_not_fetched_again", !has(refused, release))?;
            let runs = world.running == look.current || restore_failed;
            law("current_runs_while_another_is_fetched", runs)?;
        }
        Ask::Run { release, trial } => {
            law("only_what_is_sealed_is_run", release.is_none_or(|release| has(world.sealed, release)))?;
            let again = trial
                && look.trial.is_some_and(|(tried, generation)| generation == look.generation && has(refused, tried));
            law("what_was_refused_is_not_tried_again", !again)?;
            law("what_is_not_proven_runs_on_trial_only", trial || release == look.current)?;
        }
        Ask::Probe(release) => law("only_what_runs_is_probed", world.running == Some(release))?,
    }
    Ok(())
}

/// Laws of a state in which nothing is left to do.
pub fn of_rest(world: &World, look: Look) -> Result<(), Broken> {
    law("at_rest_current_runs", world.running == look.current)?;
    law("at_rest_a_reboot_starts_current", world.boot == look.current)?;
    of_standstill(world, look)
}

/// Laws of a state that changes no more by itself: at rest, or while a broken release is started again and again.
pub fn of_standstill(world: &World, look: Look) -> Result<(), Broken> {
    law("at_rest_desired_is_current_or_refused", look.is_done())?;
    law("the_newest_wish_is_never_lost", world.wish.0 == look.generation && world.wish.1 == look.desired)?;
    let counts = look.refused.is_none_or(|(release, _)| has(world.ghosts.refused, release));
    law("a_refusal_counts_in_its_generation_only", counts)
}

/// Laws of one change of the record.
pub fn of_change(before: Look, event: Input, after: Look) -> Result<(), Broken> {
    law("the_generation_never_decreases", after.generation >= before.generation)?;
    law("current_changes_by_proof_rollback_or_stop", current_may_change(before, event, after))?;
    let switching = matches!(before.phase, Phase::Activating | Phase::Probing | Phase::Restoring);
    let wish = matches!(event, Input::Desired { .. } | Input::RolledBack { .. } | Input::Brought { .. });
    law("a_wish_does_not_cut_a_switch_short", !(switching && wish) || before.phase == after.phase)?;
    let same = match event {
        Input::Desired { release, .. } => release == before.current,
        Input::Brought { release } => before.current == Some(release),
        _ => false,
    };
    let undisturbed = before.phase != Phase::Settled || after.phase == Phase::Settled;
    law("a_wish_for_what_runs_restarts_nothing", !same || undisturbed)?;
    let brought = if let Input::Brought { release } = event { Some(release) } else { None };
    let heard = brought.is_none_or(|release| after.desired == Some(release) && !after.refuses(release));
    law("what_is_brought_is_wanted_even_if_it_was_refused", heard)?;
    law("what_is_brought_takes_no_generation", brought.is_none() || after.generation == before.generation)?;
    law("a_refusal_names_its_release_and_cause", refusal_is_right(before, event, after))
}

fn current_may_change(before: Look, event: Input, after: Look) -> bool {
    let proven = event == Input::Healthy && before.phase == Phase::Probing && after.current == before.subject;
    let rolled_back = matches!(event, Input::RolledBack { release, .. } if after.current == Some(release));
    let stopped = after.current.is_none() && after.desired.is_none();
    after.current == before.current || proven || rolled_back || stopped
}

fn refusal_is_right(before: Look, event: Input, after: Look) -> bool {
    let Some(refusal) = after.refused.filter(|refusal| before.refused != Some(*refusal)) else { return true };
    let (cause, release) = match event {
        Input::FetchRefused => (RefusalCode::Unverified, before.subject),
        Input::RunFailed => (RefusalCode::WontStart, before.subject),
        Input::Unhealthy => (RefusalCode::Unhealthy, before.subject),
        Input::Disconnected => (RefusalCode::Disconnected, before.subject),
        Input::Started => (RefusalCode::CrashLoop, before.subject),
        Input::RolledBack { .. } => (RefusalCode::RolledBack, before.current),
        _ => return false,
    };
    let own = before.trial.is_none_or(|(_, generation)| generation == after.generation);
    refusal.1 == cause && release == Some(refusal.0) && own
}

/// Laws of one record, whatever the world: what comes late, twice or from elsewhere changes nothing.
pub fn of_record<M: Machine>(id: RecordId, records: &mut Records<M>) -> Result<(), Broken> {
    let look = records.look(id);
    for outcome in Input::OUTCOMES {
        let awaited = match outcome {
            Input::Fetched | Input::FetchFailed | Input::FetchRefused => look.phase == Phase::Fetching,
            Input::Ran | Input::RunFailed => matches!(look.phase, Phase::Activating | Phase::Restoring),
            Input::Healthy | Input::Unhealthy | Input::Disconnected => look.phase == Phase::Probing,
            Input::Started | Input::Desired { .. } | Input::RolledBack { .. } | Input::Brought { .. } => true,
        };
        let next = records.apply(id, outcome);
        law("an_outcome_that_nothing_waits_for_changes_nothing", awaited || next == id)?;
    }
    for generation in 0..=look.generation {
        for release in [None, Some(0), Some(1), Some(2)] {
            let next = records.apply(id, Input::Desired { generation, release });
            law("a_wish_that_is_not_newer_changes_nothing", next == id)?;
        }
    }
    Ok(())
}

fn law(name: Broken, holds: bool) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(name) }
}
