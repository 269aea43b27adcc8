//! The node's key and what belongs to it.

use super::Findings;
use crate::disk::{Kind, Stat};

/// Files that a node that has joined has.
const FILES: [&str; 3] = ["node.key", "node.pem", "ca.pem"];

pub(super) fn check(found: &mut Findings<'_>) {
    let directory = found.layout.identity();
    match found.disk.stat(&directory) {
        Ok(None) => return,
        Ok(Some(stat)) => {
            let private = stat.kind == Kind::Directory && is_own(stat);
            found.ensure(private, "I9", &directory, || "it is not a directory for the agent's user alone".to_owned());
        }
        Err(error) => return found.add("I9", &directory, format!("cannot look at it: {error}")),
    }
    // It is written last: with it the node has joined, and everything else is there.
    let joined = found.disk.exists(&directory.join("coordinator.json"));
    for name in FILES {
        let path = directory.join(name);
        let there = found.disk.exists(&path);
        found.ensure(there || !joined, "I9", &path, || "it is missing, though the node has joined".to_owned());
    }
    for name in found.disk.list(&directory).unwrap_or_default() {
        let path = directory.join(name);
        let private = found.disk.stat(&path).is_ok_and(|stat| stat.is_none_or(is_private));
        found.ensure(private, "I9", &path, || "others than the agent's user can reach it".to_owned());
    }
    if joined && let Err(error) = crate::identity::load(found.disk, found.layout) {
        found.add("I9", &directory, crate::errors::chain(&error));
    }
}

fn is_private(stat: Stat) -> bool {
    stat.kind == Kind::File && is_own(stat)
}

/// No permission for the group or others: the six lowest bits.
fn is_own(stat: Stat) -> bool {
    stat.mode.trailing_zeros() >= 6
}
