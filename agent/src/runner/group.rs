//! A process group: the app's first process, which leads it, and all that it started.

use std::io;
use std::time::Duration;

use orangery_wire::manifest::StopSignal;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::Child;

use super::adopted::Adopted;
use super::procfs;

/// Between two looks at processes that nobody reports the end of.
const LOOK_FIRST: Duration = Duration::from_millis(1);
const LOOK_LONGEST: Duration = Duration::from_millis(50);
/// How long a killed process may take to go before that is worth a line in the log.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// A group with a leader that runs, or ran a moment ago.
#[derive(Debug)]
pub struct Group {
    pid: Pid,
    leader: Leader,
}

#[derive(Debug)]
enum Leader {
    /// Started by this agent.
    Child(Child),
    /// Started by an agent that is gone.
    Adopted(Adopted),
}

impl Group {
    /// The group of a child that was started as its leader. Fails if the child was waited for already.
    pub fn of_child(child: Child) -> io::Result<Self> {
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("the process has ended"))?;
        Ok(Self { pid, leader: Leader::Child(child) })
    }

    /// The group of a process that an earlier agent started; `None` if that process has ended.
    pub fn adopt(pid: i32, start_ticks: u64) -> Option<Self> {
        // 1 is init, and a number below means something else to kill(2).
        let pid = Pid::from_raw(pid.max(0)).filter(|pid| !pid.is_init())?;
        Some(Self { pid, leader: Leader::Adopted(Adopted::new(pid, start_ticks)?) })
    }

    /// The leader's number, which is the group's.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits until the leader has ended and says how. May be dropped and called again.
    pub async fn ended(&mut self) -> String {
        match &mut self.leader {
            Leader::Child(child) => match child.wait().await {
                // "exit status: 1" and "signal: 9 (SIGKILL)", without the colons.
                Ok(status) => status.to_string().replacen(": ", " ", 1),
                Err(error) => format!("an unknown status ({error})"),
            },
            Leader::Adopted(adopted) => {
                adopted.ended().await;
                "an unknown status (an earlier agent had started it)".to_owned()
            }
        }
    }

    /// Asks every process of the group to stop, kills what has not after `grace`, and returns when none is left. May be
    /// repeated.
    pub async fn end(&mut self, signal: StopSignal, grace: Duration) {
        if !self.leader_runs() && !procfs::group_runs(self.pid) {
            self.ended().await;
            return;
        }
        self.signal(named(signal));
        // One that was stopped takes the request only when it goes on.
        self.signal(Signal::CONT);
        if tokio::time::timeout(grace, self.gone()).await.is_ok() {
            return;
        }
        tracing::warn!(pid = self.pid.as_raw_nonzero(), "the app did not stop in time and is killed");
        loop {
            self.signal(Signal::KILL);
            if tokio::time::timeout(KILL_PATIENCE, self.gone()).await.is_ok() {
                return;
            }
            tracing::error!(pid = self.pid.as_raw_nonzero(), "a killed process does not go; the kernel holds it");
        }
    }

    async fn gone(&mut self) {
        self.ended().await;
        let mut pause = LOOK_FIRST;
        while procfs::group_runs(self.pid) {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK_LONGEST);
        }
    }

    /// The number cannot be another's: it is not given away while the leader or a process of the group is left, and
    /// [`Self::end`] has just seen one.
    fn signal(&self, signal: Signal) {
        let sent = match kill_process_group(self.pid, signal) {
            // The leader is in no group of its own: it went to another one.
            Err(Errno::SRCH) if self.leader_runs() => kill_process(self.pid, signal),
            sent => sent,
        };
        match sent {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => tracing::warn!(pid = self.pid.as_raw_nonzero(), reason = %error, "cannot signal the app"),
        }
    }

    /// Whether the leader's number is still its own: it runs, or nobody has waited for it yet.
    fn leader_runs(&self) -> bool {
        match &self.leader {
            Leader::Child(child) => child.id().is_some(),
            Leader::Adopted(adopted) => adopted.runs(),
        }
    }
}

fn named(signal: StopSignal) -> Signal {
    match signal {
        StopSignal::Term => Signal::TERM,
        StopSignal::Int => Signal::INT,
        StopSignal::Quit => Signal::QUIT,
        StopSignal::Hup => Signal::HUP,
    }
}
