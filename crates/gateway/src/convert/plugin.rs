//! Configurations of plugins.

use super::{Record, Refusal, route};
use crate::entity::{ApiConsumerId, PluginConfig, PluginId, RouteId, ServiceId};
use entities::Store;
use plugin::schema::without_nulls;
use serde_json::Value;

pub(super) fn plugin(record: &Record, _: &Store, refusals: &mut Vec<Refusal>) -> Option<PluginConfig> {
    let Some(protocols) = route::protocols(&record.strings("protocols")) else {
        record.refuse(refusals, "protocols", None, "no protocol of HTTP or gRPC: it would never run");
        return None;
    };
    // A handler asks which fields have a value.
    let config = record.fields().get("config").and_then(Value::as_object).map(without_nulls).unwrap_or_default();
    Some(PluginConfig {
        id: PluginId(record.id),
        name: record.string("name")?,
        instance_name: record.string("instance_name"),
        enabled: record.flag("enabled", true),
        protocols,
        config: Value::Object(config),
        route: record.reference("route").map(RouteId),
        service: record.reference("service").map(ServiceId),
        consumer: record.reference("consumer").map(ApiConsumerId),
        tags: record.strings("tags"),
    })
}
