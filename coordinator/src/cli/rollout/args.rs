//! What can be written after `orangery rollout`.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use orangery_wire::NodeId;
use orangery_wire::rest::{Allowance, DeedRequest, OnFailure, RolloutPolicy, RolloutRequest, WaveSize};

use super::super::args::{ReleaseName, Selector};
use crate::span::{Limits, Within, parse_soak};

/// `orangery rollout`
#[derive(Debug, Subcommand)]
pub enum RolloutCommand {
    /// Bring a release to nodes in waves: show the plan, ask, begin
    Start(Box<StartArgs>),
    /// List rollouts, the newest first
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one rollout: its waves, where each node is and why, and what happened
    Show(ShowArgs),
    /// Tell nobody else until it is resumed
    Pause(DeedArgs),
    /// Go on, in spite of the failures that are known
    Resume(DeedArgs),
    /// Open the next wave now, whatever it waits for
    Promote(DeedArgs),
    /// Tell every node that was told the release to run again what was proven there before
    Revert(DeedArgs),
    /// Approve the next wave: it opens when the one ahead has passed
    Approve(DeedArgs),
    /// Tell nodes outside of their maintenance windows too, from now on: for emergencies
    IgnoreWindows(DeedArgs),
}

/// `orangery rollout start`
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "they are options of a command line")]
pub struct StartArgs {
    /// The release, as APP@VERSION
    #[arg(value_name = "APP@VERSION")]
    pub release: ReleaseName,
    /// Which nodes: names, NAME=VALUE of labels, or all
    #[arg(long, visible_alias = "to", value_name = "NODE|LABEL=VALUE|all", value_delimiter = ',', required = true)]
    pub nodes: Vec<Selector>,
    /// Nodes that come first, as a wave of their own
    #[arg(long, value_name = "NODE", value_delimiter = ',')]
    pub canary: Vec<NodeId>,
    /// How far each wave reaches: 10% or 5 of all nodes, from the first wave on, or NAME=VALUE [default: 100%]
    #[arg(long, value_name = "SIZE", value_delimiter = ',')]
    pub waves: Vec<WaveSize>,
    /// How long each node must be well before the next wave opens; one for each wave, the last for all further ones
    #[arg(long, value_name = "TIME", value_delimiter = ',', default_value = "10m", value_parser = parse_soak)]
    pub soak: Vec<Duration>,
    /// How many nodes of a wave may fail: 1 or 5%; one for each wave, the last for all further ones
    #[arg(long, value_name = "COUNT|SHARE", value_delimiter = ',', default_value = "0")]
    pub failures: Vec<Allowance>,
    /// What to do when more fail
    #[arg(long, value_enum, default_value = "pause")]
    pub on_failure: Failing,
    /// Let each wave but the first wait for `orangery rollout approve`
    #[arg(long)]
    pub approve_between: bool,
    /// Time for a node to take it in, and what it counts as after that: fail, skip or wait
    #[arg(long, value_name = "TIME[:THEN]", default_value = "1h:skip")]
    pub start_within: Within,
    /// Longest time in which a node that took it in reports nothing new, and what it counts as after that
    #[arg(long, value_name = "TIME[:THEN]", default_value = "1h:fail")]
    pub progress_within: Within,
    /// Time from taking it in to the proof, and what the node counts as after that
    #[arg(long, value_name = "TIME[:THEN]", default_value = "4h:fail")]
    pub done_within: Within,
    /// Compare each node with itself before, and with nodes that do not run it yet: it fails if it restarts more, or has more
    /// memory or slower probes than LIMITS allow, such as memory=150%,latency=200%,patience=30m
    #[arg(long, value_name = "LIMITS", num_args = 0..=1, require_equals = true, default_missing_value = "yes")]
    pub compare: Option<Limits>,
    /// Tell nodes outside of their maintenance windows too: for emergencies
    #[arg(long)]
    pub ignore_windows: bool,
    /// Why
    #[arg(long)]
    pub note: Option<String>,
    /// Begin without asking
    #[arg(short, long)]
    pub yes: bool,
    /// Print JSON: the plan, then the rollout
    #[arg(long)]
    pub json: bool,
}

/// `orangery rollout show`
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Its number
    pub rollout: u64,
    /// Go on showing it until it has ended or is paused: exit code 0 if it is done, else 1
    #[arg(long)]
    pub watch: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `orangery rollout pause` and its like
#[derive(Debug, Args)]
pub struct DeedArgs {
    /// Its number
    pub rollout: u64,
    /// Why
    #[arg(long)]
    pub note: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What a rollout does when too many nodes of a wave fail.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Failing {
    /// Tell nobody else and wait for a person
    Pause,
    /// Tell every node to go back
    Revert,
}

impl StartArgs {
    /// What is sent.
    pub fn request(&self) -> RolloutRequest {
        RolloutRequest {
            app: self.release.app.clone(),
            version: self.release.version.clone(),
            to: self.nodes.iter().map(|selector| selector.0.clone()).collect(),
            canaries: self.canary.clone(),
            waves: self.waves.clone(),
            policy: RolloutPolicy {
                soak_secs: self.soak.iter().map(Duration::as_secs).collect(),
                failures: self.failures.clone(),
                on_failure: match self.on_failure {
                    Failing::Pause => OnFailure::Pause,
                    Failing::Revert => OnFailure::Revert,
                },
                approve_between: self.approve_between,
                start: self.start_within.0,
                progress: self.progress_within.0,
                done: self.done_within.0,
                compare: self.compare.map(|limits| limits.0),
            },
            deed: DeedRequest { note: self.note.clone() },
            plan: None,
            ignore_windows: self.ignore_windows,
        }
    }
}
