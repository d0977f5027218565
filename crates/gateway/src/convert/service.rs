//! Services.

use super::{Record, Refusal, traffic};
use crate::entity::{
    Backend, CaCertificateId, CertificateId, HttpBackend, QueueBackend, Scheme, Service, ServiceId, StreamBackend,
    StreamProtocol,
};
use entities::{Kind, Store};

/// The virtual host and the user of a queue that says neither.
const DEFAULT_VHOST: &str = "/";
const DEFAULT_USER: &str = "guest";

/// `None` if its protocol cannot be run, which was refused.
pub(super) fn service(record: &Record, store: &Store, refusals: &mut Vec<Refusal>) -> Option<Service> {
    let backend = match record.text("protocol").unwrap_or("http") {
        "http" => Backend::Http(http(record, Scheme::Http)),
        "https" => Backend::Http(http(record, Scheme::Https)),
        "grpc" => Backend::Http(HttpBackend { http2: true, ..http(record, Scheme::Http) }),
        "grpcs" => Backend::Http(HttpBackend { http2: true, ..http(record, Scheme::Https) }),
        "tcp" => stream(record, StreamProtocol::Tcp, refusals),
        "tls" => stream(record, StreamProtocol::Tls, refusals),
        "tls_passthrough" => stream(record, StreamProtocol::TlsPassthrough, refusals),
        "udp" => stream(record, StreamProtocol::Udp, refusals),
        "queue" => Backend::Queue(QueueBackend {
            queue: record.string("host").unwrap_or_default(),
            vhost: record.string("vhost").unwrap_or_else(|| DEFAULT_VHOST.to_owned()),
            user: record.string("user").unwrap_or_else(|| DEFAULT_USER.to_owned()),
        }),
        _ => return None,
    };
    Some(Service {
        id: ServiceId(record.id),
        name: record.string("name"),
        backend,
        enabled: record.flag("enabled", true),
        mirror: traffic::mirror(record, store, refusals),
        tags: record.strings("tags"),
    })
}

fn stream(record: &Record, protocol: StreamProtocol, refusals: &mut Vec<Refusal>) -> Backend {
    if record.value("mirror").is_some() {
        record.refuse(refusals, "mirror", None, "connections are not copied");
    }
    let scheme = if protocol == StreamProtocol::Tls { Scheme::Https } else { Scheme::Http };
    Backend::Stream(StreamBackend { protocol, server: http(record, scheme) })
}

fn http(record: &Record, scheme: Scheme) -> HttpBackend {
    let host = record.text("host").unwrap_or_default();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let defaults = HttpBackend::new(scheme, host, 80);
    HttpBackend {
        port: record.number("port", defaults.port),
        path: record.string("path"),
        retries: record.number("retries", defaults.retries),
        connect_timeout_ms: record.number("connect_timeout", defaults.connect_timeout_ms),
        write_timeout_ms: record.number("write_timeout", defaults.write_timeout_ms),
        read_timeout_ms: record.number("read_timeout", defaults.read_timeout_ms),
        tls_verify: record.value("tls_verify").and_then(serde_json::Value::as_bool),
        tls_verify_depth: record.value("tls_verify_depth").map(|_| record.number("tls_verify_depth", u8::MAX)),
        ca_certificates: record
            .strings("ca_certificates")
            .iter()
            .filter_map(|id| id.parse().ok())
            .map(CaCertificateId)
            .collect(),
        client_certificate: record.reference("client_certificate").map(CertificateId),
        ..defaults
    }
}

/// Refuses trust anchors that are not there.
pub(super) fn check_anchors(service: &Service, store: &Store, refusals: &mut Vec<Refusal>) {
    let http = match &service.backend {
        Backend::Http(http) | Backend::Stream(StreamBackend { server: http, .. }) => http,
        Backend::Queue(_) => return,
    };
    for (at, anchor) in http.ca_certificates.iter().enumerate() {
        if store.get(Kind::CaCertificates, anchor.0).is_none() {
            refusals.push(Refusal {
                kind: Kind::Services,
                id: service.id.0,
                field: Some("ca_certificates"),
                index: Some(at),
                reason: format!("there is no CA certificate `{anchor}`"),
            });
        }
    }
}
