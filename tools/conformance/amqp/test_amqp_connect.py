"""The handshake: protocol header, tune, login, vhost, heartbeats, closing (reference 1.1.1)."""

import struct
import time

import pika
import pytest
from pika import spec

from harness.amqp_raw import HEADER, HEARTBEAT, METHOD, RawAmqp, frame, method_frame, plain
from harness.definitions import VHOST


@pytest.fixture
def raw(broker):
    with RawAmqp(broker.host, broker.port) as connection:
        yield connection


def test_start_says_what_clients_look_for(raw):
    start = raw.greet()
    assert (start.version_major, start.version_minor) == (0, 9)
    mechanisms = start.mechanisms.decode() if isinstance(start.mechanisms, bytes) else start.mechanisms
    assert {"PLAIN", "AMQPLAIN"} <= set(mechanisms.split())
    properties = start.server_properties
    for key in ("product", "version", "platform", "copyright", "information", "cluster_name"):
        assert properties[key], key
    capabilities = properties["capabilities"]
    for capability in ("publisher_confirms", "exchange_exchange_bindings", "basic.nack", "consumer_cancel_notify",
                       "connection.blocked", "authentication_failure_close", "per_consumer_qos"):
        assert capabilities[capability] is True, capability


def test_tune_offers_the_usual_limits(raw):
    raw.greet()
    raw.login()
    tune = raw.expect(spec.Connection.Tune, 0)
    assert (tune.channel_max, tune.frame_max, tune.heartbeat) == (2047, 131072, 60)


def test_protocol_0_9_header_is_served_too(raw):
    raw.send(b"AMQP\x01\x01\x00\x09")
    raw.expect(spec.Connection.Start, 0)


@pytest.mark.parametrize("header", [b"AMQP\x00\x00\x08\x00", b"AMQP\x00\x09\x09\x09", b"XMQP\x00\x00\x09\x01"])
def test_an_unknown_protocol_header_is_answered_with_ours(raw, header):
    raw.send(header)
    assert raw.read_bytes(8) == HEADER
    assert raw.eof(), "the server must close after it has said which protocol it speaks"


@pytest.mark.parametrize("vhost", ["/", VHOST])
def test_a_user_opens_each_vhost_it_may(broker, vhost):
    connection = broker.connect("full", vhost=vhost)
    assert connection.channel().queue_declare("defined.q", passive=True).method.message_count == 0


def test_wrong_password_with_the_capability_is_told(raw):
    raw.greet()
    raw.login(password="wrong")
    close = raw.expect(spec.Connection.Close, 0)
    assert (close.reply_code, close.reply_text, close.class_id, close.method_id) == (
        403, "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. "
             "For details see the broker logfile.", 0, 0)


def test_unknown_user_gets_the_same_answer_as_a_wrong_password(raw):
    raw.greet()
    raw.login(user="who", password="who")
    close = raw.expect(spec.Connection.Close, 0)
    assert close.reply_text.startswith("ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN.")


def test_wrong_password_without_the_capability_just_closes(raw):
    raw.greet()
    raw.login(password="wrong", properties={"product": "old client"})
    assert raw.read_frame() is None, "without authentication_failure_close no AMQP frame is sent"


def test_pika_reports_a_refused_login(broker):
    with pytest.raises(pika.exceptions.ProbableAuthenticationError):
        broker.connect("full", "not it")


def amqplain(user, password):
    def field(key, value):
        return bytes([len(key)]) + key + b"S" + struct.pack(">I", len(value)) + value

    return field(b"LOGIN", user) + field(b"PASSWORD", password)


def test_amqplain_logs_in(raw):
    raw.greet()
    raw.login(mechanism="AMQPLAIN", response=amqplain(b"full", b"full-pw"))
    raw.expect(spec.Connection.Tune, 0)


def test_amqplain_with_a_wrong_password_is_told(raw):
    raw.greet()
    raw.login(mechanism="AMQPLAIN", response=amqplain(b"full", b"wrong"))
    close = raw.expect(spec.Connection.Close, 0)
    assert close.reply_code == 403
    assert "authentication mechanism AMQPLAIN" in close.reply_text


def refused(raw, code, text):
    """Before connection.open RabbitMQ 3.10 says nothing, waits 3 s and drops the connection; a server may instead say
    why. Either is a refusal; going on is not."""
    got = raw.read_method()
    if got is not None:
        assert isinstance(got[1], spec.Connection.Close), f"went on with {got[1]!r}"
        assert (got[1].reply_code, got[1].reply_text) == (code, text)


def test_unknown_mechanism_is_refused(raw):
    raw.greet()
    raw.login(mechanism="GSSAPI", response=b"x")
    refused(raw, 503, "COMMAND_INVALID - unknown authentication mechanism 'GSSAPI'")


