//! Agents as releases: good ones, and such as nobody should ever have signed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use orangery_tests::fleet::Fleet;
use orangery_tests::process::{program, succeed};

/// The manifest of an agent that is quick to judge.
pub fn manifest(soak_secs: u64) -> String {
    format!(
        r#"
soak_secs = {soak_secs}

[run]
exec = ["orangery-agent"]

[run.restart]
uptime_min_secs = 1

[gate]
connectivity_secs = 5
"#
    )
}

/// The agent without what only a debugger reads.
pub fn agent(fleet: &Fleet) -> Vec<u8> {
    let stripped = fleet.path().join("orangery-agent");
    if !stripped.exists() {
        let mut strip = Command::new("strip");
        succeed(strip.arg("-o").arg(&stripped).arg(program("orangery-agent")));
    }
    fs::read(stripped).unwrap()
}

/// The agent as another release: what follows the end of a program is nobody's business.
pub fn as_version(fleet: &Fleet, version: &str) -> Vec<u8> {
    [agent(fleet), version.as_bytes().to_vec()].concat()
}

/// The agent with every `from` made `to`.
pub fn patched(fleet: &Fleet, from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = agent(fleet);
    let mut found = 0;
    let mut at = 0;
    while at + from.len() <= bytes.len() {
        if bytes[at..].starts_with(from.as_bytes()) {
            bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
            found += 1;
        }
        at += 1;
    }
    assert!(found > 0, "the agent has no {from:?} in it");
    bytes
}

/// A script in the agent's place.
pub fn script(text: &str) -> Vec<u8> {
    format!("#!/bin/sh\n{text}\n").into_bytes()
}

/// The beginning of a program for another architecture. It is one that nobody has: for those that there are, the machine may
/// have an emulator.
pub fn foreign() -> Vec<u8> {
    let machine: u16 = 0x7abc;
    let mut header = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    header.extend(2u16.to_le_bytes());
    header.extend(machine.to_le_bytes());
    header.extend(1u32.to_le_bytes());
    header.resize(4_096, 0);
    header
}

/// Signs and publishes `program` as the agent of this version.
pub fn publish(fleet: &Fleet, version: &str, program: &[u8], manifest: &str) {
    let tree = fleet.path().join("agents").join(version);
    fs::create_dir_all(&tree).unwrap();
    put(&tree.join("orangery-agent"), program);
    fleet.publish_tree("orangery-agent", version, &tree, manifest);
}

fn put(path: &Path, program: &[u8]) -> PathBuf {
    fs::write(path, program).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_owned()
}
