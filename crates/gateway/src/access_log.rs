//! One line of JSON a request, in the shape of Kong's log plugins, with the reason of a failure (ours).
//!
//! Invariants: nothing is rendered unless somebody takes the lines; `Authorization`, `Proxy-Authorization` and cookies are
//! redacted (an API key is there unless its plugin hides it, as in Kong). Not here: where the lines go.

use crate::balancer::Member;
use crate::exchange::Exchange;
use crate::proxying::{Try, TryEnd};
use http::header::{AUTHORIZATION, COOKIE, HeaderMap, PROXY_AUTHORIZATION, SET_COOKIE};
use plugin::{ClientCertificate, LogRecord, Source, TlsHandshake};
use serde_json::{Map, Value, json};

/// Takes the lines of an access log. Called in a request's task: it must not wait.
pub trait AccessLog: Send + Sync {
    /// A line, its end included.
    fn write(&self, line: &[u8]);
}

/// What of a request is kept for its line, once it is changed.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// The target as the client sent it.
    pub(crate) target: String,
    /// The head of the response.
    pub(crate) response_headers: HeaderMap,
}

/// The line of a request that is over.
pub(crate) fn line(exchange: &Exchange, kept: &Kept, record: &LogRecord) -> Vec<u8> {
    let cx = &exchange.cx;
    let (path, query) = kept.target.split_once('?').unwrap_or((&kept.target, ""));
    let host = exchange.host.to_str().unwrap_or_default();
    let scheme = cx.connection.scheme.as_str();
    let mut line = json!({
        "request": {
            "id": cx.request_id.as_str(),
            "method": cx.request.method.as_str(),
            "uri": &kept.target,
            "url": format!("{scheme}://{host}:{}{path}", cx.connection.local.port()),
            "querystring": querystring(query),
            "headers": headers(&cx.request.headers),
            "size": record.bytes_in,
        },
        "response": {
            "status": record.status,
            "headers": headers(&kept.response_headers),
            "size": record.bytes_out,
        },
        "latencies": {
            "kong": record.timing.kong_us / 1_000,
            "proxy": record.timing.upstream_us.map_or(-1, |us| i64::try_from(us / 1_000).unwrap_or(i64::MAX)),
            "request": record.timing.total_us / 1_000,
            "receive": record.timing.total_us.saturating_sub(exchange.until_head_us()) / 1_000,
        },
        "tries": tries(exchange, record),
        "client_ip": cx.client_ip.to_string(),
        "started_at": cx.received.wall.0,
        "source": if record.source == Source::Service { "upstream" } else { "kong" },
        "workspace_name": "default",
    });
    let Value::Object(fields) = &mut line else { return Vec::new() };
    optional(exchange, record, fields);
    let mut text = line.to_string().into_bytes();
    text.push(b'\n');
    text
}

/// What only some requests have.
fn optional(exchange: &Exchange, record: &LogRecord, fields: &mut Map<String, Value>) {
    let cx = &exchange.cx;
    if let (Some(tls), Some(Value::Object(request))) = (&cx.connection.tls, fields.get_mut("request")) {
        request.insert("tls".to_owned(), handshake(tls));
    }
    let entity = |id: plugin::Id, name: Option<&str>| json!({"id": id.to_string(), "name": name});
    if exchange.proxied_at.is_some() {
        fields.insert("upstream_uri".to_owned(), Value::from(cx.request.uri.to_string()));
    }
    if record.source == Source::Service {
        fields.insert("upstream_status".to_owned(), Value::from(record.status.to_string()));
    }
    if let Some(route) = &cx.route {
        fields.insert("route".to_owned(), entity(route.id, route.name.as_deref()));
    }
    if let Some(service) = &cx.service {
        fields.insert("service".to_owned(), entity(service.id, service.name.as_deref()));
    }
    if let Some(consumer) = &cx.consumer {
        let (username, custom_id) = (consumer.username.as_deref(), consumer.custom_id.as_deref());
        let consumer = json!({"id": consumer.id.to_string(), "username": username, "custom_id": custom_id});
        fields.insert("consumer".to_owned(), consumer);
    }
    if let Some(credential) = &cx.credential {
        fields.insert("authenticated_entity".to_owned(), json!({"id": credential.id.to_string()}));
    }
    if let Some(id) = cx.correlation_id.as_ref().and_then(|id| id.to_str().ok()) {
        fields.insert("correlation_id".to_owned(), Value::from(id));
    }
    if let Some(reason) = exchange.reason {
        fields.insert("reason".to_owned(), Value::from(reason.as_str()));
    }
}

