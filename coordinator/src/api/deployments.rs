//! Which node should run which release.

use axum::Json;
use axum::extract::State;
use orangery_wire::rest::{DeployRequest, ErrorBody, Plan};
use orangery_wire::{AppName, Version};

use super::Shared;
use super::body::Body;
use super::error::ApiError;
use crate::engine::{Actor, Survey};

/// Says what a deployment would change. Changes nothing.
#[utoipa::path(post, path = "/v1/deployments/plan", tag = "deployments", security(("operator" = [])),
    request_body = DeployRequest,
    responses((status = 200, body = Plan), (status = "default", body = ErrorBody)))]
pub(super) async fn plan(
    State(shared): State<Shared>,
    Body(request): Body<DeployRequest>,
) -> Result<Json<Plan>, ApiError> {
    check_standing(&shared, &request.app, request.version.as_ref()).await?;
    let plan = shared.read(move |parts, view| {
        let survey = Survey::read(view, &request.app)?;
        Ok(survey.plan(&request, parts.engine.live()))
    });
    Ok(Json(plan.await??))
}

/// Deploys. With a plan's mark, only if it would still change the same; otherwise `plan_changed`.
#[utoipa::path(post, path = "/v1/deployments", tag = "deployments", security(("operator" = [])),
    request_body = DeployRequest,
    responses((status = 200, body = Plan), (status = "default", body = ErrorBody)))]
pub(super) async fn apply(
    State(shared): State<Shared>,
    actor: Actor,
    Body(request): Body<DeployRequest>,
) -> Result<Json<Plan>, ApiError> {
    check_standing(&shared, &request.app, request.version.as_ref()).await?;
    Ok(Json(shared.engine.by(actor).deploy(request).await?))
}

/// The owner may have taken the release back since it was published. Nodes see to that themselves; nobody need wait for
/// them to say so.
pub(super) async fn check_standing(shared: &Shared, app: &AppName, version: Option<&Version>) -> Result<(), ApiError> {
    let Some(version) = version.cloned() else { return Ok(()) };
    let (of, asked) = (app.clone(), version.clone());
    let standing = shared.blocking(move |parts| Ok::<_, ApiError>(parts.repository.standing(&of, &asked))).await?;
    ApiError::standing(app, &version, standing).map_or(Ok(()), Err)
}
