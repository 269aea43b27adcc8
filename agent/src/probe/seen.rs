//! What the probes of a trial were answered, for whoever asks later why it was refused.

use orangery_wire::messages::ProbeEvidence;

/// So many of a probe's last answers are kept.
const LAST_MAX: usize = 3;

/// What was asked and answered. Nothing is decided by it.
#[derive(Debug, Clone, Default)]
pub struct Seen(Vec<ProbeEvidence>);

impl Seen {
    /// Begins anew with these questions.
    pub(super) fn begin(&mut self, questions: impl Iterator<Item = String>) {
        self.0 = questions.map(|probe| ProbeEvidence { probe, ..ProbeEvidence::default() }).collect();
    }

    pub(super) fn heard(&mut self, probe: usize, answer: &Result<(), String>) {
        let Some(seen) = self.0.get_mut(probe) else { return };
        let count = if answer.is_ok() { &mut seen.good } else { &mut seen.bad };
        *count = count.saturating_add(1);
        let said = answer.as_ref().err().map_or("good", String::as_str);
        // The same again says nothing new: the counts tell.
        if seen.last.last().is_none_or(|last| last != said) {
            seen.last.push(said.to_owned());
            let excess = seen.last.len().saturating_sub(LAST_MAX);
            seen.last.drain(..excess);
        }
    }

    /// What each probe was answered.
    pub fn into_probes(self) -> Vec<ProbeEvidence> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_different_answers_are_kept_and_all_are_counted() {
        let mut seen = Seen::default();
        seen.begin(["a".to_owned(), "b".to_owned()].into_iter());
        for answer in ["refused", "refused", "", "", "status 500", "status 503", "status 503"] {
            seen.heard(1, &if answer.is_empty() { Ok(()) } else { Err(answer.to_owned()) });
        }
        seen.heard(9, &Ok(()));
        let probes = seen.into_probes();
        assert_eq!(probes[0], ProbeEvidence { probe: "a".into(), ..ProbeEvidence::default() });
        assert_eq!((probes[1].good, probes[1].bad), (2, 5));
        assert_eq!(probes[1].last, ["good", "status 500", "status 503"]);
    }
}
