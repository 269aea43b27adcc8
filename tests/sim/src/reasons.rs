//! Somebody asks why, and the answer of the real coordinator is compared with what this world knows to be the cause.

use orangery::engine::{Facts, why};
use orangery_agent::deployment::{Phase, Record};
use orangery_wire::AppName;
use orangery_wire::messages::RefusalCode;
use orangery_wire::rest::{DesiredView, NodeView, Why, WhyLine};

use crate::laws::Law;
use crate::releases::Behaviour;
use crate::world::{Due, EPOCH_SECS, HOUR, MINUTE, SECOND, World};

/// Nodes asked about at once.
const ASKED: u64 = 40;
/// After anything changed in the network the coordinator may not know it yet for so long.
const SETTLING: u64 = 3 * MINUTE;

impl World {
    pub(crate) fn look_around(&mut self) {
        let again = self.random.between(HOUR, 3 * HOUR);
        self.later(again, Due::Look);
        let first = self.random.below(self.nodes.len() as u64);
        let asked = ASKED.min(self.nodes.len() as u64);
        for k in 0..asked {
            let n = usize::try_from((first + k) % self.nodes.len() as u64).unwrap_or(0);
            if self.is_still(n) {
                self.judge_why(n);
            }
        }
    }

    /// Nothing is on its way between node and coordinator, and nothing has changed there for a while.
    fn is_still(&self, n: usize) -> bool {
        let line = &self.nodes[n].line;
        let since = |at: u64| self.now.saturating_sub(at) >= SETTLING;
        self.coordinator.session.is_some()
            && self.coordinator.is_idle()
            && since(self.coordinator.changed_at)
            && since(self.coordinator.full_until)
            && since(line.changed_at)
            && line.travelling == 0
    }

    /// The node as the coordinator sees it, with its answer.
    pub(crate) fn ask_why(&mut self, n: usize) -> Option<(NodeView, Why)> {
        let view = self.coordinator.keeper.view();
        let live = self.coordinator.live.as_ref()?;
        let row = view.node(&self.nodes[n].id).ok()??;
        let node = live.node_view(view, row).ok()?;
        let now = EPOCH_SECS + self.now / SECOND;
        let mut facts = Facts { now, broker_connected: live.broker_connected(), ..Facts::default() };
        for report in node.reported.iter().flat_map(|reported| &reported.apps) {
            let last = view.last_event(&node.node, &report.app).ok()?;
            facts.last.extend(last.map(|last| (report.app.clone(), last.event.what)));
        }
        let answer = why(&node, &facts);
        Some((node, answer))
    }

    fn judge_why(&mut self, n: usize) {
        let Some((view, why)) = self.ask_why(n) else { return };
        self.counts.whys += 1;
        if let Err(text) = self.compare(n, &view, &why) {
            let told: Vec<&str> = why.lines.iter().map(|line| line.text.as_str()).collect();
            self.break_law(Law::WhyIsTrue, Some(n), format!("{text}; the answer was: {}", told.join(" ")));
        }
    }

    fn compare(&mut self, n: usize, view: &NodeView, why: &Why) -> Result<(), String> {
        if why.lines.is_empty() {
            return Err("there is no answer".to_owned());
        }
        let says = |code: &str| why.lines.iter().any(|line| line.app.is_none() && line.code == code);
        let connected = self.broker.sessions.contains_key(&n);
        if view.revoked {
            return must(says("revoked"), "it was revoked");
        }
        if !connected {
            return must(says("offline") || says("never_seen"), "it is not connected");
        }
        must(!says("offline") && !says("never_seen"), "it is connected")?;
        for desired in &view.desired {
            let line = why.lines.iter().find(|line| line.app.as_ref() == Some(&desired.app));
            let line = line.ok_or_else(|| format!("nothing is said of {}", desired.app))?;
            self.compare_app(n, desired, line).map_err(|text| format!("{}: {text}", desired.app))?;
        }
        Ok(())
    }

    fn compare_app(&mut self, n: usize, desired: &DesiredView, line: &WhyLine) -> Result<(), String> {
        let record = self.record_of(n, &desired.app);
        let code = line.code.as_str();
        let refusal = record.refused.clone().filter(|refusal| Some(refusal.release) == desired.release);
        let converged = record.current == desired.release && matches!(record.phase, Phase::Settled);
        self.counts.whys_unconverged += u64::from(!converged);
        if record.generation < desired.generation {
            // A stop of an app that the node never had is no news to it.
            if desired.release.is_none() && record == Record::default() {
                return Ok(());
            }
            must(self.nodes[n].taken_bytes > 0, "it is connected and has not taken in what it was told")?;
            return must(line.text.contains("disk"), "its disk is full");
        }
        if let Some(refusal) = refusal {
            must(code == refusal.code.as_str(), "it was refused")?;
            let true_cause = self.nodes[n].ghosts.has_cause(&desired.app, refusal.release, refusal.code);
            return must(true_cause, "it was refused, for a cause that never was");
        }
        if let Some(refusal) = record.refused.as_ref().filter(|_| is_wanted_otherwise(&record, desired)) {
            return must(code == "rolled_back" && refusal.code == RefusalCode::RolledBack, "it was rolled back there");
        }
        if converged {
            let dies = record.current.is_some_and(|id| self.catalogue.behaviour(id, n) == Behaviour::DiesLater);
            return must(code == "up_to_date" || (dies && code == "unhealthy_now"), "it runs what it should");
        }
        must(code == "in_progress", "it is at work")?;
        let deeds = ["downloading", "starting it on trial", "its probes are being asked"];
        let done = deeds.iter().any(|deed| line.text.contains(deed));
        must(!done || self.is_at_work(n, &desired.app), "nothing of that is being done")?;
        let waits = self.waits_for(n, &desired.app, &record);
        must(waits.is_none_or(|other| line.text.contains(other.as_str())), "it waits for the trial of another app")
    }

    /// The app whose trial this one waits for, with everything on the disk that it needs.
    fn waits_for(&self, n: usize, app: &AppName, record: &Record) -> Option<AppName> {
        let node = &self.nodes[n];
        let Phase::Fetching { release, .. } = record.phase else { return None };
        let sealed = orangery_agent::install::sealed(&*node.disk, &node.layout, app, &release).is_some();
        if !sealed || self.is_at_work(n, app) {
            return None;
        }
        let others = self.catalogue.apps().into_iter().filter(|other| other != app);
        let on_trial =
            |other: &AppName| matches!(self.record_of(n, other).phase, Phase::Activating(_) | Phase::Probing(_));
        // A trial that stands still, for the disk takes no record of it, is not what anybody waits for.
        others.into_iter().find(|other| on_trial(other) && self.is_at_work(n, other))
    }

    fn is_at_work(&self, n: usize, app: &AppName) -> bool {
        self.nodes[n].underway.get(app).is_some_and(super::outside::Underway::is_at_work)
    }
}

/// Somebody on the node has rolled back since, and nothing is under way.
pub(crate) fn is_wanted_otherwise(record: &Record, desired: &DesiredView) -> bool {
    let refused = record.refused.as_ref().map(|refusal| refusal.release);
    let settled = matches!(record.phase, Phase::Settled) && record.generation >= desired.generation;
    settled && record.desired != desired.release && refused.is_some() && refused == record.desired
}

fn must(holds: bool, truth: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("the truth is that {truth}")) }
}
