//! Records, links and releases of the apps.

use orangery_wire::messages::{Refusal, RefusalCode};
use orangery_wire::{AppName, ReleaseId};

use super::{Findings, release};
use crate::deployment::{Phase, Record, TRIES, Trial};
use crate::record::{self, AppState, Source};

/// Release directories beyond those that the record names: one that was given up, and one that is not collected yet.
const STRAY_RELEASES_MAX: usize = 2;

pub(super) fn check(found: &mut Findings<'_>) {
    for app in record::apps(found.disk, found.layout) {
        let loaded = record::load_app(found.disk, found.layout, &app);
        let path = found.layout.record(&app);
        if let Some(trouble) = &loaded.trouble
            && matches!(loaded.source, Source::Link | Source::Absent)
        {
            found.add("I5", &path, format!("neither it nor its previous copy can be read: {trouble}"));
        }
        check_record(found, &app, &loaded.state.record);
        check_link(found, &app, &loaded.state);
        check_current(found, &app, loaded.state.record.current);
        check_bounds(found, &app, &loaded.state);
    }
}

/// What the record says must be possible, and agree with the disk.
fn check_record(found: &mut Findings<'_>, app: &AppName, record: &Record) {
    let path = found.layout.record(app);
    if let Phase::Activating(trial) | Phase::Probing(trial) = &record.phase {
        check_trial(found, app, record, trial);
    }
    let refused = record.refused.as_ref().map(|refusal| refusal.release);
    let both = record.current.is_some() && refused == record.current;
    found.ensure(!both, "I5", &path, || "the refused release is current".to_owned());
    let done = record.current == record.desired || (refused.is_some() && refused == record.desired);
    let settled = matches!(record.phase, Phase::Settled);
    found.ensure(done || !settled, "I5", &path, || {
        "it is settled, but what is desired was neither proven nor refused".into()
    });
}

fn check_trial(found: &mut Findings<'_>, app: &AppName, record: &Record, trial: &Trial) {
    let path = found.layout.record(app);
    let sealed = release::sealed(found.disk, found.layout, app, &trial.release).is_ok();
    found.ensure(sealed, "I3", &path, || format!("release {} is on trial, but is not sealed", trial.release.short()));
    let counted = trial.tries_left < TRIES;
    found.ensure(counted, "I11", &path, || format!("{} tries are left of {TRIES}, and one is used", trial.tries_left));
    let known = trial.generation <= record.generation;
    found.ensure(known, "I5", &path, || "the trial is of a generation that is yet to come".to_owned());
}

/// The link follows the record. Between the save and the move it names what was current before.
fn check_link(found: &mut Findings<'_>, app: &AppName, state: &AppState) {
    let link = found.layout.current(app);
    let linked = record::current_link(found.disk, found.layout, app);
    found
        .ensure(linked.is_some() || !found.disk.exists(&link), "I2", &link, || "it does not name a release".to_owned());
    if let Some(linked) = linked {
        let whole = release::sealed(found.disk, found.layout, app, &linked);
        found.ensure(whole.is_ok(), "I2", &link, || {
            format!("a reboot starts release {}, which is not sealed", linked.short())
        });
    }
    let follows = linked == state.record.current || linked == before(state);
    found.ensure(follows, "I1", &link, || {
        format!("it names {}, the record {}", name(linked), name(state.record.current))
    });
}

/// What was current before the last change of current, as far as it is remembered.
fn before(state: &AppState) -> Option<ReleaseId> {
    let rolled_back = |refusal: &&Refusal| refusal.code == RefusalCode::RolledBack;
    let rolled_back = state.record.refused.as_ref().filter(rolled_back).map(|refusal| refusal.release);
    rolled_back.or(state.previous)
}

fn name(release: Option<ReleaseId>) -> String {
    release.map_or_else(|| "nothing".to_owned(), |release| release.short())
}

/// Every byte of the current release is what was signed.
fn check_current(found: &mut Findings<'_>, app: &AppName, current: Option<ReleaseId>) {
    let Some(current) = current else { return };
    if let Err((path, text)) = release::whole(found.disk, found.layout, app, &current) {
        found.add("I1", &path, text);
    }
}

/// Releases are kept while something names them; few others are there at any time.
fn check_bounds(found: &mut Findings<'_>, app: &AppName, state: &AppState) {
    let directory = found.layout.releases(app);
    let names = found.disk.list(&directory).unwrap_or_default();
    let kept: Vec<String> = state.named().iter().map(ToString::to_string).collect();
    let strays = names.iter().filter(|name| !kept.iter().any(|kept| *name == kept.as_str())).count();
    found.ensure(strays <= STRAY_RELEASES_MAX, "I12", &directory, || {
        format!(
            "{strays} releases are there that the record does not name; at most {STRAY_RELEASES_MAX} are left by a cut"
        )
    });
}

/// What holds when the agent has nothing left to do.
pub(super) fn check_rest(found: &mut Findings<'_>) {
    for app in record::apps(found.disk, found.layout) {
        let state = record::load_app(found.disk, found.layout, &app).state;
        let path = found.layout.record(&app);
        let phase = state.record.phase_name();
        found.ensure(matches!(state.record.phase, Phase::Settled), "I7", &path, || {
            format!("it is {phase}, not settled")
        });
        let linked = record::current_link(found.disk, found.layout, &app);
        let link = found.layout.current(&app);
        found.ensure(linked == state.record.current, "I1", &link, || {
            format!("it names {}, the record {}", name(linked), name(state.record.current))
        });
        let beside = crate::disk::beside(&path);
        found.ensure(!found.disk.exists(&beside), "I12", &beside, || "it was never put in place".to_owned());
    }
}
