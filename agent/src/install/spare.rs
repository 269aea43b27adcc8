//! What may go from the disk so that something else fits, and in which order.
//!
//! The records say what is needed: what is current, desired or on trial, and what a reboot starts. The release that was
//! current before is kept too, for whoever wants to go back; but not when a new release does not fit beside it.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use orangery_wire::{AppName, ReleaseId};

use super::releases::{PART_IDLE, clear, list};
use crate::disk::Disk;
use crate::fetch;
use crate::layout::Layout;
use crate::record::{self, AppState, Source};

/// What a release is worth to its app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Worth {
    /// Nobody needs it.
    Nothing,
    /// It is what `rollback` goes to.
    Previous,
}

/// A release that may go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spare {
    pub(super) worth: Worth,
    /// Releases of other apps go last: what is being installed makes its own predecessor's predecessor useless anyway.
    elsewhere: bool,
    pub(super) app: AppName,
    pub(super) release: ReleaseId,
    pub(super) bytes: u64,
}

/// A disk with its releases, as its records see them.
#[derive(Clone, Copy)]
pub(super) struct Shelf<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) layout: &'a Layout,
    /// Being brought, and not yet named by any record.
    pub(super) brought: &'a Mutex<Option<(AppName, ReleaseId)>>,
}

impl Shelf<'_> {
    /// All releases that may go, in the order in which they should. `but` is being installed.
    pub(super) fn spare(&self, but: Option<(&AppName, &ReleaseId)>) -> Vec<Spare> {
        let mut all = Vec::new();
        for app in record::apps(self.disk, self.layout) {
            for release in self.here(&app) {
                let Some(worth) = self.worth(&app, &release).filter(|_| but != Some((&app, &release))) else {
                    continue;
                };
                let bytes = disk_bytes(&self.layout.release(&app, &release));
                let elsewhere = but.is_some_and(|(wanted, _)| *wanted != app);
                all.push(Spare { worth, elsewhere, app: app.clone(), release, bytes });
            }
        }
        all.sort();
        all
    }

    /// Removes it, unless it has become needed meanwhile. Returns whether it went.
    pub(super) fn remove(&self, spare: &Spare) -> io::Result<bool> {
        if self.worth(&spare.app, &spare.release).is_none_or(|worth| worth > spare.worth) {
            return Ok(false);
        }
        clear(self.disk, self.layout, &spare.app, &spare.release)?;
        Ok(true)
    }

    /// What a release is worth; `None` if it must stay.
    fn worth(&self, app: &AppName, release: &ReleaseId) -> Option<Worth> {
        let loaded = record::load_app(self.disk, self.layout, app);
        let link = record::current_link(self.disk, self.layout, app);
        if link == Some(*release) || needed(&loaded.state).contains(release) {
            self.now_named(app, release);
            return None;
        }
        // What a damaged record named may be needed.
        let whole = loaded.trouble.is_none() && matches!(loaded.source, Source::Primary | Source::Absent);
        if !whole || self.lock_brought().as_ref() == Some(&(app.clone(), *release)) {
            return None;
        }
        Some(if loaded.state.previous == Some(*release) { Worth::Previous } else { Worth::Nothing })
    }

    /// From here on the record protects it.
    fn now_named(&self, app: &AppName, release: &ReleaseId) {
        let mut brought = self.lock_brought();
        if brought.as_ref() == Some(&(app.clone(), *release)) {
            *brought = None;
        }
    }

    fn lock_brought(&self) -> std::sync::MutexGuard<'_, Option<(AppName, ReleaseId)>> {
        self.brought.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The releases of an app that have a directory, sealed or not.
    fn here(&self, app: &AppName) -> Vec<ReleaseId> {
        let names = list(self.disk, self.layout, app).unwrap_or_default();
        names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect()
    }

    /// Removes what is worth no more than `worth_max`, and downloads that were given up. Returns how many releases went.
    pub(super) fn collect(&self, worth_max: Worth) -> io::Result<u32> {
        let mut count = 0;
        for spare in self.spare(None).into_iter().filter(|spare| spare.worth <= worth_max) {
            count += u32::from(self.remove(&spare)?);
        }
        fetch::drop_parts(&self.layout.parts(), PART_IDLE, None)?;
        Ok(count)
    }
}

/// What the app cannot do without: what runs, what should, and what is being tried.
fn needed(state: &AppState) -> Vec<ReleaseId> {
    let record = &state.record;
    let refused = record.refused.as_ref().map(|refusal| refusal.release);
    let desired = record.desired.filter(|release| refused != Some(*release));
    [record.current, record.subject(), desired].into_iter().flatten().collect()
}

/// Bytes of all downloads but `but` that nobody is at work on.
pub(super) fn idle_parts(layout: &Layout, but: &Path) -> u64 {
    let parts = fetch::idle_parts(&layout.parts(), Duration::ZERO, Some(but)).unwrap_or_default();
    parts.iter().map(|part| disk_bytes(part)).sum()
}

/// What a file or directory takes from the disk, as far as it can be read. Links are not followed.
fn disk_bytes(path: &Path) -> u64 {
    let mut open: Vec<PathBuf> = vec![path.to_owned()];
    let mut sum: u64 = 0;
    while let Some(path) = open.pop() {
        let Ok(found) = std::fs::symlink_metadata(&path) else { continue };
        sum = sum.saturating_add(found.blocks().saturating_mul(512));
        if found.is_dir() {
            open.extend(std::fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
    sum
}
