//! What the audit log learns of requests that are refused before they reach the engine. Whoever is refused could ask again and
//! again, and entries go by count: so each has a ration, and what was not written for that is counted in the next entry.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use axum::http::Method;
use orangery_wire::{UnixTime, UserName};

use super::Shared;
use crate::engine::{Actor, Record};

/// Entries that may come one after the other.
const BURST: u64 = 10;
/// After those, one entry in so many seconds about what users are refused, for each of them.
const COMMAND_SECS: u64 = 360;
/// And one about attempts to sign in: one for all users together, and one for names that nobody has.
const SIGN_IN_SECS: u64 = 900;
/// Users of whom it is known. Those who are forgotten begin anew.
const USERS_MAX: usize = 1_000;

/// What may still be written down.
#[derive(Debug, Default)]
pub struct Unheard {
    commands: Mutex<HashMap<UserName, Ration>>,
    users: Mutex<Ration>,
    nobody: Mutex<Ration>,
}

/// How much of a ration is left, and what it did not suffice for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Ration {
    /// When all of it is there again.
    whole_at: UnixTime,
    unwritten: u64,
}

impl Ration {
    /// Takes an entry, if one is left: how many were not written since the last one.
    fn take(&mut self, each_secs: u64, now: UnixTime) -> Option<u64> {
        let whole_at = self.whole_at.max(now);
        // A clock that went back makes a ration whole, never eternally empty.
        let whole_at = if whole_at - now > BURST * each_secs { now } else { whole_at };
        if whole_at - now > (BURST - 1) * each_secs {
            self.unwritten += 1;
            return None;
        }
        self.whole_at = whole_at + each_secs;
        Some(std::mem::take(&mut self.unwritten))
    }
}

/// A user was refused something that would have changed something.
pub(super) async fn command(shared: &Shared, user: &UserName, actor: Actor, method: &Method, path: &str, code: &str) {
    let now = (shared.clock)();
    let left = {
        let mut rations = shared.entrance.unheard.commands.lock().unwrap_or_else(PoisonError::into_inner);
        if rations.len() >= USERS_MAX && !rations.contains_key(user) {
            rations.clear();
        }
        rations.entry(user.clone()).or_default().take(COMMAND_SECS, now)
    };
    let Some(unwritten) = left else { return };
    write(shared, actor, Record::new("request", format!("{method} {path}")), unwritten, code).await;
}

/// Somebody was not let in. What was typed for a name is not written down unless somebody has that name: it may be a password.
pub(super) async fn sign_in(shared: &Shared, name: &str, from: IpAddr, code: &str) {
    let asked: Option<UserName> = name.parse().ok();
    let read = shared.read(move |_, view| asked.map_or(Ok(None), |name| view.user(&name))).await;
    let user = read.ok().flatten().map(|row| row.name);
    let ration = if user.is_some() { &shared.entrance.unheard.users } else { &shared.entrance.unheard.nobody };
    let left = ration.lock().unwrap_or_else(PoisonError::into_inner).take(SIGN_IN_SECS, (shared.clock)());
    let Some(unwritten) = left else { return };
    let object = user.map_or_else(|| "a name that nobody has".to_owned(), |name| format!("user {name}"));
    let actor = Actor { who: "stranger".to_owned(), token: None, from: Some(from) };
    write(shared, actor, Record::new("session.begin", object), unwritten, code).await;
}

async fn write(shared: &Shared, actor: Actor, record: Record, unwritten: u64, code: &str) {
    let record = record.ended(code);
    let record = if unwritten > 0 { record.with("unwritten", unwritten) } else { record };
    if let Err(refused) = shared.engine.by(actor).record(record).await {
        tracing::warn!(reason = %refused, "a refusal was not written down");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ration_is_used_up_comes_back_and_tells_what_it_did_not_suffice_for() {
        let mut ration = Ration::default();
        let mut taken = |now| ration.take(100, now);
        for _ in 0..BURST {
            assert_eq!(taken(5_000), Some(0));
        }
        assert_eq!((taken(5_000), taken(5_099)), (None, None));
        assert_eq!(taken(5_100), Some(2));
        assert_eq!(taken(5_101), None);
        assert_eq!(taken(1), Some(1), "the clock went back");
        let entries = (0..86_400).filter(|secs| taken(10_000 + secs).is_some()).count();
        assert!(entries <= 864 + 10, "{entries} a day");
    }
}
