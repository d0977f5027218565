//! `queue-publish`: an HTTP request becomes a message, answered 202 once the message is where it was promised to be.
//!
//! A service of `protocol: queue` runs it with its defaults; a configuration of the plugin (global, service or route)
//! changes them, or names a queue or exchange of its own. A configuration that names neither leaves requests alone
//! whose service is not a queue.
//!
//! ```text
//! body                        -> body
//! Content-Type, -Encoding     -> content_type, content_encoding
//! correlation-id's header, or X-Correlation-ID -> correlation_id
//! allowed headers, trace context too           -> headers, names in lower case
//! a new UUID                  -> message_id, and `id` of the answer
//! ```
//!
//! Credentials never travel unless an operator lists them: the default allow list names no `Authorization`, no `Cookie`.
//! Errors are RFC 9457 problems.

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use model::limits::MESSAGE_BYTES_MAX;
use model::{Principal, Properties, Table, Value};
use plugin::{
    Context, DefaultValue, Field, Flow, Handler, Kind, Plugin, Problem, Publish, PublishError, QueueTarget, Reply,
    Schema, Services, Setup, Then,
};
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use std::sync::Arc;
use uuid::Uuid;

/// Headers that travel by default; `ce-*` is every header of a CloudEvent.
const FORWARDED: &[&str] = &[
    "traceparent",
    "tracestate",
    "baggage",
    "x-request-id",
    "x-correlation-id",
    "kong-request-id",
    "idempotency-key",
    "ce-*",
];

static SCHEMA: Schema = Schema {
    fields: &[
        Field::optional("queue", Kind::Text, "the queue; default is the service's, if its protocol is queue"),
        Field::optional("exchange", Kind::Text, "an exchange, instead of a queue"),
        Field::optional("routing_key", Kind::Text, "routing key for the exchange"),
        Field::optional("vhost", Kind::Text, "virtual host; default the service's, else /"),
        Field::optional("user", Kind::Text, "whose permissions apply; default the service's, else guest"),
        Field::with_default(
            "forward_headers",
            Kind::List { of: &Kind::Text, len_min: 0 },
            DefaultValue::Texts(FORWARDED),
            "headers that travel with the message; a trailing * stands for any rest",
        ),
        Field::with_default(
            "max_body_bytes",
            Kind::Int { min: 0, max: MESSAGE_BYTES_MAX as i64 },
            DefaultValue::Int(8 * 1024 * 1024),
            "a larger body is answered 413",
        ),
        Field::with_default("persistent", Kind::Bool, DefaultValue::Bool(true), "whether messages survive a restart"),
        Field::optional("priority", Kind::Int { min: 0, max: 255 }, "priority of the messages"),
        Field::optional(
            "expiration_ms",
            Kind::Int { min: 0, max: model::limits::TTL_MS_MAX as i64 },
            "time to live of the messages",
        ),
        Field::with_default(
            "timeout_ms",
            Kind::Int { min: 1, max: 3_600_000 },
            DefaultValue::Int(5_000),
            "how long storing may take before 504",
        ),
    ],
    check,
};

fn check(config: &Map<String, Json>) -> Vec<Problem> {
    let has = |name: &str| config.contains_key(name);
    let mut problems = Vec::new();
    if has("queue") && has("exchange") {
        problems.push(Problem::of_field("exchange", "give either a queue or an exchange"));
    }
    if has("routing_key") && !has("exchange") {
        problems.push(Problem::of_field("routing_key", "only with an exchange"));
    }
    problems
}

/// The plugin.
#[derive(Debug)]
pub(crate) struct QueuePublish;

#[derive(Deserialize)]
struct Config {
    queue: Option<String>,
    exchange: Option<String>,
    #[serde(default)]
    routing_key: String,
    vhost: Option<String>,
    user: Option<String>,
    forward_headers: Vec<String>,
    max_body_bytes: usize,
    persistent: bool,
    priority: Option<u8>,
    expiration_ms: Option<u64>,
    timeout_ms: u32,
}

impl Plugin for QueuePublish {
    fn name(&self) -> &'static str {
        "queue-publish"
    }

    fn schema(&self) -> &'static Schema {
        &SCHEMA
    }

    fn configure(&self, config: &Json, setup: &Setup) -> Result<Arc<dyn Handler>, Vec<Problem>> {
        let config: Config = crate::read(config)?;
        let forward = config.forward_headers.iter().map(|name| Allowed::new(name)).collect();
        Ok(Arc::new(Publisher { forward, config, services: Arc::clone(&setup.services) }))
    }

    // The body's limit must be known before the consumer is.
    fn allows_consumer_scope(&self) -> bool {
        false
    }
}

/// A name of the allow list.
enum Allowed {
    Exact(String),
    Prefix(String),
}

impl Allowed {
    fn new(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        match text.strip_suffix('*') {
            Some(prefix) => Self::Prefix(prefix.to_owned()),
            None => Self::Exact(text),
        }
    }

    fn matches(&self, name: &HeaderName) -> bool {
        match self {
            Self::Exact(exact) => name.as_str() == exact,
            Self::Prefix(prefix) => name.as_str().starts_with(prefix),
        }
    }
}

struct Publisher {
    forward: Vec<Allowed>,
    config: Config,
    services: Arc<dyn Services>,
}

/// Where a message goes, and its name in answers.
struct Target {
    principal: Principal,
    exchange: String,
    routing_key: String,
}

impl Target {
    /// What an answer calls it: the queue, or the exchange.
    fn name(&self) -> (&'static str, String) {
        if self.exchange.is_empty() { ("queue", self.routing_key.clone()) } else { ("exchange", self.exchange.clone()) }
    }
}

