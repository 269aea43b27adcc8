//! The fleet in few words, and how a node was over the last day.

use axum::Json;
use axum::extract::{Path, State};
use orangery_wire::ReleaseId;
use orangery_wire::messages::{AppReport, Phase};
use orangery_wire::rest::{DesiredView, ErrorBody, FleetApp, FleetNode, FleetView, HealthHistory, NodeView};

use super::error::ApiError;
use super::{Shared, nodes};
use crate::engine::{Facts, attention};

/// The fleet in few words: what the dashboard's first page shows.
#[utoipa::path(get, path = "/v1/fleet", tag = "nodes", security(("operator" = [])),
    responses((status = 200, body = FleetView), (status = "default", body = ErrorBody)))]
pub(super) async fn fleet(State(shared): State<Shared>) -> Result<Json<FleetView>, ApiError> {
    let live = shared.engine.live();
    // Before the nodes are read: what happens meanwhile is told again by whoever follows the events from there.
    let newest_event = *live.newest_event().borrow();
    let facts = Facts { now: (shared.clock)(), broker_connected: live.broker_connected(), ..Facts::default() };
    let nodes = nodes::all(&shared).await?.into_iter().map(|node| in_few_words(node, &facts)).collect();
    Ok(Json(FleetView {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        now: facts.now,
        broker_connected: facts.broker_connected,
        newest_event,
        nodes,
    }))
}

/// How a node was over the last day, as far as this run of the coordinator has heard.
#[utoipa::path(get, path = "/v1/nodes/{node}/health", tag = "nodes", security(("operator" = [])),
    params(("node" = orangery_wire::NodeId, Path, description = "Its name")),
    responses((status = 200, body = HealthHistory), (status = "default", body = ErrorBody)))]
pub(super) async fn health(
    State(shared): State<Shared>,
    Path(node): Path<String>,
) -> Result<Json<HealthHistory>, ApiError> {
    let node = shared.read(move |parts, view| nodes::one(parts, view, &node)).await??;
    Ok(Json(shared.engine.live().history(&node.node, (shared.clock)())))
}

fn in_few_words(node: NodeView, facts: &Facts) -> FleetNode {
    let attention = attention(&node, facts);
    let (labels, reports) = node.reported.map(|reported| (reported.labels, reported.apps)).unwrap_or_default();
    let untold = reports.iter().filter(|report| node.desired.iter().all(|desired| desired.app != report.app));
    let mut apps: Vec<FleetApp> = untold.map(reported).collect();
    let report = |desired: &DesiredView| reports.iter().find(|report| report.app == desired.app);
    apps.extend(node.desired.iter().map(|desired| told(desired, report(desired))));
    apps.sort_by(|one, other| one.app.cmp(&other.app));
    FleetNode {
        node: node.node,
        online: node.online,
        revoked: node.revoked,
        seen_at: node.seen_at,
        labels,
        held: !node.holds.is_empty(),
        apps,
        attention,
    }
}

fn reported(report: &AppReport) -> FleetApp {
    FleetApp {
        app: report.app.clone(),
        current: report.current.as_ref().map(|current| current.version.clone()),
        desired: report.desired.as_ref().map(|desired| desired.version.clone()),
        phase: Some(report.phase),
        settled: report.phase == Phase::Settled,
        refused: refuses(report, report.desired.as_ref().map(|desired| desired.id)),
        healthy: report.healthy,
    }
}

/// What it was told counts, whatever it says that it was told.
fn told(desired: &DesiredView, report: Option<&AppReport>) -> FleetApp {
    let version = desired.version.clone();
    match report {
        Some(report) => {
            let settled = report.phase == Phase::Settled && report.generation >= desired.generation;
            FleetApp { desired: version, settled, refused: refuses(report, desired.release), ..reported(report) }
        }
        None => FleetApp {
            app: desired.app.clone(),
            current: None,
            desired: version,
            phase: None,
            settled: false,
            refused: false,
            healthy: None,
        },
    }
}

fn refuses(report: &AppReport, release: Option<ReleaseId>) -> bool {
    report.refusal.as_ref().is_some_and(|refusal| Some(refusal.release) == release)
}
