//! Delayed exchanges: when, where to, taking back, jumps of the clock, what a full engine and a restart do to them.

// A test that cannot go on has failed.
#![allow(clippy::unwrap_used)]

mod support;

use engine::Pressure;
use model::{Now, Properties, PublishSeq, Table, Value};
use support::{Client, Draft, World, properties, table};

/// Declares a delayed exchange `x` that routes as `kind` and a queue `q` bound with key `k`.
fn delayed(client: &mut Client, kind: &str) {
    let declared = client.exchange_as("x", "x-delayed-message", |e| {
        e.arguments = table(&[("x-delayed-type", Value::text(kind))]);
    });
    assert!(declared.ends_with("ExchangeDeclared"), "{declared}");
    client.declare("q");
    client.bind("x", "q", "k");
}

fn with_headers(headers: &[(&str, Value)]) -> Draft {
    let properties = Properties { headers: Some(table(headers)), ..Properties::default() };
    Draft { properties, persistent: true, ..Draft::default() }
}

/// Persistent, to be delivered in so many milliseconds.
fn later(ms: i64) -> Draft {
    with_headers(&[("x-delay", Value::I64(ms))])
}

fn with_id(mut draft: Draft, id: &str) -> Draft {
    draft.properties.message_id = Some(id.into());
    draft
}

fn publish(client: &mut Client, draft: &Draft, body: &str) {
    assert_eq!(client.publish_with("x", "k", body, draft, |_| {}), "");
    client.link.flush(client.now);
}

/// Publishes a cancel, mandatory and with a confirm, and tells what comes of it.
fn cancel(client: &mut Client, id: &str) -> String {
    client.published += 1;
    let seq = PublishSeq(client.published);
    let draft = with_headers(&[("x-cancel-delivery", Value::text(id))]);
    let said = client.publish_with("x", "k", "cancel", &draft, |p| {
        p.confirm = Some(seq);
        p.mandatory = true;
    });
    assert_eq!(said, "");
    client.events()
}

fn advance(world: &mut World, client: &mut Client, ms: u64) {
    world.advance(ms);
    client.now = world.now;
}

fn waiting(world: &World) -> Option<u64> {
    world.broker.exchanges().iter().find(|e| &*e.name == "x").and_then(|e| e.messages_delayed)
}

#[test]
fn messages_come_in_order_of_their_time_and_never_before() {
    let mut world = World::new();
    let mut client = world.client();
    delayed(&mut client, "direct");
    publish(&mut client, &later(5_000), "slow");
    publish(&mut client, &later(300), "fast");
    publish(&mut client, &later(300), "fast2");
    publish(&mut client, &later(0), "now");
    publish(&mut client, &later(-5), "past");
    publish(&mut client, &Draft::default(), "plain");
    assert_eq!(client.take_all("q"), "now past plain");
    assert_eq!(waiting(&world), Some(3));
    advance(&mut world, &mut client, 299);
    assert_eq!(client.take_all("q"), "");
    advance(&mut world, &mut client, 1);
    assert_eq!(client.get("q"), "got fast 1");
    let headers = properties(client.bodies.last().unwrap()).headers.unwrap();
    assert_eq!(headers.get("x-delay"), Some(&Value::I32(-300)), "negated, as RabbitMQ's plugin does it");
    assert_eq!(client.take_all("q"), "fast2");
    advance(&mut world, &mut client, 4_700);
    assert_eq!(client.take_all("q"), "slow");
    assert_eq!(waiting(&world), Some(0));
    let totals = world.broker.totals();
    assert_eq!((totals.scheduled, totals.fired, totals.cancelled), (3, 3, 0));
}

#[test]
fn a_consumer_is_served_when_the_time_comes() {
    let mut world = World::new();
    let mut client = world.client();
    delayed(&mut client, "fanout");
    client.consume("q", 1);
    publish(&mut client, &later(250), "a");
    assert_eq!(client.events(), "");
    let at = world.broker.poll_timeout().unwrap();
    assert_eq!(at.since(world.now.mono).as_millis(), 250, "the timer is set to the moment");
    advance(&mut world, &mut client, 250);
    assert_eq!(client.events(), "1:a");
}

