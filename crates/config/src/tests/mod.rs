//! Whole configurations through `load_text`: what is right resolves, what is wrong is shown exactly.

mod accept;
mod admin;
mod broker;
mod dns;
mod entity_errors;
mod environment;
mod errors;
mod files;
mod policies;
mod quotas;
mod robust;

use std::path::Path;
use std::sync::{Arc, LazyLock};

use ::plugin::{DefaultValue, Field, Handler, Kind, Plugin, Problem, Registry, Schema, Setup};

use crate::{Errors, Loaded, Settings, load_text};

/// A plugin that has only a name and a schema.
struct Named {
    name: &'static str,
    schema: &'static Schema,
    allows_consumer: bool,
}

impl Plugin for Named {
    fn name(&self) -> &'static str {
        self.name
    }

    fn schema(&self) -> &'static Schema {
        self.schema
    }

    fn configure(&self, _: &serde_json::Value, _: &Setup) -> Result<Arc<dyn Handler>, Vec<Problem>> {
        Err(Vec::new())
    }

    fn allows_consumer_scope(&self) -> bool {
        self.allows_consumer
    }
}

static KEY_AUTH: Schema = Schema::of(&[
    Field::with_default(
        "key_names",
        Kind::List { of: &Kind::HeaderName, len_min: 1 },
        DefaultValue::Texts(&["apikey"]),
        "where keys are",
    ),
    Field::with_default("hide_credentials", Kind::Bool, DefaultValue::Bool(false), "take the key off"),
]);
static RATE_LIMITING: Schema = Schema {
    fields: &[
        Field::optional("second", Kind::NumberAbove(0.0), "requests a second"),
        Field::optional("minute", Kind::NumberAbove(0.0), "requests a minute"),
        Field::with_default(
            "policy",
            Kind::Choice { allowed: &["local"], refused: &[("redis", "no Redis client is built in")] },
            DefaultValue::Text("local"),
            "where counters are",
        ),
    ],
    check: |config| {
        if config.contains_key("second") || config.contains_key("minute") {
            Vec::new()
        } else {
            vec![Problem::of_root("at least one of second and minute is needed")]
        }
    },
};
static CORRELATION_ID: Schema = Schema::of(&[
    Field::with_default("header_name", Kind::HeaderName, DefaultValue::Text("Kong-Request-ID"), ""),
    Field::with_default("echo_downstream", Kind::Bool, DefaultValue::Bool(false), ""),
    Field::with_default(
        "generator",
        Kind::OneOf(&["uuid", "uuid#counter", "tracker"]),
        DefaultValue::Text("uuid#counter"),
        "",
    ),
]);

/// Plugins for tests: the configuration crate needs only names and schemas.
static REGISTRY: LazyLock<Registry> = LazyLock::new(|| {
    let plugin =
        |name, schema, allows_consumer| -> Arc<dyn Plugin> { Arc::new(Named { name, schema, allows_consumer }) };
    Registry::new(vec![
        plugin("correlation-id", &CORRELATION_ID, true),
        plugin("key-auth", &KEY_AUTH, false),
        plugin("rate-limiting", &RATE_LIMITING, true),
    ])
});

/// Loads a text as `/etc/sluicegate/sluicegate.yaml` with an environment.
fn load_with(text: &str, env: &[(&str, &str)]) -> Result<Loaded, Errors> {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    load_text(Some(Path::new("sluicegate.yaml")), text.to_owned(), env, Path::new("/etc/sluicegate"), &REGISTRY)
}

/// The settings of a text that must be right.
fn settings(text: &str) -> Settings {
    match load_with(text, &[]) {
        Ok(loaded) => loaded.settings,
        Err(errors) => panic!("should load:\n{errors}"),
    }
}

/// The report about a text that must be wrong.
fn report(text: &str) -> String {
    match load_with(text, &[]) {
        Ok(_) => String::from("(no errors)"),
        Err(errors) => errors.to_string(),
    }
}

/// Only the messages of a text that must be wrong.
fn messages(text: &str) -> Vec<String> {
    match load_with(text, &[]) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(|error| error.message.clone()).collect(),
    }
}
