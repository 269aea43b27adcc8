//! A node as its agent's program sees it: a directory, a settings file, a socket.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use orangery_agent::check::check_at_rest;
use orangery_agent::control::{InstallView, Reply, Request, StatusView, ask};
use orangery_agent::disk::RealDisk;
use orangery_agent::layout::Layout;
use orangery_agent::road::Place;
use orangery_wire::messages::{Phase, RefusalCode, What};

use crate::strace::{self, Call, Fault};
use crate::template::{self, Template};
use crate::{eventually, eventually_or};

/// How a deployment ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// 2.0.0 is current.
    Current,
    /// It is not, for this reason.
    Refused(Option<RefusalCode>, String),
    /// The agent runs, and nothing was deployed.
    Settled,
    /// The agent is gone.
    Died,
}

impl Outcome {
    pub fn word(&self) -> String {
        match self {
            Self::Current => "done".to_owned(),
            Self::Refused(code, _) => format!("refused: {}", code.map_or("again later", RefusalCode::as_str)),
            Self::Settled => "runs".to_owned(),
            Self::Died => "killed, or it ended and said why".to_owned(),
        }
    }
}

/// A copy of the node.
pub struct Board {
    directory: tempfile::TempDir,
    agent: Option<Child>,
    /// The agent, when `agent` is its strace.
    below: Option<u32>,
    /// strace, when it is not the agent's parent.
    tracer: Option<Child>,
}

