//! Who may ask for what. Nothing is allowed that a route does not name: a route has exactly one audience, and
//! `guard` stands before every one of them.

use std::time::Duration;

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::Method;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts as RequestParts;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use orangery_wire::NodeId;
use orangery_wire::rest::Role;
use tokio::time::sleep;

use super::cookie::{CSRF, Secret};
use super::error::ApiError;
use super::{Shared, once, origin, unheard};
use crate::engine::{Actor, Credential, Shown, User};
use crate::https::Caller;
use crate::sha256;

/// How often it is looked after whether a session or token has ended by itself.
const OVER_LOOK_EACH: Duration = Duration::from_secs(1);

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
    /// A node, by its certificate.
    Node,
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
    /// Somebody with a user's token, or signed in as a user.
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
            Self::Node | Self::NodeEvenExpired | Self::Anyone => None,
        }
    }

    /// Lets somebody in, or says why not.
    fn admit(self, identity: &Identity) -> Result<(), ApiError> {
        match (self, identity) {
            (Self::Anyone, _)
            | (Self::ViewerOrScraper, Identity::Scraper)
            | (Self::Node | Self::NodeOrViewer | Self::NodeOrOperator, Identity::Node { expired: false, .. })
            | (Self::NodeEvenExpired, Identity::Node { .. }) => Ok(()),
            (Self::Node | Self::NodeOrViewer | Self::NodeOrOperator, Identity::Node { expired: true, .. }) => {
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
    let (method, route) = (request.method().clone(), request.extensions().get::<MatchedPath>().cloned());
    let route = route.as_ref().map_or("", MatchedPath::as_str);
    let (identity, admitted) = match identify(&shared, audience, &request) {
        Ok(identity) => {
            let admitted = check_page(&shared, &identity, &request).and_then(|()| audience.admit(&identity));
            (identity, admitted)
        }
        Err(error) => (Identity::Stranger, Err(error)),
    };
    let response = match admitted {
        Ok(()) => {
            let key = once::key(&identity, &request);
            request.extensions_mut().insert(identity);
            match key {
                Ok(None) => next.run(request).await,
                Ok(Some(name)) => once::run(shared.clone(), name, request, next).await,
                Err(error) => error.into_response(),
            }
        }
        Err(error) => {
            tracing::debug!(path = request.uri().path(), code = error.code(), "request denied");
            if let Identity::User(user) = &identity
                && may_change(&method)
                && !route.ends_with("/plan")
            {
                let actor = actor_of(&identity, request.extensions().get::<Caller>());
                unheard::command(&shared, &user.name, actor, &method, request.uri().path(), error.code()).await;
            }
            error.into_response()
        }
    };
    shared.metrics.count_request(method.as_str(), route, response.status().as_u16());
    response
}

fn may_change(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD)
}

/// A browser shows a session by itself, so what it asks for must come from a page of ours. A token is shown by whoever wants to.
fn check_page(shared: &Shared, identity: &Identity, request: &Request) -> Result<(), ApiError> {
    let Identity::User(User { credential: Credential::Session(digest), .. }) = identity else { return Ok(()) };
    let headers = request.headers();
    if may_change(request.method()) {
        let has_csrf = matches!(Secret::of(headers), Some(Ok(secret)) if secret.has_csrf(headers));
        if !has_csrf {
            return Err(ApiError::csrf_wrong(&CSRF));
        }
        shared.entrance.origins.check_change(headers)?;
    } else {
        origin::check_look(headers, request.uri().path())?;
    }
    shared.engine.live().users().sessions().shown(digest, (shared.clock)());
    Ok(())
}

/// Waits until a user is no longer known by what was shown, or has another role: then whatever goes on must end. Nobody else's
/// asking ends by itself.
pub(super) async fn over(shared: Shared, identity: Identity) {
    let Identity::User(user) = identity else { return std::future::pending().await };
    let live = shared.engine.live();
    let mut changed = live.users_changed();
    while live.users().still_has(&user, (shared.clock)()) {
        tokio::select! {
            _ = changed.changed() => {}
            () = sleep(OVER_LOOK_EACH) => {}
        }
    }
}

/// A token counts before a session and that before a certificate: who shows one wants to be a user. A token that is wrong is an
/// error even where everyone may come in; a session is not looked at there, for browsers show it whether it is wanted or not.
fn identify(shared: &Shared, audience: Audience, request: &Request) -> Result<Identity, ApiError> {
    let caller = request.extensions().get::<Caller>();
    if let Some(value) = request.headers().get(AUTHORIZATION) {
        let (scheme, token) = value.to_str().unwrap_or_default().split_once(' ').unwrap_or_default();
        let token = if scheme.eq_ignore_ascii_case("bearer") { token.trim() } else { "" };
        return of_token(shared, token).map_err(|error| slowed_down(shared, caller, error));
    }
    if audience != Audience::Anyone
        && let Some(shown) = Secret::of(request.headers())
    {
        let digest = shown.map_err(|_| ApiError::session_ended())?.digest();
        let users = shared.engine.live().users();
        let open = users.sessions().open(&digest, (shared.clock)());
        return open.map(|(user, _)| Identity::User(user.clone())).ok_or_else(ApiError::session_ended);
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
    if shared.entrance.tokens.are_too_many(*address, now) {
        return ApiError::too_many_failures("too many wrong tokens came from this address");
    }
    if shared.entrance.tokens.note(*address, now) {
        tracing::warn!(%address, "too many wrong tokens; further ones are not looked at for a minute");
    }
    error
}

/// What is recorded of a deed: who asks, by which token or session, from where.
impl<S: Sync> FromRequestParts<S> for Actor {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut RequestParts, _: &S) -> Result<Self, ApiError> {
        // Every route is behind the guard.
        let identity = parts.extensions.get::<Identity>().ok_or_else(ApiError::unauthenticated)?;
        Ok(actor_of(identity, parts.extensions.get::<Caller>()))
    }
}

fn actor_of(identity: &Identity, caller: Option<&Caller>) -> Actor {
    let (who, token) = match identity {
        Identity::User(user) => (user.name.to_string(), Some(user.credential.id())),
        Identity::Node { node, .. } => (format!("node:{node}"), None),
        Identity::Scraper => ("scraper".to_owned(), None),
        Identity::Stranger => ("stranger".to_owned(), None),
    };
    Actor { who, token, from: caller.map(|caller| caller.address) }
}
