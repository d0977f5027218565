"""SIGHUP: a new configuration is taken over whole or not at all, and no request fails meanwhile."""

import http.client
import itertools
import threading
import time

import pytest

from harness.http_client import request
from harness.upstream import Upstream, send_json
from harness.wait import until

pytestmark = pytest.mark.ours


def versioned(upstream, version, extra=0):
    """A route /v whose upstream path tells the version of the config that served it."""
    services = [{"name": "v", "url": upstream.url(f"/version/{version}"),
                 "routes": [{"name": "v", "paths": ["/v"]}]}]
    services += [{"name": f"extra{n}", "url": upstream.url(), "routes": [{"name": f"extra{n}", "paths": [f"/extra{n}"]}]}
                 for n in range(extra)]
    return {"services": services, "plugins": [
        {"name": "correlation-id", "config": {"header_name": f"X-Version-{version}", "echo_downstream": True}}]}


def version_of(server):
    return int(request(server.ports["http"], "GET", "/v").json["path"].rsplit("/", 1)[1])


def test_twenty_reloads_under_load_and_no_request_fails(start_server):
    """Eight keep-alive clients, GET and POST, while the routes change twenty times. Each answer is wholly of one version."""
    with Upstream() as upstream:
        server = start_server(versioned(upstream, 0))
        done, failures, served = threading.Event(), [], [0] * 8

        def hammer(index):
            connection = http.client.HTTPConnection("127.0.0.1", server.ports["http"], timeout=10)
            try:
                while not done.is_set():
                    method = ("GET", "POST")[served[index] % 2]
                    answer = request(server.ports["http"], method, "/v", b"x" * 1000 if method == "POST" else None,
                                     connection=connection)
                    version = answer.json["path"].rsplit("/", 1)[1]
                    if answer.status != 200 or answer.headers[f"X-Version-{version}"] is None:
                        failures.append(repr(answer))
                    served[index] += 1
            except Exception as error:  # noqa: BLE001; any failure of a client is what this test is about
                failures.append(repr(error))
            finally:
                connection.close()

        threads = [threading.Thread(target=hammer, args=(index,)) for index in range(8)]
        for thread in threads:
            thread.start()
        for version in range(1, 21):
            before = sum(served)
            server.write_config(versioned(upstream, version, extra=version % 5 * 20))
            server.reload()
            until(lambda: version_of(server) == version, f"version {version} in force")  # noqa: B023
            until(lambda: sum(served) > before + 8 or failures, "clients went on")  # noqa: B023
        done.set()
        for thread in threads:
            thread.join(timeout=15)
        print(f"{sum(served)} requests over {len(threads)} connections during 20 reloads, {len(failures)} failed")
        assert not failures, failures[:5]


def test_a_bad_file_changes_nothing_and_says_why(start_server):
    with Upstream() as upstream:
        server = start_server(versioned(upstream, 1))
        for text in ("services: [", "_format_version: \"3.0\"\nservces: []\n", "", "just a string"):
            shown = len(server.stderr())
            server.write_text(text)
            server.reload()
            until(lambda: len(server.stderr()) > shown, "the refusal is reported on stderr")  # noqa: B023
            assert version_of(server) == 1
        said = server.stderr()
        assert "servces" in said and "services" in said, said[-2000:]
        server.write_config(versioned(upstream, 2))
        server.reload()
        until(lambda: version_of(server) == 2, "a good file after the bad ones")


def test_requests_in_flight_finish_with_the_configuration_they_began_with(start_server):
    gate = threading.Event()

    def slow(handler, seen):
        if seen.method == "POST":
            gate.wait(10)
        send_json(handler, {"path": seen.path})

    with Upstream(slow) as upstream:
        server = start_server(versioned(upstream, 1))
        answers = []
        thread = threading.Thread(
            target=lambda: answers.append(request(server.ports["http"], "POST", "/v", b"x", timeout_s=20)))
        thread.start()
        until(lambda: upstream.count() == 1, "the request is at the upstream")
        server.write_config({"services": []})
        server.reload()
        until(lambda: request(server.ports["http"], "GET", "/v").status == 404, "the route is gone")
        gate.set()
        thread.join(timeout=15)
        assert (answers[0].status, answers[0].json["path"]) == (200, "/version/1")
        assert answers[0].headers["X-Version-1"] is not None


def test_reload_makes_queues_and_never_deletes_one(start_server):
    import pika

    server = start_server({"services": [{"name": "a", "protocol": "queue", "host": "first",
                                         "routes": [{"name": "a", "paths": ["/a"]}]}]})
    assert request(server.ports["http"], "POST", "/a", b"kept").status == 202
    # The data directory is from the command line, which a reload does not forget.
    server.write_config({"services": [{"name": "b", "protocol": "queue", "host": "second",
                                       "routes": [{"name": "b", "paths": ["/b"]}]}]})
    server.reload()
    until(lambda: request(server.ports["http"], "POST", "/b", b"new").status == 202, "the new queue route")
    assert "takes effect at the next start" not in server.stderr()
    connection = pika.BlockingConnection(pika.URLParameters(server.amqp_url()))
    channel = connection.channel()
    assert channel.basic_get("first", auto_ack=True)[2] == b"kept"
    assert channel.basic_get("second", auto_ack=True)[2] == b"new"
    connection.close()


def test_amqp_connections_live_through_a_reload(start_server):
    import pika

    with Upstream() as upstream:
        server = start_server(versioned(upstream, 1))
        connection = pika.BlockingConnection(pika.URLParameters(server.amqp_url()))
        channel = connection.channel()
        queue = channel.queue_declare("", exclusive=True).method.queue
        server.write_config(versioned(upstream, 2))
        server.reload()
        until(lambda: version_of(server) == 2, "reloaded")
        channel.basic_publish("", queue, b"still here")
        deadline = time.monotonic() + 5
        while channel.queue_declare(queue, passive=True).method.message_count == 0:
            assert time.monotonic() < deadline
        assert channel.basic_get(queue, auto_ack=True)[2] == b"still here"
        connection.close()


def test_memory_does_not_grow_with_reloads(start_server):
    with Upstream() as upstream:
        server = start_server(versioned(upstream, 0, extra=200))
        version = itertools.count(1)

        def reloads(count):
            for _ in range(count):
                current = next(version)
                server.write_config(versioned(upstream, current, extra=200))
                server.reload()
                until(lambda: version_of(server) == current, "reloaded")  # noqa: B023

        reloads(20)
        before = server.rss_kib()
        reloads(60)
        grown = server.rss_kib() - before
        print(f"60 reloads of 200 routes: {grown} KiB more")
        assert grown < 8000


def test_subscriptions_follow_a_reload(start_server):
    import pika

    with Upstream() as one, Upstream() as two:
        def config(url):
            return {"subscriptions": [{"name": "s", "queue": "q", "url": url, "retry": {"base": "50ms", "attempts": 5}}]}

        server = start_server(config(one.url()))
        connection = pika.BlockingConnection(pika.URLParameters(server.amqp_url()))
        channel = connection.channel()
        channel.basic_publish("", "q", b"1")
        until(lambda: one.count() == 1, "pushed to the first")
        server.write_config(config(two.url()))
        server.reload()

        def arrives_at_two():
            channel.basic_publish("", "q", b"2")
            connection.process_data_events(time_limit=0.05)
            return two.count() > 0

        until(arrives_at_two, "pushed to the second after the reload")
        connection.close()
