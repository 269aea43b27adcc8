//! The fleet for Prometheus.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use orangery_wire::rest::ErrorBody;

use super::error::ApiError;
use super::{Parts, Shared};
use crate::metrics;
use crate::store::{StoreError, View};

/// Metrics in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "coordinator", security(("operator" = []), ("scraper" = [])),
    responses((status = 200, description = "Version 0.0.4 of the exposition format", body = str),
        (status = "default", body = ErrorBody)))]
pub(super) async fn metrics(State(shared): State<Shared>) -> Result<impl IntoResponse, ApiError> {
    let mut facts = shared.read(facts).await?;
    facts.expiries = shared.blocking(|parts| Ok::<_, ApiError>(parts.repository.expiries())).await?;
    facts.database_bytes = tokio::fs::metadata(&shared.database).await.map_or(0, |found| found.len());
    facts.disk_free_bytes = rustix::fs::statvfs(&shared.database).ok().map(|disk| disk.f_bavail * disk.f_frsize);
    let page = shared.metrics.page(&facts).map_err(|error| ApiError::internal(&error))?;
    Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], page))
}

fn facts(parts: &Parts, view: View<'_>) -> Result<metrics::Facts, StoreError> {
    let live = parts.engine.live();
    let mut releases = BTreeMap::new();
    for release in view.releases()? {
        *releases.entry(release.view.app.to_string()).or_default() += 1;
    }
    let known = view.nodes()?.into_iter().filter(|row| row.revoked_at.is_none());
    Ok(metrics::Facts {
        nodes: known.map(|row| live.node_view(view, row)).collect::<Result<_, _>>()?,
        certificates: view.certificate_ends()?,
        releases,
        rollouts: super::rollouts::told(parts, view)?,
        notify: super::notify::views(parts, view)?,
        events: live.events_counted(),
        messages: live.messages_counted(),
        broker_connected: live.broker_connected(),
        home_assistant: parts.home_assistant.as_ref().map(|is_up| is_up.load(Ordering::Relaxed)),
        broker: parts.broker.upgrade().map(|broker: Arc<_>| (broker.connected(), broker.denied())),
        ..metrics::Facts::default()
    })
}
