//! Answers for people.

use std::fmt::Write;

use orangery_wire::UnixTime;
use orangery_wire::messages::{AppReport, ClockState, Event, ReleaseRef, What};

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
    format!("{:>6}  {}{doubt}  {app}{}", event.sequence, time(event.at), what(&event.what))
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

/// `2026-11-21 13:45:00Z`, by the proleptic Gregorian calendar (days to civil date as by Howard Hinnant).
fn time(at: UnixTime) -> String {
    let (days, seconds) = (at / 86_400, at % 86_400);
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_what_the_calendar_says() {
        for (at, text) in [
            (0, "1970-01-01 00:00:00Z"),
            (951_782_399, "2000-02-28 23:59:59Z"),
            (951_782_400, "2000-02-29 00:00:00Z"),
            (1_795_219_200, "2026-11-21 00:00:00Z"),
            (4_102_444_800, "2100-01-01 00:00:00Z"),
        ] {
            assert_eq!(time(at), text);
        }
    }
}
