//! Matching and order as tables.

use super::*;
use crate::entity::RouteId;
use model::Network;

const TCP: StreamProtocols = StreamProtocols::Of { tcp: true, tls: false, udp: false };
const TLS: StreamProtocols = StreamProtocols::Of { tcp: false, tls: true, udp: false };
const UDP: StreamProtocols = StreamProtocols::Of { tcp: false, tls: false, udp: true };
const TCP_TLS: StreamProtocols = StreamProtocols::Of { tcp: true, tls: true, udp: false };

fn route(n: u8, protocols: StreamProtocols, edit: impl FnOnce(&mut StreamRoute)) -> StreamRoute {
    let mut bytes = [0; 16];
    bytes[15] = n;
    let mut route = StreamRoute::new(RouteId(Id::from_bytes(bytes)), protocols);
    edit(&mut route);
    route
}

fn snis(n: u8, protocols: StreamProtocols, names: &[&str]) -> StreamRoute {
    route(n, protocols, |r| r.snis = names.iter().map(|name| (*name).to_owned()).collect())
}

fn sources(n: u8, endpoints: &[Endpoint]) -> StreamRoute {
    route(n, TCP, |r| r.sources = endpoints.to_vec())
}

fn ask<'a>(kind: StreamKind, sni: Option<&'a str>, source: &str, destination: &str) -> StreamAsk<'a> {
    StreamAsk { kind, sni, source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

/// The number of the route that takes the connection; 0 if none does.
fn winner(routes: &[StreamRoute], ask: &StreamAsk<'_>) -> u8 {
    let router = StreamRouter::new(routes).unwrap();
    router.route(ask).map_or(0, |idx| routes[idx].id.0.to_bytes()[15])
}

fn by_name(routes: &[StreamRoute], name: &str) -> u8 {
    winner(routes, &ask(StreamKind::Tls, Some(name), "192.0.2.1:4000", "10.0.0.1:443"))
}

fn from(routes: &[StreamRoute], source: &str) -> u8 {
    winner(routes, &ask(StreamKind::Tcp, None, source, "10.0.0.1:5000"))
}

fn network(text: &str) -> Network {
    text.parse().unwrap()
}

#[test]
fn server_names_are_exact_or_have_a_wildcard() {
    let routes = [
        snis(1, TLS, &["a.com", "b.com."]),
        snis(2, StreamProtocols::TlsPassthrough, &["c.com"]),
        snis(3, TLS, &["*.d.com", "e.*"]),
    ];
    let got = ["a.com", "b.com", "a.com.", "c.com", "x.d.com", "e.org", "d.com"].map(|name| by_name(&routes, name));
    assert_eq!(got, [1, 1, 1, 2, 3, 3, 0]);
}

#[test]
fn server_names_count_only_where_tls_is() {
    let routes = [snis(1, TCP_TLS, &["a.com"])];
    assert_eq!(from(&routes, "192.0.2.1:1"), 1);
    assert_eq!(by_name(&routes, "b.com"), 0);
    assert_eq!(winner(&routes, &ask(StreamKind::Tls, None, "192.0.2.1:1", "10.0.0.1:1")), 0);
}

#[test]
fn a_route_serves_its_protocols_only() {
    let routes = [route(1, TCP, |_| ()), route(2, TLS, |_| ()), route(3, UDP, |_| ())];
    let of = |kind| winner(&routes, &ask(kind, None, "192.0.2.1:1", "10.0.0.1:1"));
    assert_eq!([of(StreamKind::Tcp), of(StreamKind::Tls), of(StreamKind::Udp)], [1, 2, 3]);
}

#[test]
fn ends_are_addresses_networks_and_ports() {
    let ip = "192.0.2.1".parse().unwrap();
    let net = network("198.51.100.0/24");
    for (endpoint, source, expected) in [
        (Endpoint::Address(ip), "192.0.2.1:9", 1),
        (Endpoint::Address(ip), "[::ffff:192.0.2.1]:9", 1),
        (Endpoint::Address(ip), "192.0.2.2:9", 0),
        (Endpoint::Network(net), "198.51.100.7:9", 1),
        (Endpoint::Network(net), "198.51.101.7:9", 0),
        (Endpoint::Port(9), "203.0.113.1:9", 1),
        (Endpoint::Port(9), "203.0.113.1:8", 0),
        (Endpoint::AddressPort(ip, 9), "192.0.2.1:9", 1),
        (Endpoint::AddressPort(ip, 9), "192.0.2.1:8", 0),
        (Endpoint::NetworkPort(net, 9), "198.51.100.7:9", 1),
        (Endpoint::NetworkPort(net, 9), "198.51.100.7:8", 0),
    ] {
        assert_eq!(from(&[sources(1, &[endpoint])], source), expected, "{endpoint:?} {source}");
    }
    let several = sources(1, &[Endpoint::Port(1), Endpoint::Address(ip)]);
    assert_eq!(from(std::slice::from_ref(&several), "192.0.2.1:7"), 1);
    let both = route(1, TCP, |r| (r.sources, r.destinations) = (vec![Endpoint::Port(1)], vec![Endpoint::Port(5000)]));
    assert_eq!(from(std::slice::from_ref(&both), "192.0.2.1:1"), 1);
    assert_eq!(from(std::slice::from_ref(&both), "192.0.2.1:2"), 0);
}

#[test]
fn the_order_is_kong_s() {
    let ip: std::net::IpAddr = "192.0.2.1".parse().unwrap();
    let any = network("0.0.0.0/0");
    let falling = [
        route(1, TLS, |r| (r.sources, r.destinations) = (vec![Endpoint::Address(ip)], vec![Endpoint::Port(443)])),
        route(2, TLS, |r| (r.sources, r.destinations) = (vec![Endpoint::Port(4000)], vec![Endpoint::Port(443)])),
        route(3, TLS, |r| (r.snis, r.destinations) = (vec!["a.com".to_owned()], vec![Endpoint::Port(443)])),
        snis(4, TLS, &["a.com"]),
        route(5, TLS, |r| r.sources = vec![Endpoint::Address(ip)]),
        route(6, TLS, |r| r.sources = vec![Endpoint::NetworkPort(any, 4000)]),
        route(7, TLS, |r| r.sources = vec![Endpoint::Port(4000)]),
        route(8, TLS, |r| r.sources = vec![Endpoint::Network(any)]),
        route(9, TLS, |r| r.destinations = vec![Endpoint::Port(443)]),
        route(10, TLS, |_| ()),
    ];
    for first in 0..falling.len() {
        assert_eq!(usize::from(by_name(&falling[first..], "a.com")), first + 1);
    }
    let equals = [snis(3, TLS, &["a.com"]), snis(7, TLS, &["a.com"]), snis(5, TLS, &["*.com"])];
    assert_eq!(by_name(&equals, "a.com"), 7);
}

#[test]
fn expressions_come_first_and_know_connections_only() {
    let expression = |n, text: &str, priority| {
        route(n, TCP_TLS, |r| {
            r.expression = Some(text.to_owned());
            r.priority = priority;
        })
    };
    let routes = [
        snis(9, TLS, &["a.com"]),
        expression(1, r#"tls.sni =^ ".com" && net.dst.port == 443"#, 1),
        expression(2, r#"net.protocol == "tcp" && net.src.ip in 192.0.2.0/24"#, 0),
    ];
    assert_eq!([by_name(&routes, "a.com"), by_name(&routes, "a.org"), from(&routes, "192.0.2.7:1")], [1, 0, 2]);
    let errors = StreamRouter::new(&[expression(1, r#"http.path == "/""#, 0)]).unwrap_err();
    assert!(errors[0].error.what.contains("is a field of requests"));
}

#[test]
fn ten_thousand_names_are_not_asked_one_by_one() {
    let routes: Vec<_> = (0..10_000u32)
        .map(|n| {
            let mut route = snis(0, TLS, &[&format!("t{n}.example.com")]);
            route.id = RouteId::derived(&n.to_string());
            route
        })
        .collect();
    let router = StreamRouter::new(&routes).unwrap();
    assert!(router.others.is_empty());
    assert!(router.by_sni.values().all(|ranks| ranks.len() == 1));
    let found = router.route(&ask(StreamKind::Tls, Some("t4711.example.com"), "192.0.2.1:1", "10.0.0.1:443"));
    assert_eq!(found, Some(4711));
}
