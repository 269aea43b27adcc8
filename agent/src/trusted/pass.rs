//! One refresh: what `orangery-trust` asks for is fetched, what it accepts is written down before it asks again.

use std::io;

use orangery_trust::{Keep, Refresh, Role, Versions};
use orangery_wire::UnixTime;
use tokio::task::spawn_blocking;

use super::shelf::Shelf;
use super::source::Source;
use super::{Known, RefreshFailure, check_floor, refuse_below, set_version, version_of};
use crate::errors::disk_code;

pub(super) struct Pass {
    shelf: Shelf,
    refresh: Refresh,
    now: UnixTime,
    floor: Versions,
    floor_saved: bool,
    root: u64,
}

impl Pass {
    pub(super) fn begin(shelf: Shelf, known: Known, now: UnixTime) -> Self {
        let Known { set, floor, floor_saved } = known;
        let root = set.versions().root;
        Self { shelf, refresh: Refresh::begin(set, now), now, floor, floor_saved, root }
    }

    /// Asks until nothing more is needed. What is returned is on the disk.
    pub(super) async fn run(mut self, source: &impl Source) -> Result<Known, RefreshFailure> {
        while let Some(request) = self.refresh.next() {
            if request.role != Role::Root {
                // The chain of roots is at its end: from here on it is the root that decides who may sign.
                refuse_below(Role::Root, self.root, self.floor.root)?;
            }
            let bytes = source.metadata(&request.file, request.length_max).await?;
            if let Some(keep) = self.refresh.supply(bytes.as_deref())? {
                self.keep(keep).await?;
            }
        }
        let set = self.refresh.finish();
        set.check(self.now)?;
        check_floor(&set, &self.floor)?;
        let floor = set.versions();
        if floor != self.floor || !self.floor_saved {
            on_disk(self.shelf, move |shelf| shelf.save_floor(&floor)).await?;
        }
        tracing::debug!(root = floor.root, targets = floor.targets, "the trusted metadata is up to date");
        Ok(Known { set, floor, floor_saved: true })
    }

    /// Writes down what was accepted, unless the floor forbids it.
    ///
    /// The floor on the disk follows at the end of the pass: until then the files say themselves how new they are. It comes
    /// first only where it must: before the first file ever, so that there is no file without a floor, and before a new
    /// root, for whoever holds the keys that it takes back could keep the pass from ever coming to its end.
    async fn keep(&mut self, keep: Keep) -> Result<(), RefreshFailure> {
        refuse_below(keep.role, keep.version, version_of(&self.floor, keep.role))?;
        let root = keep.role == Role::Root;
        if root {
            self.root = keep.version;
            self.floor.root = keep.version;
        }
        for role in &keep.forget {
            set_version(&mut self.floor, *role, 0);
            if *role == Role::Snapshot {
                // Without the trusted snapshot nothing speaks against older targets (TUF 5.3.11): that is how the owner
                // recovers from versions that a thief of the snapshot key has pushed far forward.
                self.floor.targets = 0;
            }
        }
        let forgetting = !keep.forget.is_empty();
        let floor = (root || !self.floor_saved).then_some(self.floor);
        tracing::debug!(role = %keep.role, version = keep.version, "accepted metadata");
        on_disk(self.shelf.clone(), move |shelf| {
            if let Some(floor) = floor {
                shelf.save_floor(&floor)?;
                if forgetting {
                    // Once more: the previous copy of the floor must not bring the versions back either.
                    shelf.save_floor(&floor)?;
                }
            }
            shelf.keep(&keep)
        })
        .await?;
        self.floor_saved = true;
        Ok(())
    }
}

/// Does something slow on another thread.
pub(super) async fn on_disk(
    shelf: Shelf,
    deed: impl FnOnce(&Shelf) -> io::Result<()> + Send + 'static,
) -> Result<(), RefreshFailure> {
    let place = shelf.place();
    let done = spawn_blocking(move || deed(&shelf)).await.map_err(io::Error::other).flatten();
    done.map_err(|error| {
        let text = format!("writing trusted metadata to {place} failed: {error}; free space or replace the disk");
        RefreshFailure::refused(disk_code(&error), text)
    })
}
