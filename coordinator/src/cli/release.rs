//! `orangery release`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use orangery_trust::repository::role_of;
use orangery_wire::Version;
use orangery_wire::manifest::Entry;
use orangery_wire::rest::ReleaseView;
use serde_json::json;

use super::args::{BuildArgs, ReleaseCommand, ReleaseName};
use super::{Outcome, keys};
use crate::client::{Client, MetadataError};
use crate::home::Home;
use crate::output::{self, Tone, Word};
use crate::owner::{self, Adopted, Owner, Passphrases, Signed};
use crate::release::build::{self, Plan};
use crate::release::bundle::Bundle;
use crate::release::{push, verify};

pub async fn run(home: &Home, command: ReleaseCommand, passphrases: &Passphrases) -> anyhow::Result<Outcome> {
    match command {
        ReleaseCommand::Build(args) => {
            let bundle = build_bundle(&args, &out_of(&args))?;
            output::line(format!("{}: {}", bundle.path().display(), summary(&bundle)))?;
        }
        ReleaseCommand::Sign { file, floor } => {
            let mut bundle = Bundle::open(&file)?;
            let client = Client::open(home).ok();
            let signed = sign_bundle(home, client.as_ref(), &mut bundle, floor, passphrases).await?;
            output::line(format!("{}: {}", file.display(), say_signed(&signed)))?;
        }
        ReleaseCommand::Push { file } => {
            let (client, bundle) = (Client::open(home)?, Bundle::open(&file)?);
            push_bundle(home, &client, &bundle).await?;
        }
        ReleaseCommand::Publish { build, floor } => publish(home, &build, floor, passphrases).await?,
        ReleaseCommand::Revoke { release } => revoke(home, &release, passphrases).await?,
        ReleaseCommand::List { json } => {
            let releases: Vec<ReleaseView> = Client::open(home)?.get("/v1/releases").await?;
            if json { output::json(&releases)? } else { output::line(list(&releases))? }
        }
        ReleaseCommand::Show { release, json } => {
            let path = format!("/v1/releases/{}/{}", release.app, release.version);
            let release: ReleaseView = Client::open(home)?.get(&path).await?;
            if json { output::json(&release)? } else { output::line(show(&release))? }
        }
        ReleaseCommand::Verify { file, json } => verify_file(home, &file, json)?,
    }
    Ok(Outcome::Done)
}

fn out_of(args: &BuildArgs) -> PathBuf {
    args.out.clone().unwrap_or_else(|| format!("{}-{}.orangery", args.app, args.version).into())
}

fn build_bundle(args: &BuildArgs, out: &Path) -> anyhow::Result<Bundle> {
    let mut platforms = BTreeMap::new();
    for platform in &args.platforms {
        if platforms.insert(platform.name.clone(), platform.directory.clone()).is_some() {
            bail!("the platform {} is named twice", platform.name);
        }
    }
    let plan = Plan {
        app: args.app.clone(),
        version: args.version.clone(),
        recipe: &args.manifest,
        platforms: &platforms,
        out,
        level: args.level,
    };
    let progress = output::progress("packing");
    let bundle = build::build(&plan, &progress);
    progress.finish_and_clear();
    Ok(bundle?)
}

/// Builds, signs and pushes. Without `--out` the release file is gone afterwards.
async fn publish(
    home: &Home,
    args: &BuildArgs,
    floor: Option<Version>,
    passphrases: &Passphrases,
) -> anyhow::Result<()> {
    let client = Client::open(home)?;
    let kept = args.out.clone();
    let temporary = tempfile::tempdir().context("cannot make a temporary directory")?;
    let out = kept.unwrap_or_else(|| temporary.path().join("release.orangery"));
    let mut bundle = build_bundle(args, &out)?;
    output::note(summary(&bundle));
    publish_bundle(home, &client, &mut bundle, floor, passphrases).await
}

/// Signs and pushes.
pub async fn publish_bundle(
    home: &Home,
    client: &Client,
    bundle: &mut Bundle,
    floor: Option<Version>,
    passphrases: &Passphrases,
) -> anyhow::Result<()> {
    let signed = sign_bundle(home, Some(client), bundle, floor, passphrases).await?;
    output::note(say_signed(&signed));
    push_bundle(home, client, bundle).await
}

