//! For tests that watch a program's system calls.

use std::process::{Command, Stdio};

/// Whether strace is here. Without it says so; in CI it must be.
pub fn possible() -> bool {
    let here = Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok_and(|status| status.success());
    if !here {
        assert!(std::env::var_os("CI").is_none(), "CI must try it, and strace is not installed");
        eprintln!("LEFT OUT: strace is not installed (apt-get install strace)");
    }
    here
}
