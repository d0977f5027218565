"""Exchanges: the types, binding and routing, exchange-to-exchange, alternate exchanges, declare and delete."""

import re

import pika
import pytest

from harness.broker import bodies, closes_channel, closes_connection, publish


@pytest.fixture
def queue(channel):
    """Makes exclusive queues, so nothing is left behind."""

    def make():
        return channel.queue_declare("", exclusive=True).method.queue

    return make


@pytest.fixture
def exchange(broker, name):
    """Makes exchanges and deletes them through a connection of its own."""
    owner, made = broker.channel(), []

    def make(kind, **options):
        made.append(f"{name}.{len(made)}.{kind}")
        owner.exchange_declare(made[-1], kind, **options)
        return made[-1]

    yield make
    for each in made:
        owner.exchange_delete(each)


def route(channel, exchange, key, body, headers=None):
    channel.confirm_delivery()
    channel.basic_publish(exchange, key, body, pika.BasicProperties(headers=headers))


def test_the_default_exchange_routes_by_queue_name(channel, queue):
    one, two = queue(), queue()
    publish(channel, one, b"1")
    publish(channel, two, b"2")
    assert (bodies(channel, one), bodies(channel, two)) == ([b"1"], [b"2"])


def test_direct_compares_the_whole_key(channel, queue, exchange):
    x, a, b = exchange("direct"), queue(), queue()
    channel.queue_bind(a, x, "red")
    channel.queue_bind(a, x, "green")
    channel.queue_bind(b, x, "red")
    for key in ("red", "green", "blue", "re", "red.x", ""):
        route(channel, x, key, key.encode())
    assert (bodies(channel, a), bodies(channel, b)) == ([b"red", b"green"], [b"red"])


def test_fanout_ignores_the_key(channel, queue, exchange):
    x, a, b = exchange("fanout"), queue(), queue()
    channel.queue_bind(a, x, "anything")
    channel.queue_bind(b, x, "")
    route(channel, x, "else", b"all")
    assert (bodies(channel, a), bodies(channel, b)) == ([b"all"], [b"all"])


TOPIC = [
    ("*.orange.*", {"quick.orange.rabbit", "lazy.orange.elephant"}),
    ("lazy.#", {"lazy.orange.elephant", "lazy", "lazy.brown.fox"}),
    ("#", {"quick.orange.rabbit", "lazy.orange.elephant", "lazy", "lazy.brown.fox", "", "a..b", "orange"}),
    ("*", {"lazy", "orange"}),
    ("#.rabbit", {"quick.orange.rabbit"}),
    ("a.*.b", {"a..b"}),
    ("#.#", {"quick.orange.rabbit", "lazy.orange.elephant", "lazy", "lazy.brown.fox", "", "a..b", "orange"}),
    ("*.#.fox", {"lazy.brown.fox"}),
    ("lazy", {"lazy"}),
    ("", {""}),
]


@pytest.mark.parametrize("pattern, matches", TOPIC, ids=[pattern or "empty" for pattern, _ in TOPIC])
def test_topic_patterns(channel, queue, exchange, pattern, matches):
    x, q = exchange("topic"), queue()
    channel.queue_bind(q, x, pattern)
    keys = ["quick.orange.rabbit", "lazy.orange.elephant", "lazy", "lazy.brown.fox", "", "a..b", "orange"]
    for key in keys:
        route(channel, x, key, key.encode())
    if pattern in ("*", ""):
        # An empty key has no words in RabbitMQ and one empty word elsewhere: both are seen, so it is left out.
        assert {b.decode() for b in bodies(channel, q)} - {""} == matches - {""}
    else:
        assert [b.decode() for b in bodies(channel, q)] == [key for key in keys if key in matches]


