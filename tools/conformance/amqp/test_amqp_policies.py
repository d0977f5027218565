"""Policies in definitions: in force for what is declared later and, by SIGHUP, for what is there."""

import base64
import threading

import pika
import pika.exceptions
import pytest

from harness.broker import PERSISTENT, Broker, Collector, bodies, depth, publish, wait_depth
from harness.definitions import definitions
from harness.http_client import request
from harness.wait import until

pytestmark = pytest.mark.ours
BASIC = {"Authorization": "Basic " + base64.b64encode(b"guest:guest").decode()}


def config(*policies, parameters=()):
    return {"broker": {"definitions": {**definitions(), "policies": list(policies), "parameters": list(parameters)}}}


def policy(name, pattern, priority=0, **definition):
    return {"vhost": "/", "name": name, "pattern": pattern, "apply-to": "all", "priority": priority,
            "definition": {key.replace("_", "-"): value for key, value in definition.items()}}


def queue_view(server, name):
    return request(server.ports["management"], "GET", f"/api/queues/%2F/{name}", headers=BASIC).json


def test_a_policy_is_in_force_for_queues_declared_later(start_server, channel_of):
    server = start_server(config(
        policy("dead", "^jobs", dead_letter_exchange="", dead_letter_routing_key="failed", message_ttl=200),
        policy("other", ".*", -1, expires=3_600_000)))
    channel = channel_of(server)
    channel.queue_declare("failed", durable=True)
    channel.queue_declare("jobs", durable=True)
    publish(channel, "jobs", b"1")
    wait_depth(channel, "failed", 1)
    _, properties, body = channel.basic_get("failed", auto_ack=True)
    assert (body, properties.headers["x-death"][0]["reason"]) == (b"1", "expired")
    view = queue_view(server, "jobs")
    assert view["policy"] == "dead"
    assert view["effective_policy_definition"] == {
        "dead-letter-exchange": "", "dead-letter-routing-key": "failed", "message-ttl": 200}
    assert queue_view(server, "failed")["policy"] == "other"


def test_an_operator_policy_limits_what_a_client_declares(start_server, channel_of):
    server = start_server(config(parameters=[{
        "component": "operator_policy", "name": "short", "vhost": "/",
        "value": {"pattern": "", "apply-to": "queues", "priority": 0, "definition": [["message-ttl", 150]]}}]))
    channel = channel_of(server)
    channel.queue_declare("q", arguments={"x-message-ttl": 3_600_000})
    publish(channel, "q", b"1")
    wait_depth(channel, "q", 1)
    wait_depth(channel, "q", 0)
    assert queue_view(server, "q")["operator_policy"] == "short"


def test_policies_change_under_load_and_no_message_is_lost(start_server, channel_of):
    """A publisher with confirms and two consumers go on while policies come and go ten times. Every confirmed message is
    consumed, or lies in the queue or among the dead letters."""
    server = start_server(config())
    channel = channel_of(server)
    channel.queue_declare("dead", durable=True)
    channel.queue_declare("work", durable=True)
    done, confirmed, seen, failures = threading.Event(), [], set(), []

    def produce():
        connection = pika.BlockingConnection(Broker("127.0.0.1", server.ports["amqp"]).parameters())
        try:
            out = connection.channel()
            out.confirm_delivery()
            number = 0
            while not done.is_set():
                out.basic_publish("", "work", b"%d" % number, PERSISTENT, mandatory=True)
                confirmed.append(number)
                number += 1
        except Exception as error:  # noqa: BLE001; any failure of a client is what this test is about
            failures.append(repr(error))
        finally:
            connection.close()

    def work(priority):
        connection = pika.BlockingConnection(Broker("127.0.0.1", server.ports["amqp"]).parameters())
        try:
            mine = connection.channel()
            mine.basic_qos(prefetch_count=5)
            for method, _, body in mine.consume("work", inactivity_timeout=0.05, arguments={"x-priority": priority}):
                if method is None:
                    if done.is_set():
                        break
                    continue
                if int(body) % 7 == 0:
                    mine.basic_reject(method.delivery_tag, requeue=False)
                    rejected.add(int(body))
                else:
                    seen.add(int(body))
                    mine.basic_ack(method.delivery_tag)
        except Exception as error:  # noqa: BLE001
            failures.append(repr(error))
        finally:
            connection.close()

    rejected = set()
    dead = {"dead_letter_exchange": "", "dead_letter_routing_key": "dead"}
    server.take_over(config(policy("p", "^work$", **dead)))
    threads = [threading.Thread(target=produce), threading.Thread(target=work, args=(0,)),
               threading.Thread(target=work, args=(5,))]
    for thread in threads:
        thread.start()
    for round_ in range(10):
        before = len(confirmed)
        server.take_over(config(
            policy(f"p{round_}", "^work$", round_, dispatch=("round-robin", "priority")[round_ % 2],
                   message_ttl=600_000 + round_, **dead)))
        until(lambda: len(confirmed) > before + 20 or failures, "clients went on")  # noqa: B023
        assert queue_view(server, "work")["policy"] == f"p{round_}"
    done.set()
    for thread in threads:
        thread.join(timeout=15)
    assert not failures, failures[:5]
    left = {int(body) for body in bodies(channel, "work")}
    letters = {int(body) for body in bodies(channel, "dead")}
    print(f"{len(confirmed)} confirmed over 10 reloads: {len(seen)} consumed, {len(letters)} dead, {len(left)} left")
    assert set(confirmed) <= seen | letters | left
    assert rejected <= letters