@pytest.mark.parametrize("response", [b"", b"guest", b"\x00guest", b"\x00\x00\x00\x00", b"\xff" * 300])
def test_a_malformed_plain_response_is_refused(raw, response):
    raw.greet()
    raw.login(response=response)
    got = raw.read_method()
    assert got is None or isinstance(got[1], spec.Connection.Close), f"went on with {got[1]!r}"


def test_unknown_vhost(raw):
    raw.greet()
    raw.login()
    raw.expect(spec.Connection.Tune, 0)
    raw.send_method(0, spec.Connection.TuneOk(2047, 131072, 0))
    raw.send_method(0, spec.Connection.Open("nowhere"))
    raw.expect_close(530, "NOT_ALLOWED - vhost nowhere not found", 10, 40)


def test_a_vhost_the_user_has_no_permissions_in(raw):
    raw.greet()
    raw.login("nobody")
    raw.expect(spec.Connection.Tune, 0)
    raw.send_method(0, spec.Connection.TuneOk(2047, 131072, 0))
    raw.send_method(0, spec.Connection.Open("/"))
    raw.expect_close(530, "NOT_ALLOWED - access to vhost '/' refused for user 'nobody'", 10, 40)


@pytest.mark.parametrize("frame_max, text", [
    (131073, "NOT_ALLOWED - negotiated frame_max = 131073 is higher than the maximum allowed value (131072)"),
    (0, "NOT_ALLOWED - negotiated frame_max = 0 is higher than the maximum allowed value (131072)"),
])
def test_frame_max_outside_the_offer_is_refused(raw, frame_max, text):
    raw.greet()
    raw.login()
    raw.expect(spec.Connection.Tune, 0)
    raw.send_method(0, spec.Connection.TuneOk(2047, frame_max, 0))
    refused(raw, 530, text)


def test_the_standard_s_smallest_frame_is_served_and_a_smaller_one_is_not(broker):
    """The standard's minimum is 4096, which RabbitMQ 3.10 accepts; newer ones want 8192."""
    with RawAmqp(broker.host, broker.port) as raw:
        raw.handshake(frame_max=4096).open_channel(1)
    with RawAmqp(broker.host, broker.port) as raw:
        raw.greet()
        raw.login()
        raw.expect(spec.Connection.Tune, 0)
        raw.send_method(0, spec.Connection.TuneOk(2047, 4095, 0))
        got = raw.read_method()
        assert got is None or got[1].reply_text.startswith(
            "NOT_ALLOWED - negotiated frame_max = 4095 is lower than the minimum allowed value")


@pytest.mark.parametrize("channel_max", [2048, 0])
def test_channel_max_outside_the_offer_is_refused(raw, channel_max):
    raw.greet()
    raw.login()
    raw.expect(spec.Connection.Tune, 0)
    raw.send_method(0, spec.Connection.TuneOk(channel_max, 131072, 0))
    refused(raw, 530, f"NOT_ALLOWED - negotiated channel_max = {channel_max} is higher than the maximum allowed value "
                      "(2047)")


def test_a_smaller_frame_max_is_kept_by_the_server(raw, name):
    """With frame_max 8192 a 50,000-byte body comes back in frames of at most 8192 bytes, and whole."""
    raw.handshake(frame_max=8192).open_channel(1)
    raw.send_method(1, spec.Queue.Declare(queue=name, exclusive=True))
    raw.expect(spec.Queue.DeclareOk, 1)
    body = bytes(range(250)) * 200
    pieces = [frame(3, 1, body[at:at + 8184]) for at in range(0, len(body), 8184)]
    raw.send(method_frame(1, spec.Basic.Publish(exchange="", routing_key=name)))
    raw.send(pika.frame.Header(1, len(body), spec.BasicProperties()).marshal(), *pieces)
    raw.send_method(1, spec.Basic.Consume(queue=name, no_ack=True, consumer_tag="c"))
    raw.expect(spec.Basic.ConsumeOk, 1)
    raw.expect(spec.Basic.Deliver, 1)
    assert raw.read_frame()[0] == 2
    came, sizes = b"", []
    while len(came) < len(body):
        kind, _, payload = raw.read_frame()
        assert kind == 3
        sizes.append(len(payload) + 8)
        came += payload
    assert came == body
    assert max(sizes) <= 8192


def test_channel_max_is_a_limit(raw):
    raw.handshake(channel_max=3).open_channel(1).open_channel(2).open_channel(3)
    raw.send_method(4, spec.Channel.Open())
    raw.expect_close(530, "NOT_ALLOWED - number of channels opened (3) has reached the negotiated channel_max (3)")


