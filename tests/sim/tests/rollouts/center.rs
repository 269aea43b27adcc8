//! The coordinator: what it has saved, what it hears, and its planner, which is the real one.

use std::collections::BTreeMap;

use orangery::rollout::{self, NodeFacts, Planned, Rollout, RolloutId, Scene, Status};
use orangery::vitals::Apps;
use orangery_wire::messages::{AppReport, AppVitals, DesiredApp};
use orangery_wire::rest::{Deed, RolloutRequest};
use orangery_wire::{NodeId, UnixTime};

use crate::node::{app, release};
use crate::windows::{self, Round};

/// When virtual time begins, by a clock that is right.
pub const EPOCH: UnixTime = 1_800_000_000;

/// A hold.
#[derive(Debug, Clone)]
pub struct Hold {
    pub reason: String,
    pub until: u64,
}

/// What the coordinator knows of a node.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Whether it has joined.
    pub joined: bool,
    pub generation: u64,
    pub desired: Option<DesiredApp>,
    pub report: Option<AppReport>,
    pub boot: Option<String>,
    pub sequence: u64,
    /// When it was heard, in true time; lost by a kill.
    pub heard: Option<u64>,
    pub heard_boot: Option<String>,
    pub online: bool,
    pub hold: Option<Hold>,
    pub site: &'static str,
    /// Its windows, each of another group.
    pub rounds: Vec<Round>,
    /// What it said of its app; lost by a kill.
    pub vitals: Apps,
}

/// The coordinator.
#[derive(Default)]
pub struct Center {
    pub is_up: bool,
    /// Whether the broker is reached.
    pub is_listening: bool,
    /// Since when.
    pub listens_since: u64,
    /// How wrong the clock is.
    pub clock_off: i64,
    pub rollouts: BTreeMap<RolloutId, Rollout>,
    pub known: BTreeMap<NodeId, Known>,
    pub log: Vec<String>,
}

impl Center {
    pub fn clock(&self, now: u64) -> UnixTime {
        (EPOCH + now).saturating_add_signed(self.clock_off)
    }

    pub fn note(&mut self, now: u64, text: impl std::fmt::Display) {
        self.log.push(format!("{now:>6} {text}"));
    }

    /// All that happened to rollouts, line by line.
    pub fn history(&self) -> Vec<String> {
        self.log.clone()
    }

    fn matches(to: &[String], node: &NodeId, known: &Known) -> bool {
        to.iter().any(|to| to == "all" || to == node.as_str() || to.strip_prefix("site=") == Some(known.site))
    }

    /// What a rollout is planned by.
    pub fn scene(&self, now: u64, id: RolloutId, to: &[String]) -> Scene {
        // Whoever a newer rollout chose stays with it, when that has ended too.
        let newer: Vec<&Rollout> = self.rollouts.range(id + 1..).map(|(_, newer)| newer).collect();
        let facts = |(node, known): (&NodeId, &Known)| {
            let is_claimed = newer.iter().any(|newer| Self::matches(&newer.to, node, known));
            let facts = NodeFacts {
                generation: known.generation,
                desired: known.desired.clone(),
                report: known.report.clone(),
                has_reported: known.report.is_some(),
                boot: known.boot.clone(),
                heard_secs: known.heard.map(|heard| now - heard),
                heard_boot: known.heard_boot.clone(),
                online: known.online && self.is_listening,
                revoked: false,
                held: known.hold.as_ref().map(|hold| format!("held: {}", hold.reason)),
                unfit: None,
                chosen: Self::matches(to, node, known) && !is_claimed,
                window: windows::look(&known.rounds, self.clock(now)),
                vitals: known.vitals.vitals(&app()),
            };
            (node.clone(), facts)
        };
        let listening_secs = self.is_listening.then(|| now - self.listens_since);
        let nodes = self.known.iter().filter(|(_, known)| known.joined).map(facts).collect();
        Scene { now: self.clock(now), listening_secs, nodes }
    }

    /// Begins a rollout of `release`, and takes its nodes from older ones unless that is left out.
    pub fn begin(
        &mut self,
        now: u64,
        request: &RolloutRequest,
        number: u8,
        takes_over: bool,
    ) -> Result<RolloutId, String> {
        let id = self.rollouts.len() as u64 + 1;
        let begun = Deed { by: "ann".into(), at: self.clock(now), note: None };
        let scene = self.scene(now, id, &request.to);
        let site =
            |(node, known): (&NodeId, &Known)| (node.clone(), [("site".to_owned(), known.site.to_owned())].into());
        let labels = self.known.iter().map(site).collect();
        let begun = rollout::begin(id, request, release(number), begun, &scene, &labels);
        let (rollout, _) = begun.map_err(|unsound| unsound.to_string())?;
        let nodes: Vec<NodeId> = rollout.turns.keys().cloned().collect();
        for older in self.rollouts.values_mut().filter(|older| takes_over && older.status.is_active()) {
            older.lose(&nodes, id);
        }
        self.note(now, format_args!("rollout {id} of {} {} begun", app(), rollout.release.version));
        self.rollouts.insert(id, rollout);
        Ok(id)
    }

    /// What the planner says of a rollout.
    pub fn plan(&self, now: u64, id: RolloutId) -> (Scene, Planned) {
        let rollout = &self.rollouts[&id];
        let scene = self.scene(now, id, &rollout.to);
        let planned = rollout::plan(rollout, &scene);
        (scene, planned)
    }

    /// Saves a plan: all of it, or, when the coordinator is killed, nothing.
    pub fn commit(&mut self, now: u64, id: RolloutId, planned: &Planned) {
        for news in &planned.news {
            self.note(now, format_args!("rollout {id}: {}: {}", news.code, news.text));
        }
        for telling in &planned.assign {
            let known = self.known.get_mut(&telling.node).unwrap();
            known.generation = telling.generation;
            let (generation, release) = (telling.generation, telling.release.clone());
            known.desired = Some(DesiredApp { app: app(), generation, release });
        }
        self.rollouts.insert(id, planned.next.clone());
    }

    /// A sign of life; the node has named its boot when it connected.
    pub fn hear(&mut self, node: &NodeId, now: u64, boot: u64) {
        let known = self.known.get_mut(node).unwrap();
        (known.heard, known.heard_boot, known.online) = (Some(now), Some(boot.to_string()), true);
    }

    /// How its app is.
    pub fn hear_vitals(&mut self, node: &NodeId, vitals: &[AppVitals]) {
        self.known.get_mut(node).unwrap().vitals.note(vitals);
    }

    /// A proof arrives.
    pub fn report(&mut self, node: &NodeId, now: u64, report: AppReport, sequence: u64, boot: u64) {
        self.hear(node, now, boot);
        let known = self.known.get_mut(node).unwrap();
        if sequence > known.sequence {
            known.generation = known.generation.max(report.generation);
            (known.sequence, known.boot, known.report) = (sequence, Some(boot.to_string()), Some(report));
        }
    }

    /// The process ends; what it only knew is gone.
    pub fn kill(&mut self) {
        self.is_up = false;
        for known in self.known.values_mut() {
            (known.heard, known.heard_boot, known.online) = (None, None, false);
            known.vitals = Apps::default();
        }
    }

    pub fn active(&self) -> Vec<RolloutId> {
        self.rollouts.iter().rev().filter(|(_, rollout)| rollout.status.is_active()).map(|(id, _)| *id).collect()
    }

    pub fn count(&self, is: impl Fn(&Status) -> bool) -> u64 {
        self.rollouts.values().filter(|rollout| is(&rollout.status)).count() as u64
    }
}
