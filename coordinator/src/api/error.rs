//! Error answers: a status, a stable code, a text for people, and what to do next.

use std::borrow::Cow;

use axum::Json;
use axum::http::header::WWW_AUTHENTICATE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use orangery_trust::Refusal;
use orangery_wire::manifest::InvalidManifest;
use orangery_wire::rest::{ErrorBody, Role};
use orangery_wire::{AppName, NodeId, UnixTime, Version};

use crate::artifacts::ArtifactError;
use crate::engine::{Refused, User};
use crate::repository::{RepositoryError, Standing, chain};
use crate::store::StoreError;

/// An error answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    code: Cow<'static, str>,
    message: String,
    next: Option<Cow<'static, str>>,
}

impl ApiError {
    /// An error with a code of its own.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code: code.into(), message: message.into(), next: None }
    }

    /// Adds what helps.
    #[must_use]
    pub fn next(self, next: impl Into<Cow<'static, str>>) -> Self {
        Self { next: Some(next.into()), ..self }
    }

    /// The stable code.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) fn unauthenticated() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthenticated",
            "the request shows neither a user's token nor a node's certificate, and nobody is signed in",
        )
        .next("send \"Authorization: Bearer TOKEN\" with the token that is in operator.token; in a browser, sign in")
    }

    pub(super) fn sign_in_wrong() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "sign_in_wrong", "there is no such user, or that is not their password")
            .next("an admin gives a user a password: `orangery user password`")
    }

    pub(super) fn session_ended() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "session_ended", "the session has ended, or there was none like it")
            .next("sign in again")
    }

    pub(super) fn password_wrong() -> Self {
        Self::new(StatusCode::FORBIDDEN, "password_wrong", "the old password is not the one that you have")
            .next("if it is forgotten, an admin sets a new one: `orangery user password`")
    }

    pub(super) fn csrf_wrong(header: &axum::http::HeaderName) -> Self {
        let message = format!("the request came with a session but without the {header} that belongs to it");
        Self::new(StatusCode::FORBIDDEN, "csrf_wrong", message).next("GET /v1/session says what the header must hold")
    }

    pub(super) fn wrong_token() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "token_wrong", "the token is nobody's here, or it was revoked")
            .next("use the one that `orangery init` wrote to operator.token for this very coordinator, or ask an admin for one: `orangery user token`")
    }

    pub(super) fn token_ended(expired_at: UnixTime) -> Self {
        let message = format!("the token has expired at {}", orangery_trust::time::format(expired_at));
        Self::new(StatusCode::UNAUTHORIZED, "token_ended", message).next("ask an admin for one: `orangery user token`")
    }

    pub(super) fn too_many_failures(message: &'static str) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_failures", message).next("wait a minute")
    }

    pub(super) fn role_needed(user: &User, least: Role) -> Self {
        let message = format!("this is for the role {least}, and {} has the role {}", user.name, user.role);
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
            .next("an admin can do it, or give that role: `orangery user role`")
    }

    pub(super) fn expired() -> Self {
        Self::new(StatusCode::FORBIDDEN, "certificate_expired", "the node's certificate has expired")
            .next("renew it with POST /v1/renew; the agent does so by itself")
    }

    pub(super) fn forbidden(message: &'static str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    pub(super) fn revoked(node: &NodeId) -> Self {
        Self::new(StatusCode::FORBIDDEN, "revoked", format!("the node {node} was revoked"))
            .next("invite the board again, by another name")
    }

    pub(super) fn not_found(what: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("there is no {what}"))
    }

    pub(super) fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, message)
    }

    /// Something inside failed: the log says what, the answer does not.
    pub(super) fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(reason = %chain(error), "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the coordinator failed to do it; its log says why")
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body =
            ErrorBody { code: self.code.into_owned(), message: self.message, next: self.next.map(Cow::into_owned) };
        let mut response = (self.status, Json(body)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        let status = match &refused {
            Refused::UnknownNode { .. }
            | Refused::UnknownApp { .. }
            | Refused::UnknownVersion { .. }
            | Refused::UnknownRollout { .. }
            | Refused::UnknownGroup { .. }
            | Refused::UnknownUser { .. }
            | Refused::UnknownToken { .. } => StatusCode::NOT_FOUND,
            Refused::PlanChanged
            | Refused::RolloutNotNow { .. }
            | Refused::NameTaken { .. }
            | Refused::NameRevoked { .. }
            | Refused::VersionTaken { .. }
            | Refused::UserTaken { .. }
            | Refused::OwnerFixed
            | Refused::OldPasswordNeeded
            | Refused::PasswordChanged => StatusCode::CONFLICT,
            Refused::TokenUnknown | Refused::TokenUsed | Refused::TokenExpired { .. } | Refused::Revoked { .. } => {
                StatusCode::FORBIDDEN
            }
            Refused::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self {
            status,
            code: refused.code().into(),
            message: refused.to_string(),
            next: refused.next().map(Cow::Borrowed),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::internal(&error)
    }
}

impl From<InvalidManifest> for ApiError {
    fn from(error: InvalidManifest) -> Self {
        Self::invalid("invalid_manifest", error.to_string()).next("correct it and build the release again")
    }
}

impl From<ArtifactError> for ApiError {
    fn from(error: ArtifactError) -> Self {
        let (status, code) = match &error {
            ArtifactError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "blob_too_large"),
            ArtifactError::WrongDigest { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "blob_wrong_digest"),
            ArtifactError::Interrupted { .. } => (StatusCode::BAD_REQUEST, "upload_interrupted"),
            ArtifactError::NoSpace => (StatusCode::INSUFFICIENT_STORAGE, "no_space"),
            ArtifactError::Open { .. } | ArtifactError::Write { .. } | ArtifactError::Read { .. } => {
                return Self::internal(&error);
            }
        };
        Self::new(status, code, error.to_string())
    }
}

