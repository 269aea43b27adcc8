//! The agent as an app of its own: making a release of it run means to have systemd start that program in place of this one.
//!
//! A trial is a drop-in in /run over the unit that this agent is (see `files`), with one way back, `UNIT.restore.service`,
//! in which there is no code of ours. Three may take it: systemd when the new agent does not start, crashes or hangs; a timer
//! when the trial takes longer than it may; the new agent when it finds that it is not well. A power cut takes the drop-in
//! away. A commit writes a drop-in of the same kind in /etc; should a proven agent not start any more, `UNIT.package.service`
//! lets the program of the package run until the next boot. See docs/adr/0010-the-agent-updates-itself.md.

mod files;
mod text;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use orangery_wire::{AppName, ReleaseId};
use tokio::sync::{OnceCell, watch};

use self::files::Files;
use self::text::Started;
use super::RunnerSettings;
use super::systemd::systemctl;
use crate::launch::{Launch, Life};
use crate::layout::Layout;

/// The app whose releases are agents.
pub const APP: &str = "orangery-agent";
/// In the environment of an agent that is a release: which. An agent that runs although another was to be started sees it.
const RELEASE: &str = "ORANGERY_AGENT_RELEASE";
/// In the environment of an agent on trial.
const TRIAL: &str = "ORANGERY_AGENT_TRIAL";

/// How long the old agent may take to stop (`TimeoutStopSec` of the unit) and the new one to load what is on the disk.
const STOP_SECS: u64 = 120;
const START_SECS: u64 = 120;
/// Over what the manifest asks for: a busy board.
const SLACK_SECS: u64 = 30;
/// After this time systemd has not done what it was asked for, and the timer of a trial is far from over.
const LEAVE: Duration = Duration::from_mins(4);

/// Whether `app` is the agent.
pub fn is_agent(app: &AppName) -> bool {
    app.as_str() == APP
}

/// Whether this process is an agent on trial: it may not write what the agent before it cannot read.
pub fn on_trial() -> bool {
    std::env::var_os(TRIAL).is_some()
}

/// Longest time that an agent has to prove itself once it runs: its probes, the soak, the way to the coordinator.
/// `launch` has the budget of the latter filled in.
pub fn proof_time(launch: &Launch) -> Duration {
    let manifest = &launch.manifest;
    let probe = |probe: &orangery_wire::manifest::Probe| {
        let answers = u64::from(probe.successes) + u64::from(probe.failures);
        probe
            .start_delay_ms
            .saturating_add((probe.interval_ms.saturating_add(probe.timeout_ms)).saturating_mul(answers))
    };
    let probes_ms = manifest.probes.iter().map(probe).max().unwrap_or(0);
    let secs = [
        probes_ms / 1_000,
        manifest.soak_secs,
        manifest.run.restart.uptime_min_secs,
        manifest.gate.connectivity_secs.unwrap_or(0),
        SLACK_SECS,
    ];
    Duration::from_secs(secs.into_iter().fold(0, u64::saturating_add))
}

/// Replaces the program of this agent.
#[derive(Debug)]
pub struct OwnRunner {
    layout: Layout,
    settings: RunnerSettings,
    /// Which release this process is; `None` for the program of the package.
    release: Option<ReleaseId>,
    /// The release that systemd was told to start when it started this process.
    meant: Option<ReleaseId>,
    unit: OnceCell<String>,
    leaving: AtomicBool,
}

impl OwnRunner {
    /// For the agent that runs below `layout`, an absolute path.
    pub fn new(layout: Layout, settings: RunnerSettings) -> Self {
        let program = std::env::current_exe().unwrap_or_default();
        let release = APP.parse().ok().and_then(|app| release_of(&program, &layout.releases(&app)));
        let meant = std::env::var(RELEASE).ok().and_then(|id| id.parse().ok());
        Self { layout, settings, release, meant, unit: OnceCell::new(), leaving: AtomicBool::new(false) }
    }

    /// Which release this process is.
    pub fn release(&self) -> Option<ReleaseId> {
        self.release
    }

    /// Whether this process makes way for another agent, which finds the apps that are its children.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// Why no release of the agent can be run here, if so.
    pub async fn unable(&self) -> Option<String> {
        self.files().await.err()
    }

