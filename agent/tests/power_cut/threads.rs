//! What several threads did at once, as one list that the rules of [`crate::timeline`] hold for.
//!
//! The recording has one order, that in which calls ended. A thread that is between a rename and the sync of its directory has told
//! nobody of it: what the world sees of another thread meanwhile cannot follow from it. So such a change is put where its sync is.
//! It could have been made there. A change that its own thread does not sync next stays where it is.

use std::path::Path;

use crate::image::Op;
use crate::timeline::is_seen;

/// The operations of all threads in an order in which no other thread is seen between a change of a name and its sync.
pub fn in_one_order(mut ops: Vec<(String, Op)>) -> Vec<Op> {
    for n in (0..ops.len()).rev() {
        if let Some(sync) = sync_of(&ops, n)
            && ops[n + 1..sync].iter().any(|(_, op)| is_seen(op))
        {
            ops[n..sync].rotate_left(1);
        }
    }
    ops.into_iter().map(|(_, op)| op).collect()
}

/// Where the directory of the name that operation `n` changes is synced, if that is what its thread does next.
fn sync_of(ops: &[(String, Op)], n: usize) -> Option<usize> {
    let (thread, Op::Rename { to: path, .. } | Op::Link { to: path, .. } | Op::Remove { path }) = &ops[n] else {
        return None;
    };
    let directory = path.parent().unwrap_or(Path::new(""));
    let next = ops.iter().enumerate().skip(n + 1).find(|(_, (other, _))| other == thread);
    next.filter(|(_, (_, op))| matches!(op, Op::SyncDir { path } if path == directory)).map(|(sync, _)| sync)
}

#[test]
fn what_another_thread_shows_while_a_directory_is_being_synced_does_not_follow_from_its_change() {
    let rename = || Op::Rename { from: ".state.json.new".into(), to: "apps/greeter/state.json".into() };
    let sync = || Op::SyncDir { path: "apps/greeter".into() };
    let seen = || Op::Mark("started apps/greeter".to_owned());
    let order = |ops: [(&str, Op); 3]| {
        let ops = in_one_order(ops.map(|(thread, op)| (thread.to_owned(), op)).to_vec());
        ops.iter().map(|op| op.shape().0).collect::<Vec<_>>()
    };
    assert_eq!(order([("1", rename()), ("2", seen()), ("1", sync())]), ["mark", "rename", "sync directory"]);
    // The thread itself shows something, or never syncs: that is what the rules are there to find.
    assert_eq!(order([("1", rename()), ("1", seen()), ("1", sync())]), ["rename", "mark", "sync directory"]);
    assert_eq!(order([("1", rename()), ("2", seen()), ("2", sync())]), ["rename", "mark", "sync directory"]);
}
