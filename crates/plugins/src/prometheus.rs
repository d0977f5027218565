//! `prometheus`: which of Kong's metric families a request counts in.
//!
//! The gateway counts every request itself; this plugin only marks what appears under Kong's names, so both read the
//! same counters. `GET /metrics` belongs to the admin listener.

use plugin::{Context, DefaultValue, Export, Field, Handler, Kind, LogRecord, Plugin, Problem, Schema, Setup};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::sync::Arc;

/// The plugin.
#[derive(Debug)]
pub(crate) struct Prometheus;

const fn flag(name: &'static str, help: &'static str) -> Field {
    Field::with_default(name, Kind::Bool, DefaultValue::Bool(false), help)
}

static SCHEMA: Schema = Schema {
    fields: &[
        flag("per_consumer", "label the request counter with the consumer's name"),
        flag("status_code_metrics", "kong_http_requests_total"),
        flag("latency_metrics", "kong_kong_latency_ms, kong_upstream_latency_ms, kong_request_latency_ms"),
        flag("bandwidth_metrics", "kong_bandwidth_bytes"),
        flag("upstream_health_metrics", "kong_upstream_target_health, of all upstreams"),
        flag("ai_metrics", "not available: there are no ai plugins"),
        flag("wasm_metrics", "not available: there are no Wasm filters"),
    ],
    check,
};

fn check(config: &Map<String, Value>) -> Vec<Problem> {
    let missing = [("ai_metrics", "there are no ai plugins"), ("wasm_metrics", "there are no Wasm filters")];
    let asked = missing.iter().filter(|(name, _)| config.get(*name) == Some(&Value::Bool(true)));
    asked.map(|(name, reason)| Problem::of_field(name, format!("not available: {reason}"))).collect()
}

#[derive(Deserialize)]
struct Config {
    per_consumer: bool,
    status_code_metrics: bool,
    latency_metrics: bool,
    bandwidth_metrics: bool,
    upstream_health_metrics: bool,
}

impl Plugin for Prometheus {
    fn name(&self) -> &'static str {
        "prometheus"
    }

    fn schema(&self) -> &'static Schema {
        &SCHEMA
    }

    fn configure(&self, config: &Value, _: &Setup) -> Result<Arc<dyn Handler>, Vec<Problem>> {
        let config: Config = crate::read(config)?;
        Ok(Arc::new(Mark(Export {
            status_code: config.status_code_metrics,
            latency: config.latency_metrics,
            bandwidth: config.bandwidth_metrics,
            upstream_health: config.upstream_health_metrics,
            per_consumer: config.per_consumer,
        })))
    }
}

struct Mark(Export);

impl Handler for Mark {
    fn log(&self, _: &Context, record: &mut LogRecord) {
        record.export = self.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{handler, problems, request};
    use plugin::{Source, Timing};
    use serde_json::json;

    #[test]
    fn the_configured_families_are_marked() {
        let handler = handler(&Prometheus, &json!({"latency_metrics": true, "per_consumer": true}));
        let mut record = LogRecord {
            status: 200,
            source: Source::Service,
            timing: Timing::default(),
            bytes_in: 0,
            bytes_out: 0,
            export: Export::default(),
        };
        handler.log(&request("GET", "/", &[]), &mut record);
        let wanted = Export { latency: true, per_consumer: true, ..Export::default() };
        assert_eq!(record.export, wanted);
    }

    #[test]
    fn families_we_do_not_have_are_refused_by_name() {
        let found = problems(&Prometheus, &json!({"ai_metrics": true, "wasm_metrics": false}));
        assert_eq!(found, ["ai_metrics: not available: there are no ai plugins"]);
    }
}
