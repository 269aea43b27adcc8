//! `orangery rollout`

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use orangery_wire::rest::{DeedRequest, RolloutNode, RolloutPlan, RolloutRequest, RolloutView, ShutNode, WaveView};

use self::args::{DeedArgs, RolloutCommand, ShowArgs, StartArgs};
use super::Outcome;
use crate::client::Client;
use crate::home::Home;
use crate::output::{self, Live, Tone, Word};
use crate::rollout::counted;
use crate::span::{Limits, text as span};

pub mod args;

/// Time between two looks while it is watched.
const PAUSE: Duration = Duration::from_secs(1);
/// Most nodes of a plan's wave that are named on one line, and most nodes that `show` lists.
const NAMED_MAX: usize = 12;
const LISTED_MAX: usize = 60;

pub async fn run(home: &Home, command: RolloutCommand) -> anyhow::Result<Outcome> {
    let client = Client::open(home)?;
    match command {
        RolloutCommand::Start(args) => start(&client, *args).await,
        RolloutCommand::List { json } => list(&client, json).await,
        RolloutCommand::Show(args) => show(&client, &args).await,
        RolloutCommand::Pause(args) => deed(&client, "pause", &args).await,
        RolloutCommand::Resume(args) => deed(&client, "resume", &args).await,
        RolloutCommand::Promote(args) => deed(&client, "promote", &args).await,
        RolloutCommand::Revert(args) => deed(&client, "revert", &args).await,
        RolloutCommand::Approve(args) => deed(&client, "approve", &args).await,
        RolloutCommand::IgnoreWindows(args) => deed(&client, "ignore-windows", &args).await,
    }
}

async fn start(client: &Client, args: StartArgs) -> anyhow::Result<Outcome> {
    let request = args.request();
    let failed = || format!("cannot roll out {}", args.release);
    let plan: RolloutPlan = client.ask("/v1/rollouts/plan", &request).await.with_context(failed)?;
    if args.json {
        output::json_line(&serde_json::json!({ "plan": plan }))?;
    } else {
        output::line(plan_text(&plan))?;
        if let Some(limits) = request.policy.compare {
            output::line(format!("each node is compared with itself before: {}", String::from(Limits(limits))))?;
        }
    }
    if !args.yes && !is_agreed(&plan)? {
        return Ok(Outcome::Pending);
    }
    // Whoever looked at the plan gets that plan or none; `--yes` takes it as it has become.
    let request = RolloutRequest { plan: (!args.yes).then_some(plan.mark), ..request };
    let begun: RolloutView = client.post("/v1/rollouts", &request).await.with_context(failed)?;
    if args.json {
        output::json_line(&serde_json::json!({ "rollout": begun }))?;
    } else {
        let id = begun.rollout;
        output::line(format!("Rollout {id} has begun. `orangery rollout show {id} --watch` follows it."))?;
    }
    Ok(Outcome::Done)
}

fn plan_text(plan: &RolloutPlan) -> String {
    let row = |(k, wave): (usize, &orangery_wire::rest::PlannedWave)| {
        let names: Vec<&str> = wave.nodes.iter().map(orangery_wire::NodeId::as_str).collect();
        vec![
            Word::plain((k + 1).to_string()),
            Word::plain(named(&names)),
            Word::plain(span(wave.soak_secs)),
            Word::plain(wave.failures.to_string()),
            Word::plain(if wave.approve { "an approval" } else { "" }),
        ]
    };
    let rows: Vec<_> = plan.waves.iter().enumerate().map(row).collect();
    let mut lines = vec![output::table(&["wave", "nodes", "soak", "may fail", "waits for"], &rows)];
    lines.extend(plan.left_out.iter().map(|out| format!("left out: {}: {}", out.node, output::clean(&out.reason))));
    lines.extend(plan.supersedes.iter().map(|older| {
        let names: Vec<&str> = older.nodes.iter().map(orangery_wire::NodeId::as_str).collect();
        format!("rollout {} of {} loses: {}", older.rollout, older.version, named(&names))
    }));
    lines.extend(shut(&plan.shut));
    lines.join("\n")
}

