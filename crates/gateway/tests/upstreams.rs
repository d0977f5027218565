//! Services with targets, through a gateway: which address, which `Host`, what after a failure, what the client is told.

// Helpers of a test are not seen as tests by the lints; each test uses some of the common ones.
#![allow(clippy::unwrap_used, clippy::panic, dead_code)]

extern crate sluicegate_gateway as gateway;

mod support;

use gateway::balancer::{Resolution, ResolvedAddress};
use gateway::entity::{
    Algorithm, Backend, Breaker, Bulkhead, Entities, HashInput, Hashing, Hedge, HttpBackend, OutlierDetection, Retry,
    Scheme, ServiceId, Target, TargetAddress, Upstream, UpstreamId,
};
use gateway::{AccessLog, Decision, Exchange, Gateway, Lost, Next, Reason, Telling, Transferred, UpstreamFailure};
use http::{Response, StatusCode, header, response};
use http1::FieldLines;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use support::{Broker, Node, at, parts, route, service};

const ADDRESS: &str = "10.0.0.1:8000";

fn id() -> UpstreamId {
    UpstreamId::derived("orders")
}

fn target(text: &str) -> Target {
    Target::new(id(), TargetAddress::parse(text).unwrap())
}

/// A route `/orders` to a service whose host is the upstream `orders`.
fn orders(change: impl FnOnce(&mut Upstream), targets: &[&str]) -> Entities {
    let mut upstream = Upstream::new("orders");
    change(&mut upstream);
    let backend = HttpBackend { retries: 2, ..HttpBackend::new(Scheme::Http, "orders", 80) };
    Entities {
        services: vec![service("orders", Backend::Http(backend))],
        routes: vec![route("orders", Some("orders"), "/orders")],
        upstreams: vec![upstream],
        targets: targets.iter().map(|text| target(text)).collect(),
        ..Entities::default()
    }
}

fn three(change: impl FnOnce(&mut Upstream)) -> Node {
    Node::new(&orders(change, &["10.0.0.1", "10.0.0.2", "10.0.0.3"]))
}

fn address(exchange: &mut Exchange) -> String {
    let plan = exchange.plan().unwrap();
    let key = plan.member.unwrap();
    format!("{}:{}", key.address.key().host, key.address.key().port)
}

/// Begins a request that is proxied.
fn proxied(node: &Node, head: &str, ms: u64) -> Box<Exchange> {
    let (exchange, decision) = node.gateway.begin(&node.http, 1, parts(head), at(ms));
    assert!(matches!(decision, Decision::Proxy), "{decision:?}");
    exchange
}

fn get(node: &Node, ms: u64) -> Box<Exchange> {
    proxied(node, "GET /orders\nhost: a", ms)
}

fn head(status: u16) -> response::Parts {
    Response::builder().status(status).body(()).unwrap().into_parts().0
}

/// A whole request whose upstream answers with that status at once.
fn answer(node: &Node, status: u16, ms: u64) -> String {
    let mut exchange = get(node, ms);
    let to = address(&mut exchange);
    assert_eq!(exchange.upstream_answered(&head(status), &FieldLines::default(), true, at(ms)), None);
    exchange.upstream_head(&mut head(status), FieldLines::default(), at(ms));
    exchange.finish(Transferred::default(), at(ms));
    to
}

fn refused(node: &Node, ms: u64) -> (Box<Exchange>, Response<bytes::Bytes>) {
    match node.gateway.begin(&node.http, 1, parts("GET /orders\nhost: a"), at(ms)) {
        (exchange, Decision::Respond(response)) => (exchange, response),
        (_, other) => panic!("{other:?}"),
    }
}

fn failures(node: &Node) -> BTreeMap<&'static str, u64> {
    let counts = node.gateway.snapshot().routes().next().unwrap().stats.counts();
    Reason::WORDS.iter().copied().zip(counts.failures).filter(|(_, n)| *n > 0).collect()
}

fn again(next: Next) -> u64 {
    match next {
        Next::Again { wait_ms } => wait_ms,
        Next::Otherwise(decision) => panic!("{decision:?}"),
    }
}

