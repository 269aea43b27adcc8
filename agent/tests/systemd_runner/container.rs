//! A machine for tests: Debian with systemd, booted by systemd-nspawn, with a plug that can be pulled. It has the host's
//! network.

#![allow(dead_code, reason = "two test programs use it, each its own part")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The agent's program inside.
const AGENT: &str = "/usr/local/bin/agent-under-test";
/// How long a boot may take.
const BOOT: Duration = Duration::from_mins(2);

/// One machine. It is gone when this is dropped.
pub struct Machine {
    root: tempfile::TempDir,
    running: Option<Running>,
}

/// A machine that runs.
struct Running {
    nspawn: Child,
    /// Its first process, by the number that it has outside.
    init: u32,
}

impl Machine {
    /// A new machine, booted, in which this very program is the agent.
    pub fn new() -> Self {
        Self::with(&[(std::env::current_exe().unwrap(), AGENT)])
    }

    /// A new machine, booted, with copies of these files of the host; whoever could execute one here can there.
    pub fn with(files: &[(PathBuf, &str)]) -> Self {
        Self::of(image(), files)
    }

    /// The same, of a Debian that has these packages besides.
    pub fn with_packages(packages: &[&str], files: &[(PathBuf, &str)]) -> Self {
        Self::of(&image_with(packages), files)
    }

    fn of(image: &Path, files: &[(PathBuf, &str)]) -> Self {
        let root = tempfile::tempdir_in(cache()).unwrap();
        let mut unpack = Command::new("tar");
        let unpacked = unpack.args(["--numeric-owner", "-xf"]).arg(image).arg("-C").arg(root.path()).status();
        assert!(unpacked.unwrap().success(), "the root file system cannot be unpacked");
        // The directory is the machine's root directory, for users that are not root too.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(root.path(), open).unwrap();
        let mut machine = Self { root, running: None };
        for (from, to) in files {
            let to = machine.outside(to);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(from, to).unwrap();
        }
        machine.boot();
        machine
    }

    /// Where a path of the machine is on the host. What is below /run or /tmp inside is not to be seen there.
    pub fn outside(&self, path: &str) -> PathBuf {
        self.root.path().join(path.trim_start_matches('/'))
    }

