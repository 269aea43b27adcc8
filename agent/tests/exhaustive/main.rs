//! The deployment machine under every schedule: each way in which effects end, the agent or the node goes down, and wishes
//! arrive, up to a bound of faults and wishes. The laws that must hold are in `laws`, the seeded mutations that they must
//! catch in `seeds`.
//!
//! Crashes come before an effect, in the middle of it, after it with its event lost (which is the same as before that
//! event's save: nothing that is not saved outlives a crash), and between a save and the move of the link that follows it;
//! each of the agent alone, of the agent with its apps, and of the whole node.
//!
//! Each state of the world is explored once. A run is one sequence of steps from the beginning to a rest; runs are counted
//! over all ways through the states, so their number is far above that of the steps that were executed. Both are printed.

mod explore;
mod laws;
mod machine;
mod records;
mod seeds;
mod world;

use std::collections::BTreeSet;

use explore::{Covered, explore};
use machine::Machine;
use seeds::SEEDS;
use world::{Begins, Behaviour, Left, Setting};

/// The machine that is shipped.
mod shipped {
    use orangery_agent::deployment;

    crate::machine::machine!();
}

/// Its mutations, made by the build script from the text of `src/deployment.rs`.
#[allow(dead_code, unused, clippy::all, clippy::pedantic, missing_docs)]
mod mutations {
    include!(concat!(env!("OUT_DIR"), "/mutations.rs"));
}

/// Every combination of what the node runs at first and how the releases behave. Releases 1 and 2 are alike but where 2 was
/// proven before.
fn settings() -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut add = |begins, first, second| {
        for starts_at_boot in [true, false] {
            settings.push(Setting { begins, behaviours: [first, second], starts_at_boot });
        }
    };
    for (n, first) in Behaviour::ALL.into_iter().enumerate() {
        add(Begins::GoodAfterAnother, first, Behaviour::Good);
        for second in Behaviour::ALL.into_iter().skip(n) {
            for begins in [Begins::Good, Begins::Empty, Begins::Broken] {
                add(begins, first, second);
            }
        }
    }
    settings
}

fn cover<M: Machine>(left: Left) -> Covered {
    let mut covered = Covered::default();
    for setting in settings() {
        match explore::<M>(setting, left) {
            Ok(more) => covered.add(more),
            Err(violation) => panic!("{} is broken:\n{}", violation.law, violation.story),
        }
    }
    println!(
        "at most {} faults and {} wishes, {} settings: {} runs, covered by {} states and {} executed steps; \
         {} records; the longest run has {} steps",
        left.faults,
        left.wishes,
        settings().len(),
        covered.runs,
        covered.states,
        covered.steps,
        covered.records,
        covered.longest,
    );
    covered
}

#[test]
fn every_law_holds_under_every_schedule_with_two_faults() {
    let covered = cover::<shipped::Core>(Left { faults: 2, wishes: 2 });
    assert!(covered.steps > 1_000_000 && covered.runs > 1_000_000, "{covered:?}");
}

#[test]
#[ignore = "minutes; `just test-long` runs it"]
fn every_law_holds_under_every_schedule_with_three_faults() {
    let covered = cover::<shipped::Core>(Left { faults: 3, wishes: 3 });
    assert!(covered.steps > 10_000_000, "{covered:?}");
}

/// The first law that a mutation breaks, in the first setting in which it does.
fn hunt<M: Machine>() -> Option<&'static str> {
    let left = Left { faults: 2, wishes: 2 };
    settings().into_iter().find_map(|setting| Some(explore::<M>(setting, left).err()?.law))
}

#[test]
fn every_seeded_mutation_is_caught_by_a_law() {
    let mut missed = Vec::new();
    let mut laws = BTreeSet::new();
    println!("{:<55} caught by", "mutation");
    for (name, hunt) in mutations::ALL {
        let law = hunt();
        println!("{name:<55} {}", law.unwrap_or("NOTHING"));
        match law {
            Some(law) => drop(laws.insert(law)),
            None => missed.push(*name),
        }
    }
    println!("{} mutations, {} of them caught, by {} laws", SEEDS.len(), SEEDS.len() - missed.len(), laws.len());
    assert_eq!(missed, [""; 0], "mutations that no law caught");
    assert!(SEEDS.iter().map(|seed| seed.name).eq(mutations::ALL.iter().map(|(name, _)| *name)));
    assert!(SEEDS.len() >= 12 && SEEDS.iter().all(|seed| seed.from != seed.to));
}
