//! `orangery init`: everything that a fleet begins with, in one directory that is there as a whole or not at all.

mod address;
mod settings;

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use orangery_trust::repository::SigningKey;
use orangery_wire::UnixTime;
use ring::rand::{SecureRandom as _, SystemRandom};

use super::Outcome;
use super::keys::SealArgs;
use crate::ca::{Ca, write_secret};
use crate::client::ClientSettings;
use crate::config::Config;
use crate::home::Home;
use crate::owner::{NewOwner, Passphrases, Seal, write_file};
use crate::{durable, output, sha256};

pub use settings::MqttChoice;

/// `orangery init`
#[derive(Debug, Clone, Args)]
pub struct InitArgs {
    /// Name or IP address by which nodes reach this machine [default: its outgoing address]
    #[arg(long, value_name = "HOST")]
    pub address: Option<String>,
    /// Port of the REST API and of downloads; 0 picks a free one
    #[arg(long, value_name = "PORT", default_value_t = 8443)]
    pub https_port: u16,
    /// Port of the embedded broker; 0 picks a free one
    #[arg(long, value_name = "PORT", default_value_t = 8883)]
    pub mqtt_port: u16,
    /// Use this broker and not the embedded one, such as mqtts://broker.local:8883
    #[arg(long, value_name = "URL", conflicts_with = "mqtt_port")]
    pub mqtt_url: Option<String>,
    /// How the owner's keys are kept
    #[command(flatten)]
    pub seal: SealArgs,
}

/// A free port of this machine that is not among `taken`, below those that the kernel gives to outgoing connections.
pub fn free_port(taken: &[u16]) -> anyhow::Result<u16> {
    address::chosen_port(0, taken)
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The coordinator's address: `https://HOST:PORT`.
    pub url: String,
    /// Where the broker is.
    pub mqtt: MqttChoice,
}

/// What the directory holds, and what for.
const CONTENT: [(&str, &str); 9] = [
    ("client.toml", "how the commands reach the coordinator"),
    ("operator.token", "whoever has it commands the fleet"),
    ("owner/root.key", "signs the trust root, which says whose keys count"),
    ("owner/recovery.key", "the same, for emergencies: move it to a stick in a drawer, with 1.root.json"),
    ("owner/targets.key", "signs releases"),
    ("owner/1.root.json", "the trust root that every node begins with"),
    ("coordinator/coordinator.toml", "the coordinator's settings"),
    ("coordinator/ca.key, ca.pem", "the authority that names nodes; every client pins it"),
    ("coordinator/*.key", "the coordinator's certificates and its online keys"),
];

/// What must be there for the directory to count as made. The recovery key may be in a drawer, and the coordinator's own
/// directory on another machine.
const REQUIRED: [&str; 5] =
    ["client.toml", "operator.token", "owner/root.key", "owner/targets.key", "owner/1.root.json"];

pub(super) fn run(home: &Home, args: &InitArgs, passphrases: &Passphrases) -> anyhow::Result<Outcome> {
    if is_made(home)? {
        ensure!(
            args.address.is_none() && args.mqtt_url.is_none(),
            "{} is set up already, and its keys are never overwritten; to move the coordinator change {} and {}, to begin \
             anew use another --dir",
            home.root().display(),
            home.coordinator_settings().display(),
            home.client_settings().display()
        );
        output::line(format!("{} is set up already; nothing was changed.", home.root().display()))?;
    } else {
        let made = init(home, args, passphrases, output::now())?;
        output::line(format!("Made in {}, for a coordinator at {}:", home.root().display(), made.url))?;
        for (path, purpose) in CONTENT {
            output::line(format!("  {path:<30} {purpose}"))?;
        }
    }
    let dir =
        if Home::usual().as_ref() == Some(home) { String::new() } else { format!(" --dir {}", home.root().display()) };
    output::line("\nNext:")?;
    let next = [
        (format!("orangery{dir} serve"), "run the coordinator"),
        (format!("orangery{dir} node invite --name attic"), "print a token for the first board"),
        ("orangery-agent join TOKEN".to_owned(), "on the board, then `orangery-agent run`"),
    ];
    let width = next.iter().map(|(command, _)| command.len()).max().unwrap_or_default();
    for (command, purpose) in next {
        output::line(format!("  {command:<width$}  {purpose}"))?;
    }
    Ok(Outcome::Done)
}

/// Whether `home` was made already. Something else in its place is an error.
fn is_made(home: &Home) -> anyhow::Result<bool> {
    let root = home.root();
    match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Ok(entries) => {
            if entries.take(1).count() == 0 {
                return Ok(false);
            }
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", root.display())),
    }
    let (there, missing): (Vec<_>, Vec<_>) = REQUIRED.iter().copied().partition(|path| root.join(path).exists());
    if there.is_empty() {
        bail!("{} holds other things; name an empty or new directory with --dir", root.display());
    }
    if !missing.is_empty() {
        bail!(
            "{} is set up in part: {} there, {} missing; bring back what is missing, or begin anew with another --dir",
            root.display(),
            there.join(", "),
            missing.join(", ")
        );
    }
    Ok(true)
}

