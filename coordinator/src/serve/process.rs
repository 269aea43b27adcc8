//! What the process as a whole asks of the system.

use std::fs::{File, TryLockError};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::ServeError;
use crate::durable::create_directories;

/// Makes the state directory this process's own for as long as the returned file is open. The system lets go of it
/// however the process ends.
pub(super) fn lock(state_dir: &Path) -> Result<File, ServeError> {
    let write = |source| ServeError::Write { path: state_dir.to_owned(), source };
    create_directories(state_dir).map_err(write)?;
    let file = File::create(state_dir.join("lock")).map_err(write)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ServeError::Locked { path: state_dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(write(source)),
    }
}

/// Each connection is a file; the usual soft limit of 1024 is for programs that use `select`.
pub(super) fn raise_file_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!(reason = %error, "the limit of open files stays low");
    }
}

/// Tells systemd how the service is (sd_notify(3)); without systemd nobody is told.
pub(super) fn tell_systemd(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let told = UnixDatagram::unbound().and_then(|socket| {
        let address = match path.as_encoded_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(Path::new(&path))?,
        };
        socket.send_to_addr(state.as_bytes(), &address)
    });
    if let Err(error) = told {
        tracing::warn!(reason = %error, "systemd was not told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_directory_has_one_coordinator_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        let first = lock(&state).unwrap();
        let error = lock(&state).unwrap_err();
        assert!(matches!(&error, ServeError::Locked { path } if *path == state), "{error}");
        drop(first);
        lock(&state).unwrap();
    }
}
