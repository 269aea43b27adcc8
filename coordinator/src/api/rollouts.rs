//! Rollouts, and holds of nodes.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use orangery_wire::NodeId;
use orangery_wire::rest::{
    DeedRequest, ErrorBody, HoldRequest, HoldView, ReleaseHoldRequest, RolloutNode, RolloutPlan, RolloutRequest,
    RolloutView, WaveView, WhyLine,
};

use super::body::Body;
use super::deployments::check_standing;
use super::error::ApiError;
use super::pages::Page;
use super::{Parts, Shared};
use crate::engine::{self, Actor, Refused, RolloutDeed, Scenes};
use crate::metrics;
use crate::rollout::{Rollout, RolloutId, Stage, Waiting};
use crate::store::{ROLLOUTS_READ_MAX, StoreError, View};

/// Says what a rollout would be: its waves, written out, whom it leaves out, and which others lose nodes to it. Changes nothing.
#[utoipa::path(post, path = "/v1/rollouts/plan", tag = "rollouts", security(("operator" = [])),
    request_body = RolloutRequest,
    responses((status = 200, body = RolloutPlan), (status = "default", body = ErrorBody)))]
pub(super) async fn plan(
    State(shared): State<Shared>,
    actor: Actor,
    Body(request): Body<RolloutRequest>,
) -> Result<Json<RolloutPlan>, ApiError> {
    check_standing(&shared, &request.app, Some(&request.version)).await?;
    let begun = shared
        .read(move |parts, view| engine::begin(view, &actor.who, &request, parts.engine.live(), (parts.clock)()))
        .await?;
    Ok(Json(begun?.plan))
}

/// Begins a rollout. With a plan's mark, only if it would still be the same; otherwise `plan_changed`.
#[utoipa::path(post, path = "/v1/rollouts", tag = "rollouts", security(("operator" = [])),
    request_body = RolloutRequest,
    responses((status = 200, body = RolloutView), (status = "default", body = ErrorBody)))]
pub(super) async fn begin(
    State(shared): State<Shared>,
    actor: Actor,
    Body(request): Body<RolloutRequest>,
) -> Result<Json<RolloutView>, ApiError> {
    check_standing(&shared, &request.app, Some(&request.version)).await?;
    let id = shared.engine.by(actor).begin_rollout(request).await?;
    one(&shared, id).await
}

/// The newest hundred rollouts, the newest first, without their histories; or a page of them.
#[utoipa::path(get, path = "/v1/rollouts", tag = "rollouts", security(("operator" = [])),
    params(
        ("limit" = Option<u64>, Query, minimum = 1, maximum = 4_294_967_295_u64, description = "At most this many, 100 at the most"),
        ("after" = Option<u64>, Query, description = "Only those that come after this one in the list, which are older")),
    responses((status = 200, body = Vec<RolloutView>, headers(("link" = String, description = "the next page, if there is one: rel=next (RFC 8288)"))),
        (status = "default", body = ErrorBody)))]
pub(super) async fn list(
    State(shared): State<Shared>,
    query: Result<Query<Page>, QueryRejection>,
) -> Result<Response, ApiError> {
    let page = Page::read(query)?.of_at_most(ROLLOUTS_READ_MAX);
    let (after, limit) = (page.after::<RolloutId>()?, page.limit());
    if after.is_some_and(|after| i64::try_from(after).is_err()) {
        return Err(ApiError::invalid("invalid_query", "after is too large"));
    }
    let read = move |parts: &Parts, view: View<'_>| -> Result<Vec<RolloutView>, StoreError> {
        let mut scenes = scenes(parts, view);
        let rollouts = view.rollouts(after, limit.map(|limit| limit + 1))?;
        rollouts.iter().map(|rollout| rollout_view(&mut scenes, rollout)).collect()
    };
    Ok(page.answer("/v1/rollouts", shared.read(read).await?, |rollout| rollout.rollout.to_string()))
}

/// One rollout: its waves, where each node is and why, and what happened.
#[utoipa::path(get, path = "/v1/rollouts/{rollout}", tag = "rollouts", security(("operator" = [])),
    params(("rollout" = u64, Path, description = "Its number")),
    responses((status = 200, body = RolloutView), (status = "default", body = ErrorBody)))]
pub(super) async fn show(
    State(shared): State<Shared>,
    Path(rollout): Path<String>,
) -> Result<Json<RolloutView>, ApiError> {
    one(&shared, number(&rollout)?).await
}

/// Tells nobody else until it is resumed.
#[utoipa::path(post, path = "/v1/rollouts/{rollout}/pause", tag = "rollouts", security(("operator" = [])),
    params(("rollout" = u64, Path, description = "Its number")), request_body = DeedRequest,
    responses((status = 200, body = RolloutView), (status = "default", body = ErrorBody)))]
pub(super) async fn pause(shared: State<Shared>, by: Actor, id: Path<String>, body: Body<DeedRequest>) -> Answer {
    with(shared, by, id, body, RolloutDeed::Pause).await
}

