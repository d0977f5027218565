//! Deduplication, and queues that promise less than a sync.

mod support;

use engine::{Engine, Pressure};
use model::limits::{DEDUP_IDS_MAX, DEDUP_WINDOW_MAX};
use model::{Properties, Table, Value};
use protocol::{Request, Tx};
use support::{CH, Client, Draft, World};

const ONCE: (&str, Value) = ("x-message-deduplication", Value::Bool(true));

fn with_id(id: &str) -> Draft {
    let properties = Properties { message_id: Some(id.into()), ..Properties::default() };
    Draft { properties, persistent: true, ..Draft::default() }
}

fn with_headers(headers: &[(&str, Value)]) -> Draft {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let properties = Properties { headers: Some(Table(headers)), ..Properties::default() };
    Draft { properties, persistent: true, ..Draft::default() }
}

fn publish(client: &mut Client, queue: &str, body: &str, draft: &Draft) {
    client.published += 1;
    let seq = model::PublishSeq(client.published);
    assert_eq!(client.publish_with("", queue, body, draft, |p| p.confirm = Some(seq)), "");
}

fn kept_of_queues(world: &World) -> usize {
    world.engine.metas().iter().filter(|(key, _)| key[0] == b'D').count()
}

#[test]
fn a_message_with_an_id_seen_before_is_confirmed_and_not_enqueued() {
    let world = World::new();
    let mut client = world.client();
    client.declare_with("q", true, &[ONCE]);
    for (body, id) in [("1", "a"), ("2", "b"), ("3", "a")] {
        publish(&mut client, "q", body, &with_id(id));
    }
    assert_eq!(client.events(), "ack 1-3");
    publish(&mut client, "q", "4", &with_id("b"));
    publish(&mut client, "q", "5", &Draft::default());
    publish(&mut client, "q", "6", &Draft::default());
    assert_eq!(client.events(), "ack 4-6");
    assert_eq!(client.take_all("q"), "1 2 5 6", "what has no id is like no other");
    assert_eq!(world.broker.totals().deduplicated, 2);
}

#[test]
fn a_duplicate_is_confirmed_only_when_what_it_repeats_is_safe() {
    let world = World::slow();
    let mut client = world.client();
    let mut other = world.client();
    client.declare_with("q", true, &[ONCE]);
    world.sync();
    publish(&mut client, "q", "1", &with_id("a"));
    assert_eq!(client.events(), "");
    publish(&mut other, "q", "1", &with_id("a"));
    assert_eq!(other.events(), "", "the first is not safe yet, so this one cannot be said to be");
    world.sync();
    assert_eq!((client.events(), other.events()), ("ack 1-1".into(), "ack 1-1".into()));
}

#[test]
fn other_queues_get_their_copy() {
    let world = World::new();
    let mut client = world.client();
    client.declare_with("once", true, &[ONCE]);
    client.declare("always");
    client.exchange("fan", "fanout");
    client.bind("fan", "once", "");
    client.bind("fan", "always", "");
    for body in ["1", "2"] {
        client.publish_with("fan", "", body, &with_id("a"), |_| {});
    }
    client.events();
    assert_eq!((client.take_all("once"), client.take_all("always")), ("1".into(), "1 2".into()));
}

#[test]
fn the_header_can_be_named() {
    let world = World::new();
    let mut client = world.client();
    client.declare_with("plain", true, &[ONCE]);
    client.declare_with("named", true, &[ONCE, ("x-deduplication-header", Value::text("order"))]);
    for (body, name) in
        [("1", "order"), ("2", "order"), ("3", "x-deduplication-header"), ("4", "x-deduplication-header")]
    {
        let draft = with_headers(&[(name, Value::I32(7))]);
        publish(&mut client, "plain", body, &draft);
        publish(&mut client, "named", body, &draft);
    }
    client.events();
    assert_eq!((client.take_all("plain"), client.take_all("named")), ("1 2 3".into(), "1 3 4".into()));
}