HEADERS = [
    ({"x-match": "all", "a": 1, "b": "two"}, {"a": 1, "b": "two", "c": 3}, True),
    ({"x-match": "all", "a": 1, "b": "two"}, {"a": 1}, False),
    ({"x-match": "all", "a": 1}, {"a": 2}, False),
    ({"a": 1, "b": 2}, {"a": 1}, False),
    ({"x-match": "any", "a": 1, "b": 2}, {"b": 2}, True),
    ({"x-match": "any", "a": 1, "b": 2}, {"c": 1}, False),
    ({"x-match": "all", "a": None}, {"a": "whatever"}, True),
    ({"x-match": "all", "a": None}, {"b": 1}, False),
    ({"x-match": "all", "x-ignored": 1, "a": 1}, {"a": 1}, True),
    ({"x-match": "all"}, {"a": 1}, True),
    ({"x-match": "any"}, {"a": 1}, False),
    ({"x-match": "all", "a": True}, {"a": True}, True),
    ({"x-match": "all", "a": True}, {"a": False}, False),
    ({"x-match": "all", "a": "1"}, {"a": 1}, False),
    ({"x-match": "all-with-x", "x-seen": 1}, {"x-seen": 1}, True),
    ({"x-match": "all-with-x", "x-seen": 1}, {"a": 1}, False),
    ({"x-match": "any-with-x", "x-seen": 1, "a": 1}, {"x-seen": 1}, True),
    ({"x-match": "any", "x-seen": 1}, {"x-seen": 1}, False),
]


@pytest.mark.parametrize("binding, headers, expected", HEADERS)
def test_headers_matching(channel, queue, exchange, binding, headers, expected):
    x, q = exchange("headers"), queue()
    channel.queue_bind(q, x, "ignored", arguments=binding)
    route(channel, x, "also ignored", b"m", headers)
    assert bodies(channel, q) == ([b"m"] if expected else [])


def test_headers_binding_needs_a_known_x_match(channel, queue, exchange):
    x, q = exchange("headers"), queue()
    closes_channel(channel, 406, re.compile("PRECONDITION_FAILED - Invalid x-match field value .*some.*; expected all, "
                                            "any, all-with-x, or any-with-x"),
                   lambda: channel.queue_bind(q, x, "", arguments={"x-match": "some"}))


def test_one_copy_per_queue_however_many_bindings_match(channel, queue, exchange):
    x, q = exchange("topic"), queue()
    for pattern in ("#", "a.*", "*.b", "a.b"):
        channel.queue_bind(q, x, pattern)
    route(channel, x, "a.b", b"once")
    assert bodies(channel, q) == [b"once"]


@pytest.mark.parametrize("x, key", [("amq.direct", "k"), ("amq.topic", "k"), ("amq.fanout", ""), ("amq.headers", ""),
                                    ("amq.match", "")])
def test_the_predeclared_exchanges_route(channel, queue, x, key):
    q = queue()
    channel.queue_bind(q, x, key, arguments={"x-match": "all", "only": q})
    route(channel, x, key, b"m", {"only": q})
    assert bodies(channel, q) == [b"m"]


def test_exchanges_bind_to_exchanges(channel, queue, exchange):
    source, middle, end, q = exchange("topic"), exchange("fanout"), exchange("direct"), queue()
    channel.exchange_bind(middle, source, "logs.#")
    channel.exchange_bind(end, middle)
    channel.queue_bind(q, end, "logs.error")
    for key in ("logs.error", "logs.info", "other"):
        route(channel, source, key, key.encode())
    assert bodies(channel, q) == [b"logs.error"]
    channel.exchange_unbind(middle, source, "logs.#")
    route(channel, source, "logs.error", b"after unbind")
    assert bodies(channel, q) == []


def test_a_circle_of_exchanges_delivers_once(channel, queue, exchange):
    a, b, q = exchange("fanout"), exchange("fanout"), queue()
    channel.exchange_bind(a, b)
    channel.exchange_bind(b, a)
    channel.queue_bind(q, a)
    channel.queue_bind(q, b)
    route(channel, a, "", b"once")
    assert bodies(channel, q) == [b"once"]


def test_unbinding_stops_the_flow_and_is_idempotent(channel, queue, exchange):
    x, q = exchange("direct"), queue()
    channel.queue_bind(q, x, "k")
    channel.queue_bind(q, x, "k")
    channel.queue_unbind(q, x, "k")
    route(channel, x, "k", b"m")
    assert bodies(channel, q) == []
    channel.queue_unbind(q, x, "k")


