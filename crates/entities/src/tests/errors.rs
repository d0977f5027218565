//! Each rule and each error shape, from tables of bodies and Kong's words.

use super::World;
use crate::testing::{CA, CERT_EC, CERT_RSA, KEY_EC, KEY_RSA};
use crate::{Code, Kind};
use serde_json::{Value, json};

/// Inserts each body and compares the message within `schema violation (…)`, or all of it.
fn refused(kind: Kind, cases: &[(Value, &str)]) {
    for (body, expected) in cases {
        let mut world = World::new();
        world.insert(Kind::Upstreams, json!({"name": "u"})).unwrap();
        let error = world.insert(kind, body.clone()).err().unwrap_or_else(|| panic!("{body} was accepted"));
        let message = error.message.strip_prefix("schema violation (").and_then(|rest| rest.strip_suffix(')'));
        assert_eq!(message.unwrap_or(&error.message), *expected, "{body}");
        assert_eq!(error.code, Code::SchemaViolation);
    }
}

#[test]
fn types_and_ranges() {
    let service = |field: &str, value: Value| {
        let mut body = json!({ "host": "h" });
        body[field] = value;
        body
    };
    refused(
        Kind::Services,
        &[
            (json!({}), "host: required field missing"),
            (json!({"host": null}), "host: required field missing"),
            (service("nmae", json!(1)), "nmae: unknown field"),
            (service("id", json!("x")), "id: expected a valid UUID"),
            (service("id", json!(1)), "id: expected a string"),
            (service("name", json!("")), "name: length must be at least 1"),
            (service("name", json!(1)), "name: expected a string"),
            (
                service("name", json!("a b")),
                "name: invalid value 'a b': the only accepted ascii characters are alphanumerics or ., -, _, and ~",
            ),
            (service("retries", json!("5")), "retries: expected an integer"),
            (service("retries", json!(1.5)), "retries: expected an integer"),
            (service("retries", json!(32768)), "retries: value should be between 0 and 32767"),
            (service("port", json!(65536)), "port: value should be between 0 and 65535"),
            (service("port", json!(-1)), "port: value should be between 0 and 65535"),
            (service("port", Value::Null), "port: required field missing"),
            (service("connect_timeout", json!(0)), "connect_timeout: value should be between 1 and 2147483646"),
            (service("enabled", json!("yes")), "enabled: expected a boolean"),
            (service("enabled", Value::Null), "enabled: required field missing"),
            (service("path", json!("api")), "path: should start with: /"),
            (service("path", json!("/a//b")), "path: must not have empty segments"),
            (service("host", json!("http://x")), "host: invalid value: http://x"),
            (service("host", json!("x:80")), "host: must not have a port"),
            (
                service("protocol", json!("ftp")),
                "protocol: expected one of: grpc, grpcs, http, https, tcp, tls, tls_passthrough, udp",
            ),
            (service("tags", json!("a")), "tags: expected a set"),
            (
                service("tags", json!(["a", "b,c"])),
                "tags.2: invalid tag 'b,c': expected printable ascii (except `,` and `/`) or valid utf-8 sequences",
            ),
            (service("created_at", json!(0)), "created_at: expected a valid timestamp"),
            (service("created_at", json!("now")), "created_at: expected an integer"),
            (service("url", json!(1)), "url: expected a string"),
            (service("url", json!("")), "url: length must be at least 1"),
        ],
    );
}

#[test]
fn rules_of_services() {
    let given = "failed conditional validation given value of field 'protocol'";
    refused(
        Kind::Services,
        &[
            (
                json!({"host": "h", "protocol": "tcp", "path": "/a"}),
                &format!("2 schema violations ({given}; path: value must be null)"),
            ),
            (
                json!({"host": "h", "protocol": "grpc", "path": "/a"}),
                &format!("2 schema violations ({given}; path: value must be null)"),
            ),
            (
                json!({"host": "h", "tls_verify": true, "tls_verify_depth": 3}),
                &format!(
                    "4 schema violations ({given}; {given}; tls_verify: value must be null; tls_verify_depth: value must be null)"
                ),
            ),
            (
                json!({"host": "h", "ca_certificates": []}),
                &format!("2 schema violations ({given}; ca_certificates: value must be null)"),
            ),
            (json!({"host": "h", "vhost": "/"}), &format!("2 schema violations ({given}; vhost: value must be null)")),
            (
                json!({"host": "orders", "protocol": "queue", "port": 81}),
                "port: has no meaning when 'protocol' is 'queue'",
            ),
            (json!({"host": "q".repeat(256), "protocol": "queue"}), "host: length must be at most 255"),
            (
                json!({"url": "127.0.0.1:9000"}),
                "3 schema violations (host: required field missing; path: should start with: /; protocol: expected one of: \
             grpc, grpcs, http, https, tcp, tls, tls_passthrough, udp)",
            ),
            (json!({"url": "http://x:y"}), "port: expected an integer"),
        ],
    );
    let mut world = World::new();
    assert!(world.insert(Kind::Services, json!({"host": "q".repeat(255), "protocol": "queue"})).is_ok());
}

