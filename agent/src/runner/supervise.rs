//! The watch over one running app: exits are counted, told and answered with a restart.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Exit;
use super::group::Group;
use super::process::{self, Program};
use super::restart::{Restarts, Verdict};
use crate::launch::Life;

/// Between two looks at the size of the log.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// What the supervisor is to do; the latest order counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Keep the app running.
    Supervise {
        /// On trial, an app that exits too often is not started again.
        trial: bool,
    },
    /// End the app.
    Stop,
}

/// Watches over one launch from its first start until it is told to stop.
#[derive(Debug)]
pub struct Supervisor {
    program: Program,
    life: Arc<watch::Sender<Life>>,
    exits: mpsc::UnboundedSender<Exit>,
    orders: watch::Receiver<Order>,
    restarts: Restarts,
}

/// Why the watch over a process ended.
enum Ended {
    /// It exited by itself.
    Exited(String),
    /// It was told to stop.
    Stopped,
    /// The agent ends and leaves it alone.
    Left,
}

impl Supervisor {
    /// A supervisor that obeys `orders`. When their sender is dropped it leaves the app alone.
    pub fn new(
        program: Program,
        life: Arc<watch::Sender<Life>>,
        exits: mpsc::UnboundedSender<Exit>,
        orders: watch::Receiver<Order>,
    ) -> Self {
        let restarts = Restarts::new(&program.run().restart);
        life.send_replace(Life { release: Some(program.key.release), ..Life::default() });
        Self { program, life, exits, orders, restarts }
    }

    /// Watches over `group` and whatever is started after it; returns when nothing of the app is left, or the agent ends.
    pub async fn watch_over(mut self, mut group: Group) {
        loop {
            let since = Instant::now();
            let how = match self.watch(&mut group).await {
                Ended::Left => return,
                Ended::Stopped => {
                    self.end(&mut group).await;
                    break;
                }
                Ended::Exited(how) => how,
            };
            self.life.send_modify(|life| life.release = None);
            // What it started goes with it, or the next one would find its port taken.
            self.end(&mut group).await;
            match self.exited(&how, since.elapsed()).await {
                Some(next) => group = next,
                None => break,
            }
        }
        process::sweep(&self.program.launch.data).await;
        process::forget(&self.program.run_state);
        self.life.send_modify(|life| life.release = None);
    }

    async fn watch(&self, group: &mut Group) -> Ended {
        let mut look = interval(LOG_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut orders = self.orders.clone();
        let mut ordered = std::pin::pin!(stopped(&mut orders));
        loop {
            tokio::select! {
                how = group.ended() => return Ended::Exited(how),
                ended = &mut ordered => return ended,
                _ = look.tick() => self.keep_log_small().await,
            }
        }
    }

    async fn end(&self, group: &mut Group) {
        let run = self.program.run();
        group.end(run.stop_signal, Duration::from_secs(run.stop_grace_secs)).await;
    }

    async fn keep_log_small(&self) {
        let log = self.program.log.clone();
        if log.is_small() {
            return;
        }
        let kept = tokio::task::spawn_blocking(move || log.keep_small()).await;
        if let Ok(Err(error)) = kept {
            tracing::warn!(app = %self.program.launch.app, reason = %error, "cannot keep the app's log small");
        }
    }

    /// Counts an exit and starts the app again after a pause. `None` when it is to stop, or failed on trial.
    async fn exited(&mut self, how: &str, uptime: Duration) -> Option<Group> {
        let (mut how, mut uptime) = (how.to_owned(), uptime);
        loop {
            let verdict = self.restarts.exited(uptime);
            self.tell(&how, verdict);
            if verdict.exceeded && self.on_trial() {
                let failed = self.failed(&how, verdict);
                self.life.send_modify(|life| life.failed = Some(failed));
                return None;
            }
            if tokio::time::timeout(verdict.pause, stopped(&mut self.orders)).await.is_ok() {
                return None;
            }
            match self.program.start().await {
                Ok(group) => {
                    self.life.send_modify(|life| life.release = Some(self.program.key.release));
                    return Some(group);
                }
                Err(reason) => (how, uptime) = (reason, Duration::ZERO),
            }
        }
    }

    fn on_trial(&self) -> bool {
        *self.orders.borrow() == Order::Supervise { trial: true }
    }

    fn failed(&self, how: &str, verdict: Verdict) -> String {
        let times = if verdict.in_row == 1 { "once".to_owned() } else { format!("{} times in a row", verdict.in_row) };
        let output = match self.program.log.tail(self.program.log_since) {
            output if output.is_empty() => "it wrote nothing".to_owned(),
            output => format!("last output: {output}"),
        };
        format!("exited {times} ({how}); {output}")
    }

    /// Tells of an exit. Of an app that keeps exiting only the exit that was one too many is told, not each one after it.
    fn tell(&self, how: &str, verdict: Verdict) {
        self.life.send_modify(|life| life.exited(how));
        let allowed = self.program.run().restart.restarts_max;
        if verdict.in_row > allowed.saturating_add(1) {
            tracing::debug!(app = %self.program.launch.app, reason = how, "the app exited again");
            return;
        }
        // The receiver ends with the agent.
        let _ = self.exits.send(Exit {
            app: self.program.launch.app.clone(),
            release: self.program.key.release,
            reason: how.to_owned(),
            restarts: verdict.in_row,
            given_up: verdict.exceeded,
        });
    }
}

async fn stopped(orders: &mut watch::Receiver<Order>) -> Ended {
    let stop = orders.wait_for(|order| *order == Order::Stop).await;
    if stop.is_ok() { Ended::Stopped } else { Ended::Left }
}
