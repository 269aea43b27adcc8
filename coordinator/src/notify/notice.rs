//! What is told: one thing that happened, in words that were made harmless before they were kept.

use std::collections::BTreeMap;
use std::fmt;

use orangery_wire::{AppName, NodeId, UnixTime, Version};
use serde::{Deserialize, Serialize};

/// Longest text of a notice, in characters.
const TEXT_CHARS_MAX: usize = 500;

/// What happened. The words are those of the settings and of bodies; they never change their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A node refused a release, and runs the one before.
    ReleaseRefused,
    /// A rollout tells nobody else: by itself, or because somebody said so.
    RolloutPaused,
    /// The next wave waits for somebody's approval.
    RolloutNeedsApproval,
    /// A rollout goes back.
    RolloutReverting,
    /// A rollout has gone back.
    RolloutReverted,
    /// A rollout is through.
    RolloutDone,
    /// A node was not heard for the time that `[watch]` names.
    NodeSilent,
    /// It is heard again.
    NodeBack,
    /// A board became a node.
    NodeJoined,
    /// A node's disk is full to its reserve, or what was on it could not be read.
    NodeFailing,
    /// The node has its reserve again.
    NodeRecovered,
    /// Somebody asked for it with `orangery notify test`.
    Test,
}

impl Kind {
    /// Those that can be chosen.
    pub const ALL: [Self; 11] = [
        Self::ReleaseRefused,
        Self::RolloutPaused,
        Self::RolloutNeedsApproval,
        Self::RolloutReverting,
        Self::RolloutReverted,
        Self::RolloutDone,
        Self::NodeSilent,
        Self::NodeBack,
        Self::NodeJoined,
        Self::NodeFailing,
        Self::NodeRecovered,
    ];

    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReleaseRefused => "release_refused",
            Self::RolloutPaused => "rollout_paused",
            Self::RolloutNeedsApproval => "rollout_needs_approval",
            Self::RolloutReverting => "rollout_reverting",
            Self::RolloutReverted => "rollout_reverted",
            Self::RolloutDone => "rollout_done",
            Self::NodeSilent => "node_silent",
            Self::NodeBack => "node_back",
            Self::NodeJoined => "node_joined",
            Self::NodeFailing => "node_failing",
            Self::NodeRecovered => "node_recovered",
            Self::Test => "test",
        }
    }

    /// How much it matters, unless the notice says otherwise.
    pub fn severity(self) -> Severity {
        match self {
            Self::ReleaseRefused | Self::RolloutPaused | Self::RolloutReverting | Self::NodeFailing => Severity::Error,
            Self::RolloutNeedsApproval | Self::RolloutReverted | Self::NodeSilent => Severity::Warning,
            Self::RolloutDone | Self::NodeBack | Self::NodeJoined | Self::NodeRecovered | Self::Test => Severity::Info,
        }
    }

    /// What so many of them are: "3 releases refused".
    pub(super) fn count(self, count: u64) -> String {
        let (one, many, what) = match self {
            Self::ReleaseRefused => ("release", "releases", "refused"),
            Self::RolloutPaused => ("rollout", "rollouts", "paused"),
            Self::RolloutNeedsApproval => ("rollout", "rollouts", "waiting for approval"),
            Self::RolloutReverting => ("rollout", "rollouts", "going back"),
            Self::RolloutReverted => ("rollout", "rollouts", "gone back"),
            Self::RolloutDone => ("rollout", "rollouts", "done"),
            Self::NodeSilent => ("node", "nodes", "silent"),
            Self::NodeBack => ("node", "nodes", "back"),
            Self::NodeJoined => ("node", "nodes", "joined"),
            Self::NodeFailing => ("node", "nodes", "failing"),
            Self::NodeRecovered => ("node", "nodes", "recovered"),
            Self::Test => ("test", "tests", "sent"),
        };
        format!("{count} {} {what}", if count == 1 { one } else { many })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How much a notice matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// As it should be.
    Info,
    /// Somebody should look.
    Warning,
    /// Something went wrong.
    Error,
}

impl Severity {
    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Its place in the list; 0 before it has one.
    #[serde(skip)]
    pub id: u64,
    /// When, by the coordinator's clock.
    #[serde(skip)]
    pub at: UnixTime,
    /// What.
    pub kind: Kind,
    /// How much it matters.
    pub severity: Severity,
    /// Why, or what else there is to say; of one line, see [`plain`].
    pub text: String,
    /// The node, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// Its labels at that time.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The app, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AppName>,
    /// The version, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// The rollout, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<u64>,
    /// The stable code of a refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

impl Notice {
    /// Of this kind, with what there is to say.
    pub fn new(kind: Kind, text: &str) -> Self {
        Self {
            id: 0,
            at: 0,
            kind,
            severity: kind.severity(),
            text: plain(text, TEXT_CHARS_MAX),
            node: None,
            labels: BTreeMap::new(),
            app: None,
            version: None,
            rollout: None,
            code: None,
        }
    }

    /// What happened in a few words. They hold names alone, whose letters are bounded, and nothing that a node could write.
    pub fn title(&self) -> String {
        let node = self.node.as_ref().map_or("a node", NodeId::as_str);
        let app = self.app.as_ref().map_or("an app", AppName::as_str);
        let release = match &self.version {
            Some(version) => format!("{app} {version}"),
            None => app.to_owned(),
        };
        let rollout = format!("rollout {} of {release}", self.rollout.unwrap_or_default());
        match self.kind {
            Kind::ReleaseRefused => format!("{node} refused {release}"),
            Kind::RolloutPaused => format!("{rollout} is paused"),
            Kind::RolloutNeedsApproval => format!("{rollout} waits for approval"),
            Kind::RolloutReverting => format!("{rollout} goes back"),
            Kind::RolloutReverted => format!("{rollout} has gone back"),
            Kind::RolloutDone => format!("{rollout} is done"),
            Kind::NodeSilent => format!("{node} is silent"),
            Kind::NodeBack => format!("{node} is back"),
            Kind::NodeJoined => format!("{node} joined"),
            Kind::NodeFailing => format!("{node} is failing"),
            Kind::NodeRecovered => format!("{node} has recovered"),
            Kind::Test => "test of notifications".to_owned(),
        }
    }
}

/// A text on one line: controls, line breaks, marks that turn or hide what follows and runs of blanks become one blank, and
/// what is beyond `chars_max` characters is cut.
pub fn plain(text: &str, chars_max: usize) -> String {
    let hides = |c: char| {
        matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
    };
    // Bounded before it is worked on.
    let visible: String =
        text.chars().take(4 * chars_max).map(|c| if c.is_control() || hides(c) { ' ' } else { c }).collect();
    let line = visible.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= chars_max {
        return line;
    }
    line.chars().take(chars_max.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_kinds_are_those_of_bodies() {
        for kind in Kind::ALL.into_iter().chain([Kind::Test]) {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }

    #[test]
    fn a_text_is_one_short_line_whatever_a_node_says() {
        assert_eq!(plain("a\r\nBcc: x@y\0\t b", 100), "a Bcc: x@y b");
        assert_eq!(plain("left\u{202e}right\u{200b}!", 100), "left right !");
        let long = plain(&"last words ".repeat(10_000), 500);
        assert_eq!((long.chars().count(), long.ends_with('…')), (500, true));
        assert_eq!(Notice::new(Kind::Test, &"x".repeat(100_000)).text.chars().count(), TEXT_CHARS_MAX);
    }
}
