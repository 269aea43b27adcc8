//! `orangery why`

use clap::Args;
use orangery_wire::rest::Why;
use orangery_wire::{AppName, NodeId};

use super::Outcome;
use crate::client::Client;
use crate::home::Home;
use crate::output;

/// `orangery why`
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// The node
    pub node: NodeId,
    /// Only this app, and what is about the node as a whole
    pub app: Option<AppName>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

pub async fn run(home: &Home, args: WhyArgs) -> anyhow::Result<Outcome> {
    let mut why: Why = Client::open(home)?.get(&format!("/v1/nodes/{}/why", args.node)).await?;
    if let Some(wanted) = &args.app {
        let known = why.lines.iter().any(|line| line.app.as_ref() == Some(wanted));
        anyhow::ensure!(
            known,
            "{} has no app named {wanted}; `orangery why {}` lists what it has",
            args.node,
            args.node
        );
        why.lines.retain(|line| line.app.as_ref().is_none_or(|app| app == wanted));
    }
    if args.json {
        output::json(&why)?;
        return Ok(Outcome::Done);
    }
    for line in why.lines {
        let app = line.app.map(|app| format!("{app}: ")).unwrap_or_default();
        output::line(format!("{app}{} [{}]", output::clean(&line.text), line.code))?;
        for seen in line.evidence.iter().flat_map(|evidence| evidence.lines()) {
            output::line(format!("    {}", output::clean(&seen)))?;
        }
    }
    Ok(Outcome::Done)
}
