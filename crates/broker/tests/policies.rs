//! Policies: which one is in force, what it says beside the arguments, and changing it while there are messages.

// A test that cannot set up its world has failed.
#![allow(clippy::unwrap_used)]

mod support;

use ::engine::{Engine as _, Limits, Overflow};
use model::Value;
use model::definitions::{ApplyTo, Definitions, PolicyDef};
use protocol::Settlement;
use support::engine::MemoryEngine;
use support::{Client, World, properties, table};

fn policy(name: &str, pattern: &str, definition: &[(&str, Value)]) -> PolicyDef {
    PolicyDef {
        vhost: "/".into(),
        name: name.into(),
        pattern: pattern.into(),
        apply_to: ApplyTo::All,
        priority: 0,
        definition: table(definition),
    }
}

fn with(policies: Vec<PolicyDef>) -> Definitions {
    Definitions { policies, ..Definitions::default() }
}

fn world(policies: Vec<PolicyDef>) -> World {
    World::with(MemoryEngine::instant(), &with(policies))
}

fn reload(world: &World, definitions: &Definitions) {
    world.broker.apply_definitions(definitions, world.now).unwrap();
}

fn in_force(world: &World, queue: &str) -> Option<String> {
    let queues = world.broker.queues();
    let view = queues.iter().find(|view| *view.name == *queue).unwrap();
    view.policy.policy.as_deref().map(str::to_owned)
}

fn ready(client: &mut Client, queue: &str) -> String {
    client.declare_as(queue, |d| d.passive = true)
}

#[test]
fn the_highest_priority_that_matches_is_in_force_alone() {
    let low = policy("low", "^q", &[("message-ttl", Value::I64(1_000)), ("expires", Value::I64(5_000))]);
    let high = PolicyDef { priority: 7, ..policy("high", "^q$", &[("message-ttl", Value::I64(2_000))]) };
    let exchanges = PolicyDef { priority: 9, apply_to: ApplyTo::Exchanges, ..policy("x", ".*", &[]) };
    let elsewhere = PolicyDef { priority: 9, vhost: "other".into(), ..policy("other", ".*", &[]) };
    let mut world = world(vec![low, high, exchanges, elsewhere]);
    let mut client = world.client();
    for queue in ["q", "q2", "r"] {
        client.declare(queue);
        client.publish("", queue, "a");
    }
    client.events();
    assert_eq!(in_force(&world, "q").as_deref(), Some("high"));
    assert_eq!(in_force(&world, "q2").as_deref(), Some("low"));
    assert_eq!(in_force(&world, "r"), None);
    world.advance(1_500);
    assert_eq!((ready(&mut client, "q"), ready(&mut client, "q2")), ("q 1 0".into(), "q2 0 0".into()));
    world.advance(10_000);
    assert_eq!((ready(&mut client, "q"), ready(&mut client, "r")), ("q 0 0".into(), "r 1 0".into()));
    assert!(ready(&mut client, "q2").starts_with("NotFound"), "it expired unused");
}

#[test]
fn an_argument_beats_a_policy_and_the_smallest_limit_counts() {
    let definition = [
        ("message-ttl", Value::I64(1_000)),
        ("dead-letter-exchange", Value::text("")),
        ("dead-letter-routing-key", Value::text("policy")),
    ];
    let mut world = world(vec![policy("p", "^q", &definition)]);
    let mut client = world.client();
    for queue in ["argument", "policy"] {
        client.declare(queue);
    }
    let own = [("x-dead-letter-exchange", Value::text("")), ("x-dead-letter-routing-key", Value::text("argument"))];
    client.declare_with("q1", true, &[own.as_slice(), &[("x-message-ttl", Value::I64(500))]].concat());
    client.declare_with("q2", true, &[own.as_slice(), &[("x-message-ttl", Value::I64(9_000))]].concat());
    client.declare("q3");
    for queue in ["q1", "q2", "q3"] {
        client.publish("", queue, queue);
    }
    client.events();
    world.advance(600);
    assert_eq!(client.take_all("argument"), "q1");
    world.advance(600);
    assert_eq!((client.take_all("argument"), client.take_all("policy")), ("q2".into(), "q3".into()));
}

