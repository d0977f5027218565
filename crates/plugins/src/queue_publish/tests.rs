//! What becomes of a request, and what each result is answered.

use super::*;
use crate::testing::{Broker, handler_with, outcome, problems, request};
use expect_test::{Expect, expect};
use plugin::Published;

const STORED: Result<Published, PublishError> = Ok(Published { n_queues: 1 });

/// The answer, with the id taken out, and the message.
fn publish(config: &Json, mut cx: Context) -> (String, Option<Publish>) {
    let broker = Broker::answering(STORED);
    let services: Arc<dyn Services> = Arc::<Broker>::clone(&broker);
    let handler = handler_with(&QueuePublish, config, services);
    let mut text = outcome(handler.access(&mut cx));
    let published = broker.published.lock().unwrap().pop();
    if let Some(id) = published.as_ref().and_then(|publish| publish.properties.message_id.as_deref()) {
        assert!(Uuid::parse_str(id).is_ok() && text.contains(id));
        text = text.replace(id, "ID");
    }
    (text, published)
}

fn to_orders(headers: &[(&str, &str)]) -> Context {
    let mut cx = request("POST", "/orders?x=1", headers);
    cx.body = Some(Bytes::from_static(b"{\"n\":1}"));
    cx.queue = Some(Arc::new(QueueTarget {
        principal: Principal { user: "shop".into(), vhost: "eu".into() },
        queue: "orders".to_owned(),
    }));
    cx
}

