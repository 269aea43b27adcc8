//! Apps as children of the agent, each leading its own process group.
//!
//! What is started is never interrupted by the agent's own end: output goes to a file, not to a pipe, and `run.json` says
//! which process it is, so that the next agent goes on watching the same one. A process that was started but not yet written
//! down when the agent was killed is known by its environment and ended before another is started.
//!
//! A program that leaves its group is ended with the app if it kept the app's environment; the systemd runner, with its
//! control groups, catches any.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use orangery_wire::ReleaseId;
use orangery_wire::manifest::Run;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::Exit;
use super::group::Group;
use super::held::{FIRST, Held};
use super::launcher;
use super::log::Log;
use super::procfs;
use super::run_state::{Key, RunState};
use super::supervise::{Order, Supervisor};
use crate::launch::{Launch, Life, Listen, not_started};
use crate::layout::Layout;

/// In the environment of whatever this runner starts, so that it is known again.
const MARK: (&str, &str) = ("ORANGERY_RUNNER", "process");

/// The last pause for a program that is being written.
const BUSY_LONGEST: Duration = Duration::from_millis(500);

/// An app that this agent watches over.
#[derive(Debug)]
pub struct Supervised {
    key: Key,
    orders: watch::Sender<Order>,
    task: JoinHandle<()>,
}

/// Starts and stops children of the agent.
#[derive(Debug)]
pub struct ProcessRunner {
    layout: Layout,
    boot_id: String,
    exits: mpsc::UnboundedSender<Exit>,
    held: Arc<Held>,
    launcher: PathBuf,
}

impl ProcessRunner {
    /// A runner for the apps below `layout`, which must be an absolute path. `launcher` is the agent's program, see
    /// [`launcher`].
    pub fn new(layout: Layout, exits: mpsc::UnboundedSender<Exit>, launcher: PathBuf) -> Self {
        Self { layout, boot_id: procfs::boot_id(), exits, held: Arc::default(), launcher }
    }

    /// Makes `launch` run in place of whatever runs of the app. If it runs already, also by an earlier agent, it is left
    /// alone.
    pub async fn run(
        &self,
        here: &mut Option<Supervised>,
        launch: Launch,
        life: &Arc<watch::Sender<Life>>,
    ) -> Result<(), String> {
        let key = Key { release: launch.release, launch: launch.digest() };
        if let Some(supervised) = here.as_ref().filter(|here| here.key == key && !here.task.is_finished()) {
            supervised.order(launch.trial);
            return Ok(());
        }
        self.stop_supervised(here).await;
        let program = Program::new(self, key, launch)?;
        let group = match self.adopt(&program).await {
            Some(group) => group,
            None => program.start().await?,
        };
        let (orders, given) = watch::channel(Order::Supervise { trial: program.launch.trial });
        let supervisor = Supervisor::new(program, life.clone(), self.exits.clone(), given);
        let task = tokio::spawn(supervisor.watch_over(group));
        *here = Some(Supervised { key, orders, task });
        Ok(())
    }

    /// Ends the app's processes, whoever started them, and returns when they are gone.
    pub async fn stop(&self, here: &mut Option<Supervised>, app: &orangery_wire::AppName) {
        if here.is_some() {
            self.stop_supervised(here).await;
        } else {
            let path = self.layout.run_state(app);
            if let Some(state) = RunState::read(&path, &self.boot_id) {
                end_foreign(&state).await;
            }
            sweep(&self.layout.data(app)).await;
            forget(&path);
        }
        self.held.close(app);
    }

    /// Memory that the app's processes hold, as far as they are in its group.
    pub fn memory_bytes(&self, app: &orangery_wire::AppName) -> Option<u64> {
        let state = RunState::read(&self.layout.run_state(app), &self.boot_id)?;
        procfs::group_memory_bytes(state.leader()?)
    }

    async fn stop_supervised(&self, here: &mut Option<Supervised>) {
        let Some(supervised) = here.as_mut() else { return };
        supervised.ask_to_stop();
        // Waited for by reference: if the caller gives up, the next one waits on.
        if let Err(error) = (&mut supervised.task).await {
            tracing::error!(reason = %error, "the watch over an app broke off");
        }
        *here = None;
    }

    /// The process that an earlier agent started of the same launch. Any other that it left is ended.
    async fn adopt(&self, program: &Program) -> Option<Group> {
        let state = RunState::read(&program.run_state, &self.boot_id);
        if let Some(state) = &state {
            let group = state.group();
            if let Some(group) = &group {
                self.held.take_back(&program.launch.app, group.pid(), &program.sockets);
            }
            if state.key == program.key
                && let Some(group) = group
            {
                tracing::info!(app = %program.launch.app, release = program.key.release.short(), "found the app running");
                return Some(group);
            }
            end_foreign(state).await;
        }
        sweep(&program.launch.data).await;
        None
    }
}

impl Supervised {
    /// Which release it is.
    pub fn release(&self) -> ReleaseId {
        self.key.release
    }

    /// Asks it to stop, without waiting for that.
    pub fn ask_to_stop(&self) {
        self.orders.send_replace(Order::Stop);
    }

    /// Says whether it is on trial from now on.
    pub fn order(&self, trial: bool) {
        self.orders.send_replace(Order::Supervise { trial });
    }
}

