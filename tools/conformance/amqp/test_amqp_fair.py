"""Fair dispatch: the messages of each producer, or routing key, take turns with those of the others."""

import pika.exceptions
import pytest

from harness.broker import PERSISTENT, publish
from harness.definitions import definitions

pytestmark = pytest.mark.ours
BUSY, QUIET = 400, 8
# Some of the quiet may share one of the 64 groups with the busy one; that half of them do is next to impossible.
SOON, SERVED = 40, QUIET - 3


def config(**definition):
    policies = [{"vhost": "/", "name": "turns", "pattern": "^work$", "apply-to": "queues", "priority": 0,
                 "definition": definition}] if definition else []
    return {"broker": {"definitions": {**definitions(), "policies": policies}}}


def take(channel, queue, count):
    """So many messages, one at a time, acknowledged."""
    channel.basic_qos(prefetch_count=1)
    got = []
    for method, _, body in channel.consume(queue, inactivity_timeout=10):
        assert method, f"{len(got)} of {count} came"
        got.append(body.decode())
        channel.basic_ack(method.delivery_tag)
        if len(got) == count:
            channel.cancel()
            return got
    raise AssertionError("the consumer ended")


def busy_and_quiet(server, channel_of, queue="work"):
    """One producer with a backlog, and others that come after it with a message each."""
    busy = channel_of(server)
    busy.confirm_delivery()
    publish(busy, queue, *[b"busy %d" % n for n in range(BUSY)], properties=PERSISTENT)
    for n in range(QUIET):
        quiet = channel_of(server)
        quiet.confirm_delivery()
        publish(quiet, queue, b"quiet %d" % n, properties=PERSISTENT)


def check_turns(got):
    assert sum(body.startswith("quiet") for body in got[:SOON]) >= SERVED, got[:SOON]
    assert [body for body in got if body.startswith("busy")] == [f"busy {n}" for n in range(BUSY)]


def test_a_busy_producer_does_not_hold_up_the_others(start_server, channel_of):
    server = start_server(config())
    channel = channel_of(server)
    channel.queue_declare("work", durable=True, arguments={"x-dispatch": "fair-by-producer"})
    busy_and_quiet(server, channel_of)
    check_turns(take(channel, "work", BUSY + QUIET))


def test_without_it_they_wait(start_server, channel_of):
    server = start_server(config())
    channel = channel_of(server)
    channel.queue_declare("work", durable=True)
    busy_and_quiet(server, channel_of)
    assert all(body.startswith("busy") for body in take(channel, "work", BUSY))


def test_keys_take_turns_as_soon_as_a_policy_says_so(start_server, channel_of):
    server = start_server(config())
    channel = channel_of(server)
    channel.confirm_delivery()
    channel.queue_declare("work", durable=True)
    channel.queue_bind("work", "amq.topic", "#")
    channel.basic_publish("amq.topic", "first", b"first", PERSISTENT)
    server.take_over(config(dispatch="fair-by-key"))
    for n in range(BUSY):
        channel.basic_publish("amq.topic", "busy", b"busy %d" % n, PERSISTENT)
    for n in range(QUIET):
        channel.basic_publish("amq.topic", f"quiet.{n}", b"quiet %d" % n, PERSISTENT)
    got = take(channel, "work", 1 + BUSY + QUIET)
    assert got[0] == "first", "what was there before comes first"
    check_turns(got[1:])


def test_what_a_restart_finds_is_in_order_and_goes_first(start_server, channel_of):
    server = start_server(config())
    channel = channel_of(server)
    channel.queue_declare("work", durable=True, arguments={"x-dispatch": "fair-by-producer"})
    busy_and_quiet(server, channel_of)
    server.kill()
    server.start()
    channel = channel_of(server)
    channel.confirm_delivery()
    publish(channel, "work", b"later", properties=PERSISTENT)
    got = take(channel, "work", BUSY + QUIET + 1)
    assert got == [f"busy {n}" for n in range(BUSY)] + [f"quiet {n}" for n in range(QUIET)] + ["later"]


def test_it_is_refused_beside_priorities(start_server, channel_of):
    server = start_server(config())
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as refused:
        channel_of(server).queue_declare("work", arguments={"x-dispatch": "fair-by-key", "x-max-priority": 5})
    assert refused.value.reply_code == 406
    assert "fair_dispatch_with_priorities" in refused.value.reply_text
