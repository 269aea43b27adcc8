//! A request that is sent again because its answer was lost is done once: `Idempotency-Key`
//! (draft-ietf-httpapi-idempotency-key-header-07). What was answered is kept in memory, for it may hold secrets; a coordinator that is
//! started again has forgotten it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, SET_COOKIE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http_body_util::BodyExt as _;
use orangery_wire::{Digest, UnixTime};

use super::Shared;
use super::audience::Identity;
use super::body;
use super::error::ApiError;
use crate::sha256;

/// The request's header.
pub const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says of an answer that it was given before.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Longest key, in bytes.
const KEY_BYTES_MAX: usize = 255;
/// How long an answer is kept, in seconds.
const KEPT_SECS: u64 = 86_400;
/// Answers that are kept, and their bytes; the oldest go first.
const ANSWERS_MAX: usize = 1_000;
const BYTES_MAX: usize = 32 * 1024 * 1024;

/// Whose key it is, and the key.
type Name = (String, String);

/// What was answered to requests with a key.
#[derive(Debug, Default)]
pub struct Once(Mutex<HashMap<Name, Asked>>);

#[derive(Debug)]
struct Asked {
    /// Of the method, the path and the body.
    request: Digest,
    at: UnixTime,
    /// `None` while it is being done.
    answer: Option<Answer>,
}

#[derive(Debug, Clone)]
struct Answer {
    status: StatusCode,
    content_type: Option<HeaderValue>,
    body: Bytes,
}

/// The request's key, if it has one and is of a kind that is done once.
pub(super) fn key(identity: &Identity, request: &Request) -> Result<Option<Name>, ApiError> {
    let Identity::User(user) = identity else { return Ok(None) };
    let Some(key) = request.headers().get(&KEY).filter(|_| request.method() == Method::POST) else { return Ok(None) };
    match key.to_str() {
        Ok(key) if (1..=KEY_BYTES_MAX).contains(&key.len()) => Ok(Some((user.name.to_string(), key.to_owned()))),
        _ => Err(ApiError::invalid(
            "idempotency_key_invalid",
            "the Idempotency-Key is not 1 to 255 visible ASCII characters",
        )
        .next("draw a random one for each thing that is to be done once, such as a UUID")),
    }
}

/// Does the request, or gives the answer that it was given before.
pub(super) async fn run(shared: Shared, name: Name, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let bytes = match body::collect::<{ body::PUBLICATION_BYTES_MAX }>(body).await {
        Ok(bytes) => bytes,
        Err(error) => return error.into_response(),
    };
    let head = format!("{} {}\n", parts.method, parts.uri);
    let digest = sha256::digest(&[head.as_bytes(), &bytes].concat());
    match shared.entrance.once.begin(&name, digest, (shared.clock)()) {
        Ok(None) => {}
        Ok(Some(answer)) => return answer.again(),
        Err(error) => return error.into_response(),
    }
    let request = Request::from_parts(parts, bytes.into());
    // Whoever asked may be gone before it is done, and comes again for the answer.
    let done = tokio::spawn(async move {
        let running = Running { shared: &shared, name: &name };
        let response = next.run(request).await;
        running.answered(response).await
    });
    done.await.unwrap_or_else(|error| ApiError::internal(&error).into_response())
}

/// A request that is being done. However it ends, it is not being done any more.
struct Running<'a> {
    shared: &'a Shared,
    name: &'a Name,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.shared.entrance.once.forget_unanswered(self.name);
    }
}

impl Running<'_> {
    /// Keeps the answer, unless the next try may have a better one.
    async fn answered(self, response: Response) -> Response {
        if response.status().is_server_error() || response.headers().contains_key(SET_COOKIE) {
            return response;
        }
        let (parts, body) = response.into_parts();
        let body = match body.collect().await {
            Ok(collected) => collected.to_bytes(),
            Err(error) => return ApiError::internal(&error).into_response(),
        };
        let content_type = parts.headers.get(CONTENT_TYPE).cloned();
        let answer = Answer { status: parts.status, content_type, body: body.clone() };
        self.shared.entrance.once.keep(self.name, answer);
        Response::from_parts(parts, body.into())
    }
}

impl Answer {
    fn again(self) -> Response {
        let mut headers = HeaderMap::new();
        headers.extend(self.content_type.map(|content_type| (CONTENT_TYPE, content_type)));
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
        (self.status, headers, self.body).into_response()
    }
}

