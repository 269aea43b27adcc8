//! How much of something may be done in a time. Pure: the time is told to it.

use std::time::Duration;

/// So many at once, and after those one in each span.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ration {
    burst: u32,
    each: Duration,
    /// When all of it is there again.
    whole_at: Duration,
}

impl Ration {
    pub(super) fn new(burst: u32, each: Duration) -> Self {
        Self { burst, each, whole_at: Duration::ZERO }
    }

    /// Takes one, if one is left. `now` counts from any moment.
    pub(super) fn take(&mut self, now: Duration) -> bool {
        let whole_at = self.whole_at.max(now);
        let is_left = whole_at.saturating_sub(now) <= self.each * self.burst.saturating_sub(1);
        if is_left {
            self.whole_at = whole_at + self.each;
        }
        is_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_taken_at_once_and_the_rest_one_by_one() {
        let mut ration = Ration::new(3, Duration::from_secs(10));
        let mut take = |secs| ration.take(Duration::from_secs(secs));
        assert_eq!([take(100), take(100), take(100), take(100)], [true, true, true, false]);
        assert_eq!([take(109), take(110), take(111)], [false, true, false]);
        assert!((0..3).all(|_| take(1_000)));
    }
}
