//! Users: who may use the coordinator, and what each may do.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use orangery_wire::rest::{Role, UserRequest};
use orangery_wire::{Digest, UnixTime, UserName};

use super::core::{Done, Turn};
use super::refused::Refused;
use crate::nearest::nearest;
use crate::store::{OWNER, StoreError, TokenRow, UserRow, View, token_id};

/// Most users.
const USERS_MAX: usize = 1_000;
/// Most tokens of one user.
const TOKENS_MAX: usize = 100;
/// Shortest and longest life of a token that ends by itself, in seconds.
const TOKEN_SECS: std::ops::RangeInclusive<u64> = 1..=366 * 86_400;
/// The last use of a token is kept when it is so much newer than what was kept, in seconds.
const KEEP_USED_SECS: u64 = 60;
/// Names that mean something else: in the audit log, and as the selector of all nodes.
const RESERVED: [&str; 5] = [OWNER, "coordinator", "all", "stranger", "scraper"];

/// Who asks for something, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// A user's name, `node:NAME`, `invite:ID`, or `coordinator`.
    pub who: String,
    /// The id of the token that was shown.
    pub token: Option<String>,
    /// The address that it came from.
    pub from: Option<IpAddr>,
}

impl Actor {
    /// The coordinator by itself.
    pub fn coordinator() -> Self {
        Self { who: "coordinator".to_owned(), token: None, from: None }
    }
}

/// A user, known by a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Who.
    pub name: UserName,
    /// What they may do.
    pub role: Role,
    /// The id of the token.
    pub token: String,
}

/// What a token is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// It is this user's.
    Of(User),
    /// It was somebody's until then.
    Expired(UnixTime),
    /// Nobody has it.
    Unknown,
}

/// All tokens that open something, as the database has them.
#[derive(Debug, Default)]
pub struct Users {
    tokens: HashMap<Digest, Known>,
}

#[derive(Debug)]
struct Known {
    user: User,
    expires_at: Option<UnixTime>,
    /// When it was used last, and what of that the database has; 0: never.
    used_at: AtomicU64,
    kept_at: AtomicU64,
}

impl Users {
    /// Reads them.
    pub(super) fn load(view: View<'_>) -> Result<Self, StoreError> {
        let roles: HashMap<UserName, Role> = view.users()?.into_iter().map(|user| (user.name, user.role)).collect();
        let known = |row: TokenRow| {
            let role = *roles.get(&row.user)?;
            let used_at = row.used_at.unwrap_or(0);
            let user = User { role, token: row.id(), name: row.user };
            let (used_at, kept_at) = (used_at.into(), used_at.into());
            Some((row.digest, Known { user, expires_at: row.expires_at, used_at, kept_at }))
        };
        Ok(Self { tokens: view.tokens()?.into_iter().filter_map(known).collect() })
    }

