//! Who is connected, and by which certificate: the one place that ties a connection of rmqtt's plain listener to the node
//! whose certificate opened it.
//!
//! The terminator opens a tunnel under its own [`End`] before it sends the first byte; rmqtt's hook asks for that end. One
//! that is not here belongs to some other local process, and is refused. A tunnel leaves this map before its socket
//! closes, so nobody else can have its end while it is here.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use orangery_wire::NodeId;
use orangery_wire::topics::COORDINATOR;
use rmqtt::types::ListenerId;
use tokio::sync::oneshot;

/// Most tunnels of one node that have not said CONNECT yet; a new one cuts the oldest.
const UNCONNECTED_MAX: usize = 4;

/// Our end of a connection to rmqtt. The address alone would not do: the system gives one port to several connections at
/// a time if they lead to different listeners. With the listener all four parts of a TCP connection are fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct End {
    /// Which of rmqtt's listeners it leads to.
    pub listener: ListenerId,
    /// The address on our side.
    pub address: SocketAddr,
}

/// All tunnels. Shared by the terminator, the hook and [`super::Broker::revoke`].
#[derive(Debug, Default)]
pub struct Tunnels(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    open: HashMap<End, Open>,
    /// The tunnels of each client that have not said CONNECT yet, the oldest first.
    unconnected: HashMap<Arc<str>, VecDeque<End>>,
    /// The tunnel by which each client is connected now.
    connected: HashMap<Arc<str>, End>,
    revoked: BTreeSet<NodeId>,
}

#[derive(Debug)]
struct Open {
    name: Arc<str>,
    peer: SocketAddr,
    /// Taken when the client has connected.
    waiting: Option<oneshot::Sender<()>>,
    /// Dropping it cuts the tunnel.
    _cut: oneshot::Sender<Infallible>,
}

/// A tunnel that is open as long as this lives. Drop it before the socket that it names.
#[derive(Debug)]
pub struct Ticket {
    tunnels: Arc<Tunnels>,
    end: End,
    name: Arc<str>,
    /// Resolves when the tunnel must end.
    pub cut: oneshot::Receiver<Infallible>,
    /// Resolves when rmqtt has let the client in; fails when the tunnel is cut.
    pub connected: oneshot::Receiver<()>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.tunnels.close(self.end, &self.name);
    }
}

/// Why a client is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It came past the terminator.
    #[error("it did not come through TLS")]
    UnknownEnd,
    /// It calls itself something else than its certificate does.
    #[error("its client id is not the name in its certificate")]
    OtherName,
    /// Its certificate is revoked.
    #[error("its certificate is revoked")]
    Revoked,
}

impl Tunnels {
    /// No tunnels, and the nodes that never get one.
    pub fn new(revoked: BTreeSet<NodeId>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { revoked, ..State::default() })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the client with this certificate name is shut out.
    pub fn is_revoked(&self, name: &str) -> bool {
        self.lock().is_revoked(name)
    }

    /// Opens a tunnel for the client whose verified certificate says `name`, from `peer`, under our own `end`.
    pub fn open(self: &Arc<Self>, end: End, name: &str, peer: SocketAddr) -> Result<Ticket, Refused> {
        let mut state = self.lock();
        if state.is_revoked(name) {
            return Err(Refused::Revoked);
        }
        let ((cut, cut_rx), (waiting, connected)) = (oneshot::channel(), oneshot::channel());
        let name: Arc<str> = name.into();
        state.has_opened(&name, end);
        state.open.insert(end, Open { name: name.clone(), peer, waiting: Some(waiting), _cut: cut });
        Ok(Ticket { tunnels: self.clone(), end, name, cut: cut_rx, connected })
    }

    /// Lets the client at `end` in under `client_id`, and cuts the tunnel by which it was connected before: a node that
    /// comes back need not wait until its old connection is found dead.
    pub fn connect(&self, end: Option<End>, client_id: &str) -> Result<(), Refused> {
        let end = end.ok_or(Refused::UnknownEnd)?;
        let mut state = self.lock();
        let open = state.open.get_mut(&end).ok_or(Refused::UnknownEnd)?;
        if *open.name != *client_id {
            return Err(Refused::OtherName);
        }
        if let Some(waiting) = open.waiting.take() {
            let _ = waiting.send(());
        }
        let name = open.name.clone();
        state.is_no_more_unconnected(&name, end);
        if let Some(before) = state.connected.insert(name, end).filter(|before| *before != end) {
            state.open.remove(&before);
        }
        Ok(())
    }

    /// Whether another connection of the same client has taken the place of the one at `end`.
    pub fn is_superseded(&self, end: Option<End>, client_id: &str) -> bool {
        self.lock().connected.get(client_id).is_some_and(|now| Some(*now) != end)
    }

    /// Where the client at `end` comes from and what its certificate says, for logs.
    pub fn describe(&self, end: Option<End>) -> Option<(Arc<str>, SocketAddr)> {
        self.lock().open.get(&end?).map(|open| (open.name.clone(), open.peer))
    }

    /// Shuts a node out: cuts its tunnels and opens none any more. Repeatable.
    pub fn revoke(&self, node: &NodeId) {
        let mut state = self.lock();
        state.revoked.insert(node.clone());
        state.open.retain(|_, open| *open.name != *node.as_str());
        state.unconnected.remove(node.as_str());
    }

    /// How many clients are connected, the coordinator's own link not counted.
    pub fn connected(&self) -> usize {
        self.lock().connected.keys().filter(|name| ***name != *COORDINATOR).count()
    }

