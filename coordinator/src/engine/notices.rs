//! What targets of notifications are told: written down in the transaction of the deed, or when it is seen that something lasts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use orangery_wire::messages::{Event, ReserveState, What};
use orangery_wire::{NodeId, UnixTime};

use super::core::Turn;
use super::live::Seen;
use super::rollouts::look_at_reason;
use crate::notify::{Kind, Notice, Severity};
use crate::output::moment;
use crate::rollout::{Rollout, Status};
use crate::store::StoreError;

/// Time between two looks at what lasts, in seconds.
const LOOK_EACH_SECS: u64 = 10;
/// The words of what lasts in the database.
const SILENT: &str = "silent";
const RESERVE: &str = "reserve";
const APPROVAL: &str = "approval";

/// Whether anybody is told anything, and when that was last looked after.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Telling {
    /// A node is silent after so many seconds. `None`: nobody is told anything, and nothing is written down.
    silent_secs: Option<u64>,
    looked_at: UnixTime,
}

impl Telling {
    pub(super) fn of(silent_secs: u64) -> Self {
        Self { silent_secs: Some(silent_secs), looked_at: 0 }
    }
}

impl Turn<'_> {
    fn tell(&mut self, mut notice: Notice) -> Result<(), StoreError> {
        if self.telling.silent_secs.is_none() {
            return Ok(());
        }
        if let Some(node) = &notice.node {
            let reported = self.view().node(node)?.and_then(|row| row.reported);
            notice.labels = reported.map(|reported| reported.labels).unwrap_or_default();
        }
        let id = self.batch.add_notice(&notice, self.now)?;
        self.outcome.newest_notice = id;
        Ok(())
    }

    /// A node says that it has refused a release, or that it could not read what was on its disk.
    pub(super) fn tell_of_event(&mut self, event: &Event) -> Result<(), StoreError> {
        let notice = match &event.what {
            What::Refused { version, refusal, .. } => Notice {
                version: version.clone(),
                code: Some(refusal.code.as_str().to_owned()),
                ..Notice::new(Kind::ReleaseRefused, &format!("{} [{}]", refusal.reason, refusal.code))
            },
            What::StoreRebuilt { reason } => {
                let text = format!("the agent's store did not open and was made anew: {reason}");
                Notice::new(Kind::NodeFailing, &text)
            }
            What::RecordRecovered { file, used } => {
                Notice::new(Kind::NodeFailing, &format!("{file} was unreadable; used instead: {used}"))
            }
            _ => return Ok(()),
        };
        self.tell(Notice { node: Some(event.node.clone()), app: event.app.clone(), ..notice })
    }

    /// A board became a node.
    pub(super) fn tell_of_join(&mut self, node: &NodeId) -> Result<(), StoreError> {
        self.tell(Notice { node: Some(node.clone()), ..Notice::new(Kind::NodeJoined, "it has its certificate") })
    }

    /// Something happened to a rollout, by itself or because somebody said so.
    pub(super) fn tell_of_rollout(
        &mut self,
        rollout: &Rollout,
        code: &str,
        text: &str,
        by_somebody: bool,
    ) -> Result<(), StoreError> {
        let kind = match code {
            "paused" => Kind::RolloutPaused,
            "reverting" => Kind::RolloutReverting,
            "reverted" => Kind::RolloutReverted,
            "done" => Kind::RolloutDone,
            _ => return Ok(()),
        };
        let mut notice = of_rollout(rollout, kind, text);
        if by_somebody {
            notice.severity = notice.severity.min(Severity::Warning);
        }
        self.tell(notice)
    }

    /// Looks now and then at what lasts, and tells when it begins and ends.
    pub(super) fn look_at_conditions(&mut self) -> Result<(), StoreError> {
        let Some(silent_secs) = self.telling.silent_secs else { return Ok(()) };
        if self.now.abs_diff(self.telling.looked_at) < LOOK_EACH_SECS {
            return Ok(());
        }
        self.telling.looked_at = self.now;
        let lasting = self.view().conditions()?;
        let mut seen = BTreeMap::new();
        self.live.each(|node, heard| {
            seen.insert(node.clone(), Heard::of(heard));
        });
        let nodes = self.view().signs_of_nodes()?;
        for (node, joined_at, seen_at) in &nodes {
            let heard = seen.get(node).copied().unwrap_or_default();
            let last = heard.at.or(*seen_at);
            self.look_at_silence(node, heard, *joined_at, last, silent_secs, &lasting)?;
            self.look_at_reserve(node, heard, &lasting)?;
        }
        self.look_at_approvals(&lasting)?;
        // Nobody waits for a node that was revoked.
        let known: BTreeSet<&str> = nodes.iter().map(|(node, ..)| node.as_str()).collect();
        let of_nodes = lasting.iter().filter(|(condition, _)| condition != APPROVAL);
        for (condition, subject) in of_nodes.filter(|(_, subject)| !known.contains(subject.as_str())) {
            self.batch.end_condition(condition, subject)?;
        }
        Ok(())
    }

    /// Silence is measured by a clock that nobody sets, and as long as nodes could be heard: a coordinator that was away
    /// takes nobody for silent because of that.
    fn look_at_silence(
        &mut self,
        node: &NodeId,
        heard: Heard,
        joined_at: UnixTime,
        last: Option<UnixTime>,
        silent_secs: u64,
        lasting: &BTreeSet<(String, String)>,
    ) -> Result<(), StoreError> {
        let was_silent = lasting.contains(&(SILENT.to_owned(), node.to_string()));
        let listened = self.live.listening_secs().is_some_and(|secs| secs >= silent_secs);
        let quiet = heard.ago.is_none_or(|ago| ago.as_secs() >= silent_secs);
        let is_silent = !heard.online && quiet && self.now.saturating_sub(joined_at) >= silent_secs;
        if !was_silent && listened && is_silent {
            self.batch.begin_condition(SILENT, node.as_str(), self.now)?;
            let text = last.map_or_else(|| "it was never heard".to_owned(), |at| format!("last heard {}", moment(at)));
            return self.tell(Notice { node: Some(node.clone()), ..Notice::new(Kind::NodeSilent, &text) });
        }
        if was_silent && heard.online {
            self.batch.end_condition(SILENT, node.as_str())?;
            return self.tell(Notice { node: Some(node.clone()), ..Notice::new(Kind::NodeBack, "it is connected") });
        }
        Ok(())
    }

    fn look_at_reserve(
        &mut self,
        node: &NodeId,
        heard: Heard,
        lasting: &BTreeSet<(String, String)>,
    ) -> Result<(), StoreError> {
        let had_none = lasting.contains(&(RESERVE.to_owned(), node.to_string()));
        let (kind, text) = match heard.reserve {
            Some(ReserveState::Freed | ReserveState::Missing) if !had_none => {
                self.batch.begin_condition(RESERVE, node.as_str(), self.now)?;
                (Kind::NodeFailing, "its disk is full: the agent does not hold its reserve")
            }
            Some(ReserveState::Full) if had_none => {
                self.batch.end_condition(RESERVE, node.as_str())?;
                (Kind::NodeRecovered, "its disk has room again: the agent holds its reserve")
            }
            _ => return Ok(()),
        };
        self.tell(Notice { node: Some(node.clone()), ..Notice::new(kind, text) })
    }

    fn look_at_approvals(&mut self, lasting: &BTreeSet<(String, String)>) -> Result<(), StoreError> {
        let mut waiting = BTreeSet::new();
        for rollout in self.view().active_rollouts()? {
            let cause = rollout.gate.as_ref().map(|gate| gate.cause.as_str());
            if rollout.status != Status::Running || !matches!(cause, Some("approval" | "inconclusive")) {
                continue;
            }
            let wave = rollout.next_wave().unwrap_or(rollout.waves.len());
            let subject = format!("{} {wave} {}", rollout.id, cause.unwrap_or_default());
            if !lasting.contains(&(APPROVAL.to_owned(), subject.clone())) {
                let Some(reason) = look_at_reason(self.view(), &rollout, self.live, self.now)? else { continue };
                self.batch.begin_condition(APPROVAL, &subject, self.now)?;
                self.tell(of_rollout(&rollout, Kind::RolloutNeedsApproval, &reason))?;
            }
            waiting.insert(subject);
        }
        for (_, subject) in lasting.iter().filter(|(condition, _)| condition == APPROVAL) {
            if !waiting.contains(subject) {
                self.batch.end_condition(APPROVAL, subject)?;
            }
        }
        Ok(())
    }
}

/// What was heard of a node, as far as it matters here.
#[derive(Debug, Clone, Copy, Default)]
struct Heard {
    online: bool,
    at: Option<UnixTime>,
    ago: Option<Duration>,
    reserve: Option<ReserveState>,
}

impl Heard {
    fn of(seen: &Seen) -> Self {
        Self {
            online: seen.online,
            at: seen.at,
            ago: seen.heard.map(|heard| heard.elapsed()),
            reserve: seen.health.as_ref().and_then(|health| health.reserve),
        }
    }
}

fn of_rollout(rollout: &Rollout, kind: Kind, text: &str) -> Notice {
    Notice {
        app: Some(rollout.app.clone()),
        version: Some(rollout.release.version.clone()),
        rollout: Some(rollout.id),
        ..Notice::new(kind, text)
    }
}
