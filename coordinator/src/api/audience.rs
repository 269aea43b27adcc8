//! Who may ask for what. Nothing is allowed that a route does not name: a route has exactly one audience, and
//! `guard` stands before every one of them.

use axum::extract::{MatchedPath, Request, State};
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
    /// Whoever has the token for metrics, or the operator's.
    OperatorOrScraper,
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
    /// Somebody with the token for metrics.
    Scraper,
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
            | (Self::Operator | Self::OperatorOrScraper | Self::NodeOrOperator, Identity::Operator)
            | (Self::OperatorOrScraper, Identity::Scraper)
            | (Self::NodeOrOperator, Identity::Node { expired: false, .. })
            | (Self::NodeEvenExpired, Identity::Node { .. }) => Ok(()),
            (Self::NodeOrOperator, Identity::Node { expired: true, .. }) => Err(ApiError::expired()),
            (_, Identity::Stranger) => Err(ApiError::unauthenticated()),
            (Self::Operator | Self::OperatorOrScraper, Identity::Node { .. }) => {
                Err(ApiError::forbidden("this is for the operator, not for nodes"))
            }
            (_, Identity::Scraper) => Err(ApiError::forbidden("this token is for GET /metrics alone")),
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
    let (method, route) = (request.method().clone(), request.extensions().get::<MatchedPath>().cloned());
    let response = match identity.and_then(|identity| audience.admit(&identity).map(|()| identity)) {
        Ok(identity) => {
            request.extensions_mut().insert(identity);
            next.run(request).await
        }
        Err(error) => {
            tracing::debug!(path = request.uri().path(), code = error.code(), "request denied");
            error.into_response()
        }
    };
    let route = route.as_ref().map_or("", MatchedPath::as_str);
    shared.metrics.count_request(method.as_str(), route, response.status().as_u16());
    response
}

/// A token counts before a certificate: who shows one wants to be the operator. One that is wrong is an error even where
/// everyone may come in.
fn identify(shared: &Shared, request: &Request) -> Result<Identity, ApiError> {
    if let Some(value) = request.headers().get(AUTHORIZATION) {
        let (scheme, token) = value.to_str().unwrap_or_default().split_once(' ').unwrap_or_default();
        let hash = sha256::digest(token.trim().as_bytes());
        // Hashes are compared: how long that takes tells nothing about the token.
        return match scheme.eq_ignore_ascii_case("bearer") {
            true if hash == shared.operator_token => Ok(Identity::Operator),
            true if Some(hash) == shared.metrics_token => Ok(Identity::Scraper),
            _ => Err(ApiError::wrong_token()),
        };
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
