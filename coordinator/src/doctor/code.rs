//! Everything that `orangery doctor` can find. docs/operating/doctor.md has the same table; a test keeps them equal.

use serde::Serialize;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// All is well.
    Ok,
    /// A person should act, in days.
    Warning,
    /// A person should act now.
    Bad,
}

impl Level {
    /// The word in every listing.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Bad => "bad",
        }
    }
}

/// What is known of a code.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The stable word.
    pub word: &'static str,
    /// How bad it is.
    pub level: Level,
    /// Why it matters.
    pub why: &'static str,
    /// What to do.
    pub fix: &'static str,
}

const fn code(word: &'static str, level: Level, why: &'static str, fix: &'static str) -> Entry {
    Entry { word, level, why, fix }
}

/// All of them.
pub const CODES: &[Entry] = &[
    code(
        "no_answer",
        Level::Bad,
        "While the coordinator does not answer nodes go on with what they run, and nothing new reaches them.",
        "On its machine: `systemctl status orangery`, `journalctl -u orangery -n 50` (coordinator-machine.md); here compare `url` and `ca` in client.toml.",
    ),
    code(
        "broker_away",
        Level::Bad,
        "Without the broker nodes cannot report and hear nothing new; rollouts stand still and make nobody late.",
        "With a broker of your own see that it runs and has the rules of `orangery broker acl`; the log of `orangery serve` says why it is not reached (network.md).",
    ),
    code(
        "clock_differs",
        Level::Warning,
        "Maintenance windows, certificates and metadata go by the coordinator's clock.",
        "`timedatectl` on both machines says which is wrong; enable a time service there (clock.md).",
    ),
    code(
        "disk_low",
        Level::Warning,
        "Events, the audit log and artifacts need room; when there is none, nothing is published and no event is acknowledged.",
        "Remove what is not the coordinator's, or move its state to a larger disk (coordinator-machine.md).",
    ),
    code(
        "disk_full",
        Level::Bad,
        "The coordinator is about to take nothing in: nodes keep their events, and no release can be published.",
        "Make room now (coordinator-machine.md); it goes on by itself.",
    ),
    code(
        "metadata_ends",
        Level::Warning,
        "When what the owner signed has ended, nodes take no new release. What runs goes on.",
        "`orangery keys renew` with the owner's keys (expired-metadata.md).",
    ),
    code(
        "metadata_not_renewed",
        Level::Warning,
        "The coordinator signs its own metadata anew each day, and did not: new releases will be refused when it ends.",
        "The log of `orangery serve` says why; often its clock or its disk (expired-metadata.md).",
    ),
    code(
        "metadata_ended",
        Level::Bad,
        "Nodes refuse every new release. What runs goes on.",
        "root or targets: `orangery keys renew` with the owner's keys; timestamp: see why the coordinator does not sign (expired-metadata.md).",
    ),
    code(
        "node_needs_a_look",
        Level::Warning,
        "A node is away, refused a release, is ill or cannot go on.",
        "`orangery why NODE` says more, and README.md in docs/operating has a page for each.",
    ),
    code(
        "certificate_ends",
        Level::Warning,
        "The node should have renewed it long ago; when it has ended, the broker lets the node in no more. A renewal stays possible.",
        "See that the agent runs and reaches the coordinator's HTTPS port: `orangery-agent doctor` on the node.",
    ),
    code(
        "rollout_asks",
        Level::Warning,
        "The rollout goes on only when somebody decides; nodes keep what they have proven.",
        "`orangery rollout show N` says what it waits for; then approve, resume, promote or revert it (rollouts.md).",
    ),
    code(
        "notify_fails",
        Level::Warning,
        "Whoever should hear of what happens does not.",
        "`orangery notify test TARGET` tries it now (notifications.md).",
    ),
];
