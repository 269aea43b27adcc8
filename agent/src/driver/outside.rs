//! What the driver has others do for it. Nothing here waits: what is begun ends in an [`Event`], or in nothing that the
//! driver would have to know.
//!
//! There are two: [`Hands`], which is the agent's runtime, runners, installer and connection, and that of the simulation
//! (`tests/sim`), where a thousand nodes run this very driver in virtual time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use orangery_wire::limits::EVIDENCE_LINES_MAX;
use orangery_wire::messages::{Evidence, Health, ReleaseRef, Show, TrustReport};
use orangery_wire::{AppName, NodeId, ReleaseId, Version};

use super::{Event, World, effects, show};
use crate::clock::Clock;
use crate::deployment::Effect;
use crate::disk::Disk;
use crate::evidence;
use crate::health::Sampler;
use crate::layout::Layout;
use crate::link::Link;
use crate::record::AppState;
use crate::road::{Place, Road};

/// The node as the driver knows it: who it is, where its state lies, what time it is.
pub struct Home {
    /// This node.
    pub node: NodeId,
    /// Its coordinator's address.
    pub url: String,
    /// The board's model, if it says.
    pub board: Option<String>,
    /// This boot.
    pub boot_id: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Where things are.
    pub layout: Layout,
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// The time.
    pub clock: Arc<Clock>,
}

impl Home {
    pub(super) fn of(world: &World) -> Self {
        Self {
            node: world.node.clone(),
            url: world.url.clone(),
            board: world.board.clone(),
            boot_id: world.boot_id.clone(),
            labels: world.settings.labels.clone(),
            layout: world.layout.clone(),
            disk: world.disk.clone(),
            clock: world.clock.clone(),
        }
    }
}

/// Calls off what was begun. It may have ended already, and its event may be on its way.
pub type CallOff = Box<dyn FnOnce() + Send>;

/// Everything that is not a decision of the driver and not its durable state.
pub trait Outside: Send {
    /// Begins an effect of an app, whose record is saved as `state`. Ends in [`Event::Outcome`] with this serial.
    fn begin(&self, app: &AppName, serial: u64, effect: Effect, state: &AppState) -> CallOff;
    /// Asks the probes of a committed release from now on; [`Event::AppHealth`] says when they change their mind.
    fn watch(&self, app: &AppName, release: ReleaseId) -> CallOff;
    /// Says `event` after the pause.
    fn later(&self, pause: Duration, event: Event);
    /// A release is proven: it may start at boot from now on.
    fn commit(&self, app: &AppName, release: ReleaseId);
    /// Removes releases of the app that are not in `keep`. May read from the records themselves which those are, of all apps.
    fn collect(&self, app: &AppName, keep: Vec<ReleaseId>);
    /// Makes the bytes that are kept for a full disk whole again, if that is needed and there is room.
    fn mend_reserve(&self) {}
    /// Asks what speaks against releases that are here; ends in [`Event::Judged`].
    fn judge(&self, releases: Vec<(AppName, ReleaseRef)>);
    /// Reads a release that somebody brings; ends in [`Event::Brought`].
    fn bring(&self, app: AppName, version: Version, place: Place);
    /// Bytes of the pack that is being brought that are here, and all of them.
    fn brought_bytes(&self) -> Option<(u64, u64)>;
    /// What runs of the app at this moment.
    fn running(&self, app: &AppName) -> Option<ReleaseId>;
    /// What a release left behind that took its last try with it, and so perhaps the whole node. Waits two seconds at most.
    fn left_behind(&self, _app: &AppName, _release: ReleaseId) -> Option<Evidence> {
        None
    }
    /// What is to be told of the trusted metadata.
    fn trust(&self) -> TrustReport;
    /// How the node is.
    fn health(&self) -> Health;
    /// The coordinator is reached: attempts that wait are made at once.
    fn reconnected(&self);
    /// The longest that the node took to come back after a loss of its coordinator.
    fn slowest_reconnection(&self) -> Duration;
    /// The node's certificate was refused: a new one is asked for soon.
    fn certificate_refused(&self);
    /// Publishes the proof, now and on each connection, until there is a newer one.
    fn report(&self, report: Vec<u8>);
    /// Publishes a health message, or drops it.
    fn tell_health(&self, health: Vec<u8>);
    /// Hands over an event; false if there is no room for it now.
    fn event(&self, sequence: u64, payload: Vec<u8>) -> bool;
    /// The coordinator has stored every event up to this one.
    fn acked(&self, sequence: u64);
    /// No event is in flight any more.
    fn forget_events(&self);
    /// Has the coordinator see what an app wrote last, or leaves it.
    fn show(&self, _show: Show) {}
}

/// The agent's own.
pub(super) struct Hands {
    pub(super) world: Arc<World>,
    pub(super) link: Link,
    pub(super) sampler: Sampler,
}

