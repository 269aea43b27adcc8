//! What an agent costs that has nothing to do but stay connected.

use std::time::Duration;

use orangery_tests::fleet::Fleet;
use orangery_tests::process::eventually;

use crate::{Outcome, mega};
use orangery_tests::usage::{cpu_secs, memory, sleeps};

const TIME: Duration = Duration::from_mins(1);

/// Measures both store engines over a minute each, connected by mutual TLS, with one app running.
pub fn measure() -> Outcome {
    let fleet = Fleet::start();
    fleet.publish("1.0.0", 200);
    for engine in ["redb", "sled"] {
        let settings = format!("[store]\nengine = \"{engine}\"\n[health]\ninterval_secs = 60\n");
        let mut node = fleet.joined_idle(engine, &settings);
        node.start();
        fleet.deploy("greeter@1.0.0", engine);
        fleet.settled_on(engine, "1.0.0");
        eventually("the outbox is empty", || node.outbox_is_empty().then_some(()));
        let pid = node.process().pid();
        let (cpu, slept) = (cpu_secs(pid)?, sleeps(pid)?);
        std::thread::sleep(TIME);
        let (cpu, slept) = (cpu_secs(pid)? - cpu, sleeps(pid)? - slept);
        let memory = memory(pid)?;
        let rate = f64::from(u32::try_from(slept)?) / TIME.as_secs_f64();
        println!(
            "idle: with {engine}, one app, 60 s: RSS {:.2} MB, PSS {:.2} MB, anonymous {:.2} MB, CPU {cpu:.2} s, {rate:.2} \
             sleeps/s; goal RSS at most 6 MB with redb",
            mega(memory.rss),
            mega(memory.pss),
            mega(memory.anonymous),
        );
    }
    Ok(())
}
