//! How an install of the agent itself goes, seen over the change of agents: the one that was asked is gone, and the one that
//! answers next knows only its records.

use std::path::Path;
use std::time::{Duration, Instant};

use orangery_wire::Version;
use orangery_wire::messages::{AppReport, Phase};

use crate::control::{self, ControlError, InstallView, Reply, Request};
use crate::runner::own;

/// Nobody answers for so long only if there is no agent any more. Longer than a start that ends in the way back.
const GONE: Duration = Duration::from_mins(10);
/// Between two looks while nobody answers.
const LOOK: Duration = Duration::from_millis(200);

/// What the agent says of the install, whichever agent that is.
pub fn ask(socket: &Path, version: &Version) -> Result<Reply, ControlError> {
    let deadline = Instant::now() + GONE;
    loop {
        match control::ask(socket, &Request::InstallState) {
            Ok(Reply::Install(view)) if matches!(*view, InstallView::None) => {}
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => {
                std::thread::sleep(LOOK);
                continue;
            }
            other => return other,
        }
        // It has not seen the beginning.
        if let Ok(Reply::Status(status)) = control::ask(socket, &Request::Status)
            && let Some(app) = status.reported.apps.iter().find(|app| own::is_agent(&app.app))
        {
            return Ok(Reply::Install(Box::new(view(app, version))));
        }
        std::thread::sleep(LOOK);
    }
}

fn view(app: &AppReport, version: &Version) -> InstallView {
    let is = |release: &Option<orangery_wire::messages::ReleaseRef>| {
        release.as_ref().is_some_and(|release| release.version == *version)
    };
    match (&app.refusal, app.phase) {
        (None, Phase::Settled) if is(&app.current) => InstallView::Current,
        (Some(refusal), Phase::Settled) if is(&app.desired) => {
            InstallView::Failed { code: Some(refusal.code), reason: refusal.reason.clone(), restored: true }
        }
        (_, phase) if is(&app.desired) => InstallView::Trying { phase },
        _ => {
            let reason = "something newer was deployed meanwhile; see `orangery-agent status`".to_owned();
            InstallView::Failed { code: None, reason, restored: true }
        }
    }
}