/// Whom a plan does not tell at once, and when.
pub(super) fn shut(nodes: &[ShutNode]) -> impl Iterator<Item = String> {
    let more = nodes.len().saturating_sub(NAMED_MAX);
    let more = (more > 0).then(|| format!("... and {more} more wait for their windows"));
    let line = |shut: &ShutNode| format!("{} {}", shut.node, output::clean(&shut.text));
    nodes.iter().take(NAMED_MAX).map(line).chain(more)
}

/// All names, or the first dozen and how many there are.
pub(super) fn named(names: &[&str]) -> String {
    match names.get(..NAMED_MAX) {
        Some(first) if names.len() > NAMED_MAX => format!("{}, ... ({})", first.join(", "), names.len()),
        _ => names.join(", "),
    }
}

fn is_agreed(plan: &RolloutPlan) -> anyhow::Result<bool> {
    let count: usize = plan.waves.iter().map(|wave| wave.nodes.len()).sum();
    let (nodes, waves) = (counted(count, "node"), counted(plan.waves.len(), "wave"));
    let question = format!("Roll out {} {} to {nodes} in {waves}?", plan.app, plan.version);
    match output::ask(&question)? {
        Some(true) => return Ok(true),
        Some(false) => output::note("Nothing was begun."),
        None => output::note("Nothing was begun: this is no terminal, so nobody can be asked; --yes begins it."),
    }
    Ok(false)
}

async fn list(client: &Client, json: bool) -> anyhow::Result<Outcome> {
    let all: Vec<RolloutView> = client.get("/v1/rollouts").await?;
    if json {
        output::json(&all)?;
    } else if all.is_empty() {
        output::line("no rollouts yet; `orangery rollout start` begins one")?;
    } else {
        let rows: Vec<_> = all.iter().map(row).collect();
        output::line(output::table(&["rollout", "release", "status", "waves", "nodes", "why"], &rows))?;
    }
    Ok(Outcome::Done)
}

fn row(view: &RolloutView) -> Vec<Word> {
    let open = view.waves.iter().filter(|wave| wave.opened_at.is_some()).count();
    let nodes = || view.waves.iter().flat_map(|wave| &wave.nodes);
    let proven = nodes().filter(|node| node.state == "soaked").count();
    vec![
        Word::plain(view.rollout.to_string()),
        Word::plain(format!("{}@{}", view.app, view.version)),
        status(view),
        Word::plain(format!("{open} of {} open", view.waves.len())),
        Word::plain(format!("{proven} of {} proven", nodes().count())),
        Word::plain(output::clean(&view.reason)),
    ]
}

fn status(view: &RolloutView) -> Word {
    let tone = match view.status.as_str() {
        "done" => Tone::Good,
        "paused" | "reverted" => Tone::Bad,
        "reverting" | "running" => Tone::Wait,
        _ => Tone::Plain,
    };
    Word::new(&view.status, tone)
}

async fn show(client: &Client, args: &ShowArgs) -> anyhow::Result<Outcome> {
    let path = format!("/v1/rollouts/{}", args.rollout);
    let mut view: RolloutView = client.get(&path).await?;
    if !args.watch {
        if args.json {
            output::json(&view)?;
        } else {
            output::line(text(&view))?;
        }
        return Ok(Outcome::Done);
    }
    let live = if args.json { Live::plain() } else { Live::new() };
    let mut before = String::new();
    loop {
        let now = if args.json { serde_json::to_string(&view)? } else { text(&view) };
        let has_ended = !matches!(view.status.as_str(), "running" | "reverting");
        if now != before && (live.is_plain() || has_ended) {
            live.say(&now)?;
        }
        live.show(&now);
        before = now;
        if has_ended {
            return Ok(if view.status == "done" { Outcome::Done } else { Outcome::Failed });
        }
        tokio::time::sleep(PAUSE).await;
        // A coordinator that is away for a moment is no reason to stop looking.
        if let Ok(newer) = client.get(&path).await {
            view = newer;
        }
    }
}

