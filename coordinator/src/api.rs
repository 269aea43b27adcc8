//! The REST API and the files that nodes fetch. docs/protocol.md has it for readers, docs/openapi.json for programs.
//!
//! Every route is one line of [`routes`], with its audience. What is not there does not exist; what is there is guarded.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};

use axum::Router;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodRouter, delete, get, head, post, put};
use orangery_wire::Digest;
use tokio::sync::watch;

pub mod audience;
mod audit;
mod body;
pub mod cookie;
mod dashboard;
mod deployments;
mod entrance;
pub mod error;
mod events;
mod failures;
mod files;
mod fleet;
mod groups;
mod headers;
mod join;
mod metrics;
mod nodes;
mod notify;
pub mod once;
pub mod openapi;
mod origin;
mod output;
mod pages;
mod passwords;
mod range;
mod releases;
mod rollouts;
mod session;
mod trust;
mod unheard;
mod users;

use crate::artifacts::Artifacts;
use crate::broker::Broker;
use crate::ca::Ca;
use crate::engine::{Clock, Engine};
use crate::metrics::Metrics;
use crate::notify::Targets;
use crate::repository::Repository;
use crate::store::{Reader, StoreError, View};
use audience::{Audience, guard};
pub use entrance::Entrance;
use error::ApiError;
use headers::headers;

/// Everything that routes need.
pub struct Parts {
    /// Changes go there.
    pub engine: Engine,
    /// Questions go there.
    pub reader: Reader,
    /// The artifacts.
    pub artifacts: Artifacts,
    /// Metadata and manifests.
    pub repository: Arc<Repository>,
    /// Issues certificates.
    pub ca: Ca,
    /// SHA-256 of the token that opens the metrics and nothing else, if there is one.
    pub metrics_token: Option<Digest>,
    /// What is counted for Prometheus.
    pub metrics: Metrics,
    /// The embedded broker, as long as it runs.
    pub broker: Weak<Broker>,
    /// The database's file.
    pub database: PathBuf,
    /// Where nodes reach this listener: `https://HOST:PORT`.
    pub url: String,
    /// Where nodes reach the broker: `HOST:PORT`.
    pub mqtt: String,
    /// Targets of notifications.
    pub notify: Arc<Targets>,
    /// Whether Home Assistant's broker is reached, if there should be one.
    pub home_assistant: Option<Arc<AtomicBool>>,
    /// The time.
    pub clock: Clock,
    /// Says true when event streams should end.
    pub stopping: watch::Receiver<bool>,
    /// What is remembered of who comes in, or tries to.
    pub entrance: Entrance,
}

/// The parts, as routes have them.
pub type Shared = Arc<Parts>;

impl Parts {
    /// Reads from the database, off the threads that serve requests.
    async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self, View<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let parts = self.clone();
        let read = tokio::task::spawn_blocking(move || parts.reader.read(|view| work(&parts, view)));
        Ok(read.await.map_err(|error| ApiError::internal(&error))??)
    }

    /// Does what waits for the disk off the threads that serve requests.
    async fn blocking<T, E>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, E> + Send + 'static,
    ) -> Result<T, ApiError>
    where
        T: Send + 'static,
        E: Send + 'static,
        ApiError: From<E>,
    {
        let parts = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&parts));
        Ok(done.await.map_err(|error| ApiError::internal(&error))??)
    }
}

/// One route.
pub struct Route {
    /// The method. A GET route answers HEAD too, without the body.
    pub method: Method,
    /// The path, with `{names}`.
    pub path: &'static str,
    /// Who it is for.
    pub audience: Audience,
    answer: MethodRouter<Shared>,
}

