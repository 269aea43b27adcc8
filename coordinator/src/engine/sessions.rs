//! Sessions: who is signed in with a password, and until when.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use orangery_wire::rest::Role;
use orangery_wire::{Digest, UnixTime, UserName};

use super::core::{Done, Turn};
use super::refused::Refused;
use super::users::{Credential, User};
use crate::password::PasswordHash;
use crate::store::{OWNER, SessionRow, StoreError};

/// A session in which nothing was asked for this long has ended, in seconds.
pub const IDLE_SECS: u64 = 12 * 3_600;
/// A session ends after so long whatever was asked for, in seconds.
pub const SESSION_SECS: u64 = 7 * 86_400;
/// Most sessions of one user; with one more the oldest ends.
pub const SESSIONS_MAX: usize = 20;
/// The last use of a session is kept when it is so much newer than what was kept, in seconds.
const KEEP_USED_SECS: u64 = 60;

/// When a session ends in which nothing more is asked for.
pub fn session_end(created_at: UnixTime, used_at: UnixTime) -> UnixTime {
    used_at.saturating_add(IDLE_SECS).min(created_at.saturating_add(SESSION_SECS))
}

/// All sessions, as the database has them.
#[derive(Debug, Default)]
pub struct Sessions(HashMap<Digest, Open>);

#[derive(Debug)]
struct Open {
    user: User,
    created_at: UnixTime,
    address: Option<IpAddr>,
    /// When it was used last, and what of that the database has.
    used_at: AtomicU64,
    kept_at: AtomicU64,
}

impl Open {
    fn end(&self) -> UnixTime {
        session_end(self.created_at, self.used_at.load(Ordering::Relaxed))
    }
}

impl Sessions {
    /// Those of users who are there.
    pub(super) fn new(rows: Vec<SessionRow>, roles: &HashMap<UserName, Role>) -> Self {
        let open = |row: SessionRow| {
            let role = *roles.get(&row.user)?;
            let user = User { role, name: row.user, credential: Credential::Session(row.digest) };
            let (used_at, kept_at) = (row.used_at.into(), row.used_at.into());
            Some((row.digest, Open { user, created_at: row.created_at, address: row.address, used_at, kept_at }))
        };
        Self(rows.into_iter().filter_map(open).collect())
    }

    /// Takes over when sessions were used from those that were known before.
    pub(super) fn after(self, before: &Self) -> Self {
        for (digest, open) in &self.0 {
            if let Some(used) = before.0.get(digest) {
                open.used_at.fetch_max(used.used_at.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
        self
    }

    /// Whose session has this SHA-256, and when it ends if nothing more is asked for in it. This does not count as asking.
    pub fn open(&self, digest: &Digest, now: UnixTime) -> Option<(&User, UnixTime)> {
        let open = self.0.get(digest)?;
        let end = open.end();
        (now < end).then_some((&open.user, end))
    }

    /// The same, for somebody who asks for something now.
    pub fn shown(&self, digest: &Digest, now: UnixTime) -> Option<User> {
        let user = self.open(digest, now)?.0.clone();
        if let Some(open) = self.0.get(digest) {
            open.used_at.fetch_max(now, Ordering::Relaxed);
        }
        Some(user)
    }

    /// When a session was used last.
    pub fn used_at(&self, digest: &Digest) -> Option<UnixTime> {
        Some(self.0.get(digest)?.used_at.load(Ordering::Relaxed))
    }

    /// Whether the user is signed in from this address already.
    pub fn are_from(&self, user: &str, address: IpAddr, now: UnixTime) -> bool {
        let is_from = |open: &Open| open.user.name.as_str() == user && open.address == Some(address);
        self.0.values().any(|open| is_from(open) && now < open.end())
    }

    /// Those that have ended.
    fn ended(&self, now: UnixTime) -> Vec<Digest> {
        self.0.iter().filter(|(_, open)| now >= open.end()).map(|(digest, _)| *digest).collect()
    }

    /// Uses that the database does not have, and should by now.
    pub(super) fn to_keep(&self, is_last: bool) -> Vec<(Digest, UnixTime)> {
        let news = |(digest, open): (&Digest, &Open)| {
            let (used, kept) = (open.used_at.load(Ordering::Relaxed), open.kept_at.load(Ordering::Relaxed));
            let is_due = used >= kept.saturating_add(KEEP_USED_SECS) || (is_last && used > kept);
            is_due.then(|| {
                open.kept_at.store(used, Ordering::Relaxed);
                (*digest, used)
            })
        };
        self.0.iter().filter_map(news).collect()
    }
}

impl Turn<'_> {
    /// Gives a user a password; who is signed in as them is no longer. For others an admin does it; everyone changes their own, and
    /// has shown the `old` one, if they had one. The owner's is the owner's own.
    pub(super) fn set_password(
        &mut self,
        user: &UserName,
        hash: &PasswordHash,
        old: Option<&PasswordHash>,
    ) -> Done<()> {
        let is_own = self.actor.who == user.as_str();
        if user.as_str() == OWNER && !is_own {
            return Ok(Err(Refused::OwnerFixed));
        }
        if let Err(refused) = self.there(user)? {
            return Ok(Err(refused));
        }
        let before = self.view().password(user.as_str())?;
        if is_own && before.as_ref() != old {
            let refused = if old.is_none() { Refused::OldPasswordNeeded } else { Refused::PasswordChanged };
            return Ok(Err(refused));
        }
        self.batch.set_password(user, hash, self.now)?;
        self.batch.remove_sessions_of(user)?;
        Ok(Ok(()))
    }

    /// Begins a session of a user whose password was checked against `verified`; returns when it ends.
    pub(super) fn sign_in(
        &mut self,
        user: &UserName,
        digest: &Digest,
        verified: &PasswordHash,
        address: Option<IpAddr>,
    ) -> Done<UnixTime> {
        if self.view().password(user.as_str())?.as_ref() != Some(verified) {
            return Ok(Err(Refused::PasswordChanged));
        }
        let sessions = self.view().sessions()?;
        let own: Vec<_> = sessions.iter().filter(|session| session.user == *user).collect();
        let too_many = (own.len() + 1).saturating_sub(SESSIONS_MAX);
        own.iter().take(too_many).try_for_each(|oldest| self.batch.remove_session(&oldest.digest))?;
        let (digest, user) = (*digest, user.clone());
        self.batch.add_session(&SessionRow { digest, user, created_at: self.now, used_at: self.now, address })?;
        Ok(Ok(session_end(self.now, self.now)))
    }

    /// Ends all sessions of a user.
    pub(super) fn end_sessions(&mut self, user: &UserName) -> Done<()> {
        if let Err(refused) = self.there(user)? {
            return Ok(Err(refused));
        }
        let ended = self.batch.remove_sessions_of(user)?;
        self.detail("ended", ended);
        Ok(Ok(()))
    }

    /// Removes sessions that have ended by themselves, and keeps when others were used last, now and then.
    pub(super) fn keep_sessions(&mut self) -> Result<(), StoreError> {
        let (ended, used) = {
            let users = self.live.users();
            (users.sessions().ended(self.now), users.sessions().to_keep(false))
        };
        used.iter().try_for_each(|(digest, at)| self.batch.set_session_used(digest, *at))?;
        if !ended.is_empty() {
            ended.iter().try_for_each(|digest| self.batch.remove_session(digest))?;
            self.reload_users()?;
        }
        Ok(())
    }
}