#[test]
fn rules_of_routes() {
    refused(
        Kind::Routes,
        &[
            (json!({}), "must set one of 'methods', 'hosts', 'headers', 'paths', 'snis' when 'protocols' is 'https'"),
            (
                json!({"protocols": ["http"], "paths": []}),
                "must set one of 'methods', 'hosts', 'headers', 'paths' when 'protocols' is 'http'",
            ),
            (
                json!({"protocols": ["grpcs"]}),
                "must set one of 'hosts', 'headers', 'paths', 'snis' when 'protocols' is 'grpcs'",
            ),
            (json!({"protocols": ["grpc"]}), "must set one of 'hosts', 'headers', 'paths' when 'protocols' is 'grpc'"),
            (
                json!({"protocols": ["tcp"]}),
                "must set one of 'sources', 'destinations', 'snis' when 'protocols' is 'tcp', 'tls' or 'udp'",
            ),
            (json!({"protocols": ["tls_passthrough"]}), "must set snis when 'protocols' is 'tls_passthrough'"),
            (json!({"protocols": []}), "protocols: unknown type: nil"),
            (json!({"protocols": ["x"], "name": 1}), "protocols: unknown type: x"),
            (json!({"protocols": null}), "protocols: required field missing"),
            (
                json!({"protocols": ["http", "tcp"], "paths": ["/"]}),
                "protocols: these sets are mutually exclusive: ('http', 'https'), ('tcp', 'tls', 'udp')",
            ),
            (
                json!({"protocols": ["http", "x"], "paths": ["/"]}),
                "protocols.2: expected one of: grpc, grpcs, http, https, tcp, tls, tls_passthrough, udp",
            ),
            (
                json!({"paths": ["/"], "sources": [{"port": 1}]}),
                "sources: cannot set 'sources' when 'protocols' is 'http' or 'https'",
            ),
            (
                json!({"protocols": ["tcp"], "sources": [{"port": 1}], "paths": ["/"]}),
                "paths: cannot set 'paths' when 'protocols' is 'tcp', 'tls', 'tls_passthrough' or 'udp'",
            ),
            (
                json!({"protocols": ["grpc"], "hosts": ["a"], "strip_path": true}),
                "strip_path: cannot set 'strip_path' when 'protocols' is 'grpc' or 'grpcs'",
            ),
            (
                json!({"protocols": ["grpc"], "hosts": ["a"], "methods": ["GET"]}),
                "methods: cannot set 'methods' when 'protocols' is 'grpc' or 'grpcs'",
            ),
            (
                json!({"protocols": ["http"], "paths": ["/"], "snis": ["a"]}),
                "2 schema violations ('snis' can only be set when 'protocols' is 'grpcs', 'https', 'tls' or \
             'tls_passthrough'; snis: length must be 0)",
            ),
            (
                json!({"paths": ["/"], "expression": "x"}),
                "Router Expression failed validation: cannot set 'expression' with 'methods', 'hosts', 'paths', 'headers', \
             'snis', 'sources' or 'destinations' simultaneously",
            ),
            (
                json!({"regex_priority": 1, "expression": "x"}),
                "Router Expression failed validation: cannot set 'regex_priority' with 'expression' simultaneously",
            ),
            (
                json!({"paths": ["/"], "priority": 1}),
                "Router Expression failed validation: cannot set 'priority' with 'methods', 'hosts', 'paths', 'headers', \
             'snis', 'sources' or 'destinations' simultaneously",
            ),
        ],
    );
}

