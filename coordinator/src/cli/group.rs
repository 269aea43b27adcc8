//! `orangery group`

use std::collections::BTreeMap;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use orangery_wire::NodeId;
use orangery_wire::rest::{DeedRequest, GroupRequest, GroupView, MaintenanceWindow, Members};

use super::Outcome;
use super::rollout::named;
use crate::client::Client;
use crate::home::Home;
use crate::output::{self, Tone, Word};
use crate::rollout::counted;

/// `orangery group`
#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// List the groups that have maintenance windows, and whether one is open
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Say who belongs to a group and when rollouts may tell its nodes something; replaces what the group was
    Set(SetArgs),
    /// Remove a group: its nodes have no maintenance windows by it any more
    Remove {
        /// Its name
        group: String,
        /// Why
        #[arg(long)]
        note: Option<String>,
    },
}

/// `orangery group set`
#[derive(Debug, Args)]
pub struct SetArgs {
    /// Its name
    pub group: String,
    /// Nodes by name
    #[arg(long, value_name = "NODE", value_delimiter = ',')]
    pub nodes: Vec<NodeId>,
    /// A label that a node must report; more than once: all of them
    #[arg(long, value_name = "NAME=VALUE", value_parser = label)]
    pub label: Vec<(String, String)>,
    /// Every node
    #[arg(long)]
    pub all: bool,
    /// When its nodes may be told something, by the clock on the wall there: "sat,sun 02:00-05:00 Europe/Berlin", "mon-fri 22:00-04:00
    /// UTC" or "daily 01:00-04:00 America/New_York"; more than once: any of them
    #[arg(long, value_name = "DAYS HH:MM-HH:MM ZONE", required = true)]
    pub window: Vec<MaintenanceWindow>,
    /// Why
    #[arg(long)]
    pub note: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE".to_owned()),
    }
}

pub async fn run(home: &Home, command: GroupCommand) -> anyhow::Result<Outcome> {
    let client = Client::open(home)?;
    match command {
        GroupCommand::List { json } => list(&client, json).await,
        GroupCommand::Set(args) => set(&client, args).await,
        GroupCommand::Remove { group, note } => {
            let failed = || format!("cannot remove the group {group}");
            client
                .post_unanswered(&format!("/v1/groups/{group}/remove"), &DeedRequest { note })
                .await
                .with_context(failed)?;
            output::line(format!("The group {group} has no maintenance windows any more."))?;
            Ok(Outcome::Done)
        }
    }
}

async fn set(client: &Client, args: SetArgs) -> anyhow::Result<Outcome> {
    let labels: BTreeMap<String, String> = args.label.into_iter().collect();
    let request = GroupRequest {
        members: Members { all: args.all, nodes: args.nodes.into_iter().collect(), labels },
        windows: args.window,
        deed: DeedRequest { note: args.note },
    };
    let failed = || format!("cannot set the group {}", args.group);
    let view: GroupView = client.post(&format!("/v1/groups/{}", args.group), &request).await.with_context(failed)?;
    if args.json {
        output::json(&view)?;
    } else {
        let (nodes, belong) =
            (counted(view.count as usize, "node"), if view.count == 1 { "belongs" } else { "belong" });
        output::line(format!("{nodes} {belong} to the group {}: {}.", view.group, state(&view)))?;
    }
    Ok(Outcome::Done)
}

async fn list(client: &Client, json: bool) -> anyhow::Result<Outcome> {
    let all: Vec<GroupView> = client.get("/v1/groups").await?;
    if json {
        output::json(&all)?;
    } else if all.is_empty() {
        output::line("no group has maintenance windows; `orangery group set` gives it some")?;
    } else {
        let rows: Vec<_> = all.iter().map(row).collect();
        output::line(output::table(&["group", "who", "nodes", "windows", "now", "set by"], &rows))?;
    }
    Ok(Outcome::Done)
}

fn row(view: &GroupView) -> Vec<Word> {
    let windows: Vec<String> = view.windows.iter().map(ToString::to_string).collect();
    let by = view.deed.note.as_ref().map_or_else(|| view.deed.by.clone(), |note| format!("{}: {note}", view.deed.by));
    vec![
        Word::plain(&view.group),
        Word::plain(output::clean(&who(&view.members))),
        Word::plain(view.count.to_string()),
        Word::plain(windows.join("; ")),
        Word::new(state(view), if view.open { Tone::Good } else { Tone::Wait }),
        Word::plain(output::clean(&by)),
    ]
}

/// Who belongs to a group, in few words.
pub fn who(members: &Members) -> String {
    if members.all {
        return "all".to_owned();
    }
    let labels: Vec<String> = members.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let nodes: Vec<&str> = members.nodes.iter().map(NodeId::as_str).collect();
    let parts = [labels.join(" and "), named(&nodes)];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

fn state(view: &GroupView) -> String {
    let verb = if view.open { "closes" } else { "opens" };
    let now = if view.open { "open" } else { "shut" };
    view.changes_at.map_or_else(|| now.to_owned(), |at| format!("{now}, {verb} {}", output::moment(at)))
}
