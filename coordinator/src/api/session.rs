//! Signing in and out, as browsers do.

use axum::extract::{Path, State};
use axum::http::header::{HeaderMap, SET_COOKIE};
use axum::http::{HeaderValue, StatusCode};
use axum::{Extension, Json};
use orangery_wire::UserName;
use orangery_wire::rest::{ErrorBody, OwnPasswordRequest, PasswordRequest, SessionView, SignInRequest, SignedInView};

use super::Shared;
use super::audience::Identity;
use super::body::Body;
use super::cookie::{self, Secret};
use super::error::ApiError;
use super::join::new_secret;
use super::passwords::{self, Verdict};
use super::releases::named;
use super::unheard;
use crate::engine::{Actor, Credential, Refused, User, UserDeed, session_end};
use crate::https::Caller;
use crate::store::session_id;

/// A session in a browser, by its cookie.
type WithCookie<T> = ([(axum::http::HeaderName, HeaderValue); 1], T);

/// Signs somebody in. The session is in the answer's cookie, and nowhere else; a session that came with the request ends.
#[utoipa::path(post, path = "/v1/session", tag = "session", request_body = SignInRequest,
    responses(
        (status = 200, body = SessionView, headers(("set-cookie" = String, description = "__Host-orangery-session"))),
        (status = "default", body = ErrorBody)))]
pub(super) async fn sign_in(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Body(request): Body<SignInRequest>,
) -> Result<WithCookie<Json<SessionView>>, ApiError> {
    shared.entrance.origins.check_sign_in(&headers)?;
    let address = caller.address.to_canonical();
    let checked = passwords::check(&shared, &request.user, request.password, Some(address)).await;
    let (user, verified) = match checked {
        Ok(Verdict::Right(user, verified)) => (user, verified),
        Ok(Verdict::Wrong) => return Err(refused(&shared, &request.user, address, ApiError::sign_in_wrong()).await),
        Err(error) => return Err(refused(&shared, &request.user, address, error).await),
    };
    if let Some(Ok(before)) = Secret::of(&headers) {
        end(&shared, &before, address).await?;
    }
    let secret = Secret::new(new_secret()?);
    let digest = secret.digest();
    let actor = Actor { who: user.to_string(), token: Some(session_id(&digest)), from: Some(address) };
    let deed = UserDeed::SignIn { user: user.clone(), digest, verified, address: Some(address) };
    let expires_at = shared.engine.by(actor).user(deed).await?;
    let role = shared.engine.live().users().sessions().open(&digest, (shared.clock)()).map(|(user, _)| user.role);
    // It may have been ended in this very moment.
    let role = role.ok_or_else(ApiError::session_ended)?;
    let view = SessionView { user, role, csrf: Some(secret.csrf()), expires_at };
    Ok(([(SET_COOKIE, secret.set())], Json(view)))
}

/// Writes down, now and then, that somebody was not let in.
async fn refused(shared: &Shared, user: &str, address: std::net::IpAddr, error: ApiError) -> ApiError {
    unheard::sign_in(shared, user, address, error.code()).await;
    error
}

/// Ends the session that a browser still had. If it is none there is nothing to end.
async fn end(shared: &Shared, secret: &Secret, from: std::net::IpAddr) -> Result<(), ApiError> {
    let digest = secret.digest();
    let user = shared.engine.live().users().sessions().open(&digest, (shared.clock)()).map(|(user, _)| user.clone());
    if let Some(user) = user {
        let actor = Actor { who: user.name.to_string(), token: Some(session_id(&digest)), from: Some(from) };
        shared.engine.by(actor).user(UserDeed::SignOut(digest)).await?;
    }
    Ok(())
}

/// Says who is signed in.
#[utoipa::path(get, path = "/v1/session", tag = "session", security(("operator" = [])),
    responses((status = 200, body = SessionView), (status = "default", body = ErrorBody)))]
pub(super) async fn show(
    State(shared): State<Shared>,
    Extension(identity): Extension<Identity>,
    headers: HeaderMap,
) -> Result<Json<SessionView>, ApiError> {
    let User { name, role, credential } = user_of(identity)?;
    let users = shared.engine.live().users();
    let (csrf, expires_at) = match (credential, Secret::of(&headers)) {
        (Credential::Session(digest), Some(Ok(secret))) => {
            let end = users.sessions().open(&digest, (shared.clock)()).map(|(_, end)| end);
            (Some(secret.csrf()), end)
        }
        (Credential::Token(digest), _) => (None, users.token_end(&digest)),
        (Credential::Session(_), _) => return Err(ApiError::session_ended()),
    };
    Ok(Json(SessionView { user: name, role, csrf, expires_at }))
}

/// Signs out: the session that the request came with ends.
#[utoipa::path(delete, path = "/v1/session", tag = "session", security(("operator" = [])),
    params(("x-orangery-csrf" = Option<String>, Header, description = "What the session's answer said")),
    responses((status = 204, description = "It opens nothing any more"), (status = "default", body = ErrorBody)))]
