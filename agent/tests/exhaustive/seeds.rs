// Seeded mutations of `src/deployment.rs`. The build script replaces one text by another and the test is compiled against
// each result. So what is mutated is what is shipped: a seed that no longer finds its text stops the build of the test.

/// One mutation.
pub struct Seed {
    /// Its name, in snake case.
    pub name: &'static str,
    /// A text that is in the module once.
    pub from: &'static str,
    /// What stands there instead.
    pub to: &'static str,
}

/// All of them; each must be caught.
pub const SEEDS: &[Seed] = &[
    Seed {
        name: "commits_what_merely_started",
        from: "(Event::Ran, Phase::Activating(trial)) => self.phase = Phase::Probing(trial),",
        to: "(Event::Ran, Phase::Activating(trial)) => self.commit(&trial),",
    },
    Seed {
        name: "commits_what_is_unhealthy",
        from: "self.refuse(trial.release, trial.generation, RefusalCode::Unhealthy, reason);",
        to: "drop(reason); self.commit(&trial);",
    },
    Seed {
        name: "commits_what_cut_the_node_off",
        from: "self.refuse(trial.release, trial.generation, RefusalCode::Disconnected, reason);",
        to: "drop(reason); self.commit(&trial);",
    },
    Seed {
        name: "commits_before_it_was_probed",
        from: "(Event::Healthy, Phase::Probing(trial)) => self.commit(&trial),",
        to: "(Event::Healthy, Phase::Probing(trial) | Phase::Activating(trial)) => self.commit(&trial),",
    },
    Seed {
        name: "does_not_count_tries",
        from: "self.phase = Phase::Activating(Trial { tries_left, ..trial.clone() });",
        to: "let _ = tries_left; self.phase = Phase::Activating(trial.clone());",
    },
    Seed { name: "allows_one_try_more", from: "tries_left: TRIES - 1", to: "tries_left: TRIES" },
    Seed {
        name: "goes_on_probing_after_a_start",
        from: "(Event::Started, Phase::Activating(trial) | Phase::Probing(trial)) => self.try_again(&trial),",
        to: "(Event::Started, Phase::Probing(trial)) => self.phase = Phase::Probing(trial),
            (Event::Started, Phase::Activating(trial)) => self.try_again(&trial),",
    },
    Seed {
        name: "trusts_a_trial_after_a_start",
        from: "(Event::Started, Phase::Activating(trial) | Phase::Probing(trial)) => self.try_again(&trial),",
        to: "(Event::Started, Phase::Probing(trial)) => self.commit(&trial),
            (Event::Started, Phase::Activating(trial)) => self.try_again(&trial),",
    },
    Seed {
        name: "does_not_restore_after_a_start_in_a_fetch",
        from: "(Event::Started, Phase::Settled | Phase::Fetching { .. } | Phase::Restoring { .. }) => self.restore(),",
        to: "(Event::Started, Phase::Settled | Phase::Restoring { .. }) => self.restore(),
            (Event::Started, Phase::Fetching { .. }) => {}",
    },
    Seed {
        name: "does_not_restore_after_a_start_at_rest",
        from: "(Event::Started, Phase::Settled | Phase::Fetching { .. } | Phase::Restoring { .. }) => self.restore(),",
        to: "(Event::Started, Phase::Fetching { .. } | Phase::Restoring { .. }) => self.restore(),
            (Event::Started, Phase::Settled) => {}",
    },
    Seed {
        name: "does_not_restore_after_a_refusal",
        from: "limits::reason(reason) });
        }
        self.restore();",
        to: "limits::reason(reason) });
        }
        self.phase = Phase::Settled;",
    },
    Seed {
        name: "forgets_a_refusal",
        from: "        if generation == self.generation {
            self.refused = Some(",
        to: "        if generation != self.generation {
            self.refused = Some(",
    },
    Seed {
        name: "counts_a_refusal_against_a_newer_wish",
        from: "        if generation == self.generation {
            self.refused = Some(",
        to: "        if generation <= self.generation {
            self.refused = Some(",
    },
    Seed {
        name: "keeps_a_refusal_over_generations",
        from: "        self.refused = None;\n",
        to: "",
    },
    Seed {
        name: "tries_what_it_refused",
        from: "(self.current != Some(desired) && !refused).then_some(desired)",
        to: "(self.current != Some(desired) || refused).then_some(desired)",
    },
    Seed {
        name: "restarts_what_is_current",
        from: "(self.current != Some(desired) && !refused).then_some(desired)",
        to: "(!refused).then_some(desired)",
    },
    Seed {
        name: "takes_an_old_wish",
        from: "        if generation <= self.generation {
            return;
        }
        self.generation = generation;
        self.want(",
        to: "        self.generation = generation;
        self.want(",
    },
    Seed {
        name: "takes_a_wish_of_the_same_generation",
        from: "        if generation <= self.generation {
            return;
        }
        self.generation = generation;
        self.want(",
        to: "        if generation < self.generation {
            return;
        }
        self.generation = generation;
        self.want(",
    },
    Seed {
        name: "loses_a_wish_during_a_switch",
        from: "        self.generation = generation;
        self.want(",
        to: "        self.generation = generation;
        if matches!(phase, Phase::Activating(_) | Phase::Probing(_)) {
            return;
        }
        self.want(",
    },
    Seed {
        name: "lets_a_wish_cut_a_trial_short",
        from: "            Phase::Fetching { .. } => self.restore(),
            Phase::Activating(_) | Phase::Probing(_) | Phase::Restoring { .. } => {}",
        to: "            Phase::Fetching { .. } | Phase::Probing(_) => self.restore(),
            Phase::Activating(_) | Phase::Restoring { .. } => {}",
    },
    Seed {
        name: "does_not_restore_after_a_download_is_given_up",
        from: "Phase::Fetching { .. } => self.restore(),",
        to: "Phase::Fetching { .. } => self.settle(),",
    },
    Seed {
        name: "lets_a_broken_release_keep_its_successor_out",
        from: "if self.wanted().is_some() || self.is_unwanted() {",
        to: "if self.is_unwanted() {",
    },
    Seed {
        name: "starts_a_broken_release_that_nobody_wants_for_ever",
        from: "if self.wanted().is_some() || self.is_unwanted() {",
        to: "if self.wanted().is_some() {",
    },
    Seed {
        name: "gives_up_restoring",
        from: "self.phase = Phase::Restoring { attempt: attempt.saturating_add(1) };",
        to: "let _ = attempt; self.phase = Phase::Settled;",
    },
    Seed {
        name: "does_not_stop_what_is_not_wanted",
        from: "self.desired.is_none() && self.current.is_some()",
        to: "self.desired.is_none() && self.current.is_some() && self.generation == 0",
    },
    Seed {
        name: "stops_without_making_it_so",
        from: "                self.current = None;
                Phase::Restoring { attempt: 0 }",
        to: "                self.current = None;
                Phase::Settled",
    },
    Seed {
        name: "makes_a_trial_durable",
        from: "Effect::Run { release: Some(trial.release), trial: true, attempt: 0 }",
        to: "Effect::Run { release: Some(trial.release), trial: false, attempt: 0 }",
    },
    Seed {
        name: "restores_what_is_desired",
        from: "Effect::Run { release: self.current, trial: false, attempt: *attempt }",
        to: "Effect::Run { release: self.desired, trial: false, attempt: *attempt }",
    },
    Seed {
        name: "skips_the_fetch",
        from: "            Some(release) => Phase::Fetching { release, attempt: 0 },
            None if",
        to: "            Some(release) => Phase::Activating(Trial { release, generation: self.generation, tries_left: 0 }),
            None if",
    },
    Seed {
        name: "blames_the_wrong_cause",
        from: "RefusalCode::CrashLoop",
        to: "RefusalCode::Unhealthy",
    },
    Seed {
        name: "rolls_back_in_the_middle_of_a_switch",
        from: "!matches!(phase, Phase::Settled) || ",
        to: "matches!(phase, Phase::Restoring { .. }) || ",
    },
    Seed {
        name: "goes_back_to_what_lost_its_trust",
        from: "        self.current = Some(release);
        let text = \"the node's operator rolled it back\".to_owned();",
        to: "        let text = \"the node's operator rolled it back\".to_owned();",
    },
    Seed {
        name: "takes_a_late_outcome_for_its_own",
        from: "(Event::FetchFailed { refusal: Some(why) }, Phase::Fetching { release, .. }) => {",
        to: "(Event::FetchFailed { refusal: Some(why) }, Phase::Probing(Trial { release, .. }) | Phase::Fetching { release, .. }) => {",
    },
    Seed {
        name: "forgets_what_was_brought",
        from: "(Event::Brought { release }, phase) => self.want(Some(release), &phase),",
        to: "(Event::Brought { .. }, _) => {}",
    },
    Seed {
        name: "gives_what_was_brought_a_generation",
        from: "(Event::Brought { release }, phase) => self.want(Some(release), &phase),",
        to: "(Event::Brought { release }, phase) => self.wish(self.generation + 1, Some(release), &phase),",
    },
    Seed {
        name: "trusts_what_was_brought",
        from: "(Event::Brought { release }, phase) => self.want(Some(release), &phase),",
        to: "(Event::Brought { release }, phase) => { self.want(Some(release), &phase); self.current = Some(release); }",
    },
    Seed {
        name: "keeps_a_refusal_of_what_is_brought",
        from: "(Event::Brought { release }, phase) => self.want(Some(release), &phase),",
        to: "(Event::Brought { release }, phase) => { let refused = self.refused.clone(); self.want(Some(release), &phase); self.refused = refused; }",
    },
];
