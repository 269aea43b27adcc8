//! `orangery logs`

use clap::Args;
use orangery_wire::limits::OUTPUT_LINES_MAX;
use orangery_wire::rest::OutputView;
use orangery_wire::{AppName, NodeId};

use super::Outcome;
use crate::client::Client;
use crate::home::Home;
use crate::output;

/// `orangery logs`
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// The node, which must be connected
    pub node: NodeId,
    /// The app
    pub app: AppName,
    /// How many lines; values of the app's variables are not shown, their names stand for them
    #[arg(long, short = 'n', default_value_t = 100, value_parser = lines())]
    pub lines: u32,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

fn lines() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::try_from(OUTPUT_LINES_MAX).unwrap_or(i64::MAX))
}

pub async fn run(home: &Home, args: LogsArgs) -> anyhow::Result<Outcome> {
    let LogsArgs { node, app, lines, json } = args;
    let mut view: OutputView = Client::open(home)?.get(&format!("/v1/nodes/{node}/output/{app}")).await?;
    let surplus = view.lines.len().saturating_sub(usize::try_from(lines).unwrap_or(usize::MAX));
    view.lines.drain(..surplus);
    if json {
        output::json(&view)?;
    } else if view.lines.is_empty() {
        output::line(format!("{app} has written nothing on {node}, as far as the node still has it"))?;
    } else {
        view.lines.iter().try_for_each(|line| output::line(output::clean(line)))?;
    }
    Ok(Outcome::Done)
}
