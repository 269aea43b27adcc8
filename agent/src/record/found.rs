//! What an agent finds of one that was killed: names that are there, and that a power cut would still take back.

use std::path::PathBuf;

use super::{NodeState, apps, load_node};
use crate::disk::{Disk, gone};
use crate::layout::Layout;

/// What a new run of the agent begins with: everything that it is about to believe is durable, and the node's state is loaded.
pub fn take_over(disk: &dyn Disk, layout: &Layout) -> NodeState {
    make_durable(disk, layout);
    load_node(disk, layout)
}

/// An agent that is killed between a rename, or the making of a directory, and the sync that follows leaves a name that
/// everybody sees and that no later save makes durable by itself: a whole app could be forgotten by a power cut long after.
/// A few syncs of what is usually clean. A failure is only logged: every save that follows finds it again.
pub(super) fn make_durable(disk: &dyn Disk, layout: &Layout) {
    let of_apps = apps(disk, layout).into_iter().flat_map(|app| [layout.app(&app), layout.releases(&app)]);
    let all = [layout.root().to_owned(), layout.trust(), layout.apps()].into_iter().chain(of_apps);
    all.for_each(|dir: PathBuf| {
        if let Err(error) = gone(disk.sync_dir(&dir)) {
            tracing::warn!(dir = %dir.display(), reason = %error, "cannot make durable what is on the disk; going on");
        }
    });
}
