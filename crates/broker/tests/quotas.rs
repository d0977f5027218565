//! Rate quotas: publishes wait, consumers are passed over, and nothing is lost by either.

// A test that cannot set up its world has failed.
#![allow(clippy::unwrap_used)]

mod support;

use model::quotas::{QuotaDef, QuotaScope};
use model::{Principal, Value};
use protocol::{Request, Tx};
use std::sync::atomic::Ordering::SeqCst;
use support::{CH, Client, Draft, World, message};

fn quota(scope: QuotaScope, matches: &str, publish: Option<u32>, consume: Option<u32>, burst: u32) -> QuotaDef {
    QuotaDef { scope, matches: matches.into(), publish, consume, burst: Some(burst) }
}

fn publishing(scope: QuotaScope, matches: &str, rate: u32, burst: u32) -> QuotaDef {
    quota(scope, matches, Some(rate), None, burst)
}

fn consuming(scope: QuotaScope, matches: &str, rate: u32, burst: u32) -> QuotaDef {
    quota(scope, matches, None, Some(rate), burst)
}

fn world(quotas: &[QuotaDef]) -> World {
    let world = World::new();
    world.broker.set_quotas(quotas, world.now).unwrap();
    world
}

/// Publishes until one has to wait; returns how many were taken.
fn publish_to(client: &mut Client, exchange: &str, queue: &str, n: usize) -> usize {
    for done in 0..n {
        if client.publish_safely(exchange, queue, "m") == "wait" {
            client.published -= 1;
            client.link.flush(client.now);
            return done;
        }
    }
    n
}

fn publish(client: &mut Client, queue: &str, n: usize) -> usize {
    publish_to(client, "", queue, n)
}

/// What a driver does when it is woken.
fn wake(client: &mut Client, world: &World) -> String {
    client.now = world.now;
    client.events()
}

fn rings(client: &Client) -> u64 {
    client.bell.0.load(SeqCst)
}

#[test]
fn a_publish_over_the_rate_waits_until_it_is_paid() {
    let mut world = world(&[publishing(QuotaScope::Connection, "", 10, 2)]);
    let mut client = world.client();
    client.declare("q");
    assert_eq!(publish(&mut client, "q", 9), 2);
    assert_eq!(client.events(), "ack 1-2", "what was taken before is not kept back");
    assert_eq!(publish(&mut client, "q", 1), 0, "trying again changes nothing");
    let before = rings(&client);
    world.advance(99);
    assert_eq!(rings(&client), before);
    world.advance(1);
    assert!(rings(&client) > before, "it is woken when it may go on");
    wake(&mut client, &world);
    assert_eq!(publish(&mut client, "q", 9), 1);
    world.advance(60_000);
    wake(&mut client, &world);
    assert_eq!(publish(&mut client, "q", 9), 2, "a pause is worth the burst and no more");
    assert_eq!(client.events(), "ack 4-5");
    assert_eq!(client.declare("q"), "q 5 0");
    assert_eq!(world.broker.totals().published, 5);
    assert!(world.broker.quotas()[0].publishes_held >= 4);
}

#[test]
fn a_user_shares_a_quota_and_going_away_fills_nothing() {
    let world = world(&[publishing(QuotaScope::User, "^guest$", 10, 4), publishing(QuotaScope::User, "^a", 1, 1)]);
    let (mut a, mut b) = (world.client(), world.client());
    a.declare("q");
    assert_eq!((publish(&mut a, "q", 3), publish(&mut b, "q", 3)), (3, 1));
    drop((a, b));
    assert_eq!(publish(&mut world.client(), "q", 1), 0);
}

#[test]
fn each_connection_has_its_own_quota() {
    let world = world(&[publishing(QuotaScope::Connection, "", 10, 2)]);
    let (mut a, mut b) = (world.client(), world.client());
    a.declare("q");
    assert_eq!((publish(&mut a, "q", 3), publish(&mut b, "q", 3)), (2, 2));
}

