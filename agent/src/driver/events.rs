//! What the driver tells: events through the outbox, the proof, and answers on this node.

use orangery_wire::messages::{Acked, AppReport, ReleaseRef, Reported, What};
use orangery_wire::{AppName, ReleaseId, Version, messages};

use super::Driver;
use crate::control::{Reply, Request, StatusView};
use crate::errors::chain;

/// How many events are handed to the link at once.
const OFFER: usize = 10;

impl Driver {
    /// Stores an event and offers it to the coordinator. No deployment waits for this, and none fails by it.
    pub(super) fn tell(&mut self, app: Option<&AppName>, what: &What) {
        if let Err(error) = self.outbox.push(what, app) {
            // Said once, and not again with every event.
            if !std::mem::replace(&mut self.outbox_fails, true) {
                tracing::error!(reason = %chain(&error), code = what.code(), "cannot store an event; it waits in memory");
            }
            return;
        }
        self.outbox_fails = false;
        self.offer();
    }

    /// Stores what waits in memory, if the disk takes it by now.
    pub(super) fn catch_up(&mut self) {
        if matches!(self.outbox.catch_up(), Ok(true)) {
            tracing::info!("stored the events that waited in memory");
            self.outbox_fails = false;
            self.offer();
        }
    }

    /// Hands stored events to the link, in order, as long as it takes them.
    pub(super) fn offer(&mut self) {
        if !self.connected {
            return;
        }
        loop {
            let waiting = match self.outbox.unacked(self.offered, OFFER) {
                Ok(waiting) => waiting,
                Err(error) => return tracing::error!(reason = %chain(&error), "cannot read the outbox"),
            };
            if waiting.is_empty() {
                return;
            }
            for (sequence, payload) in waiting {
                if !self.outside.event(sequence, payload) {
                    return;
                }
                self.offered = sequence;
            }
        }
    }

    /// The coordinator has stored events; they are forgotten here and the next ones offered.
    pub(super) fn acked(&mut self, acked: Acked) {
        if let Err(error) = self.outbox.acked(acked) {
            tracing::error!(reason = %chain(&error), "cannot shorten the outbox");
        }
        if acked.epoch == self.outbox.epoch() {
            self.outside.acked(acked.sequence);
        }
        // The same once more is what a coordinator says that has come back: what was sent meanwhile did not reach it.
        if self.last_acked.replace(acked) == Some(acked) {
            self.outside.forget_events();
            self.offered = 0;
        }
        self.offer();
    }

    /// Sends the proof if anything in it has changed.
    pub fn report(&mut self) {
        let next = (self.outside.trust(), self.reported_apps());
        if self.last_reported.as_ref() != Some(&next) {
            self.last_reported = Some(next);
            let report = self.reported_bytes();
            self.outside.report(report);
        }
    }

    pub(super) fn reported_bytes(&mut self) -> Vec<u8> {
        self.reports += 1;
        // Nothing in it can fail to serialise.
        serde_json::to_vec(&self.reported()).unwrap_or_default()
    }

    fn reported(&self) -> Reported {
        let home = &self.home;
        Reported {
            format: messages::FORMAT,
            node: home.node.clone(),
            boot_id: home.boot_id.clone(),
            // Starts are counted on the disk, reports of one run in memory: it grows without a write for each report.
            sequence: (self.node.starts << 32) | self.reports,
            generation: self.node.generation,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            platform: orangery_wire::manifest::this_platform(),
            board: home.board.clone(),
            labels: home.labels.clone(),
            trust: self.outside.trust(),
            apps: self.reported_apps(),
        }
    }

    fn reported_apps(&self) -> Vec<AppReport> {
        let report = |(name, app): (&AppName, &super::apps::App)| {
            let record = &app.state.record;
            let named = |id: Option<ReleaseId>| id.and_then(|id| self.named(name, id));
            AppReport {
                app: name.clone(),
                generation: record.generation,
                desired: named(record.desired),
                current: named(record.current),
                running: named(self.outside.running(name)),
                phase: record.phase_name(),
                refusal: record.refused.clone(),
                healthy: app.healthy,
                revoked: app.is_revoked(),
                unwitnessed: app.state.unwitnessed,
                waits: app.waits.clone(),
            }
        };
        self.apps.iter().map(report).collect()
    }

    /// A release with its version, as far as the node remembers it.
    pub(super) fn named(&self, app: &AppName, id: ReleaseId) -> Option<ReleaseRef> {
        Some(ReleaseRef { id, version: self.version(app, id)? })
    }

    pub(super) fn version(&self, app: &AppName, id: ReleaseId) -> Option<Version> {
        let remembered = self.apps.get(app)?.state.versions.get(&id).cloned();
        remembered.or_else(|| {
            let manifest = crate::install::sealed(&*self.home.disk, &self.home.layout, app, &id)?;
            Some(manifest.version)
        })
    }

    /// Answers somebody on this node.
    pub(super) fn answer(&mut self, request: Request) -> Reply {
        match request {
            Request::Status => Reply::Status(Box::new(StatusView {
                running: true,
                connected: self.connected,
                url: Some(self.home.url.clone()),
                events_waiting: self.outbox.waiting(),
                clock: self.home.clock.state(),
                reported: self.reported(),
            })),
            Request::History { count } => match self.outbox.history(usize::try_from(count).unwrap_or(usize::MAX)) {
                Ok(events) => Reply::History(events),
                Err(error) => Reply::Refused(format!("cannot read the history: {}", chain(&error))),
            },
            Request::Install { app, version, place } => match self.bring(app, version, place) {
                Ok(()) => Reply::Install(Box::new(self.install_view())),
                Err(reason) => Reply::Refused(reason),
            },
            Request::InstallState => Reply::Install(Box::new(self.install_view())),
            Request::Rollback { app } => match self.roll_back(&app) {
                Ok(version) => Reply::Done(format!(
                    "{app} goes back to {version}; it stays there until something newer is deployed"
                )),
                Err(reason) => Reply::Refused(reason),
            },
        }
    }
}
