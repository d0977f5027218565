//! Right configurations, and what they resolve to.

use std::time::Duration;

use gateway::entity::{ApiConsumerId, Backend, Protocol, RouteId, RouteProtocols, Scheme, ServiceId};

use super::{load_with, settings};
use crate::{LogFormat, LogLevel, QUICKSTART, Settings, StreamTransport};

/// The example of the product's description.
const DESCRIPTION: &str = r#"
_format_version: "3.0"
listen: { http: [127.0.0.1:8000], amqp: [127.0.0.1:5672], admin: [127.0.0.1:8001], management: [127.0.0.1:15672] }
storage: { path: ./sluicegate-data }
broker: { definitions: { queues: [{ name: orders, vhost: /, durable: true, auto_delete: false, arguments: {} }] } }
services:
- { name: orders-intake, protocol: queue, host: orders, routes: [{ name: post-order, methods: [POST], paths: [/orders] }] }
- { name: blog, url: "http://127.0.0.1:9000", routes: [{ name: get-post, methods: [GET], paths: [/get_post] }] }
subscriptions:
- { name: fulfil, queue: orders, url: "http://127.0.0.1:9001/fulfil", retry: { base: 1s, factor: 2, max: 1m, attempts: 10 }, dead_letter: orders.dead }
"#;

#[test]
fn the_example_of_the_description_loads() {
    let settings = settings(DESCRIPTION);
    assert_eq!(settings.listen, crate::Listen::default());
    assert_eq!(settings.storage.path.to_str(), Some("/etc/sluicegate/sluicegate-data"));
    let [intake, blog] = settings.entities.services.as_slice() else { panic!("two services") };
    assert_eq!((intake.protocol(), intake.id), (Protocol::Queue, ServiceId::derived("orders-intake")));
    let Backend::Queue(queue) = &intake.backend else { panic!("a queue") };
    assert_eq!((queue.queue.as_str(), queue.vhost.as_str(), queue.user.as_str()), ("orders", "/", "guest"));
    let Backend::Http(http) = &blog.backend else { panic!("an upstream") };
    assert_eq!(
        (http.scheme, http.host.as_str(), http.port, http.path.as_deref()),
        (Scheme::Http, "127.0.0.1", 9000, None)
    );
    assert_eq!((http.retries, http.connect_timeout_ms), (5, 60_000));
    let post = &settings.entities.routes[0];
    assert_eq!((post.id, post.service), (RouteId::derived("post-order"), Some(intake.id)));
    assert_eq!((post.protocols, post.strip_path, post.preserve_host), (RouteProtocols::Both, true, false));
    let [fulfil] = settings.subscriptions.as_slice() else { panic!("one subscription") };
    assert_eq!(fulfil.url.to_string(), "http://127.0.0.1:9001/fulfil");
    assert_eq!((fulfil.retry.max, fulfil.retry.attempts), (Duration::from_secs(60), 10));
    assert_eq!(fulfil.dead_letter.as_deref(), Some("orders.dead"));
    assert_eq!(settings.named_queues(), [("/", "orders"), ("/", "orders.dead")]);
}

#[test]
fn a_route_may_have_an_expression_and_a_priority() {
    let text = r#"{ _format_version: "3.0", routes: [{ expression: 'http.path ^= "/a"', priority: 70368744177663 }, { expression: 'http.path ^= "/b"' }] }"#;
    let routes = settings(text).entities.routes;
    let got: Vec<_> = routes.iter().map(|route| (route.expression.as_deref(), route.priority)).collect();
    assert_eq!(got, [(Some("http.path ^= \"/a\""), (1 << 46) - 1), (Some("http.path ^= \"/b\""), 0)]);
    assert_ne!(routes[0].id, routes[1].id);
}