#[test]
fn a_producers_numbers_only_grow() {
    let world = World::new();
    let mut client = world.client();
    client.declare_with("q", true, &[ONCE]);
    let numbered = |producer: &str, n: i64| {
        with_headers(&[("x-producer-id", Value::text(producer)), ("x-producer-seq", Value::I64(n))])
    };
    for (producer, n) in [("p", 1), ("p", 3), ("p", 2), ("p", 3), ("r", 1), ("p", 4)] {
        publish(&mut client, "q", &format!("{producer}{n}"), &numbered(producer, n));
    }
    client.events();
    let world = world.restart();
    let mut client = world.client();
    for n in [3, 4, 5] {
        publish(&mut client, "q", &format!("p{n}"), &numbered("p", n));
    }
    client.events();
    assert_eq!(client.take_all("q"), "p1 p3 r1 p4 p5");
}

#[test]
fn the_window_is_bounded_in_count_and_in_time() {
    let mut world = World::new();
    let mut client = world.client();
    client.declare_with("few", true, &[ONCE, ("x-cache-size", Value::I32(2))]);
    client.declare_with("brief", true, &[ONCE, ("x-cache-ttl", Value::I32(1_000))]);
    for (n, id) in ["a", "b", "c", "a", "c"].iter().enumerate() {
        publish(&mut client, "few", &n.to_string(), &with_id(id));
        client.events();
    }
    assert_eq!(client.take_all("few"), "0 1 2 3");
    for (body, ms) in [("1", 999), ("2", 1), ("3", 0)] {
        publish(&mut client, "brief", body, &with_id("a"));
        client.events();
        world.advance(ms);
        client.now = world.now;
    }
    assert_eq!(client.take_all("brief"), "1 3");
}

#[test]
fn a_restart_forgets_nothing_of_what_is_kept_and_all_of_what_is_not() {
    let world = World::new();
    let mut client = world.client();
    client.declare_with("q", true, &[ONCE]);
    client.declare_with("m", true, &[ONCE, ("x-durability", Value::text("memory"))]);
    let passing = Draft { persistent: false, ..with_id("b") };
    publish(&mut client, "q", "1", &with_id("a"));
    publish(&mut client, "q", "2", &passing);
    publish(&mut client, "m", "3", &with_id("a"));
    client.events();
    let world = world.restart();
    let mut client = world.client();
    for queue in ["q", "m"] {
        publish(&mut client, queue, "4", &with_id("a"));
        publish(&mut client, queue, "5", &passing);
    }
    client.events();
    assert_eq!((client.take_all("q"), client.take_all("m")), ("1 5".into(), "4 5".into()));
}

#[test]
fn the_memory_of_a_queue_goes_with_it() {
    let world = World::new();
    let mut client = world.client();
    client.declare_with("q", true, &[ONCE]);
    publish(&mut client, "q", "1", &with_id("a"));
    client.events();
    assert_eq!(kept_of_queues(&world), 1);
    client.delete("q", false, false);
    assert_eq!(kept_of_queues(&world), 0);
    client.declare_with("q", true, &[ONCE]);
    publish(&mut client, "q", "1", &with_id("a"));
    client.events();
    assert_eq!(client.take_all("q"), "1");
}

#[test]
fn what_the_engine_refuses_was_not_seen() {
    let world = World::new();
    let mut client = world.client();
    client.declare_with("q", true, &[ONCE]);
    world.engine.set_pressure(Pressure::Memory);
    publish(&mut client, "q", "1", &with_id("a"));
    publish(&mut client, "q", "2", &with_id("a"));
    assert_eq!(client.events(), "");
    world.engine.set_pressure(Pressure::None);
    client.link.flush(world.now);
    assert_eq!(client.events(), "ack 1-2");
    assert_eq!(client.take_all("q"), "1");
    assert_eq!(kept_of_queues(&world), 1);
}

#[test]
fn a_transaction_is_deduplicated_when_it_is_committed() {
    let world = World::new();
    let mut client = world.client();
    let mut other = world.client();
    client.declare_with("q", true, &[ONCE]);
    client.ask(Request::Tx(CH, Tx::Select));
    client.publish_with("", "q", "tx-a", &with_id("a"), |_| {});
    client.publish_with("", "q", "tx-b", &with_id("b"), |_| {});
    publish(&mut other, "q", "other-a", &with_id("a"));
    other.events();
    assert_eq!(client.ask(Request::Tx(CH, Tx::Commit(Vec::new()))), "TxDone");
    client.publish_with("", "q", "never", &with_id("c"), |_| {});
    client.ask(Request::Tx(CH, Tx::Rollback));
    publish(&mut other, "q", "other-c", &with_id("c"));
    other.events();
    assert_eq!(other.take_all("q"), "other-a tx-b other-c");
}

