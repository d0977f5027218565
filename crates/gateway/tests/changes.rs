//! A gateway that went through many changes answers as one that was started with what they came to.

// Helpers of a test are not seen as tests by the lints; each test uses some of the common ones.
#![allow(clippy::unwrap_used, clippy::panic, dead_code)]

extern crate sluicegate_gateway as gateway;

mod support;

use entities::{Kind, Origin, Store, Write, derived_id};
use gateway::convert::{Converter, Refusal, Sources};
use gateway::entity::{Entities, RouteId};
use gateway::{RouteChange, Snapshot};
use plugin::Registry;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use support::{Node, without_id};

/// An entity to put, by its kind and key, or to take away.
type Change = (Kind, String, Option<Value>);

const REQUESTS: [&str; 12] = [
    "GET /a\nhost: one.com",
    "GET /a/b\nhost: one.com\nkong-debug: 1",
    "GET /a/b\nhost: x.two.com\napikey: key-0",
    "POST /b\nhost: x.two.com\napikey: key-1",
    "GET /b\nhost: three.com\nx-a: 1",
    "POST /c/d\nhost: three.com",
    "GET /c/9\nhost: one.com\napikey: key-0",
    "GET /\nhost: one.com",
    "GET /e\nhost: one.com",
    "GET /e\nhost: two.com\napikey: nobody",
    "DELETE /a\nhost: two.com",
    "GET /q\nhost: q.com",
];

fn id(kind: Kind, key: &str) -> String {
    derived_id(kind, key).to_string()
}

fn put(kind: Kind, key: String, body: Value) -> Change {
    (kind, key, Some(body))
}

fn any_route() -> impl Strategy<Value = Change> {
    let shapes = select(vec![
        json!({"paths": ["/a"]}),
        json!({"paths": ["/a/b", "/"], "hosts": ["one.com"]}),
        json!({"paths": ["~/c/\\d+", "/c"], "methods": ["GET", "POST"]}),
        json!({"hosts": ["*.two.com", "three.*"], "strip_path": false}),
        json!({"headers": {"x-a": ["1"]}, "hosts": ["three.com"]}),
        json!({"methods": ["DELETE"], "protocols": ["https"]}),
        json!({"expression": "http.path ^= \"/e\" && http.host == \"one.com\"", "priority": 3}),
        json!({"expression": "http.path ^= \"/e\""}),
        json!({"paths": ["/b"], "split": {"services": [{"service": "s1", "percent": 100.0}]}}),
        json!({"paths": ["/b"], "mirror": {"service": "s2"}}),
        json!({"paths": ["~/("]}),
        json!({"protocols": ["tcp"], "destinations": [{"port": 9000}]}),
    ]);
    (0..6, shapes, prop_oneof![Just(None), (0..4).prop_map(Some)]).prop_map(|(n, mut body, service)| {
        body["service"] = service.map_or(Value::Null, |n: i32| json!({"id": id(Kind::Services, &format!("s{n}"))}));
        put(Kind::Routes, format!("r{n}"), body)
    })
}

fn any_service() -> impl Strategy<Value = Change> {
    let bodies = select(vec![
        json!({"host": "h.internal"}),
        json!({"host": "u0", "path": "/base"}),
        json!({"host": "h.internal", "enabled": false}),
        json!({"host": "orders", "protocol": "queue"}),
        json!({"host": "h.internal", "protocol": "tcp", "port": 9000}),
        json!({"host": "m.internal", "mirror": {"service": "s0"}}),
    ]);
    (0u8..4, bodies).prop_map(|(n, mut body)| {
        body["id"] = Value::from(id(Kind::Services, &format!("s{n}")));
        put(Kind::Services, format!("s{n}"), body)
    })
}

fn any_plugin() -> impl Strategy<Value = Change> {
    let configs = select(vec![
        json!({"name": "key-auth"}),
        json!({"name": "key-auth", "config": {"anonymous": "c0"}}),
        json!({"name": "key-auth", "enabled": false}),
        json!({"name": "correlation-id", "config": {"header_name": "x-one", "generator": "uuid"}}),
        json!({"name": "correlation-id", "config": {"header_name": "x-two", "generator": "uuid"}, "protocols": ["http"]}),
    ]);
    let scopes = select(vec![("", ""), ("route", "r0"), ("route", "r1"), ("service", "s0"), ("consumer", "c0")]);
    (0u8..5, configs, scopes).prop_map(|(n, mut body, (scope, name))| {
        if !scope.is_empty() {
            body[scope] = json!({ "name": name });
        }
        if scope == "consumer" {
            body["consumer"] = json!({ "username": name });
        }
        put(Kind::Plugins, id(Kind::Plugins, &n.to_string()), body)
    })
}