    /// Takes over when tokens were used from those that were known before.
    pub(super) fn after(self, before: &Self) -> Self {
        for (digest, known) in &self.tokens {
            if let Some(used) = before.tokens.get(digest) {
                known.used_at.fetch_max(used.used_at.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
        self
    }

    /// Whose token has this SHA-256. The look-up is by hash: its timing tells nothing about a token.
    pub fn shown(&self, digest: &Digest, now: UnixTime) -> Shown {
        let Some(known) = self.tokens.get(digest) else { return Shown::Unknown };
        match known.expires_at {
            Some(expired_at) if expired_at <= now => Shown::Expired(expired_at),
            _ => {
                known.used_at.fetch_max(now, Ordering::Relaxed);
                Shown::Of(known.user.clone())
            }
        }
    }

    /// When a token was used last.
    pub fn used_at(&self, digest: &Digest) -> Option<UnixTime> {
        let used_at = self.tokens.get(digest)?.used_at.load(Ordering::Relaxed);
        (used_at > 0).then_some(used_at)
    }

    /// Uses that the database does not have, and should by now.
    pub(super) fn to_keep(&self, is_last: bool) -> Vec<(Digest, UnixTime)> {
        let news = |(digest, known): (&Digest, &Known)| {
            let (used, kept) = (known.used_at.load(Ordering::Relaxed), known.kept_at.load(Ordering::Relaxed));
            let is_due = used >= kept.saturating_add(KEEP_USED_SECS) || (is_last && used > kept);
            is_due.then(|| {
                known.kept_at.store(used, Ordering::Relaxed);
                (*digest, used)
            })
        };
        self.tokens.iter().filter_map(news).collect()
    }
}

/// What is done with users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserDeed {
    /// Adds one.
    Add(UserRequest),
    /// Removes one with all tokens.
    Remove(UserName),
    /// Says what one may do.
    SetRole(UserName, Role),
    /// Adds a token.
    AddToken {
        /// Whose.
        user: UserName,
        /// Its SHA-256.
        digest: Digest,
        /// How long it lasts, in seconds.
        expires_secs: Option<u64>,
    },
    /// Ends the token that is named so.
    RevokeToken(String),
}

impl Turn<'_> {
    /// Answers when the token ends that was made, if one was and it does.
    pub(super) fn user(&mut self, deed: &UserDeed) -> Done<Option<UnixTime>> {
        let done = match deed {
            UserDeed::Add(request) => self.add_user(request)?.map(|()| None),
            UserDeed::Remove(name) => self.with_user(name, |turn, name| turn.batch.remove_user(name))?.map(|()| None),
            UserDeed::SetRole(name, role) => {
                self.with_user(name, |turn, name| turn.batch.set_role(name, *role))?.map(|()| None)
            }
            UserDeed::AddToken { user, digest, expires_secs } => self.add_token(user, digest, *expires_secs)?,
            UserDeed::RevokeToken(id) => self.revoke_token(id)?.map(|()| None),
        };
        if done.is_ok() {
            self.outcome.users = Some(Users::load(self.view())?);
        }
        Ok(done)
    }

    fn add_user(&mut self, request: &UserRequest) -> Done<()> {
        let UserRequest { name, role } = request.clone();
        if RESERVED.contains(&name.as_str()) {
            return Ok(Err(Refused::UserReserved { name }));
        }
        let users = self.view().users()?;
        if users.iter().any(|user| user.name == name) {
            return Ok(Err(Refused::UserTaken { name }));
        }
        if users.len() >= USERS_MAX {
            return Ok(Err(Refused::UserInvalid { rule: "there are 1000 already" }));
        }
        tracing::info!(user = %name, %role, "user added");
        self.batch.add_user(&UserRow { name, role, created_at: self.now })?;
        Ok(Ok(()))
    }

    /// Does something to a user who is there and is not the owner.
    fn with_user(
        &mut self,
        name: &UserName,
        work: impl FnOnce(&mut Self, &UserName) -> Result<(), StoreError>,
    ) -> Done<()> {
        if name.as_str() == OWNER {
            return Ok(Err(Refused::OwnerFixed));
        }
        if self.view().user(name)?.is_none() {
            let users = self.view().users()?;
            let meant = nearest(name.as_str(), users.iter().map(|row| row.name.as_str())).map(str::to_owned);
            return Ok(Err(Refused::UnknownUser { user: name.clone(), meant }));
        }
        tracing::info!(user = %name, "user changed");
        work(self, name)?;
        Ok(Ok(()))
    }

    fn add_token(&mut self, user: &UserName, digest: &Digest, expires_secs: Option<u64>) -> Done<Option<UnixTime>> {
        if expires_secs.is_some_and(|secs| !TOKEN_SECS.contains(&secs)) {
            return Ok(Err(Refused::UserInvalid { rule: "a token lasts from 1 second to 366 days" }));
        }
        if self.view().tokens()?.iter().filter(|token| token.user == *user).count() >= TOKENS_MAX {
            return Ok(Err(Refused::UserInvalid { rule: "a user has at most 100 tokens; revoke one first" }));
        }
        let expires_at = expires_secs.map(|secs| self.now.saturating_add(secs));
        let (created_at, digest) = (self.now, *digest);
        let added = self.with_user(user, |turn, user| {
            let token = TokenRow { digest, user: user.clone(), created_at, expires_at, used_at: None };
            turn.batch.add_token(&token)
        });
        Ok(added?.map(|()| expires_at))
    }

    fn revoke_token(&mut self, id: &str) -> Done<()> {
        match self.view().token(id)? {
            None => Ok(Err(Refused::UnknownToken { id: id.chars().take(80).collect() })),
            Some(token) if token.user.as_str() == OWNER => Ok(Err(Refused::OwnerFixed)),
            Some(token) => {
                self.batch.remove_token(id)?;
                tracing::info!(user = %token.user, token = token_id(&token.digest), "token revoked");
                Ok(Ok(()))
            }
        }
    }

    /// Keeps when tokens were used last, now and then.
    pub(super) fn keep_used(&mut self) -> Result<(), StoreError> {
        let used = self.live.users().to_keep(false);
        used.iter().try_for_each(|(digest, at)| self.batch.set_token_used(digest, *at))
    }
}
