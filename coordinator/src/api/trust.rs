//! The owner's trust, as it changes: roots, targets without a new release, the coordinator's own keys.

use axum::Json;
use axum::extract::State;
use orangery_wire::rest::{ErrorBody, OnlineKeysView, TrustRequest, TrustView};

use super::Shared;
use super::body::{Body, PUBLICATION_BYTES_MAX};
use super::error::ApiError;
use crate::engine::{Actor, Record};

/// Versions and expiry of the metadata that is published.
#[utoipa::path(get, path = "/v1/trust", tag = "trust", security(("operator" = [])),
    responses((status = 200, body = TrustView), (status = "default", body = ErrorBody)))]
pub(super) async fn show(State(shared): State<Shared>) -> Result<Json<TrustView>, ApiError> {
    Ok(Json(shared.blocking(|parts| Ok::<_, ApiError>(parts.repository.view())).await?))
}

/// Takes a new root, newer targets, or both. The operator's token opens the door; what counts are the owner's signatures.
#[utoipa::path(post, path = "/v1/trust", tag = "trust", security(("operator" = [])), request_body = TrustRequest,
    responses((status = 200, body = TrustView), (status = "default", body = ErrorBody)))]
pub(super) async fn accept(
    State(shared): State<Shared>,
    actor: Actor,
    Body(request): Body<TrustRequest, PUBLICATION_BYTES_MAX>,
) -> Result<Json<TrustView>, ApiError> {
    let accepted = shared.blocking(move |parts| {
        let (root, targets) = (request.root.as_deref(), request.targets.as_deref());
        parts.repository.accept(root.map(str::as_bytes), targets.map(str::as_bytes), (parts.clock)())
    });
    let view: TrustView = accepted.await?;
    let record = Record::new("trust.accept", format!("root {}", view.root)).with_some("targets", view.targets);
    shared.engine.by(actor).record(record).await?;
    Ok(Json(view))
}

/// Makes the keys that snapshots and timestamps will be signed with once a root names them. Again: the same keys.
#[utoipa::path(post, path = "/v1/trust/online-keys", tag = "trust", security(("operator" = [])),
    responses((status = 200, body = OnlineKeysView), (status = "default", body = ErrorBody)))]
pub(super) async fn online_keys(State(shared): State<Shared>, actor: Actor) -> Result<Json<OnlineKeysView>, ApiError> {
    let (snapshot, timestamp) = shared.blocking(|parts| parts.repository.prepare_online_keys()).await?;
    let view = OnlineKeysView { snapshot: snapshot.to_string(), timestamp: timestamp.to_string() };
    let record = Record::new("trust.online_keys", "the coordinator's own keys");
    let record = record.with("snapshot", snapshot.id()).with("timestamp", timestamp.id());
    shared.engine.by(actor).record(record).await?;
    Ok(Json(view))
}
