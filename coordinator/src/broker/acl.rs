//! The same rule for a broker that somebody else runs: Mosquitto's configuration and ACL file.
//!
//! Written for Mosquitto 2.0 and tested against 2.0.11. It differs from the embedded broker in one way that clients see: a
//! forbidden SUBSCRIBE is answered with success, and nothing is ever delivered.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use orangery_wire::limits::PACKET_BYTES_MAX;
use orangery_wire::topics::{COORDINATOR, Channel, PREFIX, filter_all};

use super::HEADER_BYTES_MAX;

/// What Mosquitto needs to be our broker. The paths are Mosquitto's: its user must be able to read them.
#[derive(Debug, Clone, Copy)]
pub struct Mosquitto<'a> {
    /// The address that it listens on.
    pub listen: SocketAddr,
    /// The certificate of our CA, `ca.pem`.
    pub ca: &'a Path,
    /// A server certificate of that CA which names the host that nodes connect to.
    pub certificate: &'a Path,
    /// Its key.
    pub key: &'a Path,
    /// The file with the text of [`mosquitto_acl`].
    pub acl: &'a Path,
}

/// The configuration: a file for Mosquitto's `conf.d`, or a whole one.
///
/// Every client shows a certificate of our CA; the name in it becomes its user name and its client id, whatever the
/// client says of itself, so that nobody takes over the session of another.
pub fn mosquitto_config(mosquitto: &Mosquitto<'_>) -> String {
    let Mosquitto { listen, ca, certificate, key, acl } = mosquitto;
    let (port, address) = (listen.port(), listen.ip());
    let (ca, certificate, key, acl) = (ca.display(), certificate.display(), key.display(), acl.display());
    let packet_bytes_max = PACKET_BYTES_MAX + HEADER_BYTES_MAX;
    format!(
        "# Orangery: a broker for nodes and their coordinator. Written by `orangery broker acl mosquitto`.\n\
         per_listener_settings true\n\
         # Nothing to keep: the coordinator publishes everything again when it connects.\n\
         persistence false\n\
         max_packet_size {packet_bytes_max}\n\
         message_size_limit {PACKET_BYTES_MAX}\n\
         # An offline node needs no queue: it asks for the newest state when it is back.\n\
         max_queued_messages 16384\n\
         \n\
         listener {port} {address}\n\
         tls_version tlsv1.3\n\
         cafile {ca}\n\
         certfile {certificate}\n\
         keyfile {key}\n\
         require_certificate true\n\
         use_identity_as_username true\n\
         use_username_as_clientid true\n\
         allow_anonymous false\n\
         acl_file {acl}\n"
    )
}

/// The ACL file, which is [`orangery_wire::topics::may_publish`] and [`orangery_wire::topics::may_subscribe`] in
/// Mosquitto's words.
pub fn mosquitto_acl() -> String {
    let mut acl = format!(
        "# Orangery: who may use which topic. Written by `orangery broker acl mosquitto`; do not edit.\n\
         user {COORDINATOR}\n"
    );
    for channel in Channel::ALL {
        let access = if channel.is_from_node() { "read" } else { "write" };
        let _ = writeln!(acl, "topic {access} {}", filter_all(channel));
    }
    acl.push_str("\n# Every node, by the name in its certificate (%u).\n");
    for channel in Channel::ALL {
        let access = if channel.is_from_node() { "write" } else { "read" };
        let _ = writeln!(acl, "pattern {access} {PREFIX}node/%u/{}", channel.as_str());
    }
    acl
}

#[cfg(test)]
mod tests {
    use orangery_wire::topics::{may_publish, may_subscribe};

    use super::*;

    #[test]
    fn the_acl_file_says_what_the_rule_says() {
        let acl = mosquitto_acl();
        let words = acl.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let mut rules = 0;
        for words in words.filter(|words| matches!(words[0], "topic" | "pattern")) {
            rules += 1;
            let [kind, access, topic] = words[..] else { panic!("{words:?}") };
            let client = if kind == "topic" { COORDINATOR } else { "a" };
            let (exact, other) = (topic.replace("%u", "a").replace('+', "a"), topic.replace("%u", "b"));
            let filter = topic.replace("%u", "a");
            assert_eq!(may_publish(client, &exact), access == "write", "{client} {access} {topic}");
            assert_eq!(may_subscribe(client, &filter), access == "read", "{client} {access} {topic}");
            if kind == "pattern" {
                assert!(!may_publish(client, &other) && !may_subscribe(client, &other), "{other}");
            }
        }
        assert_eq!(rules, 2 * Channel::ALL.len(), "each channel once for the coordinator and once for nodes");
    }
}
