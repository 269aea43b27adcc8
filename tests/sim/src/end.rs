//! After two quiet days: everything must have come to rest, and everybody must know it.

use orangery_agent::deployment::{Phase, Record};
use orangery_wire::messages::{AppReport, Phase as PhaseName};
use orangery_wire::rest::NodeView;

use crate::laws::Law;
use crate::reasons::is_wanted_otherwise;
use crate::world::World;

impl World {
    pub(crate) fn judge_the_end(&mut self) {
        for n in 0..self.nodes.len() {
            self.counts.events += self.coordinator.stored.get(n).map_or(0, |stored| stored.len() as u64);
            if self.broken.is_some() || self.nodes[n].dead || self.nodes[n].line.cut_by.is_some() {
                continue;
            }
            let Some((view, why)) = self.ask_why(n) else {
                self.break_law(Law::EverythingConverges, Some(n), "the coordinator has never heard of it");
                continue;
            };
            if view.revoked {
                continue;
            }
            let told: Vec<&str> = why.lines.iter().map(|line| line.text.as_str()).collect();
            if let Err(text) = self.is_settled(n, &view) {
                self.break_law(Law::EverythingConverges, Some(n), format!("{text}; why: {}", told.join(" ")));
            }
            if let Err(text) = self.is_seen_right(n, &view) {
                self.break_law(Law::ViewIsTruth, Some(n), text);
            }
            self.judge_events(n);
        }
    }

    fn is_settled(&mut self, n: usize, view: &NodeView) -> Result<(), String> {
        if self.nodes[n].driver.is_none() {
            return Err("its agent does not run".to_owned());
        }
        if !view.online {
            return Err("it is not connected".to_owned());
        }
        for desired in &view.desired {
            let record = self.record_of(n, &desired.app);
            if desired.release.is_none() && record == Record::default() {
                continue;
            }
            let refused = record.refused.as_ref().map(|refusal| refusal.release);
            let done = record.current == desired.release
                || (refused.is_some() && refused == desired.release)
                || is_wanted_otherwise(&record, desired);
            if record.generation < desired.generation || !matches!(record.phase, Phase::Settled) || !done {
                return Err(format!(
                    "{} was told generation {} and is {} in generation {}",
                    desired.app,
                    desired.generation,
                    record.phase_name(),
                    record.generation
                ));
            }
            let running = self.nodes[n].running(&desired.app);
            if running != record.current {
                let name = |id: Option<orangery_wire::ReleaseId>| id.map_or("nothing".to_owned(), |id| id.short());
                let text = format!("{} runs {}, current is {}", desired.app, name(running), name(record.current));
                self.break_law(Law::OneReleaseRuns, Some(n), text);
            }
        }
        Ok(())
    }

    /// What the coordinator shows of the node against what the node is.
    fn is_seen_right(&self, n: usize, view: &NodeView) -> Result<(), String> {
        let reports = view.reported.as_ref().map(|reported| reported.apps.as_slice()).unwrap_or_default();
        for desired in &view.desired {
            let record = self.record_of(n, &desired.app);
            if record == Record::default() {
                continue;
            }
            let report = reports.iter().find(|report| report.app == desired.app);
            let report = report.ok_or_else(|| format!("nothing is known of {}", desired.app))?;
            if !agrees(report, &record, self.nodes[n].running(&desired.app)) {
                return Err(format!("{} is seen as {report:?}, and is {record:?}", desired.app));
            }
        }
        Ok(())
    }

    fn judge_events(&mut self, n: usize) {
        let promised = self.nodes[n].shelf.promised(0, u64::MAX);
        let missing = promised.iter().find(|sequence| !self.coordinator.stored[n].contains(sequence));
        if let Some(missing) = missing {
            let text = format!("event {missing} of {} is not stored", promised.len());
            self.break_law(Law::EveryEventIsStored, Some(n), text);
        }
        let counted = self.coordinator.keeper.view().events_of(&self.nodes[n].id);
        let known = self.coordinator.stored[n].len() as u64;
        if counted.is_ok_and(|counted| counted != known) {
            self.break_law(
                Law::EveryEventIsStored,
                Some(n),
                "the database has another count of events than were committed",
            );
        }
    }
}

fn agrees(report: &AppReport, record: &Record, running: Option<orangery_wire::ReleaseId>) -> bool {
    report.generation == record.generation
        && report.phase == PhaseName::Settled
        && report.current.as_ref().map(|current| current.id) == record.current
        && report.running.as_ref().map(|running| running.id) == running
        && report.refusal == record.refused
}
