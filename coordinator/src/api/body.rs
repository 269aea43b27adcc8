//! Bodies of requests: JSON of a bounded size within a bounded time.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::ApiError;

/// Largest body of most requests, in bytes.
pub const SMALL_BYTES_MAX: usize = 64 * 1024;
/// Largest body of a publication, in bytes: a manifest and targets of 4 MiB each, as texts in JSON.
pub const PUBLICATION_BYTES_MAX: usize = 20 * 1024 * 1024;

/// Longest time that a small body may take.
const SMALL_TIME_MAX: Duration = Duration::from_secs(15);
/// Longest time that any body may take.
const TIME_MAX: Duration = Duration::from_mins(2);

/// The largest number that a float and an integer write alike: 2^53.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// A JSON body of at most `BYTES_MAX` bytes.
pub struct Body<T, const BYTES_MAX: usize = SMALL_BYTES_MAX>(pub T);

impl<T: DeserializeOwned, S: Sync, const BYTES_MAX: usize> FromRequest<S> for Body<T, BYTES_MAX> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let bytes = collect::<BYTES_MAX>(request.into_body()).await?;
        let invalid = |error: &dyn std::fmt::Display| {
            let message = format!("the request's body is not what this route takes: {error}");
            ApiError::new(StatusCode::BAD_REQUEST, "body_invalid", message).next("GET /v1/openapi.json describes it")
        };
        // A list is another way of writing a structure for serde, and nothing that anybody means.
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return Err(invalid(&"it is no JSON object"));
        }
        let read = serde_json::from_slice(&bytes);
        read.or_else(|error| whole(&bytes).ok_or(error)).map(Self).map_err(|error| invalid(&error))
    }
}

/// All of a body, if it has at most `BYTES_MAX` bytes and comes in time.
pub(super) async fn collect<const BYTES_MAX: usize>(body: axum::body::Body) -> Result<Bytes, ApiError> {
    let time_max = if BYTES_MAX <= SMALL_BYTES_MAX { SMALL_TIME_MAX } else { TIME_MAX };
    let collected = Limited::new(body, BYTES_MAX).collect();
    match tokio::time::timeout(time_max, collected).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let message = format!("the request's body has more than {BYTES_MAX} bytes");
            Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message))
        }
        Ok(Err(error)) => Err(ApiError::new(StatusCode::BAD_REQUEST, "body_cut", error.to_string())),
        Err(_) => Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "body_slow", "the request's body took too long")),
    }
}

/// Reads a body in which whole numbers are written like 3.0, as some programs do; JSON knows no other kind of number (RFC 8259,
/// section 6).
fn whole<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let mut value: Value = serde_json::from_slice(bytes).ok()?;
    make_whole(&mut value);
    serde_json::from_value(value).ok()
}

/// The reader of JSON has bounded the depth.
fn make_whole(value: &mut Value) {
    match value {
        Value::Number(number) => {
            let is_whole = |float: &f64| float.fract() == 0.0 && (0.0..=WHOLE_MAX).contains(float);
            if let Some(whole) = number.as_f64().filter(|_| number.is_f64()).filter(is_whole) {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "it is whole and in bounds"
                )]
                let whole = whole as u64;
                *number = whole.into();
            }
        }
        Value::Array(values) => values.iter_mut().for_each(make_whole),
        Value::Object(fields) => fields.values_mut().for_each(make_whole),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(body: &'static str) -> Result<orangery_wire::rest::InviteRequest, String> {
        let request = Request::new(body.into());
        let body = Body::<orangery_wire::rest::InviteRequest>::from_request(request, &()).await;
        body.map(|Body(request)| request).map_err(|error| error.code().to_owned())
    }

    #[tokio::test]
    async fn a_body_is_an_object_with_known_keys_and_whole_numbers_however_they_are_written() {
        let good = read(r#" {"expires_secs": 60.0, "uses": 1e1}"#).await.unwrap();
        assert_eq!((good.expires_secs, good.uses), (60, 10));
        for wrong in [
            "[null, 60, 1]",
            r#"{"expires_secs": 60, "uses": 1, "expire_secs": 6}"#,
            r#"{"expires_secs": 60.5, "uses": 1}"#,
            r#"{"expires_secs": -60.0, "uses": 1}"#,
            r#"{"expires_secs": 1e300, "uses": 1}"#,
            "",
            "null",
            "{",
        ] {
            assert_eq!(read(wrong).await.unwrap_err(), "body_invalid", "{wrong}");
        }
    }
}
