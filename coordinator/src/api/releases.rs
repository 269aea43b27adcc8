//! Releases and artifacts, as the operator brings them.

use axum::Json;
use axum::body::Body as HttpBody;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_LENGTH, HeaderMap};
use axum::http::{HeaderValue, StatusCode};
use axum::response::IntoResponse;
use orangery_wire::limits::MANIFEST_BYTES_MAX;
use orangery_wire::manifest::Pack;
use orangery_wire::rest::{ErrorBody, PublishRequest, ReleaseView};
use orangery_wire::{AppName, Digest, Manifest, Version};

use super::body::{Body, PUBLICATION_BYTES_MAX};
use super::error::ApiError;
use super::{Parts, Shared};
use crate::artifacts::ArtifactError;
use crate::engine::{Actor, Record, Refused, choose_release};
use crate::repository::Standing;
use crate::store::{ReleaseRow, View};

/// All releases: by app, the newest version first.
#[utoipa::path(get, path = "/v1/releases", tag = "releases", security(("operator" = [])),
    responses((status = 200, body = Vec<ReleaseView>), (status = "default", body = ErrorBody)))]
pub(super) async fn list(State(shared): State<Shared>) -> Result<Json<Vec<ReleaseView>>, ApiError> {
    let releases = shared.read(|_, view| view.releases()).await?;
    let releases = releases.into_iter().map(|release| release.view).collect();
    Ok(Json(shared.blocking(move |parts| Ok::<_, ApiError>(judged(parts, releases))).await?))
}

/// One release.
#[utoipa::path(get, path = "/v1/releases/{app}/{version}", tag = "releases", security(("operator" = [])),
    params(("app" = orangery_wire::AppName, Path, description = "Its app"), ("version" = orangery_wire::Version, Path, description = "Its version")),
    responses((status = 200, body = ReleaseView), (status = "default", body = ErrorBody)))]
pub(super) async fn show(
    State(shared): State<Shared>,
    Path((app, version)): Path<(String, String)>,
) -> Result<Json<ReleaseView>, ApiError> {
    let (app, version): (AppName, Version) = (named(&app)?, named(&version)?);
    let releases = shared.read(|_, view: View<'_>| view.releases()).await?;
    let release = choose_release(&app, &version, &releases)?.view.clone();
    let judged = shared.blocking(move |parts| Ok::<_, ApiError>(judged(parts, vec![release]))).await?;
    judged.into_iter().next().map(Json).ok_or_else(|| ApiError::not_found(format_args!("release {app} {version}")))
}

/// The releases with what the owner's newest targets say of them.
fn judged(parts: &Parts, mut releases: Vec<ReleaseView>) -> Vec<ReleaseView> {
    let standings = parts.repository.standings(releases.iter().map(|release| (&release.app, &release.version)));
    for (release, standing) in releases.iter_mut().zip(standings) {
        release.withdrawn = match standing {
            Standing::Good => None,
            Standing::Revoked => Some("release_revoked".to_owned()),
            Standing::BelowFloor(_) => Some("below_floor".to_owned()),
        };
        release.signed_by = parts.repository.signed_by(&release.app, &release.version);
    }
    releases
}

/// Publishes a release: the owner's targets must vouch for its manifest, and its artifacts must be here. The same again
/// changes nothing.
#[utoipa::path(post, path = "/v1/releases", tag = "releases", security(("operator" = [])), request_body = PublishRequest,
    responses((status = 200, body = ReleaseView), (status = "default", body = ErrorBody)))]
