//! Upstreams and their targets.

use super::resilience::{DISCOVERY, RESILIENCE};
use super::{CREATED_AT, Def, HEADERS, ID, PORT, TAGS, UPDATED_AT, cascade, restrict};
use crate::kind::Kind;
use crate::rules::Rules;
use crate::syntax::{TARGET, UPSTREAM_NAME};
use plugin::schema::syntax;
use plugin::{DefaultValue, Field, Kind as FieldKind, Problem};
use serde_json::{Map, Value};

pub(crate) static UPSTREAMS: Def = Def {
    endpoint_key: Some("name"),
    references: &[restrict("client_certificate", Kind::Certificates)],
    expand: algorithm_and_hash,
    rules,
    ..Def::new("upstreams", FIELDS)
};

pub(crate) static TARGETS: Def = Def {
    endpoint_key: Some("target"),
    references: &[cascade("upstream", Kind::Upstreams)],
    unique_together: &["upstream", "target"],
    ..Def::new(
        "targets",
        &[
            ID,
            Field::optional("created_at", FieldKind::TimestampMs, "").auto(),
            Field::optional("updated_at", FieldKind::TimestampMs, "").auto(),
            Field::required("upstream", FieldKind::Foreign("upstreams"), "the upstream it belongs to"),
            Field::required("target", FieldKind::Like(&TARGET), "host name or IP address and port; default 8000"),
            Field::with_default(
                "weight",
                FieldKind::Int { min: 0, max: 65_535 },
                DefaultValue::Int(100),
                "share of requests; 0 takes none",
            ),
            Field::optional("priority", PORT, "tier: used only when no lower one has a target to offer; default 0")
                .ours(),
            TAGS,
        ],
    )
};

const HASHES: FieldKind =
    FieldKind::OneOf(&["none", "consumer", "ip", "header", "cookie", "path", "query_arg", "uri_capture"]);
const COUNT: FieldKind = FieldKind::Int { min: 0, max: 255 };
const SECONDS: FieldKind = FieldKind::NumberIn { min: 0.0, max: 65_535.0 };
const STATUSES: FieldKind = FieldKind::List { of: &FieldKind::Int { min: 100, max: 999 }, len_min: 0 };
const PROBES: FieldKind = FieldKind::OneOf(&["tcp", "http", "https", "grpc", "grpcs"]);

const fn count(name: &'static str, help: &'static str) -> Field {
    Field::with_default(name, COUNT, DefaultValue::Int(0), help)
}

const fn interval() -> Field {
    Field::with_default("interval", SECONDS, DefaultValue::Int(0), "seconds between probes; 0 is off")
}

const fn statuses(default: &'static [i64], help: &'static str) -> Field {
    Field::with_default("http_statuses", STATUSES, DefaultValue::Ints(default), help)
}

const fn probe_type() -> Field {
    Field::with_default("type", PROBES, DefaultValue::Text("http"), "what is looked at")
}

const fn argument(name: &'static str, kind: FieldKind) -> Field {
    Field::optional(name, kind, "what is hashed")
}

static FIELDS: &[Field] = &[
    ID,
    CREATED_AT,
    Field::required("name", FieldKind::Like(&UPSTREAM_NAME), "host name by which services name it").unique(),
    UPDATED_AT,
    Field::with_default(
        "algorithm",
        FieldKind::OneOf(&["consistent-hashing", "least-connections", "round-robin", "latency"]),
        DefaultValue::Text("round-robin"),
        "how a target is chosen",
    ),
    Field::with_default("hash_on", HASHES, DefaultValue::Text("none"), "what is hashed"),
    Field::with_default("hash_fallback", HASHES, DefaultValue::Text("none"), "what is hashed if that is not there"),
    argument("hash_on_header", FieldKind::HeaderName),
    argument("hash_fallback_header", FieldKind::HeaderName),
    argument("hash_on_cookie", FieldKind::Like(&syntax::COOKIE_NAME)),
    Field::with_default(
        "hash_on_cookie_path",
        FieldKind::Like(&syntax::PATH),
        DefaultValue::Text("/"),
        "path of the cookie that is set",
    ),
    argument("hash_on_query_arg", FieldKind::Text),
    argument("hash_fallback_query_arg", FieldKind::Text),
    argument("hash_on_uri_capture", FieldKind::Text),
    argument("hash_fallback_uri_capture", FieldKind::Text),
    Field::with_default(
        "slots",
        FieldKind::Int { min: 10, max: 65_536 },
        DefaultValue::Int(10_000),
        "points of the ring of consistent hashing",
    ),
    Field::optional("healthchecks", FieldKind::Record(HEALTHCHECKS), "how it is found out which targets work"),
    TAGS,
    Field::optional("host_header", FieldKind::Like(&syntax::HOST_AND_PORT), "Host sent to the targets"),
    Field::optional("client_certificate", FieldKind::Foreign("certificates"), "certificate shown to the targets"),
    Field::with_default(
        "use_srv_name",
        FieldKind::Bool,
        DefaultValue::Bool(false),
        "whether SRV names are sent as Host",
    ),
    Field::optional("resilience", FieldKind::Record(RESILIENCE), "what an upstream can do beyond Kong")
        .nullable()
        .ours(),
    Field::optional("discovery", FieldKind::RuledRecord(&DISCOVERY), "a catalogue that lists its targets")
        .nullable()
        .ours(),
];

static HEALTHCHECKS: &[Field] = &[
    Field::optional("active", FieldKind::Record(ACTIVE), "probes"),
    Field::optional("passive", FieldKind::Record(PASSIVE), "what requests tell"),
    Field::with_default(
        "threshold",
        FieldKind::NumberIn { min: 0.0, max: 100.0 },
        DefaultValue::Int(0),
        "percent of weight that must work for any request to be sent",
    ),
];

