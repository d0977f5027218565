//! Routes for connections.

use super::{Record, Refusal};
use crate::entity::{Endpoint, RouteId, ServiceId, StreamProtocols, StreamRoute};
use crate::router::{self, Fields};
use entities::Kind;
use model::Network;
use serde_json::Value;
use std::net::IpAddr;

/// Whether it is for connections.
pub(super) fn is_for_connections(record: &Record) -> bool {
    protocols(&record.strings("protocols")).is_some()
}

/// `None` if it is for requests.
pub(super) fn stream_route(record: &Record, refusals: &mut Vec<Refusal>) -> Option<StreamRoute> {
    let protocols = protocols(&record.strings("protocols"))?;
    for field in ["mirror", "split"] {
        if record.value(field).is_some() {
            record.refuse(refusals, field, None, "connections are neither copied nor shared among services");
        }
    }
    Some(StreamRoute {
        name: record.string("name"),
        service: record.reference("service").map(ServiceId),
        snis: record.strings("snis"),
        sources: endpoints(record, "sources", refusals),
        destinations: endpoints(record, "destinations", refusals),
        expression: record.string("expression"),
        priority: record.number("priority", 0),
        preserve_host: record.flag("preserve_host", false),
        tags: record.strings("tags"),
        ..StreamRoute::new(RouteId(record.id), protocols)
    })
}

/// The router has the last word on expressions.
pub(super) fn check_patterns(route: &StreamRoute, refusals: &mut Vec<Refusal>) {
    if let Some(Err(error)) = route.expression.as_deref().map(|text| router::check_expression(text, Fields::Stream)) {
        let (kind, id, field) = (Kind::Routes, route.id.0, Some("expression"));
        refusals.push(Refusal { kind, id, field, index: None, reason: error.to_string() });
    }
}

fn protocols(words: &[String]) -> Option<StreamProtocols> {
    let has = |word: &str| words.iter().any(|one| one == word);
    if has("tls_passthrough") {
        return Some(StreamProtocols::TlsPassthrough);
    }
    let (tcp, tls, udp) = (has("tcp"), has("tls"), has("udp"));
    (tcp || tls || udp).then_some(StreamProtocols::Of { tcp, tls, udp })
}

/// One that cannot be read is refused, not left out: a route without any takes all.
fn endpoints(record: &Record, field: &'static str, refusals: &mut Vec<Refusal>) -> Vec<Endpoint> {
    let items = record.value(field).and_then(Value::as_array).into_iter().flatten();
    let read = |(at, item)| {
        let endpoint = endpoint(item);
        if endpoint.is_none() {
            record.refuse(refusals, field, Some(at), "neither an address or range nor a port");
        }
        endpoint
    };
    items.enumerate().filter_map(read).collect()
}

fn endpoint(value: &Value) -> Option<Endpoint> {
    let port = value.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
    let Some(text) = value.get("ip").and_then(Value::as_str) else { return port.map(Endpoint::Port) };
    let Some((address, prefix_len)) = text.split_once('/') else {
        let address: IpAddr = text.parse().ok()?;
        return Some(port.map_or(Endpoint::Address(address), |port| Endpoint::AddressPort(address, port)));
    };
    let network = Network::of(address.parse().ok()?, prefix_len.parse().ok()?)?;
    Some(port.map_or(Endpoint::Network(network), |port| Endpoint::NetworkPort(network, port)))
}
