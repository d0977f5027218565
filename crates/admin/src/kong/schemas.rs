//! `/schemas/*`: the fields of every kind and plugin, which `deck` reads for its defaults, and validation without effect.

use super::answer::{Answer, message};
use super::control::failure;
use super::{Api, Request};
use axum::http::StatusCode;
use entities::{Kind, Store};
use plugin::schema::describe;
use serde_json::{Value, json};

/// `/schemas/{name}`.
pub(super) fn entity(name: &str) -> Answer {
    match Kind::of_name(name) {
        Some(kind) => Answer::ok(json!({ "fields": describe::fields(kind.fields()), "entity_checks": [] })),
        None => message(StatusCode::NOT_FOUND, &format!("No entity named '{name}'")),
    }
}

/// `/schemas/plugins/{name}`.
pub(super) fn plugin(api: &Api, name: &str) -> Answer {
    match config_of(api, name) {
        Some(config) => Answer::ok(json!({
            "fields": [
                { "protocols": protocols() },
                { "config": { "type": "record", "required": true, "fields": config } },
            ],
            "entity_checks": [],
        })),
        None => message(StatusCode::NOT_FOUND, &format!("No plugin named '{name}'")),
    }
}

/// `/plugins/schema/{name}`, the old place: the configuration only.
pub(super) fn plugin_config(api: &Api, name: &str) -> Answer {
    match config_of(api, name) {
        Some(config) => Answer::ok(json!({ "fields": config, "entity_checks": [] })),
        None => message(StatusCode::NOT_FOUND, &format!("No plugin named '{name}'")),
    }
}

fn config_of(api: &Api, name: &str) -> Option<Value> {
    api.state.gateway.registry().find(name).map(|(_, plugin)| describe::fields(plugin.schema().fields))
}

fn protocols() -> Value {
    let words = ["grpc", "grpcs", "http", "https"];
    json!({
        "type": "set", "required": true, "default": words, "elements": { "type": "string", "one_of": words },
    })
}

/// `/schemas/vaults/{name}`.
pub(super) fn vault(name: &str) -> Answer {
    if name == "env" {
        let prefix = json!({ "prefix": { "type": "string", "description": "prefix of the variables' names" } });
        Answer::ok(json!({ "fields": [{ "config": { "type": "record", "fields": [prefix] } }], "entity_checks": [] }))
    } else {
        message(StatusCode::NOT_FOUND, &format!("No vault named '{name}'"))
    }
}

/// `POST /schemas/{name}/validate`: references are not followed.
pub(super) fn validate(api: &Api, name: &str, request: &Request) -> Answer {
    let Some(kind) = Kind::of_name(name) else {
        return message(StatusCode::NOT_FOUND, &format!("No entity named '{name}'"));
    };
    let body = match request.body(api, &Store::new(), kind, None) {
        Ok(body) => body,
        Err(refused) => return refused,
    };
    match api.state.control.validate(kind, Value::Object(body)) {
        Ok(()) => message(StatusCode::OK, "schema validation successful"),
        Err(error) => failure(&error),
    }
}
