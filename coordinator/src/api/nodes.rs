//! The fleet: who is there, what each does, and why.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use orangery_wire::NodeId;
use orangery_wire::rest::{ErrorBody, NodeView, Status, Why};

use super::Shared;
use super::error::ApiError;
use super::pages::Page;
use crate::engine::{self, Actor, Facts, Refused, unknown_node};
use crate::store::{StoreError, View};

/// Whether the coordinator answers.
#[utoipa::path(get, path = "/healthz", tag = "coordinator", responses((status = 200, description = "It does", body = str)))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// The fleet at a glance.
#[utoipa::path(get, path = "/v1/status", tag = "nodes", security(("operator" = [])),
    responses((status = 200, body = Status), (status = "default", body = ErrorBody)))]
pub(super) async fn status(State(shared): State<Shared>) -> Result<Json<Status>, ApiError> {
    let nodes = all(&shared).await?;
    let broker_connected = shared.engine.live().broker_connected();
    Ok(Json(Status { version: env!("CARGO_PKG_VERSION").to_owned(), broker_connected, nodes }))
}

/// All nodes, by name; or a page of them.
#[utoipa::path(get, path = "/v1/nodes", tag = "nodes", security(("operator" = [])),
    params(
        ("limit" = Option<u64>, Query, minimum = 1, maximum = 4_294_967_295_u64, description = "At most this many, 1000 at the most; otherwise all"),
        ("after" = Option<orangery_wire::NodeId>, Query, description = "Only those whose name comes after this one")),
    responses((status = 200, body = Vec<NodeView>, headers(("link" = String, description = "the next page, if there is one: rel=next (RFC 8288)"))),
        (status = "default", body = ErrorBody)))]
pub(super) async fn list(
    State(shared): State<Shared>,
    query: Result<Query<Page>, QueryRejection>,
) -> Result<Response, ApiError> {
    let page = Page::read(query)?;
    let (after, limit) = (page.after()?, page.limit());
    let nodes = some(&shared, after, limit.map(|limit| limit + 1)).await?;
    Ok(page.answer("/v1/nodes", nodes, |node| node.node.to_string()))
}

/// One node.
#[utoipa::path(get, path = "/v1/nodes/{node}", tag = "nodes", security(("operator" = [])),
    params(("node" = orangery_wire::NodeId, Path, description = "Its name")),
    responses((status = 200, body = NodeView), (status = "default", body = ErrorBody)))]
pub(super) async fn show(State(shared): State<Shared>, Path(node): Path<String>) -> Result<Json<NodeView>, ApiError> {
    let found = shared.read(move |parts, view| one(parts, view, &node)).await?;
    Ok(Json(found?))
}

/// Why each app of a node is where it is.
#[utoipa::path(get, path = "/v1/nodes/{node}/why", tag = "nodes", security(("operator" = [])),
    params(("node" = orangery_wire::NodeId, Path, description = "Its name")),
    responses((status = 200, body = Why), (status = "default", body = ErrorBody)))]
pub(super) async fn why(State(shared): State<Shared>, Path(node): Path<String>) -> Result<Json<Why>, ApiError> {
    let answer = shared.read(move |parts, view| {
        let node = match one(parts, view, &node)? {
            Ok(node) => node,
            Err(refused) => return Ok(Err(refused)),
        };
        let mut facts = Facts {
            now: (parts.clock)(),
            broker_connected: parts.engine.live().broker_connected(),
            ..Facts::default()
        };
        for report in node.reported.iter().flat_map(|reported| &reported.apps) {
            let last = view.last_event(&node.node, &report.app)?;
            facts.last.extend(last.map(|last| (report.app.clone(), last.event.what)));
            if let Some(refusal) = &report.refusal {
                let evidence = view.evidence(&node.node, &report.app, refusal.release)?;
                facts.evidence.extend(evidence.map(|evidence| (report.app.clone(), evidence)));
            }
        }
        facts.lines = super::rollouts::why(parts, view, &node.node)?;
        Ok(Ok(engine::why(&node, &facts)))
    });
    Ok(Json(answer.await??))
}

/// Revokes a node: its connections end now, and its certificate opens nothing any more. Again: changes nothing.
#[utoipa::path(post, path = "/v1/nodes/{node}/revoke", tag = "nodes", security(("operator" = [])),
    params(("node" = orangery_wire::NodeId, Path, description = "Its name")),
    responses((status = 204, description = "It is revoked"), (status = "default", body = ErrorBody)))]
pub(super) async fn revoke(
    State(shared): State<Shared>,
    actor: Actor,
    Path(node): Path<String>,
) -> Result<StatusCode, ApiError> {
    match node.parse::<NodeId>() {
        Ok(node) => shared.engine.by(actor).revoke(node).await?,
        Err(_) => return Err(Refused::UnknownNode { node, meant: None }.into()),
    }
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn all(shared: &Shared) -> Result<Vec<NodeView>, ApiError> {
    some(shared, None, None).await
}

async fn some(shared: &Shared, after: Option<NodeId>, limit: Option<u32>) -> Result<Vec<NodeView>, ApiError> {
    let read = move |parts: &super::Parts, view: View<'_>| -> Result<Vec<NodeView>, StoreError> {
        let mut holds = view.holds()?;
        let with_holds = |row| {
            let node = parts.engine.live().node_view(view, row)?;
            Ok(NodeView { holds: holds.remove(&node.node).unwrap_or_default(), ..node })
        };
        view.nodes_after(after.as_ref(), limit)?.into_iter().map(with_holds).collect()
    };
    shared.read(read).await
}

pub(super) fn one(parts: &super::Parts, view: View<'_>, node: &str) -> Result<Result<NodeView, Refused>, StoreError> {
    let row = match node.parse::<NodeId>() {
        Ok(node) => view.node(&node)?,
        Err(_) => None,
    };
    match row {
        Some(row) => {
            let node = parts.engine.live().node_view(view, row)?;
            let holds = view.holds()?.remove(&node.node).unwrap_or_default();
            Ok(Ok(NodeView { holds, ..node }))
        }
        None => Ok(Err(unknown_node(node, view.node_names()?.iter()))),
    }
}
