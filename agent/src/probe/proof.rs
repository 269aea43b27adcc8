//! What it takes to trust a release: every probe holds, and goes on holding through the soak. Pure but for the type of
//! its times.

use std::time::Duration;

use orangery_wire::manifest::Manifest;
use tokio::time::Instant;

use super::tally::{Standing, Tally};
use crate::launch::Life;

/// The trial of a release, as far as it has come.
#[derive(Debug)]
pub struct Proof {
    tallies: Vec<Tally>,
    soak: Duration,
    exits_max: u32,
    /// Exits that happened before.
    exits_before: u32,
    exits: u32,
    /// Since when every probe holds without an exit in between.
    held_since: Option<Instant>,
    /// The soak is over.
    held: bool,
}

/// A soak that ends later than this was slept through: this process was stopped, or starved.
const LATE: Duration = Duration::from_secs(1);

impl Proof {
    /// A trial of an app that is asked as `tallies` count, and that has lived so far as `life` says.
    pub fn new(manifest: &Manifest, tallies: Vec<Tally>, life: &Life) -> Self {
        let soak = Duration::from_secs(manifest.soak_secs);
        // Nothing but its staying up speaks for an app without probes.
        let least = if manifest.probes.is_empty() { manifest.run.restart.uptime_min_secs } else { 0 };
        Self {
            tallies,
            soak: soak.max(Duration::from_secs(least)),
            exits_max: manifest.run.restart.restarts_max,
            exits_before: life.exits,
            exits: life.exits,
            held_since: None,
            held: false,
        }
    }

    /// Probe number `index` was answered. A bad answer that is given too early does not count.
    pub fn heard(
        &mut self,
        index: usize,
        answer: &Result<(), String>,
        counts: bool,
        now: Instant,
    ) -> Result<(), String> {
        let Some(tally) = self.tallies.get_mut(index) else { return Ok(()) };
        match answer {
            Ok(()) => tally.good(),
            Err(reason) => tally.bad(reason, counts),
        }
        if let Standing::Failed(reason) = tally.standing() {
            return Err(reason.clone());
        }
        if self.held_since.is_none() && self.tallies.iter().all(|tally| *tally.standing() == Standing::Holds) {
            self.held_since = Some(now);
        }
        Ok(())
    }

    /// Something is new of the app's run. An exit begins the soak anew, and too many end the trial.
    pub fn lived(&mut self, life: &Life) -> Result<(), String> {
        if let Some(failed) = &life.failed {
            return Err(failed.clone());
        }
        if life.exits == self.exits {
            return Ok(());
        }
        self.exits = life.exits;
        let exits = self.exits.saturating_sub(self.exits_before);
        if exits > self.exits_max {
            return Err(format!("exited {exits} times during its trial"));
        }
        self.held_since = None;
        self.held = false;
        self.tallies.iter_mut().for_each(Tally::begin_anew);
        Ok(())
    }

    /// When the trial is passed, if nothing happens until then. `None` while a probe does not hold, or its last answer was
    /// bad.
    pub fn due(&self) -> Option<Instant> {
        let quiet = self.tallies.iter().all(Tally::is_quiet);
        self.held_since.filter(|_| quiet).map(|since| since + self.soak)
    }

    /// [`Self::due`] is here. If it passed long ago nobody was there to look: then the soak begins anew.
    pub fn hold(&mut self, now: Instant) {
        let late = self.due().is_some_and(|due| now.saturating_duration_since(due) > LATE);
        if late {
            self.held_since = Some(now);
        } else {
            self.held = true;
        }
    }

    /// Whether the trial is passed, and the last answer was good.
    pub fn held(&self) -> bool {
        self.held && self.due().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAD: &str = "no";

    fn manifest(soak_secs: u64) -> Manifest {
        let json = r#"{"format":1,"app":"a","version":"1.0.0","run":{"exec":["a"],"restart":{"restarts_max":2}},
            "probes":[{"check":{"tcp":{"port":"1"}}}],"platforms":{}}"#;
        Manifest { soak_secs, ..serde_json::from_str(json).unwrap() }
    }

