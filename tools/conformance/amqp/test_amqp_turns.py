"""Whose turn it is: consumer priorities (`x-priority`) and the single active consumer."""

import pytest

from harness.amqp_raw import RawAmqp
from harness.broker import Collector, closes_channel, get, publish, wait_depth

SINGLE = {"x-single-active-consumer": True}


def test_consumer_priorities_are_advertised(broker):
    with RawAmqp(broker.host, broker.port) as raw:
        assert raw.greet().server_properties["capabilities"]["consumer_priorities"] is True


def test_the_higher_priority_is_served_while_it_has_credit(connection, channel, name):
    channel.queue_declare(name, exclusive=True)
    low = Collector(connection.channel(), name)
    busy = connection.channel()
    busy.basic_qos(prefetch_count=2)
    high = Collector(busy, name, arguments={"x-priority": 10})
    publish(channel, name, b"1", b"2", b"3", b"4")
    high.wait(2)
    low.wait(2)
    assert (high.bodies, low.bodies) == ([b"1", b"2"], [b"3", b"4"])


def test_a_negative_priority_waits_for_the_others(connection, channel, name):
    channel.queue_declare(name, exclusive=True)
    last = Collector(connection.channel(), name, arguments={"x-priority": -1})
    first = Collector(connection.channel(), name)
    publish(channel, name, *[b"%d" % n for n in range(50)])
    first.wait(50)
    assert last.bodies == []


@pytest.mark.parametrize("value, kind", [("5", "longstr"), (True, "bool"), (None, "void")])
def test_a_priority_is_an_integer(channel, connection, name, value, kind):
    channel.queue_declare(name, exclusive=True)
    other = connection.channel()
    closes_channel(
        other, 406,
        f"PRECONDITION_FAILED - invalid arg 'x-priority' for queue '{name}' in vhost '/': \"expected integer, got {kind}\"",
        lambda: other.basic_consume(name, print, arguments={"x-priority": value}))


def test_a_single_active_consumer_gets_everything_until_it_is_cancelled(connection, channel, name):
    channel.queue_declare(name, exclusive=True, arguments=SINGLE)
    active = connection.channel()
    first = Collector(active, name)
    second = Collector(connection.channel(), name)
    assert channel.queue_declare(name, passive=True).method.consumer_count == 2
    publish(channel, name, b"1", b"2")
    first.wait(2)
    assert second.bodies == []
    # What it has not settled stays with it when it is cancelled, and comes back when its channel ends.
    active.basic_cancel(first.tag)
    publish(channel, name, b"3")
    second.wait(1)
    assert (first.bodies, second.bodies) == ([b"1", b"2"], [b"3"])
    active.close()
    second.wait(3)
    assert second.bodies == [b"3", b"1", b"2"]
    assert [method.redelivered for method, _, _ in second.got] == [False, True, True]


@pytest.mark.ours
def test_the_next_takes_over_from_one_without_credit(connection, channel, name):
    """RabbitMQ 3.10.8 forgets the other consumers when the active one is cancelled at its prefetch limit."""
    channel.queue_declare(name, exclusive=True, arguments=SINGLE)
    active = connection.channel()
    active.basic_qos(prefetch_count=2)
    first = Collector(active, name)
    second = Collector(connection.channel(), name)
    publish(channel, name, b"1", b"2", b"3")
    first.wait(2)
    wait_depth(channel, name, 1)
    assert second.bodies == []
    active.basic_cancel(first.tag)
    second.wait(1)
    assert second.bodies == [b"3"]


def test_the_next_takes_over_when_the_connection_of_the_active_one_ends(broker, name):
    channel = broker.channel()
    channel.queue_declare(name, arguments=SINGLE)
    active = broker.connect()
    first = Collector(active.channel(), name)
    second = Collector(channel, name)
    third = Collector(broker.channel(), name)
    publish(channel, name, b"1", b"2")
    first.wait(2)
    active.close()
    second.wait(2)
    assert (second.bodies, third.bodies) == ([b"1", b"2"], [])
    channel.queue_delete(name)


def test_the_highest_priority_takes_over_but_does_not_oust(connection, channel, name):
    channel.queue_declare(name, exclusive=True, arguments=SINGLE)
    active = connection.channel()
    first = Collector(active, name)
    second = Collector(connection.channel(), name)
    high = Collector(connection.channel(), name, arguments={"x-priority": 5})
    publish(channel, name, b"1")
    first.wait(1)
    active.close()
    high.wait(1)
    assert (second.bodies, high.bodies) == ([], [b"1"])


def test_gets_are_served_beside_the_single_active_consumer(connection, channel, name):
    channel.queue_declare(name, exclusive=True, arguments=SINGLE)
    busy = connection.channel()
    busy.basic_qos(prefetch_count=1)
    active = Collector(busy, name)
    publish(channel, name, b"1", b"2")
    active.wait(1)
    assert get(channel, name)[2] == b"2"


def test_a_single_active_queue_has_no_exclusive_consumer(connection, channel, name):
    channel.queue_declare(name, exclusive=True, arguments=SINGLE)
    other = connection.channel()
    closes_channel(other, 403, f"ACCESS_REFUSED - queue '{name}' in vhost '/' in exclusive use",
                   lambda: other.basic_consume(name, print, exclusive=True))


@pytest.mark.parametrize("value, kind", [("yes", "longstr"), (1, "signedint"), (None, "void")])
def test_single_active_is_a_boolean(channel, name, value, kind):
    closes_channel(
        channel, 406,
        f"PRECONDITION_FAILED - invalid arg 'x-single-active-consumer' for queue '{name}' in vhost '/': "
        f"{{unacceptable_type,{kind}}}",
        lambda: channel.queue_declare(name, arguments={"x-single-active-consumer": value}))


def test_single_active_is_part_of_what_a_queue_is(channel, connection, name):
    channel.queue_declare(name, exclusive=True, arguments=SINGLE)
    other = connection.channel()
    closes_channel(
        other, 406,
        f"PRECONDITION_FAILED - inequivalent arg 'x-single-active-consumer' for queue '{name}' in vhost '/': "
        "received none but current is the value 'true' of type 'bool'",
        lambda: other.queue_declare(name, exclusive=True))
