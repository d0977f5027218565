//! Declaring, binding, deleting and routing, with every refusal in RabbitMQ's words.

// A test that cannot go on has failed.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use bytes::Bytes;
use model::definitions::{Definitions, PasswordDef, PermissionDef, TopicPermissionDef, UserDef};
use model::{Properties, Secret, Value};
use protocol::{Request, Settlement};
use support::{CH, Client, Draft, World, table};

#[test]
fn queues_declared_again_must_be_alike() {
    let world = World::new();
    let mut client = world.client();
    assert_eq!(client.declare_with("q", true, &[("x-own", Value::I32(1))]), "q 0 0");
    assert_eq!(client.declare_with("q", true, &[("x-queue-type", Value::text("classic"))]), "q 0 0");
    assert_eq!(
        client.declare_with("q", false, &[]),
        "PreconditionFailed: inequivalent arg 'durable' for queue 'q' in vhost '/': received 'false' but current is 'true'"
    );
    assert_eq!(
        client.declare_with("q", true, &[("x-message-ttl", Value::I32(10))]),
        "PreconditionFailed: inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': received the value '10' of \
         type 'signedint' but current is none"
    );
    assert_eq!(
        client.declare_as("q", |d| {
            d.durable = true;
            d.auto_delete = true;
        }),
        "PreconditionFailed: inequivalent arg 'auto_delete' for queue 'q' in vhost '/': received 'true' but current is \
         'false'"
    );
    assert_eq!(client.declare_as("q", |d| d.exclusive = true), locked("q"), "a queue of all is not exclusive");
    client.declare_with("t", true, &[("x-message-ttl", Value::I32(10))]);
    assert_eq!(client.declare_with("t", true, &[("x-message-ttl", Value::I64(10))]), "t 0 0");
    assert_eq!(
        client.declare_with("t", true, &[("x-message-ttl", Value::I32(20))]),
        "PreconditionFailed: inequivalent arg 'x-message-ttl' for queue 't' in vhost '/': received '20' but current is \
         '10'"
    );
    assert_eq!(
        client.declare_with("t", true, &[]),
        "PreconditionFailed: inequivalent arg 'x-message-ttl' for queue 't' in vhost '/': received none but current is \
         the value '10' of type 'signedint'"
    );
    assert_eq!(client.declare_as("none", |d| d.passive = true), "NotFound: no queue 'none' in vhost '/'");
    assert_eq!(client.declare("amq.mine"), "AccessRefused: queue name 'amq.mine' contains reserved prefix 'amq.*'");
    assert_eq!(client.declare(""), "amq.gen-1 0 0");
    assert_eq!(client.declare_as("amq.gen-1", |d| d.passive = true), "amq.gen-1 0 0");
    assert_eq!(client.declare("li\r\nne"), "line 0 0");
}

fn locked(queue: &str) -> String {
    format!(
        "ResourceLocked: cannot obtain exclusive access to locked queue '{queue}' in vhost '/'. It could be originally \
         declared on another connection or the exclusive property value does not match that of the original \
         declaration."
    )
}

