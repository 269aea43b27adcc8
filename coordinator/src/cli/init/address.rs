//! Where this machine is reached, and which of its ports are free.

use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};

use anyhow::Context as _;
use ring::rand::{SecureRandom as _, SystemRandom};

/// Free ports are looked for in this range. Above it the kernel takes ports for outgoing connections, so one of those may
/// be gone when the coordinator starts.
const PORTS: std::ops::Range<u16> = 15_000..32_768;
const ATTEMPTS_MAX: usize = 1_000;

/// The address by which this machine speaks to others, or loopback if it speaks to nobody.
pub fn outgoing() -> String {
    // Connecting a datagram socket sends nothing: it only asks for the route (192.0.2.1 is reserved, RFC 5737).
    let address = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
        .and_then(|socket| socket.connect(("192.0.2.1", 9)).and_then(|()| socket.local_addr()));
    let address = address.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip());
    if address.is_unspecified() { Ipv4Addr::LOCALHOST.to_string() } else { address.to_string() }
}

/// The port itself or, for 0, a free one that is not among `taken`.
pub fn chosen_port(port: u16, taken: &[u16]) -> anyhow::Result<u16> {
    if port != 0 {
        anyhow::ensure!(!taken.contains(&port), "HTTPS and MQTT cannot share the port {port}; choose two");
        return Ok(port);
    }
    let mut attempts = (0..ATTEMPTS_MAX).filter_map(|_| random_port());
    let free = attempts.find(|port| !taken.contains(port) && is_free(*port));
    free.with_context(|| format!("cannot find a free port from {} to {}; name one", PORTS.start, PORTS.end - 1))
}

fn random_port() -> Option<u16> {
    let mut bytes = [0; 4];
    SystemRandom::new().fill(&mut bytes).ok()?;
    let offset = u32::from_le_bytes(bytes) % u32::from(PORTS.end - PORTS.start);
    Some(PORTS.start + u16::try_from(offset).ok()?)
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_was_picked_is_free_and_below_those_of_outgoing_connections() {
        let port = chosen_port(0, &[]).unwrap();
        assert!(PORTS.contains(&port));
        assert_eq!(chosen_port(8443, &[]).unwrap(), 8443);
        assert!(chosen_port(8443, &[8443]).is_err());
    }

    #[test]
    fn this_machine_has_an_address() {
        assert!(outgoing().parse::<IpAddr>().is_ok_and(|address| !address.is_unspecified()));
    }
}
