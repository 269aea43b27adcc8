//! What the command line says.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::prelude::*;
use orangery_wire::{AppName, NodeId, Version};

use super::complete::Shell;
use crate::road::Place;

/// A command with the options that all of them take.
pub struct Invocation {
    /// `--config FILE`
    pub config: Option<PathBuf>,
    /// `--json`
    pub json: bool,
    /// What is to be done.
    pub command: Command,
}

/// What is to be done.
pub enum Command {
    /// Enrol.
    Join {
        /// The token, or `-` for standard input.
        token: String,
        /// The name that the node would like.
        name: Option<NodeId>,
    },
    /// Serve until a signal.
    Run,
    /// How the node is.
    Status,
    /// Why each app is where it is.
    Why {
        /// Only this one.
        app: Option<AppName>,
    },
    /// What happened.
    History {
        /// At most so many events.
        count: u32,
    },
    /// What is wrong with this node?
    Doctor(super::doctor::Wanted),
    /// Are the invariants kept?
    Check {
        /// The state directory, unless the settings' own.
        state: Option<PathBuf>,
    },
    /// Back to the release before.
    Rollback {
        /// The app.
        app: AppName,
    },
    /// Install a release by a road of one's own.
    Install {
        /// The release; without it the source must have exactly one.
        release: Option<(AppName, Version)>,
        /// Where it is.
        place: Place,
    },
    /// A completion script.
    Completions {
        /// For which shell.
        shell: Shell,
    },
    /// Help on a command or on all.
    Help(&'static str),
    /// The version.
    Version,
}

const HELP: &str = "\
Keeps this node on one proven release of each app, by itself.

Usage: orangery-agent [OPTIONS] COMMAND

Commands:
  join TOKEN       Enrol this node with a token from `orangery node invite`
  run              Serve until SIGTERM
  status           What runs here, and whether the coordinator is reached
  why [APP]        Why each app is where it is, and what was seen of one that was refused
  history          What happened here last
  doctor           What is wrong with this node, and what to do about it
  check            Are the invariants of the state directory kept?
  rollback APP     Go back to the release that ran before the current one
  install SOURCE   Install a release from a file, a USB stick or a web server
  completions SH   A completion script for bash, zsh or fish

Options:
  --config FILE    Settings (default: /etc/orangery/agent.toml)
  --json           Answer in JSON (status, why, history, doctor, check, install)
  -h, --help       This, or help on a command
  -V, --version    The version

Exit codes: 0 done, 1 error, 2 the command line is not understood; of `install` also 11 not trusted, 12 expired,
13 not brought here, 60 no space, 110 refused and rolled back, 130 the roll-back failed.
";

const JOIN_HELP: &str = "\
Enrol this node.

Usage: orangery-agent join TOKEN [--name NAME] [--config FILE]

The node makes its own key, which never leaves it, checks that the coordinator is the one that made the token, and
gets a certificate. TOKEN is the line that `orangery node invite` prints; `-` reads it from standard input, so that
it stands in no process list. Joining again is refused; a join that was cut is simply run again.

Options:
  --name NAME      The name that the node would like, unless the invite has one (default: the host name)
  --config FILE    Settings (default: /etc/orangery/agent.toml)
";

const RUN_HELP: &str = "\
Serve until SIGTERM or SIGINT.

Usage: orangery-agent run [--config FILE]

Starts what was proven last, at once and without the network; then connects to the coordinator and does what is
desired. Power may go at any moment.
";

const STATUS_HELP: &str = "\
What runs here, and whether the coordinator is reached.

Usage: orangery-agent status [--json] [--config FILE]

Works when the agent does not run, too: then it reads the disk.
";

const WHY_HELP: &str = "\
Why each app is where it is: what is desired, what runs, what is waited for, and why a release was refused.

Usage: orangery-agent why [APP] [--json] [--config FILE]

Of a release that was refused by its trial, its last output and the last answers to its probes are shown; they are kept
in apps/APP/refused.json of the state directory. Works when the agent does not run, too: then it reads the disk.
";

const HISTORY_HELP: &str = "\
What happened here last, oldest first.

Usage: orangery-agent history [--count N] [--json] [--config FILE]

Options:
  --count N        At most so many events (default: 50)
  --json           One JSON object a line
";

const DOCTOR_HELP: &str = "\
What is wrong with this node, and what to do about it. Changes nothing, and takes a quarter of a minute at most.

Usage: orangery-agent doctor [--bundle FILE [--with-app-logs]] [--json] [--config FILE]

Looks at the settings, the agent that runs and its apps, certificate and trust, store and state directory, disk, flash,
clock, memory, heat, the way to the coordinator, and systemd. Each finding has a stable code, says why it matters and
what to do; docs/operating/doctor.md lists all. Run it as root: else it says what it could not look at.

Options:
  --bundle FILE    Also write a support bundle: one text file with all of this, status, history, records and the agent's
                   log. Keys, tokens and values of apps' variables are not in it. FILE must not be there yet
  --with-app-logs  Have the apps' last output in it, too
  --json           Findings as JSON
  --config FILE    Settings (default: /etc/orangery/agent.toml)

Exit codes: 0 nothing needs a person, 1 something does (a warning or worse) or the bundle cannot be written.
";

const CHECK_HELP: &str = "\
Are the invariants of the state directory kept? Reads only; works beside a running agent.

Usage: orangery-agent check [--state DIR] [--json] [--config FILE]

Exits with 1 when one is violated, and says which.
";

const ROLLBACK_HELP: &str = "\
Go back to the release that ran before the current one.

Usage: orangery-agent rollback APP [--config FILE]

Needs no network. The node stays there until something newer is deployed to it.
";

const INSTALL_HELP: &str = "\
Install a release by another road than the coordinator.

Usage: orangery-agent install SOURCE [APP@VERSION] [--config FILE]
       orangery-agent install APP@VERSION --from SOURCE [--ca-file FILE] [--config FILE]

SOURCE is a file that `orangery bundle` made, a directory that `orangery repo export` made (a USB stick, a share), or
the https:// address of a web server with such a directory. APP@VERSION may be left out if a file or directory has
one release only.

The release is judged as one from the coordinator is, by the same metadata, expiry and floors: nothing here makes that
weaker. Then it is tried, and goes back if it does not hold. It stays until something newer is deployed to the node.
The agent must be running; no network is needed for a file or directory. Ctrl-C ends the watching, not the work.

Options:
  --from SOURCE    Where the release is
  --ca-file FILE   The authorities that may vouch for the web server, in PEM (default: those of the system)
  --json           The outcome in JSON
  --config FILE    Settings (default: /etc/orangery/agent.toml)

Exit codes: 0 it is current, 1 error, 11 not trusted (unverified, revoked, below the floor, no trust root),
12 expired, 13 not brought here, 60 no space, 110 refused by its trial and rolled back, 130 the roll-back failed.
";

/// Reads the command line, program name first.
pub fn parse<I: IntoIterator<Item = OsString>>(words: I) -> Result<Invocation, lexopt::Error> {
    let mut parser = lexopt::Parser::from_iter(words);
    let mut given = Given::default();
    while let Some(word) = parser.next()? {
        match word {
            Long("config") => given.config = Some(parser.value()?.into()),
            Long("json") => given.json = true,
            Long("name") => given.name = Some(parser.value()?.parse()?),
            Long("count") => given.count = Some(parser.value()?.parse()?),
            Long("state") => given.state = Some(parser.value()?.into()),
            Long("bundle") => given.doctor.bundle = Some(parser.value()?.into()),
            Long("with-app-logs") => given.doctor.with_app_logs = true,
            Long("from") => given.from = Some(parser.value()?.string()?),
            Long("ca-file") => given.ca_file = Some(parser.value()?.into()),
            Short('h') | Long("help") => given.help = true,
            Short('V') | Long("version") => given.version = true,
            Value(word) => given.words.push(word.string()?),
            other => return Err(other.unexpected()),
        }
    }
    given.command()
}

#[derive(Default)]
struct Given {
    config: Option<PathBuf>,
    json: bool,
    name: Option<NodeId>,
    count: Option<u32>,
    state: Option<PathBuf>,
    from: Option<String>,
    ca_file: Option<PathBuf>,
    doctor: super::doctor::Wanted,
    help: bool,
    version: bool,
    words: Vec<String>,
}

impl Given {
    fn command(self) -> Result<Invocation, lexopt::Error> {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        let command = match words.as_slice() {
            _ if self.version => Command::Version,
            [] if self.help => Command::Help(HELP),
            [first, ..] if self.help => Command::Help(help_on(first)?),
            [] => return Err("no command is given".into()),
            ["help"] => Command::Help(HELP),
            ["help", command] => Command::Help(help_on(command)?),
            ["join", token] => Command::Join { token: (*token).to_owned(), name: self.name },
            ["join"] => return Err("join needs the token that `orangery node invite` printed".into()),
            ["run"] => Command::Run,
            ["status"] => Command::Status,
            ["why"] => Command::Why { app: None },
            ["why", app] => Command::Why { app: Some(app.parse().map_err(|e| lexopt::Error::Custom(Box::new(e)))?) },
            ["history"] => Command::History { count: self.count.unwrap_or(50) },
            ["doctor"] => Command::Doctor(self.doctor),
            ["check"] => Command::Check { state: self.state },
            ["rollback", app] => {
                Command::Rollback { app: app.parse().map_err(|e| lexopt::Error::Custom(Box::new(e)))? }
            }
            ["rollback"] => return Err("rollback needs the name of an app".into()),
            ["install", rest @ ..] => install(rest, self.from, self.ca_file)?,
            ["completions", shell] => Command::Completions { shell: shell.parse()? },
            ["completions"] => return Err("completions needs a shell: bash, zsh or fish".into()),
            [command, ..] => {
                help_on(command)?;
                return Err(format!("{command} does not take so many words").into());
            }
        };
        Ok(Invocation { config: self.config, json: self.json, command })
    }
}

/// `install`, in one of its two forms.
fn install(words: &[&str], from: Option<String>, ca_file: Option<PathBuf>) -> Result<Command, lexopt::Error> {
    let (source, release) = match (words, from) {
        ([name], Some(from)) => (from, Some(release(name)?)),
        ([source], None) => ((*source).to_owned(), None),
        ([source, name], None) => ((*source).to_owned(), Some(release(name)?)),
        _ => return Err("install needs a SOURCE, or APP@VERSION and --from SOURCE".into()),
    };
    if source.starts_with("http://") {
        return Err("nothing is fetched without TLS; use an https:// address".into());
    }
    let place =
        if source.starts_with("https://") { Place::Site { url: source, ca_file } } else { Place::Path(source.into()) };
    Ok(Command::Install { release, place })
}

/// `APP@VERSION`
fn release(name: &str) -> Result<(AppName, Version), lexopt::Error> {
    let parts = name.split_once('@');
    let read = parts.and_then(|(app, version)| Some((app.parse().ok()?, version.parse().ok()?)));
    read.ok_or_else(|| format!("{name:?} is not a release; write it as APP@VERSION, such as greeter@1.2.0").into())
}

fn help_on(command: &str) -> Result<&'static str, lexopt::Error> {
    match command {
        "join" => Ok(JOIN_HELP),
        "run" => Ok(RUN_HELP),
        "status" => Ok(STATUS_HELP),
        "why" => Ok(WHY_HELP),
        "history" => Ok(HISTORY_HELP),
        "doctor" => Ok(DOCTOR_HELP),
        "check" => Ok(CHECK_HELP),
        "rollback" => Ok(ROLLBACK_HELP),
        "install" => Ok(INSTALL_HELP),
        "completions" | "help" => Ok(HELP),
        other => Err(format!("there is no command {other:?}").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Invocation, String> {
        let words = std::iter::once("orangery-agent").chain(line.split_whitespace()).map(OsString::from);
        parse(words).map_err(|e| e.to_string())
    }

    #[test]
    fn every_command_has_help_and_options_stand_anywhere() {
        for command in ["join", "run", "status", "why", "history", "doctor", "check", "rollback", "install"] {
            let asked = parsed(&format!("{command} --help")).unwrap();
            assert!(
                matches!(asked.command, Command::Help(text) if text.contains(&format!("orangery-agent {command}")))
            );
        }
        let asked = parsed("--json history --count 3 --config x.toml").unwrap();
        assert!(asked.json && matches!(asked.command, Command::History { count: 3 }));
        assert_eq!(asked.config, Some("x.toml".into()));
    }

    #[test]
    fn a_source_is_a_path_or_an_address() {
        let place = |line| match parsed(line).map(|asked| asked.command) {
            Ok(Command::Install { release, place }) => (release.is_some(), place.to_string()),
            _ => panic!("{line}"),
        };
        assert_eq!(place("install /media/stick"), (false, "/media/stick".into()));
        assert_eq!(place("install x.bundle greeter@1.0.0"), (true, "x.bundle".into()));
        assert_eq!(place("install greeter@1.0.0 --from https://mirror/fleet"), (true, "https://mirror/fleet".into()));
    }

    #[test]
    fn a_wrong_line_is_told_what_is_wrong() {
        for (line, part) in [
            ("", "no command"),
            ("fly", "\"fly\""),
            ("join", "token"),
            ("rollback A/B", "app name"),
            ("run now", "so many words"),
            ("status --fast", "fast"),
            ("history --count many", "many"),
            ("install", "SOURCE"),
            ("install x y z", "SOURCE"),
            ("install x greeter", "APP@VERSION"),
            ("install greeter --from x", "APP@VERSION"),
            ("install http://mirror greeter@1.0.0", "TLS"),
        ] {
            let Err(error) = parsed(line) else { panic!("{line:?} was taken") };
            assert!(error.contains(part), "{line:?}: {error}");
        }
    }
}
