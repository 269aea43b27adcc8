//! A thousand deployments in a row on one node: memory, descriptors and disk must not grow.

use orangery_tests::fleet::Fleet;

use crate::{Outcome, deploy, mega};
use orangery_tests::usage::{descriptors, disk_bytes, memory};

/// Alternates two releases and shows the state after a tenth, half and all of them: caches and histories fill up to
/// their limits first, and then nothing grows.
pub fn measure() -> Outcome {
    let count: usize = std::env::var("ORANGERY_DEPLOYMENTS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000);
    let mut fleet = Fleet::start();
    let mut node = fleet.node("attic");
    let client = fleet.client()?;
    for version in ["1.0.0", "1.1.0"] {
        fleet.publish(version, 200);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut events = runtime.block_on(client.events(0))?;
    let start = std::time::Instant::now();
    for round in 1..=count {
        let version = if round % 2 == 0 { "1.0.0" } else { "1.1.0" };
        runtime.block_on(deploy::deploy(&client, &mut events, version))?;
        if [count.div_ceil(10), count.div_ceil(2), count].contains(&round) {
            let (agent, state) = (node.process().pid(), node.state());
            let coordinator = fleet.coordinator().pid();
            println!(
                "endurance: after {round} deployments: agent RSS {:.2} MB (anonymous {:.2}), {} descriptors, {:.2} MB on disk; \
                 coordinator RSS {:.1} MB, {} descriptors",
                mega(memory(agent)?.rss),
                mega(memory(agent)?.anonymous),
                descriptors(agent)?,
                mega(disk_bytes(&state)),
                mega(memory(coordinator)?.rss),
                descriptors(coordinator)?,
            );
        }
    }
    println!(
        "endurance: {:.0} ms a deployment",
        start.elapsed().as_secs_f64() * 1e3 / f64::from(u32::try_from(count)?)
    );
    Ok(())
}
