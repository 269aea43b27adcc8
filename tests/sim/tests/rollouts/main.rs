//! Rollouts over fleets in virtual time: the coordinator's pure planner and the agent's pure deployment core on every node, with
//! lines that lose messages, boards that lose power, a coordinator that is killed, clocks that jump, releases that are bad in
//! every way there is, and people who change their minds. Everything follows from one seed.
//!
//! `scripts/` has scenarios as text, each with its recorded output beside it: `RECORD=1 cargo test -p orangery-sim --test rollouts`
//! writes them anew.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::indexing_slicing, reason = "nodes are numbered from 0")]

mod center;
mod faults;
mod kinds;
mod laws;
mod node;
mod script;
mod windows;
mod world;
mod worse;

use std::time::Instant;

use kinds::{Counts, Mutant, Options};
use laws::Law;
use world::World;

/// Seeds that every test run tries.
const SEEDS: u64 = 200;
/// Seeds within which a planted fault must be found.
const SEEDS_FOR_A_MUTANT: u64 = 200;

/// Lives through a world; the law that it broke, with the story.
fn live(options: Options) -> Result<Counts, (Law, String)> {
    let mut world = World::new(options);
    faults::live(&mut world);
    match world.laws.broken.take() {
        Some((law, what)) => Err((law, what)),
        None => Ok(world.counts),
    }
}

fn hold(options: Options) -> Counts {
    live(options).unwrap_or_else(|(law, what)| panic!("seed {} breaks {law:?}: {what}", options.seed))
}

/// Seeds that once broke a law.
const KEPT: [u64; 3] = [102_077, 107_658, 109_673];
/// The same, of rollouts that compare.
const KEPT_COMPARING: [u64; 2] = [101_430, 107_950];

fn hold_all(seeds: std::ops::Range<u64>) -> Counts {
    let mut all = Counts::default();
    seeds.for_each(|seed| all.add(&hold(Options::of(seed))));
    all
}

#[test]
fn no_law_is_broken_by_any_rollout() {
    let begun = Instant::now();
    let mut all = hold_all(0..SEEDS);
    for seed in KEPT {
        all.add(&hold(Options { compares: false, ..Options::of(seed) }));
    }
    for seed in KEPT_COMPARING {
        all.add(&hold(Options::of(seed)));
    }
    println!("{SEEDS} seeds in {:.1} s: {all:?}", begun.elapsed().as_secs_f32());
    // Else nothing was tried.
    let least = [all.done, all.reverted, all.paused, all.superseded, all.kills, all.refusals, all.late, all.promoted];
    let windows = [all.shut, all.missed, all.ignored];
    let compared = [all.worse, all.unclear];
    assert!(least.iter().chain(&windows).chain(&compared).all(|count| *count >= 10), "{all:?}");
}

fn hold_large(nodes: usize, seeds: std::ops::Range<u64>) {
    let begun = Instant::now();
    let mut all = Counts::default();
    for seed in seeds {
        all.add(&hold(Options { nodes, ..Options::of(seed) }));
    }
    println!("{nodes} nodes in {:.1} s: {all:?}", begun.elapsed().as_secs_f32());
    // Most nodes have proven something new.
    assert!(all.commits - all.cores > all.cores / 2, "{all:?}");
}

#[test]
fn six_hundred_nodes_in_one_rollout_break_no_law() {
    hold_large(600, 1..2);
}

#[test]
#[ignore = "a minute in a release build: `just test-long`"]
fn five_thousand_nodes_in_one_rollout_break_no_law() {
    hold_large(5_000, 1..5);
}

#[test]
fn the_same_seed_is_the_same_story() {
    let story = |seed| {
        let mut world = World::new(Options::of(seed));
        faults::live(&mut world);
        (world.counts, world.center.history())
    };
    assert_eq!(story(5), story(5));
    assert_ne!(story(5), story(6));
}

#[test]
fn every_planted_fault_is_found_by_the_law_that_it_breaks() {
    for (mutant, laws) in Mutant::ALL {
        let plant = |seed| live(Options { mutant: Some(mutant), ..Options::of(seed) }).err();
        let found = (0..SEEDS_FOR_A_MUTANT).find_map(|seed| plant(seed).map(|found| (seed, found)));
        let (seed, (law, what)) = found.unwrap_or_else(|| panic!("{mutant:?} was not found"));
        assert!(laws.contains(&law), "{mutant:?} was found by {law:?}: {what}");
        println!("{mutant:?}: seed {seed}, {law:?}: {what}");
    }
}

#[test]
fn scripted_scenarios_end_as_recorded() {
    script::check_all();
}

#[test]
#[ignore = "a minute in a release build: `just test-long`"]
fn no_law_is_broken_by_ten_thousand_rollouts() {
    let begun = Instant::now();
    let all = std::thread::scope(|scope| {
        let halves = [scope.spawn(|| hold_all(100_000..105_000)), scope.spawn(|| hold_all(105_000..110_000))];
        halves.into_iter().map(|half| half.join().unwrap()).fold(Counts::default(), |mut all, half| {
            all.add(&half);
            all
        })
    });
    println!("10000 seeds in {:.1} s: {all:?}", begun.elapsed().as_secs_f32());
}
