//! Services: an HTTP upstream, an upstream of connections, or a queue.

use super::{CaCertificateId, CertificateId, Mirror, Scheme, ServiceId};

/// Where requests and connections of its routes go.
#[derive(Clone, Debug)]
pub struct Service {
    /// Identifier.
    pub id: ServiceId,
    /// Unique name, if it has one.
    pub name: Option<String>,
    /// What stands behind it.
    pub backend: Backend,
    /// A disabled service takes its routes out of the router.
    pub enabled: bool,
    /// A copy of its routes' requests for another service.
    pub mirror: Option<Mirror>,
    /// Labels without meaning to us.
    pub tags: Vec<String>,
}

impl Service {
    /// The value of Kong's `protocol` field.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        match &self.backend {
            Backend::Http(http) => match (http.scheme, http.http2) {
                (Scheme::Http, false) => Protocol::Http,
                (Scheme::Https, false) => Protocol::Https,
                (Scheme::Http, true) => Protocol::Grpc,
                (Scheme::Https, true) => Protocol::Grpcs,
            },
            Backend::Stream(stream) => match stream.protocol {
                StreamProtocol::Tcp => Protocol::Tcp,
                StreamProtocol::Tls => Protocol::Tls,
                StreamProtocol::TlsPassthrough => Protocol::TlsPassthrough,
                StreamProtocol::Udp => Protocol::Udp,
            },
            Backend::Queue(_) => Protocol::Queue,
        }
    }
}

/// The values of a service's `protocol`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// `http`
    Http,
    /// `https`
    Https,
    /// `grpc`
    Grpc,
    /// `grpcs`
    Grpcs,
    /// `tcp`
    Tcp,
    /// `tls`
    Tls,
    /// `tls_passthrough`
    TlsPassthrough,
    /// `udp`
    Udp,
    /// `queue`: the route's requests are published to a queue.
    Queue,
}

impl Protocol {
    /// The value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Grpc => "grpc",
            Self::Grpcs => "grpcs",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::TlsPassthrough => "tls_passthrough",
            Self::Udp => "udp",
            Self::Queue => "queue",
        }
    }
}

/// What a service stands for.
#[derive(Clone, Debug)]
pub enum Backend {
    /// `protocol: http`, `https`, `grpc` or `grpcs`.
    Http(HttpBackend),
    /// `protocol: tcp`, `tls`, `tls_passthrough` or `udp`.
    Stream(StreamBackend),
    /// `protocol: queue`.
    Queue(QueueBackend),
}

/// An HTTP upstream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpBackend {
    /// `http` or `https`; for gRPC without and with TLS.
    pub scheme: Scheme,
    /// HTTP/2 is spoken to it: `protocol: grpc` or `grpcs`. Default false.
    pub http2: bool,
    /// Host name or IP address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Prefix of every upstream path: starts with `/`, has no `//`. `None` is `/`.
    pub path: Option<String>,
    /// Extra tries after a connection failure, 0 to 32767. Default 5.
    pub retries: u16,
    /// Time to connect. Default 60000, at least 1.
    pub connect_timeout_ms: u32,
    /// Time between two writes to the upstream. Default 60000, at least 1.
    pub write_timeout_ms: u32,
    /// Time between two reads from the upstream. Default 60000, at least 1.
    pub read_timeout_ms: u32,
    /// Whether the upstream's certificate is checked; `None` leaves it to the node's setting. Only with `https`.
    pub tls_verify: Option<bool>,
    /// The most certificates between the upstream's and the trust anchor, 0 to 64. Only with `https`.
    pub tls_verify_depth: Option<u8>,
    /// Trust anchors for this upstream; empty means the system's. Only with `https`.
    pub ca_certificates: Vec<CaCertificateId>,
    /// What is shown to the upstream if it asks who we are. Only with `https`.
    pub client_certificate: Option<CertificateId>,
}

impl HttpBackend {
    /// A backend with Kong's defaults.
    #[must_use]
    pub fn new(scheme: Scheme, host: &str, port: u16) -> Self {
        Self {
            scheme,
            http2: false,
            host: host.to_owned(),
            port,
            path: None,
            retries: 5,
            connect_timeout_ms: 60_000,
            write_timeout_ms: 60_000,
            read_timeout_ms: 60_000,
            tls_verify: None,
            tls_verify_depth: None,
            ca_certificates: Vec::new(),
            client_certificate: None,
        }
    }
}

/// An upstream of connections or datagrams.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamBackend {
    /// What is carried.
    pub protocol: StreamProtocol,
    /// Address, timeouts, tries and TLS, as those of an HTTP upstream; `https` where TLS is spoken to it. The time between
    /// two reads is how long nothing may move in either direction.
    pub server: HttpBackend,
}

/// What a service for connections is told to carry. Only `tls` makes a difference to what the upstream gets: the others
/// get what came, by TCP or UDP as it came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamProtocol {
    /// `tcp`
    Tcp,
    /// `tls`: TLS of our own to the upstream.
    Tls,
    /// `tls_passthrough`
    TlsPassthrough,
    /// `udp`
    Udp,
}

/// A queue as a service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QueueBackend {
    /// Name of the queue: the service's `host`.
    pub queue: String,
    /// Virtual host of the queue. Default `/`.
    pub vhost: String,
    /// The broker's user whose permissions the publish is checked against. Default `guest`.
    pub user: String,
}

impl QueueBackend {
    /// A queue of the default vhost, published to as `guest`.
    #[must_use]
    pub fn new(queue: &str) -> Self {
        Self { queue: queue.to_owned(), vhost: "/".to_owned(), user: "guest".to_owned() }
    }
}