#[test]
fn an_operator_policy_limits_what_users_say() {
    let user = policy("user", "^q$", &[("message-ttl", Value::I64(5_000))]);
    let operator = policy("operator", "", &[("message-ttl", Value::I64(1_000)), ("expires", Value::I64(60_000))]);
    let definitions = Definitions { operator_policies: vec![operator], ..with(vec![user]) };
    let mut world = World::with(MemoryEngine::instant(), &definitions);
    let mut client = world.client();
    client.declare("q");
    client.publish("", "q", "a");
    client.events();
    let view = world.broker.queues()[0].policy.clone();
    assert_eq!((view.policy.as_deref(), view.operator_policy.as_deref()), (Some("user"), Some("operator")));
    let effective = [("message-ttl", Value::I64(1_000)), ("expires", Value::I64(60_000))];
    assert_eq!(view.definition, table(&effective));
    world.advance(1_000);
    assert_eq!(ready(&mut client, "q"), "q 0 0");
}

#[test]
fn a_reload_changes_queues_that_are_there() {
    let mut world = world(Vec::new());
    let mut client = world.client();
    client.declare("q");
    client.declare("dead");
    client.publish("", "q", "a");
    client.publish("", "q", "b");
    client.consume("q", 1);
    assert_eq!(client.events(), "1:a,1:b");
    // Rejected when there is a dead-letter exchange, whatever there was when they were handed out.
    let dead = policy(
        "dead",
        "^q$",
        &[("dead-letter-exchange", Value::text("")), ("dead-letter-routing-key", Value::text("dead"))],
    );
    reload(&world, &with(vec![dead]));
    assert_eq!(in_force(&world, "q").as_deref(), Some("dead"));
    client.publish("", "q", "c");
    assert_eq!(client.events(), "1:c");
    client.receipts.remove(1);
    client.settle(2, Settlement::Reject);
    assert_eq!((client.get("dead"), client.get("dead")), ("got a 1".into(), "got c 0".into()));
    assert!(properties(client.bodies.last().unwrap()).headers.is_some());
    client.cancel(1);
    client.link.handle(protocol::Request::Recover(support::CH), world.now);
    assert_eq!(client.take_all("q"), "b");
    // A time to live counts for what is there, and its end too.
    client.publish("", "q", "d");
    client.events();
    reload(&world, &with(vec![policy("ttl", "^q$", &[("message-ttl", Value::I64(1_000))])]));
    world.advance(500);
    reload(&world, &with(Vec::new()));
    world.advance(5_000);
    assert_eq!(ready(&mut client, "q"), "q 1 0");
    reload(&world, &with(vec![policy("ttl", "^q$", &[("message-ttl", Value::I64(1_000))])]));
    world.advance(20);
    assert_eq!(ready(&mut client, "q"), "q 0 0");
}

#[test]
fn a_bad_policy_leaves_the_old_ones_in_force() {
    let world = world(vec![policy("good", "", &[("message-ttl", Value::I64(1_000))])]);
    world.client().declare("q");
    let bad = [
        policy("bad", "(", &[]),
        policy("ttl", "", &[("message-ttl", Value::I64(-1))]),
        policy("unknown", "", &[("message-ttx", Value::I64(1))]),
    ];
    let problems = world.broker.apply_definitions(&with(bad.to_vec()), world.now).unwrap_err();
    assert_eq!(
        problems,
        [
            "policy 'bad' in vhost '/': '(' is not a regular expression",
            "policy 'ttl' in vhost '/': -1 is not a valid message TTL",
            "policy 'unknown' in vhost '/': 'message-ttx' is not a recognised policy setting",
        ]
    );
    assert_eq!(in_force(&world, "q").as_deref(), Some("good"));
}

