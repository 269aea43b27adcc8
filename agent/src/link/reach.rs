//! Whether the coordinator is reached: known by answers to what was asked, never by a connection that merely seems to be
//! there. A socket whose other end is cut off looks well for up to two keepalives.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Link, broker_address};

/// Longest pause between two attempts while somebody waits for the connection.
const HURRIED_PAUSE_MAX: Duration = Duration::from_secs(3);
/// An interruption longer than this was an outage of something else, and says nothing of how slowly this node reconnects.
const RECONNECTION_MAX: Duration = Duration::from_secs(200);
/// From one attempt to open another connection to the next.
const KNOCK_PAUSE: Duration = Duration::from_millis(500);
/// The time that is waited is counted in pieces of this length, so that time in which this process did not run (it was stopped,
/// or the whole node was) counts as one of them at most.
const PIECE: Duration = Duration::from_millis(250);

/// What is known of the way to the coordinator.
#[derive(Debug, Clone, Default)]
pub(super) struct Reach {
    up: bool,
    /// When the latest publication was sent that the broker has acknowledged.
    answered: Option<Instant>,
    /// How the last attempt or connection ended, and when it did.
    ended: Option<(Instant, Trouble)>,
    slowest: Duration,
}

/// How an attempt to reach the coordinator failed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trouble {
    /// Whether its machine answered nevertheless, if only to say no. Then the network is there, and what is missing is the
    /// coordinator.
    pub answers: bool,
    /// What happened, for people.
    pub reason: String,
}

/// Keeps [`Reach`] true. One connection lives at a time, and one task tells of it.
#[derive(Debug)]
pub(super) struct Watchman {
    reach: watch::Sender<Reach>,
    /// How many wait for the connection.
    hurry: watch::Sender<usize>,
}

/// The publications of one connection that are not acknowledged yet, and when each was sent.
#[derive(Debug, Default)]
pub(super) struct Sent(VecDeque<(u16, Instant)>);

impl Sent {
    pub(super) fn publication(&mut self, pkid: u16) {
        // Packet id 0 is that of a publication nobody acknowledges.
        if pkid != 0 {
            self.0.push_back((pkid, Instant::now()));
        }
    }

    /// When the oldest was sent that waits for its acknowledgement.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.0.front().map(|(_, sent_at)| *sent_at)
    }

    /// When what was just acknowledged had been sent.
    pub(super) fn acknowledged(&mut self, pkid: u16) -> Option<Instant> {
        let at = self.0.iter().position(|(sent, _)| *sent == pkid)?;
        self.0.remove(at).map(|(_, sent_at)| sent_at)
    }
}

impl Watchman {
    pub(super) fn new(slowest: Duration) -> Self {
        let reach = Reach { slowest: slowest.min(RECONNECTION_MAX), ..Reach::default() };
        Self { reach: watch::Sender::new(reach), hurry: watch::Sender::new(0) }
    }

    /// The connection is up, `after` the one before it was lost.
    pub(super) fn up(&self, after: Duration) {
        self.reach.send_modify(|reach| {
            reach.up = true;
            if after <= RECONNECTION_MAX {
                reach.slowest = reach.slowest.max(after);
            }
        });
    }

    /// The broker has acknowledged what was sent at `sent_at`.
    pub(super) fn answered(&self, sent_at: Instant) {
        self.reach.send_modify(|reach| reach.answered = reach.answered.max(Some(sent_at)));
    }

    /// An attempt or a connection ended. Says whether it was up before.
    pub(super) fn ended(&self, trouble: Trouble) -> bool {
        let mut was_up = false;
        self.reach.send_modify(|reach| {
            was_up = std::mem::take(&mut reach.up);
            reach.ended = Some((Instant::now(), trouble));
        });
        was_up
    }

    /// Whether somebody waits for an answer.
    pub(super) fn is_hurried(&self) -> bool {
        *self.hurry.borrow() > 0
    }

    /// `usual`, or less while somebody waits.
    pub(super) fn longest_pause(&self, usual: Duration) -> Duration {
        if self.is_hurried() { usual.min(HURRIED_PAUSE_MAX) } else { usual }
    }

    /// Returns when somebody begins to wait.
    pub(super) async fn somebody_waits(&self) {
        let mut hurry = self.hurry.subscribe();
        let before = *hurry.borrow_and_update();
        // The sender is this one.
        let _ = hurry.wait_for(|now| *now > before).await;
    }
}

