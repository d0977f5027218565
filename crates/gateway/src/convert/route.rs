//! Routes.

use super::record::texts;
use super::{Record, Refusal, traffic};
use crate::entity::{HttpsRedirect, Route, RouteId, RouteProtocols, ServiceId};
use crate::router::{self, Fields, PatternError};
use entities::{Kind, Store};
use serde_json::Value;

/// `None` if it is for connections.
pub(super) fn route(record: &Record, store: &Store, refusals: &mut Vec<Refusal>) -> Option<Route> {
    let words = record.strings("protocols");
    let protocols = protocols(&words)?;
    let redirect = HttpsRedirect::from_code(record.number("https_redirect_status_code", 426));
    Some(Route {
        id: RouteId(record.id),
        name: record.string("name"),
        service: record.reference("service").map(ServiceId),
        protocols,
        grpc: words.iter().any(|word| word.starts_with("grpc")),
        methods: record.strings("methods"),
        hosts: record.strings("hosts"),
        paths: record.strings("paths"),
        headers: headers(record),
        snis: record.strings("snis"),
        https_redirect_status_code: redirect.unwrap_or(HttpsRedirect::UpgradeRequired),
        regex_priority: record.number("regex_priority", 0),
        expression: record.string("expression"),
        priority: record.number("priority", 0),
        strip_path: record.flag("strip_path", true),
        preserve_host: record.flag("preserve_host", false),
        request_buffering: record.flag("request_buffering", true),
        response_buffering: record.flag("response_buffering", true),
        mirror: traffic::mirror(record, store, refusals),
        split: traffic::split(record, store, refusals),
        tags: record.strings("tags"),
    })
}

/// The router has the last word on patterns.
pub(super) fn check_patterns(route: &Route, refusals: &mut Vec<Refusal>) {
    let mut refuse = |field, index, reason| {
        refusals.push(Refusal { kind: Kind::Routes, id: route.id.0, field: Some(field), index, reason });
    };
    let what = |error: PatternError| {
        let what = error.what.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        format!("`{}`: {what}", error.pattern)
    };
    for (at, host) in route.hosts.iter().enumerate() {
        if let Err(error) = router::check_host(host) {
            refuse("hosts", Some(at), what(error));
        }
    }
    for (at, path) in route.paths.iter().enumerate() {
        if let Err(error) = router::check_path(path) {
            refuse("paths", Some(at), what(error));
        }
    }
    for value in route.headers.iter().flat_map(|(_, values)| values) {
        if let Err(error) = router::check_header_value(value) {
            refuse("headers", None, what(error));
        }
    }
    if let Some(Err(error)) = route.expression.as_deref().map(|text| router::check_expression(text, Fields::Http)) {
        refuse("expression", None, error.to_string());
    }
}

/// The set of schemes, if it has any; gRPC is HTTP here.
pub(super) fn protocols(words: &[String]) -> Option<RouteProtocols> {
    let has = |word: &str| words.iter().any(|one| one == word);
    match (has("http") || has("grpc"), has("https") || has("grpcs")) {
        (true, true) => Some(RouteProtocols::Both),
        (true, false) => Some(RouteProtocols::Http),
        (false, true) => Some(RouteProtocols::Https),
        (false, false) => None,
    }
}

/// Headers with the values that they may have; one without values matches as if it were not there.
fn headers(record: &Record) -> Vec<(String, Vec<String>)> {
    let map = record.value("headers").and_then(Value::as_object).into_iter().flatten();
    map.map(|(name, values)| (name.clone(), texts(Some(values)))).filter(|(_, values)| !values.is_empty()).collect()
}