fn text(view: &RolloutView) -> String {
    let now = output::now();
    let note = view.begun.note.as_ref().map(|note| format!(": {note}")).unwrap_or_default();
    let begun = output::clean(&format!("{} by {}{note}", output::ago(view.begun.at, now), view.begun.by));
    let windows = view.ignores_windows.as_ref().map(|deed| {
        let note = deed.note.as_ref().map(|note| format!(": {note}")).unwrap_or_default();
        ("windows", Word::new(output::clean(&format!("ignored, by {}{note}", deed.by)), Tone::Bad))
    });
    let head = [
        ("rollout", Word::plain(format!("{} of {} {}", view.rollout, view.app, view.version))),
        ("status", status(view)),
        ("why", Word::plain(output::clean(&view.reason))),
        ("begun", Word::plain(begun)),
    ];
    let compared = view.compare.map(|limits| ("compared", Word::plain(String::from(Limits(limits)))));
    let head: Vec<Vec<Word>> =
        head.into_iter().chain(windows).chain(compared).map(|(name, word)| vec![Word::plain(name), word]).collect();
    let waves: Vec<_> = view.waves.iter().map(|wave| wave_row(wave, now)).collect();
    let waves = output::table(&["wave", "opened", "soak", "may fail", "gate", "nodes"], &waves);
    let log: Vec<String> = view
        .log
        .iter()
        .map(|entry| {
            let by = entry.by.as_ref().map(|by| format!(" ({by})")).unwrap_or_default();
            output::clean(&format!("{}  {:<13} {}{by}", output::moment(entry.at), entry.code, entry.text))
        })
        .collect();
    format!("{}\n\n{waves}\n\n{}\n\n{}", output::pairs(&head), nodes(view), log.join("\n"))
}

fn wave_row(wave: &WaveView, now: u64) -> Vec<Word> {
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    wave.nodes.iter().for_each(|node| *states.entry(&node.state).or_default() += 1);
    let states: Vec<String> = states.into_iter().map(|(state, count)| format!("{count} {state}")).collect();
    let gate = match (&wave.promoted, &wave.approved, wave.approve) {
        (Some(deed), ..) => format!("promoted by {}", deed.by),
        (_, Some(deed), _) => format!("approved by {}", deed.by),
        (.., true) => "needs approval".to_owned(),
        _ => String::new(),
    };
    let late = if wave.trailing { " (late)" } else { "" };
    vec![
        Word::plain(format!("{}{late}", wave.wave)),
        Word::plain(wave.opened_at.map_or_else(|| "not yet".to_owned(), |at| output::ago(at, now))),
        Word::plain(span(wave.soak_secs)),
        Word::plain(wave.failures.to_string()),
        Word::plain(output::clean(&gate)),
        Word::plain(states.join(", ")),
    ]
}

/// Each node that has not proven it yet, those that say most first; of many only some.
fn nodes(view: &RolloutView) -> String {
    let all = view.waves.iter().flat_map(|wave| wave.nodes.iter().map(move |node| (wave.wave, node)));
    let mut open: Vec<(u32, &RolloutNode)> =
        all.filter(|(_, node)| !matches!(node.state.as_str(), "soaked" | "back")).collect();
    open.sort_by_key(|(wave, node)| (node.state != "failed", *wave));
    let row = |(wave, node): &(u32, &RolloutNode)| {
        let tone = if matches!(node.state.as_str(), "failed" | "overdue") { Tone::Bad } else { Tone::Plain };
        vec![
            Word::plain(wave.to_string()),
            Word::plain(node.node.as_str()),
            Word::new(&node.state, tone),
            Word::plain(output::clean(&node.text)),
        ]
    };
    let rows: Vec<_> = open.iter().take(LISTED_MAX).map(row).collect();
    if rows.is_empty() {
        return "every node is through".to_owned();
    }
    let more = match open.len().saturating_sub(LISTED_MAX) {
        0 => String::new(),
        more => format!("\n... and {more} more; --json shows all"),
    };
    output::table(&["wave", "node", "state", "it"], &rows) + &more
}

async fn deed(client: &Client, deed: &str, args: &DeedArgs) -> anyhow::Result<Outcome> {
    let request = DeedRequest { note: args.note.clone() };
    let view: RolloutView = client.post(&format!("/v1/rollouts/{}/{deed}", args.rollout), &request).await?;
    if args.json {
        output::json(&view)?;
    } else {
        output::line(format!("Rollout {} is {}: {}.", view.rollout, view.status, output::clean(&view.reason)))?;
    }
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_of_names_are_cut() {
        let names: Vec<String> = (0..20).map(|k| format!("n{k}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(named(&["a", "b"]), "a, b");
        assert!(named(&names).ends_with("n11, ... (20)"));
    }
}
