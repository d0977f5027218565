//! Time to live, expiry of queues, dead letters.

// A test that cannot go on has failed.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use model::{Table, Value};
use protocol::Settlement;
use support::{Draft, World, properties, table};

fn ttl(ms: u64) -> Draft {
    Draft { ttl_ms: Some(ms), ..Draft::default() }
}

fn deaths(client: &support::Client) -> Vec<Table> {
    let message = client.bodies.last().unwrap();
    let headers = properties(message).headers.unwrap();
    match headers.get("x-death") {
        Some(Value::Array(deaths)) => deaths
            .iter()
            .map(|death| match death {
                Value::Table(table) => table.clone(),
                other => panic!("{other:?}"),
            })
            .collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_rejected_message_goes_to_the_dead_letter_exchange() {
    let world = World::new();
    let mut client = world.client();
    client.declare("dead");
    client.declare_with(
        "q",
        true,
        &[("x-dead-letter-exchange", Value::text("")), ("x-dead-letter-routing-key", Value::text("dead"))],
    );
    client.bind("amq.direct", "q", "k");
    client.publish_with("amq.direct", "k", "a", &ttl(60_000), |_| {});
    client.consume("q", 1);
    assert_eq!(client.events(), "1:a");
    client.settle(1, Settlement::Reject);
    assert_eq!(client.get("dead"), "got a 0");
    let message = client.bodies.last().unwrap();
    assert_eq!((message.exchange(), message.routing_key()), (&b""[..], &b"dead"[..]));
    assert_eq!(message.envelope.ttl_ms, None);
    let all = properties(message);
    assert_eq!(all.expiration, None);
    let headers = all.headers.unwrap();
    for (name, value) in [
        ("x-first-death-reason", "rejected"),
        ("x-first-death-queue", "q"),
        ("x-first-death-exchange", "amq.direct"),
        ("x-last-death-reason", "rejected"),
    ] {
        assert_eq!(headers.get(name), Some(&Value::text(value)), "{name}");
    }
    assert_eq!(
        deaths(&client),
        [table(&[
            ("original-expiration", Value::text("60000")),
            ("count", Value::I64(1)),
            ("reason", Value::text("rejected")),
            ("queue", Value::text("q")),
            ("time", Value::Timestamp(1_000_000_000)),
            ("exchange", Value::text("amq.direct")),
            ("routing-keys", Value::Array(vec![Value::text("k")])),
        ])]
    );
    assert_eq!(client.declare_as("q", |d| d.passive = true), "q 0 1");
    assert_eq!(world.broker.totals().dead_lettered_rejected, 1);
}

#[test]
fn an_entry_that_was_waited_for_never_expires_on_its_way() {
    for slow in [false, true] {
        let mut world = if slow { World::slow() } else { World::new() };
        let mut client = world.client();
        client.declare("q");
        client.declare_with("now", true, &[("x-message-ttl", Value::I32(0))]);
        client.consume("q", 1);
        client.consume("now", 2);
        for persistent in [true, false] {
            let lasting = Draft { persistent, ..Draft::default() };
            client.publish_with("", "q", "a", &Draft { persistent, ..ttl(0) }, |_| {});
            client.publish_with("", "q", "b", &Draft { persistent, ..ttl(3) }, |_| {});
            client.publish_with("", "now", "c", &lasting, |_| {});
            client.link.flush(client.now);
            // The sync takes long, and the queues are looked at while it does.
            world.advance(50);
            client.now = world.now;
            world.sync();
            let events = client.events();
            let mut events: Vec<&str> = events.split(',').collect();
            events.sort_unstable();
            assert_eq!(events, ["1:a", "1:b", "2:c"], "slow: {slow}, persistent: {persistent}");
            assert_eq!(world.broker.totals().dead_lettered_expired, 0);
        }
    }
}

#[test]
fn an_entry_that_nobody_waits_for_expires_at_once() {
    let mut world = World::new();
    let mut client = world.client();
    client.declare("q");
    client.qos(1, false);
    client.consume("q", 1);
    client.publish_with("", "q", "held", &ttl(0), |_| {});
    assert_eq!(client.events(), "1:held");
    client.publish_with("", "q", "no credit", &ttl(0), |_| {});
    assert_eq!(client.events(), "");
    world.advance(10);
    client.now = world.now;
    client.ack(1);
    assert_eq!(client.events(), "", "there was no credit when it came");
    client.cancel(1);
    client.publish_with("", "q", "no consumer", &ttl(0), |_| {});
    assert_eq!(client.events(), "");
    assert_eq!(client.consume("q", 2), "Consuming");
    assert_eq!(client.get("q"), "empty");
    assert_eq!(client.events(), "");
    // What comes back has had its chance.
    client.publish_with("", "q", "back", &ttl(5), |_| {});
    assert_eq!(client.events(), "2:back");
    world.advance(10);
    client.now = world.now;
    client.settle(1, Settlement::Requeue);
    assert_eq!(client.events(), "");
}

#[test]
fn a_message_got_and_rejected_is_dead_lettered_too() {
    let world = World::new();
    let mut client = world.client();
    client.exchange("dlx", "fanout");
    client.declare("dead");
    client.bind("dlx", "dead", "");
    client.declare_with("q", true, &[("x-dead-letter-exchange", Value::text("dlx"))]);
    client.publish("", "q", "a");
    assert_eq!(client.get("q"), "got a 0");
    client.settle(1, Settlement::Reject);
    assert_eq!(client.get("dead"), "got a 0");
    assert_eq!(client.bodies.last().unwrap().routing_key(), b"q", "the key stays");
}

#[test]
fn without_a_dead_letter_exchange_a_rejected_message_is_dropped() {
    let world = World::new();
    let mut client = world.client();
    client.declare("plain");
    client.declare_with("gone", true, &[("x-dead-letter-exchange", Value::text("none"))]);
    for queue in ["plain", "gone"] {
        client.publish("", queue, "a");
        client.get(queue);
        client.settle(1, Settlement::Reject);
        assert_eq!(client.get(queue), "empty");
    }
}

#[test]
fn a_retry_loop_counts_its_deaths() {
    let mut world = World::new();
    let mut client = world.client();
    client.declare_with(
        "work",
        true,
        &[("x-dead-letter-exchange", Value::text("")), ("x-dead-letter-routing-key", Value::text("wait"))],
    );
    client.declare_with(
        "wait",
        true,
        &[
            ("x-dead-letter-exchange", Value::text("")),
            ("x-dead-letter-routing-key", Value::text("work")),
            ("x-message-ttl", Value::I32(100)),
        ],
    );
    client.publish("", "work", "job");
    client.consume("work", 1);
    for round in 1..=3 {
        assert_eq!(client.events(), "1:job", "round {round}");
        client.settle(1, Settlement::Reject);
        assert_eq!(client.events(), "");
        world.advance(100);
        client.now = world.now;
    }
    assert_eq!(client.events(), "1:job");
    let deaths: Vec<_> = deaths(&client)
        .iter()
        .map(|d| {
            let text = |n: &str| d.get(n).unwrap().as_str().unwrap().to_owned();
            (text("queue"), text("reason"), d.get("count").unwrap().as_integer().unwrap())
        })
        .collect();
    assert_eq!(deaths, [("wait".to_owned(), "expired".to_owned(), 3), ("work".to_owned(), "rejected".to_owned(), 3)]);
}

#[test]
fn messages_expire_at_the_head_and_automatic_cycles_end() {
    let mut world = World::new();
    let mut client = world.client();
    client.declare_with(
        "q",
        true,
        &[
            ("x-dead-letter-exchange", Value::text("")),
            ("x-dead-letter-routing-key", Value::text("q")),
            ("x-message-ttl", Value::I32(50)),
        ],
    );
    client.publish("", "q", "a");
    client.events();
    world.advance(50);
    client.now = world.now;
    assert_eq!(client.get("q"), "empty", "it would come back to where it expired");
    assert_eq!(world.broker.poll_timeout(), None);
}

#[test]
fn the_shorter_time_to_live_counts_and_expiry_is_in_order() {
    let mut world = World::new();
    let mut client = world.client();
    client.declare_with("q", true, &[("x-message-ttl", Value::I32(100))]);
    client.publish_with("", "q", "long", &ttl(1_000), |_| {});
    client.publish_with("", "q", "short", &ttl(10), |_| {});
    client.events();
    world.advance(50);
    client.now = world.now;
    assert_eq!(client.declare_as("q", |d| d.passive = true), "q 2 0", "it expires behind the head");
    assert_eq!(client.get("q"), "got long 1");
    assert_eq!(client.get("q"), "empty");
}

#[test]
fn a_time_to_live_of_zero_leaves_nothing_behind() {
    let world = World::new();
    let mut client = world.client();
    client.declare("q");
    client.consume("q", 1);
    client.publish("", "q", "a");
    client.publish_with("", "q", "now or never", &ttl(0), |_| {});
    client.events();
    assert_eq!(client.declare_as("q", |d| d.passive = true), "q 0 1");
}

#[test]
fn unused_queues_expire() {
    let mut world = World::new();
    let mut client = world.client();
    client.declare_with("q", true, &[("x-expires", Value::I32(100))]);
    world.advance(60);
    client.now = world.now;
    client.get("q");
    world.advance(60);
    assert_eq!(world.broker.queue_count(), 1, "a get is a use");
    client.now = world.now;
    client.consume("q", 1);
    world.advance(1_000);
    assert_eq!(world.broker.queue_count(), 1, "a consumer uses it");
    client.now = world.now;
    client.cancel(1);
    world.advance(99);
    assert_eq!(world.broker.queue_count(), 1);
    world.advance(1);
    assert_eq!(world.broker.queue_count(), 0);
}

#[test]
fn dead_letters_wait_for_the_disk_and_wake_their_consumer() {
    let world = World::slow();
    let mut client = world.client();
    client.declare("dead");
    client.declare_with(
        "q",
        true,
        &[("x-dead-letter-exchange", Value::text("")), ("x-dead-letter-routing-key", Value::text("dead"))],
    );
    world.sync();
    client.publish_safely("", "q", "a");
    client.events();
    world.sync();
    client.consume("dead", 2);
    client.consume("q", 1);
    assert_eq!(client.events(), "ack 1-1,1:a");
    client.settle(1, Settlement::Reject);
    assert_eq!(client.events(), "");
    world.sync();
    assert_eq!(client.events(), "2:a");
}

/// A stack in which a few hundred nested dispatches would not fit.
fn on_a_small_stack(test: fn()) {
    let thread = std::thread::Builder::new().stack_size(256 * 1024);
    thread.spawn(test).unwrap().join().unwrap();
}

#[test]
fn a_long_chain_of_dead_letters_does_not_nest() {
    on_a_small_stack(|| {
        let mut world = World::new();
        let mut client = world.client();
        // The consumers have no credit, or the first would get the message it waited for.
        client.qos(1, true);
        client.declare("held");
        client.publish("", "held", "h");
        client.consume("held", 400);
        assert_eq!(client.events(), "400:h");
        for i in 0..400 {
            let next = format!("q{}", i + 1);
            client.declare_with(
                &format!("q{i}"),
                false,
                &[
                    ("x-dead-letter-exchange", Value::text("")),
                    ("x-dead-letter-routing-key", Value::text(&next)),
                    ("x-message-ttl", Value::I32(0)),
                ],
            );
            client.consume(&format!("q{i}"), i);
        }
        client.declare("q400");
        client.publish("", "q0", "a");
        client.events();
        world.advance(10);
        client.now = world.now;
        assert_eq!(client.get("q400"), "got a 0");
    });
}

#[test]
fn an_expired_head_waits_while_the_engine_is_full() {
    let mut world = World::new();
    let mut client = world.client();
    client.declare("dead");
    client.declare_with(
        "q",
        true,
        &[
            ("x-dead-letter-exchange", Value::text("")),
            ("x-dead-letter-routing-key", Value::text("dead")),
            ("x-message-ttl", Value::I32(50)),
        ],
    );
    client.publish("", "q", "a");
    client.events();
    world.engine.set_pressure(engine::Pressure::Disk);
    world.advance(50);
    client.now = world.now;
    client.consume("q", 1);
    assert_eq!(client.events(), "");
    assert_eq!(client.get("q"), "empty");
    world.engine.set_pressure(engine::Pressure::None);
    world.advance(1_000);
    client.now = world.now;
    assert_eq!(client.get("dead"), "got a 0");
}

#[test]
fn many_large_messages_do_not_die_in_one_batch() {
    let world = World::new();
    let mut client = world.client();
    client.declare("dead");
    client.declare_with(
        "q",
        true,
        &[("x-dead-letter-exchange", Value::text("")), ("x-dead-letter-routing-key", Value::text("dead"))],
    );
    let body = "x".repeat(5 * 1024 * 1024);
    for _ in 0..5 {
        client.publish("", "q", &body);
    }
    client.consume("q", 1);
    while client.receipts.len() < 5 {
        assert_ne!(client.events(), "");
    }
    let (before, _) = world.engine.calls();
    client.settle(5, Settlement::Reject);
    let (after, _) = world.engine.calls();
    assert_eq!(after - before, 3, "two go together, the third finds 10 MiB");
    assert_eq!(client.declare("dead"), "dead 5 0");
}

#[test]
fn two_who_bury_one_queue_at_once_keep_the_order_of_the_dead() {
    let mut world = World::new();
    let mut client = world.client();
    client.declare("dead");
    let arguments = [("x-dead-letter-exchange", Value::text("")), ("x-dead-letter-routing-key", Value::text("dead"))];
    client.declare_with("q", true, &arguments);
    let sent: Vec<String> = (0..3_000).map(|n| n.to_string()).collect();
    for body in &sent {
        client.publish_with("", "q", body, &ttl(10), |_| {});
    }
    client.events();
    let queue = world.broker.queues().into_iter().find(|view| &*view.name == "q").unwrap().id;
    // Nobody has looked at it since they expired.
    world.now = support::at(20);
    let start = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                start.wait();
                world.broker.on_readable(queue, world.now);
            });
        }
    });
    let dead = client.take_all("dead");
    let dead: Vec<&str> = dead.split(" ").collect();
    let odd = sent.iter().zip(&dead).position(|(sent, dead)| sent != dead);
    assert_eq!((dead.len(), odd), (sent.len(), None), "not in order from there on");
}
