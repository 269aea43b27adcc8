//! Outputs of apps that somebody waits for (docs/adr/0024). They are in memory alone: whoever asked a coordinator that has
//! ended asks again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use orangery_wire::limits::SHOW_MAX;
use orangery_wire::messages::Show;
use orangery_wire::{AppName, NodeId, UnixTime};
use tokio::sync::oneshot;

/// Most askings that are open at once, of all nodes.
const OPEN_MAX: usize = 64;

/// The askings that are open. An asking ends when it is answered, or when whoever asked no longer waits.
#[derive(Debug, Default)]
pub struct Asked {
    open: Mutex<HashMap<NodeId, Vec<Asking>>>,
    newest: Mutex<u64>,
}

#[derive(Debug)]
struct Asking {
    show: Show,
    answer: oneshot::Sender<Vec<String>>,
}

impl Asked {
    /// Asks what an app of a node wrote last. The answer comes after the node was told what is desired
    /// ([`super::Engine::ask_for_output`]), or never. `None` if too many wait already, for this node or in all.
    pub fn ask(&self, node: &NodeId, app: AppName, now: UnixTime) -> Option<oneshot::Receiver<Vec<String>>> {
        let mut open = self.waited_for();
        let all: usize = open.values().map(Vec::len).sum();
        let of_node = open.entry(node.clone()).or_default();
        if of_node.len() >= SHOW_MAX || all >= OPEN_MAX {
            return None;
        }
        let (answer, waiting) = oneshot::channel();
        of_node.push(Asking { show: Show { app, request: self.number(now) }, answer });
        Some(waiting)
    }

    /// A number that was not given before, not even by a coordinator that ran earlier: nodes remember the latest.
    fn number(&self, now: UnixTime) -> u64 {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        *newest = now.saturating_mul(1_000_000).max(newest.saturating_add(1));
        *newest
    }

    /// What a node is to show.
    pub(super) fn of(&self, node: &NodeId) -> Vec<Show> {
        let open = self.waited_for();
        open.get(node).into_iter().flatten().map(|asking| asking.show.clone()).collect()
    }

    /// A node answers; false if nobody waits for it, or the node was asked for something else.
    pub fn answer(&self, node: &NodeId, show: &Show, lines: Vec<String>) -> bool {
        let mut open = self.waited_for();
        let Some(of_node) = open.get_mut(node) else { return false };
        let Some(at) = of_node.iter().position(|asking| asking.show == *show) else { return false };
        of_node.swap_remove(at).answer.send(lines).is_ok()
    }

    /// The open ones, less those for which nobody waits any more.
    fn waited_for(&self) -> MutexGuard<'_, HashMap<NodeId, Vec<Asking>>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, of_node| {
            of_node.retain(|asking| !asking.answer.is_closed());
            !of_node.is_empty()
        });
        open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeId {
        name.parse().unwrap()
    }

    fn app() -> AppName {
        "web".parse().unwrap()
    }

    #[test]
    fn an_answer_reaches_whoever_asked_that_node_and_nobody_else() {
        let asked = Asked::default();
        let mut waiting = asked.ask(&node("a"), app(), 7).unwrap();
        let show = asked.of(&node("a")).pop().unwrap();
        assert_eq!(asked.of(&node("b")), []);
        assert!(!asked.answer(&node("b"), &show, vec!["a lie".into()]), "another node answers");
        let other = Show { request: show.request + 1, ..show.clone() };
        assert!(!asked.answer(&node("a"), &other, vec![]), "it was not asked that");
        let other = Show { app: "db".parse().unwrap(), ..show.clone() };
        assert!(!asked.answer(&node("a"), &other, vec![]), "it was asked for another app");
        assert!(waiting.try_recv().is_err());
        assert!(asked.answer(&node("a"), &show, vec!["one".into()]));
        assert_eq!(waiting.try_recv().unwrap(), ["one"]);
        assert!(!asked.answer(&node("a"), &show, vec!["twice".into()]));
        assert_eq!(asked.of(&node("a")), []);
    }

    #[test]
    fn whoever_waits_no_longer_takes_no_room() {
        let asked = Asked::default();
        let waiting: Vec<_> = (0..SHOW_MAX).map(|_| asked.ask(&node("a"), app(), 7).unwrap()).collect();
        assert!(asked.ask(&node("a"), app(), 7).is_none());
        let other = asked.ask(&node("b"), app(), 7);
        assert!(other.is_some(), "another node has room of its own");
        drop(waiting);
        assert!(asked.ask(&node("a"), app(), 7).is_some());
        assert_eq!(asked.of(&node("a")), [], "that one was dropped at once");
    }

    #[test]
    fn so_many_may_wait_in_all() {
        let asked = Asked::default();
        let ask = |n: usize| asked.ask(&node(&format!("n{}", n / SHOW_MAX)), app(), 7);
        let waiting: Vec<_> = (0..OPEN_MAX).map(|n| ask(n).unwrap()).collect();
        assert!(ask(OPEN_MAX).is_none());
        drop(waiting);
        assert!(ask(OPEN_MAX).is_some());
    }
}
