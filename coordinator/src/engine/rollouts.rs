//! Rollouts: begun, looked at, and told how to go on. What follows is decided by [`crate::rollout`]; here it is read and kept.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use orangery_wire::limits::{APPS_MAX, REASON_BYTES_MAX, reason};
use orangery_wire::rest::{
    Deed, DeedRequest, PlannedWave, RolloutEntry, RolloutPlan, RolloutRequest, ShutNode, Superseding,
};
use orangery_wire::{AppName, NodeId, UnixTime};

use super::core::{Done, Turn};
use super::live::Live;
use super::plan::{Selector, choose_release};
use super::refused::Refused;
use super::scene::Fleet;
use crate::rollout::{self, LOOK_SECS_MAX, News, Planned, Rollout, RolloutId, Status, Telling, counted};
use crate::sha256;
use crate::store::{StoreError, View};

/// A rollout in which nothing but time has passed is kept after so many seconds; a kill costs a soak no more than that.
const KEEP_TIME_SECS: u64 = LOOK_SECS_MAX / 2;
/// Most selectors in a request.
const TO_MAX: usize = 1_000;

/// What can be done with a rollout that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RolloutDeed {
    /// Tell nobody else.
    Pause,
    /// Go on, whatever has failed so far.
    Resume,
    /// Open the next wave before its time.
    Promote,
    /// Tell all to go back.
    Revert,
    /// Let the next wave open when it may.
    Approve,
    /// Tell nodes outside of their maintenance windows too.
    IgnoreWindows,
}

impl RolloutDeed {
    /// The word in routes and commands.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Promote => "promote",
            Self::Revert => "revert",
            Self::Approve => "approve",
            Self::IgnoreWindows => "ignore-windows",
        }
    }

    fn done(self) -> &'static str {
        match self {
            Self::Pause => "paused",
            Self::Resume => "resumed",
            Self::Promote => "promoted",
            Self::Revert => "reverting",
            Self::Approve => "approved",
            Self::IgnoreWindows => "windows_ignored",
        }
    }
}

/// A rollout that would be begun, and what it would change for others.
pub struct Beginning {
    /// The rollout.
    pub rollout: Rollout,
    /// What is shown of it.
    pub plan: RolloutPlan,
    supersedes: Vec<(RolloutId, Vec<NodeId>)>,
}

/// Says what a request of somebody would begin. Changes nothing.
pub fn begin(view: View<'_>, by: &str, request: &RolloutRequest, live: &Live, now: UnixTime) -> Done<Beginning> {
    let fleet = Fleet::read(view, &request.app, live, now)?;
    let releases = view.releases()?;
    let checked = deed(by, &request.deed, now, false).and_then(|deed| {
        check_selectors(&request.to, &fleet)?;
        Ok((deed, choose_release(&request.app, &request.version, &releases)?))
    });
    let (deed, release) = match checked {
        Ok(checked) => checked,
        Err(refused) => return Ok(Err(refused)),
    };
    let scene = fleet.scene(&request.to, release, &[], live, now);
    let id = view.next_rollout()?;
    let begun = rollout::begin(id, request, release.reference(), deed, &scene, &fleet.labels());
    let (rollout, left_out) = match begun {
        Ok(begun) => begun,
        Err(unsound) => return Ok(Err(Refused::RolloutInvalid { reason: unsound.to_string() })),
    };
    let mut plan = RolloutPlan {
        app: request.app.clone(),
        version: request.version.clone(),
        mark: sha256::digest(b""),
        waves: planned_waves(&rollout),
        left_out,
        supersedes: superseding(view, &rollout)?,
        shut: shut(&rollout, &scene),
    };
    // Who is left out, and why, is shown and does not count: reasons may change by the minute.
    let agreed = (&rollout.release, &plan.waves, &plan.supersedes, rollout.id);
    plan.mark = sha256::digest(&serde_json::to_vec(&agreed).unwrap_or_default());
    let supersedes = plan.supersedes.iter().map(|older| (older.rollout, older.nodes.clone())).collect();
    Ok(Ok(Beginning { rollout, plan, supersedes }))
}

