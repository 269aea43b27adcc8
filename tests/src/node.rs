//! One node of a fleet, with a real agent.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::{Around, Running, free_port, program, succeed};

/// One node: a directory, a port for the greeter, and an agent that may run.
pub struct Node {
    /// Its name.
    pub name: String,
    /// The port of the greeter on it.
    pub port: u16,
    /// Where and how its programs run.
    pub around: Around,
    directory: PathBuf,
    agent: Option<Running>,
}

impl Node {
    pub(crate) fn new(directory: PathBuf, name: &str, settings: &str) -> Self {
        std::fs::create_dir_all(&directory).expect("a directory for the node");
        let port = free_port();
        let text = format!(
            "state_dir = \"state\"\n\
             [runner]\ndefault = \"process\"\n\
             [link]\nkeepalive_secs = 5\nbackoff_max_secs = 1\n\
             [fetch]\nbackoff_max_secs = 1\n\
             [apps.greeter.env]\nPORT = \"{port}\"\n{settings}"
        );
        let node = Self { name: name.to_owned(), port, around: Around::default(), directory, agent: None };
        node.settle(&text);
        node
    }

    /// Gives it these settings and no others.
    pub fn settle(&self, text: &str) {
        std::fs::write(self.directory.join("agent.toml"), text).expect("the settings can be written");
    }

    /// The state directory.
    pub fn state(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// `orangery-agent` with this node's settings.
    pub fn agent(&self, words: &[&str]) -> Command {
        let mut command = self.around.command(&program("orangery-agent"));
        command.args(words).arg("--config").arg(self.directory.join("agent.toml")).env("NO_COLOR", "1");
        command
    }

    /// `orangery-agent run`
    pub fn start(&mut self) {
        let log = self.directory.join("agent.log");
        self.agent = Some(Running::start(&format!("agent {}", self.name), self.agent(&["run"]), log));
    }

    /// `orangery-agent run`, telling `socket` when it is ready as it would tell systemd.
    pub fn start_notifying(&mut self, socket: &Path) {
        let mut command = self.agent(&["run"]);
        command.env("NOTIFY_SOCKET", socket);
        let log = self.directory.join("agent.log");
        self.agent = Some(Running::start(&format!("agent {}", self.name), command, log));
    }

    /// `orangery-agent status --json`
    pub fn status(&self) -> serde_json::Value {
        let text = succeed(&mut self.agent(&["status", "--json"]));
        serde_json::from_str(&text).expect("status --json is JSON")
    }

    /// Whether the agent runs and the coordinator has stored all its events.
    pub fn outbox_is_empty(&self) -> bool {
        let status = self.status();
        status["running"] == true && status["events_waiting"] == 0
    }

    /// What the agent has logged since it was made.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("agent.log")).unwrap_or_default()
    }

    /// The agent's process.
    pub fn process(&mut self) -> &mut Running {
        self.agent.as_mut().expect("the agent was started")
    }

    /// SIGKILL to the agent; its apps go on.
    pub fn kill_agent(&mut self) {
        self.process().kill();
    }

    /// As near to a power cut as a process can come: the agent and all apps are killed at once.
    pub fn cut_power(&mut self) {
        self.process().kill();
        self.kill_apps();
    }

    /// SIGTERM to the agent, which stops its apps.
    pub fn stop(&mut self) {
        let status = self.process().stop();
        assert!(status.success(), "the agent ended with {status}");
    }

    /// `orangery-agent check`: panics when an invariant is violated.
    pub fn check(&self) {
        succeed(&mut self.agent(&["check"]));
    }

    /// GET on the greeter; `None` when nobody answers.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        get(self.port, path)
    }

    /// The version that the greeter says it is.
    pub fn serves(&self) -> Option<String> {
        let (_, body) = self.get("/")?;
        let said: BTreeMap<String, serde_json::Value> = serde_json::from_str(&body).ok()?;
        said.get("version").and_then(|v| v.as_str()).map(str::to_owned)
    }

    fn kill_apps(&self) {
        let Ok(apps) = std::fs::read_dir(self.state().join("apps")) else { return };
        for app in apps.flatten() {
            let Ok(text) = std::fs::read_to_string(app.path().join("run.json")) else { continue };
            let pid = text.lines().find_map(|line| {
                let said: serde_json::Value = serde_json::from_str(line).ok()?;
                i32::try_from(said.get("pid")?.as_i64()?).ok()
            });
            if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(agent) = &mut self.agent {
            agent.kill();
        }
        self.kill_apps();
    }
}

/// GET on loopback; `None` when nobody answers within two seconds.
pub fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let limit = Some(Duration::from_secs(2));
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(limit).ok()?;
    stream.set_write_timeout(limit).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.take(1 << 20).read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())?;
    Some((status, body))
}
