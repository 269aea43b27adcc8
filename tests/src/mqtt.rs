//! A raw MQTT client with somebody's certificate, for saying what the programs never would.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS, TlsConfiguration, Transport};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::fleet::{Fleet, Node};

/// Publishes one retained message as the coordinator.
pub fn as_coordinator(fleet: &Fleet, topic: &str, payload: &[u8]) -> anyhow::Result<()> {
    let directory = fleet.home().join("coordinator");
    publish(fleet, "coordinator", (&directory.join("link.pem"), &directory.join("link.key")), topic, payload)
}

/// Publishes one retained message as a node, whose agent must not run meanwhile.
pub fn as_node(fleet: &Fleet, node: &Node, topic: &str, payload: &[u8]) -> anyhow::Result<()> {
    let directory = node.state().join("identity");
    publish(fleet, &node.name, (&directory.join("node.pem"), &directory.join("node.key")), topic, payload)
}

/// TLS that believes one authority and shows no certificate.
pub fn anonymous_tls(ca: &Path) -> TlsConfiguration {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).expect("a certificate")).expect("an authority");
    let provider = rustls::crypto::ring::default_provider();
    let builder = rustls::ClientConfig::builder_with_provider(provider.into()).with_safe_default_protocol_versions();
    let config = builder.expect("ring speaks TLS").with_root_certificates(roots).with_no_client_auth();
    TlsConfiguration::Rustls(config.into())
}

fn publish(fleet: &Fleet, client: &str, pem: (&Path, &Path), topic: &str, payload: &[u8]) -> anyhow::Result<()> {
    let ready: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(fleet.path().join("ready"))?)?;
    let address = ready["mqtt"].as_str().context("the broker's address is known")?;
    let (host, port) = address.rsplit_once(':').context("an address has a port")?;
    let ca = CertificateDer::from_pem_file(fleet.home().join("coordinator/ca.pem"))?;
    let (certificate, key) = (std::fs::read_to_string(pem.0)?, std::fs::read_to_string(pem.1)?);
    let tls = orangery::tls::client_config(&ca, (&certificate, &key))?;
    let mut options = MqttOptions::new(client, host, port.parse()?);
    options.set_clean_session(true);
    options.set_transport(Transport::Tls(TlsConfiguration::Rustls(tls)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (client, mut events) = AsyncClient::new(options, 4);
        client.try_publish(topic, QoS::AtLeastOnce, true, payload)?;
        let acknowledged = async {
            while !matches!(events.poll().await?, Event::Incoming(Packet::PubAck(_))) {}
            anyhow::Ok(())
        };
        tokio::time::timeout(Duration::from_secs(10), acknowledged).await.context("the broker acknowledges")?
    })
}
