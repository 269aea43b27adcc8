//! From "deploy it" to "proven healthy" for an app of 5 MB, beside the floor: the same bytes downloaded, hashed, unpacked,
//! synced, started and probed once by a program that does nothing else.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use orangery::client::{Client, EventStream};
use orangery_tests::fleet::{Fleet, GREETER, get};
use orangery_tests::process::free_port;
use orangery_tests::random::Random;
use orangery_wire::manifest::{Entry, Manifest, this_platform};
use orangery_wire::messages::{What, blob_path};
use orangery_wire::rest::{DeedRequest, DeployRequest, Plan};

use crate::{Outcome, spread};

const ROUNDS: usize = 15;
const PAYLOAD_BYTES: usize = 4_400_000;

/// Alternates the two, and gives the median of the ratios.
pub fn measure() -> Outcome {
    let mut random = Random::announced();
    let fleet = Fleet::start();
    let _node = fleet.node("attic");
    let client = fleet.client()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut events = runtime.block_on(client.events(0))?;
    let (mut ours, mut floors, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let version = format!("1.0.{round}");
        publish(&fleet, &version, &mut random)?;
        let took = runtime.block_on(deploy(&client, &mut events, &version))?;
        let floor = runtime.block_on(floor(&fleet, &client, &version))?;
        // The first round warms everything up.
        if round > 0 {
            ours.push(took * 1e3);
            floors.push(floor * 1e3);
            ratios.push(took / floor);
        }
    }
    let (ours, floors, ratio) = (spread(ours), spread(floors), spread(ratios));
    println!(
        "deploy: 5 MB app to proven healthy {:.0} ms ({:.0} to {:.0}); floor {:.0} ms ({:.0} to {:.0}); median of ratios {:.2} \
         ({:.2} to {:.2}), {ROUNDS} rounds; goal at most 1.5",
        ours.0, ours.1, ours.2, floors.0, floors.1, floors.2, ratio.0, ratio.1, ratio.2
    );
    Ok(())
}

fn publish(fleet: &Fleet, version: &str, random: &mut Random) -> Outcome {
    let payload: Vec<u8> = std::iter::repeat_with(|| random.below(1 << 56).to_le_bytes())
        .flat_map(|bytes| bytes.into_iter().take(7))
        .take(PAYLOAD_BYTES)
        .collect();
    let tree = fleet.path().join("trees").join(version);
    std::fs::create_dir_all(&tree)?;
    std::fs::write(tree.join("payload"), payload)?;
    fleet.publish_with(version, &format!("version = {version}\nmessage = hello\nhealth_status = 200\n"), GREETER);
    Ok(())
}

/// Seconds from the request until the coordinator has stored the node's word that the release is current.
/// `events` goes on from one deployment to the next.
pub async fn deploy(client: &Client, events: &mut EventStream, version: &str) -> anyhow::Result<f64> {
    let request = DeployRequest {
        app: "greeter".parse()?,
        version: Some(version.parse()?),
        to: "all".into(),
        plan: None,
        deed: DeedRequest::default(),
    };
    let start = Instant::now();
    let _: Plan = client.post("/v1/deployments", &request).await?;
    loop {
        match events.next().await?.event.what {
            What::Committed { release: Some(release), .. } if release.version.to_string() == version => {
                return Ok(start.elapsed().as_secs_f64());
            }
            What::Refused { refusal, .. } => anyhow::bail!("refused: {}: {}", refusal.code, refusal.reason),
            _ => {}
        }
    }
}

/// Seconds for the least that anyone must do with the same bytes.
async fn floor(fleet: &Fleet, client: &Client, version: &str) -> anyhow::Result<f64> {
    let manifest = manifest(client, version).await?;
    let tree = manifest.platforms.get(&this_platform()).context("the platform is in the release")?;
    let into = fleet.path().join("floor").join(version);
    std::fs::create_dir_all(&into)?;
    let port = free_port();
    let start = Instant::now();
    let pack = client.file(&blob_path(&tree.pack.digest)).await?.context("the pack is there")?;
    anyhow::ensure!(orangery::sha256::digest(&pack) == tree.pack.digest, "the pack is what was signed");
    unpack(&pack, &tree.entries, &into)?;
    let mut child = Command::new(into.join("bin/greeter"))
        .env("PORT", port.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    while get(port, "/health").is_none_or(|(status, _)| status != 200) {
        std::thread::sleep(Duration::from_micros(500));
    }
    let took = start.elapsed().as_secs_f64();
    child.kill()?;
    child.wait()?;
    Ok(took)
}

fn unpack(pack: &[u8], entries: &[Entry], into: &Path) -> Outcome {
    let mut content = zstd::stream::read::Decoder::with_buffer(pack)?;
    for entry in entries {
        let path = into.join(entry.path());
        match entry {
            Entry::Directory { .. } => std::fs::create_dir(&path)?,
            Entry::File { size_bytes, executable, .. } => {
                use std::os::unix::fs::OpenOptionsExt;
                let mode = if *executable { 0o555 } else { 0o444 };
                let mut file = std::fs::File::options().write(true).create_new(true).mode(mode).open(&path)?;
                let mut bytes = vec![0; usize::try_from(*size_bytes)?];
                content.read_exact(&mut bytes)?;
                file.write_all(&bytes)?;
                file.sync_all()?;
            }
            Entry::Link { target, .. } => std::os::unix::fs::symlink(target, &path)?,
        }
    }
    for directory in [into.join("bin"), into.to_owned()] {
        std::fs::File::open(directory)?.sync_all()?;
    }
    Ok(())
}

async fn manifest(client: &Client, version: &str) -> anyhow::Result<Manifest> {
    let release: orangery_wire::rest::ReleaseView = client.get(&format!("/v1/releases/greeter/{version}")).await?;
    let path = format!("/targets/greeter/{version}/{}.manifest.json", release.id);
    Ok(Manifest::parse(&client.file(&path).await?.context("the manifest is there")?)?)
}