#[test]
fn its_arguments_are_checked() {
    let world = World::new();
    let mut client = world.client();
    let mut refused = |argument: (&str, Value)| client.declare_with("q", true, &[ONCE, argument]);
    let invalid =
        |name: &str, why: &str| format!("PreconditionFailed: invalid arg '{name}' for queue 'q' in vhost '/': {why}");
    assert_eq!(refused(("x-cache-size", Value::I32(0))), invalid("x-cache-size", "{value_zero,0}"));
    let too_many = i64::try_from(DEDUP_WINDOW_MAX).unwrap() + 1;
    assert_eq!(
        refused(("x-cache-size", Value::I64(too_many))),
        invalid("x-cache-size", "{max_value_exceeded,1000001}")
    );
    assert_eq!(refused(("x-cache-ttl", Value::text("1"))), invalid("x-cache-ttl", "\"expected integer, got longstr\""));
    assert_eq!(
        refused(("x-durability", Value::text("always"))),
        invalid("x-durability", "\"unknown durability 'always'; one of sync, interval, none, memory\"")
    );
    let not_a_bool = client.declare_with("q", true, &[("x-message-deduplication", Value::I32(1))]);
    assert_eq!(not_a_bool, invalid("x-message-deduplication", "{unacceptable_type,signedint}"));
    let transient = client.declare_with("q", false, &[("x-durability", Value::text("none"))]);
    assert_eq!(transient, invalid("x-durability", "\"the queue is not durable\""));
    let exchange = client.exchange_as("e", "direct", |e| e.arguments = support::table(&[ONCE]));
    assert_eq!(
        exchange,
        "NotImplemented: argument 'x-message-deduplication' for exchange 'e' in vhost '/' is not supported yet"
    );
}

#[test]
fn what_all_queues_may_remember_is_bounded() {
    let world = World::new();
    let mut client = world.client();
    let size = Value::I64(i64::try_from(DEDUP_WINDOW_MAX).unwrap());
    let mut declare = |name: &str| client.declare_with(name, true, &[ONCE, ("x-cache-size", size.clone())]);
    for n in 0..DEDUP_IDS_MAX / DEDUP_WINDOW_MAX {
        assert_eq!(declare(&n.to_string()), format!("{n} 0 0"));
    }
    assert!(declare("more").starts_with("ResourceError: the limit of 10000000 ids"));
    assert_eq!(client.delete("0", false, false), "deleted 0");
    assert_eq!(client.declare_with("more", true, &[ONCE, ("x-cache-size", size.clone())]), "more 0 0");
}

#[test]
fn confirms_and_deliveries_of_other_durabilities_wait_for_nothing() {
    let world = World::slow();
    let mut client = world.client();
    for durability in ["interval", "none", "memory", "sync"] {
        client.declare_with(durability, true, &[("x-durability", Value::text(durability))]);
        client.exchange("fan", "fanout");
        client.bind("fan", durability, "");
    }
    world.sync();
    for (n, durability) in ["interval", "none", "memory"].iter().enumerate() {
        client.consume(durability, u32::try_from(n).unwrap());
        client.publish_safely("", durability, "x");
        assert_eq!(client.events(), format!("ack {0}-{0},{n}:x", n + 1));
    }
    client.consume("sync", 3);
    client.publish_safely("fan", "", "y");
    assert_eq!(client.events(), "0:y,1:y,2:y", "who need not wait does not, the confirm does");
    world.sync();
    assert_eq!(client.events(), "ack 4-4,3:y");
    let redeclared = client.declare_with("none", true, &[("x-durability", Value::text("sync"))]);
    assert!(redeclared.starts_with("PreconditionFailed: inequivalent arg 'x-durability'"), "{redeclared}");
}
