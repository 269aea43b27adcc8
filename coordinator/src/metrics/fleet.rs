//! The nodes and what they run.

use orangery_wire::messages::{AppReport, ClockState, Health, Phase, ReserveState};
use orangery_wire::rest::{DesiredView, NodeView};

use super::{Facts, Page, whole};

/// All gauges of the fleet.
pub(super) fn tell(page: &Page, facts: &Facts) -> prometheus::Result<()> {
    nodes(page, facts)?;
    health(page, &facts.nodes)?;
    apps(page, &facts.nodes)?;
    desires(page, &facts.nodes)
}

fn nodes(page: &Page, facts: &Facts) -> prometheus::Result<()> {
    let info = page.whole("orangery_node_info", "What a node is.", &["node", "agent_version", "platform"])?;
    let online = page.whole("orangery_node_online", "Whether the node is connected.", &["node"])?;
    let seen =
        page.whole("orangery_node_seen_timestamp_seconds", "When anything was last heard of the node.", &["node"])?;
    let stale = "Whether metadata that the node trusts has expired: it takes no new release.";
    let stale = page.whole("orangery_node_trust_stale", stale, &["node"])?;
    for view in &facts.nodes {
        let node = view.node.as_str();
        online.with_label_values(&[node]).set(view.online.into());
        if let Some(at) = view.seen_at {
            seen.with_label_values(&[node]).set(whole(at));
        }
        if let Some(reported) = &view.reported {
            info.with_label_values(&[node, &reported.agent_version, &reported.platform]).set(1);
            stale.with_label_values(&[node]).set(reported.trust.stale.into());
        }
    }
    let help = "When the node's certificate expires. It renews itself at two thirds of its life.";
    let ends = page.whole("orangery_node_certificate_expires_timestamp_seconds", help, &["node"])?;
    for (node, at) in &facts.certificates {
        ends.with_label_values(&[node.as_str()]).set(whole(*at));
    }
    Ok(())
}

/// The newest health that was heard; how old that is says `orangery_node_seen_timestamp_seconds`.
fn health(page: &Page, nodes: &[NodeView]) -> prometheus::Result<()> {
    type Reading = fn(&Health) -> Option<f64>;
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a double; bytes below 2^53 are exact")]
    let readings: [(&str, &str, Reading); 9] = [
        ("load1", "Load average over one minute.", |health| Some(health.load_1m)),
        ("memory_bytes", "Memory of the node.", |health| Some(health.memory_bytes as f64)),
        ("memory_used_bytes", "Memory in use.", |health| Some(health.memory_used_bytes as f64)),
        ("disk_bytes", "Size of the file system that holds the agent's state.", |health| {
            Some(health.disk_bytes as f64)
        }),
        ("disk_free_bytes", "Free space there.", |health| Some(health.disk_free_bytes as f64)),
        ("temperature_celsius", "The hottest sensor.", |health| health.temperature_celsius.map(f64::from)),
        ("uptime_seconds", "Time since the node booted.", |health| Some(health.uptime_secs as f64)),
        ("clock_synced", "Whether the kernel vouches for the node's clock.", |health| {
            Some(truth(health.clock == ClockState::Synced))
        }),
        (
            "reserve_full",
            "Whether the agent holds the bytes that it needs to restore and report on a full disk.",
            |health| health.reserve.map(|reserve| truth(reserve == ReserveState::Full)),
        ),
    ];
    for (name, help, reading) in readings {
        let gauge = page.gauges(&format!("orangery_node_{name}"), help, &["node"])?;
        for view in nodes {
            if let Some(value) = view.health.as_ref().and_then(reading) {
                gauge.with_label_values(&[view.node.as_str()]).set(value);
            }
        }
    }
    Ok(())
}

fn truth(so: bool) -> f64 {
    f64::from(u8::from(so))
}

/// By the nodes' own proofs.
fn apps(page: &Page, nodes: &[NodeView]) -> prometheus::Result<()> {
    let current = "The proven release of an app on a node.";
    let current = page.whole("orangery_app_current_info", current, &["node", "app", "version"])?;
    let healthy = "Whether the probes of what runs hold.";
    let healthy = page.whole("orangery_app_healthy", healthy, &["node", "app"])?;
    let refused = "That the node refused the release it was told to run, by the stable code of why.";
    let refused = page.whole("orangery_app_refused", refused, &["node", "app", "code"])?;
    let revoked = "Whether the owner has revoked the release that runs.";
    let revoked = page.whole("orangery_app_revoked", revoked, &["node", "app"])?;
    let phase = "Where the deployment of an app is.";
    let phase = page.whole("orangery_app_phase", phase, &["node", "app", "phase"])?;
    for (node, report) in reports(nodes) {
        let app = report.app.as_str();
        if let Some(release) = &report.current {
            current.with_label_values(&[node, app, &release.version.to_string()]).set(1);
        }
        if let Some(holds) = report.healthy {
            healthy.with_label_values(&[node, app]).set(holds.into());
        }
        if let Some(refusal) = &report.refusal {
            refused.with_label_values(&[node, app, refusal.code.as_str()]).set(1);
        }
        revoked.with_label_values(&[node, app]).set(report.revoked.into());
        phase.with_label_values(&[node, app, report.phase.as_str()]).set(1);
    }
    Ok(())
}

fn reports(nodes: &[NodeView]) -> impl Iterator<Item = (&str, &AppReport)> {
    nodes.iter().flat_map(|view| {
        let reports = view.reported.iter().flat_map(|reported| &reported.apps);
        reports.map(|report| (view.node.as_str(), report))
    })
}

fn desires(page: &Page, nodes: &[NodeView]) -> prometheus::Result<()> {
    let converged = "Whether the node has proven that it runs what it was told to run.";
    let converged = page.whole("orangery_app_converged", converged, &["node", "app"])?;
    let desired = "The release that the node was told to run.";
    let desired = page.whole("orangery_app_desired_info", desired, &["node", "app", "version"])?;
    for view in nodes {
        for wish in &view.desired {
            let (node, app) = (view.node.as_str(), wish.app.as_str());
            converged.with_label_values(&[node, app]).set(is_proven(view, wish).into());
            if let Some(version) = &wish.version {
                desired.with_label_values(&[node, app, &version.to_string()]).set(1);
            }
        }
    }
    Ok(())
}

fn is_proven(view: &NodeView, wish: &DesiredView) -> bool {
    let report = reports(std::slice::from_ref(view)).find(|(_, report)| report.app == wish.app);
    report.is_some_and(|(_, report)| {
        report.phase == Phase::Settled
            && report.generation >= wish.generation
            && report.current.as_ref().map(|release| release.id) == wish.release
    })
}
