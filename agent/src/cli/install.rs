//! `orangery-agent install`: asks the agent that runs, follows it, and says by the exit code how it went.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use orangery_wire::messages::RefusalCode;
use orangery_wire::{AppName, Version};

use super::{Failure, follow, unexpected};
use crate::clock::Clock;
use crate::control::{self, ControlError, InstallView, Reply, Request};
use crate::layout::Layout;
use crate::road::{Place, Road};
use crate::runner::own;

/// Time between two looks at how it goes.
const LOOK: Duration = Duration::from_millis(200);

/// Has the agent install a release, and follows it to its end.
pub fn install(
    layout: &Layout,
    release: Option<(AppName, Version)>,
    place: Place,
    json: bool,
) -> Result<ExitCode, Failure> {
    let place = absolute(place)?;
    let (app, version) = match release {
        Some(release) => release,
        None => match only_release(&place)? {
            Ok(release) => release,
            Err(failed) => return ended(&failed, &place.to_string(), json),
        },
    };
    let name = format!("{app} {version}");
    let socket = layout.socket();
    let own = own::is_agent(&app).then(|| version.clone());
    let mut reply = match control::ask(&socket, &Request::Install { app, version, place }) {
        Err(ControlError::NotRunning { .. }) if !layout.trust().join("root.json").exists() => {
            return ended(&no_root(layout), &name, json);
        }
        other => other?,
    };
    let mut line = Line::default();
    loop {
        let view = match reply {
            Reply::Install(view) => *view,
            other => return Err(unexpected(&other)),
        };
        match &view {
            InstallView::Reading { .. } | InstallView::Trying { .. } => line.show(&name, &view),
            InstallView::None => return Err("the agent was restarted meanwhile; install it again".into()),
            InstallView::Current | InstallView::Failed { .. } => {
                line.clear();
                return ended(&view, &name, json);
            }
        }
        std::thread::sleep(LOOK);
        reply = match &own {
            Some(version) => follow::ask(&socket, version)?,
            None => control::ask(&socket, &Request::InstallState)?,
        };
    }
}

/// A node that never joined: nothing can be verified.
fn no_root(layout: &Layout) -> InstallView {
    let dir = layout.trust();
    let reason = format!(
        "there is no trust root in {}, so no release can be verified; run `orangery-agent join TOKEN` with a token from \
         `orangery node invite`",
        dir.display()
    );
    InstallView::Failed { code: Some(RefusalCode::NoTrustRoot), reason, restored: true }
}

/// The agent has another working directory.
fn absolute(place: Place) -> Result<Place, Failure> {
    let whole = |path: PathBuf| {
        let text = format!("cannot find {}; is the stick mounted?", path.display());
        std::fs::canonicalize(path).map_err(|e| format!("{text} ({e})"))
    };
    Ok(match place {
        Place::Path(path) => Place::Path(whole(path)?),
        Place::Site { url, ca_file } => Place::Site { url, ca_file: ca_file.map(whole).transpose()? },
    })
}

/// The one release that is there. The inner error is one of the source.
fn only_release(place: &Place) -> Result<Result<(AppName, Version), InstallView>, Failure> {
    let road = match Road::open(place, &Clock::new(0)) {
        Ok(road) => road,
        Err(error) => {
            let failure = crate::install::InstallFailure::from(error);
            return Ok(Err(failed(&failure)));
        }
    };
    let mut claims = road.claims();
    match (claims.pop(), claims.is_empty()) {
        (Some(only), true) => Ok(Ok(only)),
        (None, _) if matches!(place, Place::Site { .. }) => {
            Err("a web server does not list its releases; name one as APP@VERSION".into())
        }
        (None, _) => Err(format!("there is no release in {place}; make it anew with `orangery bundle`").into()),
        (Some(last), false) => {
            claims.push(last);
            let names: Vec<String> = claims.iter().map(|(app, version)| format!("{app}@{version}")).collect();
            Err(format!("there are several releases in {place}; name one of {}", names.join(", ")).into())
        }
    }
}

