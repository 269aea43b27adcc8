//! What was seen of a release on trial, kept when it is refused: its last output and what its probes were answered.
//!
//! It is gathered when the trial has failed, before anything takes the release's place, and in a limited time. Nothing
//! depends on it: what cannot be had is left out, and the way back goes on. `apps/APP/refused.json` holds the last one; the
//! event `refused` takes a shorter copy to the coordinator.
//!
//! Values of the app's environment may be secrets: where they stand in a text, the variable's name is put.

use std::collections::BTreeMap;
use std::io;

use orangery_wire::limits::{EVIDENCE_BYTES_MAX, EVIDENCE_LINES_MAX};
use orangery_wire::messages::{Evidence, ProbeEvidence, Refusal};
use orangery_wire::{AppName, Generation, Version};
use serde::{Deserialize, Serialize};

use crate::disk::{self, Disk};
use crate::layout::Layout;

/// Longest line that is kept, in characters.
const LINE_CHARS_MAX: usize = 200;
/// Shorter values are ports, levels and the like; replacing them would only make texts unreadable.
const SECRET_CHARS_MIN: usize = 6;
/// Largest file that is read; JSON may need six bytes for one.
const FILE_BYTES_MAX: usize = 64 << 10;
const FILE_MODE: u32 = 0o600;

/// Content of `apps/APP/refused.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The file's format: 1.
    pub format: u32,
    /// The generation that wanted the release.
    pub generation: Generation,
    /// Its version, if known.
    #[serde(default)]
    pub version: Option<Version>,
    /// Which release, and why.
    pub refusal: Refusal,
    /// What was seen of it.
    pub evidence: Evidence,
}

/// Puts together what was seen: `output` is the app's, as it wrote it.
pub fn of(exit: Option<String>, probes: Vec<ProbeEvidence>, output: &[u8], variables: &Hidden) -> Evidence {
    let hide = |text: &String| cut(variables.hide(text));
    let probes = probes.into_iter().map(|probe| ProbeEvidence {
        probe: hide(&probe.probe),
        last: probe.last.iter().map(hide).collect(),
        ..probe
    });
    // Hidden before it is cut: half a secret would not be known for one.
    let log = lines(&variables.hide(&String::from_utf8_lossy(output)));
    Evidence { exit, probes: probes.collect(), log }.within(EVIDENCE_BYTES_MAX)
}

/// Keeps what was seen of the last refused release of an app. Durable on return.
pub fn save(disk: &dyn Disk, layout: &Layout, app: &AppName, refused: &Refused) -> io::Result<()> {
    disk::replace(disk, &layout.refused(app), &serde_json::to_vec_pretty(refused)?, FILE_MODE)
}

/// What was seen of the last refused release of an app; `None` if there was none, or the file cannot be read.
pub fn load(disk: &dyn Disk, layout: &Layout, app: &AppName) -> Option<Refused> {
    let bytes = disk.read(&layout.refused(app), FILE_BYTES_MAX).ok()?;
    serde_json::from_slice(&bytes).ok().filter(|refused: &Refused| refused.format == 1)
}

/// What must not be shown: the values of an app's variables.
#[derive(Debug, Clone, Default)]
pub struct Hidden(Vec<(String, String)>);

impl Hidden {
    /// Hides these values.
    pub fn of<'a>(variables: impl IntoIterator<Item = &'a BTreeMap<String, String>>) -> Self {
        let all = variables.into_iter().flatten();
        let secret = all.filter(|(_, value)| value.chars().count() >= SECRET_CHARS_MIN && !value.trim().is_empty());
        let mut hidden: Vec<_> = secret.map(|(name, value)| (value.clone(), format!("${{{name}}}"))).collect();
        // One may be a part of another.
        hidden.sort_by_key(|(value, _)| std::cmp::Reverse(value.len()));
        Self(hidden)
    }

    /// `text` with `${NAME}` wherever the value of a variable stood.
    pub fn hide(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (value, name) in &self.0 {
            if text.contains(value.as_str()) {
                text = text.replace(value.as_str(), name);
            }
        }
        text
    }
}

