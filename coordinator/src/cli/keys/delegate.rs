//! `orangery keys delegate` and `undelegate`: who signs which app.

use anyhow::{Context as _, bail};
use orangery_trust::PublicKey;
use orangery_trust::repository::{SigningKey, read_public_key, verify_root};
use orangery_wire::AppName;

use super::{carry, own_seal, show};
use crate::client::Client;
use crate::home::Home;
use crate::output;
use crate::owner::{KeyFile, Owner, Passphrases};

/// Leaves the releases of `app` to the role `name`. The same again changes nothing, and completes what was cut short.
pub async fn begin(
    home: &Home,
    app: &AppName,
    name: &AppName,
    key: Option<&str>,
    passphrases: &Passphrases,
) -> anyhow::Result<()> {
    let given = key.map(|text| read_public_key(text).context("--key is not ed25519: and 64 digits")).transpose()?;
    let (client, owner) = open(home, passphrases).await?;
    let key = match given {
        Some(key) => key,
        None => own_key(home, &owner, name, passphrases)?,
    };
    let changed = owner.delegate(name.as_str(), app, &key, output::now())?;
    publish(&client, &owner, changed).await?;
    output::line(format!("{name} signs the releases of {app} from now on, with the key {key}, and nothing else."))?;
    drop(owner);
    show::after(home)
}

/// Takes `app` back.
pub async fn end(home: &Home, app: &AppName, passphrases: &Passphrases) -> anyhow::Result<()> {
    let (client, owner) = open(home, passphrases).await?;
    let changed = owner.undelegate(app, output::now())?;
    let has_ended = changed.is_some();
    publish(&client, &owner, changed).await?;
    drop(owner);
    if has_ended {
        output::line(format!(
            "You sign the releases of {app} again. What the other key has signed no node installs any more; those that run it \
             go on and say so: publish and deploy another version to them."
        ))?;
    } else {
        output::line(format!("{app} is left to nobody."))?;
    }
    show::after(home)
}

async fn open(home: &Home, passphrases: &Passphrases) -> anyhow::Result<(Client, Owner)> {
    let client = Client::open(home)?;
    carry::follow_roots(home, &client).await?;
    let owner = Owner::open(home, passphrases)?;
    carry::adopt(&owner, &client).await?;
    Ok((client, owner))
}

/// The key of that name here, made if there is none. One that signs for the whole fleet is never used.
fn own_key(home: &Home, owner: &Owner, name: &AppName, passphrases: &Passphrases) -> anyhow::Result<PublicKey> {
    let path = home.owner().join(format!("{name}.key"));
    if !path.exists() {
        let key = SigningKey::generate()?;
        KeyFile::write(&path, &key, &own_seal(home, passphrases)?)?;
        return Ok(key.public());
    }
    let key = KeyFile::read(&path)?.public().clone();
    if verify_root(owner.root())?.content().keys().contains(&key) {
        bail!("{} signs for the whole fleet; choose another --name", path.display());
    }
    Ok(key)
}

/// Sends what is signed here, also what a kill kept from being sent.
async fn publish(client: &Client, owner: &Owner, changed: Option<Vec<u8>>) -> anyhow::Result<()> {
    let targets = match changed {
        Some(targets) => Some(targets),
        None => owner.latest()?,
    };
    if let Some(targets) = targets {
        client.set_trust(None, Some(&targets)).await.context("the coordinator does not take the targets")?;
    }
    Ok(())
}
