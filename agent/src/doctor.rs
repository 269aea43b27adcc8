//! What is wrong with this node, looked at from outside of the agent: `orangery-agent doctor`.
//!
//! Every look reads only, and none can hold up the others: each has a thread of its own, and what has not answered in
//! `PATIENCE` is said not to have been looked at. An agent that runs is asked through its socket and never disturbed.

mod agent;
mod board;
pub mod bundle;
mod clock;
mod code;
mod disk;
mod network;
mod state;
mod units;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use serde::Serialize;

pub use code::{Code, Entry, Level};

use crate::clock::Clock;
use crate::config::Settings;
use crate::control::{self, Reply, Request, StatusView};
use crate::disk::RealDisk;
use crate::identity::{self, Identity};
use crate::layout::Layout;
use crate::record;

/// Longest time for all looks together.
const PATIENCE: Duration = Duration::from_secs(12);

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was looked at: "disk", "network", ...
    pub look: &'static str,
    /// The stable code; `None` if all is well.
    pub code: Option<Code>,
    /// What was found.
    pub what: String,
    /// Why it matters.
    pub why: Option<&'static str>,
    /// What to do.
    pub fix: Option<&'static str>,
}

/// What one look found.
pub struct Findings {
    look: &'static str,
    found: Vec<Finding>,
}

impl Findings {
    fn ok(&mut self, what: impl Into<String>) {
        let (look, what) = (self.look, printable(&what.into()));
        self.found.push(Finding { level: Level::Ok, look, code: None, what, why: None, fix: None });
    }

    fn add(&mut self, code: Code, what: impl Into<String>) {
        let entry = code.entry();
        self.found.push(Finding {
            level: entry.level,
            look: self.look,
            code: Some(code),
            what: printable(&what.into()),
            why: Some(entry.why),
            fix: Some(entry.fix),
        });
    }
}

/// What it says may come from an app or a server.
fn printable(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    orangery_wire::limits::reason(clean)
}

/// Who answers on the control socket.
pub enum Answer {
    /// The agent.
    Status(Box<StatusView>),
    /// Nobody.
    NotRunning,
    /// Nobody whom this user may ask.
    Forbidden,
    /// Somebody who does not answer, or not in a way that is understood.
    Silent(String),
}

/// What all looks share.
pub struct Node {
    /// Why the settings cannot be used, if so; then the others are defaults.
    settings_trouble: Option<String>,
    settings: Settings,
    layout: Layout,
    answer: Answer,
    identity: Result<Option<Identity>, String>,
    clock: Arc<Clock>,
}

impl Node {
    /// Reads what is needed to begin with. Fails in nothing: what cannot be read is a finding.
    pub fn look(config: Option<&Path>) -> Self {
        let (settings, settings_trouble) = match Settings::load(config) {
            Ok(settings) => (settings, None),
            Err(error) => (Settings::default(), Some(crate::errors::chain(&error))),
        };
        let layout = Layout::new(&settings.state_dir);
        let identity = identity::load(&RealDisk, &layout).map_err(|error| crate::errors::chain(&error));
        let clock = Clock::new(record::load_node(&RealDisk, &layout).time_floor);
        let answer = ask(&layout);
        Self { settings_trouble, settings, layout, answer, identity, clock }
    }

    fn view(&self) -> Option<&StatusView> {
        if let Answer::Status(view) = &self.answer { Some(view) } else { None }
    }

    fn joined(&self) -> Option<&Identity> {
        self.identity.as_ref().ok()?.as_ref()
    }
}

fn ask(layout: &Layout) -> Answer {
    match std::os::unix::net::UnixStream::connect(layout.socket()) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return Answer::Forbidden,
        Err(_) => return Answer::NotRunning,
        Ok(_) => {}
    }
    match within(PATIENCE / 2, {
        let socket = layout.socket();
        move || control::ask(&socket, &Request::Status)
    }) {
        Some(Ok(Reply::Status(view))) => Answer::Status(view),
        Some(Ok(Reply::Refused(reason))) => Answer::Silent(reason),
        Some(Ok(_)) => Answer::Silent("it answers something else".to_owned()),
        Some(Err(error)) => Answer::Silent(crate::errors::chain(&error)),
        None => Answer::Silent(format!("no answer within {} s", (PATIENCE / 2).as_secs())),
    }
}