#[test]
fn it_goes_where_the_bindings_of_that_moment_lead() {
    let mut world = World::new();
    let mut client = world.client();
    delayed(&mut client, "topic");
    client.declare("other");
    let at = with_headers(&[("x-deliver-at", Value::I64(1_000_000_000_400))]);
    publish(&mut client, &at, "a");
    client.unbind("x", "q", "k");
    client.bind("x", "other", "#");
    advance(&mut world, &mut client, 400);
    assert_eq!((client.take_all("q"), client.take_all("other")), (String::new(), "a".into()));

    client.unbind("x", "other", "#");
    publish(&mut client, &later(100), "nowhere");
    let before = world.broker.totals().unroutable;
    advance(&mut world, &mut client, 100);
    assert_eq!(world.broker.totals().unroutable, before + 1);
    assert_eq!(waiting(&world), Some(0));
}

#[test]
fn copies_visible_and_blind_go_out_with_it() {
    let mut world = World::new();
    let mut client = world.client();
    delayed(&mut client, "direct");
    for queue in ["cc", "bcc"] {
        client.declare(queue);
        client.bind("x", queue, queue);
    }
    let cc = Value::Array(vec![Value::text("cc")]);
    let draft = with_headers(&[("x-delay", Value::I32(50)), ("CC", cc.clone())]);
    client.publish_with("x", "k", "a", &draft, |p| p.extra_keys = vec!["cc".into(), "bcc".into()]);
    client.link.flush(client.now);
    advance(&mut world, &mut client, 50);
    for queue in ["q", "cc", "bcc"] {
        assert_eq!(client.get(queue), "got a 0", "{queue}");
        let headers = properties(client.bodies.last().unwrap()).headers.unwrap();
        assert_eq!(headers, table(&[("x-delay", Value::I32(-50)), ("CC", cc.clone())]));
    }
}

#[test]
fn time_to_live_begins_when_it_is_routed() {
    let mut world = World::new();
    let mut client = world.client();
    delayed(&mut client, "direct");
    publish(&mut client, &Draft { ttl_ms: Some(100), ..later(1_000) }, "a");
    advance(&mut world, &mut client, 1_000);
    advance(&mut world, &mut client, 99);
    assert_eq!(client.get("q"), "got a 0");
    publish(&mut client, &Draft { ttl_ms: Some(100), ..later(1_000) }, "b");
    advance(&mut world, &mut client, 1_000);
    advance(&mut world, &mut client, 100);
    assert_eq!(client.get("q"), "empty");
}

#[test]
fn through_bindings_alternates_and_dead_letters_too_and_once_only() {
    let mut world = World::new();
    let mut client = world.client();
    delayed(&mut client, "direct");
    client.exchange("first", "fanout");
    client.bind("first", "exchange x", "");
    client.publish_with("first", "k", "a", &later(100), |_| {});
    client.link.flush(client.now);
    // One delayed exchange behind the other: the delay counts once.
    client.exchange_as("second", "x-delayed-message", |e| {
        e.arguments = table(&[("x-delayed-type", Value::text("fanout"))]);
    });
    client.declare("end");
    client.bind("x", "exchange second", "k");
    client.bind("second", "end", "");
    assert_eq!(client.take_all("q"), "");
    advance(&mut world, &mut client, 100);
    assert_eq!((client.take_all("q"), client.take_all("end")), ("a".into(), "a".into()));

    let dead = [("x-dead-letter-exchange", Value::text("x")), ("x-dead-letter-routing-key", Value::text("k"))];
    client.declare_with("dying", true, &dead);
    client.publish_with("", "dying", "b", &Draft { ttl_ms: Some(10), ..later(100) }, |_| {});
    client.link.flush(client.now);
    advance(&mut world, &mut client, 10);
    assert_eq!(client.take_all("q"), "", "its dead letter waits");
    advance(&mut world, &mut client, 100);
    assert_eq!(client.take_all("q"), "b");
}

#[test]
fn a_confirm_waits_for_the_disk() {
    let mut world = World::slow();
    let mut client = world.client();
    delayed(&mut client, "direct");
    world.sync();
    client.published += 1;
    client.publish_with("x", "k", "a", &later(500), |p| p.confirm = Some(PublishSeq(1)));
    assert_eq!(client.events(), "");
    world.sync();
    assert_eq!(client.events(), "ack 1-1");
    advance(&mut world, &mut client, 500);
    world.sync();
    assert_eq!(client.take_all("q"), "a");
}

#[test]
fn mandatory_does_not_return_what_waits() {
    let world = World::new();
    let mut client = world.client();
    delayed(&mut client, "direct");
    client.publish_with("x", "no queue", "a", &later(500), |p| p.mandatory = true);
    client.publish_with("x", "no queue", "b", &later(0), |p| p.mandatory = true);
    assert_eq!(client.events(), "returned b");
    assert_eq!(waiting(&world), Some(1));
}

