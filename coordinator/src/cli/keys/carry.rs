//! A change of keys, carried as far as it goes: signed with what is here, published if that is enough.

use std::path::Path;

use anyhow::{Context as _, bail};
use orangery_trust::repository::{Draft, verify_root};
use orangery_wire::UnixTime;

use super::show;
use crate::cli::Outcome;
use crate::client::{Client, ClientError};
use crate::home::Home;
use crate::output;
use crate::owner::{self, KeyFile, Owner, OwnerLock, Passphrases, Staged};

/// Takes over roots that were published from elsewhere. Without a coordinator everything but publishing goes on.
pub async fn catch_up(home: &Home) -> Option<Client> {
    let client = Client::open(home).ok()?;
    match follow_roots(home, &client).await {
        Ok(()) => Some(client),
        Err(error) => {
            output::note(format!("going on without the coordinator: {error:#}"));
            None
        }
    }
}

/// The roots that the coordinator has beyond ours.
pub async fn follow_roots(home: &Home, client: &Client) -> anyhow::Result<()> {
    let newer = client.roots_after(&owner::latest_root(home)?).await?;
    if !newer.is_empty() {
        let _lock = OwnerLock::take(home)?;
        owner::follow_roots(home, &newer)?;
    }
    Ok(())
}

/// Signs, says what is missing, or publishes.
pub async fn carry(
    home: &Home,
    client: Option<&Client>,
    mut staged: Staged,
    others: &[KeyFile],
    only_stage: bool,
    passphrases: &Passphrases,
) -> anyhow::Result<Outcome> {
    staged.sign(others, passphrases)?;
    if only_stage {
        return say_standing(home, &staged).map(|_| Outcome::Done);
    }
    if staged.missing()?.is_some() {
        return say_standing(home, &staged);
    }
    let Some(client) = client else {
        output::line("It is signed and waits: run `orangery keys publish` once the coordinator can be reached.")?;
        return Ok(Outcome::Pending);
    };
    send(home, client, staged, passphrases, output::now()).await
}

/// What is missing before a change can be published, and how to get it.
pub fn say_standing(home: &Home, staged: &Staged) -> anyhow::Result<Outcome> {
    show::draft(home, staged.draft())?;
    match staged.missing()? {
        None => output::line("It has all signatures. Next: `orangery keys publish`")?,
        Some(missing) => output::line(format!(
            "Signatures missing: {}. Any of these keys can sign: {}\n\
             Next: `orangery keys sign --key FILE` if a key is on a stick here; or take {} to where a key is, run\n\
             `orangery keys sign root.json --key FILE` there, and bring it back to `orangery keys publish --signed root.json`",
            missing.of_present.max(missing.of_new),
            missing.by.join(", "),
            staged.file().display()
        ))?,
    }
    Ok(Outcome::Pending)
}

/// `keys publish`
pub async fn publish(
    home: &Home,
    signed: Option<&Path>,
    passphrases: &Passphrases,
    now: UnixTime,
) -> anyhow::Result<Outcome> {
    let client = Client::open(home)?;
    follow_roots(home, &client).await?;
    let _lock = OwnerLock::take(home)?;
    let Some(mut staged) = Staged::load(home)? else {
        output::line("Nothing is staged.")?;
        return show::after(home).map(|()| Outcome::Done);
    };
    if let Some(path) = signed {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let draft = Draft::read(&bytes).with_context(|| format!("{} is no staged root", path.display()))?;
        if !staged.merge(&draft)? {
            bail!("{} is not the root that is staged here ({})", path.display(), staged.deed());
        }
    }
    if staged.missing()?.is_some() {
        staged.sign(&[], passphrases)?;
    }
    if staged.missing()?.is_some() {
        return say_standing(home, &staged);
    }
    send(home, &client, staged, passphrases, now).await
}

/// The coordinator takes it, and then it holds here too. Sending the same again changes nothing.
async fn send(
    home: &Home,
    client: &Client,
    staged: Staged,
    passphrases: &Passphrases,
    now: UnixTime,
) -> anyhow::Result<Outcome> {
    let newest = client.unverified_targets().await?;
    let targets = staged.targets(newest.as_deref(), passphrases, now)?;
    staged.mark_sent()?;
    let targets = targets.filter(|_| newest.is_some());
    let taken = client.set_trust(Some(staged.draft().bytes()), targets.as_deref()).await;
    if let Err(ClientError::Refused { status: 422, .. }) = &taken {
        staged.mark_refused()?;
    }
    let taken = taken.context("the coordinator does not take the new root")?;
    let deed = staged.deed().to_owned();
    staged.complete()?;
    output::line(format!("Done: {deed}. Root {} holds; nodes follow it when they look next.", taken.root))?;
    show::after(home)?;
    Ok(Outcome::Done)
}

/// `keys abort`
pub async fn abort(home: &Home) -> anyhow::Result<Outcome> {
    let _lock = OwnerLock::take(home)?;
    let Some(staged) = Staged::load(home)? else {
        output::line("Nothing is staged.")?;
        return Ok(Outcome::Done);
    };
    // Once it was sent only the coordinator can say that it was not taken.
    let is_unknown = staged.is_sent() && {
        let before = verify_root(&owner::latest_root(home)?).context("the root here is damaged")?;
        Client::open(home)?.trust().await?.root == before.version
    };
    let deed = staged.deed().to_owned();
    staged.abort(is_unknown)?;
    output::line(format!("Dropped: {deed}. Nothing has changed."))?;
    Ok(Outcome::Done)
}

/// Signs the releases again for a full term.
pub async fn renew_targets(home: &Home, passphrases: &Passphrases, now: UnixTime) -> anyhow::Result<()> {
    let client = Client::open(home)?;
    follow_roots(home, &client).await?;
    let owner = Owner::open(home, passphrases)?;
    adopt(&owner, &client).await?;
    let Some(targets) = owner.renew(now)? else { return Ok(()) };
    client.set_trust(None, Some(&targets)).await.context("the coordinator does not take the targets")?;
    Ok(())
}

/// Goes on from the coordinator's newest targets. Expired ones too: they are what the next must follow.
pub async fn adopt(owner: &Owner, client: &Client) -> anyhow::Result<()> {
    if let Some(targets) = client.unverified_targets().await? {
        owner.adopt(&targets)?;
    }
    Ok(())
}
