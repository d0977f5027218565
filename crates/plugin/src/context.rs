//! What a plugin sees of one request, from routing to its log entry.
//!
//! Invariants: `request` is the client's request until the access phase is over, and then the one for the upstream.
//! Values shared between plugins are fields here; a plugin's own values go to `request.extensions`.

use crate::Id;
use crate::directory::{Consumer, Credential};
use crate::handler::QueueTarget;
use bytes::Bytes;
use http::header::HeaderValue;
use http::request::Parts;
use model::{FieldLines, Now};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};

/// One request on its way through the gateway.
#[derive(Debug)]
pub struct Context {
    /// Method, target, version, headers and extensions.
    pub request: Parts,
    /// The whole body, once a plugin needed it.
    pub body: Option<Bytes>,
    /// The connection it came by.
    pub connection: Arc<Connection>,
    /// Number of the request on its connection, from 1.
    pub request_number: u64,
    /// Address of the client: the peer's, or what a trusted proxy says.
    pub client_ip: IpAddr,
    /// Unique to this request: the value of `X-Kong-Request-Id`.
    pub request_id: RequestId,
    /// The matched route.
    pub route: Option<Arc<RouteInfo>>,
    /// The service of the route.
    pub service: Option<Arc<ServiceInfo>>,
    /// The queue the service stands for, if it is one.
    pub queue: Option<Arc<QueueTarget>>,
    /// Who the client is, once a plugin found out.
    pub consumer: Option<Arc<Consumer>>,
    /// What proved it; absent for an anonymous consumer.
    pub credential: Option<Arc<Credential>>,
    /// The value of correlation-id's header, for logs.
    pub correlation_id: Option<HeaderValue>,
    /// Headers set on the response, whoever makes it, instead of others of the same name.
    pub response_headers: FieldLines,
    /// When the request's head was complete.
    pub received: Now,
    /// The time of this phase.
    pub now: Now,
}

/// 32 hexadecimal digits, different for every request of every process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestId([u8; 32]);

impl RequestId {
    /// The id with this value.
    #[must_use]
    pub fn new(id: u128) -> Self {
        let mut digits = [0; 32];
        for (byte, pair) in id.to_be_bytes().into_iter().zip(digits.chunks_exact_mut(2)) {
            pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
            pair[1] = b"0123456789abcdef"[usize::from(byte & 0xf)];
        }
        Self(digits)
    }

    /// The number it stands for.
    #[must_use]
    pub fn value(&self) -> u128 {
        let value = |digit: u8| if digit.is_ascii_digit() { digit - b'0' } else { digit - b'a' + 10 };
        self.0.iter().fold(0, |number, digit| number << 4 | u128::from(value(*digit)))
    }

    /// Its digits.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Its digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("hexadecimal digits are text")
    }
}

/// The client's connection. One value serves all its requests.
#[derive(Debug)]
pub struct Connection {
    /// The client's address.
    pub peer: SocketAddr,
    /// Our address.
    pub local: SocketAddr,
    /// Whether it is TLS.
    pub scheme: Scheme,
    /// Server name the client asked for in TLS, in lower case.
    pub sni: Option<Box<str>>,
    /// What TLS agreed on, if it is TLS.
    pub tls: Option<Arc<TlsHandshake>>,
    /// Number of the connection in this process.
    pub serial: u64,
    /// The client's IP address as a header value.
    pub peer_ip_value: HeaderValue,
    /// Our port as a header value.
    pub local_port_value: HeaderValue,
    /// What upstreams are told of the connection with each of its requests; made by the first one.
    pub said: OnceLock<FieldLines>,
}

impl Connection {
    /// A connection with its header values.
    #[must_use]
    pub fn new(peer: SocketAddr, local: SocketAddr, scheme: Scheme, sni: Option<&str>, serial: u64) -> Self {
        let ip = peer.ip().to_canonical().to_string();
        Self {
            peer,
            local,
            scheme,
            sni: sni.map(|name| name.to_ascii_lowercase().into()),
            tls: None,
            serial,
            peer_ip_value: HeaderValue::try_from(ip).expect("an IP address is a header value"),
            local_port_value: HeaderValue::from(local.port()),
            said: OnceLock::new(),
        }
    }
}

/// What a handshake agreed on, and who the client proved to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsHandshake {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite by OpenSSL's name, which is Kong's; by IANA's if it has none.
    pub cipher: &'static str,
    /// The certificate that the client showed and the listener verified.
    pub client: Option<ClientCertificate>,
}

/// A client's certificate that a listener verified (`client_ca`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientCertificate {
    /// Whose it is: `CN=alice,O=Example`, as RFC 4514 writes names.
    pub subject: Box<str>,
    /// Who signed it, in the same form.
    pub issuer: Box<str>,
    /// Its number at the issuer, in hexadecimal.
    pub serial: Box<str>,
}

/// Scheme of a request or of an upstream.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The scheme's port: 80 or 443.
    #[must_use]
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// The matched route, as far as plugins care.
#[derive(Debug)]
pub struct RouteInfo {
    /// Identifier of the entity.
    pub id: Id,
    /// Its name.
    pub name: Option<Box<str>>,
}

/// The route's service, as far as plugins care.
#[derive(Debug)]
pub struct ServiceInfo {
    /// Identifier of the entity.
    pub id: Id,
    /// Its name.
    pub name: Option<Box<str>>,
}

/// Who made the response (Kong's `source`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Source {
    /// The upstream.
    Service,
    /// A plugin.
    Exit,
    /// The gateway: no route, no upstream, a timeout.
    Error,
}

impl Source {
    /// The label value Kong uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Exit => "exit",
            Self::Error => "error",
        }
    }
}

/// Where a request's time went, in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Timing {
    /// From the complete head to the last byte of the response.
    pub total_us: u64,
    /// From handing the request to the upstream to the head of its response; none if it was not proxied.
    pub upstream_us: Option<u64>,
    /// Our own part, up to the head of the response.
    pub kong_us: u64,
}

/// What is known when a request is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogRecord {
    /// Status sent to the client.
    pub status: u16,
    /// Who made the response.
    pub source: Source,
    /// Where the time went.
    pub timing: Timing,
    /// Bytes of the request: head and body.
    pub bytes_in: u64,
    /// Bytes of the response: head and body.
    pub bytes_out: u64,
    /// Which of Kong's metric families this request counts in; set by `prometheus`.
    pub export: Export,
}

/// Switches of the plugin `prometheus`. The gateway counts every request anyway; these say what appears under Kong's
/// names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Export {
    /// `kong_http_requests_total`
    pub status_code: bool,
    /// `kong_kong_latency_ms`, `kong_upstream_latency_ms`, `kong_request_latency_ms`
    pub latency: bool,
    /// `kong_bandwidth_bytes`
    pub bandwidth: bool,
    /// `kong_upstream_target_health`
    pub upstream_health: bool,
    /// Whether the request counter carries the consumer's name.
    pub per_consumer: bool,
}
