//! A request's whole life with the real plugins and without a socket.

// Helpers of a test are not seen as tests by the lints.
#![allow(clippy::unwrap_used, clippy::panic)]

extern crate sluicegate_gateway as gateway;

mod support;

use expect_test::{Expect, expect};
use gateway::entity::{ApiConsumerId, Backend, Entities, HttpsRedirect, RouteId, RouteProtocols, ServiceId};
use gateway::{BodyFailure, Decision, Next, Transferred, UpstreamFailure};
use http::{HeaderMap, Response, StatusCode};
use http1::FieldLines;
use serde_json::json;
use support::*;

fn blog() -> Entities {
    Entities {
        services: vec![upstream("blog")],
        routes: vec![route("posts", Some("blog"), "/posts")],
        ..Entities::default()
    }
}

fn check(text: &str, expected: &Expect) {
    expected.assert_eq(&without_id(text));
}

#[test]
fn a_proxied_request_is_rewritten_for_its_upstream() {
    let text = Node::new(&blog()).run(
        "GET /posts//./17?full\nhost: API.example.com:8000\nx-forwarded-for: 1.2.3.4\nx-forwarded-proto: https\n\
         x-forwarded-prefix: /spoof\nconnection: x-real-ip, keep-alive\nx-real-ip: 6.6.6.6\nte: trailers\nvia: 1.0 cdn\n\
         transfer-encoding: chunked\nupgrade: websocket",
        "",
    );
    check(
        &text,
        &expect![[r#"
            -> blog.internal:9000
            GET /17?full
            host: blog.internal:9000
            te: trailers
            via: 1.0 cdn
            via: 1.1 sluicegate/0.1.0
            x-forwarded-for: 1.2.3.4, 10.0.0.9
            x-forwarded-host: api.example.com
            x-forwarded-path: /posts//./17
            x-forwarded-port: 8000
            x-forwarded-prefix: /posts
            x-forwarded-proto: http
            x-kong-request-id: ID(32)
            x-real-ip: 10.0.0.9
        "#]],
    );
}

#[test]
fn host_and_path_may_be_kept() {
    let mut entities = blog();
    entities.routes[0].preserve_host = true;
    entities.routes[0].strip_path = false;
    let Backend::Http(backend) = &mut entities.services[0].backend else { panic!("an HTTP service") };
    backend.path = Some("/v1".to_owned());
    let node = Node::new(&entities);
    let text = node.run("GET /posts/1?\nhost: api.example.com:8000", "");
    assert!(text.starts_with("-> blog.internal:9000\nGET /v1/posts/1?\nhost: api.example.com:8000\n"), "{text}");
    assert!(!text.contains("x-forwarded-prefix"), "{text}");
    // HTTP/2 has the host in the target.
    let text = node.run("GET http://api.example.com/posts/1", "");
    assert!(text.starts_with("-> blog.internal:9000\nGET /v1/posts/1\nhost: api.example.com\n"), "{text}");
}

#[test]
fn the_response_is_told_its_latencies_and_loses_what_is_hop_by_hop() {
    let node = Node::new(&blog());
    let (mut exchange, decision) = node.begin("GET /posts/1\nhost: a");
    assert!(matches!(decision, Decision::Proxy));
    let upstream = Response::builder()
        .header("connection", "x-hop")
        .header("x-hop", "1")
        .header("transfer-encoding", "chunked")
        .header("server", "blog/1")
        .header("via", "1.0 inner");
    let (mut head, ()) = upstream.body(()).unwrap().into_parts();
    exchange.upstream_head(&mut head, FieldLines::default(), at(1_025)).append_to(&mut head.headers);
    let expected = expect![[r#"
        server: blog/1
        via: 1.0 inner
        via: 1.1 sluicegate/0.1.0
        x-kong-proxy-latency: 0
        x-kong-request-id: ID(32)
        x-kong-upstream-latency: 25
    "#]];
    expected.assert_eq(&headers_text(&head.headers));
    exchange.finish(Transferred { bytes_in: 100, bytes_out: 2_000 }, at(1_030));
    let counts = node.gateway.snapshot().routes().next().unwrap().stats.counts();
    assert_eq!((counts.total_requests(), counts.bytes_in, counts.bytes_out), (1, 100, 2_000));
    assert_eq!((counts.upstream.sum_us, counts.total.sum_us, counts.kong.sum_us), (25_000, 30_000, 0));
}

#[test]
fn what_the_gateway_answers_itself() {
    let mut entities = blog();
    entities.routes.push(route("bare", None, "/bare"));
    let node = Node::new(&entities);
    check(
        &node.run("GET /nowhere\nhost: a", ""),
        &expect![[r#"
            404
            content-length: 103
            content-type: application/json; charset=utf-8
            server: sluicegate/0.1.0
            x-kong-request-id: ID(32)
            x-kong-response-latency: 0

            {
              "message":"no Route matched with those values",
              "request_id":"ID"
            }"#]],
    );
    let text = node.run("GET /bare\nhost: a\naccept: text/plain", "");
    assert!(text.starts_with("503\n") && text.contains("no Service found with those values\nrequest_id: "), "{text}");
    assert!(node.run("TRACE /posts\nhost: a", "").starts_with("405\n"));
    let codes: Vec<u16> = node.gateway.stats().unmatched().counts().requests.keys().map(|labels| labels.code).collect();
    assert_eq!(codes, [404, 405]);
    let reject = |status| node.gateway.reject(status, "upgrades are not supported", &HeaderMap::new());
    let rejected = reject(StatusCode::BAD_REQUEST);
    assert!(response_text(&rejected).starts_with("400\n") && rejected.headers().contains_key("x-kong-request-id"));
    let body = |response: Response<bytes::Bytes>| String::from_utf8_lossy(response.body()).into_owned();
    assert!(body(rejected).contains("\"Bad request\""), "Kong's words where it has some");
    assert!(body(reject(StatusCode::NOT_IMPLEMENTED)).contains("\"upgrades are not supported\""), "else the reason");
}

#[test]
fn a_request_given_up_is_counted_once() {
    let node = Node::new(&blog());
    drop(node.begin("GET /posts\nhost: a"));
    let counts = node.gateway.snapshot().routes().next().unwrap().stats.counts();
    let requests: Vec<_> = counts.requests.iter().map(|(labels, n)| (labels.code, labels.source, *n)).collect();
    assert_eq!(requests, [(499, "error", 1)]);
}

#[test]
fn upstream_failures_have_kong_s_words() {
    let node = Node::new(&blog());
    for (failure, status, message) in [
        (UpstreamFailure::Resolve, 503, "name resolution failed"),
        (UpstreamFailure::Refused, 502, "An invalid response was received from the upstream server"),
        (UpstreamFailure::BadResponse, 502, "An invalid response was received from the upstream server"),
        (UpstreamFailure::Unavailable, 503, "The upstream server is currently unavailable"),
        (UpstreamFailure::ReadTimeout, 504, "The upstream server is timing out"),
    ] {
        let (mut exchange, _) = node.begin("GET /posts\nhost: a");
        let next = exchange.upstream_failed(failure, false, at(1_100));
        let Next::Otherwise(Decision::Respond(response)) = next else { panic!("no retry") };
        assert_eq!(response.status(), status);
        let body = std::str::from_utf8(response.body()).unwrap();
        assert!(body.contains(&format!("\"message\":\"{message}\"")), "{body}");
        assert_eq!(response.headers()["x-kong-response-latency"], "100");
    }
}

#[test]
fn plain_requests_to_an_https_route_are_redirected() {
    let mut entities = blog();
    entities.routes[0].protocols = RouteProtocols::Https;
    let node = Node::new(&entities);
    let text = node.run("GET /posts?x=1\nhost: a.com:8000", "");
    assert!(text.starts_with("426\nconnection: Upgrade\n") && text.contains("Please use HTTPS protocol"), "{text}");
    assert!(text.contains("upgrade: TLS/1.2, HTTP/1.1\n"), "{text}");
    let (_, decision) = node.gateway.begin(&node.https, 1, parts("GET /posts\nhost: a.com"), at(1));
    assert!(matches!(decision, Decision::Proxy));

    entities.routes[0].https_redirect_status_code = HttpsRedirect::PermanentRedirect;
    let text = Node::new(&entities).run("GET /posts?x=1\nhost: a.com:8000", "");
    assert!(text.starts_with("308\n") && text.contains("location: https://a.com/posts?x=1\n"), "{text}");
}

#[test]
fn a_route_to_a_queue_answers_when_the_message_is_stored() {
    let mut entities = blog();
    entities.services.push(queue("orders"));
    entities.routes.push(route("post-order", Some("orders"), "/orders"));
    let node = Node::new(&entities);
    let text = node.run("POST /orders\nhost: a\ncontent-type: application/json\nauthorization: Bearer x", "{}");
    assert!(
        text.starts_with("202\ncontent-length: ") && text.contains("\"queue\":\"orders\",\"status\":\"queued\""),
        "{text}"
    );
    assert!(text.contains("x-kong-response-latency: 2\n") && text.contains("server: sluicegate/"), "{text}");
    let published = node.broker.0.lock().unwrap().pop().unwrap();
    assert_eq!((published.routing_key.as_str(), &published.body[..]), ("orders", &b"{}"[..]));
    assert_eq!((&*published.principal.user, &*published.principal.vhost), ("guest", "/"));
    assert!(published.properties.headers.is_none());
}

#[test]
fn a_body_over_the_limit_is_refused_before_it_is_published() {
    let mut entities = Entities { services: vec![queue("orders")], ..Entities::default() };
    entities.routes.push(route("post-order", Some("orders"), "/orders"));
    entities.plugins.push(plugin_config("queue-publish", json!({"max_body_bytes": 3})));
    let node = Node::new(&entities);
    assert!(node.run("POST /orders\nhost: a", "1234").starts_with("413\n"));
    assert!(node.broker.0.lock().unwrap().is_empty());
    assert!(node.run("POST /orders\nhost: a", "123").starts_with("202\n"));
    let (mut exchange, _) = node.begin("POST /orders\nhost: a");
    assert_eq!(exchange.body_failed(BodyFailure::Timeout, at(2_000)).status(), 408);
}

#[test]
fn a_client_without_a_key_is_refused_before_its_body_is_read() {
    let mut entities = Entities { services: vec![queue("orders")], ..Entities::default() };
    entities.routes.push(route("post-order", Some("orders"), "/orders"));
    entities.plugins.push(plugin_config("key-auth", json!({})));
    consumer(&mut entities, "ann");
    let node = Node::new(&entities);
    let (_, decision) = node.begin("POST /orders\nhost: a");
    let Decision::Respond(response) = decision else { panic!("{decision:?}") };
    assert_eq!((response.status().as_u16(), &response.headers()["www-authenticate"]), (401, &"Key".parse().unwrap()));
    let (_, decision) = node.begin("POST /orders\nhost: a\napikey: ann-key");
    assert!(matches!(decision, Decision::Body { bytes_max: 8_388_608 }));
}

#[test]
fn a_global_queue_publish_leaves_other_routes_alone() {
    let mut entities = blog();
    entities.plugins.push(plugin_config("queue-publish", json!({"forward_headers": []})));
    assert!(Node::new(&entities).run("POST /posts\nhost: a", "x").starts_with("-> blog"));
}

#[test]
fn a_consumer_s_own_configuration_follows_its_authentication() {
    let mut entities = blog();
    consumer(&mut entities, "ann");
    consumer(&mut entities, "bob");
    entities.plugins.push(plugin_config("key-auth", json!({})));
    entities.plugins.push(plugin_config("rate-limiting", json!({"day": 1})));
    let mut of_ann = plugin_config("rate-limiting", json!({"day": 3, "error_code": 420}));
    of_ann.consumer = Some(ApiConsumerId::derived("ann"));
    entities.plugins.push(of_ann);
    let node = Node::new(&entities);
    let codes = |name: &str| {
        let head = format!("GET /posts\nhost: a\napikey: {name}-key");
        (0..4).map(|_| node.run(&head, "")[..3].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(codes("ann"), ["-> ", "-> ", "-> ", "420"]);
    assert_eq!(codes("bob"), ["-> ", "429", "429", "429"]);
}

#[test]
fn identity_headers_cannot_be_removed_by_the_client() {
    let mut entities = blog();
    consumer(&mut entities, "ann");
    entities.plugins.push(plugin_config("key-auth", json!({})));
    let head = "GET /posts\nhost: a\napikey: ann-key\nconnection: x-consumer-username, x-forwarded-for\nx-consumer-username: bob";
    let text = Node::new(&entities).run(head, "");
    assert!(text.contains("x-consumer-username: ann\n") && text.contains("x-forwarded-for: 10.0.0.9\n"), "{text}");
}

#[test]
fn global_plugins_see_responses_without_a_route() {
    let mut entities = blog();
    let config = json!({"header_name": "X-Id", "echo_downstream": true});
    entities.plugins.push(plugin_config("correlation-id", config));
    entities.plugins.push(plugin_config("prometheus", json!({"status_code_metrics": true})));
    let node = Node::new(&entities);
    let text = node.run("GET /nowhere\nhost: a\nx-id: 7", "");
    assert!(text.starts_with("404\n") && text.contains("x-id: 7\n"), "{text}");
    assert!(node.gateway.stats().unmatched().counts().export.status_code);
}

#[test]
fn a_disabled_service_takes_its_routes_with_it_and_a_disabled_plugin_does_not_run() {
    let mut entities = blog();
    entities.plugins.push(plugin_config("key-auth", json!({})));
    entities.plugins[0].enabled = false;
    assert!(Node::new(&entities).run("GET /posts\nhost: a", "").starts_with("-> blog"));
    entities.services[0].enabled = false;
    assert!(Node::new(&entities).run("GET /posts\nhost: a", "").starts_with("404"));
}

#[test]
fn a_reload_keeps_requests_under_way_and_counters_and_a_bad_one_changes_nothing() {
    let mut entities = blog();
    let node = Node::new(&entities);
    node.run("GET /posts\nhost: a", "");
    let (mut under_way, _) = node.begin("GET /posts\nhost: a");

    entities.routes[0].service = Some(ServiceId::derived("missing"));
    entities.plugins.push(plugin_config("kye-auth", json!({})));
    entities.plugins.push(plugin_config("rate-limiting", json!({"minute": 0, "policy": "redis"})));
    let errors = node.gateway.load(&entities).unwrap_err();
    let texts: Vec<&str> = errors.iter().map(|error| error.what.as_str()).collect();
    assert_eq!(
        texts,
        [
            "no plugin `kye-auth`",
            "config.minute: value must be greater than 0",
            "config.policy: `redis` is not available: no Redis client is built in yet",
            "service: there is no such service",
        ]
    );
    assert!(node.run("GET /posts\nhost: a", "").starts_with("-> blog"));

    let mut moved = blog();
    moved.routes.push(route("new", Some("blog"), "/new"));
    moved.routes[0].paths = vec!["/articles".to_owned()];
    node.gateway.load(&moved).unwrap();
    assert!(node.run("GET /posts\nhost: a", "").starts_with("404"));
    assert!(under_way.plan().is_some());
    under_way.finish(Transferred::default(), at(1_500));
    let snapshot = node.gateway.snapshot();
    let posts = snapshot.routes().find(|view| view.route.id == RouteId::derived("posts").0).unwrap();
    // Two proxied, and the one under way whose client left before an answer.
    let counts = posts.stats.counts();
    assert_eq!(counts.total_requests(), 3);
    assert!(counts.requests.keys().all(|labels| labels.code == 499), "{:?}", counts.requests);
}
