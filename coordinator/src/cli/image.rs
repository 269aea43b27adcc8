//! `orangery image`

mod preloads;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use orangery_wire::NodeId;
use orangery_wire::token::Token;
use serde::Serialize;

use super::{Outcome, node};
use crate::client::Client;
use crate::home::Home;
use crate::image::{self, Checksum, Customized, ImageError, Stock, Wifi, Wish};
use crate::output;
use preloads::Preloads;

/// Invites for images: from flashing to the first boot days may pass.
const INVITE_EXPIRES: &str = "7d";
/// More images than anybody makes at once.
const COUNT_MAX: u32 = 100;

/// `orangery image`
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Make images of nodes out of a stock image, ready to be flashed: offline, without root
    ///
    /// The stock image of Armbian, Raspberry Pi OS or Debian is checked against its vendor's checksum and never changed. Each
    /// new image gets the agent, its unit, a host name, an invite token that is used up by the first boot, and whatever
    /// else is asked for below. Needs e2fsprogs, fdisk, mtools and xz-utils.
    Customize(Box<CustomizeArgs>),
}

/// `orangery image customize`
#[derive(Debug, Args)]
pub struct CustomizeArgs {
    /// The stock image: plain, or packed with xz, gzip or zstd
    stock: PathBuf,
    /// The image to write; with --count a directory for all of them
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// The agent's program, for the board's processor [default: the one in the image]
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
    /// A release that the board installs at its first boot without any network: APP@VERSION, or a bundle with one
    #[arg(long, value_name = "APP@VERSION|FILE")]
    preload: Vec<String>,
    /// The node's name
    #[arg(long, required_unless_present = "count")]
    name: Option<NodeId>,
    /// How many images to make, named PREFIX1, PREFIX2, ...
    #[arg(long, requires = "name_prefix", conflicts_with = "name")]
    count: Option<u32>,
    /// What their names begin with, such as attic-
    #[arg(long, value_name = "PREFIX")]
    name_prefix: Option<String>,
    /// An invite token for all of them [default: the coordinator is asked for one for each]
    #[arg(long, value_name = "TOKEN")]
    invite: Option<String>,
    /// How long invites can be used
    #[arg(long, default_value = INVITE_EXPIRES, value_parser = super::args::parse_duration)]
    expires: std::time::Duration,
    /// A label of the node, such as site=attic
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// A wireless network to join
    #[arg(long, value_name = "SSID")]
    wifi: Option<String>,
    /// File with its passphrase; an open network has none
    #[arg(long, value_name = "FILE", requires = "wifi")]
    wifi_passphrase_file: Option<PathBuf>,
    /// The country whose rules of radio hold, as two letters
    #[arg(long, value_name = "CC", requires = "wifi")]
    wifi_country: Option<String>,
    /// File with public keys that may log in as root by SSH
    #[arg(long, value_name = "FILE")]
    ssh_key: Option<PathBuf>,
    /// Space to add to the root partition, such as 256M
    #[arg(long, value_name = "SIZE", default_value = "0", value_parser = size)]
    grow: u64,
    /// The stock image's SHA-256, or a file with it [default: the file STOCK.sha256 or STOCK.sha]
    #[arg(long, value_name = "SHA256")]
    checksum: Option<String>,
    /// Take the stock image as it is
    #[arg(long, conflicts_with = "checksum")]
    unchecked: bool,
    /// Write over images that are there
    #[arg(long)]
    force: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// An image that was made.
#[derive(Serialize)]
struct Made {
    node: NodeId,
    image: PathBuf,
    #[serde(flatten)]
    customized: Customized,
}

/// Does what `orangery image` says.
pub async fn run(home: &Home, command: ImageCommand) -> anyhow::Result<Outcome> {
    let ImageCommand::Customize(args) = command;
    let images = images(&args)?;
    ensure_free(&args, &images)?;
    // Long before the first boot, where nobody would see what is wrong with it.
    args.invite.as_deref().map(str::parse::<Token>).transpose().context("cannot use --invite")?;
    let (wifi, ssh_keys) = (wifi(&args)?, args.ssh_key.as_deref().map(keys).transpose()?);
    let preloads = Preloads::gather(home, &args.preload).await?;
    let stock = open(&args)?;
    let directory = images.first().and_then(|(_, path)| path.parent()).unwrap_or(Path::new("."));
    let directory = if directory.as_os_str().is_empty() { PathBuf::from(".") } else { directory.to_owned() };
    stock.ensure_space(&directory, images.len(), args.grow)?;
    if args.count.is_some() {
        std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    let temporary = || {
        let made = tempfile::Builder::new().prefix(".orangery-").suffix(".part").tempfile_in(&directory);
        made.with_context(|| format!("cannot write into {}", directory.display()))
    };
    let base = temporary()?;
    let progress = output::progress("unpacking");
    let unpacked = stock.unpack(base.path(), &progress);
    progress.finish_and_clear();
    unpacked?;
    let mut base = Some(base);
    let last = images.len();
    for (number, (name, path)) in images.into_iter().enumerate() {
        let token = match &args.invite {
            Some(token) => token.trim().to_owned(),
            None => invite(home, &args, &name).await?,
        };
        preloads.check(&token)?;
        let wish = Wish {
            preload: preloads.files.clone(),
            name: name.clone(),
            token,
            agent: args.agent.clone(),
            labels: args.labels.clone(),
            wifi: wifi.clone(),
            ssh_keys: ssh_keys.clone(),
        };
        let file = match (number + 1 == last).then(|| base.take()).flatten() {
            Some(base) => base,
            None => copy(base.as_ref(), temporary()?, stock.path())?,
        };
        let customized = image::customize(file.path(), stock.path(), &wish, args.grow)?;
        let failed = |source| ImageError::Write { path: path.clone(), source };
        file.as_file().sync_all().map_err(failed)?;
        file.persist(&path).map_err(|error| failed(error.error))?;
        tell(&Made { node: name, image: path, customized }, args.json)?;
    }
    Ok(Outcome::Done)
}

fn images(args: &CustomizeArgs) -> anyhow::Result<Vec<(NodeId, PathBuf)>> {
    let (Some(count), Some(prefix)) = (args.count, &args.name_prefix) else {
        return Ok(args.name.iter().map(|name| (name.clone(), args.out.clone())).collect());
    };
    if !(1..=COUNT_MAX).contains(&count) {
        bail!("--count must be from 1 to {COUNT_MAX}");
    }
    let named = (1..=count).map(|number| {
        let name: NodeId =
            format!("{prefix}{number}").parse().with_context(|| format!("{prefix}{number} is no name"))?;
        let path = args.out.join(format!("{name}.img"));
        Ok((name, path))
    });
    named.collect()
}

/// Whether the new images can get their names: over nothing that is there without `--force`, over the stock image never.
fn ensure_free(args: &CustomizeArgs, images: &[(NodeId, PathBuf)]) -> Result<(), ImageError> {
    let stock = args.stock.canonicalize().ok();
    for (_, path) in images {
        if stock.is_some() && path.canonicalize().ok() == stock {
            return Err(ImageError::OutIsStock { path: path.clone() });
        }
        if path.exists() && !args.force {
            return Err(ImageError::OutExists { path: path.clone() });
        }
    }
    Ok(())
}

fn open(args: &CustomizeArgs) -> anyhow::Result<Stock> {
    let checksum = match (&args.checksum, args.unchecked) {
        (Some(given), _) => Checksum::Given(given.clone()),
        (None, true) => Checksum::Unchecked,
        (None, false) => Checksum::Beside,
    };
    let progress = output::progress("checking");
    let stock = Stock::open(&args.stock, &checksum, &progress);
    progress.finish_and_clear();
    Ok(stock?)
}

async fn invite(home: &Home, args: &CustomizeArgs, name: &NodeId) -> anyhow::Result<String> {
    let context = || format!("cannot get an invite for {name}; bring one with --invite");
    let client = Client::open(home).with_context(context)?;
    let invited = node::invite(home, &client, Some(name.clone()), args.expires, 1).await.with_context(context)?;
    Ok(invited.token)
}

/// A copy of the unpacked stock image; blocks of zeros are left out.
fn copy(
    base: Option<&tempfile::NamedTempFile>,
    to: tempfile::NamedTempFile,
    stock: &Path,
) -> anyhow::Result<tempfile::NamedTempFile> {
    let base = base.context("the unpacked image is gone")?;
    let progress = output::progress("copying");
    let copied = Stock::open(base.path(), &Checksum::Unchecked, &progress)
        .and_then(|unpacked| unpacked.unpack(to.path(), &progress));
    progress.finish_and_clear();
    copied.with_context(|| format!("cannot copy what was unpacked from {}", stock.display()))?;
    Ok(to)
}

fn wifi(args: &CustomizeArgs) -> anyhow::Result<Option<Wifi>> {
    let Some(ssid) = &args.wifi else { return Ok(None) };
    if ssid.is_empty() || ssid.len() > 32 || ssid.contains(char::is_control) {
        bail!("--wifi must have 1 to 32 bytes without control characters (IEEE 802.11)");
    }
    let passphrase = args.wifi_passphrase_file.as_deref().map(text).transpose()?;
    let passphrase = passphrase.map(|text| text.trim_end_matches(['\r', '\n']).to_owned());
    if let Some(passphrase) = &passphrase
        && !((8..=63).contains(&passphrase.len()) && passphrase.bytes().all(|byte| (0x20..0x7f).contains(&byte)))
    {
        bail!("the passphrase of a wireless network has 8 to 63 printable ASCII characters (IEEE 802.11)");
    }
    let country = args.wifi_country.as_ref().map(|country| country.to_uppercase());
    if country.as_ref().is_some_and(|c| c.len() != 2 || !c.bytes().all(|byte| byte.is_ascii_uppercase())) {
        bail!("--wifi-country must be two letters, such as DE");
    }
    Ok(Some(Wifi { ssid: ssid.clone(), passphrase, country }))
}

fn keys(path: &Path) -> anyhow::Result<String> {
    let text = text(path)?;
    if text.contains("PRIVATE KEY") {
        bail!("{} is a private key; name the public one, which ends in .pub", path.display());
    }
    let is_key = |line: &str| line.starts_with("ssh-") || line.starts_with("ecdsa-") || line.starts_with("sk-");
    if !text.lines().any(is_key) {
        bail!("{} has no public key of SSH", path.display());
    }
    Ok(text)
}

fn text(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn tell(made: &Made, json: bool) -> std::io::Result<()> {
    if json {
        return output::json_line(made);
    }
    let Made { node, image, customized } = made;
    output::line(format!("{}: the image of {node}", image.display()))?;
    for path in &customized.written {
        output::line(format!("  wrote    {path}"))?;
    }
    for path in &customized.removed {
        output::line(format!("  removed  {path}"))?;
    }
    output::line(format!(
        "  enrols itself at the first boot by {}; {} are left in its root partition",
        customized.enrolment,
        output::size(customized.free_bytes)
    ))
}

fn label(text: &str) -> Result<(String, String), String> {
    let good = |part: &str| !part.is_empty() && part.len() <= 63 && !part.contains([' ', '\n', '=']);
    match text.split_once('=') {
        Some((name, value)) if good(name) && good(value) => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE, such as site=attic".to_owned()),
    }
}

fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.as_bytes().last() {
        Some(b'M') => (text.trim_end_matches('M'), 1 << 20),
        Some(b'G') => (text.trim_end_matches('G'), 1 << 30),
        _ => (text, 1),
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    bytes.filter(|bytes| *bytes <= 1 << 40).ok_or_else(|| "write it as 256M or 2G".to_owned())
}
