//! Limits, headers and what is counted together.

use super::*;
use crate::testing::{handler, id, outcome, problems, request};
use expect_test::{Expect, expect};
use plugin::{Consumer, ServiceInfo};
use serde_json::json;

fn headers(cx: &Context) -> String {
    String::from_utf8(cx.response_headers.as_bytes().to_vec()).unwrap().replace("\r\n", "\n")
}

fn check(handler: &dyn Handler, mut cx: Context, expected: &Expect) {
    let outcome = outcome(handler.access(&mut cx));
    expected.assert_eq(&format!("{outcome}\n{}", headers(&cx)));
}

/// Whether each of the requests passes.
fn passes<const N: usize>(handler: &dyn Handler, requests: [Context; N]) -> [bool; N] {
    requests.map(|mut cx| matches!(handler.access(&mut cx), Flow::Continue))
}

#[test]
fn headers_count_down_and_429_says_when_to_retry() {
    let handler = handler(&RateLimiting::default(), &json!({"minute": 2, "hour": 3}));
    let get = || request("GET", "/", &[]);
    check(
        &*handler,
        get(),
        &expect![[r#"
            continue
            x-ratelimit-limit-minute: 2
            x-ratelimit-remaining-minute: 1
            x-ratelimit-limit-hour: 3
            x-ratelimit-remaining-hour: 2
            ratelimit-limit: 2
            ratelimit-remaining: 1
            ratelimit-reset: 30
        "#]],
    );
    assert_eq!(passes(&*handler, [get()]), [true]);
    check(
        &*handler,
        get(),
        &expect![[r#"
            429
            retry-after: 30
            API rate limit exceeded
            x-ratelimit-limit-minute: 2
            x-ratelimit-remaining-minute: 0
            x-ratelimit-limit-hour: 3
            x-ratelimit-remaining-hour: 1
            ratelimit-limit: 2
            ratelimit-remaining: 0
            ratelimit-reset: 30
        "#]],
    );
    let mut next_minute = get();
    next_minute.now.wall.0 += 30_000;
    let mut and_another = get();
    and_another.now.wall.0 += 31_000;
    // The refused request was not counted, so the hour has one left.
    assert_eq!(passes(&*handler, [next_minute, and_another]), [true, false]);
}

#[test]
fn limits_may_be_hidden_and_the_answer_chosen() {
    let config = json!({"year": 1, "hide_client_headers": true, "error_code": 503, "error_message": "slow down"});
    let handler = handler(&RateLimiting::default(), &config);
    assert_eq!(passes(&*handler, [request("GET", "/", &[])]), [true]);
    check(&*handler, request("GET", "/", &[]), &expect![["503\nslow down\n"]]);
}

#[test]
fn clients_are_told_apart_as_configured() {
    let from = |ip: &str| {
        let mut cx = request("GET", "/", &[]);
        cx.client_ip = ip.parse().unwrap();
        cx
    };
    let one = |by: &str| handler(&RateLimiting::default(), &json!({"day": 1, "limit_by": by}));
    assert_eq!(passes(&*one("ip"), [from("1.1.1.1"), from("1.1.1.1"), from("::1")]), [true, false, true]);

    let of = |consumer: u8| {
        let mut cx = from("1.1.1.1");
        cx.consumer = Some(Arc::new(Consumer::new(id(consumer), Some("c"), None)));
        cx
    };
    let by = one("consumer");
    assert_eq!(passes(&*by, [of(1), of(2), of(1), from("1.1.1.1")]), [true, true, false, true]);

    let to = |service: u8, ip: &str| {
        let mut cx = from(ip);
        cx.service = Some(Arc::new(ServiceInfo { id: id(service), name: None }));
        cx
    };
    assert_eq!(passes(&*one("service"), [to(1, "1.1.1.1"), to(1, "2.2.2.2"), to(2, "2.2.2.2")]), [true, false, true]);
}

#[test]
fn by_header_and_by_path_fall_back_to_the_address() {
    let config = json!({"day": 1, "limit_by": "header", "header_name": "X-Tenant"});
    let by = handler(&RateLimiting::default(), &config);
    let tenant = |name: &'static str| request("GET", "/", &[("x-tenant", name)]);
    let plain = || request("GET", "/", &[]);
    assert_eq!(
        passes(&*by, [tenant("a"), tenant("b"), tenant("a"), plain(), plain()]),
        [true, true, false, true, false]
    );
    let by = handler(&RateLimiting::default(), &json!({"day": 1, "limit_by": "path", "path": "/hot"}));
    let at = |path| request("GET", path, &[]);
    assert_eq!(passes(&*by, [at("/hot"), at("/cold"), at("/hot"), at("/cool")]), [true, true, false, false]);
}

#[test]
fn counters_survive_a_reload_of_the_same_configuration() {
    let plugin = RateLimiting::default();
    let config = json!({"day": 1});
    assert_eq!(passes(&*handler(&plugin, &config), [request("GET", "/", &[])]), [true]);
    assert_eq!(passes(&*handler(&plugin, &config), [request("GET", "/", &[])]), [false]);
}

#[test]
fn bad_configurations() {
    let plugin = RateLimiting::default();
    let check = |config: &Value, expected: &Expect| expected.assert_eq(&problems(&plugin, config).join("\n"));
    check(&json!({}), &expect!["at least one of second, minute, hour, day, month, year is required"]);
    check(
        &json!({"second": 10, "hour": 5, "limit_by": "header"}),
        &expect![[r#"
            hour: the limit for hour(5.0) cannot be lower than the limit for second(10.0)
            header_name: required when limit_by is header"#]],
    );
    check(
        &json!({"minute": 0, "policy": "cluster"}),
        &expect![[r#"
            minute: value must be greater than 0
            policy: `cluster` is not available: it needs a shared database, which a node here does not have"#]],
    );
    check(
        &json!({"minute": 1, "policy": "redis"}),
        &expect!["policy: `redis` is not available: no Redis client is built in yet"],
    );
    // What `deck dump` writes beside a local policy is accepted.
    let dumped = json!({
        "minute": 5, "policy": "local", "hour": null, "sync_rate": -1, "fault_tolerant": true,
        "redis": {"host": null, "port": 6379, "timeout": 2000, "database": 0, "ssl": false, "ssl_verify": false},
        "redis_host": null, "redis_port": 6379
    });
    check(&dumped, &expect![""]);
}