/// Each selector must mean something now, or somebody has misspelt it.
fn check_selectors(to: &[String], fleet: &Fleet) -> Result<(), Refused> {
    if to.is_empty() || to.len() > TO_MAX {
        return Err(Refused::RolloutInvalid { reason: format!("it must name from 1 to {TO_MAX} nodes or labels") });
    }
    for to in to {
        Selector::parse(to)?.choose(fleet.nodes())?;
    }
    Ok(())
}

fn planned_waves(rollout: &Rollout) -> Vec<PlannedWave> {
    let wave = |(k, wave): (usize, &rollout::Wave)| PlannedWave {
        nodes: rollout.members(k).map(|(node, _)| node.clone()).collect(),
        soak_secs: wave.rule.soak_secs,
        failures: wave.rule.failures,
        approve: wave.rule.approve,
    };
    rollout.waves.iter().enumerate().map(wave).collect()
}

/// Who is not told at once because of its windows.
fn shut(rollout: &Rollout, scene: &rollout::Scene) -> Vec<ShutNode> {
    let shut = |node: &NodeId| match &scene.nodes.get(node)?.window {
        Some(rollout::Window::Shut(shut)) if rollout.ignores_windows.is_none() => {
            Some(ShutNode { node: node.clone(), opens_at: shut.opens_at, text: rollout::opens(shut, scene.now) })
        }
        _ => None,
    };
    rollout.turns.keys().filter_map(shut).collect()
}

/// What rollouts of the same app that are under way would lose.
fn superseding(view: View<'_>, rollout: &Rollout) -> Result<Vec<Superseding>, StoreError> {
    let older = view.active_rollouts()?.into_iter().filter(|older| older.app == rollout.app);
    let loses = |mut older: Rollout| {
        let nodes = older.lose(rollout.turns.keys(), rollout.id);
        Superseding { rollout: older.id, version: older.release.version.clone(), nodes }
    };
    Ok(older.map(loses).filter(|older| !older.nodes.is_empty()).collect())
}

/// Who does it and why, with a note of a bounded length that cannot pass for anything else.
pub(super) fn deed(by: &str, request: &DeedRequest, at: UnixTime, needs_note: bool) -> Result<Deed, Refused> {
    let is_fine = |text: &str| !text.chars().any(char::is_control);
    let note = request.note.as_deref().filter(|note| !note.is_empty());
    let rule = if note.is_some_and(|note| note.len() > REASON_BYTES_MAX) {
        "a note has at most 1024 bytes"
    } else if !note.is_none_or(is_fine) {
        "a note has no control characters"
    } else if needs_note && note.is_none() {
        "a reason is needed"
    } else {
        return Ok(Deed { by: by.to_owned(), at, note: note.map(str::to_owned) });
    };
    Err(Refused::DeedInvalid { rule })
}

