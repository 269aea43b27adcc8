//! `orangery keys recover`: a new owner's directory, with the recovery key.

use std::path::Path;

use anyhow::{Context as _, bail};
use orangery_wire::UnixTime;

use super::args::RecoverArgs;
use super::{carry, read_keys, write_client};
use crate::cli::Outcome;
use crate::client::Client;
use crate::home::Home;
use crate::output;
use crate::owner::{KeyFile, Lost, OwnerLock, Passphrases, Staged, begin_recovery};

const DEED: &str = "recover";

pub async fn run(home: &Home, args: &RecoverArgs, passphrases: &Passphrases, now: UnixTime) -> anyhow::Result<Outcome> {
    let keys = read_keys(&args.keys)?;
    if let (Some(url), Some(ca), Some(token)) = (&args.url, &args.ca, &args.token_file) {
        let read = |path: &Path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        let token = String::from_utf8(read(token)?).context("the operator's token is no text")?;
        write_client(home, url, &read(ca)?, &token)
            .with_context(|| format!("cannot write {}", home.root().display()))?;
    }
    let client = args.url.is_some().then(|| Client::open(home)).transpose()?;
    let staged = match staged(home)? {
        Some(staged) if staged.deed() == DEED => staged,
        Some(staged) => bail!("another change of keys is staged here: {}", staged.deed()),
        None => {
            if home.targets_key().exists() {
                bail!("{} has keys already; to recover begin with an empty --dir", home.owner().display());
            }
            let lost = match &client {
                Some(client) => ask(client, &first_root(args, &keys)?).await?,
                None => read(args)?,
            };
            let seal = args.seal.choose(passphrases)?;
            begin_recovery(home, &lost, &keys, &args.lost, DEED, now)?.stage(home, &seal)?
        }
    };
    let _lock = OwnerLock::take(home)?;
    let outcome = carry::carry(home, client.as_ref(), staged, &keys, false, passphrases).await?;
    output::line(
        "\nIf the lost machine may be in other hands: whoever has its operator's token can still choose among your releases. \
         Run\n`orangery keys operator-token` on the coordinator's machine.",
    )?;
    Ok(outcome)
}

fn staged(home: &Home) -> anyhow::Result<Option<Staged>> {
    if !home.staged().exists() {
        return Ok(None);
    }
    Ok(Staged::load(home)?)
}

/// Without it a coordinator in wrong hands could show a chain of its own, and have it signed with the recovery key.
fn first_root(args: &RecoverArgs, keys: &[KeyFile]) -> anyhow::Result<Vec<u8>> {
    let beside = || keys.first().map(|key| key.path().with_file_name("1.root.json"));
    let path = args.first_root.clone().or_else(beside).unwrap_or_default();
    std::fs::read(&path).with_context(|| {
        format!(
            "cannot read the first root {}; it belongs beside the recovery key, and every node has it as `trust/1.root.json` in its state \
             directory: name it with --first-root",
            path.display()
        )
    })
}

async fn ask(client: &Client, first: &[u8]) -> anyhow::Result<Lost> {
    if client.first_root().await?.as_deref() != Some(first) {
        bail!(
            "the coordinator's first root is not the one that was kept: it is not this fleet's, or not to be trusted"
        );
    }
    let mut roots = vec![first.to_vec()];
    roots.extend(client.roots_after(first).await?);
    Ok(Lost { roots, targets: client.unverified_targets().await? })
}

/// The same from a directory: the coordinator's `metadata`, an exported repository, or any copy.
fn read(args: &RecoverArgs) -> anyhow::Result<Lost> {
    let directory = args.metadata.as_deref().context("name the coordinator with --url, or a copy with --metadata")?;
    let file = |name: &str| std::fs::read(directory.join(name)).ok();
    let roots: Vec<_> = (1_u32..).map_while(|version| file(&format!("{version}.root.json"))).collect();
    if let Some(path) = &args.first_root
        && roots.first() != std::fs::read(path).ok().as_ref()
    {
        bail!("{} does not begin with the first root that was kept", directory.display());
    }
    let newest = std::fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let newest = newest.flatten().filter_map(|entry| {
        let version = entry.file_name().to_str()?.strip_suffix(".targets.json")?.parse::<u64>().ok()?;
        Some((version, entry.path()))
    });
    let targets = newest.max().map(|(_, path)| std::fs::read(path)).transpose()?.or_else(|| file("targets.json"));
    Ok(Lost { roots, targets })
}