fn failed(failure: &crate::install::InstallFailure) -> InstallView {
    use crate::install::InstallFailure;
    let (code, reason) = match failure {
        InstallFailure::Again(reason) => (None, reason.clone()),
        InstallFailure::Refused(reason) => (Some(reason.code), reason.text.clone()),
    };
    InstallView::Failed { code, reason, restored: true }
}

/// Says how it ended.
fn ended(view: &InstallView, name: &str, json: bool) -> Result<ExitCode, Failure> {
    if json {
        println!("{}", serde_json::to_string(view)?);
    }
    let InstallView::Failed { code, reason, restored } = view else {
        if !json {
            println!("{name} is current; it stays until something newer is deployed.");
        }
        return Ok(ExitCode::SUCCESS);
    };
    let word = code.map(|code| format!(" [{code}]")).unwrap_or_default();
    let left = if *restored { "" } else { "; what ran before does not start either" };
    eprintln!("orangery-agent: {name} is not installed: {reason}{word}{left}");
    Ok(ExitCode::from(exit_code(*code, *restored)))
}

/// The contract of docs/roads.md.
fn exit_code(code: Option<RefusalCode>, restored: bool) -> u8 {
    match code {
        _ if !restored => 130,
        None | Some(RefusalCode::NotFound) => 13,
        Some(code) if code.is_unverified() => 11,
        Some(
            RefusalCode::InvalidManifest | RefusalCode::NoTrustRoot | RefusalCode::Revoked | RefusalCode::BelowFloor,
        ) => 11,
        Some(RefusalCode::Expired) => 12,
        Some(RefusalCode::NoSpace) => 60,
        Some(
            RefusalCode::WontStart
            | RefusalCode::CrashLoop
            | RefusalCode::Unhealthy
            | RefusalCode::Disconnected
            | RefusalCode::RolledBack,
        ) => 110,
        Some(_) => 1,
    }
}

/// One line that changes in place on a terminal; elsewhere one line for each step.
#[derive(Default)]
struct Line {
    last: String,
}

impl Line {
    fn show(&mut self, name: &str, view: &InstallView) {
        let is_live = std::io::stderr().is_terminal();
        let text = match view {
            InstallView::Reading { done_bytes, all_bytes } if is_live && *all_bytes > 0 => {
                // At most 100, also when the pack grows while it is looked at.
                let percent = done_bytes.saturating_mul(100).checked_div(*all_bytes).unwrap_or(100).min(100);
                format!("{name}: reading and verifying, {percent} % of {} KiB", all_bytes.div_ceil(1024))
            }
            InstallView::Trying { phase } => format!("{name}: {phase}"),
            _ => format!("{name}: reading and verifying"),
        };
        if text == self.last {
            return;
        }
        let mut err = std::io::stderr().lock();
        // Whether anybody can read it changes nothing.
        let _ = if is_live { write!(err, "\r\x1b[K{text}") } else { writeln!(err, "{text}") };
        let _ = err.flush();
        self.last = text;
    }

    fn clear(&self) {
        if !self.last.is_empty() && std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_the_contract() {
        let codes = [
            (Some(RefusalCode::Unverified), 11),
            (Some(RefusalCode::WrongDigest), 11),
            (Some(RefusalCode::Revoked), 11),
            (Some(RefusalCode::BelowFloor), 11),
            (Some(RefusalCode::NoTrustRoot), 11),
            (Some(RefusalCode::Expired), 12),
            (None, 13),
            (Some(RefusalCode::NotFound), 13),
            (Some(RefusalCode::NoSpace), 60),
            (Some(RefusalCode::Unhealthy), 110),
            (Some(RefusalCode::Incompatible), 1),
        ];
        for (code, exit) in codes {
            assert_eq!(exit_code(code, true), exit, "{code:?}");
        }
        assert_eq!(exit_code(Some(RefusalCode::Unhealthy), false), 130);
    }
}
