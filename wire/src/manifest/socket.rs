//! Sockets that are held open for an app, so that whoever connects while one release takes another's place waits a moment
//! and is not refused.

use core::net::SocketAddr;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::rules::{check_text, ensure, too_many};
use super::{InvalidManifest, UnknownVariable, expand};
use crate::ids::SocketName;
use crate::limits;

/// A listening TCP socket that systemd, or the agent, holds and passes to the app (sd_listen_fds(3)): as a file from
/// number 3 on, named in `LISTEN_FDNAMES`. An app with several goes by the name; the order is not promised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Socket {
    /// What the app knows it by; unique in the release.
    pub name: SocketName,
    /// Where it listens: an IP address and port such as `127.0.0.1:${PORT}` or `[::]:80`. `[::]` takes IPv4, too, where
    /// the node's `net.ipv6.bindv6only` is 0.
    pub listen: String,
}

/// Why nobody can listen there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnusableSocket {
    /// A variable that nobody defines.
    #[error(transparent)]
    Variable(#[from] UnknownVariable),
    /// Not an address.
    #[error("the socket {name} is to listen on {text:?}, which is no address; write one like 127.0.0.1:80 or [::]:80")]
    Address {
        /// The socket.
        name: SocketName,
        /// What it says, its variables replaced.
        text: String,
    },
}

impl Socket {
    /// Where it listens on a node with these variables.
    pub fn address(&self, variables: &BTreeMap<String, String>) -> Result<SocketAddr, UnusableSocket> {
        let text = expand(&self.listen, variables)?;
        // An interface's number (`%2`) is another one after the next boot.
        let good =
            |address: &SocketAddr| address.port() != 0 && !matches!(address, SocketAddr::V6(v6) if v6.scope_id() != 0);
        let address = text.parse().ok().filter(good);
        address.ok_or_else(|| UnusableSocket::Address { name: self.name.clone(), text })
    }
}

/// Checks `run.sockets`.
pub(super) fn validate(sockets: &[Socket]) -> Result<(), InvalidManifest> {
    ensure(sockets.len() <= limits::SOCKETS_MAX, "run.sockets", too_many)?;
    let mut seen = BTreeSet::new();
    for socket in sockets {
        check_text("run.sockets", &socket.listen)?;
        ensure(seen.insert(socket.name.as_str()), "run.sockets", || format!("{} is there twice", socket.name))?;
        ensure(seen.insert(&socket.listen), "run.sockets", || format!("{:?} is there twice", socket.listen))?;
        // What its variables say is known on the node.
        if !socket.listen.contains("${") {
            let address = socket.address(&BTreeMap::new());
            ensure(address.is_ok(), "run.sockets", || format!("{:?} is no IP address with a port", socket.listen))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(name: &str, listen: &str) -> Socket {
        Socket { name: name.parse().unwrap(), listen: listen.into() }
    }

    #[test]
    fn an_address_may_name_variables_and_needs_a_port() {
        let variables = BTreeMap::from([("PORT".to_owned(), "8080".to_owned())]);
        let address = |listen: &str| socket("http", listen).address(&variables).ok().map(|address| address.to_string());
        assert_eq!(address("127.0.0.1:${PORT}").as_deref(), Some("127.0.0.1:8080"));
        assert_eq!(address("[::]:80").as_deref(), Some("[::]:80"));
        for bad in
            ["127.0.0.1:0", "localhost:80", "127.0.0.1", "80", "${NO}:80", "[fe80::1%2]:80", "/run/a", "[::1]:${PORT}0"]
        {
            assert_eq!(address(bad), None, "{bad}");
        }
    }

    #[test]
    fn sockets_have_names_and_addresses_of_their_own() {
        assert_eq!(validate(&[socket("http", "127.0.0.1:80"), socket("admin", "127.0.0.1:${PORT}")]), Ok(()));
        for bad in [
            vec![socket("http", "127.0.0.1:80"), socket("http", "127.0.0.1:81")],
            vec![socket("http", "127.0.0.1:80"), socket("admin", "127.0.0.1:80")],
            vec![socket("http", "127.0.0.1")],
            vec![socket("http", "127.0.0.1:80\nExecStart=/bin/sh")],
            (1..=9).map(|n| socket(&format!("s{n}"), &format!("127.0.0.1:{n}"))).collect(),
        ] {
            assert!(validate(&bad).is_err(), "{bad:?}");
        }
    }
}
