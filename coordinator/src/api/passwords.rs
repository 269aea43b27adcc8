//! Passwords, checked and worked out: a few at a time, and no more often than somebody who has mistyped would try.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::http::StatusCode;
use orangery_wire::UserName;
use tokio::sync::Semaphore;

use super::Shared;
use super::error::ApiError;
use super::failures::Attempts;
use crate::password::{HashError, Password, PasswordHash, Unfit};

/// How many are worked on at once. Each takes a core for tens of milliseconds, and 19 MiB.
const AT_ONCE: usize = 2;
/// How many may wait for that.
const WAITING_MAX: usize = 16;

/// What working with passwords needs.
#[derive(Debug)]
pub struct Passwords {
    attempts: Attempts,
    at_once: Arc<Semaphore>,
    room: Arc<Semaphore>,
}

impl Default for Passwords {
    fn default() -> Self {
        let (at_once, room) = (Semaphore::new(AT_ONCE), Semaphore::new(AT_ONCE + WAITING_MAX));
        Self { attempts: Attempts::default(), at_once: Arc::new(at_once), room: Arc::new(room) }
    }
}

impl Passwords {
    /// Does work off the threads that serve requests, when it is its turn. Whoever does not wait for it holds its place until it is
    /// done.
    async fn work<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
        let Ok(place) = self.room.clone().try_acquire_owned() else { return Err(busy()) };
        let turn = self.at_once.clone().acquire_owned().await.map_err(|_| busy())?;
        let work = move || {
            let done = work();
            drop((turn, place));
            done
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| ApiError::internal(&error))
    }
}

/// What came of a password that was shown.
pub(super) enum Verdict {
    /// It is the user's, and was checked against this.
    Right(UserName, PasswordHash),
    /// It is not, or there is no such user, or they have no password. Nobody is told which.
    Wrong,
}

/// Whether this is the user's password. Takes as long, whether there is such a user or not.
pub(super) async fn check(
    shared: &Shared,
    user: &str,
    password: String,
    address: Option<IpAddr>,
) -> Result<Verdict, ApiError> {
    let now = (shared.clock)();
    // There is an address on every connection.
    let address = address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let is_known = shared.engine.live().users().sessions().are_from(user, address, now);
    if !shared.entrance.passwords.attempts.begin(user, address, is_known, now) {
        return Err(ApiError::too_many_failures("too many wrong passwords came from this address, or for this user"));
    }
    let name: Option<UserName> = user.parse().ok();
    let asked = name.clone();
    let kept = shared.read(move |_, view| asked.map_or(Ok(None), |name| view.password(name.as_str()))).await?;
    let (against, shown) = (kept.clone().unwrap_or_else(PasswordHash::nobodys), Password::shown(password));
    let is_right = move || {
        let matches = against.matches(shown.as_ref().unwrap_or(&Password::none()));
        matches && shown.is_some()
    };
    match (shared.entrance.passwords.work(is_right).await?, name, kept) {
        (true, Some(name), Some(kept)) => {
            shared.entrance.passwords.attempts.was_right(user, address);
            Ok(Verdict::Right(name, kept))
        }
        _ => Ok(Verdict::Wrong),
    }
}

/// What is to be kept of a new password, if it is good enough.
pub(super) async fn choose(shared: &Shared, user: &UserName, password: String) -> Result<PasswordHash, ApiError> {
    let chosen = Password::choose(password, user)?;
    Ok(shared.entrance.passwords.work(move || PasswordHash::of(&chosen)).await??)
}

fn busy() -> ApiError {
    let message = "too many others are signing in at this moment";
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "sign_in_busy", message).next("try again in a few seconds")
}

impl From<Unfit> for ApiError {
    fn from(unfit: Unfit) -> Self {
        Self::invalid("password_unfit", unfit.to_string()).next("take several words that do not belong together")
    }
}

impl From<HashError> for ApiError {
    fn from(error: HashError) -> Self {
        Self::internal(&error)
    }
}
