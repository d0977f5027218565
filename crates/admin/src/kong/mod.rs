//! Kong's Admin API: looking at entities and changing them while the gateway serves.
//!
//! | module | what |
//! |---|---|
//! | `paths` | which endpoint a path is |
//! | `body`, `form`, `multipart`, `infer` | what a request says |
//! | `crud`, `tags`, `declared` | entities |
//! | `health` | what the balancer knows of targets, and is told |
//! | `schemas`, `info` | what clients ask before they begin |
//! | `control`, `keep`, `expiry` | how a change comes into force, stays, and ends with its time |
//! | `answer` | what every answer carries |
//!
//! Invariants: what a request reads is one state of the entities; what it changes is in force and on disk when it is
//! answered. Who may do what is the guard's matter. Reference: Kong 3.9, `kong/api`.

mod answer;
mod body;
mod control;
mod crud;
mod declared;
mod expiry;
mod form;
mod hash;
mod health;
mod infer;
mod info;
mod keep;
mod multipart;
mod paths;
mod schemas;
mod tags;

pub use control::{Clock, Control, Held, Reload, Variable, Worker};
pub use keep::Kept;

use crate::State;
use answer::{Answer, message};
use axum::body::Body;
use axum::http::{self, Method, Response, StatusCode};
use body::{Arguments, Raw};
use crud::Outcome;
use entities::{Kind, Store};
use paths::Endpoint;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::Instant;

const READS: &str = "GET, HEAD, OPTIONS";
const POSTS: &str = "OPTIONS, POST";
const PUTS: &str = "OPTIONS, PUT";
const CONFIG: &str = "GET, HEAD, OPTIONS, POST";

/// What the API is made of.
struct Api {
    state: Arc<State>,
}

/// A request, read to its end.
struct Request {
    method: Method,
    query: Vec<(String, String)>,
    /// When it came, in milliseconds since 1970.
    now_ms: u64,
    /// What the body says, or the answer to one that cannot be read: only who wants it is told.
    arguments: Result<Arguments, Answer>,
}

impl Request {
    /// The first value of a query parameter.
    fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// What the body says.
    ///
    /// # Errors
    /// The answer to one that cannot be read.
    fn arguments(&self) -> Result<&Arguments, Answer> {
        self.arguments.as_ref().map_err(Answer::clone)
    }

    /// What the body says about an entity of this kind. `key` is the entity it is about, if there is one already.
    ///
    /// # Errors
    /// The answer to one that cannot be read.
    fn body(&self, api: &Api, store: &Store, kind: Kind, key: Option<&str>) -> Result<Map<String, Value>, Answer> {
        let arguments = self.arguments()?;
        let mut values = arguments.values.clone();
        if arguments.untyped {
            let name = values.get("name").and_then(Value::as_str).map(str::to_owned).or_else(|| {
                let plugin = key.and_then(|key| store.find(Kind::Plugins, key).ok().flatten())?;
                plugin.record().get("name")?.as_str().map(str::to_owned)
            });
            infer::entity(&mut values, kind, name.as_deref(), api.state.gateway.registry());
        }
        Ok(values)
    }
}

/// Answers a request.
pub(crate) async fn handle(state: Arc<State>, request: http::Request<Body>) -> Response<Body> {
    let began = Instant::now();
    let method = request.method().clone();
    let answer = Api { state }.answer(request).await.unwrap_or_else(|refused| refused);
    answer.into_response(&method, began.elapsed())
}

/// Does what takes long on a thread that serves nobody.
async fn elsewhere<T: Send + 'static>(work: impl FnOnce() -> Result<T, Answer> + Send + 'static) -> Result<T, Answer> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|failed| {
        tracing::error!(%failed, "a request to the Admin API");
        Err(message(StatusCode::INTERNAL_SERVER_ERROR, "An unexpected error occurred"))
    })
}

