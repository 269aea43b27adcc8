//! `orangery deploy`: plan, question, apply, follow.

use anyhow::Context as _;
use orangery_wire::rest::{DeedRequest, DeployRequest, Plan, PlanStep};
use serde_json::json;

use super::Outcome;
use super::args::DeployArgs;
use super::follow::{Ending, Follow, How};
use super::say::{is_news, sentence};
use crate::client::Client;
use crate::home::Home;
use crate::output::{self, Tone, Word};
use crate::rollout::counted;

pub async fn run(home: &Home, args: DeployArgs) -> anyhow::Result<Outcome> {
    let client = Client::open(home)?;
    let (app, version) = (args.release.app.clone(), Some(args.release.version.clone()));
    let request = DeployRequest {
        app,
        version,
        to: args.to.0.clone(),
        plan: None,
        deed: DeedRequest { note: args.note.clone() },
    };
    let failed = || format!("cannot deploy {} to {}", args.release, args.to.0);
    let plan: Plan = client.ask("/v1/deployments/plan", &request).await.with_context(failed)?;
    show_plan(&plan, args.json)?;
    if !plan.steps.iter().any(|step| step.changes) {
        return nothing_to_change(&plan, &args);
    }
    if !args.yes && !is_agreed(&plan)? {
        return Ok(Outcome::Pending);
    }
    // Whoever looked at the plan gets that plan or none; `--yes` takes it as it has become.
    let request = DeployRequest { plan: (!args.yes).then_some(plan.mark), ..request };
    let (mut follow, applied) = Follow::apply(&client, &request).await.with_context(failed)?;
    if args.detach {
        output::note("The nodes are told. `orangery status` shows how far they are.");
        return Ok(Outcome::Done);
    }
    let endings = follow
        .until_settled(&applied, args.timeout, |event| {
            if args.json {
                return output::json_line(&json!({ "event": event }));
            }
            if !is_news(&event.event) {
                return Ok(());
            }
            output::line(format!("{:<12} {}", event.event.node, sentence(&event.event)))
        })
        .await?;
    tell(&endings, &args)
}

fn show_plan(plan: &Plan, json: bool) -> std::io::Result<()> {
    if json {
        return output::json_line(&json!({ "plan": plan }));
    }
    let version = |version: Option<&orangery_wire::Version>| {
        Word::plain(version.map_or_else(|| "nothing".to_owned(), ToString::to_string))
    };
    let row = |step: &PlanStep| {
        vec![Word::plain(step.node.as_str()), version(step.now.as_ref()), version(step.then.as_ref()), remark(step)]
    };
    let rows: Vec<_> = plan.steps.iter().map(row).collect();
    output::line(output::table(&["node", "now", "then", "remark"], &rows))
}

fn remark(step: &PlanStep) -> Word {
    match (&step.warning, step.changes, step.online) {
        (Some(warning), ..) => Word::new(warning, Tone::Bad),
        (None, false, _) if step.now == step.then => Word::plain("no change"),
        (None, false, false) => Word::new("told already; offline", Tone::Wait),
        (None, false, true) => Word::new("told already", Tone::Wait),
        (None, true, false) => Word::new("offline: takes it when it is back", Tone::Wait),
        (None, true, true) => Word::plain(""),
    }
}

/// Being told to run what already runs changes nothing. What was told before and is not there yet is no success.
fn nothing_to_change(plan: &Plan, args: &DeployArgs) -> anyhow::Result<Outcome> {
    let pending: Vec<&str> =
        plan.steps.iter().filter(|step| step.now != step.then).map(|step| step.node.as_str()).collect();
    if pending.is_empty() {
        if !args.json {
            output::line("Nothing to change.")?;
        }
        return Ok(Outcome::Done);
    }
    output::note(format!(
        "Nothing to change: {} told this already and not there yet; `orangery why NODE` says why.",
        match pending.as_slice() {
            [one] => format!("{one} was"),
            many => format!("{} were", many.join(", ")),
        }
    ));
    Ok(Outcome::Pending)
}

fn is_agreed(plan: &Plan) -> anyhow::Result<bool> {
    let count = plan.steps.iter().filter(|step| step.changes).count();
    let nodes = counted(count, "node");
    match output::ask(&format!("Change {nodes}?"))? {
        Some(true) => Ok(true),
        Some(false) => {
            output::note("Nothing was changed.");
            Ok(false)
        }
        None => {
            output::note("Nothing was changed: this is no terminal, so nobody can be asked; --yes applies the plan.");
            Ok(false)
        }
    }
}

/// Exit code 1 if a node refused, 2 if one is not there yet.
fn tell(endings: &[Ending], args: &DeployArgs) -> anyhow::Result<Outcome> {
    if args.json {
        output::json_line(&json!({ "endings": endings }))?;
    }
    let mut outcome = Outcome::Done;
    for Ending { node, how } in endings {
        let text = match how {
            How::Runs => continue,
            How::Refused { refusal } => format!("{node} refused it: {} [{}]", refusal.reason, refusal.code),
            How::Revoked => format!("{node} was revoked meanwhile"),
            How::Superseded => format!("{node} was told something newer meanwhile; `orangery status` shows what"),
            How::Offline => format!("{node} is offline; it takes the release when it is back"),
            How::TimedOut => format!("{node} is not there yet; `orangery why {node}` says why, --timeout waits longer"),
        };
        output::note(output::clean(&text));
        let is_pending = matches!(how, How::Offline | How::TimedOut);
        outcome = if is_pending && outcome != Outcome::Failed { Outcome::Pending } else { Outcome::Failed };
    }
    let there = endings.iter().filter(|ending| ending.how == How::Runs).count();
    if !args.json {
        output::line(format!("{there} of {} changed nodes run {}.", endings.len(), args.release))?;
    }
    Ok(outcome)
}
