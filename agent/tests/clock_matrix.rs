//! The clock matrix: however wrong a node's clock is, before and after a restart, what has expired stays expired, and
//! nothing is blocked for good.

#![allow(clippy::unwrap_used, reason = "these are tests, their helpers included")]

mod attacks;
mod origin;
mod owner;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use attacks::{World, app, greeter};
use orangery_agent::clock::{Clock, build_time};
use orangery_agent::install::{InstallFailure, Installer};
use orangery_wire::UnixTime;
use orangery_wire::messages::RefusalCode;
use origin::Trick;
use owner::{DAY, now};

/// A board whose clock can be set, and which keeps its floor over a restart as the agent does.
struct Board {
    world: World,
    reading: Arc<AtomicU64>,
    directory: tempfile::TempDir,
    clock: Arc<Clock>,
    installer: Installer,
    saved: UnixTime,
}

impl Board {
    /// It got 1.0.0 today, and now it is 60 days later: what it trusts has expired. Its clock was right until now.
    async fn new() -> Self {
        let world = World::new().await;
        let directory = tempfile::tempdir().unwrap();
        let reading = Arc::new(AtomicU64::new(today()));
        let clock = Clock::given(0, &directory.path().join("synced"), reading.clone());
        let installer = world.installer_by(clock.clone());
        let mut board = Self { world, reading, directory, clock, installer, saved: 0 };
        board.synchronise(true);
        board.restart();
        board.synchronise(false);
        board
    }

    fn marker(&self) -> PathBuf {
        self.directory.path().join("synced")
    }

    fn set(&self, reading: UnixTime) {
        self.reading.store(reading, Ordering::Relaxed);
    }

    fn synchronise(&self, synced: bool) {
        if synced {
            std::fs::write(self.marker(), "").unwrap();
        } else {
            std::fs::remove_file(self.marker()).unwrap();
        }
    }

    /// The agent saves its floor, as `Driver::save_node` does, and starts again.
    fn restart(&mut self) {
        self.saved = self.saved.max(self.clock.floor_to_save());
        self.clock = Clock::given(self.saved, &self.marker(), self.reading.clone());
        self.installer = self.world.installer_by(self.clock.clone());
    }

    async fn install(&self, version: &str) -> Result<(), InstallFailure> {
        self.installer.install(&app(), &greeter(version).wanted()).await.map(drop)
    }

    async fn is_expired(&self, version: &str, what: &str) {
        match self.install(version).await {
            Err(InstallFailure::Refused(reason)) => assert_eq!(reason.code, RefusalCode::Expired, "{what}: {reason:?}"),
            other => panic!("{what}: {other:?}"),
        }
        assert!(!self.world.is_installed(&greeter(version)), "{what}");
    }

    /// The owner and the coordinator, whose clocks are right, sign anew.
    fn renew(&mut self) {
        let (custom, bytes) = (greeter("1.1.0").custom(), greeter("1.1.0").bytes());
        let owner = &mut self.world.owner;
        owner.sign_targets_at(today(), |targets| drop(targets.add_release(&custom, &bytes)));
        owner.publish_at(today());
        owner.serve(&self.world.origin);
        greeter("1.1.0").serve(&self.world.origin);
    }
}

/// The right time: 60 days after the node got its metadata, which was good for 45.
fn today() -> UnixTime {
    now() + 60 * DAY
}

/// A time, by the right one.
type Reading = fn() -> UnixTime;

/// What the clock says.
const READINGS: [(&str, Reading); 4] = [
    ("1970", || 0),
    ("the build date", build_time),
    ("one day back", || today() - DAY),
    ("ten years ahead", || today() + 3_650 * DAY),
];

#[tokio::test]
async fn no_wrong_clock_makes_expired_metadata_good_again() {
    for (what, reading) in READINGS {
        for restarted in [false, true] {
            let mut board = Board::new().await;
            board.set(reading());
            if restarted {
                board.restart();
            }
            board.is_expired("0.9.0", &format!("{what}, restarted: {restarted}")).await;
        }
    }
}

#[tokio::test]
async fn no_clock_that_is_behind_blocks_what_is_fresh() {
    for (what, reading) in &READINGS[..3] {
        for restarted in [false, true] {
            let mut board = Board::new().await;
            board.set(reading());
            if restarted {
                board.restart();
            }
            board.renew();
            board.install("1.1.0").await.unwrap_or_else(|e| panic!("{what}, restarted: {restarted}: {e}"));
        }
    }
}

#[tokio::test]
async fn a_clock_that_is_far_ahead_blocks_only_until_it_is_right() {
    // Also if a time server said so, whether the agent was restarted meanwhile or not.
    for (synced, restarted, then) in [
        (false, false, "synchronised"),
        (false, false, "restarted"),
        (false, true, "restarted"),
        (true, false, "synchronised"),
        (true, true, "synchronised"),
        (true, true, "restarted"),
    ] {
        let what = format!("synchronised: {synced}, restarted: {restarted}, then {then}");
        let mut board = Board::new().await;
        board.renew();
        board.set(today() + 3_650 * DAY);
        if synced {
            board.synchronise(true);
        }
        if restarted {
            board.restart();
        }
        board.is_expired("1.1.0", &what).await;
        if restarted {
            board.restart();
        }
        board.set(today());
        match then {
            "synchronised" => board.synchronise(true),
            _ => board.restart(),
        }
        board.install("1.1.0").await.unwrap_or_else(|e| panic!("{what}: {e}"));
    }
}

#[tokio::test]
async fn a_clock_that_jumps_during_an_update_neither_passes_nor_blocks_it() {
    for restarted in [false, true] {
        for (what, reading) in READINGS {
            let mut board = Board::new().await;
            board.renew();
            board.world.origin.play([const { Trick::Honest }; 5]);
            board.world.origin.play([Trick::CutAfter(1_000)]);
            let failure = board.install("1.1.0").await.unwrap_err();
            assert!(matches!(failure, InstallFailure::Again(_)), "{what}: {failure}");
            board.set(reading());
            if restarted {
                board.restart();
            }
            if reading() > today() {
                board.is_expired("1.1.0", what).await;
                board.set(today());
                board.restart();
            }
            board.install("1.1.0").await.unwrap_or_else(|e| panic!("{what}, restarted: {restarted}: {e}"));
        }
    }
}
