//! `orangery status`

use std::time::Duration;

use orangery_wire::rest::Status;

use super::Outcome;
use super::args::StatusArgs;
use super::fleet::fleet_table;
use crate::client::Client;
use crate::home::Home;
use crate::output::{self, Live};

/// Time between two looks while it is watched.
const PAUSE: Duration = Duration::from_secs(1);

pub async fn run(home: &Home, args: StatusArgs) -> anyhow::Result<Outcome> {
    let client = Client::open(home)?;
    if args.watch {
        return watch(&client, args.json).await;
    }
    let status: Status = client.get("/v1/status").await?;
    if args.json {
        output::json(&status)?;
    } else {
        output::line(text(&status))?;
    }
    Ok(Outcome::Done)
}

/// Shows it in place on a terminal. Elsewhere, and as JSON, it is written again whenever it has changed.
async fn watch(client: &Client, json: bool) -> anyhow::Result<Outcome> {
    let live = if json { Live::plain() } else { Live::new() };
    let mut before = String::new();
    loop {
        // A coordinator that is away for a moment is no reason to stop looking.
        let now = match client.get::<Status>("/v1/status").await {
            Ok(status) if json => serde_json::to_string(&status)?,
            Ok(status) => text(&status),
            Err(error) => error.to_string(),
        };
        if live.is_plain() && now != before {
            live.say(&now)?;
        }
        live.show(&now);
        before = now;
        tokio::time::sleep(PAUSE).await;
    }
}

fn text(status: &Status) -> String {
    let broker =
        if status.broker_connected { "" } else { "\nthe coordinator does not reach its broker: nodes cannot be heard" };
    let fleet = if status.nodes.is_empty() {
        "no nodes yet; `orangery node invite` makes a token for the first".to_owned()
    } else {
        fleet_table(&status.nodes, output::now())
    };
    format!("{fleet}{broker}")
}
