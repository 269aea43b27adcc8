//! `orangery node`

use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use orangery_wire::messages::{Health, ReserveState, What};
use orangery_wire::rest::{
    DeedRequest, EventView, HoldRequest, HoldView, InviteRequest, InviteResponse, NodeView, ReleaseHoldRequest,
};
use orangery_wire::token::Token;
use orangery_wire::{AppName, NodeId};
use serde::Serialize;

use super::Outcome;
use super::args::{NodeCommand, parse_duration};
use super::fleet::{fleet_table, presence};
use crate::client::Client;
use crate::engine::describe_hold;
use crate::home::Home;
use crate::output::{self, Tone, Word};
use crate::owner;

/// `orangery node hold`
#[derive(Debug, Args)]
pub struct HoldArgs {
    /// The node
    pub node: NodeId,
    /// Why: everybody who asks is told
    #[arg(long)]
    pub reason: String,
    /// Only this app, which is thereby pinned to what the node was told to run [default: all apps]
    #[arg(long)]
    pub app: Option<AppName>,
    /// How long, such as 2h or 7d [default: until it is released]
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    pub lasts: Option<Duration>,
}

pub async fn run(home: &Home, command: NodeCommand) -> anyhow::Result<Outcome> {
    let client = Client::open(home)?;
    match command {
        NodeCommand::Invite { name, expires, uses, json } => {
            let invited = invite(home, &client, name, expires, uses).await?;
            if json { output::json(&invited)? } else { tell(&invited)? }
        }
        NodeCommand::List { json } => {
            let nodes: Vec<NodeView> = client.get("/v1/nodes").await?;
            if json { output::json(&nodes)? } else { output::line(list(&nodes))? }
        }
        NodeCommand::Show { node, json } => {
            let view: NodeView = client.get(&format!("/v1/nodes/{node}")).await?;
            if json {
                output::json(&view)?;
            } else {
                let newest: Vec<EventView> = client.get(&format!("/v1/events?node={node}&newest={NEWEST}")).await?;
                output::line(show(&view, dropped(&newest)))?;
            }
        }
        NodeCommand::Hold(args) => hold(&client, args).await?,
        NodeCommand::Release { node, app } => {
            client.post_unanswered(&format!("/v1/nodes/{node}/release"), &ReleaseHoldRequest { app }).await?;
            output::line(format!("{node} is not held any more."))?;
        }
        NodeCommand::Revoke { node } => {
            client
                .post_bare(&format!("/v1/nodes/{node}/revoke"))
                .await
                .with_context(|| format!("cannot revoke {node}"))?;
            output::line(format!("{node} is revoked; its connections are cut. What runs on it goes on running."))?;
        }
    }
    Ok(Outcome::Done)
}

async fn hold(client: &Client, args: HoldArgs) -> anyhow::Result<()> {
    let deed = DeedRequest { note: Some(args.reason) };
    let request = HoldRequest { app: args.app, expires_secs: args.lasts.map(|lasts| lasts.as_secs()), deed };
    let hold: HoldView = client.post(&format!("/v1/nodes/{}/hold", args.node), &request).await?;
    output::line(format!("{} is {}.", args.node, output::clean(&describe_hold(&hold))))?;
    Ok(())
}

/// So many of a node's newest events are looked through for what it dropped.
const NEWEST: usize = 1_000;

/// How many events the node says that it dropped.
fn dropped(events: &[EventView]) -> u64 {
    let of = |view: &EventView| if let What::EventsDropped { count } = view.event.what { count } else { 0 };
    events.iter().map(of).fold(0, u64::saturating_add)
}

/// An invite, ready to be used.
#[derive(Serialize)]
pub struct Invited {
    /// The token.
    pub token: String,
    /// Where the board will look for the coordinator.
    url: String,
    /// When it ends.
    expires_at: u64,
}

/// Makes an invite and the token that carries it.
pub async fn invite(
    home: &Home,
    client: &Client,
    name: Option<NodeId>,
    expires: Duration,
    uses: u32,
) -> anyhow::Result<Invited> {
    let root = owner::first_root_fingerprint(home)?;
    let request = InviteRequest { name, expires_secs: expires.as_secs(), uses };
    let InviteResponse { url, ca, secret, expires_at, .. } = client.post("/v1/invites", &request).await?;
    let token = Token { url: url.clone(), ca, root, secret }.to_text();
    Ok(Invited { token, url, expires_at })
}

