//! Users of the coordinator: what each may do, and the tokens by which each is known.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::{InvalidId, UnixTime, UserName};

/// What a user may do. Each role may do all that the one before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Look at the fleet. Changes nothing.
    Viewer,
    /// Publish signed releases, deploy, roll out, hold nodes, invite new ones.
    Operator,
    /// Revoke nodes, say who may use the coordinator, read what was done.
    Admin,
}

impl Role {
    /// All of them, the least first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// The word in requests and commands.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let role = Self::ALL.into_iter().find(|role| role.as_str() == text);
        role.ok_or_else(|| InvalidId::new("role", text, "use viewer, operator or admin"))
    }
}

/// `POST /v1/users`: somebody new, who has no token yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct UserRequest {
    /// Who.
    pub name: UserName,
    /// What they may do.
    pub role: Role,
}

/// `POST /v1/users/NAME/role`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RoleRequest {
    /// What they may do from now on.
    pub role: Role,
}

/// `POST /v1/users/NAME/tokens`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// How long the token can be used, in seconds: 1 to 366 days. `None`: until it is revoked.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 31_622_400))]
    pub expires_secs: Option<u64>,
}

/// A new token: the one time that it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewToken {
    /// The token itself. The coordinator keeps its SHA-256 alone.
    pub token: String,
    /// By which it is listed and revoked.
    pub id: String,
    /// Whose it is.
    pub user: UserName,
    /// When it ends, if it does by itself.
    pub expires_at: Option<UnixTime>,
}

/// A token, without what opens anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokenView {
    /// The first 12 digits of its SHA-256, so that a token that is found somewhere can be told.
    pub id: String,
    /// When it was made; the owner's: when the coordinator first knew it.
    pub created_at: UnixTime,
    /// When it ends, if it does by itself.
    pub expires_at: Option<UnixTime>,
    /// When it was used last, to the minute; `None`: never.
    pub used_at: Option<UnixTime>,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UserView {
    /// Who.
    pub name: UserName,
    /// What they may do.
    pub role: Role,
    /// When they were added.
    pub created_at: UnixTime,
    /// When their password was set; `None`: they have none.
    #[serde(default)]
    pub password_at: Option<UnixTime>,
    /// Their tokens, the oldest first. Those that have ended are among them until they are revoked.
    pub tokens: Vec<TokenView>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_may_do_what_the_one_before_it_may_and_has_one_word() {
        assert!(Role::Viewer < Role::Operator && Role::Operator < Role::Admin);
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
            assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
        }
        assert!("root".parse::<Role>().is_err());
    }
}