impl Handler for Publisher {
    fn access(&self, cx: &mut Context) -> Flow {
        let Some(target) = self.target(cx.queue.as_deref()) else { return Flow::Continue };
        let id = Uuid::new_v4().to_string();
        let name = target.name();
        let prefer_async = prefers_async(&cx.request.headers);
        let publish = Publish {
            principal: target.principal,
            exchange: target.exchange,
            routing_key: target.routing_key,
            properties: self.properties(cx, &id),
            body: cx.body.take().unwrap_or_default(),
            mandatory: true,
            timeout_ms: self.config.timeout_ms,
        };
        let stored = self.services.publish(publish);
        Flow::Wait(Box::pin(async move {
            Then::Respond(Reply::Full(match stored.await {
                Ok(_) => accepted(&id, name, prefer_async),
                Err(error) => refused(&error, &name.1),
            }))
        }))
    }

    fn body_bytes_max(&self) -> Option<usize> {
        Some(self.config.max_body_bytes)
    }

    fn applies(&self, cx: &Context) -> bool {
        cx.queue.is_some() || self.config.queue.is_some() || self.config.exchange.is_some()
    }
}

impl Publisher {
    fn target(&self, service: Option<&QueueTarget>) -> Option<Target> {
        let config = &self.config;
        let (exchange, routing_key) = match (&config.exchange, &config.queue, service) {
            (Some(exchange), _, _) => (exchange.clone(), config.routing_key.clone()),
            (None, Some(queue), _) => (String::new(), queue.clone()),
            (None, None, Some(service)) => (String::new(), service.queue.clone()),
            (None, None, None) => return None,
        };
        let of_service = service.map(|service| &service.principal);
        let or = |own: &Option<String>, service: Option<&Arc<str>>, default: &str| match (own, service) {
            (Some(own), _) => own.as_str().into(),
            (None, Some(service)) => Arc::clone(service),
            (None, None) => default.into(),
        };
        let principal = Principal {
            user: or(&config.user, of_service.map(|principal| &principal.user), "guest"),
            vhost: or(&config.vhost, of_service.map(|principal| &principal.vhost), "/"),
        };
        Some(Target { principal, exchange, routing_key })
    }

    fn properties(&self, cx: &Context, id: &str) -> Properties {
        let headers = &cx.request.headers;
        let text = |value: &HeaderValue| value.to_str().ok().filter(|text| text.len() <= 255).map(str::to_owned);
        let header = |name: HeaderName| headers.get(name).and_then(text);
        let correlation = cx.correlation_id.as_ref().and_then(text);
        let mut table = Table::new();
        for (name, value) in headers {
            if self.forward.iter().any(|allowed| allowed.matches(name)) {
                table.0.push((name.as_str().to_owned(), Value::Text(Bytes::copy_from_slice(value.as_bytes()))));
            }
        }
        Properties {
            content_type: header(CONTENT_TYPE),
            content_encoding: header(CONTENT_ENCODING),
            headers: (!table.is_empty()).then_some(table),
            delivery_mode: Some(if self.config.persistent { 2 } else { 1 }),
            priority: self.config.priority,
            correlation_id: correlation.or_else(|| header(HeaderName::from_static("x-correlation-id"))),
            expiration: self.config.expiration_ms.map(|ms| ms.to_string()),
            message_id: Some(id.to_owned()),
            timestamp: Some(cx.now.wall.seconds()),
            ..Properties::default()
        }
    }
}

/// `Prefer: respond-async` (RFC 7240): every answer here is asynchronous, so the preference is met.
fn prefers_async(headers: &HeaderMap) -> bool {
    let mut preferences = headers.get_all("prefer").iter().flat_map(|value| value.as_bytes().split(|b| *b == b','));
    preferences.any(|preference| preference.trim_ascii().eq_ignore_ascii_case(b"respond-async"))
}

fn accepted(id: &str, (kind, name): (&str, String), prefer_async: bool) -> Response<Bytes> {
    let body = json!({"id": id, kind: name, "status": "queued"});
    let mut response = answer(StatusCode::ACCEPTED, "application/json; charset=utf-8", &body);
    if prefer_async {
        response.headers_mut().insert("preference-applied", HeaderValue::from_static("respond-async"));
    }
    response
}

/// The answer to a message that was not stored, as far as anyone knows.
fn refused(error: &PublishError, name: &str) -> Response<Bytes> {
    let (status, retry, detail) = match error {
        PublishError::NotFound(what) => (StatusCode::NOT_FOUND, None, what.clone()),
        PublishError::NotRouted => (StatusCode::NOT_FOUND, None, format!("no queue takes messages for `{name}`")),
        PublishError::AccessRefused(what) => (StatusCode::FORBIDDEN, None, what.clone()),
        PublishError::TooLarge { bytes_max } => {
            (StatusCode::PAYLOAD_TOO_LARGE, None, format!("a message for `{name}` has at most {bytes_max} bytes"))
        }
        PublishError::Busy => {
            (StatusCode::TOO_MANY_REQUESTS, Some("1"), "the broker takes no more messages just now".to_owned())
        }
        PublishError::Unavailable(what) => (StatusCode::SERVICE_UNAVAILABLE, Some("1"), what.clone()),
        PublishError::Timeout => (
            StatusCode::GATEWAY_TIMEOUT,
            None,
            "the message was not stored in time and may exist; repeat with the same Idempotency-Key".to_owned(),
        ),
    };
    let title = status.canonical_reason().unwrap_or_default();
    let body = json!({"type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail});
    let mut response = answer(status, "application/problem+json", &body);
    if let Some(seconds) = retry {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(seconds));
    }
    response
}

fn answer(status: StatusCode, content_type: &'static str, body: &Json) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests;
