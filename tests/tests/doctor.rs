//! `orangery-agent doctor` on real nodes: what it finds, that it changes nothing, and that its bundle tells no secrets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use orangery_tests::fleet::{Fleet, GREETER, Node};
use orangery_tests::process::{eventually, output, succeed};

struct Seen {
    exit: i32,
    /// Each code with its level.
    codes: BTreeMap<String, String>,
    /// What was found well.
    well: String,
}

impl Seen {
    /// Codes of findings that a person must act on.
    fn needs(&self) -> Vec<&str> {
        self.codes.iter().filter(|(_, level)| *level != "note").map(|(code, _)| code.as_str()).collect()
    }
}

fn doctor(node: &Node) -> Seen {
    let begin = Instant::now();
    let answer = output(&mut node.agent(&["doctor", "--json"]));
    assert!(begin.elapsed() < Duration::from_secs(20), "it took {:?}", begin.elapsed());
    let findings: Vec<serde_json::Value> = serde_json::from_slice(&answer.stdout).unwrap();
    let text = |finding: &serde_json::Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let mut seen = Seen { exit: answer.status.code().unwrap(), codes: BTreeMap::new(), well: String::new() };
    for finding in &findings {
        if finding["code"].is_null() {
            assert_eq!(finding["level"], "ok");
            seen.well.push_str(&text(finding, "what"));
            seen.well.push('\n');
        } else {
            assert!(!text(finding, "why").is_empty() && !text(finding, "fix").is_empty(), "{finding}");
            seen.codes.insert(text(finding, "code"), text(finding, "level"));
        }
    }
    assert_eq!(seen.exit, i32::from(!seen.needs().is_empty()), "{:?}", seen.codes);
    seen
}

/// Every file below a directory, with its size, mode and time of change.
fn snapshot(directory: &Path) -> BTreeMap<PathBuf, (u64, u32, i64, i64)> {
    let mut found = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(path) = open.pop() {
        let about = std::fs::symlink_metadata(&path).unwrap();
        if about.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        found.insert(path, (about.len(), about.mode(), about.mtime(), about.mtime_nsec()));
    }
    found
}

/// Of this machine, and not of the node.
const OF_MACHINE: [&str; 7] =
    ["disk_low", "inodes_low", "memory_low", "too_hot", "unit_disabled", "power_weak", "flash_worn"];

fn needs(node: &Node) -> Vec<String> {
    let seen = doctor(node);
    seen.needs().into_iter().filter(|code| !OF_MACHINE.contains(code)).map(str::to_owned).collect()
}

