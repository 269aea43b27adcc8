//! Makes one release of each app run, or none: as a systemd unit, or as a child of the agent.
//!
//! Running is idempotent: what runs already is left alone. What another agent started, or another kind of runner, is found
//! and ended before anything takes its place.

mod adopted;
mod group;
mod held;
pub mod launcher;
mod log;
mod output;
pub mod own;
mod process;
mod procfs;
mod restart;
mod run_state;
mod supervise;
mod systemd;

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use orangery_wire::manifest::Runner;
use orangery_wire::{AppName, ReleaseId};
use tokio::sync::{mpsc, watch};

use self::own::OwnRunner;
use self::process::{ProcessRunner, Supervised};
pub use self::systemd::UNIT_MARK;
use self::systemd::{Hosted, SystemdRunner};
use crate::config;
pub use crate::launch::Launch;
use crate::launch::{Life, LifeWatch};
use crate::layout::Layout;

/// What runs the apps whose release leaves it open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preference {
    /// systemd where it is the init system and the agent may use it, else [`Preference::Process`].
    Auto,
    /// Children of the agent.
    Process,
    /// systemd units.
    Systemd,
}

/// How the runners are set up.
#[derive(Debug, Clone)]
pub struct RunnerSettings {
    /// For releases that leave it open.
    pub default: Preference,
    /// Where units are that start at boot, `/etc/systemd/system`.
    pub unit_dir: PathBuf,
    /// Where units are that a reboot forgets, `/run/systemd/system`. It is there only if systemd is the init system.
    pub runtime_unit_dir: PathBuf,
    /// The agent's own program, as which an app that is passed sockets begins.
    pub launcher: PathBuf,
}

impl Default for RunnerSettings {
    fn default() -> Self {
        Self {
            default: Preference::Auto,
            unit_dir: "/etc/systemd/system".into(),
            runtime_unit_dir: "/run/systemd/system".into(),
            launcher: launcher::OWN_PROGRAM.into(),
        }
    }
}

impl From<&config::Runner> for RunnerSettings {
    fn from(runner: &config::Runner) -> Self {
        let default = match runner.default {
            config::DefaultRunner::Auto => Preference::Auto,
            config::DefaultRunner::Process => Preference::Process,
            config::DefaultRunner::Systemd => Preference::Systemd,
        };
        Self { default, ..Self::default() }
    }
}

/// An app exited by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// The app.
    pub app: AppName,
    /// The release that ran.
    pub release: ReleaseId,
    /// How, such as "exit status 1" or "signal 9 (SIGKILL)".
    pub reason: String,
    /// Exits in a row, this one among them.
    pub restarts: u32,
    /// These were more than the release's restart policy allows: on trial it is not started again, otherwise only at the
    /// longest delay, and further exits are not told until it has run for a while.
    pub given_up: bool,
}

/// Both runners, and what they run. One for the whole agent.
#[derive(Debug)]
pub struct Runners {
    layout: Layout,
    settings: RunnerSettings,
    process: ProcessRunner,
    systemd: SystemdRunner,
    own: OwnRunner,
    places: Mutex<BTreeMap<AppName, Arc<Place>>>,
}

/// Where one app runs.
#[derive(Debug)]
struct Place {
    life: Arc<watch::Sender<Life>>,
    /// Where the output of what runs begins.
    begun: Mutex<Option<output::Begun>>,
    /// Held while something is started or stopped: one at a time.
    here: tokio::sync::Mutex<Here>,
}

/// What this agent watches over of one app; at most one of them.
#[derive(Debug, Default)]
struct Here {
    process: Option<Supervised>,
    systemd: Option<Hosted>,
    /// The release that this agent is.
    own: Option<Launch>,
}

/// What runs a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Process,
    Systemd,
}

impl Runners {
    /// Runners for the apps below `layout`. Exits are told through `exits`.
    pub fn new(layout: Layout, settings: RunnerSettings, exits: mpsc::UnboundedSender<Exit>) -> Self {
        // A relative state directory would be another one in the app's working directory.
        let layout = std::path::absolute(layout.root()).map_or(layout, Layout::new);
        Self {
            layout: layout.clone(),
            process: ProcessRunner::new(layout.clone(), exits.clone(), settings.launcher.clone()),
            systemd: SystemdRunner::new(layout.clone(), settings.clone(), exits),
            own: OwnRunner::new(layout, settings.clone()),
            settings,
            places: Mutex::default(),
        }
    }

    /// What runs the agent itself.
    pub fn own(&self) -> &OwnRunner {
        &self.own
    }

