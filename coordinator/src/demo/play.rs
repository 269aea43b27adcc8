//! The steps of the demo.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use indicatif::ProgressBar;
use orangery_wire::manifest::this_platform;
use orangery_wire::messages::{Phase, What};
use orangery_wire::rest::{DeedRequest, DeployRequest, EventView, PasswordRequest, Plan, Status};
use orangery_wire::{NodeId, Version};
use ring::rand::SecureRandom as _;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::expect::{self, Expected};
use super::node::DemoNode;
use super::running::Running;
use super::{Demo, greeter};
use crate::cli::{self, Ending, Follow, How, InitArgs, SealArgs};
use crate::client::Client;
use crate::owner::Passphrases;
use crate::release::build;
use crate::release::push;
use crate::{output, owner};

const NODES: [&str; 3] = ["attic", "garage", "garden"];
/// The node whose agent is killed.
const VICTIM: &str = "garage";
const START_TIME_MAX: Duration = Duration::from_secs(30);
const DEPLOY_TIME_MAX: Duration = Duration::from_mins(1);
const INVITE_TIME: Duration = Duration::from_mins(10);
/// Quick to pack; nobody downloads a demo over a slow line.
const LEVEL: i32 = 6;

impl Demo {
    /// All steps, each of which fails unless it goes as it should.
    pub(super) async fn play(&mut self) -> anyhow::Result<()> {
        self.begin_fleet().await?;
        let client = self.client()?;
        self.enrol(&client).await?;
        self.redraw = Some(self.screen.keep_table(&client));
        self.deploy_first(&client, "1.0.0").await?;
        self.roll_out(&client, "1.1.0").await?;
        self.refuse(&client, "1.2.0", "1.1.0").await?;
        self.recover(&client, "1.3.0").await?;
        for node in &mut self.nodes {
            node.ensure_runs()?;
        }
        self.screen.say("\nEvery node reports what it should.")?;
        Ok(())
    }