static ACTIVE: &[Field] = &[
    probe_type(),
    Field::with_default("timeout", SECONDS, DefaultValue::Int(1), "seconds a probe may take"),
    Field::with_default(
        "concurrency",
        FieldKind::Int { min: 1, max: 2_147_483_648 },
        DefaultValue::Int(10),
        "targets probed at a time",
    ),
    Field::with_default("http_path", FieldKind::Like(&syntax::PATH), DefaultValue::Text("/"), "path of the probe"),
    Field::optional("https_sni", FieldKind::Like(&syntax::SNI), "server name of the probe"),
    Field::with_default(
        "https_verify_certificate",
        FieldKind::Bool,
        DefaultValue::Bool(true),
        "whether the target's certificate is checked",
    )
    .not_null(),
    Field::optional("headers", HEADERS, "headers of the probe"),
    Field::optional(
        "healthy",
        FieldKind::Record(&[
            interval(),
            statuses(&[200, 302], "statuses of success"),
            count("successes", "successes to be healthy; 0 is off"),
        ]),
        "probes of healthy targets",
    ),
    Field::optional(
        "unhealthy",
        FieldKind::Record(&[
            interval(),
            statuses(&[429, 404, 500, 501, 502, 503, 504, 505], "statuses of failure"),
            count("tcp_failures", "failed connections to be unhealthy; 0 is off"),
            count("timeouts", "timeouts to be unhealthy; 0 is off"),
            count("http_failures", "failures to be unhealthy; 0 is off"),
        ]),
        "probes of unhealthy targets",
    ),
];

static PASSIVE: &[Field] = &[
    probe_type(),
    Field::optional(
        "healthy",
        FieldKind::Record(&[
            statuses(
                &[200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 300, 301, 302, 303, 304, 305, 306, 307, 308],
                "statuses of success",
            ),
            count("successes", "successes to be healthy; 0 is off"),
        ]),
        "what speaks for a target",
    ),
    Field::optional(
        "unhealthy",
        FieldKind::Record(&[
            statuses(&[429, 500, 503], "statuses of failure"),
            count("tcp_failures", "failed connections to be unhealthy; 0 is off"),
            count("timeouts", "timeouts to be unhealthy; 0 is off"),
            count("http_failures", "failures to be unhealthy; 0 is off"),
        ]),
        "what speaks against a target",
    ),
];

/// `algorithm` and `hash_on` set one another, `algorithm` first.
fn algorithm_and_hash(body: &mut Map<String, Value>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for field in ["algorithm", "hash_on"] {
        match body.get(field) {
            Some(Value::String(text)) if text.is_empty() => {
                problems.push(Problem::of_field(field, "length must be at least 1"));
            }
            Some(Value::String(_) | Value::Null) | None => {}
            Some(_) => problems.push(Problem::of_field(field, "expected a string")),
        }
    }
    if !problems.is_empty() {
        return problems;
    }
    if matches!(body.get("algorithm").and_then(Value::as_str), Some("least-connections" | "latency")) {
        body.insert("hash_on".to_owned(), Value::Null);
    }
    let algorithm = match body.get("hash_on") {
        None => return problems,
        Some(Value::Null) => {
            body.insert("hash_on".to_owned(), Value::from("none"));
            return problems;
        }
        Some(hash) if hash == "none" => "round-robin",
        Some(_) => "consistent-hashing",
    };
    body.insert("algorithm".to_owned(), Value::from(algorithm));
    problems
}

/// What `hash_fallback` may not be: the same as `hash_on`, unless both have a name of their own.
const FALLBACKS: [(&str, &[&str]); 3] = [
    ("consumer", &["none", "ip", "header", "cookie", "path", "query_arg", "uri_capture"]),
    ("ip", &["none", "consumer", "header", "cookie", "path", "query_arg", "uri_capture"]),
    ("path", &["none", "consumer", "header", "cookie", "query_arg", "ip", "uri_capture"]),
];

fn rules(rules: &mut Rules<'_>) {
    let needs = |rules: &mut Rules<'_>, field: &'static str, hash: &str, argument: &'static str| {
        if rules.text(field) == Some(hash) {
            rules.required_given(field, argument);
        }
    };
    needs(rules, "hash_on", "header", "hash_on_header");
    needs(rules, "hash_fallback", "header", "hash_fallback_header");
    needs(rules, "hash_on", "cookie", "hash_on_cookie");
    needs(rules, "hash_fallback", "cookie", "hash_on_cookie");
    let hash_on = rules.text("hash_on").unwrap_or_default().to_owned();
    if matches!(hash_on.as_str(), "none" | "cookie") {
        rules.one_of_given("hash_on", "hash_fallback", &["none"]);
    }
    if let Some((_, allowed)) = FALLBACKS.iter().find(|(hash, _)| *hash == hash_on) {
        rules.one_of_given("hash_on", "hash_fallback", allowed);
    }
    rules.distinct(&["hash_on_header", "hash_fallback_header"]);
    needs(rules, "hash_on", "query_arg", "hash_on_query_arg");
    needs(rules, "hash_fallback", "query_arg", "hash_fallback_query_arg");
    rules.distinct(&["hash_on_query_arg", "hash_fallback_query_arg"]);
    needs(rules, "hash_on", "uri_capture", "hash_on_uri_capture");
    needs(rules, "hash_fallback", "uri_capture", "hash_fallback_uri_capture");
    rules.distinct(&["hash_on_uri_capture", "hash_fallback_uri_capture"]);
}
