//! Users and their tokens.

use orangery_wire::rest::Role;
use orangery_wire::{Digest, UnixTime, UserName};
use rusqlite::{OptionalExtension as _, Row};

use super::rows::parsed;
use super::{Batch, StoreError, View};

/// The user that every fleet has: whoever holds the token that `orangery init` wrote.
pub const OWNER: &str = "owner";

/// Hexadecimal digits of a token's SHA-256 by which it is named.
const ID_DIGITS: usize = 12;

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRow {
    /// Who.
    pub name: UserName,
    /// What they may do.
    pub role: Role,
    /// When they were added.
    pub created_at: UnixTime,
    /// When their password was set, if they have one.
    pub password_at: Option<UnixTime>,
}

/// A token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// Its SHA-256.
    pub digest: Digest,
    /// Whose it is.
    pub user: UserName,
    /// When it was made.
    pub created_at: UnixTime,
    /// When it ends, if it does by itself.
    pub expires_at: Option<UnixTime>,
    /// When it was used last, as far as that is kept.
    pub used_at: Option<UnixTime>,
}

impl TokenRow {
    /// By which people name it.
    pub fn id(&self) -> String {
        token_id(&self.digest)
    }
}

/// The id of the token or invite secret with this SHA-256.
pub fn token_id(digest: &Digest) -> String {
    digest.to_string().chars().take(ID_DIGITS).collect()
}

fn token_row(row: &Row<'_>) -> rusqlite::Result<TokenRow> {
    Ok(TokenRow {
        digest: parsed(row, 0)?,
        user: parsed(row, 1)?,
        created_at: row.get(2)?,
        expires_at: row.get(3)?,
        used_at: row.get(4)?,
    })
}

fn user_row(row: &Row<'_>) -> rusqlite::Result<UserRow> {
    Ok(UserRow { name: parsed(row, 0)?, role: parsed(row, 1)?, created_at: row.get(2)?, password_at: row.get(3)? })
}

impl View<'_> {
    /// All users, by name.
    pub fn users(&self) -> Result<Vec<UserRow>, StoreError> {
        let mut statement =
            self.connection.prepare_cached("SELECT name, role, created_at, password_at FROM users ORDER BY name")?;
        let rows = statement.query_map([], user_row)?.collect::<rusqlite::Result<_>>()?;
        Ok(rows)
    }

    /// One user.
    pub fn user(&self, name: &UserName) -> Result<Option<UserRow>, StoreError> {
        let sql = "SELECT name, role, created_at, password_at FROM users WHERE name = ?1";
        Ok(self.connection.prepare_cached(sql)?.query_row([name.as_str()], user_row).optional()?)
    }

    /// All tokens, the oldest first.
    pub fn tokens(&self) -> Result<Vec<TokenRow>, StoreError> {
        let sql = "SELECT digest, user, created_at, expires_at, used_at FROM tokens ORDER BY created_at, digest";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([], token_row)?.collect::<rusqlite::Result<_>>()?;
        Ok(rows)
    }

    /// The token that is named so.
    pub fn token(&self, id: &str) -> Result<Option<TokenRow>, StoreError> {
        let sql = "SELECT digest, user, created_at, expires_at, used_at FROM tokens WHERE id = ?1";
        Ok(self.connection.prepare_cached(sql)?.query_row([id], token_row).optional()?)
    }
}

impl Batch<'_> {
    /// Adds a user, who must not be there.
    pub fn add_user(&self, user: &UserRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO users (name, role, created_at) VALUES (?1, ?2, ?3)";
        self.execute(sql, (user.name.as_str(), user.role.as_str(), user.created_at))?;
        Ok(())
    }

    /// Removes a user with all tokens.
    pub fn remove_user(&self, name: &UserName) -> Result<(), StoreError> {
        self.execute("DELETE FROM users WHERE name = ?1", [name.as_str()])?;
        Ok(())
    }

    /// Says what a user may do.
    pub fn set_role(&self, name: &UserName, role: Role) -> Result<(), StoreError> {
        self.execute("UPDATE users SET role = ?2 WHERE name = ?1", (name.as_str(), role.as_str()))?;
        Ok(())
    }

    /// Adds a token.
    pub fn add_token(&self, token: &TokenRow) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO tokens (digest, id, user, created_at, expires_at, used_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            (
                token.digest.to_string(),
                token.id(),
                token.user.as_str(),
                token.created_at,
                token.expires_at,
                token.used_at,
            ),
        )?;
        Ok(())
    }

    /// Ends a token for good.
    pub fn remove_token(&self, id: &str) -> Result<(), StoreError> {
        self.execute("DELETE FROM tokens WHERE id = ?1", [id])?;
        Ok(())
    }

    /// Keeps when a token was used last.
    pub fn set_token_used(&self, digest: &Digest, at: UnixTime) -> Result<(), StoreError> {
        self.execute("UPDATE tokens SET used_at = ?2 WHERE digest = ?1", (digest.to_string(), at))?;
        Ok(())
    }

    /// Sees to it that the owner is there, an admin, with this token and no other. Again: changes nothing. Whoever had an older token
    /// could have set the owner's password with it, so that goes with the token, and the owner's sessions too.
    pub fn set_owner(&self, digest: &Digest, at: UnixTime) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO users (name, role, created_at) VALUES (?1, 'admin', ?2) \
             ON CONFLICT (name) DO UPDATE SET role = 'admin'",
            (OWNER, at),
        )?;
        if self.execute("DELETE FROM tokens WHERE user = ?1 AND digest <> ?2", (OWNER, digest.to_string()))? > 0 {
            self.execute("DELETE FROM sessions WHERE user = ?1", [OWNER])?;
            self.execute("UPDATE users SET password = NULL, password_at = NULL WHERE name = ?1", [OWNER])?;
        }
        self.execute(
            "INSERT INTO tokens (digest, id, user, created_at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (digest) DO NOTHING",
            (digest.to_string(), token_id(digest), OWNER, at),
        )?;
        Ok(())
    }

    /// Ends all tokens. After a restore: one that was revoked since the backup must not come back with it.
    pub fn remove_tokens(&self) -> Result<(), StoreError> {
        self.execute("DELETE FROM tokens", [])?;
        Ok(())
    }
}
