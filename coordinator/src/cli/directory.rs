//! `orangery export`, `orangery plan` and `orangery apply`: the desired fleet as a directory.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::json;

use self::apply::{AGAIN_MAX, How, MADE_AGAIN, is_overtaken};
use self::checkout::Checkout;
use self::source::Source;
use self::watch::WatchArgs;
use super::Outcome;
use crate::client::Client;
use crate::fleet::{Desired, Plan};
use crate::home::Home;
use crate::output;

mod apply;
mod checkout;
mod commit;
mod files;
mod git;
mod show;
mod source;
mod survey;
mod watch;

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
    /// Take the files of this commit instead of those on the disk; DIR is in a git checkout, or a bare repository
    #[arg(long, value_name = "COMMIT")]
    pub commit: Option<String>,
    /// Where the directory is in the commit [default: where DIR is in its checkout]
    #[arg(long, value_name = "PATH", requires = "commit")]
    pub path: Option<String>,
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
    /// Take the files of this commit instead of those on the disk; DIR is in a git checkout, or a bare repository
    #[arg(long, value_name = "COMMIT")]
    pub commit: Option<String>,
    /// Where the directory is in a commit [default: where DIR is in its checkout]
    #[arg(long, value_name = "PATH")]
    pub path: Option<String>,
    /// Only if the plan still has this digest, which `orangery plan` shows
    #[arg(long, value_name = "DIGEST")]
    pub plan: Option<String>,
    /// Apply the plan without asking; if the fleet overtakes it, it is made and applied again
    #[arg(short, long)]
    pub yes: bool,
    /// Why
    #[arg(long)]
    pub note: Option<String>,
    /// Print JSON: the plan, then a line for each thing that is done; the plan again if it is made again
    #[arg(long)]
    pub json: bool,
    /// How it is followed
    #[command(flatten)]
    pub watch: WatchArgs,
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
    let from = (args.commit.as_deref(), args.path.as_deref());
    let (_, checkout, plan) = make(&client, &args.directory, from).await?;
    tell(&plan, checkout.as_ref(), args.json)?;
    Ok(if plan.changes { Outcome::Pending } else { Outcome::Done })
}

/// Does what `orangery apply` says.
pub async fn apply(home: &Home, args: &ApplyArgs) -> anyhow::Result<Outcome> {
    if args.watch.watch {
        return watch::watch(home, args).await;
    }
    if args.path.is_some() && args.commit.is_none() {
        bail!("--path says where the directory is in a commit: it needs --commit or --watch");
    }
    let client = Client::open(home)?;
    let from = (args.commit.as_deref(), args.path.as_deref());
    let (desired, checkout, mut plan) = make(&client, &args.directory, from).await?;
    tell(&plan, checkout.as_ref(), args.json)?;
    let directory = args.directory.display();
    if let Some(shown) = args.plan.as_ref().filter(|shown| **shown != plan.digest) {
        let now = &plan.digest;
        bail!(
            "nothing was applied: the plan of {directory} is {now} now and not {shown}, for the directory or the fleet has \
             changed since; look at `orangery plan {directory}` and apply that one"
        );
    }
    if plan.changes && !args.yes {
        if !is_agreed(&plan)? {
            return Ok(Outcome::Pending);
        }
        // The answer was to what is on the screen, and that may be old by now.
        let again = survey::plan(&client, &desired).await?;
        if again.digest != plan.digest {
            bail!("nothing was applied: the fleet has changed since the plan was shown; apply it again");
        }
    }
    let mut again = if args.yes && args.plan.is_none() { AGAIN_MAX } else { 0 };
    while plan.changes {
        match apply::apply(&client, &plan, &how(args, checkout.as_ref())).await {
            Err(error) if again > 0 && is_overtaken(&error) => again -= 1,
            done => return done.map(|()| Outcome::Done),
        }
        output::note(MADE_AGAIN);
        plan = survey::plan(&client, &desired).await?;
        tell(&plan, checkout.as_ref(), args.json)?;
    }
    Ok(Outcome::Done)
}

fn how<'a>(args: &'a ApplyArgs, checkout: Option<&'a Checkout>) -> How<'a> {
    How {
        place: args.directory.display().to_string(),
        note: args.note.as_deref(),
        origin: checkout.map(Checkout::text),
        commit: checkout.map(|checkout| checkout.commit.as_str()),
        json: args.json,
    }
}

/// Reads a directory, from the disk or from a commit (its name, and where the directory is in it), and plans it.
async fn make(
    client: &Client,
    directory: &Path,
    (commit, path): (Option<&str>, Option<&str>),
) -> anyhow::Result<(Desired, Option<Checkout>, Plan)> {
    let (desired, checkout) = match commit {
        None => (files::read(directory)?, Checkout::of(directory)),
        Some(commit) => {
            let source = Source::here(directory, path, None).await?.at_commit(commit)?;
            let seen = source.look().await?;
            (source.read(&seen).await?, Some(Checkout { commit: seen.commit, dirty: false }))
        }
    };
    check_coordinator(&desired, client)?;
    let failed = || format!("cannot plan what {} says", directory.display());
    let plan = survey::plan(client, &desired).await.with_context(failed)?;
    Ok((desired, checkout, plan))
}

fn check_coordinator(desired: &Desired, client: &Client) -> anyhow::Result<()> {
    match &desired.fleet.coordinator {
        Some(url) if url.trim_end_matches('/') != client.url() => {
            bail!("fleet.toml is for the coordinator {url}, and the one here is {}: use its --dir", client.url())
        }
        _ => Ok(()),
    }
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
