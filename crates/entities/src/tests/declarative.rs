//! Trees of the declarative format: what they become, every mistake, and back.

use super::World;
use crate::declarative::{self, Declared, Mistakes};
use crate::testing::{CERT_EC, KEY_EC};
use crate::{Entity, Kind, Origin, derived_id};
use serde_json::{Value, json};

fn declared(tree: &Value) -> Declared {
    World::new().declare(tree).unwrap_or_else(|mistakes| panic!("{}", mistakes.error().message))
}

fn mistakes(tree: &Value) -> Mistakes {
    World::new().declare(tree).map(|_| panic!("{tree} was accepted")).unwrap_err()
}

fn field<'s>(entity: &Entity, name: &'s str) -> (&'s str, Value) {
    (name, entity.record()[name].clone())
}

#[test]
fn entities_stand_inside_others_and_refer_by_name_and_id() {
    let found = declared(&json!({
        "_format_version": "3.0", "_transform": true, "_comment": "x", "_ignore": [1],
        "services": [{
            "name": "s", "url": "http://a", "path": null, "_comment": "y",
            "routes": [{"name": "r", "paths": ["/a"], "plugins": [{"name": "rate-limiting", "config": {"minute": 5}}]}],
            "plugins": [{"name": "key-auth"}],
        }],
        "routes": [{"name": "t", "paths": ["/b"], "service": "s"}, {"paths": ["/c"], "service": {"name": "s"}}],
        "consumers": [{"username": "alice", "keyauth_credentials": [{"key": "k"}]}],
        "keyauth_credentials": [{"key": "l", "consumer": {"username": "alice"}}],
        "plugins": [{"name": "rate-limiting", "route": "t", "consumer": "alice", "config": {"minute": 9, "day": null}}],
        "certificates": [{"cert": CERT_EC, "key": KEY_EC, "snis": [{"name": "a.b"}]}],
        "upstreams": [{"name": "u", "targets": [{"target": "10.0.0.1"}]}],
    }));
    let store = &found.store;
    let service = derived_id(Kind::Services, "s");
    assert_eq!(store.children(Kind::Routes, "service", service).count(), 3);
    assert_eq!(store.len(Kind::KeyauthCredentials), 2);
    let plugins: Vec<_> = store.in_order(Kind::Plugins).iter().map(|plugin| field(plugin, "name").1).collect();
    assert_eq!(plugins, ["key-auth", "rate-limiting", "rate-limiting"]);
    let target = derived_id(Kind::Targets, &format!("{}:10.0.0.1:8000", derived_id(Kind::Upstreams, "u")));
    assert!(store.get(Kind::Targets, target).is_some());
    assert_eq!(
        store.get(Kind::Snis, derived_id(Kind::Snis, "a.b")).map(|sni| field(sni, "name").1),
        Some(json!("a.b"))
    );
    let place = &found.places[&(Kind::Routes, derived_id(Kind::Routes, "r"))];
    assert_eq!(place.len(), 4, "{place:?}");
}

