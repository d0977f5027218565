"""Where else requests go than to their route's service: copies for another one, and shares of several (ours)."""

import collections
import contextlib
import json
import re
import socket
import threading

import pytest

from harness.http_client import request
from harness.ports import free_ports
from harness.upstream import Upstream, send
from harness.wait import until

pytestmark = pytest.mark.ours

MIB = 1 << 20


@pytest.fixture
def services():
    """Three services that answer with their names."""
    with contextlib.ExitStack() as stack:
        def named(name):
            return stack.enter_context(Upstream(lambda handler, seen: send(handler, body=name)))
        yield {name: named(name) for name in ("orders", "canary", "shadow")}


def config(services, route=None, service=None, **more):
    """A route / to the service `orders`, with the others beside it."""
    document = {"services": [{"name": name, "url": upstream.url(), "retries": 0} for name, upstream in services.items()], **more}
    document["services"][0].update(service or {}, routes=[{"name": "all", "paths": ["/"], **(route or {})}])
    return document


def ask(server, method="GET", path="/", **more):
    return request(server.ports["http"], method, path, **more)


def mirrored(server):
    """Copies by how they ended."""
    found = re.findall(r'sluicegate_http_mirrored_requests_total\{end="(\w+)"\} (\d+)',
                       request(server.ports["admin"], "GET", "/metrics").text)
    return {end: int(n) for end, n in found if int(n)}


# --- split -----------------------------------------------------------------------------------------------------------

def test_requests_are_shared_by_percents_that_change_while_they_go_on(start_server, services):
    def split(percent):
        return config(services, {"split": {"services": [{"service": "canary", "percent": percent}]}})

    server = start_server(split(25))
    counts = collections.Counter(ask(server).text for _ in range(200))
    assert 25 < counts["canary"] < 75 and counts["orders"] == 200 - counts["canary"]
    server.take_over(split(100))
    assert {ask(server).text for _ in range(10)} == {"canary"}
    server.take_over(split(0))
    assert {ask(server).text for _ in range(10)} == {"orders"}


def test_clients_stay_with_their_service_by_cookie_and_by_header(start_server, services):
    def split(**hashing):
        return config(services, {"split": {"services": [{"service": "canary", "percent": 50}], **hashing}})

    server = start_server(split(hash_on="cookie", hash_on_cookie="release"))
    for _ in range(8):
        first = ask(server)
        cookie = first.headers["Set-Cookie"].split(";")[0]
        again = [ask(server, headers={"Cookie": cookie}) for _ in range(3)]
        assert {answer.text for answer in again} == {first.text} and not any("Set-Cookie" in a.headers for a in again)
    server.take_over(split(hash_on="header", hash_on_header="X-User"))
    by_user = {n: {ask(server, headers={"X-User": str(n)}).text for _ in range(3)} for n in range(20)}
    assert all(len(seen) == 1 for seen in by_user.values()) and len(set.union(*by_user.values())) == 2


def test_a_split_is_changed_over_the_api_and_what_is_wrong_with_it_is_told(start_server, services):
    server = start_server({})
    admin = server.ports["admin"]

    def call(method, path, body):
        return request(admin, method, path, json.dumps(body), {"Content-Type": "application/json"})

    for name, upstream in services.items():
        assert call("PUT", f"/services/{name}", {"url": upstream.url()}).status == 200
    route = {"service": {"name": "orders"}, "paths": ["/"]}
    made = call("PUT", "/routes/all", route)
    assert made.status == 200 and "split" not in made.json and "mirror" not in made.json, "Kong's body where it says nothing"
    assert call("PATCH", "/routes/all", {"split": {"services": [{"service": "canary", "percent": 100}]}}).status == 200
    assert ask(server).text == "canary"
    for split, why in [({"services": [{"service": "nobody", "percent": 5}]}, "there is no service `nobody`"),
                       ({"services": [{"service": "canary", "percent": 60}] * 2}, "120 percent together"),
                       ({"services": []}, "length must be at least 1"),
                       ({"services": [{"service": "canary", "percent": 5}], "hash_on": "header"}, "needs 'hash_on_header'")]:
        refused = call("PATCH", "/routes/all", {"split": split})
        assert refused.status == 400 and why in refused.text, refused.text
    assert call("PATCH", "/routes/all", {"mirror": {"service": "nobody"}}).status == 400
    assert ask(server).text == "canary"