#[test]
fn queue_arguments_are_checked_or_refused_by_name() {
    let world = World::new();
    let mut client = world.client();
    for (name, value, why) in [
        ("x-message-ttl", Value::text("1"), "\"expected integer, got longstr\""),
        ("x-message-ttl", Value::I32(-1), "{value_negative,-1}"),
        ("x-message-ttl", Value::I64(1 << 33), "{value_too_large,8589934592}"),
        ("x-expires", Value::I32(0), "{value_zero,0}"),
        ("x-max-priority", Value::I32(256), "{max_value_exceeded,256}"),
        ("x-dead-letter-exchange", Value::I32(1), "{unacceptable_type,signedint}"),
        ("x-dead-letter-exchange", Value::text(&"e".repeat(256)), "{too_long,256}"),
        ("x-dead-letter-routing-key", Value::text(&"k".repeat(256)), "{too_long,256}"),
        ("x-dead-letter-routing-key", Value::text("k"), "routing_key_but_no_dlx_defined"),
        ("x-max-length", Value::I32(-1), "{value_negative,-1}"),
        ("x-max-length-bytes", Value::Bool(true), "\"expected integer, got bool\""),
        ("x-overflow", Value::text("spill"), "invalid_overflow"),
        ("x-overflow", Value::I32(1), "{unacceptable_type,signedint}"),
        ("x-queue-mode", Value::text("eager"), "invalid_queue_mode"),
        ("x-queue-version", Value::I32(3), "{unsupported_queue_version,3}"),
    ] {
        assert_eq!(
            client.declare_with("q", true, &[(name, value)]),
            format!("PreconditionFailed: invalid arg '{name}' for queue 'q' in vhost '/': {why}")
        );
    }
    for name in ["x-max-age", "x-consumer-timeout", "x-dispatch-key"] {
        assert_eq!(
            client.declare_with("q", true, &[(name, Value::I32(1))]),
            format!("NotImplemented: argument '{name}' for queue 'q' in vhost '/' is not supported yet")
        );
    }
    assert_eq!(
        client.declare_with("q", true, &[("x-queue-type", Value::text("stream"))]),
        "NotImplemented: argument 'x-queue-type: stream' for queue 'q' in vhost '/' is not supported yet"
    );
    let accepted =
        [("x-queue-mode", Value::text("lazy")), ("x-queue-version", Value::I32(2)), ("x-unknown", Value::Void)];
    assert_eq!(client.declare_with("q", true, &accepted), "q 0 0");
    assert_eq!(
        client.declare("amq.rabbitmq.reply-to"),
        "NotImplemented: the pseudo queue 'amq.rabbitmq.reply-to' is not supported yet"
    );
    assert_eq!(
        client.consume_as("q", 1, |c| c.arguments = table(&[("x-stream-offset", Value::I32(1))])),
        "NotImplemented: argument 'x-stream-offset' for queue 'q' in vhost '/' is not supported yet"
    );
}

#[test]
fn exclusive_queues_are_their_connections() {
    let world = World::new();
    let (mut owner, mut other) = (world.client(), world.client());
    let exclusive = |c: &mut Client| c.declare_as("x", |d| d.exclusive = true);
    assert_eq!(exclusive(&mut owner), "x 0 0");
    assert_eq!(exclusive(&mut owner), "x 0 0");
    assert_eq!(exclusive(&mut other), locked("x"));
    assert_eq!(other.declare_as("x", |d| d.passive = true), locked("x"));
    assert_eq!(other.consume("x", 1), locked("x"));
    assert_eq!(other.get("x"), locked("x"));
    assert_eq!(other.delete("x", false, false), locked("x"));
    assert_eq!(other.bind("amq.fanout", "x", ""), locked("x"));
    other.publish("", "x", "a");
    other.events();
    assert_eq!(owner.get("x"), "got a 0");
    drop(owner);
    assert_eq!(exclusive(&mut other), "x 0 0");
}

#[test]
fn exclusive_consumers_are_alone() {
    let world = World::new();
    let mut client = world.client();
    client.declare("q");
    let in_use = "AccessRefused: queue 'q' in vhost '/' in exclusive use";
    client.consume("q", 1);
    assert_eq!(client.consume_as("q", 2, |c| c.exclusive = true), in_use);
    assert_eq!(client.consume("q", 1), "NotAllowed: attempt to reuse consumer tag 'c1'");
    client.cancel(1);
    assert_eq!(client.consume_as("q", 2, |c| c.exclusive = true), "Consuming");
    assert_eq!(client.consume("q", 3), in_use);
    assert_eq!(client.consume("none", 3), "NotFound: no queue 'none' in vhost '/'");
}

