//! How effects end: downloads, starts and probes, as the release, the disk and the line allow.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use orangery_agent::deployment::{self, Effect, Reason};
use orangery_agent::disk::{self, Disk};
use orangery_agent::driver::{Event, Outcome, Retry};
use orangery_agent::{backoff, errors, install, record};
use orangery_wire::messages::RefusalCode;
use orangery_wire::{AppName, ReleaseId};

use crate::options::Mutant;
use crate::outside::{Underway, look};
use crate::releases::Behaviour;
use crate::world::{Due, HOUR, MINUTE, SECOND, World};

/// The agent's own pauses.
const PAUSE: Duration = Duration::from_secs(1);
const FETCH_PAUSE_MAX: Duration = Duration::from_mins(5);
const RESTORE_PAUSE_MAX: Duration = Duration::from_mins(1);
/// A node that had its coordinator before a trial must have it again within this.
const GATE: u64 = MINUTE;

impl World {
    /// An effect takes the place of the one before it.
    pub(crate) fn begin_effect(&mut self, n: usize, underway: Underway) {
        let (attempt, longest) = match &underway.effect {
            Effect::Fetch { attempt, .. } => (*attempt, FETCH_PAUSE_MAX),
            Effect::Run { attempt, .. } => (*attempt, RESTORE_PAUSE_MAX),
            Effect::Probe { .. } | Effect::Wait => (0, PAUSE),
        };
        let node = &mut self.nodes[n];
        let pause = backoff::delay(attempt, PAUSE, longest, node.random.number());
        let (life, app, serial) = (node.life, underway.app.clone(), underway.serial);
        node.underway.insert(app.clone(), underway);
        let pause = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        self.later(pause, Due::EffectBegins { node: n, life, app, serial });
    }

    /// Whatever waits before another attempt waits no longer.
    pub(crate) fn hurry(&mut self, n: usize) {
        let node = &self.nodes[n];
        let waiting: Vec<(AppName, u64)> = node
            .underway
            .values()
            .filter(|underway| !underway.doing)
            .map(|underway| (underway.app.clone(), underway.serial))
            .collect();
        let life = node.life;
        for (app, serial) in waiting {
            self.later(0, Due::EffectBegins { node: n, life, app, serial });
        }
    }

    fn underway(&self, n: usize, life: u64, app: &AppName, serial: u64) -> Option<Underway> {
        let node = &self.nodes[n];
        let underway = node.underway.get(app).filter(|_| node.life == life)?;
        (underway.serial == serial && underway.is_at_work()).then(|| underway.clone())
    }

    pub(crate) fn effect_begins(&mut self, n: usize, life: u64, app: &AppName, serial: u64) {
        let Some(underway) = self.underway(n, life, app, serial).filter(|underway| !underway.doing) else { return };
        if let Some(kept) = self.nodes[n].underway.get_mut(app) {
            kept.doing = true;
        }
        let takes = match underway.effect {
            Effect::Wait => return,
            Effect::Fetch { release, .. } => {
                let here = self.is_sealed(n, app, release);
                if here { 50 } else { self.nodes[n].random.long_tailed(30 * SECOND) }
            }
            Effect::Run { release, trial, .. } => self.start_begins(n, app, release, trial, &underway),
            Effect::Probe { .. } => self.nodes[n].random.between(30 * SECOND, 3 * MINUTE),
        };
        self.note(n, "effect begins", serial, takes);
        self.later(takes, Due::EffectEnds { node: n, life, app: app.clone(), serial });
    }

    fn is_sealed(&self, n: usize, app: &AppName, release: ReleaseId) -> bool {
        let node = &self.nodes[n];
        install::sealed(&*node.disk, &node.layout, app, &release).is_some()
    }

    /// The same, as the installer looks before it says that a release is here.
    fn is_sealed_durably(&self, n: usize, app: &AppName, release: ReleaseId) -> bool {
        let node = &self.nodes[n];
        install::sealed_durably(&*node.disk, &node.layout, app, &release).is_ok_and(|found| found.is_some())
    }

    /// Another release of the app is stopped before this one is started.
    fn start_begins(
        &mut self,
        n: usize,
        app: &AppName,
        release: Option<ReleaseId>,
        trial: bool,
        underway: &Underway,
    ) -> u64 {
        // What runs already is not started.
        if let (Some(release), true) = (release.filter(|_| self.nodes[n].running(app) != release), trial) {
            self.judge_try(n, app, release, underway.trial.unwrap_or(0));
        }
        let stays = self.has(Mutant::RestoresNothing) && !trial;
        let node = &mut self.nodes[n];
        if node.running(app) != release && !stays {
            look(&node.shared).running.remove(app);
            if node.line.cut_by.as_ref() == Some(app) {
                node.line.cut_by = None;
                self.line_is_back(n);
            }
        }
        self.nodes[n].random.between(200, 5 * SECOND)
    }

