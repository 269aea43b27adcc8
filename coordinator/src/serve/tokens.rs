//! The tokens that open the API, of which the coordinator knows the digests alone.

use std::path::Path;

use orangery_wire::Digest;

use super::{ServeError, read};
use crate::config::Config;

/// An empty or damaged file is an error: there is no operator without a token.
pub(super) fn operator(config: &Config) -> Result<Digest, ServeError> {
    token_digest(&config.keys.operator_token_sha256, "orangery init")
}

/// Without a file nobody but the operator reads the metrics.
pub(super) fn metrics(config: &Config) -> Result<Option<Digest>, ServeError> {
    let path = &config.keys.metrics_token_sha256;
    path.exists().then(|| token_digest(path, "orangery keys metrics-token")).transpose()
}

fn token_digest(path: &Path, written_by: &'static str) -> Result<Digest, ServeError> {
    let digest: Option<Digest> = read(path)?.trim().parse().ok();
    let of_nothing = crate::sha256::digest(b"");
    let token = || ServeError::Token { path: path.to_owned(), written_by };
    digest.filter(|digest| *digest != of_nothing).ok_or_else(token)
}
