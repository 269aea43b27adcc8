//! A coordinator and its nodes, made and used by the commands that people use.

use std::path::{Path, PathBuf};
use std::process::Command;

use orangery_wire::messages::{AppReport, What};
use orangery_wire::rest::{EventView, NodeView, RolloutView, Status};

pub use crate::node::{Node, get};
use crate::process::{Around, Running, eventually, output, program, succeed};

/// A coordinator with a directory of its own, and the owner's keys.
pub struct Fleet {
    // Dropped before the directory, in which its log is.
    coordinator: Option<Running>,
    directory: tempfile::TempDir,
    around: Around,
}

/// The nodes of [`Fleet::of_three`].
pub const THREE: [&str; 3] = ["attic", "cellar", "garage"];

/// How a fleet is set up.
#[derive(Default)]
pub struct Setup {
    /// An external broker, as `mqtts://host:port`; without it the embedded one serves.
    pub mqtt_url: Option<String>,
    /// What nodes call the coordinator's machine; without it that is loopback.
    pub address: Option<String>,
    /// Where the coordinator and the commands run.
    pub around: Around,
}

impl Fleet {
    /// `orangery init`, and `orangery serve`.
    pub fn start() -> Self {
        let mut fleet = Self::init(&Setup::default());
        fleet.serve();
        fleet
    }

    /// The coordinator and [`THREE`] nodes that run the greeter 1.0.0. They give a sign of life each second: a soak ends with
    /// one.
    pub fn of_three() -> (Self, Vec<Node>) {
        let fleet = Self::start();
        let nodes = THREE.iter().map(|name| {
            let mut node = fleet.joined(name, "[health]\ninterval_secs = 1\n");
            node.start();
            node
        });
        let nodes = nodes.collect();
        fleet.publish("1.0.0", 200);
        fleet.deploy("greeter@1.0.0", "all");
        for name in THREE {
            fleet.settled_on(name, "1.0.0");
        }
        (fleet, nodes)
    }

    /// `orangery init` alone.
    pub fn init(setup: &Setup) -> Self {
        let directory = tempfile::Builder::new().prefix("orangery-").tempdir().expect("a temporary directory");
        let fleet = Self { coordinator: None, directory, around: setup.around.clone() };
        let address = setup.address.as_deref().unwrap_or("127.0.0.1");
        let mut init = fleet.orangery(&["init", "--no-passphrase", "--address", address, "--https-port", "0"]);
        match &setup.mqtt_url {
            Some(url) => init.args(["--mqtt-url", url]),
            None => init.args(["--mqtt-port", "0"]),
        };
        succeed(&mut init);
        fleet
    }

    /// Where everything of this fleet is.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The directory that `orangery init` made.
    pub fn home(&self) -> PathBuf {
        self.path().join("home")
    }

    /// Starts the coordinator and waits until it accepts.
    pub fn serve(&mut self) {
        self.serve_with(&["serve", "-v"]);
    }

    /// The same with words of one's own.
    pub fn serve_with(&mut self, words: &[&str]) {
        let ready = self.path().join("ready");
        let _ = std::fs::remove_file(&ready);
        let config = self.home().join("coordinator/coordinator.toml");
        let mut command = self.orangery(words);
        command.arg("--config").arg(config).arg("--ready-file").arg(&ready);
        let mut running = Running::start("coordinator", command, self.path().join("coordinator.log"));
        eventually("the coordinator is ready", || {
            assert!(running.ended().is_none(), "the coordinator ended: {}", running.log());
            ready.exists().then_some(())
        });
        self.coordinator = Some(running);
    }

    /// The coordinator's process.
    pub fn coordinator(&mut self) -> &mut Running {
        self.coordinator.as_mut().expect("the coordinator was started")
    }

    /// `orangery` with this fleet's directory.
    pub fn orangery(&self, words: &[&str]) -> Command {
        let mut command = self.around.command(&program("orangery"));
        command.arg("--dir").arg(self.home()).args(words).env("NO_COLOR", "1");
        command
    }

    /// Invites and joins a node, and starts its agent.
    pub fn node(&self, name: &str) -> Node {
        let mut node = self.joined(name, "");
        node.start();
        node
    }