fn any_other() -> impl Strategy<Value = Change> {
    let consumer = (0u8..2).prop_map(|n| put(Kind::Consumers, format!("c{n}"), json!({"custom_id": format!("i{n}")})));
    let key = (0u8..2, 0u8..2).prop_map(|(n, of)| {
        let body = json!({"key": format!("key-{n}"), "consumer": {"username": format!("c{of}")}});
        put(Kind::KeyauthCredentials, id(Kind::KeyauthCredentials, &n.to_string()), body)
    });
    let upstream = select(vec!["round-robin", "least-connections"])
        .prop_map(|algorithm| put(Kind::Upstreams, "u0".to_owned(), json!({"algorithm": algorithm})));
    let target = (0u8..2).prop_map(|n| {
        let body = json!({"target": format!("10.0.0.{n}:80"), "upstream": {"name": "u0"}});
        put(Kind::Targets, id(Kind::Targets, &n.to_string()), body)
    });
    prop_oneof![consumer, key, upstream, target]
}

fn any_change() -> impl Strategy<Value = Change> {
    let gone = select(
        (0..6)
            .map(|n| (Kind::Routes, format!("r{n}"), None))
            .chain((0..4).map(|n| (Kind::Services, format!("s{n}"), None)))
            .chain((0..5).map(|n| (Kind::Plugins, id(Kind::Plugins, &n.to_string()), None)))
            .chain([(Kind::Upstreams, "u0".to_owned(), None), (Kind::Consumers, "c0".to_owned(), None)])
            .collect::<Vec<Change>>(),
    );
    prop_oneof![8 => any_route(), 2 => any_service(), 2 => any_plugin(), 1 => any_other(), 3 => gone]
}

/// The store after a change that it takes.
fn changed(store: &Store, (kind, key, body): Change, registry: &Registry) -> Option<Store> {
    let mut n = store.len(kind);
    let mut fresh = || {
        n += 1;
        derived_id(kind, &format!("{key} {n}"))
    };
    let (now_ms, origin) = (1_767_225_600_000, Origin::Api);
    let mut write = Write { registry, now_ms, fresh: &mut fresh, origin, keeps_times: false, is_kept: false };
    let change = match body {
        Some(mut body) => {
            if kind == Kind::Plugins {
                by_id(&mut body, "route", Kind::Routes, store)?;
                by_id(&mut body, "service", Kind::Services, store)?;
            }
            by_id(&mut body, "consumer", Kind::Consumers, store)?;
            by_id(&mut body, "upstream", Kind::Upstreams, store)?;
            store.upsert(kind, &key, body, &mut write)
        }
        None => store.delete(kind, &key, origin),
    };
    change.ok().map(|change| change.store)
}

/// Puts the id of what a reference names in its place.
fn by_id(body: &mut Value, field: &str, kind: Kind, store: &Store) -> Option<()> {
    let Some(reference) = body.get(field) else { return Some(()) };
    let name = reference.get("name").or_else(|| reference.get("username"))?.as_str()?;
    let found = store.find(kind, name).ok()??.id().to_string();
    body[field] = json!({ "id": found });
    Some(())
}

/// A gateway, and what its snapshot was made of.
struct World {
    node: Node,
    converter: Converter,
    store: Store,
    /// Changes that were of routes alone.
    n_alone: usize,
}

impl World {
    fn new() -> Self {
        let node = Node::new(&Entities::default());
        Self { node, converter: Converter::default(), store: Store::new(), n_alone: 0 }
    }

