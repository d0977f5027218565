"""Publishing: properties and bodies come through unchanged, mandatory and return, confirms."""

import datetime
import decimal
import os
import struct

import pika
import pytest
from pika import spec

from harness.amqp_raw import RawAmqp, frame, header_frame, method_frame
from harness.broker import Collector, bodies, get, publish, wait_depth


@pytest.fixture
def queue(channel, name):
    return channel.queue_declare(name, exclusive=True).method.queue


EVERYTHING = dict(
    content_type="application/json", content_encoding="gzip", delivery_mode=2, priority=7, correlation_id="c-1",
    reply_to="answers", expiration="60000", message_id="m-1", timestamp=1700000000, type="order.created",
    user_id="guest", app_id="tests", cluster_id="cl",
)


def test_every_property_comes_back(channel, queue):
    publish(channel, queue, b"body", properties=pika.BasicProperties(headers={"h": 1}, **EVERYTHING))
    _, properties, _ = get(channel, queue)
    came = {key: getattr(properties, key) for key in EVERYTHING}
    if isinstance(came["timestamp"], datetime.datetime):
        came["timestamp"] = int(came["timestamp"].replace(tzinfo=datetime.timezone.utc).timestamp())
    assert came == EVERYTHING
    assert properties.headers == {"h": 1}


def test_absent_properties_stay_absent(channel, queue):
    publish(channel, queue, b"body")
    _, properties, _ = get(channel, queue)
    assert all(getattr(properties, key) is None for key in EVERYTHING), properties
    assert not properties.headers


@pytest.mark.parametrize("value", [
    True, False, 0, -1, 127, 2**31 - 1, -2**31, 2**40, -2**63, "text", "ünïcødé ✓", "", None, decimal.Decimal("3.14"),
    datetime.datetime(2024, 2, 29, 12, 30, 15, tzinfo=datetime.timezone.utc), {"nested": {"deeper": [1, "two", {"three": 3}]}}, [], {},
    [1, "two", None, True, [b"bytes"]],
], ids=repr)
def test_header_values_come_back_with_their_type(channel, queue, value):
    publish(channel, queue, b"", properties=pika.BasicProperties(headers={"key": value}))
    came = get(channel, queue)[1].headers["key"]
    assert came == value
    assert isinstance(came, type(value))


RAW_FIELDS = {
    "t": b"\x01", "b": b"\xff", "B": b"\xff", "s": b"\xff\xfe", "u": b"\xff\xfe", "I": b"\xff\xff\xff\xfe",
    "i": b"\xff\xff\xff\xfe", "l": b"\xff" * 8, "L": b"\xff" * 8, "f": struct.pack(">f", 1.5), "d": struct.pack(">d", 1.5),
    "D": b"\x02\x00\x00\x01\x3a", "S": b"\x00\x00\x00\x02hi", "x": b"\x00\x00\x00\x02\x00\xff", "T": b"\x00" * 7 + b"\x09",
    "V": b"", "A": b"\x00\x00\x00\x02t\x01", "F": b"\x00\x00\x00\x04\x01kt\x00",
}


@pytest.mark.parametrize("kind", sorted(RAW_FIELDS))
def test_each_table_type_survives_on_the_wire(broker, name, kind):
    """Sent as raw bytes; the value must come back, whatever the width the server chooses to print it in."""
    field = b"\x03key" + kind.encode() + RAW_FIELDS[kind]
    headers = struct.pack(">I", len(field)) + field
    with RawAmqp(broker.host, broker.port) as raw:
        raw.handshake().open_channel(1)
        raw.send_method(1, spec.Queue.Declare(queue=name, exclusive=True))
        raw.expect(spec.Queue.DeclareOk, 1)
        raw.send(method_frame(1, spec.Basic.Publish(exchange="", routing_key=name)),
                 frame(2, 1, struct.pack(">HHQH", 60, 0, 2, 0x2000) + headers), frame(3, 1, b"ok"))
        raw.send_method(1, spec.Basic.Consume(queue=name, no_ack=True, consumer_tag="c"))
        raw.expect(spec.Basic.ConsumeOk, 1)
        raw.expect(spec.Basic.Deliver, 1)
        came = raw.read_frame()[2]
        assert came[:14] == struct.pack(">HHQH", 60, 0, 2, 0x2000)
        same_width = came[14:] == headers
        swapped = came[14:] == headers.replace(b"key" + kind.encode(), b"key" + {"L": b"l"}.get(kind, kind.encode()))
        assert same_width or swapped, came[14:]
        assert raw.read_frame()[2] == b"ok"


