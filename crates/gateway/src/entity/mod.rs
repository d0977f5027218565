//! Kong's entities as plain data: what a configuration file or an API call has been resolved to.
//!
//! Every reference is by id and every default is filled in; `config` does both and reports mistakes with their position.
//! The types are not `Serialize`: text formats live at the edges. Nothing here is compiled for speed, that is
//! [`crate::Snapshot`]'s task. Reference: Kong 3.x entity schemas.

mod certificate;
mod consumer;
mod discovery;
mod health_checks;
mod plugin_config;
mod resilience;
mod route;
mod service;
mod stream_route;
mod target;
mod traffic;
mod upstream;

use std::fmt;

pub use certificate::{CaCertificate, Certificate, Sni};
pub use consumer::{ApiConsumer, KeyAuthCredential};
pub use discovery::{Catalogue, CatalogueAddress, ConsulCatalogue, Discovery};
pub use health_checks::{ActiveChecks, CheckKind, FailureLimits, HealthChecks, Intervals, PassiveChecks, SuccessLimit};
pub use model::Secret;
pub use plugin::{Id, Scheme};
pub use plugin_config::PluginConfig;
pub use resilience::{Breaker, Bulkhead, Hedge, OutlierDetection, Resilience, Retry, SlowStart};
pub use route::{HttpsRedirect, Route, RouteProtocols};
pub use service::{Backend, HttpBackend, Protocol, QueueBackend, Service, StreamBackend, StreamProtocol};
pub use stream_route::{Endpoint, StreamProtocols, StreamRoute};
pub use target::{Target, TargetAddress};
pub use traffic::{Mirror, Share, Split};
pub use upstream::{Algorithm, HashInput, Hashing, Upstream};

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
    /// Identifies a [`Certificate`].
    CertificateId, "certificates"
);
entity_id!(
    /// Identifies a [`Sni`]. Its key is its name.
    SniId, "snis"
);
entity_id!(
    /// Identifies a [`CaCertificate`].
    CaCertificateId, "ca_certificates"
);
entity_id!(
    /// Identifies an [`Upstream`]. Its key is its name.
    UpstreamId, "upstreams"
);
entity_id!(
    /// Identifies a [`Target`]. Its key is the upstream's id, `:`, and the target.
    TargetId, "targets"
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
    /// Routes for connections; ids and names are unique among all routes.
    pub stream_routes: Vec<StreamRoute>,
    /// Consumers; ids, user names and custom ids are unique.
    pub consumers: Vec<ApiConsumer>,
    /// API keys of consumers; keys are unique.
    pub keyauth_credentials: Vec<KeyAuthCredential>,
    /// Plugin configurations; unique on (name, route, service, consumer).
    pub plugins: Vec<PluginConfig>,
    /// Certificates with their keys.
    pub certificates: Vec<Certificate>,
    /// Server names of TLS; names are unique.
    pub snis: Vec<Sni>,
    /// Trust anchors that services name.
    pub ca_certificates: Vec<CaCertificate>,
    /// Virtual hosts that services name; ids and names are unique.
    pub upstreams: Vec<Upstream>,
    /// Where upstreams send requests; unique on (upstream, target).
    pub targets: Vec<Target>,
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
