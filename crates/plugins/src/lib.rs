//! The plugins, one file each. The list in [`registry`] is the order in which their phases run: Kong's order of
//! priorities, with our own plugins among them.
//!
//! To add a plugin: one file with its schema, its [`plugin::Plugin`] and its tests, and one line in the list.

mod correlation_id;
mod form;
mod key_auth;
mod prometheus;
mod queue_publish;
mod rate_limiting;
#[cfg(test)]
mod testing;

use plugin::Registry;
use std::sync::Arc;

/// Every plugin, first to run first.
#[must_use]
pub fn registry() -> Registry {
    Registry::new(vec![
        Arc::new(correlation_id::CorrelationId::default()), // 100001
        Arc::new(key_auth::KeyAuth),                        // 1250
        Arc::new(rate_limiting::RateLimiting::default()),   // 910
        Arc::new(queue_publish::QueuePublish),              // ours: ends a request, so after all that may refuse it
        Arc::new(prometheus::Prometheus),                   // 13
    ])
}

/// Reads a configuration that passed its schema into the plugin's own type.
fn read<T: serde::de::DeserializeOwned>(config: &serde_json::Value) -> Result<T, Vec<plugin::Problem>> {
    T::deserialize(config).map_err(|error| vec![plugin::Problem::of_root(error.to_string())])
}
