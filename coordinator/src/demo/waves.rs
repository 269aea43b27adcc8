//! Rollouts of the demo: one node first, then the others.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use orangery_wire::rest::{
    Allowance, DeedRequest, OnFailure, RolloutEntry, RolloutPlan, RolloutPolicy, RolloutRequest, RolloutView,
};
use tokio::time::{Instant, timeout_at};

use super::{Demo, greeter, watch};
use crate::client::{Client, EventStream};
use crate::output;

/// The node that comes first.
const CANARY: &str = "attic";
/// How long each node must be well before the next wave opens. A demo has no ten minutes.
const SOAK_SECS: u64 = 2;
const LONGEST: Duration = Duration::from_mins(1);
/// Longest time between two looks at a rollout.
const PAUSE: Duration = Duration::from_millis(200);

/// A rollout that is followed from before it begins.
struct Followed<'a> {
    demo: &'a Demo,
    client: &'a Client,
    events: EventStream,
    id: u64,
    /// Entries of its log that were shown.
    shown: usize,
}

impl Demo {
    /// A good release reaches the canary, and the other nodes once it was well there for a while.
    pub(super) async fn roll_out(&mut self, client: &Client, version: &str) -> anyhow::Result<()> {
        self.screen.say(format!("\ngreeter {version}, rolled out in two waves: {CANARY}, then the others"))?;
        self.publish(client, version, 200).await?;
        self.begin(client, version).await?.until("done").await?;
        self.expect(client, version, false).await
    }

    /// A release whose health path answers 500 gets no further than the canary, which refuses it; the rollout pauses by itself,
    /// and is taken back.
    pub(super) async fn refuse(&mut self, client: &Client, version: &str, before: &str) -> anyhow::Result<()> {
        self.screen
            .say(format!("\ngreeter {version}, which answers 500 on its health path, rolled out in two waves"))?;
        self.publish(client, version, 500).await?;
        let mut answers = BTreeMap::new();
        let ports = self.ports();
        let mut followed = self.begin(client, version).await?;
        let paused = tokio::select! {
            paused = followed.until("paused") => paused?,
            never = watch::ask_all(&ports, &mut answers) => match never {},
        };
        let nodes = || paused.waves.iter().flat_map(|wave| &wave.nodes);
        let told: Vec<&str> = nodes().filter(|node| node.generation.is_some()).map(|node| node.node.as_str()).collect();
        ensure!(told == [CANARY], "it should have reached {CANARY} alone, not {told:?}");
        for (node, answers) in &answers {
            let may_try = node.as_str() == CANARY;
            let is_foreign = |answered: &&String| *answered != before && !(may_try && *answered == version);
            let foreign = answers.keys().flatten().find(is_foreign);
            ensure!(foreign.is_none(), "on {node} answered {foreign:?}");
            self.screen.say(format!("  {node:<7} meanwhile answered: {}", watch::in_words(answers, version)))?;
        }
        followed.revert("it is broken").await?.until("reverted").await?;
        self.expect(client, before, false).await?;
        self.screen.say(format!("No other node has seen it, and {before} serves as before."))?;
        Ok(())
    }

    /// Plans a rollout to all nodes, looks whether the waves are as they should be, and begins just that.
    async fn begin<'a>(&'a self, client: &'a Client, version: &str) -> anyhow::Result<Followed<'a>> {
        let request = RolloutRequest {
            app: greeter::app()?,
            version: version.parse()?,
            to: vec!["all".to_owned()],
            canaries: vec![CANARY.parse()?],
            waves: Vec::new(),
            policy: RolloutPolicy {
                soak_secs: vec![SOAK_SECS],
                failures: vec![Allowance::Count(0)],
                on_failure: OnFailure::Pause,
                ..RolloutPolicy::default()
            },
            deed: DeedRequest { note: Some("the demo".to_owned()) },
            plan: None,
            ignore_windows: false,
        };
        let plan: RolloutPlan = client.ask("/v1/rollouts/plan", &request).await?;
        let sizes: Vec<usize> = plan.waves.iter().map(|wave| wave.nodes.len()).collect();
        ensure!(sizes == [1, self.nodes.len() - 1], "the plan should have {CANARY}, then the others, not {sizes:?}");
        let events = client.events(client.newest_event().await?).await?;
        let request = RolloutRequest { plan: Some(plan.mark), ..request };
        let begun: RolloutView = client.post("/v1/rollouts", &request).await?;
        Ok(Followed { demo: self, client, events, id: begun.rollout, shown: 0 })
    }
}

impl Followed<'_> {
    /// Shows what happens until the rollout is in this status; any other in which it stays is a failure.
    async fn until(&mut self, status: &str) -> anyhow::Result<RolloutView> {
        let deadline = Instant::now() + LONGEST;
        loop {
            let view: RolloutView = self.client.get(&format!("/v1/rollouts/{}", self.id)).await?;
            for entry in view.log.iter().skip(self.shown) {
                self.show(entry)?;
            }
            self.shown = view.log.len();
            let (id, reason) = (view.rollout, &view.reason);
            if view.status == status {
                return Ok(view);
            }
            let goes_on = matches!(view.status.as_str(), "running" | "reverting");
            ensure!(goes_on, "rollout {id} should be {status}, but is {}: {reason}", view.status);
            ensure!(Instant::now() < deadline, "rollout {id} is not {status} after {LONGEST:?}: {reason}");
            self.show_events(Instant::now() + PAUSE).await?;
        }
    }

    fn show(&self, entry: &RolloutEntry) -> std::io::Result<()> {
        let head = match entry.code.as_str() {
            // The node's own event says it.
            "failed" => return Ok(()),
            code @ ("paused" | "done" | "reverted") => format!("{code}: "),
            _ => String::new(),
        };
        self.demo.screen.say(format!("  rollout {head}{}", output::clean(&entry.text)))
    }

    async fn show_events(&mut self, until: Instant) -> anyhow::Result<()> {
        while let Ok(event) = timeout_at(until, self.events.next()).await {
            self.demo.screen.event(&event.context("cannot follow the events")?)?;
        }
        Ok(())
    }

    async fn revert(&mut self, why: &str) -> anyhow::Result<&mut Self> {
        let request = DeedRequest { note: Some(why.to_owned()) };
        let _: RolloutView = self.client.post(&format!("/v1/rollouts/{}/revert", self.id), &request).await?;
        Ok(self)
    }
}
