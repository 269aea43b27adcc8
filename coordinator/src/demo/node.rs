//! One node of the demo: a directory, an agent, a port on which its greeter listens.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use orangery_wire::NodeId;

use super::place::Place;
use super::programs::Programs;
use super::running::Running;

const JOIN_TIME_MAX: Duration = Duration::from_secs(30);
/// An agent stops its apps before it ends itself.
const STOP_GRACE: Duration = Duration::from_secs(15);

/// A node of the demo.
pub struct DemoNode {
    /// Its name.
    pub name: NodeId,
    /// The port on which its greeter listens.
    pub port: u16,
    settings: PathBuf,
    log: PathBuf,
    agent: Option<Running>,
}

impl DemoNode {
    /// Writes the node's settings: the agent's directory, apps as its own processes, the greeter's port.
    pub fn prepare(place: &Place, name: NodeId, port: u16) -> anyhow::Result<Self> {
        let directory = place.node(name.as_str());
        fs::create_dir(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let settings = directory.join("agent.toml");
        let text = format!(
            "state_dir = \"state\"\n\n[labels]\nroom = \"{name}\"\n\n[runner]\ndefault = \"process\"\n\n\
             [link]\nkeepalive_secs = 5\nbackoff_max_secs = 2\n\n[fetch]\nbackoff_max_secs = 2\nreserve_bytes = 0\n\n\
             [health]\ninterval_secs = 5\n\n[apps.greeter.env]\nPORT = \"{port}\"\n"
        );
        fs::write(&settings, text)?;
        let log = place.log(name.as_str());
        Ok(Self { name, port, settings, log, agent: None })
    }

    /// `orangery-agent join TOKEN`
    pub async fn join(&self, programs: &Programs, token: &str) -> anyhow::Result<()> {
        let arguments = ["join", token, "--config", &self.settings.to_string_lossy()];
        let join =
            Running::start(&format!("`orangery-agent join` on {}", self.name), &programs.agent, &arguments, &self.log)?;
        join.finish(JOIN_TIME_MAX).await
    }

    /// `orangery-agent run`
    pub fn start(&mut self, programs: &Programs) -> anyhow::Result<()> {
        let arguments = ["run", "--config", &self.settings.to_string_lossy()];
        self.agent =
            Some(Running::start(&format!("the agent of {}", self.name), &programs.agent, &arguments, &self.log)?);
        Ok(())
    }

    /// Fails if the agent has ended by itself.
    pub fn ensure_runs(&mut self) -> anyhow::Result<()> {
        self.agent.as_mut().map_or(Ok(()), Running::ensure_runs)
    }

    /// SIGKILL to the agent. Its app is a process of its own and lives on.
    pub async fn kill_agent(&mut self) -> anyhow::Result<()> {
        match self.agent.take() {
            Some(agent) => agent.kill().await,
            None => Ok(()),
        }
    }

    /// SIGTERM to the agent, which then stops its apps.
    pub async fn stop(&mut self) {
        if let Some(agent) = self.agent.take() {
            agent.stop(STOP_GRACE).await;
        }
    }
}
