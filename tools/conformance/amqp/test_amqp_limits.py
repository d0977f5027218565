"""Limits of length with their overflows, delivery limits, quorum queues, dead-letter cycles (reference 1.1.4 and 1.1.5)."""

import pika
import pika.exceptions
import pytest

from harness.broker import Collector, bodies, closes_channel, closes_connection, depth, get, publish, wait_depth

QUORUM = {"x-queue-type": "quorum"}


@pytest.fixture
def dead(channel, name):
    """A dead-letter queue; returns the arguments that lead to it and its name."""
    queue = name + ".dead"
    channel.queue_declare(queue, exclusive=True)
    return {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue}, queue


@pytest.fixture
def durable(channel, name):
    """Declares a durable queue of the test's name with arguments; it goes with the test."""
    def declare(arguments, queue=name):
        channel.queue_declare(queue, durable=True, arguments=arguments)
        return queue
    yield declare
    with_channel = channel if channel.is_open else channel.connection.channel()
    with_channel.queue_delete(name)


def deaths(properties):
    return [(d["queue"], d["reason"], d["count"]) for d in properties.headers["x-death"]]


def nacked(channel, queue, body, exchange=""):
    """True if a publish is refused, on a channel in confirm mode."""
    try:
        channel.basic_publish(exchange, queue, body)
    except pika.exceptions.NackError:
        return True
    return False


# --- drop-head -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("overflow", [{}, {"x-overflow": "drop-head"}])
def test_the_head_is_dropped(channel, name, overflow):
    channel.queue_declare(name, exclusive=True, arguments={"x-max-length": 2, **overflow})
    channel.confirm_delivery()
    publish(channel, name, b"1", b"2", b"3", b"4")
    assert bodies(channel, name) == [b"3", b"4"]


def test_bytes_are_those_of_bodies(channel, name):
    channel.queue_declare(name, exclusive=True, arguments={"x-max-length-bytes": 10})
    channel.confirm_delivery()
    headers = pika.BasicProperties(headers={"large": "x" * 1000})
    publish(channel, name, b"12345", b"67890", properties=headers)
    assert depth(channel, name) == 2
    publish(channel, name, b"!")
    assert bodies(channel, name) == [b"67890", b"!"]
    publish(channel, name, b"larger than all")
    assert bodies(channel, name) == []


def test_what_is_dropped_is_dead_lettered(channel, name, dead):
    arguments, queue = dead
    channel.queue_declare(name, exclusive=True, arguments={"x-max-length": 1, **arguments})
    channel.confirm_delivery()
    publish(channel, name, b"1", b"2")
    _, properties, body = get(channel, queue)
    assert (body, deaths(properties)) == (b"1", [(name, "maxlen", 1)])
    assert properties.headers["x-first-death-reason"] == "maxlen"
    assert bodies(channel, name) == [b"2"]


def test_only_ready_messages_count(channel, name):
    channel.queue_declare(name, exclusive=True, arguments={"x-max-length": 1})
    channel.confirm_delivery()
    publish(channel, name, b"1")
    method = get(channel, name, auto_ack=False)[0]
    publish(channel, name, b"2")
    assert depth(channel, name) == 1
    channel.basic_nack(method.delivery_tag, requeue=True)
    assert bodies(channel, name) == [b"2"], "what comes back is at the head of a full queue"


def test_a_length_of_zero_delivers_or_drops(channel, name):
    channel.queue_declare(name, exclusive=True, arguments={"x-max-length": 0})
    channel.confirm_delivery()
    publish(channel, name, b"nobody waits")
    assert depth(channel, name) == 0
    collector = Collector(channel, name, auto_ack=True)
    publish(channel, name, b"1", b"2")
    assert collector.wait(2).bodies == [b"1", b"2"]


