"""Bad input on the AMQP port. After each case the server still serves a good client; at the end nothing has leaked."""

import os
import struct
import time

import pytest
from pika import spec

from harness.amqp_raw import BODY, CONTENT_HEADER, HEADER, METHOD, RawAmqp, frame, header_frame, method_frame
from harness.broker import Collector
from harness.wait import until

pytestmark = pytest.mark.ours


@pytest.fixture(autouse=True)
def still_serves(broker, name):
    """Every test of this file is followed by a good client doing a whole round trip."""
    yield
    channel = broker.channel()
    channel.queue_declare(name + ".good", exclusive=True)
    channel.confirm_delivery()
    channel.basic_publish("", name + ".good", b"good")
    assert Collector(channel, name + ".good", auto_ack=True).wait(1).bodies == [b"good"]


@pytest.fixture
def raw(broker):
    with RawAmqp(broker.host, broker.port, timeout_s=15) as connection:
        yield connection


TLS_HELLO = bytes.fromhex("16030100c8010000c40303") + os.urandom(194)
GARBAGE = {
    "random": os.urandom(4096), "zeros": b"\0" * 4096, "0xff": b"\xff" * 4096, "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "tls": TLS_HELLO, "amqp 1.0": b"AMQP\x00\x01\x00\x00", "amqp sasl": b"AMQP\x03\x01\x00\x00", "half": b"AM",
    "text": b"hello, is this a mail server?\r\n", "mqtt": b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00",
}


@pytest.mark.parametrize("kind", sorted(GARBAGE))
def test_garbage_instead_of_a_greeting(raw, kind):
    raw.send(GARBAGE[kind])
    if kind == "half":
        raw.socket.shutdown(1)
    assert raw.eof(within_s=5), "a connection that does not speak AMQP must be closed"


def test_garbage_after_the_greeting(raw):
    raw.greet()
    raw.send(os.urandom(2000))
    assert raw.eof(within_s=5)


@pytest.mark.parametrize("at", ["start-ok", "open connection", "open channel"])
def test_a_frame_of_gigabytes_is_refused_by_its_header(shared_server, raw, at):
    """The length alone must be enough: nothing is allocated for it."""
    before = shared_server.rss_kib()
    if at == "start-ok":
        raw.greet()
    elif at == "open connection":
        raw.handshake()
    else:
        raw.handshake().open_channel(1)
    raw.send(struct.pack(">BHI", METHOD, 1 if at == "open channel" else 0, 0xFFFFFFFF), b"x" * 100_000)
    assert raw.eof(within_s=5)
    assert shared_server.rss_kib() - before < 20_000


def test_a_frame_larger_than_negotiated(raw):
    raw.handshake(frame_max=8192).open_channel(1)
    raw.send(method_frame(1, spec.Basic.Publish(exchange="", routing_key="x")), header_frame(1, 20000),
             frame(BODY, 1, b"x" * 16000))
    close = raw.expect(spec.Connection.Close, 0)
    assert close.reply_code == 501 and close.reply_text.startswith("FRAME_ERROR - ")


def test_before_tune_frames_are_limited_too(raw):
    raw.greet()
    raw.send(frame(METHOD, 0, struct.pack(">HH", 10, 11) + b"\0" * 100_000))
    assert raw.eof(within_s=5)


@pytest.mark.parametrize("end", [0, 1, 0xCD, 0xFF])
def test_a_wrong_frame_end(raw, end):
    raw.handshake().open_channel(1)
    raw.send(frame(METHOD, 1, struct.pack(">HH", 20, 10) + b"\0", end))
    close = raw.expect(spec.Connection.Close, 0)
    assert close.reply_code == 501 and close.reply_text.startswith("FRAME_ERROR - ")


@pytest.mark.parametrize("kind", [0, 4, 5, 7, 9, 255])
def test_an_unknown_frame_type(raw, kind):
    raw.handshake().open_channel(1)
    raw.send(frame(kind, 1, b"x"))
    close = raw.expect(spec.Connection.Close, 0)
    assert close.reply_code in (501, 505)


def test_a_heartbeat_on_a_channel(raw):
    raw.handshake().open_channel(1)
    raw.send(frame(8, 1, b""))
    assert raw.expect(spec.Connection.Close, 0).reply_code in (501, 505)


