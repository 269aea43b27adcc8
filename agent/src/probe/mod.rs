//! Asks an app how it is: on trial until it is proven or refused, afterwards for as long as it runs.
//!
//! An app is asked from its first moment on, at short intervals at first: the sooner it answers, the shorter the switch. A
//! bad answer counts only when the app had the time that its manifest gives it, one interval at least.

mod ask;
mod proof;
mod seen;
mod tally;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use orangery_wire::Manifest;
use orangery_wire::manifest::Probe;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use self::ask::Question;
use self::proof::Proof;
pub use self::seen::Seen;
use self::tally::{Standing, Tally};
use crate::launch::{Launch, LifeWatch};

/// The pause after the first bad answer of an app that is starting; it doubles each time, up to the interval.
const EARLY_PAUSE: Duration = Duration::from_millis(5);
/// How an app without probes is watched.
const RUNS_INTERVAL: Duration = Duration::from_secs(1);
const RUNS_FAILURES: u32 = 5;
/// A time-out that is noticed later than this was slept through: this process was stopped, or starved.
const LATE: Duration = Duration::from_secs(1);
/// How often a question is asked again for that, for it may happen for ever on a node that is starved.
const ASKED_AGAIN_MAX: u32 = 4;
/// How much longer than the manifest's interval the pause between two questions becomes while a committed app is well.
const QUIET_INTERVALS_MAX: u32 = 30;
/// And how long at most.
const QUIET_MAX: Duration = Duration::from_mins(1);
/// Answers that wait to be counted.
const ANSWERS_MAX: usize = 16;

/// What a question needs to know of the app.
#[derive(Debug, Clone)]
pub struct ProbeContext {
    /// What the manifest's texts may name.
    pub variables: BTreeMap<String, String>,
    /// The directory of the release's files.
    pub tree: PathBuf,
    /// The app's own directory, the working directory of commands.
    pub data: PathBuf,
    /// What is known of the app's run.
    pub life: LifeWatch,
}

impl ProbeContext {
    /// For the app that runs as `launch`.
    pub fn new(launch: &Launch, life: LifeWatch) -> Self {
        let (variables, tree, data) = (launch.variables.clone(), launch.tree.clone(), launch.data.clone());
        Self { variables, tree, data, life }
    }
}

/// Asks until every probe had its `successes` in a row and then held through the soak; an app without probes must run for
/// `uptime_min_secs` without an exit. `Err` says, for people, which probe had its `failures` in a row, or how the app ended:
/// the release is to be refused. Dropping it ends all questions.
pub async fn prove(manifest: &Manifest, context: &ProbeContext) -> Result<(), String> {
    prove_and(manifest, context, &mut Seen::default(), std::future::ready(())).await
}

/// Like [`prove`], and then waits for `gate`, which is begun when the probes have held. The app is asked on meanwhile: one that
/// fails or dies before the gate opens is refused all the same. What was asked and answered is kept in `seen`.
pub async fn prove_and<T>(
    manifest: &Manifest,
    context: &ProbeContext,
    seen: &mut Seen,
    gate: impl Future<Output = T>,
) -> Result<T, String> {
    let mut gate = std::pin::pin!(gate);
    let mut asked = Asked::begin(manifest, context, 1);
    seen.begin(asked.questions());
    let mut life = context.life.clone();
    let mut proof = Proof::new(manifest, asked.tallies(), &life.borrow_and_update().clone());
    loop {
        // In this order: no answer that is still waiting may pass a trial in which the app has exited.
        tokio::select! {
            biased;
            Ok(()) = life.changed() => proof.lived(&life.borrow_and_update().clone())?,
            Some(answer) = asked.answers.recv() => {
                seen.heard(answer.probe, &answer.result);
                let said = proof.heard(answer.probe, &answer.result, answer.counts, Instant::now());
                said.map_err(|reason| asked.blame(answer.probe, &reason))?;
            }
            () = until(proof.due()), if !proof.held() => proof.hold(Instant::now()),
            passed = &mut gate, if proof.held() => return Ok(passed),
        }
    }
}

