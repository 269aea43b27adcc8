//! Events as sentences.

use orangery_wire::messages::{Event, Phase, ReleaseRef, What};

use crate::output::clean;

/// Whether the event tells a person anything that the one before it did not: every deployment settles.
pub fn is_news(event: &Event) -> bool {
    !matches!(event.what, What::PhaseChanged { phase: Phase::Settled, .. })
}

/// What happened, in a few words, without the node and the app.
pub fn sentence(event: &Event) -> String {
    clean(&match &event.what {
        What::AgentStarted { version } => format!("the agent {version} started"),
        What::AgentStopped => "the agent stopped".into(),
        What::PhaseChanged { release, phase, .. } => match release {
            Some(release) => format!("{phase} {}", release.version),
            None => phase.to_string(),
        },
        What::Committed { release: Some(release), unwitnessed, .. } => {
            let how = if *unwitnessed { "proven, unwitnessed" } else { "proven" };
            format!("runs {}, {how}", release.version)
        }
        What::Committed { release: None, .. } => "stopped, as desired".into(),
        What::Refused { version, refusal, .. } => {
            let release = version.as_ref().map_or_else(|| refusal.release.short(), ToString::to_string);
            format!("refused {release}: {} [{}]", refusal.reason, refusal.code)
        }
        What::NotInstalled { version, source, refusal, reason } => {
            let code = refusal.map(|code| format!(" [{code}]")).unwrap_or_default();
            format!("did not install {version} from {source}: {reason}{code}")
        }
        What::ReleaseRevoked { release } => format!("{} was revoked by the owner and goes on running", release.version),
        What::Restored { release, .. } => format!("runs {} again", version_or_nothing(release.as_ref())),
        What::Retrying { deed, reason } => format!("will try again to {deed}: {reason}"),
        What::MessageRejected { topic, why, reason } => format!("a message on {topic} was dropped: {reason} [{why}]"),
        What::AppExited { reason, restarts } => {
            format!("the app ended by itself ({reason}); restarts in a row: {restarts}")
        }
        What::AppHealth { healthy: true, .. } => "healthy".into(),
        What::AppHealth { healthy: false, reason } => {
            format!("unhealthy: {}", reason.as_deref().unwrap_or("no reason given"))
        }
        What::RecordRecovered { file, used } => format!("{file} was unreadable; used instead: {used}"),
        What::StoreRebuilt { reason } => format!("the store did not open and was made anew: {reason}"),
        What::EventsDropped { count } => format!("{count} events were dropped, for the outbox was full"),
    })
}

fn version_or_nothing(release: Option<&ReleaseRef>) -> String {
    release.map_or_else(|| "nothing".into(), |release| release.version.to_string())
}
