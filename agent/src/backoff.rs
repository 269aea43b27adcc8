//! Pauses between attempts: exponential, capped, with full jitter, so that a fleet does not come back all at once.

use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// The pause before attempt number `attempt` (0 is the first, which has none): a random part of `first` doubled for each
/// failure, at most `longest`. `random` is any number, see [`random`].
pub fn delay(attempt: u32, first: Duration, longest: Duration, random: u64) -> Duration {
    let Some(doublings) = attempt.checked_sub(1) else { return Duration::ZERO };
    let full = first.saturating_mul(1u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(longest);
    let millis = u64::try_from(full.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(random % millis.saturating_add(1))
}

/// A number that nobody needs to guess; not for secrets.
pub fn random() -> u64 {
    // The standard library seeds each state from the system's random source.
    std::hash::RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_the_first_attempt_has_none() {
        let (first, longest) = (Duration::from_secs(1), Duration::from_mins(1));
        let longest_of = |attempt| (0..100_000).map(|r| delay(attempt, first, longest, r)).max();
        assert_eq!(longest_of(0), Some(Duration::ZERO));
        assert_eq!(longest_of(1), Some(first));
        assert_eq!(longest_of(3), Some(Duration::from_secs(4)));
        assert_eq!(longest_of(7), Some(longest));
        assert_eq!(longest_of(u32::MAX), Some(longest));
        assert_eq!(delay(5, first, longest, 0), Duration::ZERO);
    }
}
