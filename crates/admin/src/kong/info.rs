//! What the node says of itself, in the shapes that Kong's clients read: `/`, `/status`, `/endpoints`, `/plugins/enabled`.
//!
//! Figures of things we do not have (Lua, timers, workers' shared dictionaries) are not made up: they are left out, or
//! empty where a client expects the key.

use super::Api;
use super::answer::Answer;
use super::paths;
use crate::metrics::Figures;
use entities::Kind;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

/// The version of Kong's API that we speak: clients such as `deck` decide by it what may be asked.
const KONG_VERSION: &str = "3.9.1";

/// `/`.
pub(super) fn root(api: &Api) -> Answer {
    let state = &api.state;
    let n_plugins = state.gateway.registry().len();
    let available: Map<String, Value> = names(api)
        .enumerate()
        .map(|(place, name)| (name.to_owned(), json!({ "version": state.version, "priority": n_plugins - place })))
        .collect();
    let store = state.control.store();
    let in_use: BTreeSet<String> = store
        .iter(Kind::Plugins)
        .filter_map(|plugin| plugin.record().get("name")?.as_str().map(str::to_owned))
        .collect();
    Answer::ok(json!({
        "tagline": "Welcome to sluicegate",
        "version": KONG_VERSION,
        "sluicegate_version": state.version,
        "edition": "community",
        "hostname": hostname(),
        "node_id": state.control.node_id(),
        "plugins": { "available_on_server": available, "enabled_in_cluster": in_use },
        "configuration": {
            "database": "off",
            "role": "traditional",
            "router_flavor": "traditional_compatible",
            "plugins": ["bundled"],
            "loaded_plugins": names(api).map(|name| (name.to_owned(), Value::Bool(true))).collect::<Map<_, _>>(),
        },
        "pids": { "master": std::process::id() },
    }))
}

/// The plugins there are, first to run first.
fn names(api: &Api) -> impl Iterator<Item = &'static str> {
    api.state.gateway.registry().iter().map(|plugin| plugin.name())
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map_or_else(|_| String::new(), |name| name.trim().to_owned())
}

/// `/status`: ours, and what Kong has there.
pub(super) fn status(api: &Api) -> Answer {
    let state = &api.state;
    Answer::ok(json!({
        "version": state.version,
        "ready": state.ready.load(Ordering::Acquire),
        "server": {
            "total_requests": total_requests(api),
        },
        "memory": {
            "resident_bytes": Figures::read().rss_bytes,
            "workers_lua_vms": [],
            "lua_shared_dicts": {},
        },
        "configuration_hash": state.control.configuration_hash(),
    }))
}

fn total_requests(api: &Api) -> u64 {
    let snapshot = api.state.gateway.snapshot();
    let routed: u64 = snapshot.routes().map(|view| view.stats.counts().total_requests()).sum();
    routed + api.state.gateway.stats().unmatched().counts().total_requests()
}

/// `/endpoints`.
pub(super) fn endpoints() -> Answer {
    let mut all = paths::all();
    all.extend(OTHERS.map(str::to_owned));
    // By segments: `/a/b` before `/a-b`.
    all.sort_by_key(|path| path.replace('/', "\0"));
    Answer::ok(json!({ "data": all }))
}

/// The paths that are not of entities.
const OTHERS: [&str; 22] = [
    "/",
    "/config",
    "/endpoints",
    "/metrics",
    "/plugins/enabled",
    "/plugins/schema/{name}",
    "/schemas/plugins/validate",
    "/schemas/plugins/{name}",
    "/schemas/vaults/validate",
    "/schemas/vaults/{name}",
    "/schemas/{db_entity_name}/validate",
    "/schemas/{name}",
    "/status",
    "/status/ready",
    "/tags",
    "/tags/{tags}",
    "/upstreams/{upstreams}/health",
    "/upstreams/{upstreams}/targets/all",
    "/upstreams/{upstreams}/targets/{targets}/healthy",
    "/upstreams/{upstreams}/targets/{targets}/unhealthy",
    "/upstreams/{upstreams}/targets/{targets}/{address}/healthy",
    "/upstreams/{upstreams}/targets/{targets}/{address}/unhealthy",
];

/// `/plugins/enabled`.
pub(super) fn enabled_plugins(api: &Api) -> Answer {
    Answer::ok(json!({ "enabled_plugins": names(api).collect::<Vec<_>>() }))
}
