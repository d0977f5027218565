//! `rate-limiting`: so many requests per second, minute, hour, day, month or year.
//!
//! Windows are fixed and aligned to the UTC calendar, as Kong's. Counting and checking are one step, so a burst cannot
//! overshoot. Counters live in this process (`policy: local`) and survive reloads; `cluster` and `redis` are refused.
//! Memory is bounded: when a shard of counters is full of live ones, further clients are let through uncounted.

mod counters;
mod window;

use counters::{Counters, Usage};
use http::StatusCode;
use http::header::{HeaderName, HeaderValue, RETRY_AFTER};
use plugin::{
    Context, DefaultValue, ErrorReply, Field, Flow, Handler, Id, Kind, Plugin, Problem, Reply, Schema, Setup,
};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::sync::Arc;
use window::Period;

/// Accepted beside a local policy, as `deck` dumps them, and not used.
const REDIS: Kind = Kind::Record(&[
    Field::optional("host", Kind::Text, ""),
    Field::optional("port", PORT, ""),
    Field::optional("timeout", MILLIS, ""),
    Field::optional("username", Kind::Text, ""),
    Field::optional("password", Kind::Text, ""),
    Field::optional("database", Kind::Int { min: 0, max: i64::MAX }, ""),
    Field::optional("ssl", Kind::Bool, ""),
    Field::optional("ssl_verify", Kind::Bool, ""),
    Field::optional("server_name", Kind::Text, ""),
]);
const PORT: Kind = Kind::Int { min: 0, max: 65_535 };
const MILLIS: Kind = Kind::Int { min: 0, max: 2_147_483_646 };

const fn limit(name: &'static str, help: &'static str) -> Field {
    Field::optional(name, Kind::NumberAbove(0.0), help)
}

static SCHEMA: Schema = Schema {
    fields: &[
        limit("second", "requests a second"),
        limit("minute", "requests a minute"),
        limit("hour", "requests an hour"),
        limit("day", "requests a day"),
        limit("month", "requests a month"),
        limit("year", "requests a year"),
        Field::with_default(
            "limit_by",
            Kind::OneOf(&["consumer", "credential", "ip", "service", "header", "path"]),
            DefaultValue::Text("consumer"),
            "what is counted; the client's address if it is unknown",
        ),
        Field::optional("header_name", Kind::HeaderName, "the header, for limit_by header"),
        Field::optional("path", Kind::Text, "the path, for limit_by path"),
        Field::with_default(
            "policy",
            Kind::Choice {
                allowed: &["local"],
                refused: &[
                    ("cluster", "it needs a shared database, which a node here does not have"),
                    ("redis", "no Redis client is built in yet"),
                ],
            },
            DefaultValue::Text("local"),
            "where counters are kept",
        ),
        Field::with_default("fault_tolerant", Kind::Bool, DefaultValue::Bool(true), "local counters cannot fail"),
        Field::optional("redis", REDIS, "only for policy redis"),
        Field::optional("redis_host", Kind::Text, "old spelling of redis.host"),
        Field::optional("redis_port", PORT, "old spelling of redis.port"),
        Field::optional("redis_timeout", MILLIS, "old spelling of redis.timeout"),
        Field::optional("redis_username", Kind::Text, "old spelling of redis.username"),
        Field::optional("redis_password", Kind::Text, "old spelling of redis.password"),
        Field::optional("redis_database", Kind::Int { min: 0, max: i64::MAX }, "old spelling of redis.database"),
        Field::optional("redis_ssl", Kind::Bool, "old spelling of redis.ssl"),
        Field::optional("redis_ssl_verify", Kind::Bool, "old spelling of redis.ssl_verify"),
        Field::optional("redis_server_name", Kind::Text, "old spelling of redis.server_name"),
        Field::with_default("hide_client_headers", Kind::Bool, DefaultValue::Bool(false), "tell clients no limits"),
        Field::with_default(
            "error_code",
            Kind::Int { min: 100, max: 599 },
            DefaultValue::Int(429),
            "status over the limit",
        ),
        Field::with_default(
            "error_message",
            Kind::Text,
            DefaultValue::Text("API rate limit exceeded"),
            "message over the limit",
        ),
        Field::with_default("sync_rate", Kind::Number, DefaultValue::Int(-1), "only for policy redis"),
    ],
    check,
};

