//! Configurations of plugins.

use super::{ApiConsumerId, Id, PluginId, RouteId, RouteProtocols, ServiceId};

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