/// Makes everything in `home`, which must not exist or be empty. If it did not exist, all of it is there afterwards or
/// nothing.
pub fn init(home: &Home, args: &InitArgs, passphrases: &Passphrases, now: UnixTime) -> anyhow::Result<Made> {
    let host = args.address.clone().unwrap_or_else(address::outgoing);
    let https_port = address::chosen_port(args.https_port, &[])?;
    let mqtt = match &args.mqtt_url {
        Some(url) => MqttChoice::External { url: url.clone() },
        None => MqttChoice::Embedded { port: address::chosen_port(args.mqtt_port, &[https_port])? },
    };
    let text = settings::coordinator_text(&host, https_port, &mqtt);
    let config =
        Config::parse(&text, &home.coordinator_settings()).context("cannot make the coordinator's settings")?;
    let root = std::path::absolute(home.root())?;
    let seal = args.seal.choose(passphrases)?;
    make(&root, |staged| fill(&Home::new(staged), &host, &text, &config.https.url, &seal, now))
        .with_context(|| format!("cannot make {}", root.display()))?;
    Ok(Made { url: config.https.url, mqtt })
}

/// Fills a directory that nobody sees yet and puts it in the place of `root`. A directory that is there already may be a
/// mount point, which cannot be replaced: then it is filled from within, the settings that complete it last.
fn make(root: &Path, fill: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let parent = root.parent().context("it is the root directory; name another one with --dir")?;
    let (beside, is_new) = if root.exists() { (root, false) } else { (parent, true) };
    fs::create_dir_all(beside)?;
    if !is_new {
        fs::set_permissions(root, fs::Permissions::from_mode(0o700))?;
    }
    let staging = tempfile::Builder::new()
        .prefix(".orangery-init-")
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir_in(beside)?;
    fill(staging.path())?;
    if is_new {
        fs::rename(staging.path(), root)?;
        // It is in its place, so there is nothing left to remove.
        drop(staging.keep());
    } else {
        for name in ["coordinator", "owner", "operator.token", "client.toml"] {
            fs::rename(staging.path().join(name), root.join(name))?;
        }
        staging.close()?;
    }
    durable::sync_directory(beside)?;
    Ok(())
}

fn fill(home: &Home, host: &str, settings: &str, url: &str, seal: &Seal, now: UnixTime) -> anyhow::Result<()> {
    let metadata = home.coordinator_state().join("metadata");
    for directory in [home.owner(), home.coordinator(), home.coordinator_state(), metadata.clone()] {
        fs::DirBuilder::new().mode(0o700).create(&directory)?;
    }
    let (snapshot, timestamp) = (SigningKey::generate()?, SigningKey::generate()?);
    let owner = NewOwner::create(&snapshot.public(), &timestamp.public(), now)?;
    owner.save(home, seal)?;
    write_file(&metadata.join("1.root.json"), owner.first_root(), 0o644)?;
    write_secret(&home.coordinator_file("snapshot.key"), &snapshot.to_pem())?;
    write_secret(&home.coordinator_file("timestamp.key"), &timestamp.to_pem())?;
    write_certificates(home, host, now)?;
    write_file(&home.coordinator_settings(), settings.as_bytes(), 0o644)?;
    let token = new_token()?;
    write_secret(&home.operator_token(), &format!("{token}\n"))?;
    let digest = format!("{}\n", sha256::digest(token.as_bytes()));
    write_secret(&home.coordinator_file("operator.token.sha256"), &digest)?;
    write_file(&home.client_settings(), ClientSettings::text(url).as_bytes(), 0o644)?;
    for directory in [metadata, home.coordinator_state(), home.coordinator(), home.owner(), home.root().to_owned()] {
        durable::sync_directory(&directory)?;
    }
    Ok(())
}

fn write_certificates(home: &Home, host: &str, now: UnixTime) -> anyhow::Result<()> {
    let file = |name: &str| -> PathBuf { home.coordinator_file(name) };
    let ca = Ca::create(now)?;
    ca.save(&file("ca.key"), &file("ca.pem"))?;
    let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let (server, link) = (ca.issue_server(&[name], now)?, ca.issue_link(now)?);
    // The server shows the CA's certificate along with its own: a board that joins knows no more of it than its digest.
    let chain = format!("{}{}", server.certificate.pem, ca.certificate_pem());
    for (stem, key, certificate) in
        [("server", &server.key_pem, &chain), ("link", &link.key_pem, &link.certificate.pem)]
    {
        write_secret(&file(&format!("{stem}.key")), key)?;
        write_file(&file(&format!("{stem}.pem")), certificate.as_bytes(), 0o644)?;
    }
    Ok(())
}

pub(super) fn new_token() -> anyhow::Result<String> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).ok().context("the system's random number source failed")?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}
