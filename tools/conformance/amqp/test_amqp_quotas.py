"""Rate quotas: publishers are slowed by not being read, consumers by not being served; nothing is lost by either."""

import threading
import time

import pika
import pytest

from harness.broker import PERSISTENT, Broker, Collector, bodies, depth, get, wait_depth
from harness.definitions import definitions
from harness.http_client import request
from harness.wait import until

pytestmark = pytest.mark.ours


def config(*quotas, **more):
    return {"broker": {"definitions": definitions(), "quotas": list(quotas)}, **more}


def quota(scope, match="", **rates):
    return {"scope": scope, "match": match, **rates}


def metric(server, name, **labels):
    """The value of a sample with these labels, whatever others it has."""
    for line in request(server.ports["admin"], "GET", "/metrics").text.splitlines():
        sample, _, value = line.rpartition(" ")
        if sample.startswith(name + "{") and all(f'{key}="{wanted}"' in sample for key, wanted in labels.items()):
            return float(value)
    return None


@pytest.fixture
def broker_of():
    """Makes brokers for servers; their connections are closed after the test."""
    made = []

    def broker(server):
        made.append(Broker("127.0.0.1", server.ports["amqp"]))
        return made[-1]

    yield broker
    for broker in made:
        broker.close()


def test_a_publisher_is_slowed_and_loses_nothing(start_server, broker_of):
    """It writes as fast as it can and is not read; what it has read is confirmed on the way."""
    server = start_server(config(quota("user", "^guest$", publish=100, burst=10)))
    channel = broker_of(server).channel()
    channel.queue_declare("q", durable=True)
    began = time.monotonic()
    for number in range(200):
        channel.basic_publish("", "q", b"%d" % number, PERSISTENT)
    assert depth(channel, "q") == 200
    took = time.monotonic() - began
    assert took >= 1.5, f"200 messages at 100/s, 10 of them at once, took {took:.2f} s"
    assert bodies(channel, "q") == [b"%d" % number for number in range(200)]
    assert metric(server, "sluicegate_quota_rate", scope="user", match="^guest$", way="publish") == 100
    assert metric(server, "sluicegate_quota_waits_total", quota="0", way="publish") > 0


def test_confirms_come_as_the_messages_are_taken_in(start_server, broker_of):
    server = start_server(config(quota("vhost", "^/$", publish=50, burst=5)))
    channel = broker_of(server).channel()
    channel.queue_declare("q", durable=True)
    channel.confirm_delivery()
    began = time.monotonic()
    for number in range(45):
        channel.basic_publish("", "q", b"%d" % number, PERSISTENT, mandatory=True)
    took = time.monotonic() - began
    assert took >= 0.6, f"45 messages at 50/s, 5 of them at once, took {took:.2f} s"
    assert depth(channel, "q") == 45


def test_whoever_waits_for_long_is_not_taken_for_dead(start_server, broker_of):
    """Sixteen connections with a heartbeat of one second share two messages a second: the last is not read for eight."""
    server = start_server(config(quota("user", "^guest$", publish=2, burst=1)))
    broker = broker_of(server)
    channel = broker.channel()
    channel.queue_declare("q")
    connections = [broker.connect(heartbeat=1) for _ in range(16)]
    done, failures = threading.Event(), []

    def publish(connection):
        try:
            connection.channel().basic_publish("", "q", b"m")
            while not done.is_set():
                connection.process_data_events(time_limit=0.1)
        except Exception as error:  # noqa: BLE001; whatever ends a connection
            failures.append(repr(error))

    threads = [threading.Thread(target=publish, args=(connection,)) for connection in connections]
    for thread in threads:
        thread.start()
    try:
        wait_depth(channel, "q", 16, 30)
    finally:
        done.set()
        for thread in threads:
            thread.join(timeout=15)
    assert not failures, failures[:3]


def test_a_consumer_is_slowed_and_gets_everything(start_server, broker_of):
    server = start_server(config(quota("queue", "^slow$", consume=50, burst=5)))
    broker = broker_of(server)
    channel = broker.channel()
    for queue in ("slow", "fast"):
        channel.queue_declare(queue)
        for number in range(50):
            channel.basic_publish("", queue, b"%d" % number)
    began = time.monotonic()
    slow = Collector(broker.channel(), "slow", auto_ack=True)
    fast = Collector(broker.channel(), "fast", auto_ack=True).wait(50)
    slow.wait(50, 20)
    took = time.monotonic() - began
    assert took >= 0.7, f"50 messages at 50/s, 5 of them at once, took {took:.2f} s"
    assert slow.bodies == fast.bodies == [b"%d" % number for number in range(50)]
    assert metric(server, "sluicegate_quota_waits_total", scope="queue", match="^slow$", way="consume") > 0


