//! Limits of length, limits of deliveries, quorum queues.

// A test that cannot go on has failed.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use model::{Table, Value};
use protocol::Settlement;
use support::{Client, Draft, World, properties};

fn to_dead(more: &[(&'static str, Value)]) -> Vec<(&'static str, Value)> {
    let mut all = vec![("x-dead-letter-exchange", Value::text("")), ("x-dead-letter-routing-key", Value::text("dead"))];
    all.extend_from_slice(more);
    all
}

fn reasons(client: &Client) -> Vec<(String, i64)> {
    let headers = properties(client.bodies.last().unwrap()).headers.unwrap();
    let Some(Value::Array(deaths)) = headers.get("x-death") else { panic!("no x-death") };
    let read = |death: &Value| match death {
        Value::Table(t) => {
            (t.get("reason").unwrap().as_str().unwrap().to_owned(), t.get("count").unwrap().as_integer().unwrap())
        }
        other => panic!("{other:?}"),
    };
    deaths.iter().map(read).collect()
}

fn delivery_count(client: &Client) -> Option<i64> {
    let headers: Option<Table> = properties(client.bodies.last().unwrap()).headers;
    headers?.get("x-delivery-count")?.as_integer()
}

#[test]
fn the_head_is_dropped() {
    let world = World::new();
    let mut client = world.client();
    client.declare_with("q", true, &[("x-max-length", Value::I32(2))]);
    for body in ["a", "b", "c"] {
        client.publish("", "q", body);
    }
    client.events();
    assert_eq!(client.declare_as("q", |d| d.passive = true), "q 2 0");
    assert_eq!(client.take_all("q"), "b c");
    client.declare_with("bytes", true, &[("x-max-length-bytes", Value::I32(5))]);
    for body in ["aa", "bb", "cc", "ddd"] {
        client.publish("", "bytes", body);
    }
    client.events();
    assert_eq!(client.take_all("bytes"), "cc ddd");
}

#[test]
fn what_is_dropped_is_dead_lettered_with_maxlen() {
    for slow in [false, true] {
        let world = if slow { World::slow() } else { World::new() };
        let mut client = world.client();
        client.declare_with("dead", true, &[]);
        client.declare_with("q", true, &to_dead(&[("x-max-length", Value::I32(1))]));
        world.sync();
        client.publish_safely("", "q", "a");
        client.publish_safely("", "q", "b");
        client.events();
        world.sync();
        client.now = world.now;
        client.events();
        world.sync();
        assert_eq!(client.get("dead"), "got a 0", "slow: {slow}");
        assert_eq!(reasons(&client), [("maxlen".to_owned(), 1)]);
        assert_eq!(client.get("q"), "got b 0");
        assert_eq!(world.broker.totals().dead_lettered_maxlen, 1);
    }
}

#[test]
fn a_consumer_that_waits_gets_what_the_queue_has_no_room_for() {
    let world = World::new();
    let mut client = world.client();
    client.declare_with("q", false, &[("x-max-length", Value::I32(0))]);
    client.qos(2, false);
    client.consume("q", 1);
    for body in ["a", "b", "c", "d"] {
        client.publish("", "q", body);
    }
    assert_eq!(client.events(), "1:a,1:b", "and the others are gone");
    client.ack(2);
    assert_eq!(client.events(), "");
    client.publish("", "q", "e");
    assert_eq!(client.events(), "1:e");
    client.cancel(1);
    client.publish("", "q", "f");
    client.events();
    assert_eq!(client.declare_as("q", |d| d.passive = true), "q 0 0");
}

#[test]
fn refused_publishes_are_nacked_in_their_place() {
    let world = World::new();
    let mut client = world.client();
    let arguments = [("x-max-length", Value::I32(2)), ("x-overflow", Value::text("reject-publish"))];
    client.declare_with("full", true, &arguments);
    client.declare("open");
    client.exchange("both", "fanout");
    client.bind("both", "full", "");
    client.bind("both", "open", "");
    for (exchange, key, body) in [
        ("", "full", "1"),
        ("both", "", "2"),
        ("both", "", "3"),
        ("", "open", "4"),
        ("", "full", "5"),
        ("", "full", "6"),
    ] {
        client.publish_safely(exchange, key, body);
    }
    assert_eq!(client.events(), "ack 1-2,nack 3-3,ack 4-4,nack 5-6");
    assert_eq!(client.take_all("open"), "2 3 4");
    assert_eq!(client.take_all("full"), "1 2");
    client.publish_safely("", "full", "7");
    assert_eq!(client.events(), "ack 7-7", "there is room again");
    assert_eq!(world.broker.totals().dead_lettered_maxlen, 0);
}

#[test]
fn refused_and_dead_lettered() {
    let world = World::new();
    let mut client = world.client();
    client.declare_with("dead", true, &[]);
    let more = [("x-max-length", Value::I32(1)), ("x-overflow", Value::text("reject-publish-dlx"))];
    client.declare_with("q", true, &to_dead(&more));
    client.publish_safely("", "q", "a");
    client.publish_safely("", "q", "b");
    assert_eq!(client.events(), "ack 1-1,nack 2-2");
    assert_eq!(client.get("dead"), "got b 0");
    assert_eq!(reasons(&client), [("maxlen".to_owned(), 1)]);
    assert_eq!(client.take_all("q"), "a");
}

#[test]
fn a_queue_that_dead_letters_to_itself_ends_the_cycle() {
    let world = World::new();
    let mut client = world.client();
    client.declare_with(
        "q",
        true,
        &[
            ("x-dead-letter-exchange", Value::text("")),
            ("x-dead-letter-routing-key", Value::text("q")),
            ("x-max-length", Value::I32(1)),
        ],
    );
    for body in ["a", "b", "c"] {
        client.publish("", "q", body);
    }
    client.events();
    assert_eq!(client.get("q"), "got c 0");
    client.settle(1, Settlement::Reject);
    assert_eq!(client.get("q"), "got c 0", "a reject is no automatic cycle");
    assert_eq!(reasons(&client), [("rejected".to_owned(), 1)]);
}

#[test]
fn what_comes_back_too_often_is_dead_lettered() {
    for kind in ["quorum", "classic"] {
        let world = World::new();
        let mut client = world.client();
        client.declare_with("dead", true, &[]);
        let more = [("x-queue-type", Value::text(kind)), ("x-delivery-limit", Value::I32(2))];
        client.declare_with("q", true, &to_dead(&more));
        client.publish("", "q", "a");
        client.consume("q", 1);
        for count in [None, Some(1), Some(2)] {
            assert_eq!(client.events(), if count.is_none() { "1:a" } else { "1:a again" });
            assert_eq!(delivery_count(&client), count, "{kind}");
            client.settle(1, Settlement::Requeue);
        }
        assert_eq!(client.events(), "");
        assert_eq!(client.get("dead"), "got a 0");
        assert_eq!(reasons(&client), [("delivery_limit".to_owned(), 1)]);
        assert_eq!(delivery_count(&client), None, "it belongs to the delivery");
        assert_eq!(world.broker.totals().dead_lettered_delivery_limit, 1);
    }
}

#[test]
fn a_quorum_queue_keeps_everything() {
    let world = World::new();
    let mut client = world.client();
    client.declare_with("q", true, &[("x-queue-type", Value::text("quorum"))]);
    client.declare_with("plain", true, &[]);
    for queue in ["q", "plain"] {
        client.publish_with("", queue, "passing", &Draft { persistent: false, ..Draft::default() }, |_| {});
    }
    client.events();
    drop(client);
    let world = world.restart();
    let mut client = world.client();
    assert_eq!(client.get("plain"), "empty");
    assert_eq!(client.get("q"), "got passing 0");
}

#[test]
fn quorum_queues_have_rules() {
    let world = World::new();
    let mut client = world.client();
    let quorum = ("x-queue-type", Value::text("quorum"));
    let arg = |name: &str, module: &str| {
        format!("PreconditionFailed: invalid arg '{name}' for queue 'q' in vhost '/' of queue type {module}")
    };
    for name in ["x-max-priority", "x-queue-mode", "x-queue-version", "x-durability"] {
        let asked = [quorum.clone(), (name, Value::I32(1))];
        assert_eq!(client.declare_with("q", true, &asked), arg(name, "rabbit_quorum_queue"));
    }
    for name in ["x-dead-letter-strategy", "x-quorum-initial-group-size", "x-queue-leader-locator"] {
        assert_eq!(client.declare_with("q", true, &[(name, Value::I32(1))]), arg(name, "rabbit_classic_queue"));
    }
    let property = |name: &str| format!("PreconditionFailed: invalid property '{name}' for queue 'q' in vhost '/'");
    assert_eq!(client.declare_with("q", false, std::slice::from_ref(&quorum)), property("non-durable"));
    let declared = client.declare_as("q", |d| {
        d.exclusive = true;
        d.arguments = support::table(std::slice::from_ref(&quorum));
    });
    assert_eq!(declared, property("exclusive-owner"));
    assert_eq!(
        client.declare_with("", true, std::slice::from_ref(&quorum)),
        "PreconditionFailed: Cannot declare a server-named queue for type rabbit_quorum_queue"
    );
    let accepted = [
        quorum,
        ("x-quorum-initial-group-size", Value::I32(3)),
        ("x-queue-leader-locator", Value::text("balanced")),
        ("x-dead-letter-strategy", Value::text("at-least-once")),
        ("x-max-in-memory-length", Value::I32(0)),
        ("x-delivery-limit", Value::I32(-1)),
    ];
    assert_eq!(client.declare_with("q", true, &accepted), "q 0 0");
    client.qos(1, true);
    assert_eq!(client.consume("q", 1), "NotImplemented: queue 'q' in vhost '/' does not support global qos");
}
