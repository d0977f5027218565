//! Stores become typed sets; what cannot be run is refused by name.

use super::{Converter, Sources};
use crate::entity::{
    Algorithm, Backend, Endpoint, Entities, HashInput, RouteProtocols, Scheme, StreamBackend, StreamProtocol,
    StreamProtocols,
};
use ::entities::{Kind, Origin, Store, Write, derived_id};
use model::Network;
use plugin::schema::syntax;
use plugin::{Field, Handler, Id, Kind as FieldKind, Plugin, Problem, Registry, Schema, Setup};
use serde_json::{Value, json};
use std::sync::Arc;

/// How entities are written here.
fn write<'w>(registry: &'w Registry, fresh: &'w mut dyn FnMut() -> Id) -> Write<'w> {
    let now_ms = 1_767_225_600_000;
    Write { registry, now_ms, fresh, origin: Origin::Api, keeps_times: false, is_kept: false }
}

/// A store with these entities.
fn store(all: &[(Kind, Value)]) -> Store {
    store_with(&plugins::registry(), all)
}

fn store_with(registry: &Registry, all: &[(Kind, Value)]) -> Store {
    let mut store = Store::new();
    let mut n = 0;
    let mut fresh = || {
        n += 1;
        derived_id(Kind::Services, &n.to_string())
    };
    let mut write = write(registry, &mut fresh);
    for (kind, body) in all {
        store.load(*kind, body.clone(), &mut write).unwrap_or_else(|error| panic!("{body}: {error}"));
    }
    store
}

/// The typed form of a store; the environment has `MY_CERT`, `MY_KEY` and `JSON`.
fn convert(converter: &mut Converter, store: &Store) -> Result<Entities, Vec<super::Refusal>> {
    use crate::tls::testing::EC;
    let variable = |name: &str| match name {
        "MY_CERT" => Some(EC.cert.to_owned()),
        "MY_KEY" => Some(EC.key.to_owned()),
        "JSON" => Some(json!({"key": EC.key, "cert": EC.cert, "port": 1}).to_string()),
        _ => None,
    };
    converter.entities(store, Sources { registry: &plugins::registry(), variable: &variable })
}

fn entities(store: &Store) -> Result<Entities, Vec<super::Refusal>> {
    convert(&mut Converter::default(), store)
}

fn refusals(all: &[(Kind, Value)]) -> Vec<String> {
    let refusals = entities(&store(all)).err().unwrap_or_default();
    refusals.iter().map(|refusal| format!("{}: {}", refusal.field.unwrap_or("-"), refusal.reason)).collect()
}

#[test]
fn every_kind_that_runs_is_converted() {
    let set = entities(&store(&[
        (Kind::Services, json!({"name": "s", "url": "https://[::1]:8443/api", "retries": null, "tls_verify_depth": 3})),
        (Kind::Services, json!({"name": "q", "protocol": "queue", "host": "orders"})),
        (Kind::Routes, json!({"name": "r", "paths": ["/"], "protocols": ["https"], "service": {"name": "s"}})),
        (Kind::Routes, json!({"expression": "http.path == \"/\"", "priority": 7})),
        (Kind::Consumers, json!({"username": "alice"})),
        (Kind::KeyauthCredentials, json!({"key": "k", "consumer": {"username": "alice"}})),
        (Kind::Plugins, json!({"name": "rate-limiting", "config": {"minute": 5, "policy": null}})),
        (
            Kind::Upstreams,
            json!({
                "name": "u", "hash_on": "header", "hash_on_header": "X-A", "hash_fallback": "ip",
                "healthchecks": {"active": {"timeout": 0.5, "healthy": {"interval": 5, "successes": 2}}},
                "resilience": {"fallback": "s", "breaker": {"open_ms": 100}, "retry": {"methods": ["POST"]}},
                "discovery": {"type": "consul", "address": "http://127.0.0.1:8500", "service": "orders", "token": "t"},
            }),
        ),
        (Kind::Targets, json!({"upstream": {"name": "u"}, "target": "10.0.0.1:9", "weight": 7, "priority": 1})),
    ]))
    .unwrap_or_else(|refusals| panic!("{refusals:?}"));
    let Backend::Http(http) = &set.services[0].backend else { panic!("http") };
    assert_eq!((http.host.as_str(), http.port, http.retries, http.tls_verify_depth), ("::1", 8443, 5, Some(3)));
    let Backend::Queue(queue) = &set.services[1].backend else { panic!("a queue") };
    assert_eq!((queue.queue.as_str(), queue.vhost.as_str(), queue.user.as_str()), ("orders", "/", "guest"));
    assert_eq!((set.routes[0].protocols, set.routes[0].service), (RouteProtocols::Https, Some(set.services[0].id)));
    assert_eq!((set.routes[1].expression.as_deref(), set.routes[1].priority), (Some("http.path == \"/\""), 7));
    assert_eq!(
        (set.keyauth_credentials[0].key.reveal(), set.keyauth_credentials[0].consumer),
        ("k", set.consumers[0].id)
    );
    let config = &set.plugins[0].config;
    assert_eq!((&config["minute"], &config["policy"], config.get("hour")), (&json!(5), &json!("local"), None));
    let upstream = &set.upstreams[0];
    let Algorithm::ConsistentHashing(hashing) = &upstream.algorithm else { panic!("a hash") };
    assert_eq!((&hashing.on, &hashing.fallback), (&HashInput::Header("X-A".to_owned()), &HashInput::Ip));
    let active = &upstream.health_checks.active;
    assert_eq!((active.timeout_ms, active.intervals.healthy_ms, active.healthy.successes), (500, 5_000, 2));
    let resilience = &upstream.resilience;
    assert_eq!(resilience.fallback, Some(set.services[0].id));
    assert_eq!(resilience.breaker.map(|breaker| (breaker.open_ms, breaker.window_ms)), Some((100, 10_000)));
    assert_eq!(resilience.retry.as_ref().map(|retry| retry.methods.clone()), Some(vec![http::Method::POST]));
    let discovery = upstream.discovery.as_ref();
    assert_eq!(discovery.map(|d| (d.kind(), d.service.as_str(), d.interval_ms)), Some(("consul", "orders", 30_000)));
    assert!(resilience.hedge.is_none() && resilience.outlier_detection.is_none());
    assert_eq!((set.targets[0].weight, set.targets[0].priority, set.targets[0].address.port), (7, 1, 9));
}