#[test]
fn a_publish_is_paid_for_everywhere_or_nowhere() {
    let mut world = world(&[
        publishing(QuotaScope::Queue, "^slow", 10, 1),
        publishing(QuotaScope::Queue, "^wide$", 10, 5),
        publishing(QuotaScope::Vhost, "^/$", 1, 6),
    ]);
    let mut client = world.client();
    for queue in ["slow", "slower", "wide", "fast"] {
        client.declare(queue);
    }
    client.exchange("x", "fanout");
    for queue in ["wide", "slow"] {
        client.bind("x", queue, "");
    }
    assert_eq!(publish(&mut client, "slow", 9), 1);
    assert_eq!(publish(&mut client, "slower", 9), 1, "each queue by itself");
    for _ in 0..9 {
        assert_eq!(publish_to(&mut client, "x", "", 1), 0, "one of its queues has nothing left");
    }
    assert_eq!(publish(&mut client, "wide", 3), 3);
    assert_eq!(publish(&mut client, "fast", 9), 1, "the vhost has paid for five so far, and for no try");
    world.advance(1_000);
    wake(&mut client, &world);
    assert_eq!(publish_to(&mut client, "x", "", 9), 1);
}

#[test]
fn publishes_of_a_transaction_count_when_they_are_made() {
    let mut world = world(&[publishing(QuotaScope::User, "", 10, 2)]);
    let mut client = world.client();
    client.declare("q");
    client.ask(Request::Tx(CH, Tx::Select));
    let made = |client: &mut Client| client.publish("", "q", "m");
    assert_eq!([made(&mut client), made(&mut client), made(&mut client)], ["", "", "wait"]);
    world.advance(100);
    wake(&mut client, &world);
    assert_eq!(made(&mut client), "");
    assert_eq!(client.ask(Request::Tx(CH, Tx::Commit(Vec::new()))), "TxDone");
    assert_eq!(client.declare("q"), "q 3 0");
}

#[test]
fn who_publishes_without_a_connection_is_refused() {
    let mut world = world(&[publishing(QuotaScope::User, "", 1, 2), publishing(QuotaScope::Connection, "", 1, 1)]);
    world.client().declare("q");
    let principal = Principal { user: "guest".into(), vhost: "/".into() };
    let publish = |world: &World| {
        let message = message("", "q", "m", &Draft::default(), world.now);
        world.broker.publish(&principal, message, world.now).map_err(|refusal| refusal.to_string())
    };
    assert!(publish(&world).is_ok() && publish(&world).is_ok());
    let refused = publish(&world).unwrap_err();
    assert!(refused.contains("user 'guest' publishes more messages a second than its quotas allow"), "{refused}");
    world.advance(1_000);
    assert!(publish(&world).is_ok());
}

#[test]
fn a_consumer_over_its_rate_is_passed_over_until_it_is_not() {
    let mut world = world(&[consuming(QuotaScope::Connection, "", 10, 2)]);
    let (mut limited, mut publisher) = (world.client(), world.client());
    publisher.declare("q");
    assert_eq!(publish(&mut publisher, "q", 5), 5);
    publisher.events();
    limited.consume("q", 1);
    assert_eq!(limited.events(), "1:m,1:m");
    assert_eq!(publisher.declare("q"), "q 3 1");
    let before = rings(&limited);
    world.advance(100);
    assert!(rings(&limited) > before);
    assert_eq!((wake(&mut limited, &world).as_str(), wake(&mut limited, &world).as_str()), ("1:m", ""));
    world.advance(1_000);
    assert_eq!(wake(&mut limited, &world), "1:m,1:m");
    assert!(world.broker.quotas()[0].deliveries_held >= 2);
    // Waiting for nothing wears nothing out.
    world.advance(1_000);
    assert_eq!(wake(&mut limited, &world), "");
    assert_eq!(publish(&mut publisher, "q", 5), 5);
    publisher.events();
    assert_eq!(wake(&mut limited, &world), "1:m,1:m");
}

#[test]
fn consumers_of_a_queue_share_its_quota_and_others_get_the_rest() {
    let world = world(&[consuming(QuotaScope::Queue, "^q$", 1, 3), consuming(QuotaScope::User, "^nobody$", 1, 1)]);
    let (mut a, mut b) = (world.client(), world.client());
    for queue in ["q", "r"] {
        a.declare(queue);
    }
    a.consume("q", 1);
    b.consume("q", 2);
    b.consume("r", 3);
    assert_eq!((publish(&mut a, "q", 9), publish(&mut a, "r", 9)), (9, 9));
    let got = format!("{} {}", a.events(), b.events());
    assert_eq!((got.matches("3:m").count(), got.matches(":m").count()), (9, 12), "{got}");
}