#[test]
fn what_routes_match_on() {
    let path = |path: &str| json!({ "paths": ["/", path] });
    refused(
        Kind::Routes,
        &[
            (path("/a//b"), "paths.2: must not have empty segments"),
            (path("a"), "paths.2: should start with: / (fixed path) or ~/ (regex path)"),
            (path("/a%41"), "paths.2: non-normalized path, consider use '/aA' instead"),
            (path("~/("), "paths.2: invalid regex: '/(' (unclosed group)"),
            (json!({"paths": "/"}), "paths: expected an array"),
            (json!({"paths": [null]}), "paths.1: required field missing"),
            (json!({"methods": ["get"]}), "methods.1: invalid value: get"),
            (json!({"hosts": ["*.*"]}), "hosts.1: invalid wildcard: must have at most one wildcard"),
            (json!({"hosts": ["a.*.b"]}), "hosts.1: invalid wildcard: must be placed at leftmost or rightmost label"),
            (
                json!({"headers": {"Host": ["a"]}}),
                "headers: cannot contain 'host' header, which must be specified in the 'hosts' attribute",
            ),
            (json!({"headers": {"X": "a"}}), "headers: expected an array"),
            (
                json!({"paths": ["/"], "https_redirect_status_code": 303}),
                "https_redirect_status_code: expected one of: 426, 301, 302, 307, 308",
            ),
            (json!({"paths": ["/"], "path_handling": "v2"}), "path_handling: expected one of: v0, v1"),
            (json!({"paths": ["/"], "service": "x"}), "service.id: missing primary key"),
            (json!({"paths": ["/"], "service": {"id": "x"}}), "service.id: expected a valid UUID"),
            (
                json!({"protocols": ["tcp"], "sources": [{"ip": "x"}]}),
                "sources.1: {\n  ip = \"invalid ip or cidr range: 'x'\"\n}",
            ),
            (
                json!({"protocols": ["tcp"], "sources": [{}]}),
                "sources.1: {\n  [\"@entity\"] = {\n    \"at least one of these fields must be non-empty: 'ip', 'port'\"\n  }\n}",
            ),
        ],
    );
}

#[test]
fn rules_of_upstreams_and_targets() {
    let upstream = |body: Value| {
        let mut body = body;
        body["name"] = json!("v");
        body
    };
    let hash_on = "failed conditional validation given value of field 'hash_on'";
    let fallback = "failed conditional validation given value of field 'hash_fallback'";
    let missing = |given: &str, field: &str| format!("2 schema violations ({given}; {field}: required field missing)");
    refused(
        Kind::Upstreams,
        &[
            (json!({"name": "1.2.3.4"}), "name: Invalid name ('1.2.3.4'); no ip addresses allowed"),
            (upstream(json!({"slots": 9})), "slots: value should be between 10 and 65536"),
            (
                upstream(json!({"algorithm": "random"})),
                "algorithm: expected one of: consistent-hashing, least-connections, round-robin, latency",
            ),
            (upstream(json!({"hash_on": 1})), "hash_on: expected a string"),
            (upstream(json!({"hash_on": "header"})), &missing(hash_on, "hash_on_header")),
            (upstream(json!({"hash_on": "cookie"})), &missing(hash_on, "hash_on_cookie")),
            (upstream(json!({"hash_on": "query_arg"})), &missing(hash_on, "hash_on_query_arg")),
            (upstream(json!({"hash_on": "uri_capture"})), &missing(hash_on, "hash_on_uri_capture")),
            (upstream(json!({"hash_on": "ip", "hash_fallback": "header"})), &missing(fallback, "hash_fallback_header")),
            (
                upstream(json!({"hash_fallback": "ip"})),
                &format!("2 schema violations ({hash_on}; hash_fallback: expected one of: none)"),
            ),
            (
                upstream(json!({"hash_on": "ip", "hash_fallback": "ip"})),
                &format!(
                    "2 schema violations ({hash_on}; hash_fallback: expected one of: none, consumer, header, cookie, path, \
                 query_arg, uri_capture)"
                ),
            ),
            (
                upstream(json!({
                    "hash_on": "header", "hash_on_header": "a", "hash_fallback": "header", "hash_fallback_header": "a",
                })),
                "values of these fields must be distinct: 'hash_on_header', 'hash_fallback_header'",
            ),
            (
                upstream(json!({"hash_on_header": "a b"})),
                "hash_on_header: bad header name 'a b', allowed characters are A-Z, a-z, 0-9, '_', and '-'",
            ),
            (
                upstream(json!({"healthchecks": {"threshold": 101}})),
                "healthchecks.threshold: value should be between 0 and 100",
            ),
            (
                upstream(json!({"healthchecks": {"active": {"healthy": {"successes": 256}}}})),
                "healthchecks.active: {\n  healthy = {\n    successes = \"value should be between 0 and 255\"\n  }\n}",
            ),
        ],
    );
    let target = |body: Value| {
        let mut body = body;
        body["upstream"] = json!({"name": "u"});
        body
    };
    refused(
        Kind::Targets,
        &[
            (target(json!({})), "target: required field missing"),
            (target(json!({"target": "a b"})), "target: Invalid target ('a b'); not a valid hostname or ip address"),
            (target(json!({"target": "a", "weight": 65536})), "weight: value should be between 0 and 65535"),
            (json!({"target": "a"}), "upstream: required field missing"),
        ],
    );
}

