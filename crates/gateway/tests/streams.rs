//! Connections through the gateway, without a socket: which service and address they get, and what is counted of them.

// Helpers of a test are not seen as tests by the lints; each test uses some of the common ones.
#![allow(clippy::unwrap_used, clippy::panic, dead_code)]

extern crate sluicegate_gateway as gateway;

mod support;

use gateway::entity::{
    Backend, Breaker, Bulkhead, Endpoint, Entities, HttpBackend, PluginConfig, Route, RouteId, Scheme, Service,
    ServiceId, StreamBackend, StreamProtocol, StreamProtocols, StreamRoute, Target, TargetAddress, Upstream,
};
use gateway::router::StreamKind;
use gateway::stream::{Client, Session, SessionStep};
use gateway::{AccessLog, Datagrams, Gateway, Reason, Telling, Transferred, UpstreamFailure};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use support::{Broker, at, service};

const TCP: StreamProtocols = StreamProtocols::Of { tcp: true, tls: false, udp: false };
const UDP: StreamProtocols = StreamProtocols::Of { tcp: false, tls: false, udp: true };

#[derive(Default)]
struct Lines(Mutex<Vec<Value>>);

impl AccessLog for Lines {
    fn write(&self, line: &[u8]) {
        self.0.lock().unwrap().push(serde_json::from_slice(line).unwrap());
    }
}

fn stream(name: &str, protocol: StreamProtocol) -> Service {
    let server = HttpBackend { retries: 2, ..HttpBackend::new(Scheme::Http, name, 9000) };
    service(name, Backend::Stream(StreamBackend { protocol, server }))
}

fn route(name: &str, service: &str, protocols: StreamProtocols) -> StreamRoute {
    let service = (!service.is_empty()).then(|| ServiceId::derived(service));
    StreamRoute { name: Some(name.to_owned()), service, ..StreamRoute::new(RouteId::derived(name), protocols) }
}

/// A route for port 1, to the service `db`, whose upstream has two targets.
fn entities() -> Entities {
    let upstream = Upstream::new("db");
    let target = |address: &str| Target::new(upstream.id, TargetAddress::parse(address).unwrap());
    let targets = vec![target("10.0.0.1:5432"), target("10.0.0.2:5432")];
    let routed = StreamRoute { destinations: vec![Endpoint::Port(1)], ..route("to-db", "db", TCP) };
    Entities {
        services: vec![stream("db", StreamProtocol::Tcp)],
        stream_routes: vec![routed],
        targets,
        upstreams: vec![upstream],
        ..Entities::default()
    }
}

struct Node {
    gateway: Gateway,
    lines: Arc<Lines>,
}

impl Node {
    fn new(entities: &Entities) -> Self {
        let lines = Arc::new(Lines::default());
        let telling = Telling { proxy_status: false, access_log: Some(Arc::clone(&lines) as _) };
        let gateway = Gateway::new(plugins::registry(), Arc::new(Broker::default())).telling(telling);
        gateway.load(entities).unwrap_or_else(|errors| panic!("{errors:?}"));
        Self { gateway, lines }
    }

    fn routed(&self, port: u16) -> Session {
        let (source, destination) = (([10, 0, 0, 9], 4000).into(), ([10, 0, 0, 1], port).into());
        self.gateway.begin_session(Client { kind: StreamKind::Tcp, source, destination, sni: None }, at(1_000))
    }

    fn begin(&self, port: u16) -> (Session, SessionStep) {
        let mut session = self.routed(port);
        let step = session.enter(at(1_000));
        (session, step)
    }

    fn last_line(&self) -> Value {
        self.lines.0.lock().unwrap().pop().unwrap()
    }
}

fn peer(session: &Session) -> String {
    session.plan().unwrap().member.unwrap().address.key().host.to_string()
}

fn problems(entities: &Entities) -> Vec<String> {
    let gateway = Gateway::new(plugins::registry(), Arc::new(Broker::default()));
    let errors = gateway.prepare(entities).expect_err("it cannot be used");
    errors.into_iter().map(|error| format!("{} {}", error.kind, error.what)).collect()
}

