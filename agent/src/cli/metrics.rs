//! How the node is, in Prometheus' text format 0.0.4. docs/operating/monitoring.md lists the names.

use std::fmt::{Display, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use orangery_wire::messages::{AppReport, ClockState};

use super::Failure;
use crate::control::StatusView;

/// Prints it, or replaces `out`.
pub fn metrics(view: &StatusView, out: Option<&Path>) -> Result<ExitCode, Failure> {
    let text = text(view);
    match out {
        None => print!("{text}"),
        Some(path) => replace(path, &text).map_err(|error| format!("cannot write {}: {error}", path.display()))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Whoever reads the file meanwhile sees all of the old or of the new one. Not synced: after a power cut nobody misses it.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    std::fs::write(&beside, text)?;
    std::fs::rename(beside, path)
}

fn text(view: &StatusView) -> String {
    let (mut text, reported) = (String::new(), &view.reported);
    one(&mut text, "up", "Whether the agent runs; if not, the rest is what its disk says.", view.running.into());
    one(&mut text, "connected", "Whether it is connected to its coordinator.", view.connected.into());
    if view.running {
        let waiting = "Events that the coordinator has not yet stored.";
        one(&mut text, "events_waiting", waiting, view.events_waiting);
    }
    let synced = view.clock == ClockState::Synced;
    one(&mut text, "clock_synced", "Whether the kernel vouches for the clock.", synced.into());
    let stale = "Whether trusted metadata has expired: no new release is taken.";
    one(&mut text, "trust_stale", stale, reported.trust.stale.into());
    let apps = &reported.apps;
    let current = apps.iter().filter_map(|app| Some((of(app, "version", &app.current.as_ref()?.version), 1)));
    gauge(&mut text, "app_current_info", "The proven release.", current);
    let phase = apps.iter().map(|app| (of(app, "phase", &app.phase), 1));
    gauge(&mut text, "app_phase", "Where the deployment is.", phase);
    let refused = apps.iter().filter_map(|app| Some((of(app, "code", &app.refusal.as_ref()?.code.as_str()), 1)));
    gauge(&mut text, "app_refused", "That the desired release was refused, and why.", refused);
    let healthy = apps.iter().filter_map(|app| Some((format!("{{app=\"{}\"}}", app.app), app.healthy?.into())));
    gauge(&mut text, "app_healthy", "Whether the probes of what runs hold.", healthy);
    text
}

/// Labels of an app. Names, versions, phases and codes have no character that would have to be escaped.
fn of(app: &AppReport, label: &str, value: &dyn Display) -> String {
    format!("{{app=\"{}\",{label}=\"{value}\"}}", app.app)
}

fn one(text: &mut String, name: &str, help: &str, value: u64) {
    gauge(text, name, help, [(String::new(), value)]);
}

/// Nothing is said of a gauge without values.
fn gauge(text: &mut String, name: &str, help: &str, values: impl IntoIterator<Item = (String, u64)>) {
    let mut head = Some(format!("# HELP orangery_agent_{name} {help}\n# TYPE orangery_agent_{name} gauge\n"));
    for (labels, value) in values {
        text.extend(head.take());
        // Writing to a String cannot fail.
        let _ = writeln!(text, "orangery_agent_{name}{labels} {value}");
    }
}

#[cfg(test)]
mod tests {
    use orangery_wire::messages::{self, Phase, Reported, TrustReport};

    use super::*;

    #[test]
    fn a_node_tells_prometheus_what_it_runs() {
        let app = AppReport {
            app: "web".parse().unwrap(),
            generation: 1,
            desired: None,
            current: None,
            running: None,
            phase: Phase::Probing,
            refusal: None,
            healthy: Some(false),
            revoked: false,
            unwitnessed: false,
            waits: None,
        };
        let reported = Reported {
            format: messages::FORMAT,
            node: "attic".parse().unwrap(),
            boot_id: "boot".into(),
            sequence: 1,
            generation: 1,
            agent_version: "0.1.0".into(),
            platform: "linux/arm64".into(),
            board: None,
            labels: std::collections::BTreeMap::new(),
            trust: TrustReport::default(),
            apps: vec![app],
        };
        let (clock, url) = (ClockState::Synced, None);
        let view = StatusView { running: true, connected: false, url, events_waiting: 3, clock, reported };
        let text = text(&view);
        for line in [
            "# TYPE orangery_agent_up gauge",
            "orangery_agent_up 1",
            "orangery_agent_connected 0",
            "orangery_agent_events_waiting 3",
            "orangery_agent_clock_synced 1",
            "orangery_agent_app_phase{app=\"web\",phase=\"probing\"} 1",
            "orangery_agent_app_healthy{app=\"web\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("app_refused") && !text.contains("current_info"), "{text}");
    }
}