#[test]
fn a_policy_gives_an_alternate_exchange() {
    let world = world(Vec::new());
    let mut client = world.client();
    client.declare("q");
    client.exchange("x", "direct");
    client.exchange("other", "fanout");
    client.bind("other", "q", "");
    client.publish("x", "nowhere", "a");
    client.events();
    let policy = policy("ae", "^x$", &[("alternate-exchange", Value::text("other"))]);
    reload(&world, &with(vec![policy]));
    client.publish("x", "nowhere", "b");
    client.events();
    assert_eq!(client.take_all("q"), "b");
    // Declared later, it is in force as well.
    client.delete_exchange("x", false);
    client.exchange("x", "direct");
    client.publish("x", "nowhere", "c");
    client.events();
    assert_eq!(client.take_all("q"), "c");
}

#[test]
fn how_entries_are_dispatched_changes_live() {
    let world = world(Vec::new());
    let (mut low, mut high, mut publisher) = (world.client(), world.client(), world.client());
    publisher.declare("q");
    low.consume("q", 1);
    high.consume_as("q", 2, |c| c.arguments = table(&[("x-priority", Value::I32(5))]));
    let mut publish = |bodies: [&str; 2]| {
        for body in bodies {
            publisher.publish("", "q", body);
        }
        publisher.events();
    };
    publish(["1", "2"]);
    assert_eq!((low.events().as_str(), high.events().as_str()), ("", "2:1,2:2"));
    reload(&world, &with(vec![policy("turns", "", &[("dispatch", Value::text("round-robin"))])]));
    publish(["3", "4"]);
    let (some, others) = (low.events(), high.events());
    assert_eq!((some.matches(':').count(), others.matches(':').count()), (1, 1), "{some} {others}");
    reload(&world, &with(Vec::new()));
    publish(["5", "6"]);
    assert_eq!((low.events().as_str(), high.events().as_str()), ("", "2:5,2:6"));
}

#[test]
fn how_entries_are_dispatched_can_be_declared() {
    let world = world(vec![policy("p", "", &[("dispatch", Value::text("priority"))])]);
    let (mut low, mut high) = (world.client(), world.client());
    assert_eq!(low.declare_with("q", true, &[("x-dispatch", Value::text("round-robin"))]), "q 0 0");
    low.consume("q", 1);
    high.consume_as("q", 2, |c| c.arguments = table(&[("x-priority", Value::I32(5))]));
    low.publish("", "q", "1");
    low.publish("", "q", "2");
    assert_eq!((low.events().as_str(), high.events().as_str()), ("1:1", "2:2"));
    assert_eq!(
        low.declare_with("r", true, &[("x-dispatch", Value::text("random"))]),
        "PreconditionFailed: invalid arg 'x-dispatch' for queue 'r' in vhost '/': invalid_dispatch"
    );
    let fair = [("x-dispatch", Value::text("fair-by-key")), ("x-max-priority", Value::I32(5))];
    assert_eq!(
        low.declare_with("r", true, &fair),
        "PreconditionFailed: invalid arg 'x-dispatch' for queue 'r' in vhost '/': fair_dispatch_with_priorities"
    );
}

fn limits(definition: &[(&str, Value)]) -> Definitions {
    with(vec![policy("limits", "^q", definition)])
}

#[test]
fn a_shorter_length_drops_from_the_head_at_once() {
    let world = world(Vec::new());
    let mut client = world.client();
    client.declare("q");
    client.declare("dead");
    for body in ["a", "b", "c", "d", "e"] {
        client.publish("", "q", body);
    }
    client.events();
    reload(&world, &limits(&[("max-length", Value::I64(4))]));
    assert_eq!(ready(&mut client, "q"), "q 4 0");
    let dead = [
        ("dead-letter-exchange", Value::text("")),
        ("dead-letter-routing-key", Value::text("dead")),
        ("max-length-bytes", Value::I64(2)),
    ];
    reload(&world, &limits(&dead));
    assert_eq!(client.take_all("dead"), "b c");
    client.publish("", "q", "f");
    client.events();
    assert_eq!((client.take_all("dead"), client.take_all("q")), ("d".into(), "e f".into()));
    reload(&world, &with(Vec::new()));
    for body in ["a", "b", "c"] {
        client.publish("", "q", body);
    }
    client.events();
    assert_eq!(client.take_all("q"), "a b c", "it may be as long as it likes again");
}