/// Kong's three fields, and who the client is (ours).
fn handshake(tls: &TlsHandshake) -> Value {
    let verify = if tls.client.is_some() { "SUCCESS" } else { "NONE" };
    let mut value = json!({"version": tls.version, "cipher": tls.cipher, "client_verify": verify});
    if let Some(ClientCertificate { subject, issuer, serial }) = &tls.client {
        value["client"] = json!({"subject": subject, "issuer": issuer, "serial": serial});
    }
    value
}

/// The tries that failed, then the one that did not.
fn tries(exchange: &Exchange, record: &LogRecord) -> Vec<Value> {
    let failed = exchange.tries.iter().map(|Try { member, us, end }| {
        let (state, code, reason) = match end {
            TryEnd::Status(status) => ("next", Some(*status), None),
            TryEnd::Failed(reason) => ("failed", None, Some(reason.as_str())),
            TryEnd::Lost => ("lost", None, None),
        };
        let mut value = address(exchange, member.as_deref());
        value.insert("state".to_owned(), Value::from(state));
        value.insert("try_latency".to_owned(), Value::from(us / 1_000));
        value.extend(code.map(|code| ("code".to_owned(), Value::from(code))));
        value.extend(reason.map(|reason| ("reason".to_owned(), Value::from(reason))));
        Value::Object(value)
    });
    let answered = (record.source == Source::Service)
        .then(|| Value::Object(address(exchange, exchange.peer.as_ref().map(|peer| &*peer.member))));
    failed.chain(answered).collect()
}

/// The address of a try, as far as it is known here: a service without targets has only a name.
fn address(exchange: &Exchange, member: Option<&Member>) -> Map<String, Value> {
    let backend = exchange.upstream.as_ref().map(|upstream| &upstream.backend);
    let (ip, port) = match (member, backend) {
        (Some(member), _) => (member.address.key().host.to_string(), member.address.key().port),
        (None, Some(backend)) => (backend.host.clone(), backend.port),
        (None, None) => (String::new(), 0),
    };
    Map::from_iter([("ip".to_owned(), Value::from(ip)), ("port".to_owned(), Value::from(port))])
}

/// Headers by name; several of a name are a list.
fn headers(headers: &HeaderMap) -> Value {
    let secret = [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE, SET_COOKIE];
    let mut map = Map::new();
    for name in headers.keys() {
        let mut values: Vec<Value> = headers
            .get_all(name)
            .iter()
            .map(|value| match secret.contains(name) {
                true => Value::from("REDACTED"),
                false => Value::from(String::from_utf8_lossy(value.as_bytes())),
            })
            .collect();
        let value = if values.len() == 1 { values.pop().unwrap_or_default() } else { Value::from(values) };
        map.insert(name.as_str().to_owned(), value);
    }
    Value::Object(map)
}

/// Arguments by name, as they were sent; one without a value is true, several of a name are a list.
fn querystring(query: &str) -> Value {
    let mut map: Map<String, Value> = Map::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').map_or((pair, Value::Bool(true)), |(n, v)| (n, Value::from(v)));
        match map.get_mut(name) {
            None => drop(map.insert(name.to_owned(), value)),
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    Value::Object(map)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn headers_and_arguments_by_name() {
        let mut map = HeaderMap::new();
        map.append("x-a", HeaderValue::from_static("1"));
        map.append("x-a", HeaderValue::from_static("2"));
        map.append("authorization", HeaderValue::from_static("Bearer x"));
        assert_eq!(headers(&map), json!({"x-a": ["1", "2"], "authorization": "REDACTED"}));
        assert_eq!(querystring("a=1&b&a=2&a=3"), json!({"a": ["1", "2", "3"], "b": true}));
        assert_eq!(querystring(""), json!({}));
    }
}