impl Turn<'_> {
    /// Begins a rollout, if it is still the one that was shown.
    pub(super) fn begin_rollout(&mut self, request: &RolloutRequest) -> Done<RolloutId> {
        let Beginning { rollout, plan, supersedes } =
            match begin(self.view(), &self.actor.who, request, self.live, self.now)? {
                Ok(beginning) => beginning,
                Err(refused) => return Ok(Err(refused)),
            };
        if request.plan.is_some_and(|shown| shown != plan.mark) {
            return Ok(Err(Refused::PlanChanged));
        }
        for (older, nodes) in supersedes {
            self.take_over(older, &nodes, rollout.id)?;
        }
        self.batch.set_rollout(None, &rollout)?;
        let (nodes, waves) = (counted(rollout.turns.len(), "node"), counted(rollout.waves.len(), "wave"));
        let text = format!("begun for {nodes} in {waves}");
        self.note(rollout.id, "begun", Some(&rollout.begun), None, text)?;
        tracing::info!(rollout = rollout.id, app = %rollout.app, release = %rollout.release.version, "rollout begun");
        let id = rollout.id;
        self.detail("rollout", id);
        self.look_at_rollouts()?;
        Ok(Ok(id))
    }

    fn take_over(&mut self, older: RolloutId, nodes: &[NodeId], newer: RolloutId) -> Result<(), StoreError> {
        let Some(before) = self.view().rollout(older)? else { return Ok(()) };
        let mut next = before.clone();
        next.lose(nodes, newer);
        self.batch.set_rollout(Some(&before), &next)?;
        let text = format!("rollout {newer} has taken {} of its nodes", nodes.len());
        self.note(older, "superseded", None, None, text)
    }

    /// Does something with a rollout, and looks at once what follows.
    pub(super) fn with_rollout(&mut self, id: RolloutId, what: RolloutDeed, request: &DeedRequest) -> Done<()> {
        let deed = match deed(&self.actor.who, request, self.now, false) {
            Ok(deed) => deed,
            Err(refused) => return Ok(Err(refused)),
        };
        let Some(before) = self.view().rollout(id)? else { return Ok(Err(Refused::UnknownRollout { rollout: id })) };
        let mut next = before.clone();
        let done = match what {
            RolloutDeed::Pause => next.pause(&deed).map(|()| None),
            RolloutDeed::Resume => next.resume().map(|()| None),
            RolloutDeed::Promote => next.promote(&deed).map(Some),
            RolloutDeed::Revert => next.revert(&deed).map(|()| None),
            RolloutDeed::Approve => next.approve(&deed),
            RolloutDeed::IgnoreWindows => next.ignore_windows(&deed).map(|()| None),
        };
        let wave = match done {
            Ok(wave) => wave.and_then(|wave| u32::try_from(wave).ok()),
            Err(not_now) => {
                let reason = not_now.to_string();
                return Ok(Err(Refused::RolloutNotNow { rollout: id, deed: what.as_str(), reason }));
            }
        };
        self.batch.set_rollout(Some(&before), &next)?;
        let why = deed.note.as_ref().map(|note| format!(": {note}")).unwrap_or_default();
        let which = match (what, wave) {
            (_, Some(wave)) => format!("wave {} ", wave + 1),
            (RolloutDeed::Approve, None) => "nodes whose comparison shows nothing are ".to_owned(),
            (_, None) => String::new(),
        };
        self.note(id, what.done(), Some(&deed), wave, format!("{which}{}{why}", what.done()))?;
        self.tell_of_rollout(&next, what.done(), &format!("{}{why}", deed.by), true)?;
        tracing::info!(rollout = id, by = deed.by, "rollout {}", what.done());
        self.look_at_rollouts()?;
        Ok(Ok(()))
    }

    /// Ends holds whose time is over, looks at every rollout that is under way, the newest first, and does what follows.
    pub(super) fn look_at_rollouts(&mut self) -> Result<(), StoreError> {
        self.batch.end_expired_holds(self.now)?;
        let active = self.view().active_rollouts()?;
        for rollout in active {
            if let Some(planned) = look(self.view(), &rollout, self.live, self.now)? {
                self.keep(&rollout, &planned)?;
            }
        }
        Ok(())
    }

    fn keep(&mut self, before: &Rollout, planned: &Planned) -> Result<(), StoreError> {
        let next = &planned.next;
        let only_time = Rollout { watched_secs: before.watched_secs, looked_at: before.looked_at, ..next.clone() };
        let passed = next.looked_at.abs_diff(before.looked_at);
        if only_time == *before && passed < KEEP_TIME_SECS {
            return Ok(());
        }
        // Nearly no node has so many apps: whether one must go is asked once, not of each node.
        let full = if planned.assign.is_empty() { Vec::new() } else { self.view().nodes_with_apps(APPS_MAX)? };
        for Telling { node, generation, release } in &planned.assign {
            if full.contains(node)
                && let Some(row) = self.view().node(node)?
                && self.view().desired_apps(node)?.iter().all(|desired| desired.app != next.app)
            {
                // There is room: the planner leaves out those that have none.
                drop(self.make_room(&row, &next.app)?);
            }
            self.batch.set_desired(node, &next.app, *generation, release.as_ref())?;
            self.outcome.desired.insert(node.clone());
        }
        self.batch.set_rollout(Some(before), next)?;
        for news in &planned.news {
            self.own_deed(next.id, news);
            self.tell_of_rollout(next, news.code, &news.text, false)?;
            let News { code, wave, node, text } = news;
            let entry = RolloutEntry {
                at: self.now,
                code: (*code).to_owned(),
                by: None,
                wave: wave.map(|wave| wave + 1),
                node: node.clone(),
                text: reason(text.clone()),
            };
            self.batch.add_to_log(next.id, &entry)?;
            tell(next, &entry);
        }
        Ok(())
    }

    fn note(
        &mut self,
        id: RolloutId,
        code: &str,
        deed: Option<&Deed>,
        wave: Option<u32>,
        text: String,
    ) -> Result<(), StoreError> {
        let by = deed.map(|deed| deed.by.clone());
        let wave = wave.map(|wave| wave + 1);
        let entry = RolloutEntry { at: self.now, code: code.to_owned(), by, wave, node: None, text: reason(text) };
        self.batch.add_to_log(id, &entry)
    }
}

