//! `orangery events`

use std::io;

use orangery_wire::NodeId;
use orangery_wire::rest::EventView;

use super::Outcome;
use super::args::EventsArgs;
use super::say::sentence;
use crate::client::Client;
use crate::home::Home;
use crate::output;

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
