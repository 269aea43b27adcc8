//! What the kernel says of a process.

use anyhow::Context;

/// Memory, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Resident.
    pub rss: u64,
    /// Resident, shared pages divided among those who share them.
    pub pss: u64,
    /// Resident and backed by no file.
    pub anonymous: u64,
}

/// `/proc/PID/smaps_rollup`
pub fn memory(pid: u32) -> anyhow::Result<Memory> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).context("read smaps_rollup")?;
    let kib = |name: &str| -> u64 {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
    };
    Ok(Memory { rss: kib("Rss:") * 1024, pss: kib("Pss:") * 1024, anonymous: kib("Anonymous:") * 1024 })
}

/// User and system time used, in seconds.
pub fn cpu_secs(pid: u32) -> anyhow::Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("read stat")?;
    let after_name = text.rsplit_once(") ").map(|(_, rest)| rest).context("understand stat")?;
    let ticks: u32 = after_name.split(' ').skip(11).take(2).filter_map(|n| n.parse::<u32>().ok()).sum();
    Ok(f64::from(ticks) / 100.0)
}

/// How often any of its threads has gone to sleep by itself: each is a wake-up.
pub fn sleeps(pid: u32) -> anyhow::Result<u64> {
    let mut sum = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).context("list threads")? {
        let text = std::fs::read_to_string(thread?.path().join("status")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        sum += line.and_then(|n| n.trim().parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(sum)
}

/// Open descriptors.
pub fn descriptors(pid: u32) -> anyhow::Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{pid}/fd")).context("list descriptors")?.count())
}

/// Bytes of all files below a directory, as they lie on the disk.
pub fn disk_bytes(directory: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut open = vec![directory.to_owned()];
    let mut sum = 0;
    while let Some(path) = open.pop() {
        let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
        sum += metadata.blocks() * 512;
        if metadata.is_dir() {
            open.extend(std::fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
    sum
}
