//! What runs, and what is remembered, while the disk takes no record.

use orangery_wire::AppName;
use orangery_wire::messages::ReleaseRef;

use super::{App, Outcome};
use crate::deployment::{Effect, Record};
use crate::driver::Driver;

impl Driver {
    /// `next` cannot be saved, so what it asks for may not be begun: a try must be paid for. But if it is about what runs (the
    /// board was just started, or what is on trial has failed), then what is proven is made to run without waiting for the
    /// disk: that costs no try, and the record as it is saved allows it at any time. When the disk takes records again, what
    /// is owed is taken in as if this had not been, and what runs already is left alone.
    pub(super) fn run_proven_meanwhile(&mut self, name: &AppName, next: &Record) {
        let Some(app) = self.apps.get_mut(name) else { return };
        let current = app.state.record.current;
        let idle = app.doing.is_none() && current.is_some() && self.outside.running(name) != current;
        if !idle || !matches!(next.effect(), Effect::Run { .. }) {
            return;
        }
        tracing::warn!(app = %name, release = current.map(|id| id.short()), "runs what is proven until the disk takes records");
        app.unwatch();
        app.serial += 1;
        app.meanwhile = Some(app.serial);
        self.begin_effect(name, Effect::Run { release: current, trial: false, attempt: 0 });
    }
}

impl App {
    /// Somebody wishes for this release: from now on its version is known, also if the wish can only be saved later.
    pub(in crate::driver) fn hears_of(&mut self, release: &ReleaseRef) {
        self.state.versions.insert(release.id, release.version.clone());
        self.wished = Some((release.id, release.version.clone()));
    }

    /// Whether this was the outcome of an effect that no saved record asks for: it changes nothing there.
    pub(super) fn was_meanwhile(&mut self, outcome: &Outcome) -> bool {
        let was = self.meanwhile.take().is_some();
        if was && let Some(retry) = &outcome.retry {
            tracing::error!(reason = retry.reason, "what is proven does not run; will try again");
        }
        was
    }
}