#[test]
fn rules_of_consumers_and_keys() {
    refused(Kind::Consumers, &[(json!({}), "at least one of these fields must be non-empty: 'custom_id', 'username'")]);
    refused(Kind::KeyauthCredentials, &[(json!({"key": "k"}), "consumer: required field missing")]);
    let jwk = r#"{"kid":"a","kty":"oct","k":"c2VjcmV0"}"#;
    refused(
        Kind::Keys,
        &[
            (json!({"kid": "a"}), "at least one of these fields must be non-empty: 'jwk', 'pem'"),
            (
                json!({"kid": "a", "jwk": jwk, "pem": {"public_key": "-----BEGIN PUBLIC KEY-----"}}),
                "only one or none of these fields must be set: 'jwk', 'pem'",
            ),
            (json!({"kid": "a", "jwk": "x"}), "could not json decode jwk string"),
            (json!({"kid": "b", "jwk": jwk}), "kid in jwk.kid must be equal to keys.kid"),
            (json!({"kid": "a", "jwk": "{\"kid\":\"a\"}"}), "could not load JWK, likely not a valid key"),
            (json!({"kid": "a", "pem": {"public_key": "x"}}), "pem: could not load public key"),
        ],
    );
    refused(
        Kind::Vaults,
        &[
            (json!({"prefix": "env", "name": "env"}), "prefix: must not be one of: env"),
            (json!({"prefix": "A", "name": "env"}), "prefix: invalid value: A"),
            (json!({"prefix": "my-env", "name": "hcv"}), "name: vault 'hcv' is not installed"),
        ],
    );
}

#[test]
fn rules_of_certificates() {
    refused(
        Kind::Certificates,
        &[
            (json!({"cert": "x", "key": KEY_EC}), "cert: invalid certificate: no PEM certificate found"),
            (json!({"cert": CERT_EC, "key": "x"}), "key: invalid key: no PEM private key found"),
            (json!({"cert": CERT_EC, "key": KEY_RSA}), "certificate does not match key"),
            (
                json!({"cert": CERT_EC, "key": KEY_EC, "cert_alt": CERT_RSA}),
                "all or none of these fields must be set: 'cert_alt', 'key_alt'",
            ),
            (
                json!({"cert": CERT_EC, "key": KEY_EC, "cert_alt": CERT_EC, "key_alt": KEY_EC}),
                "certificate and alternative certificate need to have different type (e.g. RSA and ECDSA), the provided \
             certificates were both of the same type",
            ),
            (
                json!({"cert": CERT_EC, "key": KEY_EC, "cert_alt": CERT_RSA, "key_alt": KEY_EC}),
                "alternative certificate does not match key",
            ),
            (json!({"cert": CERT_EC, "key": KEY_EC, "snis": ["a", "a"]}), "snis: a is duplicated"),
            (json!({"cert": CERT_EC, "key": KEY_EC, "snis": ["1.2.3.4"]}), "snis.1: must not be an IP"),
        ],
    );
    refused(
        Kind::CaCertificates,
        &[
            (json!({"cert": format!("{CA}{CA}")}), "please submit only one certificate at a time"),
            (
                json!({ "cert": CERT_EC }),
                "certificate does not appear to be a CA because it is missing the \"CA\" basic constraint",
            ),
        ],
    );
}

#[test]
fn rules_of_plugins() {
    refused(
        Kind::Plugins,
        &[
            (json!({}), "name: required field missing"),
            (json!({"name": "x"}), "name: plugin 'x' not enabled; add it to the 'plugins' configuration property"),
            (json!({"name": "key-auth", "config": {"key_nmaes": []}}), "config.key_nmaes: unknown field"),
            (json!({"name": "key-auth", "config": {"key_names": []}}), "config.key_names: length must be at least 1"),
            (json!({"name": "key-auth", "config": 5}), "config: expected a record"),
            (json!({"name": "key-auth", "consumer": {"id": World::id(9)}}), "consumer: value must be null"),
        ],
    );
    let mut world = World::new();
    let route =
        world.insert(Kind::Routes, json!({"protocols": ["tcp"], "sources": [{"port": 1}]})).unwrap()["id"].clone();
    let error = world.insert(Kind::Plugins, json!({"name": "key-auth", "route": {"id": route}})).unwrap_err();
    assert_eq!(error.message, "schema violation (protocols: must match the associated route's protocols)");
}