@pytest.mark.parametrize("payload", [
    struct.pack(">HH", 60, 40), struct.pack(">HH", 50, 10) + b"\0\0\xff", b"\0", b"", struct.pack(">HH", 60, 80) + b"\0" * 3,
    struct.pack(">HHH", 50, 10, 0) + b"\x05ab", struct.pack(">HHH", 50, 10, 0) + b"\x01q\0" + b"\xff\xff\xff\xff",
], ids=["publish cut", "declare cut", "one byte", "empty", "ack cut", "short string too long", "table too long"])
def test_a_method_that_ends_too_early(raw, payload):
    raw.handshake().open_channel(1)
    raw.send(frame(METHOD, 1, payload))
    assert raw.expect(spec.Connection.Close, 0).reply_code in (501, 502, 503, 505)


@pytest.mark.parametrize("class_id, method_id", [(0, 0), (60, 999), (61, 10), (10, 77), (65535, 65535)])
def test_methods_nobody_knows(raw, class_id, method_id):
    raw.handshake().open_channel(1)
    raw.send(frame(METHOD, 1, struct.pack(">HH", class_id, method_id) + b"\0" * 20))
    assert raw.expect(spec.Connection.Close, 0).reply_code in (502, 503, 504, 540)


@pytest.mark.parametrize("method", [spec.Channel.Open(), spec.Queue.Declare(queue="q"), spec.Basic.Ack(1),
                                    spec.Basic.Publish(exchange="", routing_key="x")], ids=lambda m: m.NAME)
def test_a_channel_s_method_on_channel_zero(raw, method):
    raw.handshake()
    raw.send_method(0, method)
    assert raw.expect(spec.Connection.Close, 0).reply_code in (503, 504, 505)


@pytest.mark.parametrize("method", [spec.Connection.Open("/"), spec.Connection.TuneOk(1, 8192, 0), spec.Connection.StartOk(
    {}, "PLAIN", "x", "en_US")], ids=lambda m: m.NAME)
def test_connection_methods_out_of_order(raw, method):
    raw.handshake()
    raw.send_method(0, method)
    assert raw.expect(spec.Connection.Close, 0).reply_code in (503, 504, 505)


def test_methods_before_login(raw):
    raw.greet()
    raw.send_method(0, spec.Connection.Open("/"))
    assert raw.eof(within_s=5), "open before start-ok must not work"


def test_methods_the_server_sends(raw):
    raw.handshake().open_channel(1)
    raw.send_method(1, spec.Basic.Deliver("c", 1, False, "", "q"))
    assert raw.expect(spec.Connection.Close, 0).reply_code in (503, 505, 540)


def nested(depth, kind=b"F"):
    """A table in a table in a table…; or, with kind A, arrays in arrays."""
    payload = b""
    for _ in range(depth):
        inner = struct.pack(">I", len(payload)) + payload
        payload = (b"\x01a" if kind == b"F" else b"") + kind + inner
    if kind == b"A":
        payload = b"\x01a" + payload if payload else payload
    return struct.pack(">I", len(payload)) + payload


@pytest.mark.parametrize("kind", [b"F", b"A"], ids=["tables", "arrays"])
@pytest.mark.parametrize("depth", [1_100, 10_000])
def test_tables_too_deep_in_start_ok(raw, kind, depth):
    """1,100 levels fit the 8,192 bytes a frame may have before tune; 10,000 do not. Neither may log in."""
    raw.greet()
    raw.send(frame(METHOD, 0, struct.pack(">HH", 10, 11) + nested(depth, kind) + b"\x05PLAIN"
                   + struct.pack(">I", 12) + b"\0guest\0guest" + b"\x05en_US"))
    got = raw.read_method()
    assert got is None or isinstance(got[1], spec.Connection.Close), got


@pytest.mark.parametrize("kind", [b"F", b"A"], ids=["tables", "arrays"])
def test_ten_thousand_tables_deep_in_publish_headers(raw, name, kind):
    raw.handshake().open_channel(1)
    raw.send_method(1, spec.Queue.Declare(queue=name, exclusive=True))
    raw.expect(spec.Queue.DeclareOk, 1)
    headers = nested(10_000, kind)
    assert 50_000 < len(headers) < 131_000, "the table must fit into one frame to be read at all"
    raw.send(method_frame(1, spec.Basic.Publish(exchange="", routing_key=name)),
             frame(CONTENT_HEADER, 1, struct.pack(">HHQH", 60, 0, 1, 0x2000) + headers), frame(BODY, 1, b"x"))
    close = raw.expect(spec.Connection.Close, 0)
    assert close.reply_code in (501, 502)


