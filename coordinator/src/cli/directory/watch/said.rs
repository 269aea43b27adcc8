//! What a watch says: a line for people, or a line of JSON. docs/operating/fleet-directory.md lists the words.

use serde::Serialize;

use super::super::source::Seen;
use crate::cli::directory::show;
use crate::fleet::Plan;
use crate::output;
use crate::span;

/// What happened.
#[derive(Debug, Serialize)]
#[serde(tag = "watch", rename_all = "snake_case")]
pub enum Said<'a> {
    /// The watch has begun.
    Begun {
        /// What it follows.
        follows: String,
        /// Whether it applies plans, or only shows them.
        automatic: bool,
        /// How often it looks.
        every_secs: u64,
        /// The last commit that the fleet was brought to, before.
        reached: Option<&'a str>,
    },
    /// There is a commit that the fleet was not brought to yet.
    Commit(&'a Seen),
    /// The fleet directory in it is the one that was there before.
    Same {
        /// The commit.
        commit: &'a str,
    },
    /// What it would change.
    Plan {
        /// The commit.
        commit: &'a str,
        /// The plan.
        plan: &'a Plan,
    },
    /// The fleet is as the commit says, or on its way.
    Reached {
        /// The commit.
        commit: &'a str,
        /// The plan's digest.
        plan: &'a str,
        /// Whether this watch has changed anything for it.
        applied: bool,
    },
    /// Somebody must agree.
    Pending {
        /// The commit.
        commit: &'a str,
        /// The plan's digest.
        plan: &'a str,
        /// Why it is not done without asking.
        reason: String,
        /// The command by which somebody agrees.
        command: String,
    },
    /// Nothing is done with this commit.
    Refused {
        /// The commit.
        commit: &'a str,
        /// Why.
        reason: String,
    },
    /// Something is not as it must be; it is tried again.
    Waiting {
        /// What.
        reason: &'a str,
        /// When it is tried again, in seconds from now.
        again_secs: u64,
    },
    /// It was told to end.
    Ended,
}

impl Said<'_> {
    /// Writes it to standard output.
    pub fn say(&self, json: bool) -> std::io::Result<()> {
        if json { output::json_line(self) } else { output::line(self.text()) }
    }

    fn text(&self) -> String {
        match self {
            Self::Begun { follows, automatic, every_secs, reached } => {
                let does =
                    if *automatic { "its plans are applied" } else { "its plans are shown and nothing is changed" };
                let since = reached.map(|commit| format!("; the fleet was brought to {} before", short(commit)));
                let every = span::text(*every_secs);
                format!("Following {follows}, each {every}: {does}{}.", since.unwrap_or_default())
            }
            Self::Commit(seen) => {
                let signed = seen.signer.as_ref().map(|signer| format!(", signed by {signer}")).unwrap_or_default();
                format!("commit {} by {}{signed}: {}", short(&seen.commit), seen.author, seen.subject)
            }
            Self::Same { commit } => {
                format!("commit {} changes nothing in the fleet directory.", short(commit))
            }
            Self::Plan { plan, .. } => show::text(plan, None),
            Self::Reached { commit, plan, applied } => {
                let how = if *applied { "was applied" } else { "has nothing left to change" };
                format!("commit {}: its plan {plan} {how}.", short(commit))
            }
            Self::Pending { commit, reason, command, .. } => {
                format!("commit {}: nothing was changed: {reason}. To apply this plan:\n  {command}", short(commit))
            }
            Self::Refused { commit, reason } => {
                format!(
                    "commit {}: nothing was changed, and nothing will be until there is another commit: {reason}",
                    short(commit)
                )
            }
            Self::Waiting { reason, again_secs } => {
                format!("waiting, tried again in {}: {reason}", span::text(*again_secs))
            }
            Self::Ended => "Ended; what was begun goes on.".to_owned(),
        }
    }
}

fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}
