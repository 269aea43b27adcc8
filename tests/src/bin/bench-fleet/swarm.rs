//! All nodes, on a thread of their own, and what they see.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::enrol::Seat;
use crate::node::{Heard, Node, Order, Seen};

/// Longest that anything may take: only a failing run takes this long.
const PATIENCE: Duration = Duration::from_mins(5);

/// The nodes. They end when this is dropped.
pub struct Swarm {
    orders: Vec<UnboundedSender<Order>>,
    heard: Receiver<Heard>,
    broker: Arc<RwLock<SocketAddr>>,
    up: Vec<bool>,
    /// How often attempts and connections have ended, by the reason.
    pub ended: BTreeMap<String, usize>,
}

impl Swarm {
    /// Makes them; none connects yet.
    pub fn start(seats: Vec<Seat>, broker: SocketAddr) -> anyhow::Result<Self> {
        let (tell, heard) = channel();
        let broker = Arc::new(RwLock::new(broker));
        let (mut orders, mut nodes) = (Vec::new(), Vec::new());
        for (index, seat) in seats.into_iter().enumerate() {
            let (order, ordered) = unbounded_channel();
            orders.push(order);
            nodes.push(Node::new(index, seat, broker.clone(), ordered, tell.clone()));
        }
        let up = vec![false; nodes.len()];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("nodes".into()).spawn(move || {
            runtime.block_on(async {
                let running: Vec<_> = nodes.into_iter().map(|node| tokio::spawn(node.run())).collect();
                for node in running {
                    // One that panics is missed by whoever waits for it.
                    let _ = node.await;
                }
            });
        })?;
        Ok(Self { orders, heard, broker, up, ended: BTreeMap::new() })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.orders.len()
    }

    /// Where the broker is from now on.
    pub fn move_to(&self, broker: SocketAddr) {
        *self.broker.write().unwrap_or_else(PoisonError::into_inner) = broker;
    }

    /// Tells some of them something.
    pub fn order(&mut self, nodes: std::ops::Range<usize>, order: Order) {
        for (orders, up) in self.orders.iter().zip(&mut self.up).skip(nodes.start).take(nodes.len()) {
            // One that has ended is missed by whoever waits for it.
            let _ = orders.send(order);
            if matches!(order, Order::Cut(_)) {
                *up = false;
            }
        }
    }

    /// All are as good as gone: their broker was killed.
    pub fn lose_all(&mut self) {
        self.up.fill(false);
    }

    /// What one of them sees next; `None` if that takes longer.
    pub fn next(&mut self, patience: Duration) -> anyhow::Result<Option<Heard>> {
        match self.heard.recv_timeout(patience) {
            Ok(heard) => {
                self.note(&heard);
                Ok(Some(heard))
            }
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("the nodes ended"),
        }
    }

    fn note(&mut self, heard: &Heard) {
        let Some(up) = self.up.get_mut(heard.node) else { return };
        match &heard.seen {
            Seen::Up => *up = true,
            Seen::Ended(reason) => {
                *up = false;
                *self.ended.entry(reason.clone()).or_default() += 1;
            }
            _ => {}
        }
    }

    /// Forgets what was seen so far.
    pub fn forget(&mut self) {
        while let Ok(heard) = self.heard.try_recv() {
            self.note(&heard);
        }
    }

    /// Waits until all are connected; when the last one was. Others may look at what is seen meanwhile.
    pub fn all_up(&mut self, mut look: impl FnMut(&mut Self, Option<&Heard>)) -> anyhow::Result<Instant> {
        let begun = Instant::now();
        let mut last = begun;
        while self.up.iter().any(|up| !up) {
            let heard = self.next(Duration::from_millis(20))?;
            if let Some(Heard { at, seen: Seen::Up, .. }) = &heard {
                last = *at;
            }
            look(self, heard.as_ref());
            if begun.elapsed() > PATIENCE {
                let up = self.up.iter().filter(|up| **up).count();
                bail!(
                    "after {} s only {up} of {} nodes are connected: {:?}",
                    PATIENCE.as_secs(),
                    self.len(),
                    self.ended
                );
            }
        }
        Ok(last)
    }

    /// Waits for `count` of what `pick` picks.
    pub fn gather<T>(
        &mut self,
        count: usize,
        what: &str,
        mut pick: impl FnMut(&Heard) -> Option<T>,
    ) -> anyhow::Result<Vec<T>> {
        let end = Instant::now() + PATIENCE;
        let mut picked = Vec::with_capacity(count);
        while picked.len() < count {
            let left = end.saturating_duration_since(Instant::now());
            let heard = self.next(left)?.with_context(|| format!("{what}: only {} of {count}", picked.len()))?;
            picked.extend(pick(&heard));
        }
        Ok(picked)
    }
}