#[test]
fn a_stored_request_is_answered_202() {
    let (answer, published) = publish(&json!(null), to_orders(&[("prefer", "wait=3, Respond-Async")]));
    let expected = expect![[r#"
        202
        content-type: application/json; charset=utf-8
        preference-applied: respond-async
        {"id":"ID","queue":"orders","status":"queued"}"#]];
    expected.assert_eq(&answer);
    let published = published.unwrap();
    assert_eq!((&*published.principal.user, &*published.principal.vhost), ("shop", "eu"));
    assert_eq!((published.exchange.as_str(), published.routing_key.as_str()), ("", "orders"));
    assert_eq!((&published.body[..], published.mandatory, published.timeout_ms), (&b"{\"n\":1}"[..], true, 5000));
    assert!(published.properties.is_persistent());
    assert_eq!(published.properties.timestamp, Some(1_772_366_430));
}

#[test]
fn only_allowed_headers_travel() {
    let sent = [
        ("authorization", "Bearer secret"),
        ("cookie", "session=1"),
        ("x-api-key", "secret"),
        ("apikey", "secret"),
        ("content-type", "application/json"),
        ("content-encoding", "gzip"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("ce-id", "17"),
        ("x-request-id", "r1"),
        ("x-correlation-id", "c1"),
    ];
    let (_, published) = publish(&json!({}), to_orders(&sent));
    let properties = published.unwrap().properties;
    let names: Vec<&str> = properties.headers.as_ref().unwrap().iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["traceparent", "ce-id", "x-request-id", "x-correlation-id"]);
    assert_eq!(properties.content_type.as_deref(), Some("application/json"));
    assert_eq!(properties.content_encoding.as_deref(), Some("gzip"));
    assert_eq!(properties.correlation_id.as_deref(), Some("c1"));

    let mut cx = to_orders(&sent);
    cx.correlation_id = Some(HeaderValue::from_static("ours"));
    let properties = publish(&json!({"forward_headers": ["X-Api-*"]}), cx).1.unwrap().properties;
    assert_eq!(properties.headers, Some(Table(vec![("x-api-key".to_owned(), Value::text("secret"))])));
    assert_eq!(properties.correlation_id.as_deref(), Some("ours"));
    let none = publish(&json!({"forward_headers": []}), to_orders(&sent)).1.unwrap();
    assert_eq!(none.properties.headers, None);
}

#[test]
fn a_configuration_names_another_target() {
    let config = json!({
        "exchange": "events", "routing_key": "order.new", "user": "api", "persistent": false, "priority": 4,
        "expiration_ms": 1500, "timeout_ms": 10, "max_body_bytes": 100
    });
    let (answer, published) = publish(&config, to_orders(&[]));
    assert!(answer.ends_with(r#"{"exchange":"events","id":"ID","status":"queued"}"#), "{answer}");
    let published = published.unwrap();
    assert_eq!((published.exchange.as_str(), published.routing_key.as_str()), ("events", "order.new"));
    assert_eq!((&*published.principal.user, &*published.principal.vhost), ("api", "eu"));
    let properties = &published.properties;
    assert_eq!((properties.delivery_mode, properties.priority), (Some(1), Some(4)));
    assert_eq!((properties.expiration.as_deref(), published.timeout_ms), (Some("1500"), 10));
    let handler = handler_with(&QueuePublish, &config, Broker::answering(STORED));
    assert_eq!(handler.body_bytes_max(), Some(100));
}

#[test]
fn without_any_target_the_request_goes_on() {
    let (answer, published) = publish(&json!({}), request("POST", "/", &[]));
    assert_eq!((answer.as_str(), published), ("continue", None));
    let handler = handler_with(&QueuePublish, &json!({}), Broker::answering(STORED));
    assert!(!handler.applies(&request("POST", "/", &[])) && handler.applies(&to_orders(&[])));
    let (_, published) = publish(&json!({"queue": "q"}), request("POST", "/", &[]));
    let published = published.unwrap();
    assert_eq!((&*published.principal.user, &*published.principal.vhost), ("guest", "/"));
    assert_eq!((published.routing_key.as_str(), published.body.len()), ("q", 0));
}

#[test]
fn each_failure_has_its_answer() {
    let check = |error: PublishError, expected: &Expect| {
        let handler = handler_with(&QueuePublish, &json!({}), Broker::answering(Err(error)));
        expected.assert_eq(&outcome(handler.access(&mut to_orders(&[]))));
    };
    check(
        PublishError::NotFound("no exchange 'x' in vhost '/'".to_owned()),
        &expect![[r#"
            404
            content-type: application/problem+json
            {"detail":"no exchange 'x' in vhost '/'","status":404,"title":"Not Found","type":"about:blank"}"#]],
    );
    check(
        PublishError::NotRouted,
        &expect![[r#"
            404
            content-type: application/problem+json
            {"detail":"no queue takes messages for `orders`","status":404,"title":"Not Found","type":"about:blank"}"#]],
    );
    check(
        PublishError::AccessRefused("user 'shop' may not write to 'orders'".to_owned()),
        &expect![[r#"
            403
            content-type: application/problem+json
            {"detail":"user 'shop' may not write to 'orders'","status":403,"title":"Forbidden","type":"about:blank"}"#]],
    );
    check(
        PublishError::TooLarge { bytes_max: 10 },
        &expect![[r#"
            413
            content-type: application/problem+json
            {"detail":"a message for `orders` has at most 10 bytes","status":413,"title":"Payload Too Large","type":"about:blank"}"#]],
    );
    check(
        PublishError::Busy,
        &expect![[r#"
            429
            content-type: application/problem+json
            retry-after: 1
            {"detail":"the broker takes no more messages just now","status":429,"title":"Too Many Requests","type":"about:blank"}"#]],
    );
    check(
        PublishError::Unavailable("the broker is stopping".to_owned()),
        &expect![[r#"
            503
            content-type: application/problem+json
            retry-after: 1
            {"detail":"the broker is stopping","status":503,"title":"Service Unavailable","type":"about:blank"}"#]],
    );
    check(
        PublishError::Timeout,
        &expect![[r#"
            504
            content-type: application/problem+json
            {"detail":"the message was not stored in time and may exist; repeat with the same Idempotency-Key","status":504,"title":"Gateway Timeout","type":"about:blank"}"#]],
    );
}

#[test]
fn bad_configurations() {
    let found = problems(&QueuePublish, &json!({"queue": "q", "exchange": "x"}));
    assert_eq!(found, ["exchange: give either a queue or an exchange"]);
    let found = problems(&QueuePublish, &json!({"routing_key": "k"}));
    assert_eq!(found, ["routing_key: only with an exchange"]);
    assert!(!QueuePublish.allows_consumer_scope());
}
