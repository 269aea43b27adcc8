//! systemctl as a child, with a limit on its time: a service manager that hangs must not hang the agent.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Pid;
use tokio::process::Command;
use tokio::time::Instant;

use crate::launch::last_lines;

/// Time for what waits for no app.
const QUICK: Duration = Duration::from_mins(1);
/// What units allow their app to start, see `TimeoutStartSec` in [`super::unit`].
const START: Duration = Duration::from_mins(1);
/// Time for the journal; what it has is only an addition.
const JOURNAL: Duration = Duration::from_secs(5);
/// How long what happened may take to be in the journal.
const JOURNAL_DELAY: Duration = Duration::from_millis(200);
/// `SD_MESSAGE_UNIT_PROCESS_EXIT` of sd-messages(3).
const PROCESS_EXITED: &str = "MESSAGE_ID=98e322203f7a4ed290d09fe03c09fe15";
/// `SD_MESSAGE_UNIT_FAILURE_RESULT`: what a unit makes of its process's exit, right behind it.
const UNIT_FAILED: &str = "MESSAGE_ID=d9b373ed55a64feb8242e02dbe79a49c";

/// What systemd says of a unit (`systemctl show`, org.freedesktop.systemd1(5)).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// "active", "activating", "inactive", "failed", ...
    pub active: String,
    /// "running", "auto-restart", "dead", ...
    pub sub: String,
    /// Why it is not active: "exit-code", "signal", "oom-kill", ...
    pub result: String,
    /// The app's first process; `None` while there is none.
    pub main: Option<Pid>,
    /// How the last one ended.
    pub exit: Option<String>,
    /// Restarts by systemd since it was last told to start it, with the one that it is about to begin.
    pub restarts: u32,
    /// Something is about to be done with it: started again, for one.
    pub job: bool,
    /// The file that it was read from; empty if there is none.
    pub fragment: String,
}

impl Shown {
    fn parse(text: &str) -> Self {
        let values: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
        let value = |key: &str| values.get(key).copied().unwrap_or_default();
        let number = |key: &str| value(key).parse::<i32>().ok();
        Self {
            active: value("ActiveState").to_owned(),
            sub: value("SubState").to_owned(),
            result: value("Result").to_owned(),
            main: number("MainPID").filter(|pid| *pid > 0).and_then(Pid::from_raw),
            exit: exit(number("ExecMainCode"), number("ExecMainStatus")).map(|exit| because(exit, value("Result"))),
            restarts: number("NRestarts").and_then(|count| u32::try_from(count).ok()).unwrap_or(0),
            job: number("Job").is_some_and(|id| id > 0),
            fragment: value("FragmentPath").to_owned(),
        }
    }

    /// Exits since it was last told to start: one may not have been answered with a restart yet.
    pub fn exits(&self) -> u32 {
        // systemd counts a restart when it queues the job, and before version 254 says "auto-restart" until that job runs.
        let waits = self.sub == "failed" || self.sub == "auto-restart" && !self.job;
        let unanswered = self.main.is_none() && waits;
        self.restarts.saturating_add(u32::from(unanswered))
    }
}

/// `CLD_*` of sigaction(2) with the status that goes with it; from 200 on the status is systemd's own (systemd.exec(5)).
fn exit(code: Option<i32>, status: Option<i32>) -> Option<String> {
    let status = status?;
    let text = match (code?, status) {
        (1, 200) => "exit status 200: its working directory cannot be entered".to_owned(),
        (1, 203) => "exit status 203: the program cannot be executed; is it built for this machine?".to_owned(),
        (1, 226) => "exit status 226: its sandbox cannot be set up on this node".to_owned(),
        (1, _) => format!("exit status {status}"),
        (2 | 3, _) => format!("signal {status}"),
        _ => return None,
    };
    Some(text)
}

/// How it ended, with what systemd knows more about that.
fn because(exit: String, result: &str) -> String {
    match result {
        "oom-kill" => format!("{exit}: the kernel stopped it, for it took more memory than it may"),
        _ => exit,
    }
}

/// What systemd says of `unit`.
pub async fn show(unit: &str) -> Result<Shown, String> {
    let properties = "ActiveState,SubState,Result,MainPID,ExecMainCode,ExecMainStatus,NRestarts,Job,FragmentPath";
    let text = call(&["show", "--property", properties, "--", unit], QUICK).await?;
    Ok(Shown::parse(&text))
}

/// Whether the files of `unit` are others than those that systemd has read.
pub async fn needs_reload(unit: &str) -> Result<bool, String> {
    let text = call(&["show", "--value", "--property", "NeedDaemonReload", "--", unit], QUICK).await?;
    Ok(text.trim() == "yes")
}

