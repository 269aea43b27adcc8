//! What was done, by whom.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use orangery_wire::UnixTime;
use orangery_wire::rest::{AuditPage, ErrorBody};
use serde::Deserialize;

use super::Shared;
use super::error::ApiError;
use crate::store::AuditFilter;

/// Entries of one answer unless the request says otherwise.
const LIMIT: u32 = 100;

/// Which entries.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Wanted {
    after: Option<u64>,
    newest: Option<u32>,
    limit: Option<u32>,
    since: Option<UnixTime>,
    who: Option<String>,
}

/// Entries of the audit log, oldest first: those after a place, or the newest few. Each as it is kept, so that whoever asks can
/// check the chain.
#[utoipa::path(get, path = "/v1/audit", tag = "audit", security(("operator" = [])),
    params(
        ("after" = Option<u64>, Query, description = "Only entries after this place"),
        ("newest" = Option<u64>, Query, maximum = 4_294_967_295_u64, description = "Instead: this many of the newest entries; above 1000 it means 1000"),
        ("limit" = Option<u64>, Query, maximum = 4_294_967_295_u64, description = "At most this many, 1000 at the most; otherwise 100"),
        ("since" = Option<u64>, Query, description = "Only what was done at that time or later, in seconds since 1970"),
        ("who" = Option<String>, Query, description = "Only what this user did, or node:NAME, invite:ID, coordinator")),
    responses((status = 200, body = AuditPage), (status = "default", body = ErrorBody)))]
pub(super) async fn list(
    State(shared): State<Shared>,
    query: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<AuditPage>, ApiError> {
    let Query(wanted) = query.map_err(|error| ApiError::invalid("invalid_query", error.body_text()))?;
    let Wanted { after, newest, limit, since, who } = wanted;
    if newest.is_some() && (after.is_some() || since.is_some() || who.is_some()) {
        return Err(ApiError::invalid("invalid_query", "newest excludes after, since and who"));
    }
    if [after, since].into_iter().flatten().any(|number| i64::try_from(number).is_err()) {
        return Err(ApiError::invalid("invalid_query", "after or since is too large"));
    }
    let page = shared.read(move |_, view| {
        let (entries, next) = match newest {
            Some(count) => (view.newest_audit(count)?, None),
            None => view.audit(after.unwrap_or(0), limit.unwrap_or(LIMIT), &AuditFilter { since, who })?,
        };
        Ok(AuditPage { entries, next })
    });
    Ok(Json(page.await?))
}
