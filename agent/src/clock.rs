//! What time it is, on boards that have no clock of their own.
//!
//! Some times are certain to have passed: when the program was built, when the newest trusted metadata was signed, what was
//! saved before the last power cut. The latest of them, plus the time that this process has counted since, is the *floor*;
//! the node's clock is used only above it. Durations never come from here: those are monotonic ([`std::time::Instant`]).

mod utc;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use orangery_wire::UnixTime;
use orangery_wire::messages::ClockState;

pub use utc::utc;

/// systemd-timesyncd and systemd-time-wait-sync make this file once the clock is right.
const SYNCHRONIZED: &str = "/run/systemd/timesync/synchronized";

/// The coordinator's clock and the node's may differ by so much without being news, in seconds.
const SKEW_SECS: u64 = 10;

/// A clock that was set back and has stayed there for so long is believed again, as after a restart.
const STAYS_BEHIND: Duration = Duration::from_hours(1);

/// The node's idea of the time. Shared by all of the agent; every call may be repeated and none fails.
#[derive(Debug)]
pub struct Clock {
    synchronized: PathBuf,
    system: System,
    certain: Mutex<Certain>,
}

/// Where the node's own time is read.
#[derive(Debug)]
enum System {
    /// From the kernel.
    Kernel,
    /// From a number, which somebody else sets.
    Given(Arc<AtomicU64>),
    /// All of it is virtual, the seconds that this run counts as well.
    Virtual { reading: Arc<Reading>, begun: Instant },
}

/// What a clock of a simulation reads. Somebody else sets it.
#[derive(Debug, Default)]
pub struct Reading {
    /// The node's own clock, Unix time.
    pub system: AtomicU64,
    /// Since the node was switched on, in seconds: it never goes back.
    pub uptime_secs: AtomicU64,
    /// Whether the node's clock is called synchronised.
    pub synced: AtomicBool,
}

impl System {
    fn now(&self) -> UnixTime {
        match self {
            Self::Kernel => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            Self::Given(reading) => reading.load(Ordering::Relaxed),
            Self::Virtual { reading, .. } => reading.system.load(Ordering::Relaxed),
        }
    }

    /// What durations are counted with.
    fn instant(&self) -> Instant {
        match self {
            Self::Kernel | Self::Given(_) => Instant::now(),
            Self::Virtual { reading, begun } => {
                let uptime = Duration::from_secs(reading.uptime_secs.load(Ordering::Relaxed));
                begun.checked_add(uptime).unwrap_or(*begun)
            }
        }
    }
}

/// What this run knows of the time, apart from the node's clock.
#[derive(Debug, Clone, Copy)]
struct Certain {
    floor: UnixTime,
    floor_at: Instant,
    /// The latest time that was given out.
    told: UnixTime,
    /// Since when the node's clock has been behind that.
    behind_since: Option<Instant>,
    /// When the trusted metadata expires.
    valid_until: UnixTime,
}

impl Certain {
    fn new(floor: UnixTime, now: Instant) -> Self {
        Self { floor: floor.max(build_time()), floor_at: now, told: 0, behind_since: None, valid_until: 0 }
    }

    /// The earliest that it can be.
    fn floor(&self, now: Instant) -> UnixTime {
        self.floor.saturating_add(now.saturating_duration_since(self.floor_at).as_secs())
    }

    fn raise(&mut self, floor: UnixTime, now: Instant) {
        if floor > self.floor(now) {
            self.floor = floor;
            self.floor_at = now;
        }
    }

    /// The time to believe. It goes back only when a synchronised clock says so, or one that nobody vouches for but that stays
    /// behind: else one wrong hour would keep every certificate expired until the agent is restarted, and on a node whose time
    /// daemon does not say when the clock is right nobody would do that.
    fn tell(&mut self, system: UnixTime, synced: bool, now: Instant) -> UnixTime {
        let behind = system.saturating_add(SKEW_SECS) < self.told;
        let since = *self.behind_since.get_or_insert(now);
        self.behind_since = behind.then_some(since);
        let stays = behind && now.saturating_duration_since(since) >= STAYS_BEHIND;
        let least = if synced || stays { 0 } else { self.told };
        self.told = system.max(self.floor(now)).max(least);
        self.told
    }

    fn state(&self, system: UnixTime, synced: bool, now: Instant) -> ClockState {
        if system.saturating_add(SKEW_SECS) < self.floor(now) {
            ClockState::BehindFloor
        } else if synced {
            ClockState::Synced
        } else {
            ClockState::Unsynced
        }
    }
}

impl Clock {
    /// A clock that is never before `floor` (Unix time, what [`Clock::floor_to_save`] gave in an earlier run) nor before the
    /// program was built.
    pub fn new(floor: UnixTime) -> Arc<Self> {
        Self::with_marker(floor, Path::new(SYNCHRONIZED))
    }

