//! A machine with both packages on it: a coordinator, and a node named attic.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use orangery_tests::fleet::{Fleet, Setup, get};
use orangery_tests::process::{eventually, free_port, program, succeed};

use crate::container::Machine;

/// A manifest of the greeter that is on trial until there is a file named /var/gate.
pub const GATED: &str = r#"
[run]
exec = ["bin/greeter"]
stop_grace_secs = 5

[[probes]]
exec = { command = ["/usr/bin/test", "-e", "/var/gate"] }
interval_ms = 100
timeout_ms = 5000
failures = 1000
"#;

/// The node's name.
pub const NAME: &str = "attic";
/// The unit of the agent.
pub const AGENT: &str = "orangery-agent.service";
/// The unit of the coordinator.
pub const COORDINATOR: &str = "orangery.service";
/// The unit of the app.
pub const APP: &str = "orangery-greeter.service";

/// The machine, and outside of it the owner with his keys.
pub struct Site {
    /// The machine. It has the host's network.
    pub machine: Machine,
    /// The owner's side. Its coordinator is the one in the machine.
    pub fleet: Fleet,
    /// Of the greeter.
    pub port: u16,
}

impl Site {
    /// A machine with nothing installed, and with the packages in /root.
    pub fn new() -> Self {
        Self::with(Machine::with)
    }

    /// The same in a machine of one's own.
    pub fn with(machine: impl FnOnce(&[(PathBuf, &str)]) -> Machine) -> Self {
        let fleet = Fleet::init(&Setup::default());
        let packages = packages();
        let files: Vec<PathBuf> = fs::read_dir(packages).unwrap().map(|entry| entry.unwrap().path()).collect();
        let inside: Vec<String> =
            files.iter().map(|file| format!("/root/{}", file.file_name().unwrap().to_str().unwrap())).collect();
        let copies: Vec<(PathBuf, &str)> = files.iter().cloned().zip(inside.iter().map(String::as_str)).collect();
        assert_eq!(copies.len(), 4, "two packages in two revisions: {copies:?}");
        Self { machine: machine(&copies), fleet, port: free_port() }
    }

    /// Installs one revision of a package.
    pub fn install(&self, name: &str, revision: u32) {
        // The shell finds the version and the architecture.
        self.succeed(&["sh", "-c", &format!("dpkg --install /root/{name}_*-{revision}_*.deb")]);
    }

    /// Purges a package; gives what it says.
    pub fn purge(&self, name: &str, with_state: bool) -> String {
        let with_state = if with_state { "ORANGERY_PURGE_STATE=1" } else { "ORANGERY_PURGE_STATE=" };
        self.succeed(&["sh", "-c", &format!("{with_state} dpkg --purge {name} 2>&1")])
    }

    /// Brings the owner's `coordinator` directory here, as root, and starts the coordinator as docs/install.md says.
    pub fn set_up_coordinator(&self) {
        let to = self.machine.outside("/var/lib/orangery-coordinator");
        succeed(Command::new("cp").arg("-r").arg(self.fleet.home().join("coordinator")).arg(to));
        self.succeed(&["systemd-tmpfiles", "--create", "orangery.conf"]);
        self.succeed(&["systemctl", "start", COORDINATOR]);
    }

    /// Joins as docs/install.md says; the agent looks and connects more often than at home.
    pub fn join(&self) {
        let settings = format!(
            "[link]\nkeepalive_secs = 5\nbackoff_max_secs = 1\n[fetch]\nbackoff_max_secs = 1\n\
             [apps.greeter.env]\nPORT = \"{}\"\n",
            self.port
        );
        fs::write(self.machine.outside("/etc/orangery/agent.d/test.toml"), settings).unwrap();
        self.succeed(&["orangery-agent", "join", &self.fleet.token(&["--name", NAME])]);
        self.succeed(&["systemctl", "start", AGENT]);
    }

    /// Runs a command inside that must succeed.
    pub fn succeed(&self, words: &[&str]) -> String {
        let output = self.machine.run(words);
        let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{words:?}: {said}{errors}");
        said.into_owned()
    }

    /// What systemd says of a unit.
    pub fn property(&self, unit: &str, name: &str) -> String {
        self.machine.said(&["systemctl", "show", "--value", "--property", name, unit]).trim().to_owned()
    }

    /// The process of a unit that runs.
    pub fn process(&self, unit: &str) -> String {
        let pid = || Some(self.property(unit, "MainPID")).filter(|pid| pid != "0");
        eventually(&format!("{unit} runs"), pid)
    }

    /// Waits until `version` of the greeter answers.
    pub fn serves(&self, version: &str) {
        let wanted = format!("\"version\":\"{version}\"");
        eventually(&format!("{version} answers"), || get(self.port, "/")?.1.contains(&wanted).then_some(()));
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let journal = self.machine.said(&["journalctl", "--boot", "--no-pager", "--lines=80"]);
            eprintln!("--- the machine's journal ---\n{journal}");
        }
    }
}

/// A directory with two revisions of each package, of the programs that the other tests try. Made once.
pub fn packages() -> &'static Path {
    static MADE: OnceLock<tempfile::TempDir> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let made = tempfile::tempdir().unwrap();
        let directory = program("orangery").parent().unwrap().to_owned();
        let profile = match directory.file_name().unwrap().to_str().unwrap() {
            "debug" => "dev",
            other => other,
        };
        for revision in ["1", "2"] {
            let mut script = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/packages.sh"));
            script.args(["--here", profile]).env("ORANGERY_REVISION", revision).env("ORANGERY_OUT", made.path());
            succeed(script.env("CARGO_TARGET_DIR", directory.parent().unwrap()));
        }
        made
    });
    // In this one place, where they lie side by side.
    Box::leak(made.path().join("packages").into_boxed_path())
}
