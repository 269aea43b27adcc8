//! The dashboard's pages. They hold nothing: all that they show comes from this API, asked for by whoever has signed in.
//!
//! The files are in `coordinator/dashboard/`, as they are served, and in the program.

use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, IF_NONE_MATCH};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use orangery_wire::rest::ErrorBody;

use super::error::ApiError;
use crate::sha256;

/// A browser asks each time whether its copy is still the one: an upgrade of the coordinator shows at once.
const ASK_FIRST: &str = "no-cache";

/// One file.
struct Asset {
    name: &'static str,
    bytes: &'static [u8],
}

macro_rules! assets {
    ($($name:literal),* $(,)?) => {
        [$(Asset { name: $name, bytes: include_bytes!(concat!("../../dashboard/", $name)) }),*]
    };
}

static ASSETS: [Asset; 21] = assets![
    "index.html",
    "style.css",
    "icon.svg",
    "app.js",
    "api.js",
    "audit.js",
    "chart.js",
    "confirm.js",
    "dom.js",
    "enrol.js",
    "events.js",
    "fleet.js",
    "live.js",
    "node.js",
    "parts.js",
    "qr.js",
    "releases.js",
    "rollout.js",
    "rollouts.js",
    "signin.js",
    "words.js",
];

/// The dashboard.
#[utoipa::path(get, path = "/", tag = "dashboard",
    responses((status = 200, content_type = "text/html", body = str), (status = "default", body = ErrorBody)))]
pub(super) async fn page(headers: HeaderMap) -> Result<Response, ApiError> {
    answer("index.html", &headers)
}

/// What the dashboard is made of.
#[utoipa::path(get, path = "/assets/{file}", tag = "dashboard",
    params(("file" = String, Path, description = "Its name")),
    responses((status = 200, content_type = "text/javascript", body = str), (status = "default", body = ErrorBody)))]
pub(super) async fn asset(Path(file): Path<String>, headers: HeaderMap) -> Result<Response, ApiError> {
    answer(&file, &headers)
}

fn answer(name: &str, headers: &HeaderMap) -> Result<Response, ApiError> {
    let asset = ASSETS.iter().find(|asset| asset.name == name);
    let asset = asset.ok_or_else(|| ApiError::not_found(format_args!("file {name} of the dashboard")))?;
    let tag = format!("\"{}\"", sha256::digest(asset.bytes));
    let known = headers.get_all(IF_NONE_MATCH).iter().any(|known| names(known, &tag));
    let tag = HeaderValue::try_from(tag).map_err(|error| ApiError::internal(&error))?;
    let common = [(ETAG, tag), (CACHE_CONTROL, HeaderValue::from_static(ASK_FIRST))];
    Ok(if known {
        (StatusCode::NOT_MODIFIED, common).into_response()
    } else {
        (common, [(CONTENT_TYPE, kind(name))], asset.bytes).into_response()
    })
}

/// Whether a list of tags has this one (RFC 9110 section 13.1.2, weak comparison).
fn names(list: &HeaderValue, tag: &str) -> bool {
    let list = list.to_str().unwrap_or_default();
    list.split(',').map(str::trim).any(|known| known.trim_start_matches("W/") == tag)
}

fn kind(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn text(asset: &Asset) -> &str {
        std::str::from_utf8(asset.bytes).unwrap()
    }

    #[test]
    fn every_file_of_the_dashboard_is_served_with_a_type_that_browsers_take() {
        let directory = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/dashboard"));
        let there =
            std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert_eq!(there.collect::<BTreeSet<_>>(), ASSETS.iter().map(|asset| asset.name.to_owned()).collect());
        assert!(ASSETS.iter().all(|asset| kind(asset.name) != "application/octet-stream"));
    }

    /// What nodes and people write is text. Nothing here makes markup, script or style out of a text.
    #[test]
    fn no_text_can_become_markup_or_script() {
        let makers = [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "DOMParser",
            "createContextualFragment",
            "srcdoc",
            "setHTML",
            "eval(",
            "Function(",
            "javascript:",
            "setTimeout(\"",
            "setTimeout('",
            "import(",
            "http://",
            "//cdn",
            "localStorage",
        ];
        for asset in &ASSETS {
            // The name of a namespace is no address.
            let text = text(asset).replace("http://www.w3.org/2000/svg", "");
            for maker in makers {
                assert!(!text.contains(maker), "{} has {maker}", asset.name);
            }
        }
    }

    /// The policy of contents forbids them, and a browser would leave them out in silence.
    #[test]
    fn no_script_or_style_stands_in_the_page_itself() {
        let page = text(&ASSETS[0]);
        assert!(!page.contains("<style") && !page.contains(" style=") && !page.contains(" onclick="), "{page}");
        let scripts: Vec<&str> = page.split("<script").skip(1).collect();
        assert!(!scripts.is_empty() && scripts.iter().all(|script| script.contains("></script>")), "{page}");
        for asset in &ASSETS {
            assert!(!text(asset).contains("setAttribute(\"style\""), "{}", asset.name);
        }
    }

    #[test]
    fn tags_are_known_in_every_form_that_browsers_send() {
        let known = |list: &'static str| names(&HeaderValue::from_static(list), "\"a\"");
        assert!(known("\"a\"") && known("W/\"a\"") && known("\"b\", W/\"a\""));
        assert!(!known("\"ab\"") && !known("a") && !known(""));
    }
}
