//! Who guesses too often must wait. Secrets of invites and tokens have 256 bits, so guessing is hopeless; this keeps it from
//! being noisy. Passwords can be guessed: of these, every attempt counts until it has turned out to be right.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use orangery_wire::UnixTime;

/// Wrong secrets that one address may show in [`WINDOW_SECS`].
const FAILURES_MAX: u32 = 20;
/// After this long an address begins anew, in seconds.
const WINDOW_SECS: u64 = 60;
/// Addresses that are remembered.
const ADDRESSES_MAX: usize = 4_096;
/// Counts for users. Names share them by chance; so names that nobody has take no room, and count as those that somebody has.
const NAMES: usize = 4_096;

/// Wrong secrets, by address.
#[derive(Debug, Default)]
pub struct Failures(Mutex<HashMap<IpAddr, Count>>);

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    since: UnixTime,
    failures: u32,
}

impl Count {
    fn is_too_many(&self, now: UnixTime) -> bool {
        is_fresh(self, now) && self.failures >= FAILURES_MAX
    }

    /// One more.
    fn add(&mut self, now: UnixTime) -> u32 {
        if !is_fresh(self, now) {
            *self = Self { since: now, failures: 0 };
        }
        self.failures = self.failures.saturating_add(1);
        self.failures
    }

    /// One less: it was none.
    fn take_back(&mut self) {
        self.failures = self.failures.saturating_sub(1);
    }
}

impl Failures {
    /// Whether the address has shown too many wrong secrets lately.
    pub fn are_too_many(&self, address: IpAddr, now: UnixTime) -> bool {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(&network(address)).is_some_and(|count| count.is_too_many(now))
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
        counts.entry(address).or_default().add(now) == FAILURES_MAX
    }

    /// What was counted last was no wrong secret.
    fn take_back(&self, address: IpAddr) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&network(address)) {
            count.take_back();
        }
    }
}

/// Attempts to sign in that were not right, by address and by user.
#[derive(Debug)]
pub struct Attempts {
    addresses: Failures,
    names: Mutex<Vec<Count>>,
    places: RandomState,
}

impl Default for Attempts {
    fn default() -> Self {
        let names = Mutex::new(vec![Count::default(); NAMES]);
        Self { addresses: Failures::default(), names, places: RandomState::new() }
    }
}

impl Attempts {
    /// Counts an attempt that has not turned out to be right yet, unless there were too many. From where the user is signed in
    /// already, what others have tried for that user does not count: or anybody could lock anybody out.
    pub(super) fn begin(&self, name: &str, address: IpAddr, is_known: bool, now: UnixTime) -> bool {
        if self.addresses.are_too_many(address, now) || (!is_known && self.with(name, |count| count.is_too_many(now))) {
            return false;
        }
        self.addresses.note(address, now);
        self.with(name, |count| count.add(now));
        true
    }

    /// The attempt was right.
    pub(super) fn was_right(&self, name: &str, address: IpAddr) {
        self.addresses.take_back(address);
        self.with(name, Count::take_back);
    }

    fn with<T: Default>(&self, name: &str, work: impl FnOnce(&mut Count) -> T) -> T {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let place = usize::try_from(self.places.hash_one(name) % NAMES as u64).unwrap_or(0);
        names.get_mut(place).map(work).unwrap_or_default()
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
    fn who_tries_a_user_too_often_must_wait_from_wherever_and_the_user_need_not_where_they_are_known() {
        let attempts = Attempts::default();
        let address = |n: u32| IpAddr::from((0x0a00_0000 + n).to_be_bytes());
        for n in 0..FAILURES_MAX {
            assert!(attempts.begin("kim", address(n), false, 100));
        }
        assert!(!attempts.begin("kim", address(77), false, 159));
        assert!(attempts.begin("kim", address(77), true, 159));
        assert!(attempts.begin("kim", address(78), false, 160));
        // From one address, whoever it is tried for.
        for n in 0..FAILURES_MAX {
            assert!(attempts.begin(&format!("user-{n}"), address(99), false, 300));
        }
        assert!(!attempts.begin("ada", address(99), true, 300));
        assert!(attempts.begin("ada", address(98), false, 300));
        // Right ones do not count, however many there are.
        for _ in 0..100 {
            assert!(attempts.begin("otto", address(55), false, 500));
            attempts.was_right("otto", address(55));
        }
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
