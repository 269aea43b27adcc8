//! A real Prometheus, set up as docs/examples/monitoring/ says.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::fleet::Fleet;
use crate::process::{Running, eventually, free_port, succeed};

/// The files that users copy.
pub const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples/monitoring");

/// A Prometheus that scrapes one coordinator.
pub struct Prometheus {
    // Stopped before its directory is removed, which is the fleet's.
    _running: Running,
    port: u16,
}

/// Whether Prometheus and promtool are installed. Without them says so; in CI they must be.
pub fn possible() -> bool {
    let here = ["prometheus", "promtool"].iter().all(|name| Command::new(name).arg("--version").output().is_ok());
    if !here {
        assert!(std::env::var_os("CI").is_none(), "CI must try it, and Prometheus is not installed");
        eprintln!("LEFT OUT: Prometheus is not installed (apt-get install prometheus)");
    }
    here
}

impl Prometheus {
    /// Starts one with the example's settings, the fleet's address and `token`, and waits until it answers.
    pub fn start(fleet: &Fleet, token: &str) -> Self {
        let directory = fleet.path().join("prometheus");
        std::fs::create_dir_all(&directory).expect("a directory for Prometheus");
        let at = |name: &str| directory.join(name);
        let coordinator =
            std::fs::read_to_string(fleet.path().join("ready")).expect("the coordinator has said where it is");
        let coordinator: Value = serde_json::from_str(&coordinator).expect("as JSON");
        let address = coordinator["https"].as_str().expect("an address").trim_start_matches("https://");
        let settings = std::fs::read_to_string(Path::new(EXAMPLES).join("prometheus.yml")).expect("the example");
        let settings = settings.replace("192.168.1.10:8443", address).replace("30s", "1s");
        assert!(settings.contains(address), "the example names another address than this replaces");
        std::fs::write(at("prometheus.yml"), settings).expect("settings");
        std::fs::copy(Path::new(EXAMPLES).join("orangery.rules.yml"), at("orangery.rules.yml")).expect("rules");
        std::fs::copy(fleet.home().join("coordinator/ca.pem"), at("ca.pem")).expect("the CA");
        std::fs::write(at("metrics.token"), token).expect("the token");
        succeed(Command::new("promtool").args(["check", "config"]).arg(at("prometheus.yml")));
        let port = free_port();
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", at("prometheus.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", at("data").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let mut running = Running::start("prometheus", command, at("log"));
        eventually("Prometheus answers", || {
            assert!(running.ended().is_none(), "Prometheus ended: {}", running.log());
            crate::node::get(port, "/-/ready").filter(|(status, _)| *status == 200)
        });
        Self { _running: running, port }
    }

    /// The values of a query by their label `label`, of those samples that there are.
    pub fn ask(&self, query: &str, label: &str) -> Vec<(String, String)> {
        let encoded = query.bytes().map(|byte| format!("%{byte:02X}")).collect::<Vec<_>>().concat();
        let answer = crate::node::get(self.port, &format!("/api/v1/query?query={encoded}")).map(|(_, body)| body);
        let answer: Value = serde_json::from_str(&answer.unwrap_or_default()).unwrap_or_default();
        let samples = answer["data"]["result"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        samples.iter().map(|sample| (text(&sample["metric"][label]), text(&sample["value"][1]))).collect()
    }
}
