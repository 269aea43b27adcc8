//! The task of one target: reads what it was not told yet, sends, and has its place moved on once it has answered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom as _, SystemRandom};

use super::pace::{Pace, pause};
use super::{Failure, GIVE_UP_SECS, Message, Target, Waiting, waiting};
use crate::engine::{Clock, Engine, Record, Refused};
use crate::store::{Reader, StoreError, TargetRow};

/// What comes within this time of the first notice goes with it.
const GATHER: Duration = Duration::from_secs(1);
/// A message that a target does not take, whatever else it takes, is sent so often.
const REFUSALS_MAX: u32 = 3;
/// Pause after the database could not be read.
const READ_AGAIN: Duration = Duration::from_secs(10);

/// Tells a target all that it wants to hear, for as long as the engine runs. Nothing waits for it.
pub async fn deliver(target: Arc<Target>, reader: Arc<Reader>, engine: Engine, clock: Clock) {
    let name = target.settings.name.clone();
    let row = loop {
        match read(&reader, {
            let name = name.clone();
            move |view| view.notify_target(&name)
        })
        .await
        {
            Ok(Some(row)) => break row,
            Ok(None) => return tracing::error!(target = name, "the database does not know a target of notifications"),
            Err(error) => tracing::error!(target = name, reason = %error, "cannot read what was told"),
        }
        tokio::time::sleep(READ_AGAIN).await;
    };
    let pace = Pace::new(target.settings.per_minute);
    let begun = Instant::now();
    Delivery { target, reader, engine, clock, row, pace, begun, failures: 0, refusals: 0 }.run().await;
}

async fn read<T: Send + 'static>(
    reader: &Arc<Reader>,
    work: impl FnOnce(crate::store::View<'_>) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, String> {
    let reader = reader.clone();
    let read = tokio::task::spawn_blocking(move || reader.read(work)).await;
    read.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

struct Delivery {
    target: Arc<Target>,
    reader: Arc<Reader>,
    engine: Engine,
    clock: Clock,
    row: TargetRow,
    pace: Pace,
    begun: Instant,
    failures: u32,
    refusals: u32,
}

impl Delivery {
    async fn run(mut self) {
        let mut newest = self.engine.live().newest_notice();
        loop {
            while *newest.borrow_and_update() <= self.row.told {
                if newest.changed().await.is_err() {
                    return;
                }
            }
            tokio::time::sleep(GATHER.max(self.left_alone())).await;
            match self.waiting().await {
                Ok(waits) => self.tell(waits).await,
                Err(reason) => {
                    tracing::error!(target = self.row.name, reason, "cannot read what is to be told");
                    tokio::time::sleep(READ_AGAIN).await;
                }
            }
        }
    }

    /// How long it must be left alone after a failure. A clock that was set does not make that longer than it was.
    fn left_alone(&self) -> Duration {
        let left = self.row.retry_at.unwrap_or_default().saturating_sub((self.clock)());
        Duration::from_secs(left.min(GIVE_UP_SECS))
    }

    async fn waiting(&self) -> Result<Waiting, String> {
        let (target, told) = (self.target.clone(), self.row.told);
        let oldest = (self.clock)().saturating_sub(GIVE_UP_SECS);
        read(&self.reader, move |view| Ok(waiting(&target.settings, told, oldest, view.notices_after(told)?))).await
    }

    async fn tell(&mut self, waits: Waiting) {
        let Waiting { message, upto, passed, expired, .. } = waits;
        self.row.told = passed;
        if expired > 0 {
            self.give_up(expired, "it could not be told within a day").await;
            // Before the next attempt, which takes its time: they are not given up twice.
            self.keep().await;
        }
        let Some(message) = message else { return self.keep().await };
        tokio::time::sleep(self.pace.take(self.begun.elapsed())).await;
        let now = (self.clock)();
        match self.target.send(&message, now).await {
            Ok(_) => {
                (self.failures, self.refusals) = (0, 0);
                self.row.told = upto;
                self.row.sent += 1;
                (self.row.succeeded_at, self.row.retry_at) = (Some(now), None);
                tracing::debug!(target = self.row.name, message = message.id, "told");
            }
            Err(failure) => self.failed(&message, upto, &failure).await,
        }
        self.keep().await;
    }

    async fn failed(&mut self, message: &Message, upto: u64, failure: &Failure) {
        self.failures = self.failures.saturating_add(1);
        self.refusals = if failure.is_refused { self.refusals + 1 } else { 0 };
        let pause = pause(self.failures, jitter(), failure.asked);
        let now = (self.clock)();
        self.row.failed += 1;
        (self.row.failed_at, self.row.failure) = (Some(now), Some(failure.text.clone()));
        // Whole seconds, and never shorter than was asked for.
        self.row.retry_at = Some(now + pause.as_secs() + u64::from(pause.subsec_nanos() > 0));
        tracing::warn!(
            target = self.row.name,
            message = message.id,
            reason = failure.text,
            pause_secs = pause.as_secs(),
            "a target of notifications did not take a message"
        );
        if self.refusals >= REFUSALS_MAX {
            self.refusals = 0;
            self.row.told = upto;
            self.give_up(message.total(), &failure.text).await;
        }
    }

    /// Says that something will not be told any more, in the program's log and in the audit log.
    async fn give_up(&mut self, notices: u64, why: &str) {
        self.row.given_up += notices;
        tracing::error!(target = self.row.name, notices, reason = why, "notices were given up");
        let record = Record::new("notify.give_up", format!("target {}", self.row.name))
            .with("notices", notices)
            .with("reason", why);
        self.warn_unless_kept(self.engine.record(record).await);
    }

    async fn keep(&mut self) {
        // Its place is kept in memory too: a database that is full for a while does not make it hear all again.
        self.warn_unless_kept(self.engine.mark_target(self.row.clone()).await);
    }

    fn warn_unless_kept(&self, done: Result<(), Refused>) {
        if let Err(refused) = done {
            tracing::warn!(target = self.row.name, reason = %refused, "what was told is not kept yet");
        }
    }
}

fn jitter() -> u8 {
    let mut byte = [0];
    // Without chance the pauses are only less spread.
    let _ = SystemRandom::new().fill(&mut byte);
    byte[0]
}