impl Board {
    pub fn copy_of(template: &Template) -> Self {
        let directory = template::place();
        for name in ["state", "agent.toml"] {
            template::copy(&template.directory().join(name), directory.path());
        }
        // Read by all of them, and never written.
        std::os::unix::fs::symlink(template.directory().join("releases"), directory.path().join("releases")).unwrap();
        Self { directory, agent: None, below: None, tracer: None }
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn layout(&self) -> Layout {
        Layout::new(self.directory().join("state"))
    }

    fn log_path(&self) -> PathBuf {
        self.directory().join("log")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Starts the agent as ever.
    pub fn start(&mut self) {
        let command = Command::new(env!("CARGO_BIN_EXE_orangery-agent"));
        self.spawn(command);
    }

    /// Starts it as the child of a tracer.
    pub fn start_with(&mut self, mut tracer: Command) {
        tracer.arg("--").arg(env!("CARGO_BIN_EXE_orangery-agent"));
        self.spawn(tracer);
        let strace = self.agent.as_mut().unwrap();
        // Until it has become the agent, or was hit so early that it is over.
        eventually("strace starts the agent", || {
            self.below = child_of(strace.id());
            (self.below.is_some() || strace.try_wait().unwrap().is_some()).then_some(())
        });
    }

    pub fn start_under(&mut self, call: &Call, fault: Fault) {
        self.start_with(strace::injecting(call, fault, self.directory.path()));
    }

    fn spawn(&mut self, mut command: Command) {
        let log = fs::File::options().append(true).create(true).open(self.log_path()).unwrap();
        command.arg("--config").arg(self.directory().join("agent.toml")).arg("run");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).env("NO_COLOR", "1");
        self.agent = Some(command.spawn().unwrap());
    }

    /// Has a tracer look at the agent from now on.
    pub fn attach_with(&mut self, mut tracer: Command) {
        let agent = self.agent.as_ref().unwrap().id();
        tracer.args(["-p", &agent.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
        self.tracer = Some(tracer.spawn().unwrap());
        let tracer = self.tracer.as_ref().unwrap().id();
        eventually("strace has attached to every thread", || {
            let threads = fs::read_dir(format!("/proc/{agent}/task")).ok()?;
            let is_traced = |thread: fs::DirEntry| {
                let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
                status
                    .lines()
                    .any(|line| line.strip_prefix("TracerPid:").is_some_and(|by| by.trim() == tracer.to_string()))
            };
            threads.flatten().all(is_traced).then_some(())
        });
    }

    pub fn attach(&mut self, call: &Call, fault: Fault) {
        self.attach_with(strace::injecting(call, fault, self.directory.path()));
    }

    /// Whether the agent's process is there.
    pub fn lives(&mut self) -> bool {
        let Some(agent) = &mut self.agent else { return false };
        if agent.try_wait().unwrap().is_some() {
            return false;
        }
        // strace goes on as long as the app does.
        self.below.is_none_or(runs)
    }

    fn status(&self) -> Option<StatusView> {
        match ask(&self.layout().socket(), &Request::Status) {
            Ok(Reply::Status(view)) => Some(*view),
            _ => None,
        }
    }

    /// The version that is current, once nothing is under way: it must be what runs. Empty before there is any.
    pub fn settled(&self, what: &str) -> String {
        eventually_or(
            || format!("{what}: the node settles\n{}", self.log()),
            || {
                let view = self.status()?;
                let Some(app) = view.reported.apps.first() else { return Some(String::new()) };
                let at_rest = app.phase == Phase::Settled && app.running == app.current;
                at_rest.then(|| app.current.as_ref().map(|release| release.version.to_string()).unwrap_or_default())
            },
        )
    }

    /// Until the agent has either started its app or is gone.
    pub fn settles_or_dies(&mut self, what: &str) -> Outcome {
        let log = self.log_path();
        let log = || fs::read_to_string(&log).unwrap_or_default();
        eventually_or(
            || format!("{what}: the agent starts or ends\n{}", log()),
            || {
                if !self.lives() {
                    return Some(Outcome::Died);
                }
                let view = self.status()?;
                let app = view.reported.apps.first()?;
                (app.phase == Phase::Settled && app.running.is_some()).then_some(Outcome::Settled)
            },
        )
    }

    pub fn deploy(&mut self) -> Outcome {
        self.install("2.0.0")
    }

    pub fn install(&mut self, version: &str) -> Outcome {
        let place = Place::Path(self.directory().join("releases"));
        let request = Request::Install { app: "greeter".parse().unwrap(), version: version.parse().unwrap(), place };
        let socket = self.layout().socket();
        if !matches!(ask(&socket, &request), Ok(Reply::Install(_))) {
            return Outcome::Died;
        }
        let log = self.log_path();
        let log = || fs::read_to_string(&log).unwrap_or_default();
        eventually_or(
            || format!("the deployment ends\n{}", log()),
            || {
                if !self.lives() {
                    return Some(Outcome::Died);
                }
                match ask(&socket, &Request::InstallState) {
                    Ok(Reply::Install(view)) => match *view {
                        InstallView::Current => Some(Outcome::Current),
                        InstallView::Failed { code, reason, .. } => Some(Outcome::Refused(code, reason)),
                        _ => None,
                    },
                    _ => None,
                }
            },
        )
    }

    /// Ends it as an operator would.
    pub fn stop(&mut self) {
        let Some(mut agent) = self.agent.take() else { return };
        self.end_tracer();
        if let Some(below) = self.below.take() {
            // strace passes nothing on: its child is asked. If that is hit only now, its app goes on, and strace with it.
            signal(below, rustix::process::Signal::TERM);
            eventually("the agent ends", || (!runs(below)).then_some(()));
            let _ = agent.kill();
            agent.wait().unwrap();
            return;
        }
        signal(agent.id(), rustix::process::Signal::TERM);
        let status = agent.wait().unwrap();
        assert!(status.success() || status.signal().is_some(), "{status}\n{}", self.log());
    }

    /// Ends it as the kernel would. Its app goes on.
    pub fn kill(&mut self) {
        self.end_tracer();
        let Some(mut agent) = self.agent.take() else { return };
        let below = self.below.take();
        if let Some(below) = below {
            signal(below, rustix::process::Signal::KILL);
        }
        let _ = agent.kill();
        agent.wait().unwrap();
        eventually("the killed agent is gone", || below.is_none_or(|below| !runs(below)).then_some(()));
    }

    fn end_tracer(&mut self) {
        if let Some(mut tracer) = self.tracer.take() {
            let _ =
                rustix::process::kill_process(rustix::process::Pid::from_child(&tracer), rustix::process::Signal::TERM);
            tracer.wait().unwrap();
        }
    }

    /// The history has every number from the first to the last, and tells of 2.0.0.
    pub fn assert_nothing_is_missing(&self, what: &str) {
        let Ok(Reply::History(events)) = ask(&self.layout().socket(), &Request::History { count: 10_000 }) else {
            panic!("{what}: no history\n{}", self.log())
        };
        let first = events.first().unwrap().sequence;
        let numbers: Vec<u64> = events.iter().map(|event| event.sequence).collect();
        assert_eq!(numbers, (first..first + events.len() as u64).collect::<Vec<_>>(), "{what}");
        let rebuilt = events.iter().any(|event| matches!(event.what, What::StoreRebuilt { .. }));
        assert!(rebuilt || first == 1, "{what}: events before {first} are gone, and nothing says why");
        let told = |version: &str| {
            let is = |event: &orangery_wire::messages::Event| match &event.what {
                // A kill between the record and the event costs the event; the next start's says the same.
                What::Committed { release: Some(release), .. }
                | What::PhaseChanged { release: Some(release), phase: Phase::Settled, .. } => {
                    release.version.to_string() == version
                }
                _ => false,
            };
            events.iter().any(is)
        };
        assert!(told("2.0.0"), "{what}: nobody hears that 2.0.0 is current\n{events:#?}");
    }

    pub fn assert_sound(&self, what: &str) {
        let violations = check_at_rest(&RealDisk, &self.layout());
        assert!(violations.is_empty(), "{what}: {violations:?}\n{}", self.log());
    }
}

fn is_named(pid: u32, name: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name)
}

/// Whether it is the agent, and not a zombie.
fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    is_named(pid, "orangery-agent") && !stat.contains(") Z") && !stat.contains(") X")
}

/// The agent below its strace. The kernel's list may miss one that is there: to be asked until it does not.
fn child_of(strace: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{strace}/task/{strace}/children")).ok()?;
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(|pid| is_named(*pid, "orangery-agent"))
}

fn signal(pid: u32, signal: rustix::process::Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.kill();
        // What a killed agent's app left running, known by its directory in its environment.
        let mark = format!("ORANGERY_DATA={}", self.directory().display());
        for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let environment = fs::read(process.path().join("environ")).unwrap_or_default();
            let ours = environment.split(|byte| *byte == 0).any(|line| line.starts_with(mark.as_bytes()));
            if ours && let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) {
                signal(pid, rustix::process::Signal::KILL);
            }
        }
    }
}