    pub(crate) fn effect_ends(&mut self, n: usize, life: u64, app: &AppName, serial: u64) {
        let Some(underway) = self.underway(n, life, app, serial) else { return };
        let outcome = match underway.effect {
            Effect::Wait => None,
            Effect::Fetch { release, attempt } => Some(self.fetched(n, app, release, attempt)),
            Effect::Run { release, trial, attempt } => self.ran(n, app, release, trial, attempt),
            Effect::Probe { release } => self.probes_end(n, app, release, &underway),
        };
        if self.nodes[n].disk.is_off() {
            // It went down while a release was written.
            return self.drive(n, |_| {});
        }
        let Some(outcome) = outcome else { return };
        if let Some(ended) = self.nodes[n].underway.get_mut(app) {
            ended.over = true;
        }
        let app = app.clone();
        self.tell(n, life, Event::Outcome { app, serial, outcome });
    }

    fn fetched(&mut self, n: usize, app: &AppName, release: ReleaseId, attempt: u32) -> Outcome {
        let again = |reason: &str| Outcome {
            retry: Some(Retry { deed: "fetch", reason: reason.to_owned(), first: attempt == 0 }),
            ..deployment::Event::FetchFailed { refusal: None }.into()
        };
        let refused =
            |code, text: String| deployment::Event::FetchFailed { refusal: Some(Reason { code, text }) }.into();
        if self.is_sealed_durably(n, app, release) {
            return deployment::Event::Fetched.into();
        }
        if !self.nodes[n].line.passes() {
            return again("the line to the coordinator is cut");
        }
        if !self.coordinator.runs() {
            return again("the coordinator does not answer");
        }
        if self.catalogue.behaviour(release, n) == Behaviour::BadDownload {
            self.nodes[n].ghosts.may_be_refused(app, release, RefusalCode::WrongDigest);
            return refused(RefusalCode::WrongDigest, "what came is not what was signed".to_owned());
        }
        match self.write_release(n, app, release) {
            Ok(()) => deployment::Event::Fetched.into(),
            Err(error) => {
                self.nodes[n].ghosts.may_be_refused(app, release, errors::disk_code(&error));
                let (node, layout) = (&self.nodes[n], &self.nodes[n].layout);
                let _ = node.disk.remove_dir_all(&layout.release(app, &release));
                let _ = node.disk.sync_dir(&layout.releases(app));
                refused(errors::disk_code(&error), format!("writing the release failed: {error}"))
            }
        }
    }

    /// In the installer's order: what was left of an earlier attempt goes, the tree, its syncs, the seal.
    fn write_release(&mut self, n: usize, app: &AppName, id: ReleaseId) -> std::io::Result<()> {
        let Some(release) = self.catalogue.get(id) else { return Err(std::io::ErrorKind::NotFound.into()) };
        let (disk, layout) = (&*self.nodes[n].disk, &self.nodes[n].layout);
        let (directory, tree) = (layout.release(app, &id), layout.tree(app, &id));
        if disk.exists(&directory) {
            disk.remove_dir_all(&directory)?;
            disk.sync_dir(&layout.releases(app))?;
        }
        disk::make_dir(disk, &tree, 0o755)?;
        let program = tree.join("program");
        disk.write_new(&program, &[7; 12_000], 0o755)?;
        disk.sync_file(&program)?;
        disk.sync_dir(&tree)?;
        disk.sync_dir(&directory)?;
        disk::replace(disk, &layout.seal(app, &id), &release.seal, 0o444)
    }

    fn ran(
        &mut self,
        n: usize,
        app: &AppName,
        release: Option<ReleaseId>,
        trial: bool,
        attempt: u32,
    ) -> Option<Outcome> {
        let Some(release) = release else {
            let node = &mut self.nodes[n];
            look(&node.shared).running.remove(app);
            if let Some(units) = &mut node.units {
                units.remove(app);
            }
            return Some(deployment::Event::Ran.into());
        };
        let failed = |reason: String| Outcome {
            retry: (!trial).then(|| Retry { deed: "restore", reason: reason.clone(), first: attempt == 0 }),
            ..deployment::Event::RunFailed { reason }.into()
        };
        if !self.is_sealed(n, app, release) {
            return Some(failed("the release is not on this node's disk".to_owned()));
        }
        let unchanged = self.nodes[n].running(app) == Some(release);
        match self.catalogue.behaviour(release, n) {
            Behaviour::WontStart if trial => {
                self.nodes[n].ghosts.may_be_refused(app, release, RefusalCode::WontStart);
                return Some(failed("exec format error".to_owned()));
            }
            Behaviour::CrashesAtStart if trial && !unchanged => {
                self.cut_power(n);
                return None;
            }
            Behaviour::CutsOff => self.cut_off_by(n, app),
            _ => {}
        }
        let stays = self.has(Mutant::RestoresNothing) && !trial;
        if !(stays && self.nodes[n].running(app).is_some()) {
            look(&self.nodes[n].shared).running.insert(app.clone(), release);
        }
        if !trial {
            self.may_start_at_boot(n, app.clone(), release);
        }
        Some(deployment::Event::Ran.into())
    }

