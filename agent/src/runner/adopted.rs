//! A process that somebody else started: an agent before this one, or systemd.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::procfs;

/// Between two looks at it, on kernels that cannot report its end (before Linux 5.3).
const LOOK_OLD_KERNEL: Duration = Duration::from_millis(250);

/// A process of which only the end is of interest. How it ended cannot be known.
#[derive(Debug)]
pub struct Adopted {
    pid: Pid,
    start_ticks: u64,
    pidfd: Option<AsyncFd<OwnedFd>>,
}

impl Adopted {
    /// The process of this number and start; `None` if it has ended, whatever has its number now.
    pub fn new(pid: Pid, start_ticks: u64) -> Option<Self> {
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => Some(watched(fd).ok()?),
            Err(Errno::SRCH) => return None,
            Err(_) => None,
        };
        let adopted = Self { pid, start_ticks, pidfd };
        // Asked after it was opened: so it is this process and no other that the descriptor stands for.
        adopted.runs().then_some(adopted)
    }

    /// Whether it still runs.
    pub fn runs(&self) -> bool {
        procfs::stat(self.pid).is_some_and(|stat| !stat.ended && stat.start_ticks == self.start_ticks)
    }

    /// Waits until it has ended. May be dropped and called again.
    pub async fn ended(&self) {
        if let Some(pidfd) = &self.pidfd
            && pidfd.readable().await.is_ok()
        {
            return;
        }
        while self.runs() {
            tokio::time::sleep(LOOK_OLD_KERNEL).await;
        }
    }
}

/// The successor of this call is `unsafe`, for the sake of types that give out another descriptor each time they are asked,
/// or close it early. [`OwnedFd`] does neither.
#[allow(deprecated, reason = "sound for OwnedFd, and its successor is unsafe")]
fn watched(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}