impl Outside for Hands {
    fn begin(&self, app: &AppName, serial: u64, effect: Effect, state: &AppState) -> CallOff {
        let (world, app, versions) = (self.world.clone(), app.clone(), state.versions.clone());
        let gated = state.connected_before;
        let task = self.world.runtime.spawn(async move {
            let outcome = effects::perform(&world, &app, effect, &versions, gated).await;
            let _ = world.events.send(Event::Outcome { app, serial, outcome });
        });
        Box::new(move || task.abort())
    }

    fn watch(&self, app: &AppName, release: ReleaseId) -> CallOff {
        let (world, app) = (self.world.clone(), app.clone());
        let task = self.world.runtime.spawn(async move { effects::watch(&world, &app, release).await });
        Box::new(move || task.abort())
    }

    fn later(&self, pause: Duration, event: Event) {
        let events = self.world.events.clone();
        self.world.runtime.spawn(async move {
            tokio::time::sleep(pause).await;
            let _ = events.send(event);
        });
    }

    fn commit(&self, app: &AppName, release: ReleaseId) {
        let (runners, app) = (self.world.runners.clone(), app.clone());
        self.world.runtime.spawn(async move {
            if let Err(reason) = runners.commit(&app, release).await {
                // The next start of the agent runs `current` and with it this again.
                tracing::error!(%app, reason, "cannot make the release start at boot");
            }
        });
    }

    fn collect(&self, _: &AppName, _: Vec<ReleaseId>) {
        let world = self.world.clone();
        self.world.runtime.spawn(async move {
            match world.installer.collect(false).await {
                Ok(0) => {}
                Ok(count) => tracing::info!(count, "removed releases that are no longer needed"),
                Err(error) => {
                    tracing::warn!(reason = %error, "cannot remove old releases; will try at the next commit");
                }
            }
        });
    }

    fn mend_reserve(&self) {
        if self.world.reserve.missing_bytes() > 0 {
            let world = self.world.clone();
            self.world.runtime.spawn(async move { world.installer.mend_reserve().await });
        }
    }

    fn judge(&self, releases: Vec<(AppName, ReleaseRef)>) {
        let world = self.world.clone();
        self.world.runtime.spawn(async move {
            let judged = world.installer.objections(releases).await;
            let _ = world.events.send(Event::Judged(judged));
        });
    }

    fn bring(&self, app: AppName, version: Version, place: Place) {
        let world = self.world.clone();
        self.world.runtime.spawn(async move {
            let clock = world.clock.clone();
            let opened = tokio::task::spawn_blocking(move || Road::open(&place, &clock)).await;
            let outcome = match opened {
                Ok(Ok(road)) => world.installer.bring(&road, &app, &version).await,
                Ok(Err(error)) => Err(error.into()),
                Err(error) => Err(crate::install::InstallFailure::Again(error.to_string())),
            };
            let _ = world.events.send(Event::Brought(outcome));
        });
    }

    fn brought_bytes(&self) -> Option<(u64, u64)> {
        self.world.installer.brought_bytes()
    }

    fn running(&self, app: &AppName) -> Option<ReleaseId> {
        self.world.runners.running(app)
    }

    fn left_behind(&self, app: &AppName, release: ReleaseId) -> Option<Evidence> {
        let output = self.world.runtime.block_on(self.world.runners.last_output(app, EVIDENCE_LINES_MAX));
        let hidden = self.world.hidden(app, Some(release));
        Some(evidence::of(None, Vec::new(), &output, &hidden)).filter(|evidence| !evidence.is_empty())
    }

    fn trust(&self) -> TrustReport {
        self.world.installer.trust_report(self.world.clock.now())
    }

    fn health(&self) -> Health {
        let runners = &self.world.runners;
        let exits = |app: &AppName| runners.life(app).borrow().exits;
        let apps = self.world.vitals.sample(exits, |app| runners.memory_bytes(app));
        Health { reserve: self.world.reserve.state(), apps, ..self.sampler.sample(&self.world.clock) }
    }

    fn reconnected(&self) {
        self.world.nudge.notify_waiters();
    }

    fn slowest_reconnection(&self) -> Duration {
        self.link.slowest_reconnection()
    }

    fn certificate_refused(&self) {
        if let Some(identity) = &self.world.identity {
            identity.renew_soon();
        }
    }

    fn report(&self, report: Vec<u8>) {
        self.link.report(report);
    }

    fn tell_health(&self, health: Vec<u8>) {
        self.link.health(health);
    }

    fn event(&self, sequence: u64, payload: Vec<u8>) -> bool {
        self.link.event(sequence, payload)
    }

    fn acked(&self, sequence: u64) {
        self.link.acked(sequence);
    }

    fn forget_events(&self) {
        self.link.forget_events();
    }

    fn show(&self, show: Show) {
        let world = self.world.clone();
        self.world.runtime.spawn(async move { show::tell(&world, show).await });
    }
}