#[test]
fn requests_are_spread_and_asked_by_the_target_s_name() {
    let node = three(|_| {});
    let got: BTreeSet<String> = (0..3).map(|ms| answer(&node, 200, ms)).collect();
    assert_eq!(got.len(), 3);
    let mut exchange = get(&node, 9);
    let host = exchange.plan().unwrap().request.headers[header::HOST].clone();
    assert_eq!(host, address(&mut exchange));

    let named = Node::new(&orders(|upstream| upstream.host_header = Some("shop.example".to_owned()), &["10.0.0.1"]));
    assert_eq!(get(&named, 1).plan().unwrap().request.headers[header::HOST], "shop.example:8000");
    let mut kept = orders(|_| {}, &["10.0.0.1"]);
    kept.routes[0].preserve_host = true;
    assert_eq!(get(&Node::new(&kept), 1).plan().unwrap().request.headers[header::HOST], "a");
}

#[test]
fn a_failed_connection_is_tried_at_the_others_with_their_host() {
    let node = three(|_| {});
    let mut exchange = get(&node, 1);
    let mut seen = BTreeSet::from([address(&mut exchange)]);
    for _ in 0..2 {
        assert_eq!(again(exchange.upstream_failed(UpstreamFailure::Refused, true, at(2))), 0);
        exchange.try_begins(at(2));
        let to = address(&mut exchange);
        assert_eq!(exchange.plan().unwrap().request.headers[header::HOST], to);
        assert!(seen.insert(to), "not the same again");
    }
    let Next::Otherwise(Decision::Respond(response)) = exchange.upstream_failed(UpstreamFailure::Refused, true, at(3))
    else {
        panic!("two retries are all there are")
    };
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    exchange.finish(Transferred::default(), at(3));
    assert_eq!(failures(&node), BTreeMap::from([("connect_refused", 1)]));
}

#[test]
fn without_a_healthy_target_kong_s_words_say_so() {
    let node = Node::new(&orders(|upstream| upstream.health_checks.passive.unhealthy.http_failures = 2, &["10.0.0.1"]));
    answer(&node, 500, 1);
    answer(&node, 500, 2);
    let (exchange, response) = refused(&node, 3);
    assert_eq!(response.status(), 503);
    let body = String::from_utf8_lossy(response.body()).into_owned();
    assert!(body.contains("failure to get a peer from the ring-balancer"), "{body}");
    exchange.finish(Transferred::default(), at(3));
    assert_eq!(failures(&node), BTreeMap::from([("no_healthy_target", 1)]));
    let balancer = node.gateway.balancer(id()).unwrap();
    assert!(balancer.set_healthy(&TargetAddress::parse(ADDRESS).unwrap(), None, true, at(4).mono));
    answer(&node, 200, 5);
}

#[test]
fn an_ejected_address_comes_back_by_itself() {
    let settings = OutlierDetection { consecutive_5xx: 2, base_ejection_time_ms: 1_000, ..OutlierDetection::default() };
    let node = Node::new(&orders(|upstream| upstream.resilience.outlier_detection = Some(settings), &["10.0.0.1"]));
    answer(&node, 502, 1);
    answer(&node, 502, 2);
    assert_eq!(refused(&node, 1_001).1.status(), 503);
    answer(&node, 200, 1_003);
    assert_eq!(node.gateway.balancer(id()).unwrap().view(at(1_003).mono).ejections, 1);
}

#[test]
fn a_status_is_retried_within_the_budget_and_never_twice_at_once() {
    let retry = Retry { min_retry_concurrency: 1, budget_percent: 0, backoff_base_ms: 0, ..Retry::default() };
    let node = three(|upstream| upstream.resilience.retry = Some(retry));
    let (mut one, mut two) = (get(&node, 1), get(&node, 1));
    let first = address(&mut one);
    assert_eq!(one.upstream_answered(&head(503), &FieldLines::default(), true, at(2)), Some(0));
    assert_ne!(address(&mut one), first);
    assert_eq!(two.upstream_answered(&head(503), &FieldLines::default(), true, at(2)), None, "one retry is under way");
    two.upstream_head(&mut head(503), FieldLines::default(), at(2));
    two.finish(Transferred::default(), at(2));
    assert_eq!(failures(&node), BTreeMap::from([("retry_budget", 1)]));
    assert_eq!(one.upstream_answered(&head(200), &FieldLines::default(), true, at(3)), None);
    drop(one);
    let mut post = proxied(&node, "POST /orders\nhost: a", 4);
    assert_eq!(post.upstream_answered(&head(503), &FieldLines::default(), true, at(5)), None, "a POST is not repeated");
    let mut streamed = get(&node, 6);
    assert_eq!(streamed.upstream_answered(&head(503), &FieldLines::default(), false, at(7)), None, "its body is gone");
    let mut later = get(&node, 8);
    let mut soon = head(503);
    soon.headers.insert(header::RETRY_AFTER, 1.into());
    assert_eq!(later.upstream_answered(&soon, &FieldLines::default(), true, at(9)), Some(1_000));
}