    /// Boots it; the plug was pulled before.
    pub fn boot(&mut self) {
        // PID 1 here may not be systemd, and /run no tmpfs: so nspawn has a place of its own for its state.
        // A control group of its own, too: machines that shared one would end each other's services.
        let script = "for all in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do \
                      test ! -e $all/cgroup.procs || { mkdir -p $all/$2 && echo $$ > $all/$2/cgroup.procs; } || exit 1; done; \
                      mkdir -p /run/systemd && mount -t tmpfs tmpfs /run/systemd && mkdir -p /run/systemd/nspawn && \
                      exec systemd-nspawn --quiet --register=no --keep-unit --console=pipe --boot -D \"$1\" -M \"$2\"";
        let log = fs::File::create(self.root.path().with_extension("boot.log")).unwrap();
        let mut nspawn = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"])
            .arg(self.root.path())
            .arg(self.name())
            .stdin(Stdio::null())
            .stderr(log.try_clone().unwrap())
            .stdout(log)
            .spawn()
            .unwrap();
        let deadline = Instant::now() + BOOT;
        let init = loop {
            if let Some(init) = init_below(nspawn.id()) {
                break init;
            }
            assert!(nspawn.try_wait().unwrap().is_none() && Instant::now() < deadline, "{}", self.boot_log());
            std::thread::sleep(Duration::from_millis(20));
        };
        self.running = Some(Running { nspawn, init });
        while !matches!(self.said(&["systemctl", "is-system-running"]).trim(), "running" | "degraded") {
            assert!(Instant::now() < deadline, "{}", self.boot_log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn name(&self) -> String {
        let name = self.root.path().file_name().unwrap().to_string_lossy().to_lowercase();
        format!("orangery-{}", name.trim_matches('.'))
    }

    fn boot_log(&self) -> String {
        let log = fs::read_to_string(self.root.path().with_extension("boot.log")).unwrap_or_default();
        format!("the machine does not boot: {log}")
    }

    /// Pulls the plug and boots again. Processes and /run are gone at once, nobody is asked; what was written stays, as on
    /// a disk whose cache was flushed.
    pub fn power_cut(&mut self) {
        self.pull_the_plug();
        self.boot();
    }

    /// As [`Self::power_cut`], without booting again.
    pub fn pull_the_plug(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        // The first process stands still and all others end at once, so that none of them lives to see another one end: with
        // the first alone gone, whoever had asked it for something would be told that it failed, and might write that down.
        let init = rustix::process::Pid::from_raw(i32::try_from(running.init).unwrap()).unwrap();
        let _ = rustix::process::kill_process(init, rustix::process::Signal::STOP);
        let mut all = Command::new("nsenter");
        all.args(["--target", &running.init.to_string(), "--pid", "--", "sh", "-c", "kill -KILL -1"]);
        let _ = all.stderr(Stdio::null()).status();
        // It may have gone by itself.
        let _ = rustix::process::kill_process(init, rustix::process::Signal::KILL);
        let _ = running.nspawn.wait();
    }

    /// A command inside, not yet started.
    pub fn command(&self, words: &[&str]) -> Command {
        let init = self.running.as_ref().expect("the machine runs").init.to_string();
        let mut command = Command::new("nsenter");
        command.args(["--target", &init, "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "--"]).args(words);
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command inside.
    pub fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// What a command inside writes, whether it succeeds or not.
    pub fn said(&self, words: &[&str]) -> String {
        String::from_utf8(self.run(words).stdout).unwrap()
    }

    /// The agent inside, which does `steps`; see `an_agent_inside`.
    pub fn agent(&self, steps: &str) -> Command {
        let mut command = self.command(&[AGENT, "--exact", "inside::an_agent_inside", "--ignored", "--nocapture"]);
        command.env("ORANGERY_TEST_STEPS", steps).env("PATH", "/usr/local/bin:/usr/bin:/bin");
        command
    }

    /// The content of a file inside; empty if it is not there.
    pub fn read(&self, path: &str) -> String {
        self.said(&["cat", "--", path])
    }

    /// Whether something of that name is inside; a link need not lead anywhere.
    pub fn has(&self, path: &str) -> bool {
        self.run(&["ls", "-d", "--", path]).status.success()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.pull_the_plug();
        let _ = fs::remove_file(self.root.path().with_extension("boot.log"));
        for all in ["/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"] {
            remove_group(&Path::new(all).join(self.name()));
        }
    }
}

/// Removes a control group and those in it, all of which are empty.
fn remove_group(directory: &Path) {
    for below in fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if below.is_dir() {
            remove_group(&below);
        }
    }
    let _ = fs::remove_dir(directory);
}

/// The child of nspawn that is number 1 in a machine of its own. Before it there is another one for a moment.
fn init_below(nspawn: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{nspawn}/task/{nspawn}/children")).ok()?;
    children.split_whitespace().filter_map(|child| child.parse().ok()).find(|child: &u32| {
        let status = fs::read_to_string(format!("/proc/{child}/status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with("NSpid:") && line.ends_with("\t1"))
    })
}

fn cache() -> PathBuf {
    let named = std::env::var_os("ORANGERY_CACHE").map(PathBuf::from);
    let home = || Path::new(&std::env::var_os("HOME").expect("HOME or ORANGERY_CACHE is set")).join(".cache/orangery");
    let directory = named.unwrap_or_else(home).join("nspawn");
    fs::create_dir_all(&directory).unwrap();
    directory
}

/// The root file system, made once and kept: the smallest Debian with systemd, of the release that runs here, so that what
/// was built here runs there.
fn image() -> &'static Path {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    IMAGE.get_or_init(|| image_with(&[]))
}

/// The same with packages besides, kept under their names.
fn image_with(packages: &[&str]) -> PathBuf {
    assert!(rustix::process::geteuid().is_root(), "these tests need root");
    let suite = suite();
    let name: Vec<&str> = std::iter::once(suite.as_str()).chain(packages.iter().copied()).collect();
    let image = cache().join(format!("{}.tar", name.join("+")));
    if !image.exists() {
        make_image(&suite, packages, &image);
    }
    image
}

fn make_image(suite: &str, packages: &[&str], image: &Path) {
    let beside = image.with_extension(format!("{}.new.tar", std::process::id()));
    let mut command = Command::new("mmdebstrap");
    let packages = [&["systemd", "systemd-sysv", "dbus"], packages].concat();
    command.args(["--quiet", "--variant=minbase", &format!("--include={}", packages.join(","))]);
    let left_out = ["man", "locale", "doc", "zoneinfo"];
    command.args(left_out.map(|name| format!("--dpkgopt=path-exclude=/usr/share/{name}/*")));
    command.arg(suite).arg(&beside).args(package_sources());
    let made = command.status().expect("mmdebstrap is missing: apt-get install systemd-container mmdebstrap");
    assert!(made.success(), "the root file system cannot be made");
    fs::rename(beside, image).unwrap();
}

fn suite() -> String {
    let about = fs::read_to_string("/etc/os-release").unwrap();
    let name = about.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    name.expect("these tests need Debian").trim_matches('"').to_owned()
}

/// Where this machine has its own packages from.
fn package_sources() -> Vec<PathBuf> {
    let more = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|entry| entry.path());
    let all = more.chain(["/etc/apt/sources.list".into()]);
    let is_one =
        |path: &PathBuf| path.exists() && path.extension().is_some_and(|kind| kind == "list" || kind == "sources");
    all.filter(is_one).collect()
}