/// Goes on, in spite of the failures that are known: they do not count any more.
#[utoipa::path(post, path = "/v1/rollouts/{rollout}/resume", tag = "rollouts", security(("operator" = [])),
    params(("rollout" = u64, Path, description = "Its number")), request_body = DeedRequest,
    responses((status = 200, body = RolloutView), (status = "default", body = ErrorBody)))]
pub(super) async fn resume(shared: State<Shared>, by: Actor, id: Path<String>, body: Body<DeedRequest>) -> Answer {
    with(shared, by, id, body, RolloutDeed::Resume).await
}

/// Opens the next wave, whatever it waits for.
#[utoipa::path(post, path = "/v1/rollouts/{rollout}/promote", tag = "rollouts", security(("operator" = [])),
    params(("rollout" = u64, Path, description = "Its number")), request_body = DeedRequest,
    responses((status = 200, body = RolloutView), (status = "default", body = ErrorBody)))]
pub(super) async fn promote(shared: State<Shared>, by: Actor, id: Path<String>, body: Body<DeedRequest>) -> Answer {
    with(shared, by, id, body, RolloutDeed::Promote).await
}

/// Tells every node that it told the release to run again what was proven there before; also when the rollout is done.
#[utoipa::path(post, path = "/v1/rollouts/{rollout}/revert", tag = "rollouts", security(("operator" = [])),
    params(("rollout" = u64, Path, description = "Its number")), request_body = DeedRequest,
    responses((status = 200, body = RolloutView), (status = "default", body = ErrorBody)))]
pub(super) async fn revert(shared: State<Shared>, by: Actor, id: Path<String>, body: Body<DeedRequest>) -> Answer {
    with(shared, by, id, body, RolloutDeed::Revert).await
}

/// Approves the next wave: it opens when the one ahead has passed.
#[utoipa::path(post, path = "/v1/rollouts/{rollout}/approve", tag = "rollouts", security(("operator" = [])),
    params(("rollout" = u64, Path, description = "Its number")), request_body = DeedRequest,
    responses((status = 200, body = RolloutView), (status = "default", body = ErrorBody)))]
pub(super) async fn approve(shared: State<Shared>, by: Actor, id: Path<String>, body: Body<DeedRequest>) -> Answer {
    with(shared, by, id, body, RolloutDeed::Approve).await
}

/// Tells nodes outside of their maintenance windows too, from now on: for emergencies.
#[utoipa::path(post, path = "/v1/rollouts/{rollout}/ignore-windows", tag = "rollouts", security(("operator" = [])),
    params(("rollout" = u64, Path, description = "Its number")), request_body = DeedRequest,
    responses((status = 200, body = RolloutView), (status = "default", body = ErrorBody)))]
pub(super) async fn ignore_windows(
    shared: State<Shared>,
    by: Actor,
    id: Path<String>,
    body: Body<DeedRequest>,
) -> Answer {
    with(shared, by, id, body, RolloutDeed::IgnoreWindows).await
}

/// Holds a node: it is told nothing new, of one app or of any. Again: the newer reason and end count.
#[utoipa::path(post, path = "/v1/nodes/{node}/hold", tag = "nodes", security(("operator" = [])),
    params(("node" = orangery_wire::NodeId, Path, description = "Its name")), request_body = HoldRequest,
    responses((status = 200, body = HoldView), (status = "default", body = ErrorBody)))]
pub(super) async fn hold(
    State(shared): State<Shared>,
    actor: Actor,
    Path(node): Path<String>,
    Body(request): Body<HoldRequest>,
) -> Result<Json<HoldView>, ApiError> {
    Ok(Json(shared.engine.by(actor).hold(node_id(node)?, request).await?))
}

/// Ends a hold. Again: changes nothing.
#[utoipa::path(post, path = "/v1/nodes/{node}/release", tag = "nodes", security(("operator" = [])),
    params(("node" = orangery_wire::NodeId, Path, description = "Its name")), request_body = ReleaseHoldRequest,
    responses((status = 204, description = "It is not held any more"), (status = "default", body = ErrorBody)))]
pub(super) async fn release(
    State(shared): State<Shared>,
    actor: Actor,
    Path(node): Path<String>,
    Body(request): Body<ReleaseHoldRequest>,
) -> Result<StatusCode, ApiError> {
    shared.engine.by(actor).release_hold(node_id(node)?, request).await?;
    Ok(StatusCode::NO_CONTENT)
}

type Answer = Result<Json<RolloutView>, ApiError>;

async fn with(
    State(shared): State<Shared>,
    actor: Actor,
    Path(id): Path<String>,
    Body(request): Body<DeedRequest>,
    deed: RolloutDeed,
) -> Answer {
    let id = number(&id)?;
    shared.engine.by(actor).with_rollout(id, deed, request).await?;
    one(&shared, id).await
}

fn number(text: &str) -> Result<RolloutId, ApiError> {
    text.parse()
        .ok()
        .filter(|id| i64::try_from(*id).is_ok())
        .ok_or_else(|| ApiError::not_found(format_args!("rollout {text}")))
}

fn node_id(node: String) -> Result<NodeId, Refused> {
    node.parse().map_err(|_| Refused::UnknownNode { node, meant: None })
}