/// Somebody waits for the connection until this is dropped.
struct Hurry<'a>(&'a watch::Sender<usize>);

impl<'a> Hurry<'a> {
    fn begin(hurry: &'a watch::Sender<usize>) -> Self {
        hurry.send_modify(|waiting| *waiting += 1);
        Self(hurry)
    }
}

impl Drop for Hurry<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|waiting| *waiting -= 1);
    }
}

impl Link {
    /// Whether a connection is up, as far as anybody knows.
    pub fn is_up(&self) -> bool {
        self.0.shared.watchman.reach.borrow().up
    }

    /// The longest that this node has taken to come back after a loss, of those that ended within 200 s.
    pub fn slowest_reconnection(&self) -> Duration {
        self.0.shared.watchman.reach.borrow().slowest
    }

    /// Waits until the broker answers something that was said after this call, and a new connection to it can be opened as
    /// well: the one that is there may outlive the name, route or rule by which the next one would be made. Over an idle
    /// connection that takes two round trips. Meanwhile pauses between attempts are short.
    ///
    /// `Err` comes after `budget`: nothing answers. If the coordinator's machine answers but the coordinator does not (it is
    /// being restarted), it comes after `longer`. Time in which this process did not run does not count. May be repeated;
    /// dropping it ends the wait.
    pub async fn reach_again(&self, budget: Duration, longer: Duration) -> Result<(), Trouble> {
        let asked = Instant::now();
        let watchman = &self.0.shared.watchman;
        let _hurry = Hurry::begin(&watchman.hurry);
        let mut reach = watchman.reach.subscribe();
        self.0.shared.outbound().ask();
        let mut waited = Duration::ZERO;
        let mut reached = std::pin::pin!(async {
            // It fails when the link is gone, and this is the link.
            let _ = reach.wait_for(|reach| reach.answered >= Some(asked)).await;
            self.knock().await;
        });
        loop {
            let begun = Instant::now();
            if tokio::time::timeout(PIECE, &mut reached).await.is_ok() {
                return Ok(());
            }
            waited += begun.elapsed().min(PIECE * 2);
            if waited < budget {
                continue;
            }
            let trouble = trouble_since(&watchman.reach.borrow(), asked);
            if !trouble.answers || waited >= longer.max(budget) || self.leads_nowhere().await {
                return Err(trouble);
            }
        }
    }

    /// Opens a new connection to the broker, as often as it takes, and closes it.
    async fn knock(&self) {
        let shared = &self.0.shared;
        let Some((host, port)) = broker_address(&shared.settings.mqtt) else { return };
        loop {
            let patience = shared.settings.connect_timeout;
            let trouble = match tokio::time::timeout(patience, TcpStream::connect((host.as_str(), port))).await {
                Ok(Ok(_)) => return,
                Ok(Err(error)) => Trouble {
                    answers: error.kind() == std::io::ErrorKind::ConnectionRefused,
                    reason: format!("a new connection to the broker cannot be made: {error}"),
                },
                Err(_) => Trouble {
                    answers: false,
                    reason: format!("a new connection to the broker was not made within {} s", patience.as_secs_f32()),
                },
            };
            shared.watchman.reach.send_modify(|reach| reach.ended = Some((Instant::now(), trouble)));
            tokio::time::sleep(KNOCK_PAUSE).await;
        }
    }

    /// Whether the coordinator's name now means this node itself, which it did not when it was written down. Then it is no
    /// wonder that something answers.
    async fn leads_nowhere(&self) -> bool {
        let Some((host, port)) = broker_address(&self.0.shared.settings.mqtt) else { return false };
        if host == "localhost" || host.parse().is_ok_and(|host: std::net::IpAddr| host.is_loopback()) {
            return false;
        }
        let Ok(mut found) = tokio::net::lookup_host((host, port)).await else { return true };
        found.all(|address| address.ip().is_loopback())
    }
}

/// What came of the attempts that were made since `asked`.
fn trouble_since(reach: &Reach, asked: Instant) -> Trouble {
    let ended = reach.ended.as_ref().filter(|(at, _)| *at >= asked);
    ended.map_or_else(
        || Trouble { answers: false, reason: "the broker does not answer on the connection that was there".to_owned() },
        |(_, trouble)| trouble.clone(),
    )
}
