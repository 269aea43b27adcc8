//! Who may ask for what. Nothing is allowed that a route does not name: a route has exactly one audience, and
//! `guard` stands before every one of them.

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts as RequestParts;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use orangery_wire::NodeId;
use orangery_wire::rest::Role;

use super::Shared;
use super::error::ApiError;
use crate::engine::{Actor, Shown, User};
use crate::https::Caller;
use crate::sha256;

/// Who a route is for. A user of a higher role may do whatever one of a lower role may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Every user.
    Viewer,
    /// Users who may change what nodes run.
    Operator,
    /// Users who may say who belongs to the fleet.
    Admin,
    /// Every user, and whoever has the token for metrics.
    ViewerOrScraper,
    /// A node, by its certificate; an expired one too. For renewal alone.
    NodeEvenExpired,
    /// A node, by its certificate, or every user.
    NodeOrViewer,
    /// A node, by its certificate, or users who may change what nodes run.
    NodeOrOperator,
    /// Everyone. What such a route tells is public, or it checks a secret of its own.
    Anyone,
}

/// Who asks. A route finds it in the request's extensions; what it needs for the record is an [`Actor`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Somebody with a user's token.
    User(User),
    /// Somebody with the token for metrics.
    Scraper,
    /// A node with a certificate that is not revoked.
    Node {
        /// The node.
        node: NodeId,
        /// Whether the certificate is expired.
        expired: bool,
    },
    /// Somebody.
    Stranger,
}

impl Audience {
    /// The least role of a user that is let in; `None`: no role is enough, or none is needed.
    pub fn least_role(self) -> Option<Role> {
        match self {
            Self::Viewer | Self::ViewerOrScraper | Self::NodeOrViewer => Some(Role::Viewer),
            Self::Operator | Self::NodeOrOperator => Some(Role::Operator),
            Self::Admin => Some(Role::Admin),
            Self::NodeEvenExpired | Self::Anyone => None,
        }
    }

    /// Lets somebody in, or says why not.
    fn admit(self, identity: &Identity) -> Result<(), ApiError> {
        match (self, identity) {
            (Self::Anyone, _)
            | (Self::ViewerOrScraper, Identity::Scraper)
            | (Self::NodeOrViewer | Self::NodeOrOperator, Identity::Node { expired: false, .. })
            | (Self::NodeEvenExpired, Identity::Node { .. }) => Ok(()),
            (Self::NodeOrViewer | Self::NodeOrOperator, Identity::Node { expired: true, .. }) => {
                Err(ApiError::expired())
            }
            (_, Identity::Stranger) => Err(ApiError::unauthenticated()),
            (_, Identity::Node { .. }) => Err(ApiError::forbidden("this is for users, not for nodes")),
            (_, Identity::Scraper) => Err(ApiError::forbidden("this token is for GET /metrics alone")),
            (_, Identity::User(user)) => match self.least_role() {
                Some(least) if user.role >= least => Ok(()),
                Some(least) => Err(ApiError::role_needed(user, least)),
                None => Err(ApiError::forbidden("this is for nodes, by their certificate")),
            },
        }
    }
}

/// Finds out who asks, and lets them through to the route or not. The route finds the [`Identity`] in the request.
pub(super) async fn guard(
    State((shared, audience)): State<(Shared, Audience)>,
    mut request: Request,
    next: Next,
) -> Response {
    let identity = identify(&shared, &request);
    let (method, route) = (request.method().clone(), request.extensions().get::<MatchedPath>().cloned());
    let response = match identity.and_then(|identity| audience.admit(&identity).map(|()| identity)) {
        Ok(identity) => {
            request.extensions_mut().insert(identity);
            next.run(request).await
        }
        Err(error) => {
            tracing::debug!(path = request.uri().path(), code = error.code(), "request denied");
            error.into_response()
        }
    };
    let route = route.as_ref().map_or("", MatchedPath::as_str);
    shared.metrics.count_request(method.as_str(), route, response.status().as_u16());
    response
}

/// A token counts before a certificate: who shows one wants to be a user. One that is wrong is an error even where
/// everyone may come in.
fn identify(shared: &Shared, request: &Request) -> Result<Identity, ApiError> {
    let caller = request.extensions().get::<Caller>();
    if let Some(value) = request.headers().get(AUTHORIZATION) {
        let (scheme, token) = value.to_str().unwrap_or_default().split_once(' ').unwrap_or_default();
        let token = if scheme.eq_ignore_ascii_case("bearer") { token.trim() } else { "" };
        return of_token(shared, token).map_err(|error| slowed_down(shared, caller, error));
    }
    let Some(certificate) = caller.and_then(|caller| caller.certificate.as_deref()) else {
        return Ok(Identity::Stranger);
    };
    // The coordinator's own certificate is for its link and opens nothing here.
    let Some(node) = certificate.node() else { return Ok(Identity::Stranger) };
    if shared.engine.live().is_revoked(&node) {
        return Err(ApiError::revoked(&node));
    }
    let expired = certificate.not_after <= (shared.clock)();
    Ok(Identity::Node { node, expired })
}

/// Hashes are compared: how long that takes tells nothing about a token.
fn of_token(shared: &Shared, token: &str) -> Result<Identity, ApiError> {
    let digest = sha256::digest(token.as_bytes());
    if shared.metrics_token == Some(digest) {
        return Ok(Identity::Scraper);
    }
    match shared.engine.live().users().shown(&digest, (shared.clock)()) {
        Shown::Of(user) => Ok(Identity::User(user)),
        Shown::Expired(expired_at) => Err(ApiError::token_ended(expired_at)),
        Shown::Unknown => Err(ApiError::wrong_token()),
    }
}

/// Whoever shows too many wrong tokens is told nothing more about them. A right one opens all the same: it cannot be guessed,
/// and others behind the same address must not be locked out.
fn slowed_down(shared: &Shared, caller: Option<&Caller>, error: ApiError) -> ApiError {
    let Some(Caller { address, .. }) = caller else { return error };
    let now = (shared.clock)();
    if shared.wrong_tokens.are_too_many(*address, now) {
        return ApiError::too_many_failures("too many wrong tokens came from this address");
    }
    if shared.wrong_tokens.note(*address, now) {
        tracing::warn!(%address, "too many wrong tokens; further ones are not looked at for a minute");
    }
    error
}

/// What is recorded of a deed: who asks, by which token, from where.
impl<S: Sync> FromRequestParts<S> for Actor {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut RequestParts, _: &S) -> Result<Self, ApiError> {
        let from = parts.extensions.get::<Caller>().map(|caller| caller.address);
        let (who, token) = match parts.extensions.get::<Identity>() {
            Some(Identity::User(user)) => (user.name.to_string(), Some(user.token.clone())),
            Some(Identity::Node { node, .. }) => (format!("node:{node}"), None),
            Some(Identity::Scraper) => ("scraper".to_owned(), None),
            Some(Identity::Stranger) => ("stranger".to_owned(), None),
            // Every route is behind the guard.
            None => return Err(ApiError::unauthenticated()),
        };
        Ok(Self { who, token, from })
    }
}