#[test]
fn what_is_waited_for_is_not_too_much_when_a_limit_comes() {
    let world = World::slow();
    let mut client = world.client();
    client.declare("q");
    world.sync();
    client.events();
    client.consume("q", 1);
    client.publish_safely("", "q", "a");
    client.publish_safely("", "q", "b");
    assert_eq!(client.events(), "");
    reload(&world, &limits(&[("max-length", Value::I64(0))]));
    world.sync();
    assert_eq!(client.events(), "ack 1-2,1:a,1:b");
    client.cancel(1);
    client.publish("", "q", "c");
    client.events();
    assert_eq!(client.take_all("q"), "", "nobody waits any more");
}

#[test]
fn of_arguments_and_policies_the_smallest_limit_and_the_arguments_overflow_count() {
    let user = policy("user", "^q", &[("max-length", Value::I64(3)), ("overflow", Value::text("reject-publish"))]);
    let operator = policy("operator", "", &[("max-length", Value::I64(2)), ("delivery-limit", Value::I64(9))]);
    let operator = PolicyDef { apply_to: ApplyTo::ClassicQueues, ..operator };
    let definitions = Definitions { operator_policies: vec![operator], ..with(vec![user]) };
    let world = World::with(MemoryEngine::instant(), &definitions);
    let mut client = world.client();
    client.declare_with("q1", true, &[("x-max-length", Value::I32(1))]);
    client.declare_with("q5", true, &[("x-max-length", Value::I32(5)), ("x-overflow", Value::text("drop-head"))]);
    for queue in ["q1", "q5"] {
        for body in ["a", "b", "c"] {
            client.publish_safely("", queue, body);
        }
    }
    assert_eq!(client.events(), "ack 1-1,nack 2-3,ack 4-6");
    assert_eq!((client.take_all("q1"), client.take_all("q5")), ("a".into(), "b c".into()));
}

#[test]
fn a_queue_that_begins_to_refuse_confirms_nothing_it_refused() {
    let world = world(Vec::new());
    let mut client = world.client();
    client.declare("q");
    client.declare("open");
    // Routed, and not yet with the engine, when the policy comes.
    client.publish_safely("", "q", "a");
    client.publish_safely("", "q", "b");
    client.publish_safely("", "open", "c");
    let refusing = [("max-length", Value::I64(1)), ("overflow", Value::text("reject-publish"))];
    reload(&world, &limits(&refusing));
    assert_eq!(client.events(), "nack 1-3", "one was refused, and it is not known which");
    client.publish_safely("", "open", "d");
    client.publish_safely("", "q", "e");
    assert_eq!(client.events(), "ack 4-4,nack 5-5");
    assert_eq!(client.take_all("q"), "a");
    // Longer than it may be, a queue that refuses keeps what it has.
    reload(&world, &with(Vec::new()));
    client.publish_safely("", "q", "f");
    client.publish_safely("", "q", "g");
    client.events();
    reload(&world, &limits(&refusing));
    assert_eq!(client.take_all("q"), "f g");
}

#[test]
fn a_refusal_that_nobody_expected_is_told() {
    // An engine whose limits a queue's behaviour does not know of yet, or any more.
    let world = World::new();
    let mut client = world.client();
    client.declare("q");
    let full = Limits { messages: Some(0), overflow: Overflow::RejectPublish, ..Limits::default() };
    world.engine.set_limits(world.broker.queues()[0].id, full, world.now);
    client.publish_safely("", "q", "a");
    assert_eq!(client.events(), "nack 1-1");
}

