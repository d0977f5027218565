//! Messages through the broker: publish, confirm, deliver, credit, settle, requeue.

// A test that cannot go on has failed.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use engine::{Engine, MetaSpace, Pressure};
use model::definitions::Definitions;
use model::{PublishSeq, Value};
use protocol::{Request, Settlement};
use sluicegate_broker::{Broker, Settings};
use support::{CH, Draft, World};

#[test]
fn a_message_goes_from_publisher_to_consumer() {
    let world = World::new();
    let mut client = world.client();
    assert_eq!(client.declare("q"), "q 0 0");
    client.publish_safely("", "q", "a");
    assert_eq!(client.events(), "ack 1-1");
    assert_eq!(client.declare("q"), "q 1 0");
    assert_eq!(client.consume("q", 1), "Consuming");
    assert_eq!(client.events(), "1:a");
    client.ack(1);
    assert_eq!(client.declare("q"), "q 0 1");
    drop(client);
    assert_eq!(world.client().get("q"), "empty");
}

#[test]
fn nothing_is_confirmed_or_delivered_before_it_is_durable() {
    let world = World::slow();
    let mut client = world.client();
    assert_eq!(client.declare("q"), "later: q 0 0");
    world.sync();
    client.consume("q", 1);
    for body in ["a", "b", "c"] {
        client.publish_safely("", "q", body);
    }
    assert_eq!(client.events(), "");
    let rings = client.bell.0.load(std::sync::atomic::Ordering::SeqCst);
    world.sync();
    assert_eq!(
        client.bell.0.load(std::sync::atomic::Ordering::SeqCst),
        rings + 1,
        "one wake for confirm and deliveries together"
    );
    assert_eq!(client.events(), "ack 1-3,1:a,1:b,1:c");
}

#[test]
fn a_get_waits_for_the_sync_of_the_head() {
    let world = World::slow();
    let (mut publisher, mut getter) = (world.client(), world.client());
    publisher.declare("q");
    world.sync();
    publisher.publish_safely("", "q", "a");
    publisher.events();
    assert_eq!(getter.get("q"), "wait");
    world.sync();
    assert!(getter.bell.0.load(std::sync::atomic::Ordering::SeqCst) > 0);
    assert_eq!(getter.get("q"), "got a 0");
}

#[test]
fn transient_messages_overtake_no_confirm() {
    let world = World::slow();
    let mut client = world.client();
    client.declare_with("q", false, &[]);
    client.declare("d");
    world.sync();
    client.publish_safely("", "d", "a");
    client.events();
    client.publish_with("", "q", "b", &Draft::default(), |p| p.confirm = Some(PublishSeq(2)));
    assert_eq!(client.events(), "");
    world.sync();
    assert_eq!(client.events(), "ack 1-2");
}

#[test]
fn a_mandatory_message_without_a_queue_comes_back_before_its_confirm() {
    let world = World::new();
    let mut client = world.client();
    client.publish_safely("amq.direct", "nowhere", "a");
    assert_eq!(client.events(), "returned a,ack 1-1");
    let totals = world.broker.totals();
    assert_eq!((totals.unroutable, totals.returned, totals.confirmed), (1, 1, 1));
}

#[test]
fn two_links_take_turns() {
    let world = World::new();
    let (mut a, mut b, mut publisher) = (world.client(), world.client(), world.client());
    publisher.declare("q");
    a.consume("q", 1);
    b.consume("q", 2);
    for body in ["1", "2", "3", "4", "5"] {
        publisher.publish("", "q", body);
    }
    publisher.events();
    publisher.publish("", "q", "6");
    publisher.events();
    assert_eq!(a.events(), "1:1,1:3,1:5");
    assert_eq!(b.events(), "2:2,2:4,2:6");
}

#[test]
fn prefetch_limits_a_consumer_and_acks_give_credit() {
    let world = World::new();
    let mut client = world.client();
    client.declare("q");
    for body in ["1", "2", "3", "4"] {
        client.publish("", "q", body);
    }
    client.qos(2, false);
    client.consume("q", 1);
    assert_eq!(client.events(), "1:1,1:2");
    client.ack(1);
    assert_eq!(client.events(), "1:3");
    client.ack(2);
    assert_eq!(client.events(), "1:4");
    assert_eq!(client.events(), "");
}

