//! What the kernel says of processes that are not our children (proc(5)).

use std::fs;
use std::io::Read;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Longest environment that is read; the kernel allows a program more, our manifests about a megabyte.
const ENVIRONMENT_BYTES_MAX: u64 = 4 << 20;

/// Where systemd has its control groups: version 2, version 1, both.
const CONTROL_GROUPS: [&str; 3] = ["/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"];

/// A line of /proc/PID/stat, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// It has ended and only waits to be asked how.
    pub ended: bool,
    /// Its process group.
    pub group: i32,
    /// When it started, in clock ticks since boot. With the boot id it names a process for good, which a number does not.
    pub start_ticks: u64,
}

/// What the kernel says of a process; `None` if there is none of that number.
pub fn stat(pid: Pid) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?)
}

fn parse_stat(line: &str) -> Option<Stat> {
    // The name may have anything in it, but after the last ')' come numbers.
    let (_, rest) = line.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // A process whose first thread has ended looks like one that ended as a whole, but for its other threads.
    let threads: u32 = fields.get(17)?.parse().ok()?;
    Some(Stat {
        ended: matches!(*fields.first()?, "Z" | "X" | "x") && threads <= 1,
        group: fields.get(2)?.parse().ok()?,
        start_ticks: fields.get(19)?.parse().ok()?,
    })
}

/// Whether a process of the group still runs. One that has ended and that nobody asks how does not count: in a container
/// without an init it stays for good.
pub fn group_runs(group: Pid) -> bool {
    if rustix::process::test_kill_process_group(group) == Err(Errno::SRCH) {
        return false;
    }
    let number = group.as_raw_nonzero().get();
    processes().filter_map(stat).any(|stat| stat.group == number && !stat.ended)
}

/// All processes that have each of `marks` in the environment that they were started with.
pub fn marked(marks: &[String]) -> Vec<Pid> {
    processes().filter(|pid| is_marked(*pid, marks)).collect()
}

/// Kills the process if it still is one with these marks.
pub fn kill_marked(pid: Pid, marks: &[String]) {
    let killed = match pidfd_open(pid, PidfdFlags::empty()) {
        // Asked after it was opened: the number cannot have become another process's.
        Ok(process) if is_marked(pid, marks) => pidfd_send_signal(&process, Signal::KILL),
        // Linux before 5.3.
        Err(Errno::NOSYS) if is_marked(pid, marks) => rustix::process::kill_process(pid, Signal::KILL),
        _ => Ok(()),
    };
    if let Err(error) = killed {
        tracing::warn!(pid = pid.as_raw_nonzero(), reason = %error, "cannot kill a process that an app left behind");
    }
}

fn is_marked(pid: Pid, marks: &[String]) -> bool {
    if stat(pid).is_none_or(|stat| stat.ended) {
        return false;
    }
    let mut environment = Vec::new();
    let read = fs::File::open(format!("/proc/{}/environ", pid.as_raw_nonzero()))
        .and_then(|file| file.take(ENVIRONMENT_BYTES_MAX).read_to_end(&mut environment));
    // Another user's process cannot be read, and is none of ours.
    read.is_ok() && marks.iter().all(|mark| environment.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes()))
}

/// The value of `name` in the environment that a process was started with.
pub fn variable(pid: Pid, name: &str) -> Option<String> {
    let environment = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())).ok()?;
    environment.split(|byte| *byte == 0).find_map(|entry| {
        let value = std::str::from_utf8(entry).ok()?.strip_prefix(name)?.strip_prefix('=')?;
        Some(value.to_owned())
    })
}

/// Memory of its own that a process has: what is resident and no copy of a file (proc(5), `RssAnon`).
pub fn memory_bytes(pid: Pid) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The same of all processes of a group; `None` if there are none.
pub fn group_memory_bytes(group: Pid) -> Option<u64> {
    let number = group.as_raw_nonzero().get();
    let members = processes().filter(|pid| stat(*pid).is_some_and(|stat| stat.group == number));
    members.filter_map(memory_bytes).reduce(u64::saturating_add)
}

/// The same of all processes of a control group; `None` if there is no such group, or nobody in it.
pub fn control_group_memory_bytes(group: &str) -> Option<u64> {
    let procs = CONTROL_GROUPS
        .iter()
        .find_map(|root| fs::read_to_string(Path::new(root).join(group).join("cgroup.procs")).ok())?;
    let members = procs.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?));
    members.filter_map(memory_bytes).reduce(u64::saturating_add)
}

fn processes() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok().filter(|pid| *pid > 0)?))
}

/// The kernel's name for this boot; empty where it has none, and then nothing of an earlier run is believed.
pub fn boot_id() -> String {
    fs::read_to_string(Path::new("/proc/sys/kernel/random/boot_id")).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_whatever_the_programs_name() {
        let line = "7 (a) S (b)) Z 1 5 5 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 12345 0 0\n";
        assert_eq!(parse_stat(line), Some(Stat { ended: true, group: 5, start_ticks: 12345 }));
        let threads = line.replace("20 0 1", "20 0 2");
        assert_eq!(parse_stat(&threads).map(|stat| stat.ended), Some(false), "other threads go on");
        assert_eq!(parse_stat("7 (a"), None);
        assert_eq!(parse_stat("7 (a) S 1 5"), None);
    }

    #[test]
    fn this_process_is_found_with_its_group_and_environment() {
        let me = rustix::process::getpid();
        let stat = stat(me).unwrap();
        assert!(!stat.ended && stat.start_ticks > 0);
        assert!(group_runs(Pid::from_raw(stat.group).unwrap()));
        let path = format!("PATH={}", std::env::var("PATH").unwrap());
        assert!(marked(std::slice::from_ref(&path)).contains(&me));
        assert!(!marked(&[path, "ORANGERY_NO_SUCH=1".to_owned()]).contains(&me));
        assert_eq!(variable(me, "PATH"), std::env::var("PATH").ok());
        assert_eq!(variable(me, "PAT"), None);
        let group = Pid::from_raw(stat.group).unwrap();
        assert!(memory_bytes(me).unwrap() > 0 && group_memory_bytes(group).unwrap() >= memory_bytes(me).unwrap() / 2);
        assert_eq!(control_group_memory_bytes("no/such.service"), None);
    }

    #[test]
    fn a_boot_has_a_name() {
        assert_eq!(boot_id().len(), 36);
    }
}
