//! Who may ask for what. Nothing is allowed that a route does not name: a route has exactly one audience, and
//! `guard` stands before every one of them.

use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use orangery_wire::NodeId;

use super::Shared;
use super::error::ApiError;
use crate::https::Caller;
use crate::sha256;

/// Who a route is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Whoever has the operator's token.
    Operator,
    /// A node, by its certificate; an expired one too. For renewal alone.
    NodeEvenExpired,
    /// A node, by its certificate, or whoever has the operator's token.
    NodeOrOperator,
    /// Everyone. What such a route tells is public, or it checks a secret of its own.
    Anyone,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Somebody with the operator's token.
    Operator,
    /// A node with a certificate that is not revoked.
    Node {
        /// The node.
        node: NodeId,
        /// Whether the certificate is expired.
        expired: bool,
    },
    /// Somebody.
    Stranger,
}

impl Audience {
    /// Lets somebody in, or says why not.
    fn admit(self, identity: &Identity) -> Result<(), ApiError> {
        match (self, identity) {
            (Self::Anyone, _)
            | (Self::Operator | Self::NodeOrOperator, Identity::Operator)
            | (Self::NodeOrOperator, Identity::Node { expired: false, .. })
            | (Self::NodeEvenExpired, Identity::Node { .. }) => Ok(()),
            (Self::NodeOrOperator, Identity::Node { expired: true, .. }) => Err(ApiError::expired()),
            (_, Identity::Stranger) => Err(ApiError::unauthenticated()),
            (Self::Operator, Identity::Node { .. }) => {
                Err(ApiError::forbidden("this is for the operator, not for nodes"))
            }
            (Self::NodeEvenExpired, Identity::Operator) => {
                Err(ApiError::forbidden("this is for nodes, by their certificate"))
            }
        }
    }
}

/// Finds out who asks, and lets them through to the route or not. The route finds the [`Identity`] in the request.
pub(super) async fn guard(
    State((shared, audience)): State<(Shared, Audience)>,
    mut request: Request,
    next: Next,
) -> Response {
    let identity = identify(&shared, &request);
    match identity.and_then(|identity| audience.admit(&identity).map(|()| identity)) {
        Ok(identity) => {
            request.extensions_mut().insert(identity);
            next.run(request).await
        }
        Err(error) => {
            tracing::debug!(path = request.uri().path(), code = error.code(), "request denied");
            error.into_response()
        }
    }
}

/// A token counts before a certificate: who shows one wants to be the operator. One that is wrong is an error even where
/// everyone may come in.
fn identify(shared: &Shared, request: &Request) -> Result<Identity, ApiError> {
    if let Some(value) = request.headers().get(AUTHORIZATION) {
        let (scheme, token) = value.to_str().unwrap_or_default().split_once(' ').unwrap_or_default();
        let hash = sha256::digest(token.trim().as_bytes());
        // Hashes are compared: how long that takes tells nothing about the token.
        let right = scheme.eq_ignore_ascii_case("bearer") && hash == shared.operator_token;
        return if right { Ok(Identity::Operator) } else { Err(ApiError::wrong_token()) };
    }
    let caller = request.extensions().get::<Caller>();
    let Some(certificate) = caller.and_then(|caller| caller.certificate.as_deref()) else {
        return Ok(Identity::Stranger);
    };
    // The coordinator's own certificate is for its link and opens nothing here.
    let Some(node) = certificate.node() else { return Ok(Identity::Stranger) };
    if shared.engine.live().is_revoked(&node) {
        return Err(ApiError::revoked(&node));
    }
    let expired = certificate.not_after <= (shared.clock)();
    Ok(Identity::Node { node, expired })
}
