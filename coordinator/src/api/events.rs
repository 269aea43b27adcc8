//! Events: what happened, and what happens.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use axum::{Extension, Json};
use futures_util::{Stream, StreamExt as _, stream};
use orangery_wire::NodeId;
use orangery_wire::rest::{ErrorBody, EventView};
use serde::Deserialize;
use tokio::sync::watch;

use super::Shared;
use super::audience::{Identity, over};
use super::error::ApiError;
use crate::store::EVENTS_READ_MAX;

/// Events of one answer unless the request says otherwise.
const LIMIT: u32 = 100;
/// Events that a stream reads at once.
const PAGE: u32 = 200;
/// A stream on which nothing happens says so this often.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Which events.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Wanted {
    after: Option<u64>,
    newest: Option<u32>,
    limit: Option<u32>,
    node: Option<NodeId>,
}

fn wanted(query: Result<Query<Wanted>, QueryRejection>) -> Result<Wanted, ApiError> {
    let Query(wanted) = query.map_err(|error| ApiError::invalid("invalid_query", error.body_text()))?;
    if wanted.after.is_some() && wanted.newest.is_some() {
        return Err(ApiError::invalid("invalid_query", "after and newest exclude each other"));
    }
    if wanted.after.is_some_and(|after| i64::try_from(after).is_err()) {
        return Err(ApiError::invalid("invalid_query", "after is too large"));
    }
    Ok(wanted)
}

/// Events, oldest first: those after an id, or the newest few.
#[utoipa::path(get, path = "/v1/events", tag = "events", security(("operator" = [])),
    params(
        ("after" = Option<u64>, Query, description = "Only events after this id"),
        ("newest" = Option<u64>, Query, maximum = 4_294_967_295_u64, description = "Instead: this many of the newest events; above 1000 it means 1000"),
        ("limit" = Option<u64>, Query, maximum = 4_294_967_295_u64, description = "At most this many, 1000 at the most; otherwise 100"),
        ("node" = Option<orangery_wire::NodeId>, Query, description = "Only events of this node")),
    responses((status = 200, body = Vec<EventView>), (status = "default", body = ErrorBody)))]
pub(super) async fn list(
    State(shared): State<Shared>,
    query: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<Vec<EventView>>, ApiError> {
    let Wanted { after, newest, limit, node } = wanted(query)?;
    let events = shared.read(move |_, view| match newest {
        Some(count) => view.newest_events(count.min(EVENTS_READ_MAX), node.as_ref()),
        None => view.events(after.unwrap_or(0), limit.unwrap_or(LIMIT), node.as_ref()),
    });
    Ok(Json(events.await?))
}

/// Events as they are stored (server-sent events): first those after Last-Event-ID or `after`, then each new one. Without
/// either it begins with the next one. It ends when the token or session does that was shown, or its user has another role.
#[utoipa::path(get, path = "/v1/events/stream", tag = "events", security(("operator" = [])),
    params(
        ("Last-Event-ID" = Option<u64>, Header, description = "Only events after this id"),
        ("after" = Option<u64>, Query, description = "The same, for whoever cannot set headers"),
        ("node" = Option<orangery_wire::NodeId>, Query, description = "Only events of this node")),
    responses(
        (status = 200, description = "id: ID, data: EventView as JSON; a comment line every 15 seconds at least",
            content_type = "text/event-stream", body = String),
        (status = "default", body = ErrorBody)))]
pub(super) async fn stream(
    State(shared): State<Shared>,
    Extension(identity): Extension<Identity>,
    headers: HeaderMap,
    query: Result<Query<Wanted>, QueryRejection>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let wanted = wanted(query)?;
    let newest = shared.engine.live().newest_event();
    let id = |id: &HeaderValue| id.to_str().ok()?.parse().ok().filter(|id: &u64| i64::try_from(*id).is_ok());
    let last = headers.get("last-event-id").map(id);
    let after = match (last, wanted.after) {
        (Some(Some(last)), _) => last,
        (Some(None), _) => return Err(ApiError::invalid("invalid_query", "Last-Event-ID is not the id of an event")),
        (None, Some(after)) => after,
        (None, None) => *newest.borrow(),
    };
    let over = over(shared.clone(), identity);
    let follower = Follower { stopping: shared.stopping.clone(), shared, newest, after, node: wanted.node };
    let pages = stream::unfold(follower, Follower::page);
    let events = pages.flat_map(|page| stream::iter(page.into_iter().map(|event| Ok(said(&event)))));
    let events = events.take_until(Box::pin(over));
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT)))
}

fn said(event: &EventView) -> Event {
    // Every event has a JSON form, which has no line breaks.
    Event::default().id(event.id.to_string()).data(serde_json::to_string(event).unwrap_or_default())
}

/// One reader of a stream. It is told that there is something new, and reads from the database what that is: so one that
/// is slow misses nothing and holds nothing up.
struct Follower {
    shared: Shared,
    newest: watch::Receiver<u64>,
    stopping: watch::Receiver<bool>,
    after: u64,
    node: Option<NodeId>,
}

impl Follower {
    /// Waits for the next events. `None`: the coordinator stops, or its database does not answer.
    async fn page(mut self) -> Option<(Vec<EventView>, Self)> {
        loop {
            // Marked as seen before the reading: what is stored during the reading is news again.
            let newest = *self.newest.borrow_and_update();
            let (after, node) = (self.after, self.node.clone());
            let page = self.shared.read(move |_, view| view.events(after, PAGE, node.as_ref())).await.ok()?;
            if let Some(last) = page.last() {
                self.after = last.id;
                return Some((page, self));
            }
            // Of one node there may be nothing among them: they need not be looked through again.
            self.after = self.after.max(newest);
            tokio::select! {
                changed = self.newest.changed() => changed.ok()?,
                _ = self.stopping.wait_for(|stopping| *stopping) => return None,
            }
        }
    }
}