#[test]
fn deleting_tells_consumers_and_honours_conditions() {
    let world = World::new();
    let mut client = world.client();
    client.declare("q");
    client.publish("", "q", "a");
    client.publish("", "q", "b");
    assert_eq!(client.delete("q", false, true), "PreconditionFailed: queue 'q' in vhost '/' not empty");
    let purge = Request::PurgeQueue { channel: CH, queue: "q".into() };
    assert_eq!(client.ask(purge), "purged 2");
    client.consume("q", 1);
    assert_eq!(client.delete("q", true, false), "PreconditionFailed: queue 'q' in vhost '/' in use");
    client.bind("amq.fanout", "q", "");
    assert_eq!(client.delete("q", false, false), "deleted 0");
    assert_eq!(client.events(), "lost 1");
    assert_eq!(client.delete("q", false, false), "deleted 0");
    assert_eq!(client.get("q"), "NotFound: no queue 'q' in vhost '/'");
    assert!(world.broker.bindings().is_empty());
}

#[test]
fn auto_delete_queues_go_with_their_last_consumer() {
    let world = World::new();
    let mut client = world.client();
    client.declare_as("q", |d| d.auto_delete = true);
    client.consume("q", 1);
    client.consume("q", 2);
    client.cancel(1);
    assert_eq!(world.broker.queue_count(), 1);
    drop(client);
    assert_eq!(world.broker.queue_count(), 0);
}

#[test]
fn exchanges_are_checked_as_rabbitmq_does() {
    let world = World::new();
    let mut client = world.client();
    assert_eq!(client.exchange("e", "direct"), "ExchangeDeclared");
    assert_eq!(client.exchange("e", "direct"), "ExchangeDeclared");
    assert_eq!(
        client.exchange("e", "fanout"),
        "PreconditionFailed: inequivalent arg 'type' for exchange 'e' in vhost '/': received 'fanout' but current is \
         'direct'"
    );
    assert_eq!(
        client.exchange_as("e", "direct", |e| e.internal = true),
        "PreconditionFailed: inequivalent arg 'internal' for exchange 'e' in vhost '/': received 'true' but current is \
         'false'"
    );
    assert_eq!(
        client.exchange_as("e", "direct", |e| {
            e.arguments = table(&[("alternate-exchange", Value::text("ae"))]);
        }),
        "PreconditionFailed: inequivalent arg 'alternate-exchange' for exchange 'e' in vhost '/': received the value \
         'ae' of type 'longstr' but current is none"
    );
    assert_eq!(client.exchange("f", "nonsense"), "CommandInvalid: unknown exchange type 'nonsense'");
    assert_eq!(
        client.exchange("f", "x-consistent-hash"),
        "NotImplemented: exchange type 'x-consistent-hash' is not supported yet"
    );
    assert_eq!(
        client.exchange("amq.own", "direct"),
        "AccessRefused: exchange name 'amq.own' contains reserved prefix 'amq.*'"
    );
    assert_eq!(client.exchange("amq.topic", "topic"), "ExchangeDeclared");
    let default = "AccessRefused: operation not permitted on the default exchange";
    assert_eq!(client.exchange("", "direct"), default);
    assert_eq!(client.delete_exchange("", false), default);
    client.declare("q");
    assert_eq!(client.bind("", "q", "k"), default);
    assert_eq!(client.unbind("", "q", "q"), default);
    assert_eq!(client.bind("e", "exchange ", "k"), default);
    assert_eq!(
        client.delete_exchange("amq.topic", false),
        "AccessRefused: deletion of system exchange 'amq.topic' in vhost '/' not allowed"
    );
    client.bind("e", "q", "k");
    assert_eq!(client.delete_exchange("e", true), "PreconditionFailed: exchange 'e' in vhost '/' in use");
    assert_eq!(client.delete_exchange("e", false), "ExchangeDeleted");
    assert_eq!(client.delete_exchange("e", false), "ExchangeDeleted");
    assert_eq!(client.publish("e", "k", "a"), "NotFound: no exchange 'e' in vhost '/'");
    client.exchange_as("in", "direct", |e| e.internal = true);
    assert_eq!(client.publish("in", "k", "a"), "AccessRefused: cannot publish to internal exchange 'in' in vhost '/'");
    assert_eq!(client.bind("none", "q", "k"), "NotFound: no exchange 'none' in vhost '/'");
    assert_eq!(client.bind("amq.topic", "none", "k"), "NotFound: no queue 'none' in vhost '/'");
    assert_eq!(client.unbind("amq.topic", "q", "unknown"), "Unbound");
}

