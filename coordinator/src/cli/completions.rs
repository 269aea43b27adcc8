//! `orangery completions`

use clap::{Args, CommandFactory as _};

use super::Outcome;
use super::args::Cli;
use crate::output;

/// `orangery completions`
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

pub fn run(args: &CompletionsArgs) -> anyhow::Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "orangery", &mut script);
    output::line(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Outcome::Done)
}
