//! What the command line says.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::prelude::*;
use orangery_wire::{AppName, NodeId};

use super::complete::Shell;

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
    /// What happened.
    History {
        /// At most so many events.
        count: u32,
    },
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
  history          What happened here last
  check            Are the invariants of the state directory kept?
  rollback APP     Go back to the release that ran before the current one
  completions SH   A completion script for bash, zsh or fish

Options:
  --config FILE    Settings (default: /etc/orangery/agent.toml)
  --json           Answer in JSON (status, history, check)
  -h, --help       This, or help on a command
  -V, --version    The version

Exit codes: 0 done, 1 error, 2 the command line is not understood.
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

const HISTORY_HELP: &str = "\
What happened here last, oldest first.

Usage: orangery-agent history [--count N] [--json] [--config FILE]

Options:
  --count N        At most so many events (default: 50)
  --json           One JSON object a line
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
            ["history"] => Command::History { count: self.count.unwrap_or(50) },
            ["check"] => Command::Check { state: self.state },
            ["rollback", app] => {
                Command::Rollback { app: app.parse().map_err(|e| lexopt::Error::Custom(Box::new(e)))? }
            }
            ["rollback"] => return Err("rollback needs the name of an app".into()),
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

fn help_on(command: &str) -> Result<&'static str, lexopt::Error> {
    match command {
        "join" => Ok(JOIN_HELP),
        "run" => Ok(RUN_HELP),
        "status" => Ok(STATUS_HELP),
        "history" => Ok(HISTORY_HELP),
        "check" => Ok(CHECK_HELP),
        "rollback" => Ok(ROLLBACK_HELP),
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
        for command in ["join", "run", "status", "history", "check", "rollback"] {
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
    fn a_wrong_line_is_told_what_is_wrong() {
        for (line, part) in [
            ("", "no command"),
            ("fly", "\"fly\""),
            ("join", "token"),
            ("rollback A/B", "app name"),
            ("run now", "so many words"),
            ("status --fast", "fast"),
            ("history --count many", "many"),
        ] {
            let Err(error) = parsed(line) else { panic!("{line:?} was taken") };
            assert!(error.contains(part), "{line:?}: {error}");
        }
    }
}