fn check(config: &Map<String, Value>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let limits: Vec<(Period, f64)> =
        Period::ALL.into_iter().filter_map(|period| Some((period, config.get(period.name())?.as_f64()?))).collect();
    if limits.is_empty() {
        problems.push(Problem::of_root("at least one of second, minute, hour, day, month, year is required"));
    }
    for pair in limits.windows(2) {
        let [(shorter, less), (longer, more)] = pair else { continue };
        if more < less {
            let what = format!(
                "the limit for {}({more:.1}) cannot be lower than the limit for {}({less:.1})",
                longer.name(),
                shorter.name()
            );
            problems.push(Problem::of_field(longer.name(), what));
        }
    }
    let limit_by = config.get("limit_by").and_then(Value::as_str);
    for (by, field) in [("header", "header_name"), ("path", "path")] {
        if limit_by == Some(by) && !config.contains_key(field) {
            problems.push(Problem::of_field(field, format!("required when limit_by is {by}")));
        }
    }
    problems
}

/// The plugin: the counters of all its configurations.
#[derive(Debug, Default)]
pub(crate) struct RateLimiting {
    counters: Arc<Counters>,
}

#[derive(Deserialize)]
struct Config {
    limit_by: By,
    header_name: Option<String>,
    path: Option<String>,
    hide_client_headers: bool,
    error_code: u16,
    error_message: String,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum By {
    Consumer,
    Credential,
    Ip,
    Service,
    Header,
    Path,
}

impl Plugin for RateLimiting {
    fn name(&self) -> &'static str {
        "rate-limiting"
    }

    fn schema(&self) -> &'static Schema {
        &SCHEMA
    }

    fn configure(&self, value: &Value, setup: &Setup) -> Result<Arc<dyn Handler>, Vec<Problem>> {
        let config: Config = crate::read(value)?;
        let status = StatusCode::from_u16(config.error_code);
        let status = status.map_err(|_| vec![Problem::of_field("error_code", "expected an HTTP status")])?;
        let limits = Period::ALL.map(|period| value[period.name()].as_f64().map(Limit::new));
        let header = config.header_name.as_deref().and_then(|name| name.parse().ok());
        let counters = Arc::clone(&self.counters);
        Ok(Arc::new(Limiter { id: setup.config_id, limits, status, header, config, counters }))
    }
}

/// A limit and its header value.
struct Limit {
    requests: u64,
    value: HeaderValue,
}

impl Limit {
    fn new(requests: f64) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "saturates; the schema has it positive"
        )]
        let requests = requests.ceil() as u64;
        Self { requests, value: HeaderValue::from(requests) }
    }
}

struct Limiter {
    id: Id,
    limits: [Option<Limit>; 6],
    status: StatusCode,
    header: Option<HeaderName>,
    config: Config,
    counters: Arc<Counters>,
}

impl Handler for Limiter {
    fn access(&self, cx: &mut Context) -> Flow {
        let now_s = cx.now.wall.seconds();
        let limits = self.limits.each_ref().map(|limit| limit.as_ref().map(|limit| limit.requests));
        let key = self.key(cx);
        let usage = self.counters.take(key, &limits, now_s);
        let tightest = self.tightest(&usage, now_s);
        if !self.config.hide_client_headers {
            self.tell(cx, &usage, tightest.as_ref());
        }
        if !usage.exceeded {
            return Flow::Continue;
        }
        let retry = tightest.filter(|_| !self.config.hide_client_headers);
        Flow::Respond(Reply::Error(ErrorReply {
            status: self.status,
            message: self.config.error_message.clone().into(),
            headers: retry.map(|tightest| (RETRY_AFTER, HeaderValue::from(tightest.reset_s))).into_iter().collect(),
        }))
    }
}

