//! What is written down of each deed, in the transaction in which it is done.

use std::collections::BTreeMap;

use orangery_wire::limits::reason;
use orangery_wire::messages::{ReleaseRef, Reported};
use orangery_wire::rest::AuditEntry;
use orangery_wire::{NodeId, UnixTime};

use super::command::Command;
use super::core::Turn;
use super::users::{Actor, UserDeed};
use crate::audit::{FORMAT, Kept, Link, PRUNE, PRUNED_DIGEST, PRUNED_LAST};
use crate::rollout::News;
use crate::sha256;
use crate::store::{Batch, StoreError, session_id, token_id};

/// What is too old or too much is looked for at each so manieth entry, and this often, in seconds.
const PRUNE_EACH: u64 = 64;
const PRUNE_EACH_SECS: u64 = 3_600;
/// Most entries that one look deletes for their age.
const PRUNED_MAX: u64 = 10_000;

/// News of a rollout that are about all of it.
const OF_ALL: [&str; 6] = ["wave_opened", "paused", "reverting", "reverted", "done", "superseded"];

/// What is written down of a deed, before it is known how it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What, such as `rollout.pause`.
    pub deed: String,
    /// With what, such as `rollout 7`.
    pub object: String,
    /// What else is known of it.
    pub detail: BTreeMap<String, String>,
    /// How it has ended, if that is known already.
    pub(super) outcome: Option<String>,
}

impl Record {
    /// A deed.
    pub fn new(deed: impl Into<String>, object: impl Into<String>) -> Self {
        Self { deed: deed.into(), object: reason(object), detail: BTreeMap::new(), outcome: None }
    }

    /// It was refused with this code before the engine has heard of it.
    #[must_use]
    pub fn ended(self, code: &str) -> Self {
        Self { outcome: Some(code.to_owned()), ..self }
    }

    /// With one thing more that is known of it.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.add(name, value);
        self
    }

    /// The same, if it is known.
    #[must_use]
    pub fn with_some(self, name: &str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "callers build a record in one expression, of values they make")]
    fn add(&mut self, name: &str, value: impl ToString) {
        self.detail.insert(name.to_owned(), reason(value.to_string()));
    }

    /// What is written down of a command; `None`: it changes nothing that somebody asks for.
    pub(super) fn of(command: &Command) -> Option<Self> {
        Some(match command {
            // A node could fill the log with renewals; its newest certificates are kept.
            Command::Renew(..)
            | Command::By(..)
            | Command::Link(_)
            | Command::LookAtRollouts(_)
            | Command::MarkTarget(..)
            | Command::AskForOutput(_, None, _)
            | Command::Stop => return None,
            Command::Record(record, _) => record.clone(),
            Command::Invite(secret, request, _) => Self::new("invite.make", format!("invite {}", token_id(secret)))
                .with_some("name", request.name.as_ref())
                .with("uses", request.uses)
                .with("expires_secs", request.expires_secs),
            Command::Join(..) => Self::new("node.join", "a board"),
            Command::Revoke(node, _) => Self::new("node.revoke", format!("node {node}")),
            Command::Publish(release, keys, _) => {
                Self::new("release.publish", format!("{} {}", release.view.app, release.view.version))
                    .with("release", release.view.id)
                    .with("keys", keys.join(" "))
            }
            Command::Deploy(request, _) => {
                let what = request.version.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string);
                Self::new("deploy", format!("{} {what}", request.app))
                    .with("to", &request.to)
                    .with_some("note", request.deed.note.as_ref())
            }
            Command::BeginRollout(request, _) => {
                Self::new("rollout.begin", format!("{} {}", request.app, request.version))
                    .with("to", request.to.join(" "))
                    .with_some("windows", request.ignore_windows.then_some("ignored"))
                    .with_some("note", request.deed.note.as_ref())
            }
            Command::WithRollout(id, deed, request, _) => {
                Self::new(format!("rollout.{}", deed.as_str()), format!("rollout {id}"))
                    .with_some("note", request.note.as_ref())
            }
            Command::Hold(node, request, _) => Self::new("node.hold", format!("node {node}"))
                .with_some("app", request.app.as_ref())
                .with_some("expires_secs", request.expires_secs)
                .with_some("reason", request.deed.note.as_ref()),
            Command::SetGroup(name, request, _) => {
                let windows: Vec<String> = request.windows.iter().map(ToString::to_string).collect();
                Self::new("group.set", format!("group {name}"))
                    .with("windows", windows.join("; "))
                    .with("members", of_members(&request.members))
                    .with_some("note", request.deed.note.as_ref())
            }
            Command::RemoveGroup(name, request, _) => {
                Self::new("group.remove", format!("group {name}")).with_some("note", request.note.as_ref())
            }
            Command::ReleaseHold(node, request, _) => {
                Self::new("node.release", format!("node {node}")).with_some("app", request.app.as_ref())
            }
            Command::AskForOutput(node, Some(app), _) => Self::new("output.show", format!("{app} on {node}")),
            Command::User(deed, _) => Self::of_user(deed),
        })
    }

    fn of_user(deed: &UserDeed) -> Self {
        match deed {
            UserDeed::Add(request) => {
                Self::new("user.add", format!("user {}", request.name)).with("role", request.role)
            }
            UserDeed::Remove(name) => Self::new("user.remove", format!("user {name}")),
            UserDeed::SetRole(name, role) => Self::new("user.role", format!("user {name}")).with("role", role),
            UserDeed::AddToken { user, digest, expires_secs } => Self::new("token.make", format!("user {user}"))
                .with("token", token_id(digest))
                .with_some("expires_secs", expires_secs.as_ref()),
            UserDeed::RevokeToken(id) => Self::new("token.revoke", format!("token {id}")),
            UserDeed::SetPassword { user, .. } => Self::new("user.password", format!("user {user}")),
            UserDeed::SignIn { user, .. } => Self::new("session.begin", format!("user {user}")),
            UserDeed::SignOut(digest) => Self::new("session.end", session_id(digest)),
            UserDeed::EndSessions(user) => Self::new("session.end", format!("user {user}")),
        }
    }
}

