//! Which system calls touch the disk, and how one of them is hit: strace's list and its fault injection.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::board::{Board, Outcome};
use crate::template::Template;

/// Everything that changes a file system or makes a change durable. A `?` is for those that a machine does not have.
const CALLS: &str = "openat,write,pwrite64,writev,?pwritev,fsync,fdatasync,?rename,?renameat,?renameat2,?link,linkat,?unlink,\
                     unlinkat,?rmdir,?mkdir,mkdirat,?symlink,symlinkat,ftruncate,fallocate,?chmod,fchmod,fchmodat,?bind,flock,\
                     ?sync_file_range,?copy_file_range,?sendfile,?truncate";

/// What happens at the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Kill,
    Eio,
    Enospc,
}

/// The n-th call of this name on this path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub name: String,
    /// Relative to the node's directory.
    pub path: String,
    pub n: usize,
    /// Whether it opens a file for reading alone.
    reads: bool,
}

impl Call {
    /// Whether a disk may fail it for want of space or with an error of its own.
    pub fn writes(&self) -> bool {
        !self.reads && !matches!(self.name.as_str(), "flock" | "bind")
    }
}

fn strace() -> Command {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-y"]).stdin(Stdio::null());
    command
}

/// strace that hits `call` in the node `directory`; what it is to trace is still missing.
pub fn injecting(call: &Call, fault: Fault, directory: &Path) -> Command {
    let how = match fault {
        Fault::Kill => "signal=SIGKILL",
        Fault::Eio => "error=EIO",
        Fault::Enospc => "error=ENOSPC",
    };
    let mut command = strace();
    command.arg("-P").arg(directory.join(&call.path)).args(["-o", "/dev/null"]);
    command.args(["-e", &format!("trace={}", call.name)]);
    command.args(["-e", &format!("inject={}:{how}:when={}", call.name, call.n)]);
    command
}

pub fn recording(to: &Path) -> Command {
    let mut command = strace();
    command.args(["-s", "4096", "-e", &format!("trace={CALLS}"), "-o"]).arg(to);
    command
}

/// The calls of a start until the app runs.
pub fn record_start(template: &Template) -> Vec<Call> {
    let mut board = Board::copy_of(template);
    let list = board.directory().join("strace");
    board.start_with(recording(&list));
    board.settled("the recorded start");
    let calls = read(&board, &list);
    assert!(calls.len() > 20, "a start has {} calls", calls.len());
    calls
}

/// The calls of a deployment until the new release is current.
pub fn record_deploy(template: &Template) -> Vec<Call> {
    let mut board = Board::copy_of(template);
    let list = board.directory().join("strace");
    board.start();
    board.settled("the start before the recorded deployment");
    board.attach_with(recording(&list));
    assert_eq!(board.deploy(), Outcome::Current, "{}", board.log());
    board.settled("the recorded deployment");
    let calls = read(&board, &list);
    assert!(calls.len() > 60, "a deployment has {} calls", calls.len());
    calls
}

fn read(board: &Board, list: &Path) -> Vec<Call> {
    let text = std::fs::read_to_string(list).expect("strace has written its list");
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut calls = Vec::new();
    for line in text.lines() {
        // `PID name(...) = 0`; the rest of a call that was interrupted by another thread's line has no name.
        let Some((name, rest)) = line.split_once(' ').and_then(|(_, call)| call.trim_start().split_once('(')) else {
            continue;
        };
        if name.contains(['<', ' ', '-', '+']) {
            continue;
        }
        let Some(path) = path_in(rest, board.directory()) else { continue };
        let n = counts.entry((name.to_owned(), path.clone())).or_default();
        *n += 1;
        let reads = name == "openat" && !["O_WRONLY", "O_RDWR", "O_CREAT"].iter().any(|flag| rest.contains(flag));
        // What is only read cannot be half done, and a kill before it is a kill before the next call.
        if !reads {
            calls.push(Call { name: name.to_owned(), path, n: *n, reads });
        }
    }
    calls
}

/// The first path below the node's state directory that strace shows: of a descriptor, or in quotes.
fn path_in(arguments: &str, directory: &Path) -> Option<String> {
    let state = format!("{}/state", directory.display());
    let at = arguments.find(&state)?;
    let path = arguments.get(at..)?;
    let end = path.find(['>', '"'])?;
    let path = path.get(..end)?.strip_prefix(&format!("{}/", directory.display()))?;
    // Sockets and what apps write themselves are no concern of the disk's.
    (!path.ends_with("agent.sock") && !path.contains("/logs/")).then(|| path.to_owned())
}
