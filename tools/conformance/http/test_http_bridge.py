"""The bridge: a route that ends in a queue (202 means on disk), a queue that is pushed to an HTTP service with retries, and a
dead letter with its reason (reference bridge-and-gateways.md 4.3 and 4.5)."""

import json
import threading
import time

import pika
import pytest

from harness.broker import PERSISTENT, bodies, depth, get, wait_depth
from harness.http_client import request
from harness.upstream import Upstream, send
from harness.wait import holds, until

pytestmark = pytest.mark.ours
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def amqp(server):
    return pika.BlockingConnection(pika.URLParameters(server.amqp_url())).channel()


# --- HTTP to queue ---------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def intake(tmp_path_factory):
    from harness.server import Server

    server = Server(tmp_path_factory.mktemp("intake"), {
        "services": [
            {"name": "orders-intake", "protocol": "queue", "host": "orders",
             "routes": [{"name": "post-order", "methods": ["POST"], "paths": ["/orders"]}]},
            {"name": "guarded-intake", "protocol": "queue", "host": "guarded",
             "routes": [{"name": "guarded", "paths": ["/guarded"], "plugins": [{"name": "key-auth"}]}]},
            {"name": "listed-intake", "protocol": "queue", "host": "listed", "plugins": [
                {"name": "queue-publish", "config": {"forward_headers": ["X-Tenant", "x-colour"]}}],
             "routes": [{"name": "listed", "paths": ["/listed"]}]},
        ],
        "consumers": [{"username": "ann", "keyauth_credentials": [{"key": "ann-key"}]}],
    }).start()
    yield server
    server.close()


@pytest.fixture
def channel(intake):
    channel = amqp(intake)
    yield channel
    channel.connection.close()


def test_a_post_becomes_a_durable_message(intake, channel):
    answer = request(intake.ports["http"], "POST", "/orders", b'{"item": "book"}', {
        "Content-Type": "application/json", "traceparent": TRACE, "tracestate": "a=b", "Content-Encoding": "identity"})
    assert answer.status == 202
    assert answer.headers["Content-Type"].startswith("application/json")
    assert set(answer.json) == {"id", "queue", "status"}
    assert (answer.json["queue"], answer.json["status"]) == ("orders", "queued")
    method, properties, body = get(channel, "orders")
    assert (body, method.redelivered) == (b'{"item": "book"}', False)
    assert properties.delivery_mode == 2
    assert properties.content_type == "application/json"
    assert properties.headers["traceparent"] == TRACE
    assert properties.message_id == answer.json["id"] and answer.json["id"]


def test_ids_differ_and_order_is_kept(intake, channel):
    ids = [request(intake.ports["http"], "POST", "/orders", b"%d" % n).json["id"] for n in range(50)]
    assert len(set(ids)) == 50
    assert bodies(channel, "orders") == [b"%d" % n for n in range(50)]


def test_secrets_and_unlisted_headers_are_not_put_on_the_message(intake, channel):
    request(intake.ports["http"], "POST", "/orders", b"x", {
        "Authorization": "Bearer secret", "Cookie": "session=secret", "Proxy-Authorization": "Basic secret",
        "X-Unlisted": "unlisted", "Connection": "keep-alive"})
    _, properties, _ = get(channel, "orders")
    text = json.dumps({str(k).lower(): str(v) for k, v in (properties.headers or {}).items()})
    assert "secret" not in text and "unlisted" not in text and "connection" not in text


def test_listed_headers_are(intake, channel):
    request(intake.ports["http"], "POST", "/listed", b"x", {"X-Tenant": "acme", "X-Colour": "blue", "X-Other": "no"})
    _, properties, _ = get(channel, "listed")
    headers = {key.lower(): value for key, value in properties.headers.items()}
    assert (headers["x-tenant"], headers["x-colour"]) == ("acme", "blue")
    assert "x-other" not in headers


@pytest.mark.parametrize("body", [b"", b"\x00\xff" * 1000, b"z" * 3_000_000], ids=["empty", "binary", "large"])
def test_any_body(intake, channel, body):
    assert request(intake.ports["http"], "POST", "/orders", body).status == 202
    assert get(channel, "orders")[2] == body


def test_a_chunked_body(intake, channel):
    assert request(intake.ports["http"], "POST", "/orders", iter([b"in ", b"three ", b"pieces"])).status == 202
    assert get(channel, "orders")[2] == b"in three pieces"


def test_other_methods_do_not_match_the_route(intake):
    answer = request(intake.ports["http"], "GET", "/orders")
    assert (answer.status, answer.json["message"]) == (404, "no Route matched with those values")