    /// Makes this release of the agent run, or without one the program of the package. Returns when this process is it; as
    /// any other it does not return unless that fails, because this process is stopped.
    pub async fn run(&self, launch: Option<Launch>, life: &Arc<watch::Sender<Life>>) -> Result<(), String> {
        let wanted = launch.as_ref().map(|launch| launch.release);
        if wanted == self.release {
            life.send_replace(Life { release: wanted, ..Life::default() });
            // With a release its commit follows. Not under systemd there is nothing to settle.
            return match self.files().await {
                Ok(files) if wanted.is_none() => {
                    files.remove_proven()?;
                    end_trial(&files).await
                }
                Ok(_) | Err(_) => Ok(()),
            };
        }
        let files = self.files().await?;
        match launch {
            Some(launch) if launch.trial => self.begin_trial(&files, &launch).await?,
            launch => {
                match &launch {
                    Some(launch) => self.prove(&files, launch).await?,
                    None => files.remove_proven()?,
                }
                end_trial(&files).await?;
            }
        }
        self.leave(&files).await
    }

    /// Makes what this process is start at boot, and ends its trial. Durable; may be repeated.
    pub async fn commit(&self, launch: &Launch) -> Result<(), String> {
        if self.release != Some(launch.release) {
            return Err(format!("agent {} does not run here, so it cannot be committed", launch.version));
        }
        let files = self.files().await?;
        self.prove(&files, launch).await?;
        end_trial(&files).await
    }

    async fn begin_trial(&self, files: &Files, launch: &Launch) -> Result<(), String> {
        if files.taken_back() == Some(launch.release) {
            let reason = self.why_taken_back(files, launch).await;
            // A later wish for it is tried anew.
            files.forget_taken_back()?;
            return Err(reason);
        }
        self.ensure_not_in_vain(files, launch.release)?;
        let started = started(launch, &self.layout.tree(&launch.app, &launch.release))?;
        let budget_secs = STOP_SECS + START_SECS + proof_time(launch).as_secs();
        files.try_out(&started, START_SECS, budget_secs)?;
        systemctl::daemon_reload().await?;
        systemctl::reset_failed(&files.unit).await;
        // Before the switch: from here on the way back needs nobody.
        systemctl::ask(&["restart", "--", &files.timer_unit()]).await
    }

    async fn prove(&self, files: &Files, launch: &Launch) -> Result<(), String> {
        if self.release != Some(launch.release) {
            if files.gave_up() {
                let output = systemctl::journal_of(&text::identifier(launch.release)).await;
                return Err(format!(
                    "agent {} did not start again and again, so the one of the package runs until the next boot, or until \
                     another release is deployed; its last output: {output}",
                    launch.version
                ));
            }
            self.ensure_not_in_vain(files, launch.release)?;
        }
        let started = started(launch, &self.layout.tree(&launch.app, &launch.release))?;
        let shown = systemctl::show(&files.unit).await?;
        files.prove(&started, &shown.fragment)
    }

    /// Has systemd stop this process and start what the unit says now.
    async fn leave(&self, files: &Files) -> Result<(), String> {
        tracing::info!(unit = files.unit, "making way for another agent");
        self.leaving.store(true, Ordering::Relaxed);
        let asked = systemctl::ask(&["restart", "--no-block", "--", &files.unit]).await;
        if asked.is_ok() {
            tokio::time::sleep(LEAVE).await;
        }
        self.leaving.store(false, Ordering::Relaxed);
        asked.and(Err(format!("systemd did not restart {}", files.unit)))
    }

    /// Fails if this process was to be that release and is another program: it would only be started again.
    fn ensure_not_in_vain(&self, files: &Files, release: ReleaseId) -> Result<(), String> {
        if self.meant != Some(release) {
            return Ok(());
        }
        let program = std::env::current_exe().unwrap_or_default();
        Err(format!(
            "systemd started {} instead of it: something else sets ExecStart of {unit}, see `systemctl cat {unit}`; remove \
             that and restart the agent",
            program.display(),
            unit = files.unit
        ))
    }

    async fn why_taken_back(&self, files: &Files, launch: &Launch) -> String {
        let exit = systemctl::last_exit(&files.unit, files.tried_at()).await;
        let output = systemctl::journal_of(&text::identifier(launch.release)).await;
        let exit = exit.unwrap_or_else(|| "it did not end by itself".to_owned());
        let output = if output.is_empty() { "it wrote nothing".to_owned() } else { format!("last output: {output}") };
        format!("agent {} did not prove itself and systemd brought this one back ({exit}); {output}", launch.version)
    }

