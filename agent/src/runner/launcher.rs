//! `orangery-agent exec-with-sockets PROGRAM ARGUMENT...`: the last step before an app that is passed sockets.
//!
//! An app takes passed sockets only if `LISTEN_PID` is its own number (sd_listen_fds(3)), which nobody knows before there
//! is such a process. So it is this one first, which says so and becomes the app.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use crate::launch::not_started;

/// The word for it on the agent's command line. It is no command for people.
pub const WORD: &str = "exec-with-sockets";

/// Which program it is: the agent that runs, even when its file has been replaced.
pub const OWN_PROGRAM: &str = "/proc/self/exe";

/// The last pause for a program that is being written.
const BUSY_LONGEST: Duration = Duration::from_millis(500);

/// Becomes the program that `words` begin with; returns only if that fails.
pub fn become_app(mut words: impl Iterator<Item = OsString>) -> ExitCode {
    let program = words.next().unwrap_or_default();
    let mut command = Command::new(&program);
    command.args(words).env("LISTEN_PID", std::process::id().to_string());
    let mut pause = Duration::from_millis(1);
    loop {
        let error = command.exec();
        if error.kind() != io::ErrorKind::ExecutableFileBusy || pause > BUSY_LONGEST {
            // To the app's log.
            eprintln!("{}", not_started(Path::new(&program), &error));
            return ExitCode::from(127);
        }
        std::thread::sleep(pause);
        pause *= 2;
    }
}

/// Fails as starting `program` would, for the two ways in which most releases that cannot be started are broken.
pub fn ensure_startable(program: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let executable = std::fs::metadata(program)?.permissions().mode() & 0o111 != 0;
    if executable { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}