#[test]
fn a_global_prefetch_is_shared_by_the_channel() {
    let world = World::new();
    let mut client = world.client();
    client.declare("p");
    client.declare("q");
    for body in ["1", "2"] {
        client.publish("", "p", body);
        client.publish("", "q", body);
    }
    client.qos(2, true);
    client.consume("p", 1);
    client.consume("q", 2);
    assert_eq!(client.events(), "1:1,1:2");
    client.ack(1);
    assert_eq!(client.events(), "2:1");
    client.qos(0, true);
    assert_eq!(client.events(), "2:2");
}

#[test]
fn consumers_that_share_a_limit_all_go_on() {
    let world = World::new();
    let mut client = world.client();
    client.declare("q");
    client.qos(2, true);
    client.consume("q", 1);
    client.consume("q", 2);
    for _ in 0..10 {
        client.publish("", "q", "m");
    }
    let mut seen = 0;
    for _ in 0..10 {
        seen += client.events().matches(":m").count();
        client.ack(client.receipts.len());
    }
    assert_eq!(seen, 10);
}

#[test]
fn no_ack_deliveries_settle_when_taken() {
    let world = World::new();
    let mut client = world.client();
    client.declare("q");
    client.publish("", "q", "a");
    client.publish("", "q", "b");
    client.qos(1, false);
    client.consume_as("q", 1, |c| c.no_ack = true);
    assert_eq!(client.events(), "1:a,1:b");
    drop(client);
    assert_eq!(world.client().get("q"), "empty");
}

#[test]
fn what_a_consumer_has_not_seen_goes_back_in_order() {
    let world = World::new();
    let mut client = world.client();
    client.declare("q");
    for body in ["a", "b", "c"] {
        client.publish("", "q", body);
    }
    client.consume_as("q", 1, |c| c.no_ack = true);
    assert_eq!(client.cancel(1), "Cancelled");
    assert_eq!(client.events(), "");
    assert_eq!(client.take_all("q"), "a b c");
}

#[test]
fn requeue_recover_and_close_put_entries_back_in_their_place() {
    let world = World::new();
    let mut client = world.client();
    client.declare("q");
    for body in ["a", "b", "c"] {
        client.publish("", "q", body);
    }
    client.qos(2, false);
    client.consume("q", 1);
    assert_eq!(client.events(), "1:a,1:b");
    client.settle(2, Settlement::Requeue);
    assert_eq!(client.events(), "1:a again,1:b again");
    client.receipts.clear();
    assert_eq!(client.ask(Request::Recover(CH)), "Recovered");
    assert_eq!(client.events(), "1:a again,1:b again");
    client.ack(1);
    assert_eq!(client.events(), "1:c");
    drop(client);
    let mut next = world.client();
    assert_eq!(next.get("q"), "got b again 1");
    assert_eq!(next.get("q"), "got c again 0");
    assert_eq!(next.ask(Request::CloseChannel(CH)), "ChannelClosed");
    assert_eq!(world.client().declare("q"), "q 2 0");
}

#[test]
fn an_outbox_is_bounded_and_filled_again_when_written() {
    let world = World::new();
    let (mut client, mut publisher) = (world.client(), world.client());
    publisher.declare("q");
    let body = "x".repeat(1_000);
    for _ in 0..5_000 {
        publisher.publish("", "q", &body);
    }
    publisher.events();
    client.consume_as("q", 1, |c| c.no_ack = true);
    let mut seen = 0;
    let mut rounds = 0;
    loop {
        let mut round = 0;
        while client.link.poll_event(client.now).is_some() {
            round += 1;
        }
        client.link.written(0, client.now);
        if round == 0 {
            break;
        }
        assert!(round <= 2_048, "{round}");
        seen += round;
        rounds += 1;
    }
    assert_eq!(seen, 5_000);
    assert!(rounds > 5, "{rounds}");
}

#[test]
fn priorities_go_first() {
    let world = World::new();
    let mut client = world.client();
    client.declare_with("q", true, &[("x-max-priority", Value::I32(5))]);
    for (body, priority) in [("low", 1), ("high", 9), ("none", 0), ("five", 5)] {
        let draft = Draft { priority, ..Draft::default() };
        client.publish_with("", "q", body, &draft, |_| {});
    }
    assert_eq!(client.take_all("q"), "high five low none");
}