/// Asks for as long as it is not dropped, and tells when the app turns out well or ill: at first, and at each change. Ill
/// means that a probe had its `failures` in a row, well that each had its `successes`. While all answers are good they are
/// asked for less and less often; after a bad one at the manifest's interval again. `took` hears how long each good answer to a
/// probe of the manifest took.
pub async fn watch(
    manifest: &Manifest,
    context: &ProbeContext,
    mut tell: impl FnMut(bool, Option<String>),
    took: impl Fn(Duration),
) {
    let mut asked = Asked::begin(manifest, context, QUIET_INTERVALS_MAX);
    let mut tallies = asked.tallies();
    let mut told = None;
    while let Some(answer) = asked.answers.recv().await {
        let Some(tally) = tallies.get_mut(answer.probe) else { continue };
        match &answer.result {
            Ok(()) => {
                tally.good();
                if !manifest.probes.is_empty() {
                    took(answer.took);
                }
            }
            Err(reason) => tally.bad(reason, answer.counts),
        }
        let failed = tallies.iter().enumerate().find_map(|(probe, tally)| match tally.standing() {
            Standing::Failed(reason) => Some(asked.blame(probe, reason)),
            Standing::Open | Standing::Holds => None,
        });
        let well = tallies.iter().all(|tally| *tally.standing() == Standing::Holds);
        if (well || failed.is_some()) && told != Some(well) {
            told = Some(well);
            tell(well, failed);
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// All probes of an app, being asked.
struct Asked {
    probes: Vec<Asking>,
    answers: mpsc::Receiver<Answer>,
    /// Dropped with this, which ends all questions.
    _tasks: JoinSet<()>,
    context: ProbeContext,
}

/// One probe, its times in the units of the clock.
#[derive(Debug, Clone)]
struct Asking {
    question: Question,
    interval: Duration,
    timeout: Duration,
    /// Before this no bad answer counts.
    patience: Duration,
    successes: u32,
    failures: u32,
}

/// One answer.
struct Answer {
    probe: usize,
    result: Result<(), String>,
    counts: bool,
    took: Duration,
}

impl Asked {
    /// `quiet_max`: so many intervals may pass from one question to the next while all is well.
    fn begin(manifest: &Manifest, context: &ProbeContext, quiet_max: u32) -> Self {
        let mut probes: Vec<Asking> = manifest.probes.iter().map(Asking::new).collect();
        if probes.is_empty() {
            probes.push(Asking::whether_it_runs());
        }
        let (tell, answers) = mpsc::channel(ANSWERS_MAX);
        let mut tasks = JoinSet::new();
        for (probe, asking) in probes.iter().enumerate() {
            tasks.spawn(asking.clone().go_on(probe, context.clone(), tell.clone(), quiet_max));
        }
        Self { probes, answers, _tasks: tasks, context: context.clone() }
    }

    fn tallies(&self) -> Vec<Tally> {
        self.probes.iter().map(|asking| Tally::new(asking.successes, asking.failures)).collect()
    }

    fn questions(&self) -> impl Iterator<Item = String> {
        self.probes.iter().map(|asking| asking.question.describe(&self.context))
    }

    fn blame(&self, probe: usize, reason: &str) -> String {
        let question = self.probes.get(probe).map(|asking| asking.question.describe(&self.context));
        format!("{} {reason}", question.unwrap_or_default())
    }
}

impl Asking {
    fn new(probe: &Probe) -> Self {
        let interval = Duration::from_millis(probe.interval_ms);
        Self {
            question: Question::Check(probe.check.clone()),
            interval,
            timeout: Duration::from_millis(probe.timeout_ms),
            patience: interval.max(Duration::from_millis(probe.start_delay_ms)),
            successes: probe.successes,
            failures: probe.failures,
        }
    }

    fn whether_it_runs() -> Self {
        Self {
            question: Question::Runs,
            interval: RUNS_INTERVAL,
            timeout: RUNS_INTERVAL,
            patience: RUNS_INTERVAL,
            successes: 1,
            failures: RUNS_FAILURES,
        }
    }

    async fn go_on(self, probe: usize, context: ProbeContext, tell: mpsc::Sender<Answer>, quiet_max: u32) {
        let counts_from = Instant::now() + self.patience;
        let mut early = EARLY_PAUSE;
        let mut good = 0_u32;
        loop {
            let asked_at = Instant::now();
            let result = self.ask(&context).await;
            let took = asked_at.elapsed();
            let counts = asked_at >= counts_from;
            let next = if result.is_err() && !counts {
                let pause = early.min(self.interval);
                early = pause * 2;
                (Instant::now() + pause).min(counts_from)
            } else {
                good = if result.is_ok() { good.saturating_add(1) } else { 0 };
                asked_at + self.pause(good, quiet_max)
            };
            if tell.send(Answer { probe, result, counts, took }).await.is_err() {
                return;
            }
            sleep_until(next).await;
        }
    }

    /// From one question to the next after so many good answers in a row: the interval at first and whenever something is
    /// wrong. An app that has long been well is asked less and less, for each question wakes the node up.
    fn pause(&self, good: u32, quiet_max: u32) -> Duration {
        let doublings = good.saturating_sub(self.successes).min(30);
        let longest = self.interval.saturating_mul(quiet_max).min(QUIET_MAX).max(self.interval);
        self.interval.saturating_mul(1 << doublings).min(longest)
    }

    async fn ask(&self, context: &ProbeContext) -> Result<(), String> {
        for _ in 0..ASKED_AGAIN_MAX {
            let begun = Instant::now();
            match tokio::time::timeout(self.timeout, self.question.ask(context)).await {
                Ok(answer) => return answer,
                // The time went by while this process did not run: it says nothing of the app.
                Err(_) if begun.elapsed() > self.timeout + LATE => {}
                Err(_) => break,
            }
        }
        Err(format!("no answer within {} ms", self.timeout.as_millis()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_that_stays_well_is_asked_less_and_less_and_one_that_does_not_at_its_interval() {
        let every = |interval_ms| Asking { interval: Duration::from_millis(interval_ms), ..Asking::whether_it_runs() };
        let pauses = |asking: Asking, quiet_max| -> Vec<u64> {
            [0, 1, 2, 3, 5, 40, u32::MAX].iter().map(|good| asking.pause(*good, quiet_max).as_secs()).collect()
        };
        assert_eq!(pauses(every(1_000), QUIET_INTERVALS_MAX), [1, 1, 2, 4, 16, 30, 30]);
        assert_eq!(pauses(every(10_000), QUIET_INTERVALS_MAX), [10, 10, 20, 40, 60, 60, 60], "at most a minute");
        assert_eq!(pauses(every(90_000), QUIET_INTERVALS_MAX), [90; 7], "or what the manifest says");
        assert_eq!(pauses(every(1_000), 1), [1; 7], "on trial it is always the interval");
    }
}
