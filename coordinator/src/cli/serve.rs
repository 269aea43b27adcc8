//! `orangery serve`

use super::Outcome;
use super::args::ServeArgs;
use crate::home::Home;
use crate::serve::ServeOptions;

pub fn run(home: &Home, args: ServeArgs) -> anyhow::Result<Outcome> {
    let config = args.config.unwrap_or_else(|| home.coordinator_settings());
    crate::serve::run(ServeOptions { config, ready_file: args.ready_file })?;
    Ok(Outcome::Done)
}
