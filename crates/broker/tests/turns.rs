//! Whose turn it is: consumer priorities and the single active consumer.

mod support;

use model::Value;
use support::{Client, World, table};

fn consume_with_priority(client: &mut Client, queue: &str, consumer: u32, priority: i64) {
    let asked = client.consume_as(queue, consumer, |c| c.arguments = table(&[("x-priority", Value::I64(priority))]));
    assert_eq!(asked, "Consuming");
}

fn publish_all(client: &mut Client, queue: &str, bodies: &[&str]) {
    for body in bodies {
        client.publish("", queue, body);
    }
    client.events();
}

#[test]
fn the_higher_priority_is_served_while_it_has_credit() {
    let world = World::new();
    let (mut low, mut high, mut publisher) = (world.client(), world.client(), world.client());
    publisher.declare("q");
    low.consume("q", 1);
    high.qos(2, false);
    consume_with_priority(&mut high, "q", 2, 7);
    publish_all(&mut publisher, "q", &["1", "2", "3", "4"]);
    assert_eq!(high.events(), "2:1,2:2");
    assert_eq!(low.events(), "1:3,1:4");
    // What it settles it is given again, before the others.
    high.ack(1);
    publish_all(&mut publisher, "q", &["5", "6"]);
    assert_eq!(high.events(), "2:5");
    assert_eq!(low.events(), "1:6");
}

#[test]
fn consumers_of_one_priority_take_turns_and_lower_ones_wait() {
    let world = World::new();
    let (mut a, mut b, mut last, mut publisher) = (world.client(), world.client(), world.client(), world.client());
    publisher.declare("q");
    consume_with_priority(&mut last, "q", 3, -1);
    a.consume("q", 1);
    b.consume("q", 2);
    publish_all(&mut publisher, "q", &["1", "2", "3", "4"]);
    assert_eq!(a.events(), "1:1,1:3");
    assert_eq!(b.events(), "2:2,2:4");
    assert_eq!(last.events(), "");
    drop(a);
    assert_eq!((b.events().as_str(), last.events().as_str()), ("2:1 again,2:3 again", ""));
    drop(b);
    assert_eq!(last.events(), "3:1 again,3:2 again,3:3 again,3:4 again");
}

#[test]
fn a_priority_is_an_integer() {
    let world = World::new();
    let mut client = world.client();
    client.declare("q");
    for (value, kind) in [(Value::text("5"), "longstr"), (Value::Bool(true), "bool"), (Value::Void, "void")] {
        let asked = client.consume_as("q", 1, |c| c.arguments = table(&[("x-priority", value)]));
        assert_eq!(
            asked,
            format!(
                "PreconditionFailed: invalid arg 'x-priority' for queue 'q' in vhost '/': \"expected integer, got {kind}\""
            )
        );
    }
}

fn single_active(client: &mut Client, queue: &str) -> String {
    client.declare_with(queue, true, &[("x-single-active-consumer", Value::Bool(true))])
}

#[test]
fn one_consumer_gets_everything_until_it_goes() {
    let world = World::new();
    let (mut a, mut b, mut c, mut publisher) = (world.client(), world.client(), world.client(), world.client());
    assert_eq!(single_active(&mut publisher, "q"), "q 0 0");
    a.qos(2, false);
    a.consume("q", 1);
    b.consume("q", 2);
    c.consume("q", 3);
    assert_eq!(publisher.declare_as("q", |d| d.passive = true), "q 0 3");
    publish_all(&mut publisher, "q", &["1", "2", "3"]);
    assert_eq!(a.events(), "1:1,1:2", "its credit is up");
    assert_eq!((b.events().as_str(), c.events().as_str()), ("", ""), "the others still wait");
    // Cancelled, it keeps what it has not settled; the next in line gets the rest.
    a.cancel(1);
    assert_eq!(b.events(), "2:3");
    // A channel that ends gives back what it had.
    drop(a);
    assert_eq!(b.events(), "2:1 again,2:2 again");
    drop(b);
    assert_eq!(c.events(), "3:1 again,3:2 again,3:3 again");
}

#[test]
fn the_highest_priority_takes_over_but_does_not_oust() {
    let world = World::new();
    let (mut a, mut b, mut c, mut publisher) = (world.client(), world.client(), world.client(), world.client());
    single_active(&mut publisher, "q");
    a.consume("q", 1);
    b.consume("q", 2);
    consume_with_priority(&mut c, "q", 3, 5);
    publish_all(&mut publisher, "q", &["1"]);
    assert_eq!(a.events(), "1:1");
    drop(a);
    assert_eq!((b.events().as_str(), c.events().as_str()), ("", "3:1 again"));
}

#[test]
fn gets_are_served_beside_the_single_active_consumer() {
    let world = World::new();
    let (mut active, mut getter) = (world.client(), world.client());
    single_active(&mut active, "q");
    active.qos(1, false);
    active.consume("q", 1);
    publish_all(&mut getter, "q", &["1", "2"]);
    assert_eq!(active.events(), "1:1");
    assert_eq!(getter.get("q"), "got 2 0");
}

#[test]
fn a_single_active_queue_has_no_exclusive_consumer() {
    let world = World::new();
    let mut client = world.client();
    single_active(&mut client, "q");
    assert_eq!(
        client.consume_as("q", 1, |c| c.exclusive = true),
        "AccessRefused: queue 'q' in vhost '/' in exclusive use"
    );
    assert_eq!(
        client.declare("q"),
        "PreconditionFailed: inequivalent arg 'x-single-active-consumer' for queue 'q' in vhost '/': received none but \
         current is the value 'true' of type 'bool'"
    );
    assert_eq!(
        client.declare_with("p", true, &[("x-single-active-consumer", Value::I32(1))]),
        "PreconditionFailed: invalid arg 'x-single-active-consumer' for queue 'p' in vhost '/': \
         {unacceptable_type,signedint}"
    );
}

#[test]
fn a_queue_is_single_active_after_a_restart() {
    let world = World::new();
    single_active(&mut world.client(), "q");
    let world = world.restart();
    let (mut a, mut b, mut publisher) = (world.client(), world.client(), world.client());
    a.consume("q", 1);
    b.consume("q", 2);
    publish_all(&mut publisher, "q", &["1", "2"]);
    assert_eq!((a.events().as_str(), b.events().as_str()), ("1:1,1:2", ""));
}
