//! Transactions: everything at the commit, as one batch of the engine, or nothing.

// A test that cannot go on has failed.
#![allow(clippy::unwrap_used)]

mod support;

use engine::Pressure;
use model::Value;
use model::limits::{TX_BYTES_MAX, TX_KEPT_BYTES_MAX, TX_MESSAGES_MAX};
use protocol::{Request, Settle, Settlement, Tx};
use support::{CH, Client, Draft, World, properties};

fn tx(client: &mut Client, step: Tx) -> String {
    client.ask(Request::Tx(CH, step))
}

/// Settles the first `n` deliveries with a commit.
fn commit(client: &mut Client, settles: &[(usize, Settlement)]) -> String {
    let mut all = Vec::new();
    for &(n, settlement) in settles {
        let receipts = client.receipts.drain(..n).collect();
        all.push(Settle { channel: CH, settlement, receipts });
    }
    tx(client, Tx::Commit(all))
}

/// A client with a transactional channel and the durable queues a, b and c.
fn transactional(world: &World) -> Client {
    let mut client = world.client();
    for queue in ["a", "b", "c"] {
        client.declare(queue);
    }
    world.sync();
    assert_eq!(tx(&mut client, Tx::Select), "TxDone");
    client
}

fn persistent(client: &mut Client, queue: &str, body: &str) {
    let draft = Draft { persistent: true, ..Draft::default() };
    assert_eq!(client.publish_with("", queue, body, &draft, |_| {}), "");
}

#[test]
fn nobody_sees_a_message_before_its_commit_and_the_commit_is_one_batch() {
    let world = World::slow();
    let mut client = transactional(&world);
    let mut other = world.client();
    for queue in ["a", "b", "a"] {
        persistent(&mut client, queue, "x");
    }
    client.events();
    assert_eq!(other.take_all("a"), "");
    let (before, _) = world.engine.calls();
    assert_eq!(commit(&mut client, &[]), "later: TxDone", "only when it is durable");
    assert_eq!(world.engine.calls().0, before + 1);
    world.sync();
    assert_eq!((other.take_all("a"), other.take_all("b")), ("x x".into(), "x".into()));
    assert_eq!(commit(&mut client, &[]), "TxDone", "an empty one waits for nothing");
}

#[test]
fn publishes_and_settles_end_together() {
    let world = World::new();
    let mut client = transactional(&world);
    let mut other = world.client();
    for body in ["1", "2", "3", "4"] {
        other.publish_safely("", "a", body);
    }
    other.events();
    client.consume("a", 7);
    assert_eq!(client.events(), "7:1,7:2,7:3,7:4");
    persistent(&mut client, "b", "x");
    let (before, settles) = world.engine.calls();
    let settled = [(1, Settlement::Ack), (1, Settlement::Reject), (1, Settlement::Requeue)];
    assert_eq!(commit(&mut client, &settled), "TxDone");
    let (appends, more) = world.engine.calls();
    assert_eq!(appends, before + 1);
    assert_eq!(more, settles + 2, "the requeue is a call of its own; what is rejected is gone already");
    assert_eq!(client.events(), "7:3 again");
    assert_eq!(other.take_all("b"), "x");
    drop(client);
    assert_eq!(other.take_all("a"), "3 4");
}

#[test]
fn the_credit_of_what_is_settled_comes_with_the_commit() {
    let world = World::new();
    let mut client = transactional(&world);
    let mut other = world.client();
    for body in ["1", "2"] {
        other.publish_safely("", "a", body);
    }
    other.events();
    client.qos(1, false);
    client.consume("a", 7);
    assert_eq!(client.events(), "7:1");
    assert_eq!(commit(&mut client, &[(1, Settlement::Ack)]), "TxDone");
    assert_eq!(client.events(), "7:2");
}

