//! `orangery repo export` and `orangery bundle`: releases for roads without a coordinator.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Outcome;
use super::args::ReleaseName;
use crate::client::Client;
use crate::copies::{self, Copies};
use crate::home::Home;
use crate::output;

/// `orangery repo`
#[derive(Debug, Subcommand)]
pub enum RepoCommand {
    /// Copy everything that nodes fetch into a directory, for any static web server or a USB stick
    ///
    /// Nodes install from it with `orangery-agent install APP@VERSION --from https://...` or `--from DIR`. It holds no
    /// secrets. The same command again brings it up to date; do so often, for it is valid only as long as its timestamp.
    Export {
        /// The directory; it is made if it is not there
        directory: PathBuf,
        /// Only these releases; all without
        #[arg(value_name = "APP@VERSION")]
        releases: Vec<ReleaseName>,
    },
}

/// `orangery bundle`
///
/// The file carries metadata, manifests and packs. A node installs it with `orangery-agent install FILE`, by the same rules
/// as from the coordinator: not after its metadata has expired, and not if the node has seen newer metadata.
#[derive(Debug, Args)]
pub struct BundleArgs {
    /// The releases
    #[arg(value_name = "APP@VERSION", required = true)]
    pub releases: Vec<ReleaseName>,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// Does what `orangery repo` says.
pub async fn run(home: &Home, command: RepoCommand) -> anyhow::Result<Outcome> {
    let RepoCommand::Export { directory, releases } = command;
    let (client, copies) = gather(home, releases).await?;
    let progress = output::progress("copying");
    let exported = copies::export(&client, &copies, &directory, &progress).await;
    progress.finish_and_clear();
    let exported = exported?;
    output::line(format!(
        "{}: {}; {} files written, {} were there already",
        directory.display(),
        say(&copies),
        exported.written,
        exported.kept
    ))?;
    Ok(Outcome::Done)
}

/// Does what `orangery bundle` says.
pub async fn bundle(home: &Home, args: BundleArgs) -> anyhow::Result<Outcome> {
    let (client, copies) = gather(home, args.releases).await?;
    let progress = output::progress("copying");
    let size_bytes = copies::bundle(&client, &copies, &args.out, &progress).await;
    progress.finish_and_clear();
    output::line(format!("{}: {}, {}", args.out.display(), say(&copies), output::size(size_bytes?)))?;
    Ok(Outcome::Done)
}

/// What is known of these releases, verified as a node would.
pub(super) async fn gather(home: &Home, releases: Vec<ReleaseName>) -> anyhow::Result<(Client, Copies)> {
    use anyhow::Context as _;
    let client = Client::open(home)?;
    let path = home.first_root();
    let root = std::fs::read(&path).with_context(|| {
        format!("cannot read the owner's first root {}; run this where `orangery init` ran", path.display())
    })?;
    let only: Vec<_> = releases.into_iter().map(|name| (name.app, name.version)).collect();
    let copies = copies::gather(&client, &root, &only, output::now()).await?;
    Ok((client, copies))
}

/// "2 releases, good until 2026-12-24T10:00:00Z"
fn say(copies: &Copies) -> String {
    let count = match copies.releases.len() {
        1 => "1 release".to_owned(),
        count => format!("{count} releases"),
    };
    format!("{count}, good until {}", output::moment(copies.expires))
}
