//! What the fleet lives through, one thing after the other.

mod change;
mod intake;
mod pages;
mod storm;

use std::time::Instant;

use anyhow::Context;
use orangery::client::Client;
use orangery_tests::process::eventually;
use tokio::runtime::Runtime;

use crate::arguments::Broker;
use crate::enrol::enrol;
use crate::figures::Values;
use crate::node::{Order, Pauses, Seen};
use crate::place::Place;
use crate::swarm::Swarm;

/// Everything at hand.
pub struct Stage {
    /// Coordinator and broker.
    pub place: Place,
    /// The nodes.
    pub swarm: Swarm,
    /// How many health messages and events are sent as fast as that goes.
    pub messages: usize,
    runtime: Runtime,
    values: Values,
}

/// Measures everything once.
pub fn measure(broker: Broker, nodes: usize, messages: usize) -> anyhow::Result<Values> {
    let mut stage = Stage::set(broker, nodes, messages)?;
    stage.connect()?;
    change::measure(&mut stage)?;
    stage.memory()?;
    intake::measure(&mut stage)?;
    storm::measure(&mut stage)?;
    pages::measure(&stage.place, &stage.runtime, &mut stage.values)?;
    let (coordinator, beside) = stage.place.memory()?;
    stage.note("memory_later_mb", mega(coordinator + beside));
    if !stage.swarm.ended.is_empty() {
        eprintln!("connections that ended: {:?}", stage.swarm.ended);
    }
    Ok(stage.values)
}

impl Stage {
    /// A coordinator that has been started anew, with enrolled nodes and releases; nobody is connected.
    fn set(broker: Broker, nodes: usize, messages: usize) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut place = Place::start(broker)?;
        let (coordinator, beside) = place.memory()?;
        let begun = Instant::now();
        let client = place.fleet.client()?;
        let seats = runtime.block_on(enrol(&client, nodes)).context("enrol the nodes")?;
        let each = begun.elapsed().as_secs_f64() * 1e3 / number(nodes);
        for version in change::VERSIONS {
            place.fleet.publish(version, 200);
        }
        place.restart_coordinator();
        let swarm = Swarm::start(seats, place.broker()?)?;
        let mut stage = Self { place, swarm, messages, runtime, values: Values::new() };
        stage.note("enrol_each_ms", each);
        stage.note("empty_mb", mega(coordinator + beside));
        Ok(stage)
    }

    fn note(&mut self, name: &'static str, value: f64) {
        self.values.insert(name, value);
    }

    fn client(&self) -> anyhow::Result<Client> {
        self.place.fleet.client()
    }

    /// All at the same moment: nobody was ever connected, so nobody waits.
    fn connect(&mut self) -> anyhow::Result<()> {
        let cpu = self.place.cpu_secs()?;
        let begun = Instant::now();
        self.swarm.order(0..self.swarm.len(), Order::Connect(Pauses::Alike));
        let end = self.swarm.all_up(|_, _| {})?;
        self.note("connect_s", (end - begun).as_secs_f64());
        self.all_heard()?;
        let cpu = self.place.cpu_secs()? - cpu;
        self.note("connect_cpu_each_ms", cpu * 1e3 / number(self.swarm.len()));
        Ok(())
    }

    /// Waits until the coordinator has the report of every node, and of none the connection only.
    fn all_heard(&self) -> anyhow::Result<()> {
        let client = self.client()?;
        eventually("all nodes have reported", || {
            let status: orangery_wire::rest::Status = self.runtime.block_on(client.get("/v1/status")).ok()?;
            let heard = status.nodes.iter().filter(|node| node.online && node.reported.is_some()).count();
            (heard == self.swarm.len()).then_some(())
        });
        Ok(())
    }

    /// All are connected, have reported, were told something and have said how they are.
    fn memory(&mut self) -> anyhow::Result<()> {
        let nodes = self.swarm.len();
        self.swarm.forget();
        self.swarm.order(0..nodes, Order::Health(1));
        // Behind it, so that when it is stored, that was heard.
        self.swarm.order(0..nodes, Order::Events(1));
        self.swarm.gather(nodes, "first events", |heard| matches!(heard.seen, Seen::Stored(_)).then_some(()))?;
        let (coordinator, beside) = self.place.memory()?;
        let memory = mega(coordinator + beside);
        self.note("memory_mb", memory);
        let empty = self.values.get("empty_mb").copied().unwrap_or(f64::NAN);
        self.note("memory_each_kb", (memory - empty) * 1e3 / number(self.swarm.len()));
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn number(count: usize) -> f64 {
    count as f64
}
