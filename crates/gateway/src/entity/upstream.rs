//! Upstreams: a virtual host that spreads its requests over targets.

use super::{CertificateId, Discovery, HealthChecks, Resilience, UpstreamId};

/// A virtual host. A service whose `host` is the upstream's name sends its requests to the upstream's targets.
#[derive(Clone, PartialEq, Debug)]
pub struct Upstream {
    /// Identifier.
    pub id: UpstreamId,
    /// Unique name: a host name without port, no IP address.
    pub name: String,
    /// How a target is chosen. Default round-robin.
    pub algorithm: Algorithm,
    /// Active and passive health checks; all off by default.
    pub health_checks: HealthChecks,
    /// `Host` for the targets, instead of the target's name.
    pub host_header: Option<String>,
    /// What is shown to targets that ask who we are, also by probes; a service's own goes before. Default none.
    pub client_certificate: Option<CertificateId>,
    /// Whether the names of SRV records are used as `Host`. Default false.
    pub use_srv_name: bool,
    /// What Kong does not have; all off by default.
    pub resilience: Resilience,
    /// A catalogue that lists targets, beside the upstream's own. Default none.
    pub discovery: Option<Discovery>,
    /// Labels without meaning to us.
    pub tags: Vec<String>,
}

impl Upstream {
    /// An upstream with Kong's defaults.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            id: UpstreamId::derived(name),
            name: name.to_owned(),
            algorithm: Algorithm::RoundRobin,
            health_checks: HealthChecks::default(),
            host_header: None,
            client_certificate: None,
            use_srv_name: false,
            resilience: Resilience::default(),
            discovery: None,
            tags: Vec::new(),
        }
    }
}

/// How a target is chosen (Kong's `algorithm` with the fields that belong to it).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Algorithm {
    /// `round-robin`: in turn, by weight.
    RoundRobin,
    /// `consistent-hashing`: the same value goes to the same target.
    ConsistentHashing(Hashing),
    /// `least-connections`: the fewest requests under way for the weight.
    LeastConnections,
    /// `latency`: the quicker of two, by a moving average.
    Latency,
}

/// What consistent hashing hashes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hashing {
    /// `hash_on`
    pub on: HashInput,
    /// `hash_fallback`: used if the request has no value for the first.
    pub fallback: HashInput,
    /// `slots`: the most points on the ring, 10 to 65536. Default 10000.
    pub slots: u32,
}

/// A value of a request (Kong's `hash_on` and `hash_fallback` with their companions).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HashInput {
    /// `none`: every request has the same value.
    None,
    /// `consumer`: the authenticated consumer, else the credential.
    Consumer,
    /// `ip`: the client's address.
    Ip,
    /// `header`: the values of a header.
    Header(String),
    /// `cookie`: the cookie's value; a request without gets one. Only for `hash_on`.
    Cookie {
        /// `hash_on_cookie`
        name: String,
        /// `hash_on_cookie_path`. Default `/`.
        path: String,
    },
    /// `path`: the request's path.
    Path,
    /// `query_arg`: the values of a query argument.
    QueryArg(String),
    /// `uri_capture`: what a named group of the route's regular expression matched.
    UriCapture(String),
}