#[test]
fn how_long_a_503_asks_to_wait_is_read_wherever_its_fields_are() {
    let retry = Retry { backoff_base_ms: 0, retry_after_max_ms: 2_000, ..Retry::default() };
    let node = three(|upstream| upstream.resilience.retry = Some(retry.clone()));
    let wait_ms = |fields: &[(&str, &str)]| {
        let mut lines = FieldLines::default();
        fields.iter().for_each(|(name, value)| lines.put_received(name.as_bytes(), value.as_bytes()));
        get(&node, 1).upstream_answered(&head(503), &lines, true, at(2))
    };
    assert_eq!(wait_ms(&[]), Some(0));
    assert_eq!(wait_ms(&[("Retry-After", "1")]), Some(1_000));
    assert_eq!(wait_ms(&[("retry-after", "2")]), Some(2_000), "as long as may be");
    assert_eq!(wait_ms(&[("retry-after", "3")]), None, "longer than may be: the answer is the client's");
    let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
    assert_eq!(wait_ms(&[date, ("retry-after", "Sun, 06 Nov 1994 08:49:38 GMT")]), Some(1_000));
    assert_eq!(wait_ms(&[("retry-after", "soon")]), Some(0), "what cannot be read asks for nothing");
}

#[test]
fn an_open_breaker_refuses_then_lets_a_probe_through_to_whatever_is_there() {
    let breaker = Breaker { minimum_requests: 2, open_ms: 2_000, ..Breaker::default() };
    let node = Node::new(&orders(
        |upstream| {
            upstream.resilience.breaker = Some(breaker);
            upstream.health_checks.passive.unhealthy.http_failures = 2;
        },
        &["10.0.0.1"],
    ));
    answer(&node, 500, 1);
    answer(&node, 500, 2);
    let (exchange, response) = refused(&node, 3);
    assert_eq!((response.status().as_u16(), &response.headers()[header::RETRY_AFTER]), (503, &"2".parse().unwrap()));
    drop(exchange);
    // Health checks have taken the only target out; the breaker alone decides.
    let left = get(&node, 2_003);
    assert_eq!(refused(&node, 2_003).1.status(), 503);
    drop(left);
    answer(&node, 200, 2_004);
    assert_eq!(refused(&node, 2_005).1.status(), 503, "closed, but the target is unhealthy still");
    assert_eq!(failures(&node)["breaker_open"], 2);
}

#[test]
fn the_fallback_answers_while_the_upstream_cannot() {
    let mut entities = orders(|upstream| upstream.resilience.fallback = Some(ServiceId::derived("static")), &[]);
    let mut backend = HttpBackend::new(Scheme::Http, "static.internal", 81);
    backend.path = Some("/fallback".to_owned());
    entities.services.push(service("static", Backend::Http(backend)));
    let node = Node::new(&entities);
    let mut exchange = get(&node, 1);
    let plan = exchange.plan().unwrap();
    assert_eq!((plan.upstream.backend.host.as_str(), plan.request.uri.path()), ("static.internal", "/fallback"));
    assert_eq!(plan.request.headers[header::HOST], "static.internal:81");

    entities.upstreams[0].resilience.fallback = Some(ServiceId::derived("nowhere"));
    let errors = node.gateway.load(&entities).unwrap_err();
    assert!(errors[0].to_string().contains("resilience.fallback: there is no such service"), "{errors:?}");
}