/// The last lines of a text, printable and cut; lines of nothing but spaces are left out.
pub fn lines(text: &str) -> Vec<String> {
    last(text, EVIDENCE_LINES_MAX, LINE_CHARS_MAX)
}

/// The same, at most so many and not cut.
pub fn printable(text: &str, lines_max: usize) -> Vec<String> {
    last(text, lines_max, usize::MAX)
}

fn last(text: &str, lines_max: usize, chars_max: usize) -> Vec<String> {
    let lines = text.lines().rev().map(|line| cut_to(line, chars_max));
    let mut lines: Vec<String> = lines.filter(|line| !line.is_empty()).take(lines_max).collect();
    lines.reverse();
    lines
}

fn cut(line: impl AsRef<str>) -> String {
    cut_to(line.as_ref(), LINE_CHARS_MAX)
}

fn cut_to(line: &str, chars_max: usize) -> String {
    let printable = line.trim_end().chars().map(|c| if c.is_control() { ' ' } else { c });
    printable.take(chars_max).collect::<String>().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use orangery_wire::messages::RefusalCode;
    use orangery_wire::{Digest, ReleaseId};

    use super::*;
    use crate::disk::RealDisk;

    fn hidden(pairs: &[(&str, &str)]) -> Hidden {
        let variables = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Hidden::of([&variables])
    }

    #[test]
    fn the_last_lines_are_kept_printable_and_cut() {
        let text: Vec<String> = (0..99).map(|n| format!("  line {n}\x1b[31m\r\n\n")).collect();
        let text = text.concat();
        let kept = lines(&text);
        assert_eq!((kept.len(), kept[0].as_str()), (EVIDENCE_LINES_MAX, "  line 49 [31m"));
        assert_eq!(lines(&"ä".repeat(9_999)), ["ä".repeat(LINE_CHARS_MAX)]);
        assert!(lines(" \n\t\n").is_empty());
    }

    #[test]
    fn no_value_of_a_variable_is_kept_but_its_name() {
        let secret = "s3cret-token-of-the-app";
        let hidden = hidden(&[("TOKEN", secret), ("LONGER", "s3cret-token-of-the-app-2"), ("PORT", "8080")]);
        let long = format!("{}{secret}", "x".repeat(LINE_CHARS_MAX - 4));
        let output = format!("listening on 8080 with {secret}\n{secret}-2\n{long}\n");
        let probe = ProbeEvidence { probe: format!("GET /?t={secret}"), last: vec![secret.into()], good: 0, bad: 1 };
        let evidence = of(None, vec![probe], output.as_bytes(), &hidden);
        assert_eq!(evidence.log[..2], ["listening on 8080 with ${TOKEN}", "${LONGER}"]);
        assert_eq!(evidence.probes[0].probe, "GET /?t=${TOKEN}");
        let text = format!("{evidence:?}");
        assert!(!text.contains("s3c"), "not even a part of it: {text}");
    }

    #[test]
    fn what_was_kept_is_read_again_and_damage_is_no_news() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, layout, app) = (RealDisk, Layout::new(dir.path()), "greeter".parse().unwrap());
        assert_eq!(load(&disk, &layout, &app), None);
        std::fs::create_dir_all(layout.app(&app)).unwrap();
        let refusal =
            Refusal { release: ReleaseId(Digest([7; 32])), code: RefusalCode::Unhealthy, reason: "status 500".into() };
        let evidence = of(Some("exit status 1".into()), vec![], b"one\ntwo\n", &Hidden::default());
        let refused = Refused { format: 1, generation: 4, version: None, refusal, evidence };
        save(&disk, &layout, &app, &refused).unwrap();
        save(&disk, &layout, &app, &refused).unwrap();
        assert_eq!(load(&disk, &layout, &app), Some(refused));
        std::fs::write(layout.refused(&app), b"{\"format\":").unwrap();
        assert_eq!(load(&disk, &layout, &app), None);
    }
}
