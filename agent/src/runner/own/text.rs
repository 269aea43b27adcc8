//! The text of the agent's drop-ins and of its ways back (systemd.unit(5), systemd.service(5), systemd.timer(5)). Pure.

use std::path::Path;

use orangery_wire::{ReleaseId, Version};

use super::super::systemd::unit::{MARK, quoted};
use super::{RELEASE, TRIAL};

/// Starts of an agent on trial, as many as the deployment machine's tries. Then systemd takes the way back.
const TRIAL_STARTS: u8 = crate::deployment::TRIES;
/// Starts of a proven agent within this time; then the package's takes its place.
const PROVEN_STARTS: u8 = 5;
const PROVEN_STARTS_SECS: u64 = 600;

/// What systemd is to start.
#[derive(Debug, Clone)]
pub struct Started {
    /// The release.
    pub release: ReleaseId,
    /// Its version.
    pub version: Version,
    /// Its program, an absolute path.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// What the journal calls the lines of an agent that is this release.
pub fn identifier(release: ReleaseId) -> String {
    format!("orangery-agent-{}", release.short())
}

/// Whether systemd and a shell both read `text` as one plain word.
pub fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-_.@".contains(&b))
}

/// The release that a drop-in of ours starts.
pub fn release(drop_in: &str) -> Option<ReleaseId> {
    let prefix = format!("Environment={RELEASE}=");
    drop_in.lines().find_map(|line| line.strip_prefix(&prefix)?.parse().ok())
}

/// The drop-in of a release on trial. Whatever ends it for good is answered with `restore`; one that ends is started again
/// as often as an app would be, also if it ends well.
pub fn trial(started: &Started, restore: &str, start_secs: u64) -> Result<String, String> {
    Ok(format!(
        "{MARK}\n[Unit]\nDescription=Orangery agent {}, on trial\nOnFailure={restore}\nStartLimitIntervalSec=1h\n\
         StartLimitBurst={TRIAL_STARTS}\n\n[Service]\nType=notify\nNotifyAccess=main\n{}Environment={TRIAL}=1\n\
         TimeoutStartSec={start_secs}s\nRestart=always\nRestartSec=1s\n",
        started.version,
        exec(started)?
    ))
}

/// The drop-in of a proven release. If it does not start again and again, `package` is.
pub fn current(started: &Started, package: &str) -> Result<String, String> {
    Ok(format!(
        "{MARK}\n[Unit]\nDescription=Orangery agent {}\nOnFailure={package}\n\
         StartLimitIntervalSec={PROVEN_STARTS_SECS}s\nStartLimitBurst={PROVEN_STARTS}\n\n[Service]\n{}",
        started.version,
        exec(started)?
    ))
}

/// With `:` before the program systemd leaves `$` alone.
fn exec(started: &Started) -> Result<String, String> {
    let words: Vec<String> = std::iter::once(&started.program).chain(&started.arguments).map(|w| quoted(w)).collect();
    let line = words.join(" ");
    if line.len() > 4_096 {
        return Err("the agent's command line is too long for a unit".to_owned());
    }
    Ok(format!(
        "Environment={RELEASE}={}\nSyslogIdentifier={}\nExecStart=\nExecStart=:{line}\n",
        started.release,
        identifier(started.release)
    ))
}

/// The drop-in that lets the program of `unit`, the text of the package's unit, run although others are there.
pub fn package(unit: &str) -> Result<String, String> {
    let start = unit.lines().rev().find(|line| line.starts_with("ExecStart=") && !line.ends_with(['=', '\\']));
    let start = start.ok_or("the agent's unit has no line ExecStart=, so nothing could take a broken agent's place")?;
    Ok(format!(
        "{MARK}\n[Unit]\nDescription=Orangery agent of the package: the release does not start\n\
         StartLimitIntervalSec=0\n\n[Service]\nSyslogIdentifier=orangery-agent\nUnsetEnvironment={RELEASE} {TRIAL}\nExecStart=\n{start}\n"
    ))
}