#[test]
fn nothing_at_all_is_the_defaults() {
    let none = crate::load_text(None, String::new(), [], std::path::Path::new("/srv"), &super::REGISTRY);
    assert!(none.is_ok_and(|loaded| loaded.settings.listen == Settings::default().listen));
    let empty = settings("{}");
    assert_eq!(empty.listen, Settings::default().listen);
    assert_eq!(empty.broker, Settings::default().broker);
    let definitions = &empty.broker.definitions;
    assert_eq!(definitions.users[0].name, "guest");
    assert_eq!(definitions.vhosts[0].name, "/");
    assert_eq!(definitions.permissions[0].write, ".*");
}

#[test]
fn the_quickstart_loads_without_a_warning() {
    let loaded = load_with(QUICKSTART, &[]).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.settings.entities.routes.len(), 2);
}

#[test]
fn the_quickstart_fits_the_programs_own_plugins() {
    let text = QUICKSTART.to_owned();
    let loaded = crate::load_text(None, text, [], std::path::Path::new("/srv"), &plugins::registry());
    assert_eq!(loaded.map(|loaded| loaded.settings.entities.plugins.len()), Ok(1));
}

/// A file as deck dumps it from Kong 3.9, with every default written out.
const DUMP: &str = r#"
_format_version: "3.0"
_transform: false
consumers:
- id: 5d1b5b4e-26de-4d7e-8d0e-5c1e3c1b0a11
  created_at: 1700000000
  keyauth_credentials:
  - { id: 5d1b5b4e-26de-4d7e-8d0e-5c1e3c1b0a12, created_at: 1700000000, key: k1 }
  username: alice
services:
- connect_timeout: 60000
  created_at: 1700000000
  enabled: true
  host: users.internal
  id: 5d1b5b4e-26de-4d7e-8d0e-5c1e3c1b0a13
  name: users
  path: null
  port: 8080
  protocol: http
  read_timeout: 60000
  retries: 5
  routes:
  - https_redirect_status_code: 426
    id: 5d1b5b4e-26de-4d7e-8d0e-5c1e3c1b0a14
    name: users
    path_handling: v0
    paths: [/users]
    preserve_host: false
    protocols: [http, https]
    regex_priority: 0
    request_buffering: true
    response_buffering: true
    strip_path: true
    plugins:
    - config:
        day: null
        error_code: 429
        error_message: API rate limit exceeded
        fault_tolerant: true
        header_name: null
        hide_client_headers: false
        hour: null
        limit_by: consumer
        minute: 5
        month: null
        path: null
        policy: local
        redis:
          database: 0
          host: null
          password: null
          port: 6379
          server_name: null
          ssl: false
          ssl_verify: false
          timeout: 2000
          username: null
        second: null
        sync_rate: -1
        year: null
      enabled: true
      id: 5d1b5b4e-26de-4d7e-8d0e-5c1e3c1b0a15
      name: rate-limiting
      protocols: [grpc, grpcs, http, https]
  updated_at: 1700000000
  write_timeout: 60000
plugins:
- config:
    anonymous: null
    hide_credentials: false
    key_in_body: false
    key_in_header: true
    key_in_query: true
    key_names: [apikey]
    realm: null
    run_on_preflight: true
  enabled: true
  id: 5d1b5b4e-26de-4d7e-8d0e-5c1e3c1b0a16
  name: key-auth
  protocols: [grpc, grpcs, http, https, ws, wss]
- config:
    echo_downstream: false
    generator: uuid#counter
    header_name: Kong-Request-ID
  name: correlation-id
- config: { bandwidth_metrics: false, latency_metrics: false, per_consumer: false, status_code_metrics: true, upstream_health_metrics: false }
  name: prometheus
"#;

#[test]
fn a_dump_with_every_default_written_out_loads() {
    let loaded = crate::load_text(None, DUMP.to_owned(), [], std::path::Path::new("/srv"), &plugins::registry());
    let loaded = loaded.unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(loaded.settings.entities.plugins.len(), 4);
    assert_eq!(loaded.warnings, []);
}