    async fn begin_fleet(&mut self) -> anyhow::Result<()> {
        let root = self.place.root().display();
        self.screen.say(format!("A coordinator and three nodes on this machine, all of it below {root}.\n"))?;
        let home = self.place.home();
        let arguments = InitArgs {
            address: Some("127.0.0.1".into()),
            https_port: 0,
            mqtt_port: 0,
            mqtt_url: None,
            seal: SealArgs::plain(),
        };
        let made = cli::init(&home, &arguments, &Passphrases::none(), output::now())?;
        self.screen
            .say("`orangery init` has made the owner's keys and trust root, and the coordinator's CA and keys.")?;
        let (ready, root) = (self.place.ready_file(), home.root().to_string_lossy().into_owned());
        let arguments = ["--dir", &root, "serve", "--ready-file", &ready.to_string_lossy()];
        let coordinator = &self.programs.orangery;
        let mut coordinator =
            Running::start("the coordinator", coordinator, &arguments, &self.place.log("coordinator"))?;
        let deadline = Instant::now() + START_TIME_MAX;
        while !ready.exists() {
            coordinator.ensure_runs()?;
            ensure!(Instant::now() < deadline, "the coordinator was not ready within {} s", START_TIME_MAX.as_secs());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.coordinator = Some(coordinator);
        self.open_dashboard().await?;
        self.screen.say(format!("`orangery serve` runs: broker, store and HTTPS in one process, at {}.", made.url))?;
        Ok(())
    }

    /// Gives the owner a password, so that one can look on.
    async fn open_dashboard(&self) -> anyhow::Result<()> {
        let (client, password) = (self.client()?, new_password()?);
        let request = PasswordRequest { password: password.clone() };
        client.post_unanswered("/v1/users/owner/password", &request).await?;
        self.screen.say(format!(
            "Look on in a browser, which will warn of a certificate that it does not know: {}/\n  \
             user owner, password {password}",
            client.url()
        ))?;
        Ok(())
    }

    async fn enrol(&mut self, client: &Client) -> anyhow::Result<()> {
        let mut ports = Vec::new();
        for name in NODES {
            let (name, port): (NodeId, u16) = (name.parse()?, cli::free_port(&ports)?);
            ports.push(port);
            let mut node = DemoNode::prepare(&self.place, name.clone(), port)?;
            let invited = cli::invite(&self.place.home(), client, Some(name), INVITE_TIME, 1).await?;
            node.join(&self.programs, &invited.token).await?;
            node.start(&self.programs)?;
            self.nodes.push(node);
        }
        let deadline = Instant::now() + START_TIME_MAX;
        loop {
            let status: Status = client.get("/v1/status").await?;
            if status.nodes.iter().filter(|node| node.online && node.reported.is_some()).count() == NODES.len() {
                break;
            }
            for node in &mut self.nodes {
                node.ensure_runs()?;
            }
            ensure!(Instant::now() < deadline, "not every node connected within {} s", START_TIME_MAX.as_secs());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let [first, second, third] = NODES;
        self.screen.say(format!("{first}, {second} and {third} have joined, each with an invite token of its own."))?;
        Ok(())
    }

    /// The first release goes to every node at once: there is nothing that it could break.
    async fn deploy_first(&mut self, client: &Client, version: &str) -> anyhow::Result<()> {
        self.screen.say(format!("\ngreeter {version}: built, signed, published, deployed to all nodes"))?;
        self.publish(client, version, 200).await?;
        let (mut follow, plan) = self.deploy(client, version).await?;
        let endings = follow.until_settled(&plan, DEPLOY_TIME_MAX, |event| self.screen.event(event)).await?;
        ensure_all_run(&endings)?;
        self.expect(client, version, false).await
    }

    /// An agent is killed in the middle of a deployment, started again, and brings it to its end.
    async fn recover(&mut self, client: &Client, version: &str) -> anyhow::Result<()> {
        self.screen.say(format!("\ngreeter {version}, during which the agent of {VICTIM} is killed"))?;
        self.publish(client, version, 200).await?;
        let (mut follow, plan) = self.deploy(client, version).await?;
        let (tell, told) = oneshot::channel();
        let mut tell = Some(tell);
        let screen = self.screen.clone();
        let follow = follow.until_settled(&plan, DEPLOY_TIME_MAX, move |event| {
            if let Some(phase) = phase_in_the_middle(event)
                && let Some(tell) = tell.take()
            {
                // Whoever listens has failed and ends this, too, if nobody does.
                let _ = tell.send(phase);
            }
            screen.event(event)
        });
        let (endings, ()) = tokio::try_join!(async { Ok(follow.await?) }, self.crash(told))?;
        ensure_all_run(&endings)?;
        self.expect(client, version, false).await?;
        self.screen.say(format!("{VICTIM} has recovered; every node proves {version}."))?;
        Ok(())
    }

    async fn crash(&mut self, told: oneshot::Receiver<Phase>) -> anyhow::Result<()> {
        // Nobody will tell when the deployment has ended without coming by the middle.
        let Ok(phase) = told.await else { bail!("{VICTIM} was never seen in the middle of its deployment") };
        let screen = self.screen.clone();
        let victim = self.nodes.iter_mut().find(|node| node.name.as_str() == VICTIM).context("there is no victim")?;
        victim.kill_agent().await?;
        screen.say(format!("  {VICTIM:<7} SIGKILL to the agent while it is {phase}"))?;
        victim.start(&self.programs)?;
        screen.say(format!("  {VICTIM:<7} the agent is started again"))?;
        Ok(())
    }

    pub(super) async fn publish(&self, client: &Client, version: &str, health_status: u16) -> anyhow::Result<()> {
        let directory = self.place.release(version);
        let files = greeter::lay_out(&directory, &self.programs.greeter, version, health_status)?;
        let plan = build::Plan {
            app: greeter::app()?,
            version: version.parse()?,
            recipe: &files.recipe,
            platforms: &BTreeMap::from([(this_platform(), files.tree)]),
            out: &files.bundle,
            level: LEVEL,
        };
        let mut bundle = build::build(&plan, &ProgressBar::hidden())?;
        cli::sign_bundle(&self.place.home(), Some(client), &mut bundle, None, &Passphrases::none()).await?;
        push::push(client, &owner::latest_root(&self.place.home())?, &bundle, &ProgressBar::hidden()).await?;
        Ok(())
    }

    async fn deploy(&self, client: &Client, version: &str) -> anyhow::Result<(Follow, Plan)> {
        let version: Version = version.parse()?;
        let request = DeployRequest {
            app: greeter::app()?,
            version: Some(version),
            to: "all".into(),
            plan: None,
            deed: DeedRequest::default(),
        };
        let shown: Plan = client.ask("/v1/deployments/plan", &request).await?;
        let changes = shown.steps.iter().filter(|step| step.changes).count();
        ensure!(changes == NODES.len(), "the plan should change {} nodes, not {changes}", NODES.len());
        let request = DeployRequest { plan: Some(shown.mark), ..request };
        Ok(Follow::apply(client, &request).await?)
    }

    pub(super) fn ports(&self) -> Vec<(NodeId, u16)> {
        self.nodes.iter().map(|node| (node.name.clone(), node.port)).collect()
    }

    pub(super) async fn expect(&self, client: &Client, runs: &str, is_refused: bool) -> anyhow::Result<()> {
        expect::all(client, &self.ports(), &Expected { runs: runs.parse()?, is_refused }).await
    }
}

/// 90 bits, which last as long as the demo.
fn new_password() -> anyhow::Result<String> {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut random = [0; 18];
    let drawn = ring::rand::SystemRandom::new().fill(&mut random);
    drawn.map_err(|_| anyhow!("the system gives no random numbers"))?;
    Ok(random.iter().filter_map(|byte| LETTERS.get(usize::from(byte % 32))).map(|letter| char::from(*letter)).collect())
}

/// The phase, if the victim has just entered one in which the new release is on trial.
fn phase_in_the_middle(event: &EventView) -> Option<Phase> {
    match &event.event.what {
        What::PhaseChanged { phase: phase @ (Phase::Activating | Phase::Probing), .. } => {
            (event.event.node.as_str() == VICTIM).then_some(*phase)
        }
        _ => None,
    }
}

fn ensure_all_run(endings: &[Ending]) -> anyhow::Result<()> {
    ensure!(endings.len() == NODES.len(), "{} nodes settled, not {}", endings.len(), NODES.len());
    for Ending { node, how } in endings {
        ensure!(*how == How::Runs, "{node} should run the release, but: {how:?}");
    }
    Ok(())
}
