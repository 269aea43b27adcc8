//! `orangery notify`

use anyhow::Context as _;
use clap::Subcommand;
use orangery_wire::rest::{NotifyTargetView, NotifyTestView};

use super::Outcome;
use crate::client::Client;
use crate::home::Home;
use crate::output::{self, Tone, Word, clean};

/// `orangery notify`
#[derive(Debug, Subcommand)]
pub enum NotifyCommand {
    /// List the targets of notifications, how each was told last, and what waits
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Send a test to one target, or to all; exit code 1 if one does not take it
    Test {
        /// The target's name [default: all of them]
        name: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub async fn run(home: &Home, command: NotifyCommand) -> anyhow::Result<Outcome> {
    let client = Client::open(home)?;
    match command {
        NotifyCommand::List { json } => {
            let targets: Vec<NotifyTargetView> = client.get("/v1/notify").await?;
            if json {
                output::json(&targets)?;
            } else if targets.is_empty() {
                output::line(
                    "There are no targets: add [[notify]] to coordinator.toml and start the coordinator again.",
                )?;
            } else {
                output::line(table(&targets))?;
            }
            Ok(Outcome::Done)
        }
        NotifyCommand::Test { name, json } => test(&client, name, json).await,
    }
}

async fn test(client: &Client, name: Option<String>, json: bool) -> anyhow::Result<Outcome> {
    let names = match name {
        Some(name) => vec![name],
        None => client.get::<Vec<NotifyTargetView>>("/v1/notify").await?.into_iter().map(|one| one.name).collect(),
    };
    anyhow::ensure!(
        !names.is_empty(),
        "there are no targets: add [[notify]] to coordinator.toml and start the coordinator again"
    );
    let mut all = Vec::new();
    for name in names {
        // Whatever was typed must stay one part of the path.
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        anyhow::ensure!(is_name, "{name:?} is not the name of a target; `orangery notify list` shows them");
        let tested: NotifyTestView = client
            .post(&format!("/v1/notify/{name}/test"), &())
            .await
            .with_context(|| format!("cannot test {name}"))?;
        if !json {
            let how = if tested.delivered { "took it" } else { "did not take it" };
            output::line(format!("{} {how}: {}", tested.target, clean(&tested.answer)))?;
        }
        all.push(tested);
    }
    if json {
        output::json(&all)?;
    }
    Ok(if all.iter().all(|tested| tested.delivered) { Outcome::Done } else { Outcome::Failed })
}

fn table(targets: &[NotifyTargetView]) -> String {
    let now = output::now();
    let rows: Vec<Vec<Word>> = targets.iter().map(|target| row(target, now)).collect();
    output::table(&["target", "kind", "address", "waiting", "sent", "last taken", "last failure"], &rows)
}

fn row(target: &NotifyTargetView, now: u64) -> Vec<Word> {
    let waits = if target.waiting > 0 { Tone::Wait } else { Tone::Plain };
    let failure = match (target.failed_at, &target.failure) {
        (Some(at), Some(failure)) => {
            let is_over = target.succeeded_at >= Some(at);
            let tone = if is_over { Tone::Plain } else { Tone::Bad };
            Word::new(format!("{}: {}", output::ago(at, now), clean(failure)), tone)
        }
        _ => Word::plain("none"),
    };
    vec![
        Word::plain(&target.name),
        Word::plain(&target.kind),
        Word::plain(&target.address),
        Word::new(target.waiting.to_string(), waits),
        Word::plain(target.sent.to_string()),
        Word::plain(target.succeeded_at.map_or_else(|| "never".to_owned(), |at| output::ago(at, now))),
        failure,
    ]
}
