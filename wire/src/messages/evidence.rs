//! What was seen of a release before it was refused.

use serde::{Deserialize, Serialize};

/// What was seen of a release while it was on trial. It outlives the release, so that people can tell why it was refused.
///
/// A node cuts it to [`crate::limits::EVIDENCE_BYTES_MAX`] before it keeps or sends it. The texts are the app's own words, made
/// harmless for a terminal; the node takes care that no value of the app's environment is among them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Evidence {
    /// How the app ended last, such as "exit status 1"; `None` if it did not end by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<String>,
    /// What each probe was answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<ProbeEvidence>,
    /// The last lines that the app wrote, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
}

/// What one probe was answered during a trial.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProbeEvidence {
    /// What was asked, such as "GET http://127.0.0.1:8080/health".
    pub probe: String,
    /// How many answers were good.
    pub good: u32,
    /// How many were bad, those among them that did not count yet.
    pub bad: u32,
    /// The last answers, oldest first: "good", or what was wrong.
    #[serde(default)]
    pub last: Vec<String>,
}

impl Evidence {
    /// Whether nothing was seen.
    pub fn is_empty(&self) -> bool {
        self.exit.is_none() && self.probes.is_empty() && self.log.is_empty()
    }

    /// As much of it as has room in `bytes_max` bytes of JSON: the oldest lines of the log go first, then the last probes,
    /// then the rest.
    #[must_use]
    pub fn within(mut self, bytes_max: usize) -> Self {
        while self.bytes() > bytes_max {
            if !self.log.is_empty() {
                self.log.remove(0);
            } else if self.probes.pop().is_none() {
                return Self::default();
            }
        }
        self
    }

    fn bytes(&self) -> usize {
        // Nothing in it can fail to serialise.
        serde_json::to_vec(self).map_or(usize::MAX, |bytes| bytes.len())
    }

    /// It as lines for people, without indentation; control characters in it are made spaces.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.exit.iter().map(|exit| format!("it ended: {exit}")).collect();
        for probe in &self.probes {
            let last = if probe.last.is_empty() { "no answer yet".to_owned() } else { probe.last.join("; then ") };
            lines.push(format!("probe {}: {} good, {} bad; last: {last}", probe.probe, probe.good, probe.bad));
        }
        lines.extend(self.log.iter().map(|line| format!("| {line}")));
        let clean = |line: String| line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        lines.into_iter().map(clean).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence() -> Evidence {
        let probe = |n: u32| ProbeEvidence { probe: format!("probe {n}"), good: n, bad: 1, last: vec!["no".into()] };
        Evidence {
            exit: Some("exit status 1".into()),
            probes: (0..3).map(probe).collect(),
            log: (0..9).map(|n| format!("line {n} \"quoted\"")).collect(),
        }
    }

    #[test]
    fn what_has_no_room_goes_oldest_lines_first() {
        let whole = evidence();
        assert_eq!(whole.clone().within(whole.bytes()), whole);
        let shorter = whole.clone().within(whole.bytes() - 1);
        assert_eq!((shorter.log.first(), shorter.log.len()), (whole.log.get(1), 8));
        assert_eq!(whole.clone().within(0), Evidence::default());
        for bytes_max in 2..whole.bytes() {
            let cut = whole.clone().within(bytes_max);
            assert!(cut.bytes() <= bytes_max, "{bytes_max}");
            assert!(cut.log.is_empty() || cut.probes == whole.probes, "{bytes_max}: the log goes first");
        }
    }

    #[test]
    fn no_line_can_drive_a_terminal() {
        let hostile = Evidence { log: vec!["\u{1b}[2Jgone\r\n".into()], ..evidence() };
        assert!(hostile.lines().iter().all(|line| !line.contains(char::is_control)));
        assert_eq!(hostile.lines().last().map(String::as_str), Some("|  [2Jgone  "));
    }
}
