//! A node's state on a disk with little room.

use std::path::PathBuf;
use std::process::Command;

use crate::node::Node;
use crate::process::{output, succeed};

/// A small file system with a node's state. Drop it after the node has stopped.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Moves the state of a node that does not run to a file system of this size, such as `40m`. `None`, and it is said, where
    /// nobody may mount one; in CI that is a failure.
    pub fn under(node: &Node, size: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "CI runs as root, so that it can mount a small disk");
            eprintln!("LEFT OUT: mounting a small disk needs root");
            return None;
        }
        let state = node.state();
        let kept = state.with_extension("kept");
        std::fs::rename(&state, &kept).expect("the state can be moved");
        std::fs::create_dir(&state).expect("the state directory can be made");
        let options = format!("size={size},mode=0755");
        succeed(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&state));
        succeed(Command::new("cp").arg("-a").arg(kept.join(".")).arg(&state));
        Some(Self(state))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = output(Command::new("umount").arg("-l").arg(&self.0));
    }
}
