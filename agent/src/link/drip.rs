//! How fast events are told that have piled up while the coordinator was away. A deployment's events go at once; those of two
//! weeks go at a drip, so that a fleet that comes back is in nobody's way.

use std::time::{Duration, Instant};

/// So many go at once.
const AT_ONCE: u32 = 100;
/// And then one after each of these.
const EVERY: Duration = Duration::from_millis(50);
/// Whoever was told to wait is told to come again not earlier than this: a node is not woken for each event.
pub(super) const PAUSE: Duration = Duration::from_millis(500);

/// A measure that fills up again over time (the generic cell rate algorithm).
#[derive(Debug)]
pub(super) struct Drip {
    /// When it would be full again.
    full_at: Instant,
}

impl Drip {
    pub(super) fn new(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// Takes one event from it; false if there is none left now.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.max(now);
        let left = full_at + EVERY <= now + EVERY * AT_ONCE;
        if left {
            self.full_at = full_at + EVERY;
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_go_at_once_and_then_twenty_a_second() {
        let start = Instant::now();
        let mut drip = Drip::new(start);
        let mut took = |at: u64| (0..10_000).take_while(|_| drip.take(start + Duration::from_millis(at))).count();
        assert_eq!(took(0), 100);
        assert_eq!(took(49), 0);
        assert_eq!(took(50), 1);
        assert_eq!(took(1_050), 20);
        assert_eq!(took(3_600_000), 100, "however long it was quiet");
    }
}
