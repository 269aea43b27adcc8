//! `just bench-fleet`: a whole fleet of simulated nodes against a real coordinator, and against one with Mosquitto in its
//! broker's place, in one run.
//!
//! Nodes are in this process, each with a certificate of its own, an MQTT session over mutual TLS of its own and what the agent
//! says to its coordinator; coordinator and broker are the real programs in processes of their own. `ORANGERY_PROGRAMS` names the
//! directory of the programs to measure.

mod arguments;
mod enrol;
mod figures;
mod files;
mod node;
mod place;
mod scenes;
mod session;
mod swarm;

use anyhow::Context;
use orangery_tests::mosquitto::Mosquitto;

use arguments::{Arguments, Broker};
use figures::Run;

fn main() -> anyhow::Result<()> {
    let mut arguments = Arguments::read(std::env::args().skip(1))?;
    files::make_room_for(arguments.nodes.iter().copied().max().unwrap_or(0))?;
    if arguments.brokers.is_empty() {
        arguments.brokers.push(Broker::Embedded);
        arguments.brokers.extend(Mosquitto::find().map(|_| Broker::Mosquitto));
    }
    let mut runs = Vec::new();
    for &nodes in &arguments.nodes {
        for number in 0..arguments.runs {
            for &broker in &arguments.brokers {
                eprintln!("{nodes} nodes, {}, run {} of {}", broker.as_str(), number + 1, arguments.runs);
                let before = load_average()?;
                let values = scenes::measure(broker, nodes, arguments.messages)?;
                figures::are_all_there(&values)?;
                runs.push(Run { nodes, broker, load: [before, load_average()?], values });
            }
        }
    }
    if arguments.json {
        println!("{:#}", figures::to_json(&runs));
    } else {
        print!("{}", figures::to_table(&runs));
    }
    Ok(())
}

/// The machine's, over one minute.
fn load_average() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").context("read the load average")?;
    Ok(text.split(' ').next().context("it has a first number")?.parse()?)
}