impl Api {
    async fn answer(&self, request: http::Request<Body>) -> Result<Answer, Answer> {
        let (head, body) = request.into_parts();
        let segments = paths::segments(head.uri.path());
        let names: Vec<&str> = segments.iter().map(String::as_str).collect();
        // Held until the answer.
        let _room;
        let (query, now_ms) = (body::query(head.uri.query())?, self.state.control.now().wall.0);
        let mut read = Request { query, now_ms, method: head.method, arguments: Ok(Arguments::default()) };
        if matches!(read.method, Method::POST | Method::PUT | Method::PATCH) {
            let with_yaml = names == ["config"];
            _room = self.state.control.room_for(&head.headers)?;
            let raw = Raw::read(&head.headers, body, with_yaml).await?;
            read.arguments = if raw.is_large() { elsewhere(move || raw.arguments()).await } else { raw.arguments() };
        }
        if let Some(answer) = self.special(&names, &read) {
            return Ok(answer);
        }
        if names == ["config"] && read.method == Method::POST {
            let state = Arc::clone(&self.state);
            let alter = elsewhere(move || declared::replace(&state, &read)).await?;
            return Ok(self.state.control.change(alter).await);
        }
        let endpoint = Endpoint::of(&segments).ok_or_else(Answer::not_found)?;
        let store = self.state.control.store();
        Ok(match crud::perform(self, &store, endpoint, &read)? {
            Outcome::Now(answer) => answer,
            Outcome::Change(alter) => self.state.control.change(alter).await,
        })
    }

    /// Paths that are not those of an entity.
    fn special(&self, names: &[&str], request: &Request) -> Option<Answer> {
        let store = self.state.control.store();
        let reads = |answer: &dyn Fn() -> Answer| match request.method {
            Method::GET | Method::HEAD => answer(),
            Method::OPTIONS => Answer::options(READS),
            _ => Answer::method_not_allowed(READS),
        };
        let posts = |answer: &dyn Fn() -> Answer| match request.method {
            Method::POST => answer(),
            Method::OPTIONS => Answer::options(POSTS),
            _ => Answer::method_not_allowed(POSTS),
        };
        let puts = |answer: &dyn Fn() -> Result<Answer, Answer>| match request.method {
            Method::PUT => answer().unwrap_or_else(|refused| refused),
            Method::OPTIONS => Answer::options(PUTS),
            _ => Answer::method_not_allowed(PUTS),
        };
        Some(match *names {
            [] => reads(&|| info::root(self)),
            ["config"] if request.method != Method::POST => match request.method {
                Method::GET | Method::HEAD => declared::show(&store, request.now_ms),
                Method::OPTIONS => Answer::options(CONFIG),
                _ => Answer::method_not_allowed(CONFIG),
            },
            ["status"] => reads(&|| info::status(self)),
            ["endpoints"] => reads(&info::endpoints),
            ["tags"] => reads(&|| tags::list(&store, None, request)),
            ["tags", tag] => reads(&|| tags::list(&store, Some(tag), request)),
            ["plugins", "enabled"] => reads(&|| info::enabled_plugins(self)),
            ["plugins", "schema", name] => reads(&|| schemas::plugin_config(self, name)),
            ["schemas", name, "validate"] => posts(&|| schemas::validate(self, name, request)),
            ["schemas", "plugins", name] => reads(&|| schemas::plugin(self, name)),
            ["schemas", "vaults", name] => reads(&|| schemas::vault(name)),
            ["schemas", name] => reads(&|| schemas::entity(name)),
            ["upstreams", upstream, "health"] => {
                reads(&|| health::show(self, &store, upstream, request).unwrap_or_else(|refused| refused))
            }
            ["upstreams", upstream, "targets", target, word @ ("healthy" | "unhealthy")] => {
                puts(&|| health::set(self, &store, upstream, target, None, word == "healthy"))
            }
            ["upstreams", upstream, "targets", target, address, word @ ("healthy" | "unhealthy")] => {
                puts(&|| health::set(self, &store, upstream, target, Some(address), word == "healthy"))
            }
            ["upstreams", upstream, "targets", "all"] => {
                let reference = Kind::Targets.reference("upstream")?;
                let under = Some(paths::Under { key: upstream.to_owned(), reference });
                reads(&|| crud::list(&store, Kind::Targets, under.as_ref(), request).unwrap_or_else(|refused| refused))
            }
            _ => return None,
        })
    }
}