    async fn files(&self) -> Result<Files, String> {
        let unit = self.unit.get_or_try_init(|| self.find_unit()).await?;
        Ok(Files::new(unit, &self.settings.unit_dir, &self.settings.runtime_unit_dir))
    }

    /// The unit whose main process this is.
    async fn find_unit(&self) -> Result<String, String> {
        let no = "the agent replaces itself only as a service of systemd, and this one is none: update it as it was installed";
        let unit = own_unit(&std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default());
        let unit = unit.filter(|_| self.settings.systemd_usable()).ok_or_else(|| no.to_owned())?;
        let main = systemctl::show(&unit).await?.main;
        if main == Some(rustix::process::getpid()) { Ok(unit) } else { Err(no.to_owned()) }
    }
}

/// Removes what is left of a trial, and has systemd know what is on the disk now: it may have been left by an agent that was
/// killed in the middle of this.
async fn end_trial(files: &Files) -> Result<(), String> {
    files.remove_trial()?;
    if systemctl::needs_reload(&files.unit).await? {
        systemctl::daemon_reload().await?;
    }
    // Last: until here it is the way back.
    if files.has_timer() {
        systemctl::ask(&["stop", "--", &files.timer_unit()]).await?;
    }
    files.remove_way_back()
}

/// What systemd is to start for `launch`, with the words that this agent was started with.
fn started(launch: &Launch, tree: &Path) -> Result<Started, String> {
    let words = launch.words().map_err(|unknown| unknown.to_string())?;
    if !words.program.starts_with(tree) {
        return Err(format!("{} is no program of the release; name a path in its tree", words.program.display()));
    }
    let arguments: Option<Vec<String>> = std::env::args_os().skip(1).map(|word| word.into_string().ok()).collect();
    let program = words.program.to_str().map(str::to_owned);
    let (Some(program), Some(arguments)) = (program, arguments) else {
        return Err("units cannot name a path or argument of this agent that is not UTF-8".to_owned());
    };
    Ok(Started { release: launch.release, version: launch.version.clone(), program, arguments })
}

/// Which release a program is, by the place where it lies.
fn release_of(program: &Path, releases: &Path) -> Option<ReleaseId> {
    let real = |path: PathBuf| std::fs::canonicalize(&path).unwrap_or(path);
    let below = program.strip_prefix(real(releases.to_owned())).ok()?;
    below.components().next()?.as_os_str().to_str()?.parse().ok()
}

/// The service that a process belongs to (cgroups(7), /proc/PID/cgroup).
fn own_unit(cgroups: &str) -> Option<String> {
    let path = cgroups.lines().find_map(|line| {
        let (hierarchy, path) = line.split_once(':')?.1.split_once(':')?;
        matches!(hierarchy, "" | "name=systemd").then_some(path)
    })?;
    let unit = path.rsplit('/').next()?;
    (unit.ends_with(".service") && text::is_plain(unit)).then(|| unit.to_owned())
}

#[cfg(test)]
mod tests {
    use orangery_wire::Digest;

    use super::*;

    #[test]
    fn the_unit_is_read_from_both_kinds_of_hierarchies() {
        for (cgroups, unit) in [
            ("0::/system.slice/orangery-agent.service\n", Some("orangery-agent.service")),
            ("12:cpu:/\n1:name=systemd:/system.slice/a.service\n0::/system.slice/a.service\n", Some("a.service")),
            ("0::/user.slice/user-0.slice/session-1.scope\n", None),
            ("0::/system.slice/a b.service\n", None),
            ("0::/\n", None),
            ("", None),
        ] {
            assert_eq!(own_unit(cgroups).as_deref(), unit, "{cgroups}");
        }
    }

    #[test]
    fn a_program_is_the_release_in_whose_directory_it_lies() {
        let id = ReleaseId(Digest([7; 32]));
        let releases = Path::new("/nonexistent/releases");
        let program = releases.join(id.to_string()).join("tree/orangery-agent");
        assert_eq!(release_of(&program, releases), Some(id));
        assert_eq!(release_of(Path::new("/usr/bin/orangery-agent"), releases), None);
        assert_eq!(release_of(&releases.join("x/tree/a"), releases), None);
    }
}