def test_heartbeats_come_and_a_silent_client_is_cut_off(raw):
    """heartbeat=1: one at least every second; nothing from us for two intervals and more ends the connection."""
    raw.handshake(heartbeat=1)
    began = time.monotonic()
    beats = 0
    while (got := raw.read_frame()) is not None:
        assert got[:2] == (HEARTBEAT, 0)
        beats += 1
        assert time.monotonic() - began < 8, "a silent client must be cut off"
    assert beats >= 1
    assert time.monotonic() - began >= 1.5, "cut off before two intervals had passed"
    print(f"{beats} heartbeats, cut off after {time.monotonic() - began:.1f} s")


def test_heartbeats_keep_a_quiet_connection_alive(raw):
    raw.handshake(heartbeat=1)
    began = time.monotonic()
    while time.monotonic() - began < 4:
        raw.send(frame(HEARTBEAT, 0, b""))
        got = raw.read_frame()
        assert got is not None and got[0] == HEARTBEAT, "the server closed a connection that was beating"
    raw.open_channel(1)


def test_heartbeat_zero_means_none(raw):
    raw.handshake(heartbeat=0)
    raw.socket.settimeout(1.5)
    with pytest.raises(TimeoutError):
        raw.read_frame()


def test_closing_is_answered(raw):
    raw.handshake().open_channel(1)
    raw.send_method(0, spec.Connection.Close(200, "bye", 0, 0))
    raw.expect(spec.Connection.CloseOk, 0)


def test_frames_after_our_close_are_ignored(raw):
    raw.handshake().open_channel(1)
    raw.send(method_frame(0, spec.Connection.Close(200, "bye", 0, 0)),
             method_frame(1, spec.Queue.Declare(queue="", exclusive=True)))
    raw.expect(spec.Connection.CloseOk, 0)


def test_opening_a_channel_twice(raw):
    raw.handshake().open_channel(1)
    raw.send_method(1, spec.Channel.Open())
    raw.expect_close(504, "CHANNEL_ERROR - second 'channel.open' seen", 20, 10)


def test_a_method_on_a_channel_never_opened(raw):
    raw.handshake()
    raw.send_method(7, spec.Queue.Declare(queue="", exclusive=True))
    raw.expect_close(504, "CHANNEL_ERROR - expected 'channel.open'", 50, 10)


def test_a_channel_can_be_closed_and_opened_again(raw):
    raw.handshake().open_channel(1)
    raw.send_method(1, spec.Channel.Close(200, "done", 0, 0))
    raw.expect(spec.Channel.CloseOk, 1)
    raw.open_channel(1)


def test_after_a_channel_error_frames_are_ignored_until_close_ok(raw, name):
    raw.handshake().open_channel(1)
    raw.send(method_frame(1, spec.Queue.Declare(queue=name, passive=True)),
             method_frame(1, spec.Queue.Declare(queue=name + "-must-not-be-made")))
    close = raw.expect(spec.Channel.Close, 1)
    assert (close.reply_code, close.reply_text, close.class_id, close.method_id) == (
        404, f"NOT_FOUND - no queue '{name}' in vhost '/'", 50, 10)
    raw.send_method(1, spec.Channel.CloseOk())
    raw.open_channel(1)
    raw.send_method(1, spec.Queue.Declare(queue=name + "-must-not-be-made", passive=True))
    assert raw.expect(spec.Channel.Close, 1).reply_code == 404


def test_channel_flow_true_is_answered_and_false_is_refused(raw):
    raw.handshake().open_channel(1)
    raw.send_method(1, spec.Channel.Flow(True))
    assert raw.expect(spec.Channel.FlowOk, 1).active is True
    raw.send_method(1, spec.Channel.Flow(False))
    raw.expect_close(540, "NOT_IMPLEMENTED - active=false", 20, 20)


def test_access_request_is_answered(raw):
    """Class 30 is gone from the specification, but old clients still send it."""
    raw.handshake().open_channel(1)
    raw.send(frame(METHOD, 1, struct.pack(">HHB", 30, 10, 1) + b"/" + b"\x1d"))
    kind, channel, payload = raw.read_frame()
    assert (kind, channel, payload) == (METHOD, 1, struct.pack(">HHH", 30, 11, 1))


def test_two_hundred_channels_on_one_connection(broker):
    connection = broker.connect()
    channels = [connection.channel() for _ in range(200)]
    queue = channels[0].queue_declare("", exclusive=True).method.queue
    for number, channel in enumerate(channels):
        channel.basic_publish("", queue, str(number))
    channels[7].close()
    channels[0].queue_declare(queue, passive=True)
    seen = sorted(int(body) for _, _, body in (channels[9].basic_get(queue, auto_ack=True) for _ in range(200)))
    assert seen == list(range(200))