#[test]
fn one_consumer_over_its_rate_leaves_the_messages_to_another() {
    let world = world(&[]);
    let (mut a, mut b) = (world.client(), world.client());
    a.declare("q");
    let low = [("x-priority", Value::I32(-1))];
    b.consume_as("q", 2, |c| c.arguments = support::table(&low));
    a.consume("q", 1);
    world.broker.set_quotas(&[consuming(QuotaScope::Connection, "", 1, 4)], world.now).unwrap();
    publish(&mut a, "q", 6);
    assert_eq!(a.events().matches("1:m").count(), 4);
    assert_eq!(b.events(), "2:m,2:m");
}

#[test]
fn one_that_gets_credit_back_while_its_rate_is_used_up_is_not_forgotten() {
    let mut world = world(&[consuming(QuotaScope::User, "", 10, 2)]);
    let (mut slow, mut other) = (world.client(), world.client());
    for queue in ["q", "r"] {
        slow.declare(queue);
    }
    slow.qos(1, false);
    slow.consume("q", 1);
    other.consume("r", 2);
    publish(&mut other, "q", 2);
    other.events();
    assert_eq!(slow.events(), "1:m", "the second waits for its acknowledgement");
    publish(&mut other, "r", 1);
    assert!(other.events().ends_with("2:m"));
    slow.ack(1);
    assert_eq!(slow.events(), "", "there is nothing left of the rate");
    let before = rings(&slow);
    world.advance(100);
    assert!(rings(&slow) > before);
    assert_eq!(wake(&mut slow, &world), "1:m");
}

#[test]
fn a_get_waits_for_its_rate() {
    let mut world = world(&[consuming(QuotaScope::User, "", 10, 1)]);
    let mut client = world.client();
    client.declare("q");
    assert_eq!((client.get("q"), client.get("q")), ("empty".into(), "empty".into()), "nothing costs nothing");
    publish(&mut client, "q", 2);
    assert_eq!((client.get("q"), client.get("q")), ("got m 1".into(), "wait".into()));
    let before = rings(&client);
    world.advance(100);
    assert!(rings(&client) > before);
    client.now = world.now;
    assert_eq!(client.get("q"), "got m 0");
}

#[test]
fn a_change_holds_for_those_who_are_connected() {
    let both = [quota(QuotaScope::User, "", Some(1), Some(1), 1)];
    let mut world = world(&both);
    let mut client = world.client();
    client.declare("q");
    client.consume("q", 1);
    assert_eq!((publish(&mut client, "q", 3), client.events().as_str()), (1, "ack 1-1,1:m"));
    assert_eq!(publish(&mut client, "q", 3), 0);
    world.broker.set_quotas(&both, world.now).unwrap();
    assert_eq!(publish(&mut client, "q", 3), 0, "the same is no change, and fills nothing");
    let before = rings(&client);
    world.broker.set_quotas(&[], world.now).unwrap();
    assert!(rings(&client) > before, "who waits looks again");
    assert_eq!((publish(&mut client, "q", 3), client.events().matches(":m").count()), (3, 3));
    world.broker.set_quotas(&both, world.now).unwrap();
    assert_eq!((publish(&mut client, "q", 3), client.events().matches(":m").count()), (1, 1));
    assert!(world.broker.set_quotas(&[publishing(QuotaScope::User, "(", 1, 1)], world.now).is_err());
    assert_eq!(world.broker.quotas()[0].def, both[0], "a bad one leaves them in force");
    world.advance(10_000);
    wake(&mut client, &world);
    assert_eq!((publish(&mut client, "q", 3), client.events().matches(":m").count()), (1, 1));
}

#[test]
fn a_queue_declared_later_and_one_after_a_restart_have_quotas() {
    let quotas = [quota(QuotaScope::Queue, "^q", Some(1), Some(1), 1)];
    let world = world(&quotas);
    let mut client = world.client();
    client.declare("q");
    assert_eq!(publish(&mut client, "q", 3), 1);
    client.events();
    drop(client);
    let world = world.restart();
    world.broker.set_quotas(&quotas, world.now).unwrap();
    let mut client = world.client();
    assert_eq!(publish(&mut client, "q", 3), 1);
    client.events();
    client.consume("q", 1);
    assert_eq!(client.events().matches(":m").count(), 1);
}
