"""Upstreams over real sockets: which target, what after a failure, and what the client and the operator are told (reference
kong.md 1.6, and what is ours: ejection, breaker, retries by status, hedging, tiers, bulkheads)."""

import collections
import contextlib
import http.client
import re
import socket
import threading
import time

import flask
import flask_socketio
import pytest
import requests
import socketio
import werkzeug.serving

from harness.http_client import request
from harness.ports import free_ports
from harness.upstream import Upstream, send
from harness.wait import until

pytestmark = pytest.mark.ours

OK = "ok"


class Target:
    """A service that answers with its name, or as `mode` says: a status, or a delay in seconds before its answer."""

    def __init__(self, name, port=0):
        self.name, self.mode, self.headers = name, OK, {}
        self.upstream = Upstream(self.answer, port=port)
        self.address = f"127.0.0.1:{self.upstream.port}"

    def answer(self, handler, seen):
        mode = self.mode
        if isinstance(mode, float):
            time.sleep(mode)
        status = mode if isinstance(mode, int) else 200
        send(handler, status, self.name, {"X-Host": seen.headers.get("Host", ""), **self.headers})

    def count(self):
        return self.upstream.count()


@pytest.fixture
def targets():
    with contextlib.ExitStack() as stack:
        made = [Target(name) for name in "abc"]
        for target in made:
            stack.callback(target.upstream.close)
        yield made


def config(targets, retries=5, telemetry=None, service=None, more=None, **upstream):
    """A route / to a service whose host is the upstream `pool`. A target is a Target or (Target, fields)."""
    pairs = [target if isinstance(target, tuple) else (target, {}) for target in targets]
    document = {
        "services": [{"name": "pool", "host": "pool", "retries": retries, "connect_timeout": 2000, "read_timeout": 5000,
                      **(service or {}), "routes": [{"name": "all", "paths": ["/"]}]}, *(more or [])],
        "upstreams": [{"name": "pool", **upstream, "targets": [
            {"target": getattr(target, "address", target), **fields} for target, fields in pairs]}],
    }
    if telemetry:
        document["telemetry"] = telemetry
    return document


def ask(server, path="/", method="GET", **more):
    return request(server.ports["http"], method, path, **more)


def served_by(server, n, **more):
    return collections.Counter(ask(server, **more).text for _ in range(n))


def metrics(server):
    return request(server.ports["admin"], "GET", "/metrics").text


def failures(server):
    """Reasons that were counted, and how often."""
    found = re.findall(r'sluicegate_http_request_failures_total\{[^}]*reason="(\w+)"[^}]*\} (\d+)', metrics(server))
    return {reason: int(n) for reason, n in found if int(n)}


def ejections(server):
    found = re.search(r'sluicegate_upstream_ejections_total\{upstream="pool"\} (\d+)', metrics(server))
    return int(found[1]) if found else 0


def dead_address():
    return f"127.0.0.1:{free_ports(1)[0]}"


# --- choice ----------------------------------------------------------------------------------------------------------

def test_round_robin_honours_weights_and_drains(start_server, targets):
    a, b, c = targets
    server = start_server(config([(a, {"weight": 100}), (b, {"weight": 200}), (c, {"weight": 0})]))
    assert served_by(server, 30) == {"a": 10, "b": 20}
    server.take_over(config([(a, {"weight": 0}), (b, {"weight": 200}), (c, {"weight": 100})]))
    assert served_by(server, 30) == {"b": 20, "c": 10}


def test_host_is_the_target_s_the_upstream_s_or_the_client_s(start_server, targets):
    a = targets[0]
    server = start_server(config([a]))
    assert ask(server).headers["X-Host"] == a.address
    server.take_over(config([a], host_header="shop.example"))
    assert ask(server).headers["X-Host"] == f"shop.example:{a.upstream.port}"
    kept = config([a])
    kept["services"][0]["routes"][0]["preserve_host"] = True
    server.take_over(kept)
    assert ask(server, headers={"Host": "client.example"}).headers["X-Host"] == "client.example"


def test_a_service_with_a_path_and_without_targets_still_works(start_server, targets):
    server = start_server(config([], more=[{"name": "plain", "url": targets[0].upstream.url("/base"),
                                            "routes": [{"paths": ["/plain"]}]}]))
    assert ask(server, "/plain/x").text == "a"
    assert targets[0].upstream.last().target == "/base/x"
    answer = ask(server)
    assert (answer.status, answer.json["message"]) == (503, "failure to get a peer from the ring-balancer")


