//! The settings, the agent that runs, and its apps.

use orangery_wire::messages::Phase;

use super::{Answer, Code, Findings, Node};

/// So many events are no wonder after an evening without the coordinator.
const EVENTS_WAITING: u64 = 500;

pub(super) fn settings(node: &Node, found: &mut Findings) {
    match &node.settings_trouble {
        Some(trouble) => found.add(Code::SettingsInvalid, trouble),
        None => found.ok(format!("state in {}", node.layout.root().display())),
    }
}

pub(super) fn agent(node: &Node, found: &mut Findings) {
    match &node.answer {
        // Then everything below fails for that one reason.
        _ if matches!(node.identity, Ok(None)) => {
            found.add(Code::NotJoined, format!("{} has no coordinator", node.layout.identity().display()));
        }
        Answer::Forbidden => {
            found.add(Code::NotLooked, format!("{} is not open to this user", node.layout.socket().display()));
        }
        Answer::NotRunning => {
            found.add(Code::AgentStopped, format!("nobody listens on {}", node.layout.socket().display()));
        }
        Answer::Silent(reason) => found.add(Code::AgentSilent, reason),
        Answer::Status(view) => {
            let (own, running) = (env!("CARGO_PKG_VERSION"), &view.reported.agent_version);
            if own == running {
                found.ok(format!("{running} runs as {}", view.reported.node));
            } else {
                found.add(Code::AgentOther, format!("{running} runs, this is {own}"));
            }
            let coordinator = view.url.as_deref().unwrap_or_default();
            if view.connected {
                found.ok(format!("connected to {coordinator}"));
            } else {
                found.add(Code::NotConnected, format!("{coordinator} is not reached"));
            }
            if view.events_waiting > EVENTS_WAITING {
                found.add(Code::EventsWaiting, format!("{} events wait", view.events_waiting));
            }
        }
    }
}

pub(super) fn apps(node: &Node, found: &mut Findings) {
    let Some(view) = node.view() else { return };
    for report in &view.reported.apps {
        let app = &report.app;
        let current = report.current.as_ref().map(|release| &release.version);
        let version = current.map_or_else(|| "nothing".to_owned(), ToString::to_string);
        let mut well = true;
        let mut add = |code, what: String| {
            well = false;
            found.add(code, what);
        };
        if let Some(refusal) = &report.refusal {
            let release = report.desired.as_ref().map_or_else(|| refusal.release.short(), |it| it.version.to_string());
            add(Code::AppRefused, format!("{app} {release}: {}: {}", refusal.code, refusal.reason));
        }
        if report.revoked {
            add(Code::AppRevoked, format!("{app} {version} was revoked by the owner"));
        }
        let settled = report.phase == Phase::Settled;
        if settled && report.current.is_some() && report.running.is_none() {
            add(Code::AppNotRunning, format!("{app} {version} is proven and does not run"));
        } else if settled && report.healthy == Some(false) {
            add(Code::AppUnhealthy, format!("the probes of {app} {version} fail"));
        }
        if well {
            found.ok(format!("{app}: {version} is current, {}", report.phase));
        }
    }
}