impl ApiError {
    /// What keeps a release from being deployed although it was published.
    pub(super) fn standing(app: &AppName, version: &Version, standing: Standing) -> Option<Self> {
        match standing {
            Standing::Good => None,
            Standing::Revoked => {
                let message = format!("{app} {version} was revoked by the owner, and no node would install it");
                Some(Self::invalid("release_revoked", message).next("deploy another version: `orangery release list`"))
            }
            Standing::BelowFloor(floor) => {
                let message =
                    format!("{app} {version} is below the owner's floor {floor}, and no node would install it");
                Some(Self::invalid("below_floor", message).next("deploy that version or a newer one"))
            }
        }
    }
}

impl From<RepositoryError> for ApiError {
    fn from(error: RepositoryError) -> Self {
        match &error {
            RepositoryError::Refused(refusal) => {
                Self::invalid(refusal_code(refusal), chain(&error)).next(refusal_next(refusal))
            }
            RepositoryError::RootRefused(refusal) => Self::invalid(root_code(refusal), chain(&error))
                .next("`orangery keys status` says what is staged and who must sign it"),
            RepositoryError::TargetsNeeded => Self::invalid("targets_unsigned", error.to_string())
                .next("`orangery keys publish` signs them and sends both"),
            RepositoryError::KeyNotTrusted { .. } => Self::invalid("root_other_coordinator", error.to_string()),
            RepositoryError::NotLeft { .. } => Self::invalid("not_delegated", error.to_string())
                .next("`orangery keys status` says who signs which app"),
            RepositoryError::NoManifest { .. } => Self::invalid("release_missing", error.to_string()),
            RepositoryError::WrongManifest { .. } => Self::invalid("wrong_manifest", error.to_string())
                .next("sign the release that is published: `orangery release sign`"),
            RepositoryError::Write { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "no_space", "the coordinator's disk is full")
            }
            _ => Self::internal(&error),
        }
    }
}

fn root_code(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Unsigned { .. } => "root_unsigned",
        Refusal::Rollback { .. } | Refusal::WrongVersion { .. } => "root_old",
        Refusal::Expired { .. } => "root_expired",
        Refusal::SignedAhead { .. } => "root_ahead",
        _ => "root_unreadable",
    }
}

fn refusal_code(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Delegated { refusal, .. } => refusal_code(refusal),
        Refusal::Unsigned { .. } => "targets_unsigned",
        Refusal::Rollback { .. } | Refusal::WrongVersion { .. } => "targets_old",
        Refusal::Expired { .. } => "targets_expired",
        Refusal::SignedAhead { .. } => "targets_ahead",
        Refusal::UnknownTarget { .. } | Refusal::NotARelease { .. } => "release_unsigned",
        _ => "targets_unreadable",
    }
}

fn refusal_next(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Delegated { refusal, .. } => refusal_next(refusal),
        Refusal::Unsigned { .. } => "sign with the owner's keys that this coordinator's trust root names",
        Refusal::Rollback { .. } | Refusal::WrongVersion { .. } => {
            "somebody published in between: sign the release again on top of the coordinator's newest targets"
        }
        Refusal::SignedAhead { .. } => "set the clock that is wrong, and sign again",
        _ => "sign the release again: `orangery release sign`",
    }
}