@pytest.mark.parametrize("kind", [b"F", b"A"], ids=["tables", "arrays"])
def test_ten_thousand_tables_deep_in_queue_arguments(raw, name, kind):
    raw.handshake().open_channel(1)
    raw.send(frame(METHOD, 1, struct.pack(">HHH", 50, 10, 0) + bytes([len(name)]) + name.encode() + b"\0"
                   + nested(10_000, kind)))
    assert raw.expect(spec.Connection.Close, 0).reply_code in (501, 502)


@pytest.mark.parametrize("size", [2**63, 2**64 - 1, 2**40])
def test_a_body_announced_as_enormous(shared_server, raw, name, size):
    before = shared_server.rss_kib()
    raw.handshake().open_channel(1)
    raw.send(method_frame(1, spec.Basic.Publish(exchange="", routing_key=name)), header_frame(1, size))
    got = raw.read_method()
    assert isinstance(got[1], (spec.Channel.Close, spec.Connection.Close)), got
    if isinstance(got[1], spec.Channel.Close):
        assert got[1].reply_code in (311, 406)
        assert "max size" in got[1].reply_text
    assert shared_server.rss_kib() - before < 20_000


def test_a_header_for_another_class(raw, name):
    raw.handshake().open_channel(1)
    raw.send(method_frame(1, spec.Basic.Publish(exchange="", routing_key=name)),
             frame(CONTENT_HEADER, 1, struct.pack(">HHQH", 50, 0, 1, 0)))
    assert raw.expect(spec.Connection.Close, 0).reply_code in (501, 502, 505)


@pytest.mark.parametrize("flags, rest", [(0xFFFF, b""), (0x8000, b"\xff"), (0x2000, b"\xff\xff\xff\xff"),
                                         (0x0001, b"\x00\x01\x00\x01"), (0x1000, b"")])
def test_broken_properties(raw, name, flags, rest):
    raw.handshake().open_channel(1)
    raw.send(method_frame(1, spec.Basic.Publish(exchange="", routing_key=name)),
             frame(CONTENT_HEADER, 1, struct.pack(">HHQH", 60, 0, 1, flags) + rest), frame(BODY, 1, b"x"))
    assert raw.expect(spec.Connection.Close, 0).reply_code in (501, 502, 505)


@pytest.mark.parametrize("kind", [b"Z", b"\x00", b"\xff"])
def test_an_unknown_table_type(raw, name, kind):
    raw.handshake().open_channel(1)
    field = b"\x01k" + kind + b"\0\0\0\0"
    raw.send(frame(METHOD, 1, struct.pack(">HHH", 50, 10, 0) + b"\x01q\0" + struct.pack(">I", len(field)) + field))
    assert raw.expect(spec.Connection.Close, 0).reply_code in (501, 502)


# --- slow, silent and vanishing peers --------------------------------------------------------------------------------

@pytest.mark.timeout(60)
def test_silent_connections_are_cut_off_by_the_handshake_timeout(broker):
    """Stopped at three places in the handshake: each is closed after about 10 s, none at once."""
    silent, greeted, logged_in = (RawAmqp(broker.host, broker.port, timeout_s=15) for _ in range(3))
    greeted.greet()
    logged_in.greet()
    logged_in.login()
    logged_in.expect(spec.Connection.Tune, 0)
    began = time.monotonic()
    for connection in (silent, greeted, logged_in):
        assert connection.eof(within_s=16), "a connection that stalls in the handshake must be cut off"
    took = time.monotonic() - began
    assert 5 <= took <= 16, f"cut off after {took:.1f} s"
    print(f"cut off after {took:.1f} s")


@pytest.mark.timeout(60)
def test_a_byte_a_second_does_not_put_the_timeout_off(broker):
    connection = RawAmqp(broker.host, broker.port, timeout_s=1)
    began = time.monotonic()
    connection.send(HEADER)
    connection.expect(spec.Connection.Start, 0)
    message = method_frame(0, spec.Connection.StartOk({"a": "b" * 200}, "PLAIN", "x" * 100, "en_US"))
    for byte in message:
        connection.send(bytes([byte]))
        if connection.eof(within_s=0.5):
            break
        assert time.monotonic() - began < 20, "a slow handshake must be cut off"
    assert time.monotonic() - began >= 5


