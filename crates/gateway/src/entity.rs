//! Kong's entities as plain data: what a configuration file or an API call has been resolved to.
//!
//! Every reference is by id and every default is filled in; `config` does both and reports mistakes with their position.
//! The types are not `Serialize`: text formats live at the edges. Nothing here is compiled for speed, that is
//! [`crate::Snapshot`]'s task. Reference: Kong 3.x entity schemas.

use std::fmt;

pub use model::Secret;
pub use plugin::{Id, Scheme};

macro_rules! entity_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name(pub Id);

        impl $name {
            /// The id of an entity whose file gives none: a UUIDv5 of the kind and the entity's key, so it stays the
            /// same over reloads and machines.
            #[must_use]
            pub fn derived(key: &str) -> Self {
                Self(derive_id($kind, key))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

entity_id!(
    /// Identifies a [`Service`].
    ServiceId, "services"
);
entity_id!(
    /// Identifies a [`Route`].
    RouteId, "routes"
);
entity_id!(
    /// Identifies an [`ApiConsumer`].
    ApiConsumerId, "consumers"
);
entity_id!(
    /// Identifies a [`KeyAuthCredential`]. Its key, for [`CredentialId::derived`], is the API key.
    CredentialId, "keyauth_credentials"
);
entity_id!(
    /// Identifies a [`PluginConfig`]. Its key is [`PluginConfig::derived_key`].
    PluginId, "plugins"
);
entity_id!(
    /// Identifies a [`CaCertificate`].
    CaCertificateId, "ca_certificates"
);

/// The namespace of derived ids: the UUIDv5 of `sluicegate` in the DNS namespace.
fn derive_id(kind: &str, key: &str) -> Id {
    let namespace = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_DNS, b"sluicegate");
    let mut name = Vec::with_capacity(kind.len() + 1 + key.len());
    name.extend_from_slice(kind.as_bytes());
    name.push(b':');
    name.extend_from_slice(key.as_bytes());
    Id::from_bytes(*uuid::Uuid::new_v5(&namespace, &name).as_bytes())
}

/// The whole set of entities that one snapshot is built from.
#[derive(Clone, Debug, Default)]
pub struct Entities {
    /// Services; ids and names are unique.
    pub services: Vec<Service>,
    /// Routes; ids and names are unique.
    pub routes: Vec<Route>,
    /// Consumers; ids, user names and custom ids are unique.
    pub consumers: Vec<ApiConsumer>,
    /// API keys of consumers; keys are unique.
    pub keyauth_credentials: Vec<KeyAuthCredential>,
    /// Plugin configurations; unique on (name, route, service, consumer).
    pub plugins: Vec<PluginConfig>,
    /// Trust anchors that services name.
    pub ca_certificates: Vec<CaCertificate>,
}

/// Where requests of its routes go: an HTTP upstream or a queue.
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
    /// Labels without meaning to us.
    pub tags: Vec<String>,
}

impl Service {
    /// The value of Kong's `protocol` field.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        match &self.backend {
            Backend::Http(http) => match http.scheme {
                Scheme::Http => Protocol::Http,
                Scheme::Https => Protocol::Https,
            },
            Backend::Queue(_) => Protocol::Queue,
        }
    }
}

/// The values of a service's `protocol` that we know. Others (`grpc`, `tcp`, …) are refused by `config`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// `http`
    Http,
    /// `https`
    Https,
    /// `queue`: the route's requests are published to a queue.
    Queue,
}

/// What a service stands for.
#[derive(Clone, Debug)]
pub enum Backend {
    /// `protocol: http` or `https`.
    Http(HttpBackend),
    /// `protocol: queue`.
    Queue(QueueBackend),
}

/// An HTTP upstream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpBackend {
    /// `http` or `https`.
    pub scheme: Scheme,
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
    /// Length limit of the certificate chain, 0 to 64. Only with `https`.
    pub tls_verify_depth: Option<u8>,
    /// Trust anchors for this upstream; empty means the system's. Only with `https`.
    pub ca_certificates: Vec<CaCertificateId>,
}

