//! Sockets that the agent holds for its children. They stay open while one release takes another's place, so whoever
//! connects meanwhile waits and is not refused.
//!
//! They are not written down anywhere. An agent that is killed leaves them with the app that runs; the next one takes them
//! back from it (pidfd_getfd(2), Linux 5.6). Where it may not, the address is free for a moment at the next switch.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use orangery_wire::{AppName, limits};
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::launch::Listen;

/// The first of the files that are passed (sd_listen_fds(3)).
pub const FIRST: i32 = 3;
/// Connections that wait while nobody accepts; the kernel has a limit of its own, too.
const BACKLOG: i32 = 4096;

/// What is held, by app and address.
#[derive(Debug, Default)]
pub struct Held {
    apps: Mutex<BTreeMap<AppName, BTreeMap<SocketAddr, TcpListener>>>,
}

impl Held {
    /// Makes the app's sockets exactly `wanted` and gives a copy of each, in that order. What is open already stays open.
    pub fn make(&self, app: &AppName, wanted: &[Listen]) -> Result<Vec<OwnedFd>, String> {
        let mut apps = self.lock();
        let sockets = apps.entry(app.clone()).or_default();
        // First, since one of them may be in the way of a new one.
        sockets.retain(|address, _| wanted.iter().any(|listen| listen.address == *address));
        let mut copies = Vec::with_capacity(wanted.len());
        for listen in wanted {
            let failed = |error: io::Error| {
                let (name, address) = (&listen.name, listen.address);
                format!(
                    "cannot listen on {address} for the socket {name}: {error}; does another program use the address?"
                )
            };
            let socket = match sockets.entry(listen.address) {
                Entry::Occupied(held) => held.into_mut(),
                Entry::Vacant(missing) => missing.insert(listening(listen.address).map_err(failed)?),
            };
            copies.push(socket.try_clone().map_err(failed)?.into());
        }
        Ok(copies)
    }

    /// Closes all sockets of the app.
    pub fn close(&self, app: &AppName) {
        self.lock().remove(app);
    }

    /// Takes the sockets that an earlier agent gave to the process `pid`, as far as they are `wanted` and not here.
    pub fn take_back(&self, app: &AppName, pid: Pid, wanted: &[Listen]) {
        let mut apps = self.lock();
        let sockets = apps.entry(app.clone()).or_default();
        if wanted.iter().all(|listen| sockets.contains_key(&listen.address)) {
            return;
        }
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return };
        for number in (FIRST..).take(limits::SOCKETS_MAX) {
            // It is the app's own, so it may be anything by now.
            let Ok(file) = pidfd_getfd(&process, number, PidfdGetfdFlags::empty()) else { continue };
            if !sockopt::socket_acceptconn(&file).unwrap_or(false) {
                continue;
            }
            let socket = TcpListener::from(file);
            let Ok(address) = socket.local_addr() else { continue };
            if wanted.iter().any(|listen| listen.address == address) {
                sockets.entry(address).or_insert(socket);
            }
        }
        for listen in wanted.iter().filter(|listen| !sockets.contains_key(&listen.address)) {
            tracing::warn!(%app, address = %listen.address, "cannot take a socket back from the app; the next switch may refuse connections");
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<AppName, BTreeMap<SocketAddr, TcpListener>>> {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As systemd makes it with `FreeBind=yes`: the address need not be the node's yet, or there would have to be a network.
fn listening(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, Some(ipproto::TCP))?;
    // Connections of a program that is gone may linger.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv4() {
        sockopt::set_ip_freebind(&socket, true)?;
    } else {
        sockopt::set_ipv6_freebind(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn app() -> AppName {
        "greeter".parse().unwrap()
    }

    fn listen(name: &str, address: SocketAddr) -> Listen {
        Listen { name: name.parse().unwrap(), address }
    }

    /// An address that was free a moment ago; another is tried when somebody else was quicker.
    fn held() -> (Held, Listen) {
        let held = Held::default();
        loop {
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let http = listen("http", address);
            if held.make(&app(), std::slice::from_ref(&http)).is_ok() {
                return (held, http);
            }
        }
    }

    #[test]
    fn a_socket_that_stays_wanted_keeps_who_waits_in_it() {
        let (held, http) = held();
        let waits = TcpStream::connect(http.address).unwrap();
        let again = held.make(&app(), std::slice::from_ref(&http)).unwrap();
        let (_, from) = TcpListener::from(again.into_iter().next().unwrap()).accept().unwrap();
        assert_eq!(from, waits.local_addr().unwrap());
    }

    #[test]
    fn one_that_is_not_wanted_is_closed_and_so_is_each_of_a_stopped_app() {
        let (held, http) = held();
        held.make(&app(), &[]).unwrap();
        assert!(TcpStream::connect(http.address).is_err());
        held.make(&app(), std::slice::from_ref(&http)).unwrap();
        // The whole range of addresses takes the place of one of it.
        let all = listen("http", SocketAddr::from(([0, 0, 0, 0], http.address.port())));
        held.make(&app(), &[all]).unwrap();
        assert!(TcpStream::connect(http.address).is_ok());
        held.close(&app());
        assert!(TcpStream::connect(http.address).is_err());
    }

    #[test]
    fn an_address_of_somebody_else_is_named() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = other.local_addr().unwrap();
        let refused = Held::default().make(&app(), &[listen("http", address)]).unwrap_err();
        assert!(refused.contains(&address.to_string()) && refused.contains("http"), "{refused}");
    }

    #[test]
    fn an_address_that_is_not_the_nodes_yet_can_be_listened_on() {
        // TEST-NET-1 (RFC 5737) is nobody's; no connection comes from there.
        assert!(Held::default().make(&app(), &[listen("http", "192.0.2.1:8080".parse().unwrap())]).is_ok());
    }
}
