//! The text of units (systemd.unit(5), systemd.service(5), systemd.exec(5)). Pure.
//!
//! A unit and the drop-in that a trial lays over it have every key that is set here, each with a value for "on" and for
//! "off": so nothing of the release below shines through.

use std::path::Path;

use orangery_wire::manifest::{Run, StopSignal};

use crate::launch::Launch;
use crate::layout::Layout;

use super::ground::STATE_ROOT;

/// First line of every file that is written; a unit without it is somebody else's and is left alone.
pub const MARK: &str = "# Written by orangery-agent, which also replaces and removes it.";
/// systemd refuses longer lines (`LONG_LINE_MAX`), in bytes.
const LINE_BYTES_MAX: usize = 1 << 20;
/// The first systemd that lengthens the delay before each restart.
const GROWING_DELAY_VERSION: u32 = 254;
/// Steps from the first delay to the longest; each is about twice the one before.
const DELAY_STEPS: u32 = 8;
/// Least delay where it cannot grow, so that an app that keeps exiting does not keep the board busy, in milliseconds.
const STEADY_DELAY_MS: u64 = 2_000;

/// Keys that add to a list. An empty value empties it.
pub const LISTS: [&str; 8] = [
    "ExecStart",
    "Environment",
    "StateDirectory",
    "ReadWritePaths",
    "InaccessiblePaths",
    "CapabilityBoundingSet",
    "RestrictAddressFamilies",
    "SystemCallFilter",
];

/// A value that no unit can hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unwritable {
    /// A variable that nothing defines.
    #[error(transparent)]
    Variable(#[from] orangery_wire::manifest::UnknownVariable),
    /// systemd drops variables with control characters other than tabs and line breaks.
    #[error("the variable {0} has a control character in it, which systemd does not pass on; remove it")]
    Control(String),
    /// A path that units cannot name.
    #[error("units cannot name the path {0:?}; use a state directory without spaces, quotes and backslashes")]
    Path(String),
    /// Longer than systemd reads.
    #[error("{0} is longer than systemd reads (1 MiB); shorten it")]
    TooLong(&'static str),
}

/// What a unit depends on apart from the release.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Where everything is.
    pub layout: &'a Layout,
    /// The version of systemd, such as 252.
    pub version: u32,
    /// Whether systemd can make a user for an app and give it its directory, see [`super::ground`].
    pub own_users: bool,
}

