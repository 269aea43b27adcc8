//! Commands that come from the house: done as a user of Orangery's, by the roads that their commands take elsewhere.

use std::sync::Arc;
use std::time::Duration;

use orangery_wire::rest::{DeedRequest, DeployRequest, HoldRequest, ReleaseHoldRequest, Role};
use orangery_wire::{AppName, NodeId, UserName, Version};
use tokio::time::Instant;

use super::payload::{HOLD, INSTALL, RELEASE};
use super::ration::Ration;
use super::topics::Asked;
use crate::engine::{Actor, Engine, Record, Refused, Survey};
use crate::store::{Reader, StoreError, View};

/// What the audit log has in the place of a token's id: it came from Home Assistant.
const ORIGIN: &str = "home-assistant";
/// Commands that are taken at once, and after those one in so much time. Whoever updates more nodes at once wants a rollout.
const COMMANDS_BURST: u32 = 60;
const COMMAND_EACH: Duration = Duration::from_secs(10);
/// Refusals for the user's role that are written down at once, and after those one in so much time.
const REFUSALS_BURST: u32 = 10;
const REFUSAL_EACH: Duration = Duration::from_mins(6);
/// Longest payload of a command, in bytes.
const PAYLOAD_BYTES_MAX: usize = 128;
/// What is written down as the reason.
const NOTE: &str = "asked for in Home Assistant";

/// One command, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wish {
    /// Hold a node.
    Hold(NodeId),
    /// End the hold of a node.
    Release(NodeId),
    /// Bring a release to a node.
    Install(NodeId, AppName, Version),
}

impl Wish {
    /// What is asked for by a payload at a topic; `Err` says what is wrong with it.
    pub(super) fn of(asked: Asked, payload: &[u8]) -> Result<Self, &'static str> {
        let text = std::str::from_utf8(payload).ok().filter(|text| text.len() <= PAYLOAD_BYTES_MAX);
        match (asked, text.ok_or("the payload is no short text")?) {
            (Asked::Hold(node), HOLD) => Ok(Self::Hold(node)),
            (Asked::Release(node), RELEASE) => Ok(Self::Release(node)),
            (Asked::Install(node, app), text) => {
                let version = text.strip_prefix(INSTALL).and_then(|rest| rest.strip_prefix(' '));
                let version = version.and_then(|version| version.parse().ok());
                let version = version.ok_or("the payload is not: install VERSION")?;
                Ok(Self::Install(node, app, version))
            }
            (Asked::Hold(_) | Asked::Release(_), _) => Err("the payload is not the one of the button"),
        }
    }

    /// In few words.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Hold(_) => HOLD.to_owned(),
            Self::Release(_) => RELEASE.to_owned(),
            Self::Install(_, app, version) => format!("{INSTALL} {app} {version}"),
        }
    }

    /// What is written down of it when it is refused before the engine has heard of it.
    fn record(&self) -> Record {
        match self {
            Self::Hold(node) => Record::new("node.hold", format!("node {node}")),
            Self::Release(node) => Record::new("node.release", format!("node {node}")),
            Self::Install(node, app, version) => Record::new("deploy", format!("{app} {version}")).with("to", node),
        }
    }
}

/// Does commands.
pub(super) struct Commands {
    engine: Engine,
    reader: Arc<Reader>,
    acts_as: UserName,
    begun: Instant,
    taken: Ration,
    refused: Ration,
}

impl Commands {
    pub(super) fn new(engine: Engine, reader: Arc<Reader>, acts_as: UserName) -> Self {
        let taken = Ration::new(COMMANDS_BURST, COMMAND_EACH);
        let refused = Ration::new(REFUSALS_BURST, REFUSAL_EACH);
        Self { engine, reader, acts_as, begun: Instant::now(), taken, refused }
    }

    /// Whether one more is taken now.
    pub(super) fn take(&mut self) -> bool {
        self.taken.take(self.begun.elapsed())
    }

    /// Does it, if the user may; says what it came to.
    pub(super) async fn obey(&mut self, wish: &Wish) -> Result<String, String> {
        if let Err((code, reason)) = self.may().await {
            if self.refused.take(self.begun.elapsed()) {
                let written = self.by_user().record(wish.record().ended(code)).await;
                written.unwrap_or_else(|refused| tracing::warn!(reason = %refused, "a refusal was not written down"));
            }
            return Err(reason);
        }
        let engine = self.by_user();
        let done = match wish {
            Wish::Hold(node) => {
                let request = HoldRequest { app: None, expires_secs: None, deed: deed() };
                engine.hold(node.clone(), request).await.map(|_| "held".to_owned())
            }
            Wish::Release(node) => engine
                .release_hold(node.clone(), ReleaseHoldRequest { app: None })
                .await
                .map(|()| "released".to_owned()),
            Wish::Install(node, app, version) => return self.install(node, app, version).await,
        };
        done.map_err(|refused| refused.to_string())
    }

    fn by_user(&self) -> Engine {
        let token = Some(ORIGIN.to_owned());
        self.engine.by(Actor { who: self.acts_as.to_string(), token, from: None })
    }

    /// The role is looked up for each command: it may have been taken away, and the user too.
    async fn may(&self) -> Result<(), (&'static str, String)> {
        let name = self.acts_as.clone();
        let user = self.read(move |view| view.user(&name)).await;
        match user {
            Err(reason) => Err(("unavailable", reason)),
            Ok(None) => {
                let name = &self.acts_as;
                let text = format!("there is no user {name}: `orangery user add {name} --role operator`");
                Err(("unknown_user", text))
            }
            Ok(Some(user)) if user.role < Role::Operator => Err((
                "forbidden",
                format!("this is for the role operator, and {} has the role {}", user.name, user.role),
            )),
            Ok(Some(_)) => Ok(()),
        }
    }

    /// Plans it, looks at the plan, and has exactly that done.
    async fn install(&self, node: &NodeId, app: &AppName, version: &Version) -> Result<String, String> {
        let (app, version) = (app.clone(), Some(version.clone()));
        let request = DeployRequest { app, version, to: node.to_string(), plan: None, deed: deed() };
        let (asked, live) = (request.clone(), self.engine.live().clone());
        let plan = self.read(move |view| Ok(Survey::read(view, &asked.app)?.plan(&asked, &live))).await?;
        let plan = plan.map_err(|refused| refused.to_string())?;
        match &plan.steps[..] {
            [step] if step.node == *node && step.changes => {}
            [step] if step.node == *node => {
                return Err(step.warning.clone().unwrap_or_else(|| "it was told that already".to_owned()));
            }
            _ => return Err("that is not one node".to_owned()),
        }
        let request = DeployRequest { plan: Some(plan.mark), ..request };
        let done = self.by_user().deploy(request).await.map_err(|refused: Refused| refused.to_string())?;
        let generation = done.steps.first().map_or(0, |step| step.generation);
        Ok(format!("the node is told, generation {generation}"))
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(View<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, String> {
        let reader = self.reader.clone();
        let read = tokio::task::spawn_blocking(move || reader.read(work)).await;
        read.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }
}

fn deed() -> DeedRequest {
    DeedRequest { note: Some(NOTE.to_owned()) }
}
