//! Apps as units of systemd.
//!
//! The unit of the proven release is in /etc, runs what the `current` link names and is enabled: it starts at boot, agent
//! or not. A trial is a layer in /run above it (see [`files`]): a power cut takes it away. A commit writes the proven
//! release's unit, removes the layer and lets systemd read its units anew; the running process is not touched.
//!
//! Which release a unit runs is read from the environment of its first process, not from files: those say only what
//! would run after the next start.

pub(super) mod files;
mod ground;
mod sockets;
pub(super) mod systemctl;
pub(super) mod unit;
mod watch;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use orangery_wire::{AppName, ReleaseId};
use tokio::sync::{OnceCell, mpsc, watch as channel};
use tokio::task::JoinHandle;

use self::files::Files;
use self::systemctl::Shown;
pub use self::unit::MARK as UNIT_MARK;
use self::unit::Place;
use self::watch::{Since, Watch};
use super::{Exit, RunnerSettings, procfs};
use crate::launch::{Launch, Life, Listen};
use crate::layout::Layout;

/// In the environment of each app: which launch it is, so that a change of the node's settings is seen.
const LAUNCH: &str = "ORANGERY_LAUNCH";

/// A unit that this agent watches.
#[derive(Debug)]
pub struct Hosted {
    launch: Launch,
    trial: channel::Sender<bool>,
    watch: JoinHandle<()>,
}

impl Hosted {
    /// Which release it is.
    pub fn release(&self) -> ReleaseId {
        self.launch.release
    }

    /// Memory that its control group holds. Our units name no slice, so it is where systemd puts every service.
    pub fn memory_bytes(&self) -> Option<u64> {
        procfs::control_group_memory_bytes(&format!("system.slice/orangery-{}.service", self.launch.app))
    }
}

impl Drop for Hosted {
    /// The unit goes on; only the watch ends.
    fn drop(&mut self) {
        self.watch.abort();
    }
}

/// Starts and stops units.
#[derive(Debug)]
pub struct SystemdRunner {
    layout: Layout,
    settings: RunnerSettings,
    exits: mpsc::UnboundedSender<Exit>,
    version: OnceCell<u32>,
}

impl SystemdRunner {
    /// A runner for the apps below `layout`, which must be an absolute path.
    pub fn new(layout: Layout, settings: RunnerSettings, exits: mpsc::UnboundedSender<Exit>) -> Self {
        Self { layout, settings, exits, version: OnceCell::new() }
    }

    /// Makes `launch` run as the app's unit. If it runs already it is left alone.
    pub async fn run(
        &self,
        here: &mut Option<Hosted>,
        launch: Launch,
        life: &Arc<channel::Sender<Life>>,
    ) -> Result<(), String> {
        let files = self.files(&launch.app);
        files.ensure_ours()?;
        if !files.any() {
            ensure_free(&files, &systemctl::show(&files.unit).await?)?;
        }
        let grace = longest_grace(&files, &launch);
        let sockets = launch.sockets()?;
        if self.write(&files, &launch, &sockets).await? {
            systemctl::daemon_reload().await?;
        }
        let shown = systemctl::show(&files.unit).await?;
        let open = open_sockets(&files).await?;
        let as_wanted = open == files.sockets.units(&sockets);
        let mut since = Since { secs: now_secs(), exits: 0 };
        if as_wanted && runs(&shown, &launch) {
            let same = |hosted: &&mut Hosted| hosted.launch.digest() == launch.digest();
            if let Some(hosted) = here.as_mut().filter(same) {
                hosted.trial.send_replace(launch.trial);
                hosted.launch = launch;
                return Ok(());
            }
            tracing::info!(app = %launch.app, release = launch.release.short(), "found the app running");
            since.exits = shown.exits();
        } else {
            *here = None;
            life.send_replace(Life::default());
            // Also sets its count of restarts back.
            systemctl::reset_failed(&files.unit).await;
            if !as_wanted {
                // systemd gives a service no socket while it runs. Those that stay are not touched.
                systemctl::stop(&[&files.unit], grace).await?;
                exchange(&files, &open, &sockets).await?;
            }
            if let Err(reason) = systemctl::restart(&files.unit, grace).await {
                return Err(not_started(&files.unit, &launch, reason, since.secs).await);
            }
        }
        let tidied = if launch.trial { files.sockets.tidy_trial(&sockets)? } else { files.sockets.tidy(&sockets)? };
        if tidied {
            systemctl::daemon_reload().await?;
        }
        *here = Some(self.host(files.unit, launch, life, since));
        Ok(())
    }

    /// Trusts what runs: writes its unit for good and removes the trial, without a restart.
    pub async fn commit(&self, hosted: &mut Hosted) -> Result<(), String> {
        hosted.launch.trial = false;
        hosted.trial.send_replace(false);
        let (files, sockets) = (self.files(&hosted.launch.app), hosted.launch.sockets()?);
        let written = self.write(&files, &hosted.launch, &sockets).await?;
        if files.sockets.tidy(&sockets)? || written {
            systemctl::daemon_reload().await?;
        }
        Ok(())
    }

    /// Stops the app's unit for another kind of runner's trial: what starts at boot stays.
    pub async fn stop(&self, here: &mut Option<Hosted>, app: &AppName) -> Result<(), String> {
        let files = self.files(app);
        *here = None;
        if !self.settings.systemd_usable() || !files.any() {
            return Ok(());
        }
        files.ensure_ours()?;
        stop_all(&files).await?;
        if files.remove_trial()? | files.sockets.tidy_trial(&[])? {
            systemctl::daemon_reload().await?;
        }
        Ok(())
    }

