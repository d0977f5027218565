//! Environment variables over files, and differences between configurations.

use expect_test::expect;
use gateway::entity::Backend;

use super::{load_with, settings};
use crate::{Errors, LogLevel, diff};

const FILE: &str = "_format_version: '3.0'\nlisten: {amqp: [127.0.0.1:1]}\nservices: [{name: my-blog, url: 'http://a', routes: [{name: r, paths: [/a]}]}]\nplugins: [{name: key-auth}]\n";

fn errors(env: &[(&str, &str)]) -> String {
    load_with(FILE, env).err().map_or_else(|| String::from("(no errors)"), |errors: Errors| errors.to_string())
}

#[test]
fn any_setting_can_be_overridden() {
    let loaded = load_with(
        FILE,
        &[
            ("SLUICEGATE_LISTEN__AMQP", "127.0.0.1:5673, 127.0.0.1:5674"),
            ("SLUICEGATE_LISTEN__ADMIN", "[::1]:8001"),
            ("SLUICEGATE_LISTEN__HTTP", "[{address: 127.0.0.1:81}]"),
            ("SLUICEGATE_LISTEN__MANAGEMENT", "[]"),
            ("SLUICEGATE_STORAGE__PATH", "data"),
            ("SLUICEGATE_TELEMETRY__LOG__LEVEL", "debug"),
            ("SLUICEGATE_LIMITS__MEMORY_MAX", "32MiB"),
            ("SLUICEGATE_SERVICES__MY_BLOG__URL", "http://b:7"),
            ("SLUICEGATE_SERVICES__0__ROUTES__R__PATHS", "/b,/c"),
            ("SLUICEGATE_SERVICES__0__ENABLED", "false"),
            ("SLUICEGATE_PLUGINS__KEY_AUTH__CONFIG__KEY_NAMES", "x-key,apikey"),
            ("SLUICEGATE_SUBSCRIPTIONS", "[{name: s, queue: q, url: 'http://x'}]"),
            ("SLUICEGATE_SUBSCRIPTIONS__0__MAX_IN_FLIGHT", "3"),
            ("SLUICEGATE_BROKER__DEFINITIONS_FILE", ""),
        ],
    )
    .unwrap_or_else(|errors| panic!("{errors}"));
    let settings = loaded.settings;
    let ports: Vec<u16> = settings.listen.amqp.iter().map(|listener| listener.address.port()).collect();
    assert_eq!(ports, [5673, 5674]);
    assert_eq!(settings.listen.admin[0].address.to_string(), "[::1]:8001");
    assert_eq!(settings.listen.http[0].address.port(), 81);
    assert_eq!(settings.listen.management, []);
    assert_eq!(settings.storage.path.to_str(), Some("/etc/sluicegate/data"));
    assert_eq!(settings.telemetry.log.level, LogLevel::Debug);
    assert_eq!(settings.limits.memory_max, 32 << 20);
    let Backend::Http(http) = &settings.entities.services[0].backend else { panic!("an upstream") };
    assert_eq!((http.host.as_str(), http.port), ("b", 7));
    assert!(!settings.entities.services[0].enabled);
    assert_eq!(settings.entities.routes[0].paths, ["/b", "/c"]);
    assert_eq!(settings.entities.plugins[0].config["key_names"], serde_json::json!(["x-key", "apikey"]));
    assert_eq!(settings.subscriptions[0].max_in_flight, 3);
}

