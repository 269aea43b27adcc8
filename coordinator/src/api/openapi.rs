//! The API's description for programs (OpenAPI 3.1), made from the code and kept in docs/openapi.json.

use axum::http::Method;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use utoipa::OpenApi;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};

/// The document.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Orangery",
        description = "The coordinator's REST API. Users show their token, browsers the cookie of their session, nodes \
            their certificate (mutual TLS). Every error answer is an ErrorBody with a stable code; docs/protocol.md lists them. A POST of a user with an \
            Idempotency-Key is done once; sent again it gets the answer of the first time."
    ),
    paths(
        super::dashboard::page,
        super::dashboard::asset,
        super::nodes::healthz,
        super::metrics::metrics,
        document,
        super::join::join,
        super::join::renew,
        super::join::invite,
        super::nodes::status,
        super::nodes::list,
        super::nodes::show,
        super::nodes::why,
        super::output::show,
        super::output::answer,
        super::fleet::fleet,
        super::fleet::health,
        super::nodes::revoke,
        super::releases::list,
        super::releases::publish,
        super::releases::show,
        super::releases::blob_size,
        super::releases::put_blob,
        super::trust::show,
        super::trust::accept,
        super::trust::online_keys,
        super::deployments::plan,
        super::deployments::apply,
        super::rollouts::list,
        super::rollouts::begin,
        super::rollouts::plan,
        super::rollouts::show,
        super::rollouts::pause,
        super::rollouts::resume,
        super::rollouts::promote,
        super::rollouts::revert,
        super::rollouts::approve,
        super::rollouts::ignore_windows,
        super::groups::list,
        super::groups::set,
        super::groups::remove,
        super::rollouts::hold,
        super::rollouts::release,
        super::audit::list,
        super::users::list,
        super::users::add,
        super::users::remove,
        super::users::role,
        super::users::token,
        super::users::revoke,
        super::session::sign_in,
        super::session::show,
        super::session::sign_out,
        super::session::own_password,
        super::session::password,
        super::session::list,
        super::session::end_all,
        super::notify::list,
        super::notify::test,
        super::events::list,
        super::events::stream,
        super::files::metadata,
        super::files::manifest,
        super::files::blob,
    ),
    components(schemas(orangery_wire::rest::AuditEntry)),
    modifiers(&Security)
)]
struct Document;

/// The ways to show who one is, and for each route the least role that it takes. Whatever a token opens, a session does too.
struct Security;

impl utoipa::Modify for Security {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        for route in super::routes() {
            let Some(least) = route.audience.least_role() else { continue };
            let item = document.paths.paths.get_mut(route.path);
            let operation = item.and_then(|item| match route.method {
                Method::GET => item.get.as_mut(),
                Method::HEAD => item.head.as_mut(),
                Method::PUT => item.put.as_mut(),
                Method::DELETE => item.delete.as_mut(),
                _ => item.post.as_mut(),
            });
            if let Some(operation) = operation {
                let role = format!("Least role of a user: {least}.");
                let text =
                    operation.description.take().map_or_else(|| role.clone(), |text| format!("{text}\n\n{role}"));
                operation.description = Some(text);
                let session = SecurityRequirement::new("session", [] as [&str; 0]);
                operation.security.get_or_insert_default().push(session);
            }
        }
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("operator", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
        let cookie = ApiKeyValue::with_description(
            super::cookie::NAME,
            "What POST /v1/session has set. Methods other than GET and HEAD take the header x-orangery-csrf too, and an Origin \
             that is one of this coordinator's.",
        );
        components.add_security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
        components.add_security_scheme("scraper", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
        components.add_security_scheme(
            "node",
            SecurityScheme::MutualTls { description: None, deprecated: None, extensions: None },
        );
    }
}

/// The document as text, with a line break at the end.
pub fn text() -> String {
    // What a derive made always has a JSON form.
    Document::openapi().to_pretty_json().unwrap_or_default() + "\n"
}

/// This very description.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "coordinator", responses((status = 200, body = serde_json::Value)))]
pub(super) async fn document() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], text())
}