pub(super) async fn publish(
    State(shared): State<Shared>,
    actor: Actor,
    Body(request): Body<PublishRequest, PUBLICATION_BYTES_MAX>,
) -> Result<Json<ReleaseView>, ApiError> {
    let manifest = Manifest::parse(request.manifest.as_bytes())?;
    check_packs(&shared, &manifest).await?;
    let (row, keys) = shared
        .blocking(move |parts| {
            let PublishRequest { manifest: text, targets } = request;
            let (now, (app, version)) = ((parts.clock)(), (&manifest.app, &manifest.version));
            let there = parts.reader.read(|view| view.release(app, version))?;
            let id = crate::sha256::digest(text.as_bytes());
            if there.is_some_and(|there| there.view.id.0 != id) {
                return Err(Refused::VersionTaken { app: app.clone(), version: version.clone() }.into());
            }
            let id = parts.repository.publish(app, version, text.as_bytes(), targets.as_bytes(), now)?;
            let keys = parts.repository.signed_by(app, version);
            Ok::<_, ApiError>((ReleaseRow::of(&manifest, id, now), keys))
        })
        .await?;
    // Nodes may know of it a moment before operators do; the other way round a deployment could find nothing.
    Ok(Json(shared.engine.by(actor).publish(row, keys).await?.view))
}

/// Every artifact that the manifest names must be here, whole.
async fn check_packs(shared: &Shared, manifest: &Manifest) -> Result<(), ApiError> {
    for (platform, tree) in &manifest.platforms {
        let Pack { digest, size_bytes, .. } = &tree.pack;
        match shared.artifacts.size(digest).await? {
            Some(size) if size == *size_bytes => {}
            Some(size) => {
                let message =
                    format!("the artifact {digest} for {platform} has {size} bytes, the manifest says {size_bytes}");
                return Err(ApiError::invalid("blob_wrong_size", message).next("build the release again"));
            }
            None => {
                let message = format!("the artifact {digest} for {platform} is not here");
                return Err(ApiError::invalid("blob_missing", message).next("upload it first: PUT /v1/blobs/DIGEST"));
            }
        }
    }
    Ok(())
}

/// The size of an artifact, as Content-Length; 404 if it is not here, or is damaged.
#[utoipa::path(head, path = "/v1/blobs/{digest}", tag = "releases", security(("operator" = [])),
    params(("digest" = orangery_wire::Digest, Path, description = "Its SHA-256, 64 hexadecimal digits")),
    responses((status = 200, description = "It is here"), (status = "default", description = "It is not, or the request is denied")))]
pub(super) async fn blob_size(
    State(shared): State<Shared>,
    Path(digest): Path<String>,
) -> Result<impl IntoResponse, ApiError> {
    let digest: Digest = named(&digest)?;
    let size = shared.artifacts.whole(&digest).await?;
    let size = size.ok_or_else(|| ApiError::not_found(format_args!("artifact {digest}")))?;
    Ok((StatusCode::OK, [(CONTENT_LENGTH, HeaderValue::from(size))]))
}

/// Takes an artifact, whose bytes must have the digest in the path. One that is here already is left as it is.
#[utoipa::path(put, path = "/v1/blobs/{digest}", tag = "releases", security(("operator" = [])),
    params(("digest" = orangery_wire::Digest, Path, description = "Its SHA-256, 64 hexadecimal digits")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 204, description = "It is here"), (status = "default", body = ErrorBody)))]
pub(super) async fn put_blob(
    State(shared): State<Shared>,
    actor: Actor,
    Path(digest): Path<String>,
    headers: HeaderMap,
    body: HttpBody,
) -> Result<StatusCode, ApiError> {
    let digest: Digest = named(&digest)?;
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let bytes_max = shared.artifacts.bytes_max();
    if announced.is_some_and(|length| length > bytes_max) {
        return Err(ArtifactError::TooLarge { bytes_max }.into());
    }
    let (_, is_new) = shared.artifacts.put(&digest, body.into_data_stream()).await?;
    if is_new {
        shared.engine.by(actor).record(Record::new("artifact.put", format!("artifact {digest}"))).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// A name, version or digest out of a path.
pub(super) fn named<T: std::str::FromStr<Err = orangery_wire::ids::InvalidId>>(text: &str) -> Result<T, ApiError> {
    text.parse().map_err(|invalid: T::Err| ApiError::invalid("invalid_name", invalid.to_string()))
}

// A manifest and targets of the largest size fit into one publication, whatever escapes their texts need.
const _: () = assert!(PUBLICATION_BYTES_MAX > 2 * (MANIFEST_BYTES_MAX + 4 * 1024 * 1024));
