//! What a run comes to.

use std::fmt;

use crate::laws::Violation;
use crate::options::Options;

/// How often something happened.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Things that were done, one after the other.
    pub steps: u64,
    /// Steps of drivers.
    pub driver_steps: u64,
    /// Power cuts.
    pub cuts: u64,
    /// Of them, in the middle of a driver's step.
    pub cuts_within: u64,
    /// Agents killed.
    pub kills: u64,
    /// Of them, in the middle of a driver's step.
    pub kills_within: u64,
    /// Coordinators killed.
    pub coordinator_kills: u64,
    /// Brokers that forgot everything.
    pub broker_restarts: u64,
    /// Connections made.
    pub connections: u64,
    /// Messages carried.
    pub messages: u64,
    /// Messages lost on the way.
    pub messages_lost: u64,
    /// What people wanted.
    pub wishes: u64,
    /// Nodes that were told something new.
    pub deployments: u64,
    /// Trials begun, each try counted.
    pub tries: u64,
    /// Releases proven.
    pub commits: u64,
    /// Releases refused.
    pub refusals: u64,
    /// Events stored by the coordinator.
    pub events: u64,
    /// Times that somebody asked why, and the answer was compared with the truth.
    pub whys: u64,
    /// Of them, of apps that had not converged.
    pub whys_unconverged: u64,
    /// Disk states that were judged.
    pub states: u64,
}

/// The end of a run.
#[derive(Debug)]
pub struct Summary {
    /// How it was made.
    pub options: Options,
    /// Hash of everything that happened.
    pub hash: String,
    /// Lines in the trace.
    pub lines: u64,
    /// How often.
    pub counts: Counts,
    /// The first law that was broken.
    pub broken: Option<Violation>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Options { seed, nodes, days, faults_percent, .. } = self.options;
        let c = &self.counts;
        writeln!(f, "seed {seed}: {nodes} nodes, {days} days, {faults_percent} % faults")?;
        writeln!(
            f,
            "  steps {} (driver {}), messages {} (lost {}), connections {}",
            c.steps, c.driver_steps, c.messages, c.messages_lost, c.connections
        )?;
        writeln!(
            f,
            "  power cuts {} ({} within a step), agents killed {} ({}), coordinator killed {}, broker restarted {}",
            c.cuts, c.cuts_within, c.kills, c.kills_within, c.coordinator_kills, c.broker_restarts
        )?;
        writeln!(
            f,
            "  wishes {}, deployments {}, tries {}, commits {}, refusals {}, events stored {}",
            c.wishes, c.deployments, c.tries, c.commits, c.refusals, c.events
        )?;
        writeln!(
            f,
            "  disk states judged {}, answers to `why` compared {} ({} not converged)",
            c.states, c.whys, c.whys_unconverged
        )?;
        write!(f, "  trace of {} lines, hash {}", self.lines, self.hash)?;
        match &self.broken {
            Some(violation) => {
                write!(f, "\n  BROKEN: {violation}\n  replay it with ")?;
                write!(f, "`just sim {seed} --nodes {nodes} --days {days} --faults {faults_percent}`")
            }
            None => Ok(()),
        }
    }
}