impl HttpBackend {
    /// A backend with Kong's defaults.
    #[must_use]
    pub fn new(scheme: Scheme, host: &str, port: u16) -> Self {
        Self {
            scheme,
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
        }
    }
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
    /// Whether the matched prefix is taken off the upstream path. Default true.
    pub strip_path: bool,
    /// Whether the client's `Host` is kept. Default false.
    pub preserve_host: bool,
    /// Stored and returned; bodies always stream here. Default true.
    pub request_buffering: bool,
    /// Stored and returned; bodies always stream here. Default true.
    pub response_buffering: bool,
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
            methods: Vec::new(),
            hosts: Vec::new(),
            paths: Vec::new(),
            headers: Vec::new(),
            snis: Vec::new(),
            https_redirect_status_code: HttpsRedirect::UpgradeRequired,
            regex_priority: 0,
            strip_path: true,
            preserve_host: false,
            request_buffering: true,
            response_buffering: true,
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

/// A user of the API (Kong's *consumer*; the word alone means a queue's consumer here).
#[derive(Clone, Debug)]
pub struct ApiConsumer {
    /// Identifier.
    pub id: ApiConsumerId,
    /// Unique name. At least one of `username` and `custom_id` is given.
    pub username: Option<String>,
    /// Unique id in the owner's systems.
    pub custom_id: Option<String>,
    /// Labels without meaning to us.
    pub tags: Vec<String>,
}

/// An API key of a consumer, for the plugin `key-auth`.
#[derive(Clone, Debug)]
pub struct KeyAuthCredential {
    /// Identifier.
    pub id: CredentialId,
    /// Whose key it is.
    pub consumer: ApiConsumerId,
    /// The key; unique.
    pub key: Secret,
    /// Labels without meaning to us.
    pub tags: Vec<String>,
}

/// One configuration of a plugin and where it applies.
#[derive(Clone, Debug)]
pub struct PluginConfig {
    /// Identifier.
    pub id: PluginId,
    /// Name of the plugin; one that the registry knows.
    pub name: String,
    /// Unique name of this configuration, if it has one.
    pub instance_name: Option<String>,
    /// A disabled configuration does not exist for requests.
    pub enabled: bool,
    /// Schemes of requests it runs for.
    pub protocols: RouteProtocols,
    /// Checked against the plugin's schema, defaults filled in.
    pub config: serde_json::Value,
    /// Only for requests of this route.
    pub route: Option<RouteId>,
    /// Only for requests of this service.
    pub service: Option<ServiceId>,
    /// Only for requests of this consumer.
    pub consumer: Option<ApiConsumerId>,
    /// Labels without meaning to us.
    pub tags: Vec<String>,
}

impl PluginConfig {
    /// The key of a configuration without an id: its instance name, else the plugin's name and the scope's ids.
    #[must_use]
    pub fn derived_key(
        name: &str,
        instance_name: Option<&str>,
        route: Option<RouteId>,
        service: Option<ServiceId>,
        consumer: Option<ApiConsumerId>,
    ) -> String {
        if let Some(instance_name) = instance_name {
            return instance_name.to_owned();
        }
        let part = |id: Option<Id>| id.map(|id| id.to_string()).unwrap_or_default();
        format!(
            "{name}:{}:{}:{}",
            part(route.map(|id| id.0)),
            part(service.map(|id| id.0)),
            part(consumer.map(|id| id.0))
        )
    }
}

/// A trust anchor for TLS to upstreams.
#[derive(Clone, Debug)]
pub struct CaCertificate {
    /// Identifier.
    pub id: CaCertificateId,
    /// One certificate in PEM.
    pub cert: String,
    /// Labels without meaning to us.
    pub tags: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_ids_are_stable_and_differ_by_kind() {
        assert_eq!(ServiceId::derived("orders"), ServiceId::derived("orders"));
        assert_ne!(ServiceId::derived("orders").0, RouteId::derived("orders").0);
        let text = ServiceId::derived("orders").to_string();
        assert_eq!(text.as_bytes()[14], b'5', "version 5: {text}");
    }
}