type Line = (&'static str, String);

/// A whole unit that starts at boot once it is enabled.
pub fn unit(launch: &Launch, place: Place<'_>) -> Result<String, Unwritable> {
    let mut text = format!("{MARK}\n{}\n[Service]\n", about(launch));
    write_lines(&mut text, &service(launch, place)?);
    text.push_str("\n[Install]\nWantedBy=multi-user.target\n");
    Ok(text)
}

/// What a trial lays over the unit of the proven release.
pub fn drop_in(launch: &Launch, place: Place<'_>) -> Result<String, Unwritable> {
    let mut text = format!("{MARK}\n{}\n[Service]\n", about(launch));
    // Emptied first: they would add to what the unit below has.
    let emptied = LISTS.map(|key| (key, String::new()));
    write_lines(&mut text, &emptied);
    write_lines(&mut text, &service(launch, place)?);
    Ok(text)
}

fn about(launch: &Launch) -> String {
    let trial = if launch.trial { ", on trial" } else { "" };
    // The agent counts restarts; systemd's own limit would leave a proven app stopped.
    format!("[Unit]\nDescription={} {}{trial}, run by Orangery\nStartLimitIntervalSec=0\n", launch.app, launch.version)
}

fn write_lines(text: &mut String, lines: &[Line]) {
    for (key, value) in lines {
        text.extend([key, "=", value, "\n"]);
    }
}

fn service(launch: &Launch, place: Place<'_>) -> Result<Vec<Line>, Unwritable> {
    let run = &launch.manifest.run;
    let mut lines = vec![("Type", "exec".to_owned()), ("ExecStart", exec_start(launch)?)];
    lines.extend(environment(launch)?);
    lines.push(("WorkingDirectory", bare_path(&launch.data)?));
    lines.extend(restart(run, launch.trial, place.version));
    lines.extend(stop(run));
    lines.extend(limits(run));
    lines.extend(output());
    lines.extend(user(launch, place)?);
    lines.extend(sandbox(run.sandbox));
    Ok(lines)
}

/// With `:` before the program systemd leaves `$` alone.
fn exec_start(launch: &Launch) -> Result<String, Unwritable> {
    let words = launch.words()?;
    let program = words.program.to_str().ok_or_else(|| Unwritable::Path(words.program.display().to_string()))?;
    let mut line = format!(":{}", quoted(program));
    for argument in &words.arguments {
        line.push(' ');
        line.push_str(&quoted(argument));
    }
    if line.len() < LINE_BYTES_MAX / 2 { Ok(line) } else { Err(Unwritable::TooLong("the command line")) }
}

fn environment(launch: &Launch) -> Result<Vec<Line>, Unwritable> {
    let mut all = launch.environment();
    all.insert(super::LAUNCH.to_owned(), launch.digest().to_string());
    let line = |(name, value): (String, String)| {
        if value.chars().any(|c| c.is_ascii_control() && c != '\t' && c != '\n') {
            return Err(Unwritable::Control(name));
        }
        Ok(("Environment", quoted(&format!("{name}={value}"))))
    };
    all.into_iter().map(line).collect()
}

fn restart(run: &Run, trial: bool, version: u32) -> Vec<Line> {
    let policy = &run.restart;
    let longest = policy.backoff_max_ms.max(1);
    let first = policy.backoff_ms.clamp(1, longest);
    let grows = version >= GROWING_DELAY_VERSION;
    // On trial the agent ends it when it has exited often enough, and the sooner that is known the better.
    let steady = if trial || grows { first } else { first.max(STEADY_DELAY_MS.min(longest)) };
    let mut lines = vec![("Restart", "always".to_owned()), ("RestartSec", millis(steady))];
    if grows {
        lines.push(("RestartSteps", DELAY_STEPS.to_string()));
        lines.push(("RestartMaxDelaySec", millis(longest)));
    }
    lines
}

fn stop(run: &Run) -> Vec<Line> {
    let signal = match run.stop_signal {
        StopSignal::Term => "SIGTERM",
        StopSignal::Int => "SIGINT",
        StopSignal::Quit => "SIGQUIT",
        StopSignal::Hup => "SIGHUP",
    };
    // 0 would mean "wait for ever".
    let grace = if run.stop_grace_secs == 0 { millis(1) } else { format!("{}s", run.stop_grace_secs) };
    vec![
        ("KillMode", "control-group".to_owned()),
        ("KillSignal", signal.to_owned()),
        ("SendSIGKILL", "yes".to_owned()),
        ("TimeoutStopSec", grace),
        ("TimeoutStartSec", "60s".to_owned()),
    ]
}

fn limits(run: &Run) -> Vec<Line> {
    vec![
        ("MemoryMax", run.memory_bytes_max.map_or_else(|| "infinity".to_owned(), |bytes| bytes.to_string())),
        ("CPUQuota", run.cpu_percent_max.map_or_else(String::new, |percent| format!("{percent}%"))),
    ]
}

fn output() -> Vec<Line> {
    let journal = || "journal".to_owned();
    vec![("StandardInput", "null".to_owned()), ("StandardOutput", journal()), ("StandardError", journal())]
}

/// Who the app is, and what of the state directory it may touch. A confined app is a user of its own, made for it by
/// systemd, which also gives it its directory; where that does not work it is root without any capability.
fn user(launch: &Launch, place: Place<'_>) -> Result<Vec<Line>, Unwritable> {
    let state = launch.data.strip_prefix(STATE_ROOT).ok().filter(|_| place.own_users);
    let sandbox = launch.manifest.run.sandbox;
    let mut lines = vec![("DynamicUser", yes(sandbox && state.is_some()))];
    match state {
        // Also when it is not confined: systemd then gives the files back to root.
        Some(state) => lines.push(("StateDirectory", bare_path(state)?)),
        None if sandbox => lines.push(("ReadWritePaths", bare_path(&launch.data)?)),
        None => {}
    }
    lines.push(("StateDirectoryMode", "0750".to_owned()));
    if sandbox {
        let layout = place.layout;
        for path in [layout.identity(), layout.store(), layout.socket()] {
            lines.push(("InaccessiblePaths", format!("-{}", bare_path(&path)?)));
        }
    }
    Ok(lines)
}

fn sandbox(on: bool) -> Vec<Line> {
    let choose = |confined: &str, free: &str| if on { confined.to_owned() } else { free.to_owned() };
    let mut lines = vec![
        ("ProtectSystem", choose("strict", "no")),
        // The empty set, and the full one.
        ("CapabilityBoundingSet", choose("", "~")),
        ("RestrictAddressFamilies", choose("AF_UNIX AF_INET AF_INET6 AF_NETLINK", "")),
        ("SystemCallFilter", choose("@system-service", "")),
        ("SystemCallErrorNumber", choose("EPERM", "")),
        ("ProtectProc", choose("invisible", "default")),
    ];
    let switches = [
        "NoNewPrivileges",
        "ProtectHome",
        "PrivateTmp",
        "PrivateDevices",
        "ProtectKernelTunables",
        "ProtectKernelModules",
        "ProtectKernelLogs",
        "ProtectControlGroups",
        "ProtectClock",
        "ProtectHostname",
        "RestrictNamespaces",
        "RestrictRealtime",
        "RestrictSUIDSGID",
        "LockPersonality",
        "RemoveIPC",
    ];
    lines.extend(switches.map(|key| (key, yes(on))));
    lines
}

fn yes(on: bool) -> String {
    if on { "yes".to_owned() } else { "no".to_owned() }
}

fn millis(count: u64) -> String {
    format!("{count}ms")
}

/// A path for keys whose value systemd neither unquotes nor unescapes alike: only ones that need neither.
fn bare_path(path: &Path) -> Result<String, Unwritable> {
    let text = path.to_str().unwrap_or_default();
    let plain = |c: char| !c.is_control() && !c.is_whitespace() && !matches!(c, '"' | '\'' | '\\' | ':');
    if text.is_empty() || !text.chars().all(plain) {
        return Err(Unwritable::Path(path.display().to_string()));
    }
    Ok(text.replace('%', "%%"))
}

/// One word that systemd reads back as `text`: quoted, C-escaped, and without specifiers.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '%' => out.push_str("%%"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_ascii_control() => out.extend(['\\', 'x', hex(u32::from(c) >> 4), hex(u32::from(c))]),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn hex(number: u32) -> char {
    char::from_digit(number & 15, 16).unwrap_or('0')
}
