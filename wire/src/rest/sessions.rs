//! Signing in with a password, as browsers do.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Role;
use crate::ids::{UnixTime, UserName};

/// `POST /v1/session`: somebody signs in. The session itself is in the answer's cookie and nowhere else.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SignInRequest {
    /// Who. Whatever is no name of a user is answered as a wrong password is.
    pub user: String,
    /// Their password.
    pub password: String,
}

impl fmt::Debug for SignInRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The user's name too: people type passwords into the wrong field.
        f.write_str("SignInRequest(..)")
    }
}

/// Who is signed in: answer to [`SignInRequest`] and to `GET /v1/session`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionView {
    /// Who.
    pub user: UserName,
    /// What they may do.
    pub role: Role,
    /// What the header `x-orangery-csrf` must hold in every request of this session that is neither GET nor HEAD. `None`: the
    /// request came with a token, which needs none.
    pub csrf: Option<String>,
    /// When the session ends if nothing more is asked for in it, or the token, if it does by itself.
    pub expires_at: Option<UnixTime>,
}

/// `POST /v1/users/NAME/password`
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PasswordRequest {
    /// The new password: 12 to 128 characters.
    pub password: String,
}

impl fmt::Debug for PasswordRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordRequest(..)")
    }
}

/// `POST /v1/session/password`: somebody changes their own.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct OwnPasswordRequest {
    /// The password that they have.
    pub old: String,
    /// The new one: 12 to 128 characters.
    pub password: String,
}

impl fmt::Debug for OwnPasswordRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnPasswordRequest(..)")
    }
}

/// A session, without what opens anything: an entry of `GET /v1/users/NAME/sessions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SignedInView {
    /// By which the audit log names it.
    pub id: String,
    /// When they signed in.
    pub created_at: UnixTime,
    /// When something was last asked for in it, to the minute.
    pub used_at: UnixTime,
    /// When it ends if nothing more is asked for in it.
    pub expires_at: UnixTime,
    /// The address that they signed in from.
    pub from: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_in_what_a_program_prints_of_a_request() {
        let secret = "correct horse battery".to_owned();
        let said = format!(
            "{:?} {:?} {:?}",
            SignInRequest { user: secret.clone(), password: secret.clone() },
            PasswordRequest { password: secret.clone() },
            OwnPasswordRequest { old: secret.clone(), password: secret }
        );
        assert!(!said.contains("horse"), "{said}");
    }
}