def test_bindings_with_different_arguments_are_different(channel, queue, exchange):
    x, q = exchange("headers"), queue()
    channel.queue_bind(q, x, "k", arguments={"x-match": "all", "a": 1})
    channel.queue_bind(q, x, "k", arguments={"x-match": "all", "a": 2})
    channel.queue_unbind(q, x, "k", arguments={"x-match": "all", "a": 1})
    route(channel, x, "k", b"1", {"a": 1})
    route(channel, x, "k", b"2", {"a": 2})
    assert bodies(channel, q) == [b"2"]


def test_what_routes_nowhere_goes_to_the_alternate_exchange(channel, queue, exchange):
    lost = exchange("fanout")
    x, q, rest = exchange("direct", arguments={"alternate-exchange": lost}), queue(), queue()
    channel.queue_bind(q, x, "known")
    channel.queue_bind(rest, lost)
    route(channel, x, "known", b"1")
    route(channel, x, "unknown", b"2")
    assert (bodies(channel, q), bodies(channel, rest)) == ([b"1"], [b"2"])


def test_alternates_chain_and_a_missing_or_circular_one_is_harmless(channel, queue, exchange, broker, name):
    last = exchange("fanout")
    second = exchange("direct", arguments={"alternate-exchange": last})
    first = exchange("direct", arguments={"alternate-exchange": second})
    missing = exchange("direct", arguments={"alternate-exchange": "never declared"})
    q = queue()
    channel.queue_bind(q, last)
    route(channel, first, "k", b"through two")
    assert bodies(channel, q) == [b"through two"]
    route(channel, missing, "k", b"dropped")
    a, b = name + ".a", name + ".b"
    channel.exchange_declare(a, "direct", arguments={"alternate-exchange": b})
    channel.exchange_declare(b, "direct", arguments={"alternate-exchange": a})
    route(channel, a, "k", b"round and round")
    channel.exchange_delete(a)
    channel.exchange_delete(b)


def test_a_message_taken_by_the_alternate_is_not_returned(channel, queue, exchange):
    lost = exchange("fanout")
    x, rest = exchange("direct", arguments={"alternate-exchange": lost}), queue()
    channel.queue_bind(rest, lost)
    channel.confirm_delivery()
    channel.basic_publish(x, "unknown", b"m", mandatory=True)
    assert bodies(channel, rest) == [b"m"]


def test_an_auto_delete_exchange_goes_with_its_last_binding(channel, queue, name):
    q = queue()
    channel.exchange_declare(name, "direct", auto_delete=True)
    channel.queue_bind(q, name, "1")
    channel.queue_bind(q, name, "2")
    channel.queue_unbind(q, name, "1")
    channel.exchange_declare(name, passive=True)
    channel.queue_unbind(q, name, "2")
    closes_channel(channel, 404, f"NOT_FOUND - no exchange '{name}' in vhost '/'",
                   lambda: channel.exchange_declare(name, passive=True))


def test_an_auto_delete_exchange_goes_when_its_queues_go(channel, queue, name):
    q = queue()
    channel.exchange_declare(name, "direct", auto_delete=True)
    channel.queue_bind(q, name, "1")
    channel.queue_delete(q)
    closes_channel(channel, 404, f"NOT_FOUND - no exchange '{name}' in vhost '/'",
                   lambda: channel.exchange_declare(name, passive=True))


def test_deleting_an_exchange_removes_its_bindings(channel, queue, name):
    q = queue()
    channel.exchange_declare(name, "fanout")
    channel.queue_bind(q, name)
    channel.exchange_delete(name)
    channel.exchange_declare(name, "fanout")
    route(channel, name, "", b"m")
    assert bodies(channel, q) == []
    channel.exchange_delete(name)


def test_deleting_a_missing_exchange_is_fine(channel, name):
    channel.exchange_delete(name)
    assert channel.is_open


def test_delete_if_unused(channel, queue, name):
    q = queue()
    channel.exchange_declare(name, "fanout")
    channel.queue_bind(q, name)
    closes_channel(channel, 406, f"PRECONDITION_FAILED - exchange '{name}' in vhost '/' in use",
                   lambda: channel.exchange_delete(name, if_unused=True))
    again = channel.connection.channel()
    again.queue_unbind(q, name)
    again.exchange_delete(name, if_unused=True)


