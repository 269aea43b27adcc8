//! A whole fleet in virtual time, from one seed.
//!
//! Each node runs the agent's real driver, records, outbox and messages; the coordinator is its real engine over its real
//! database. What is simulated is what surrounds them: disks, clocks, lines, the broker, programs, and people. See
//! `tests/README.md` for what that leaves out.

mod broker;
mod center;
mod coordinator;
mod disk;
mod effects;
mod end;
mod faults;
mod laws;
mod life;
mod network;
mod node;
mod options;
mod outside;
mod people;
mod queue;
mod random;
mod reasons;
mod releases;
mod store;
mod summary;
mod trace;
mod world;

pub use laws::{Law, Violation};
pub use options::{Mutant, Options};
pub use random::Random;
pub use summary::{Counts, Summary};
pub use trace::Printing;

/// Many small texts live for a moment. (In a debug build it checks itself, which is slow.)
#[cfg(not(debug_assertions))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Lives through a world and tells what came of it. The same options give the same summary, bit for bit.
pub fn simulate(options: Options) -> Result<Summary, String> {
    let mut world = world::World::new(options)?;
    world.run();
    Ok(Summary {
        options,
        hash: world.trace.hash(),
        lines: world.trace.lines(),
        counts: world.counts,
        broken: world.broken,
    })
}
