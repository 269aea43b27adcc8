//! What the engine does with what nodes say.

use orangery_wire::messages::{ClockState, Event, FORMAT, Online, Rejected, Reported, What};
use orangery_wire::topics::{Channel, topic};
use orangery_wire::{NodeId, UnixTime};

use super::audit::Record;
use super::command::Command;
use super::core::Turn;
use super::intake;
use crate::link::{FromNode, LinkEvent};
use crate::store::{ReportMark, StoreError};

/// What the coordinator's own events have for a boot id.
const OWN_BOOT_ID: &str = "coordinator";

impl Turn<'_> {
    pub(super) fn command(&mut self, command: Command) -> Result<(), StoreError> {
        self.record = Record::of(&command);
        match command {
            Command::By(actor, command) => {
                let before = std::mem::replace(&mut self.actor, actor);
                self.command(*command)?;
                self.actor = before;
            }
            Command::Link(LinkEvent::Up) => self.live.set_broker_connected(true),
            Command::Link(LinkEvent::Down { .. }) => self.live.set_broker_connected(false),
            Command::Link(LinkEvent::FromNode(message)) => self.message(&message)?,
            Command::Invite(secret, request, reply) => self.answer(reply, |turn| turn.invite(&secret, &request))?,
            Command::Join(joining, reply) => self.answer(reply, |turn| turn.join(joining))?,
            Command::Renew(renewing, reply) => self.answer(reply, |turn| turn.renew(renewing))?,
            Command::Revoke(node, reply) => self.answer(reply, |turn| turn.revoke(&node))?,
            Command::Publish(release, _, reply) => self.answer(reply, |turn| turn.publish(&release))?,
            Command::Deploy(request, reply) => self.answer(reply, |turn| turn.deploy(&request))?,
            Command::BeginRollout(request, reply) => self.answer(reply, |turn| turn.begin_rollout(&request))?,
            Command::WithRollout(id, deed, request, reply) => {
                self.answer(reply, |turn| turn.with_rollout(id, deed, &request))?;
            }
            Command::LookAtRollouts(reply) => {
                self.keep_used()?;
                self.keep_sessions()?;
                self.prune_now_and_then()?;
                self.answer(reply, |turn| turn.look_at_rollouts().map(Ok))?;
                self.look_at_conditions()?;
            }
            Command::Hold(node, request, reply) => self.answer(reply, |turn| turn.hold(&node, &request))?,
            Command::ReleaseHold(node, request, reply) => {
                self.answer(reply, |turn| turn.release_hold(&node, &request))?;
            }
            Command::SetGroup(name, request, reply) => self.answer(reply, |turn| turn.set_group(&name, &request))?,
            Command::RemoveGroup(name, request, reply) => {
                self.answer(reply, |turn| match super::rollouts::deed(&turn.actor.who, &request, turn.now, false) {
                    Ok(_) => turn.remove_group(&name),
                    Err(refused) => Ok(Err(refused)),
                })?;
            }
            Command::Record(_, reply) => self.answer(reply, |_| Ok(Ok(())))?,
            Command::User(deed, reply) => self.answer(reply, |turn| turn.user(&deed))?,
            Command::MarkTarget(row, reply) => {
                self.answer(reply, |turn| turn.batch.set_notify_target(&row).map(Ok))?;
            }
            Command::AskForOutput(node, _, reply) => self.answer(reply, |turn| {
                turn.outcome.desired.insert(node);
                Ok(Ok(()))
            })?,
            Command::Stop => {}
        }
        Ok(())
    }

    fn message(&mut self, message: &FromNode) -> Result<(), StoreError> {
        let FromNode { node, channel, payload } = message;
        self.live.count_message(*channel);
        if self.live.is_revoked(node) {
            // The embedded broker has cut it off; another one may not know.
            let rejected = Rejected { why: "revoked", reason: "the node was revoked".to_owned() };
            return self.reject(node, *channel, &rejected);
        }
        let read = self.part(|turn| match channel {
            Channel::Reported => turn.reported(node, payload),
            Channel::Event => turn.event(node, payload),
            Channel::Health => Ok(turn.health(node, payload)),
            Channel::Online => turn.online(node, payload),
            // The link subscribes to what nodes write, and to nothing else.
            Channel::Desired | Channel::Acked => Ok(Ok(())),
        });
        match read {
            Ok(Ok(())) => Ok(()),
            Ok(Err(rejected)) => self.reject(node, *channel, &rejected),
            Err(error) if error.is_about_values() => {
                let rejected = Rejected { why: "not_storable", reason: error.to_string() };
                self.reject(node, *channel, &rejected)
            }
            Err(error) => Err(error),
        }
    }

    /// A message that is not understood changes nothing but a count, and an event now and then.
    fn reject(&mut self, node: &NodeId, channel: Channel, rejected: &Rejected) -> Result<(), StoreError> {
        tracing::warn!(%node, channel = channel.as_str(), code = rejected.why, reason = rejected.reason, "message rejected");
        self.meet(node)?;
        if !self.batch.count_rejection(node, channel, rejected.why, self.now)? {
            return Ok(());
        }
        let what = What::MessageRejected {
            topic: topic(node, channel),
            why: rejected.why.to_owned(),
            reason: rejected.reason.clone(),
        };
        let event = Event {
            format: FORMAT,
            node: node.clone(),
            epoch: 0,
            sequence: 0,
            previous: None,
            at: self.now,
            clock_synced: true,
            boot_id: OWN_BOOT_ID.to_owned(),
            app: None,
            what,
        };
        let code = event.what.code();
        let id = self.batch.add_own_event(event, self.now)?;
        self.store_event(id, code)
    }

    /// An event is stored under this id, unless it was there before.
    fn store_event(&mut self, id: Option<u64>, code: &'static str) -> Result<(), StoreError> {
        let Some(id) = id else { return Ok(()) };
        self.outcome.stored(id, code);
        self.batch.prune_events(id, self.events_kept_max)
    }

    /// The broker let it speak, so our CA named it: a node that the database does not know was there before the database.
    fn meet(&mut self, node: &NodeId) -> Result<(), StoreError> {
        if !self.known.has(node) {
            tracing::info!(%node, "heard of a node that the database did not know");
            self.batch.admit(node, self.now)?;
            self.known.add(node);
        }
        Ok(())
    }

    fn event(&mut self, node: &NodeId, payload: &[u8]) -> Result<Result<(), Rejected>, StoreError> {
        let event = match intake::event(payload, node) {
            Ok(event) => event,
            Err(rejected) => return Ok(Err(rejected)),
        };
        self.meet(node)?;
        let intake = self.batch.take_in(&event, self.now)?;
        self.store_event(intake.id, event.what.code())?;
        if intake.id.is_some() {
            self.tell_of_event(&event)?;
        }
        self.outcome.acked.insert(node.clone(), intake.acked);
        let now = self.now;
        self.live.update(node, |seen| {
            seen.online = true;
            seen.hear(now);
        });
        if intake.id.is_some() {
            tracing::debug!(%node, code = event.what.code(), sequence = event.sequence, "event stored");
        }
        Ok(Ok(()))
    }

    fn health(&mut self, node: &NodeId, payload: &[u8]) -> Result<(), Rejected> {
        let health = intake::health(payload)?;
        let now = self.now;
        self.live.note_health(node, now, &health);
        self.live.note_vitals(node, &health.apps);
        self.live.update(node, |seen| {
            seen.online = true;
            seen.hear(now);
            seen.ahead_secs = (health.clock == ClockState::Synced).then(|| difference(health.at, now));
            seen.health = Some(health);
        });
        Ok(())
    }

    fn online(&mut self, node: &NodeId, payload: &[u8]) -> Result<Result<(), Rejected>, StoreError> {
        let Online { online, boot_id } = match intake::online(payload) {
            Ok(online) => online,
            Err(rejected) => return Ok(Err(rejected)),
        };
        self.meet(node)?;
        let (now, mut before) = (self.now, false);
        self.live.update(node, |seen| {
            before = std::mem::replace(&mut seen.online, online);
            // A will is what the broker says, not the node: it is no sign of life.
            if online {
                seen.hear(now);
                seen.boot = Some(boot_id);
            }
        });
        if before != online {
            tracing::info!(%node, online, "node connection changed");
        }
        Ok(Ok(()))
    }

    fn reported(&mut self, node: &NodeId, payload: &[u8]) -> Result<Result<(), Rejected>, StoreError> {
        let reported = match intake::reported(payload, node) {
            Ok(reported) => reported,
            Err(rejected) => return Ok(Err(rejected)),
        };
        self.meet(node)?;
        let follows = match self.known.mark(node) {
            Some(before) => is_newer(&reported, before),
            None => self.view().last_report(node)?.is_none_or(|before| is_newer(&reported, &before)),
        };
        if !follows {
            return Ok(Ok(()));
        }
        let now = self.now;
        let mut health = None;
        self.live.update(node, |seen| {
            seen.hear(now);
            health.clone_from(&seen.health);
        });
        self.batch.set_reported(&reported, health.as_ref(), intake::newest_generation(&reported), now)?;
        let mark = ReportMark { sequence: reported.sequence, boot_id: reported.boot_id.clone() };
        self.known.set(node, Some(mark));
        self.write_down_proofs(node, &reported)?;
        self.follow(node, &reported)?;
        Ok(Ok(()))
    }

    /// Takes over what the node was told in a newer generation than is known here: by its own operator, or by a database
    /// that was lost since. So a later deployment begins where the node is, and what it was told is not taken back.
    fn follow(&mut self, node: &NodeId, reported: &Reported) -> Result<(), StoreError> {
        let known = self.view().desired_apps(node)?;
        for report in &reported.apps {
            let before = known.iter().find(|desired| desired.app == report.app).map_or(0, |desired| desired.generation);
            let Some(release) = report.desired.as_ref().filter(|_| report.generation > before) else { continue };
            tracing::info!(%node, app = %report.app, generation = report.generation, "the node was told something newer");
            self.batch.set_desired(node, &report.app, report.generation, Some(release))?;
            // Nobody here told it, so that it proves it is not written down; a node could go on like that for ever.
            self.batch.prove(node, &report.app, report.generation, release, self.now)?;
            self.outcome.desired.insert(node.clone());
        }
        Ok(())
    }
}

/// By how much one time is ahead of another.
fn difference(one: UnixTime, other: UnixTime) -> i64 {
    let distance = i64::try_from(one.abs_diff(other)).unwrap_or(i64::MAX);
    if one < other { -distance } else { distance }
}

/// Whether a proof follows the one that is known. A lower sequence in another boot is a node whose state was put back (a
/// card restored from an image): it is believed, or nothing it says would ever be again.
fn is_newer(reported: &Reported, before: &ReportMark) -> bool {
    reported.sequence > before.sequence || (reported.sequence < before.sequence && reported.boot_id != before.boot_id)
}