#[test]
fn the_fallback_answers_when_every_try_failed_and_repeating_does_no_harm() {
    let mut entities =
        orders(|upstream| upstream.resilience.fallback = Some(ServiceId::derived("static")), &["10.0.0.1", "10.0.0.2"]);
    let mut backend = HttpBackend::new(Scheme::Http, "static.internal", 81);
    backend.path = Some("/fallback".to_owned());
    entities.services.push(service("static", Backend::Http(backend)));
    let node = Node::new(&entities);
    let ask = "GET /orders/7?a=1\nhost: a\nx-forwarded-for: 10.9.9.9";
    let mut exchange = proxied(&node, ask, 1);
    again(exchange.upstream_failed(UpstreamFailure::Refused, true, at(2)));
    again(exchange.upstream_failed(UpstreamFailure::Refused, true, at(3)));
    let Next::Otherwise(Decision::Proxy) = exchange.upstream_failed(UpstreamFailure::Refused, true, at(4)) else {
        panic!("there is a fallback")
    };
    let plan = exchange.plan().unwrap();
    assert_eq!((plan.upstream.backend.host.as_str(), plan.member.is_none()), ("static.internal", true));
    assert_eq!(plan.request.uri, "/fallback/7?a=1");
    assert_eq!(plan.request.headers[header::HOST], "static.internal:81");
    let mut headers = plan.request.headers.clone();
    plan.lines.append_to(&mut headers);
    assert_eq!(headers.get_all("x-forwarded-for").iter().collect::<Vec<_>>(), ["10.9.9.9, 10.0.0.9"]);
    for _ in 0..5 {
        again(exchange.upstream_failed(UpstreamFailure::Refused, true, at(5)));
    }
    let Next::Otherwise(Decision::Respond(response)) = exchange.upstream_failed(UpstreamFailure::Refused, true, at(6))
    else {
        panic!("the fallback is asked once")
    };
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    let mut post = proxied(&node, &ask.replace("GET", "POST"), 7);
    let next = post.upstream_failed(UpstreamFailure::Reset, false, at(8));
    assert!(matches!(next, Next::Otherwise(Decision::Respond(_))), "it may have been processed: {next:?}");
}

#[test]
fn an_answer_that_breaks_off_is_a_failure() {
    let breaker = Breaker { minimum_requests: 2, open_ms: 2_000, failure_percent: 100, ..Breaker::default() };
    let ejection = OutlierDetection { consecutive_5xx: 2, ..OutlierDetection::default() };
    let node = Node::new(&orders(
        |upstream| {
            upstream.resilience.breaker = Some(breaker);
            upstream.resilience.outlier_detection = Some(ejection);
        },
        &["10.0.0.1"],
    ));
    let broken = |ms| {
        let mut exchange = get(&node, ms);
        assert_eq!(exchange.upstream_answered(&head(200), &FieldLines::default(), true, at(ms)), None);
        exchange.upstream_head(&mut head(200), FieldLines::default(), at(ms));
        exchange.upstream_broke(UpstreamFailure::Reset, at(ms + 1));
        exchange.finish(Transferred::default(), at(ms + 1));
    };
    broken(1);
    broken(3);
    let view = node.gateway.balancer(id()).unwrap().view(at(5).mono);
    assert_eq!(view.ejections, 1);
    let (exchange, response) = refused(&node, 5);
    assert!(response.headers().contains_key(header::RETRY_AFTER), "the breaker is open");
    drop(exchange);
    broken(2_005);
    assert_eq!(refused(&node, 2_010).1.status(), 503, "the probe broke off");
    assert_eq!(failures(&node)["upstream_reset"], 3);
}

#[test]
fn requests_beside_a_slow_one_take_from_the_budget_of_retries() {
    let retry = Retry { min_retry_concurrency: 1, budget_percent: 0, ..Retry::default() };
    let node = three(|upstream| {
        upstream.resilience.retry = Some(retry);
        upstream.resilience.hedge = Some(Hedge { delay_ms: 10, extra_requests: 2 });
    });
    let (mut one, mut two) = (get(&node, 1), get(&node, 1));
    let beside = one.hedge(at(11)).unwrap();
    assert!(one.hedge(at(21)).is_none() && two.hedge(at(11)).is_none(), "one is under way");
    assert_eq!(two.upstream_answered(&head(503), &FieldLines::default(), true, at(12)), None, "nor is there a retry");
    drop(beside);
    assert!(two.hedge(at(31)).is_some());
}

