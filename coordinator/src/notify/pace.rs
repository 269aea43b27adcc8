//! When a target is sent the next message: not too many in a short time, and later after each failure.

use std::time::Duration;

/// Messages that may follow each other at once.
const BURST: f64 = 5.0;
/// The first pause after a failure, about.
const PAUSE: Duration = Duration::from_secs(2);
/// The longest, unless the target asks for a longer one.
const PAUSE_MAX: Duration = Duration::from_mins(15);
/// The longest that a target may ask for.
const ASKED_MAX: Duration = Duration::from_hours(24);

/// How many messages may go now. Time is told to it, counted from any moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    tokens: f64,
    at: Duration,
    per_sec: f64,
}

impl Pace {
    pub(super) fn new(per_minute: u32) -> Self {
        Self { tokens: BURST, at: Duration::ZERO, per_sec: f64::from(per_minute) / 60.0 }
    }

    /// Takes leave to send one message: how long it must wait until then.
    pub(super) fn take(&mut self, now: Duration) -> Duration {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * self.per_sec).min(BURST) - 1.0;
        self.at = now;
        if self.tokens >= 0.0 { Duration::ZERO } else { Duration::from_secs_f64(-self.tokens / self.per_sec) }
    }
}

/// The pause after so many failures in a row: doubled each time, with a random part of a half (`jitter`, 0 to 255), and never
/// shorter than the target asks for.
pub(super) fn pause(failures: u32, jitter: u8, asked: Option<Duration>) -> Duration {
    let full = PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(PAUSE_MAX);
    let own = full / 2 + full * u32::from(jitter) / 510;
    own.max(asked.unwrap_or_default().min(ASKED_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_the_rest_at_the_named_pace() {
        let mut pace = Pace::new(6);
        for _ in 0..5 {
            assert_eq!(pace.take(Duration::from_secs(100)), Duration::ZERO);
        }
        assert_eq!(pace.take(Duration::from_secs(100)).as_secs(), 10);
        assert_eq!(pace.take(Duration::from_secs(110)).as_secs(), 10);
        assert_eq!(pace.take(Duration::from_hours(1)), Duration::ZERO);
    }

    #[test]
    fn pauses_grow_to_a_bound_and_keep_what_was_asked_for() {
        assert_eq!(pause(1, 255, None), Duration::from_secs(2));
        assert_eq!(pause(1, 0, None), Duration::from_secs(1));
        assert_eq!(pause(4, 255, None), Duration::from_secs(16));
        assert_eq!(pause(u32::MAX, 255, None), PAUSE_MAX);
        assert_eq!(pause(1, 0, Some(Duration::from_mins(20))), Duration::from_mins(20));
        assert_eq!(pause(1, 0, Some(Duration::from_secs(u64::MAX))), ASKED_MAX);
    }
}