def test_a_client_cannot_publish_to_an_internal_exchange(channel, queue, exchange, name):
    inner, outer, q = exchange("fanout", internal=True), exchange("fanout"), queue()
    channel.exchange_bind(inner, outer)
    channel.queue_bind(q, inner)
    route(channel, outer, "", b"through the outer one")
    assert bodies(channel, q) == [b"through the outer one"]
    closes_channel(channel, 403, f"ACCESS_REFUSED - cannot publish to internal exchange '{inner}' in vhost '/'",
                   lambda: channel.basic_publish(inner, "", b""))


@pytest.mark.parametrize("different, text", [
    ({"exchange_type": "fanout"}, "'type' for exchange '{x}' in vhost '/': received 'fanout' but current is 'direct'"),
    ({"durable": True}, "'durable' for exchange '{x}' in vhost '/': received 'true' but current is 'false'"),
    ({"auto_delete": True}, "'auto_delete' for exchange '{x}' in vhost '/': received 'true' but current is 'false'"),
    ({"internal": True}, "'internal' for exchange '{x}' in vhost '/': received 'true' but current is 'false'"),
    ({"arguments": {"alternate-exchange": "other"}},
     "'alternate-exchange' for exchange '{x}' in vhost '/': received the value 'other' of type 'longstr' but current "
     "is none"),
])
def test_declaring_again_differently(channel, exchange, different, text):
    x = exchange("direct")
    channel.exchange_declare(x, "direct")
    closes_channel(channel, 406, "PRECONDITION_FAILED - inequivalent arg " + text.format(x=x),
                   lambda: channel.exchange_declare(x, **{"exchange_type": "direct", **different}))


def test_an_unknown_exchange_type_ends_the_connection(connection, name):
    channel = connection.channel()
    closes_connection(connection, 503, "COMMAND_INVALID - unknown exchange type 'x-no-such-type'",
                      lambda: channel.exchange_declare(name, "x-no-such-type"))


def test_passive_declare_of_a_missing_exchange(channel, name):
    closes_channel(channel, 404, f"NOT_FOUND - no exchange '{name}' in vhost '/'",
                   lambda: channel.exchange_declare(name, passive=True))


def test_publishing_to_a_missing_exchange(channel, name):
    closes_channel(channel, 404, f"NOT_FOUND - no exchange '{name}' in vhost '/'",
                   lambda: channel.basic_publish(name, "k", b""))


def test_reserved_names(channel):
    closes_channel(channel, 403, "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'",
                   lambda: channel.exchange_declare("amq.mine", "direct"))


def test_existing_reserved_names_may_be_declared_again(channel):
    channel.exchange_declare("amq.topic", "topic", durable=True)
    assert channel.is_open


def test_the_standard_exchanges_cannot_be_deleted(channel):
    closes_channel(channel, 403, "ACCESS_REFUSED - deletion of system exchange 'amq.topic' in vhost '/' not allowed",
                   lambda: channel.exchange_delete("amq.topic"))


DEFAULT = "ACCESS_REFUSED - operation not permitted on the default exchange"


@pytest.mark.parametrize("action", [
    lambda ch, q: ch.exchange_declare("", "direct", durable=True),
    lambda ch, q: ch.exchange_delete(""),
    lambda ch, q: ch.queue_bind(q, "", "k"),
    lambda ch, q: ch.queue_unbind(q, "", "k"),
    lambda ch, q: ch.exchange_bind("", "amq.topic", "k"),
], ids=["declare", "delete", "bind", "unbind", "exchange bind"])
def test_nothing_can_be_done_to_the_default_exchange(channel, queue, action):
    q = queue()
    closes_channel(channel, 403, DEFAULT, lambda: action(channel, q))


def test_binding_to_what_is_missing(channel, queue, name):
    q = queue()
    closes_channel(channel, 404, f"NOT_FOUND - no exchange '{name}' in vhost '/'",
                   lambda: channel.queue_bind(q, name, "k"))
    again = channel.connection.channel()
    closes_channel(again, 404, f"NOT_FOUND - no queue '{name}' in vhost '/'",
                   lambda: again.queue_bind(name, "amq.direct", "k"))
