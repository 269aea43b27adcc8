//! `orangery export`, `orangery plan` and `orangery apply`: the desired fleet as a directory.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::json;

use self::checkout::Checkout;
use super::Outcome;
use crate::client::Client;
use crate::fleet::{Desired, Plan};
use crate::home::Home;
use crate::output;

mod apply;
mod checkout;
mod files;
mod show;
mod survey;

/// `orangery export`
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The directory; it is made, or empty but for names that begin with a dot
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}

/// `orangery plan`
///
/// Exit codes: 0 there is nothing to do, 2 there are changes, 1 an error.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The directory
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `orangery apply`
///
/// Exit codes: 0 done, or nothing to do; 1 an error; 2 nobody agreed to the changes.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// The directory
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Only if the plan still has this digest, which `orangery plan` shows
    #[arg(long, value_name = "DIGEST")]
    pub plan: Option<String>,
    /// Apply the plan without asking
    #[arg(short, long)]
    pub yes: bool,
    /// Why
    #[arg(long)]
    pub note: Option<String>,
    /// Print JSON: the plan, then a line for each thing that is done
    #[arg(long)]
    pub json: bool,
}

/// Does what `orangery export` says.
pub async fn export(home: &Home, args: &ExportArgs) -> anyhow::Result<Outcome> {
    let client = Client::open(home)?;
    files::check_room(&args.directory)?;
    let world = survey::world(&client).await?;
    let files = crate::fleet::export(&world, Some(client.url()))?;
    files::write(&args.directory, &files)?;
    let (count, directory) = (files.len(), args.directory.display());
    output::line(format!("{directory}: {count} files written. `orangery plan {directory}` has nothing to do now."))?;
    Ok(Outcome::Done)
}

/// Does what `orangery plan` says.
pub async fn plan(home: &Home, args: &PlanArgs) -> anyhow::Result<Outcome> {
    let client = Client::open(home)?;
    let (_, checkout, plan) = make(&client, &args.directory).await?;
    tell(&plan, checkout.as_ref(), args.json)?;
    Ok(if plan.changes { Outcome::Pending } else { Outcome::Done })
}

/// Does what `orangery apply` says.
pub async fn apply(home: &Home, args: &ApplyArgs) -> anyhow::Result<Outcome> {
    let client = Client::open(home)?;
    let (desired, checkout, plan) = make(&client, &args.directory).await?;
    tell(&plan, checkout.as_ref(), args.json)?;
    let directory = args.directory.display();
    if let Some(shown) = args.plan.as_ref().filter(|shown| **shown != plan.digest) {
        let now = &plan.digest;
        bail!(
            "nothing was applied: the plan of {directory} is {now} now and not {shown}, for the directory or the fleet has \
             changed since; look at `orangery plan {directory}` and apply that one"
        );
    }
    if !plan.changes {
        return Ok(Outcome::Done);
    }
    if !args.yes {
        if !is_agreed(&plan)? {
            return Ok(Outcome::Pending);
        }
        // The answer was to what is on the screen, and that may be old by now.
        let again = survey::plan(&client, &desired).await?;
        if again.digest != plan.digest {
            bail!("nothing was applied: the fleet has changed since the plan was shown; apply it again");
        }
    }
    apply::apply(&client, &plan, args, checkout.as_ref()).await?;
    Ok(Outcome::Done)
}

async fn make(client: &Client, directory: &std::path::Path) -> anyhow::Result<(Desired, Option<Checkout>, Plan)> {
    let desired = files::read(directory)?;
    if let Some(coordinator) =
        desired.fleet.coordinator.as_ref().filter(|url| url.trim_end_matches('/') != client.url())
    {
        bail!("fleet.toml is for the coordinator {coordinator}, and the one here is {}: use its --dir", client.url());
    }
    let checkout = Checkout::of(directory);
    let failed = || format!("cannot plan what {} says", directory.display());
    let plan = survey::plan(client, &desired).await.with_context(failed)?;
    Ok((desired, checkout, plan))
}

fn tell(plan: &Plan, checkout: Option<&Checkout>, json: bool) -> std::io::Result<()> {
    if json {
        output::json_line(&json!({ "plan": plan, "checkout": checkout }))
    } else {
        output::line(show::text(plan, checkout))
    }
}

fn is_agreed(plan: &Plan) -> anyhow::Result<bool> {
    let answer = output::ask(&format!("Apply the plan {}?", plan.digest))?;
    match answer {
        Some(true) => {}
        Some(false) => output::note("Nothing was changed."),
        None => {
            output::note("Nothing was changed: this is no terminal, so nobody can be asked; --yes applies the plan.");
        }
    }
    Ok(answer == Some(true))
}
