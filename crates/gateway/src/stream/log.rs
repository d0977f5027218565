//! A session as one line of JSON: the shape of Kong's log plugins in its stream subsystem, with the reason of an end that
//! was none of its own (ours).
//!
//! The status is nginx's for streams: 200, or what the failure would be to a request.

use super::session::Session;
use crate::balancer::Member;
use crate::decision::Datagrams;
use crate::proxying::{Try, TryEnd};
use crate::reason::Reason;
use crate::router::StreamKind;
use serde_json::{Map, Value, json};

/// The line of a session that lasted so many microseconds.
pub(super) fn line(session: &Session, us: u64) -> Vec<u8> {
    let (received, sent) = (session.transferred.bytes_in, session.transferred.bytes_out);
    let kind = match session.client.kind {
        StreamKind::Tcp => "tcp",
        StreamKind::Tls if session.passes_through() => "tls_passthrough",
        StreamKind::Tls => "tls",
        StreamKind::Udp => "udp",
    };
    let mut line = json!({
        "session": {
            "protocol": kind,
            "received": received,
            "sent": sent,
            "status": status(session.reason),
            "server_port": session.client.destination.port(),
        },
        // What comes from one side goes to the other.
        "upstream": {"received": sent, "sent": received},
        "latencies": {"kong": session.connected_us.unwrap_or(us) / 1_000, "session": us / 1_000},
        "tries": tries(session),
        "client_ip": session.client.source.ip().to_canonical().to_string(),
        "started_at": session.began.wall.0,
        "workspace_name": "default",
    });
    let Value::Object(fields) = &mut line else { return Vec::new() };
    let entity = |id: plugin::Id, name: Option<&str>| json!({"id": id.to_string(), "name": name});
    if let Some(route) = session.route() {
        fields.insert("route".to_owned(), entity(route.info.id, route.info.name.as_deref()));
        if let Some(service) = &route.service {
            fields.insert("service".to_owned(), entity(service.id, service.name.as_deref()));
        }
    }
    if let Some(Value::Object(shown)) = fields.get_mut("session") {
        if let Some(sni) = &session.client.sni {
            shown.insert("tls".to_owned(), json!({"sni": &**sni}));
        }
        if session.client.kind == StreamKind::Udp {
            let Datagrams { n_in, n_out } = session.datagrams;
            shown.insert("datagrams".to_owned(), json!({"received": n_in, "sent": n_out}));
        }
    }
    if let Some(reason) = session.reason {
        fields.insert("reason".to_owned(), Value::from(reason.as_str()));
    }
    let mut text = line.to_string().into_bytes();
    text.push(b'\n');
    text
}

const fn status(reason: Option<Reason>) -> u16 {
    match reason {
        None | Some(Reason::IdleTimeout | Reason::ClientLeft | Reason::Shutdown) => 200,
        Some(Reason::ClientTls | Reason::BadRequest | Reason::RequestTimeout) => 400,
        Some(Reason::NoRoute) => 404,
        Some(Reason::Internal) => 500,
        Some(
            Reason::NoService
            | Reason::NoTarget
            | Reason::NoHealthyTarget
            | Reason::NameResolution
            | Reason::BreakerOpen { .. }
            | Reason::BulkheadFull
            | Reason::QueueTimeout
            | Reason::Overload,
        ) => 503,
        Some(_) => 502,
    }
}

/// The tries that failed, then the one that did not.
fn tries(session: &Session) -> Vec<Value> {
    let failed = session.tries.iter().map(|Try { member, us, end }| {
        let mut value = address(session, member.as_deref());
        value.insert("state".to_owned(), Value::from("failed"));
        value.insert("balancer_latency".to_owned(), Value::from(us / 1_000));
        if let TryEnd::Failed(reason) = end {
            value.insert("reason".to_owned(), Value::from(reason.as_str()));
        }
        Value::Object(value)
    });
    let connected = session.connected_us.is_some();
    let last = connected.then(|| Value::Object(address(session, session.peer.as_ref().map(|peer| &*peer.member))));
    failed.chain(last).collect()
}

/// The address of a try, as far as it is known here: a service without targets has only a name.
fn address(session: &Session, member: Option<&Member>) -> Map<String, Value> {
    let backend = session.service.as_ref().map(|service| &service.upstream.backend);
    let (ip, port) = match (member, backend) {
        (Some(member), _) => (member.address.key().host.to_string(), member.address.key().port),
        (None, Some(backend)) => (backend.host.clone(), backend.port),
        (None, None) => (String::new(), 0),
    };
    Map::from_iter([("ip".to_owned(), Value::from(ip)), ("port".to_owned(), Value::from(port))])
}