#[test]
fn the_last_failure_of_several_tries_is_booked_where_it_happened() {
    let node = three(|upstream| {
        upstream.resilience.hedge = Some(Hedge { delay_ms: 10, extra_requests: 1 });
        upstream.health_checks.passive.unhealthy.tcp_failures = 1;
    });
    let mut exchange = get(&node, 1);
    let first = address(&mut exchange);
    let other = exchange.hedge(at(11)).unwrap();
    // The first answered garbage, which is not counted; the other was refused, later.
    exchange.hedged(Some((other, at(11))), Lost::Failed(UpstreamFailure::BadResponse), Vec::new(), at(20));
    let last = address(&mut exchange);
    exchange.upstream_failed(UpstreamFailure::Refused, false, at(20));
    let down: Vec<String> = node
        .gateway
        .balancer(id())
        .unwrap()
        .members()
        .iter()
        .filter(|member| !member.address.is_up())
        .map(|member| format!("{}:{}", member.address.key().host, member.address.key().port))
        .collect();
    assert_eq!((down, first == last), (vec![last], false));
}

#[test]
fn a_full_bulkhead_queues_and_then_refuses() {
    let bulkhead = Bulkhead { max_requests: 1, max_pending_requests: 1, queue_timeout_ms: 50, ..Bulkhead::default() };
    let node = three(|upstream| upstream.resilience.bulkhead = Some(bulkhead));
    let begin = || node.gateway.begin(&node.http, 1, parts("GET /orders\nhost: a"), at(1));
    let first = get(&node, 1);
    let (mut second, decision) = begin();
    let Decision::Queue { mut queued, timeout_ms: 50 } = decision else { panic!("{decision:?}") };
    assert_eq!(refused(&node, 1).1.status(), 503);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(pin!(&mut queued).poll(&mut cx).is_pending());
    drop(first);
    let Poll::Ready(granted) = pin!(&mut queued).poll(&mut cx) else { panic!("its turn") };
    assert!(matches!(second.turn(Some(granted), at(2)), Decision::Proxy));
    let (mut third, decision) = begin();
    assert!(matches!(decision, Decision::Queue { .. }));
    let Decision::Respond(response) = third.turn(None, at(60)) else { panic!("too late") };
    assert_eq!(response.status(), 503);
    drop(third);
    assert_eq!(failures(&node), BTreeMap::from([("bulkhead_full", 1), ("client_left", 1), ("queue_timeout", 1)]));
}

#[test]
fn a_cookie_sticks_to_its_target() {
    let on = HashInput::Cookie { name: "sid".to_owned(), path: "/".to_owned() };
    let hashing = Hashing { on, fallback: HashInput::None, slots: 1_000 };
    let node = three(|upstream| upstream.algorithm = Algorithm::ConsistentHashing(hashing));
    for ms in 0..10 {
        let mut exchange = get(&node, ms);
        let to = address(&mut exchange);
        let mut answered = head(200);
        answered.headers.insert(header::SET_COOKIE, "other=1".parse().unwrap());
        exchange.upstream_answered(&answered, &FieldLines::default(), true, at(ms));
        exchange.upstream_head(&mut answered, FieldLines::default(), at(ms));
        let cookies: Vec<&str> =
            answered.headers.get_all(header::SET_COOKIE).iter().map(|value| value.to_str().unwrap()).collect();
        let cookie = cookies[1].split(';').next().unwrap();
        assert!(cookies[0] == "other=1" && cookie.starts_with("sid="), "{cookies:?}");
        for _ in 0..3 {
            let mut again = proxied(&node, &format!("GET /orders\nhost: a\ncookie: {cookie}"), ms);
            assert_eq!(address(&mut again), to);
            let mut answered = head(200);
            again.upstream_head(&mut answered, FieldLines::default(), at(ms));
            assert!(!answered.headers.contains_key(header::SET_COOKIE));
        }
    }
}

