//! The text of a new `coordinator.toml`.

use std::net::IpAddr;

/// Which broker nodes and coordinator meet at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MqttChoice {
    /// The one within the coordinator.
    Embedded {
        /// Its port.
        port: u16,
    },
    /// Another one.
    External {
        /// `mqtts://HOST:PORT`
        url: String,
    },
}

/// Settings for a coordinator that nodes reach at `host`. It listens on all addresses, but on loopback alone if that is
/// what `host` is.
pub fn coordinator_text(host: &str, https_port: u16, mqtt: &MqttChoice) -> String {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let host = if bare.contains(':') { format!("[{bare}]") } else { bare.to_owned() };
    let listen = match (bare.parse::<IpAddr>(), bare) {
        (Ok(IpAddr::V4(address)), _) if address.is_loopback() => "127.0.0.1",
        (Ok(IpAddr::V6(address)), _) if address.is_loopback() => "[::1]",
        (Ok(IpAddr::V6(_)), _) => "[::]",
        (_, "localhost") => "127.0.0.1",
        _ => "0.0.0.0",
    };
    let mqtt = match mqtt {
        MqttChoice::Embedded { port } => format!(
            "# The embedded broker. To use another one: only `url = \"mqtts://HOST:PORT\"` here, and see\n\
             # `orangery broker acl`.\n\
             [mqtt]\n\
             listen = \"{listen}:{port}\"\n\
             advertise = \"{host}:{port}\"\n"
        ),
        MqttChoice::External { url } => format!(
            "# Another broker, with the access rules of `orangery broker acl`. For the embedded one: `listen` and\n\
             # `advertise` in the place of `url`.\n\
             [mqtt]\n\
             url = {}\n",
            toml::Value::String(url.clone())
        ),
    };
    format!(
        "# The coordinator's settings. Paths are relative to this file.\n\
         state_dir = \"state\"\n\n\
         # REST and downloads. Invite tokens carry `url`: it is how nodes and operators reach this machine.\n\
         [https]\n\
         listen = \"{listen}:{https_port}\"\n\
         url = \"https://{host}:{https_port}\"\n\n\
         {mqtt}"
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, Mqtt};

    fn parsed(host: &str, mqtt: &MqttChoice) -> Config {
        Config::parse(&coordinator_text(host, 8443, mqtt), Path::new("/x/coordinator.toml")).unwrap()
    }

    #[test]
    fn the_coordinator_reads_what_is_written() {
        let embedded = MqttChoice::Embedded { port: 8883 };
        let config = parsed("192.168.1.10", &embedded);
        assert_eq!(config.https.url, "https://192.168.1.10:8443");
        assert_eq!(config.https.listen.to_string(), "0.0.0.0:8443");
        let config = parsed("fd00::1", &embedded);
        assert_eq!(config.https.url, "https://[fd00::1]:8443");
        assert_eq!(config.https.listen.to_string(), "[::]:8443");
        let external = MqttChoice::External { url: "mqtts://broker.local:8883".into() };
        let config = parsed("orangery.local", &external);
        assert_eq!(config.mqtt, Mqtt::External { address: "broker.local:8883".into() });
    }

    #[test]
    fn a_coordinator_on_loopback_listens_there_alone() {
        let embedded = MqttChoice::Embedded { port: 8883 };
        for (host, listen) in [("127.0.0.1", "127.0.0.1:8443"), ("localhost", "127.0.0.1:8443"), ("::1", "[::1]:8443")]
        {
            assert_eq!(parsed(host, &embedded).https.listen.to_string(), listen);
        }
    }
}