    fn close(&self, end: End, name: &str) {
        let mut state = self.lock();
        state.open.remove(&end);
        state.is_no_more_unconnected(name, end);
        if state.connected.get(name) == Some(&end) {
            state.connected.remove(name);
        }
    }
}

impl State {
    fn is_revoked(&self, name: &str) -> bool {
        name.parse().is_ok_and(|node: NodeId| self.revoked.contains(&node))
    }

    /// One more is open that has not said CONNECT; if those are too many, the oldest is cut.
    fn has_opened(&mut self, name: &Arc<str>, end: End) {
        let unconnected = self.unconnected.entry(name.clone()).or_default();
        unconnected.push_back(end);
        if unconnected.len() > UNCONNECTED_MAX
            && let Some(oldest) = unconnected.pop_front()
        {
            self.open.remove(&oldest);
        }
    }

    fn is_no_more_unconnected(&mut self, name: &str, end: End) {
        let Some(unconnected) = self.unconnected.get_mut(name) else { return };
        unconnected.retain(|other| *other != end);
        if unconnected.is_empty() {
            self.unconnected.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 5);

    fn end(port: u16) -> End {
        End { listener: 1, address: SocketAddr::from(([127, 0, 0, 1], port)) }
    }

    fn is_cut(ticket: &mut Ticket) -> bool {
        ticket.cut.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    #[test]
    fn only_a_tunnel_under_the_clients_own_name_lets_it_in() {
        let tunnels = Tunnels::new(BTreeSet::new());
        let mut ticket = tunnels.open(end(1), "a", PEER).unwrap();
        assert_eq!(tunnels.connect(Some(end(2)), "a"), Err(Refused::UnknownEnd));
        assert_eq!(tunnels.connect(None, "a"), Err(Refused::UnknownEnd));
        assert_eq!(tunnels.connect(Some(end(1)), "b"), Err(Refused::OtherName));
        assert!(ticket.connected.try_recv().is_err());
        assert_eq!(tunnels.connect(Some(end(1)), "a"), Ok(()));
        assert!(ticket.connected.try_recv().is_ok());
        assert_eq!(tunnels.connected(), 1);
        drop(ticket);
        assert_eq!(tunnels.connect(Some(end(1)), "a"), Err(Refused::UnknownEnd));
        assert_eq!(tunnels.connected(), 0);
    }

    #[test]
    fn the_same_port_towards_another_listener_is_another_end() {
        let tunnels = Tunnels::new(BTreeSet::new());
        let elsewhere = End { listener: 2, ..end(1) };
        let mut a = tunnels.open(end(1), "a", PEER).unwrap();
        assert_eq!(tunnels.connect(Some(elsewhere), "a"), Err(Refused::UnknownEnd));
        let link = tunnels.open(elsewhere, COORDINATOR, PEER).unwrap();
        assert_eq!(tunnels.connect(Some(elsewhere), COORDINATOR), Ok(()));
        assert_eq!(tunnels.connect(Some(end(1)), "a"), Ok(()));
        drop(link);
        assert!(!is_cut(&mut a) && tunnels.connected() == 1);
    }

    #[test]
    fn a_revoked_node_loses_its_tunnels_and_gets_no_new_one() {
        let tunnels = Tunnels::new(BTreeSet::from(["old".parse().unwrap()]));
        assert_eq!(tunnels.open(end(1), "old", PEER).unwrap_err(), Refused::Revoked);
        let (mut a, mut b) = (tunnels.open(end(2), "a", PEER).unwrap(), tunnels.open(end(3), "b", PEER).unwrap());
        tunnels.revoke(&"a".parse().unwrap());
        assert!(is_cut(&mut a) && !is_cut(&mut b));
        assert_eq!(tunnels.connect(Some(end(2)), "a"), Err(Refused::UnknownEnd));
        assert_eq!(tunnels.open(end(4), "a", PEER).unwrap_err(), Refused::Revoked);
        assert!(tunnels.is_revoked("a") && !tunnels.is_revoked("b"));
    }

    #[test]
    fn a_client_that_comes_back_takes_the_place_of_its_old_connection() {
        let tunnels = Tunnels::new(BTreeSet::new());
        let mut old = tunnels.open(end(1), "a", PEER).unwrap();
        tunnels.connect(Some(end(1)), "a").unwrap();
        assert!(!tunnels.is_superseded(Some(end(1)), "a"));
        let mut new = tunnels.open(end(2), "a", PEER).unwrap();
        assert!(!is_cut(&mut old), "a handshake alone takes no place");
        tunnels.connect(Some(end(2)), "a").unwrap();
        assert!(is_cut(&mut old) && !is_cut(&mut new));
        assert!(tunnels.is_superseded(Some(end(1)), "a"));
        drop(old);
        assert!(!tunnels.is_superseded(Some(end(2)), "a"));
        assert_eq!(tunnels.connected(), 1);
    }

    #[test]
    fn a_node_cannot_pile_up_silent_tunnels() {
        let tunnels = Tunnels::new(BTreeSet::new());
        let mut other = tunnels.open(end(99), "b", PEER).unwrap();
        let mut tickets: Vec<_> = (0..6).map(|port| tunnels.open(end(port), "a", PEER).unwrap()).collect();
        let cut: Vec<bool> = tickets.iter_mut().map(is_cut).collect();
        assert_eq!(cut, [true, true, false, false, false, false]);
        assert!(!is_cut(&mut other));
    }
}