    /// The snapshot of the next store, made as the Admin API makes it, or every mistake.
    fn prepare(&mut self, next: &Store) -> Result<Snapshot, Vec<String>> {
        let gateway = &self.node.gateway;
        let told = |all: Vec<Refusal>| all.iter().map(ToString::to_string).collect::<Vec<_>>();
        let sources = Sources { registry: gateway.registry(), variable: &|_| None };
        let prepared = match self.converter.routes_alone(&self.store, next, sources) {
            Some(change) => {
                self.n_alone += 1;
                gateway.prepare_routes(&change.map_err(told)?)
            }
            None => gateway.prepare(&self.converter.entities(next, sources).map_err(told)?),
        };
        prepared.map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    fn put_in_force(&mut self, store: Store, snapshot: Snapshot) {
        self.node.gateway.activate(snapshot);
        self.store = store;
    }

    fn answers(&self) -> Vec<String> {
        REQUESTS.iter().map(|request| without_uuids(&without_id(&self.node.run(request, "")))).collect()
    }

    fn views(&self) -> Vec<String> {
        let snapshot = self.node.gateway.snapshot();
        let view = |view: gateway::RouteView| format!("{:?} {:?} {}", view.route, view.service, view.matches);
        let mut views: Vec<String> = snapshot.routes().map(view).collect();
        views.sort();
        views
    }
}

/// The same, without ids that nobody knows before: of messages, and those that `correlation-id` makes.
fn without_uuids(text: &str) -> String {
    let parts = text.split_inclusive(|c: char| !c.is_ascii_hexdigit() && c != '-');
    parts
        .map(|part| if part.len() > 36 && part[..36].parse::<plugin::Id>().is_ok() { "UUID\n" } else { part })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn a_gateway_of_many_changes_answers_as_one_started_anew(
        changes in proptest::collection::vec(any_change(), 1..24),
    ) {
        let registry = plugins::registry();
        let mut world = World::new();
        for change in changes {
            let Some(next) = changed(&world.store, change, &registry) else { continue };
            let mut anew = World::new();
            match (world.prepare(&next), anew.prepare(&next)) {
                (Ok(by_change), Ok(at_once)) => {
                    world.put_in_force(next.clone(), by_change);
                    anew.put_in_force(next, at_once);
                }
                (Err(by_change), Err(at_once)) => prop_assert_eq!(by_change, at_once),
                (by_change, at_once) => prop_assert!(false, "{by_change:?} {at_once:?}"),
            }
            if anew.store.is_empty() {
                continue;
            }
            prop_assert_eq!(world.views(), anew.views());
            prop_assert_eq!(world.answers(), anew.answers());
        }
    }
}

fn small_world() -> World {
    let registry = plugins::registry();
    let mut world = World::new();
    let service = put(Kind::Services, "s0".to_owned(), json!({"host": "h.internal"}));
    let mut store = changed(&world.store, service, &registry).unwrap();
    for n in 0..3 {
        let body = json!({"paths": [format!("/{n}")], "service": {"name": "s0"}});
        let mut route = put(Kind::Routes, format!("r{n}"), body);
        let of = store.find(Kind::Services, "s0").unwrap().unwrap().id().to_string();
        route.2.as_mut().unwrap()["service"] = json!({ "id": of });
        store = changed(&store, route, &registry).unwrap();
    }
    let snapshot = world.prepare(&store).unwrap();
    world.put_in_force(store, snapshot);
    assert_eq!(world.n_alone, 0, "the first is built as a whole");
    world
}

#[test]
fn a_change_of_a_route_is_told_from_a_change_of_more() {
    let registry = plugins::registry();
    let mut world = small_world();
    for (change, n_alone) in [
        (put(Kind::Routes, "r0".to_owned(), json!({"paths": ["/new"]})), 1),
        ((Kind::Routes, "r1".to_owned(), None), 2),
        (put(Kind::Consumers, "c0".to_owned(), json!({})), 2),
        (put(Kind::Routes, "r2".to_owned(), json!({"protocols": ["tcp"], "destinations": [{"port": 1}]})), 2),
        ((Kind::Routes, "r2".to_owned(), None), 2),
        (put(Kind::Routes, "r3".to_owned(), json!({"paths": ["/three"]})), 3),
    ] {
        let next = changed(&world.store, change, &registry).unwrap();
        let snapshot = world.prepare(&next).unwrap();
        world.put_in_force(next, snapshot);
        assert_eq!(world.n_alone, n_alone);
    }
    assert!(world.node.run("GET /three\nhost: h", "").starts_with("503"), "a route without a service");
    assert!(world.node.run("GET /1\nhost: h", "").starts_with("404"));
}

#[test]
fn counters_live_as_long_as_their_route() {
    let mut world = small_world();
    world.node.run("GET /0\nhost: h", "");
    let count = |world: &World, name: &str| {
        let view = world.node.gateway.snapshot().routes().find(|view| view.route.name.as_deref() == Some(name));
        view.map(|view| view.stats.counts().total_requests())
    };
    let registry = plugins::registry();
    let step = |world: &mut World, change| {
        let next = changed(&world.store, change, &registry).unwrap();
        let snapshot = world.prepare(&next).unwrap();
        world.put_in_force(next, snapshot);
    };
    step(&mut world, put(Kind::Routes, "r0".to_owned(), json!({"paths": ["/other"]})));
    assert_eq!((count(&world, "r0"), count(&world, "r1")), (Some(1), Some(0)));
    step(&mut world, put(Kind::Consumers, "c0".to_owned(), json!({})));
    assert_eq!(count(&world, "r0"), Some(1));
    step(&mut world, (Kind::Routes, "r0".to_owned(), None));
    step(&mut world, put(Kind::Routes, "r0".to_owned(), json!({"paths": ["/0"]})));
    assert_eq!(count(&world, "r0"), Some(0));
}

#[test]
fn a_refused_change_leaves_the_routes_that_were_there() {
    let world = small_world();
    let bad = RouteChange { put: Vec::new(), gone: vec![RouteId::derived("nobody")] };
    let snapshot = world.node.gateway.prepare_routes(&bad).unwrap();
    assert_eq!(snapshot.routes().count(), 3, "a route that is not there can go");
    let mut bad = gateway::entity::Route::new(RouteId::derived("bad"));
    bad.paths = vec!["~/(".to_owned()];
    let change = RouteChange { put: vec![bad], gone: Vec::new() };
    let errors = world.node.gateway.prepare_routes(&change).unwrap_err();
    assert_eq!((errors.len(), errors[0].kind), (1, "routes"));
    assert!(world.node.run("GET /1\nhost: h", "").starts_with("-> h.internal"));
}
