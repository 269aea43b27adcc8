//! A real node under strace: its state directory, the agent's program, and what was recorded of it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use orangery_agent::control::{self, InstallView, Reply, Request};
use orangery_agent::layout::Layout;
use orangery_agent::road::Place;
use orangery_wire::messages::{AppReport, Phase};

use crate::image::{Image, Op};
use crate::owner::Release;
use crate::{real, strace};

const PATIENCE: Duration = Duration::from_mins(1);
const AGENT: &str = env!("CARGO_BIN_EXE_orangery-agent");

/// A directory for images, in memory where that can be had.
pub fn directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// What a program did to its state directory, between two images.
pub struct Recording {
    pub start: Image,
    pub ops: Vec<Op>,
    pub end: Image,
    /// What was wrong while it was recorded.
    pub wrong: Vec<String>,
}

/// A state directory and the settings that name it.
pub struct Board {
    directory: tempfile::TempDir,
    pub state: PathBuf,
}

impl Board {
    pub fn with(image: &Image) -> Self {
        let directory = directory();
        let state = directory.path().join("state");
        std::fs::create_dir(&state).unwrap();
        real::write(image, &state);
        Self::at(directory, state)
    }

    /// On a state directory that is there already.
    pub fn at(directory: tempfile::TempDir, state: PathBuf) -> Self {
        let settings = format!(
            "state_dir = \"{}\"\n[fetch]\nreserve_bytes = 0\n[runner]\ndefault = \"process\"\n[repository]\nrefresh_secs = 86400\n[first_boot]\nfiles = []\n",
            state.display()
        );
        std::fs::write(directory.path().join("agent.toml"), settings).unwrap();
        Self { directory, state }
    }

    fn settings(&self) -> PathBuf {
        self.directory.path().join("agent.toml")
    }

    fn trace(&self) -> PathBuf {
        self.directory.path().join("trace")
    }

    fn agent(&self, command: &mut Command, words: &[&str]) -> Child {
        command.arg(AGENT).arg("--config").arg(self.settings()).args(words);
        let log = std::fs::File::create(self.directory.path().join("log")).unwrap();
        command.stdout(Stdio::null()).stderr(log).spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"))
    }

    /// Runs a command of the agent to its end, recorded.
    pub fn record_command(&self, words: &[&str]) -> Recording {
        let start = real::read(&self.state);
        let mut child = self.agent(&mut strace_to(&self.trace()), words);
        let ended = child.wait().unwrap();
        assert!(ended.success(), "{words:?}: {ended}\n{}", self.log());
        self.recording(start)
    }

    /// Has the agent run, recorded, while `deed` is done to it.
    pub fn record(&self, deed: impl FnOnce(&Agent)) -> Recording {
        let start = real::read(&self.state);
        let child = self.agent(&mut strace_to(&self.trace()), &["run"]);
        let agent = Agent { place: self, child };
        agent.is_up();
        deed(&agent);
        agent.stop(true);
        self.recording(start)
    }

    /// Has the agent run until every app has settled, and then does `deed`. False if it does not come to that.
    pub fn boot(&self, deed: impl FnOnce(&Agent)) -> bool {
        let child = self.agent(&mut Command::new("env"), &["run"]);
        let agent = Agent { place: self, child };
        let settled = agent.settles();
        if settled {
            deed(&agent);
        }
        agent.stop(false);
        settled
    }