#[test]
fn what_waits_can_be_taken_back() {
    let mut world = World::new();
    let mut client = world.client();
    delayed(&mut client, "direct");
    publish(&mut client, &with_id(later(500), "m1"), "a");
    publish(&mut client, &with_id(later(600), "m2"), "b");
    publish(&mut client, &with_id(later(700), "m1"), "again");
    assert_eq!(cancel(&mut client, "m1"), "ack 1-1");
    assert_eq!(waiting(&world), Some(1));
    assert_eq!(cancel(&mut client, "m1"), "returned cancel,ack 2-2", "there is nothing any more");
    assert_eq!(cancel(&mut client, "unknown"), "returned cancel,ack 3-3");
    advance(&mut world, &mut client, 700);
    assert_eq!(client.take_all("q"), "b");
    assert_eq!(cancel(&mut client, "m2"), "returned cancel,ack 4-4", "too late");
    assert_eq!(world.broker.totals().cancelled, 2);

    // In one burst, behind the message it means.
    client.publish_with("x", "k", "c", &with_id(later(100), "m3"), |_| {});
    assert_eq!(cancel(&mut client, "m3"), "ack 5-5");
    advance(&mut world, &mut client, 100);
    assert_eq!(client.take_all("q"), "");
    // On an exchange that does not delay the header means nothing.
    let draft = with_headers(&[("x-cancel-delivery", Value::text("m"))]);
    client.publish_with("", "q", "plain", &draft, |_| {});
    client.link.flush(client.now);
    assert_eq!(client.take_all("q"), "plain");
}

#[test]
fn a_cancel_is_confirmed_when_it_is_durable_and_waits_for_what_it_means() {
    let mut world = World::slow();
    let mut client = world.client();
    delayed(&mut client, "direct");
    publish(&mut client, &with_id(later(500), "m1"), "a");
    world.sync();
    assert_eq!(cancel(&mut client, "m1"), "");
    world.sync();
    assert_eq!(client.events(), "ack 1-1");

    // The engine has yet to take the message in that the cancel means.
    world.engine.set_pressure(Pressure::Memory);
    client.publish_with("x", "k", "b", &with_id(later(500), "m2"), |_| {});
    let draft = with_headers(&[("x-cancel-delivery", Value::text("m2"))]);
    assert_eq!(client.publish_with("x", "k", "cancel", &draft, |p| p.mandatory = true), "wait");
    world.engine.set_pressure(Pressure::None);
    assert_eq!(client.publish_with("x", "k", "cancel", &draft, |p| p.mandatory = true), "");
    assert_eq!(client.events(), "", "not returned: it was found");
    advance(&mut world, &mut client, 1_000);
    world.sync();
    assert_eq!(client.take_all("q"), "");
}

#[test]
fn the_clock_may_jump_both_ways() {
    let mut world = World::new();
    let mut client = world.client();
    delayed(&mut client, "direct");
    publish(&mut client, &later(60_000), "a");
    publish(&mut client, &later(120_000), "b");
    // An hour back: nothing is lost, nothing early.
    let set = |world: &mut World, ms: i64| {
        let wall = model::Wall(world.now.wall.0.checked_add_signed(ms).unwrap());
        world.now = Now { wall, ..world.now };
    };
    set(&mut world, -3_600_000);
    advance(&mut world, &mut client, 60_000);
    assert_eq!(client.take_all("q"), "");
    // And forth again: what is due by it goes out within a second, once.
    set(&mut world, 3_600_000);
    advance(&mut world, &mut client, 1_000);
    assert_eq!(client.take_all("q"), "a");
    set(&mut world, -30_000);
    advance(&mut world, &mut client, 1_000);
    assert_eq!(client.take_all("q"), "", "nothing again");
    advance(&mut world, &mut client, 88_000);
    assert_eq!(client.take_all("q"), "b");
}

#[test]
fn an_engine_that_takes_nothing_in_loses_and_doubles_nothing() {
    let mut world = World::new();
    let mut client = world.client();
    delayed(&mut client, "direct");
    publish(&mut client, &later(100), "a");
    publish(&mut client, &later(200), "b");
    world.engine.set_pressure(Pressure::Disk);
    advance(&mut world, &mut client, 300);
    advance(&mut world, &mut client, 5_000);
    assert_eq!(waiting(&world), Some(2));
    world.engine.set_pressure(Pressure::None);
    advance(&mut world, &mut client, 1_000);
    assert_eq!(client.take_all("q"), "a b");
    assert_eq!(waiting(&world), Some(0));
}

