//! The way to the coordinator, step by step: route, name, port, TLS with the node's own certificate.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;

use super::{Code, Findings, Node, read, within};
use crate::identity::Identity;
use crate::link::broker_address;
use crate::tls;

/// For a name's addresses.
const RESOLVE: Duration = Duration::from_secs(4);
/// For a connection to one address; at most two are tried.
const CONNECT: Duration = Duration::from_millis(1_500);
/// For the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(3);
/// A certificate is refused after the handshake (RFC 8446 section 4.4.2.4): so long is waited for that.
const REFUSAL: Duration = Duration::from_millis(700);

pub(super) fn network(node: &Node, found: &mut Findings) {
    let Some(identity) = node.joined() else { return };
    let tls = tls::client_config(identity, node.clock.clone());
    let mut routed = false;
    for (what, host, port) in addresses(identity) {
        let Some(addresses) = resolve(&host, port) else {
            found.add(Code::NameUnresolved, format!("{host}, for the coordinator's {what}"));
            continue;
        };
        let local = addresses.iter().any(|address| address.ip().is_loopback());
        if !local && !routed && !has_route() {
            found.add(Code::NoRoute, "there is no default route");
        }
        routed = true;
        match reach(&addresses).map(|stream| greet(stream, &host, &tls)) {
            Ok(Ok(())) => found.ok(format!("{host}:{port} ({what}) answers, and accepts this node")),
            Ok(Err((code, reason))) => found.add(code, format!("{host}:{port} ({what}): {reason}")),
            Err(reason) => found.add(Code::Unreachable, format!("{host}:{port} ({what}): {reason}")),
        }
    }
}

/// What the node connects to.
fn addresses(identity: &Identity) -> Vec<(&'static str, String, u16)> {
    let https = identity.url.strip_prefix("https://").map(|rest| rest.trim_end_matches('/'));
    let https = https.and_then(|rest| broker_address(rest).or_else(|| broker_address(&format!("{rest}:443"))));
    let https = https.map(|(host, port)| ("HTTPS", host, port));
    let mqtt = broker_address(&identity.mqtt).map(|(host, port)| ("MQTT", host, port));
    https.into_iter().chain(mqtt).collect()
}

fn resolve(host: &str, port: u16) -> Option<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Some(vec![SocketAddr::new(address, port)]);
    }
    let host = host.to_owned();
    let found =
        within(RESOLVE, move || (host.as_str(), port).to_socket_addrs().ok().map(Iterator::collect::<Vec<_>>))??;
    (!found.is_empty()).then_some(found)
}

/// Whether there is a default route, of IPv4 (proc_net_route(5)) or IPv6.
fn has_route() -> bool {
    let any = |path: &str, is: fn(&str) -> bool| read(path).is_some_and(|text| text.lines().any(is));
    any("/proc/net/route", |line| line.split_whitespace().nth(1) == Some("00000000"))
        || any("/proc/net/ipv6_route", |line| {
            line.starts_with("00000000000000000000000000000000 00 ") && !line.ends_with(" lo")
        })
}

fn reach(addresses: &[SocketAddr]) -> Result<TcpStream, String> {
    let mut last = "it has no address".to_owned();
    for address in addresses.iter().take(2) {
        match TcpStream::connect_timeout(address, CONNECT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = format!("{address}: {error}"),
        }
    }
    Err(last)
}

/// Makes a TLS connection and gives the other side time to refuse the certificate. Says nothing over it: on the broker's port
/// that would end the agent's own session.
fn greet(stream: TcpStream, host: &str, tls: &Arc<ClientConfig>) -> Result<(), (Code, String)> {
    let failed = |error: std::io::Error| (blame(&error), reason(&error));
    let name = ServerName::try_from(host.to_owned()).map_err(|error| (Code::TlsFailed, error.to_string()))?;
    let connection = ClientConnection::new(tls.clone(), name).map_err(|error| (Code::TlsFailed, error.to_string()))?;
    stream.set_read_timeout(Some(HANDSHAKE)).and(stream.set_write_timeout(Some(HANDSHAKE))).map_err(failed)?;
    let mut stream = StreamOwned::new(connection, stream);
    stream.flush().map_err(failed)?;
    let deadline = Instant::now() + HANDSHAKE;
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).map_err(failed)?;
        if Instant::now() > deadline {
            return Err((Code::TlsFailed, "the handshake took too long".to_owned()));
        }
    }
    stream.sock.set_read_timeout(Some(REFUSAL)).map_err(failed)?;
    match stream.read(&mut [0; 1]) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(()),
        // It may close a connection on which nothing is said.
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

/// An alert about the certificate is about ours: about theirs we would have sent one.
fn blame(error: &std::io::Error) -> Code {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    if matches!(inner, Some(rustls::Error::AlertReceived(_))) { Code::CertificateRefused } else { Code::TlsFailed }
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => "nothing was heard during the handshake".to_owned(),
        _ => error.to_string(),
    }
}