#[test]
fn what_an_argument_alone_would_drop_a_policy_keeps_over_a_restart() {
    let refusing = limits(&[("overflow", Value::text("reject-publish"))]);
    let world = World::with(MemoryEngine::instant(), &refusing);
    let mut client = world.client();
    client.declare_with("q", true, &[("x-max-length", Value::I32(1))]);
    client.publish_safely("", "q", "a");
    client.get("q");
    client.publish_safely("", "q", "b");
    client.events();
    client.settle(1, Settlement::Requeue);
    drop(client);
    let world = World::with(world.engine.restart(), &refusing);
    assert_eq!(world.client().take_all("q"), "a b");
}

#[test]
fn deliveries_are_limited_where_a_policy_says_so() {
    let limit = [("delivery-limit", Value::I64(0)), ("max-length", Value::I64(1))];
    let all = PolicyDef { priority: 1, ..policy("all", "^q", &limit) };
    let mut world = world(vec![all.clone()]);
    let mut client = world.client();
    client.declare("q.classic");
    client.declare_with("q.quorum", true, &[("x-queue-type", Value::text("quorum"))]);
    assert_eq!(in_force(&world, "q.classic"), None, "it is of quorum queues, and all that it says");
    assert_eq!(in_force(&world, "q.quorum").as_deref(), Some("all"));
    let mut requeue = |world: &World| {
        ["q.classic", "q.quorum"].map(|queue| {
            client.now = world.now;
            client.publish("", queue, "a");
            client.events();
            client.receipts.clear();
            client.get(queue);
            client.settle(1, Settlement::Requeue);
            client.take_all(queue)
        })
    };
    assert_eq!(requeue(&world), ["a", ""]);
    let classic = PolicyDef { apply_to: ApplyTo::ClassicQueues, ..policy("classic", "^q", &limit) };
    reload(&world, &with(vec![all, classic]));
    assert_eq!(in_force(&world, "q.classic").as_deref(), Some("classic"));
    assert_eq!(requeue(&world), ["", ""]);
    world.advance(1);
    reload(&world, &with(Vec::new()));
    assert_eq!(requeue(&world), ["a", "a"]);
}

#[test]
fn what_deduplicates_refuses_nothing() {
    let world = World::with(
        MemoryEngine::instant(),
        &limits(&[("max-length", Value::I64(1)), ("overflow", Value::text("reject-publish"))]),
    );
    let mut client = world.client();
    client.declare_with("q", true, &[("x-message-deduplication", Value::Bool(true))]);
    client.publish_safely("", "q", "a");
    client.publish_safely("", "q", "b");
    assert_eq!(client.events(), "ack 1-2");
    assert_eq!(client.take_all("q"), "b", "its head goes");
}

#[test]
fn values_of_limits_are_checked() {
    let world = world(Vec::new());
    let bad = [
        policy("a", "", &[("max-length", Value::I64(-1))]),
        policy("b", "", &[("max-length-bytes", Value::text("1"))]),
        policy("c", "", &[("overflow", Value::text("spill"))]),
        policy("d", "", &[("delivery-limit", Value::I64(-1))]),
    ];
    let operator = vec![policy("o", "", &[("overflow", Value::text("drop-head"))])];
    let definitions = Definitions { operator_policies: operator, ..with(bad.to_vec()) };
    assert_eq!(
        world.broker.apply_definitions(&definitions, world.now).unwrap_err(),
        [
            "policy 'a' in vhost '/': -1 is not a valid maximum length",
            "policy 'b' in vhost '/': 1 is not a valid maximum length in bytes",
            "policy 'c' in vhost '/': spill is not a valid overflow value",
            "policy 'd' in vhost '/': -1 is not a valid delivery limit",
            "operator policy 'o' in vhost '/': 'overflow' is not a recognised policy setting",
        ]
    );
}
