//! `orangery completions`

use clap::CommandFactory as _;

use super::Outcome;
use super::args::{Cli, CompletionsArgs};
use crate::output;

pub fn run(args: &CompletionsArgs) -> anyhow::Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "orangery", &mut script);
    output::line(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Outcome::Done)
}
