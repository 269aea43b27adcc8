//! Asks an app one question. Every wait is the caller's to cut: dropping a question leaves nothing behind.

use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use orangery_wire::manifest::{Check, expand};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use super::ProbeContext;
use crate::launch::{self, Words, last_lines, not_started};

/// Most of an answer's head that is read, in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Most of an answer's body that is read, in bytes: enough for a reason.
const BODY_BYTES_MAX: usize = 4 << 10;
/// How long the rest of an answer is waited for that has been given; an app need not see its words cut off.
const REST: Duration = Duration::from_millis(50);

/// What is asked.
#[derive(Debug, Clone)]
pub enum Question {
    /// What the manifest says.
    Check(Check),
    /// Whether the app runs: all that can be asked of one without probes.
    Runs,
}

impl Question {
    /// The question, for people.
    pub fn describe(&self, context: &ProbeContext) -> String {
        let shown = |text: &String| expand(text, &context.variables).unwrap_or_else(|_| text.clone());
        match self {
            Self::Check(Check::Http { port, path }) => format!("GET http://127.0.0.1:{}{}", shown(port), shown(path)),
            Self::Check(Check::Tcp { port }) => format!("connecting to 127.0.0.1:{}", shown(port)),
            Self::Check(Check::Exec { command }) => command.iter().map(shown).collect::<Vec<_>>().join(" "),
            Self::Runs => "looking whether it runs".to_owned(),
        }
    }

    /// Asks once. The answer is good or says why not.
    pub async fn ask(&self, context: &ProbeContext) -> Result<(), String> {
        match self {
            Self::Check(Check::Http { port, path }) => {
                let path = expand(path, &context.variables).map_err(|e| e.to_string())?;
                http(read_port(port, context)?, &path).await
            }
            Self::Check(Check::Tcp { port }) => connect(read_port(port, context)?).await.map(drop),
            Self::Check(Check::Exec { command }) => exec(command, context).await,
            Self::Runs if context.life.borrow().release.is_some() => Ok(()),
            Self::Runs => Err("it does not run".to_owned()),
        }
    }
}

fn read_port(text: &str, context: &ProbeContext) -> Result<u16, String> {
    let port = expand(text, &context.variables).map_err(|e| e.to_string())?;
    let number = port.parse().ok().filter(|port| *port > 0);
    number.ok_or_else(|| format!("{port:?} is not a port; use a number from 1 to 65535"))
}

async fn connect(port: u16) -> Result<TcpStream, String> {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.map_err(|error| error.to_string())
}

async fn http(port: u16, path: &str) -> Result<(), String> {
    let request = Request::get(path)
        .header("host", format!("127.0.0.1:{port}"))
        .header("user-agent", concat!("orangery-agent/", env!("CARGO_PKG_VERSION")))
        .header("connection", "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("{path:?} cannot be asked for: {error}"))?;
    let stream = TokioIo::new(connect(port).await?);
    let mut client = http1::Builder::new();
    client.max_buf_size(HEAD_BYTES_MAX);
    let (mut sender, connection) = client.handshake(stream).await.map_err(|error| error.to_string())?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| format!("no HTTP answer: {error}"))?;
        judge(response).await
    };
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        judged = &mut exchange => judged,
        // What it read is still to be judged.
        _ = connection => exchange.await,
    }
}

async fn judge(response: hyper::Response<Incoming>) -> Result<(), String> {
    let status = response.status();
    let mut said = Vec::new();
    let rest = async {
        let mut body = response.into_body();
        while let Some(Ok(frame)) = body.frame().await {
            said.extend(frame.into_data().unwrap_or_default());
            if said.len() >= BODY_BYTES_MAX {
                return;
            }
        }
    };
    // The status decides; an endless body is no fault.
    let _ = tokio::time::timeout(REST, rest).await;
    if (200..400).contains(&status.as_u16()) {
        return Ok(());
    }
    said.truncate(BODY_BYTES_MAX);
    Err(with_words(&format!("status {status}"), &said))
}

async fn exec(command: &[String], context: &ProbeContext) -> Result<(), String> {
    let words = Words::new(command, &context.tree, &context.variables).map_err(|e| e.to_string())?;
    let mut command = Command::new(&words.program);
    command.args(&words.arguments).current_dir(&context.data);
    command.env_clear().envs(launch::environment(&context.tree, &context.variables));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let spawned = command.process_group(0).kill_on_drop(true).spawn();
    let mut child = spawned.map_err(|error| not_started(&words.program, &error))?;
    let _group = Group::of(&child);
    let (out, errors) = (child.stdout.take(), child.stderr.take());
    let (mut said, mut complained) = (Vec::new(), Vec::new());
    let status = {
        let listen = async { tokio::join!(keep_last(out, &mut said), keep_last(errors, &mut complained)) };
        let mut listen = std::pin::pin!(listen);
        tokio::select! {
            status = child.wait() => {
                // Something that it started may hold its output open.
                let _ = tokio::time::timeout(REST, listen).await;
                status
            }
            _ = &mut listen => child.wait().await,
        }
    };
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            said.extend(complained);
            Err(with_words(&status.to_string().replacen(": ", " ", 1), &said))
        }
        Err(error) => Err(format!("cannot wait for it: {error}")),
    }
}

/// Reads to the end so that the writer is never held up, and keeps what came last.
async fn keep_last(from: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut from) = from else { return };
    let mut block = [0; 1024];
    while let Ok(count @ 1..) = from.read(&mut block).await {
        kept.extend(block.iter().take(count));
        kept.drain(..kept.len().saturating_sub(BODY_BYTES_MAX));
    }
}

fn with_words(what: &str, said: &[u8]) -> String {
    match last_lines(said) {
        words if words.is_empty() => what.to_owned(),
        words => format!("{what}: {words}"),
    }
}

/// The processes of a probe's command: killed when the question is dropped, whatever they started.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &tokio::process::Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Mostly there is none left.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
