//! Passwords of users, and the sessions that began with one.

use std::net::IpAddr;

use orangery_wire::{Digest, UnixTime, UserName};
use rusqlite::{OptionalExtension as _, Row};

use super::rows::{parsed, parsed_option};
use super::users::token_id;
use super::{Batch, StoreError, View};
use crate::password::PasswordHash;

/// A session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    /// SHA-256 of what the browser shows.
    pub digest: Digest,
    /// Whose it is.
    pub user: UserName,
    /// When they signed in.
    pub created_at: UnixTime,
    /// When something was last asked for in it, as far as that is kept.
    pub used_at: UnixTime,
    /// Where they signed in from.
    pub address: Option<IpAddr>,
}

impl SessionRow {
    /// By which the audit log names it.
    pub fn id(&self) -> String {
        session_id(&self.digest)
    }
}

/// The id of the session with this SHA-256. It cannot be taken for that of a token.
pub fn session_id(digest: &Digest) -> String {
    format!("session:{}", token_id(digest))
}

fn session_row(row: &Row<'_>) -> rusqlite::Result<SessionRow> {
    Ok(SessionRow {
        digest: parsed(row, 0)?,
        user: parsed(row, 1)?,
        created_at: row.get(2)?,
        used_at: row.get(3)?,
        address: parsed_option(row, 4)?,
    })
}

impl View<'_> {
    /// All sessions, the oldest first.
    pub fn sessions(&self) -> Result<Vec<SessionRow>, StoreError> {
        let sql = "SELECT digest, user, created_at, used_at, address FROM sessions ORDER BY created_at, digest";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([], session_row)?.collect::<rusqlite::Result<_>>()?;
        Ok(rows)
    }

    /// What a user's password must match; `None`: there is no such user, or no password.
    pub fn password(&self, name: &str) -> Result<Option<PasswordHash>, StoreError> {
        let sql = "SELECT password FROM users WHERE name = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let text: Option<Option<String>> = statement.query_row([name], |row| row.get(0)).optional()?;
        Ok(text.flatten().map(PasswordHash::of_text))
    }
}

impl Batch<'_> {
    /// Gives a user a password, or another one.
    pub fn set_password(&self, name: &UserName, hash: &PasswordHash, at: UnixTime) -> Result<(), StoreError> {
        let sql = "UPDATE users SET password = ?2, password_at = ?3 WHERE name = ?1";
        self.execute(sql, (name.as_str(), hash.as_str(), at))?;
        Ok(())
    }

    /// Adds a session.
    pub fn add_session(&self, session: &SessionRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO sessions (digest, user, created_at, used_at, address) VALUES (?1, ?2, ?3, ?4, ?5)";
        let SessionRow { digest, user, created_at, used_at, address } = session;
        let address = address.map(|address| address.to_string());
        self.execute(sql, (digest.to_string(), user.as_str(), created_at, used_at, address))?;
        Ok(())
    }

    /// Keeps when a session was used last.
    pub fn set_session_used(&self, digest: &Digest, at: UnixTime) -> Result<(), StoreError> {
        self.execute("UPDATE sessions SET used_at = ?2 WHERE digest = ?1", (digest.to_string(), at))?;
        Ok(())
    }

    /// Ends a session for good. Again: changes nothing.
    pub fn remove_session(&self, digest: &Digest) -> Result<(), StoreError> {
        self.execute("DELETE FROM sessions WHERE digest = ?1", [digest.to_string()])?;
        Ok(())
    }

    /// Ends all sessions of a user; returns how many there were.
    pub fn remove_sessions_of(&self, name: &UserName) -> Result<usize, StoreError> {
        self.execute("DELETE FROM sessions WHERE user = ?1", [name.as_str()])
    }

    /// Nobody is signed in, and nobody can sign in until they are given a password again. After a restore: a password that was
    /// changed since the backup because somebody had seen it must not count again, nor that of a user who was removed.
    pub fn remove_passwords(&self) -> Result<(), StoreError> {
        self.execute("DELETE FROM sessions", [])?;
        self.execute("UPDATE users SET password = NULL, password_at = NULL", [])?;
        Ok(())
    }
}
