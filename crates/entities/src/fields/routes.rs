//! Routes. What a route needs and may have depends on the group of its protocols.

use super::traffic::{MIRROR, SPLIT};
use super::{CREATED_AT, Def, HEADERS, ID, PORT, PROTOCOLS, TAGS, UPDATED_AT, name, restrict};
use crate::kind::Kind;
use crate::rules::Rules;
use crate::syntax::{ROUTE_HEADER_NAME, ROUTE_HOST, ROUTE_PATH};
use plugin::schema::syntax;
use plugin::{DefaultValue, Field, Kind as FieldKind, Problem, ProblemKind, Schema};
use serde_json::{Map, Value};

/// 2^46 - 1.
const PRIORITY_MAX: i64 = 70_368_744_177_663;
/// Protocols that one route may mix.
const GROUPS: [&[&str]; 4] = [&["http", "https"], &["tcp", "tls", "udp"], &["tls_passthrough"], &["grpc", "grpcs"]];
/// What a route of Kong's classic flavours matches on.
const MATCHES: [&str; 7] = ["snis", "sources", "destinations", "methods", "hosts", "paths", "headers"];

pub(crate) static ROUTES: Def = Def {
    endpoint_key: Some("name"),
    references: &[restrict("service", Kind::Services)],
    expand: defaults_of_protocols,
    rules,
    ..Def::new("routes", FIELDS)
};

static FIELDS: &[Field] = &[
    ID,
    CREATED_AT,
    UPDATED_AT,
    name("unique name of the route"),
    Field::with_default(
        "protocols",
        FieldKind::Set { of: &FieldKind::OneOf(PROTOCOLS), len_min: 1 },
        DefaultValue::Texts(&["http", "https"]),
        "protocols it serves, of one group",
    )
    .not_null(),
    Field::with_default(
        "https_redirect_status_code",
        FieldKind::IntOneOf(&[426, 301, 302, 307, 308]),
        DefaultValue::Int(426),
        "answer to plain HTTP on a route of https only",
    )
    .not_null(),
    flag("strip_path", true, "whether the matched prefix is taken off the upstream path"),
    flag("preserve_host", false, "whether the upstream gets the client's Host"),
    flag("request_buffering", true, "stored; bodies always stream"),
    flag("response_buffering", true, "stored; bodies always stream"),
    TAGS,
    Field::optional("service", FieldKind::Foreign("services"), "where its requests go"),
    Field::optional(
        "snis",
        FieldKind::Set { of: &FieldKind::Like(&syntax::WILDCARD_HOST), len_min: 0 },
        "server names of TLS",
    ),
    Field::optional("sources", ENDPOINTS, "addresses of clients, for streams"),
    Field::optional("destinations", ENDPOINTS, "addresses that clients connect to, for streams"),
    Field::optional("methods", FieldKind::Set { of: &FieldKind::Like(&syntax::METHOD), len_min: 0 }, "methods"),
    Field::optional("hosts", FieldKind::List { of: &FieldKind::Like(&ROUTE_HOST), len_min: 0 }, "host names"),
    Field::optional("paths", FieldKind::List { of: &FieldKind::Like(&ROUTE_PATH), len_min: 0 }, "prefixes, or ~regex"),
    Field::optional("headers", ROUTE_HEADERS, "values that headers must have"),
    Field::with_default("regex_priority", FieldKind::Integer, DefaultValue::Int(0), "rank among regular expressions"),
    Field::with_default(
        "path_handling",
        FieldKind::OneOf(&["v0", "v1"]),
        DefaultValue::Text("v0"),
        "how upstream paths are built",
    ),
    Field::optional("expression", FieldKind::Text, "what it matches, instead of the other fields"),
    Field::with_default(
        "priority",
        FieldKind::Int { min: 0, max: PRIORITY_MAX },
        DefaultValue::Int(0),
        "rank among expressions, highest first",
    )
    .not_null(),
    Field::optional("mirror", FieldKind::Record(MIRROR), "a copy of its requests for another service")
        .nullable()
        .ours(),
    Field::optional("split", FieldKind::RuledRecord(&SPLIT), "other services that share its requests")
        .nullable()
        .ours(),
];

const ROUTE_HEADERS: FieldKind = match HEADERS {
    FieldKind::Map { values, .. } => FieldKind::Map { keys: &FieldKind::Like(&ROUTE_HEADER_NAME), values },
    other => other,
};

const ENDPOINTS: FieldKind = FieldKind::Set { of: &FieldKind::RuledRecord(&ENDPOINT), len_min: 0 };

static ENDPOINT: Schema = Schema {
    fields: &[
        Field::optional("ip", FieldKind::Like(&syntax::IP_OR_CIDR), "address or range"),
        Field::optional("port", PORT, "port"),
    ],
    check: |record| {
        if record.values().any(|value| !value.is_null()) {
            return Vec::new();
        }
        let message = "at least one of these fields must be non-empty: 'ip', 'port'";
        vec![Problem { path: Vec::new(), kind: ProblemKind::Rule(message.to_owned()) }]
    },
};

const fn flag(name: &'static str, default: bool, help: &'static str) -> Field {
    Field::with_default(name, FieldKind::Bool, DefaultValue::Bool(default), help).not_null()
}

/// `strip_path` of a gRPC route is false when it is not given.
fn defaults_of_protocols(body: &mut Map<String, Value>) -> Vec<Problem> {
    let first = body.get("protocols").and_then(Value::as_array).and_then(|protocols| protocols.first());
    if matches!(first.and_then(Value::as_str), Some("grpc" | "grpcs")) && !body.contains_key("strip_path") {
        body.insert("strip_path".to_owned(), Value::Bool(false));
    }
    Vec::new()
}