    fn proof(soak_secs: u64, probes: usize) -> (Proof, Instant) {
        let tallies = vec![Tally::new(1, 2); probes];
        (Proof::new(&manifest(soak_secs), tallies, &Life::default()), Instant::now())
    }

    fn after(now: Instant, secs: u64) -> Instant {
        now + Duration::from_secs(secs)
    }

    fn life(exits: u32) -> Life {
        Life { exits, ..Life::default() }
    }

    #[test]
    fn the_soak_begins_when_the_last_probe_holds() {
        let (mut proof, now) = proof(10, 2);
        proof.heard(0, &Ok(()), true, now).unwrap();
        assert_eq!(proof.due(), None);
        proof.heard(1, &Ok(()), true, after(now, 3)).unwrap();
        assert_eq!(proof.due(), Some(after(now, 13)));
        proof.heard(0, &Ok(()), true, after(now, 4)).unwrap();
        assert_eq!(proof.due(), Some(after(now, 13)));
    }

    #[test]
    fn without_a_soak_the_first_good_answer_is_enough() {
        let (mut proof, now) = proof(0, 1);
        proof.heard(0, &Err(BAD.into()), false, now).unwrap();
        assert_eq!(proof.due(), None);
        proof.heard(0, &Ok(()), false, now).unwrap();
        assert_eq!(proof.due(), Some(now));
    }

    #[test]
    fn a_soak_does_not_end_on_a_bad_answer() {
        let (mut proof, now) = proof(10, 1);
        proof.heard(0, &Ok(()), true, now).unwrap();
        proof.heard(0, &Err(BAD.into()), true, after(now, 9)).unwrap();
        assert_eq!(proof.due(), None);
        proof.heard(0, &Ok(()), true, after(now, 11)).unwrap();
        assert_eq!(proof.due(), Some(after(now, 10)), "one bad answer is borne");
        proof.heard(0, &Err(BAD.into()), true, after(now, 12)).unwrap();
        assert!(proof.heard(0, &Err(BAD.into()), true, after(now, 13)).is_err());
    }

    #[test]
    fn an_exit_begins_the_soak_anew_and_too_many_end_the_trial() {
        let (mut proof, now) = proof(10, 1);
        proof.heard(0, &Ok(()), true, now).unwrap();
        proof.lived(&life(1)).unwrap();
        assert_eq!(proof.due(), None);
        proof.heard(0, &Ok(()), true, after(now, 5)).unwrap();
        assert_eq!(proof.due(), Some(after(now, 15)));
        proof.lived(&life(1)).unwrap();
        assert_eq!(proof.due(), Some(after(now, 15)), "nothing new");
        proof.lived(&life(2)).unwrap();
        assert_eq!(proof.lived(&life(3)), Err("exited 3 times during its trial".into()));
    }

    #[test]
    fn exits_before_the_trial_do_not_count() {
        let mut proof = Proof::new(&manifest(0), vec![Tally::new(1, 1)], &life(7));
        assert_eq!(proof.lived(&life(8)), Ok(()));
    }

    #[test]
    fn a_failed_run_ends_the_trial_with_its_own_reason() {
        let (mut proof, _) = proof(0, 1);
        let failed = Life { failed: Some("it fell".into()), ..Life::default() };
        assert_eq!(proof.lived(&failed), Err("it fell".into()));
    }

    #[test]
    fn an_app_without_probes_must_stay_up() {
        let mut manifest = manifest(1);
        manifest.probes.clear();
        let mut proof = Proof::new(&manifest, vec![Tally::new(1, 1)], &Life::default());
        let now = Instant::now();
        proof.heard(0, &Ok(()), true, now).unwrap();
        assert_eq!(proof.due(), Some(after(now, manifest.run.restart.uptime_min_secs)));
    }
}