    fn with_marker(floor: UnixTime, synchronized: &Path) -> Arc<Self> {
        Self::of(floor, synchronized, System::Kernel)
    }

    /// A clock that takes the time from `reading` (Unix time) instead of the kernel, and calls it synchronised while the file
    /// `synchronized` exists: for tests and simulations of clocks that are wrong.
    pub fn given(floor: UnixTime, synchronized: &Path, reading: Arc<AtomicU64>) -> Arc<Self> {
        Self::of(floor, synchronized, System::Given(reading))
    }

    /// A clock that takes everything from `reading` and reads neither the kernel's clocks nor a file: for simulations.
    pub fn simulated(floor: UnixTime, reading: Arc<Reading>) -> Arc<Self> {
        Self::of(floor, Path::new(""), System::Virtual { reading, begun: Instant::now() })
    }

    fn of(floor: UnixTime, synchronized: &Path, system: System) -> Arc<Self> {
        let certain = Mutex::new(Certain::new(floor, system.instant()));
        Arc::new(Self { synchronized: synchronized.to_owned(), system, certain })
    }

    /// Seconds since 1970 by the node's clock, but not before the floor, and not before what this run gave out earlier
    /// unless the clock was synchronised since.
    pub fn now(&self) -> UnixTime {
        let synced = self.synced();
        self.with(|certain| certain.tell(self.system.now(), synced, self.system.instant()))
    }

    /// How far the node's clock can be believed. Time daemons other than systemd's count as [`ClockState::Unsynced`]
    /// unless systemd-time-wait-sync watches over them.
    pub fn state(&self) -> ClockState {
        let synced = self.synced();
        self.with(|certain| certain.state(self.system.now(), synced, self.system.instant()))
    }

    /// A signature that was just verified was made at `signed_at`: it cannot be earlier now.
    pub fn note_trusted(&self, signed_at: UnixTime) {
        self.with(|certain| certain.raise(signed_at, self.system.instant()));
    }

    /// The trusted metadata expires at `expires`.
    pub fn note_valid_until(&self, expires: UnixTime) {
        self.with(|certain| certain.valid_until = expires);
    }

    /// The floor for the next run. A clock that nobody vouches for adds nothing to it, only the seconds counted by this
    /// run: were it years ahead, certificates would seem expired for ever. Nor does a synchronised one add more than it
    /// takes for the metadata that is trusted now to be expired in the next run too: time servers can be wrong as well, and
    /// whatever is signed after that is valid for longer.
    pub fn floor_to_save(&self) -> UnixTime {
        let synced = self.synced();
        let (floor, valid_until) = self.with(|certain| (certain.floor(self.system.instant()), certain.valid_until));
        if synced { floor.max(self.system.now().min(valid_until)) } else { floor }
    }

    fn synced(&self) -> bool {
        match &self.system {
            System::Virtual { reading, .. } => reading.synced.load(Ordering::Relaxed),
            System::Kernel | System::Given(_) => self.synchronized.exists(),
        }
    }