fn of_members(members: &orangery_wire::rest::Members) -> String {
    let all = members.all.then(|| "all".to_owned());
    let labels = members.labels.iter().map(|(name, value)| format!("{name}={value}"));
    let nodes = members.nodes.iter().map(ToString::to_string);
    all.into_iter().chain(labels).chain(nodes).collect::<Vec<_>>().join(" ")
}

/// The log's end, and what of it waits in a batch under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Log {
    /// The newest entry.
    pub(super) end: Link,
    /// When it was last looked whether something is too old.
    pruned_at: UnixTime,
    kept: Kept,
}

impl Log {
    pub(super) fn new(end: Link, kept: Kept) -> Self {
        Self { end, pruned_at: 0, kept }
    }
}

/// Writes down one entry after `end`, and returns the new end.
pub fn append(
    batch: &Batch<'_>,
    end: Link,
    at: UnixTime,
    actor: &Actor,
    record: Record,
    outcome: &str,
) -> Result<Link, StoreError> {
    let Record { deed, object, detail, .. } = record;
    let entry = AuditEntry {
        format: FORMAT,
        sequence: end.sequence + 1,
        previous: end.digest,
        at,
        who: actor.who.clone(),
        token: actor.token.clone(),
        from: actor.from.map(|from| from.to_canonical().to_string()),
        deed,
        object,
        outcome: outcome.to_owned(),
        detail,
    };
    let text = entry.canonical();
    let end = Link { sequence: entry.sequence, digest: sha256::digest(text.as_bytes()) };
    batch.add_audit(end, &text)?;
    // The log of the program has it too: whoever changes the database alone is found out by that.
    let AuditEntry { sequence, who, deed, object, outcome, .. } = entry;
    tracing::info!(sequence, digest = %end.digest, who, deed, object, outcome, "written down");
    Ok(end)
}