fn rules(rules: &mut Rules<'_>) {
    let protocols: Vec<String> = rules.texts("protocols").map(str::to_owned).collect();
    // The first protocol that is one decides; without one nothing else can be said of the route.
    let Some(group) = protocols.iter().find_map(|protocol| group_of(protocol)) else {
        // A word alone is of no list, but decides all the same.
        match rules.value("protocols") {
            Some(Value::String(word)) if group_of(word).is_some() => {}
            Some(Value::Array(items)) => {
                let first = items
                    .first()
                    .map_or("nil".to_owned(), |first| first.as_str().map_or_else(|| first.to_string(), str::to_owned));
                rules.only("protocols", format!("unknown type: {first}"));
            }
            Some(other) => {
                let word = other.as_str().map_or_else(|| "nil".to_owned(), str::to_owned);
                rules.only("protocols", format!("unknown type: {word}"));
            }
            None => {}
        }
        return;
    };
    one_group(rules, &protocols);
    let has = |protocol: &str| protocols.iter().any(|one| one == protocol);
    if !["grpcs", "https", "tls", "tls_passthrough"].into_iter().any(has) && rules.is_set("snis") {
        rules.field("snis", "length must be 0");
        rules.entity("'snis' can only be set when 'protocols' is 'grpcs', 'https', 'tls' or 'tls_passthrough'");
    }
    expression(rules);
    match group {
        0 => http(rules, has("https")),
        3 => grpc(rules, has("grpcs")),
        _ => stream(rules, has("tls_passthrough")),
    }
}

fn group_of(protocol: &str) -> Option<usize> {
    GROUPS.iter().position(|group| group.contains(&protocol))
}

fn one_group(rules: &mut Rules<'_>, protocols: &[String]) {
    let mut groups: Vec<usize> = Vec::new();
    for group in protocols.iter().filter_map(|protocol| group_of(protocol)) {
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    if groups.len() > 1 {
        let quoted = |group: &[&str]| group.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(", ");
        let sets: Vec<String> = groups.iter().map(|group| format!("({})", quoted(GROUPS[*group]))).collect();
        rules.field("protocols", format!("these sets are mutually exclusive: {}", sets.join(", ")));
    }
}

/// An expression stands for all that a route matches on.
fn expression(rules: &mut Rules<'_>) {
    const FAILED: &str = "Router Expression failed validation: cannot set";
    const OTHERS: &str = "'methods', 'hosts', 'paths', 'headers', 'snis', 'sources' or 'destinations' simultaneously";
    if MATCHES.iter().chain(&["protocols", "expression"]).any(|field| rules.has_problem(field)) {
        return;
    }
    let others = MATCHES.iter().any(|field| rules.is_set(field));
    let nonzero = |rules: &Rules<'_>, field| rules.value(field).and_then(Value::as_i64).unwrap_or(0) != 0;
    if rules.is_set("expression") {
        if others {
            rules.entity(format!("{FAILED} 'expression' with {OTHERS}"));
        } else if nonzero(rules, "regex_priority") {
            rules.entity(format!("{FAILED} 'regex_priority' with 'expression' simultaneously"));
        }
    } else if others && nonzero(rules, "priority") {
        rules.entity(format!("{FAILED} 'priority' with {OTHERS}"));
    }
}

fn http(rules: &mut Rules<'_>, https: bool) {
    for field in ["sources", "destinations"] {
        unset(rules, field, "'http' or 'https'");
    }
    if https {
        one_of(rules, &["methods", "hosts", "headers", "paths", "snis"], "https");
    } else {
        one_of(rules, &["methods", "hosts", "headers", "paths"], "http");
    }
}

fn grpc(rules: &mut Rules<'_>, grpcs: bool) {
    if rules.value("strip_path") == Some(&Value::Bool(true)) {
        rules.field("strip_path", "cannot set 'strip_path' when 'protocols' is 'grpc' or 'grpcs'");
    }
    for field in ["methods", "sources", "destinations"] {
        unset(rules, field, "'grpc' or 'grpcs'");
    }
    if grpcs {
        one_of(rules, &["hosts", "headers", "paths", "snis"], "grpcs");
    } else {
        one_of(rules, &["hosts", "headers", "paths"], "grpc");
    }
}

fn stream(rules: &mut Rules<'_>, passthrough: bool) {
    for field in ["methods", "hosts", "paths", "headers"] {
        unset(rules, field, "'tcp', 'tls', 'tls_passthrough' or 'udp'");
    }
    let given = |rules: &Rules<'_>, fields: &[&str]| fields.iter().any(|field| rules.is_set(field));
    if passthrough {
        if !given(rules, &["snis", "expression"]) {
            rules.entity("must set snis when 'protocols' is 'tls_passthrough'");
        }
    } else if !given(rules, &["sources", "destinations", "snis", "expression"]) {
        rules.entity("must set one of 'sources', 'destinations', 'snis' when 'protocols' is 'tcp', 'tls' or 'udp'");
    }
}

/// Refuses a field in a group of protocols; even an empty list is one too many.
fn unset(rules: &mut Rules<'_>, field: &'static str, protocols: &str) {
    if rules.value(field).is_some() {
        rules.field(field, format!("cannot set '{field}' when 'protocols' is {protocols}"));
    }
}

fn one_of(rules: &mut Rules<'_>, fields: &[&str], protocol: &str) {
    if !rules.is_set("expression") && !fields.iter().any(|field| rules.is_set(field)) {
        let quoted: Vec<String> = fields.iter().map(|field| format!("'{field}'")).collect();
        rules.entity(format!("must set one of {} when 'protocols' is '{protocol}'", quoted.join(", ")));
    }
}