    /// A board that has not joined.
    pub fn board(&self, name: &str) -> Node {
        self.board_with(name, "")
    }

    /// The same; `settings` are added to its `agent.toml`.
    pub fn board_with(&self, name: &str, settings: &str) -> Node {
        Node::new(self.path().join("nodes").join(name), name, settings)
    }

    /// A fresh token for one board.
    pub fn token(&self, options: &[&str]) -> String {
        let mut invite = self.orangery(&["node", "invite"]);
        succeed(invite.args(options)).trim().to_owned()
    }

    /// Invites and joins a node without starting it; `settings` are added to its `agent.toml`.
    pub fn joined(&self, name: &str, settings: &str) -> Node {
        let node = Node::new(self.path().join("nodes").join(name), name, settings);
        succeed(&mut node.agent(&["join", &self.token(&["--name", name])]));
        node
    }

    /// Invites and joins a node somewhere else, with the settings `text` and no others.
    pub fn joined_in(&self, around: Around, name: &str, text: &str) -> Node {
        let mut node = self.board(name);
        node.around = around;
        node.settle(text);
        succeed(&mut node.agent(&["join", &self.token(&["--name", name])]));
        node
    }

    /// Like [`Self::joined`], with the agent's own intervals instead of the short ones of tests.
    pub fn joined_idle(&self, name: &str, settings: &str) -> Node {
        let node = self.joined(name, "");
        let text = format!(
            "state_dir = \"state\"\n[runner]\ndefault = \"process\"\n[apps.greeter.env]\nPORT = \"{}\"\n{settings}",
            node.port
        );
        node.settle(&text);
        node
    }

    /// The REST API, with the operator's token.
    pub fn client(&self) -> anyhow::Result<orangery::client::Client> {
        Ok(orangery::client::Client::open(&orangery::home::Home::new(self.home()))?)
    }

    /// The greeter as a release, signed and pushed; `health` is what its health path answers.
    pub fn publish(&self, version: &str, health: u16) {
        self.publish_with(
            version,
            &format!("version = {version}\nmessage = hello\nhealth_status = {health}\n"),
            GREETER,
        );
    }

    /// The greeter with a configuration and manifest of one's own.
    pub fn publish_with(&self, version: &str, conf: &str, manifest: &str) {
        let tree = self.greeter_tree(version, conf);
        self.publish_tree("greeter", version, &tree, manifest);
    }

    /// Any directory as a release of any app, for this machine's platform.
    pub fn publish_tree(&self, app: &str, version: &str, tree: &Path, manifest: &str) {
        succeed(&mut self.release("publish", app, version, tree, manifest));
    }

    /// `orangery release build` or `publish` with its options.
    pub fn release(&self, deed: &str, app: &str, version: &str, tree: &Path, manifest: &str) -> Command {
        let file = self.path().join(format!("{app}-{version}.toml"));
        std::fs::write(&file, manifest).expect("the manifest can be written");
        let platform = format!("{}={}", orangery_wire::manifest::this_platform(), tree.display());
        let mut command = self.orangery(&["release", deed, "--app", app, "--version", version]);
        command.args(["--platform", &platform, "--manifest"]).arg(&file).args(["--level", "3"]);
        command
    }

    /// A directory that holds the greeter.
    pub fn greeter_tree(&self, version: &str, conf: &str) -> PathBuf {
        let tree = self.path().join("trees").join(version);
        std::fs::create_dir_all(tree.join("bin")).expect("a directory for the tree");
        std::fs::copy(program("orangery-greeter"), tree.join("bin/greeter")).expect("the greeter is built");
        std::fs::write(tree.join("greeter.conf"), conf).expect("a file in the tree");
        tree
    }

    /// `orangery deploy`, without following. What was told already and is not there yet is as good (exit code 2).
    pub fn deploy(&self, what: &str, to: &str) {
        let answer = output(&mut self.orangery(&["deploy", what, "--to", to, "--yes", "--detach"]));
        assert!(matches!(answer.status.code(), Some(0 | 2)), "{}", String::from_utf8_lossy(&answer.stderr));
    }