async fn one(shared: &Shared, id: RolloutId) -> Answer {
    let read = move |parts: &Parts, view: View<'_>| -> Result<Option<RolloutView>, StoreError> {
        let Some(rollout) = view.rollout(id)? else { return Ok(None) };
        Ok(Some(RolloutView { log: view.rollout_log(id)?, ..rollout_view(&mut scenes(parts, view), &rollout)? }))
    };
    shared.read(read).await?.map(Json).ok_or_else(|| Refused::UnknownRollout { rollout: id }.into())
}

fn rollout_view(scenes: &mut Scenes<'_>, rollout: &Rollout) -> Result<RolloutView, StoreError> {
    let scene = scenes.of(rollout)?.unwrap_or_default();
    let places = rollout.places(&scene);
    Ok(RolloutView {
        rollout: rollout.id,
        app: rollout.app.clone(),
        version: rollout.release.version.clone(),
        release: rollout.release.id,
        status: rollout.status.as_str().to_owned(),
        reason: rollout.reason(&scene),
        on_failure: rollout.on_failure,
        begun: rollout.begun.clone(),
        ignores_windows: rollout.ignores_windows.clone(),
        compare: rollout.compare,
        waves: (0..rollout.waves.len()).filter_map(|wave| wave_view(rollout, &places, wave)).collect(),
        log: Vec::new(),
    })
}

fn scenes<'a>(parts: &'a Parts, view: View<'a>) -> Scenes<'a> {
    Scenes::new(view, parts.engine.live(), (parts.clock)())
}

fn wave_view(rollout: &Rollout, places: &BTreeMap<NodeId, Waiting>, k: usize) -> Option<WaveView> {
    let wave = rollout.waves.get(k)?;
    let node = |(node, turn): (&NodeId, &crate::rollout::Turn)| {
        let place = places.get(node)?;
        let (generation, earlier) = match &turn.stage {
            Stage::Told(told) => (Some(told.generation), told.earlier.as_ref()),
            Stage::Back(back) => (Some(back.generation), back.release.as_ref()),
            Stage::Waiting | Stage::Left(_) => (None, None),
        };
        Some(RolloutNode {
            node: node.clone(),
            state: place.code.to_owned(),
            text: place.text.clone(),
            generation,
            earlier: earlier.map(|earlier| earlier.version.clone()),
        })
    };
    Some(WaveView {
        wave: u32::try_from(k + 1).unwrap_or(u32::MAX),
        soak_secs: wave.rule.soak_secs,
        failures: wave.rule.failures,
        trailing: wave.trailing,
        approve: wave.rule.approve,
        approved: wave.approved.clone(),
        promoted: wave.promoted.clone(),
        opened_at: wave.opened_at,
        nodes: rollout.members(k).filter_map(node).collect(),
    })
}

/// What Prometheus is told of rollouts that are under way.
pub(super) fn told(parts: &Parts, view: View<'_>) -> Result<Vec<metrics::Rollout>, StoreError> {
    let mut scenes = scenes(parts, view);
    let told = |rollout: &Rollout| {
        let mut states = BTreeMap::new();
        for place in rollout.places(&scenes.of(rollout)?.unwrap_or_default()).values() {
            *states.entry(place.code).or_default() += 1;
        }
        let gate = rollout.gate.as_ref();
        Ok(metrics::Rollout {
            id: rollout.id,
            app: rollout.app.to_string(),
            status: rollout.status.as_str(),
            states,
            gate: gate.map(|gate| (gate.cause.clone(), rollout.watched_secs.saturating_sub(gate.since))),
        })
    };
    view.active_rollouts()?.iter().map(told).collect()
}

/// What rollouts and holds have to do with where a node is.
pub(super) fn why(parts: &Parts, view: View<'_>, node: &NodeId) -> Result<Vec<WhyLine>, StoreError> {
    let line = |app: Option<&orangery_wire::AppName>, code: &str, text: String| WhyLine {
        app: app.cloned(),
        code: code.to_owned(),
        refusal: None,
        evidence: None,
        text,
    };
    let mut lines = Vec::new();
    for hold in view.holds()?.remove(node).unwrap_or_default() {
        let of = hold.app.as_ref().map(|app| format!(" --app {app}")).unwrap_or_default();
        let what = engine::describe_hold(&hold);
        let text = format!("{node} is {what}. It is told nothing new until `orangery node release {node}{of}`.");
        lines.push(line(hold.app.as_ref(), "held", text));
    }
    let mut scenes = scenes(parts, view);
    for rollout in view.active_rollouts()?.iter().filter(|rollout| rollout.turns.contains_key(node)) {
        let place = rollout.place(&scenes.of(rollout)?.unwrap_or_default(), node);
        let waits = |place: &Waiting| !matches!(place.code, "soaked" | "back" | "superseded" | "told_otherwise");
        if let Some(place) = place.filter(waits) {
            let (id, version) = (rollout.id, &rollout.release.version);
            let text = format!("In rollout {id} of {} {version}, {node} {}.", rollout.app, place.text);
            lines.push(line(Some(&rollout.app), "in_rollout", text));
        }
    }
    Ok(lines)
}