#[test]
fn a_connection_goes_to_another_address_when_one_refuses_and_says_so() {
    let node = Node::new(&entities());
    let (mut session, step) = node.begin(1);
    assert!(matches!(step, SessionStep::Connect { wait_ms: 0 }));
    let first = peer(&session);
    let step = session.failed(UpstreamFailure::Refused, at(1_005));
    assert!(matches!(step, SessionStep::Connect { wait_ms: 0 }));
    session.try_begins(at(1_005));
    assert_ne!(peer(&session), first);
    session.connected(at(1_010));
    let counts = |node: &Node| node.gateway.snapshot().stream_routes().next().unwrap().stats.counts();
    assert_eq!(counts(&node).open, 1);
    session.finish(Transferred { bytes_in: 7, bytes_out: 70 }, at(3_000));
    let after = counts(&node);
    assert_eq!(
        (after.open, after.duration.count, after.transferred.bytes_in, after.transferred.bytes_out),
        (0, 1, 7, 70)
    );
    assert_eq!(after.failures.iter().sum::<u64>(), 0);
    let line = node.last_line();
    assert_eq!(line["session"], json!({"protocol": "tcp", "received": 7, "sent": 70, "status": 200, "server_port": 1}));
    assert_eq!(line["upstream"], json!({"received": 70, "sent": 7}));
    assert_eq!(line["latencies"], json!({"kong": 10, "session": 2_000}));
    assert_eq!((&line["route"]["name"], &line["service"]["name"]), (&json!("to-db"), &json!("db")));
    assert_eq!((&line["client_ip"], line.get("reason")), (&json!("10.0.0.9"), None));
    let tries = line["tries"].as_array().unwrap();
    assert_eq!((tries.len(), &tries[0]["reason"], &tries[0]["ip"]), (2, &json!("connect_refused"), &json!(first)));
}

#[test]
fn after_its_retries_it_is_closed_with_a_reason() {
    let node = Node::new(&entities());
    let (mut session, _) = node.begin(1);
    for _ in 0..2 {
        assert!(matches!(session.failed(UpstreamFailure::ConnectTimeout, at(1_001)), SessionStep::Connect { .. }));
    }
    assert!(matches!(session.failed(UpstreamFailure::ConnectTimeout, at(1_002)), SessionStep::Close));
    session.finish(Transferred::default(), at(1_002));
    let line = node.last_line();
    assert_eq!((&line["reason"], &line["session"]["status"]), (&json!("connect_timeout"), &json!(502)));
    let counts = node.gateway.snapshot().stream_routes().next().unwrap().stats.counts();
    assert_eq!(counts.failures[Reason::ConnectTimeout.index()], 1);
}

#[test]
fn a_connection_that_no_route_takes_is_closed_and_counted() {
    let node = Node::new(&entities());
    let (session, step) = node.begin(2);
    assert!(matches!(step, SessionStep::Close) && session.plan().is_none());
    drop(session);
    assert_eq!(node.last_line()["reason"], "no_route");
    let counts = node.gateway.stats().unmatched_streams().counts();
    assert_eq!((counts.open, counts.failures[Reason::NoRoute.index()]), (0, 1));
    let (source, destination) = (([10, 0, 0, 9], 4000).into(), ([10, 0, 0, 1], 1).into());
    let client = Client { kind: StreamKind::Tls, source, destination, sni: Some("a.test".into()) };
    node.gateway.reject_session(client, Reason::ClientTls, at(1_000));
    let line = node.last_line();
    assert_eq!((&line["session"]["status"], &line["session"]["tls"]["sni"]), (&json!(400), &json!("a.test")));
}