    /// `orangery status --json`
    pub fn status(&self) -> Status {
        let text = succeed(&mut self.orangery(&["status", "--json"]));
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("status is not what wire says: {e}\n{text}"))
    }

    /// One node as the coordinator sees it; `None` while the coordinator does not answer.
    pub fn view(&self, node: &str) -> Option<NodeView> {
        let answer = output(&mut self.orangery(&["node", "show", node, "--json"]));
        answer.status.success().then(|| serde_json::from_slice(&answer.stdout).expect("node show --json is a NodeView"))
    }

    /// One rollout as the coordinator sees it.
    pub fn rollout(&self, id: u64) -> RolloutView {
        let text = succeed(&mut self.orangery(&["rollout", "show", &id.to_string(), "--json"]));
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("rollout show is not what wire says: {e}\n{text}"))
    }

    /// Waits until a rollout has a status.
    pub fn rollout_is(&self, id: u64, status: &str) -> RolloutView {
        eventually(&format!("rollout {id} is {status}"), || {
            let view = self.rollout(id);
            (view.status == status).then_some(view)
        })
    }

    /// What a node last reported of the greeter.
    pub fn greeter(&self, node: &str) -> Option<AppReport> {
        let reported = self.view(node)?.reported?;
        reported.apps.into_iter().find(|app| app.app.as_str() == "greeter")
    }

    /// Waits until the node reports that `version` of the greeter is current and nothing is under way.
    pub fn settled_on(&self, node: &str, version: &str) -> AppReport {
        eventually(&format!("{node} settles on {version}"), || {
            let app = self.greeter(node)?;
            let current = app.current.as_ref().is_some_and(|r| r.version.to_string() == version);
            (current && app.phase == orangery_wire::messages::Phase::Settled).then_some(app)
        })
    }

    /// Waits until the node reports that it refused `version` and has settled.
    pub fn refused(&self, node: &str, version: &str) -> AppReport {
        eventually(&format!("{node} refuses {version}"), || {
            let app = self.greeter(node)?;
            let wanted = app.desired.as_ref().is_some_and(|r| r.version.to_string() == version);
            let settled = app.phase == orangery_wire::messages::Phase::Settled;
            (wanted && settled && app.refusal.is_some()).then_some(app)
        })
    }

    /// All events of a node that the coordinator has stored, in its order.
    pub fn events(&self, node: &str) -> Vec<EventView> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let client = self.client().expect("the client's settings are there");
        let mut all: Vec<EventView> = Vec::new();
        loop {
            let after = all.last().map_or(0, |view| view.id);
            let path = format!("/v1/events?node={node}&after={after}&limit=1000");
            let page: Vec<EventView> = runtime.block_on(client.get(&path)).expect("the coordinator lists events");
            if page.is_empty() {
                return all;
            }
            all.extend(page);
        }
    }

    /// The codes of a node's stored events.
    pub fn codes(&self, node: &str) -> Vec<&'static str> {
        self.events(node).iter().map(|view| view.event.what.code()).collect()
    }

    /// The refusals among a node's stored events.
    pub fn refusals(&self, node: &str) -> Vec<orangery_wire::messages::Refusal> {
        let refusal = |view: EventView| match view.event.what {
            What::Refused { refusal, .. } => Some(refusal),
            _ => None,
        };
        self.events(node).into_iter().filter_map(refusal).collect()
    }
}

/// The manifest of the greeter in tests: quick to judge.
pub const GREETER: &str = r#"
[run]
exec = ["bin/greeter"]
stop_grace_secs = 5

[run.restart]
restarts_max = 1
backoff_ms = 50

[[probes]]
http = { port = "${PORT}", path = "/health" }
interval_ms = 100
timeout_ms = 1000
successes = 1
failures = 3
"#;

/// The same with a socket that is held for it.
pub const HELD: &str = r#"
[run]
exec = ["bin/greeter"]
stop_grace_secs = 5

[[run.sockets]]
name = "http"
listen = "127.0.0.1:${PORT}"

[run.restart]
restarts_max = 1
backoff_ms = 50

[[probes]]
http = { port = "${PORT}", path = "/health" }
interval_ms = 100
timeout_ms = 1000
failures = 3
"#;