/// A look by its name. Its answers appear in this order.
type Look = (&'static str, fn(&Node, &mut Findings));

const LOOKS: [Look; 13] = [
    ("settings", agent::settings),
    ("agent", agent::agent),
    ("apps", agent::apps),
    ("identity", state::identity),
    ("trust", state::trust),
    ("store", state::store),
    ("state", state::state),
    ("disk", disk::disk),
    ("flash", disk::flash),
    ("clock", clock::clock),
    ("board", board::board),
    ("network", network::network),
    ("systemd", units::units),
];

/// Looks at everything. Takes seconds at most, whatever hangs; threads of looks that do are left to the end of the process.
pub fn examine(node: &Arc<Node>) -> Vec<Finding> {
    let (done, answers) = mpsc::channel();
    for (index, (look, deed)) in LOOKS.into_iter().enumerate() {
        let (node, done) = (node.clone(), done.clone());
        std::thread::spawn(move || {
            let mut findings = Findings { look, found: Vec::new() };
            deed(&node, &mut findings);
            let _ = done.send((index, findings.found));
        });
    }
    drop(done);
    let mut found: Vec<Option<Vec<Finding>>> = vec![None; LOOKS.len()];
    let deadline = Instant::now() + PATIENCE;
    while let Ok((index, findings)) = answers.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        if let Some(place) = found.get_mut(index) {
            *place = Some(findings);
        }
    }
    let or_missing = |(found, (look, _)): (Option<Vec<Finding>>, Look)| {
        found.unwrap_or_else(|| {
            let mut missing = Findings { look, found: Vec::new() };
            missing.add(Code::NotLooked, format!("no answer within {} s", PATIENCE.as_secs()));
            missing.found
        })
    };
    found.into_iter().zip(LOOKS).flat_map(or_missing).collect()
}

/// All findings for people.
pub fn shown(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let code = finding.code.map(|code| format!("{}: ", code.entry().word)).unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:<8} {:<9} {code}{}", finding.level.as_str(), finding.look, finding.what);
        for (name, said) in [("why", finding.why), ("fix", finding.fix)] {
            if let Some(said) = said {
                let _ = writeln!(text, "                   {name}: {said}");
            }
        }
    }
    text
}

/// Does something that may hang; `None` if it has not ended in time. Its thread is left behind then.
fn within<T: Send + 'static>(limit: Duration, deed: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, answer) = mpsc::channel();
    std::thread::spawn(move || drop(done.send(deed())));
    answer.recv_timeout(limit).ok()
}

/// What a program prints; `None` if it cannot be run, fails or takes more than five seconds.
fn output(program: &'static str, arguments: &[&str]) -> Option<String> {
    let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
    let run = move || {
        let mut command = std::process::Command::new(program);
        command.args(arguments).env("LC_ALL", "C.UTF-8").env("SYSTEMD_COLORS", "0").stdin(std::process::Stdio::null());
        command.output().ok().filter(|output| output.status.success())
    };
    let output = within(Duration::from_secs(5), run)??;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A small file of the kernel's, trimmed.
fn read(path: impl AsRef<Path>) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim_matches(['\0', '\n', ' ']).to_owned())
}

/// "1.5 GiB"
fn size(bytes: u64) -> String {
    let units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let index = (bytes.max(1).ilog2() / 10).min(4);
    let unit = units.get(index as usize).unwrap_or(&"bytes");
    let tenths = bytes.saturating_mul(10) >> (10 * index);
    if index == 0 { format!("{bytes} {unit}") } else { format!("{}.{} {unit}", tenths / 10, tenths % 10) }
}

#[cfg(test)]
mod tests;