#[test]
fn the_fallback_is_tried_when_nobody_answers_and_while_the_breaker_is_open() {
    let mut entities = entities();
    let breaker = Breaker { minimum_requests: 1, failure_percent: 1, ..Breaker::default() };
    entities.upstreams[0].resilience.breaker = Some(breaker);
    entities.upstreams[0].resilience.fallback = Some(ServiceId::derived("spare"));
    let Backend::Stream(StreamBackend { server, .. }) = &mut entities.services[0].backend else { panic!("a stream") };
    server.retries = 0;
    entities.services.push(stream("spare", StreamProtocol::Tcp));
    let node = Node::new(&entities);
    let (mut session, _) = node.begin(1);
    let is_spare = |session: &Session| {
        let plan = session.plan().unwrap();
        plan.upstream.backend.host == "spare" && plan.member.is_none()
    };
    assert!(!is_spare(&session));
    assert!(matches!(session.failed(UpstreamFailure::Refused, at(1_000)), SessionStep::Connect { wait_ms: 0 }));
    assert!(is_spare(&session));
    drop(session);
    let (mut session, step) = node.begin(1);
    assert!(matches!(step, SessionStep::Connect { .. }) && is_spare(&session), "its breaker is open");
    for _ in 0..2 {
        assert!(matches!(session.failed(UpstreamFailure::Refused, at(1_000)), SessionStep::Connect { .. }));
    }
    assert!(matches!(session.failed(UpstreamFailure::Refused, at(1_000)), SessionStep::Close));
}

#[test]
fn who_has_not_entered_takes_nobody_s_place() {
    let mut entities = entities();
    entities.upstreams[0].resilience.bulkhead = Some(Bulkhead { max_requests: 1, ..Bulkhead::default() });
    let node = Node::new(&entities);
    let mut waiting = node.routed(1);
    let (inside, step) = node.begin(1);
    assert!(matches!(step, SessionStep::Connect { .. }) && waiting.has_service());
    assert!(matches!(waiting.enter(at(1_001)), SessionStep::Close), "one place, and it is taken");
    drop(waiting);
    assert_eq!(node.last_line()["reason"], "bulkhead_full");
    drop(inside);
    assert!(matches!(node.begin(1).1, SessionStep::Connect { .. }));
}

#[test]
fn one_given_up_before_it_was_connected_says_why() {
    let node = Node::new(&entities());
    drop(node.routed(1));
    assert_eq!(node.last_line()["reason"], "shutdown");
    drop(node.begin(1));
    assert_eq!(node.last_line()["reason"], "shutdown");
    let (mut session, _) = node.begin(1);
    session.connected(at(1_001));
    drop(session);
    assert_eq!(node.last_line().get("reason"), None);
}

#[test]
fn tls_is_spoken_to_a_service_of_tls_and_passed_through_untouched() {
    let mut entities = Entities {
        services: vec![stream("db", StreamProtocol::Tls)],
        stream_routes: vec![StreamRoute { preserve_host: true, ..route("r", "db", TCP) }],
        ..Entities::default()
    };
    let client = |kind| Client {
        kind,
        source: ([10, 0, 0, 9], 4000).into(),
        destination: ([10, 0, 0, 1], 1).into(),
        sni: (kind == StreamKind::Tls).then(|| "a.test".into()),
    };
    let plan = |entities: &Entities, kind| {
        let node = Node::new(entities);
        let mut session = node.gateway.begin_session(client(kind), at(1));
        assert!(matches!(session.enter(at(1)), SessionStep::Connect { .. }));
        let plan = session.plan().unwrap();
        (plan.tls, plan.server_name.as_deref().map(str::to_owned), session.passes_through())
    };
    assert_eq!(plan(&entities, StreamKind::Tcp), (true, None, false));
    entities.stream_routes[0].protocols = StreamProtocols::Of { tcp: true, tls: true, udp: false };
    assert_eq!(plan(&entities, StreamKind::Tls), (true, Some("a.test".to_owned()), false));
    entities.stream_routes[0].protocols = StreamProtocols::TlsPassthrough;
    assert_eq!(plan(&entities, StreamKind::Tls), (false, Some("a.test".to_owned()), true));
}