/// The token alone on standard output, so that it can be piped; the rest beside it.
fn tell(invited: &Invited) -> std::io::Result<()> {
    output::line(&invited.token)?;
    output::note(format!(
        "On the board, before {}:  orangery-agent join TOKEN\nThe board must reach {}. Whoever has the token can enrol.",
        output::moment(invited.expires_at),
        invited.url
    ));
    Ok(())
}

fn list(nodes: &[NodeView]) -> String {
    if nodes.is_empty() {
        return "no nodes yet; `orangery node invite` makes a token for the first".to_owned();
    }
    let now = output::now();
    let row = |node: &NodeView| {
        let reported = node.reported.as_ref();
        let text = |get: fn(&orangery_wire::messages::Reported) -> String| {
            Word::plain(reported.map_or_else(|| "-".to_owned(), get))
        };
        vec![
            Word::plain(node.node.as_str()),
            presence(node, now),
            text(apps),
            text(|reported| reported.platform.clone()),
            text(labels),
            text(|reported| reported.agent_version.clone()),
        ]
    };
    let rows: Vec<_> = nodes.iter().map(row).collect();
    output::table(&["node", "presence", "apps", "platform", "labels", "agent"], &rows)
}

fn apps(reported: &orangery_wire::messages::Reported) -> String {
    let app = |app: &orangery_wire::messages::AppReport| {
        let version = app.current.as_ref().map_or_else(|| "nothing".to_owned(), |current| current.version.to_string());
        format!("{}@{version}", app.app)
    };
    or_dash(reported.apps.iter().map(app).collect::<Vec<_>>().join(" "))
}

fn labels(reported: &orangery_wire::messages::Reported) -> String {
    let labels: Vec<String> = reported.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    or_dash(labels.join(" "))
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

fn show(node: &NodeView, dropped: u64) -> String {
    let now = output::now();
    let mut rows = vec![
        ("node", Word::plain(node.node.as_str())),
        ("presence", presence(node, now)),
        ("joined", Word::plain(output::moment(node.joined_at))),
    ];
    for hold in &node.holds {
        rows.push(("hold", Word::new(output::clean(&describe_hold(hold)), Tone::Wait)));
    }
    if let Some(reported) = &node.reported {
        let trust = &reported.trust;
        let stale = if trust.stale { ", expired: takes no new release" } else { "" };
        let tone = if trust.stale { Tone::Bad } else { Tone::Plain };
        rows.extend([
            ("platform", Word::plain(&reported.platform)),
            ("board", Word::plain(reported.board.as_deref().unwrap_or("-"))),
            ("labels", Word::plain(labels(reported))),
            ("agent", Word::plain(&reported.agent_version)),
            ("trust", Word::new(format!("root {}, targets {}{stale}", trust.root, trust.targets), tone)),
        ]);
    }
    if let Some(health) = &node.health {
        let used = health.memory_used_bytes;
        let celsius = health.temperature_celsius.map_or_else(|| "-".to_owned(), |celsius| format!("{celsius:.0} °C"));
        rows.extend([
            ("load", Word::plain(format!("{:.2}", health.load_1m))),
            ("memory", Word::plain(format!("{} of {} used", output::size(used), output::size(health.memory_bytes)))),
            ("disk", disk(health)),
            ("temperature", Word::plain(celsius)),
            ("up", Word::plain(output::ago(now.saturating_sub(health.uptime_secs), now).replace(" ago", ""))),
        ]);
    }
    if dropped > 0 {
        let text = format!("{dropped} were dropped on the node lately: its outbox was full while it was away");
        rows.push(("events", Word::new(text, Tone::Bad)));
    }
    let rows: Vec<Vec<Word>> = rows.into_iter().map(|(name, word)| vec![Word::plain(name), word]).collect();
    format!("{}\n\n{}", output::pairs(&rows), fleet_table(std::slice::from_ref(node), now))
}

/// Free space, and whether the agent had to draw on what it keeps for itself.
fn disk(health: &Health) -> Word {
    let free = format!("{} of {} free", output::size(health.disk_free_bytes), output::size(health.disk_bytes));
    match health.reserve {
        Some(ReserveState::Freed) => {
            Word::new(format!("{free}; FULL, the agent draws on its reserve: free space"), Tone::Bad)
        }
        Some(ReserveState::Missing) => {
            Word::new(format!("{free}; no room for the agent's reserve: free space"), Tone::Bad)
        }
        Some(ReserveState::Full) | None => Word::plain(free),
    }
}