#[test]
fn certificates_are_ready_for_use_and_read_once() {
    use crate::tls::testing::{CA, EC, RSA};
    let pair = json!({"cert": EC.cert, "key": EC.key, "cert_alt": RSA.cert, "key_alt": RSA.key, "snis": ["b", "*.a"]});
    let store = store(&[(Kind::Certificates, pair), (Kind::CaCertificates, json!({"cert": CA}))]);
    let mut converter = Converter::default();
    let set = convert(&mut converter, &store).unwrap_or_else(|refusals| panic!("{refusals:?}"));
    let certificate = &set.certificates[0];
    assert_eq!(format!("{:?}", certificate.identity), "Identity(2 pairs)");
    let names: Vec<_> = set.snis.iter().map(|sni| (sni.name.as_str(), sni.certificate)).collect();
    assert_eq!(names, [("*.a", certificate.id), ("b", certificate.id)]);
    assert_eq!(set.ca_certificates.len(), 1);
    let again = convert(&mut converter, &store).unwrap_or_default();
    assert!(Arc::ptr_eq(&certificate.identity, &again.certificates[0].identity));
}

#[test]
fn references_to_vaults_become_what_they_stand_for() {
    use crate::tls::testing::EC;
    let referring = |cert: &str, key: &str| (Kind::Certificates, json!({"cert": cert, "key": key}));
    let vault = (Kind::Vaults, json!({"prefix": "my-env", "name": "env", "config": {"prefix": "MY_"}}));
    let all = store(&[
        vault.clone(),
        referring("{vault://env/my-cert}", "{vault://my-env/key}"),
        referring("{vault://env/json/cert}", "{vault://env/key?prefix=my-}"),
        referring(EC.cert, "{vault://my-env/son/key?prefix=J}"),
    ]);
    let mut converter = Converter::default();
    let set = convert(&mut converter, &all).unwrap_or_else(|refusals| panic!("{refusals:?}"));
    assert!(set.certificates.len() == 3 && set.certificates.windows(2).all(|two| two[0].identity == two[1].identity));
    let again = convert(&mut converter, &all).unwrap_or_default();
    assert!(Arc::ptr_eq(&set.certificates[0].identity, &again.certificates[0].identity), "nothing changed");
    assert_eq!(
        refusals(&[
            vault,
            referring("{vault://my-env/cert}", "{vault://nobody/key}"),
            referring("{vault://aws/cert}", "{vault://my-env/key}"),
            referring("{vault://env/no-such}", "{vault://env/json/port}"),
            referring("{vault://env/my-cert/x}", "{vault://env/json/nothing}"),
            referring("{vault://my-env/key}", "{vault://my-env/cert}"),
            (Kind::Keys, json!({"kid": "k", "pem": {"private_key": "{vault://env/nobody}"}})),
        ]),
        [
            "key: cannot resolve {vault://nobody/key}: there is no vault `nobody`",
            "cert: cannot resolve {vault://aws/cert}: there is no vault `aws`; vaults of that kind are Kong Enterprise's",
            "cert: cannot resolve {vault://env/no-such}: the environment has no variable `NO_SUCH`",
            "key: cannot resolve {vault://env/json/port}: `port` in the variable `JSON` is no text",
            "cert: cannot resolve {vault://env/my-cert/x}: the variable `MY_CERT` has no JSON object, so no `x` in it",
            "key: cannot resolve {vault://env/json/nothing}: the variable `JSON` has no `nothing` in it",
            "cert: no PEM certificate found",
            "pem: private_key: cannot resolve {vault://env/nobody}: the environment has no variable `NOBODY`",
        ]
    );
}

