//! What the nodes must report, and their apps answer, after a step.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use orangery_wire::messages::{AppReport, Phase};
use orangery_wire::rest::{NodeView, Status};
use orangery_wire::{NodeId, Version};
use tokio::time::Instant;

use super::greeter;
use crate::client::Client;

const LONGEST: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(100);

/// How every node must be.
#[derive(Debug, Clone)]
pub struct Expected {
    /// The release that is proven, runs and answers.
    pub runs: Version,
    /// Whether what was deployed last was refused.
    pub is_refused: bool,
}

/// Asks coordinator and apps until all of them say what is expected, for 15 s at most.
pub async fn all(client: &Client, nodes: &[(NodeId, u16)], expected: &Expected) -> anyhow::Result<()> {
    let deadline = Instant::now() + LONGEST;
    loop {
        match look(client, nodes, expected).await {
            Err(_) if Instant::now() < deadline => tokio::time::sleep(PAUSE).await,
            other => return other,
        }
    }
}

async fn look(client: &Client, nodes: &[(NodeId, u16)], expected: &Expected) -> anyhow::Result<()> {
    let status: Status = client.get("/v1/status").await?;
    for (name, port) in nodes {
        let view = status.nodes.iter().find(|view| view.node == *name);
        let view = view.with_context(|| format!("the coordinator does not know {name}"))?;
        reports(view, expected).with_context(|| format!("{name} does not report what it should"))?;
        let answers = greeter::version_on(*port).await.with_context(|| format!("the greeter of {name}"))?;
        ensure!(
            answers == expected.runs.to_string(),
            "the greeter of {name} answers as {answers}, not {}",
            expected.runs
        );
    }
    Ok(())
}

fn reports(view: &NodeView, expected: &Expected) -> anyhow::Result<()> {
    ensure!(view.online, "it is offline");
    let app = greeter::app()?;
    let desired = view.desired.iter().find(|desired| desired.app == app).context("it was not told to run the app")?;
    let report = view.reported.iter().flat_map(|reported| &reported.apps).find(|report| report.app == app);
    let report: &AppReport = report.context("it has not reported the app")?;
    let version = |release: &Option<orangery_wire::messages::ReleaseRef>| release.as_ref().map(|r| r.version.clone());
    ensure!(report.generation == desired.generation, "it is in generation {}", report.generation);
    ensure!(report.phase == Phase::Settled, "it is {}", report.phase);
    ensure!(version(&report.current).as_ref() == Some(&expected.runs), "its current release is {:?}", report.current);
    ensure!(version(&report.running).as_ref() == Some(&expected.runs), "what runs is {:?}", report.running);
    ensure!(report.healthy == Some(true), "its app is not known to be healthy");
    match (&report.refusal, expected.is_refused) {
        (None, false) => Ok(()),
        (Some(refusal), true) if Some(refusal.release) == desired.release => Ok(()),
        (Some(refusal), _) => bail!("it refused {}: {}", refusal.release.short(), refusal.reason),
        (None, true) => {
            bail!("it did not refuse {}", desired.version.as_ref().map_or_else(String::new, ToString::to_string))
        }
    }
}