fn to_dead() -> [(&'static str, Value); 2] {
    [("x-dead-letter-exchange", Value::text("")), ("x-dead-letter-routing-key", Value::text("dead"))]
}

#[test]
fn a_reject_is_dead_lettered_in_the_batch_of_the_commit() {
    for consumes in [false, true] {
        let world = World::slow();
        let mut client = transactional(&world);
        client.declare("dead");
        client.declare_with("q", true, &[to_dead().as_slice(), &[("x-delivery-limit", Value::I32(9))]].concat());
        let mut other = world.client();
        for body in ["1", "2"] {
            other.publish_safely("", "q", body);
        }
        other.events();
        world.sync();
        if consumes {
            client.consume("q", 7);
            assert_eq!(client.events(), "7:1,7:2");
        } else {
            assert_eq!((client.get("q"), client.get("q")), ("got 1 1".into(), "got 2 0".into()));
        }
        persistent(&mut client, "a", "x");
        assert_eq!(other.take_all("dead"), "", "not before");
        let (before, _) = world.engine.calls();
        assert_eq!(commit(&mut client, &[(1, Settlement::Reject), (1, Settlement::Requeue)]), "later: TxDone");
        assert_eq!(world.engine.calls().0, before + 1, "one batch");
        world.sync();
        assert_eq!(other.take_all("a"), "x");
        assert_eq!(other.get("dead"), "got 1 0");
        let headers = properties(other.bodies.last().unwrap()).headers.unwrap();
        assert_eq!(headers.get("x-first-death-reason"), Some(&Value::text("rejected")));
        assert!(headers.get("x-delivery-count").is_none());
        assert_eq!(world.broker.totals().dead_lettered_rejected, 1);
        drop(client);
        assert_eq!(other.take_all("q"), "2");
        drop(other);
        let mut again = world.restart();
        again.now = support::at(1);
        assert_eq!(again.client().take_all("q"), "");
    }
}

#[test]
fn a_reject_that_leads_nowhere_ends_with_the_commit_and_a_full_dead_letter_queue_fails_none() {
    let world = World::new();
    let mut client = transactional(&world);
    client.declare_with("q", true, &to_dead());
    for full in [false, true] {
        if full {
            let arguments = [("x-max-length", Value::I32(0)), ("x-overflow", Value::text("reject-publish"))];
            client.declare_with("dead", true, &arguments);
        }
        world.client().publish("", "q", "1");
        assert_eq!(client.get("q"), "got 1 0");
        assert_eq!(commit(&mut client, &[(1, Settlement::Reject)]), "TxDone", "full: {full}");
        assert_eq!(client.get("q"), "empty");
    }
}

#[test]
fn what_is_too_much_to_keep_is_dead_lettered_after_the_commit() {
    let world = World::new();
    let mut client = transactional(&world);
    client.declare("dead");
    client.declare_with("q", true, &to_dead());
    let large = "x".repeat(TX_KEPT_BYTES_MAX);
    world.client().publish("", "q", &large);
    assert!(client.get("q").starts_with("got x"));
    let (before, _) = world.engine.calls();
    assert_eq!(commit(&mut client, &[(1, Settlement::Reject)]), "TxDone");
    assert_eq!(world.engine.calls().0, before + 2);
    assert_eq!(client.take_all("dead").len(), large.len());
}

#[test]
fn what_was_handed_out_before_the_channel_was_transactional_is_dead_lettered_too() {
    let world = World::new();
    let mut client = world.client();
    client.declare("dead");
    client.declare_with("q", true, &to_dead());
    client.publish("", "q", "1");
    assert_eq!(client.get("q"), "got 1 0");
    tx(&mut client, Tx::Select);
    assert_eq!(commit(&mut client, &[(1, Settlement::Reject)]), "TxDone");
    assert_eq!(client.take_all("dead"), "1");
}

#[test]
fn a_rollback_drops_what_was_published() {
    let world = World::new();
    let mut client = transactional(&world);
    persistent(&mut client, "a", "never");
    client.publish_with("", "nowhere", "never", &Draft::default(), |p| p.mandatory = true);
    assert_eq!(tx(&mut client, Tx::Rollback), "TxDone");
    persistent(&mut client, "a", "x");
    assert_eq!(commit(&mut client, &[]), "TxDone");
    assert_eq!(client.events(), "");
    assert_eq!(client.take_all("a"), "x");
}

#[test]
fn the_end_of_the_channel_is_a_rollback() {
    let world = World::new();
    let mut client = transactional(&world);
    let mut other = world.client();
    other.publish_safely("", "b", "held");
    other.events();
    persistent(&mut client, "a", "never");
    assert_eq!(client.get("b"), "got held 0");
    assert_eq!(client.ask(Request::CloseChannel(CH)), "ChannelClosed");
    assert_eq!((other.take_all("a"), other.take_all("b")), (String::new(), "held".into()));
    assert_eq!(client.ask(Request::OpenChannel(CH)), "channel opened");
    assert_eq!(commit(&mut client, &[]), "PreconditionFailed: channel is not transactional");
}

#[test]
fn what_cannot_be_routed_comes_back_before_the_commit_is_told() {
    let world = World::new();
    let mut client = transactional(&world);
    client.publish_with("", "nowhere", "1", &Draft::default(), |p| p.mandatory = true);
    client.publish_with("", "nowhere", "2", &Draft::default(), |_| {});
    persistent(&mut client, "a", "3");
    assert_eq!(client.events(), "", "not before the commit");
    assert_eq!(commit(&mut client, &[]), "wait");
    assert_eq!(client.events(), "returned 1");
    assert_eq!(commit(&mut client, &[]), "TxDone");
    assert_eq!(client.take_all("a"), "3");
}

#[test]
fn a_missing_exchange_is_refused_at_once() {
    let world = World::new();
    let mut client = transactional(&world);
    let refused = client.publish("nowhere", "a", "x");
    assert_eq!(refused, "NotFound: no exchange 'nowhere' in vhost '/'");
}

#[test]
fn a_commit_waits_while_the_engine_is_pressed_and_is_whole_then() {
    let world = World::new();
    let mut client = transactional(&world);
    let mut other = world.client();
    other.publish_safely("", "b", "1");
    other.publish_safely("", "b", "2");
    other.events();
    client.consume("b", 7);
    assert_eq!(client.events(), "7:1,7:2");
    persistent(&mut client, "a", "x");
    world.engine.set_pressure(Pressure::Disk);
    world.broker.on_pressure(Pressure::Disk, world.now);
    assert_eq!(commit(&mut client, &[(1, Settlement::Ack)]), "wait");
    assert_eq!(tx(&mut client, Tx::Commit(Vec::new())), "wait");
    assert_eq!((other.take_all("a"), client.events()), (String::new(), "blocked low on disk".into()));
    world.engine.set_pressure(Pressure::None);
    world.broker.on_pressure(Pressure::None, world.now);
    assert_eq!(tx(&mut client, Tx::Commit(Vec::new())), "TxDone");
    assert_eq!(other.take_all("a"), "x");
    drop(client);
    assert_eq!(other.take_all("b"), "2");
}

#[test]
fn what_only_settles_never_waits() {
    let world = World::new();
    let mut client = transactional(&world);
    client.publish_safely("", "a", "1");
    commit(&mut client, &[]);
    client.get("a");
    client.declare("dead");
    client.declare_with("q", true, &to_dead());
    world.client().publish("", "q", "2");
    assert_eq!(client.get("q"), "got 2 0");
    world.engine.set_pressure(Pressure::Memory);
    assert_eq!(commit(&mut client, &[(1, Settlement::Ack), (1, Settlement::Reject)]), "TxDone");
    assert_eq!(client.take_all("dead"), "", "not before there is room");
    world.engine.set_pressure(Pressure::None);
    let mut world = world;
    world.advance(2_000);
    assert_eq!(
        (client.take_all("dead"), client.take_all("q"), client.take_all("a")),
        ("2".into(), "".into(), "".into())
    );
}

#[test]
fn a_transaction_is_bounded_in_messages() {
    let world = World::new();
    let mut client = transactional(&world);
    for _ in 0..TX_MESSAGES_MAX {
        assert_eq!(client.publish("", "a", ""), "");
    }
    let refused = client.publish("", "a", "");
    assert_eq!(refused, "PreconditionFailed: more than 65536 messages in one transaction");
    tx(&mut client, Tx::Rollback);
    assert_eq!(client.publish("", "a", "x"), "");
    commit(&mut client, &[]);
    assert_eq!(client.take_all("a"), "x");
}

#[test]
fn the_transactions_of_a_connection_are_bounded_in_bytes() {
    let world = World::new();
    let mut client = transactional(&world);
    let half = "x".repeat(TX_BYTES_MAX / 2 - 1000);
    for _ in 0..2 {
        assert_eq!(client.publish("", "a", &half), "");
    }
    let refused = client.publish("", "a", &half[..10_000]);
    assert_eq!(refused, "PreconditionFailed: more than 268435456 bytes in transactions that are not committed");
    assert_eq!(tx(&mut client, Tx::Rollback), "TxDone");
    assert_eq!(client.publish("", "a", &half), "", "what is rolled back no longer counts");
}

#[test]
fn a_publish_that_a_full_queue_refuses_fails_the_commit_of_all_that_was_taken() {
    let world = World::slow();
    let mut client = transactional(&world);
    let mut other = world.client();
    let full = [("x-max-length", Value::I32(1)), ("x-overflow", Value::text("reject-publish"))];
    other.declare_with("full", true, &full);
    other.publish_safely("", "c", "settled");
    other.events();
    world.sync();
    client.get("c");
    for (queue, body) in [("full", "1"), ("full", "2"), ("a", "3")] {
        persistent(&mut client, queue, body);
    }
    let failed = "PreconditionFailed: partial tx completion";
    assert_eq!(commit(&mut client, &[(1, Settlement::Ack)]), format!("later: {failed}"), "when the rest is safe");
    world.sync();
    assert_eq!((other.take_all("full"), other.take_all("a")), ("1".into(), "3".into()));
    assert_eq!(client.get("c"), "empty", "what was settled is");
    persistent(&mut client, "full", "4");
    assert_eq!(commit(&mut client, &[]), "later: TxDone", "there is room again");
    world.sync();
    assert_eq!(other.take_all("full"), "4");
}
