//! Real MQTT clients over real mutual TLS, and the table of what one node may not do to another. Used against the embedded
//! broker and against Mosquitto.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod client;
pub mod world;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use orangery::ca::Ca;
use orangery::tls::client_config;
use orangery_wire::UnixTime;
use rustls::ClientConfig;

/// Longest wait for anything that must happen.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// The time.
pub fn now() -> UnixTime {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A new CA.
pub fn ca() -> Ca {
    Ca::create(now()).unwrap()
}

/// A node's TLS identity: a new key and a certificate for it, issued at `issued`.
pub fn node_issued_at(ca: &Ca, name: &str, issued: UnixTime) -> Arc<ClientConfig> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    let certificate = ca.issue_node(&name.parse().unwrap(), &request, issued).unwrap();
    client_config(ca.certificate(), (&certificate.pem, &key.serialize_pem())).unwrap()
}

/// A node's TLS identity, issued now.
pub fn node(ca: &Ca, name: &str) -> Arc<ClientConfig> {
    node_issued_at(ca, name, now())
}

/// The identity of the coordinator's link.
pub fn link_identity(ca: &Ca) -> Arc<ClientConfig> {
    let link = ca.issue_link(now()).unwrap();
    client_config(ca.certificate(), (&link.certificate.pem, &link.key_pem)).unwrap()
}

/// Waits for what must happen.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("{what} did not happen in {DEADLINE:?}"))
}

/// Waits until `condition` holds.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    within(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
