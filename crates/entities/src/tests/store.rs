//! What is stored and shown, found, paged, changed and taken away.

use super::{NOW_S, World};
use crate::testing::{CA, CA_DIGEST, CERT_EC, CERT_RSA, KEY_EC, KEY_RSA};
use crate::{Code, Kind, Origin, PageQuery};
use serde_json::{Value, json};

#[test]
fn a_service_is_shown_with_every_field() {
    let mut world = World::new();
    let shown = world.insert(Kind::Services, json!({"name": "a", "url": "https://x.y/api", "tags": ["t", "s", "t"]}));
    assert_eq!(
        shown.unwrap(),
        json!({
            "id": World::id(1), "created_at": NOW_S, "updated_at": NOW_S, "name": "a", "retries": 5,
            "protocol": "https", "host": "x.y", "port": 443, "path": "/api", "connect_timeout": 60000,
            "write_timeout": 60000, "read_timeout": 60000, "tags": ["t", "s"], "client_certificate": null,
            "tls_verify": null, "tls_verify_depth": null, "ca_certificates": null, "enabled": true,
        })
    );
    let queue = world.insert(Kind::Services, json!({"protocol": "queue", "host": "orders", "vhost": "v"})).unwrap();
    assert_eq!((&queue["vhost"], &queue["name"]), (&json!("v"), &Value::Null));
    assert!(queue.get("user").is_none(), "what Kong does not have is left out when it is not set");
}

#[test]
fn urls_are_split() {
    for (url, protocol, host, port, path) in [
        ("http://a", "http", "a", 80, Value::Null),
        ("https://a:8443/b/c?x=1#y", "https", "a", 8443, json!("/b/c")),
        ("http://u:p@a:1", "http", "a", 1, Value::Null),
        ("http://[::1]:81/", "http", "::1", 81, json!("/")),
    ] {
        let shown = World::new().insert(Kind::Services, json!({ "url": url, "path": "/gone" })).unwrap();
        let parts = (&shown["protocol"], &shown["host"], &shown["port"], &shown["path"]);
        assert_eq!(parts, (&json!(protocol), &json!(host), &json!(port), &path), "{url}");
    }
}

#[test]
fn a_route_of_each_group_of_protocols() {
    let mut world = World::new();
    let shown = world.insert(Kind::Routes, json!({"paths": ["/a"]})).unwrap();
    assert_eq!(shown["protocols"], json!(["http", "https"]));
    assert_eq!((&shown["https_redirect_status_code"], &shown["strip_path"]), (&json!(426), &json!(true)));
    assert_eq!((&shown["service"], &shown["headers"], &shown["priority"]), (&Value::Null, &Value::Null, &json!(0)));
    let grpc = world.insert(Kind::Routes, json!({"protocols": ["grpc"], "hosts": ["a"]})).unwrap();
    assert_eq!(grpc["strip_path"], json!(false));
    for body in [
        json!({"protocols": ["https"], "snis": ["a.b"]}),
        json!({"protocols": ["tcp"], "sources": [{"ip": "10.0.0.0/8"}, {"port": 1}]}),
        json!({"protocols": ["tls_passthrough"], "snis": ["*.b"]}),
        json!({"protocols": ["http"], "expression": "http.path == \"/\"", "priority": 7}),
        json!({"headers": {"X-A": ["1", "~*2"]}, "hosts": ["*.a.com:81"]}),
    ] {
        world.insert(Kind::Routes, body.clone()).unwrap_or_else(|error| panic!("{body}: {error}"));
    }
}

#[test]
fn an_upstreams_algorithm_follows_what_is_hashed() {
    for (body, algorithm, hash_on) in [
        (json!({}), "round-robin", "none"),
        (json!({"hash_on": "ip"}), "consistent-hashing", "ip"),
        (json!({"algorithm": "latency", "hash_on": "ip"}), "latency", "none"),
        (json!({"algorithm": "consistent-hashing"}), "consistent-hashing", "none"),
        (json!({"algorithm": "consistent-hashing", "hash_on": "none"}), "round-robin", "none"),
        (json!({"hash_on": null}), "round-robin", "none"),
    ] {
        let mut given = body.clone();
        given["name"] = json!("u");
        let shown = World::new().insert(Kind::Upstreams, given).unwrap();
        assert_eq!((&shown["algorithm"], &shown["hash_on"]), (&json!(algorithm), &json!(hash_on)), "{body}");
        assert_eq!(shown["healthchecks"]["active"]["unhealthy"]["http_statuses"][0], json!(429));
        assert_eq!(shown["healthchecks"]["active"]["https_sni"], Value::Null);
    }
}

