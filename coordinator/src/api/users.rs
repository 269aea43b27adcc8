//! Users and their tokens.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use orangery_wire::UserName;
use orangery_wire::rest::{ErrorBody, NewToken, RoleRequest, TokenRequest, TokenView, UserRequest, UserView};

use super::Shared;
use super::body::Body;
use super::error::ApiError;
use super::join::new_secret;
use super::releases::named;
use crate::engine::{Actor, Refused, UserDeed};
use crate::sha256;
use crate::store::token_id;

/// How every token begins, so that one that lies around can be told from other random texts.
const TOKEN_PREFIX: &str = "orangery_";

/// All users, by name, with their tokens.
#[utoipa::path(get, path = "/v1/users", tag = "users", security(("operator" = [])),
    responses((status = 200, body = Vec<UserView>), (status = "default", body = ErrorBody)))]
pub(super) async fn list(State(shared): State<Shared>) -> Result<Json<Vec<UserView>>, ApiError> {
    all(&shared).await.map(Json)
}

/// Adds a user, who has no token yet.
#[utoipa::path(post, path = "/v1/users", tag = "users", security(("operator" = [])), request_body = UserRequest,
    responses((status = 200, body = UserView), (status = "default", body = ErrorBody)))]
pub(super) async fn add(
    State(shared): State<Shared>,
    actor: Actor,
    Body(request): Body<UserRequest>,
) -> Result<Json<UserView>, ApiError> {
    let name = request.name.clone();
    shared.engine.by(actor).user(UserDeed::Add(request)).await?;
    one(&shared, name).await
}

/// Removes a user; all their tokens end now.
#[utoipa::path(post, path = "/v1/users/{user}/remove", tag = "users", security(("operator" = [])),
    params(("user" = orangery_wire::UserName, Path, description = "Their name")),
    responses((status = 204, description = "They are removed"), (status = "default", body = ErrorBody)))]
pub(super) async fn remove(
    State(shared): State<Shared>,
    actor: Actor,
    Path(user): Path<String>,
) -> Result<StatusCode, ApiError> {
    shared.engine.by(actor).user(UserDeed::Remove(named(&user)?)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Says what a user may do from now on.
#[utoipa::path(post, path = "/v1/users/{user}/role", tag = "users", security(("operator" = [])),
    params(("user" = orangery_wire::UserName, Path, description = "Their name")), request_body = RoleRequest,
    responses((status = 200, body = UserView), (status = "default", body = ErrorBody)))]
pub(super) async fn role(
    State(shared): State<Shared>,
    actor: Actor,
    Path(user): Path<String>,
    Body(request): Body<RoleRequest>,
) -> Result<Json<UserView>, ApiError> {
    let name: UserName = named(&user)?;
    shared.engine.by(actor).user(UserDeed::SetRole(name.clone(), request.role)).await?;
    one(&shared, name).await
}

/// Makes a token for a user. It is in the answer and nowhere else.
#[utoipa::path(post, path = "/v1/users/{user}/tokens", tag = "users", security(("operator" = [])),
    params(("user" = orangery_wire::UserName, Path, description = "Their name")), request_body = TokenRequest,
    responses((status = 200, body = NewToken), (status = "default", body = ErrorBody)))]
pub(super) async fn token(
    State(shared): State<Shared>,
    actor: Actor,
    Path(user): Path<String>,
    Body(request): Body<TokenRequest>,
) -> Result<Json<NewToken>, ApiError> {
    let user: UserName = named(&user)?;
    let token = format!("{TOKEN_PREFIX}{}", new_secret()?);
    let digest = sha256::digest(token.as_bytes());
    let deed = UserDeed::AddToken { user: user.clone(), digest, expires_secs: request.expires_secs };
    let expires_at = shared.engine.by(actor).user(deed).await?;
    Ok(Json(NewToken { token, id: token_id(&digest), user, expires_at }))
}

/// Ends a token for good.
#[utoipa::path(post, path = "/v1/tokens/{token}/revoke", tag = "users", security(("operator" = [])),
    params(("token" = String, Path, description = "Its id")),
    responses((status = 204, description = "It opens nothing any more"), (status = "default", body = ErrorBody)))]
pub(super) async fn revoke(
    State(shared): State<Shared>,
    actor: Actor,
    Path(token): Path<String>,
) -> Result<StatusCode, ApiError> {
    shared.engine.by(actor).user(UserDeed::RevokeToken(token)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn all(shared: &Shared) -> Result<Vec<UserView>, ApiError> {
    let read = shared.read(|parts, view| {
        let (users, tokens) = (view.users()?, view.tokens()?);
        let known = parts.engine.live().users();
        let of = |name: &UserName| {
            let own = tokens.iter().filter(|token| token.user == *name).map(|token| TokenView {
                id: token.id(),
                created_at: token.created_at,
                expires_at: token.expires_at,
                used_at: known.used_at(&token.digest).max(token.used_at),
            });
            own.collect()
        };
        let user_view = |user: crate::store::UserRow| {
            let tokens = of(&user.name);
            UserView {
                name: user.name,
                role: user.role,
                created_at: user.created_at,
                password_at: user.password_at,
                tokens,
            }
        };
        Ok(users.into_iter().map(user_view).collect())
    });
    read.await
}

async fn one(shared: &Shared, name: UserName) -> Result<Json<UserView>, ApiError> {
    let found = all(shared).await?.into_iter().find(|user| user.name == name);
    found.map(Json).ok_or_else(|| Refused::UnknownUser { user: name, meant: None }.into())
}
