//! `resilience` and `discovery` of an upstream: what Kong does not have. Everything is off until it is named; the names are Envoy's where it
//! has them, times are milliseconds.

use plugin::schema::syntax;
use plugin::{DefaultValue, Field, Kind as FieldKind, Problem, ProblemKind, Schema, Segment};

const PERCENT: FieldKind = FieldKind::Int { min: 0, max: 100 };
const SOME_PERCENT: FieldKind = FieldKind::Int { min: 1, max: 100 };
const COUNT: FieldKind = FieldKind::Int { min: 0, max: 4_294_967_295 };
const SOME: FieldKind = FieldKind::Int { min: 1, max: 4_294_967_295 };

const fn field(name: &'static str, kind: FieldKind, default: i64, help: &'static str) -> Field {
    Field::with_default(name, kind, DefaultValue::Int(default), help)
}

const fn part(name: &'static str, fields: &'static [Field], help: &'static str) -> Field {
    Field::optional(name, FieldKind::Record(fields), help).nullable()
}

pub(super) static RESILIENCE: &[Field] = &[
    part(
        "outlier_detection",
        &[
            field("consecutive_5xx", SOME, 5, "failures in a row"),
            field(
                "base_ejection_time_ms",
                SOME,
                30_000,
                "how long the first ejection takes; the n-th takes n times that",
            ),
            field("max_ejection_time_ms", SOME, 300_000, "the longest ejection"),
            field("max_ejection_percent", PERCENT, 10, "addresses that may be ejected at a time, but always one"),
        ],
        "an address that fails is left out for a while",
    ),
    part(
        "breaker",
        &[
            field("failure_percent", SOME_PERCENT, 50, "requests that fail before it opens"),
            field("minimum_requests", SOME, 20, "requests before the percentage counts"),
            field("window_ms", SOME, 10_000, "how far back it looks"),
            field("open_ms", SOME, 5_000, "how long it stays open before it tries"),
            field("half_open_requests", SOME, 1, "requests it lets through while half-open"),
        ],
        "an upstream that fails is left alone for a while",
    ),
    Field::optional("fallback", FieldKind::Text, "id or name of the service that answers meanwhile"),
    part(
        "retry",
        &[
            Field::with_default(
                "http_statuses",
                FieldKind::List { of: &FieldKind::Int { min: 100, max: 999 }, len_min: 0 },
                DefaultValue::Ints(&[502, 503, 504]),
                "statuses worth another try",
            ),
            Field::with_default(
                "methods",
                FieldKind::Set { of: &FieldKind::Like(&syntax::METHOD), len_min: 0 },
                DefaultValue::Texts(&["GET", "HEAD", "OPTIONS", "PUT", "DELETE"]),
                "methods that may be sent again after an answer",
            ),
            field("per_try_timeout_ms", COUNT, 0, "how long one try may take; 0 leaves it to the service"),
            field("budget_percent", PERCENT, 20, "retries under way, of requests under way"),
            field("min_retry_concurrency", COUNT, 3, "retries that are always allowed"),
            field("backoff_base_ms", COUNT, 25, "the longest wait before the first retry; it doubles with each"),
            field("backoff_max_ms", COUNT, 250, "the longest wait"),
            field("retry_after_max_ms", COUNT, 1_000, "the longest Retry-After that is waited for"),
        ],
        "which answers are asked for again",
    ),
    part(
        "hedge",
        &[
            Field::required("delay_ms", SOME, "how long the first request may take before another is sent"),
            field("extra_requests", FieldKind::Int { min: 1, max: 3 }, 1, "requests beside the first"),
        ],
        "a second request if the first is slow",
    ),
    part(
        "slow_start",
        &[
            field("window_ms", SOME, 30_000, "time until an address has all of its weight"),
            field("min_weight_percent", SOME_PERCENT, 10, "what it begins with"),
        ],
        "a new address gets its share step by step",
    ),
    field("panic_threshold", PERCENT, 0, "with less weight than that available, health is not looked at; 0 is off"),
    part(
        "bulkhead",
        &[
            field("max_requests", SOME, 1_024, "requests under way"),
            Field::optional("max_connections", SOME, "connections to all targets together"),
            field("max_pending_requests", COUNT, 0, "requests that wait for their turn, or for a connection"),
            field("queue_timeout_ms", SOME, 1_000, "how long one waits"),
        ],
        "requests and connections at a time",
    ),
];

/// A catalogue that lists the upstream's targets.
pub(super) static DISCOVERY: Schema = Schema {
    fields: &[
        Field::required("type", FieldKind::OneOf(&["consul", "eureka"]), "which catalogue"),
        Field::required("address", FieldKind::Text, "URL of the catalogue, such as http://127.0.0.1:8500"),
        Field::required("service", FieldKind::Text, "what the service is called there"),
        field("interval_ms", FieldKind::Int { min: 1_000, max: 600_000 }, 30_000, "time between two questions"),
        field("timeout_ms", SOME, 10_000, "time for an answer"),
        Field::optional("datacenter", FieldKind::Text, "Consul: the datacenter"),
        Field::optional(
            "tags",
            FieldKind::Set { of: &FieldKind::Text, len_min: 0 },
            "Consul: tags that an instance must have",
        ),
        Field::optional("token", FieldKind::Text, "Consul: the token of the request").secret(),
    ],
    check: |record| {
        if record.get("type").is_none_or(|kind| kind != "eureka") {
            return Vec::new();
        }
        let given = |field: &&str| record.get(*field).is_some_and(|value| !value.is_null());
        let problem = |field: &str| Problem {
            path: vec![Segment::Field(field.to_owned())],
            kind: ProblemKind::Value { message: "value must be null".to_owned(), expected: None },
        };
        ["datacenter", "tags", "token"].into_iter().filter(given).map(problem).collect()
    },
};