/// A plugin whose configuration may refer to vaults.
struct Secretive;

impl Plugin for Secretive {
    fn name(&self) -> &'static str {
        "secretive"
    }

    fn schema(&self) -> &'static Schema {
        const PATH: FieldKind = FieldKind::Like(&syntax::PATH);
        const REDIS: FieldKind = FieldKind::Record(&[
            Field::optional("password", FieldKind::Text, "").referenceable(),
            Field::optional("path", PATH, "").referenceable(),
            Field::optional("user", FieldKind::Text, ""),
        ]);
        static SCHEMA: Schema = Schema::of(&[Field::optional("redis", REDIS, "")]);
        &SCHEMA
    }

    fn configure(&self, _: &Value, _: &Setup) -> Result<Arc<dyn Handler>, Vec<Problem>> {
        Err(Vec::new())
    }
}

#[test]
fn references_in_a_plugin_s_configuration_are_those_its_schema_lets_stand() {
    let registry = Registry::new(vec![Arc::new(Secretive)]);
    let variable = |name: &str| match name {
        "PASSWORD" => Some("s3cr3t".to_owned()),
        "PATH" => Some("/a".to_owned()),
        _ => None,
    };
    let config = |redis: Value| {
        let all = store_with(&registry, &[(Kind::Plugins, json!({"name": "secretive", "config": {"redis": redis}}))]);
        let set = Converter::default().entities(&all, Sources { registry: &registry, variable: &variable });
        set.map(|set| set.plugins[0].config["redis"].clone()).map_err(|refusals| refusals[0].to_string())
    };
    let refused = |redis: Value| config(redis).unwrap_err().split_once(": ").unwrap_or_default().1.to_owned();
    assert_eq!(
        config(json!({"password": "{vault://env/password}", "path": "{vault://env/path}", "user": "u"})),
        Ok(json!({"password": "s3cr3t", "path": "/a", "user": "u"}))
    );
    assert_eq!(
        refused(json!({"path": "{vault://env/password}"})),
        "config: redis.path: what the vault has does not fit",
        "without the secret"
    );
    assert_eq!(
        refused(json!({"password": "{vault://env/nobody}"})),
        "config: redis.password: cannot resolve {vault://env/nobody}: the environment has no variable `NOBODY`"
    );
    assert_eq!(
        refused(json!({"user": "{vault://env/password}"})),
        "config: redis.user: no reference to a vault can stand here"
    );
}

#[test]
fn services_and_routes_of_connections_are_read() {
    let ends = json!([{"ip": "10.0.0.1"}, {"ip": "10.1.2.3/8", "port": 7}, {"port": 5432}]);
    let set = entities(&store(&[
        (Kind::Services, json!({"name": "db", "protocol": "tls", "host": "h", "port": 5432, "read_timeout": 9})),
        (Kind::Routes, json!({"protocols": ["tcp", "udp"], "sources": ends, "destinations": [{"port": 1}]})),
        (Kind::Routes, json!({"protocols": ["tls_passthrough"], "snis": ["*.a"], "preserve_host": true})),
        (Kind::Routes, json!({"protocols": ["tls"], "expression": "net.dst.port == 1", "priority": 3})),
    ]))
    .unwrap_or_else(|refusals| panic!("{refusals:?}"));
    let Backend::Stream(StreamBackend { protocol, server }) = &set.services[0].backend else { panic!("a stream") };
    assert_eq!((*protocol, server.scheme, server.port), (StreamProtocol::Tls, Scheme::Https, 5432));
    assert_eq!((set.services[0].protocol().as_str(), server.read_timeout_ms), ("tls", 9));
    assert!(set.routes.is_empty());
    let [plain, pass, asked] = &set.stream_routes[..] else { panic!("three routes") };
    let range = Network::of([10, 0, 0, 0].into(), 8).unwrap();
    assert_eq!(
        plain.sources,
        [Endpoint::Address([10, 0, 0, 1].into()), Endpoint::NetworkPort(range, 7), Endpoint::Port(5432)]
    );
    assert_eq!(
        (plain.protocols, &plain.destinations[..]),
        (StreamProtocols::Of { tcp: true, tls: false, udp: true }, &[Endpoint::Port(1)][..])
    );
    assert_eq!((pass.protocols, pass.preserve_host), (StreamProtocols::TlsPassthrough, true));
    assert_eq!((asked.expression.as_deref(), asked.priority), (Some("net.dst.port == 1"), 3));
}