/// Every route there is.
pub fn routes() -> Vec<Route> {
    use Audience::{
        Admin, Anyone, Node, NodeEvenExpired, NodeOrOperator, NodeOrViewer, Operator, Viewer, ViewerOrScraper,
    };
    let route = |method, path, audience, answer| Route { method, path, audience, answer };
    vec![
        route(Method::GET, "/", Anyone, get(dashboard::page)),
        route(Method::GET, "/assets/{file}", Anyone, get(dashboard::asset)),
        route(Method::GET, "/healthz", Anyone, get(nodes::healthz)),
        route(Method::GET, "/metrics", ViewerOrScraper, get(metrics::metrics)),
        route(Method::GET, "/v1/openapi.json", Anyone, get(openapi::document)),
        route(Method::POST, "/v1/join", Anyone, post(join::join)),
        route(Method::POST, "/v1/renew", NodeEvenExpired, post(join::renew)),
        route(Method::POST, "/v1/session", Anyone, post(session::sign_in)),
        route(Method::GET, "/v1/session", Viewer, get(session::show)),
        route(Method::DELETE, "/v1/session", Viewer, delete(session::sign_out)),
        route(Method::POST, "/v1/session/password", Viewer, post(session::own_password)),
        route(Method::GET, "/v1/status", Viewer, get(nodes::status)),
        route(Method::GET, "/v1/fleet", Viewer, get(fleet::fleet)),
        route(Method::GET, "/v1/nodes", Viewer, get(nodes::list)),
        route(Method::GET, "/v1/nodes/{node}", Viewer, get(nodes::show)),
        route(Method::GET, "/v1/nodes/{node}/why", Viewer, get(nodes::why)),
        route(Method::GET, "/v1/nodes/{node}/health", Viewer, get(fleet::health)),
        route(Method::GET, "/v1/nodes/{node}/output/{app}", Operator, get(output::show)),
        route(Method::POST, "/v1/output", Node, post(output::answer)),
        route(Method::POST, "/v1/nodes/{node}/revoke", Admin, post(nodes::revoke)),
        route(Method::POST, "/v1/nodes/{node}/hold", Operator, post(rollouts::hold)),
        route(Method::POST, "/v1/nodes/{node}/release", Operator, post(rollouts::release)),
        route(Method::POST, "/v1/invites", Operator, post(join::invite)),
        route(Method::GET, "/v1/releases", Viewer, get(releases::list)),
        route(Method::POST, "/v1/releases", Operator, post(releases::publish)),
        route(Method::GET, "/v1/releases/{app}/{version}", Viewer, get(releases::show)),
        route(Method::HEAD, "/v1/blobs/{digest}", Operator, head(releases::blob_size)),
        route(Method::PUT, "/v1/blobs/{digest}", Operator, put(releases::put_blob)),
        route(Method::GET, "/v1/trust", Viewer, get(trust::show)),
        route(Method::POST, "/v1/trust", Operator, post(trust::accept)),
        route(Method::POST, "/v1/trust/online-keys", Admin, post(trust::online_keys)),
        route(Method::POST, "/v1/deployments/plan", Viewer, post(deployments::plan)),
        route(Method::POST, "/v1/deployments", Operator, post(deployments::apply)),
        route(Method::GET, "/v1/rollouts", Viewer, get(rollouts::list)),
        route(Method::POST, "/v1/rollouts", Operator, post(rollouts::begin)),
        route(Method::POST, "/v1/rollouts/plan", Viewer, post(rollouts::plan)),
        route(Method::GET, "/v1/rollouts/{rollout}", Viewer, get(rollouts::show)),
        route(Method::POST, "/v1/rollouts/{rollout}/pause", Operator, post(rollouts::pause)),
        route(Method::POST, "/v1/rollouts/{rollout}/resume", Operator, post(rollouts::resume)),
        route(Method::POST, "/v1/rollouts/{rollout}/promote", Operator, post(rollouts::promote)),
        route(Method::POST, "/v1/rollouts/{rollout}/revert", Operator, post(rollouts::revert)),
        route(Method::POST, "/v1/rollouts/{rollout}/approve", Operator, post(rollouts::approve)),
        route(Method::POST, "/v1/rollouts/{rollout}/ignore-windows", Operator, post(rollouts::ignore_windows)),
        route(Method::GET, "/v1/groups", Viewer, get(groups::list)),
        route(Method::POST, "/v1/groups/{group}", Operator, post(groups::set)),
        route(Method::POST, "/v1/groups/{group}/remove", Operator, post(groups::remove)),
        route(Method::GET, "/v1/audit", Admin, get(audit::list)),
        route(Method::GET, "/v1/users", Admin, get(users::list)),
        route(Method::POST, "/v1/users", Admin, post(users::add)),
        route(Method::POST, "/v1/users/{user}/remove", Admin, post(users::remove)),
        route(Method::POST, "/v1/users/{user}/role", Admin, post(users::role)),
        route(Method::POST, "/v1/users/{user}/tokens", Admin, post(users::token)),
        route(Method::POST, "/v1/users/{user}/password", Admin, post(session::password)),
        route(Method::GET, "/v1/users/{user}/sessions", Admin, get(session::list)),
        route(Method::POST, "/v1/users/{user}/sessions/end", Admin, post(session::end_all)),
        route(Method::POST, "/v1/tokens/{token}/revoke", Admin, post(users::revoke)),
        route(Method::GET, "/v1/notify", Viewer, get(notify::list)),
        route(Method::POST, "/v1/notify/{target}/test", Admin, post(notify::test)),
        route(Method::GET, "/v1/events", Viewer, get(events::list)),
        route(Method::GET, "/v1/events/stream", Viewer, get(events::stream)),
        route(Method::GET, "/metadata/{file}", NodeOrViewer, get(files::metadata)),
        route(Method::GET, "/targets/{app}/{version}/{file}", NodeOrViewer, get(files::manifest)),
        route(Method::GET, "/blobs/{digest}", NodeOrOperator, get(files::blob)),
    ]
}

/// The router of all routes, each behind its guard.
pub fn router(shared: &Shared) -> Router {
    let mut router = Router::new();
    for route in routes() {
        let guarded = route.answer.layer(from_fn_with_state((shared.clone(), route.audience), guard));
        router = router.route(route.path, guarded);
    }
    router
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(nothing_there)
        .layer(from_fn(headers))
        .with_state(shared.clone())
}

async fn nothing_there(request: Request) -> ApiError {
    ApiError::not_found(format_args!("route {}", request.uri().path())).next("GET /v1/openapi.json lists all routes")
}

async fn method_not_allowed(request: Request) -> ApiError {
    let message = format!("{} is not for {}", request.method(), request.uri().path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
        .next("GET /v1/openapi.json lists all routes")
}