async fn end_foreign(state: &RunState) {
    if let Some(mut group) = state.group() {
        group.end(state.stop_signal, Duration::from_secs(state.stop_grace_secs)).await;
    }
}

/// Kills whatever has the app's environment: processes that left their group, or that a killed agent did not write down.
pub async fn sweep(data: &Path) {
    let marks = [format!("{}={}", MARK.0, MARK.1), format!("ORANGERY_DATA={}", data.display())];
    let mut pause = Duration::from_millis(1);
    loop {
        let strays = procfs::marked(&marks);
        if strays.is_empty() {
            return;
        }
        for pid in strays {
            procfs::kill_marked(pid, &marks);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

/// Removes `run.json`. If that fails it stays and names a process that is gone, which the next reader sees.
pub fn forget(run_state: &Path) {
    let _ = std::fs::remove_file(run_state);
}

/// How one launch is started, as often as it takes.
#[derive(Debug)]
pub struct Program {
    /// What is to run.
    pub launch: Launch,
    /// Which process that makes.
    pub key: Key,
    /// Its output.
    pub log: Log,
    /// `run.json`
    pub run_state: std::path::PathBuf,
    /// Length of the log before the first start: what is older is of another release.
    pub log_since: u64,
    boot_id: String,
    sockets: Vec<Listen>,
    held: Arc<Held>,
    launcher: PathBuf,
}

impl Program {
    fn new(runner: &ProcessRunner, key: Key, mut launch: Launch) -> Result<Self, String> {
        let absolute =
            |path: &Path| std::path::absolute(path).map_err(|e| format!("cannot find the state directory: {e}"));
        launch.tree = absolute(&launch.tree)?;
        launch.data = absolute(&launch.data)?;
        launch.variables.insert("ORANGERY_DATA".to_owned(), launch.data.display().to_string());
        let (logs, sockets) = (runner.layout.logs(&launch.app), launch.sockets()?);
        let log = Log::new(&logs).map_err(|e| format!("cannot make the log directory {}: {e}", logs.display()))?;
        let (run_state, log_since) = (runner.layout.run_state(&launch.app), log.size_bytes());
        let (boot_id, held, launcher) = (runner.boot_id.clone(), runner.held.clone(), runner.launcher.clone());
        Ok(Self { launch, key, log, run_state, log_since, boot_id, sockets, held, launcher })
    }

    /// How it is to be run.
    pub fn run(&self) -> &Run {
        &self.launch.manifest.run
    }

    /// Starts it as the leader of its own process group and writes it down.
    pub async fn start(&self) -> Result<Group, String> {
        let words = self.launch.words().map_err(|e| e.to_string())?;
        let data = &self.launch.data;
        super::make_private(data).map_err(|e| format!("cannot make the app's directory {}: {e}", data.display()))?;
        let sockets = self.held.make(&self.launch.app, &self.sockets)?;
        let child = self.spawn_when_free(&words.program, &words.arguments, sockets).await;
        let child = child.map_err(|error| not_started(&words.program, &error))?;
        let group = Group::of_child(child).map_err(|error| not_started(&words.program, &error))?;
        // An agent that the kernel is to spare (`OOMScoreAdjust=`) does not ask that for apps.
        let _ = std::fs::write(format!("/proc/{}/oom_score_adj", group.pid().as_raw_nonzero()), "0");
        let state = RunState::of(&group, self.key, &self.boot_id, self.run());
        if let Some(Err(error)) = state.map(|state| state.write(&self.run_state)) {
            // It runs; were the agent killed now, the next one would start it anew instead of adopting it.
            tracing::warn!(app = %self.launch.app, reason = %error, "cannot write down which process the app is");
        }
        Ok(group)
    }

    /// A program may be held open for writing by a child of the agent that was forked while it was unpacked and is about to
    /// execute something else.
    async fn spawn_when_free(
        &self,
        program: &Path,
        arguments: &[String],
        sockets: Vec<OwnedFd>,
    ) -> io::Result<tokio::process::Child> {
        let mut command = self.command(program, arguments, sockets)?;
        let mut pause = Duration::from_millis(1);
        loop {
            match command.spawn() {
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && pause < BUSY_LONGEST => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                other => return other,
            }
        }
    }

    fn command(
        &self,
        program: &Path,
        arguments: &[String],
        sockets: Vec<OwnedFd>,
    ) -> io::Result<tokio::process::Command> {
        let output = self.log.open()?;
        let errors = output.try_clone()?;
        let passes = !sockets.is_empty();
        let mut command = tokio::process::Command::new(if passes { &self.launcher } else { program });
        command.env_clear().envs(self.launch.environment()).env(MARK.0, MARK.1);
        if passes {
            launcher::ensure_startable(program)?;
            let names: Vec<&str> = self.sockets.iter().map(|listen| listen.name.as_str()).collect();
            command.env("LISTEN_FDS", names.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
            command.arg(launcher::WORD).arg(program);
            let numbered = (FIRST..).zip(sockets).map(|(child_fd, parent_fd)| FdMapping { parent_fd, child_fd });
            command.fd_mappings(numbered.collect()).map_err(io::Error::other)?;
        }
        command.args(arguments).current_dir(&self.launch.data).process_group(0);
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        Ok(command)
    }
}