#[test]
fn what_cannot_be_run_is_refused_by_name() {
    assert_eq!(
        refusals(&[
            (
                Kind::Services,
                json!({
                    "protocol": "https", "host": "h", "ca_certificates": ["5d1b5b4e-26de-4d7e-8d0e-5c1e3c1b0a11"],
                })
            ),
            (Kind::Routes, json!({"paths": ["/"], "path_handling": "v1"})),
            (Kind::Upstreams, json!({"name": "u", "resilience": {"fallback": "nobody"}})),
            (Kind::Consumers, json!({"username": "{vault://env/user}"})),
        ]),
        [
            "path_handling: `v1` is not supported yet",
            "username: no reference to a vault can stand here",
            "resilience: fallback: there is no service `nobody`",
            "ca_certificates: there is no CA certificate `5d1b5b4e-26de-4d7e-8d0e-5c1e3c1b0a11`",
        ]
    );
}

#[test]
fn who_is_named_is_looked_up_again_at_every_change() {
    let before = store(&[
        (Kind::Services, json!({"name": "shadow", "host": "s"})),
        (Kind::Routes, json!({"name": "a", "paths": ["/a"], "mirror": {"service": "shadow"}})),
    ]);
    let registry = plugins::registry();
    let mut fresh = || derived_id(Kind::Services, "x");
    let mut write = write(&registry, &mut fresh);
    let mut converter = Converter::default();
    assert!(convert(&mut converter, &before).unwrap().routes[0].mirror.is_some());
    let renamed = before.update(Kind::Services, "shadow", json!({"name": "other"}), &mut write).unwrap().store;
    let refused = convert(&mut converter, &renamed).unwrap_err();
    assert_eq!(refused[0].reason, "there is no service `shadow`", "as it would be read after a restart");
}

#[test]
fn a_converter_reads_again_only_what_changed() {
    let before = store(&[
        (Kind::Routes, json!({"name": "a", "paths": ["/a"]})),
        (Kind::Routes, json!({"name": "b", "paths": ["/b"]})),
    ]);
    let registry = plugins::registry();
    let mut fresh = || derived_id(Kind::Services, "x");
    let mut write = write(&registry, &mut fresh);
    let mut converter = Converter::default();
    assert_eq!(convert(&mut converter, &before).unwrap().routes.len(), 2);
    let after = before.update(Kind::Routes, "a", json!({"paths": ["/c"]}), &mut write).unwrap().store;
    let routes = convert(&mut converter, &after).unwrap().routes;
    assert_eq!((routes[0].paths[0].as_str(), routes[1].paths[0].as_str()), ("/c", "/b"), "the order stays");
    let fewer = after.delete(Kind::Routes, "a", Origin::Api).unwrap().store;
    assert_eq!(convert(&mut converter, &fewer).unwrap().routes.len(), 1);
    assert_eq!(format!("{converter:?}"), "Converter(1 routes)");
}

#[test]
fn what_was_made_for_a_refused_change_is_forgotten() {
    let before = store(&[(Kind::Routes, json!({"name": "a", "paths": ["/a"]}))]);
    let registry = plugins::registry();
    let mut converter = Converter::default();
    convert(&mut converter, &before).unwrap();
    for name in ["b", "c", "d"] {
        let mut fresh = || derived_id(Kind::Routes, name);
        let mut write = write(&registry, &mut fresh);
        let after = before.insert(Kind::Routes, json!({"name": name, "paths": ["/"]}), &mut write).unwrap().store;
        // Made, and then refused by whoever builds a snapshot with it: `before` stays.
        let sources = Sources { registry: &registry, variable: &|_| None };
        assert!(converter.routes_alone(&before, &after, sources).unwrap().is_ok());
        assert_eq!(format!("{converter:?}"), "Converter(2 routes)");
    }
}

#[test]
fn patterns_that_the_router_cannot_use_are_told_with_their_place() {
    let found = entities(&store(&[
        (Kind::Routes, json!({"hosts": ["a.com", "b.com:0"], "headers": {"X": ["~*("]}})),
        (Kind::Routes, json!({"expression": "http.path = \"/\""})),
        (Kind::Routes, json!({"protocols": ["tcp"], "expression": "http.path == \"/\""})),
    ]))
    .unwrap_or_default();
    let found = super::patterns(&found);
    let found: Vec<_> = found.iter().map(|refusal| (refusal.field.unwrap_or_default(), refusal.index)).collect();
    assert_eq!(found, [("hosts", Some(1)), ("headers", None), ("expression", None), ("expression", None)]);
}