#[test]
fn many_at_once_take_turns() {
    const MANY: usize = 5_000;
    let mut world = World::new();
    let mut client = world.client();
    delayed(&mut client, "direct");
    for n in 0..MANY {
        client.publish_with("x", "k", &n.to_string(), &later(100), |_| {});
    }
    client.link.flush(client.now);
    world.now = Now { mono: model::Mono(world.now.mono.0 + 100_000), wall: world.now.wall.after_millis(100) };
    world.broker.handle_timeout(world.now);
    let first = MANY - usize::try_from(waiting(&world).unwrap()).unwrap();
    assert!((1..=2_048).contains(&first), "{first} in one turn");
    let soon = world.broker.poll_timeout().unwrap();
    assert!(soon.since(world.now.mono).as_millis() == 0, "and the next follows at once");
    while waiting(&world) != Some(0) {
        advance(&mut world, &mut client, 1);
    }
    let all = client.take_all("q");
    assert!(all.split(' ').enumerate().all(|(n, body)| body == n.to_string()));
    assert_eq!(all.split(' ').count(), MANY);
}

#[test]
fn what_waits_survives_a_restart() {
    let mut world = World::new();
    let mut client = world.client();
    delayed(&mut client, "topic");
    publish(&mut client, &with_id(later(60_000), "m1"), "a");
    publish(&mut client, &with_id(later(90_000), "m2"), "b");
    publish(&mut client, &Draft { persistent: false, ..later(70_000) }, "passing");
    drop(client);
    world = world.restart();
    let mut client = world.client();
    assert_eq!(waiting(&world), Some(2));
    delayed(&mut client, "topic");
    assert_eq!(cancel(&mut client, "m1"), "ack 1-1");
    advance(&mut world, &mut client, 90_000);
    assert_eq!(client.take_all("q"), "b");
}

#[test]
fn a_quorum_queue_keeps_transient_messages_that_were_delayed_too() {
    let mut world = World::new();
    let mut client = world.client();
    delayed(&mut client, "direct");
    client.declare_with("quorum", true, &[("x-queue-type", Value::text("quorum"))]);
    client.bind("x", "quorum", "k");
    publish(&mut client, &Draft { persistent: false, ..later(100) }, "a");
    advance(&mut world, &mut client, 100);
    assert_eq!(client.get("quorum"), "got a 0");
    assert!(client.bodies.last().unwrap().envelope.persistent);
}

#[test]
fn an_exchange_that_goes_takes_what_waits_with_it() {
    let mut world = World::new();
    let mut client = world.client();
    let queues = engine::Engine::queues(&*world.engine).len();
    delayed(&mut client, "direct");
    publish(&mut client, &later(100), "a");
    assert_eq!(client.delete_exchange("x", false), "ExchangeDeleted");
    assert_eq!(engine::Engine::queues(&*world.engine).len(), queues + 1, "only q is left");
    delayed(&mut client, "direct");
    advance(&mut world, &mut client, 100);
    assert_eq!(client.take_all("q"), "");
    // The store is no queue for anyone to see.
    assert_eq!(world.broker.queues().len(), 1);
}

#[test]
fn the_type_it_routes_by_is_required_and_kept() {
    let world = World::new();
    let mut client = world.client();
    let mut declare = |arguments: &[(&str, Value)]| {
        let arguments: Table = table(arguments);
        client.exchange_as("x", "x-delayed-message", |e| e.arguments = arguments)
    };
    let invalid = "PreconditionFailed: Invalid argument, 'x-delayed-type' must be an existing exchange type";
    assert_eq!(declare(&[]), invalid);
    assert_eq!(declare(&[("x-delayed-type", Value::I32(1))]), invalid);
    assert_eq!(declare(&[("x-delayed-type", Value::text("x-delayed-message"))]), invalid);
    let unknown = [("x-delayed-type", Value::text("nonsense"))];
    assert_eq!(declare(&unknown), "CommandInvalid: unknown exchange type 'nonsense'");
    let direct = [("x-delayed-type", Value::text("direct"))];
    assert_eq!(declare(&direct), "ExchangeDeclared");
    assert_eq!(declare(&direct), "ExchangeDeclared");
    assert_eq!(
        declare(&[("x-delayed-type", Value::text("topic"))]),
        "PreconditionFailed: inequivalent arg 'x-delayed-type' for exchange 'x' in vhost '/': received 'topic' but \
         current is 'direct'"
    );
    assert_eq!(
        client.exchange("x", "direct"),
        "PreconditionFailed: inequivalent arg 'type' for exchange 'x' in vhost '/': received 'direct' but current is \
         'x-delayed-message'"
    );
}
