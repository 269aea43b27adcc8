//! What a person can do with a rollout that is under way.

use orangery_wire::NodeId;
use orangery_wire::rest::Deed;

use super::{Halt, Left, Rollout, RolloutId, Stage, Status, Verdict};

/// Why a deed is not possible now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotNow {
    /// The rollout is not where the deed makes sense.
    #[error("it is {status}")]
    Status {
        /// Where it is.
        status: &'static str,
    },
    /// Nothing waits for an approval.
    #[error("nothing waits for an approval")]
    NoGate,
    /// Every wave is open.
    #[error("every wave is open already")]
    AllOpen,
    /// It does so already.
    #[error("it looks at no window already")]
    WindowsIgnored,
}

fn halt(deed: &Deed) -> Halt {
    let reason = deed.note.clone().unwrap_or_else(|| "no reason given".to_owned());
    Halt { at: deed.at, by: Some(deed.by.clone()), wave: None, node: None, reason }
}

impl Rollout {
    fn not_now<T>(&self) -> Result<T, NotNow> {
        Err(NotNow::Status { status: self.status.as_str() })
    }

    /// Tells nobody else until it is resumed.
    pub fn pause(&mut self, deed: &Deed) -> Result<(), NotNow> {
        match self.status {
            Status::Running => self.status = Status::Paused(halt(deed)),
            _ => return self.not_now(),
        }
        Ok(())
    }

    /// Goes on in spite of the failures that are known: they do not count any more.
    pub fn resume(&mut self) -> Result<(), NotNow> {
        if !matches!(self.status, Status::Paused(_)) {
            return self.not_now();
        }
        for turn in self.turns.values_mut() {
            if let Stage::Told(told) = &mut turn.stage {
                told.forgiven |= told.failed.is_some();
            }
            turn.away = None;
        }
        self.status = Status::Running;
        Ok(())
    }

    /// Opens the next wave, whatever it waits for. Returns which, counted from 0.
    pub fn promote(&mut self, deed: &Deed) -> Result<usize, NotNow> {
        if self.status != Status::Running {
            return self.not_now();
        }
        let next = self.next_wave().ok_or(NotNow::AllOpen)?;
        let wave = self.waves.get_mut(next).ok_or(NotNow::AllOpen)?;
        wave.promoted = Some(deed.clone());
        Ok(next)
    }

    /// Lets nodes pass whose comparison shows nothing after their soak. If there are none: approves the next wave that waits
    /// for it, now or later, and returns which, counted from 0.
    pub fn approve(&mut self, deed: &Deed) -> Result<Option<usize>, NotNow> {
        if !matches!(self.status, Status::Running | Status::Paused(_)) {
            return self.not_now();
        }
        if self.accept_inconclusive() {
            return Ok(None);
        }
        let waits = |wave: &super::Wave| wave.opened_at.is_none() && wave.rule.approve && wave.approved.is_none();
        let next = self.next_wave().filter(|next| self.waves.get(*next).is_some_and(waits)).ok_or(NotNow::NoGate)?;
        let wave = self.waves.get_mut(next).ok_or(NotNow::NoGate)?;
        wave.approved = Some(deed.clone());
        Ok(Some(next))
    }

    fn accept_inconclusive(&mut self) -> bool {
        let mut any = false;
        for turn in self.turns.values_mut() {
            if let Stage::Told(told) = &mut turn.stage
                && let Some(compared) = told.compared.as_mut().filter(|_| told.soaked)
            {
                let is_open = compared.verdict == Verdict::Inconclusive && !compared.accepted;
                compared.accepted |= is_open;
                any |= is_open;
            }
        }
        any
    }

    /// Tells every node that it told the release to run again what was proven there before; also when it was done already.
    pub fn revert(&mut self, deed: &Deed) -> Result<(), NotNow> {
        match self.status {
            Status::Running | Status::Paused(_) | Status::Done { .. } => self.status = Status::Reverting(halt(deed)),
            _ => return self.not_now(),
        }
        Ok(())
    }

    /// Tells nodes outside of their maintenance windows too, from now on.
    pub fn ignore_windows(&mut self, deed: &Deed) -> Result<(), NotNow> {
        if self.ignores_windows.is_some() {
            return Err(NotNow::WindowsIgnored);
        }
        if !matches!(self.status, Status::Running | Status::Paused(_)) {
            return self.not_now();
        }
        self.ignores_windows = Some(deed.clone());
        Ok(())
    }

    /// A newer rollout takes nodes over. Returns those that this one loses.
    pub fn lose<'a>(&mut self, nodes: impl IntoIterator<Item = &'a NodeId>, to: RolloutId) -> Vec<NodeId> {
        let mut lost = Vec::new();
        for node in nodes {
            if let Some(turn) = self.turns.get_mut(node)
                && !matches!(turn.stage, Stage::Left(_))
            {
                turn.stage = Stage::Left(Left::Superseded { by: to });
                lost.push(node.clone());
            }
        }
        lost
    }
}
