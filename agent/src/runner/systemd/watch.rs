//! The watch over one unit. systemd restarts the app; this only sees and tells.
//!
//! The end of the unit's first process is reported by the kernel, so nothing is asked while all is well.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::Pid;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::super::adopted::Adopted;
use super::super::restart::{Restarts, Verdict};
use super::super::{Exit, procfs};
use super::systemctl::{self, Shown};
use crate::launch::{Launch, Life};

/// Between two questions while the unit has no process.
const ASK_FIRST: Duration = Duration::from_millis(50);
const ASK_LONGEST: Duration = Duration::from_secs(5);

/// Watches a unit until it is dropped.
#[derive(Debug)]
pub struct Watch {
    unit: String,
    launch: Launch,
    life: Arc<watch::Sender<Life>>,
    exits: mpsc::UnboundedSender<Exit>,
    on_trial: watch::Receiver<bool>,
    restarts: Restarts,
    /// Exits that have been counted, as [`Shown::exits`] has them.
    counted: u32,
    since: Since,
}

/// From where on a unit is watched.
#[derive(Debug, Clone, Copy)]
pub struct Since {
    /// Unix time: what its journal has from before is of another release.
    pub secs: u64,
    /// Exits that were told by an agent before this one.
    pub exits: u32,
}

impl Watch {
    /// A watch over `unit`, which runs `launch` since `since`.
    pub fn new(
        unit: String,
        launch: &Launch,
        life: Arc<watch::Sender<Life>>,
        exits: mpsc::UnboundedSender<Exit>,
        on_trial: watch::Receiver<bool>,
        since: Since,
    ) -> Self {
        let restarts = Restarts::new(&launch.manifest.run.restart);
        Self { unit, launch: launch.clone(), life, exits, on_trial, restarts, counted: since.exits, since }
    }

    /// Sees and tells, for as long as it is not dropped.
    pub async fn go_on(mut self) {
        let mut pause = ASK_FIRST;
        loop {
            let begin = Instant::now();
            let shown = match systemctl::show(&self.unit).await {
                Ok(shown) => shown,
                Err(reason) => {
                    tracing::warn!(app = %self.launch.app, reason, "cannot ask systemd how the app is");
                    tokio::time::sleep(ASK_LONGEST).await;
                    continue;
                }
            };
            self.count(&shown, Duration::ZERO).await;
            if let Some(process) = shown.main.and_then(process) {
                self.life.send_modify(|life| life.release = Some(self.launch.release));
                process.ended().await;
                self.life.send_modify(|life| life.release = None);
                self.ended(begin.elapsed()).await;
                pause = ASK_FIRST;
            } else {
                self.life.send_modify(|life| life.release = None);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(ASK_LONGEST);
            }
        }
    }

    /// The process ended after `uptime`; systemd may take a moment to see it.
    async fn ended(&mut self, uptime: Duration) {
        let deadline = Instant::now() + Duration::from_secs(2);
        while Instant::now() < deadline {
            let Ok(shown) = systemctl::show(&self.unit).await else { return };
            // "inactive": it was stopped, by the agent or an operator, and did not exit by itself.
            if shown.exits() > self.counted || shown.active == "inactive" {
                return self.count(&shown, uptime).await;
            }
            tokio::time::sleep(ASK_FIRST).await;
        }
    }

    /// Counts exits that are new. The first of them ended a run of `uptime`; runs that were too short to be seen follow.
    async fn count(&mut self, shown: &Shown, uptime: Duration) {
        let new = shown.exits().saturating_sub(self.counted);
        // It shrinks when an operator starts the unit by hand.
        self.counted = shown.exits();
        if new == 0 {
            return;
        }
        let how = match &shown.exit {
            Some(exit) => exit.clone(),
            None => self.last_exit().await,
        };
        for n in 0..new {
            let verdict = self.restarts.exited(if n == 0 { uptime } else { Duration::ZERO });
            let fails = verdict.exceeded && *self.on_trial.borrow() && self.life.borrow().failed.is_none();
            // Told together: whoever saw the exit alone would judge without knowing how it ended.
            let failed = if fails { Some(self.fail(&how, verdict).await) } else { None };
            self.tell(&how, verdict, failed);
        }
    }

    async fn last_exit(&self) -> String {
        let exit = systemctl::last_exit(&self.unit, self.since.secs).await;
        exit.unwrap_or_else(|| "an unknown status".to_owned())
    }

    /// Stops what failed on trial, and says why it did.
    async fn fail(&self, how: &str, verdict: Verdict) -> String {
        // Told only then: what the driver does next must not meet this stop.
        let grace = Duration::from_secs(self.launch.manifest.run.stop_grace_secs);
        if let Err(reason) = systemctl::stop(&[&self.unit], grace).await {
            tracing::warn!(app = %self.launch.app, reason, "cannot stop a release that failed");
        }
        let output = match systemctl::journal(&self.unit, self.since.secs).await {
            output if output.is_empty() => "it wrote nothing".to_owned(),
            output => format!("last output: {output}"),
        };
        format!("exited {} times in a row ({how}); {output}", verdict.in_row)
    }

    fn tell(&self, how: &str, verdict: Verdict, failed: Option<String>) {
        self.life.send_modify(|life| {
            life.exited(how);
            life.failed = failed.or_else(|| life.failed.take());
        });
        if verdict.in_row > self.launch.manifest.run.restart.restarts_max.saturating_add(1) {
            return;
        }
        // The receiver ends with the agent.
        let _ = self.exits.send(Exit {
            app: self.launch.app.clone(),
            release: self.launch.release,
            reason: how.to_owned(),
            restarts: verdict.in_row,
            given_up: verdict.exceeded,
        });
    }
}

fn process(main: Pid) -> Option<Adopted> {
    Adopted::new(main, procfs::stat(main)?.start_ticks)
}