def test_plugins_run_before_the_queue(intake, channel):
    assert request(intake.ports["http"], "POST", "/guarded", b"x").status == 401
    assert depth(channel, "guarded") == 0
    assert request(intake.ports["http"], "POST", "/guarded", b"x", {"apikey": "ann-key"}).status == 202
    assert get(channel, "guarded")[2] == b"x"


def test_the_queue_is_declared_durable(intake, channel):
    assert channel.queue_declare("orders", durable=True).method.queue == "orders"


def test_what_was_answered_202_survives_kill_9(start_server):
    server = start_server({"services": [{"name": "s", "protocol": "queue", "host": "q",
                                         "routes": [{"name": "r", "paths": ["/q"]}]}]})
    ids = [request(server.ports["http"], "POST", "/q", b"%d" % n).json["id"] for n in range(30)]
    server.kill()
    server.start()
    channel = amqp(server)
    got = [channel.basic_get("q", auto_ack=True) for _ in range(30)]
    assert [(p.message_id, b) for _, p, b in got] == [(i, b"%d" % n) for n, i in enumerate(ids)]
    channel.connection.close()


def test_a_vhost_other_than_the_default(start_server):
    server = start_server({"services": [{"name": "s", "protocol": "queue", "host": "q", "vhost": "tenant",
                                         "user": "full", "routes": [{"name": "r", "paths": ["/q"]}]}]})
    assert request(server.ports["http"], "POST", "/q", b"x").status == 202
    channel = pika.BlockingConnection(pika.URLParameters(server.amqp_url("full", "full-pw", "tenant"))).channel()
    assert get(channel, "q")[2] == b"x"
    channel.connection.close()


# --- queue to HTTP ---------------------------------------------------------------------------------------------------

class Receiver:
    """An upstream that answers by plan: `plan(attempt_of_this_body, body)` gives the status; notes when each came."""

    def __init__(self, plan=lambda attempt, body: 200, hold=None, port=0):
        self.attempts, self.times, self.in_flight, self.most_in_flight = {}, {}, 0, 0
        self.lock, self.plan, self.hold = threading.Lock(), plan, hold
        self.upstream = Upstream(self.answer, port=port)

    def answer(self, handler, seen):
        with self.lock:
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            self.attempts.setdefault(seen.body, []).append(dict((k.lower(), v) for k, v in seen.raw_headers))
            self.times.setdefault(seen.body, []).append(time.monotonic())
            attempt = len(self.attempts[seen.body])
        if self.hold is not None:
            self.hold.wait(10)
        status = self.plan(attempt, seen.body)
        with self.lock:
            self.in_flight -= 1
        send(handler, status, b"answer of the receiver")

    def count(self, body):
        with self.lock:
            return len(self.attempts.get(body, []))

    def gaps(self, body):
        times = self.times[body]
        return [b - a for a, b in zip(times, times[1:])]


def subscription(receiver, **more):
    return {"subscriptions": [{"name": "fulfil", "queue": "orders", "url": receiver.upstream.url("/fulfil?a=1"),
                               "retry": {"base": "100ms", "factor": 2, "max": "1s", "attempts": 4},
                               "dead_letter": "orders.dead", **more}]}


@pytest.fixture
def receiver():
    made = []

    def make(*args, **more):
        made.append(Receiver(*args, **more))
        return made[-1]

    yield make
    for each in made:
        if each.hold is not None:
            each.hold.set()
        each.upstream.close()


def test_a_message_is_pushed_and_acked(start_server, receiver):
    target = receiver()
    server = start_server(subscription(target))
    channel = amqp(server)
    channel.basic_publish("", "orders", b"one", pika.BasicProperties(
        delivery_mode=2, content_type="text/x-order", message_id="m-1", headers={"traceparent": TRACE}))
    until(lambda: target.count(b"one") == 1, "the push")
    seen = target.upstream.last()
    headers = target.attempts[b"one"][0]
    assert (seen.method, seen.target, seen.body) == ("POST", "/fulfil?a=1", b"one")
    assert (headers["content-type"], headers["webhook-id"]) == ("text/x-order", "m-1")
    assert headers["traceparent"].split("-")[1] == TRACE.split("-")[1]
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    until(lambda: channel.queue_declare("orders", passive=True).method.message_count == 0, "acked")
    server.restart()
    holds(lambda: target.count(b"one") == 1, "an acked message is not pushed again after a restart", 0.5)
    channel = amqp(server)
    assert (depth(channel, "orders"), depth(channel, "orders.dead")) == (0, 0)
    channel.connection.close()


