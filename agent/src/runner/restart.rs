//! When an app that exited is started again. Pure: exits in, pauses out.

use std::time::Duration;

use orangery_wire::manifest::Restart;

/// However short the manifest's delays are, a node does not spin.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// And less so for an app that keeps exiting.
const PAUSE_MIN_FAILED: Duration = Duration::from_secs(1);

/// Counts exits in a row.
#[derive(Debug, Clone)]
pub struct Restarts {
    policy: Restart,
    in_row: u32,
}

/// What follows from an exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Exits in a row, this one among them.
    pub in_row: u32,
    /// Whether these are more than the policy allows.
    pub exceeded: bool,
    /// How long to wait before the next start.
    pub pause: Duration,
}

impl Restarts {
    /// No exit so far.
    pub fn new(policy: &Restart) -> Self {
        Self { policy: policy.clone(), in_row: 0 }
    }

    /// The app exited by itself after it had run for `uptime`.
    pub fn exited(&mut self, uptime: Duration) -> Verdict {
        if uptime >= Duration::from_secs(self.policy.uptime_min_secs) {
            self.in_row = 0;
        }
        self.in_row = self.in_row.saturating_add(1);
        let exceeded = self.in_row > self.policy.restarts_max;
        Verdict { in_row: self.in_row, exceeded, pause: self.pause(exceeded) }
    }

    fn pause(&self, exceeded: bool) -> Duration {
        let longest = Duration::from_millis(self.policy.backoff_max_ms);
        if exceeded {
            return longest.max(PAUSE_MIN_FAILED);
        }
        let doublings = self.in_row.saturating_sub(1);
        let factor = 1u32.checked_shl(doublings).unwrap_or(u32::MAX);
        Duration::from_millis(self.policy.backoff_ms).saturating_mul(factor).min(longest).max(PAUSE_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(1);
    const LATE: Duration = Duration::from_secs(10);

    fn policy() -> Restart {
        Restart { restarts_max: 3, uptime_min_secs: 10, backoff_ms: 200, backoff_max_ms: 700 }
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut restarts = Restarts::new(&policy());
        let pauses: Vec<_> = (0..4).map(|_| restarts.exited(SOON).pause.as_millis()).collect();
        assert_eq!(pauses, [200, 400, 700, 1_000], "the last counts as failed: a second at least");
    }

    #[test]
    fn one_exit_more_than_allowed_restarts_is_too_many() {
        let mut restarts = Restarts::new(&policy());
        let exceeded: Vec<_> = (0..5).map(|_| restarts.exited(SOON).exceeded).collect();
        assert_eq!(exceeded, [false, false, false, true, true]);
    }

    #[test]
    fn a_long_run_is_forgiven_what_was_before() {
        let mut restarts = Restarts::new(&policy());
        for _ in 0..10 {
            restarts.exited(SOON);
        }
        assert_eq!(restarts.exited(LATE), Verdict { in_row: 1, exceeded: false, pause: Duration::from_millis(200) });
    }

    #[test]
    fn no_policy_makes_the_node_spin() {
        let policy = Restart { restarts_max: 1, uptime_min_secs: 0, backoff_ms: 0, backoff_max_ms: 0 };
        assert_eq!(Restarts::new(&policy).exited(SOON).pause, PAUSE_MIN);
        let mut never = Restarts::new(&Restart { restarts_max: 0, ..policy });
        assert_eq!(never.exited(SOON), Verdict { in_row: 1, exceeded: true, pause: PAUSE_MIN_FAILED });
    }

    #[test]
    fn counts_and_pauses_do_not_overflow() {
        let policy = Restart { restarts_max: u32::MAX, uptime_min_secs: 10, backoff_ms: u64::MAX, backoff_max_ms: 5 };
        let mut restarts = Restarts { policy, in_row: u32::MAX };
        assert_eq!(restarts.exited(SOON).pause, PAUSE_MIN);
    }
}
