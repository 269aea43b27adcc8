//! `orangery keys`: whose keys count, and how that changes.
//!
//! Every change takes three steps: it is prepared, signed by as many keys as the root asks for, here or elsewhere, and
//! published. With one key that is enough, one command does all three. The same command again goes on where it was cut short.

mod args;
mod carry;
mod delegate;
mod recover;
mod show;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use orangery_trust::repository::{Draft, SigningKey, read_public_key};
use orangery_trust::{PublicKey, Role};
use orangery_wire::UnixTime;

pub use args::{KeysCommand, SealArgs};
use args::{Rotated, Staging};
pub use carry::{adopt, follow_roots};

use super::{Outcome, init};
use crate::ca::write_secret;
use crate::client::Client;
use crate::home::Home;
use crate::owner::{Change, Cost, KeyFile, OwnerLock, Passphrases, Seal, Staged};
use crate::{durable, output, sha256};

impl From<args::Role> for Role {
    fn from(role: args::Role) -> Self {
        match role {
            args::Role::Root => Self::Root,
            args::Role::Targets => Self::Targets,
        }
    }
}

impl SealArgs {
    /// Keys without a passphrase.
    pub fn plain() -> Self {
        Self { no_passphrase: true, kdf_memory_kib: None }
    }

    /// How new keys are kept. Asks for a passphrase unless none is wanted.
    pub(super) fn choose(&self, passphrases: &Passphrases) -> anyhow::Result<Seal> {
        if self.no_passphrase {
            return Ok(Seal::None);
        }
        let cost = self.kdf_memory_kib.map_or_else(Cost::default, Cost::of_memory);
        Ok(Seal::Passphrase(passphrases.choose()?, cost))
    }
}

pub async fn run(home: &Home, command: KeysCommand, passphrases: &Passphrases) -> anyhow::Result<Outcome> {
    let now = output::now();
    match command {
        KeysCommand::Status { json } => return show::status(home, json).await,
        KeysCommand::Add { role, name, public, staging } => {
            let public = public.map(|text| read_public_key(&text).context("--public is not ed25519: and 64 digits"));
            let public = public.transpose()?;
            let deed = format!("add {name} to {}", Role::from(role));
            return change(home, &deed, &staging, passphrases, |change| add(change, role.into(), &name, public)).await;
        }
        KeysCommand::Remove { role, name, staging } => {
            let deed = format!("remove {name} from {}", Role::from(role));
            return change(home, &deed, &staging, passphrases, |change| {
                let key = found(change, role.into(), &name)?;
                change.remove(role.into(), &key);
                Ok(())
            })
            .await;
        }
        KeysCommand::Delegate { app, name, key } => {
            delegate::begin(home, &app, name.as_ref().unwrap_or(&app), key.as_deref(), passphrases).await?;
        }
        KeysCommand::Undelegate { app } => delegate::end(home, &app, passphrases).await?,
        KeysCommand::Rotate { key, staging } => return rotate(home, key, &staging, passphrases).await,
        KeysCommand::Renew { staging } => {
            if !staging.stage {
                carry::renew_targets(home, passphrases, now).await?;
            }
            return change(home, "renew root", &staging, passphrases, |_| Ok(())).await;
        }
        KeysCommand::ToThreshold { threshold, staging } => {
            let deed = format!("change the threshold of root to {threshold}");
            let outcome =
                change(home, &deed, &staging, passphrases, |change| to_threshold(change, threshold.into())).await?;
            show::advise_threshold(home, threshold.into())?;
            return Ok(outcome);
        }
        KeysCommand::Sign { file, keys } => return sign(home, file.as_deref(), &keys, passphrases),
        KeysCommand::Publish { signed } => return carry::publish(home, signed.as_deref(), passphrases, now).await,
        KeysCommand::Abort => return carry::abort(home).await,
        KeysCommand::Recover(args) => return recover::run(home, &args, passphrases, now).await,
        KeysCommand::Passphrase { seal, new_passphrase_file } => {
            change_passphrase(home, &seal, new_passphrase_file.as_deref(), passphrases)?;
        }
        KeysCommand::New { file, seal } => {
            if file.exists() {
                bail!("{} exists already, and keys are never overwritten", file.display());
            }
            let key = SigningKey::generate()?;
            KeyFile::write(&std::path::absolute(&file)?, &key, &seal.choose(passphrases)?)?;
            output::line(key.public().to_string())?;
        }
        KeysCommand::OperatorToken => operator_token(home)?,
        KeysCommand::MetricsToken => metrics_token(home)?,
    }
    Ok(Outcome::Done)
}

