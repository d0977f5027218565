"""Bodies larger than the server's memory: taken, kept and given piece by piece, durable like any other; and what becomes
of one that is not finished, or is damaged on the disk."""

import hashlib
import pathlib
import threading

import pika
import pika.exceptions
import pytest

from harness.amqp_raw import BODY, RawAmqp, frame, header_frame
from harness.broker import PERSISTENT, closes_channel, depth, get
from harness.wait import until

pytestmark = pytest.mark.ours
MIB = 1 << 20
LARGE = 64 * MIB
# The peak of a process that may hold 16 MiB of messages, its own code included. Holding the body once would double it.
RSS_KIB_MAX = 60 * 1024


def content(size, salt=0):
    """Bytes that do not repeat, so a piece at the wrong place is seen."""
    block = b"".join(hashlib.sha256(f"{salt}-{n}".encode()).digest() for n in range(4096))
    return b"".join((n.to_bytes(8, "big") + block for n in range(size // len(block) + 1)))[:size]


def connect(server, **more):
    parameters = pika.URLParameters(server.amqp_url())
    parameters.socket_timeout = 30
    for name, value in more.items():
        setattr(parameters, name, value)
    return pika.BlockingConnection(parameters)


def channel(server):
    return connect(server).channel()


def peak_kib(server):
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


def body_files(server):
    return sorted(path.name for path in server.data.rglob("body-*.data"))


def no_bodies_left(server):
    until(lambda: not body_files(server), "the files of bodies that nobody needs are gone", 20)


def small_server(start_server, **limits):
    return start_server({"limits": {"memory_max": "16MiB", **limits}})


def test_a_body_larger_than_memory_passes_and_survives_a_kill(start_server):
    server = small_server(start_server)
    body = content(LARGE)
    digest = hashlib.sha256(body).hexdigest()
    ch = channel(server)
    ch.confirm_delivery()
    ch.queue_declare("q", durable=True)
    properties = pika.BasicProperties(delivery_mode=2, message_id="m", headers={"n": 1})
    ch.basic_publish("", "q", body, properties, mandatory=True)
    assert peak_kib(server) < RSS_KIB_MAX
    server.kill()
    server.start()
    ch = channel(server)
    assert depth(ch, "q") == 1
    method, came, got = ch.basic_get("q")
    assert (hashlib.sha256(got).hexdigest(), came.message_id, came.headers) == (digest, "m", {"n": 1})
    assert len(body_files(server)) == 1
    ch.basic_reject(method.delivery_tag, requeue=True)
    method, _, got = ch.basic_get("q")
    assert method.redelivered and hashlib.sha256(got).hexdigest() == digest
    assert peak_kib(server) < RSS_KIB_MAX
    ch.basic_ack(method.delivery_tag)
    no_bodies_left(server)
    server.restart()
    assert depth(channel(server), "q") == 0
    assert not body_files(server)


def test_one_body_for_several_queues_dead_letters_and_transactions(start_server):
    server = small_server(start_server)
    body = content(3 * MIB + 7)
    ch = channel(server)
    ch.queue_declare("dead", durable=True)
    ch.queue_declare("a", durable=True, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
    ch.queue_declare("b", durable=True, arguments={"x-max-priority": 5})
    ch.queue_declare("c", durable=False)
    for queue in "abc":
        ch.queue_bind(queue, "amq.fanout")
    ch.tx_select()
    ch.basic_publish("amq.fanout", "", body, PERSISTENT)
    assert depth(channel(server), "a") == 0
    ch.tx_rollback()
    no_bodies_left(server)
    ch.basic_publish("amq.fanout", "", body, PERSISTENT)
    ch.tx_commit()
    assert len(body_files(server)) == 1
    ch = channel(server)
    for queue in "bc":
        _, _, got = ch.basic_get(queue, auto_ack=True)
        assert got == body
    method, _, got = ch.basic_get("a")
    assert got == body
    ch.basic_reject(method.delivery_tag, requeue=False)
    assert depth(ch, "a") == 0
    # It is handed out only when it is durable there.
    method, _, _ = get(ch, "dead", auto_ack=False)
    ch.basic_reject(method.delivery_tag, requeue=True)
    server.kill()
    server.start()
    ch = channel(server)
    _, came, got = ch.basic_get("dead", auto_ack=True)
    assert got == body
    assert (came.headers["x-death"][0]["queue"], came.headers["x-death"][0]["reason"]) == ("a", "rejected")
    no_bodies_left(server)


def test_a_large_delivery_lets_other_channels_speak(start_server):
    server = small_server(start_server)
    body = content(24 * MIB)
    connection = connect(server)
    ch, other = connection.channel(), connection.channel()
    ch.confirm_delivery()
    ch.queue_declare("large")
    ch.queue_declare("small")
    ch.basic_publish("", "large", body)
    for n in range(3):
        ch.basic_publish("", "large", f"behind {n}".encode())
    ch.basic_publish("", "small", b"meanwhile")
    got = []
    ch.basic_consume("large", lambda *args: got.append(args[3]), auto_ack=True)
    # Its answer comes while the body is under way, and everything behind it on its own channel in order.
    _, _, small = other.basic_get("small", auto_ack=True)
    assert small == b"meanwhile"
    while len(got) < 4:
        connection.process_data_events(time_limit=5)
    assert got == [body, b"behind 0", b"behind 1", b"behind 2"]
    no_bodies_left(server)


def test_many_publish_and_consume_at_once_within_memory(start_server):
    server = small_server(start_server)
    ch = channel(server)
    ch.queue_declare("q", durable=True)
    failed = []

    def publisher(salt):
        try:
            mine = channel(server)
            mine.confirm_delivery()
            mine.basic_publish("", "q", content(12 * MIB, salt), PERSISTENT, mandatory=True)
            mine.connection.close()
        except pika.exceptions.AMQPError as error:
            failed.append(error)

    threads = [threading.Thread(target=publisher, args=(salt,)) for salt in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    wanted = {hashlib.sha256(content(12 * MIB, salt)).hexdigest() for salt in range(6)}
    ch.basic_qos(prefetch_count=2)
    seen = set()
    for method, _, body in ch.consume("q"):
        seen.add(hashlib.sha256(body).hexdigest())
        ch.basic_ack(method.delivery_tag)
        if len(seen) == 6:
            break
    assert seen == wanted
    assert peak_kib(server) < RSS_KIB_MAX
    ch.cancel()
    no_bodies_left(server)


def test_the_limit_of_a_message_and_the_limit_of_that(start_server):
    server = small_server(start_server, message_size_max="512MiB")
    ch = channel(server)
    text = "PRECONDITION_FAILED - message size {} is larger than configured max size {}"
    ch.queue_declare("q")
    ch.basic_publish("", "q", content(2 * MIB))
    assert ch.basic_get("q", auto_ack=True)[2] == content(2 * MIB)

    def announce(size):
        mine = channel(server)
        publish = pika.spec.Basic.Publish(exchange="", routing_key="q")
        header = pika.frame.Header(mine.channel_number, size, pika.BasicProperties())

        def send():
            mine.connection._impl._output_marshaled_frames(
                [pika.frame.Method(mine.channel_number, publish).marshal(), header.marshal()])

        closes_channel(mine, 406, text.format(size, 512 * MIB), send)

    announce(512 * MIB + 1)
    announce(1 << 63)
    no_bodies_left(server)


def test_a_body_that_is_not_finished_leaves_nothing(start_server):
    server = small_server(start_server)
    parts = [frame(BODY, 1, bytes(100_000)) for _ in range(20)]

    def half():
        raw = RawAmqp("127.0.0.1", server.ports["amqp"]).handshake().open_channel()
        raw.send_method(1, pika.spec.Basic.Publish(exchange="", routing_key="q"))
        raw.send(header_frame(1, 8 * MIB, PERSISTENT), *parts)
        until(lambda: len(body_files(server)) == 1, "the body is begun", 10)
        return raw

    with half():
        pass
    no_bodies_left(server)
    with half() as raw:
        raw.send_method(1, pika.spec.Channel.Open())
        raw.expect_close(505, "UNEXPECTED_FRAME - expected content body, got non content body frame instead")
    no_bodies_left(server)
    with half():
        server.kill()
    server.start()
    assert not body_files(server)


def test_a_damaged_body_is_kept_aside_and_told(start_server):
    server = small_server(start_server)
    ch = channel(server)
    ch.confirm_delivery()
    ch.queue_declare("q", durable=True)
    ch.basic_publish("", "q", content(2 * MIB), PERSISTENT)
    ch.basic_publish("", "q", b"behind", PERSISTENT)
    server.stop()
    (file,) = server.data.rglob("body-*.data")
    damaged = bytearray(file.read_bytes())
    damaged[MIB + 12345] ^= 4
    file.write_bytes(damaged)
    server.start()
    ch = channel(server)
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as closed:
        ch.basic_get("q")
    assert (closed.value.reply_code, closed.value.reply_text) == (
        541, "INTERNAL_ERROR - the body of a message cannot be read from the disk")
    assert f"the body {file.name}" in server.stderr()
    ch = channel(server)
    method, _, body = ch.basic_get("q")
    assert body == b"behind", "nobody is held up by it"
    ch.basic_ack(method.delivery_tag)
    assert body_files(server) == [file.name], "and it is not dropped"
    server.stop()
    file.unlink()
    server.start()
    assert f"the body {file.name}, of {2 * MIB} bytes: its file is missing" in server.stderr()
    assert channel(server).basic_get("q") == (None, None, None)