pub(super) async fn sign_out(
    State(shared): State<Shared>,
    actor: Actor,
    Extension(identity): Extension<Identity>,
) -> Result<WithCookie<StatusCode>, ApiError> {
    let Credential::Session(digest) = user_of(identity)?.credential else {
        let message = "the request came with a token, which is no session";
        return Err(
            ApiError::new(StatusCode::CONFLICT, "no_session", message).next("`orangery user revoke` ends a token")
        );
    };
    shared.engine.by(actor).user(UserDeed::SignOut(digest)).await?;
    Ok(([(SET_COOKIE, cookie::unset())], StatusCode::NO_CONTENT))
}

/// Changes one's own password. All sessions of the user end, the one that the request came with too.
#[utoipa::path(post, path = "/v1/session/password", tag = "session", security(("operator" = [])),
    request_body = OwnPasswordRequest,
    responses((status = 204, description = "From now on it is the new one"), (status = "default", body = ErrorBody)))]
pub(super) async fn own_password(
    State(shared): State<Shared>,
    actor: Actor,
    Extension(identity): Extension<Identity>,
    Body(request): Body<OwnPasswordRequest>,
) -> Result<WithCookie<StatusCode>, ApiError> {
    let user = user_of(identity)?.name;
    let checked = passwords::check(&shared, user.as_str(), request.old, actor.from).await?;
    let Verdict::Right(user, old) = checked else { return Err(ApiError::password_wrong()) };
    set(&shared, actor, user, Some(old), request.password).await?;
    Ok(([(SET_COOKIE, cookie::unset())], StatusCode::NO_CONTENT))
}

/// Gives a user a password, or another one; all their sessions end. Not the owner's, and not one's own if there is one already.
#[utoipa::path(post, path = "/v1/users/{user}/password", tag = "users", security(("operator" = [])),
    params(("user" = orangery_wire::UserName, Path, description = "Their name")), request_body = PasswordRequest,
    responses((status = 204, description = "They can sign in with it"), (status = "default", body = ErrorBody)))]
pub(super) async fn password(
    State(shared): State<Shared>,
    actor: Actor,
    Path(user): Path<String>,
    Body(request): Body<PasswordRequest>,
) -> Result<StatusCode, ApiError> {
    set(&shared, actor, named(&user)?, None, request.password).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn set(
    shared: &Shared,
    actor: Actor,
    user: UserName,
    old: Option<crate::password::PasswordHash>,
    password: String,
) -> Result<(), ApiError> {
    let hash = passwords::choose(shared, &user, password).await?;
    shared.engine.by(actor).user(UserDeed::SetPassword { user, hash, old }).await?;
    Ok(())
}

/// Lists where a user is signed in, the oldest session first.
#[utoipa::path(get, path = "/v1/users/{user}/sessions", tag = "users", security(("operator" = [])),
    params(("user" = orangery_wire::UserName, Path, description = "Their name")),
    responses((status = 200, body = Vec<SignedInView>), (status = "default", body = ErrorBody)))]
pub(super) async fn list(
    State(shared): State<Shared>,
    Path(user): Path<String>,
) -> Result<Json<Vec<SignedInView>>, ApiError> {
    let user: UserName = named(&user)?;
    let asked = user.clone();
    let rows = shared.read(move |_, view| Ok((view.user(&asked)?, view.sessions()?))).await?;
    let (Some(_), rows) = rows else { return Err(Refused::UnknownUser { user, meant: None }.into()) };
    let (now, users) = ((shared.clock)(), shared.engine.live().users());
    let open = rows.into_iter().filter(|row| row.user == user).map(|row| {
        let used_at = users.sessions().used_at(&row.digest).unwrap_or(0).max(row.used_at);
        let from = row.address.map(|address| address.to_string());
        let expires_at = session_end(row.created_at, used_at);
        SignedInView { id: row.id(), created_at: row.created_at, used_at, expires_at, from }
    });
    Ok(Json(open.filter(|session| now < session.expires_at).collect()))
}

/// Ends all sessions of a user.
#[utoipa::path(post, path = "/v1/users/{user}/sessions/end", tag = "users",
    security(("operator" = [])), params(("user" = orangery_wire::UserName, Path, description = "Their name")),
    responses((status = 204, description = "They have to sign in again"), (status = "default", body = ErrorBody)))]
pub(super) async fn end_all(
    State(shared): State<Shared>,
    actor: Actor,
    Path(user): Path<String>,
) -> Result<StatusCode, ApiError> {
    shared.engine.by(actor).user(UserDeed::EndSessions(named(&user)?)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// These routes are for users alone.
fn user_of(identity: Identity) -> Result<User, ApiError> {
    match identity {
        Identity::User(user) => Ok(user),
        Identity::Scraper | Identity::Node { .. } | Identity::Stranger => Err(ApiError::unauthenticated()),
    }
}
