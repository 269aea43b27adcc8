//! Users: who may use the coordinator, and what each may do.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use orangery_wire::rest::{Role, UserRequest};
use orangery_wire::{Digest, UnixTime, UserName};

use super::core::{Done, Turn};
use super::refused::Refused;
use super::sessions::Sessions;
use crate::nearest::nearest;
use crate::password::PasswordHash;
use crate::store::{OWNER, StoreError, TokenRow, UserRow, View, session_id, token_id};

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
    /// The id of the token or session that was shown.
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

/// A user, known by what was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Who.
    pub name: UserName,
    /// What they may do.
    pub role: Role,
    /// By which they are known.
    pub credential: Credential,
}

/// What a user shows, by its SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// A token.
    Token(Digest),
    /// A session that began with a password.
    Session(Digest),
}

impl Credential {
    /// By which it is named in the audit log.
    pub fn id(&self) -> String {
        match self {
            Self::Token(digest) => token_id(digest),
            Self::Session(digest) => session_id(digest),
        }
    }
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

/// All tokens and sessions that open something, as the database has them.
#[derive(Debug, Default)]
pub struct Users {
    tokens: HashMap<Digest, Known>,
    sessions: Sessions,
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
            let user = User { role, credential: Credential::Token(row.digest), name: row.user };
            let (used_at, kept_at) = (used_at.into(), used_at.into());
            Some((row.digest, Known { user, expires_at: row.expires_at, used_at, kept_at }))
        };
        let tokens = view.tokens()?.into_iter().filter_map(known).collect();
        Ok(Self { tokens, sessions: Sessions::new(view.sessions()?, &roles) })
    }

    /// Who is signed in.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Whether a user is still known by what was shown, with the same role. This does not count as showing it.
    pub fn still_has(&self, user: &User, now: UnixTime) -> bool {
        match &user.credential {
            Credential::Session(digest) => self.sessions.open(digest, now).is_some_and(|(known, _)| known == user),
            Credential::Token(digest) => self
                .tokens
                .get(digest)
                .is_some_and(|known| known.user == *user && known.expires_at.is_none_or(|at| now < at)),
        }
    }

    /// When a token ends, if it does by itself.
    pub fn token_end(&self, digest: &Digest) -> Option<UnixTime> {
        self.tokens.get(digest)?.expires_at
    }

    /// Takes over when tokens were used from those that were known before.
    pub(super) fn after(mut self, before: &Self) -> Self {
        self.sessions = self.sessions.after(&before.sessions);
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
    /// Gives one a password; their sessions end.
    SetPassword {
        /// Whose.
        user: UserName,
        /// What is kept of it.
        hash: PasswordHash,
        /// What is kept of the one that they have shown to be theirs so far.
        old: Option<PasswordHash>,
    },
    /// Begins a session.
    SignIn {
        /// Whose.
        user: UserName,
        /// Its SHA-256.
        digest: Digest,
        /// What their password was checked against.
        verified: PasswordHash,
        /// Where they sign in from.
        address: Option<IpAddr>,
    },
    /// Ends the session with this SHA-256. Again: changes nothing.
    SignOut(Digest),
    /// Ends all sessions of one.
    EndSessions(UserName),
}

impl Turn<'_> {
    /// Answers when the token ends that was made, if one was and it does.
    pub(super) fn user(&mut self, deed: &UserDeed) -> Done<Option<UnixTime>> {
        let done = match deed {
            UserDeed::Add(request) => self.add_user(request)?.map(|()| None),
            UserDeed::Remove(name) => self.with_user(name, |turn, name| turn.batch.remove_user(name))?.map(|()| None),
            UserDeed::SetRole(name, role) => {
                let change = |turn: &mut Self, name: &UserName| {
                    turn.batch.set_role(name, *role)?;
                    turn.batch.remove_sessions_of(name).map(drop)
                };
                self.with_user(name, change)?.map(|()| None)
            }
            UserDeed::AddToken { user, digest, expires_secs } => self.add_token(user, digest, *expires_secs)?,
            UserDeed::RevokeToken(id) => self.revoke_token(id)?.map(|()| None),
            UserDeed::SetPassword { user, hash, old } => self.set_password(user, hash, old.as_ref())?.map(|()| None),
            UserDeed::SignIn { user, digest, verified, address } => {
                self.sign_in(user, digest, verified, *address)?.map(Some)
            }
            UserDeed::SignOut(digest) => {
                self.batch.remove_session(digest)?;
                Ok(None)
            }
            UserDeed::EndSessions(user) => self.end_sessions(user)?.map(|()| None),
        };
        if done.is_ok() {
            self.reload_users()?;
        }
        Ok(done)
    }

    /// Who may use the coordinator has changed.
    pub(super) fn reload_users(&mut self) -> Result<(), StoreError> {
        self.outcome.users = Some(Users::load(self.view())?);
        Ok(())
    }

    /// Whether a user is there.
    pub(super) fn there(&self, name: &UserName) -> Done<()> {
        if self.view().user(name)?.is_some() {
            return Ok(Ok(()));
        }
        let users = self.view().users()?;
        let meant = nearest(name.as_str(), users.iter().map(|row| row.name.as_str())).map(str::to_owned);
        Ok(Err(Refused::UnknownUser { user: name.clone(), meant }))
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
        self.batch.add_user(&UserRow { name, role, created_at: self.now, password_at: None })?;
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
        if let Err(refused) = self.there(name)? {
            return Ok(Err(refused));
        }
        tracing::info!(user = %name, "user changed");
        work(self, name)?;
        Ok(Ok(()))
    }

    fn add_token(&mut self, user: &UserName, digest: &Digest, expires_secs: Option<u64>) -> Done<Option<UnixTime>> {
        if expires_secs.is_some_and(|secs| !TOKEN_SECS.contains(&secs)) {
            return Ok(Err(Refused::UserInvalid { rule: "a token lasts from 1 second to 366 days" }));
        }
        let tokens: Vec<TokenRow> = self.view().tokens()?.into_iter().filter(|token| token.user == *user).collect();
        // One that has ended is listed until another needs its place.
        let ended = tokens.iter().filter(|token| token.expires_at.is_some_and(|end| end <= self.now));
        if tokens.len() >= TOKENS_MAX {
            match ended.min_by_key(|token| token.expires_at) {
                Some(oldest) => self.batch.remove_token(&token_id(&oldest.digest))?,
                None => {
                    return Ok(Err(Refused::UserInvalid { rule: "a user has at most 100 tokens; revoke one first" }));
                }
            }
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
