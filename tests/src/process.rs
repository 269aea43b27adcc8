//! Programs of this workspace as child processes, and waiting for what one wants to see.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, OnceLock};
use std::time::{Duration, Instant};

/// Longest that a test waits for anything. Only a failing test takes this long.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Asks `look` again and again until it has an answer. Panics with `what` when [`PATIENCE`] is over.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, &mut look)
}

/// Like [`eventually`] with a patience of one's own.
pub fn within<T>(patience: Duration, what: &str, look: &mut dyn FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < patience, "after {} s still not seen: {what}", patience.as_secs());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A program of this workspace, built if need be by the same cargo and profile as the test that asks. If it is in the
/// directory that `ORANGERY_PROGRAMS` names, that one is taken.
pub fn program(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    if let Some(given) = std::env::var_os("ORANGERY_PROGRAMS").map(|dir| PathBuf::from(dir).join(name))
        && given.is_file()
    {
        return given;
    }
    let directory = BUILT.get_or_init(|| {
        let test = std::env::current_exe().expect("the running test has a path");
        let directory = test.ancestors().find(|dir| dir.join("deps").is_dir() && dir.join("build").is_dir());
        let directory = directory.expect("a test runs below cargo's target directory").to_owned();
        build(&directory);
        directory
    });
    directory.join(name)
}

fn build(directory: &Path) {
    let profile = match directory.file_name().and_then(OsStr::to_str) {
        Some("debug") | None => "dev",
        Some(other) => other,
    };
    let mut cargo = Command::new(env!("CARGO"));
    // What cargo tells a test of its crate would be new to ring's build script, which asks for it: ring and all that needs it
    // would be built anew, here and again by the next cargo outside.
    let told = std::env::vars_os().map(|(name, _)| name);
    let told = told.filter(|name| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") || name == "OUT_DIR"
    });
    for name in told {
        cargo.env_remove(name);
    }
    let status = cargo
        .args(["build", "--quiet", "--locked", "--workspace", "--bins", "--profile", profile])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .env("CARGO_TARGET_DIR", directory.parent().expect("a profile's directory has a parent"))
        .status()
        .expect("cargo can be run by the tests that it runs");
    assert!(status.success(), "the programs under test do not build");
}

/// A port that nothing uses, below the range from which the kernel gives ports to connections, so that it stays free while
/// a program is restarted. No other test of this process gets it: what was promised a port may be long in taking it.
pub fn free_port() -> u16 {
    const FIRST: u16 = 20_000;
    const COUNT: u64 = 12_000;
    static NEXT: LazyLock<AtomicU64> =
        LazyLock::new(|| AtomicU64::new(RandomState::new().build_hasher().finish() % COUNT));
    // A prime, so that all ports have their turn, and those of two processes are not in each other's way for long.
    let ports = (0..1_000).map(|_| NEXT.fetch_add(7_919, Ordering::Relaxed) % COUNT);
    ports
        .map(|offset| FIRST + u16::try_from(offset).unwrap_or(0))
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("one of a thousand ports is free")
}

/// Where and how programs run.
#[derive(Debug, Clone, Default)]
pub struct Around {
    /// The network namespace, as `ip netns` names it; the one of the test otherwise.
    pub namespace: Option<String>,
    /// Environment variables besides those of the test.
    pub environment: Vec<(String, OsString)>,
}

impl Around {
    /// A command that runs `program` there.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = match &self.namespace {
            // It becomes the program, so its process is the program's.
            Some(namespace) => {
                let mut ip = Command::new("ip");
                ip.args(["netns", "exec", namespace]).arg(program);
                ip
            }
            None => Command::new(program),
        };
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// A program that runs in the background; it is killed when this is dropped.
pub struct Running {
    child: Child,
    log: PathBuf,
    name: String,
}

impl Running {
    /// Starts `command`; what it writes goes to the end of `log`.
    pub fn start(name: &str, mut command: Command, log: PathBuf) -> Self {
        let file = File::options().create(true).append(true).open(&log).expect("the log can be written");
        let errors = file.try_clone().expect("a file can be cloned");
        command.stdin(Stdio::null()).stdout(file).stderr(errors);
        let child = command.spawn().unwrap_or_else(|e| panic!("{name} does not start: {e}"));
        Self { child, log, name: name.to_owned() }
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and waits until it is gone.
    pub fn stop(&mut self) -> ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let name = self.name.clone();
        eventually(&format!("{name} ends after SIGTERM"), || self.child.try_wait().ok().flatten())
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// What it has written.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("--- the last of {} ---", self.name);
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// Runs a command to its end.
pub fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?} does not start: {e}"))
}

/// Runs a command that must succeed; gives its standard output.
pub fn succeed(command: &mut Command) -> String {
    let output = output(command);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} ended with {}:\n{out}\n{err}", output.status);
    out.into_owned()
}

/// Runs a command that must fail; gives its standard error.
pub fn fail(command: &mut Command) -> String {
    let output = output(command);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!output.status.success(), "{command:?} succeeded:\n{out}\n{err}");
    err.into_owned()
}