#[test]
fn pressure_stalls_publishers_and_loses_nothing() {
    let world = World::new();
    let mut client = world.client();
    client.declare("q");
    world.engine.set_pressure(Pressure::Memory);
    world.broker.on_pressure(Pressure::Memory, world.now);
    client.publish_safely("", "q", "a");
    assert_eq!(client.events(), "blocked low on memory");
    assert!(!client.link.wants_input());
    assert_eq!(client.declare("q"), "wait");
    world.engine.set_pressure(Pressure::None);
    world.broker.on_pressure(Pressure::None, world.now);
    assert_eq!(client.events(), "ack 1-1,unblocked");
    assert!(client.link.wants_input());
    assert_eq!(client.get("q"), "got a 0");
}

#[test]
fn a_batch_is_one_append_and_acks_are_one_settle() {
    let world = World::new();
    let mut client = world.client();
    client.declare("q");
    let before = world.engine.calls();
    for _ in 0..100 {
        client.publish_safely("", "q", "m");
    }
    assert_eq!(client.events(), "ack 1-100");
    assert_eq!(world.engine.calls().0, before.0 + 1);
    client.consume("q", 1);
    client.events();
    let before = world.engine.calls();
    client.ack(50);
    client.ack(0);
    assert_eq!(world.engine.calls().1, before.1 + 1);
}

#[test]
fn keys_of_others_are_left_alone_and_keys_of_nobody_refused() {
    let world = World::new();
    world.client().declare("q");
    let others = MetaSpace::Bridge.key(b"bq");
    world.engine.put_meta(&others, b"mine").unwrap();
    let world = world.restart();
    assert_eq!(world.client().declare_as("q", |d| d.passive = true), "q 0 0");
    assert_eq!(world.engine.get_meta(&others).as_deref(), Some(&b"mine"[..]));
    world.engine.put_meta(b"?", b"").unwrap();
    let formats = protocol::Formats::new(Vec::new());
    let opened = Broker::open(world.engine.clone(), formats, &Definitions::default(), Settings::default(), world.now);
    assert_eq!(
        opened.unwrap_err().to_string(),
        "cannot read the stored record '?': it is damaged or of a newer version"
    );
}

#[test]
fn everything_durable_is_there_after_a_restart() {
    let world = World::new();
    let mut client = world.client();
    client.exchange("e", "topic");
    client.exchange_as("temporary", "fanout", |e| e.durable = false);
    client.declare_with("q", true, &[("x-max-priority", Value::I32(5))]);
    client.declare_with("gone", false, &[]);
    client.bind("e", "q", "a.*");
    client.bind("temporary", "q", "");
    client.publish_safely("e", "a.b", "kept");
    client.publish("e", "a.b", "transient");
    client.events();
    drop(client);
    let world = world.restart();
    let mut client = world.client();
    assert_eq!(client.take_all("q"), "kept");
    client.publish("e", "a.c", "new");
    assert_eq!(client.take_all("q"), "new");
    assert_eq!(client.declare_as("gone", |d| d.passive = true), "NotFound: no queue 'gone' in vhost '/'");
    assert_eq!(
        client.exchange_as("temporary", "fanout", |e| e.passive = true),
        "NotFound: no exchange 'temporary' in vhost '/'"
    );
    client.unbind("e", "q", "a.*");
    client.delete("q", false, false);
    let world = world.restart();
    assert!(world.broker.queues().is_empty());
}

#[test]
fn a_confirm_of_a_closed_channel_is_not_told_to_the_next_of_its_number() {
    let world = World::slow();
    let mut client = world.client();
    client.declare("q");
    world.sync();
    client.publish_safely("", "q", "old");
    assert_eq!(client.ask(Request::CloseChannel(CH)), "ChannelClosed");
    assert_eq!(client.ask(Request::OpenChannel(CH)), "channel opened");
    world.sync();
    // The number begins again with the channel, and nothing with that number is safe yet.
    let draft = Draft { persistent: true, ..Draft::default() };
    client.publish_with("", "q", "new", &draft, |p| p.confirm = Some(PublishSeq(1)));
    assert_eq!(client.events(), "");
    assert!(client.link.owes_confirms());
    world.sync();
    assert_eq!(client.events(), "ack 1-1");
    assert!(!client.link.owes_confirms());
}

#[test]
fn a_return_of_a_closed_channel_is_not_told_to_the_next_of_its_number() {
    let world = World::new();
    let mut client = world.client();
    client.publish_safely("amq.direct", "nowhere", "old");
    assert_eq!(client.ask(Request::CloseChannel(CH)), "ChannelClosed");
    assert_eq!(client.ask(Request::OpenChannel(CH)), "channel opened");
    assert_eq!(client.events(), "");
}
