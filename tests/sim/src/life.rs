//! Power and agents: how they come and go, and one step of a driver with what it asked for.

use orangery_agent::driver::{Driver, Event};
use orangery_agent::record;

use crate::options::Mutant;
use crate::outside::{Ask, look};
use crate::world::{Due, HOUR, MINUTE, SECOND, World};

/// Between two health messages.
const TICK: u64 = 2 * HOUR;
/// Events that nobody has acknowledged for so long are offered again.
pub const RESEND_AFTER: u64 = MINUTE;

impl World {
    pub(crate) fn power_on(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        if node.dead || node.powered {
            return;
        }
        node.switch_on(self.now);
        let (boot, starts) = (node.boot, node.random.between(SECOND, 20 * SECOND));
        let known = node.random.between(MINUTE, 10 * MINUTE);
        self.note(n, "power on", boot, 0);
        self.forget_at_boot(n);
        self.judge_boot(n);
        self.later(starts, Due::AgentStarts { node: n, boot });
        self.later(known, Due::TimeIsKnown { node: n, boot });
    }

    pub(crate) fn time_is_known(&mut self, n: usize, boot: u64) {
        let node = &mut self.nodes[n];
        if node.boot != boot || !node.powered {
            return;
        }
        if node.line.passes() {
            node.sync_time();
        } else {
            self.later(10 * MINUTE, Due::TimeIsKnown { node: n, boot });
        }
    }

    pub(crate) fn agent_starts(&mut self, n: usize, boot: u64) {
        let node = &mut self.nodes[n];
        if node.boot != boot || !node.powered || node.driver.is_some() {
            return;
        }
        self.forget_at_start(n);
        let node = &mut self.nodes[n];
        let started = node.start_agent(self.now);
        let life = node.life;
        self.note(n, "agent starts", life, boot);
        if !started {
            return self.went_down_within(n);
        }
        self.after_step(n);
        self.later(TICK, Due::Tick { node: n, life });
        self.dial_soon(n, 2 * SECOND);
    }

    /// The planted faults that need a start.
    fn forget_at_start(&mut self, n: usize) {
        let (refusals, tries) = (self.has(Mutant::RefusalIsForgotten), self.has(Mutant::TriesAreNotCounted));
        let node = &self.nodes[n];
        if self.has(Mutant::OutboxForgets) {
            node.shelf.forget_one();
        }
        if !refusals && !tries {
            return;
        }
        for app in record::apps(&*node.disk, &node.layout) {
            let mut state = record::load_app(&*node.disk, &node.layout, &app).state;
            if refusals {
                state.record.refused = None;
            }
            if let orangery_agent::deployment::Phase::Activating(trial)
            | orangery_agent::deployment::Phase::Probing(trial) = &mut state.record.phase
                && tries
            {
                trial.tries_left = orangery_agent::deployment::TRIES;
            }
            let _ = record::save_app(&*node.disk, &node.layout, &app, &state);
        }
    }

    /// The planted fault that needs a boot: what was on trial runs as if it were proven.
    fn forget_at_boot(&mut self, n: usize) {
        if !self.has(Mutant::TrialStartsAtBoot) {
            return;
        }
        let node = &self.nodes[n];
        for app in record::apps(&*node.disk, &node.layout) {
            let state = record::load_app(&*node.disk, &node.layout, &app).state;
            if let Some(release) = state.record.subject() {
                look(&node.shared).running.insert(app, release);
            }
        }
    }

    /// Power is cut, now.
    pub(crate) fn cut_power(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        if !node.powered {
            return;
        }
        self.counts.cuts += 1;
        self.note_interrupted_trials(n);
        let node = &mut self.nodes[n];
        node.switch_off();
        let away = node.random.long_tailed(20 * MINUTE);
        self.note(n, "power cut", away, 0);
        self.session_breaks(n, false);
        self.nodes[n].line.cut_by = None;
        self.later(away, Due::PowerOn(n));
    }

    /// The agent is killed, now; apps run on. Its manager starts it again.
    pub(crate) fn kill_agent(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        if node.driver.is_none() {
            return;
        }
        self.counts.kills += 1;
        self.note_interrupted_trials(n);
        let node = &mut self.nodes[n];
        node.lose_agent();
        let (boot, away) = (node.boot, node.random.between(SECOND, 30 * SECOND));
        self.note(n, "agent killed", away, 0);
        self.session_breaks(n, true);
        self.later(away, Due::AgentStarts { node: n, boot });
    }

    /// A call of the disk was the last thing that the driver did.
    fn went_down_within(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        if node.random.percent(70) {
            self.counts.cuts_within += 1;
            self.cut_power(n);
        } else {
            self.counts.kills_within += 1;
            self.kill_agent(n);
        }
    }

    pub(crate) fn tell(&mut self, n: usize, life: u64, event: Event) {
        if self.nodes[n].life == life {
            self.drive(n, |driver| driver.take(event));
        }
    }

    /// One step of a node's driver, with the proof after it.
    pub(crate) fn drive(&mut self, n: usize, step: impl FnOnce(&mut Driver)) {
        let now = self.now;
        let node = &mut self.nodes[n];
        if node.driver.is_none() {
            return;
        }
        node.set_time(now);
        node.disk.save_late();
        if let Some(driver) = &mut node.driver {
            step(driver);
            driver.report();
        }
        self.after_step(n);
    }

    /// What the driver asked for is done, unless it went down in its step.
    fn after_step(&mut self, n: usize) {
        self.counts.driver_steps += 1;
        let node = &self.nodes[n];
        let asks = std::mem::take(&mut look(&node.shared).asks);
        let calls = node.disk.calls();
        self.note(n, "step", calls, asks.len() as u64);
        if self.nodes[n].disk.is_off() {
            return self.went_down_within(n);
        }
        self.judge_disk(n);
        for ask in asks {
            self.asked(n, ask);
        }
    }

    fn asked(&mut self, n: usize, ask: Ask) {
        let life = self.nodes[n].life;
        match ask {
            Ask::Begin(underway) => self.begin_effect(n, underway),
            Ask::Watch(app, release, off) => self.watch(n, app, release, off),
            Ask::Later(pause, event) => {
                let pause = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                self.later(pause, Due::Tell { node: n, life, event });
            }
            Ask::Commit(app, release) => self.may_start_at_boot(n, app, release),
            Ask::Collect(app) => self.later(SECOND, Due::Collect { node: n, life, app }),
            Ask::Judge(releases) => {
                let judged = releases.into_iter().map(|(app, release)| (app, release, None)).collect();
                self.later(1, Due::Tell { node: n, life, event: Event::Judged(judged) });
            }
            Ask::Reconnected => self.hurry(n),
            Ask::Report(payload) => self.says(n, orangery_wire::topics::Channel::Reported, payload),
            Ask::Health(payload) => self.says(n, orangery_wire::topics::Channel::Health, payload),
            Ask::Event(payload) => {
                self.says(n, orangery_wire::topics::Channel::Event, payload);
                self.watch_events(n, life);
            }
        }
    }

    pub(crate) fn tick(&mut self, n: usize, life: u64) {
        if self.nodes[n].life == life {
            self.drive(n, |driver| driver.take(Event::Tick));
            self.later(TICK, Due::Tick { node: n, life });
        }
    }
}