#[test]
fn targets_have_a_port_and_are_found_by_it_below_their_upstream() {
    let mut world = World::new();
    for name in ["u", "v"] {
        world.insert(Kind::Upstreams, json!({ "name": name })).unwrap();
        let shown = world.insert(Kind::Targets, json!({"upstream": {"name": name}, "target": "10.0.0.1"})).unwrap();
        assert_eq!((&shown["target"], &shown["created_at"]), (&json!("10.0.0.1:8000"), &json!(1_767_225_600.5)));
    }
    let upstream = world.store.find(Kind::Upstreams, "u").unwrap().unwrap().id();
    let found = world.store.find_child(Kind::Targets, "upstream", upstream, "10.0.0.1").unwrap();
    assert_eq!(found.map(|target| target.id().to_string()), Some(World::id(2)));
}

#[test]
fn a_certificate_has_its_server_names() {
    let mut world = World::new();
    let body = json!({"cert": CERT_EC, "key": KEY_EC, "cert_alt": CERT_RSA, "key_alt": KEY_RSA, "snis": ["b", "a"]});
    let shown = world.insert(Kind::Certificates, body).unwrap();
    assert_eq!(shown["snis"], json!(["a", "b"]));
    let id = shown["id"].as_str().unwrap().to_owned();
    let shown = world.update(Kind::Certificates, &id, json!({"snis": ["b", "c"]})).unwrap();
    assert_eq!(shown["snis"], json!(["b", "c"]));
    assert!(world.store.find(Kind::Snis, "a").unwrap().is_none());
    let shown = world.update(Kind::Certificates, &id, json!({"tags": ["t"]})).unwrap();
    assert_eq!(shown["snis"], json!(["b", "c"]));
    let taken = world.insert(Kind::Certificates, json!({"cert": CERT_EC, "key": KEY_EC, "snis": ["b"]})).unwrap_err();
    let message = format!("schema violation (snis: b already associated with existing certificate '{id}')");
    assert_eq!(taken.message, message);
    assert_eq!(world.delete(Kind::Certificates, &id).unwrap().removed.len(), 3);
    assert!(world.store.is_empty());
    let ca = world.insert(Kind::CaCertificates, json!({ "cert": CA })).unwrap();
    assert_eq!(ca["cert_digest"], json!(CA_DIGEST));
}

#[test]
fn a_plugins_configuration_is_complete_and_changes_field_by_field() {
    let mut world = World::new();
    let shown = world.insert(Kind::Plugins, json!({"name": "key-auth", "config": {"realm": "r"}})).unwrap();
    assert_eq!(shown["config"]["key_names"], json!(["apikey"]));
    assert_eq!((&shown["config"]["realm"], &shown["config"]["anonymous"]), (&json!("r"), &Value::Null));
    assert_eq!(shown["protocols"], json!(["grpc", "grpcs", "http", "https"]));
    let id = shown["id"].as_str().unwrap().to_owned();
    let shown = world.update(Kind::Plugins, &id, json!({"config": {"hide_credentials": true}})).unwrap();
    assert_eq!((&shown["config"]["realm"], &shown["config"]["hide_credentials"]), (&json!("r"), &json!(true)));
    let limit = json!({"name": "rate-limiting", "config": {"minute": 5}});
    let shown = world.insert(Kind::Plugins, limit).unwrap();
    let id = shown["id"].as_str().unwrap().to_owned();
    let shown = world.update(Kind::Plugins, &id, json!({"config": {"redis": {"port": 7}}})).unwrap();
    assert_eq!((&shown["config"]["minute"], &shown["config"]["redis"]["port"]), (&json!(5), &json!(7)));
}

#[test]
fn put_adds_or_replaces_by_id_and_by_name() {
    let mut world = World::new();
    let id = "5d1b5b4e-26de-4d7e-8d0e-5c1e3c1b0a11";
    let body = json!({"host": "a", "retries": 1, "created_at": 7});
    let shown = world.upsert(Kind::Services, id, body).unwrap();
    assert_eq!((&shown["id"], &shown["created_at"], &shown["retries"]), (&json!(id), &json!(7), &json!(1)));
    let shown = world.upsert(Kind::Services, id, json!({"host": "b", "name": "n"})).unwrap();
    assert_eq!((&shown["host"], &shown["retries"]), (&json!("b"), &json!(5)), "what is not given is the default again");
    let shown = world.upsert(Kind::Services, "n", json!({"host": "c"})).unwrap();
    assert_eq!((&shown["id"], &shown["name"]), (&json!(id), &json!("n")));
    let shown = world.upsert(Kind::Services, "other", json!({"host": "c"})).unwrap();
    assert_eq!(shown["name"], json!("other"));
    assert_eq!(world.store.len(Kind::Services), 2);
}