def test_a_shorter_length_drops_the_head_of_what_is_there(start_server, channel_of):
    server = start_server(config())
    channel = channel_of(server)
    channel.queue_declare("q", durable=True)
    channel.queue_declare("dead", durable=True)
    channel.confirm_delivery()
    publish(channel, "q", *[b"%d" % n for n in range(2000)], properties=PERSISTENT)
    server.take_over(config(policy("short", "^q$", max_length=1500)))
    assert depth(channel, "q") == 1500
    dead = {"dead_letter_exchange": "", "dead_letter_routing_key": "dead"}
    server.take_over(config(policy("shorter", "^q$", max_length=3, **dead)))
    assert depth(channel, "q") == 3
    wait_depth(channel, "dead", 1497)
    assert bodies(channel, "q") == [b"1997", b"1998", b"1999"]
    assert bodies(channel, "dead") == [b"%d" % n for n in range(500, 1997)]
    server.take_over(config(policy("refusing", "^q$", max_length=1, overflow="reject-publish")))
    publish(channel, "q", b"in")
    with pytest.raises(pika.exceptions.NackError):
        publish(channel, "q", b"out")
    assert queue_view(server, "q")["effective_policy_definition"] == {"max-length": 1, "overflow": "reject-publish"}
    server.take_over(config())
    publish(channel, "q", b"in again")
    assert bodies(channel, "q") == [b"in", b"in again"]


def test_limits_change_under_load_and_a_confirm_stays_a_promise(start_server, channel_of):
    """Four publishers with confirms and a consumer go on while a queue begins and ends to refuse twenty times. What was
    confirmed is consumed or lies in the queue, in order for each publisher; what was refused by name is nowhere."""
    server = start_server(config())
    channel = channel_of(server)
    channel.queue_declare("work", durable=True)
    done, failures = threading.Event(), []
    confirmed, refused = [[] for _ in range(4)], [[] for _ in range(4)]

    def produce(mine):
        connection = pika.BlockingConnection(Broker("127.0.0.1", server.ports["amqp"]).parameters())
        try:
            out = connection.channel()
            out.confirm_delivery()
            number = 0
            while not done.is_set():
                try:
                    out.basic_publish("", "work", b"%d %d" % (mine, number), PERSISTENT, mandatory=True)
                    confirmed[mine].append(number)
                except pika.exceptions.NackError:
                    refused[mine].append(number)
                number += 1
        except Exception as error:  # noqa: BLE001; any failure of a client is what this test is about
            failures.append(repr(error))
        finally:
            connection.close()

    threads = [threading.Thread(target=produce, args=(mine,)) for mine in range(4)]
    for thread in threads:
        thread.start()
    consumer = Collector(channel_of(server), "work", auto_ack=True)
    for round_ in range(20):
        before = sum(map(len, confirmed)), sum(map(len, refused))
        if round_ % 2 == 0:
            server.take_over(config(policy("full", "^work$", max_length=0, overflow="reject-publish")))
            until(lambda: sum(map(len, refused)) > before[1] or failures, "the queue refuses", 20)  # noqa: B023
        else:
            server.take_over(config(policy("open", "^work$", max_length=1_000_000)))
            until(lambda: sum(map(len, confirmed)) > before[0] + 20 or failures, "clients went on", 20)  # noqa: B023
        consumer.channel.connection.process_data_events(time_limit=0)
    done.set()
    for thread in threads:
        thread.join(timeout=15)
    assert not failures, failures[:5]
    consumer.wait(sum(map(len, confirmed)), 20)
    print(f"{sum(map(len, confirmed))} confirmed and {sum(map(len, refused))} refused over 20 reloads")
    for mine in range(4):
        seen = [int(body.split()[1]) for body in consumer.bodies if body.startswith(b"%d " % mine)]
        assert seen == confirmed[mine]


def test_the_dispatch_of_a_queue_changes_live(start_server, channel_of):
    server = start_server(config())
    channel = channel_of(server)
    channel.queue_declare("q")
    low = Collector(channel_of(server), "q")
    high = Collector(channel_of(server), "q", arguments={"x-priority": 9})
    publish(channel, "q", *[b"%d" % n for n in range(10)])
    high.wait(10)
    assert low.bodies == []
    server.take_over(config(policy("turns", "", dispatch="round-robin")))
    publish(channel, "q", *[b"%d" % n for n in range(10)])
    low.wait(4)
    high.wait(14)


def test_a_bad_policy_is_refused_by_name_and_place(start_server):
    server = start_server(config(policy("good", "^q", message_ttl=1000)))
    shown = len(server.stderr())
    server.write_config(config(policy("bad", "^q", mesage_ttl=1000)))
    server.reload()
    until(lambda: "reload refused" in server.stderr()[shown:], "the refusal is said")
    said = server.stderr()[shown:]
    assert "unknown key `mesage-ttl` in the definition of policy `bad`" in said, said
    assert "did you mean `message-ttl`?" in said
