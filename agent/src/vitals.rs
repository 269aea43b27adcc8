//! How the apps are whose release is proven: what the coordinator compares releases by. Nothing of it is kept over a restart.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use orangery_wire::messages::AppVitals;
use orangery_wire::{AppName, ReleaseId};

/// What is measured of each app.
#[derive(Debug, Default)]
pub struct Vitals(Mutex<BTreeMap<AppName, Watched>>);

#[derive(Debug)]
struct Watched {
    release: ReleaseId,
    since: Instant,
    /// How often it had exited when the watch began.
    exits: u32,
    answers: u32,
    took: Duration,
}

/// One release being watched. When this is dropped nothing is said of it any more.
pub struct Watch {
    vitals: Arc<Vitals>,
    app: AppName,
    release: ReleaseId,
}

impl Vitals {
    /// A release is watched from now on; `exits` is how often it has exited before.
    pub fn watch(self: &Arc<Self>, app: &AppName, release: ReleaseId, exits: u32) -> Watch {
        let watched = Watched { release, since: Instant::now(), exits, answers: 0, took: Duration::ZERO };
        self.lock().insert(app.clone(), watched);
        Watch { vitals: self.clone(), app: app.clone(), release }
    }

    /// How each app is. `exits` says how often it has exited by itself, `memory` what it holds. The next sample has the answers
    /// to probes that come after this one.
    pub fn sample(&self, exits: impl Fn(&AppName) -> u32, memory: impl Fn(&AppName) -> Option<u64>) -> Vec<AppVitals> {
        let mut all = self.lock();
        let sample = |(app, watched): (&AppName, &mut Watched)| {
            let (answers, took) = (std::mem::take(&mut watched.answers), std::mem::take(&mut watched.took));
            AppVitals {
                app: app.clone(),
                release: watched.release,
                watched_secs: watched.since.elapsed().as_secs(),
                restarts: exits(app).saturating_sub(watched.exits),
                memory_bytes: memory(app),
                probe_micros: took.checked_div(answers).and_then(|mean| u32::try_from(mean.as_micros()).ok()),
            }
        };
        all.iter_mut().map(sample).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<AppName, Watched>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    /// A probe got a good answer.
    pub fn answered(&self, took: Duration) {
        if let Some(watched) = self.vitals.lock().get_mut(&self.app).filter(|it| it.release == self.release) {
            watched.answers = watched.answers.saturating_add(1);
            watched.took = watched.took.saturating_add(took);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut all = self.vitals.lock();
        // Another watch of the app may have begun already.
        if all.get(&self.app).is_some_and(|watched| watched.release == self.release) {
            all.remove(&self.app);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_the_mean_of_the_answers_since_the_last_and_ends_with_the_watch() {
        let (vitals, app) = (Arc::new(Vitals::default()), "web".parse::<AppName>().unwrap());
        let release = ReleaseId(orangery_wire::Digest([1; 32]));
        let watch = vitals.watch(&app, release, 3);
        for millis in [1, 3] {
            watch.answered(Duration::from_millis(millis));
        }
        let sample = || vitals.sample(|_| 5, |_| Some(4_096)).pop();
        let seen = sample().unwrap();
        assert_eq!((seen.release, seen.restarts, seen.memory_bytes), (release, 2, Some(4_096)));
        assert_eq!(seen.probe_micros, Some(2_000));
        assert_eq!(sample().unwrap().probe_micros, None, "nothing was answered since");
        let newer = vitals.watch(&app, ReleaseId(orangery_wire::Digest([2; 32])), 0);
        drop(watch);
        assert!(sample().is_some(), "the newer watch goes on");
        drop(newer);
        assert_eq!(sample(), None);
    }
}
