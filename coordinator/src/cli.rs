//! The commands. Each says what it does by `--help`; this module holds what they share.
//!
//! Exit codes are a contract: 0 done, 1 error, 2 changes are pending (a plan that was not agreed to).

mod args;
mod audit;
mod backup;
mod broker;
mod completions;
mod deploy;
mod directory;
mod doctor;
mod events;
mod fleet;
mod follow;
mod group;
mod image;
mod init;
mod keys;
mod logs;
mod node;
mod notify;
mod password;
mod release;
mod repo;
mod rollout;
mod say;
mod serve;
mod status;
mod user;
mod why;

use std::io;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

pub use args::{Cli, Command, DemoArgs};
pub use fleet::fleet_table;
pub use follow::{Ending, Follow, FollowError, How};
pub use init::{InitArgs, Made, MqttChoice, free_port, init};
pub use keys::SealArgs;
pub use node::{Invited, invite};
pub use release::sign_bundle;
pub use say::{is_news, sentence};

use crate::home::Home;
use crate::output;
use crate::owner::Passphrases;

/// How a command ended when it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As asked.
    Done,
    /// Something was found or shown that is not as asked, and has been said: exit code 1.
    Failed,
    /// There are changes that were not agreed to.
    Pending,
}

/// Reads the command line, does what it says, and tells how it went. `main` does nothing else.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and version are what was asked for; anything else is an error, and 2 means something else here.
        Err(error) => {
            let code = if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
            drop(error.print());
            return code;
        }
    };
    match cli.act() {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::FAILURE,
        Ok(Outcome::Pending) => ExitCode::from(2),
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::note(format!("error: {}", said_once(&error)));
            ExitCode::FAILURE
        }
    }
}

impl Cli {
    fn act(self) -> anyhow::Result<Outcome> {
        let is_serve = matches!(self.command, Command::Serve(_));
        start_log(self.verbose, is_serve);
        let home = self.dir.map(Home::new).or_else(Home::usual);
        let home = home.context("cannot tell where the settings are: set HOME or ORANGERY_DIR, or use --dir DIR")?;
        let passphrases = Passphrases::find(self.passphrase_file.as_deref());
        match self.command {
            Command::Init(args) => init::run(&home, &args, &passphrases),
            Command::Keys(command) => in_runtime(keys::run(&home, command, &passphrases)),
            Command::Serve(args) => serve::run(&home, args),
            Command::Completions(args) => completions::run(&args),
            Command::Backup(args) => backup::backup(&home, &args),
            Command::Restore(args) => backup::restore(&home, &args),
            Command::Broker(args) => broker::run(&home, &args),
            Command::Demo(args) => in_runtime(crate::demo::run(args)),
            Command::Node(command) => in_runtime(node::run(&home, command)),
            Command::Repo(command) => in_runtime(repo::run(&home, command)),
            Command::Image(command) => in_runtime(image::run(&home, command)),
            Command::Bundle(args) => in_runtime(repo::bundle(&home, args)),
            Command::Release(command) => in_runtime(release::run(&home, command, &passphrases)),
            Command::Deploy(args) => in_runtime(deploy::run(&home, args)),
            Command::Plan(args) => in_runtime(directory::plan(&home, &args)),
            Command::Apply(args) => in_runtime(directory::apply(&home, &args)),
            Command::Export(args) => in_runtime(directory::export(&home, &args)),
            Command::Rollout(command) => in_runtime(rollout::run(&home, command)),
            Command::Group(command) => in_runtime(group::run(&home, command)),
            Command::Status(args) => in_runtime(status::run(&home, args)),
            Command::Events(args) => in_runtime(events::run(&home, args)),
            Command::History(args) => in_runtime(events::history(&home, args)),
            Command::Logs(args) => in_runtime(logs::run(&home, args)),
            Command::Audit(args) => in_runtime(audit::run(&home, args)),
            Command::User(command) => in_runtime(user::run(&home, command)),
            Command::Notify(command) => in_runtime(notify::run(&home, command)),
            Command::Why(args) => in_runtime(why::run(&home, args)),
            Command::Doctor(args) => in_runtime(doctor::run(&home, args)),
        }
    }
}

fn in_runtime(deed: impl Future<Output = anyhow::Result<Outcome>>) -> anyhow::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the asynchronous runtime")?.block_on(deed)
}

/// Our own lines from `level` on, those of libraries one step quieter; on standard error.
fn start_log(verbose: u8, is_serve: bool) {
    let level = match verbose + u8::from(is_serve) {
        0 => Level::WARN,
        1 => Level::INFO,
        2 => Level::DEBUG,
        _ => Level::TRACE,
    };
    let others = if level > Level::DEBUG { Level::DEBUG } else { Level::WARN };
    let filter = Targets::new().with_default(others).with_target("orangery", level);
    let is_coloured = io::IsTerminal::is_terminal(&io::stderr()) && output::wants_colour();
    let lines =
        tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(is_coloured).with_target(verbose > 1);
    // A second call in the same process leaves the first log as it is.
    drop(tracing_subscriber::registry().with(filter).with(lines).try_init());
}

/// The chain of causes, without those that the text before them says already.
fn said_once(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Whether all that failed is that the reader of our output went away, as `head` does.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    io.into_iter().any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_option_has_a_help_text() {
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{} has no help", command.get_name());
            for option in command.get_arguments() {
                assert!(option.get_help().is_some(), "{} of {} has no help", option.get_id(), command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn a_cause_is_said_once() {
        let error = anyhow::anyhow!("disk full").context("cannot write x: disk full").context("cannot build");
        assert_eq!(said_once(&error), "cannot build: cannot write x: disk full");
    }
}