/// Signs a release on top of the newest targets: those of the coordinator, if it can be reached and has newer ones.
/// `floor` is the oldest version of the app that nodes may be given from now on.
pub async fn sign_bundle(
    home: &Home,
    client: Option<&Client>,
    bundle: &mut Bundle,
    floor: Option<Version>,
    passphrases: &Passphrases,
) -> anyhow::Result<Signed> {
    if let Some(client) = client
        && let Err(error) = keys::follow_roots(home, client).await
    {
        tracing::debug!(reason = %error, "roots were not followed");
    }
    let (root, now) = (owner::latest_root(home)?, output::now());
    let newest = match client {
        Some(client) => client.newest_targets(&root, now).await,
        None => Ok(None),
    };
    let newest = match newest {
        Ok(newest) => newest,
        Err(MetadataError::Client(error)) if error.is_silence() => {
            output::note("the coordinator cannot be reached: signing on top of what was signed on this machine");
            None
        }
        Err(error) => {
            let error = anyhow::Error::new(error);
            output::note(format!("what the coordinator has is left aside: {error:#}"));
            None
        }
    };
    let (app, version) = (&bundle.manifest().app, &bundle.manifest().version);
    let signer = owner::signer_of(home, newest.as_deref(), app, version)?;
    let (owner, newest) = match signer {
        None => (Owner::open(home, passphrases)?, newest),
        Some((role, targets)) => open_role(home, client, &role, &targets, passphrases).await?,
    };
    if let Some(newest) = newest
        && let Adopted::Theirs { lost } = owner.adopt(&newest)?
    {
        output::note("the owner has signed on another machine since: signing on top of that");
        for release in lost {
            output::note(format!("{release} was signed here and never published: sign its file again"));
        }
    }
    Ok(owner.sign(bundle, floor, now)?)
}

/// Opens the directory to sign as a delegated role, and fetches what is published of it.
async fn open_role(
    home: &Home,
    client: Option<&Client>,
    role: &str,
    targets: &[u8],
    passphrases: &Passphrases,
) -> anyhow::Result<(Owner, Option<Vec<u8>>)> {
    let published = match client {
        Some(client) => client.role(role).await.unwrap_or_default(),
        None => None,
    };
    let (seen, metadata) = published.unzip();
    Ok((Owner::open_role(home, targets, role, seen.unwrap_or(0), passphrases)?, metadata))
}

/// Takes a release back, here and at the coordinator. The same again changes nothing. What a delegated role signs its own key
/// takes back, or, where that is not here, the owner's.
async fn revoke(home: &Home, release: &ReleaseName, passphrases: &Passphrases) -> anyhow::Result<()> {
    let (client, now) = (Client::open(home)?, output::now());
    keys::follow_roots(home, &client).await?;
    let newest = client.unverified_targets().await?;
    let owner = match owner::signer_of(home, newest.as_deref(), &release.app, &release.version)? {
        None => None,
        Some((role, targets)) => match open_role(home, Some(&client), &role, &targets, passphrases).await {
            Ok((owner, published)) => {
                published.map_or(Ok(Adopted::Nothing), |published| owner.adopt(&published))?;
                Some(owner)
            }
            Err(error) if home.targets_key().exists() => {
                output::note(format!("taking it back as the owner: {error:#}"));
                None
            }
            Err(error) => return Err(error),
        },
    };
    let owner = if let Some(owner) = owner {
        owner
    } else {
        let owner = Owner::open(home, passphrases)?;
        keys::adopt(&owner, &client).await?;
        owner
    };
    let targets = owner.revoke(&release.app, &release.version, now)?;
    client.set_trust(None, Some(&targets)).await.context("the coordinator does not take the revocation")?;
    output::line(format!(
        "{release} is revoked for good. Nodes that do not have it refuse it; those that run it go on and say so: deploy \
         another version to them."
    ))?;
    Ok(())
}

async fn push_bundle(home: &Home, client: &Client, bundle: &Bundle) -> anyhow::Result<()> {
    let root = owner::latest_root(home)?;
    let progress = output::progress("uploading");
    let pushed = push::push(client, &root, bundle, &progress).await;
    progress.finish_and_clear();
    let release = pushed?;
    output::line(format!("{} {} is published, with the id {}.", release.app, release.version, release.id))?;
    Ok(())
}

