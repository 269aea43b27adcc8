//! Answers for people.

use std::fmt::Write;

use orangery_wire::messages::{AppReport, ClockState, Event, ReleaseRef, What};

use crate::clock::utc;
use crate::control::StatusView;

/// The node at a glance.
pub fn status(view: &StatusView) -> String {
    let reported = &view.reported;
    let mut text = String::new();
    let agent = match (view.running, view.connected) {
        (false, _) => "does not run; what follows was read from its disk",
        (true, true) => "runs and is connected",
        (true, false) => "runs and is not connected; apps go on without",
    };
    let clock = match view.clock {
        ClockState::Synced => "synchronised",
        ClockState::Unsynced => "not synchronised",
        ClockState::BehindFloor => "behind what is known to have passed; the floor is used",
    };
    let trust = match (reported.trust.root, reported.trust.stale) {
        (0, _) => "no trust root: nothing installs".to_owned(),
        (root, stale) => format!(
            "root {root}, targets {}{}",
            reported.trust.targets,
            if stale { "; expired: nothing new is deployed until it is fresh" } else { "" }
        ),
    };
    // Writing to a String cannot fail.
    let _ = writeln!(text, "node         {} ({})", reported.node, reported.platform);
    let _ = writeln!(text, "agent        {} {agent}", reported.agent_version);
    let _ = writeln!(text, "coordinator  {}", view.url.as_deref().unwrap_or("none: not joined yet"));
    let _ = writeln!(text, "trust        {trust}");
    let _ = writeln!(text, "clock        {clock}");
    let _ = writeln!(text, "events       {} wait for the coordinator", view.events_waiting);
    if reported.apps.is_empty() {
        let _ = writeln!(text, "apps         none yet");
    }
    for report in &reported.apps {
        let _ = writeln!(text, "app          {}", app(report));
    }
    text
}

fn app(report: &AppReport) -> String {
    let version =
        |release: &Option<ReleaseRef>| release.as_ref().map_or("nothing".to_owned(), |r| r.version.to_string());
    let mut text = format!("{}: {} is current, {}", report.app, version(&report.current), report.phase);
    if report.running != report.current {
        let _ = write!(text, ", {} runs", version(&report.running));
    }
    if report.desired != report.current {
        let _ = write!(text, ", {} is desired", version(&report.desired));
    }
    match report.healthy {
        Some(true) => text.push_str(", healthy"),
        Some(false) => text.push_str(", UNHEALTHY"),
        None => {}
    }
    if report.unwitnessed {
        text.push_str(", unwitnessed (proven by its probes alone, without the coordinator)");
    }
    if report.revoked {
        text.push_str(", REVOKED by the owner (it goes on running; deploy another)");
    }
    if let Some(refusal) = &report.refusal {
        let _ = write!(text, "\n             refused {}: {}", refusal.code, refusal.reason);
    }
    text
}

/// One event on one line.
pub fn event(event: &Event) -> String {
    let app = event.app.as_ref().map(|app| format!("{app}: ")).unwrap_or_default();
    let doubt = if event.clock_synced { "" } else { "?" };
    format!("{:>6}  {}{doubt}  {app}{}", event.sequence, utc(event.at), what(&event.what))
}

fn what(what: &What) -> String {
    let version =
        |release: &Option<ReleaseRef>| release.as_ref().map_or("nothing".to_owned(), |r| r.version.to_string());
    match what {
        What::AgentStarted { version } => format!("the agent {version} started"),
        What::AgentStopped => "the agent stopped".to_owned(),
        What::PhaseChanged { release, phase, .. } => format!("{phase} ({})", version(release)),
        What::Committed { release, unwitnessed, .. } => {
            format!("{} is current{}", version(release), if *unwitnessed { ", unwitnessed" } else { "" })
        }
        What::Refused { version, refusal, .. } => {
            let version = version.as_ref().map_or_else(|| refusal.release.short(), ToString::to_string);
            format!("refused {version}: {}: {}", refusal.code, refusal.reason)
        }
        What::NotInstalled { version, source, refusal, reason } => {
            let code = refusal.map(|code| format!(" {code}:")).unwrap_or_default();
            format!("did not install {version} from {source}:{code} {reason}")
        }
        What::ReleaseRevoked { release } => format!("{} was revoked by the owner; it goes on running", release.version),
        What::Restored { release, .. } => format!("{} runs again", version(release)),
        What::Retrying { deed, reason } => format!("will try to {deed} again: {reason}"),
        What::MessageRejected { topic, why, reason } => format!("dropped a message on {topic}: {why}: {reason}"),
        What::AppExited { reason, restarts } => format!("exited ({reason}), {restarts} restarts in a row"),
        What::AppHealth { healthy: true, .. } => "is healthy again".to_owned(),
        What::AppHealth { healthy: false, reason } => {
            format!("is unhealthy: {}", reason.as_deref().unwrap_or("no reason given"))
        }
        What::RecordRecovered { file, used } => format!("{file} was unreadable; used {used}"),
        What::StoreRebuilt { reason } => format!("the store was set aside and rebuilt: {reason}"),
        What::EventsDropped { count } => format!("{count} events were dropped because the outbox was full"),
    }
}
