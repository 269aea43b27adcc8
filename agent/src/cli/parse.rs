//! What the command line says.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::prelude::*;
use orangery_wire::{AppName, NodeId, Version};

use super::complete::Shell;
use super::help::{HELP, help_on};
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
    /// How the node is, for Prometheus.
    Metrics {
        /// Where to write it; else it is printed.
        out: Option<PathBuf>,
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
            Long("out") => given.out = Some(parser.value()?.into()),
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
    out: Option<PathBuf>,
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
            ["metrics"] => Command::Metrics { out: self.out },
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Invocation, String> {
        let words = std::iter::once("orangery-agent").chain(line.split_whitespace()).map(OsString::from);
        parse(words).map_err(|e| e.to_string())
    }

    #[test]
    fn every_command_has_help_and_options_stand_anywhere() {
        for command in ["join", "run", "status", "why", "history", "metrics", "doctor", "check", "rollback", "install"]
        {
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
