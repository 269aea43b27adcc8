//! Software that none of us wrote: Debian's prometheus-node-exporter, older, newer, and newer with a wrong flag.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

use orangery_tests::exporter::{Exporter, exporters};
use orangery_tests::fleet::{Fleet, get};
use orangery_tests::process::{eventually, free_port};
use orangery_wire::messages::{AppReport, Phase, RefusalCode};

fn manifest(flags: &str) -> String {
    format!(
        r#"
notes = "from Debian's package"
soak_secs = 1

[run]
exec = ["usr/bin/prometheus-node-exporter", "--web.listen-address=127.0.0.1:${{PORT}}"{flags}]

[run.restart]
restarts_max = 2
backoff_ms = 100

[[probes]]
http = {{ port = "${{PORT}}", path = "/metrics" }}
interval_ms = 200
failures = 25
"#
    )
}

/// The older and the newer; `None`, and a word about it, where nobody has fetched them.
fn packages(into: &Path) -> Option<[Exporter; 2]> {
    let found = exporters(if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }, into);
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "Debian's packages are missing; run tests/debian-packages.sh");
        eprintln!("LEFT OUT: Debian's node-exporter packages are missing (tests/debian-packages.sh fetches them)");
    }
    found
}

fn report(fleet: &Fleet, node: &str) -> Option<AppReport> {
    fleet.view(node)?.reported?.apps.into_iter().find(|app| app.app.as_str() == "node-exporter")
}

fn served(port: u16) -> Option<String> {
    let (status, metrics) = get(port, "/metrics")?;
    let line = metrics.lines().find(|line| line.starts_with("node_exporter_build_info"))?.to_owned();
    (status == 200).then(|| line.split(",version=\"").nth(1)?.split(['"', '+']).next().map(str::to_owned))?
}

#[test]
fn debians_node_exporter_is_deployed_upgraded_and_a_wrong_flag_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let Some(packages) = packages(scratch.path()) else { return };
    let fleet = Fleet::start();
    let port = free_port();
    let mut node = fleet.joined("attic", &format!("[apps.node-exporter.env]\nPORT = \"{port}\"\n"));
    node.start();
    for Exporter { version, tree } in &packages {
        fleet.publish_tree("node-exporter", version, tree, &manifest(""));
        fleet.deploy(&format!("node-exporter@{version}"), "attic");
        eventually(&format!("{version} is current"), || {
            let app = report(&fleet, "attic")?;
            (app.phase == Phase::Settled && app.current?.version.to_string() == *version).then_some(())
        });
        assert_eq!(served(port).as_ref(), Some(version), "its own metrics say which one it is");
    }
    let [_, Exporter { version: newest, tree }] = &packages;
    fleet.publish_tree("node-exporter", "99.0.0", tree, &manifest(", \"--no-such-flag\""));
    fleet.deploy("node-exporter@99.0.0", "attic");
    let refusal = eventually("the wrong flag is refused", || {
        let app = report(&fleet, "attic")?;
        app.refusal.filter(|_| app.phase == Phase::Settled)
    });
    assert!(matches!(refusal.code, RefusalCode::WontStart | RefusalCode::Unhealthy), "{refusal:?}");
    eventually("the newest good one serves", || (served(port)? == *newest).then_some(()));
    println!("refused: {}: {}", refusal.code, refusal.reason);
}