#[test]
fn bodies_of_each_kind_of_error() {
    let mut world = World::new();
    world.insert(Kind::Services, json!({"name": "x", "host": "h"})).unwrap();
    let nobody = World::id(99);
    let bodies = [
        (
            world.insert(Kind::Services, json!({"name": "x", "host": "h"})),
            409,
            json!({"code": 5, "name": "unique constraint violation", "fields": {"name": "x"},
                   "message": "UNIQUE violation detected on '{name=\"x\"}'"}),
        ),
        (
            world.insert(Kind::Services, json!({"id": World::id(1), "host": "h"})),
            400,
            json!({"code": 3, "name": "primary key violation", "fields": {"id": World::id(1)},
                   "message": format!("primary key violation on key '{{id=\"{}\"}}'", World::id(1))}),
        ),
        (
            world.insert(Kind::Routes, json!({"paths": ["/"], "service": {"id": nobody}})),
            400,
            json!({"code": 4, "name": "foreign key violation", "fields": {"service": {"id": nobody}},
            "message": format!(
                "the foreign key '{{id=\"{nobody}\"}}' does not reference an existing 'services' entity."
            )}),
        ),
        (
            world.insert(Kind::Routes, json!({"paths": ["/"], "service": {"name": "y"}})),
            400,
            json!({"code": 13, "name": "foreign keys unresolved",
                   "fields": {"service": {"name":
                       "the foreign key cannot be resolved with '{name=\"y\"}' for an existing 'services' entity"}},
                   "message": "foreign key unresolved (service.name: the foreign key cannot be resolved with \
                               '{name=\"y\"}' for an existing 'services' entity)"}),
        ),
        (
            world.insert(Kind::Services, json!({"host": 1, "port": "x"})),
            400,
            json!({"code": 2, "name": "schema violation",
                   "fields": {"host": "expected a string", "port": "expected an integer"},
                   "message": "2 schema violations (host: expected a string; port: expected an integer)"}),
        ),
        (
            world.update(Kind::Services, "y", json!({})),
            404,
            json!({"code": 6, "name": "not found", "fields": {"name": "y"},
                   "message": "could not find the entity with '{name=\"y\"}'"}),
        ),
        (
            world.update(Kind::Services, &nobody, json!({})),
            404,
            json!({"code": 6, "name": "not found", "fields": {"id": nobody},
                   "message": format!("could not find the entity with primary key '{{id=\"{nobody}\"}}'")}),
        ),
        (
            world.update(Kind::Certificates, "y", json!({})),
            400,
            json!({"code": 1, "name": "invalid primary key", "fields": {"id": "expected a valid UUID"},
                   "message": "invalid primary key: '{id=\"expected a valid UUID\"}'"}),
        ),
        (
            world.upsert(Kind::Services, "a b", json!({"host": "h"})),
            400,
            json!({"code": 10, "name": "invalid unique name",
                   "message": "invalid value 'a b': the only accepted ascii characters are alphanumerics or ., -, _, and ~"}),
        ),
    ];
    for (result, status, body) in bodies {
        let error = result.unwrap_err();
        assert_eq!((error.status(), error.body()), (status, body));
    }
}

#[test]
fn two_configurations_of_a_plugin_in_one_place_are_one_too_many() {
    let mut world = World::new();
    world.insert(Kind::Plugins, json!({"name": "key-auth"})).unwrap();
    let error = world.insert(Kind::Plugins, json!({"name": "key-auth"})).unwrap_err();
    let message = r#"UNIQUE violation detected on '{consumer=null,name="key-auth",route=null,service=null}'"#;
    assert_eq!(error.message, message);
    assert!(world.insert(Kind::Plugins, json!({"name": "prometheus"})).is_ok());
}

#[test]
fn a_change_that_breaks_a_rule_says_when() {
    let mut world = World::new();
    world.insert(Kind::Consumers, json!({"username": "a"})).unwrap();
    let error = world.update(Kind::Consumers, "a", json!({"username": null})).unwrap_err();
    assert_eq!(
        error.message,
        "schema violation (when updating, at least one of these fields must be non-empty: 'custom_id', 'username')"
    );
}