#[test]
fn a_capture_of_the_route_is_hashed() {
    let hashing = Hashing { on: HashInput::UriCapture("user".to_owned()), fallback: HashInput::None, slots: 1_000 };
    let targets = ["10.0.0.1", "10.0.0.2", "10.0.0.3"];
    let mut entities = orders(|upstream| upstream.algorithm = Algorithm::ConsistentHashing(hashing), &targets);
    entities.routes[0].paths = vec!["~/users/(?<user>[a-z]+)/.*".to_owned()];
    let node = Node::new(&entities);
    let to = |path: &str| address(&mut proxied(&node, &format!("GET {path}\nhost: a"), 1));
    let users = ["ann", "bob", "cleo", "dan", "eve", "fay", "gus"];
    assert!(users.iter().map(|user| to(&format!("/users/{user}/a"))).collect::<BTreeSet<_>>().len() > 1);
    for user in users {
        assert_eq!(to(&format!("/users/{user}/a")), to(&format!("/users/{user}/b")));
    }
}

#[test]
fn hedged_tries_go_elsewhere_and_one_counts() {
    let node = three(|upstream| upstream.resilience.hedge = Some(Hedge { delay_ms: 10, extra_requests: 1 }));
    let mut exchange = get(&node, 1);
    let first = address(&mut exchange);
    assert_eq!(exchange.plan().unwrap().hedge.unwrap().delay_ms, 10);
    let other = exchange.hedge(at(11)).unwrap();
    let mut head = parts("GET /orders\nhost: a");
    exchange.address_to(&mut head, &other);
    assert_ne!(head.headers[header::HOST], first);
    exchange.hedged(Some((other, at(11))), Lost::Failed(UpstreamFailure::Reset), Vec::new(), at(12));
    assert_ne!(address(&mut exchange), first);
    assert!(exchange.tries().contains("upstream_reset"), "{}", exchange.tries());
}

#[test]
fn an_answer_of_5xx_that_lost_is_booked_on_its_address() {
    let node = three(|upstream| {
        upstream.resilience.hedge = Some(Hedge { delay_ms: 10, extra_requests: 1 });
        upstream.health_checks.passive.unhealthy.http_failures = 1;
    });
    let mut exchange = get(&node, 1);
    let first = address(&mut exchange);
    let other = exchange.hedge(at(11)).unwrap();
    exchange.hedged(Some((other, at(11))), Lost::Answered(StatusCode::INTERNAL_SERVER_ERROR), Vec::new(), at(12));
    assert_eq!(exchange.upstream_answered(&head(200), &FieldLines::default(), true, at(12)), None);
    exchange.upstream_done(at(13));
    let members = node.gateway.balancer(id()).unwrap().members();
    let down: Vec<&str> =
        members.iter().filter(|member| !member.address.is_up()).map(|member| &*member.address.key().host).collect();
    assert_eq!(down, [first.split(':').next().unwrap()]);
    assert!(exchange.tries().contains(": 500 after"), "{}", exchange.tries());
}

#[test]
fn state_survives_a_reload_that_keeps_the_target() {
    let entities =
        |targets: &[&str]| orders(|upstream| upstream.health_checks.passive.unhealthy.tcp_failures = 1, targets);
    let node = Node::new(&entities(&["10.0.0.1", "10.0.0.2"]));
    let mut exchange = get(&node, 1);
    let down = address(&mut exchange);
    again(exchange.upstream_failed(UpstreamFailure::Refused, true, at(2)));
    drop(exchange);
    let before = node.gateway.balancer(id()).unwrap();
    node.gateway.load(&entities(&["10.0.0.1", "10.0.0.2"])).unwrap();
    assert!(Arc::ptr_eq(&before, &node.gateway.balancer(id()).unwrap()), "what has not changed is the same");
    node.gateway.load(&entities(&["10.0.0.1", "10.0.0.2", "10.0.0.3"])).unwrap();
    for ms in 10..40 {
        assert_ne!(answer(&node, 200, ms), down);
    }
}