#[test]
fn every_type_routes_by_its_rule() {
    let world = World::new();
    let mut client = world.client();
    for queue in ["a", "b", "h"] {
        client.declare(queue);
    }
    client.bind("amq.direct", "a", "k");
    client.bind("amq.direct", "b", "k");
    client.bind("amq.direct", "b", "l");
    client.bind("amq.fanout", "a", "whatever");
    client.bind("amq.topic", "a", "x.*");
    client.bind("amq.topic", "a", "x.#");
    client.bind("amq.topic", "b", "#.z");
    let arguments = [("x-match", Value::text("any")), ("p", Value::I32(1)), ("q", Value::Void)];
    let binding = Client::binding("amq.headers", "h", "", &arguments);
    assert_eq!(client.ask(Request::Bind(CH, binding)), "Bound");
    for (exchange, key, body) in [
        ("amq.direct", "k", "d1"),
        ("amq.direct", "l", "d2"),
        ("amq.direct", "m", "d3"),
        ("amq.fanout", "", "f"),
        ("amq.topic", "x", "t1"),
        ("amq.topic", "x.y", "t2"),
        ("amq.topic", "x.y.z", "t3"),
        ("", "a", "default"),
    ] {
        // Twice: once routed, once from the cache.
        assert_eq!(client.publish(exchange, key, body), "");
        assert_eq!(client.publish(exchange, key, body), "");
    }
    for (name, value, body) in [("p", 1, "h1"), ("p", 2, "h2"), ("q", 2, "h3")] {
        let draft = Draft {
            properties: Properties { headers: Some(table(&[(name, Value::I64(value))])), ..Properties::default() },
            ..Draft::default()
        };
        client.publish_with("amq.headers", "", body, &draft, |_| {});
    }
    assert_eq!(client.take_all("a"), "d1 d1 f f t1 t1 t2 t2 t3 t3 default default");
    assert_eq!(client.take_all("b"), "d1 d1 d2 d2 t3 t3");
    assert_eq!(client.take_all("h"), "h1 h3");
}

#[test]
fn a_cached_route_follows_the_topology() {
    let world = World::new();
    let mut client = world.client();
    client.declare("a");
    client.bind("amq.direct", "a", "k");
    client.publish("amq.direct", "k", "1");
    client.unbind("amq.direct", "a", "k");
    client.publish("amq.direct", "k", "2");
    client.bind("amq.direct", "a", "k");
    client.publish("amq.direct", "k", "3");
    assert_eq!(client.take_all("a"), "1 3");
    // The same bytes, cut elsewhere: exchange `amq.direct` and key `k` are not exchange `` and key `amq.directk`.
    client.declare("amq.directk");
    assert_eq!(client.publish_safely("", "amq.directk", "x"), "");
    assert_eq!(client.events(), "returned x,ack 1-1");
}

#[test]
fn exchanges_route_to_exchanges_once_and_to_alternates() {
    let world = World::new();
    let mut client = world.client();
    client.exchange("one", "fanout");
    client.exchange("two", "fanout");
    client.exchange_as("main", "direct", |e| {
        e.arguments = table(&[("alternate-exchange", Value::text("one"))]);
    });
    client.declare("q");
    client.declare("direct");
    client.bind("one", "exchange two", "");
    client.bind("two", "exchange one", "");
    client.bind("one", "q", "");
    client.bind("two", "q", "");
    client.bind("main", "direct", "k");
    client.publish_safely("one", "", "a");
    client.publish_safely("main", "k", "b");
    client.publish_safely("main", "other", "c");
    assert_eq!(client.events(), "ack 1-3");
    assert_eq!(client.take_all("q"), "a c");
    assert_eq!(client.take_all("direct"), "b");
    client.delete_exchange("one", false);
    client.publish_safely("main", "other", "d");
    assert_eq!(client.events(), "returned d,ack 4-4");
}

