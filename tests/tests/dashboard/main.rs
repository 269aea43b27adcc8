//! The dashboard in a real browser: a real coordinator and real nodes, and a script that does what a person would.
//!
//! The script is `tests/dashboard/`. What it cannot do by itself (a release, a kill) it asks for, one line of JSON each.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use orangery_tests::fleet::{Fleet, Node};
use orangery_tests::mqtt::as_node;
use orangery_tests::process::{succeed, within};
use orangery_wire::topics::{Channel, topic};
use serde::Deserialize;
use serde_json::{Value, json};

const PAGE: &str = include_str!("../../../docs/operating/dashboard.md");
const NODES: [&str; 3] = ["attic", "cellar", "garage"];
const PASSWORD: &str = "seven plums on the windowsill";

fn beside(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Where `tests/dashboard-tools.sh` puts what the script needs.
fn tools() -> PathBuf {
    PathBuf::from(succeed(&mut Command::new(beside("dashboard-tools.sh"))).trim())
}

fn chromium() -> PathBuf {
    let path =
        ["/usr/bin/chromium", "/usr/bin/chromium-browser"].map(PathBuf::from).into_iter().find(|path| path.exists());
    path.expect("there is no Chromium: apt-get install chromium libnss3-tools")
}

#[test]
#[ignore = "needs node and npm; run by `just test-dashboard`"]
fn qr_codes_of_the_dashboard_are_read_by_somebody_elses_reader() {
    let mut script = Command::new("node");
    script.arg(beside("dashboard/qr.mjs")).arg(tools()).arg(beside("../coordinator/dashboard"));
    assert!(succeed(&mut script).contains("QR codes of 39 versions were read"));
}

#[test]
#[ignore = "needs Chromium, certutil, node and npm (apt-get install chromium libnss3-tools nodejs npm); run by `just test-dashboard`"]
fn a_person_finds_and_does_in_the_dashboard_what_it_promises() {
    let mut stage = Stage::set();
    let home = stage.fleet.path().join("browser");
    let settings = json!({
        "tools": tools(), "url": stage.url(), "home": home, "chromium": chromium(),
        "screenshots": std::env::var_os("ORANGERY_SCREENSHOTS").map(PathBuf::from),
    });
    trust(&stage.fleet, &home);
    let mut script = Command::new("node");
    script.arg(beside("dashboard/browser.mjs")).arg(settings.to_string());
    let mut script =
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("node runs: apt-get install nodejs");
    let mut answers = script.stdin.take().unwrap();
    let mut acts = 0;
    for line in BufReader::new(script.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Ok(asked) = serde_json::from_str::<Asked>(&line) {
            writeln!(answers, "{}", stage.does(&asked)).unwrap();
        } else {
            acts += usize::from(line.starts_with("ok, "));
            println!("{line}");
        }
    }
    assert!(script.wait().unwrap().success(), "an act did not go as it should: see above");
    assert!(acts >= 13, "{acts} acts");
}

/// Makes a browser's user trust the coordinator, by the commands of the page.
fn trust(fleet: &Fleet, home: &Path) {
    fs::create_dir_all(home).unwrap();
    fs::copy(fleet.home().join("coordinator/ca.pem"), home.join("ca.pem")).unwrap();
    let (_, commands) = PAGE.split_once("```sh trust\n").unwrap();
    let commands = commands.split_once("```").unwrap().0;
    succeed(Command::new("sh").args(["-eu", "-c", commands]).current_dir(home).env("HOME", home));
}

/// What the script asks for.
#[derive(Deserialize)]
struct Asked {
    deed: String,
    words: Vec<String>,
}

/// The world in which the script plays.
struct Stage {
    fleet: Fleet,
    nodes: Vec<Node>,
    villain: Node,
}

impl Stage {
    fn set() -> Self {
        let fleet = Fleet::start();
        for (name, role) in [("ada", "admin"), ("vera", "viewer")] {
            succeed(&mut fleet.orangery(&["user", "add", name, "--role", role]));
            let file = fleet.path().join("password");
            fs::write(&file, format!("{PASSWORD}\n")).unwrap();
            succeed(fleet.orangery(&["user", "password", name, "--file"]).arg(&file));
        }
        let joined = |name: &&str| {
            let settings = format!("[health]\ninterval_secs = 1\n[labels]\nsite = \"{name}\"\n");
            let mut node = fleet.joined(name, &settings);
            node.start();
            node
        };
        let nodes: Vec<Node> = NODES.iter().map(joined).collect();
        let villain = fleet.joined("villain", "");
        fleet.publish("1.0.0", 200);
        for name in NODES {
            fleet.deploy("greeter@1.0.0", name);
        }
        for name in NODES {
            fleet.settled_on(name, "1.0.0");
        }
        Self { fleet, nodes, villain }
    }

    fn url(&self) -> String {
        let ready: Value = serde_json::from_slice(&fs::read(self.fleet.path().join("ready")).unwrap()).unwrap();
        ready["https"].as_str().unwrap().to_owned()
    }

    /// Does it; what there is to tell of it.
    fn does(&mut self, asked: &Asked) -> Value {
        let words: Vec<&str> = asked.words.iter().map(String::as_str).collect();
        match (asked.deed.as_str(), words.as_slice()) {
            ("publish", [version, health]) => self.fleet.publish(version, health.parse().unwrap()),
            ("orangery", ["deploy", what, "--to", to, ..]) => self.fleet.deploy(what, to),
            ("orangery", words) => return succeed(&mut self.fleet.orangery(words)).into(),
            ("events", []) => {
                return succeed(&mut self.fleet.orangery(&["events", "--json", "--limit", "1000"])).into();
            }
            ("join", [name, token]) => {
                let mut board = self.fleet.board_with(name, "[health]\ninterval_secs = 1\n");
                succeed(&mut board.agent(&["join", token]));
                board.start();
                self.nodes.push(board);
            }
            ("villain", [text]) => self.villain_says(text),
            ("kill", []) => self.fleet.coordinator().kill(),
            ("serve", []) => self.fleet.serve(),
            other => panic!("nobody knows how to do {other:?}"),
        }
        Value::Null
    }

    /// A node that is in somebody's hands says the text wherever a text may be.
    fn villain_says(&self, text: &str) {
        self.fleet.deploy("greeter@1.0.0", "villain");
        let told = within(std::time::Duration::from_mins(1), "the villain is told", &mut || self.fleet.view("villain"));
        let (release, generation) = (told.desired[0].release.unwrap(), told.desired[0].generation);
        let release = json!({ "id": release, "version": "1.0.0" });
        let refusal = json!({ "release": release["id"], "code": "unhealthy", "reason": text });
        let evidence = json!({ "exit": text, "probes": [{ "probe": text, "good": 0, "bad": 3, "last": [text] }], "log": [text, text] });
        let reported = json!({
            "format": 1, "node": "villain", "boot_id": text, "sequence": 1, "generation": generation, "agent_version": text,
            "platform": text, "board": text, "labels": { text: text }, "apps": [{
                "app": "greeter", "generation": generation, "desired": release, "phase": "settled", "refusal": refusal, "waits": text,
            }],
        });
        let event = |sequence: u64, what: Value| {
            json!({ "format": 1, "node": "villain", "epoch": 1, "sequence": sequence, "at": 1_790_000_000, "clock_synced": true,
                "boot_id": text, "app": "greeter", "what": what })
        };
        let refused = json!({ "code": "refused", "generation": generation, "version": "1.0.0", "refusal": refusal, "evidence": evidence });
        let exited = json!({ "code": "app_exited", "reason": text, "restarts": 1 });
        let health = json!({ "at": 1, "load_1m": 1e300, "memory_bytes": 1, "memory_used_bytes": u64::MAX, "disk_bytes": 0,
            "disk_free_bytes": 0, "uptime_secs": 1, "clock": "synced", "agent_version": text });
        for (channel, said) in [
            (Channel::Event, event(1, refused)),
            (Channel::Event, event(2, exited)),
            (Channel::Reported, reported),
            (Channel::Health, health),
        ] {
            let topic = topic(&"villain".parse().unwrap(), channel);
            as_node(&self.fleet, &self.villain, &topic, said.to_string().as_bytes()).unwrap();
        }
    }
}