@pytest.mark.parametrize("size", [0, 1, 131064, 131065, 1_000_000, 16_000_000])
def test_bodies_of_any_size_come_back_whole(channel, queue, size):
    body = os.urandom(min(size, 4096)) * (size // 4096 + 1)
    publish(channel, queue, body[:size])
    assert get(channel, queue, timeout_s=20)[2] == body[:size]


def test_a_body_in_many_small_frames(broker, name):
    """A client may cut a body as it likes, one byte a frame and empty frames included."""
    with RawAmqp(broker.host, broker.port) as raw:
        raw.handshake().open_channel(1)
        raw.send_method(1, spec.Queue.Declare(queue=name, exclusive=True))
        raw.expect(spec.Queue.DeclareOk, 1)
        raw.send(method_frame(1, spec.Basic.Publish(exchange="", routing_key=name)), header_frame(1, 5),
                 frame(3, 1, b"h"), frame(3, 1, b"e"), frame(3, 1, b"l"), frame(3, 1, b""), frame(3, 1, b"lo"))
        raw.send_method(1, spec.Basic.Get(queue=name, no_ack=True))
        raw.expect(spec.Basic.GetOk, 1)
        assert raw.read_frame()[0] == 2
        assert raw.read_frame()[2] == b"hello"


def test_publishes_of_two_channels_may_interleave(broker, name):
    with RawAmqp(broker.host, broker.port) as raw:
        raw.handshake().open_channel(1).open_channel(2)
        raw.send_method(1, spec.Queue.Declare(queue=name, exclusive=True))
        raw.expect(spec.Queue.DeclareOk, 1)
        publishing = spec.Basic.Publish(exchange="", routing_key=name)
        raw.send(method_frame(1, publishing), method_frame(2, publishing), header_frame(2, 3), header_frame(1, 3),
                 frame(3, 1, b"on"), frame(3, 2, b"two"), frame(3, 1, b"e"))
        bodies_seen = set()
        for _ in range(2):
            raw.send_method(1, spec.Basic.Get(queue=name, no_ack=True))
            raw.expect(spec.Basic.GetOk, 1)
            raw.read_frame()
            bodies_seen.add(raw.read_frame()[2])
        assert bodies_seen == {b"one", b"two"}


# --- mandatory and return --------------------------------------------------------------------------------------------

def test_an_unroutable_mandatory_message_is_returned(channel, name):
    returned = []
    channel.add_on_return_callback(lambda _ch, method, properties, body: returned.append((method, properties, body)))
    channel.basic_publish("amq.direct", name, b"back", pika.BasicProperties(message_id="m", headers={"a": 1}),
                          mandatory=True)
    for _ in range(100):
        channel.connection.process_data_events(time_limit=0.02)
        if returned:
            break
    (method, properties, body), = returned
    assert (method.reply_code, method.reply_text, method.exchange, method.routing_key, body) == (
        312, "NO_ROUTE", "amq.direct", name, b"back")
    assert (properties.message_id, properties.headers) == ("m", {"a": 1})


def test_a_routable_mandatory_message_is_not_returned(channel, queue):
    channel.confirm_delivery()
    channel.basic_publish("", queue, b"m", mandatory=True)
    assert bodies(channel, queue) == [b"m"]


def test_an_unroutable_message_without_mandatory_is_dropped_and_confirmed(channel, name):
    channel.confirm_delivery()
    channel.basic_publish("", name, b"nowhere")
    assert channel.is_open


def test_the_return_comes_before_the_ack(broker, name):
    with RawAmqp(broker.host, broker.port) as raw:
        raw.handshake().open_channel(1)
        raw.send_method(1, spec.Confirm.Select())
        raw.expect(spec.Confirm.SelectOk, 1)
        raw.send(method_frame(1, spec.Basic.Publish(exchange="", routing_key=name, mandatory=True)),
                 header_frame(1, 4), frame(3, 1, b"back"))
        returned = raw.expect(spec.Basic.Return, 1)
        assert (returned.reply_code, returned.reply_text) == (312, "NO_ROUTE")
        assert raw.read_frame()[0] == 2
        assert raw.read_frame()[2] == b"back"
        assert raw.expect(spec.Basic.Ack, 1).delivery_tag == 1


def test_immediate_is_not_implemented(broker, name):
    with RawAmqp(broker.host, broker.port) as raw:
        raw.handshake().open_channel(1)
        raw.send(method_frame(1, spec.Basic.Publish(exchange="", routing_key=name, immediate=True)),
                 header_frame(1, 1), frame(3, 1, b"m"))
        raw.expect_close(540, "NOT_IMPLEMENTED - immediate=true", 60, 40)


# --- confirms --------------------------------------------------------------------------------------------------------

def collect_acks(raw, count):
    """Delivery tags confirmed by basic.ack until `count` are; a nack fails."""
    confirmed, highest = set(), 0
    while len(confirmed) < count:
        ack = raw.expect(spec.Basic.Ack, 1)
        tags = range(highest + 1, ack.delivery_tag + 1) if ack.multiple else [ack.delivery_tag]
        new = set(tags) - confirmed
        assert new, f"{ack} confirms nothing new"
        confirmed |= new
        highest = next(n for n in range(highest, count + 2) if n + 1 not in confirmed)
    return confirmed


@pytest.mark.parametrize("mode", [1, 2], ids=["transient", "persistent"])
@pytest.mark.parametrize("durable", [False, True], ids=["transient queue", "durable queue"])
def test_every_publish_is_confirmed_once(broker, name, mode, durable):
    count = 500
    with RawAmqp(broker.host, broker.port, timeout_s=20) as raw:
        raw.handshake().open_channel(1)
        raw.send_method(1, spec.Queue.Declare(queue=name, durable=durable))
        raw.expect(spec.Queue.DeclareOk, 1)
        raw.send_method(1, spec.Confirm.Select())
        raw.expect(spec.Confirm.SelectOk, 1)
        message = (method_frame(1, spec.Basic.Publish(exchange="", routing_key=name))
                   + header_frame(1, 2, spec.BasicProperties(delivery_mode=mode)) + frame(3, 1, b"ok"))
        raw.send(message * count)
        assert collect_acks(raw, count) == set(range(1, count + 1))
        raw.send_method(1, spec.Queue.Delete(queue=name))
        assert raw.expect(spec.Queue.DeleteOk, 1).message_count == count


def test_tags_count_from_the_select_and_per_channel(broker, name):
    with RawAmqp(broker.host, broker.port) as raw:
        raw.handshake().open_channel(1)
        raw.send_method(1, spec.Queue.Declare(queue=name, exclusive=True))
        raw.expect(spec.Queue.DeclareOk, 1)
        message = method_frame(1, spec.Basic.Publish(exchange="", routing_key=name)) + header_frame(1, 0)
        raw.send(message, message)
        raw.send_method(1, spec.Confirm.Select())
        raw.expect(spec.Confirm.SelectOk, 1)
        raw.send_method(1, spec.Confirm.Select())
        raw.expect(spec.Confirm.SelectOk, 1)
        raw.send(message)
        assert raw.expect(spec.Basic.Ack, 1).delivery_tag == 1


def test_a_publish_is_confirmed_even_when_nobody_gets_it(broker, name):
    """Unroutable, or expired at once: both confirmed, for the broker has done all it will do."""
    channel = broker.channel()
    channel.queue_declare(name, exclusive=True, arguments={"x-message-ttl": 0})
    channel.confirm_delivery()
    publish(channel, name, b"expires at once")
    publish(channel, name + ".none", b"nowhere")


def test_confirms_do_not_wait_for_consumers(broker, name):
    channel = broker.channel()
    channel.queue_declare(name, exclusive=True)
    channel.basic_qos(prefetch_count=1)
    consumer = Collector(channel, name)
    publisher = broker.channel()
    publisher.confirm_delivery()
    for number in range(50):
        publish(publisher, name, b"%d" % number)
    assert consumer.wait(1).bodies == [b"0"]
    wait_depth(channel, name, 49)


def test_order_of_one_publisher_is_kept(channel, queue):
    sent = [b"%d" % number for number in range(3000)]
    publish(channel, queue, *sent)
    consumer = Collector(channel, queue, auto_ack=True).wait(3000, timeout_s=20)
    assert consumer.bodies == sent


def test_publishing_on_a_missing_exchange_ends_only_the_channel(broker, name):
    with RawAmqp(broker.host, broker.port) as raw:
        raw.handshake().open_channel(1).open_channel(2)
        raw.send(method_frame(1, spec.Basic.Publish(exchange=name, routing_key="k")), header_frame(1, 1),
                 frame(3, 1, b"m"))
        close = raw.expect(spec.Channel.Close, 1)
        assert (close.reply_code, close.reply_text, close.class_id, close.method_id) == (
            404, f"NOT_FOUND - no exchange '{name}' in vhost '/'", 60, 40)
        raw.send_method(1, spec.Channel.CloseOk())
        raw.send_method(2, spec.Queue.Declare(queue="", exclusive=True))
        raw.expect(spec.Queue.DeclareOk, 2)


def test_content_frames_out_of_order_are_unexpected(broker):
    with RawAmqp(broker.host, broker.port) as raw:
        raw.handshake().open_channel(1)
        raw.send(frame(3, 1, b"a body without a publish"))
        close = raw.expect(spec.Connection.Close, 0)
        assert close.reply_code == 505
        assert close.reply_text.startswith("UNEXPECTED_FRAME - expected method frame, got non method frame instead")


def test_a_method_in_the_middle_of_content_is_unexpected(broker, name):
    with RawAmqp(broker.host, broker.port) as raw:
        raw.handshake().open_channel(1)
        raw.send(method_frame(1, spec.Basic.Publish(exchange="", routing_key=name)),
                 method_frame(1, spec.Basic.Qos(prefetch_count=1)))
        close = raw.expect(spec.Connection.Close, 0)
        assert close.reply_code == 505
        assert close.reply_text.startswith("UNEXPECTED_FRAME - expected content header for class 60")


def test_publish_with_cc_and_bcc_headers(channel, queue, name):
    """CC and BCC add routing keys; BCC is taken out before delivery."""
    other = channel.queue_declare(name + ".cc", exclusive=True).method.queue
    third = channel.queue_declare(name + ".bcc", exclusive=True).method.queue
    channel.basic_publish("", queue, b"m", pika.BasicProperties(headers={"CC": [other], "BCC": [third]}))
    for each in (queue, other, third):
        headers = get(channel, each)[1].headers
        assert headers.get("CC") == [other]
        assert "BCC" not in headers


@pytest.mark.ours
def test_a_body_larger_than_announced_is_refused(broker):
    """RabbitMQ 3.10 counts the rest of such a body below zero and waits for ever; ours must say so."""
    with RawAmqp(broker.host, broker.port) as raw:
        raw.handshake().open_channel(1)
        raw.send(method_frame(1, spec.Basic.Publish(exchange="", routing_key="x")), header_frame(1, 1),
                 frame(3, 1, b"too long"), frame(3, 1, b"and more"))
        assert raw.expect(spec.Connection.Close, 0).reply_code in (501, 505)