#[test]
fn extra_keys_reach_each_queue_once() {
    let world = World::new();
    let mut client = world.client();
    client.declare("a");
    client.declare("b");
    client.publish_with("", "a", "m", &Draft::default(), |p| {
        p.extra_keys = vec![Bytes::from("b"), Bytes::from("a")];
    });
    assert_eq!(client.take_all("a"), "m");
    assert_eq!(client.take_all("b"), "m");
}

#[test]
fn a_long_chain_of_auto_delete_exchanges_goes_at_once() {
    let world = World::new();
    let mut client = world.client();
    client.declare("q");
    let name = |i: usize| format!("e{i}");
    let mut next = "q".to_owned();
    for i in 0..20_000 {
        client.exchange_as(&name(i), "fanout", |e| e.auto_delete = true);
        client.bind(&name(i), &next, "");
        next = format!("exchange e{i}");
        if i > 300 {
            break;
        }
    }
    let before = world.broker.exchanges().len();
    client.delete("q", false, false);
    assert_eq!(before - world.broker.exchanges().len(), 302);
}

fn permission(user: &str, configure: &str, write: &str, read: &str) -> PermissionDef {
    PermissionDef {
        user: user.into(),
        vhost: "/".into(),
        configure: configure.into(),
        write: write.into(),
        read: read.into(),
    }
}

fn two_users() -> Definitions {
    let user = |name: &str, tags: &[&str]| UserDef {
        name: name.into(),
        password: PasswordDef::Plain(Secret::new("pw".into())),
        tags: tags.iter().map(|t| (*t).to_owned()).collect(),
    };
    Definitions {
        users: vec![user("guest", &["impersonator"]), user("u", &[]), user("stranger", &[])],
        permissions: vec![
            permission("guest", ".*", ".*", ".*"),
            permission("u", "^mine", "^(mine|amq\\.topic)", "^mine|amq\\.topic"),
        ],
        topic_permissions: vec![TopicPermissionDef {
            user: "u".into(),
            vhost: "/".into(),
            exchange: "amq.topic".into(),
            write: "^{username}\\.".into(),
            read: "^{username}\\.".into(),
        }],
        ..Definitions::default()
    }
}