fn say_signed(signed: &Signed) -> String {
    let what = if signed.is_new { "signed" } else { "was signed before" };
    let whose = signed.role.as_deref().map_or(String::new(), |role| format!(" by {role}"));
    format!(
        "{what}{whose}, in version {} of the targets, until {}",
        signed.targets_version,
        output::moment(signed.expires)
    )
}

fn summary(bundle: &Bundle) -> String {
    let manifest = bundle.manifest();
    let platforms: Vec<String> = manifest
        .platforms
        .iter()
        .map(|(name, tree)| {
            format!("{name} {} packed to {}", output::size(tree.size_bytes), output::size(tree.pack.size_bytes))
        })
        .collect();
    format!("{} {}, {}, id {}", manifest.app, manifest.version, platforms.join(", "), bundle.id())
}

fn list(releases: &[ReleaseView]) -> String {
    if releases.is_empty() {
        return "nothing was published yet; `orangery release publish` does that".to_owned();
    }
    let now = output::now();
    let row = |release: &ReleaseView| {
        vec![
            Word::plain(release.app.as_str()),
            match withdrawn(release) {
                Some(why) => Word::new(format!("{} {why}", release.version), Tone::Bad),
                None => Word::plain(release.version.to_string()),
            },
            Word::plain(release.id.short()),
            Word::plain(release.platforms.join(" ")),
            Word::plain(output::ago(release.published_at, now)),
            Word::plain(release.notes.as_deref().unwrap_or("")),
        ]
    };
    let rows: Vec<_> = releases.iter().map(row).collect();
    output::table(&["app", "version", "id", "platforms", "published", "notes"], &rows)
}

/// Why no node would install it any more.
fn withdrawn(release: &ReleaseView) -> Option<&str> {
    match release.withdrawn.as_deref()? {
        "release_revoked" => Some("revoked"),
        "below_floor" => Some("below the floor"),
        other => Some(other),
    }
}

fn show(release: &ReleaseView) -> String {
    let rows = [
        ("app", release.app.to_string()),
        ("version", release.version.to_string()),
        ("id", release.id.to_string()),
        ("platforms", release.platforms.join(" ")),
        ("published", output::moment(release.published_at)),
        ("notes", release.notes.clone().unwrap_or_default()),
        ("deployable", withdrawn(release).map_or_else(|| "yes".to_owned(), |why| format!("no: {why}"))),
    ];
    output::pairs(&rows.map(|(name, value)| vec![Word::plain(name), Word::plain(value)]))
}

/// All checks that a node makes, and none of them needs a network.
fn verify_file(home: &Home, file: &Path, json: bool) -> anyhow::Result<()> {
    let bundle = Bundle::open(file)?;
    let progress = output::progress("verifying");
    let contents = verify::contents(&bundle, &progress);
    progress.finish_and_clear();
    contents?;
    let (manifest, path) = (bundle.manifest(), file.display());
    let targets = bundle.targets();
    let targets = targets.with_context(|| format!("{path} is not signed; run `orangery release sign {path}`"))?;
    let unsigned = || format!("the signature in {path} does not hold; run `orangery release sign {path}`");
    let verified = owner::verify_signed(home, targets, output::now()).with_context(unsigned)?;
    let release = verified.release(&manifest.app, &manifest.version).with_context(unsigned)?;
    if release.id != bundle.id() {
        bail!("{path} was changed after it was signed: its id is {}, signed is {}", bundle.id(), release.id);
    }
    if json {
        output::json(&json!({
            "app": manifest.app, "version": manifest.version, "id": bundle.id(),
            "platforms": manifest.platforms.keys().collect::<Vec<_>>(),
            "targets_version": verified.version, "expires": verified.expires,
        }))?;
        return Ok(());
    }
    output::line(format!("{path}: {}", summary(&bundle)))?;
    output::line(format!(
        "signed by {}, in version {} of the targets, until {}",
        role_of(targets).as_deref().unwrap_or("the owner"),
        verified.version,
        output::moment(verified.expires)
    ))?;
    for (platform, tree) in &manifest.platforms {
        let files = tree.entries.iter().filter(|entry| matches!(entry, Entry::File { .. })).count();
        output::line(format!("{platform}: {files} files, every one as signed"))?;
    }
    Ok(())
}