def test_a_hundred_half_open_connections_do_not_disturb_anyone(shared_server, broker):
    before = shared_server.fds()
    many = [RawAmqp(broker.host, broker.port) for _ in range(100)]
    for connection in many[::2]:
        connection.greet()
    until(lambda: shared_server.fds() >= before + 90, "they are all accepted")
    channel = broker.channel()
    assert channel.queue_declare("", exclusive=True).method.message_count == 0
    for connection in many:
        connection.close()
    until(lambda: shared_server.fds() <= before + 5, "their descriptors are closed", 10)


def test_clients_that_vanish_in_the_middle_of_everything(shared_server, broker, name):
    before = shared_server.fds()
    complete = (method_frame(1, spec.Basic.Publish(exchange="", routing_key=name)) + header_frame(1, 1000)
                + frame(BODY, 1, b"x" * 1000))
    for cut in range(1, len(complete), 97):
        with RawAmqp(broker.host, broker.port) as raw:
            raw.handshake().open_channel(1)
            raw.send(complete[:cut])
    until(lambda: shared_server.fds() <= before + 3, "nothing is left of them", 10)


def test_a_consumer_that_does_not_read_is_bounded(shared_server, broker, name):
    """50 MB wait for a client that never reads: the server must neither buffer them all nor stop serving others."""
    channel = broker.channel()
    channel.queue_declare(name, exclusive=False)
    for _ in range(50):
        channel.basic_publish("", name, b"x" * 1_000_000)
    channel.queue_declare(name, passive=True)
    before = shared_server.rss_kib()
    with RawAmqp(broker.host, broker.port) as raw:
        raw.handshake().open_channel(1)
        raw.send_method(1, spec.Basic.Consume(queue=name, no_ack=False, consumer_tag="deaf"))
        deadline = time.monotonic() + 1
        most = before
        while time.monotonic() < deadline:
            most = max(most, shared_server.rss_kib())
            assert channel.queue_declare(name, passive=True).method.queue == name
        assert most - before < 40_000, f"RSS grew by {most - before} KiB for a consumer that does not read"
    channel.queue_delete(name)


def test_channels_and_consumers_without_end_are_limited(broker, name):
    """2,047 channels are the limit that was negotiated; a client cannot have more by asking."""
    with RawAmqp(broker.host, broker.port, timeout_s=20) as raw:
        raw.handshake()
        raw.send(b"".join(method_frame(n, spec.Channel.Open()) for n in range(1, 2048)))
        for _ in range(2047):
            raw.expect(spec.Channel.OpenOk)
        raw.send_method(2048, spec.Channel.Open())
        assert raw.expect(spec.Connection.Close, 0).reply_code in (504, 530)


@pytest.mark.timeout(120)
def test_nothing_leaks(shared_server, broker):
    """A thousand bad connections of all kinds; memory and descriptors return to about where they were."""

    def wave(count):
        for number in range(count):
            with RawAmqp(broker.host, broker.port) as raw:
                case = number % 5
                if case == 0:
                    raw.send(os.urandom(500))
                elif case == 1:
                    raw.greet()
                    raw.send(struct.pack(">BHI", METHOD, 0, 0x7FFFFFFF))
                elif case == 2:
                    raw.greet()
                    raw.login(password="wrong", properties={"capabilities": {"authentication_failure_close": True}})
                elif case == 3:
                    raw.handshake().open_channel(1)
                    raw.send(frame(METHOD, 1, b"\0\0\0\0", 0))
                else:
                    raw.handshake().open_channel(1)
                    raw.send_method(1, spec.Queue.Declare(queue="", exclusive=True))

    wave(200)
    until(lambda: shared_server.fds() < 60, "settled", 10)
    rss, fds = shared_server.rss_kib(), shared_server.fds()
    wave(1000)
    until(lambda: shared_server.fds() <= fds + 3, "descriptors are back", 15)
    grown = shared_server.rss_kib() - rss
    print(f"1,000 bad connections: {grown} KiB more, {shared_server.fds()} descriptors")
    assert grown < 6_000
