//! What an app wrote last, asked of its node while somebody waits (docs/adr/0024).

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use orangery_wire::limits::OUTPUT_LINES_MAX;
use orangery_wire::messages::Show;
use orangery_wire::rest::{ErrorBody, NodeView, OutputRequest, OutputTaken, OutputView};
use orangery_wire::{AppName, NodeId};
use tokio::sync::oneshot;

use super::Shared;
use super::audience::Identity;
use super::body::Body;
use super::error::ApiError;
use super::nodes::one;
use crate::engine::Actor;

/// Largest answer of a node, in bytes: its output, of which each byte may have become six in JSON.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// How long a node is waited for: reading takes it two seconds at most, a slow line the rest.
const PATIENCE: Duration = Duration::from_secs(15);

/// What an app wrote last. Its node is asked now, so it must be connected; the answer takes a second or so, and 15 at most.
#[utoipa::path(get, path = "/v1/nodes/{node}/output/{app}", tag = "nodes", security(("operator" = [])),
    params(("node" = orangery_wire::NodeId, Path, description = "The node's name"),
        ("app" = orangery_wire::AppName, Path, description = "The app")),
    responses((status = 200, body = OutputView), (status = "default", body = ErrorBody)))]
pub(super) async fn show(
    State(shared): State<Shared>,
    actor: Actor,
    Path((node, app)): Path<(String, String)>,
) -> Result<Json<OutputView>, ApiError> {
    let found = shared.read(move |parts, view| one(parts, view, &node)).await??;
    let app = app_on(&found, &app)?;
    let node = found.node;
    if !found.online {
        let message = format!("{node} is not connected, so it cannot be asked what {app} wrote");
        let next = format!("`orangery history {node}` has what was seen of releases that it refused");
        return Err(ApiError::new(StatusCode::CONFLICT, "node_offline", message).next(next));
    }
    let engine = shared.engine.by(actor);
    let Some(waiting) = engine.live().asked().ask(&node, app.clone(), (shared.clock)()) else {
        let message = "so many wait for an output already, of this node or of all";
        return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_waiting", message).next("ask again later"));
    };
    engine.ask_for_output(node.clone(), Some(app.clone())).await?;
    let lines = answered(&shared, &node, waiting).await?.ok_or_else(|| {
        let message = format!("{node} did not say within {} s what {app} wrote", PATIENCE.as_secs());
        let next = format!("its agent may be older than this question, or not reach {}; its log says why", shared.url);
        ApiError::new(StatusCode::GATEWAY_TIMEOUT, "node_silent", message).next(next)
    })?;
    Ok(Json(OutputView { app, lines }))
}

/// Waits for the answer, for as long as it may take, and then has the node asked no longer.
async fn answered(
    shared: &Shared,
    node: &NodeId,
    waiting: oneshot::Receiver<Vec<String>>,
) -> Result<Option<Vec<String>>, ApiError> {
    let (engine, node) = (shared.engine.clone(), node.clone());
    // What is desired is retained: a node that connects later must not be asked what nobody wants to know any more. On a task of
    // its own, for a request ends with its connection.
    let waited = tokio::spawn(async move {
        let answer = tokio::time::timeout(PATIENCE, waiting).await;
        engine.ask_for_output(node, None).await.map(|()| answer.ok().and_then(Result::ok))
    });
    Ok(waited.await.map_err(|error| ApiError::internal(&error))??)
}

/// The app, if the node has told of it.
fn app_on(node: &NodeView, name: &str) -> Result<AppName, ApiError> {
    let apps = || node.reported.iter().flat_map(|reported| &reported.apps).map(|report| &report.app);
    apps().find(|app| app.as_str() == name).cloned().ok_or_else(|| {
        let known = apps().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let known = if known.is_empty() { "it has none".to_owned() } else { format!("it has {known}") };
        ApiError::not_found(format_args!("app {name:?} on {}", node.node)).next(known)
    })
}

/// A node says what an app wrote last. Nobody but who waits for it learns it, and nothing is kept.
#[utoipa::path(post, path = "/v1/output", tag = "nodes", security(("node" = [])), request_body = OutputRequest,
    responses((status = 200, body = OutputTaken), (status = "default", body = ErrorBody)))]
pub(super) async fn answer(
    State(shared): State<Shared>,
    Extension(identity): Extension<Identity>,
    Body(answer): Body<OutputRequest, ANSWER_BYTES_MAX>,
) -> Result<Json<OutputTaken>, ApiError> {
    let Identity::Node { node, .. } = identity else { return Err(ApiError::unauthenticated()) };
    Ok(Json(OutputTaken { taken: taken(&shared, &node, answer) }))
}

fn taken(shared: &Shared, node: &NodeId, answer: OutputRequest) -> bool {
    let OutputRequest { app, request, lines } = answer;
    let printable = |line: String| line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let lines = lines.into_iter().take(OUTPUT_LINES_MAX).map(printable).collect();
    shared.engine.live().asked().answer(node, &Show { app, request }, lines)
}
