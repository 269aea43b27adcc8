//! Lists that are asked for in pages: `?limit=N&after=LAST`, and a `Link` to the next one (RFC 8288) while there is more.

use axum::Json;
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::HeaderValue;
use axum::http::header::LINK;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};

use super::error::ApiError;

/// Most entries of a page.
pub(super) const PAGE_MAX: u32 = 1_000;

/// Which page.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Page {
    limit: Option<u32>,
    after: Option<String>,
}

impl Page {
    /// Reads it. A page has at least one entry.
    pub(super) fn read(query: Result<Query<Self>, QueryRejection>) -> Result<Self, ApiError> {
        let Query(page) = query.map_err(|error| ApiError::invalid("invalid_query", error.body_text()))?;
        if page.limit == Some(0) {
            return Err(ApiError::invalid("invalid_query", "limit must be 1 or more"));
        }
        Ok(page)
    }

    /// The same of a list of which no answer has more entries than this.
    pub(super) fn of_at_most(self, most: u32) -> Self {
        Self { limit: Some(self.limit.unwrap_or(most).min(most)), ..self }
    }

    /// How many entries it has at most; `None`: as many as there are.
    pub(super) fn limit(&self) -> Option<u32> {
        self.limit.map(|limit| limit.min(PAGE_MAX))
    }

    /// After which entry it begins, if not at the first.
    pub(super) fn after<T: std::str::FromStr>(&self) -> Result<Option<T>, ApiError> {
        let wrong = |_| ApiError::invalid("invalid_query", "after is not what names an entry of this list");
        self.after.as_ref().map(|after| after.parse().map_err(wrong)).transpose()
    }

    /// The answer: as many of `entries` as the page has. One more than that says that there is a next page.
    pub(super) fn answer<T: Serialize>(
        &self,
        path: &str,
        mut entries: Vec<T>,
        name: impl Fn(&T) -> String,
    ) -> Response {
        let limit = self.limit().and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
        let has_more = entries.len() > limit;
        entries.truncate(limit);
        let next = entries
            .last()
            .filter(|_| has_more)
            .map(|last| format!("<{path}?limit={limit}&after={}>; rel=\"next\"", name(last)));
        let mut response = Json(entries).into_response();
        // Names of entries are of letters, digits and dashes.
        if let Some(Ok(next)) = next.map(HeaderValue::try_from) {
            response.headers_mut().insert(LINK, next);
        }
        response
    }
}
