//! `orangery events` and `orangery history`

use std::io;

use clap::Args;
use orangery_wire::NodeId;
use orangery_wire::messages::What;
use orangery_wire::rest::EventView;

use super::Outcome;
use super::say::sentence;
use crate::client::Client;
use crate::home::Home;
use crate::output;

/// `orangery events`
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Go on with each new event until Ctrl-C
    #[arg(long)]
    pub follow: bool,
    /// Only those of this node
    #[arg(long)]
    pub node: Option<NodeId>,
    /// How many of the past
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    pub limit: u32,
    /// Print JSON, an event on each line
    #[arg(long)]
    pub json: bool,
}

/// `orangery history`
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// The node
    pub node: NodeId,
    /// How many events
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    pub limit: u32,
    /// Print JSON, an event on each line
    #[arg(long)]
    pub json: bool,
}

/// `orangery history`: one node, and whatever is known of each event.
pub async fn history(home: &Home, args: HistoryArgs) -> anyhow::Result<Outcome> {
    for event in &Client::open(home)?.newest_events(args.limit, Some(&args.node)).await? {
        print(event, args.json)?;
        let What::Refused { evidence: Some(evidence), .. } = &event.event.what else { continue };
        for seen in evidence.lines().iter().filter(|_| !args.json) {
            output::line(format!("    {}", output::clean(seen)))?;
        }
    }
    Ok(Outcome::Done)
}

pub async fn run(home: &Home, args: EventsArgs) -> anyhow::Result<Outcome> {
    let client = Client::open(home)?;
    let newest = client.newest_event().await?;
    let past = client.newest_events(args.limit, args.node.as_ref()).await?;
    let newest = past.last().map_or(newest, |event| event.id.max(newest));
    for event in &past {
        print(event, args.json)?;
    }
    if !args.follow {
        return Ok(Outcome::Done);
    }
    let mut stream = client.events(newest).await?;
    loop {
        let event = stream.next().await?;
        if is_of(&event, args.node.as_ref()) {
            print(&event, args.json)?;
        }
    }
}

fn is_of(event: &EventView, node: Option<&NodeId>) -> bool {
    node.is_none_or(|node| event.event.node == *node)
}

fn print(event: &EventView, json: bool) -> io::Result<()> {
    if json { output::json_line(event) } else { output::line(line(event)) }
}

fn line(view: &EventView) -> String {
    let event = &view.event;
    // A node whose clock nobody vouches for is given the time at which it was heard.
    let at = if event.clock_synced { event.at } else { view.stored_at };
    let app = event.app.as_ref().map(|app| format!("{app}: ")).unwrap_or_default();
    format!("{} {:<12} {app}{}", output::moment(at), event.node, sentence(event))
}