# --- mirror ----------------------------------------------------------------------------------------------------------

def test_requests_are_copied_with_their_bodies_whole_and_streamed(start_server, services):
    server = start_server(config(services, {"mirror": {"service": "shadow"}, "strip_path": False}))
    shadow = services["shadow"]
    assert ask(server, path="/a?b=1", headers={"X-Mine": "1"}).text == "orders"
    assert ask(server, "POST", "/b", body=b"x" * 300_000).text == "orders"
    assert ask(server, "POST", "/c", body=iter([b"one", b"two"])).text == "orders"
    with socket.create_connection(("127.0.0.1", server.ports["http"]), timeout=10) as client:
        client.sendall(b"POST /d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nlast\r\n0\r\nX-Sum: 1\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
    until(lambda: mirrored(server) == {"answered": 4}, "the copies are answered")
    seen = {copy.target: copy for copy in shadow.seen}
    assert set(seen) == {"/a?b=1", "/b", "/c", "/d"} and seen["/d"].body == b"last"
    assert seen["/a?b=1"].headers["X-Mine"] == "1" and seen["/a?b=1"].headers["Host"] == f"127.0.0.1:{shadow.port}"
    assert seen["/b"].body == b"x" * 300_000 and seen["/c"].body == b"onetwo"
    assert services["orders"].last().body == b"last"
    assert shadow.connections < 4, "their connections are used again"


def test_a_copy_neither_delays_nor_fails_its_request(start_server, services):
    held = threading.Event()
    with Upstream(lambda handler, seen: held.wait(20) and send(handler)) as silent:
        slow = {**services, "shadow": silent}
        server = start_server(config(slow, {"mirror": {"service": "shadow"}}))
        assert [ask(server).text for _ in range(10)] == ["orders"] * 10
        until(lambda: silent.count() == 10, "all copies are there, and none is answered")
        held.set()
        until(lambda: mirrored(server) == {"answered": 10}, "the copies are answered")
    dead = config(services, {"mirror": {"service": "dead"}})
    dead["services"].append({"name": "dead", "url": f"http://127.0.0.1:{free_ports(1)[0]}"})
    server.take_over(dead)
    assert ask(server, "POST", body=b"x").text == "orders"
    until(lambda: mirrored(server) == {"answered": 10, "failed": 1}, "the copy failed alone")


def test_a_body_too_long_to_copy_goes_its_way_alone(start_server, services):
    server = start_server(config(services, service={"mirror": {"service": "shadow"}}))
    for length in (MIB, MIB + 1):
        assert ask(server, "POST", body=b"x" * length).text == "orders"
        assert len(services["orders"].last().body) == length
    until(lambda: mirrored(server) == {"answered": 1, "given_up": 1}, "only the short one was copied")
    assert [len(copy.body) for copy in services["shadow"].seen] == [MIB]


def test_a_percentage_is_copied_and_a_refused_request_is_not(start_server, services):
    guarded = {"consumers": [{"username": "ann", "keyauth_credentials": [{"key": "k"}]}], "plugins": [{"name": "key-auth"}]}
    server = start_server(config(services, {"mirror": {"service": "shadow", "percent": 30}}, **guarded))
    assert {ask(server).status for _ in range(30)} == {401}
    for _ in range(100):
        assert ask(server, headers={"apikey": "k"}).text == "orders"
    until(lambda: sum(mirrored(server).values()) == services["shadow"].count() > 0, "the copies are answered")
    assert 8 < services["shadow"].count() < 60
