//! Where messages may go. Targets are the operator's own, also on loopback and in private networks; what a cloud tells about a
//! machine to whoever asks from there is no target, whatever name leads to it (docs/adr/0018).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Addresses outside of the local link where clouds keep the same: Alibaba, Azure; AWS and Google by IPv6.
const METADATA_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16)];
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

/// Whether nothing is sent there.
pub(super) fn is_closed(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_link_local() || METADATA_V4.contains(&v4),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || METADATA_V6.contains(&v6),
    }
}

/// Why a closed address is not used.
pub(super) fn closed(address: IpAddr) -> String {
    format!(
        "{address} is an address of the local link or of a cloud's metadata; allow_link_local = true goes there all the same"
    )
}

/// The addresses of a host, without those that are closed.
pub(super) async fn look_up(host: &str, port: u16, allow_link_local: bool) -> Result<Vec<SocketAddr>, String> {
    let found = tokio::net::lookup_host((host, port)).await;
    let found: Vec<SocketAddr> = found.map_err(|error| format!("cannot resolve the name: {error}"))?.collect();
    let open: Vec<SocketAddr> =
        found.iter().copied().filter(|address| allow_link_local || !is_closed(address.ip())).collect();
    match (open.is_empty(), found.first()) {
        (false, _) => Ok(open),
        (true, Some(first)) => Err(closed(first.ip())),
        (true, None) => Err("the name has no address".to_owned()),
    }
}

/// Resolves names for HTTP, at the moment of each connection: a name that leads elsewhere later is looked at again.
pub(super) struct Guarded {
    pub(super) allow_link_local: bool,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let allow = self.allow_link_local;
        Box::pin(async move {
            let found = look_up(name.as_str(), 0, allow).await?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_of_clouds_is_closed_and_own_networks_are_not() {
        let closed = ["169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "fd00:ec2::254", "100.100.100.200"];
        assert!(closed.iter().all(|address| is_closed(address.parse().unwrap())));
        let open = ["127.0.0.1", "::1", "192.168.1.10", "10.0.0.1", "fd00::1", "203.0.113.1", "2001:db8::1"];
        assert!(!open.iter().any(|address| is_closed(address.parse().unwrap())));
    }

    #[tokio::test]
    async fn a_name_that_leads_there_is_refused_unless_it_is_allowed() {
        assert!(look_up("169.254.169.254", 80, false).await.unwrap_err().contains("allow_link_local"));
        assert_eq!(look_up("169.254.169.254", 80, true).await.unwrap().len(), 1);
        assert_eq!(look_up("127.0.0.1", 80, false).await.unwrap().len(), 1);
    }
}