def test_a_get_waits_for_its_turn(start_server, broker_of):
    server = start_server(config(quota("connection", consume=10, burst=1)))
    channel = broker_of(server).channel()
    channel.queue_declare("q")
    for number in range(8):
        channel.basic_publish("", "q", b"%d" % number)
    wait_depth(channel, "q", 8)
    began = time.monotonic()
    assert [get(channel, "q")[2] for _ in range(8)] == [b"%d" % number for number in range(8)]
    took = time.monotonic() - began
    assert took >= 0.5, f"8 messages at 10/s took {took:.2f} s"


def test_a_connection_has_its_own_quota_and_a_user_one_for_all(start_server, broker_of):
    """Four connections, each allowed 100 messages a second: with one quota for the user they take four times as long."""
    took = {}
    for scope in ("connection", "user"):
        server = start_server(config(quota(scope, "^guest$", publish=100, burst=1)))
        broker = broker_of(server)
        broker.channel().queue_declare("q")
        channels = [broker.channel() for _ in range(4)]
        began = time.monotonic()

        def publish(channel):
            for _ in range(40):
                channel.basic_publish("", "q", b"m")
            channel.queue_declare("q", passive=True)

        threads = [threading.Thread(target=publish, args=(channel,)) for channel in channels]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)
        took[scope] = time.monotonic() - began
        assert depth(broker.channel(), "q") == 160
    assert took["connection"] >= 0.3 and took["user"] >= 1.3, took


def test_a_reload_changes_rates_of_those_who_are_connected(start_server, broker_of):
    """A publisher and a consumer that would take hours go on at once, and another reload slows them again."""
    crawl = quota("user", "", publish=1, consume=1, burst=1)
    server = start_server(config(crawl))
    broker = broker_of(server)
    publisher, consumer = broker.channel(), Collector(broker.channel(), declared(broker, "q"), auto_ack=True)
    for number in range(3_000):
        publisher.basic_publish("", "q", b"%d" % number)
    consumer.wait(1)
    server.take_over(config())
    assert consumer.wait(3_000, 30).bodies == [b"%d" % number for number in range(3_000)]
    assert metric(server, "sluicegate_quota_rate") is None
    server.take_over(config(quota("queue", "^q$", publish=40, burst=1)))
    began = time.monotonic()
    for number in range(40):
        publisher.basic_publish("", "q", b"again %d" % number)
    consumer.wait(3_040, 30)
    took = time.monotonic() - began
    assert took >= 0.7, f"40 messages at 40/s took {took:.2f} s"
    shown = len(server.stderr())
    server.write_config(config({"scope": "queue", "match": "(", "publish": 0}))
    server.reload()
    until(lambda: "reload refused" in server.stderr()[shown:], "the refusal is said", 30)
    assert "is not a regular expression" in server.stderr()[shown:]
    assert metric(server, "sluicegate_quota_rate", scope="queue", match="^q$") == 40


def declared(broker, queue):
    broker.channel().queue_declare(queue)
    return queue


def test_a_stop_does_not_wait_for_who_is_held(start_server, broker_of):
    """What was read is taken in and confirmed, and the server leaves well before its patience ends."""
    server = start_server(config(quota("user", "", publish=1, burst=1), limits={"drain_timeout": "60s"}))
    broker = broker_of(server)
    channel = broker.channel()
    channel.queue_declare("q", durable=True)
    for number in range(50):
        channel.basic_publish("", "q", b"%d" % number, PERSISTENT)
    wait_depth(broker.channel(), "q", 1)
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 20
    server.start()
    again = broker_of(server).channel()
    assert depth(again, "q") >= 1


def test_http_publishers_are_told_to_come_back(start_server, broker_of):
    """A request was read already when it is known where it goes, so it is refused with 429 and Retry-After."""
    server = start_server({
        "broker": {"definitions": definitions(), "quotas": [quota("queue", "^orders$", publish=1, burst=2)]},
        "services": [{"name": "orders", "protocol": "queue", "host": "orders",
                      "routes": [{"name": "orders", "paths": ["/orders"]}]}],
    })
    answers = [request(server.ports["http"], "POST", "/orders", body=b"{}") for _ in range(4)]
    assert [answer.status for answer in answers][:2] == [202, 202]
    late = next(answer for answer in answers if answer.status != 202)
    assert late.status == 429
    assert late.headers["Retry-After"] == "1"
