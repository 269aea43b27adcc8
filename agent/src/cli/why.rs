//! `orangery-agent why`: why each app is where it is, as this node sees it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use orangery_wire::AppName;
use orangery_wire::messages::{AppReport, ClockState, Event, Phase, ReleaseRef, What};
use orangery_wire::rest::{Why, WhyLine};

use super::Failure;
use crate::control::StatusView;
use crate::disk::RealDisk;
use crate::evidence;
use crate::layout::Layout;

/// So many of the last events are looked through.
const EVENTS: u32 = 200;

/// Says why.
pub fn why(config: Option<&Path>, app: Option<&AppName>, json: bool) -> Result<ExitCode, Failure> {
    let layout = super::layout(config)?;
    let view = super::view(config)?;
    // Only what is under way needs them.
    let events = super::events(config, EVENTS).unwrap_or_default();
    let mut why = answer(&view, &layout, &events);
    if let Some(wanted) = app {
        if !view.reported.apps.iter().any(|report| report.app == *wanted) {
            return Err(format!("no app named {wanted} is on this node").into());
        }
        why.lines.retain(|line| line.app.as_ref().is_none_or(|app| app == wanted));
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&why)?);
    } else {
        print!("{}", shown(&why));
    }
    Ok(ExitCode::SUCCESS)
}

/// The same for people.
pub fn shown(why: &Why) -> String {
    let mut text = String::new();
    for line in &why.lines {
        let app = line.app.as_ref().map(|app| format!("{app}: ")).unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{app}{} [{}]", line.text, line.code);
        for seen in line.evidence.iter().flat_map(|evidence| evidence.lines()) {
            let _ = writeln!(text, "    {seen}");
        }
    }
    text
}

/// There is always at least one line.
pub fn answer(view: &StatusView, layout: &Layout, events: &[Event]) -> Why {
    let reported = &view.reported;
    let newer = events.iter().filter(|event| !matches!(event.what, What::PhaseChanged { .. }));
    let last: BTreeMap<&AppName, &What> = newer.filter_map(|event| Some((event.app.as_ref()?, &event.what))).collect();
    let mut lines = about_node(view);
    lines.extend(reported.apps.iter().map(|report| {
        let refused = evidence::load(&RealDisk, layout, &report.app);
        let refused = refused.filter(|refused| report.refusal.as_ref() == Some(&refused.refusal));
        let evidence = refused.map(|refused| Box::new(refused.evidence));
        WhyLine { evidence, ..about(report, view.running, last.get(&report.app).copied()) }
    }));
    if reported.apps.is_empty() {
        let text =
            "Nobody told this node to run anything yet; `orangery deploy APP@VERSION` on the coordinator does that.";
        lines.push(line(None, "nothing_desired", text.to_owned()));
    }
    Why { node: reported.node.clone(), lines }
}

fn line(app: Option<&AppName>, code: &str, text: String) -> WhyLine {
    WhyLine { app: app.cloned(), code: code.to_owned(), refusal: None, evidence: None, text }
}

fn about_node(view: &StatusView) -> Vec<WhyLine> {
    let trust = &view.reported.trust;
    let told = [
        (
            !view.running,
            "agent_stopped",
            "The agent does not run. What systemd started goes on, and nothing new comes here until it runs; what follows was read from its disk.",
        ),
        (
            view.running && !view.connected,
            "offline",
            "The coordinator is not reached. What is proven goes on; what is desired is heard of when it is reached again.",
        ),
        (trust.root == 0, "no_trust_root", "There is no trust root, so nothing can be installed."),
        (
            trust.stale,
            "expired",
            "The trusted metadata has expired: what runs goes on, and nothing new is installed until it can be refreshed.",
        ),
        (
            view.clock == ClockState::BehindFloor,
            "clock_behind",
            "The clock is behind what is known to have passed; that is used until the clock is set.",
        ),
    ];
    let told = told.into_iter().filter(|(holds, ..)| *holds);
    told.map(|(_, code, text)| line(None, code, text.to_owned())).collect()
}

fn about(report: &AppReport, agent_runs: bool, last: Option<&What>) -> WhyLine {
    let (code, text) = match (&report.refusal, report.phase) {
        (_, Phase::Fetching | Phase::Activating | Phase::Probing) | (None, Phase::Restoring) => {
            ("in_progress", under_way(report, last))
        }
        (Some(refusal), phase) => {
            let reason = refusal.reason.trim_end_matches('.');
            let back = if phase == Phase::Settled { "" } else { " It is going back to what it ran before." };
            let text = format!("{} is desired and was refused here: {}: {reason}.{back}", wanted(report), refusal.code);
            let code = refusal.code;
            return WhyLine {
                refusal: Some(code),
                ..line(Some(&report.app), code.as_str(), text + &runs(report, agent_runs))
            };
        }
        (None, Phase::Settled) if report.revoked => (
            "release_revoked",
            format!(
                "The owner has revoked {}; it goes on running until another is deployed.",
                version(report.current.as_ref())
            ),
        ),
        (None, Phase::Settled) if report.healthy == Some(false) => ("unhealthy_now", unhealthy(report, last)),
        (None, Phase::Settled) if report.current.is_none() => ("up_to_date", "It is stopped, as desired.".to_owned()),
        (None, Phase::Settled) => {
            ("up_to_date", format!("{} is desired, and is proven here.", version(report.current.as_ref())))
        }
    };
    line(Some(&report.app), code, text + &runs(report, agent_runs))
}