    fn recording(&self, start: Image) -> Recording {
        let text = std::fs::read_to_string(self.trace()).unwrap();
        let end = real::read(&self.state);
        if std::env::var_os("KEEP_TRACES").is_some() {
            std::fs::copy(self.trace(), format!("/tmp/trace.{}", std::process::id())).unwrap();
        }
        let ops = strace::read(&text, &self.state, start.clone()).unwrap_or_else(|e| panic!("{e}\n{}", self.log()));
        let recording = Recording { start, ops, end, wrong: Vec::new() };
        recording.is_true();
        recording
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

/// `strace` with the settings that [`strace::read`] needs. `ORANGERY_POWER_CUT_INJECT` is what it is to inject besides, so that
/// another order of the threads is seen: `fsync:delay_enter=60000`.
pub fn strace_to(trace: &Path) -> Command {
    let mut command = Command::new("strace");
    if let Ok(inject) = std::env::var("ORANGERY_POWER_CUT_INJECT") {
        command.arg(format!("--inject={inject}"));
    }
    command.args(["-f", "--seccomp-bpf", "-y", "-xx", "-s", "16777216", "-e", strace::CALLS, "-o"]).arg(trace);
    command
}

impl Recording {
    /// Doing all of it to the start gives the end, byte for byte.
    pub fn is_true(&self) {
        let mut image = self.start.clone();
        self.ops.iter().for_each(|op| image.apply(op).unwrap());
        let differences = real::differences(&image, &self.end);
        assert!(differences.is_empty(), "the recording is not what was done:\n{}", differences.join("\n"));
    }

    /// What was done to each file and directory, in order. Between different ones the order may differ from run to run: files of a
    /// release are synced by several threads.
    pub fn shape(&self) -> std::collections::BTreeMap<PathBuf, Vec<&'static str>> {
        let mut shape: std::collections::BTreeMap<PathBuf, Vec<&'static str>> = std::collections::BTreeMap::new();
        for op in &self.ops {
            let (name, path) = op.shape();
            // What an app writes and how an engine lays out its pages depends on the time.
            let own = path.components().any(|part| part.as_os_str() == "logs" || part.as_os_str() == "data");
            let of_store = path.starts_with("store") && path != Path::new("store");
            if !own && !of_store && path != Path::new(crate::timeline::CONNECTS) {
                shape.entry(path).or_default().push(name);
            }
        }
        shape
    }
}

/// An agent that runs.
pub struct Agent<'a> {
    place: &'a Board,
    child: Child,
}

impl Agent<'_> {
    fn socket(&self) -> PathBuf {
        Layout::new(&self.place.state).socket()
    }

    fn apps(&self) -> Option<Vec<AppReport>> {
        match control::ask(&self.socket(), &Request::Status) {
            Ok(Reply::Status(view)) => Some(view.reported.apps),
            _ => None,
        }
    }

    fn is_up(&self) {
        self.until("is up", || self.apps().is_some());
    }

    pub fn until(&self, what: &str, done: impl Fn() -> bool) {
        let start = Instant::now();
        while !done() {
            assert!(start.elapsed() < PATIENCE, "in vain: the agent {what}\n{}", self.place.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn settles(&self) -> bool {
        let start = Instant::now();
        let settled = || self.apps().is_some_and(|apps| apps.iter().all(|app| app.phase == Phase::Settled));
        while !settled() {
            if start.elapsed() > PATIENCE {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        true
    }

    pub fn all_settle(&self) {
        assert!(self.settles(), "{}", self.place.log());
    }

    /// Asks for a release from a directory.
    pub fn wants(&self, release: &Release, road: &Path) {
        let (app, version) = (release.app(), release.manifest.version.clone());
        let place = Place::Path(road.to_owned());
        let reply = control::ask(&self.socket(), &Request::Install { app, version, place });
        assert!(matches!(reply, Ok(Reply::Install(_))), "{reply:?}");
    }

    fn view(&self) -> Option<InstallView> {
        match control::ask(&self.socket(), &Request::InstallState) {
            Ok(Reply::Install(view)) => Some(*view),
            _ => None,
        }
    }

    pub fn is_trying(&self) {
        self.until("tries the release", || matches!(self.view(), Some(InstallView::Trying { phase: Phase::Probing })));
    }

    /// Asks for a release and waits until it is current.
    pub fn installs(&self, release: &Release, road: &Path) {
        self.wants(release, road);
        self.until("has the release as current", || match self.view() {
            Some(InstallView::Failed { reason, .. }) => panic!("{reason}\n{}", self.place.log()),
            view => view == Some(InstallView::Current),
        });
        self.all_settle();
    }

    /// Asks for a release and waits until it is refused.
    pub fn refuses(&self, release: &Release, road: &Path) {
        self.wants(release, road);
        self.until("refuses the release", || matches!(self.view(), Some(InstallView::Failed { .. })));
        self.all_settle();
    }

    /// Goes back, once what runs now has been started: whose start it is that is seen could not be told otherwise.
    pub fn rolls_back(&self, release: &Release) {
        self.all_settle();
        let reply = control::ask(&self.socket(), &Request::Rollback { app: release.app() });
        assert!(matches!(reply, Ok(Reply::Done(_))), "{reply:?}");
        self.all_settle();
    }

    fn stop(mut self, traced: bool) {
        let pid = if traced {
            // The first line is of the first process.
            let trace = std::fs::read_to_string(self.place.trace()).unwrap();
            trace.split(' ').next().unwrap().parse().unwrap()
        } else {
            i32::try_from(self.child.id()).unwrap()
        };
        let _ =
            rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::TERM);
        self.child.wait().unwrap();
    }
}