#[test]
fn mistakes_name_the_variable() {
    expect![[r#"
        environment variable SLUICEGATE_LIMITS__DRAIN_TIMEOUT: `drain_timeout` in `limits`: `soon` is not a duration: it has an unknown unit
            = expected: a number with a unit, such as 200ms, 1s, 5m, 2h or 1m30s

        environment variable SLUICEGATE_LISTEN_HTTP: there is no setting `listen_http`
            = help: did you mean SLUICEGATE_LISTEN__HTTP?

        environment variable SLUICEGATE_LISTEN__AMPQ: unknown key `ampq` in `listen`
            = expected: `http`, `amqp`, `admin`, `management` or `stream`
            = help: did you mean `amqp`?

        environment variable SLUICEGATE_LISTEN__AMQP: `amqp` in `listen`: `localhost:5674` is not an address to listen on
            = expected: an IP address and a port, such as 127.0.0.1:8000, 0.0.0.0:8000 or [::1]:8000
            = help: write 127.0.0.1:5674

        environment variable SLUICEGATE_LISTN__AMQP: there is no setting `listn.amqp`
            = help: did you mean SLUICEGATE_LISTEN__AMQP?

        environment variable SLUICEGATE_SERVICES__NOWHERE__URL: there is no `nowhere` in `services`
            = expected: the name of an entity, or its index from 0

        environment variable SLUICEGATE_STORAGE: `storage` must be a map of `key: value`, not text

        environment variable SLUICEGATE_SUBSCRIPTIONS: this is not valid YAML: mismatched bracket '{' closed by ']'

        environment variable SLUICEGATE_TELEMETRY_LOG_LEVEL: there is no setting `telemetry_log_level`
            = help: did you mean SLUICEGATE_TELEMETRY__LOG__LEVEL?

        environment variable SLUICEGATE_ZEBRA__STRIPES: there is no setting `zebra.stripes`

        10 errors in the configuration
    "#]].assert_eq(&errors(&[
        ("SLUICEGATE_LISTEN__AMQP", "127.0.0.1:5673,localhost:5674"),
        ("SLUICEGATE_LISTEN__AMPQ", "127.0.0.1:5673"),
        ("SLUICEGATE_LISTN__AMQP", "127.0.0.1:5673"),
        ("SLUICEGATE_LISTEN_HTTP", "127.0.0.1:5673"),
        ("SLUICEGATE_TELEMETRY_LOG_LEVEL", "debug"),
        ("SLUICEGATE_STORAGE", "/data"),
        ("SLUICEGATE_SERVICES__NOWHERE__URL", "http://x"),
        ("SLUICEGATE_ZEBRA__STRIPES", "1"),
        ("SLUICEGATE_LIMITS__DRAIN_TIMEOUT", "soon"),
        ("SLUICEGATE_SUBSCRIPTIONS", "[{name: s]"),
    ]));
}

#[test]
fn other_programs_variables_are_left_alone() {
    let env = [
        ("SLUICEGATE_SERVICE_HOST", "10.0.0.1"),
        ("SLUICEGATE_SERVICE_PORT", "80"),
        ("SLUICEGATE_PORT_5672_TCP_ADDR", "10.0.0.1"),
        ("SLUICEGATE_BROKER_SERVICE_HOST", "10.0.0.1"),
        ("SLUICEGATE_BIN", "/usr/bin/x"),
        ("SLUICEGATE_ORACLE", "1"),
        ("SLUICEGATE_LOG", "trace"),
        ("PATH", "/bin"),
    ];
    assert_eq!(errors(&env), "(no errors)");
}

#[test]
fn without_a_file_the_environment_is_enough() {
    let env = [("SLUICEGATE_LISTEN__HTTP".to_owned(), "127.0.0.1:0".to_owned())];
    let loaded = crate::load(None, env, std::path::Path::new("/srv"), &super::REGISTRY).unwrap();
    assert_eq!(loaded.settings.listen.http[0].address.port(), 0);
    assert_eq!(loaded.settings.storage.path.to_str(), Some("/srv/sluicegate-data"));
}

#[test]
fn a_reload_says_what_changes_and_what_needs_a_restart() {
    let old = settings("subscriptions: [{name: a, queue: q, url: 'http://x'}, {name: b, queue: q, url: 'http://x'}]\n");
    assert_eq!(diff(&old, &old.clone()), crate::Changes::default());
    let new = settings(
        "listen: {http: [127.0.0.1:1]}\nstorage: {path: x}\ntelemetry: {log: {level: warn}}\nbroker: {definitions: {queues: [{name: q}]}}\nsubscriptions: [{name: b, queue: q, url: 'http://y'}, {name: c, queue: q, url: 'http://x'}]\n",
    );
    let changes = diff(&old, &new);
    assert_eq!(changes.restart_required, ["listen", "storage"]);
    assert!(changes.definitions && changes.log_level);
    assert_eq!(changes.subscriptions_stopped, ["a", "b"]);
    assert_eq!(changes.subscriptions_started, ["b", "c"]);
}
