//! Bodies that are too large for memory: on their way in, through every way a message can go, and out again.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use bytes::Bytes;
use engine::Pressure;
use model::{Message, PublishSeq, Value};
use protocol::{BodyRead, Event, Publish, Request, Settlement, Tx};
use sluicegate_broker::Reply;
use support::{CH, Client, Draft, World, message, properties};

/// Begins a body of six bytes and hands in all of it.
fn send_body(client: &mut Client) {
    assert_eq!(client.ask(Request::BeginBody { channel: CH, len: 6 }), "");
    for part in ["abc", "def"] {
        assert_eq!(client.ask(Request::AppendBody { channel: CH, part: Bytes::from_static(part.as_bytes()) }), "");
    }
}

fn publish(client: &mut Client, exchange: &str, key: &str) -> Box<Publish> {
    client.published += 1;
    let draft = Draft { persistent: true, ..Draft::default() };
    Box::new(Publish {
        channel: CH,
        message: message(exchange, key, "", &draft, client.now),
        extra_keys: Vec::new(),
        mandatory: true,
        confirm: Some(PublishSeq(client.published)),
        user_id: None,
    })
}

fn publish_large(client: &mut Client, exchange: &str, key: &str) {
    send_body(client);
    let publish = publish(client, exchange, key);
    assert_eq!(client.ask(Request::PublishLarge(publish)), "");
}

/// The body of a message, as a connection reads it.
fn read(world: &World, client: &mut Client, message: &Message) -> String {
    let body = message.large_body().expect("a large body");
    let mut all = Vec::new();
    while (all.len() as u64) < body.len() {
        client.link.read_body(&BodyRead { body: body.clone(), at: all.len() as u64 });
        world.engine.work_on_bodies();
        match client.link.poll_event(client.now) {
            Some(Event::BodyPiece(Some(piece))) => all.extend_from_slice(&piece),
            other => panic!("{other:?} is no piece"),
        }
    }
    String::from_utf8(all).unwrap()
}

/// Gets a message and forgets it but for its body.
fn take(world: &World, client: &mut Client, queue: &str) -> String {
    assert!(client.get(queue).starts_with("got "), "{queue}");
    let message = client.bodies.pop().unwrap();
    let body = read(world, client, &message);
    client.settle(1, Settlement::Ack);
    body
}

/// The request comes back, to be handed in again.
fn wait(client: &mut Client, request: Request, why: &str) -> Request {
    match client.link.handle(request, client.now) {
        Reply::Wait(request) => request,
        other => panic!("{why}, and yet: {other:?}"),
    }
}

#[test]
fn a_message_waits_for_its_body_and_what_came_before_does_not() {
    let world = World::new();
    let mut client = world.client();
    client.declare("q");
    world.engine.slow_bodies();
    client.publish_safely("", "q", "before");
    assert_eq!(client.ask(Request::BeginBody { channel: CH, len: 6 }), "");
    let part = |text: &'static str| Request::AppendBody { channel: CH, part: Bytes::from_static(text.as_bytes()) };
    assert_eq!(client.ask(part("abc")), "");
    assert_eq!(client.ask(part("def")), "wait", "one part is on its way");
    assert_eq!(client.events(), "ack 1-1");
    assert_eq!(world.engine.work_on_bodies(), 1);
    assert_eq!(client.ask(part("def")), "");
    let large = publish(&mut client, "", "q");
    let large = wait(&mut client, Request::PublishLarge(large), "its last part is not written");
    assert_eq!(world.engine.work_on_bodies(), 1);
    let large = wait(&mut client, large, "it is not durable");
    assert_eq!(client.events(), "", "nor is it published");
    assert_eq!(world.engine.work_on_bodies(), 1);
    assert_eq!(client.ask(large), "");
    assert_eq!(client.events(), "ack 2-2");
    client.publish_safely("", "q", "after");
    client.events();
    assert_eq!(client.get("q"), "got before 2");
    assert_eq!(take(&world, &mut client, "q"), "abcdef");
    assert_eq!(client.get("q"), "got after 0");
}

#[test]
fn one_body_goes_to_several_queues_and_ends_with_the_last() {
    let world = World::new();
    let mut client = world.client();
    client.declare("a");
    client.declare("b");
    client.bind("amq.fanout", "a", "");
    client.bind("amq.fanout", "b", "");
    publish_large(&mut client, "amq.fanout", "");
    assert_eq!(client.events(), "ack 1-1");
    assert_eq!(world.engine.bodies(), 1);
    assert_eq!(take(&world, &mut client, "a"), "abcdef");
    assert_eq!(world.engine.bodies(), 1);
    client.get("b");
    client.settle(1, Settlement::Requeue);
    client.bodies.clear();
    assert_eq!(take(&world, &mut client, "b"), "abcdef");
    assert_eq!(world.engine.bodies(), 0);
}