    fn with<T>(&self, f: impl FnOnce(&mut Certain) -> T) -> T {
        // A panic elsewhere cannot leave three numbers half changed.
        f(&mut self.certain.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl rustls::time_provider::TimeProvider for Clock {
    /// So that TLS calls a certificate expired, or not yet valid, by this clock.
    fn current_time(&self) -> Option<rustls_pki_types::UnixTime> {
        Some(rustls_pki_types::UnixTime::since_unix_epoch(Duration::from_secs(self.now())))
    }
}

/// When this program was built, as Unix time: the lowest floor.
pub fn build_time() -> UnixTime {
    env!("ORANGERY_BUILD_TIME").parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    fn system_time() -> UnixTime {
        System::Kernel.now()
    }

    fn certain(floor_after_build: u64) -> (Certain, UnixTime, Instant) {
        let now = Instant::now();
        let floor = build_time() + floor_after_build;
        (Certain::new(floor, now), floor, now)
    }

    #[test]
    fn no_time_is_before_the_build() {
        assert!(build_time() > 1_700_000_000);
        let mut certain = Certain::new(0, Instant::now());
        assert_eq!(certain.tell(0, false, certain.floor_at), build_time());
    }

    #[test]
    fn a_clock_behind_the_floor_is_not_used_but_time_goes_on() {
        let (mut certain, floor, start) = certain(DAY);
        let later = start + Duration::from_secs(90);
        assert_eq!(certain.tell(0, false, start), floor);
        assert_eq!(certain.tell(90, false, later), floor + 90);
        assert_eq!(certain.state(90, true, later), ClockState::BehindFloor);
    }

    #[test]
    fn a_clock_ahead_of_the_floor_is_used() {
        let (mut certain, floor, now) = certain(0);
        assert_eq!(certain.tell(floor + DAY, false, now), floor + DAY);
        assert_eq!(certain.state(floor + DAY, false, now), ClockState::Unsynced);
        assert_eq!(certain.state(floor + DAY, true, now), ClockState::Synced);
    }

    #[test]
    fn time_goes_back_only_when_a_synchronised_clock_says_so() {
        let (mut certain, floor, now) = certain(0);
        certain.tell(floor + DAY, false, now);
        assert_eq!(certain.tell(floor + 5, false, now), floor + DAY);
        assert_eq!(certain.tell(floor + 5, true, now), floor + 5);
        assert_eq!(certain.tell(0, true, now), floor, "but never below the floor");
    }

    #[test]
    fn a_clock_that_was_set_back_and_stays_there_is_believed_after_an_hour() {
        let (mut certain, floor, start) = certain(0);
        let at = |minutes: u64| start + Duration::from_mins(minutes);
        let reading = |minutes: u64| floor + DAY + minutes * 60;
        certain.tell(floor + 3_650 * DAY, false, at(0));
        assert_eq!(certain.tell(reading(1), false, at(1)), floor + 3_650 * DAY);
        certain.tell(floor + 3_650 * DAY, false, at(30));
        assert_eq!(certain.tell(reading(31), false, at(31)), floor + 3_650 * DAY, "it went to and fro: it begins anew");
        assert_eq!(certain.tell(reading(90), false, at(90)), floor + 3_650 * DAY);
        assert_eq!(certain.tell(reading(91), false, at(91)), reading(91));
        assert_eq!(certain.tell(reading(92), false, at(92)), reading(92), "from then on it is the time");
    }

    #[test]
    fn a_small_skew_against_the_signer_is_no_news() {
        let (certain, floor, now) = certain(0);
        assert_eq!(certain.state(floor - SKEW_SECS, true, now), ClockState::Synced);
        assert_eq!(certain.state(floor - SKEW_SECS - 1, true, now), ClockState::BehindFloor);
    }

    #[test]
    fn a_signature_raises_the_floor_and_never_lowers_it() {
        let far = system_time() + 10 * DAY;
        let clock = Clock::with_marker(0, Path::new("/nonexistent"));
        clock.note_trusted(far);
        clock.note_trusted(far - DAY);
        assert!((far..far + 60).contains(&clock.now()), "{}", clock.now());
        assert!((far..far + 60).contains(&clock.floor_to_save()));
        assert_eq!(clock.state(), ClockState::BehindFloor);
    }

    #[test]
    fn only_a_synchronised_clock_is_saved() {
        let marker = tempfile::NamedTempFile::new().unwrap();
        let before = system_time();
        let synced = Clock::with_marker(0, marker.path());
        synced.note_valid_until(u64::MAX);
        assert!(synced.floor_to_save() >= before);
        let unsynced = Clock::with_marker(0, Path::new("/nonexistent"));
        assert!((build_time()..build_time() + 60).contains(&unsynced.floor_to_save()));
        assert!(unsynced.now() >= before);
    }

    #[test]
    fn a_synchronised_clock_that_is_years_ahead_is_saved_only_as_far_as_the_metadata_reaches() {
        let marker = tempfile::NamedTempFile::new().unwrap();
        let now = build_time() + DAY;
        let clock = Clock::given(0, marker.path(), Arc::new(AtomicU64::new(now + 3_650 * DAY)));
        assert!((build_time()..build_time() + 60).contains(&clock.floor_to_save()), "there is no metadata yet");
        clock.note_valid_until(now + 45 * DAY);
        assert_eq!(clock.floor_to_save(), now + 45 * DAY);
    }

    #[test]
    fn a_simulated_clock_reads_nothing_of_this_machine() {
        let reading = Arc::new(Reading::default());
        let floor = build_time() + DAY;
        let clock = Clock::simulated(floor, reading.clone());
        assert_eq!((clock.now(), clock.state()), (floor, ClockState::BehindFloor));
        reading.uptime_secs.store(90, Ordering::Relaxed);
        assert_eq!(clock.now(), floor + 90, "time goes on without a clock");
        reading.system.store(floor + DAY, Ordering::Relaxed);
        reading.synced.store(true, Ordering::Relaxed);
        assert_eq!((clock.now(), clock.state()), (floor + DAY, ClockState::Synced));
    }

    #[test]
    fn tls_uses_this_clock() {
        use rustls::time_provider::TimeProvider;
        let far = system_time() + 10 * DAY;
        let clock = Clock::with_marker(far, Path::new("/nonexistent"));
        assert!(clock.current_time().unwrap().as_secs() >= far);
    }
}
