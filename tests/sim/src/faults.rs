//! What breaks, and when it is mended.

use crate::trace::Line;
use crate::world::{DAY, Due, HOUR, MINUTE, SECOND, World};

/// Faults of one node in a rough day, on average.
const FAULTS_A_DAY: u64 = 2;

/// What is mended later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The line is cut.
    Line,
    /// The disk is full.
    Disk,
}

impl World {
    pub(crate) fn pause_before_fault(&mut self, n: usize) -> u64 {
        let percent = self.options.faults_percent.max(1);
        let mean = DAY * 100 / (FAULTS_A_DAY * percent);
        1 + self.nodes[n].random.below(2 * mean)
    }

    pub(crate) fn node_fault(&mut self, n: usize) {
        if !self.is_rough() {
            return;
        }
        let again = self.pause_before_fault(n);
        self.later(again, Due::NodeFault(n));
        let kind = self.nodes[n].random.below(1_000);
        self.note(n, "fault", kind, 0);
        match kind {
            // It goes down at once, or at a call of its disk when it next does something.
            0..120 => self.cut_power(n),
            120..300 => self.go_off_in_a_call(n),
            300..380 => self.kill_agent(n),
            380..650 => self.cut_line(n),
            650..850 => self.reset(n),
            850..920 => self.fill_disk(n),
            920..997 => self.set_clock_wrong(n),
            _ => self.die(n),
        }
    }

    pub(crate) fn calm(&mut self) {
        self.nodes.iter().for_each(|node| node.disk.never_go_off());
    }

    fn go_off_in_a_call(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        if node.driver.is_some() {
            let calls = node.random.between(1, 60);
            node.disk.go_off_in(calls);
        }
    }

    /// Hours, and now and then weeks.
    fn cut_line(&mut self, n: usize) {
        let away = self.nodes[n].random.long_tailed(HOUR) * if self.nodes[n].random.below(40) == 0 { 12 } else { 1 };
        self.cut_line_for(n, away);
    }

    fn cut_line_for(&mut self, n: usize, away: u64) {
        self.nodes[n].line.cuts += 1;
        if self.nodes[n].line.cuts == 1 {
            self.line_is_cut(n);
        }
        let left = self.options.rough_ends_at().saturating_sub(self.now);
        self.later(away.min(left), Due::Mended(n, Fault::Line));
    }

    fn reset(&mut self, n: usize) {
        if let Some(session) = self.nodes[n].line.session {
            let notices = self.nodes[n].random.between(1, 5 * SECOND);
            self.later(notices, Due::NodeNotices { node: n, session });
            self.broker_notices(n, session);
        }
    }

    /// Something else on the board takes all room, or all but a little.
    fn fill_disk(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        let left = node.random.below(4) * 8_192;
        let taken = node.disk.take(node.disk.free_bytes().saturating_sub(left));
        node.taken_bytes += taken;
        let away = node.random.long_tailed(20 * MINUTE);
        self.note(n, "disk full", left, away);
        self.later(away, Due::Mended(n, Fault::Disk));
    }

    fn set_clock_wrong(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        let years = i64::try_from(node.random.below(20)).unwrap_or(0) - 10;
        node.jump(years * 31_000_000 + 17);
        let (boot, known) = (node.boot, node.random.long_tailed(HOUR));
        self.later(known, Due::TimeIsKnown { node: n, boot });
    }

    /// For ever. One in twenty at most.
    fn die(&mut self, n: usize) {
        if n % 20 == 7 {
            self.note(n, "dies", 0, 0);
            self.cut_power(n);
            self.nodes[n].dead = true;
        }
    }

    pub(crate) fn mended(&mut self, n: usize, fault: Fault) {
        match fault {
            Fault::Line => {
                self.nodes[n].line.cuts = self.nodes[n].line.cuts.saturating_sub(1);
                self.line_is_back(n);
            }
            Fault::Disk => {
                let node = &mut self.nodes[n];
                node.disk.give(std::mem::take(&mut node.taken_bytes));
                self.note(n, "disk has room", 0, 0);
            }
        }
    }

    pub(crate) fn common_fault(&mut self) {
        if !self.is_rough() {
            return;
        }
        let mean = 6 * HOUR * 100 / self.options.faults_percent.max(1);
        let again = 1 + self.random.below(2 * mean);
        self.later(again, Due::CommonFault);
        match self.random.below(10) {
            0..4 => self.kill_coordinator(10 * MINUTE),
            4..7 => self.restart_broker(),
            7 => self.fill_coordinator(),
            _ => self.cut_site(),
        }
    }

    /// The coordinator's database takes nothing for a while.
    fn fill_coordinator(&mut self) {
        let away = self.random.long_tailed(10 * MINUTE);
        self.note(Line::NOWHERE, "database full", away, 0);
        self.coordinator.full_until = self.now + away;
        // Soon after that some node sends its health, and with it what is owed is done.
        self.later(away + MINUTE, Due::Turn);
    }

    /// All boards of a site are cut off together.
    fn cut_site(&mut self) {
        let (site, away) = (self.random.below(7), self.random.long_tailed(2 * HOUR));
        let left = self.options.rough_ends_at().saturating_sub(self.now);
        self.note(Line::NOWHERE, "site cut off", site, away);
        for n in self.of_site(site) {
            self.nodes[n].line.cuts += 1;
            if self.nodes[n].line.cuts == 1 {
                self.line_is_cut(n);
            }
        }
        self.later(away.min(left), Due::SiteMended(site));
    }

    pub(crate) fn site_mended(&mut self, site: u64) {
        for n in self.of_site(site) {
            self.mended(n, Fault::Line);
        }
    }

    fn of_site(&self, site: u64) -> Vec<usize> {
        (0..self.nodes.len()).filter(|n| *n as u64 % 7 == site).collect()
    }
}
