//! How boards become nodes, and stay nodes.

use axum::extract::State;
use axum::{Extension, Json};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use orangery_wire::Digest;
use orangery_wire::rest::{
    ErrorBody, InviteRequest, InviteResponse, JoinRequest, JoinResponse, RenewRequest, RenewResponse,
};
use ring::rand::SecureRandom as _;
use x509_parser::prelude::{FromDer as _, X509CertificationRequest};

use super::Shared;
use super::audience::Identity;
use super::body::Body;
use super::error::ApiError;
use crate::ca::CSR_BYTES_MAX;
use crate::engine::{Actor, Issue, Joining, Refused, Renewing};
use crate::https::Caller;
use crate::sha256;
use crate::store::token_id;

/// Makes an invite. Its secret is in the answer and nowhere else.
#[utoipa::path(post, path = "/v1/invites", tag = "enrolment", security(("operator" = [])), request_body = InviteRequest,
    responses((status = 200, body = InviteResponse), (status = "default", body = ErrorBody)))]
pub(super) async fn invite(
    State(shared): State<Shared>,
    actor: Actor,
    Body(request): Body<InviteRequest>,
) -> Result<Json<InviteResponse>, ApiError> {
    let secret = new_secret()?;
    let expires_at = shared.engine.by(actor).invite(sha256::digest(secret.as_bytes()), request).await?;
    let root = Some(sha256::digest(shared.repository.first_root().as_bytes()));
    Ok(Json(InviteResponse { url: shared.url.clone(), ca: shared.ca.fingerprint(), secret, expires_at, root }))
}

/// 256 bits that nobody can guess, as text.
pub(super) fn new_secret() -> Result<String, ApiError> {
    let mut secret = [0; 32];
    let random = ring::rand::SystemRandom::new().fill(&mut secret);
    random.map_err(|_| ApiError::internal(&std::io::Error::other("the system gives no random numbers")))?;
    Ok(URL_SAFE_NO_PAD.encode(secret))
}

/// Takes a board in. The invite's secret is the permission; the same board may ask again while the invite lasts.
#[utoipa::path(post, path = "/v1/join", tag = "enrolment", request_body = JoinRequest,
    responses((status = 200, body = JoinResponse), (status = "default", body = ErrorBody)))]
pub(super) async fn join(
    State(shared): State<Shared>,
    caller: Option<Extension<Caller>>,
    Body(request): Body<JoinRequest>,
) -> Result<Json<JoinResponse>, ApiError> {
    let address = caller.map(|Extension(caller)| caller.address);
    let now = (shared.clock)();
    if address.is_some_and(|address| shared.entrance.invites.are_too_many(address, now)) {
        return Err(ApiError::too_many_failures("too many unknown invite tokens came from this address"));
    }
    let secret = sha256::digest(request.secret.as_bytes());
    let joining =
        Joining { secret, key: key_of(&request.csr_pem)?, wish: request.name, issue: issue(&shared, request.csr_pem) };
    let actor = Actor { who: format!("invite:{}", token_id(&secret)), token: None, from: address };
    let joined = shared.engine.by(actor).join(joining).await;
    if let (Some(address), Err(Refused::TokenUnknown)) = (address, &joined) {
        tracing::warn!(%address, "a join with an unknown invite token");
        shared.entrance.invites.note(address, now);
    }
    let (node, issued) = joined?;
    Ok(Json(JoinResponse {
        node,
        certificate_pem: issued.pem,
        ca_pem: shared.ca.certificate_pem().to_owned(),
        root: shared.repository.first_root().to_owned(),
        mqtt: shared.mqtt.clone(),
    }))
}

/// Renews a node's certificate, by the present one, even if that has expired.
#[utoipa::path(post, path = "/v1/renew", tag = "enrolment", security(("node" = [])), request_body = RenewRequest,
    responses((status = 200, body = RenewResponse), (status = "default", body = ErrorBody)))]
pub(super) async fn renew(
    State(shared): State<Shared>,
    Extension(identity): Extension<Identity>,
    actor: Actor,
    Body(request): Body<RenewRequest>,
) -> Result<Json<RenewResponse>, ApiError> {
    let Identity::Node { node, .. } = identity else { return Err(ApiError::unauthenticated()) };
    let key = key_of(&request.csr_pem)?;
    let issued = shared.engine.by(actor).renew(Renewing { node, key, issue: issue(&shared, request.csr_pem) }).await?;
    Ok(Json(RenewResponse { certificate_pem: issued.pem }))
}

fn issue(shared: &Shared, csr_pem: String) -> Issue {
    let shared = shared.clone();
    Box::new(move |node, now| shared.ca.issue_node(node, &csr_pem, now).map_err(|error| error.to_string()))
}

/// SHA-256 of the public key in a signing request. Whether the sender has the key, the CA checks.
fn key_of(csr_pem: &str) -> Result<Digest, ApiError> {
    let invalid =
        |reason: &str| ApiError::from(Refused::RequestInvalid { reason: format!("the signing request {reason}") });
    if csr_pem.len() > CSR_BYTES_MAX {
        return Err(invalid("is too large"));
    }
    let (_, pem) = x509_parser::pem::parse_x509_pem(csr_pem.as_bytes()).map_err(|_| invalid("is not PEM"))?;
    let (_, request) = X509CertificationRequest::from_der(&pem.contents).map_err(|_| invalid("is not PKCS#10"))?;
    Ok(sha256::digest(request.certification_request_info.subject_pki.raw))
}