def test_a_body_that_is_not_in_memory_is_pushed_whole(start_server, receiver):
    target = receiver()
    server = start_server(subscription(target))
    channel = amqp(server)
    body = b"".join(n.to_bytes(4, "big") for n in range(700_000))
    channel.basic_publish("", "orders", body, PERSISTENT)
    channel.basic_publish("", "orders", b"behind", PERSISTENT)
    until(lambda: (target.count(body), target.count(b"behind")) == (1, 1), "both pushes")
    until(lambda: not list(server.data.rglob("body-*.data")), "its file is gone", 10)
    channel.connection.close()


def test_from_http_through_the_queue_to_http(start_server, receiver):
    target = receiver()
    config = subscription(target)
    config["services"] = [{"name": "in", "protocol": "queue", "host": "orders",
                           "routes": [{"name": "in", "paths": ["/orders"]}]}]
    server = start_server(config)
    sent = {}
    for number in range(100):
        answer = request(server.ports["http"], "POST", "/orders", b"%d" % number, {"Content-Type": "text/plain"})
        sent[b"%d" % number] = answer.json["id"]
    until(lambda: len(target.attempts) == 100, "all pushed")
    assert {body: attempts[0]["webhook-id"] for body, attempts in target.attempts.items()} == sent
    assert all(len(attempts) == 1 for attempts in target.attempts.values())


def test_a_failure_is_retried_with_backoff_until_it_succeeds(start_server, receiver):
    target = receiver(lambda attempt, body: 200 if attempt == 4 else 500)
    server = start_server(subscription(target))
    channel = amqp(server)
    channel.basic_publish("", "orders", b"stubborn", PERSISTENT)
    until(lambda: target.count(b"stubborn") == 4, "four attempts")
    first, second, third = target.gaps(b"stubborn")
    assert 0.07 <= first < 1 and 0.14 <= second < 1.5 and 0.28 <= third < 2, (first, second, third)
    attempts = target.attempts[b"stubborn"]
    assert len({each["webhook-id"] for each in attempts}) == 1, "the id is stable over attempts"
    assert [each["webhook-attempt"] for each in attempts] == ["1", "2", "3", "4"]
    wait_depth(channel, "orders", 0)
    assert depth(channel, "orders.dead") == 0
    channel.connection.close()


def dead_letter_headers(channel):
    _, properties, body = get(channel, "orders.dead", timeout_s=15)
    # CloudEvents extensions; a binding's prefix (ce-, cloudEvents:) may stand before the name.
    headers = {key.lower().removeprefix("cloudevents:").removeprefix("ce-"): value
               for key, value in properties.headers.items()}
    return headers, properties, body


def test_when_the_attempts_are_used_up_it_is_dead_lettered_with_the_reason(start_server, receiver):
    target = receiver(lambda attempt, body: 503)
    server = start_server(subscription(target))
    channel = amqp(server)
    channel.basic_publish("", "orders", b"hopeless", pika.BasicProperties(
        delivery_mode=2, content_type="text/x", message_id="m-9", headers={"mine": "kept"}))
    headers, properties, body = dead_letter_headers(channel)
    assert target.count(b"hopeless") == 4
    assert (body, properties.content_type, properties.message_id) == (b"hopeless", "text/x", "m-9")
    assert (headers["deadletterreason"], int(headers["deadlettercode"]), int(headers["deadletterattempts"])) == (
        "status", 503, 4)
    assert headers["deadletterqueue"] == "orders"
    assert headers["mine"] == "kept"
    assert properties.delivery_mode == 2
    wait_depth(channel, "orders", 0)
    channel.connection.close()


@pytest.mark.parametrize("status, attempts", [(400, 1), (401, 1), (422, 1), (301, 4), (404, 4), (409, 4), (429, 4)])
def test_which_answers_are_worth_another_attempt(start_server, receiver, status, attempts):
    target = receiver(lambda attempt, body: status)
    server = start_server(subscription(target, retry={"base": "20ms", "factor": 1, "max": "20ms", "attempts": 4}))
    channel = amqp(server)
    channel.basic_publish("", "orders", b"m", PERSISTENT)
    headers, _, _ = dead_letter_headers(channel)
    assert target.count(b"m") == attempts
    reason = "rejected" if attempts == 1 else "status"
    assert (headers["deadletterreason"], int(headers["deadlettercode"]), int(headers["deadletterattempts"])) == (
        reason, status, attempts)
    channel.connection.close()