impl Once {
    /// Begins a request with this key; or the answer that it was given.
    fn begin(&self, name: &Name, request: Digest, now: UnixTime) -> Result<Option<Answer>, ApiError> {
        let mut all = self.lock();
        // A clock that was set back keeps nothing for longer.
        all.retain(|_, asked| asked.answer.is_none() || now.abs_diff(asked.at) < KEPT_SECS);
        make_room(&mut all);
        if all.len() >= ANSWERS_MAX && !all.contains_key(name) {
            let error =
                ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", "too many requests are being done");
            return Err(error.next("try again in a moment"));
        }
        let Some(asked) = all.get(name) else {
            all.insert(name.clone(), Asked { request, at: now, answer: None });
            return Ok(None);
        };
        if asked.request != request {
            let text = "the Idempotency-Key came before, with another request";
            return Err(ApiError::invalid("idempotency_key_reused", text).next("draw a new key for another request"));
        }
        let under_way = || {
            let text = "the request with this key is being done";
            let error = ApiError::new(StatusCode::CONFLICT, "request_under_way", text);
            error.next("ask again in a moment, with the same key")
        };
        asked.answer.clone().map(Some).ok_or_else(under_way)
    }

    fn keep(&self, name: &Name, answer: Answer) {
        let mut all = self.lock();
        if let Some(asked) = all.get_mut(name) {
            asked.answer = Some(answer);
        }
        make_room(&mut all);
    }

    fn forget_unanswered(&self, name: &Name) {
        let mut all = self.lock();
        if all.get(name).is_some_and(|asked| asked.answer.is_none()) {
            all.remove(name);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Asked>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The oldest answers go until there is room for one more.
fn make_room(all: &mut HashMap<Name, Asked>) {
    let bytes = |asked: &Asked| asked.answer.as_ref().map_or(0, |answer| answer.body.len());
    while all.len() >= ANSWERS_MAX || all.values().map(bytes).sum::<usize>() > BYTES_MAX {
        let answered = all.iter().filter(|(_, asked)| asked.answer.is_some());
        let Some(oldest) = answered.min_by_key(|(_, asked)| asked.at).map(|(name, _)| name.clone()) else { return };
        all.remove(&oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(key: &str) -> Name {
        ("kim".to_owned(), key.to_owned())
    }

    fn answer(size: usize) -> Answer {
        Answer { status: StatusCode::OK, content_type: None, body: vec![b'x'; size].into() }
    }

    #[test]
    fn an_answer_is_kept_for_a_day_and_for_its_request_alone() {
        let (once, this, other) = (Once::default(), sha256::digest(b"one"), sha256::digest(b"other"));
        assert!(once.begin(&name("a"), this, 100).unwrap().is_none());
        assert_eq!(once.begin(&name("a"), this, 100).unwrap_err().code(), "request_under_way");
        once.keep(&name("a"), answer(3));
        assert_eq!(once.begin(&name("a"), this, 100).unwrap().unwrap().body.len(), 3);
        assert_eq!(once.begin(&name("a"), other, 100).unwrap_err().code(), "idempotency_key_reused");
        assert!(
            once.begin(&("ann".to_owned(), "a".to_owned()), other, 100).unwrap().is_none(),
            "keys are a user's own"
        );
        assert!(once.begin(&name("a"), other, 100 + KEPT_SECS).unwrap().is_none());
        once.forget_unanswered(&name("a"));
        assert!(once.begin(&name("a"), this, 100 + KEPT_SECS).unwrap().is_none(), "it was not done");
    }

    #[test]
    fn the_oldest_answers_go_when_there_are_too_many_or_they_are_too_large() {
        let once = Once::default();
        for k in 0..ANSWERS_MAX as u64 + 10 {
            assert!(once.begin(&name(&k.to_string()), sha256::digest(b""), k).unwrap().is_none());
            once.keep(&name(&k.to_string()), answer(1));
        }
        assert!(once.lock().len() <= ANSWERS_MAX);
        assert!(!once.lock().contains_key(&name("0")) && once.lock().contains_key(&name("1005")));
        once.begin(&name("large"), sha256::digest(b""), 5_000).unwrap();
        once.keep(&name("large"), answer(BYTES_MAX));
        assert_eq!(once.lock().len(), 1, "all others went");
    }
}