/// The limit nearest to be reached.
struct Tightest {
    period: usize,
    remaining: u64,
    reset_s: u64,
}

impl Limiter {
    /// What the request is counted under. A random hash: clients cannot choose to share one.
    fn key(&self, cx: &Context) -> u64 {
        let by = match self.config.limit_by {
            By::Consumer => {
                cx.consumer.as_ref().map(|c| c.id).or(cx.credential.as_ref().map(|c| c.id)).map(|id| self.hash(1, id))
            }
            By::Credential => cx.credential.as_ref().map(|credential| self.hash(2, credential.id)),
            By::Ip => None,
            By::Service => cx.service.as_ref().map(|service| self.hash(3, service.id)),
            By::Header => {
                let value = self.header.as_ref().and_then(|name| cx.request.headers.get(name));
                value.map(|value| self.hash(4, value.as_bytes()))
            }
            By::Path => {
                let path = cx.request.uri.path();
                self.config.path.as_deref().filter(|wanted| *wanted == path).map(|path| self.hash(5, path))
            }
        };
        by.unwrap_or_else(|| self.hash(0, cx.client_ip))
    }

    fn hash(&self, kind: u8, identity: impl std::hash::Hash) -> u64 {
        self.counters.hash((self.id, kind, identity))
    }

    fn tightest(&self, usage: &Usage, now_s: u64) -> Option<Tightest> {
        let mut tightest: Option<Tightest> = None;
        for (at, period) in Period::ALL.into_iter().enumerate() {
            if self.limits[at].is_none() {
                continue;
            }
            let remaining = usage.remaining[at];
            // Of equals the longer window is the tighter one.
            if tightest.as_ref().is_none_or(|best| remaining <= best.remaining) {
                let reset_s = period.end_s(now_s).saturating_sub(now_s).max(1);
                tightest = Some(Tightest { period: at, remaining, reset_s });
            }
        }
        tightest
    }

    fn tell(&self, cx: &mut Context, usage: &Usage, tightest: Option<&Tightest>) {
        cx.response_headers.reserve(HEADERS_BYTES);
        for (at, limit) in self.limits.iter().enumerate() {
            if let Some(limit) = limit {
                let (limit_name, remaining_name) = &PERIOD_HEADERS[at];
                cx.response_headers.put(limit_name, &limit.value);
                cx.response_headers.put_number(remaining_name, usage.remaining[at]);
                cx.response_headers.never_repeats(remaining_name.as_str().as_bytes());
            }
        }
        let Some(tightest) = tightest else { return };
        if let Some(limit) = &self.limits[tightest.period] {
            cx.response_headers.put(&RATELIMIT_LIMIT, &limit.value);
        }
        cx.response_headers.put_number(&RATELIMIT_REMAINING, tightest.remaining);
        cx.response_headers.never_repeats(RATELIMIT_REMAINING.as_str().as_bytes());
        cx.response_headers.put_number(&RATELIMIT_RESET, tightest.reset_s);
    }
}

/// Room for the headers of one limit.
const HEADERS_BYTES: usize = 256;

// Made when the program is built: a name made for each request is looked up and hashed.
const RATELIMIT_LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const RATELIMIT_REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RATELIMIT_RESET: HeaderName = HeaderName::from_static("ratelimit-reset");
static PERIOD_HEADERS: [(HeaderName, HeaderName); 6] = [
    names("x-ratelimit-limit-second", "x-ratelimit-remaining-second"),
    names("x-ratelimit-limit-minute", "x-ratelimit-remaining-minute"),
    names("x-ratelimit-limit-hour", "x-ratelimit-remaining-hour"),
    names("x-ratelimit-limit-day", "x-ratelimit-remaining-day"),
    names("x-ratelimit-limit-month", "x-ratelimit-remaining-month"),
    names("x-ratelimit-limit-year", "x-ratelimit-remaining-year"),
];

const fn names(limit: &'static str, remaining: &'static str) -> (HeaderName, HeaderName) {
    (HeaderName::from_static(limit), HeaderName::from_static(remaining))
}

#[cfg(test)]
mod tests;