def test_a_receiver_that_is_not_there_is_a_reason_of_its_own(start_server, receiver):
    target = receiver()
    target.upstream.close()
    server = start_server(subscription(target, retry={"base": "20ms", "factor": 1, "max": "20ms", "attempts": 2}))
    channel = amqp(server)
    channel.basic_publish("", "orders", b"m", PERSISTENT)
    headers, _, _ = dead_letter_headers(channel)
    assert (headers["deadletterreason"], int(headers["deadletterattempts"])) == ("connect", 2)
    channel.connection.close()


def test_a_receiver_that_does_not_answer_in_time(start_server, receiver):
    target = receiver(hold=threading.Event())
    server = start_server(subscription(target, timeout="300ms",
                                       retry={"base": "20ms", "factor": 1, "max": "20ms", "attempts": 2}))
    channel = amqp(server)
    channel.basic_publish("", "orders", b"m", PERSISTENT)
    headers, _, _ = dead_letter_headers(channel)
    assert (headers["deadletterreason"], int(headers["deadletterattempts"])) == ("timeout", 2)
    channel.connection.close()


def test_pushes_are_bounded(start_server, receiver):
    """40 messages, a receiver that holds every request: no more than max_in_flight are at it."""
    target = receiver(hold=threading.Event())
    server = start_server(subscription(target, max_in_flight=3))
    channel = amqp(server)
    for number in range(40):
        channel.basic_publish("", "orders", b"%d" % number, PERSISTENT)
    until(lambda: target.in_flight == 3, "three at once")
    holds(lambda: target.most_in_flight <= 3, "never more than max_in_flight", 0.4)
    target.hold.set()
    until(lambda: len(target.attempts) == 40, "all of them in the end")
    assert target.most_in_flight == 3
    channel.connection.close()


def test_one_failing_message_does_not_hold_up_the_others(start_server, receiver):
    target = receiver(lambda attempt, body: 500 if body == b"bad" else 200)
    server = start_server(subscription(target, retry={"base": "500ms", "factor": 2, "max": "5s", "attempts": 10}))
    channel = amqp(server)
    channel.basic_publish("", "orders", b"bad", PERSISTENT)
    for number in range(30):
        channel.basic_publish("", "orders", b"%d" % number, PERSISTENT)
    until(lambda: len(target.attempts) == 31, "all others pushed", 4)
    assert target.count(b"bad") <= 4
    channel.connection.close()


@pytest.mark.parametrize("how", ["restart", "kill"])
def test_a_subscription_does_not_lose_its_place(start_server, receiver, how):
    """Stopped while messages wait for their next attempt and others wait in the queue: all are pushed afterwards, and what
    had been acked is not pushed again."""
    healthy = threading.Event()
    target = receiver(lambda attempt, body: 200 if healthy.is_set() or body.startswith(b"good") else 503)
    server = start_server(subscription(target, retry={"base": "300ms", "factor": 1, "max": "300ms", "attempts": 100}))
    channel = amqp(server)
    channel.confirm_delivery()  # what was not confirmed may go with kill -9
    for number in range(10):
        channel.basic_publish("", "orders", b"good%d" % number, PERSISTENT)
    until(lambda: len(target.attempts) == 10, "the good ones pushed")
    time.sleep(0.4)  # settles are flushed within 200 ms: what kill -9 takes after that is a loss of place
    for number in range(30):
        channel.basic_publish("", "orders", b"bad%d" % number, PERSISTENT)
    until(lambda: sum(body.startswith(b"bad") for body in list(target.attempts)) >= 10, "some tried")
    if how == "kill":
        server.kill()
        server.start()
    else:
        server.restart()
    healthy.set()
    until(lambda: len(target.attempts) == 40, "every message pushed after the restart", 10)
    channel = amqp(server)
    wait_depth(channel, "orders", 0)
    assert depth(channel, "orders.dead") == 0
    assert all(target.count(b"good%d" % n) == 1 for n in range(10)), "acked messages were pushed again"
    channel.connection.close()


def test_retry_after_is_honoured_up_to_the_maximum(start_server):
    times = []

    def answer(handler, _seen):
        times.append(time.monotonic())
        send(handler, 503 if len(times) == 1 else 200, b"", {"Retry-After": "1"} if len(times) == 1 else {})

    with Upstream(answer) as upstream:
        server = start_server({"subscriptions": [{
            "name": "s", "queue": "q", "url": upstream.url(),
            "retry": {"base": "50ms", "factor": 1, "max": "3s", "attempts": 5}}]})
        channel = amqp(server)
        channel.basic_publish("", "q", b"m", PERSISTENT)
        until(lambda: len(times) == 2, "second attempt", 5)
        assert times[1] - times[0] >= 0.9
        channel.connection.close()
