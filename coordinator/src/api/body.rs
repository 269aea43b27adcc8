//! Bodies of requests: JSON of a bounded size within a bounded time.

use std::time::Duration;

use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::error::ApiError;

/// Largest body of most requests, in bytes.
pub const SMALL_BYTES_MAX: usize = 64 * 1024;
/// Largest body of a publication, in bytes: a manifest and targets of 4 MiB each, as texts in JSON.
pub const PUBLICATION_BYTES_MAX: usize = 20 * 1024 * 1024;

/// Longest time that a small body may take.
const SMALL_TIME_MAX: Duration = Duration::from_secs(15);
/// Longest time that any body may take.
const TIME_MAX: Duration = Duration::from_mins(2);

/// A JSON body of at most `BYTES_MAX` bytes.
pub struct Body<T, const BYTES_MAX: usize = SMALL_BYTES_MAX>(pub T);

impl<T: DeserializeOwned, S: Sync, const BYTES_MAX: usize> FromRequest<S> for Body<T, BYTES_MAX> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let time_max = if BYTES_MAX <= SMALL_BYTES_MAX { SMALL_TIME_MAX } else { TIME_MAX };
        let collected = Limited::new(request.into_body(), BYTES_MAX).collect();
        let bytes = match tokio::time::timeout(time_max, collected).await {
            Ok(Ok(collected)) => collected.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                let message = format!("the request's body has more than {BYTES_MAX} bytes");
                return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message));
            }
            Ok(Err(error)) => return Err(ApiError::new(StatusCode::BAD_REQUEST, "body_cut", error.to_string())),
            Err(_) => {
                return Err(ApiError::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "body_slow",
                    "the request's body took too long",
                ));
            }
        };
        let read = |error: serde_json::Error| {
            let message = format!("the request's body is not what this route takes: {error}");
            ApiError::new(StatusCode::BAD_REQUEST, "body_invalid", message).next("GET /v1/openapi.json describes it")
        };
        serde_json::from_slice(&bytes).map(Self).map_err(read)
    }
}
