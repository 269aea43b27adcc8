//! Tells of a refused release, with what was seen of it. The way back never waits for any of this.

use orangery_wire::limits::EVIDENCE_EVENT_BYTES_MAX;
use orangery_wire::messages::{Refusal, RefusalCode, What};
use orangery_wire::{AppName, Generation};

use super::Driver;
use crate::evidence::{self, Refused};

impl Driver {
    /// A release was refused, and the record says so.
    pub(super) fn tell_refused(&mut self, name: &AppName, generation: Generation, refusal: Refusal) {
        let version = self.version(name, refusal.release);
        let (release, code) = (refusal.release.short(), refusal.code);
        tracing::warn!(app = %name, release, generation, %code, reason = refusal.reason, "refused a release");
        let evidence = self.apps.get_mut(name).and_then(|app| app.evidence.take());
        let evidence = match evidence {
            None if code == RefusalCode::CrashLoop => self.outside.left_behind(name, refusal.release),
            evidence => evidence.map(|evidence| *evidence),
        };
        let sent = evidence.clone().map(|evidence| Box::new(evidence.within(EVIDENCE_EVENT_BYTES_MAX)));
        if let (Some(evidence), Some(app)) = (evidence, self.apps.get_mut(name)) {
            let (version, refusal) = (version.clone(), refusal.clone());
            app.unsaved = Some(Refused { format: 1, generation, version, refusal, evidence });
        }
        self.tell(Some(name), &What::Refused { generation, version, refusal, evidence: sent });
    }

    /// Keeps what was seen on the disk, once the way back has begun.
    pub(super) fn keep_evidence(&mut self, name: &AppName) {
        let Some(refused) = self.apps.get_mut(name).and_then(|app| app.unsaved.take()) else { return };
        if let Err(error) = evidence::save(&*self.home.disk, &self.home.layout, name, &refused) {
            tracing::warn!(app = %name, reason = %error, "cannot keep what was seen of the refused release");
        }
    }
}