@pytest.mark.parametrize("fields, vary", [
    ({"hash_on": "header", "hash_on_header": "x-user"}, lambda n: {"headers": {"x-user": f"user-{n}"}}),
    ({"hash_on": "query_arg", "hash_on_query_arg": "user"}, lambda n: {"path": f"/?user={n}"}),
    ({"hash_on": "path"}, lambda n: {"path": f"/users/{n}"}),
    ({"hash_on": "header", "hash_on_header": "x-absent", "hash_fallback": "query_arg",
      "hash_fallback_query_arg": "user"}, lambda n: {"path": f"/?user={n}"}),
])
def test_a_hashed_value_stays_with_its_target_over_reloads(start_server, targets, fields, vary):
    server = start_server(config(targets, **fields))
    where = {n: ask(server, **vary(n)).text for n in range(60)}
    assert len(set(where.values())) == 3
    assert {n: ask(server, **vary(n)).text for n in range(60)} == where
    server.take_over(config(targets[:2], **fields))
    after = {n: ask(server, **vary(n)).text for n in range(60)}
    assert all(after[n] == where[n] for n in where if where[n] != "c"), "only the keys of the one that went move"
    server.take_over(config(targets, **fields))
    assert {n: ask(server, **vary(n)).text for n in range(60)} == where


def test_a_cookie_makes_a_client_stick(start_server, targets):
    server = start_server(config(targets, hash_on="cookie", hash_on_cookie="sid", hash_on_cookie_path="/shop"))
    seen = set()
    for _ in range(12):
        first = ask(server)
        cookie = first.headers["Set-Cookie"]
        assert re.fullmatch(r"sid=[0-9a-f-]{36}; Path=/shop; SameSite=Lax; HttpOnly", cookie), cookie
        seen.add(first.text)
        for _ in range(3):
            again = ask(server, headers={"Cookie": f"x=1; {cookie.split(';')[0]}"})
            assert (again.text, again.headers["Set-Cookie"]) == (first.text, None)
    assert len(seen) > 1


def io_server(name):
    """A Flask-SocketIO service that says its name; a session lives in its process alone."""
    app = flask.Flask(name)
    io = flask_socketio.SocketIO(app, async_mode="threading", path="/socket.io", cors_allowed_origins="*")

    @io.on("name")
    def _name():
        return name

    httpd = werkzeug.serving.make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    return httpd


@pytest.mark.parametrize("transports", [["polling"], ["polling", "websocket"]])
def test_socket_io_needs_one_server_and_a_cookie_keeps_it_there(start_server, transports):
    """Long polling and the upgrade are several requests of one session: without the cookie they go to any server."""
    servers = {name: io_server(name) for name in "abc"}
    with contextlib.ExitStack() as stack:
        for httpd in servers.values():
            stack.callback(httpd.shutdown)
        addresses = [f"127.0.0.1:{httpd.server_port}" for httpd in servers.values()]
        server = start_server(config(addresses, hash_on="cookie", hash_on_cookie="lb"))
        names = set()
        for _ in range(8):
            # An own session keeps cookies, as a browser does.
            client = socketio.Client(http_session=requests.Session())
            client.connect(f"http://127.0.0.1:{server.ports['http']}", transports=transports, wait_timeout=10)
            try:
                assert client.transport() == transports[-1]
                said = {client.call("name", timeout=10) for _ in range(5)}
            finally:
                client.disconnect()
            assert len(said) == 1
            names |= said
        assert len(names) > 1, "clients are spread"


