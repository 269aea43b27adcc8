//! What the installer does by a road, and what it knows of what came by earlier ones.

use std::sync::PoisonError;

use orangery_trust::Release;
use orangery_wire::messages::ReleaseRef;
use orangery_wire::{AppName, ReleaseId, Version};

use super::{InstallFailure, Installer};
use crate::deployment::Reason;
use crate::road::Road;
use crate::trusted::Trusted;

impl Installer {
    /// Has the release `version` of `app` on the disk by `road` and no other, verified and sealed by the same rules, and says
    /// which release that is. May be repeated, and dropped at any time.
    pub async fn bring(&self, road: &Road, app: &AppName, version: &Version) -> Result<ReleaseRef, InstallFailure> {
        let release = self.owners_word(road, app, version).await?;
        let want = ReleaseRef { id: release.id, version: version.clone() };
        self.protect(Some((app.clone(), want.id)));
        let done = self.come_by(road, app, release).await.map(|_| want);
        done.inspect_err(|_| self.protect(None))
    }

    /// Keeps a release that no record names yet from being collected.
    fn protect(&self, release: Option<(AppName, ReleaseId)>) {
        *self.room.brought.lock().unwrap_or_else(PoisonError::into_inner) = release;
    }

    /// How much of the pack that is being brought is here, and how large it is, in bytes. `None` while there is none.
    pub fn brought_bytes(&self) -> Option<(u64, u64)> {
        let bringing = self.bringing.lock().unwrap_or_else(PoisonError::into_inner).clone();
        bringing.map(|(part, size_bytes)| (std::fs::metadata(part).map_or(0, |part| part.len()), size_bytes))
    }

    /// Brings the metadata up to date by the first road that can.
    pub async fn refresh(&self) -> Result<(), InstallFailure> {
        let mut trusted = self.trusted.lock().await;
        let mut outcome = Ok(());
        for road in &self.roads {
            outcome = self.refresh_by(road, &mut trusted).await;
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    /// What speaks against releases that are here, by what is known without asking anybody; nothing for those that are well.
    pub async fn objections(&self, releases: Vec<(AppName, ReleaseRef)>) -> Vec<(AppName, ReleaseRef, Option<Reason>)> {
        let trusted = self.trusted.lock().await;
        let judged = releases.into_iter().map(|(app, want)| {
            let objection = trusted.still_allows(&app, &want).and_then(Result::err);
            (app, want, objection)
        });
        judged.collect()
    }

    /// Asks for fresh metadata and looks the release up in it.
    pub(super) async fn owners_word(
        &self,
        road: &Road,
        app: &AppName,
        version: &Version,
    ) -> Result<Release, InstallFailure> {
        let mut trusted = self.trusted.lock().await;
        self.refresh_by(road, &mut trusted).await?;
        Ok(trusted.release(road, app, version, self.clock.now()).await?)
    }

    async fn refresh_by(&self, road: &Road, trusted: &mut Trusted) -> Result<(), InstallFailure> {
        let refreshed = trusted.refresh(road, self.clock.now()).await;
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner) = trusted.standing();
        Ok(refreshed?)
    }
}