fn version(release: Option<&ReleaseRef>) -> String {
    release.map_or_else(|| "nothing".to_owned(), |release| release.version.to_string())
}

fn wanted(report: &AppReport) -> String {
    match (&report.desired, &report.refusal) {
        (Some(desired), _) => desired.version.to_string(),
        (None, Some(refusal)) => refusal.release.short(),
        (None, None) => "nothing".to_owned(),
    }
}

fn runs(report: &AppReport, agent_runs: bool) -> String {
    match (&report.running, &report.current) {
        // Only an agent that runs knows.
        (None, _) if !agent_runs => String::new(),
        (Some(running), Some(current)) if running.id == current.id => format!(" {} runs.", running.version),
        (Some(running), _) => {
            format!(" {} runs on trial; {} is proven.", running.version, version(report.current.as_ref()))
        }
        (None, Some(current)) => format!(" {} should run and does not at this moment.", current.version),
        (None, None) => " Nothing of it runs.".to_owned(),
    }
}

fn under_way(report: &AppReport, last: Option<&What>) -> String {
    let waits = report.waits.as_deref().map(|waits| format!(" Now: {}.", waits.trim_end_matches('.')));
    // While it waits nothing is done of what the phase stands for.
    let doing = match report.phase {
        Phase::Fetching if waits.is_some() => "it was not tried yet",
        Phase::Activating | Phase::Probing if waits.is_some() => "its trial cannot go on at this moment",
        Phase::Fetching => "it is downloaded and verified",
        Phase::Activating => "it is started on trial",
        Phase::Probing => "it runs on trial and its probes are asked",
        Phase::Restoring | Phase::Settled => "what was proven before is made to run again",
    };
    let trouble = waits.unwrap_or_else(|| match last {
        Some(What::Retrying { deed, reason }) => {
            format!(" The last attempt to {deed} failed and will be made again: {}.", reason.trim_end_matches('.'))
        }
        Some(What::AppExited { reason, restarts }) => {
            format!(" It ended by itself ({reason}), {restarts} times in a row.")
        }
        _ => String::new(),
    });
    format!("{} is desired: {doing}.{trouble}", wanted(report))
}

fn unhealthy(report: &AppReport, last: Option<&What>) -> String {
    let because = match last {
        Some(What::AppHealth { healthy: false, reason: Some(reason) } | What::AppExited { reason, .. }) => {
            format!(" ({})", reason.trim_end_matches('.'))
        }
        _ => String::new(),
    };
    let version = version(report.current.as_ref());
    format!("{version} is desired and proven here, but its probes fail now{because}; nothing goes back by itself.")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn release(n: u8) -> Value {
        json!({"id": format!("{n:064}"), "version": format!("1.{n}.0")})
    }

    fn report(phase: &str, changes: &Value) -> AppReport {
        let mut report = json!({"app": "greeter", "generation": 4, "desired": release(2), "current": release(1),
            "running": release(1), "phase": phase, "healthy": true});
        report.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        serde_json::from_value(report).unwrap()
    }

    fn says(report: &AppReport, last: Option<&What>, code: &str, text: &str) {
        let line = about(report, true, last);
        assert_eq!((line.code.as_str(), line.text.as_str()), (code, text));
    }

    #[test]
    fn each_state_has_a_reason() {
        let refusal = json!({"refusal": {"release": release(2)["id"], "code": "unhealthy", "reason": "status 500."}});
        let text = "1.2.0 is desired and was refused here: unhealthy: status 500. 1.1.0 runs.";
        says(&report("settled", &refusal), None, "unhealthy", text);
        let text = "1.1.0 is desired, and is proven here. 1.1.0 runs.";
        says(&report("settled", &json!({"desired": release(1)})), None, "up_to_date", text);
        let retrying = What::Retrying { deed: "fetch".into(), reason: "connection refused".into() };
        let text = "1.2.0 is desired: it is downloaded and verified. The last attempt to fetch failed and will be made \
                    again: connection refused. 1.1.0 runs.";
        says(&report("fetching", &json!({})), Some(&retrying), "in_progress", text);
        let text = "1.2.0 is desired: it runs on trial and its probes are asked. 1.2.0 runs on trial; 1.1.0 is proven.";
        says(&report("probing", &json!({"running": release(2)})), None, "in_progress", text);
        let waits = json!({"running": null, "waits": "the disk does not take its record"});
        let text = "1.2.0 is desired: its trial cannot go on at this moment. Now: the disk does not take its record. 1.1.0 \
                    should run and does not at this moment.";
        says(&report("probing", &waits), None, "in_progress", text);
        let stopped = json!({"desired": null, "current": null, "running": null});
        says(&report("settled", &stopped), None, "up_to_date", "It is stopped, as desired. Nothing of it runs.");
        let ill = json!({"healthy": false, "desired": release(1), "running": null});
        let exited = What::AppExited { reason: "exit status 1".into(), restarts: 3 };
        let text = "1.1.0 is desired and proven here, but its probes fail now (exit status 1); nothing goes back by itself. \
                    1.1.0 should run and does not at this moment.";
        says(&report("settled", &ill), Some(&exited), "unhealthy_now", text);
    }
}
