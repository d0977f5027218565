//! What the program shows of itself and lets change: readiness, metrics, Kong's Admin API, the management API, and one
//! read-only page for people.
//!
//! Two routers, one for each listener: [`admin`] (Kong's Admin API, `/metrics`) and [`management`] (`/api/…` in RabbitMQ's
//! shapes for the broker's users, and the page). Invariants: every request passes [`guard`] first; only the Admin API changes
//! anything, and only entities ([`Control`]); nothing here holds a lock of the broker or the gateway longer than it takes to
//! copy figures.

mod guard;
mod kong;
mod management;
mod metrics;
mod page;
mod tokens;

pub use guard::Access;
pub use kong::{Clock, Control, Held, Kept, Reload, Variable, Worker};
pub use tokens::{Role, Tokens};

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::{Query, Request, State as Shared};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

/// What the routers show.
pub struct State {
    /// The broker.
    pub broker: Arc<broker::Broker>,
    /// The engine under it.
    pub engine: Arc<dyn engine::Engine>,
    /// The gateway.
    pub gateway: Arc<gateway::Gateway>,
    /// The entities, and the way to change them.
    pub control: Control,
    /// Reads a YAML text, for `POST /config`; or says why it cannot be read.
    pub parse_yaml: fn(&str) -> Result<serde_json::Value, String>,
    /// Who may use the Admin API, beside the broker's administrators.
    pub tokens: ArcSwap<Tokens>,
    /// Everything listens and nothing drains.
    pub ready: AtomicBool,
    /// When the process started.
    pub started_at: SystemTime,
    /// The time now.
    pub now: Box<dyn Fn() -> model::Now + Send + Sync>,
    /// Lines that an access log could not take, if there is one.
    pub log_lines_dropped: Box<dyn Fn() -> u64 + Send + Sync>,
    /// The product's version.
    pub version: &'static str,
}

/// The admin listener's router.
pub fn admin(state: Arc<State>, access: Access) -> Router {
    let router = Router::new()
        .route("/status/ready", get(ready))
        .route("/metrics", get(metrics))
        .fallback(|Shared(state): Shared<Arc<State>>, request: Request| kong::handle(state, request))
        .with_state(Arc::clone(&state));
    guard::admit(router, state, access)
}

/// The management listener's router.
pub fn management(state: Arc<State>, access: Access) -> Router {
    let router = Router::new()
        .merge(page::router())
        .nest("/api", guard::log_in(management::router(), &state, access))
        .fallback(not_found)
        .with_state(Arc::clone(&state));
    guard::protect(router, state, access)
}

async fn not_found() -> Response {
    json(StatusCode::NOT_FOUND, &serde_json::json!({ "message": "Not found" }))
}

async fn ready(Shared(state): Shared<Arc<State>>) -> Response {
    if state.ready.load(Ordering::Acquire) {
        json(StatusCode::OK, &serde_json::json!({ "message": "ready" }))
    } else {
        json(StatusCode::SERVICE_UNAVAILABLE, &serde_json::json!({ "message": "not ready" }))
    }
}

/// `?queues=true` adds the queues one by one, up to a cap.
async fn metrics(Shared(state): Shared<Arc<State>>, Query(query): Query<HashMap<String, String>>) -> Response {
    let per_queue = query.get("queues").is_some_and(|value| value == "true");
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::render(&state, per_queue)).into_response()
}

fn json(status: StatusCode, value: &serde_json::Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json; charset=utf-8")], value.to_string()).into_response()
}

/// The name of a route or service, or its id if it has none.
fn label(name: Option<&str>, id: plugin::Id) -> String {
    name.map_or_else(|| id.to_string(), str::to_owned)
}
