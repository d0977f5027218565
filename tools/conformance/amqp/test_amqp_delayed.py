"""Delayed and scheduled delivery: the type `x-delayed-message` of RabbitMQ's plugin, without its limits. The oracle has no
such plugin, so this runs against our binary."""

import base64
import decimal
import random
import statistics
import time

import pika
import pika.exceptions
import pytest

from harness.broker import Collector
from harness.http_client import request

pytestmark = pytest.mark.ours
DAY_MS = 86_400_000
# What is promised.
WITHIN_MS = 100


def delayed(channel, name, kind="direct", **options):
    channel.exchange_declare(name, "x-delayed-message", durable=True, arguments={"x-delayed-type": kind}, **options)
    channel.queue_declare(name, durable=True)
    channel.queue_bind(name, name, "k")


def send(channel, name, body, message_id=None, persistent=True, mandatory=False, **headers):
    headers = {key.replace("_", "-"): value for key, value in headers.items()}
    properties = pika.BasicProperties(delivery_mode=2 if persistent else 1, headers=headers, message_id=message_id)
    channel.basic_publish(name, "k", body, properties, mandatory=mandatory)


def cancel(channel, name, message_id):
    """Whether something was taken back."""
    try:
        send(channel, name, b"", mandatory=True, x_cancel_delivery=message_id)
    except pika.exceptions.UnroutableError:
        return False
    return True


def waiting(server, name):
    """The count of the management API."""
    login = {"Authorization": "Basic " + base64.b64encode(b"guest:guest").decode()}
    answer = request(server.ports["management"], "GET", "/api/exchanges/%2F", headers=login)
    return next(exchange["messages_delayed"] for exchange in answer.json if exchange["name"] == name)


@pytest.fixture
def there(channel, name):
    delayed(channel, name)
    channel.confirm_delivery()
    yield name
    channel.exchange_delete(name)
    channel.queue_delete(name)


def test_a_delay_of_300_ms_and_none(channel, there):
    consumer = Collector(channel, there, auto_ack=True)
    started = time.monotonic()
    send(channel, there, b"later", x_delay=300)
    for delay in (0, -5, "soon"):
        send(channel, there, b"now", x_delay=delay)
    send(channel, there, b"now")
    consumer.wait(4)
    assert consumer.bodies == [b"now"] * 4
    assert time.monotonic() - started < 0.3
    consumer.wait(5)
    took_ms = (time.monotonic() - started) * 1000
    assert 300 <= took_ms
    method, properties, body = consumer.got[4]
    assert (body, properties.headers["x-delay"], method.exchange) == (b"later", -300, there)


def test_every_kind_of_number_and_a_point_in_time(channel, there):
    consumer = Collector(channel, there, auto_ack=True)
    now_ms = int(time.time() * 1000)
    send(channel, there, b"d", x_deliver_at=now_ms + 700)
    send(channel, there, b"c", x_delay=500)
    send(channel, there, b"b", x_delay="300")
    send(channel, there, b"a", x_delay=decimal.Decimal("150.9"))
    send(channel, there, b"past", x_deliver_at=now_ms - 5)
    consumer.wait(5)
    assert consumer.bodies == [b"past", b"a", b"b", b"c", b"d"]
    assert time.time() * 1000 >= now_ms + 700


@pytest.mark.parametrize("kind, key, arguments", [
    ("fanout", "", None), ("topic", "#", None), ("headers", "", {"x-match": "all", "mark": 7}),
])
def test_it_routes_as_the_type_it_names(channel, name, kind, key, arguments):
    channel.exchange_declare(name, "x-delayed-message", arguments={"x-delayed-type": kind}, auto_delete=True)
    channel.queue_declare(name, exclusive=True)
    channel.queue_bind(name, name, key, arguments)
    consumer = Collector(channel, name, auto_ack=True)
    send(channel, name, b"a", x_delay=50, mark=7)
    assert consumer.wait(1).bodies == [b"a"]