/// Makes systemd read all units anew.
pub async fn daemon_reload() -> Result<(), String> {
    call(&["daemon-reload"], QUICK).await.map(drop)
}

/// Stops `unit` and starts it anew, and returns the start job's result. `grace` is how long it may take to stop.
pub async fn restart(unit: &str, grace: Duration) -> Result<(), String> {
    call(&["restart", "--", unit], limit(grace)).await.map(drop)
}

/// Stops `units` and returns when no process of them is left.
pub async fn stop(units: &[&str], grace: Duration) -> Result<(), String> {
    if units.is_empty() {
        return Ok(());
    }
    call(&[&["stop", "--"], units].concat(), limit(grace)).await.map(drop)
}

/// Starts `unit`, which takes no time, and returns the start job's result.
pub async fn start(unit: &str) -> Result<(), String> {
    call(&["start", "--", unit], QUICK).await.map(drop)
}

/// The units whose name matches `pattern` (glob(7)) and that are active.
pub async fn active(pattern: &str) -> Result<BTreeSet<String>, String> {
    let options = ["list-units", "--plain", "--no-legend", "--full", "--state=active", "--", pattern];
    let text = call(&options, QUICK).await?;
    Ok(text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

/// Makes systemd forget that `unit` failed. One that it does not know is as good.
pub async fn reset_failed(unit: &str) {
    let _ = call(&["reset-failed", "--", unit], QUICK).await;
}

/// systemd allows an app its grace once to stop and once more after it was killed, and a minute to start.
fn limit(grace: Duration) -> Duration {
    grace * 2 + START + QUICK
}

/// The version of systemd, such as 252; 0 if it does not say.
pub async fn version() -> u32 {
    let text = call(&["--version"], QUICK).await.unwrap_or_default();
    text.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// The last lines that the app itself wrote since `since_secs` (Unix time); empty if there are none to be had.
pub async fn journal(unit: &str, since_secs: u64) -> String {
    last_lines(output(unit, Some(since_secs), 5).await.as_bytes())
}

/// The last `count` lines that the app itself wrote since `since_secs` (Unix time), or at any time, as it wrote them.
pub async fn output(unit: &str, since_secs: Option<u64>, count: usize) -> String {
    written_down().await;
    let mut command = Command::new("journalctl");
    command.args(["--output=cat", "--no-pager", "--quiet", &format!("--lines={count}")]);
    if let Some(since) = since_secs {
        command.args(["--boot", &format!("--since=@{since}")]);
    }
    command.arg(format!("_SYSTEMD_UNIT={unit}"));
    run(command, JOURNAL).await.unwrap_or_default()
}

/// Waits until the journal has all that was said so far: systemd may tell of an exit before the journal's daemon has come to
/// what the app said before it. A journal that cannot be asked gives what it has.
async fn written_down() {
    let mut command = Command::new("journalctl");
    command.args(["--sync", "--quiet"]);
    if let Err(reason) = run(command, JOURNAL).await {
        tracing::debug!(reason, "the journal may lack the newest lines");
    }
}

/// The last lines that are marked with this identifier; empty if there are none to be had. Not `--boot`: in a container the
/// boot may have another name for whoever has mounts of his own, as the agent's unit has.
pub async fn journal_of(identifier: &str) -> String {
    let of_identifier = format!("SYSLOG_IDENTIFIER={identifier}");
    let mut command = Command::new("journalctl");
    command.args(["--lines=5", "--output=cat", "--no-pager", "--quiet", &of_identifier]);
    run(command, JOURNAL).await.map(|text| last_lines(text.as_bytes())).unwrap_or_default()
}

/// How the unit's first process ended last, as systemd wrote it down; `None` if it did not. [`Shown::exit`] is forgotten
/// with the next start, which may be a moment later.
pub async fn last_exit(unit: &str, since_secs: u64) -> Option<String> {
    let deadline = Instant::now() + JOURNAL_DELAY;
    loop {
        if let Some(exit) = journaled_exit(unit, since_secs).await {
            return Some(exit);
        }
        if Instant::now() > deadline {
            return None;
        }
        tokio::time::sleep(JOURNAL_DELAY / 4).await;
    }
}

async fn journaled_exit(unit: &str, since_secs: u64) -> Option<String> {
    let (of_unit, since) = (format!("UNIT={unit}"), format!("--since=@{since_secs}"));
    let mut command = Command::new("journalctl");
    // The newest is of this boot: who asks has seen it happen.
    command.args(["--lines=2", "--output=json", "--output-fields=EXIT_CODE,EXIT_STATUS,UNIT_RESULT", "--no-pager"]);
    command.args(["--quiet", &since, PROCESS_EXITED, UNIT_FAILED, &of_unit]);
    newest_exit(&run(command, JOURNAL).await.ok()?)
}

/// The last exit among these entries of the journal, with what the unit made of it.
fn newest_exit(entries: &str) -> Option<String> {
    let mut newest = None;
    for entry in entries.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()) {
        let field = |name: &str| entry.get(name)?.as_str();
        let code = match field("EXIT_CODE") {
            Some("exited") => Some(1),
            Some("killed" | "dumped") => Some(2),
            _ => None,
        };
        newest = match field("UNIT_RESULT") {
            Some(result) => newest.map(|exit| because(exit, result)),
            None => exit(code, field("EXIT_STATUS").and_then(|status| status.parse().ok())),
        };
    }
    newest
}

/// Has systemctl do what waits for no app.
pub async fn ask(arguments: &[&str]) -> Result<(), String> {
    call(arguments, QUICK).await.map(drop)
}

async fn call(arguments: &[&str], limit: Duration) -> Result<String, String> {
    let mut command = Command::new("systemctl");
    command.args(["--no-ask-password", "--no-pager"]).args(arguments);
    run(command, limit).await.map_err(|reason| format!("systemctl {}: {reason}", arguments.join(" ")))
}

async fn run(mut command: Command, limit: Duration) -> Result<String, String> {
    command.env("LC_ALL", "C.UTF-8").env("SYSTEMD_COLORS", "0").stdin(Stdio::null()).kill_on_drop(true);
    // How it ends it would tell systemd in the agent's name, and systemd logs that it does not listen.
    command.env_remove("NOTIFY_SOCKET");
    let output = match tokio::time::timeout(limit, command.output()).await {
        Ok(output) => output.map_err(|error| format!("cannot be run: {error}"))?,
        Err(_) => return Err(format!("no answer within {} s; is systemd well?", limit.as_secs())),
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = last_lines(&output.stderr);
    Err(if said.is_empty() { output.status.to_string() } else { said })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_shows_is_read() {
        let text = "MainPID=41\nResult=success\nNRestarts=2\nExecMainCode=1\nExecMainStatus=7\n\
                    ActiveState=active\nSubState=running\nFragmentPath=/etc/systemd/system/a=b.service\n";
        let shown = Shown::parse(text);
        assert_eq!((shown.active.as_str(), shown.sub.as_str()), ("active", "running"));
        assert_eq!(shown.main, Pid::from_raw(41));
        assert_eq!(shown.exit.as_deref(), Some("exit status 7"));
        assert_eq!(shown.exits(), 2);
        assert_eq!(shown.fragment, "/etc/systemd/system/a=b.service");
    }

    #[test]
    fn an_exit_that_waits_for_its_restart_counts() {
        let shown = |sub: &str| Shown::parse(&format!("NRestarts=2\nMainPID=0\nSubState={sub}"));
        assert_eq!(shown("auto-restart").exits(), 3);
        assert_eq!(shown("auto-restart\nJob=77").exits(), 2, "it is among the restarts already");
        assert_eq!(shown("failed").exits(), 3);
        assert_eq!(shown("dead").exits(), 2);
        assert_eq!(Shown::parse("garbage"), Shown::default());
    }

    #[test]
    fn whoever_took_too_much_memory_is_told_so() {
        let exit = |result| Shown::parse(&format!("Result={result}\nExecMainCode=2\nExecMainStatus=9")).exit.unwrap();
        assert_eq!(exit("signal"), "signal 9");
        assert!(exit("oom-kill").starts_with("signal 9: ") && exit("oom-kill").contains("memory"));
    }

    #[test]
    fn the_newest_exit_in_the_journal_counts_with_what_the_unit_made_of_it() {
        let (killed, exited) =
            (r#"{"EXIT_CODE":"killed","EXIT_STATUS":"9"}"#, r#"{"EXIT_CODE":"exited","EXIT_STATUS":"7"}"#);
        let (memory, other) = (r#"{"UNIT_RESULT":"oom-kill"}"#, r#"{"UNIT_RESULT":"exit-code"}"#);
        let newest = |entries: [&str; 2]| newest_exit(&entries.join("\n"));
        assert!(newest([killed, memory]).unwrap().contains("memory"));
        assert_eq!(newest([exited, other]).as_deref(), Some("exit status 7"));
        assert_eq!(newest([memory, exited]).as_deref(), Some("exit status 7"));
        assert_eq!(newest([memory, "not JSON"]), None);
    }

    #[test]
    fn how_it_ended_is_said_in_words() {
        assert_eq!(exit(Some(2), Some(9)).as_deref(), Some("signal 9"));
        assert!(exit(Some(1), Some(203)).unwrap().contains("executed"));
        assert_eq!(exit(Some(0), Some(0)), None);
    }
}
