//! Making room: before a release is fetched, and after one has become current.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use orangery_wire::messages::{RefusalCode, ReserveState};
use orangery_wire::{AppName, ReleaseId};

use super::releases::clear;
use super::space::Need;
use super::spare::{Shelf, Spare, Worth, idle_parts};
use super::{DIR_MODE, InstallFailure, Installer, PARTS_MODE, Vouched, in_background};
use crate::disk::{self, Disk};
use crate::fetch;
use crate::layout::Layout;
use crate::reserve::Reserve;

/// What making room needs to know, apart from the installer.
#[derive(Debug, Clone)]
pub(super) struct Room {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) layout: Layout,
    pub(super) reserve: Arc<Reserve>,
    /// The release that is being brought, until a record names it.
    pub(super) brought: Arc<Mutex<Option<(AppName, ReleaseId)>>>,
}

impl Installer {
    /// Removes what an earlier attempt left, and makes sure that the release will fit before its first byte is fetched.
    pub(super) async fn make_room(&self, app: &AppName, vouched: &Vouched) -> Result<(), InstallFailure> {
        let guard = self.placing.clone().lock_owned().await;
        let room = self.room.clone();
        let need = Need {
            tree: vouched.tree.clone(),
            seal_bytes: vouched.seal.len() as u64,
            reserve_bytes: room.reserve.missing_bytes(),
        };
        let (app, want) = (app.clone(), vouched.want.clone());
        in_background(move || {
            let _guard = guard;
            let Room { disk, layout, .. } = &room;
            let failed = |deed: &'static str| move |e: std::io::Error| InstallFailure::of_disk(deed, &e);
            disk::make_dir(&**disk, &layout.releases(&app), DIR_MODE).map_err(failed("making the app's directory"))?;
            disk::make_dir(&**disk, &layout.parts(), PARTS_MODE).map_err(failed("making the download directory"))?;
            clear(&**disk, layout, &app, &want.id).map_err(failed("removing an unfinished release"))?;
            let fits = room.ensure(&need, &app, &want.id).map_err(failed("looking for free space"))?;
            fits.map_err(|text| InstallFailure::refused(RefusalCode::NoSpace, format!("{app} {} {text}", want.version)))
        })
        .await
    }

    /// Removes what no record needs: releases of all apps, and downloads that were given up. With `rollbacks` also the
    /// releases that were current before. Returns how many releases went. May be repeated.
    pub async fn collect(&self, rollbacks: bool) -> Result<u32, InstallFailure> {
        let guard = self.placing.clone().lock_owned().await;
        let room = self.room.clone();
        in_background(move || {
            let _guard = guard;
            let worth_max = if rollbacks { Worth::Previous } else { Worth::Nothing };
            room.shelf().collect(worth_max).map_err(|e| InstallFailure::of_disk("removing old releases", &e))
        })
        .await
    }

    /// Makes the reserve whole again if there is room for it. After it was drawn on, what nobody needs makes room; when it is
    /// used up, the releases that were current before do too. May be repeated.
    pub async fn mend_reserve(&self) {
        let reserve = self.room.reserve.clone();
        let fill = || {
            let reserve = reserve.clone();
            in_background(move || reserve.fill().map_err(|e| InstallFailure::of_disk("making the reserve", &e)))
        };
        let mut mended = fill().await;
        if mended.is_ok() && reserve.state() == Some(ReserveState::Freed) {
            let used_up = reserve.missing_bytes() == reserve.size_bytes();
            mended = match self.collect(used_up).await {
                Ok(0) => Ok(()),
                Ok(_) => fill().await,
                Err(failure) => Err(failure),
            };
        }
        if let Err(reason) = mended {
            tracing::debug!(%reason, "the reserve is not whole; will try again");
        }
    }
}

impl Room {
    pub(super) fn shelf(&self) -> Shelf<'_> {
        Shelf { disk: &*self.disk, layout: &self.layout, brought: &self.brought }
    }

    /// Whether it fits. If it does not, whatever may go is removed until it does. If that would not be enough nothing goes,
    /// and the inner error says what is needed and what there is.
    fn ensure(&self, need: &Need, app: &AppName, release: &ReleaseId) -> std::io::Result<Result<(), String>> {
        let (layout, part) = (&self.layout, need.part(&self.layout));
        let room = need.room(layout)?;
        if need.short(room) == 0 {
            return Ok(Ok(()));
        }
        let spare = self.shelf().spare(Some((app, release)));
        let bytes = spare.iter().map(|spare| spare.bytes).fold(idle_parts(layout, &part), u64::saturating_add);
        if need.short(room) > bytes {
            return Ok(Err(need.refusal(room, bytes)));
        }
        fetch::drop_parts(&layout.parts(), Duration::ZERO, Some(&part))?;
        for spare in &spare {
            if need.short(need.room(layout)?) == 0 {
                return Ok(Ok(()));
            }
            if self.shelf().remove(spare)? {
                tell(spare);
            }
        }
        let room = need.room(layout)?;
        Ok(if need.short(room) == 0 { Ok(()) } else { Err(need.refusal(room, 0)) })
    }
}

fn tell(gone: &Spare) {
    let (app, release, bytes) = (&gone.app, gone.release.short(), gone.bytes);
    if gone.worth == Worth::Previous {
        tracing::warn!(%app, release, bytes, "removed the release before the current one to make room; there is none to go back to");
    } else {
        tracing::info!(%app, release, bytes, "removed a release that is no longer needed to make room");
    }
}