    /// Stops the app's unit and removes it.
    pub async fn remove(&self, here: &mut Option<Hosted>, app: &AppName) -> Result<(), String> {
        let files = self.files(app);
        *here = None;
        // Without its files there is no unit: they go only after it was stopped.
        if !self.settings.systemd_usable() || !files.any() {
            return Ok(());
        }
        files.ensure_ours()?;
        stop_all(&files).await?;
        files.remove_all()?;
        systemctl::daemon_reload().await?;
        systemctl::reset_failed(&files.unit).await;
        Ok(())
    }

    /// Writes the files for `launch`; says whether systemd must read its units anew.
    async fn write(&self, files: &Files, launch: &Launch, sockets: &[Listen]) -> Result<bool, String> {
        let version = *self.version.get_or_init(systemctl::version).await;
        let own_users = ground::can_be_given_away(self.layout.root());
        if !own_users {
            // Otherwise systemd makes it, for the user that it makes.
            let made = super::make_private(&launch.data);
            made.map_err(|e| format!("cannot make the app's directory {}: {e}", launch.data.display()))?;
        }
        let place = Place { layout: &self.layout, version, own_users };
        let text = |text: Result<String, unit::Unwritable>| text.map_err(|unwritable| unwritable.to_string());
        if launch.trial {
            let changed = files.sockets.try_out(sockets)?;
            return Ok(
                files.try_out(&text(unit::drop_in(launch, place))?, &text(unit::unit(launch, place))?)? || changed
            );
        }
        let tree = self.layout.current(&launch.app).join("tree");
        let unit = text(unit::unit(&Launch { tree, ..launch.clone() }, place))?;
        // First: a power cut may leave it with more sockets than it wants, never with fewer.
        let changed = files.sockets.prove(sockets)?;
        Ok(files.prove(&unit)? || changed)
    }

    fn files(&self, app: &AppName) -> Files {
        Files::new(app, &self.settings.unit_dir, &self.settings.runtime_unit_dir)
    }

    fn host(&self, unit: String, launch: Launch, life: &Arc<channel::Sender<Life>>, since: Since) -> Hosted {
        life.send_replace(Life { release: Some(launch.release), ..Life::default() });
        let (trial, on_trial) = channel::channel(launch.trial);
        let watch = Watch::new(unit, &launch, life.clone(), self.exits.clone(), on_trial, since);
        Hosted { launch, trial, watch: tokio::spawn(watch.go_on()) }
    }
}

/// The units of the app's sockets that are open. Without a file there is none.
async fn open_sockets(files: &Files) -> Result<BTreeSet<String>, String> {
    if files.sockets.any() { systemctl::active(&files.sockets.pattern()).await } else { Ok(BTreeSet::new()) }
}

/// Closes the sockets that are not wanted and opens those that are missing. The service must not run.
async fn exchange(files: &Files, open: &BTreeSet<String>, wanted: &[Listen]) -> Result<(), String> {
    let wanted = files.sockets.units(wanted);
    let unwanted: Vec<&str> = open.difference(&wanted).map(String::as_str).collect();
    systemctl::stop(&unwanted, Duration::ZERO).await?;
    for unit in wanted.difference(open) {
        // One that failed is refused without it.
        systemctl::reset_failed(unit).await;
        systemctl::start(unit).await.map_err(|reason| format!("systemd cannot hold the socket {unit}: {reason}"))?;
    }
    Ok(())
}

/// Stops the app and its sockets: the next connection would start it again.
async fn stop_all(files: &Files) -> Result<(), String> {
    let open = open_sockets(files).await?;
    let mut units: Vec<&str> = open.iter().map(String::as_str).collect();
    units.push(&files.unit);
    systemctl::stop(&units, Duration::from_secs(files.grace_secs())).await
}

/// How long a restart may take to stop what runs: that may have a longer grace than what comes.
fn longest_grace(files: &Files, launch: &Launch) -> Duration {
    Duration::from_secs(files.grace_secs().max(launch.manifest.run.stop_grace_secs))
}

/// Whether the unit's first process is of this very launch.
fn runs(shown: &Shown, launch: &Launch) -> bool {
    let Some(main) = shown.main else { return false };
    let is = |name, value: String| procfs::variable(main, name) == Some(value);
    is("ORANGERY_RELEASE", launch.release.to_string()) && is(LAUNCH, launch.digest().to_string())
}

/// A unit of that name may also be in /usr/lib, where ours would hide it.
fn ensure_free(files: &Files, shown: &Shown) -> Result<(), String> {
    if shown.fragment.is_empty() {
        return Ok(());
    }
    let (unit, path) = (&files.unit, &shown.fragment);
    Err(format!("there is a unit {unit} already, in {path}, which is not Orangery's; rename the app"))
}

async fn not_started(unit: &str, launch: &Launch, reason: String, since_secs: u64) -> String {
    if launch.trial {
        // It would be started again and again until the driver puts something in its place. A proven one may be.
        let grace = Duration::from_secs(launch.manifest.run.stop_grace_secs);
        let _ = systemctl::stop(&[unit], grace).await;
    }
    let exit = systemctl::last_exit(unit, since_secs).await.unwrap_or(reason);
    match systemctl::journal(unit, since_secs).await {
        output if output.is_empty() => format!("systemd could not start {unit}: {exit}"),
        output => format!("systemd could not start {unit}: {exit}; last output: {output}"),
    }
}

/// Unix time by the node's own clock.
pub(super) fn now_secs() -> u64 {
    // The journal has the node's own clock, whatever that says.
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
