//! `orangery demo`: the whole of it on this machine, with real processes, keys, certificates and files, all of them below
//! one temporary directory. Nothing here is done in another way than by the commands.

mod expect;
mod greeter;
mod node;
mod place;
mod play;
mod programs;
mod running;
mod screen;
mod watch;
mod waves;

use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{DemoArgs, Outcome};
use crate::client::Client;
use node::DemoNode;
use place::Place;
use programs::Programs;
use running::Running;
use screen::{Redraw, Screen};

const COORDINATOR_GRACE: Duration = Duration::from_secs(15);

/// Everything that the demo has started, so that it can be ended.
struct Demo {
    place: Place,
    programs: Programs,
    screen: Screen,
    redraw: Option<Redraw>,
    coordinator: Option<Running>,
    nodes: Vec<DemoNode>,
}

/// Plays the demo. Whatever happens, nothing of it runs afterwards, and its directory is gone unless it is to be kept.
pub async fn run(args: DemoArgs) -> anyhow::Result<Outcome> {
    let programs = Programs::find().await?;
    let place = Place::make(args.keep)?;
    let mut demo = Demo { place, programs, screen: Screen::new(), redraw: None, coordinator: None, nodes: Vec::new() };
    let mut interrupted = std::pin::pin!(interrupted().context("cannot listen for signals")?);
    let played = tokio::select! {
        played = demo.play() => played,
        () = &mut interrupted => Err(Interrupted.into()),
    };
    if played.is_ok() && !args.once {
        demo.tell_where()?;
        interrupted.await;
    }
    let ended = demo.end().await;
    played.and(ended).map(|()| Outcome::Done)
}

/// Somebody wants the demo to end.
#[derive(Debug, thiserror::Error)]
#[error("the demo was interrupted")]
struct Interrupted;

/// Resolves on SIGINT, SIGTERM or SIGHUP; from now on none of them ends this process by itself.
fn interrupted() -> std::io::Result<impl Future<Output = ()>> {
    let mut signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
    for signal in &mut signals {
        if let Err(error) = signal {
            return Err(std::io::Error::new(error.kind(), error.to_string()));
        }
    }
    Ok(async move {
        let waits = signals.iter_mut().flatten().map(|signal| Box::pin(signal.recv()));
        futures_util::future::select_all(waits).await;
    })
}

impl Demo {
    fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::open(&self.place.home())?)
    }

    /// What can be done by hand while the demo stays up.
    fn tell_where(&self) -> anyhow::Result<()> {
        let (home, url) = (self.place.home(), self.client()?.url().to_owned());
        let (ca, token) = (home.coordinator_file("ca.pem"), home.operator_token());
        self.screen.say(format!(
            "\nIt stays up until Ctrl-C. The REST API is at {url}:\n\n  \
             curl --cacert {} -H \"Authorization: Bearer $(cat {})\" {url}/v1/status\n\n\
             And the commands, such as status, events or why attic:\n\n  {} --dir {} status",
            ca.display(),
            token.display(),
            self.programs.orangery.display(),
            home.root().display(),
        ))?;
        Ok(())
    }

    /// Agents first, since they stop their apps; then what they could not stop; then the coordinator; then the directory.
    async fn end(mut self) -> anyhow::Result<()> {
        drop(self.redraw.take());
        futures_util::future::join_all(self.nodes.iter_mut().map(DemoNode::stop)).await;
        self.place.kill_apps();
        if let Some(coordinator) = self.coordinator.take() {
            coordinator.stop(COORDINATOR_GRACE).await;
        }
        self.place.close()
    }
}