#[test]
fn a_new_value_of_a_unique_field_frees_the_old_one() {
    let mut world = World::new();
    world.insert(Kind::Consumers, json!({"username": "a"})).unwrap();
    world.update(Kind::Consumers, "a", json!({"username": "b"})).unwrap();
    world.insert(Kind::Consumers, json!({"username": "a"})).unwrap();
    let taken = world.update(Kind::Consumers, "a", json!({"username": "b"})).unwrap_err();
    assert_eq!(taken.message, r#"UNIQUE violation detected on '{username="b"}'"#);
    assert!(world.store.find(Kind::Consumers, "b").unwrap().is_some());
}

#[test]
fn what_goes_takes_along_or_is_kept_by_what_refers_to_it() {
    let mut world = World::new();
    world.insert(Kind::Services, json!({"name": "s", "host": "h"})).unwrap();
    world.insert(Kind::Routes, json!({"name": "r", "paths": ["/"], "service": {"name": "s"}})).unwrap();
    world.insert(Kind::Plugins, json!({"name": "key-auth", "route": {"name": "r"}})).unwrap();
    world.insert(Kind::Plugins, json!({"name": "key-auth", "service": {"name": "s"}})).unwrap();
    let kept = world.delete(Kind::Services, "s").unwrap_err();
    assert_eq!(kept.message, "an existing 'routes' entity references this 'services' entity");
    assert_eq!(kept.fields, Some(json!({"@referenced_by": "routes"})));
    let removed = world.delete(Kind::Routes, "r").unwrap().removed;
    let kinds: Vec<Kind> = removed.iter().map(|entity| entity.kind()).collect();
    assert_eq!(kinds, [Kind::Plugins, Kind::Routes]);
    assert_eq!(world.delete(Kind::Services, "s").unwrap().removed.len(), 2);
    assert!(world.delete(Kind::Services, "s").unwrap().removed.is_empty(), "gone already is no error");
    assert!(world.store.is_empty());
}

#[test]
fn a_trust_anchor_in_use_stays() {
    let mut world = World::new();
    let ca = world.insert(Kind::CaCertificates, json!({ "cert": CA })).unwrap()["id"].clone();
    world.insert(Kind::Services, json!({"protocol": "https", "host": "h", "ca_certificates": [ca]})).unwrap();
    let kept = world.delete(Kind::CaCertificates, ca.as_str().unwrap()).unwrap_err();
    let service = World::id(2);
    assert_eq!(
        (kept.code, kept.message),
        (
            Code::ReferencedByOthers,
            format!("ca certificate {} is still referenced by services (id = {service})", World::id(1))
        )
    );
}

#[test]
fn what_the_file_says_the_api_cannot_change() {
    let mut world = World::new();
    world.origin = Origin::File;
    world.insert(Kind::Services, json!({"name": "s", "host": "h"})).unwrap();
    world.origin = Origin::Api;
    world.insert(Kind::Routes, json!({"name": "r", "paths": ["/"], "service": {"name": "s"}})).unwrap();
    let refusals = [
        world.update(Kind::Services, "s", json!({"host": "x"})).unwrap_err(),
        world.upsert(Kind::Services, "s", json!({"host": "x"})).unwrap_err(),
        world.delete(Kind::Services, "s").map(drop).unwrap_err(),
    ];
    for refusal in refusals {
        assert_eq!((refusal.status(), refusal.code), (409, Code::ReadOnly));
    }
    world.update(Kind::Routes, "r", json!({"paths": ["/b"]})).unwrap();
}

#[test]
fn pages_go_through_all_and_filter_by_tags() {
    let mut world = World::new();
    for n in 0..25 {
        let tags = if n % 2 == 0 { json!(["even", "all"]) } else { json!(["odd", "all"]) };
        world.insert(Kind::Consumers, json!({"username": format!("u{n}"), "tags": tags})).unwrap();
    }
    for (tags, expected) in
        [(None, 25), (Some("even"), 13), (Some("even,all"), 13), (Some("even,odd"), 0), (Some("even/odd"), 25)]
    {
        let (mut seen, mut offset) = (Vec::new(), None);
        loop {
            let query = PageQuery::parse(Some("4"), offset.as_deref(), tags).unwrap();
            let page = world.store.page(Kind::Consumers, &query);
            assert!(page.data.len() <= 4);
            seen.extend(page.data.iter().map(|entity| entity.id()));
            offset = page.offset;
            if offset.is_none() {
                break;
            }
        }
        assert!(seen.len() == expected && seen.is_sorted(), "{tags:?}: {}", seen.len());
    }
    for (size, offset, tags, message) in [
        (Some("x"), None, None, "size must be a number"),
        (Some("0"), None, None, "size must be an integer between 1 and 1000"),
        (Some("1001"), None, None, "size must be an integer between 1 and 1000"),
        (None, Some("*"), None, "'*' is not a valid offset: bad base64 encoding"),
        (None, Some("YQ"), None, "'YQ' is not a valid offset: bad json encoding"),
        (None, None, Some(""), "invalid option (tags: cannot be null)"),
        (None, None, Some("a,b/c"), "invalid option (tags: invalid filter syntax)"),
        (None, None, Some("a,b,c,d,e,f"), "invalid option (tags: cannot query more than 5 tags)"),
    ] {
        assert_eq!(PageQuery::parse(size, offset, tags).unwrap_err().message, message);
    }
    assert!(PageQuery::parse(Some("1000"), None, None).is_ok());
}

#[test]
fn children_are_those_of_one_parent() {
    let mut world = World::new();
    for name in ["a", "b"] {
        world.insert(Kind::Consumers, json!({ "username": name })).unwrap();
        for _ in 0..3 {
            let key = world.insert(Kind::KeyauthCredentials, json!({"consumer": {"username": name}})).unwrap();
            assert_eq!(key["key"].as_str().map(str::len), Some(32));
        }
    }
    let a = world.store.find(Kind::Consumers, "a").unwrap().unwrap().id();
    let page =
        world.store.page_of(Kind::KeyauthCredentials, "consumer", a, &PageQuery { size: 2, ..PageQuery::default() });
    assert!(page.data.len() == 2 && page.offset.is_some());
    assert_eq!(world.store.children(Kind::KeyauthCredentials, "consumer", a).count(), 3);
}

#[test]
fn of_one_set_in_the_place_of_another_only_what_differs_is_new() {
    let declared = |services: Value| {
        let tree = json!({ "_format_version": "3.0", "services": services });
        World::new().declare(&tree).unwrap().store
    };
    let names = |entities: &[std::sync::Arc<crate::Entity>]| -> Vec<Value> {
        entities.iter().map(|entity| entity.record()["name"].clone()).collect()
    };
    let first = declared(json!([
        { "name": "a", "host": "h", "created_at": 5, "updated_at": 6 }, { "name": "b", "host": "h" }, { "name": "d", "host": "h" },
    ]));
    let mut second = declared(json!([
        { "name": "c", "host": "h" }, { "name": "b", "host": "other" }, { "name": "a", "host": "h" },
    ]));
    let difference = second.succeed(&first, crate::tests::NOW_MS);
    assert_eq!(names(&difference.put), [json!("c"), json!("b")]);
    assert_eq!(names(&difference.removed), [json!("d")]);
    let order: Vec<_> = second.in_order(Kind::Services).into_iter().cloned().collect();
    assert_eq!(names(&order), [json!("a"), json!("b"), json!("c")], "who was there keeps its place");
    assert_eq!((&order[0].record()["created_at"], &order[0].record()["updated_at"]), (&json!(5), &json!(6)));
    assert_eq!(second.find(Kind::Services, "b").unwrap().unwrap().record()["host"], json!("other"));

    // A time that is given is told apart like any other field.
    let mut third = declared(json!([{ "name": "a", "host": "h", "created_at": 7 }, { "name": "b", "host": "other" }]));
    assert_eq!(names(&third.succeed(&second, crate::tests::NOW_MS).put), [json!("a")]);
    let mut none = declared(json!([]));
    assert_eq!(none.succeed(&third, crate::tests::NOW_MS).removed.len(), 2);
}

#[test]
fn the_difference_of_two_stores_is_what_was_changed() {
    let mut world = World::new();
    for name in ["a", "b", "c"] {
        world.insert(Kind::Services, json!({ "name": name, "host": "h" })).unwrap();
    }
    let before = world.store.clone();
    assert!(Kind::ALL.into_iter().all(|kind| world.store.difference(&before, kind).is_empty()));
    world.update(Kind::Services, "b", json!({ "host": "other" })).unwrap();
    world.insert(Kind::Services, json!({ "name": "d", "host": "h" })).unwrap();
    world.delete(Kind::Services, "a").unwrap();
    let names = |entities: &[std::sync::Arc<crate::Entity>]| -> Vec<Value> {
        entities.iter().map(|entity| entity.record()["name"].clone()).collect()
    };
    let difference = world.store.difference(&before, Kind::Services);
    assert_eq!(names(&difference.put), [json!("b"), json!("d")]);
    assert_eq!(names(&difference.removed), [json!("a")]);
    assert!(world.store.difference(&before, Kind::Routes).is_empty());
}