/// Entities whose route takes the datagrams of port 1.
fn for_datagrams() -> Entities {
    let mut entities = entities();
    entities.stream_routes[0].protocols = UDP;
    entities
}

fn datagrams_at(node: &Node, ms: u64) -> (Session, SessionStep) {
    let (source, destination) = (([10, 0, 0, 9], 4000).into(), ([10, 0, 0, 1], 1).into());
    let client = Client { kind: StreamKind::Udp, source, destination, sni: None };
    let mut session = node.gateway.begin_session(client, at(ms));
    let step = session.enter(at(ms));
    (session, step)
}

fn begin_datagrams(node: &Node) -> Session {
    let (session, step) = datagrams_at(node, 1_000);
    assert!(matches!(step, SessionStep::Connect { wait_ms: 0 }));
    session
}

/// A gateway whose upstream has refused datagrams, so that its breaker has been open since the first second.
fn with_open_breaker(half_open_requests: u32) -> Node {
    let mut entities = for_datagrams();
    let breaker =
        Breaker { minimum_requests: 1, failure_percent: 1, open_ms: 1_000, half_open_requests, ..Breaker::default() };
    entities.upstreams[0].resilience.breaker = Some(breaker);
    let node = Node::new(&entities);
    let mut session = begin_datagrams(&node);
    while !matches!(session.failed(UpstreamFailure::Refused, at(1_000)), SessionStep::Close) {}
    node
}

#[test]
fn datagrams_that_nobody_answers_end_of_themselves_and_are_counted() {
    let node = Node::new(&for_datagrams());
    let mut session = begin_datagrams(&node);
    session.fell_silent(at(2_000));
    session.count_datagrams(Datagrams { n_in: 3, n_out: 0 });
    session.finish(Transferred { bytes_in: 30, bytes_out: 0 }, at(2_000));
    let line = node.last_line();
    assert_eq!(
        line["session"],
        json!({"protocol": "udp", "received": 30, "sent": 0, "status": 200, "server_port": 1,
            "datagrams": {"received": 3, "sent": 0}})
    );
    assert_eq!((line.get("reason"), line["tries"].as_array().unwrap().len()), (None, 1));
    let counts = node.gateway.snapshot().stream_routes().next().unwrap().stats.counts();
    assert_eq!((counts.datagrams.n_in, counts.failures.iter().sum::<u64>()), (3, 0));
}

#[test]
fn an_address_hears_of_refused_datagrams_before_an_answer_and_after() {
    let mut entities = for_datagrams();
    let passive = &mut entities.upstreams[0].health_checks.passive;
    (passive.unhealthy.tcp_failures, passive.healthy.successes) = (1, 1);
    let node = Node::new(&entities);
    let mut session = begin_datagrams(&node);
    let first = peer(&session);
    assert!(matches!(session.failed(UpstreamFailure::Refused, at(1_001)), SessionStep::Connect { .. }));
    let second = peer(&session);
    assert_ne!(first, second);
    session.try_begins(at(1_001));
    session.connected(at(1_002));
    session.refused(at(1_003));
    session.finish(Transferred::default(), at(1_003));
    let line = node.last_line();
    assert_eq!((&line["reason"], &line["session"]["status"]), (&json!("connect_refused"), &json!(502)));
    let (source, destination) = (([10, 0, 0, 9], 4000).into(), ([10, 0, 0, 1], 1).into());
    let client = Client { kind: StreamKind::Udp, source, destination, sni: None };
    let mut session = node.gateway.begin_session(client, at(1_004));
    assert!(matches!(session.enter(at(1_004)), SessionStep::Close), "both are unhealthy");
    drop(session);
    assert_eq!(node.last_line()["reason"], "no_healthy_target");
}

