//! Makes nodes, each with a key of its own, by the route by which boards join.

use std::sync::Arc;

use anyhow::Context;
use orangery::client::Client;
use orangery_wire::NodeId;
use orangery_wire::rest::{InviteRequest, InviteResponse, JoinRequest, JoinResponse};
use rcgen::{CertificateParams, KeyPair};
use rustls::ClientConfig;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::task::JoinSet;

/// Most uses of one invite.
const USES_MAX: usize = 1_000;
/// Boards that ask at the same time.
const AT_ONCE: usize = 32;

/// Who a node is.
pub struct Seat {
    /// Its name.
    pub node: NodeId,
    /// Its certificate and key, and whom it believes.
    pub tls: Arc<ClientConfig>,
}

/// Enrols `count` nodes.
pub async fn enrol(client: &Client, count: usize) -> anyhow::Result<Vec<Seat>> {
    let mut seats = Vec::with_capacity(count);
    let mut joining = JoinSet::new();
    let mut secret = Arc::<str>::from("");
    for number in 0..count {
        if number % USES_MAX == 0 {
            let uses = u32::try_from(USES_MAX.min(count - number))?;
            let request = InviteRequest { name: None, expires_secs: 3_600, uses };
            let invite: InviteResponse = client.post("/v1/invites", &request).await?;
            secret = invite.secret.into();
        }
        if joining.len() >= AT_ONCE {
            seats.extend(joining.join_next().await.transpose()?.transpose()?);
        }
        joining.spawn(join(client.clone(), secret.clone(), format!("node-{number:05}")));
    }
    while let Some(joined) = joining.join_next().await {
        seats.push(joined??);
    }
    Ok(seats)
}

async fn join(client: Client, secret: Arc<str>, name: String) -> anyhow::Result<Seat> {
    let key = KeyPair::generate()?;
    let csr_pem = CertificateParams::new([])?.serialize_request(&key)?.pem()?;
    let request = JoinRequest { secret: secret.to_string(), name: Some(name.clone()), csr_pem };
    let joined: JoinResponse =
        client.post("/v1/join", &request).await.with_context(|| format!("{name} cannot join"))?;
    let ca = CertificateDer::from_pem_slice(joined.ca_pem.as_bytes())?;
    let tls = orangery::tls::client_config(&ca, (&joined.certificate_pem, &key.serialize_pem()))?;
    Ok(Seat { node: joined.node, tls })
}
