//! Targets of notifications.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use orangery_wire::rest::{ErrorBody, NotifyTargetView, NotifyTestView};

use super::error::ApiError;
use super::{Parts, Shared};
use crate::engine::{Actor, Record};
use crate::nearest::nearest;
use crate::notify::{GIVE_UP_SECS, Target, waiting};
use crate::store::{StoreError, View};

/// All targets of notifications, in the order of the settings.
#[utoipa::path(get, path = "/v1/notify", tag = "coordinator", security(("operator" = [])),
    responses((status = 200, body = Vec<NotifyTargetView>), (status = "default", body = ErrorBody)))]
pub(super) async fn list(State(shared): State<Shared>) -> Result<Json<Vec<NotifyTargetView>>, ApiError> {
    shared.read(views).await.map(Json)
}

/// Sends a test to a target at once, and answers what became of it. What waits for the target goes on waiting.
#[utoipa::path(post, path = "/v1/notify/{target}/test", tag = "coordinator", security(("operator" = [])),
    params(("target" = String, Path, description = "Its name")),
    responses((status = 200, body = NotifyTestView), (status = "default", body = ErrorBody)))]
pub(super) async fn test(
    State(shared): State<Shared>,
    actor: Actor,
    Path(name): Path<String>,
) -> Result<Json<NotifyTestView>, ApiError> {
    let Some(target) = shared.notify.find(&name).cloned() else {
        let names = shared.notify.all().iter().map(|target| target.settings.name.as_str());
        let meant = nearest(&name, names).map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
        let name: String = name.chars().take(80).collect();
        return Err(ApiError::not_found(format_args!("target of notifications {name:?}{meant}"))
            .next("`orangery notify list` shows them; they are [[notify]] in coordinator.toml"));
    };
    let record = Record::new("notify.test", format!("target {}", target.settings.name));
    let tested = target.test(&actor.who, (shared.clock)()).await;
    let Some(tested) = tested else {
        let message = format!("a test of {} is under way", target.settings.name);
        return Err(ApiError::new(StatusCode::CONFLICT, "test_under_way", message).next("wait for it to end"));
    };
    let delivered = tested.is_ok();
    shared.engine.by(actor).record(record.with("delivered", delivered)).await?;
    let answer = tested.map_or_else(|failure| failure.text, |answer| answer.text);
    Ok(Json(NotifyTestView { target: target.settings.name.clone(), delivered, answer }))
}

/// How each target stands.
pub(super) fn views(parts: &Parts, view: View<'_>) -> Result<Vec<NotifyTargetView>, StoreError> {
    let oldest = (parts.clock)().saturating_sub(GIVE_UP_SECS);
    let newest = view.newest_notice()?;
    let of = |target: &std::sync::Arc<Target>| {
        let settings = &target.settings;
        let Some(row) = view.notify_target(&settings.name)? else { return Ok(None) };
        let is_told_all = row.told >= newest;
        let waits =
            if is_told_all { 0 } else { waiting(settings, row.told, oldest, view.notices_after(row.told)?).count };
        Ok(Some(NotifyTargetView {
            name: settings.name.clone(),
            kind: settings.way.as_str().to_owned(),
            address: target.address(),
            events: settings.events.iter().map(ToString::to_string).collect(),
            severity: settings.severity.as_str().to_owned(),
            waiting: waits,
            sent: row.sent,
            failed: row.failed,
            given_up: row.given_up,
            succeeded_at: row.succeeded_at,
            failed_at: row.failed_at,
            failure: row.failure,
            retry_at: row.retry_at,
        }))
    };
    parts.notify.all().iter().filter_map(|target| of(target).transpose()).collect()
}
