//! Groups with maintenance windows.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use orangery_wire::rest::{DeedRequest, ErrorBody, GroupRequest, GroupView};

use super::Shared;
use super::body::Body;
use super::error::ApiError;
use crate::engine::{Actor, Groups};

/// Every group that has maintenance windows, by name.
#[utoipa::path(get, path = "/v1/groups", tag = "groups", security(("operator" = [])),
    responses((status = 200, body = Vec<GroupView>), (status = "default", body = ErrorBody)))]
pub(super) async fn list(State(shared): State<Shared>) -> Result<Json<Vec<GroupView>>, ApiError> {
    let read =
        shared.read(|parts, view| Ok(Groups::read(view, parts.engine.live())?.views(&view.nodes()?, (parts.clock)())));
    Ok(Json(read.await?))
}

/// Says who belongs to a group and when its nodes may be told something new by a rollout. Again: replaces what was there. Refused
/// when a window never opens, when nobody belongs to the group, and when a node of it and of another group would be left
/// without a time at which the windows of both are open.
#[utoipa::path(post, path = "/v1/groups/{group}", tag = "groups", security(("operator" = [])),
    params(("group" = String, Path, description = "Its name")), request_body = GroupRequest,
    responses((status = 200, body = GroupView), (status = "default", body = ErrorBody)))]
pub(super) async fn set(
    State(shared): State<Shared>,
    actor: Actor,
    Path(group): Path<String>,
    Body(request): Body<GroupRequest>,
) -> Result<Json<GroupView>, ApiError> {
    shared.engine.by(actor).set_group(group.clone(), request).await?;
    let Json(all) = list(State(shared)).await?;
    let found = all.into_iter().find(|view| view.group == group);
    // Somebody may have removed it within this moment.
    found.map(Json).ok_or_else(|| ApiError::not_found(format_args!("group {group}")))
}

/// Removes a group: its nodes may be told at any time, as far as no other group says otherwise.
#[utoipa::path(post, path = "/v1/groups/{group}/remove", tag = "groups", security(("operator" = [])),
    params(("group" = String, Path, description = "Its name")), request_body = DeedRequest,
    responses((status = 204, description = "It has no windows any more"), (status = "default", body = ErrorBody)))]
pub(super) async fn remove(
    State(shared): State<Shared>,
    actor: Actor,
    Path(group): Path<String>,
    Body(request): Body<DeedRequest>,
) -> Result<StatusCode, ApiError> {
    shared.engine.by(actor).remove_group(group, request).await?;
    Ok(StatusCode::NO_CONTENT)
}