#[test]
fn silence_closes_a_half_open_breaker_and_only_a_refusal_opens_it() {
    let half_open_requests = Breaker::default().half_open_requests;
    let node = with_open_breaker(half_open_requests);
    let begin = |ms| datagrams_at(&node, ms);
    assert!(matches!(begin(1_001).1, SessionStep::Close), "it is open");
    for _ in 0..half_open_requests {
        let (mut probe, step) = begin(60_000);
        assert!(matches!(step, SessionStep::Connect { .. }));
        probe.fell_silent(at(60_001));
    }
    let both = (begin(60_002).1, begin(60_002).1);
    assert!(matches!(both, (SessionStep::Connect { .. }, SessionStep::Connect { .. })), "it is closed");
}

/// A client that never stops sending to an upstream that never answers would else keep the probe's place for ever.
#[test]
fn a_probe_that_goes_on_is_judged_when_it_was_not_refused_in_time() {
    let node = with_open_breaker(1);
    let begin = |ms| datagrams_at(&node, ms);
    let (mut probe, step) = begin(60_000);
    assert!(matches!(step, SessionStep::Connect { .. }));
    assert!(matches!(begin(60_001).1, SessionStep::Close), "one probe at a time");
    probe.not_refused(at(60_002));
    let (mut other, step) = begin(60_003);
    assert!(matches!(step, SessionStep::Connect { .. }), "it is closed, and the probe goes on");
    other.connected(at(60_004));
    probe.connected(at(60_005));
    probe.finish(Transferred::default(), at(60_006));
    assert_eq!(node.last_line().get("reason"), None);
}

#[test]
fn datagrams_do_not_fall_back_to_tls() {
    let mut entities = for_datagrams();
    entities.upstreams[0].resilience.fallback = Some(ServiceId::derived("spare"));
    for (protocol, falls_back) in [(StreamProtocol::Tcp, true), (StreamProtocol::Tls, false)] {
        entities.services.truncate(1);
        entities.services.push(stream("spare", protocol));
        let node = Node::new(&entities);
        let mut session = begin_datagrams(&node);
        for _ in 0..2 {
            assert!(matches!(session.failed(UpstreamFailure::Refused, at(1_001)), SessionStep::Connect { .. }));
        }
        let step = session.failed(UpstreamFailure::Refused, at(1_001));
        assert_eq!(matches!(step, SessionStep::Connect { .. }), falls_back, "{protocol:?}");
    }
}

#[test]
fn what_does_not_go_together_is_refused() {
    let mut entities = entities();
    entities.services.push(stream("tls", StreamProtocol::Tls));
    entities.services.push(stream("syslog", StreamProtocol::Udp));
    entities.services.push(support::upstream("web"));
    entities.stream_routes.push(route("datagrams", "tls", UDP));
    entities.stream_routes.push(route("syslog", "syslog", UDP));
    entities.stream_routes.push(route("both", "syslog", StreamProtocols::Of { tcp: true, tls: false, udp: true }));
    entities.stream_routes.push(route("passing", "syslog", StreamProtocols::TlsPassthrough));
    entities.stream_routes.push(route("web", "web", TCP));
    entities.upstreams[0].resilience.fallback = Some(ServiceId::derived("syslog"));
    entities.routes.push(Route { service: Some(ServiceId::derived("db")), ..Route::new(RouteId::derived("pages")) });
    let route = Some(RouteId::derived("to-db"));
    entities.plugins.push(PluginConfig { route, ..support::plugin_config("correlation-id", json!({})) });
    assert_eq!(
        problems(&entities),
        [
            "upstreams resilience.fallback: a service of `udp` serves neither requests nor connections",
            "routes service: one of `tcp` cannot serve a route of http, https, grpc or grpcs",
            "plugins plugin `correlation-id` does not run for tcp, tls, tls_passthrough or udp",
            "routes service: one of `tls` cannot serve a route of udp: datagrams have no TLS",
            "routes service: one of `udp` serves datagrams, and not a route of tcp, tls or tls_passthrough",
            "routes service: one of `udp` serves datagrams, and not a route of tcp, tls or tls_passthrough",
            "routes service: one of `http` cannot serve a route of tcp, tls, tls_passthrough or udp",
        ]
    );
}
