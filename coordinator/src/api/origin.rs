//! Whether a request comes from a page of this coordinator. A browser shows a session's cookie by itself; this is what keeps other
//! people's pages from making use of that. docs/adr/0016 says why the addresses are configured and not read from `Host`.

use axum::http::header::{HeaderMap, ORIGIN};
use axum::http::{HeaderName, StatusCode};

use super::error::ApiError;

/// Says how a page and what it asks for belong together (Fetch Metadata Request Headers). Pages cannot set it.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
/// Below these are no pages.
const NO_PAGES: [&str; 5] = ["/v1/", "/metadata/", "/targets/", "/blobs/", "/metrics"];

/// Where browsers reach this coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origins(Vec<String>);

impl Origins {
    /// Of addresses `https://HOST` or `https://HOST:PORT`.
    pub fn new<'a>(urls: impl IntoIterator<Item = &'a str>) -> Self {
        Self(urls.into_iter().map(origin_of).collect())
    }

    /// Whether a request by cookie that may change something comes from a page of ours.
    pub(super) fn check_change(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        match (headers.get(ORIGIN), site(headers)) {
            (None, Some("same-origin")) => Ok(()),
            (Some(_), Some("same-origin") | None) => self.check_origin(headers),
            (None, None) => Err(self.wrong("it does not say which page it comes from")),
            (_, Some(_)) => Err(self.wrong("it comes from a page of another site")),
        }
    }

    /// The same of somebody who signs in. A program that is no browser sends neither header.
    pub(super) fn check_sign_in(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        match (headers.get(ORIGIN), site(headers)) {
            (None, None | Some("same-origin" | "none")) => Ok(()),
            (Some(_), None | Some("same-origin")) => self.check_origin(headers),
            (_, Some(_)) => Err(self.wrong("it comes from a page of another site")),
        }
    }

    fn check_origin(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let sent = headers.get(ORIGIN).and_then(|origin| origin.to_str().ok()).unwrap_or_default();
        if self.0.iter().any(|known| *known == sent.to_ascii_lowercase()) {
            return Ok(());
        }
        let shown: String = sent.chars().take(100).filter(|c| !c.is_control()).collect();
        Err(self.wrong(&format!("it comes from a page of {shown:?}")))
    }

    fn wrong(&self, why: &str) -> ApiError {
        let known = self.0.join(" or ");
        let message = format!("the request is not from a page of {known}: {why}");
        ApiError::new(StatusCode::FORBIDDEN, "origin_wrong", message).next(
            "open the coordinator by that address, or add the other one to [https] public_urls in coordinator.toml",
        )
    }
}

/// Whether a request by cookie that changes nothing comes from a page of ours, or from nobody's: typed, or a bookmark. A link on
/// another site's page may lead to one of our pages, not to anything else.
pub(super) fn check_look(headers: &HeaderMap, path: &str) -> Result<(), ApiError> {
    let is = |name: HeaderName, value: &str| headers.get(name).is_some_and(|sent| sent == value);
    let is_page = || NO_PAGES.iter().all(|below| !path.starts_with(below));
    match site(headers) {
        None | Some("same-origin" | "none") => Ok(()),
        Some(_) if is(SEC_FETCH_MODE, "navigate") && is(SEC_FETCH_DEST, "document") && is_page() => Ok(()),
        Some(_) => {
            let message = "a page of another site has made the browser ask for this";
            Err(ApiError::new(StatusCode::FORBIDDEN, "cross_site", message))
        }
    }
}

/// What cannot be read is something that no browser says.
fn site(headers: &HeaderMap) -> Option<&str> {
    headers.get(SEC_FETCH_SITE).map(|site| site.to_str().unwrap_or_default())
}

/// As browsers write it: in lower case, without the port that goes without saying.
fn origin_of(url: &str) -> String {
    let url = url.trim_end_matches('/').to_ascii_lowercase();
    url.strip_suffix(":443").unwrap_or(&url).to_owned()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    fn origins() -> Origins {
        Origins::new(["https://nas.local:8443", "https://Fleet.example.org:443/"])
    }

    #[test]
    fn what_changes_something_must_come_from_a_page_of_ours() {
        let check = |pairs: &[(&'static str, &str)]| origins().check_change(&headers(pairs)).is_ok();
        assert!(check(&[("origin", "https://nas.local:8443")]));
        assert!(check(&[("origin", "https://fleet.example.org")]));
        assert!(check(&[("origin", "https://nas.local:8443"), ("sec-fetch-site", "same-origin")]));
        assert!(check(&[("sec-fetch-site", "same-origin")]));
        for origin in [
            "https://nas.local",
            "http://nas.local:8443",
            "https://nas.local:8444",
            "https://evil.example",
            "null",
            "",
            "https://nas.local:8443.evil.example",
            "https://evil.example/https://nas.local:8443",
            "https://nas.local:8443/",
        ] {
            assert!(!check(&[("origin", origin)]), "{origin}");
            assert!(!check(&[("origin", origin), ("sec-fetch-site", "same-origin")]), "{origin}");
        }
        for site in ["cross-site", "same-site", "none", ""] {
            assert!(!check(&[("sec-fetch-site", site)]), "{site}");
            assert!(!check(&[("origin", "https://nas.local:8443"), ("sec-fetch-site", site)]), "{site}");
        }
        assert!(!check(&[]));
        // What stands before the coordinator, or a page, may say what it likes of the host.
        assert!(!check(&[("origin", "https://a.example"), ("host", "a.example"), ("x-forwarded-host", "a.example")]));
    }

    #[test]
    fn whoever_signs_in_is_no_browser_or_on_a_page_of_ours() {
        let check = |pairs: &[(&'static str, &str)]| origins().check_sign_in(&headers(pairs)).is_ok();
        assert!(check(&[]) && check(&[("origin", "https://nas.local:8443"), ("sec-fetch-site", "same-origin")]));
        assert!(!check(&[("origin", "https://evil.example")]) && !check(&[("origin", "null")]));
        assert!(!check(&[("sec-fetch-site", "cross-site")]) && !check(&[("sec-fetch-site", "same-site")]));
    }

    #[test]
    fn a_page_may_be_linked_to_and_nothing_else_be_asked_for_by_others() {
        let check = |site: &str, mode: &str, dest: &str, path: &str| {
            let sent = [("sec-fetch-site", site), ("sec-fetch-mode", mode), ("sec-fetch-dest", dest)];
            check_look(&headers(&sent), path).is_ok()
        };
        assert!(check_look(&HeaderMap::new(), "/v1/status").is_ok());
        assert!(check("same-origin", "cors", "empty", "/v1/status"));
        assert!(check("none", "navigate", "document", "/v1/status"));
        assert!(check("cross-site", "navigate", "document", "/nodes/attic"));
        assert!(!check("cross-site", "navigate", "iframe", "/nodes/attic"));
        assert!(!check("cross-site", "no-cors", "image", "/nodes/attic"));
        assert!(!check("same-site", "no-cors", "script", "/v1/status"));
        assert!(!check("cross-site", "navigate", "document", "/v1/status"));
        assert!(!check("cross-site", "cors", "empty", "/v1/status"));
    }
}