    fn cut_off_by(&mut self, n: usize, app: &AppName) {
        if self.nodes[n].line.cut_by.is_none() {
            self.nodes[n].line.cut_by = Some(app.clone());
            self.line_is_cut(n);
        }
    }

    pub(crate) fn may_start_at_boot(&mut self, n: usize, app: AppName, _release: ReleaseId) {
        if let Some(units) = &mut self.nodes[n].units {
            units.insert(app);
        }
    }

    fn probes_end(&mut self, n: usize, app: &AppName, release: ReleaseId, underway: &Underway) -> Option<Outcome> {
        let behaviour = self.catalogue.behaviour(release, n);
        if behaviour == Behaviour::CrashesInProbe {
            self.cut_power(n);
            return None;
        }
        if self.nodes[n].running(app) != Some(release) {
            return Some(deployment::Event::Unhealthy { reason: "it does not run".to_owned() }.into());
        }
        if behaviour == Behaviour::Unhealthy && !self.has(Mutant::ProbesAlwaysHold) {
            self.nodes[n].ghosts.may_be_refused(app, release, RefusalCode::Unhealthy);
            return Some(deployment::Event::Unhealthy { reason: "it answered 500 three times".to_owned() }.into());
        }
        let up = look(&self.nodes[n].shared).up && self.nodes[n].line.passes();
        if underway.connected_before && !up {
            if underway.trial.is_some() && !self.nodes[n].ghosts.waits_at_gate(app, underway.serial) {
                let (life, app, serial) = (self.nodes[n].life, app.clone(), underway.serial);
                self.later(GATE, Due::EffectEnds { node: n, life, app, serial });
                return None;
            }
            self.nodes[n].ghosts.may_be_refused(app, release, RefusalCode::Disconnected);
            let reason = "the coordinator was not reached again".to_owned();
            return Some(deployment::Event::Disconnected { reason }.into());
        }
        if behaviour != Behaviour::Unhealthy {
            self.nodes[n].ghosts.prove(app, release);
        }
        self.counts.commits += 1;
        Some(Outcome { unwitnessed: !up, ..deployment::Event::Healthy.into() })
    }

    pub(crate) fn watch(&mut self, n: usize, app: AppName, release: ReleaseId, off: Arc<AtomicBool>) {
        let dies = self.catalogue.behaviour(release, n) == Behaviour::DiesLater;
        let node = &mut self.nodes[n];
        let (life, after) = (node.life, node.random.between(MINUTE, HOUR));
        let after = if dies { after } else { 10 * SECOND };
        self.later(after, Due::Probed { node: n, life, app, release, healthy: !dies, off });
    }

    pub(crate) fn probed(
        &mut self,
        n: usize,
        life: u64,
        app: AppName,
        release: ReleaseId,
        healthy: bool,
        off: &AtomicBool,
    ) {
        if !off.load(Ordering::Relaxed) {
            let reason = (!healthy).then(|| "it answered 500 three times".to_owned());
            self.tell(n, life, Event::AppHealth { app, release, healthy, reason });
        }
    }

    /// What stays is read from the record when it comes to that, as the installer does.
    pub(crate) fn collect(&mut self, n: usize, life: u64, app: &AppName) {
        let node = &self.nodes[n];
        if node.life != life {
            return;
        }
        let state = record::load_app(&*node.disk, &node.layout, app).state;
        // A failure is for the next time, as in the agent.
        let _ = install::collect(&*node.disk, &node.layout, app, &state.named());
        if node.disk.is_off() {
            self.drive(n, |_| {});
        }
    }

    /// What the record of an app on a node's disk says.
    pub(crate) fn record_of(&self, n: usize, app: &AppName) -> deployment::Record {
        let node = &self.nodes[n];
        record::load_app(&*node.disk, &node.layout, app).state.record
    }
}
