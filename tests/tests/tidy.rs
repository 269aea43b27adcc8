//! Walls of the architecture that the compiler does not hold, and what may be depended upon.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn rust_files(below: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().join(below)];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|x| x == "rs") {
            found.push(path);
        }
    }
    assert!(!found.is_empty(), "{below} has no Rust files: has it moved?");
    found
}

/// The text without comments and without its test module.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let before_tests = text.split("#[cfg(test)]").next().unwrap_or_default();
    before_tests.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn assert_absent(files: &[PathBuf], words: &[&str]) {
    for file in files {
        let code = code(file);
        for word in words {
            assert!(!code.contains(word), "{} names {word}, and pure modules must not", file.display());
        }
    }
}

const IMPURE: [&str; 12] = [
    "std::fs",
    "std::net",
    "std::thread",
    "std::process",
    "std::env::var",
    "SystemTime",
    "Instant",
    "tokio",
    "rumqttc",
    "hyper",
    "rustix",
    "tracing",
];

#[test]
fn the_deployment_core_names_no_clock_file_socket_or_task() {
    assert_absent(&[root().join("agent/src/deployment.rs")], &IMPURE);
}

#[test]
fn the_planner_of_rollouts_names_no_clock_file_socket_or_task() {
    let mut files = rust_files("coordinator/src/rollout");
    files.retain(|file| !file.ends_with("tests.rs"));
    files.push(root().join("coordinator/src/rollout.rs"));
    assert_absent(&files, &IMPURE);
    assert_absent(&files, &["crate::store", "crate::engine", "rusqlite"]);
}

#[test]
fn the_fleet_as_a_directory_names_no_clock_file_socket_or_task() {
    let mut files = rust_files("coordinator/src/fleet");
    files.retain(|file| !file.ends_with("tests.rs") && !file.ends_with("tests/mistakes.rs"));
    files.push(root().join("coordinator/src/fleet.rs"));
    assert_absent(&files, &IMPURE);
    assert_absent(&files, &["crate::store", "crate::engine", "crate::client", "crate::cli", "rusqlite"]);
}

#[test]
fn maintenance_windows_name_no_clock_file_socket_or_task() {
    let files = [root().join("coordinator/src/windows.rs")];
    assert_absent(&files, &IMPURE);
    assert_absent(&files, &["crate::store", "crate::engine", "rusqlite", "Timestamp::now", "from_env", "tz::db()"]);
    assert_absent(&rust_files("coordinator/src/rollout"), &["jiff"]);
}

#[test]
fn the_chain_of_the_audit_log_names_no_clock_file_socket_or_task() {
    let file = [root().join("coordinator/src/audit.rs")];
    assert_absent(&file, &IMPURE);
    assert_absent(&file, &["crate::store", "crate::engine", "rusqlite"]);
}

#[test]
fn the_wire_and_trust_crates_do_no_io() {
    assert_absent(&rust_files("wire/src"), &IMPURE);
    assert_absent(&rust_files("trust/src"), &IMPURE);
}

#[test]
fn nothing_but_the_client_of_the_conformance_suite_can_do_without_tls() {
    for below in ["agent/src", "coordinator/src"] {
        for file in rust_files(below) {
            assert!(!code(&file).contains("::unprotected("), "{} makes a client without TLS", file.display());
        }
    }
}

#[test]
fn agent_and_coordinator_never_import_each_other() {
    assert!(!read("agent/Cargo.toml").contains("\norangery.workspace"), "the agent depends on the coordinator");
    assert!(!read("coordinator/Cargo.toml").contains("orangery-agent"), "the coordinator depends on the agent");
}

#[test]
fn every_module_stands_in_the_architecture_page() {
    let page = read("ARCHITECTURE.md");
    for crate_name in ["agent", "coordinator"] {
        let lib = read(&format!("{crate_name}/src/lib.rs"));
        for line in lib.lines() {
            let Some(name) = line.strip_prefix("pub mod ").and_then(|rest| rest.strip_suffix(';')) else { continue };
            assert!(
                page.contains(&format!("`{name}`")),
                "ARCHITECTURE.md does not name {crate_name}'s module `{name}`"
            );
        }
    }
}

#[test]
fn no_function_is_unfinished() {
    for below in ["wire", "trust", "agent", "coordinator", "tests/src"] {
        assert_absent(&rust_files(below), &["todo!(", "unimplemented!(", "dbg!("]);
    }
}

#[test]
fn documents_link_to_what_is_there() {
    let mut pages: Vec<PathBuf> =
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"].iter().map(|p| root().join(p)).collect();
    pages.extend(std::fs::read_dir(root().join("docs")).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_file()));
    for page in pages.iter().filter(|p| p.extension().is_some_and(|x| x == "md")) {
        let text = std::fs::read_to_string(page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") || link.starts_with('#') {
                continue;
            }
            let target = page.parent().unwrap().join(link.split('#').next().unwrap());
            assert!(target.exists(), "{} links to {link}, which is not there", page.display());
        }
    }
}

/// Licences that go with `Apache-2.0 OR MIT`.
const LICENCES: [&str; 12] = [
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "0BSD",
    "Unicode-3.0",
    "CC0-1.0",
    "Unlicense",
    "MPL-2.0",
];

/// Crates that must not be in any binary: a second crypto provider, or ones with advisories that say so.
const BANNED: [&str; 8] =
    ["aws-lc-rs", "aws-lc-sys", "openssl", "openssl-sys", "native-tls", "serde_yml", "bincode", "tokio-tar"];

fn packages() -> Vec<serde_json::Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--offline", "--filter-platform=x86_64-unknown-linux-gnu"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let used: BTreeSet<String> =
        metadata["resolve"]["nodes"].as_array().unwrap().iter().map(|node| node["id"].to_string()).collect();
    let all = metadata["packages"].as_array().unwrap().clone();
    all.into_iter().filter(|package| used.contains(&package["id"].to_string())).collect()
}

/// Whether one of the alternatives of an SPDX expression is made of allowed licences alone. Handles `A OR B`, `A AND B`,
/// `A/B` and one level of brackets, which is what crates write.
fn is_allowed(expression: &str) -> bool {
    let plain = expression.replace('/', " OR ").replace(['(', ')'], "");
    plain.split(" AND ").all(|part| part.split(" OR ").any(|name| LICENCES.contains(&name.trim())))
}

#[test]
fn every_dependency_has_a_licence_that_goes_with_ours() {
    let unknown: Vec<String> = packages()
        .iter()
        .filter(|package| !is_allowed(package["license"].as_str().unwrap_or("none")))
        .map(|package| format!("{}: {}", package["name"], package["license"]))
        .collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
    assert!(!is_allowed("GPL-3.0-only") && !is_allowed("MIT AND GPL-3.0") && is_allowed("MIT/Apache-2.0"));
}

#[test]
fn there_is_one_crypto_provider_and_no_banned_crate() {
    for package in packages() {
        let name = package["name"].as_str().unwrap();
        assert!(!BANNED.contains(&name), "{name} came in: cargo tree -i {name} says by whom");
    }
}
