//! Who guesses too often must wait. Secrets of invites and tokens have 256 bits, so guessing is hopeless; this keeps it from
//! being noisy.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
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
        counts.get(&network(address)).is_some_and(|count| is_fresh(count, now) && count.failures >= FAILURES_MAX)
    }

    /// Counts a wrong secret. Returns whether the address has just become one that must wait.
    pub fn note(&self, address: IpAddr, now: UnixTime) -> bool {
        let address = network(address);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= ADDRESSES_MAX {
            counts.retain(|_, count| is_fresh(count, now));
        }
        if counts.len() >= ADDRESSES_MAX && !counts.contains_key(&address) {
            return false;
        }
        let count = counts.entry(address).or_insert(Count { since: now, failures: 0 });
        if !is_fresh(count, now) {
            *count = Count { since: now, failures: 0 };
        }
        count.failures = count.failures.saturating_add(1);
        count.failures == FAILURES_MAX
    }
}

/// Whoever has one IPv6 address has the 2^64 beside it.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        v4 @ IpAddr::V4(_) => v4,
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
        for n in 1..=FAILURES_MAX {
            assert!(!failures.are_too_many(guesser, 100));
            assert_eq!(failures.note(guesser, 100), n == FAILURES_MAX);
        }
        assert!(failures.are_too_many(guesser, 159));
        assert!(!failures.are_too_many(other, 159));
        assert!(!failures.are_too_many(guesser, 160));
        assert!(!failures.are_too_many(guesser, 99), "the clock went back");
    }

    #[test]
    fn all_addresses_of_one_ipv6_network_are_one_guesser() {
        let failures = Failures::default();
        let address =
            |host: u64| -> IpAddr { Ipv6Addr::from_bits((0x2001_0db8_0000_0001_u128 << 64) | u128::from(host)).into() };
        for n in 0..FAILURES_MAX {
            failures.note(address(n.into()), 100);
        }
        assert!(failures.are_too_many(address(u64::MAX), 100));
        assert!(!failures.are_too_many("2001:db8:0:2::1".parse().unwrap(), 100));
        // The same board by IPv4, and by IPv4 in the clothes of IPv6.
        for _ in 0..FAILURES_MAX {
            failures.note("::ffff:10.0.0.1".parse().unwrap(), 100);
        }
        assert!(failures.are_too_many("10.0.0.1".parse().unwrap(), 100));
        assert!(!failures.are_too_many("::ffff:10.0.0.2".parse().unwrap(), 100));
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
