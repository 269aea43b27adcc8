//! Everybody comes back at once, and a few are there all the time and should not notice.

use std::time::{Duration, Instant};

use super::{Stage, number};
use crate::figures::percentile;
use crate::node::{Heard, Order, Pauses, Seen};
use crate::swarm::Swarm;

/// One of so many nodes stays connected.
const STAY: usize = 100;
/// How often something happens on each of these.
const BEAT: Duration = Duration::from_millis(200);
/// How long it is looked at how they are when nothing else is going on.
const CALM: Duration = Duration::from_secs(3);

/// Calm, all cut off with the agents' pauses and with none, and the broker killed.
pub fn measure(stage: &mut Stage) -> anyhow::Result<()> {
    let stay = (stage.swarm.len() / STAY).max(2);
    let mut calm = Pulse::of(stay);
    let end = Instant::now() + CALM;
    while Instant::now() < end {
        let heard = stage.swarm.next(Duration::from_millis(5))?;
        calm.beat(&mut stage.swarm, heard.as_ref());
    }
    let mut took = calm.end(&mut stage.swarm)?;
    stage.note("calm_p50_ms", percentile(&mut took, 0.5));
    stage.note("calm_p99_ms", percentile(&mut took, 0.99));
    cut(stage, stay, Pauses::Agent, ["cut_s", "cut_cpu_each_ms", "cut_p99_ms"])?;
    cut(stage, stay, Pauses::Alike, ["alike_s", "alike_cpu_each_ms", "alike_p99_ms"])?;
    restart(stage)
}

fn cut(stage: &mut Stage, stay: usize, pauses: Pauses, names: [&'static str; 3]) -> anyhow::Result<()> {
    let nodes = stage.swarm.len();
    let cpu = stage.place.cpu_secs()?;
    let mut pulse = Pulse::of(stay);
    let begun = Instant::now();
    stage.swarm.order(stay..nodes, Order::Cut(pauses));
    let end = stage.swarm.all_up(|swarm, heard| pulse.beat(swarm, heard))?;
    let mut took = pulse.end(&mut stage.swarm)?;
    stage.all_heard()?;
    let cpu = stage.place.cpu_secs()? - cpu;
    let [secs, each, p99] = names;
    stage.note(secs, (end - begun).as_secs_f64());
    stage.note(each, cpu * 1e3 / number(nodes - stay));
    stage.note(p99, percentile(&mut took, 0.99));
    Ok(())
}

/// A power cut at the coordinator, as far as the broker is concerned.
fn restart(stage: &mut Stage) -> anyhow::Result<()> {
    let nodes = stage.swarm.len();
    stage.swarm.forget();
    let begun = Instant::now();
    stage.swarm.lose_all();
    stage.place.restart_broker();
    stage.swarm.move_to(stage.place.broker()?);
    let end = stage.swarm.all_up(|_, _| {})?;
    stage.swarm.forget();
    stage.swarm.order(0..nodes, Order::Events(1));
    let stored = |heard: &Heard| matches!(heard.seen, Seen::Stored(_)).then_some(heard.at);
    let last = stage.swarm.gather(nodes, "events stored after the restart", stored)?.into_iter().max();
    stage.note("restart_s", (end - begun).as_secs_f64());
    stage.note("restart_stored_s", last.map_or(f64::NAN, |last| (last - begun).as_secs_f64()));
    Ok(())
}

/// Something happens now and then on the nodes that stay connected.
struct Pulse {
    nodes: usize,
    next: Instant,
    open: usize,
    took: Vec<f64>,
}

impl Pulse {
    fn of(nodes: usize) -> Self {
        Self { nodes, next: Instant::now(), open: 0, took: Vec::new() }
    }

    fn beat(&mut self, swarm: &mut Swarm, heard: Option<&Heard>) {
        if let Some(Heard { node, seen: Seen::Stored(took), .. }) = heard
            && *node < self.nodes
        {
            self.took.push(took.as_secs_f64() * 1e3);
            self.open = self.open.saturating_sub(1);
        }
        if Instant::now() >= self.next {
            self.next += BEAT;
            swarm.order(0..self.nodes, Order::Events(1));
            self.open += self.nodes;
        }
    }

    /// Waits for what is under way.
    fn end(mut self, swarm: &mut Swarm) -> anyhow::Result<Vec<f64>> {
        let pick = |heard: &Heard| match heard.seen {
            Seen::Stored(took) if heard.node < self.nodes => Some(took.as_secs_f64() * 1e3),
            _ => None,
        };
        self.took.extend(swarm.gather(self.open, "events of nodes that stay connected", pick)?);
        Ok(self.took)
    }
}
