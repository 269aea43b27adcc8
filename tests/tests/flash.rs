//! What a real agent has its disk write, as the kernel counts it for the process: little for a deployment besides what is new, and
//! nothing when there is nothing to do. A whole idle day, in virtual time, is in agent/tests/flash.rs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::{Duration, Instant};

use orangery_tests::fleet::{Fleet, GREETER, Node};
use orangery_tests::process::eventually;
use orangery_tests::random::Random;

/// A deployment may write so many percent of the bytes that are new.
const PERCENT_MAX: u64 = 115;
const PAYLOAD_BYTES: usize = 3_000_000;
/// Health messages, each due a second after the other.
const IDLE_SECS: u64 = 3;

/// What the kernel counts for a process.
#[derive(Debug, Clone, Copy)]
struct Io {
    /// Bytes for disks, less those that were removed before they got there.
    disk_bytes: u64,
    /// Bytes of all its writes: files, sockets, pipes.
    all_bytes: u64,
}

impl Io {
    fn of(node: &mut Node) -> Self {
        let text = std::fs::read_to_string(format!("/proc/{}/io", node.process().pid())).unwrap();
        let number = |name: &str| -> u64 {
            text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().parse().unwrap()
        };
        let disk_bytes = number("write_bytes:").saturating_sub(number("cancelled_write_bytes:"));
        Self { disk_bytes, all_bytes: number("wchar:") }
    }
}

/// A release with bytes that no two have in common. Returns how many bytes its files have.
fn publish(fleet: &Fleet, version: &str, random: &mut Random) -> u64 {
    let payload: Vec<u8> = std::iter::repeat_with(|| random.below(1 << 56).to_le_bytes())
        .flat_map(|bytes| bytes.into_iter().take(7))
        .take(PAYLOAD_BYTES)
        .collect();
    let tree = fleet.greeter_tree(version, &format!("version = {version}\nmessage = hello\nhealth_status = 200\n"));
    std::fs::write(tree.join("payload"), payload).unwrap();
    fleet.publish_tree("greeter", version, &tree, GREETER);
    let files = [tree.join("payload"), tree.join("greeter.conf"), tree.join("bin/greeter")];
    files.iter().map(|file| std::fs::metadata(file).unwrap().len()).sum()
}

/// Deploys and waits until everything is told. Returns what the agent wrote meanwhile.
fn deploy(fleet: &Fleet, node: &mut Node, version: &str) -> Io {
    let before = Io::of(node);
    fleet.deploy(&format!("greeter@{version}"), "all");
    fleet.settled_on("attic", version);
    eventually("all is told", || node.outbox_is_empty().then_some(()));
    let after = Io::of(node);
    Io { disk_bytes: after.disk_bytes - before.disk_bytes, all_bytes: after.all_bytes - before.all_bytes }
}

/// Time in which the agent says how it is again and again. It is what is measured, and nothing is waited for.
fn idle(node: &mut Node) -> Io {
    let before = Io::of(node);
    let end = Instant::now() + Duration::from_secs(IDLE_SECS);
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
    }
    let after = Io::of(node);
    Io { disk_bytes: after.disk_bytes - before.disk_bytes, all_bytes: after.all_bytes - before.all_bytes }
}

#[test]
fn a_deployment_writes_hardly_more_than_what_is_new_and_an_idle_agent_nothing() {
    let mut random = Random::announced();
    let fleet = Fleet::start();
    let settings = "[health]\ninterval_secs = 1\n[repository]\nrefresh_secs = 1\n";
    let mut node = fleet.joined("attic", settings);
    node.start();
    let versions = ["1.0.0", "1.1.0"];
    let new: Vec<u64> = versions.iter().map(|version| publish(&fleet, version, &mut random)).collect();
    for (version, new) in versions.iter().zip(new) {
        let wrote = deploy(&fleet, &mut node, version);
        let percent = wrote.disk_bytes * 100 / new;
        println!(
            "a deployment of {new} bytes had {} bytes written to the disk ({percent} %), {} bytes in all writes",
            wrote.disk_bytes, wrote.all_bytes
        );
        if wrote.disk_bytes == 0 {
            eprintln!("LEFT OUT: {} is in memory, so the kernel counts no writes to a disk", fleet.path().display());
        }
        assert!(percent <= PERCENT_MAX, "{version}");
        // A download is not on the disk before it is unpacked, if that comes soon, but it is written once.
        assert!(wrote.all_bytes <= 2 * new * PERCENT_MAX / 100, "{version}");
    }
    let wrote = idle(&mut node);
    println!(
        "{IDLE_SECS} s with a health message and a look for newer metadata each second: {} bytes to the disk, {} in all writes",
        wrote.disk_bytes, wrote.all_bytes
    );
    assert_eq!(wrote.disk_bytes, 0, "an idle agent writes nothing");
    assert!(wrote.all_bytes > 0, "it did speak meanwhile");
}
