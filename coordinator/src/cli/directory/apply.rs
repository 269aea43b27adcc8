//! A plan is done by the same routes as by hand, one deed after the other, each only if it is still what was shown.

use anyhow::Context as _;
use orangery_wire::rest::{
    DeedRequest, GroupView, HoldRequest, HoldView, Plan as Deployment, ReleaseHoldRequest, RolloutPlan, RolloutRequest,
    RolloutView,
};
use orangery_wire::{AppName, Version};
use serde_json::{Value, json};

use crate::client::{Client, ClientError};
use crate::fleet::{GroupChange, HoldChange, Plan, PlannedRollout, PlannedStop};
use crate::output;

/// How a plan is done and what is kept of it.
pub struct How<'a> {
    /// What follows `orangery plan` where it shows what is left.
    pub place: String,
    /// Why, in the words of whoever applies it.
    pub note: Option<&'a str>,
    /// The commit in words, if it is of one.
    pub origin: Option<String>,
    /// The commit's id, if it is of one.
    pub commit: Option<&'a str>,
    /// Whether deeds are said as JSON.
    pub json: bool,
}

/// A later rollout of a plan would not be the one that was shown.
#[derive(Debug, thiserror::Error)]
#[error("the rollout of {app} {version} would not be the one that the plan showed any more")]
struct NotAsShown {
    app: AppName,
    version: Version,
}

/// How often a plan is made again that the fleet has overtaken: nodes report and rollouts end at any moment.
pub const AGAIN_MAX: u32 = 3;
/// What is said then.
pub const MADE_AGAIN: &str = "The fleet has changed since that plan was made; it is made again.";

/// Whether a plan could not be applied since the fleet had moved on. What was done of it is not in the next one.
pub fn is_overtaken(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let client = cause.downcast_ref::<ClientError>();
        cause.is::<NotAsShown>() || client.is_some_and(|error| error.code() == Some("plan_changed"))
    })
}

/// Does a plan: windows, then holds, then rollouts, then what stops. Says what had been done when it cannot go on.
pub async fn apply(client: &Client, plan: &Plan, how: &How<'_>) -> anyhow::Result<()> {
    let mut work = Work { client, plan, how, done: 0 };
    let all = plan.draft.groups.len() + plan.draft.holds.len() + plan.rollouts.len() + plan.stops.len();
    work.all().await.with_context(|| {
        let (done, place) = (work.done, &how.place);
        format!("{done} of {all} changes were made before this; `orangery plan {place}` shows what is left")
    })
}

struct Work<'a> {
    client: &'a Client,
    plan: &'a Plan,
    how: &'a How<'a>,
    done: usize,
}

impl Work<'_> {
    async fn all(&mut self) -> anyhow::Result<()> {
        let plan = self.plan;
        for change in &plan.draft.groups {
            self.group(change).await?;
        }
        for change in &plan.draft.holds {
            self.hold(change).await?;
        }
        for (k, rollout) in plan.rollouts.iter().enumerate() {
            let view = self.begin(rollout, k > 0).await?;
            let id = view.rollout;
            let text = format!(
                "Rollout {id} of {} {} has begun. `orangery rollout show {id} --watch` follows it.",
                view.app, view.version
            );
            self.tell(&text, &json!({ "rollout": id, "app": view.app, "version": view.version }))?;
        }
        for stop in &plan.stops {
            let (node, app) = (&stop.step.node, &stop.step.app);
            let request = PlannedStop::request(&stop.step, Some(stop.mark), self.deed());
            let failed = || format!("cannot stop {app} on {node}");
            let _: Deployment = self.client.post("/v1/deployments", &request).await.with_context(failed)?;
            self.tell(&format!("{node} is told to stop {app}."), &json!({ "stopped": app, "node": node }))?;
        }
        Ok(())
    }

    async fn group(&mut self, change: &GroupChange) -> anyhow::Result<()> {
        let group = &change.group;
        let commit = self.how.commit;
        let path = format!("/v1/groups/{group}");
        let failed = || format!("cannot change the windows of the group {group}");
        let done = if let Some(request) = change.request(commit) {
            let _: GroupView = self.client.post(&path, &request).await.with_context(failed)?;
            "has its maintenance windows"
        } else {
            let deed = self.deed();
            self.client.post_unanswered(&format!("{path}/remove"), &deed).await.with_context(failed)?;
            "has no maintenance windows any more"
        };
        self.tell(&format!("The group {group} {done}."), &json!({ "group": group, "windows": change.says.is_some() }))
    }

    async fn hold(&mut self, change: &HoldChange) -> anyhow::Result<()> {
        let HoldChange { node, app, reason, until } = change;
        let what = app.as_ref().map_or_else(|| node.to_string(), |app| format!("{app} on {node}"));
        if reason.is_none() {
            let request = ReleaseHoldRequest { app: app.clone() };
            self.client.post_unanswered(&format!("/v1/nodes/{node}/release"), &request).await?;
            return self.tell(&format!("{what} is not held any more."), &json!({ "released": node, "app": app }));
        }
        let expires_secs = until.map(|until| until.saturating_sub(output::now()).max(1));
        let note = change.note(self.how.commit);
        let deed = DeedRequest { note };
        let request = HoldRequest { app: app.clone(), expires_secs, deed };
        let _: HoldView = self.client.post(&format!("/v1/nodes/{node}/hold"), &request).await?;
        self.tell(&format!("{what} is held."), &json!({ "held": node, "app": app }))
    }

    /// Begins a rollout. The coordinator's mark is of its waves and of all rollouts before it. When one of ours was just begun,
    /// the mark is another one: then the waves must be those that were shown.
    async fn begin(&self, rollout: &PlannedRollout, is_later: bool) -> anyhow::Result<RolloutView> {
        let mut request = RolloutRequest { deed: self.deed(), ..rollout.request.clone() };
        if is_later {
            let now: RolloutPlan =
                self.client.ask("/v1/rollouts/plan", &RolloutRequest { plan: None, ..request.clone() }).await?;
            if now.waves != rollout.waves || now.supersedes != rollout.supersedes {
                return Err(NotAsShown { app: rollout.app.clone(), version: rollout.version.clone() }.into());
            }
            request.plan = Some(now.mark);
        }
        let failed = || format!("cannot begin the rollout of {} {}", rollout.app, rollout.version);
        self.client.post("/v1/rollouts", &request).await.with_context(failed)
    }

    /// By which plan of which commit.
    fn deed(&self) -> DeedRequest {
        let own = self.how.note.map(|note| format!("{note}; ")).unwrap_or_default();
        let commit = self.how.origin.as_ref().map(|origin| format!(" of {origin}")).unwrap_or_default();
        DeedRequest { note: Some(format!("{own}fleet plan {}{commit}", self.plan.digest)) }
    }

    fn tell(&mut self, text: &str, done: &Value) -> anyhow::Result<()> {
        self.done += 1;
        if self.how.json {
            output::json_line(&json!({ "done": done }))?;
        } else {
            output::line(text)?;
        }
        Ok(())
    }
}