/// The way back from a trial, with no program of ours: moves the drop-in away, where the agent finds what was tried. The
/// second time that fails, and nothing is restarted.
pub fn restore_service(unit: &str, trial: &Path, taken_back: &Path) -> Result<String, String> {
    let (trial, taken_back) = (plain(trial)?, plain(taken_back)?);
    Ok(format!(
        "{MARK}\n[Unit]\nDescription=Back to the agent before\n\n[Service]\nType=oneshot\n\
         ExecStart=mv -f {trial} {taken_back}\n{}",
        restart(unit)
    ))
}

/// Takes that way when a trial takes longer than `secs`.
pub fn restore_timer(secs: u64) -> String {
    format!("{MARK}\n[Unit]\nDescription=End of the agent's trial\n\n[Timer]\nOnActiveSec={secs}s\nAccuracySec=1s\n")
}

/// The way from a proven agent that does not start any more to the package's, until the next boot.
pub fn package_service(unit: &str, ready: &Path, package: &Path) -> Result<String, String> {
    let directory = plain(package.parent().unwrap_or(package))?;
    let (ready, package) = (plain(ready)?, plain(package)?);
    Ok(format!(
        "{MARK}\n[Unit]\nDescription=The agent of the package takes over\n\n[Service]\nType=oneshot\n\
         ExecStart=mkdir -p {directory}\nExecStart=cp -f {ready} {package}\n{}",
        restart(unit)
    ))
}

fn restart(unit: &str) -> String {
    format!(
        "ExecStart=systemctl daemon-reload\nExecStart=-systemctl reset-failed {unit}\n\
         ExecStart=systemctl --no-block restart {unit}\n"
    )
}

fn plain(path: &Path) -> Result<&str, String> {
    let text = path.to_str().filter(|text| is_plain(text));
    text.ok_or_else(|| format!("the path {} cannot be named in a unit without quotes", path.display()))
}

#[cfg(test)]
mod tests {
    use orangery_wire::Digest;

    use super::*;

    fn started(argument: &str) -> Started {
        Started {
            release: ReleaseId(Digest([1; 32])),
            version: "1.2.3".parse().unwrap(),
            program: "/var/lib/orangery/a".into(),
            arguments: vec!["run".into(), argument.into()],
        }
    }

    #[test]
    fn a_drop_in_says_which_release_it_starts() {
        let trial = trial(&started("-v"), "x.service", 120).unwrap();
        assert_eq!(release(&trial), Some(started("").release));
        assert!(trial.contains("ExecStart=\nExecStart=:\"/var/lib/orangery/a\" \"run\" \"-v\"\n"), "{trial}");
        assert_eq!(release(&current(&started(""), "x.service").unwrap()), Some(started("").release));
        assert_eq!(release("[Service]\n"), None);
    }

    #[test]
    fn no_argument_begins_a_line_of_its_own() {
        let trial = trial(&started("\nExecStart=/bin/false\n"), "x.service", 120).unwrap();
        assert_eq!(trial.lines().filter(|line| line.starts_with("ExecStart=")).count(), 2);
    }

    #[test]
    fn the_packages_own_line_is_taken_as_it_is() {
        let unit = "[Service]\nExecStart=\nExecStart=/usr/bin/orangery-agent run --config %E/orangery/agent.toml\n";
        assert!(
            package(unit)
                .unwrap()
                .ends_with("ExecStart=\nExecStart=/usr/bin/orangery-agent run --config %E/orangery/agent.toml\n")
        );
        for unit in ["", "[Service]\nExecStart=\n", "[Service]\nExecStart=/bin/a \\\n  b\n"] {
            assert!(package(unit).is_err(), "{unit}");
        }
    }

    #[test]
    fn a_path_that_would_need_quotes_is_refused() {
        assert!(restore_service("a.service", Path::new("/run/a b"), Path::new("/run/c")).is_err());
    }
}