def test_a_consumer_with_a_prefetch_sees_the_newest(channel, name):
    channel.queue_declare(name, exclusive=True, arguments={"x-max-length": 1})
    channel.confirm_delivery()
    channel.basic_qos(prefetch_count=1)
    collector = Collector(channel, name)
    publish(channel, name, b"1")
    assert collector.wait(1).bodies == [b"1"]
    publish(channel, name, b"2", b"3", b"4")
    assert depth(channel, name) == 1
    channel.basic_ack(collector.tags[0])
    assert collector.wait(2).bodies == [b"1", b"4"]


# --- reject-publish --------------------------------------------------------------------------------------------------

def test_a_full_queue_refuses(channel, name):
    channel.queue_declare(name, exclusive=True, arguments={"x-max-length": 2, "x-overflow": "reject-publish"})
    channel.confirm_delivery()
    assert [nacked(channel, name, b"%d" % n) for n in range(4)] == [False, False, True, True]
    assert bodies(channel, name) == [b"0", b"1"]
    assert not nacked(channel, name, b"4"), "there is room again"


def test_one_full_queue_of_several_refuses_the_publish(channel, name):
    channel.exchange_declare(name, "fanout", auto_delete=True)
    channel.queue_declare(name, exclusive=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    open_queue = channel.queue_declare("", exclusive=True).method.queue
    for queue in (name, open_queue):
        channel.queue_bind(queue, name)
    channel.confirm_delivery()
    assert [nacked(channel, "", b"%d" % n, exchange=name) for n in range(3)] == [False, True, True]
    assert (bodies(channel, name), bodies(channel, open_queue)) == ([b"0"], [b"0", b"1", b"2"])


def test_a_refused_publish_can_be_dead_lettered(channel, name, dead):
    arguments, queue = dead
    channel.queue_declare(name, exclusive=True,
                          arguments={"x-max-length": 1, "x-overflow": "reject-publish-dlx", **arguments})
    channel.confirm_delivery()
    assert [nacked(channel, name, b"%d" % n) for n in range(2)] == [False, True]
    _, properties, body = get(channel, queue)
    assert (body, deaths(properties)) == (b"1", [(name, "maxlen", 1)])
    assert bodies(channel, name) == [b"0"]


@pytest.mark.parametrize("argument, value, why", [
    ("x-max-length", -1, "{value_negative,-1}"),
    ("x-max-length", "5", '"expected integer, got longstr"'),
    ("x-max-length-bytes", True, '"expected integer, got bool"'),
    ("x-overflow", "spill", "invalid_overflow"),
    ("x-overflow", 1, "{unacceptable_type,signedint}"),
])
def test_arguments_are_checked(channel, name, argument, value, why):
    closes_channel(channel, 406,
                   f"PRECONDITION_FAILED - invalid arg '{argument}' for queue '{name}' in vhost '/': {why}",
                   lambda: channel.queue_declare(name, exclusive=True, arguments={argument: value}))


def test_another_length_is_another_queue(connection, channel, name):
    channel.queue_declare(name, exclusive=True, arguments={"x-max-length": 5})
    other = connection.channel()
    closes_channel(other, 406, f"PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue '{name}' in vhost '/': "
                               "received '6' but current is '5'",
                   lambda: other.queue_declare(name, exclusive=True, arguments={"x-max-length": 6}))


def test_a_queue_that_refuses_keeps_what_comes_back(channel, name):
    channel.queue_declare(name, exclusive=True, arguments={"x-max-length": 2, "x-overflow": "reject-publish"})
    channel.confirm_delivery()
    publish(channel, name, b"1", b"2")
    for _ in range(2):
        last = get(channel, name, auto_ack=False)[0].delivery_tag
    publish(channel, name, b"3", b"4")
    channel.basic_nack(last, multiple=True, requeue=True)
    assert bodies(channel, name) == [b"1", b"2", b"3", b"4"]


# --- policies, as harness/definitions.py has them --------------------------------------------------------------------

@pytest.mark.parametrize("own, kept", [
    ({}, [b"3", b"4"]), ({"x-max-length": 1}, [b"4"]), ({"x-max-length": 9}, [b"3", b"4"]),
    ({"x-max-length-bytes": 1}, [b"4"]),
])
def test_of_argument_and_policy_the_smaller_length_counts(channel, name, own, kept):
    channel.queue_declare("short." + name, exclusive=True, arguments=own)
    channel.confirm_delivery()
    publish(channel, "short." + name, b"1", b"2", b"3", b"4")
    assert bodies(channel, "short." + name) == kept


def test_a_policy_makes_a_full_queue_refuse(channel, name):
    channel.queue_declare("refusing." + name, exclusive=True)
    channel.confirm_delivery()
    assert [nacked(channel, "refusing." + name, b"%d" % n) for n in range(5)] == [False, False, False, True, True]
    assert bodies(channel, "refusing." + name) == [b"0", b"1", b"2"]


def test_the_overflow_of_an_argument_beats_that_of_a_policy(channel, name):
    channel.queue_declare("refusing." + name, exclusive=True, arguments={"x-overflow": "drop-head"})
    channel.confirm_delivery()
    assert not any(nacked(channel, "refusing." + name, b"%d" % n) for n in range(5))
    assert bodies(channel, "refusing." + name) == [b"2", b"3", b"4"]


def test_an_operator_policy_is_a_limit_of_its_own(channel, name):
    channel.queue_declare("capped." + name, exclusive=True, arguments={"x-max-length": 100})
    channel.confirm_delivery()
    publish(channel, "capped." + name, b"1", b"2", b"3", b"4")
    assert bodies(channel, "capped." + name) == [b"2", b"3", b"4"]
    publish(channel, "capped." + name, b"12", b"34", b"5")
    assert bodies(channel, "capped." + name) == [b"34", b"5"]


def test_a_policy_with_a_delivery_limit_is_for_quorum_queues(channel, name):
    """And not for classic ones, whatever else it says."""
    channel.confirm_delivery()
    quorum, classic = "counted.quorum." + name, "counted.classic." + name
    channel.queue_declare(quorum, durable=True, arguments=QUORUM)
    try:
        channel.queue_declare(classic, exclusive=True)
        for queue in (quorum, classic):
            publish(channel, queue, b"1", b"2", b"3")
        wait_depth(channel, quorum, 2)
        for _ in range(2):
            method, _, body = get(channel, quorum, auto_ack=False)
            assert body == b"2"
            channel.basic_nack(method.delivery_tag, requeue=True)
        wait_depth(channel, quorum, 1)
        assert (bodies(channel, quorum), bodies(channel, classic)) == ([b"3"], [b"1", b"2", b"3"])
    finally:
        channel.queue_delete(quorum)


# --- cycles ----------------------------------------------------------------------------------------------------------

def test_a_queue_that_dead_letters_to_itself(channel, name):
    channel.queue_declare(name, exclusive=True, arguments={
        "x-max-length": 1, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": name})
    channel.confirm_delivery()
    publish(channel, name, b"1", b"2", b"3")
    assert depth(channel, name) == 1
    method, _, body = get(channel, name, auto_ack=False)
    assert body == b"3"
    channel.basic_reject(method.delivery_tag, requeue=False)
    _, properties, body = get(channel, name)
    assert (body, deaths(properties)) == (b"3", [(name, "rejected", 1)]), "a reject is no automatic cycle"


# --- delivery limit and quorum queues --------------------------------------------------------------------------------

def test_what_comes_back_too_often_is_dead_lettered(channel, durable, dead):
    arguments, dead_queue = dead
    queue = durable({**QUORUM, "x-delivery-limit": 2, **arguments})
    channel.confirm_delivery()
    publish(channel, queue, b"poison")
    collector = Collector(channel, queue)
    for attempt in range(3):
        method, properties, _ = collector.wait(attempt + 1).got[attempt]
        assert method.redelivered == (attempt > 0)
        count = (properties.headers or {}).get("x-delivery-count")
        assert count == attempt if attempt else count in (None, 0)
        channel.basic_nack(method.delivery_tag, requeue=True)
    _, properties, body = get(channel, dead_queue)
    assert (body, deaths(properties)) == (b"poison", [(queue, "delivery_limit", 1)])


def test_without_a_dead_letter_exchange_it_is_dropped(channel, durable):
    queue = durable({**QUORUM, "x-delivery-limit": 0})
    channel.confirm_delivery()
    publish(channel, queue, b"once")
    channel.basic_reject(get(channel, queue, auto_ack=False)[0].delivery_tag, requeue=True)
    wait_depth(channel, queue, 0)
    assert bodies(channel, queue) == []


def test_a_closed_channel_counts_as_an_attempt(connection, channel, durable):
    queue = durable({**QUORUM, "x-delivery-limit": 5})
    channel.confirm_delivery()
    publish(channel, queue, b"m")
    other = connection.channel()
    assert get(other, queue, auto_ack=False)[2] == b"m"
    other.close()
    wait_depth(channel, queue, 1)
    assert get(channel, queue)[1].headers["x-delivery-count"] == 1


@pytest.mark.ours
def test_a_classic_queue_may_have_a_delivery_limit_too(channel, name, dead):
    """RabbitMQ 3.10 refuses it; here it means the same for both types."""
    arguments, dead_queue = dead
    channel.queue_declare(name, exclusive=True, arguments={"x-delivery-limit": 1, **arguments})
    publish(channel, name, b"m")
    for count in (None, 1):
        method, properties, _ = get(channel, name, auto_ack=False)
        assert (properties.headers or {}).get("x-delivery-count") == count
        channel.basic_nack(method.delivery_tag, requeue=True)
    assert deaths(get(channel, dead_queue)[1]) == [(name, "delivery_limit", 1)]


@pytest.mark.parametrize("flags, property_name", [
    ({}, "non-durable"), ({"durable": True, "exclusive": True}, "exclusive-owner"),
    ({"durable": True, "auto_delete": True}, "auto-delete"),
])
def test_quorum_queues_are_durable_and_shared(channel, name, flags, property_name):
    closes_channel(channel, 406,
                   f"PRECONDITION_FAILED - invalid property '{property_name}' for queue '{name}' in vhost '/'",
                   lambda: channel.queue_declare(name, arguments=QUORUM, **flags))


def test_quorum_queues_have_names(channel):
    closes_channel(channel, 406, "PRECONDITION_FAILED - Cannot declare a server-named queue for type rabbit_quorum_queue",
                   lambda: channel.queue_declare("", durable=True, arguments=QUORUM))


@pytest.mark.parametrize("kind, argument, value", [
    ("quorum", "x-max-priority", 5), ("quorum", "x-queue-mode", "lazy"), ("quorum", "x-queue-version", 2),
    ("classic", "x-dead-letter-strategy", "at-least-once"), ("classic", "x-quorum-initial-group-size", 3),
    ("classic", "x-queue-leader-locator", "balanced"), ("classic", "x-max-in-memory-length", 5),
])
def test_arguments_of_the_other_type(channel, name, kind, argument, value):
    closes_channel(channel, 406, f"PRECONDITION_FAILED - invalid arg '{argument}' for queue '{name}' in vhost '/' "
                                 f"of queue type rabbit_{kind}_queue",
                   lambda: channel.queue_declare(name, durable=True,
                                                 arguments={"x-queue-type": kind, argument: value}))


def test_arguments_of_quorum_queues(durable, channel):
    arguments = {**QUORUM, "x-quorum-initial-group-size": 3, "x-queue-leader-locator": "balanced",
                 "x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish", "x-max-length": 9,
                 "x-max-in-memory-length": 0, "x-message-ttl": 60000, "x-expires": 600000}
    queue = durable(arguments)
    assert channel.queue_declare(queue, durable=True, arguments=arguments).method.message_count == 0


def test_quorum_queues_have_no_global_qos(broker, durable):
    queue = durable(QUORUM)
    channel = broker.channel()
    channel.basic_qos(prefetch_count=1, global_qos=True)
    closes_connection(channel.connection, 540,
                      f"NOT_IMPLEMENTED - queue '{queue}' in vhost '/' does not support global qos",
                      lambda: channel.basic_consume(queue, print))