#[test]
fn every_commented_example_of_the_quickstart_loads_too() {
    // `# key:` at the margin with more of the same under it is an example; prose never has a colon at its end.
    let mut text = String::new();
    let mut example = false;
    for line in QUICKSTART.lines() {
        let bare = line.strip_prefix("# ").unwrap_or(line);
        example = line.starts_with("# ") && (example || matches!(bare, "subscriptions:" | "broker:"));
        text.push_str(if example { bare } else { line });
        text.push('\n');
    }
    let text = text.replace("  host: orders ", "  user: alice\n  host: orders ");
    let loaded = settings(&text.replace("  queue: orders", "  user: alice\n  queue: orders"));
    assert_eq!(loaded.subscriptions.len(), 1);
    assert_eq!(loaded.broker.definitions.users[0].name, "alice");
}

#[test]
fn a_kong_file_resolves_consumers_credentials_and_plugins_at_every_scope() {
    let settings = settings(
        r#"
_format_version: "3.0"
_transform: true
_comment: from production
services:
- name: users
  id: 4e3ad2e4-0bc4-4638-8e34-c84a417ba39b
  protocol: https
  host: users.internal
  port: 8443
  path: /api
  read_timeout: 1000
  tls_verify: false
  tags: [core, "v 2"]
  routes:
  - name: users-v1
    paths: [/users, '~/users/(?<id>[0-9]+)$']
    hosts: ["*.example.com", example.com:8443]
    headers: { X-Version: [v1, "~*v[23]"] }
    protocols: [https]
    https_redirect_status_code: 301
    plugins: [{ name: rate-limiting, config: { minute: 5 } }]
  plugins: [{ name: key-auth }]
routes:
- { paths: [/old], service: users, regex_priority: 7, preserve_host: true }
- { paths: [/older], service: { id: 4e3ad2e4-0bc4-4638-8e34-c84a417ba39b } }
- { paths: [/none] }
consumers:
- username: alice
  custom_id: "17"
  keyauth_credentials: [{ key: alice-key, tags: [web], ttl: 60 }]
  plugins: [{ name: rate-limiting, config: { second: 0.5 }, instance_name: slow-alice }]
keyauth_credentials:
- { key: second-key, consumer: alice }
plugins:
- { name: correlation-id, enabled: false, protocols: [grpc, grpcs, http, https] }
- { name: rate-limiting, route: users-v1, consumer: { username: alice }, config: { minute: 9 } }
"#,
    );
    let entities = &settings.entities;
    let users = ServiceId("4e3ad2e4-0bc4-4638-8e34-c84a417ba39b".parse().unwrap());
    assert_eq!(entities.services[0].id, users);
    let services: Vec<_> = entities.routes.iter().map(|route| route.service).collect();
    assert_eq!(services, [Some(users), Some(users), Some(users), None]);
    assert_eq!(entities.routes[0].https_redirect_status_code.code(), 301);
    assert_eq!(entities.routes[1].regex_priority, 7);
    let alice = ApiConsumerId::derived("alice");
    let owners: Vec<_> = entities.keyauth_credentials.iter().map(|key| (key.key.reveal(), key.consumer)).collect();
    assert_eq!(owners, [("alice-key", alice), ("second-key", alice)]);
    let expires: Vec<_> = entities.keyauth_credentials.iter().map(|key| key.expires.is_some()).collect();
    assert_eq!(expires, [true, false]);
    let scopes: Vec<_> = entities
        .plugins
        .iter()
        .map(|p| (p.name.as_str(), p.service.is_some(), p.route.is_some(), p.consumer.is_some(), p.config.to_string()))
        .collect();
    let limit = |config: &str| format!(r#"{{{config},"policy":"local"}}"#);
    assert_eq!(
        scopes,
        [
            ("key-auth", true, false, false, r#"{"hide_credentials":false,"key_names":["apikey"]}"#.to_owned()),
            ("rate-limiting", false, true, false, limit(r#""minute":5"#)),
            (
                "rate-limiting",
                false,
                false,
                true,
                limit(r#""policy":"local","second":0.5"#).replace(r#","policy":"local"}"#, "}")
            ),
            (
                "correlation-id",
                false,
                false,
                false,
                r#"{"echo_downstream":false,"generator":"uuid#counter","header_name":"Kong-Request-ID"}"#.to_owned()
            ),
            ("rate-limiting", false, true, true, limit(r#""minute":9"#)),
        ]
    );
}

#[test]
fn unnamed_entities_have_ids_that_survive_a_reload_and_differ() {
    let text = "_format_version: '3.0'\nroutes: [{paths: [/a]}, {paths: [/a]}, {paths: [/b]}]\n";
    let ids = |settings: &Settings| settings.entities.routes.iter().map(|route| route.id).collect::<Vec<_>>();
    let first = ids(&settings(text));
    assert_eq!(first, ids(&settings(text)));
    assert!(first[0] != first[1] && first[1] != first[2]);
}

#[test]
fn json_is_accepted() {
    let settings = settings(
        "{\n\t\"_format_version\": \"3.0\",\n\t\"services\": [\n\t\t{\"name\": \"a\", \"url\": \"http:\\/\\/a:1\"}\n\t]\n}\n",
    );
    assert_eq!(settings.entities.services.len(), 1);
}

#[test]
fn aliases_and_merge_keys_work() {
    let settings = settings(
        "_format_version: '3.0'\n_comment: &base {connect_timeout: 5, retries: 1}\nservices:\n- {<<: *base, name: a, url: 'http://a', retries: 2}\n",
    );
    let Backend::Http(http) = &settings.entities.services[0].backend else { panic!("an upstream") };
    assert_eq!((http.connect_timeout_ms, http.retries), (5, 2));
}

#[test]
fn our_own_settings_are_read() {
    let settings = settings(
        "limits: {memory_max: 16MiB, disk_free_limit: 1GB, message_size_max: 1MB, drain_timeout: 2s}\ntelemetry: {log: {level: debug, format: json}}\nlisten: {http: 0.0.0.0:80, amqp: [{address: '[::1]:0'}]}\n",
    );
    assert_eq!((settings.limits.memory_max, settings.limits.message_size_max), (16 << 20, 1_000_000));
    assert_eq!(settings.limits.disk_free_limit, 1_000_000_000);
    assert_eq!(settings.limits.drain_timeout, Duration::from_secs(2));
    assert_eq!((settings.telemetry.log.level, settings.telemetry.log.format), (LogLevel::Debug, LogFormat::Json));
    assert_eq!(settings.listen.http[0].address.to_string(), "0.0.0.0:80");
    assert_eq!(settings.listen.amqp[0].address.to_string(), "[::1]:0");
}

#[test]
fn https_without_a_port_is_kongs_80_and_a_warning() {
    let loaded =
        load_with("_format_version: '3.0'\nservices:\n- {name: a, protocol: https, host: a.b}\n", &[]).unwrap();
    assert_eq!(loaded.warnings[0].place, "sluicegate.yaml:3:30");
}

#[test]
fn listeners_for_connections_are_read() {
    let settings = settings(
        "listen: {stream: [127.0.0.1:1, {address: 127.0.0.1:2, proxy_protocol: true}, {address: 127.0.0.1:3, tls: {}}, {address: 127.0.0.1:3, udp: true}, {address: 127.0.0.1:4, udp: false}]}\n",
    );
    let carries: Vec<_> = settings.listen.stream.into_iter().map(|listener| listener.carries).collect();
    assert_eq!(
        carries,
        [
            StreamTransport::Tcp { proxy_protocol: false },
            StreamTransport::Tcp { proxy_protocol: true },
            StreamTransport::Tls { files: None, proxy_protocol: false },
            // Ports of UDP are not those of TCP.
            StreamTransport::Udp,
            StreamTransport::Tcp { proxy_protocol: false },
        ]
    );
}