#[test]
fn ids_are_those_that_earlier_versions_gave() {
    let tree = json!({"_format_version": "3.0", "routes": [
        {"paths": ["/a"]}, {"paths": ["/a"]}, {"methods": ["GET"], "headers": {"X-A": ["1"]}, "snis": ["s"]},
    ], "services": [{"url": "https://a/b"}, {"protocol": "queue", "host": "q"}], "plugins": [{"name": "key-auth"}]});
    let store = declared(&tree).store;
    for (kind, key) in [
        (Kind::Routes, r#"None [] [] ["/a"] [] []"#),
        (Kind::Routes, r#"None [] [] ["/a"] [] []#2"#),
        (Kind::Routes, r#"None ["GET"] [] [] [("X-A", ["1"])] ["s"]"#),
        (Kind::Services, "https://a:443/b"),
        (Kind::Services, "queue:////q"),
        (Kind::Plugins, "key-auth:::"),
    ] {
        assert!(store.get(kind, derived_id(kind, key)).is_some(), "{kind} {key}");
    }
}

#[test]
fn decks_defaults_tags_and_shared_configurations_are_laid_under() {
    let store = declared(&json!({
        "_format_version": "3.0",
        "_info": {"select_tags": ["team"], "defaults": {"service": {"retries": 1}, "route": {"strip_path": false}}},
        "_plugin_configs": {"slow": {"minute": 1, "policy": "local"}},
        "services": [{"name": "s", "host": "h", "tags": ["x"], "routes": [{"name": "r", "paths": ["/"], "strip_path": true}]}],
        "plugins": [{"name": "rate-limiting", "_config": "slow", "config": {"hour": 2}}],
    }))
    .store;
    let service = store.find(Kind::Services, "s").unwrap().unwrap();
    assert_eq!((field(service, "retries").1, field(service, "tags").1), (json!(1), json!(["x", "team"])));
    assert_eq!(field(store.find(Kind::Routes, "r").unwrap().unwrap(), "strip_path").1, json!(true));
    let config = field(store.in_order(Kind::Plugins)[0], "config").1;
    assert_eq!((&config["minute"], &config["hour"]), (&json!(1), &json!(2)));
}

#[test]
fn old_formats_mark_regular_expressions() {
    let route = json!([{"name": "r", "paths": ["/a/[0-9]+", "/b"]}]);
    let store = declared(&json!({"_format_version": "2.1", "routes": route})).store;
    let paths = field(store.find(Kind::Routes, "r").unwrap().unwrap(), "paths").1;
    assert_eq!(paths, json!(["~/a/[0-9]+", "/b"]));
}

#[test]
fn every_mistake_is_told_at_its_place() {
    let found = mistakes(&json!({
        "_format_version": "4.0", "_konnect": {"x": 1}, "acls": [{}], "jwt_secrets": [], "servces": [],
        "services": [
            {"name": "a", "host": "h", "routes": [{"paths": ["x"]}, {"paths": ["/"], "service": "a"}]},
            {"name": "a", "host": "h"},
            {"url": "https://x", "acls": [{}], "ca_certificates": ["5d1b5b4e-26de-4d7e-8d0e-5c1e3c1b0a11"]},
            7,
        ],
        "routes": [{"name": "r", "paths": ["/"], "service": "b"}, {"paths": ["/"], "service": {}}],
        "consumers": [{"username": "c", "keyauth_credentials": [{}]}],
        "plugins": [{"name": "x"}, {"name": "prometheus"}, {"name": "prometheus"}],
    }));
    let fields = found.error().fields.unwrap();
    assert_eq!(
        fields,
        json!({
            "_format_version": "expected one of: 1.1, 2.1, 3.0",
            "_konnect": "not available: this is not Konnect",
            "acls": "not available: the plugin acl is not built in yet",
            "servces": "unknown field",
            "services": [
                {"routes": [
                    {"paths": ["should start with: / (fixed path) or ~/ (regex path)"]},
                    {"service": "value must be null"},
                ]},
                {"name": "uniqueness violation: 'services' entity with name set to 'a' already declared"},
                {
                    "acls": "not available: the plugin acl is not built in yet",
                    "ca_certificates": [
                        "invalid reference 'ca_certificates: 5d1b5b4e-26de-4d7e-8d0e-5c1e3c1b0a11' (no such entry in \
                         'ca_certificates')"
                    ],
                },
                "expected a record",
            ],
            "routes": [
                {"service": "invalid reference 'service: b' (no such entry in 'services')"},
                {"service": "expected a reference to an entity of 'services'"},
            ],
            "consumers": [{"keyauth_credentials": [{"key": "required field missing"}]}],
            "plugins": [
                {"name": "plugin 'x' not enabled; add it to the 'plugins' configuration property"},
                null,
                {"name": "uniqueness violation: 'plugins' entity with name set to 'prometheus' already declared"},
            ],
        })
    );
    assert!(mistakes(&json!({})).error().message.contains("_format_version=\"required field missing\""));
}

#[test]
fn flat_errors_name_each_wrong_entity() {
    let tree = json!({
        "_format_version": "3.0",
        "services": [{
            "id": "5d1b5b4e-26de-4d7e-8d0e-5c1e3c1b0a11", "name": "s", "host": "h", "tags": ["t"], "protocol": "tcp", "path": "/x",
            "routes": [{"name": "r", "paths": ["/", "x"]}],
        }],
    });
    let body = mistakes(&tree).flattened(tree.as_object().unwrap());
    assert_eq!((&body["code"], &body["name"]), (&json!(14), &json!("invalid declarative configuration")));
    assert_eq!(
        body["flattened_errors"],
        json!([
            {
                "entity_type": "service", "entity_name": "s", "entity_id": "5d1b5b4e-26de-4d7e-8d0e-5c1e3c1b0a11",
                "entity_tags": ["t"],
                "entity": {
                    "id": "5d1b5b4e-26de-4d7e-8d0e-5c1e3c1b0a11", "name": "s", "host": "h", "tags": ["t"],
                    "protocol": "tcp", "path": "/x",
                },
                "errors": [
                    {"type": "field", "field": "path", "message": "value must be null"},
                    {"type": "entity", "message": "failed conditional validation given value of field 'protocol'"},
                ],
            },
            {
                "entity_type": "route", "entity_name": "r",
                "entity": {
                    "name": "r", "paths": ["/", "x"], "service": {"id": "5d1b5b4e-26de-4d7e-8d0e-5c1e3c1b0a11"},
                },
                "errors": [{
                    "type": "field", "field": "paths.2",
                    "message": "should start with: / (fixed path) or ~/ (regex path)",
                }],
            },
        ])
    );
}

#[test]
fn what_is_exported_reads_back_as_the_same() {
    let tree = json!({
        "_format_version": "3.0",
        "services": [{"name": "s", "host": "h", "routes": [{"name": "r", "paths": ["/"], "tags": ["x"]}]}],
        "consumers": [{"username": "c", "keyauth_credentials": [{"key": "k"}]}],
        "plugins": [{"name": "rate-limiting", "service": "s", "config": {"minute": 5}}],
        "certificates": [{"cert": CERT_EC, "key": KEY_EC, "snis": ["b", "a"]}],
        "upstreams": [{"name": "u", "hash_on": "ip", "targets": [{"target": "a:1", "weight": 7}]}],
    });
    let store = declared(&tree).store;
    let exported = Value::Object(declarative::export(&store, |_| true));
    let again = declared(&exported).store;
    for kind in Kind::ALL {
        let texts = |store: &crate::Store| store.iter(kind).map(|entity| entity.text().to_owned()).collect::<Vec<_>>();
        assert_eq!(texts(&store), texts(&again), "{kind}");
    }
    let none = declarative::export(&store, |entity| entity.origin() == Origin::File);
    assert_eq!(none.len(), 2, "only what is about the tree itself");
}

#[test]
fn a_tree_may_refer_to_what_was_there_and_may_not_take_its_names() {
    let mut world = World::new();
    world.insert(Kind::Services, json!({"name": "s", "host": "h"})).unwrap();
    let route = json!({"_format_version": "3.0", "routes": [{"paths": ["/"], "service": "s"}]});
    assert_eq!(world.declare(&route).unwrap().store.len(Kind::Routes), 1);
    let twin = json!({"_format_version": "3.0", "services": [{"name": "s", "host": "h"}]});
    let conflict = world.declare(&twin).unwrap_err().error();
    assert_eq!(conflict.fields, Some(json!({"services": [r#"UNIQUE violation detected on '{name="s"}'"#]})));
}