/// Prepares a change, or finds the same one again, and carries it as far as it goes.
async fn change(
    home: &Home,
    deed: &str,
    staging: &Staging,
    passphrases: &Passphrases,
    make: impl FnOnce(&mut Change) -> anyhow::Result<()>,
) -> anyhow::Result<Outcome> {
    let client = carry::catch_up(home).await;
    let lock = OwnerLock::take(home)?;
    let staged = match Staged::load(home)? {
        Some(staged) if staged.deed() == deed => staged,
        Some(staged) => return Err(crate::owner::StagedError::Other { deed: staged.deed().to_owned() }.into()),
        None => {
            let mut change = Change::begin(home, deed, output::now())?;
            make(&mut change)?;
            change.stage(home, &own_seal(home, passphrases)?)?
        }
    };
    let others = read_keys(&staging.keys)?;
    let outcome = carry::carry(home, client.as_ref(), staged, &others, staging.stage, passphrases).await;
    drop(lock);
    outcome
}

/// New keys are kept like the one that signs releases.
fn own_seal(home: &Home, passphrases: &Passphrases) -> anyhow::Result<Seal> {
    let kept = [home.targets_key(), home.root_key(), home.recovery_key()].into_iter().find(|path| path.exists());
    let kept = kept.with_context(|| format!("there is no key in {}", home.owner().display()))?;
    Ok(KeyFile::read(&kept)?.seal(passphrases)?)
}

fn read_keys(paths: &[PathBuf]) -> anyhow::Result<Vec<KeyFile>> {
    Ok(paths.iter().map(|path| KeyFile::read(path)).collect::<Result<_, _>>()?)
}

fn add(change: &mut Change, role: Role, name: &str, public: Option<PublicKey>) -> anyhow::Result<()> {
    if change.find(role, name).is_some() {
        bail!("{role} has a key that is called {name} already; choose another name");
    }
    match public {
        Some(public) => change.add(role, name, public)?,
        None => change.make(role, name)?,
    }
    Ok(())
}

fn found(change: &Change, role: Role, name: &str) -> anyhow::Result<PublicKey> {
    change.find(role, name).with_context(|| format!("{role} has no key {name}; `orangery keys status` lists them"))
}

async fn rotate(home: &Home, key: Rotated, staging: &Staging, passphrases: &Passphrases) -> anyhow::Result<Outcome> {
    let (role, name) = match key {
        Rotated::Root => (Role::Root, "root"),
        Rotated::Recovery => (Role::Root, "recovery"),
        Rotated::Targets => (Role::Targets, "targets"),
        Rotated::Online => return rotate_online(home, staging, passphrases).await,
    };
    change(home, &format!("rotate {name}"), staging, passphrases, |change| {
        let old = match change.find(role, name) {
            Some(old) => old,
            // A root from before keys had names: the file that is here says which one it is.
            None => KeyFile::read(&home.owner().join(format!("{name}.key")))?.public().clone(),
        };
        change.remove(role, &old);
        change.make(role, name)?;
        Ok(())
    })
    .await
}

async fn rotate_online(home: &Home, staging: &Staging, passphrases: &Passphrases) -> anyhow::Result<Outcome> {
    let keys = Client::open(home)?.new_online_keys().await?;
    let read = |text: &str| read_public_key(text).context("the coordinator's answer names no key");
    let (snapshot, timestamp) = (read(&keys.snapshot)?, read(&keys.timestamp)?);
    change(home, "rotate online", staging, passphrases, |change| {
        for (role, name, key) in [(Role::Snapshot, "snapshot", snapshot), (Role::Timestamp, "timestamp", timestamp)] {
            change.content.holders_mut(role).keys.clear();
            change.add(role, name, key)?;
        }
        Ok(())
    })
    .await
}

/// So many signatures, and one key more than that, so that one may be lost.
fn to_threshold(change: &mut Change, threshold: usize) -> anyhow::Result<()> {
    let wanted = if threshold == 1 { 1 } else { threshold + 1 };
    for name in ["third", "fourth", "fifth", "sixth"] {
        if change.content.root.keys.len() < wanted && change.find(Role::Root, name).is_none() {
            change.make(Role::Root, name)?;
        }
    }
    change.content.root.threshold = threshold;
    Ok(())
}

