//! Fleets in virtual time. A seed that fails is printed; kept in `seeds.txt`, it is tried by every `cargo test` from then on.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::time::Instant;

use orangery_sim::{Counts, Law, Mutant, Options, Summary, simulate};

/// Seeds that every test run tries, besides those that were kept.
const SEEDS: u64 = 6;
/// Seeds within which a planted fault must be found.
const SEEDS_FOR_A_MUTANT: u64 = 12;

fn run(options: Options) -> Summary {
    simulate(options).unwrap()
}

fn hold(options: Options) -> Summary {
    let summary = run(options);
    assert!(summary.broken.is_none(), "{summary}\n  then add the seed to tests/sim/tests/seeds.txt");
    summary
}

/// Seeds that once failed, each with the world that it failed in.
fn kept_seeds() -> Vec<Options> {
    let lines = include_str!("seeds.txt").lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines.map(kept_seed).collect()
}

/// `SEED [--nodes N] [--days D] [--faults PERCENT] what it showed`.
fn kept_seed(line: &str) -> Options {
    let mut words = line.split_whitespace().peekable();
    let number = |word: Option<&str>| word.and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{line}"));
    let mut options = Options::small(number(words.next()));
    while let Some(name) = words.next_if(|word| word.starts_with("--")) {
        match name {
            "--nodes" => options.nodes = usize::try_from(number(words.next())).unwrap(),
            "--days" => options.days = number(words.next()),
            "--faults" => options.faults_percent = number(words.next()),
            _ => panic!("{line}"),
        }
    }
    options
}

#[test]
fn no_law_is_broken_in_any_fleet() {
    let begun = Instant::now();
    let mut all = Counts::default();
    let worlds: Vec<Options> = (0..SEEDS).map(|k| Options::small(7_000 + k)).chain(kept_seeds()).collect();
    for world in &worlds {
        let of_one = hold(*world).counts;
        all.driver_steps += of_one.driver_steps;
        all.cuts_within += of_one.cuts_within;
        all.refusals += of_one.refusals;
        all.commits += of_one.commits;
        all.whys_unconverged += of_one.whys_unconverged;
        all.coordinator_kills += of_one.coordinator_kills;
    }
    println!("{} seeds in {:.1} s: {all:?}", worlds.len(), begun.elapsed().as_secs_f32());
    // Else nothing was tried.
    let least = [all.cuts_within, all.refusals, all.commits, all.whys_unconverged, all.coordinator_kills];
    assert!(least.iter().all(|count| *count >= 20), "{all:?}");
}

#[test]
fn a_seed_replays_bit_for_bit() {
    let of = |seed| run(Options { nodes: 5, days: 4, ..Options::small(seed) });
    let (first, again, other) = (of(11), of(11), of(12));
    assert_eq!((&first.hash, first.lines, first.counts.steps), (&again.hash, again.lines, again.counts.steps));
    assert_ne!(first.hash, other.hash);
}

#[test]
fn a_fleet_where_nothing_breaks_refuses_only_what_is_bad() {
    let summary = hold(Options { faults_percent: 0, days: 4, ..Options::small(3) });
    assert_eq!((summary.counts.kills, summary.counts.coordinator_kills), (0, 0));
    assert!(summary.counts.commits > 10, "{summary}");
}

/// The laws that find a planted fault; one of them must.
fn found_by(mutant: Mutant) -> &'static [Law] {
    use Law::{
        CurrentIsProven, EverythingConverges, GenerationNeverGoesBack, NoAcknowledgedEventIsLost, OneReleaseRuns,
        OnlyProvenStartsAtBoot, RefusedIsNotRetried, TrialIsBounded, TriesAreBounded, ViewIsTruth, WhyIsTrue,
    };
    match mutant {
        Mutant::SyncsNothing => &[GenerationNeverGoesBack, CurrentIsProven, OnlyProvenStartsAtBoot],
        Mutant::ActsBeforeTheSave => &[TriesAreBounded, GenerationNeverGoesBack, OnlyProvenStartsAtBoot],
        Mutant::AcksBeforeTheCommit | Mutant::OutboxForgets => &[NoAcknowledgedEventIsLost],
        Mutant::OldDesiredComesAgain | Mutant::NothingIsRestated => &[WhyIsTrue, EverythingConverges, ViewIsTruth],
        Mutant::NoWill => &[WhyIsTrue],
        Mutant::TrialStartsAtBoot => &[OnlyProvenStartsAtBoot],
        Mutant::ProbesAlwaysHold => &[CurrentIsProven],
        Mutant::RefusalIsForgotten => &[RefusedIsNotRetried],
        Mutant::TriesAreNotCounted => &[TriesAreBounded],
        Mutant::ReportsGetLost => &[WhyIsTrue, ViewIsTruth],
        Mutant::RestoresNothing => &[TrialIsBounded, OneReleaseRuns],
    }
}

#[test]
fn every_planted_fault_is_found_by_a_law_that_is_about_it() {
    for mutant in Mutant::ALL {
        let plant = |seed| run(Options { mutant: Some(mutant), ..Options::small(seed) }).broken;
        let found = (0..SEEDS_FOR_A_MUTANT).find_map(|seed| plant(seed).map(|violation| (seed, violation)));
        let (seed, violation) = found.unwrap_or_else(|| panic!("{mutant:?} was not found"));
        assert!(found_by(mutant).contains(&violation.law), "{mutant:?} was found by {violation}");
        println!("{mutant:?}: seed {seed}, {:?}", violation.law);
    }
}

#[test]
#[ignore = "minutes in a release build: `just test-long`"]
fn no_law_is_broken_in_a_thousand_fleets() {
    let begun = Instant::now();
    let seeds = 100_000..101_000;
    let half = |first: u64| {
        move || -> u64 {
            (first..seeds.end).step_by(2).map(|seed| hold(Options::small(seed)).counts.driver_steps).sum()
        }
    };
    let steps: u64 = std::thread::scope(|scope| {
        let halves = [scope.spawn(half(seeds.start)), scope.spawn(half(seeds.start + 1))];
        halves.into_iter().map(|half| half.join().unwrap()).sum()
    });
    println!("{} seeds, {steps} steps of drivers, {:.1} s", seeds.count(), begun.elapsed().as_secs_f32());
}

#[test]
#[ignore = "a minute in a release build: `just test-long`"]
fn a_thousand_nodes_live_through_thirty_days() {
    let begun = Instant::now();
    let summary = hold(Options { nodes: 1_000, days: 30, ..Options::small(1) });
    println!("{summary}\n  {:.1} s", begun.elapsed().as_secs_f32());
}