    /// Makes exactly this release of the app run, or none. Returns once it is started, or when what ran is gone; that it
    /// is well is for the probes to say. May be repeated, and dropped: what was begun is finished before the next.
    pub async fn run(&self, app: &AppName, launch: Option<Launch>) -> Result<(), String> {
        let place = self.place(app);
        let mut here = place.here.lock().await;
        // Never a child or a unit beside this agent: two would use one state directory.
        if own::is_agent(app) {
            here.own.clone_from(&launch);
            return self.own.run(launch, &place.life).await;
        }
        let Some(launch) = launch else {
            *place.begun() = None;
            self.process.stop(&mut here.process, app).await;
            place.life.send_replace(Life::default());
            return self.systemd.remove(&mut here.systemd, app).await;
        };
        let kind = self.kind(&launch)?;
        self.begin_output(&place, &launch, kind);
        match kind {
            Kind::Process if launch.trial => self.systemd.stop(&mut here.systemd, app).await?,
            Kind::Process => self.systemd.remove(&mut here.systemd, app).await?,
            Kind::Systemd => self.process.stop(&mut here.process, app).await,
        }
        match kind {
            Kind::Process => self.process.run(&mut here.process, launch, &place.life).await,
            Kind::Systemd => self.systemd.run(&mut here.systemd, launch, &place.life).await,
        }
    }

    /// Trusts the release that [`Self::run`] started: from now on it starts at boot (systemd) and is restarted for as long
    /// as it takes. Called after the `current` link was moved to it. Does not interrupt it; may be repeated.
    pub async fn commit(&self, app: &AppName, release: ReleaseId) -> Result<(), String> {
        let place = self.place(app);
        let mut here = place.here.lock().await;
        if let Some(launch) = here.own.as_ref().filter(|launch| launch.release == release) {
            return self.own.commit(launch).await;
        }
        if let Some(supervised) = here.process.as_ref().filter(|process| process.release() == release) {
            supervised.order(false);
            return self.systemd.remove(&mut here.systemd, app).await;
        }
        match here.systemd.as_mut().filter(|hosted| hosted.release() == release) {
            Some(hosted) => self.systemd.commit(hosted).await,
            None => Err(format!("release {} of {app} does not run here, so it cannot be committed", release.short())),
        }
    }

    /// The release of the app that runs at this moment, as far as this agent has seen.
    pub fn running(&self, app: &AppName) -> Option<ReleaseId> {
        if own::is_agent(app) {
            return self.own.release();
        }
        self.place(app).life.borrow().release
    }

    /// What is known of the app's run, now and from now on.
    pub fn life(&self, app: &AppName) -> LifeWatch {
        self.place(app).life.subscribe()
    }

    /// Memory that the app holds now, in bytes, without what the kernel could drop; `None` if nobody knows. Reads a few files of
    /// the kernel.
    pub fn memory_bytes(&self, app: &AppName) -> Option<u64> {
        if own::is_agent(app) {
            return procfs::memory_bytes(rustix::process::getpid());
        }
        // While something is started or stopped there is nothing to be measured.
        let place = self.place(app);
        let here = place.here.try_lock().ok()?;
        match (&here.process, &here.systemd) {
            (Some(_), _) => self.process.memory_bytes(app),
            (None, Some(hosted)) => hosted.memory_bytes(),
            (None, None) => None,
        }
    }

    /// Ends all apps that are children of the agent, at the same time, and returns when they are gone. Units of systemd
    /// go on: they do not need the agent.
    pub async fn stop_all(&self) {
        let places: Vec<_> = self.lock().iter().map(|(app, place)| (app.clone(), place.clone())).collect();
        // Each is asked before any is waited for.
        for (_, place) in &places {
            if let Some(supervised) = place.here.lock().await.process.as_ref() {
                supervised.ask_to_stop();
            }
        }
        for (app, place) in &places {
            let mut here = place.here.lock().await;
            if here.process.is_some() {
                self.process.stop(&mut here.process, app).await;
            }
        }
    }

    fn kind(&self, launch: &Launch) -> Result<Kind, String> {
        let usable = self.settings.systemd_usable();
        match (launch.manifest.run.runner, self.settings.default) {
            (Runner::Process, _) | (Runner::Any, Preference::Process) => Ok(Kind::Process),
            (Runner::Any, Preference::Auto) if !usable => Ok(Kind::Process),
            _ if usable => Ok(Kind::Systemd),
            _ => Err(format!(
                "{} {} needs systemd, which this agent cannot use: it must be the node's init system and the agent must \
                 be root",
                launch.app, launch.version
            )),
        }
    }

    fn place(&self, app: &AppName) -> Arc<Place> {
        let new = || {
            Arc::new(Place {
                life: Arc::new(watch::Sender::default()),
                begun: Mutex::default(),
                here: tokio::sync::Mutex::default(),
            })
        };
        self.lock().entry(app.clone()).or_insert_with(new).clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<AppName, Arc<Place>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    fn begun(&self) -> std::sync::MutexGuard<'_, Option<output::Begun>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RunnerSettings {
    /// sd_booted(3), and the right to use it.
    fn systemd_usable(&self) -> bool {
        is_directory(&self.runtime_unit_dir) && rustix::process::geteuid().is_root()
    }
}

/// Makes a directory that is nobody else's to read, if it is not there. Those above it stay open: users that systemd makes
/// for apps must pass through them.
fn make_private(path: &Path) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match std::fs::DirBuilder::new().mode(0o750).create(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn is_directory(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}
