//! Whether systemd starts and watches what it should.

use std::collections::BTreeMap;
use std::path::Path;

use orangery_wire::AppName;
use orangery_wire::manifest::Runner;

use super::{Code, Findings, Node, output};
use crate::config::DefaultRunner;
use crate::deployment::Phase;
use crate::disk::RealDisk;
use crate::{install, record};

/// The agent's unit.
pub(super) const UNIT: &str = "orangery-agent.service";
/// Restarts of the agent in one boot that are no accident any more.
const RESTARTS: u32 = 3;

pub(super) fn units(node: &Node, found: &mut Findings) {
    let (proven, runtime) = (Path::new("/etc/systemd/system"), Path::new("/run/systemd/system"));
    if !runtime.is_dir() {
        return found.add(Code::NoSystemd, "/run/systemd/system is not there");
    }
    own(found);
    apps(node, found, proven, runtime);
}

fn own(found: &mut Findings) {
    let properties = "LoadState,ActiveState,UnitFileState,WatchdogUSec,NRestarts,Result";
    let Some(text) = output("systemctl", &["show", "--property", properties, "--", UNIT]) else {
        return found.add(Code::NotLooked, "systemctl does not answer");
    };
    let values: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
    let value = |key: &str| values.get(key).copied().unwrap_or_default();
    if value("LoadState") == "not-found" {
        return found.add(Code::NoUnit, UNIT);
    }
    let (active, enabled) = (value("ActiveState"), value("UnitFileState"));
    if active == "failed" {
        found.add(Code::UnitFailed, format!("{UNIT} failed: {}", value("Result")));
    } else {
        found.ok(format!("{UNIT} is {active}"));
    }
    if !enabled.starts_with("enabled") {
        found.add(Code::UnitDisabled, format!("{UNIT} is {enabled}"));
    }
    if value("NRestarts").parse::<u32>().is_ok_and(|count| count >= RESTARTS) {
        found.add(Code::UnitRestarts, format!("{} times", value("NRestarts")));
    }
    if matches!(value("WatchdogUSec"), "" | "0" | "infinity") {
        found.add(Code::NoWatchdog, UNIT);
    }
}

fn apps(node: &Node, found: &mut Findings, proven: &Path, runtime: &Path) {
    let mut known = Vec::new();
    for app in record::apps(&RealDisk, &node.layout) {
        let record = record::load_app(&RealDisk, &node.layout, &app).state.record;
        let unit = unit(&app);
        let (file, wants) = (proven.join(&unit), proven.join("multi-user.target.wants").join(&unit));
        match record.current {
            Some(current) if uses_systemd(node, &app, &current) && !file.exists() => {
                found.add(Code::AppUnitMissing, format!("{app}: there is no {}", file.display()));
            }
            Some(_) if file.exists() && std::fs::symlink_metadata(&wants).is_err() => {
                found.add(Code::AppUnitDisabled, format!("{app}: there is no {}", wants.display()));
            }
            None if file.exists() => found.add(Code::UnitLeftover, file.display().to_string()),
            _ => {}
        }
        let on_trial = matches!(record.phase, Phase::Activating(_) | Phase::Probing(_));
        let drop_in = runtime.join(format!("{unit}.d/trial.conf"));
        for trial in [runtime.join(&unit), drop_in].iter().filter(|path| !on_trial && path.exists()) {
            found.add(Code::TrialLeftover, trial.display().to_string());
        }
        known.push(unit);
    }
    let names =
        std::fs::read_dir(proven).into_iter().flatten().flatten().filter_map(|e| e.file_name().into_string().ok());
    for name in names.filter(|name| is_app_unit(name) && !known.contains(name) && is_ours(&proven.join(name))) {
        found.add(Code::UnitLeftover, proven.join(name).display().to_string());
    }
}

fn unit(app: &AppName) -> String {
    format!("orangery-{app}.service")
}

fn is_app_unit(name: &str) -> bool {
    name != UNIT && name.starts_with("orangery-") && name.ends_with(".service")
}

fn is_ours(file: &Path) -> bool {
    super::read(file).is_some_and(|text| text.starts_with(crate::runner::UNIT_MARK))
}

fn uses_systemd(node: &Node, app: &AppName, current: &orangery_wire::ReleaseId) -> bool {
    let Some(manifest) = install::sealed(&RealDisk, &node.layout, app, current) else { return false };
    match manifest.run.runner {
        Runner::Process => false,
        Runner::Systemd => true,
        Runner::Any => node.settings.runner.default != DefaultRunner::Process,
    }
}