#[test]
fn a_body_that_reaches_no_queue_comes_back_and_ends() {
    let world = World::new();
    let mut client = world.client();
    publish_large(&mut client, "", "nowhere");
    client.link.flush(client.now);
    let Some(Event::Returned(returned)) = client.link.poll_event(client.now) else {
        panic!("it is mandatory");
    };
    assert_eq!(client.events(), "ack 1-1");
    assert_eq!(read(&world, &mut client, &returned.message), "abcdef");
    drop(returned);
    assert_eq!(world.engine.bodies(), 0);
}

#[test]
fn a_channel_that_ends_takes_its_body_back() {
    let world = World::new();
    let mut client = world.client();
    client.declare("q");
    send_body(&mut client);
    assert_eq!(client.ask(Request::CloseChannel(CH)), "ChannelClosed");
    assert_eq!(client.ask(Request::OpenChannel(CH)), "channel opened");
    // Nothing of it is left for whoever has the channel's number next.
    let publish = publish(&mut client, "", "q");
    assert_eq!(client.ask(Request::PublishLarge(publish)), "");
    assert_eq!(client.events(), "");
    assert_eq!(client.get("q"), "empty");
    assert_eq!(world.engine.bodies(), 0);
}

#[test]
fn a_body_dies_with_its_header_rewritten() {
    let world = World::new();
    let mut client = world.client();
    let letters = [("x-dead-letter-exchange", Value::text("")), ("x-dead-letter-routing-key", Value::text("dead"))];
    client.declare("dead");
    client.declare_with("q", true, &letters);
    publish_large(&mut client, "", "q");
    client.events();
    client.get("q");
    client.bodies.clear();
    client.settle(1, Settlement::Reject);
    client.get("dead");
    let message = client.bodies.pop().unwrap();
    assert!(properties(&message).headers.unwrap().get("x-death").is_some());
    assert_eq!((message.body_len(), message.routing_key()), (6, &b"dead"[..]));
    assert_eq!(read(&world, &mut client, &message), "abcdef");
    client.settle(1, Settlement::Ack);
    drop(message);
    assert_eq!(world.engine.bodies(), 0);
}

#[test]
fn a_transaction_holds_a_body_or_drops_it() {
    let world = World::new();
    let mut client = world.client();
    client.declare("q");
    assert_eq!(client.ask(Request::Tx(CH, Tx::Select)), "TxDone");
    publish_large(&mut client, "", "q");
    assert_eq!(client.get("q"), "empty");
    assert_eq!(client.ask(Request::Tx(CH, Tx::Rollback)), "TxDone");
    assert_eq!(world.engine.bodies(), 0);
    publish_large(&mut client, "", "q");
    assert_eq!(client.ask(Request::Tx(CH, Tx::Commit(Vec::new()))), "TxDone");
    assert_eq!(take(&world, &mut client, "q"), "abcdef");
}

#[test]
fn a_body_is_not_begun_under_pressure_and_its_publisher_is_told() {
    let world = World::new();
    let mut client = world.client();
    client.declare("q");
    world.engine.set_pressure(Pressure::Disk);
    world.broker.on_pressure(Pressure::Disk, world.now);
    let begin = || Request::BeginBody { channel: CH, len: 6 };
    assert_eq!(client.ask(begin()), "wait");
    assert_eq!(client.events(), "blocked low on disk");
    assert!(!client.link.wants_input());
    world.engine.set_pressure(Pressure::None);
    world.broker.on_pressure(Pressure::None, world.now);
    assert!(client.link.wants_input());
    publish_large(&mut client, "", "q");
    assert_eq!(client.events(), "ack 1-1,unblocked");
}

#[test]
fn a_damaged_piece_is_told_and_deliveries_wait_while_one_is_read() {
    let world = World::new();
    let mut client = world.client();
    client.declare("q");
    publish_large(&mut client, "", "q");
    client.publish_safely("", "q", "behind");
    client.events();
    client.consume("q", 1);
    let Some(Event::Deliver { message, .. }) = client.link.poll_event(client.now) else {
        panic!("nothing is delivered");
    };
    world.engine.damage_bodies();
    let body = message.large_body().unwrap().clone();
    client.link.read_body(&BodyRead { body, at: 0 });
    assert!(matches!(client.link.poll_notice(client.now), Some(Event::BodyPiece(None))));
    assert!(client.link.poll_notice(client.now).is_none());
    assert_eq!(client.events(), "1:behind");
}
