//! Syncs files while the next ones are written. Several at a time, because a file system puts syncs that wait together
//! into one write of its journal.

use std::fs::File;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::UnpackError;

const THREADS: usize = 4;
/// Files that may wait, and so descriptors in use.
const WAITING_MAX: usize = 64;

type Written = (File, String);

/// Where written files are handed in.
pub(super) struct Syncers {
    files: SyncSender<Written>,
}

impl Syncers {
    /// Does `work`, and returns when every file that it handed in is durable. `work`'s own error comes first.
    pub(super) fn run(work: impl FnOnce(&Self) -> Result<(), UnpackError>) -> Result<(), UnpackError> {
        let (files, written) = sync_channel(WAITING_MAX);
        let written = Mutex::new(written);
        thread::scope(|scope| {
            let start = |_| thread::Builder::new().name("sync".to_owned()).spawn_scoped(scope, || sync_each(&written));
            let threads = (0..THREADS).map(start).collect::<Result<Vec<_>, _>>();
            let threads = threads.map_err(|e| UnpackError::disk("starting to sync", "", e))?;
            let syncers = Self { files };
            let worked = work(&syncers);
            // Tells the threads that nothing more comes.
            drop(syncers);
            let synced: Result<(), UnpackError> = threads.into_iter().try_for_each(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(UnpackError::disk("syncing", "", std::io::Error::other("a panic"))))
            });
            worked.and(synced)
        })
    }

    /// Hands in a file that is written to its end.
    pub(super) fn sync(&self, file: File, path: &str) -> Result<(), UnpackError> {
        let sent = self.files.send((file, path.to_owned()));
        sent.map_err(|_| UnpackError::disk("syncing", path, std::io::Error::other("nobody syncs any more")))
    }
}

/// Syncs files until no more come. After an error it goes on taking them, so that nobody waits for it in vain.
fn sync_each(written: &Mutex<Receiver<Written>>) -> Result<(), UnpackError> {
    let mut outcome = Ok(());
    loop {
        let next = written.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((file, path)) = next else { return outcome };
        if outcome.is_ok() {
            outcome = file.sync_all().map_err(|e| UnpackError::disk("syncing", path, e));
        }
    }
}
