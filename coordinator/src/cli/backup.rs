//! `orangery backup` and `orangery restore`: on the coordinator's machine.

use std::path::PathBuf;

use clap::Args;

use super::Outcome;
use crate::backup::{self, Summary};
use crate::home::Home;
use crate::output;

/// `orangery backup`
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The file to write; it must not be there. It will hold secret keys
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Leave out what releases consist of; the owner can push it again
    #[arg(long)]
    without_artifacts: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// `orangery restore`
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// What `orangery backup` wrote
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn backup(home: &Home, args: &BackupArgs) -> anyhow::Result<Outcome> {
    let plan = backup::plan(&home.coordinator_settings(), !args.without_artifacts)?;
    let progress = output::progress("copying");
    progress.set_length(plan.bytes);
    let summary = plan.write(&args.out, &|bytes| progress.inc(bytes))?;
    progress.finish_and_clear();
    if args.json {
        output::json(&summary)?;
    } else {
        output::line(format!("{} holds {}.", args.out.display(), contents(&summary)))?;
        output::note("it holds the coordinator's secret keys: keep it as you keep those");
    }
    Ok(Outcome::Done)
}

pub fn restore(home: &Home, args: &RestoreArgs) -> anyhow::Result<Outcome> {
    let progress = output::progress("restoring");
    progress.set_length(std::fs::metadata(&args.file).map_or(0, |found| found.len()));
    let summary = backup::restore(home, &args.file, &|bytes| progress.inc(bytes))?;
    progress.finish_and_clear();
    if args.json {
        output::json(&summary)?;
        return Ok(Outcome::Done);
    }
    let made = output::moment(summary.head.made_at);
    output::line(format!("{} is as it was at {made}: {}.", home.coordinator().display(), contents(&summary)))?;
    output::line(
        "\nLost is what happened since. Invites do not hold any more, nor do passwords and tokens of users but the owner's token. Nodes that were revoked since have to be revoked again.\n\nNext:\n  \
         orangery serve               nodes come back by themselves, and say what they run\n  \
         orangery release push FILE   on the owner's machine, for each release that was published since",
    )?;
    if !summary.head.artifacts {
        output::line("  orangery release push FILE   and for all others: their artifacts are not in this backup")?;
    }
    Ok(Outcome::Done)
}

fn contents(summary: &Summary) -> String {
    let artifacts = if summary.head.artifacts { "" } else { ", without artifacts" };
    format!("{} files, {}{artifacts}", summary.files, output::size(summary.bytes))
}