#[test]
fn each_trouble_of_a_node_is_found_by_its_code_and_nothing_is_changed() {
    let mut fleet = Fleet::start();
    assert_eq!(needs(&fleet.board("bare")), ["not_joined"]);
    let mut node = fleet.joined("attic", "");
    assert_eq!(needs(&node), ["agent_stopped"]);
    node.start();
    fleet.publish("1.0.0", 200);
    fleet.publish("1.1.0", 500);
    fleet.deploy("greeter@1.0.0", "attic");
    fleet.settled_on("attic", "1.0.0");
    let seen = eventually("the node is well", || {
        let seen = doctor(&node);
        seen.needs().iter().all(|code| OF_MACHINE.contains(code)).then_some(seen)
    });
    for part in [
        "runs as attic",
        "connected to",
        "every invariant holds",
        "(HTTPS) answers",
        "(MQTT) answers",
        "greeter: 1.0.0",
    ] {
        assert!(seen.well.contains(part), "{part}: {}", seen.well);
    }
    fleet.deploy("greeter@1.1.0", "attic");
    fleet.refused("attic", "1.1.0");
    assert_eq!(needs(&node), ["app_refused"]);

    fleet.coordinator().kill();
    eventually("the node misses its coordinator", || {
        (needs(&node) == ["app_refused", "not_connected", "unreachable"]).then_some(())
    });
    fleet.serve();
    eventually("the node is back", || (needs(&node) == ["app_refused"]).then_some(()));
    succeed(&mut fleet.orangery(&["node", "revoke", "attic"]));
    eventually("the node is not let in any more", || {
        (needs(&node) == ["app_refused", "certificate_refused", "not_connected"]).then_some(())
    });
    node.stop();

    let state = node.state();
    let damages: [(&[&str], &[&str]); 5] = [
        // Its previous copy is used.
        (&["apps/greeter/state.json"], &["agent_stopped", "certificate_refused"]),
        (&["identity/node.key"], &["agent_stopped", "identity_damaged", "invariant"]),
        (&["identity/coordinator.json"], &["agent_stopped", "identity_damaged", "invariant"]),
        (&["trust/1.root.json"], &["agent_stopped", "certificate_refused", "invariant"]),
        (
            &["trust/1.root.json", "trust/root.json"],
            &["agent_stopped", "certificate_refused", "invariant", "trust_damaged"],
        ),
    ];
    for (files, codes) in damages {
        let whole: Vec<_> = files.iter().map(|file| std::fs::read(state.join(file)).unwrap()).collect();
        for file in files {
            std::fs::write(state.join(file), b"{").unwrap();
        }
        let before = snapshot(&state);
        assert_eq!(needs(&node), codes, "{files:?}");
        assert_eq!(snapshot(&state), before, "it changes nothing");
        files.iter().zip(whole).for_each(|(file, whole)| std::fs::write(state.join(file), whole).unwrap());
    }
    std::fs::set_permissions(state.join("apps"), std::fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(needs(&node), ["agent_stopped", "certificate_refused", "state_open"]);
}

#[test]
fn a_support_bundle_tells_what_happened_and_no_secret() {
    let fleet = Fleet::start();
    // The table of variables comes last in a node's settings.
    let settings = "API_TOKEN = \"canary-1-in-settings\" # canary-2-comment\n";
    let mut node = fleet.joined("attic", settings);
    let manifest = GREETER.replace("[run.restart]", "[run.env]\nSECRET = \"canary-4-in-manifest\"\n\n[run.restart]");
    let config = |health: u16| format!("version = 1.0.0\nmessage = hello\nhealth_status = {health}\n");
    fleet.publish_with("1.0.0", &config(200), &manifest);
    fleet.publish_with("1.1.0", &config(500), &manifest);
    node.start();
    fleet.deploy("greeter@1.0.0", "attic");
    fleet.settled_on("attic", "1.0.0");
    let log = node.state().join("apps/greeter/logs/out.log");
    let said = std::fs::read_to_string(&log).unwrap() + "canary-5-in-the-apps-log\ncanary-1-in-settings\n";
    std::fs::write(&log, said).unwrap();
    fleet.deploy("greeter@1.1.0", "attic");
    fleet.refused("attic", "1.1.0");
    let settings = node.state().with_file_name("agent.toml");
    let login = "[repository]\nurl = \"https://me:canary-3-login@127.0.0.1:9/fleet\"\n";
    std::fs::write(&settings, std::fs::read_to_string(&settings).unwrap() + login).unwrap();
    let key = std::fs::read_to_string(node.state().join("identity/node.key")).unwrap();
    let key_line = key.lines().nth(1).unwrap();
    let pem_line = std::fs::read_to_string(node.state().join("identity/node.pem")).unwrap();
    let pem_line = pem_line.lines().nth(1).unwrap();

    for with_logs in [false, true] {
        let file = fleet.path().join(format!("bundle-{with_logs}.txt"));
        let mut words = vec!["doctor", "--bundle", file.to_str().unwrap()];
        words.extend(with_logs.then_some("--with-app-logs"));
        let answer = output(&mut node.agent(&words));
        assert_eq!(answer.status.code(), Some(1), "a release is refused");
        let text = std::fs::read_to_string(&file).unwrap();
        for part in [
            "==== doctor",
            "app_refused",
            "==== status",
            "==== why",
            "==== history",
            "==== settings",
            "\"API_TOKEN\"",
            "state.json",
        ] {
            assert!(text.contains(part), "{part} is missing");
        }
        for secret in [key_line, pem_line, "PRIVATE KEY", "canary-1", "canary-2", "canary-3", "canary-4"] {
            assert!(!text.contains(secret), "{secret} stands in the bundle");
        }
        assert_eq!(text.contains("canary-5-in-the-apps-log"), with_logs);
        assert!(text.len() <= 1 << 20);
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        let again = output(&mut node.agent(&words));
        assert!(String::from_utf8_lossy(&again.stderr).contains("cannot write the bundle"), "nothing is overwritten");
    }
}

#[test]
fn the_coordinator_says_what_is_wrong_with_it_and_the_fleet() {
    let mut fleet = Fleet::start();
    let _attic = fleet.node("attic");
    let examined = |fleet: &Fleet| -> (bool, Vec<serde_json::Value>) {
        let answer = output(&mut fleet.orangery(&["doctor", "--json"]));
        (answer.status.success(), serde_json::from_slice(&answer.stdout).unwrap())
    };
    let codes = |findings: &[serde_json::Value]| -> Vec<String> {
        findings.iter().filter_map(|finding| finding["code"].as_str().map(str::to_owned)).collect()
    };
    fleet.publish("1.0.0", 200);
    fleet.deploy("greeter@1.0.0", "all");
    fleet.settled_on("attic", "1.0.0");
    let (is_well, findings) = eventually("all is well", || Some(examined(&fleet)).filter(|(is_well, _)| *is_well));
    assert!(is_well && codes(&findings).is_empty() && findings.len() >= 4, "{findings:#?}");

    fleet.publish("1.1.0", 500);
    succeed(&mut fleet.orangery(&["rollout", "start", "greeter@1.1.0", "--nodes", "all", "--soak", "1s", "--yes"]));
    fleet.rollout_is(1, "paused");
    let (is_well, findings) = examined(&fleet);
    assert_eq!((is_well, codes(&findings)), (false, vec!["node_needs_a_look".to_owned(), "rollout_asks".to_owned()]));
    let text = String::from_utf8(output(&mut fleet.orangery(&["doctor"])).stdout).unwrap();
    assert!(text.contains("orangery why NODE") && text.contains("attic") && text.contains("[unhealthy]"), "{text}");

    fleet.coordinator().kill();
    let (is_well, findings) = examined(&fleet);
    assert_eq!((is_well, codes(&findings)), (false, vec!["no_answer".to_owned()]));
    assert!(findings[0]["what"].as_str().unwrap().contains("cannot reach the coordinator"), "{findings:#?}");
}