def test_least_connections_avoids_the_busy(start_server, targets):
    a, b, _ = targets
    server = start_server(config([a, b], algorithm="least-connections"))
    a.mode = b.mode = 1.5
    threads = [threading.Thread(target=ask, args=(server,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    until(lambda: a.count() + b.count() == 6, "all are under way", 5)
    assert (a.count(), b.count()) == (3, 3)
    for thread in threads:
        thread.join()


def test_latency_prefers_the_quick(start_server, targets):
    a, b, _ = targets
    server = start_server(config([a, b], algorithm="latency"))
    b.mode = 0.05
    served_by(server, 20)
    assert served_by(server, 30)["a"] >= 25


# --- failures --------------------------------------------------------------------------------------------------------

def test_a_refused_connection_is_tried_elsewhere(start_server, targets):
    a, b, _ = targets
    server = start_server(config([a, b, dead_address()]))
    assert set(served_by(server, 12)) == {"a", "b"}
    answer = ask(server, method="POST", body=iter([b"x" * 100] * 3))
    assert answer.status == 200, "nothing of it had been sent"


def test_retries_end_and_a_post_that_was_sent_is_not_repeated(start_server, targets):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepted = []

        def slam():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    accepted.append(connection.recv(65536))
                    connection.close()

        threading.Thread(target=slam, daemon=True).start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        server = start_server(config([address], retries=2))
        assert ask(server).status == 502
        assert len(accepted) == 3
        assert ask(server, method="POST", body=b"x").status == 502
        assert len(accepted) == 4
        assert failures(server) == {"upstream_reset": 2}


def test_a_refusing_target_is_taken_out_by_passive_checks(start_server, targets):
    a = targets[0]
    dead = dead_address()
    server = start_server(config([a, dead], retries=0, healthchecks={"passive": {"unhealthy": {"tcp_failures": 2}}}))
    statuses = collections.Counter(ask(server).status for _ in range(20))
    assert statuses == {200: 18, 502: 2}
    text = metrics(server)
    up = {address: int(value) for address, value in
          re.findall(r'sluicegate_upstream_address_up\{[^}]*address="([^"]+)"[^}]*\} (\d)', text)}
    assert up == {a.address: 1, dead: 0}
    assert "kong_upstream_target_health" not in text
    checks = {"passive": {"unhealthy": {"tcp_failures": 2}}}
    server.take_over({**config([a, dead], retries=0, healthchecks=checks), "plugins": [
        {"name": "prometheus", "config": {"upstream_health_metrics": True}}]})
    ask(server)
    states = set(re.findall(r'kong_upstream_target_health\{[^}]*address="([^"]+)",state="(\w+)"[^}]*\} 1', metrics(server)))
    assert states == {(a.address, "healthy"), (dead, "unhealthy")}


def test_passive_checks_count_the_statuses_named_and_stay(start_server, targets):
    a = targets[0]
    server = start_server(config([a], healthchecks={"passive": {"unhealthy": {"http_failures": 2,
                                                                             "http_statuses": [500]}}}))
    a.mode = 503
    assert [ask(server).status for _ in range(4)] == [503] * 4
    a.mode = 500
    assert [ask(server).status for _ in range(2)] == [500] * 2
    a.mode = OK
    answer = ask(server)
    assert (answer.status, answer.json["message"]) == (503, "failure to get a peer from the ring-balancer")
    time.sleep(0.3)
    assert ask(server).status == 503, "as in Kong nothing brings it back but a probe or an operator"
    assert failures(server) == {"no_healthy_target": 2}


def test_an_ejected_target_comes_back_by_itself(start_server, targets):
    a, b, _ = targets
    server = start_server(config([a, b], resilience={"outlier_detection": {
        "consecutive_5xx": 2, "base_ejection_time_ms": 3000, "max_ejection_percent": 50}}))
    a.mode = 500
    until(lambda: served_by(server, 2) and ejections(server), "a is ejected", 10)
    began = time.monotonic()
    a.mode = OK
    served = served_by(server, 6)
    # However slow the machine is: nothing is said of what comes after its time.
    assert served == {"b": 6} or time.monotonic() - began > 2
    until(lambda: ask(server).text == "a", "a is asked again", 20)


def test_a_probe_takes_a_target_out_and_brings_it_back(start_server, targets):
    a, b, _ = targets
    port = a.upstream.port
    server = start_server(config([a, b], healthchecks={"active": {
        "timeout": 0.5, "http_path": "/health", "headers": {"x-probe": ["yes"]},
        "healthy": {"interval": 0.1, "successes": 1}, "unhealthy": {"interval": 0.1, "tcp_failures": 1, "http_failures": 1},
    }}))
    until(lambda: any(seen.path == "/health" for seen in b.upstream.seen), "b is probed", 5)
    b.mode = 500
    until(lambda: set(served_by(server, 6)) == {"a"}, "b is out: its probes fail", 5)
    b.mode = OK
    until(lambda: set(served_by(server, 6)) == {"a", "b"}, "b is back", 5)
    a.upstream.close()
    until(lambda: f'address="{a.address}"}} 0' in metrics(server), "a is out", 5)
    back = Target("a", port=port)
    with contextlib.closing(back.upstream):
        until(lambda: set(served_by(server, 6)) == {"a", "b"}, "a is back", 5)


def test_tiers_take_over_and_give_back(start_server, targets):
    a, b, c = targets
    server = start_server(config([a, b, (c, {"priority": 1})],
                                 healthchecks={"passive": {"unhealthy": {"http_failures": 1}}}))
    assert served_by(server, 10) == {"a": 5, "b": 5}
    a.mode = b.mode = 500
    served_by(server, 2)
    assert served_by(server, 6) == {"c": 6}, "the second tier serves"
    a.mode = b.mode = OK
    for target in (a, b):
        path = f"/upstreams/pool/targets/{target.address}/healthy"
        assert request(server.ports["admin"], "PUT", path).status == 204
    assert set(served_by(server, 6)) == {"a", "b"}, "the first tier is back"


def test_a_status_is_asked_for_again_elsewhere(start_server, targets):
    a, b, _ = targets
    server = start_server(config([a, b], resilience={"retry": {"backoff_base_ms": 1}}))
    a.mode = 503
    assert served_by(server, 10) == {"b": 10}
    assert 503 in {ask(server, method="POST", body=b"x").status for _ in range(4)}, "a POST is answered as it was"
    b.mode = 503
    before = a.count() + b.count()
    assert ask(server).status == 503
    assert a.count() + b.count() - before == 6, "the service allows five retries"


def test_the_budget_bounds_retries_under_load(start_server, targets):
    a, b, _ = targets
    server = start_server(config([a, b], retries=3, resilience={"retry": {
        "budget_percent": 10, "min_retry_concurrency": 1, "backoff_base_ms": 40, "backoff_max_ms": 40}}))
    a.mode = b.mode = 503
    threads = [threading.Thread(target=ask, args=(server,)) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert a.count() + b.count() < 24 * 2, "without a budget it would be 96"
    assert failures(server)["retry_budget"] > 5


def test_retry_after_is_waited_for_within_reason(start_server, targets):
    a, b, _ = targets
    a.mode, a.headers = 503, {"Retry-After": "1"}
    server = start_server(config([a, (b, {"priority": 1})], resilience={"retry": {}}))
    began = time.monotonic()
    assert ask(server).text == "b"
    assert time.monotonic() - began >= 1
    a.headers = {"Retry-After": "60"}
    assert ask(server).status == 503


def test_a_slow_try_is_given_up(start_server, targets):
    a, b, _ = targets
    server = start_server(config([a, b], resilience={"retry": {"per_try_timeout_ms": 300, "backoff_base_ms": 0}}))
    a.mode = 3.0
    began = time.monotonic()
    assert served_by(server, 4) == {"b": 4}
    assert time.monotonic() - began < 2.5
    b.mode = 3.0
    assert ask(server, timeout_s=20).status == 504
    assert failures(server) == {"per_try_timeout": 1}


def test_a_hedged_request_is_as_quick_as_the_quicker(start_server, targets):
    a, b, _ = targets
    server = start_server(config([a, b], resilience={"hedge": {"delay_ms": 100}}))
    a.mode = 3.0
    began = time.monotonic()
    assert served_by(server, 4) == {"b": 4}
    assert time.monotonic() - began < 2.5
    assert a.count() >= 1
    posted = a.count() + b.count()
    a.mode = OK
    ask(server, method="POST", body=b"x")
    assert a.count() + b.count() == posted + 1


class Failing:
    """A target whose connections fail as `fail(connection)` says."""

    def __init__(self, fail):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self.serve, args=(fail,), daemon=True).start()

    def serve(self, fail):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.socket.accept()
                threading.Thread(target=fail, args=(self, connection), daemon=True).start()


def test_a_hedge_that_fails_last_is_booked_where_it_failed(start_server):
    order, both = [], threading.Event()

    def fail(target, connection):
        with connection:
            connection.recv(65536)
            order.append(target.address)
            if len(order) == 1:
                both.wait(10)
                # Not counted: only connections are.
                connection.sendall(b"this is not HTTP\r\n\r\n")
                with contextlib.suppress(OSError):
                    connection.recv(1)
                first_ended.set()
            else:
                both.set()
                first_ended.wait(10)

    first_ended = threading.Event()
    two = [Failing(fail), Failing(fail)]
    with contextlib.closing(two[0].socket), contextlib.closing(two[1].socket):
        server = start_server(config(two, retries=0, resilience={"hedge": {"delay_ms": 50}},
                                     healthchecks={"passive": {"unhealthy": {"tcp_failures": 1, "http_failures": 0}}}))
        assert ask(server).status == 502
        health = request(server.ports["admin"], "GET", "/upstreams/pool/health").json["data"]
        assert {one["target"]: one["health"] for one in health} == {order[0]: "HEALTHY", order[1]: "UNHEALTHY"}


def test_a_hedge_that_lost_by_its_status_is_booked(start_server):
    order, both = [], threading.Event()

    def answer(target, connection):
        with connection:
            connection.recv(65536)
            order.append(target.address)
            if len(order) == 1:
                both.wait(10)
                connection.sendall(b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n")
                worse_is_there.set()
                with contextlib.suppress(OSError):
                    connection.recv(1)
            else:
                both.set()
                worse_is_there.wait(10)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    worse_is_there = threading.Event()
    two = [Failing(answer), Failing(answer)]
    with contextlib.closing(two[0].socket), contextlib.closing(two[1].socket):
        server = start_server(config(two, retries=0, resilience={"hedge": {"delay_ms": 50}},
                                     healthchecks={"passive": {"unhealthy": {"http_failures": 1}}}))
        assert ask(server).status == 200
        health = request(server.ports["admin"], "GET", "/upstreams/pool/health").json["data"]
        assert {one["target"]: one["health"] for one in health} == {order[0]: "UNHEALTHY", order[1]: "HEALTHY"}


def test_an_open_breaker_answers_at_once_and_a_probe_closes_it(start_server, targets):
    a, b, _ = targets
    static = {"name": "static", "url": b.upstream.url()}
    breaker = {"minimum_requests": 4, "failure_percent": 50, "open_ms": 800, "window_ms": 5000}
    server = start_server(config([a], resilience={"breaker": breaker}))
    a.mode = 500
    assert [ask(server).status for _ in range(4)] == [500] * 4
    asked = a.count()
    answer = ask(server)
    assert (answer.status, answer.headers["Retry-After"], a.count()) == (503, "1", asked)
    assert answer.json["message"] == "The upstream server is currently unavailable"
    assert 'sluicegate_upstream_breaker{upstream="pool"} 2' in metrics(server)
    time.sleep(0.85)
    assert ask(server).status == 500, "the probe, and it failed"
    assert ask(server).status == 503
    a.mode = OK
    until(lambda: ask(server).status == 200, "the next probe closes it", 5)
    assert served_by(server, 5) == {"a": 5}
    server.take_over(config([a], resilience={"breaker": breaker, "fallback": "static"}, more=[static]))
    a.mode = 500
    until(lambda: ask(server).text == "b", "the fallback answers", 5)
    assert failures(server)["breaker_open"] >= 2


def test_a_bulkhead_queues_some_and_refuses_the_rest(start_server, targets):
    a = targets[0]
    server = start_server(config([a], resilience={"bulkhead": {
        "max_requests": 2, "max_pending_requests": 2, "queue_timeout_ms": 4000}}))
    a.mode = 0.6
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(ask(server).status)) for _ in range(7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert collections.Counter(answers) == {200: 4, 503: 3}
    assert failures(server) == {"bulkhead_full": 3}
    server.take_over(config([a], resilience={"bulkhead": {
        "max_requests": 1, "max_pending_requests": 5, "queue_timeout_ms": 100}}))
    slow = threading.Thread(target=ask, args=(server,))
    before = a.count()
    slow.start()
    until(lambda: a.count() > before, "one is under way", 5)
    assert ask(server).status == 503
    slow.join()
    assert failures(server)["queue_timeout"] == 1


# --- change ----------------------------------------------------------------------------------------------------------

def test_health_survives_reloads_that_keep_the_target(start_server, targets):
    a, b, c = targets
    checks = {"passive": {"unhealthy": {"http_failures": 1}}}
    server = start_server(config([a, b], healthchecks=checks))
    a.mode = 500
    served_by(server, 4)
    a.mode = OK
    server.take_over(config([a, b, c], healthchecks=checks))
    assert set(served_by(server, 20)) == {"b", "c"}, "a is still out"


def test_targets_change_under_load_and_no_request_fails(start_server, targets):
    server = start_server(config(targets))
    done, bad, served = threading.Event(), [], [0] * 4

    def hammer(index):
        connection = http.client.HTTPConnection("127.0.0.1", server.ports["http"], timeout=10)
        with contextlib.closing(connection):
            while not done.is_set():
                try:
                    answer = request(server.ports["http"], "GET", "/", connection=connection)
                except (OSError, http.client.HTTPException) as error:
                    bad.append(repr(error))
                    return
                if answer.status != 200:
                    bad.append(repr(answer))
                served[index] += 1

    threads = [threading.Thread(target=hammer, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for n in range(12):
        chosen = [target for at, target in enumerate(targets) if at != n % 3]
        server.take_over(config([(target, {"weight": 10 + n}) for target in chosen],
                                algorithm=("round-robin", "least-connections", "latency")[n % 3]))
    done.set()
    for thread in threads:
        thread.join()
    assert not bad, bad[:5]
    assert min(served) > 0
