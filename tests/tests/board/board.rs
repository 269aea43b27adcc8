//! A board: a machine with systemd on which the agent is installed as a package would install it, and joined to a
//! coordinator outside.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use orangery_tests::fleet::{Fleet, get};
use orangery_tests::process::{PATIENCE, eventually, free_port, program};

use crate::container::Machine;

/// The board's name.
pub const NAME: &str = "attic";
/// The unit of the agent.
pub const AGENT: &str = "orangery-agent.service";
/// The unit of the app.
pub const APP: &str = "orangery-greeter.service";
/// What the app's trial is told by.
pub const TRIAL: &str = "/run/systemd/system/orangery-greeter.service.d/trial.conf";

const PROGRAM: &str = "/usr/bin/orangery-agent";
const HIDDEN: &str = "/root/orangery-agent";
const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../agent/systemd/orangery-agent.service");

/// A manifest of the greeter that is quick to judge, with room for more of `[run]` and a soak.
pub fn manifest(exec: &str, run: &str, soak_secs: u64) -> String {
    format!(
        r#"
soak_secs = {soak_secs}

[run]
exec = {exec}
stop_grace_secs = 3
{run}

[run.restart]
restarts_max = 1
backoff_ms = 50
backoff_max_ms = 200

[[probes]]
http = {{ port = "${{PORT}}", path = "/health" }}
interval_ms = 100
timeout_ms = 1000
failures = 3
"#
    )
}

/// The greeter as it is.
pub const PLAIN: &str = r#"["bin/greeter"]"#;
/// The greeter, which takes all the time that it has to stop.
pub const STUBBORN: &str = r#"["/bin/sh", "-c", "trap '' TERM; exec ${ORANGERY_TREE}/bin/greeter"]"#;

/// A fleet of one board.
pub struct Board {
    /// The machine. Its plug is pulled before its coordinator ends.
    pub machine: Machine,
    /// The coordinator's side.
    pub fleet: Fleet,
    /// Where the greeter listens.
    pub port: u16,
}

impl Board {
    /// A board that has joined, with its agent running. `settings` are added to its `agent.toml`.
    pub fn new(settings: &str) -> Self {
        let fleet = Fleet::start();
        let files = [
            (program("orangery-agent"), PROGRAM),
            (PathBuf::from(SHIPPED), "/usr/lib/systemd/system/orangery-agent.service"),
        ];
        let machine = Machine::with(&files);
        let port = free_port();
        let settings = format!(
            "[link]\nkeepalive_secs = 5\nbackoff_max_secs = 1\n[fetch]\nbackoff_max_secs = 1\n\
             [apps.greeter.env]\nPORT = \"{port}\"\n{settings}"
        );
        fs::create_dir_all(machine.outside("/etc/orangery")).unwrap();
        fs::write(machine.outside("/etc/orangery/agent.toml"), settings).unwrap();
        let board = Self { machine, fleet, port };
        board.succeed(&["orangery-agent", "join", &board.fleet.token(&["--name", NAME])]);
        board.succeed(&["systemctl", "enable", "--now", AGENT]);
        board
    }

    /// A board on which 1.0.0 of the greeter is proven.
    pub fn with_greeter(manifest: &str) -> Self {
        let board = Self::new("");
        board.publish("1.0.0", 200, manifest);
        board.settle("1.0.0");
        board
    }

    /// Signs and publishes a release of the greeter.
    pub fn publish(&self, version: &str, health: u16, manifest: &str) {
        let conf = format!("version = {version}\nmessage = hello\nhealth_status = {health}\n");
        self.fleet.publish_with(version, &conf, manifest);
    }

    /// Deploys a release.
    pub fn deploy(&self, version: &str) {
        self.fleet.deploy(&format!("greeter@{version}"), NAME);
    }

    /// Deploys a release and waits until it is current.
    pub fn settle(&self, version: &str) {
        self.deploy(version);
        self.fleet.settled_on(NAME, version);
        self.serves(version);
    }

    /// Deploys a release that the board refuses; gives the reason.
    pub fn refuse(&self, version: &str) -> String {
        self.deploy(version);
        let refusal = self.fleet.refused(NAME, version).refusal.unwrap();
        format!("{}: {}", refusal.code.as_str(), refusal.reason)
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

    /// Waits until `version` of the greeter answers.
    pub fn serves(&self, version: &str) {
        let mut last = None;
        let deadline = Instant::now() + PATIENCE;
        let wanted = format!("\"version\":\"{version}\"");
        while !last.as_ref().is_some_and(|(_, body): &(u16, String)| body.contains(&wanted)) {
            assert!(Instant::now() < deadline, "{version} does not answer, but {last:?}\n{}", self.journal());
            std::thread::sleep(Duration::from_millis(20));
            last = get(self.port, "/");
        }
    }

    /// Waits for what the record on the board's disk says, as closely as one can look.
    pub fn record_says(&self, text: &str) {
        let record = self.machine.outside("/var/lib/orangery/apps/greeter/state.json");
        let deadline = Instant::now() + PATIENCE;
        while !fs::read_to_string(&record).is_ok_and(|record| record.contains(text)) {
            assert!(Instant::now() < deadline, "the record does not say {text}\n{}", self.journal());
        }
    }

    /// Pulls the plug and boots with the agent's program gone.
    pub fn reboot_without_agent(&mut self) {
        self.machine.pull_the_plug();
        fs::rename(self.machine.outside(PROGRAM), self.machine.outside(HIDDEN)).unwrap();
        self.machine.boot();
        assert_ne!(self.property(AGENT, "ActiveState"), "active");
    }

    /// Puts the agent's program back and waits until it is ready.
    pub fn bring_agent_back(&self) {
        fs::rename(self.machine.outside(HIDDEN), self.machine.outside(PROGRAM)).unwrap();
        self.succeed(&["systemctl", "restart", AGENT]);
        self.succeed(&["orangery-agent", "check"]);
    }

    /// The log of everything on the board.
    pub fn journal(&self) -> String {
        self.machine.said(&["journalctl", "--boot", "--no-pager", "--lines=60"])
    }

    /// Waits until an event with this code is stored, and gives what it says.
    pub fn event(&self, code: &str) -> orangery_wire::messages::What {
        let found = || self.fleet.events(NAME).into_iter().map(|view| view.event.what).find(|what| what.code() == code);
        eventually(&format!("the event {code}"), found)
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the board's journal ---\n{}", self.journal());
        }
    }
}
