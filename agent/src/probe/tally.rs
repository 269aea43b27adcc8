//! Answers, counted. Pure: no clock, no socket.

/// What a probe's answers amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Too few answers so far.
    Open,
    /// As many good answers in a row as it takes.
    Holds,
    /// As many bad answers in a row as it bears; with what the last one was.
    Failed(String),
}

/// The answers to one probe.
#[derive(Debug, Clone)]
pub struct Tally {
    successes: u32,
    failures: u32,
    standing: Standing,
    good: u32,
    bad: u32,
    /// Rows of good answers that ended before they were long enough.
    broken: u32,
}

impl Tally {
    /// Nothing asked so far. It takes `successes` good answers in a row to hold and `failures` bad ones to fail.
    pub fn new(successes: u32, failures: u32) -> Self {
        Self {
            successes: successes.max(1),
            failures: failures.max(1),
            standing: Standing::Open,
            good: 0,
            bad: 0,
            broken: 0,
        }
    }

    /// What the answers so far amount to.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Whether it holds and the last answer was good.
    pub fn is_quiet(&self) -> bool {
        self.standing == Standing::Holds && self.bad == 0
    }

    /// A good answer.
    pub fn good(&mut self) {
        self.bad = 0;
        self.good = self.good.saturating_add(1);
        if self.good >= self.successes {
            self.standing = Standing::Holds;
        }
    }

    /// A bad answer. One that was given before the app could be expected to answer does not count.
    pub fn bad(&mut self, reason: &str, counts: bool) {
        if self.standing == Standing::Open && self.good > 0 && counts {
            self.broken = self.broken.saturating_add(1);
        }
        self.good = 0;
        if !counts {
            return;
        }
        self.bad = self.bad.saturating_add(1);
        if self.bad >= self.failures {
            self.standing = Standing::Failed(format!("failed {}: {reason}", times(self.bad)));
        } else if self.broken >= self.failures {
            // Else an app that always answers well, but never twice, would be asked for ever.
            self.standing = Standing::Failed(format!(
                "never held: {} good answers in a row were not reached in {} attempts, the last time: {reason}",
                self.successes, self.broken
            ));
        }
    }

    /// The app was started anew: what it answered before says nothing.
    pub fn begin_anew(&mut self) {
        self.standing = Standing::Open;
        (self.good, self.bad) = (0, 0);
    }
}

fn times(count: u32) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times in a row") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `+` good, `-` bad, `.` bad but not counted.
    fn tally(successes: u32, failures: u32, answers: &str) -> Tally {
        let mut tally = Tally::new(successes, failures);
        for answer in answers.chars() {
            match answer {
                '+' => tally.good(),
                '-' => tally.bad("no", true),
                _ => tally.bad("no", false),
            }
        }
        tally
    }

    fn standing(successes: u32, failures: u32, answers: &str) -> &'static str {
        match tally(successes, failures, answers).standing() {
            Standing::Open => "open",
            Standing::Holds => "holds",
            Standing::Failed(_) => "failed",
        }
    }

    #[test]
    fn answers_count_in_a_row() {
        for (successes, failures, answers, expected) in [
            (1, 3, "", "open"),
            (1, 3, "+", "holds"),
            (2, 3, "+", "open"),
            (2, 3, "+-+", "open"),
            (2, 3, "+-++", "holds"),
            (1, 3, "--", "open"),
            (1, 3, "---", "failed"),
            (1, 3, "--+--", "holds"),
            (1, 3, "--+---", "failed"),
            (2, 2, "--++", "holds"),
            (1, 1, "........", "open"),
            (1, 1, "........-", "failed"),
            (2, 9, "+.+", "open"),
        ] {
            assert_eq!(standing(successes, failures, answers), expected, "{successes} {failures} {answers}");
        }
    }

    #[test]
    fn an_app_that_never_answers_well_for_long_fails_in_the_end() {
        assert_eq!(standing(2, 3, "+-+-"), "open");
        assert_eq!(standing(2, 3, "+-+-+-"), "failed");
        assert_eq!(standing(2, 3, "+.+.+.+.+."), "open", "while it starts that is no wonder");
    }

    #[test]
    fn one_bad_answer_does_not_end_the_holding_but_its_quiet() {
        assert!(tally(1, 3, "+").is_quiet());
        assert!(!tally(1, 3, "+-").is_quiet());
        assert_eq!(standing(1, 3, "+-"), "holds");
        assert!(tally(1, 3, "+-+").is_quiet());
    }

    #[test]
    fn the_reason_counts_and_names_the_last_answer() {
        let failed = tally(1, 2, "--").standing().clone();
        assert_eq!(failed, Standing::Failed("failed 2 times in a row: no".into()));
    }
}