fn tell(rollout: &Rollout, entry: &RolloutEntry) {
    let (wave, node) = (entry.wave, entry.node.as_ref().map(NodeId::as_str));
    let (id, reason) = (rollout.id, entry.text.as_str());
    if matches!(rollout.status, Status::Paused(_)) && entry.code == "paused" {
        tracing::error!(rollout = id, wave, node, reason, "rollout paused by itself");
    } else {
        tracing::info!(rollout = id, wave, node, reason, "rollout {}", entry.code);
    }
}

/// What follows from a rollout now. `None` if its release is not known, which only a database put together by hand can say.
pub fn look(view: View<'_>, rollout: &Rollout, live: &Live, now: UnixTime) -> Result<Option<Planned>, StoreError> {
    Ok(Scenes::new(view, live, now).of(rollout)?.map(|scene| rollout::plan(rollout, &scene)))
}

/// In a sentence what a rollout waits for.
pub(super) fn look_at_reason(
    view: View<'_>,
    rollout: &Rollout,
    live: &Live,
    now: UnixTime,
) -> Result<Option<String>, StoreError> {
    Ok(Scenes::new(view, live, now).of(rollout)?.map(|scene| rollout.reason(&scene)))
}

/// What rollouts are planned by at one moment. The fleet is read once for each app, whatever the number of its rollouts.
pub struct Scenes<'a> {
    view: View<'a>,
    live: &'a Live,
    now: UnixTime,
    fleets: BTreeMap<AppName, Fleet>,
}

impl<'a> Scenes<'a> {
    /// Nothing is read yet.
    pub fn new(view: View<'a>, live: &'a Live, now: UnixTime) -> Self {
        Self { view, live, now, fleets: BTreeMap::new() }
    }

    /// What one rollout is planned by.
    pub fn of(&mut self, rollout: &Rollout) -> Result<Option<rollout::Scene>, StoreError> {
        let Some(release) = self.view.release(&rollout.app, &rollout.release.version)? else { return Ok(None) };
        let fleet = match self.fleets.entry(rollout.app.clone()) {
            Entry::Occupied(read) => read.into_mut(),
            Entry::Vacant(place) => place.insert(Fleet::read(self.view, &rollout.app, self.live, self.now)?),
        };
        // Whoever a newer rollout chose stays with it, when that has ended too.
        let newer = self.view.rollouts_after(rollout.id)?.into_iter().filter(|newer| newer.app == rollout.app);
        let newer: Vec<String> = newer.flat_map(|newer| newer.to).collect();
        Ok(Some(fleet.scene(&rollout.to, &release, &newer, self.live, self.now)))
    }
}
