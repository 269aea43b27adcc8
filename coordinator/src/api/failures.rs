//! Who guesses too often must wait. Invite secrets have 256 bits, so guessing is hopeless; this keeps it from being noisy.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use orangery_wire::UnixTime;

/// Wrong secrets that one address may show in [`WINDOW_SECS`].
const FAILURES_MAX: u32 = 20;
/// After this long an address begins anew, in seconds.
const WINDOW_SECS: u64 = 60;
/// Addresses that are remembered.
const ADDRESSES_MAX: usize = 4_096;

/// Wrong secrets, by address.
#[derive(Debug, Default)]
pub struct Failures(Mutex<HashMap<IpAddr, Count>>);

#[derive(Debug, Clone, Copy)]
struct Count {
    since: UnixTime,
    failures: u32,
}

impl Failures {
    /// Whether the address has shown too many wrong secrets lately.
    pub fn are_too_many(&self, address: IpAddr, now: UnixTime) -> bool {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(&address).is_some_and(|count| is_fresh(count, now) && count.failures >= FAILURES_MAX)
    }

    /// Counts a wrong secret.
    pub fn note(&self, address: IpAddr, now: UnixTime) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= ADDRESSES_MAX {
            counts.retain(|_, count| is_fresh(count, now));
        }
        if counts.len() >= ADDRESSES_MAX && !counts.contains_key(&address) {
            return;
        }
        let count = counts.entry(address).or_insert(Count { since: now, failures: 0 });
        if !is_fresh(count, now) {
            *count = Count { since: now, failures: 0 };
        }
        count.failures = count.failures.saturating_add(1);
    }
}

/// A clock that went back makes a count old, never eternal.
fn is_fresh(count: &Count, now: UnixTime) -> bool {
    now.checked_sub(count.since).is_some_and(|age| age < WINDOW_SECS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_guesses_must_wait_a_minute_and_others_need_not() {
        let failures = Failures::default();
        let (guesser, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        for _ in 0..FAILURES_MAX {
            assert!(!failures.are_too_many(guesser, 100));
            failures.note(guesser, 100);
        }
        assert!(failures.are_too_many(guesser, 159));
        assert!(!failures.are_too_many(other, 159));
        assert!(!failures.are_too_many(guesser, 160));
        assert!(!failures.are_too_many(guesser, 99), "the clock went back");
    }

    #[test]
    fn a_flood_of_addresses_takes_no_more_room() {
        let failures = Failures::default();
        for n in 0..10_000_u32 {
            failures.note(IpAddr::from(n.to_be_bytes()), 100);
        }
        assert!(failures.0.lock().unwrap().len() <= ADDRESSES_MAX);
    }
}
