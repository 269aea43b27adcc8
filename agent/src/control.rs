//! How the commands of `orangery-agent` talk to the agent that runs: one JSON line each way over a Unix socket in the
//! state directory, which only the agent's user can reach.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::time::Duration;

use orangery_wire::messages::{ClockState, Event as WireEvent, Phase, RefusalCode, Reported};
use orangery_wire::{AppName, Version};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::driver::Event;
use crate::road::Place;

const LINE_BYTES_MAX: u64 = 64 * 1024;
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(30);

/// What may be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "deed", rename_all = "snake_case")]
pub enum Request {
    /// How the node is.
    Status,
    /// What happened last.
    History {
        /// At most so many events.
        count: u32,
    },
    /// Back to the release before.
    Rollback {
        /// The app.
        app: AppName,
    },
    /// Install a release from a place that somebody names.
    Install {
        /// The app.
        app: AppName,
        /// The version.
        version: Version,
        /// Where it is.
        place: Place,
    },
    /// How the last [`Request::Install`] goes.
    InstallState,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", content = "content", rename_all = "snake_case")]
pub enum Reply {
    /// To [`Request::Status`].
    Status(Box<StatusView>),
    /// To [`Request::History`], oldest first.
    History(Vec<WireEvent>),
    /// To [`Request::Install`] and [`Request::InstallState`].
    Install(Box<InstallView>),
    /// It was done.
    Done(String),
    /// It was not done, and why.
    Refused(String),
}

/// How far an installation is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
pub enum InstallView {
    /// Nobody has asked for one since the agent was started.
    None,
    /// The release is read and verified.
    Reading {
        /// Bytes of its pack that are here.
        done_bytes: u64,
        /// Bytes of its pack; 0 while that is not known.
        all_bytes: u64,
    },
    /// It is here, and the deployment is in this phase.
    Trying {
        /// The phase.
        phase: Phase,
    },
    /// It is current.
    Current,
    /// It is not.
    Failed {
        /// The stable code; `None` when trying again may help.
        code: Option<RefusalCode>,
        /// Why.
        reason: String,
        /// Whether what ran before runs.
        restored: bool,
    },
}

/// The node as it sees itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    /// Whether the agent runs; if not, the rest was read from its disk.
    pub running: bool,
    /// Whether it is connected to its coordinator.
    pub connected: bool,
    /// The coordinator's address.
    pub url: Option<String>,
    /// Events that the coordinator has not yet stored.
    pub events_waiting: u64,
    /// How far the clock can be believed.
    pub clock: ClockState,
    /// The proof, as it is sent.
    pub reported: Reported,
}

/// Why the agent could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nothing listens.
    #[error("no agent runs on {socket}; start it with `orangery-agent run`")]
    NotRunning {
        /// The socket.
        socket: PathBuf,
    },
    /// The socket cannot be made.
    #[error("cannot listen on {socket}")]
    Listen {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It broke off.
    #[error("the agent on {socket} did not answer")]
    Talk {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Asks the agent that runs on `socket`.
pub fn ask(socket: &Path, request: &Request) -> Result<Reply, ControlError> {
    let stream = BlockingStream::connect(socket).map_err(|_| ControlError::NotRunning { socket: socket.to_owned() })?;
    talk(stream, request).map_err(|source| ControlError::Talk { socket: socket.to_owned(), source })
}

fn talk(mut stream: BlockingStream, request: &Request) -> std::io::Result<Reply> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = Vec::new();
    BufReader::new(stream.take(ANSWER_BYTES_MAX)).read_until(b'\n', &mut answer)?;
    Ok(serde_json::from_slice(&answer)?)
}

/// Listens on `socket`, whose directory only the agent's user can enter. The caller holds the state directory's lock, so a
/// socket that is there already belongs to an agent that is gone. `None` on a read-only file system: there nobody can ask.
pub fn listen(socket: &Path) -> Result<Option<UnixListener>, ControlError> {
    match bind(socket) {
        Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => {
            tracing::warn!(socket = %socket.display(), "the file system is read-only; nobody on this node can ask the agent");
            Ok(None)
        }
        bound => bound.map(Some).map_err(|source| ControlError::Listen { socket: socket.to_owned(), source }),
    }
}

fn bind(socket: &Path) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(socket) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves everybody who asks, until it is called off.
pub async fn serve(listener: Option<UnixListener>, events: Sender<Event>) {
    let Some(listener) = listener else { return std::future::pending().await };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let events = events.clone();
                tokio::spawn(async move {
                    if let Ok(Err(error)) = tokio::time::timeout(PATIENCE, answer(stream, &events)).await {
                        tracing::debug!(reason = %error, "a request on the control socket was not answered");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(reason = %error, "the control socket does not accept");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn answer(mut stream: UnixStream, events: &Sender<Event>) -> std::io::Result<()> {
    let mut line = Vec::new();
    let (read, mut write) = stream.split();
    tokio::io::BufReader::new(read.take(LINE_BYTES_MAX)).read_until(b'\n', &mut line).await?;
    let reply = match serde_json::from_slice(&line) {
        Ok(request) => {
            let (reply, answered) = tokio::sync::oneshot::channel();
            let _ = events.send(Event::Control(request, reply));
            answered.await.unwrap_or_else(|_| Reply::Refused("the agent is stopping".to_owned()))
        }
        Err(error) => Reply::Refused(format!("the request is not understood: {error}")),
    };
    let mut bytes = serde_json::to_vec(&reply)?;
    bytes.push(b'\n');
    write.write_all(&bytes).await?;
    write.shutdown().await
}
