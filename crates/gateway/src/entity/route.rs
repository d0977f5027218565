//! Routes.

use super::{Mirror, RouteId, Scheme, ServiceId, Split};

/// Which requests go to which service, and how they are changed on the way.
#[derive(Clone, Debug)]
pub struct Route {
    /// Identifier. Of two routes that match equally well the larger id wins.
    pub id: RouteId,
    /// Unique name, if it has one.
    pub name: Option<String>,
    /// The service; `None` answers 503 after the plugins ran.
    pub service: Option<ServiceId>,
    /// Schemes it serves; not empty. Default both.
    pub protocols: RouteProtocols,
    /// It serves gRPC only: `grpc` for `http`, `grpcs` for `https`. Default false.
    pub grpc: bool,
    /// Upper-case methods; empty matches all.
    pub methods: Vec<String>,
    /// Host names, with at most one `*` as the first or last label and an optional port; empty matches all.
    pub hosts: Vec<String>,
    /// Normalised prefixes that start with `/`, or `~` and a regular expression; empty matches all.
    pub paths: Vec<String>,
    /// Header name to accepted values (`~*` starts a regular expression). All names must match.
    pub headers: Vec<(String, Vec<String>)>,
    /// Server names of TLS; only looked at for `https`.
    pub snis: Vec<String>,
    /// Answer to plain HTTP on an `https` only route. Default 426.
    pub https_redirect_status_code: HttpsRedirect,
    /// Rank among regular expressions. Default 0.
    pub regex_priority: i64,
    /// What it matches, in place of methods, hosts, paths, headers and server names: see [`crate::router`].
    pub expression: Option<String>,
    /// Rank among routes with an expression, from 0, the default, to 2^46 - 1.
    pub priority: u64,
    /// Whether the matched prefix is taken off the upstream path. Default true.
    pub strip_path: bool,
    /// Whether the client's `Host` is kept. Default false.
    pub preserve_host: bool,
    /// Stored and returned; bodies always stream here. Default true.
    pub request_buffering: bool,
    /// Stored and returned; bodies always stream here. Default true.
    pub response_buffering: bool,
    /// A copy of its requests for another service; goes before that of its service.
    pub mirror: Option<Mirror>,
    /// Other services that share its requests.
    pub split: Option<Split>,
    /// Labels without meaning to us.
    pub tags: Vec<String>,
}

impl Route {
    /// A route with Kong's defaults that matches everything and has no service.
    #[must_use]
    pub fn new(id: RouteId) -> Self {
        Self {
            id,
            name: None,
            service: None,
            protocols: RouteProtocols::Both,
            grpc: false,
            methods: Vec::new(),
            hosts: Vec::new(),
            paths: Vec::new(),
            headers: Vec::new(),
            snis: Vec::new(),
            https_redirect_status_code: HttpsRedirect::UpgradeRequired,
            regex_priority: 0,
            expression: None,
            priority: 0,
            strip_path: true,
            preserve_host: false,
            request_buffering: true,
            response_buffering: true,
            mirror: None,
            split: None,
            tags: Vec::new(),
        }
    }
}

/// The schemes a route serves: never none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RouteProtocols {
    /// `[http]`
    Http,
    /// `[https]`: plain requests match too and are answered by [`HttpsRedirect`].
    Https,
    /// `[http, https]`
    Both,
}

impl RouteProtocols {
    /// Whether it includes the scheme.
    #[must_use]
    pub fn includes(self, scheme: Scheme) -> bool {
        matches!((self, scheme), (Self::Both, _) | (Self::Http, Scheme::Http) | (Self::Https, Scheme::Https))
    }
}

/// What a plain request to an `https` only route is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HttpsRedirect {
    /// 301
    MovedPermanently,
    /// 302
    Found,
    /// 307
    TemporaryRedirect,
    /// 308
    PermanentRedirect,
    /// 426, the default
    UpgradeRequired,
}

impl HttpsRedirect {
    /// The value for a status code of Kong's list.
    #[must_use]
    pub const fn from_code(code: u16) -> Option<Self> {
        match code {
            301 => Some(Self::MovedPermanently),
            302 => Some(Self::Found),
            307 => Some(Self::TemporaryRedirect),
            308 => Some(Self::PermanentRedirect),
            426 => Some(Self::UpgradeRequired),
            _ => None,
        }
    }

    /// Its status code.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::MovedPermanently => 301,
            Self::Found => 302,
            Self::TemporaryRedirect => 307,
            Self::PermanentRedirect => 308,
            Self::UpgradeRequired => 426,
        }
    }
}