def test_the_type_it_routes_as_is_required(connection, name):
    for arguments in (None, {"x-delayed-type": 1}, {"x-delayed-type": "x-delayed-message"}):
        with pytest.raises(pika.exceptions.ChannelClosedByBroker) as caught:
            connection.channel().exchange_declare(name, "x-delayed-message", arguments=arguments)
        assert caught.value.reply_code == 406
        assert "'x-delayed-type' must be an existing exchange type" in caught.value.reply_text


def test_what_waits_can_be_taken_back(channel, there):
    send(channel, there, b"a", message_id="one", x_delay=400)
    send(channel, there, b"b", message_id="two", x_delay=400)
    assert cancel(channel, there, "one")
    assert not cancel(channel, there, "one"), "it is gone already"
    assert not cancel(channel, there, "three")
    consumer = Collector(channel, there, auto_ack=True)
    assert consumer.wait(1).bodies == [b"b"]
    assert not cancel(channel, there, "two"), "too late"
    consumer.no_more()


def test_sixty_days_and_three_hundred_years_survive_a_kill(start_server):
    server = start_server()
    channel = pika.BlockingConnection(pika.URLParameters(server.amqp_url())).channel()
    delayed(channel, "plans")
    channel.confirm_delivery()
    send(channel, "plans", b"holiday", message_id="holiday", x_delay=60 * DAY_MS)
    send(channel, "plans", b"far", x_delay=300 * 365 * DAY_MS)
    send(channel, "plans", b"farther", x_delay=2**63 - 1)
    send(channel, "plans", b"passing", persistent=False, x_delay=60 * DAY_MS)
    send(channel, "plans", b"soon", x_delay=2000)
    assert waiting(server, "plans") == 5
    server.kill()
    server.start()
    channel = pika.BlockingConnection(pika.URLParameters(server.amqp_url())).channel()
    consumer = Collector(channel, "plans", auto_ack=True).wait(1, timeout_s=10)
    assert consumer.bodies == [b"soon"]
    assert waiting(server, "plans") == 3, "the transient one is gone with the process"
    channel.confirm_delivery()
    assert cancel(channel, "plans", "holiday")
    server.restart()
    assert waiting(server, "plans") == 2


def test_a_cancel_that_was_confirmed_survives_a_kill(start_server):
    server = start_server()
    channel = pika.BlockingConnection(pika.URLParameters(server.amqp_url())).channel()
    delayed(channel, "plans")
    channel.confirm_delivery()
    for n in range(20):
        send(channel, "plans", b"%d" % n, message_id=str(n), x_delay=3000)
    for n in range(0, 20, 2):
        assert cancel(channel, "plans", str(n))
    server.kill()
    server.start()
    channel = pika.BlockingConnection(pika.URLParameters(server.amqp_url())).channel()
    consumer = Collector(channel, "plans", auto_ack=True).wait(10, timeout_s=10)
    assert sorted(map(int, consumer.bodies)) == list(range(1, 20, 2))
    consumer.no_more()


def test_a_thousand_messages_are_on_time(broker, channel, there):
    """Each carries the moment it is due; the consumer's clock is this machine's, as the broker's is."""
    late, count = [], 1000
    dice = random.Random(3)
    out = broker.channel()
    # Not before all are published, for then the consumer does not look.
    start = int(time.time() * 1000) + 8000
    for _ in range(count):
        due = start + dice.randrange(2000)
        send(out, there, b"%d" % due, x_deliver_at=due)
    assert time.time() * 1000 < start, "this machine is too busy to publish in time"
    channel.basic_consume(there, lambda _c, _m, _p, body: late.append(time.time() * 1000 - float(body)), auto_ack=True)
    deadline = time.monotonic() + 20
    while len(late) < count and time.monotonic() < deadline:
        channel.connection.process_data_events(time_limit=0.01)
    assert len(late) == count
    late.sort()
    p99 = late[count * 99 // 100]
    print(f"\nlate by ms: median {statistics.median(late):.1f}, p99 {p99:.1f}, max {late[-1]:.1f}")
    assert late[0] >= 0, "nothing comes before its time"
    # The figure for a quiet machine is the last one; a busy one keeps this client waiting, too.
    assert statistics.median(late) <= WITHIN_MS