#[test]
fn permissions_hold_on_every_operation() {
    let world = World::with(support::engine::MemoryEngine::instant(), &two_users());
    let mut admin = world.client_as("guest", "pw");
    admin.declare("theirs");
    admin.exchange("theirs", "fanout");
    let mut client = world.client_as("u", "pw");
    // RabbitMQ 3.10 does not say which of the three permissions was missing.
    let refused = |what: &str| format!("AccessRefused: access to {what} in vhost '/' refused for user 'u'");
    assert_eq!(client.declare("mine"), "mine 0 0");
    assert_eq!(client.declare("theirs"), refused("queue 'theirs'"));
    assert_eq!(client.declare_as("theirs", |d| d.passive = true), refused("queue 'theirs'"));
    assert_eq!(client.get("theirs"), refused("queue 'theirs'"));
    assert_eq!(client.consume("theirs", 1), refused("queue 'theirs'"));
    assert_eq!(client.delete("theirs", false, false), refused("queue 'theirs'"));
    let purge = Request::PurgeQueue { channel: CH, queue: "theirs".into() };
    assert_eq!(client.ask(purge), refused("queue 'theirs'"));
    assert_eq!(client.publish("theirs", "", "a"), refused("exchange 'theirs'"));
    assert_eq!(client.publish("", "mine", "a"), refused("exchange 'amq.default'"));
    assert_eq!(client.bind("theirs", "mine", ""), refused("exchange 'theirs'"));
    assert_eq!(client.bind("amq.topic", "theirs", "u.x"), refused("queue 'theirs'"));
    assert_eq!(client.exchange("theirs", "fanout"), refused("exchange 'theirs'"));
    assert_eq!(client.delete_exchange("theirs", false), refused("exchange 'theirs'"));
    assert_eq!(
        client.declare_with("mine.2", true, &[("x-dead-letter-exchange", Value::text("theirs"))]),
        refused("exchange 'theirs'")
    );
    assert_eq!(
        client.exchange_as("mine.ae", "fanout", |e| {
            e.arguments = table(&[("alternate-exchange", Value::text("theirs"))]);
        }),
        refused("exchange 'theirs'")
    );
    assert_eq!(
        client.bind("amq.topic", "mine", "v.x"),
        "AccessRefused: access to topic 'v.x' in exchange 'amq.topic' in vhost '/' refused for user 'u'"
    );
    assert_eq!(client.bind("amq.topic", "mine", "u.*"), "Bound");
    assert_eq!(client.publish("amq.topic", "u.x", "a"), "");
    assert_eq!(
        client.publish("amq.topic", "v.x", "a"),
        "AccessRefused: access to topic 'v.x' in exchange 'amq.topic' in vhost '/' refused for user 'u'"
    );
    assert_eq!(client.get("mine"), "got a 0");
    client.settle(1, Settlement::Ack);
}

#[test]
fn users_speak_for_themselves() {
    let world = World::with(support::engine::MemoryEngine::instant(), &two_users());
    let claim = |name: &'static str| move |p: &mut protocol::Publish| p.user_id = Some(Bytes::from(name));
    let mut client = world.client_as("u", "pw");
    client.declare("mine");
    let draft = Draft::default();
    assert_eq!(client.publish_with("amq.topic", "u.x", "a", &draft, claim("u")), "");
    assert_eq!(
        client.publish_with("amq.topic", "u.x", "a", &draft, claim("root")),
        "PreconditionFailed: user_id property set to 'root' but authenticated user was 'u'"
    );
    let mut admin = world.client_as("guest", "pw");
    assert_eq!(admin.publish_with("amq.topic", "u.x", "a", &draft, claim("u")), "");
}

#[test]
fn logins_are_checked() {
    let world = World::new();
    let login = |user: &str, password: &str| {
        Request::Authenticate(protocol::Login { user: user.into(), password: Secret::new(password.into()) })
    };
    let mut far = world.stranger(false);
    assert_eq!(far.ask(login("guest", "guest")), "LoginRefused: user 'guest' can only connect via localhost");
    let mut near = world.stranger(true);
    let invalid = "invalid credentials";
    assert_eq!(near.ask(login("guest", "wrong")), format!("LoginRefused: user 'guest' - {invalid}"));
    assert_eq!(near.ask(login("who", "")), format!("LoginRefused: user 'who' - {invalid}"));
    assert!(near.ask(Request::OpenVhost("/".into())).starts_with("NotAllowed"));
    assert!(near.ask(Request::OpenChannel(CH)).starts_with("NotAllowed"));
    assert!(near.publish("", "q", "a").starts_with("NotAllowed"));
    assert_eq!(near.ask(login("guest", "guest")), "authenticated");
    assert_eq!(near.ask(Request::OpenVhost("none".into())), "NotAllowed: vhost none not found");
    let world = World::with(support::engine::MemoryEngine::instant(), &two_users());
    let mut stranger = world.stranger(true);
    assert_eq!(stranger.ask(login("stranger", "pw")), "authenticated");
    assert_eq!(
        stranger.ask(Request::OpenVhost("/".into())),
        "NotAllowed: access to vhost '/' refused for user 'stranger'"
    );
}