#[test]
fn addresses_come_from_outside_and_survive_a_reload() {
    let node = Node::new(&orders(|_| {}, &["orders.internal:90"]));
    let name = TargetAddress::parse("orders.internal:90").unwrap();
    assert_eq!(answer(&node, 200, 1), "orders.internal:90");
    let resolved = Resolution::Addresses(vec![ResolvedAddress::new([10, 0, 0, 7].into())]);
    assert!(node.gateway.set_addresses(id(), &name, resolved));
    assert_eq!(answer(&node, 200, 2), "10.0.0.7:90");
    node.gateway.load(&orders(|_| {}, &["orders.internal:90", "10.0.0.8"])).unwrap();
    let got: BTreeSet<String> = (3..5).map(|ms| answer(&node, 200, ms)).collect();
    assert_eq!(got, BTreeSet::from(["10.0.0.7:90".to_owned(), "10.0.0.8:8000".to_owned()]));
    node.gateway.load(&orders(|_| {}, &["orders.internal:90"])).unwrap();
    assert!(node.gateway.set_addresses(id(), &name, Resolution::Failed));
    let (exchange, _) = refused(&node, 6);
    drop(exchange);
    assert_eq!(failures(&node), BTreeMap::from([("name_resolution", 1)]));
}

#[derive(Default)]
struct Lines(Mutex<Vec<Value>>);

impl AccessLog for Lines {
    fn write(&self, line: &[u8]) {
        assert!(line.ends_with(b"}\n"));
        self.0.lock().unwrap().push(serde_json::from_slice(line).unwrap());
    }
}

#[test]
fn the_access_log_and_proxy_status_say_why() {
    let lines = Arc::new(Lines::default());
    let telling = Telling { proxy_status: true, access_log: Some(Arc::<Lines>::clone(&lines)) };
    let mut node = three(|_| {});
    node.gateway = Gateway::new(plugins::registry(), Arc::new(Broker::default())).telling(telling);
    node.gateway.load(&orders(|_| {}, &["10.0.0.1", "10.0.0.2"])).unwrap();
    let mut exchange = proxied(&node, "GET /orders/7?a=1\nhost: a.com\nauthorization: Bearer x", 1_000);
    again(exchange.upstream_failed(UpstreamFailure::ConnectTimeout, true, at(1_100)));
    exchange.try_begins(at(1_100));
    let to = address(&mut exchange);
    exchange.upstream_answered(&head(201), &FieldLines::default(), true, at(1_150));
    exchange.upstream_head(&mut head(201), FieldLines::default(), at(1_150));
    exchange.finish(Transferred { bytes_in: 10, bytes_out: 20 }, at(1_170));
    let (exchange, decision) = node.gateway.begin(&node.http, 1, parts("GET /nowhere\nhost: a"), at(2_000));
    let Decision::Respond(response) = decision else { panic!("{decision:?}") };
    assert_eq!(response.headers()["proxy-status"], "sluicegate; error=destination_not_found; details=\"no_route\"");
    exchange.finish(Transferred::default(), at(2_000));

    let lines = lines.0.lock().unwrap();
    let line = &lines[0];
    assert_eq!(line["request"]["uri"], "/orders/7?a=1");
    assert_eq!(line["request"]["url"], "http://a.com:8000/orders/7");
    assert_eq!(line["request"]["querystring"]["a"], "1");
    assert_eq!(line["request"]["headers"]["authorization"], "REDACTED");
    assert_eq!((&line["upstream_uri"], &line["response"]["status"]), (&"/7?a=1".into(), &201.into()));
    assert_eq!(
        (&line["tries"][0]["state"], &line["tries"][0]["reason"]),
        (&"failed".into(), &"connect_timeout".into())
    );
    assert_eq!(format!("{}:{}", line["tries"][1]["ip"].as_str().unwrap(), line["tries"][1]["port"]), to);
    assert_eq!((&line["source"], &line["route"]["name"]), (&"upstream".into(), &"orders".into()));
    assert_eq!((&line["latencies"]["request"], &line["latencies"]["receive"]), (&170.into(), &20.into()));
    assert_eq!((&lines[1]["reason"], &lines[1]["source"]), (&"no_route".into(), &"kong".into()));
    assert_eq!(lines[1]["latencies"]["proxy"], -1);
}