impl Turn<'_> {
    /// What is known only now of the deed under way.
    pub(super) fn detail(&mut self, name: &str, value: impl ToString) {
        if let Some(record) = &mut self.record {
            record.add(name, value);
        }
    }

    /// Writes down how the deed under way has ended. A refusal is worth an entry if a user has asked: others could fill the log
    /// with nothing.
    pub(super) fn write_down_answer(&mut self, outcome: &str) -> Result<(), StoreError> {
        let Some(mut record) = self.record.take() else { return Ok(()) };
        if outcome != "done" && self.actor.token.is_none() {
            return Ok(());
        }
        let actor = self.actor.clone();
        let ended = record.outcome.take();
        self.write_down(&actor, record, ended.as_deref().unwrap_or(outcome))
    }

    /// Writes down what the coordinator itself has done meanwhile.
    pub(super) fn write_down_own(&mut self) -> Result<(), StoreError> {
        for record in std::mem::take(&mut self.own) {
            self.write_down(&Actor::coordinator(), record, "done")?;
        }
        Ok(())
    }

    /// What a rollout does by itself.
    pub(super) fn own_deed(&mut self, rollout: u64, news: &News) {
        if OF_ALL.contains(&news.code) {
            let record = Record::new(format!("rollout.{}", news.code), format!("rollout {rollout}"));
            self.own.push(record.with("text", &news.text));
        }
    }

    /// A node's proofs of what it was told, each once.
    pub(super) fn write_down_proofs(&mut self, node: &NodeId, reported: &Reported) -> Result<(), StoreError> {
        for report in &reported.apps {
            let Some(current) = &report.current else { continue };
            if self.batch.prove(node, &report.app, report.generation, current, self.now)? {
                let ReleaseRef { id, version } = current;
                let record = Record::new("release.prove", format!("{} {version}", report.app))
                    .with("release", id)
                    .with("generation", report.generation)
                    .with("boot", &reported.boot_id);
                let actor = Actor { who: format!("node:{node}"), token: None, from: None };
                self.write_down(&actor, record, "done")?;
            }
        }
        Ok(())
    }

    fn write_down(&mut self, actor: &Actor, record: Record, outcome: &str) -> Result<(), StoreError> {
        self.append(actor, record, outcome)?;
        if self.log.end.sequence.is_multiple_of(PRUNE_EACH) { self.prune() } else { Ok(()) }
    }

    fn append(&mut self, actor: &Actor, record: Record, outcome: &str) -> Result<(), StoreError> {
        self.log.end = append(self.batch, self.log.end, self.now, actor, record, outcome)?;
        Ok(())
    }

    /// Looks now and then whether entries are too old, when none come.
    pub(super) fn prune_now_and_then(&mut self) -> Result<(), StoreError> {
        if self.log.kept.secs.is_some() && self.now.abs_diff(self.log.pruned_at) >= PRUNE_EACH_SECS {
            return self.prune();
        }
        Ok(())
    }

    /// Deletes the oldest entries, if there are too many or they are too old, and says so in a new one.
    fn prune(&mut self) -> Result<(), StoreError> {
        self.log.pruned_at = self.now;
        let Some(oldest) = self.view().oldest_audit()? else { return Ok(()) };
        let too_many = self.log.end.sequence.saturating_sub(self.log.kept.entries_max);
        let last = too_many.max(self.too_old(oldest.sequence)?).min(self.log.end.sequence.saturating_sub(1));
        if last < oldest.sequence {
            return Ok(());
        }
        let digest = self.view().audit_at(last)?.map(|line| line.digest).unwrap_or_default();
        let record = Record::new(PRUNE, format!("entries {} to {last}", oldest.sequence))
            .with(PRUNED_LAST, last)
            .with(PRUNED_DIGEST, digest);
        self.append(&Actor::coordinator(), record, "done")?;
        self.batch.prune_audit(last)
    }

    /// The last entry, from the oldest on, that is too old; 0 if none is. One that is not ends the search, whatever comes after
    /// it: a clock that was wrong for an hour must not cost what was written in the years around it.
    fn too_old(&self, oldest: u64) -> Result<u64, StoreError> {
        let Some(secs) = self.log.kept.secs else { return Ok(0) };
        let limit = self.now.saturating_sub(secs);
        let mut last = 0;
        for sequence in oldest..oldest.saturating_add(PRUNED_MAX) {
            let Some(line) = self.view().audit_at(sequence)? else { break };
            match serde_json::from_str::<AuditEntry>(&line.entry) {
                Ok(entry) if entry.at < limit => last = sequence,
                _ => break,
            }
        }
        Ok(last)
    }
}
