//! How long an agent takes from its start until it is ready: records loaded, serving.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use orangery_tests::fleet::Fleet;
use orangery_tests::process::eventually;

use crate::{Outcome, spread};

const RUNS: usize = 20;

/// Measures to `READY=1` (sd_notify), and to the coordinator having stored the agent's first event.
pub fn measure() -> Outcome {
    let fleet = Fleet::start();
    let mut node = fleet.node("attic");
    eventually("the node is online", || fleet.view("attic")?.online.then_some(()));
    node.stop();
    let (mut ready, mut heard) = (Vec::new(), Vec::new());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for _ in 0..RUNS {
        let socket = fleet.path().join("notify");
        let _ = std::fs::remove_file(&socket);
        let notified = UnixDatagram::bind(&socket)?;
        notified.set_read_timeout(Some(Duration::from_secs(10)))?;
        let last = fleet.events("attic").last().map_or(0, |view| view.id);
        let mut events = runtime.block_on(fleet.client()?.events(last))?;
        let start = Instant::now();
        node.start_notifying(&socket);
        let mut message = [0; 64];
        notified.recv(&mut message)?;
        ready.push(start.elapsed().as_secs_f64() * 1e3);
        runtime.block_on(events.next())?;
        heard.push(start.elapsed().as_secs_f64() * 1e3);
        node.stop();
    }
    let (ready, heard) = (spread(ready), spread(heard));
    println!(
        "start: to ready {:.1} ms ({:.1} to {:.1}), to its first event stored by the coordinator {:.1} ms ({:.1} to {:.1}), {RUNS} runs",
        ready.0, ready.1, ready.2, heard.0, heard.1, heard.2
    );
    Ok(())
}