fn sign(home: &Home, file: Option<&Path>, keys: &[PathBuf], passphrases: &Passphrases) -> anyhow::Result<Outcome> {
    let keys = read_keys(keys)?;
    let Some(path) = file else {
        let _lock = OwnerLock::take(home)?;
        let mut staged = Staged::load(home)?.context("nothing is staged; `orangery keys status` says what holds")?;
        staged.sign(&keys, passphrases)?;
        return carry::say_standing(home, &staged).map(|_| Outcome::Done);
    };
    let mut draft = Draft::read(&std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?)
        .with_context(|| format!("{} is no staged root", path.display()))?;
    show::draft(home, &draft)?;
    if keys.is_empty() {
        bail!("name a key file with --key");
    }
    for key in &keys {
        draft = draft.sign(&[&key.open(passphrases)?])?;
    }
    durable::replace(&std::path::absolute(path)?, draft.bytes(), 0o644)
        .with_context(|| format!("cannot write {}", path.display()))?;
    output::line(format!(
        "Signed. Bring {} back and run `orangery keys publish --signed {}` on the owner's machine.",
        path.display(),
        path.display()
    ))?;
    Ok(Outcome::Done)
}

fn change_passphrase(
    home: &Home,
    seal: &SealArgs,
    new_file: Option<&Path>,
    passphrases: &Passphrases,
) -> anyhow::Result<()> {
    let _lock = OwnerLock::take(home)?;
    let owner = home.owner();
    let entries = std::fs::read_dir(&owner).with_context(|| format!("cannot read {}", owner.display()))?;
    let paths = entries.flatten().map(|entry| entry.path());
    let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|x| x == "key")).collect();
    paths.sort();
    let new = Passphrases::find(new_file);
    let seal = seal.choose(&new)?;
    // All are opened before the first is written: a wrong passphrase changes nothing. Those that a kill let through last time
    // have the new one already.
    let open = |path: &PathBuf| {
        let file = KeyFile::read(path)?;
        file.open(passphrases).or_else(|error| file.open(&new).map_err(|_| error))
    };
    let opened = paths.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    for (path, key) in paths.iter().zip(&opened) {
        KeyFile::write(path, key, &seal)?;
        output::line(format!("{} is kept {}", path.display(), show::kept(seal != Seal::None)))?;
    }
    Ok(())
}

/// The coordinator knows the token's digest alone.
fn operator_token(home: &Home) -> anyhow::Result<()> {
    let path = home.coordinator_file("operator.token.sha256");
    if !path.exists() {
        bail!("{} is not here; run this on the coordinator's machine, with its directory as --dir", path.display());
    }
    new_token(&path)?;
    Ok(())
}

/// The same for the token that opens the metrics alone.
fn metrics_token(home: &Home) -> anyhow::Result<()> {
    let settings = home.coordinator_settings();
    if !settings.exists() {
        bail!("{} is not here; run this on the coordinator's machine, with its directory as --dir", settings.display());
    }
    new_token(&home.coordinator_file("metrics.token.sha256"))
}

/// Prints a new token and leaves its digest in the file.
fn new_token(path: &Path) -> anyhow::Result<()> {
    let token = init::new_token()?;
    durable::replace(path, format!("{}\n", sha256::digest(token.as_bytes())).as_bytes(), 0o600)
        .with_context(|| format!("cannot write {}", path.display()))?;
    output::note("start the coordinator again: until then an old token opens it, and not this one");
    output::line(token)?;
    Ok(())
}

/// Writes what the commands need to reach a coordinator.
fn write_client(home: &Home, url: &str, ca: &[u8], token: &str) -> anyhow::Result<()> {
    durable::create_directories(&home.coordinator())?;
    durable::replace(&home.coordinator_file("ca.pem"), ca, 0o644)?;
    let path = home.operator_token();
    if path.exists() {
        durable::replace(&path, format!("{}\n", token.trim()).as_bytes(), 0o600)?;
    } else {
        write_secret(&path, &format!("{}\n", token.trim()))?;
    }
    durable::replace(&home.client_settings(), crate::client::ClientSettings::text(url).as_bytes(), 0o644)?;
    Ok(())
}

/// Whole days from `now` to `then`, which may lie behind it.
fn days(then: UnixTime, now: UnixTime) -> i64 {
    let secs = i64::try_from(then).unwrap_or(i64::MAX) - i64::try_from(now).unwrap_or(0);
    secs.div_euclid(86_400)
}
