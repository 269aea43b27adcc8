//! Files that nodes fetch: metadata, manifests and artifacts. What they are told by MQTT they check against these, and
//! these against the owner's signatures.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderName,
    IF_NONE_MATCH, IF_RANGE, RANGE,
};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use orangery_wire::rest::ErrorBody;
use orangery_wire::{AppName, Digest, Version};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use super::Shared;
use super::error::ApiError;
use super::range::{Part, part};
use super::releases::named;

/// Files are read in pieces of this size, in bytes.
const PIECE_BYTES: usize = 64 * 1024;
/// What is named by its content never changes.
const FOREVER: &str = "private, max-age=31536000, immutable";

/// A metadata file: `timestamp.json`, `N.snapshot.json`, `N.targets.json` or `N.root.json`.
#[utoipa::path(get, path = "/metadata/{file}", tag = "files", security(("node" = []), ("operator" = [])),
    params(("file" = String, Path, description = "Its name")),
    responses((status = 200, body = serde_json::Value), (status = "default", body = ErrorBody)))]
pub(super) async fn metadata(State(shared): State<Shared>, Path(file): Path<String>) -> Result<Response, ApiError> {
    let name = file.clone();
    let bytes = shared.blocking(move |parts| parts.repository.metadata(&name)).await?;
    json(bytes, "no-cache").ok_or_else(|| ApiError::not_found(format_args!("metadata {file}")))
}

/// A release's manifest, exactly as the owner signed it.
#[utoipa::path(get, path = "/targets/{app}/{version}/{file}", tag = "files", security(("node" = []), ("operator" = [])),
    params(
        ("app" = orangery_wire::AppName, Path, description = "The app"),
        ("version" = orangery_wire::Version, Path, description = "The version"),
        ("file" = String, Path, description = "SHA256.manifest.json")),
    responses((status = 200, body = serde_json::Value), (status = "default", body = ErrorBody)))]
pub(super) async fn manifest(
    State(shared): State<Shared>,
    Path((app, version, file)): Path<(String, String, String)>,
) -> Result<Response, ApiError> {
    let (app, version): (AppName, Version) = (named(&app)?, named(&version)?);
    let name = file.clone();
    let bytes = shared.blocking(move |parts| parts.repository.manifest(&app, &version, &name)).await?;
    json(bytes, FOREVER).ok_or_else(|| ApiError::not_found(format_args!("manifest {file}")))
}

fn json(bytes: Option<Vec<u8>>, cache: &'static str) -> Option<Response> {
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, cache)];
    Some((headers, bytes?).into_response())
}

/// An artifact, or one range of its bytes.
#[utoipa::path(get, path = "/blobs/{digest}", tag = "files", security(("node" = []), ("operator" = [])),
    params(
        ("digest" = orangery_wire::Digest, Path, description = "Its SHA-256, 64 hexadecimal digits"),
        ("Range" = Option<String>, Header, description = "One range of bytes"),
        ("If-Range" = Option<String>, Header, description = "Its ETag; with another one the whole is sent")),
    responses(
        (status = 200, content_type = "application/octet-stream", body = Vec<u8>),
        (status = 206, content_type = "application/octet-stream", body = Vec<u8>),
        (status = "default", body = ErrorBody)))]
pub(super) async fn blob(
    State(shared): State<Shared>,
    Path(digest): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let digest: Digest = named(&digest)?;
    let found = shared.artifacts.open_one(&digest).await?;
    let (file, size) = found.ok_or_else(|| ApiError::not_found(format_args!("artifact {digest}")))?;
    let etag = format!("\"{digest}\"");
    let header = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if header(IF_NONE_MATCH)
        .is_some_and(|known| known.split(',').any(|known| matches!(known.trim(), "*") || known.trim() == etag))
    {
        return Ok((StatusCode::NOT_MODIFIED, [(ETAG, etag)]).into_response());
    }
    let same = header(IF_RANGE).is_none_or(|known| known == etag);
    let asked = header(RANGE).filter(|_| same).map_or(Part::Whole, |range| part(range, size));
    match asked {
        Part::Whole => send(file, 0, size, &etag, None).await,
        Part::Bytes { first, last } => {
            let range = format!("bytes {first}-{last}/{size}");
            send(file, first, last - first + 1, &etag, Some(range)).await
        }
        Part::Unsatisfiable => {
            let message = format!("the artifact has {size} bytes, and none of them are in that range");
            let mut response =
                ApiError::new(StatusCode::RANGE_NOT_SATISFIABLE, "range_unsatisfiable", message).into_response();
            insert(&mut response, CONTENT_RANGE, &format!("bytes */{size}"));
            Ok(response)
        }
    }
}

/// Sends `count` bytes of a file from `first` on.
async fn send(mut file: File, first: u64, count: u64, etag: &str, range: Option<String>) -> Result<Response, ApiError> {
    file.seek(std::io::SeekFrom::Start(first)).await.map_err(|error| ApiError::internal(&error))?;
    let body = Body::from_stream(ReaderStream::with_capacity(file.take(count), PIECE_BYTES));
    let mut response = Response::new(body);
    insert(&mut response, CONTENT_TYPE, "application/octet-stream");
    insert(&mut response, CONTENT_LENGTH, &count.to_string());
    insert(&mut response, ACCEPT_RANGES, "bytes");
    insert(&mut response, CACHE_CONTROL, FOREVER);
    insert(&mut response, ETAG, etag);
    if let Some(range) = range {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        insert(&mut response, CONTENT_RANGE, &range);
    }
    Ok(response)
}

fn insert(response: &mut Response, name: HeaderName, value: &str) {
    // Digits, digests and fixed words: all of them can stand in a header.
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}
