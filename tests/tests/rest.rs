//! schemathesis asks the coordinator for all that its description allows, and for much that it does not. `tests/schemathesis.sh`
//! installs it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use orangery_tests::fleet::Fleet;
use orangery_tests::process::succeed;

/// What the requests are made from, unless `ORANGERY_SEED` says otherwise.
const SEED: &str = "1";
/// Requests for each route, besides those that try out each bound.
const EXAMPLES: &str = "10";

/// `None`, said aloud, where it is not installed.
fn schemathesis() -> Option<PathBuf> {
    let cache = std::env::var_os("ORANGERY_CACHE")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/orangery")))?;
    let program = cache.join("schemathesis/venv/bin/schemathesis");
    if !program.exists() {
        assert!(std::env::var_os("CI").is_none(), "schemathesis is missing; run tests/schemathesis.sh");
        eprintln!("LEFT OUT: schemathesis is missing (tests/schemathesis.sh installs it)");
        return None;
    }
    Some(program)
}

/// The settings, with what is there to be asked for: every other request is about that, the rest about nothing.
fn settings(known: &[(&str, &str)]) -> String {
    let mut text =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("schemathesis/schemathesis.toml")).unwrap();
    text.push_str("\n[parameters]\n");
    for (name, _) in known {
        writeln!(text, "\"path.{name}\" = {{ dictionary = \"{name}\", probability = 0.5 }}").unwrap();
    }
    for (name, value) in known {
        let value = value.parse::<u64>().map_or_else(|_| format!("{value:?}"), |number| number.to_string());
        writeln!(text, "\n[dictionaries.{name}]\nvalues = [{value}]").unwrap();
    }
    text
}

#[test]
fn the_rest_api_answers_as_it_is_described_whatever_it_is_asked() {
    let Some(schemathesis) = schemathesis() else { return };
    let fleet = Fleet::start();
    let _attic = fleet.node("attic");
    fleet.publish("1.0.0", 200);
    fleet.publish("1.1.0", 200);
    fleet.deploy("greeter@1.0.0", "all");
    fleet.settled_on("attic", "1.0.0");
    succeed(&mut fleet.orangery(&["rollout", "start", "greeter@1.1.0", "--nodes", "all", "--soak", "30d", "--yes"]));
    succeed(&mut fleet.orangery(&["user", "add", "lena", "--role", "viewer"]));
    let blob = fs::read_dir(fleet.home().join("coordinator/state/blobs")).unwrap().next().unwrap().unwrap();
    let blob = blob.file_name().into_string().unwrap();
    let known = [
        ("app", "greeter"),
        ("version", "1.0.0"),
        ("node", "attic"),
        ("user", "lena"),
        ("rollout", "1"),
        ("digest", &blob),
    ];
    let configuration = fleet.path().join("schemathesis.toml");
    fs::write(&configuration, settings(&known)).unwrap();

    let seed = std::env::var("ORANGERY_SEED").unwrap_or_else(|_| SEED.to_owned());
    println!("ORANGERY_SEED={seed}");
    let token = fs::read_to_string(fleet.home().join("operator.token")).unwrap();
    let asked = Command::new(schemathesis)
        .arg("--config-file")
        .arg(&configuration)
        .arg("run")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json"))
        .args(["--url", fleet.client().unwrap().url(), "--tls-verify"])
        .arg(fleet.home().join("coordinator/ca.pem"))
        .args(["--header", &format!("Authorization: Bearer {}", token.trim())])
        // It has no end; tests/tests and coordinator/tests follow it.
        .args(["--exclude-path", "/v1/events/stream"])
        .args(["--max-examples", EXAMPLES, "--seed", &seed, "--phases", "examples,coverage,fuzzing"])
        .current_dir(fleet.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&asked.stdout);
    assert!(asked.status.success(), "{said}{}", String::from_utf8_lossy(&asked.stderr));
    let count = said.lines().find(|line| line.contains(" generated")).unwrap_or_default();
    println!("{}", count.trim());
    // Whatever was done to it, it has written down, and goes on.
    succeed(&mut fleet.orangery(&["audit", "verify"]));
}
