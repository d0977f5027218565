//! Services that share a route's requests, and copies of requests for another service.

// Helpers of a test are not seen as tests by the lints; each test uses some of the common ones.
#![allow(clippy::unwrap_used, clippy::panic, dead_code)]

extern crate sluicegate_gateway as gateway;

mod support;

use gateway::entity::{
    Backend, Bulkhead, Entities, HashInput, HttpBackend, Mirror, RouteId, Scheme, ServiceId, Share, Split, Target,
    TargetAddress, Upstream, UpstreamId,
};
use gateway::{Decision, Exchange, Transferred, UpstreamFailure};
use http::{Response, header};
use http1::FieldLines;
use std::collections::BTreeMap;
use support::{Node, at, consumer, parts, plugin_config, queue, route, service, upstream};

const ASK: &str = "GET /orders/7?a=1\nhost: shop.example\nx-forwarded-for: 10.9.9.9";

fn own_and(others: &[&str]) -> Entities {
    let services = [&["orders"], others].concat().into_iter().map(upstream).collect();
    Entities { services, routes: vec![route("orders", Some("orders"), "/orders")], ..Entities::default() }
}

fn split(shares: &[(&str, f64)], hash_on: HashInput) -> Entities {
    let mut entities = own_and(&shares.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    let services = shares.iter().map(|(name, percent)| (ServiceId::derived(name), Share::percent(*percent))).collect();
    entities.routes[0].split = Some(Split { services, hash_on });
    entities
}

fn proxied(node: &Node, ask: &str) -> Box<Exchange> {
    let (exchange, decision) = node.gateway.begin(&node.http, 1, parts(ask), at(1));
    assert!(matches!(decision, Decision::Proxy), "{decision:?}");
    exchange
}

/// The host of the service that a request goes to.
fn to(exchange: &mut Exchange) -> String {
    exchange.plan().unwrap().upstream.backend.host.clone()
}

fn counts(node: &Node, asks: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for ask in asks {
        *counts.entry(to(&mut proxied(node, &ask))).or_default() += 1;
    }
    counts
}

#[test]
fn requests_are_shared_by_their_percents_and_the_rest_stays() {
    let node = Node::new(&split(&[("canary", 10.0), ("beta", 30.0)], HashInput::None));
    let counts = counts(&node, (0..4_000).map(|_| ASK.to_owned()));
    let about = |name: &str, n: usize| {
        let count = counts[&format!("{name}.internal")];
        assert!(count.abs_diff(n) < 200, "{name}: {count}, not {n}");
    };
    about("canary", 400);
    about("beta", 1_200);
    about("orders", 2_400);
    let none = Node::new(&split(&[("canary", 0.0)], HashInput::None));
    assert_eq!(to(&mut proxied(&none, ASK)), "orders.internal");
    let mut disabled = split(&[("canary", 100.0)], HashInput::None);
    disabled.services[1].enabled = false;
    assert_eq!(to(&mut proxied(&Node::new(&disabled), ASK)), "orders.internal");
}

#[test]
fn a_client_stays_with_its_service_and_a_growing_share_keeps_its_own() {
    let header = || HashInput::Header("x-user".to_owned());
    let ask = |user: usize| format!("{ASK}\nx-user: {user}");
    let of = |percent| {
        let node = Node::new(&split(&[("canary", percent)], header()));
        (0..300).map(|user| to(&mut proxied(&node, &ask(user)))).collect::<Vec<_>>()
    };
    let (few, more) = (of(20.0), of(50.0));
    assert_eq!(few, of(20.0));
    let canary = |hosts: &[String]| hosts.iter().filter(|host| *host == "canary.internal").count();
    assert!(
        (30..90).contains(&canary(&few)) && (110..190).contains(&canary(&more)),
        "{} {}",
        canary(&few),
        canary(&more)
    );
    assert!(few.iter().zip(&more).all(|(few, more)| few == "orders.internal" || few == more));

    let mut entities = split(&[("canary", 50.0)], HashInput::Consumer);
    consumer(&mut entities, "ann");
    entities.plugins.push(plugin_config("key-auth", serde_json::json!({})));
    let node = Node::new(&entities);
    let ann = format!("{ASK}\napikey: ann-key");
    assert_eq!(counts(&node, (0..20).map(|_| ann.clone())).len(), 1);
}

#[test]
fn a_cookie_is_set_where_it_is_missing() {
    let on = HashInput::Cookie { name: "release".to_owned(), path: "/orders".to_owned() };
    let node = Node::new(&split(&[("canary", 50.0)], on));
    for _ in 0..20 {
        let mut exchange = proxied(&node, ASK);
        let first = to(&mut exchange);
        let mut head = Response::new(()).into_parts().0;
        exchange.upstream_head(&mut head, FieldLines::default(), at(2));
        exchange.finish(Transferred::default(), at(2));
        let cookie = head.headers[header::SET_COOKIE].to_str().unwrap().to_owned();
        let (pair, rest) = cookie.split_once(';').unwrap();
        assert!(pair.starts_with("release=") && rest.contains("Path=/orders"), "{cookie}");
        let mut again = proxied(&node, &format!("{ASK}\ncookie: {pair}"));
        assert_eq!(to(&mut again), first);
        let mut head = Response::new(()).into_parts().0;
        again.upstream_head(&mut head, FieldLines::default(), at(2));
        assert!(!head.headers.contains_key(header::SET_COOKIE));
    }
}

#[test]
fn who_may_ask_is_told_which_route_and_service_took_the_request() {
    let node = Node::new(&split(&[("canary", 100.0)], HashInput::None));
    let told = |ask: &str| {
        let mut head = Response::new(()).into_parts().0;
        let lines = proxied(&node, ask).upstream_head(&mut head, FieldLines::default(), at(2));
        lines.append_to(&mut head.headers);
        let text = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        ["kong-route-id", "kong-route-name", "kong-service-id", "kong-service-name"].map(text)
    };
    let asking = format!("{ASK}\nkong-debug: 1");
    assert_eq!(told(&asking), [const { None }; 4], "not allowed");
    node.gateway.allow_debug_header(true);
    assert_eq!(told(ASK), [const { None }; 4]);
    let (route, service) = (RouteId::derived("orders").to_string(), ServiceId::derived("canary").to_string());
    assert_eq!(told(&asking), [Some(route), Some("orders".to_owned()), Some(service), Some("canary".to_owned())]);
    let mut claimed = FieldLines::default();
    claimed.put_received(b"Kong-Route-Name", b"theirs");
    let lines = proxied(&node, &asking).upstream_head(&mut Response::new(()).into_parts().0, claimed, at(2));
    let names: Vec<_> = lines.iter().filter(|(name, _)| name.eq_ignore_ascii_case(b"kong-route-name")).collect();
    assert_eq!(names, [(&b"kong-route-name"[..], &b"orders"[..])], "said once, by us");
}

#[test]
fn a_copy_is_the_request_as_its_own_service_is_asked() {
    let mut entities = own_and(&[]);
    let mut backend = HttpBackend::new(Scheme::Http, "shadow.internal", 81);
    backend.path = Some("/v2".to_owned());
    entities.services.push(service("shadow", Backend::Http(backend)));
    entities.services[0].mirror = Some(Mirror { service: ServiceId::derived("shadow"), share: Share::ALL });
    let node = Node::new(&entities);
    let exchange = proxied(&node, ASK);
    let mut mirror = exchange.mirror().unwrap();
    let plan = mirror.plan(at(2)).unwrap();
    assert_eq!((plan.upstream.backend.host.as_str(), plan.upstream.backend.port), ("shadow.internal", 81));
    assert_eq!(plan.request.uri, "/v2/7?a=1");
    assert_eq!(plan.request.headers[header::HOST], "shadow.internal:81");
    let mut headers = plan.request.headers.clone();
    plan.lines.append_to(&mut headers);
    assert_eq!(headers["x-forwarded-for"], "10.9.9.9, 10.0.0.9");
    mirror.answered(&Response::new(()).into_parts().0, at(3));
    mirror.ended(None, at(4));
    assert_eq!(node.gateway.mirrors().ended(), [("answered", 1), ("failed", 0), ("given_up", 0)]);

    entities.routes[0].mirror = Some(Mirror { service: ServiceId::derived("shadow"), share: Share::NONE });
    assert!(proxied(&Node::new(&entities), ASK).mirror().is_none(), "the route's mirror goes before its service's");
}

#[test]
fn what_a_copy_comes_to_is_told_to_its_own_upstream_alone() {
    let mut entities = own_and(&[]);
    let (id, address) = (UpstreamId::derived("shadow"), TargetAddress::parse("10.0.0.8:80").unwrap());
    entities.services.push(service("shadow", Backend::Http(HttpBackend::new(Scheme::Http, "shadow", 80))));
    let mut shadow = Upstream::new("shadow");
    shadow.health_checks.passive.unhealthy.tcp_failures = 1;
    entities.upstreams.push(shadow);
    entities.targets.push(Target::new(id, address));
    entities.routes[0].mirror = Some(Mirror { service: ServiceId::derived("shadow"), share: Share::ALL });
    let node = Node::new(&entities);
    let exchange = proxied(&node, ASK);
    let mut mirror = exchange.mirror().unwrap();
    assert_eq!(mirror.plan(at(2)).unwrap().member.unwrap().address.key().host.as_ref(), "10.0.0.8");
    mirror.failed(UpstreamFailure::Refused, at(3));
    assert!(!node.gateway.balancer(id).unwrap().members()[0].address.is_up());
    assert!(exchange.mirror().unwrap().plan(at(4)).is_none(), "nobody is left to get a copy");
    assert_eq!(node.gateway.mirrors().ended(), [("answered", 0), ("failed", 1), ("given_up", 1)]);
}

#[test]
fn a_copy_holds_nothing_of_its_service_until_it_is_sent() {
    let mut entities = own_and(&[]);
    let (id, address) = (UpstreamId::derived("shadow"), TargetAddress::parse("10.0.0.8:80").unwrap());
    entities.services.push(service("shadow", Backend::Http(HttpBackend::new(Scheme::Http, "shadow", 80))));
    let mut shadow = Upstream::new("shadow");
    shadow.resilience.bulkhead = Some(Bulkhead { max_requests: 1, ..Bulkhead::default() });
    entities.upstreams.push(shadow);
    entities.targets.push(Target::new(id, address));
    entities.routes[0].mirror = Some(Mirror { service: ServiceId::derived("shadow"), share: Share::ALL });
    let node = Node::new(&entities);
    let (one, other) = (proxied(&node, ASK), proxied(&node, ASK));
    let under_way = || node.gateway.balancer(id).unwrap().view(at(1).mono).requests;
    let (mut uploads, mut complete) = (one.mirror().unwrap(), other.mirror().unwrap());
    assert_eq!(under_way(), 0);
    assert!(complete.plan(at(2)).is_some());
    assert_eq!(under_way(), 1);
    assert!(uploads.plan(at(3)).is_none(), "the place is taken");
    drop(complete);
    assert_eq!(under_way(), 0);
}

#[test]
fn only_services_that_are_asked_by_http_take_a_share_or_a_copy() {
    let node = Node::new(&own_and(&[]));
    let error = |entities: &Entities| node.gateway.load(entities).unwrap_err()[0].to_string();
    let mut entities = split(&[], HashInput::None);
    entities.services.push(queue("jobs"));
    for (name, what) in
        [("jobs", "split: not a service of protocol http"), ("nobody", "split: there is no such service")]
    {
        let services = vec![(ServiceId::derived(name), Share::ALL)];
        entities.routes[0].split = Some(Split { services, hash_on: HashInput::None });
        assert!(error(&entities).contains(what), "{}", error(&entities));
    }
    entities.routes[0].split = None;
    for (name, what) in
        [("jobs", "mirror: not a service of protocol http"), ("nobody", "mirror: there is no such service")]
    {
        entities.routes[0].mirror = Some(Mirror { service: ServiceId::derived(name), share: Share::ALL });
        assert!(error(&entities).contains(what), "{}", error(&entities));
    }
    entities.routes[0].mirror = Some(Mirror { service: ServiceId::derived("orders"), share: Share::ALL });
    entities.routes[0].service = Some(ServiceId::derived("jobs"));
    assert!(error(&entities).contains("the route has no service of protocol http"), "{}", error(&entities));
}
