//! Hears from the kernel when a network appears, so that a node that waits between two attempts need not wait on.
//!
//! rtnetlink(7): a socket is subscribed to changes of interfaces, addresses and routes. It is open during an attempt and the
//! pause after it alone, so a node that is connected is never woken by it. Where there is none (a sandbox without AF_NETLINK),
//! pauses take their time.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
use tokio::net::UnixDatagram;

/// RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const IFF_UP: u32 = 0x1;
const IFF_LOOPBACK: u32 = 0x8;
const IFF_RUNNING: u32 = 0x40;
/// struct nlmsghdr
const HEAD_BYTES: usize = 16;
/// One read takes in whole messages, each of some hundred bytes; what is cut off of an unusually long one is not looked at.
const READ_BYTES: usize = 8 << 10;

/// The changes of this node's network from now on.
pub(super) struct Changes {
    socket: Option<UnixDatagram>,
    /// Whether something has appeared already.
    seen: bool,
}

impl Changes {
    /// Begins to listen.
    pub(super) fn listen() -> Self {
        // Tokio has no type for it; it is a socket that gives datagrams, and of them all that this one is asked for is to receive.
        let opened = open().map_err(io::Error::from).and_then(|socket| UnixDatagram::from_std(socket.into()));
        if let Err(reason) = &opened {
            tracing::debug!(%reason, "changes of the network cannot be heard; pauses between attempts are not cut short");
        }
        Self { socket: opened.ok(), seen: false }
    }

    /// Returns when an interface is up that carries something, or an address or a route has come, since it began to listen. What
    /// has come once stays so: asked again, it returns at once. May be cut off and called again.
    pub(super) async fn something_appears(&mut self) {
        let mut bytes = [0; READ_BYTES];
        while !self.seen {
            let Some(socket) = &self.socket else { return std::future::pending().await };
            match socket.recv(&mut bytes).await {
                Ok(count) => self.seen = appears(bytes.get(..count).unwrap_or_default()),
                // More has changed than the kernel could keep for us: something of it will be good.
                Err(error) if Errno::from_io_error(&error) == Some(Errno::NOBUFS) => self.seen = true,
                Err(_) => self.socket = None,
            }
        }
    }
}

fn open() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // Protocol 0 is NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
    Ok(socket)
}

/// Whether one of the messages says that something has come by which the coordinator may be reached.
fn appears(mut bytes: &[u8]) -> bool {
    while let Some((message, rest)) = first_message(bytes) {
        let good = match number::<2>(message, 4).map(u16::from_ne_bytes) {
            Some(RTM_NEWADDR | RTM_NEWROUTE) => true,
            // struct ifinfomsg has the interface's flags at its byte 8.
            Some(RTM_NEWLINK) => number::<4>(message, HEAD_BYTES + 8).map(u32::from_ne_bytes).is_some_and(carries),
            _ => false,
        };
        if good {
            return true;
        }
        bytes = rest;
    }
    false
}

fn carries(flags: u32) -> bool {
    flags & (IFF_UP | IFF_RUNNING | IFF_LOOPBACK) == IFF_UP | IFF_RUNNING
}

fn first_message(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = usize::try_from(number::<4>(bytes, 0).map(u32::from_ne_bytes)?).ok()?;
    let message = bytes.get(..length).filter(|message| message.len() >= HEAD_BYTES)?;
    Some((message, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEAD_BYTES + body.len()).unwrap();
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn link(flags: u32) -> Vec<u8> {
        let mut body = vec![0; 8];
        body.extend(flags.to_ne_bytes());
        body.extend([0; 4]);
        message(RTM_NEWLINK, &body)
    }

    #[test]
    fn what_may_lead_to_the_coordinator_is_told_from_what_does_not() {
        for (bytes, expected) in [
            (message(RTM_NEWADDR, b"12345"), true),
            (message(RTM_NEWROUTE, b""), true),
            (message(RTM_NEWADDR + 1, b"12345"), false),
            (link(IFF_UP | IFF_RUNNING), true),
            (link(IFF_UP), false),
            (link(IFF_UP | IFF_RUNNING | IFF_LOOPBACK), false),
            ([link(IFF_UP), message(3, b"1"), message(RTM_NEWROUTE, b"")].concat(), true),
        ] {
            assert_eq!(appears(&bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn whatever_is_read_is_read_to_its_end_and_not_beyond() {
        let whole = [link(IFF_UP), message(99, b"1234567"), link(0)].concat();
        for end in 0..whole.len() {
            assert!(!appears(&whole[..end]));
        }
        for length in [0_u32, 1, 15, u32::MAX] {
            let mut bytes = whole.clone();
            bytes[..4].copy_from_slice(&length.to_ne_bytes());
            assert!(!appears(&bytes), "{length}");
        }
    }

    #[tokio::test]
    async fn changes_of_the_network_can_be_heard_without_any_rights() {
        assert!(Changes::listen().socket.is_some());
    }

    #[tokio::test]
    async fn what_appeared_during_an_attempt_is_known_in_the_pause_after_it() {
        let (kernel, socket) = UnixDatagram::pair().unwrap();
        let mut changes = Changes { socket: Some(socket), seen: false };
        kernel.send(&link(IFF_UP)).await.unwrap();
        kernel.send(&link(IFF_UP | IFF_RUNNING)).await.unwrap();
        changes.something_appears().await;
        tokio::select! {
            biased;
            () = changes.something_appears() => {}
            () = std::future::ready(()) => panic!("it has forgotten what appeared"),
        }
    }
}
