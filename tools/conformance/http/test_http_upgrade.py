"""SIGUSR2: another process takes over the sockets and the data, and no request and no message is lost meanwhile."""

import contextlib
import http.client
import os
import shutil
import signal
import socket
import threading
import time

import pika
import pika.exceptions
import pytest

from harness.definitions import definitions
from harness.http_client import request
from harness.ports import free_ports
from harness.server import binary
from harness.upstream import Upstream, send_json
from harness.wait import until

pytestmark = pytest.mark.ours

UPGRADES = 3


def config(upstream, version=1):
    return {"services": [
        {"name": "v", "url": upstream.url(f"/version/{version}"), "routes": [{"name": "v", "paths": ["/v"]}]},
        {"name": "q", "protocol": "queue", "host": "orders", "routes": [{"name": "q", "paths": ["/q"]}]}]}


class Load:
    """Clients that each do one thing again and again until they are told to stop."""

    def __init__(self):
        self.done, self.failures, self.threads = threading.Event(), [], []

    def start(self, step):
        """`step` gets a counter and returns what is wrong, or nothing."""

        def run():
            count = 0
            while not self.done.is_set():
                try:
                    wrong = step(count)
                except Exception as error:  # noqa: BLE001; any failure of a client is what this is about
                    wrong = f"{step.__qualname__} {count}: {error!r}"
                if wrong:
                    self.failures.append(wrong)
                count += 1

        self.threads.append(threading.Thread(target=run))
        self.threads[-1].start()

    def stop(self):
        self.done.set()
        for thread in self.threads:
            thread.join(timeout=20)
            assert not thread.is_alive()


class Publisher:
    """Publishes with confirms, connects anew when it is sent away, and keeps what was confirmed."""

    def __init__(self, server):
        self.url, self.channel, self.confirmed, self.goodbyes = server.amqp_url(), None, [], []

    def step(self, count):
        try:
            if self.channel is None:
                self.channel = pika.BlockingConnection(pika.URLParameters(self.url)).channel()
                self.channel.confirm_delivery()
            body = f"amqp {count}"
            self.channel.basic_publish("", "orders", body.encode(), pika.BasicProperties(delivery_mode=2), mandatory=True)
            self.confirmed.append(body)
        except pika.exceptions.ConnectionClosedByBroker as closed:
            self.goodbyes.append((closed.reply_code, closed.reply_text))
            self.channel = None
        return None

    def close(self):
        if self.channel is not None:
            self.channel.connection.close()


@contextlib.contextmanager
def kept_connection(port):
    """Asks over one connection."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        yield lambda method, target: request(port, method, target, connection=connection)


def drained(server, queue):
    connection = pika.BlockingConnection(pika.URLParameters(server.amqp_url()))
    channel, bodies = connection.channel(), []
    while (got := channel.basic_get(queue, auto_ack=True))[0]:
        bodies.append(got[2].decode())
    connection.close()
    return bodies


def test_upgrades_under_load_lose_no_request_and_no_message(start_server, tmp_path):
    """Each time the file at the program's path is another one, as after an installation."""
    program = tmp_path / "sluicegate"
    shutil.copy(binary(), program)
    with Upstream() as upstream:
        server = start_server(config(upstream), bin_path=str(program))
        load, publisher, port = Load(), Publisher(server), server.ports["http"]
        posted, answers, slowest = [], {}, [0.0]

        def keep_alive():
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)

            def proxied_over_one_connection(count):
                method = ("GET", "POST")[count % 2]
                answer = request(port, method, "/v", b"x" * 1000 if method == "POST" else None, connection=connection)
                return None if answer.status == 200 else repr(answer)

            return proxied_over_one_connection

        def proxied_over_new_connections(_):
            answer = request(port, "GET", "/v")
            return None if answer.status == 200 else repr(answer)

        def post(count, connection):
            body, began = f"http {id(connection)} {count}", time.monotonic()
            answer = request(port, "POST", "/q", body.encode(), connection=connection)
            slowest[0] = max(slowest[0], time.monotonic() - began)
            answers[answer.status] = answers.get(answer.status, 0) + 1
            if answer.status == 202:
                posted.append(body)
            return None if answer.status in (202, 503) else repr(answer)

        def posts_over_one_connection():
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            return lambda count: post(count, connection)

        for step in (keep_alive(), keep_alive(), proxied_over_new_connections, posts_over_one_connection(),
                     lambda count: post(count, None), publisher.step):
            load.start(step)
        for _ in range(UPGRADES):
            staged = program.with_suffix(".staged")
            shutil.copy(binary(), staged)
            os.replace(staged, program)
            n_posted, n_confirmed = len(posted), len(publisher.confirmed)
            before = server.upgrade()
            until(lambda: len(posted) > n_posted and len(publisher.confirmed) > n_confirmed, "it goes on")  # noqa: B023
            assert before.wait(timeout=20) == 0
            assert os.readlink(f"/proc/{server.process.pid}/exe") == str(program)
        load.stop()
        publisher.close()
        print(f"{answers} posts, the slowest {slowest[0]:.2f} s; {len(publisher.confirmed)} confirmed, "
              f"{len(load.failures)} failures")
        assert not load.failures, load.failures[:5]
        assert len(publisher.goodbyes) == UPGRADES
        assert set(publisher.goodbyes) == {
            (320, "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'")}
        kept = drained(server, "orders")
        assert not set(posted) - set(kept), "a message that was answered with 202 is lost"
        assert not set(publisher.confirmed) - set(kept), "a message that was confirmed is lost"


def test_what_the_admin_api_made_is_there_before_the_data_is(start_server):
    """A route of the Admin API answers under load over new connections all through an upgrade; then it can be changed."""
    with Upstream() as upstream:
        server = start_server()
        admin, port = server.ports["admin"], server.ports["http"]
        assert request(admin, "PUT", "/services/s", f'{{"url": "{upstream.url()}"}}',
                       {"Content-Type": "application/json"}).status == 200
        assert request(admin, "PUT", "/services/s/routes/r", '{"paths": ["/api"]}',
                       {"Content-Type": "application/json"}).status == 200
        load = Load()

        def asks(_):
            answer = request(port, "GET", "/api")
            return None if answer.status == 200 else repr(answer)

        load.start(asks)
        before = server.upgrade()
        load.stop()
        assert not load.failures, load.failures[:5]
        assert request(admin, "DELETE", "/services/s/routes/r").status == 204
        assert request(port, "GET", "/api").status == 404
        assert before.wait(timeout=20) == 0


@pytest.mark.parametrize("program, why", [
    ("#!/bin/sh\nexit 7\n", "it ended before it was ready: exit status: 7"),
    ("#!/bin/sh\nkill -9 $$\n", "it ended before it was ready: signal: 9 (SIGKILL)"),
    (None, "No such file or directory"),
])
def test_a_program_that_does_not_start_leaves_the_old_one_serving(start_server, tmp_path, program, why):
    path = tmp_path / "sluicegate"
    shutil.copy(binary(), path)
    with Upstream() as upstream:
        server = start_server(config(upstream), bin_path=str(path))
        with kept_connection(server.ports["http"]) as idle:
            staged = path.with_suffix(".staged")
            staged.write_text(program or "")
            staged.chmod(0o755)
            os.replace(staged, path) if program else path.unlink()
            server.process.send_signal(signal.SIGUSR2)
            until(lambda: "upgrade refused" in server.stderr(), "the refusal")
            assert why in server.stderr(), server.stderr()[-1000:]
            assert idle("GET", "/v").status == 200
        assert request(server.ports["http"], "POST", "/q", b"x").status == 202
        assert request(server.ports["admin"], "PUT", "/consumers/c", "{}", {"Content-Type": "application/json"}).status == 200


def test_a_config_that_does_not_load_leaves_the_old_one_serving_and_a_new_one_takes_over(start_server):
    with Upstream() as upstream:
        server = start_server(config(upstream))
        server.write_text("servces: []\n")
        server.process.send_signal(signal.SIGUSR2)
        until(lambda: "upgrade refused" in server.stderr(), "the refusal")
        assert "servces" in server.stderr() and server.alive()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            config_of = config(upstream, 2)
            server.write_config(config_of | {"listen": server.listen | {
                "http": [*server.listen["http"], f"127.0.0.1:{taken.getsockname()[1]}"]}})
            server.process.send_signal(signal.SIGUSR2)
            until(lambda: server.stderr().count("upgrade refused") == 2, "the second refusal")
            assert "another program, or another sluicegate, has this port" in server.stderr()
        assert request(server.ports["http"], "GET", "/v").json["path"] == "/version/1"
        server.write_config(config(upstream, 2))
        before = server.upgrade()
        assert request(server.ports["http"], "GET", "/v").json["path"] == "/version/2"
        assert before.wait(timeout=20) == 0


@pytest.mark.parametrize("change, why", [
    ({"broker": {"definitions": definitions() | {"exchanges": [*definitions()["exchanges"], {
        "vhost": "/", "name": "kept", "type": "topic", "durable": True, "auto_delete": False, "internal": False,
        "arguments": {}}]}}}, "inequivalent arg 'type' for exchange 'kept'"),
    ({"services": [{"name": "q", "protocol": "queue", "host": "amq.orders"}]}, "queue `amq.orders`"),
])
def test_a_config_that_contradicts_the_data_leaves_the_old_one_serving(start_server, change, why):
    """The new process finds out before the old one has let anything go."""
    with Upstream() as upstream:
        server = start_server(config(upstream))
        connection = pika.BlockingConnection(pika.URLParameters(server.amqp_url()))
        connection.channel().exchange_declare("kept", "fanout", durable=True)
        server.write_config(config(upstream) | change)
        server.process.send_signal(signal.SIGUSR2)
        until(lambda: "upgrade refused" in server.stderr(), "the refusal")
        assert why in server.stderr() and server.alive(), server.stderr()
        assert request(server.ports["http"], "POST", "/q", b"x").status == 202
        connection.channel().exchange_declare("kept", "fanout", durable=True)
        connection.close()


def test_data_that_the_new_process_cannot_open_goes_back_to_the_old_program(start_server, tmp_path):
    """The new program serves HTTP and fails then: what it was handed is handed to the old program, started once more."""
    path = tmp_path / "sluicegate"
    shutil.copy(binary(), path)
    with Upstream() as upstream:
        server = start_server(config(upstream), bin_path=str(path))
        assert request(server.ports["http"], "POST", "/q", b"kept").status == 202
        # Says that it is ready, hears that the data is its own, and ends.
        staged = path.with_suffix(".staged")
        staged.write_text("#!/bin/sh\nprintf r >&0\nsleep 0.2\nexit 1\n")
        staged.chmod(0o755)
        os.replace(staged, path)
        before = server.upgrade()
        assert "has taken over, with the program as it was" in server.stderr()
        assert before.wait(timeout=20) == 0
        assert request(server.ports["http"], "GET", "/v").status == 200
        # The old program knows where it came from: the next one that is put there takes over.
        shutil.copy(binary(), staged)
        os.replace(staged, path)
        rescued = server.upgrade()
        assert rescued.wait(timeout=20) == 0
        assert os.readlink(f"/proc/{server.process.pid}/exe") == str(path)
        assert drained(server, "orders") == ["kept"]


def test_who_is_silent_does_not_hold_the_data_up(start_server):
    """Half a head at the Admin API, and nothing where a PROXY header is due: the data does not wait for them."""
    port = free_ports(1)[0]
    listen = {"amqp": [{"address": f"127.0.0.1:{port}", "proxy_protocol": True}]}
    server = start_server({"limits": {"drain_timeout": "60s"}}, listen=listen)
    with contextlib.ExitStack() as silent:
        for at, said in ((port, b""), (server.ports["admin"], b"GET /status HTTP/1.1\r\nHo")):
            connection = silent.enter_context(socket.create_connection(("127.0.0.1", at), timeout=10))
            connection.sendall(said)
        began = time.monotonic()
        before = server.upgrade()
        assert time.monotonic() - began < 15
        assert before.wait(timeout=20) == 0


def test_what_is_under_way_ends_where_it_began(start_server):
    """A slow answer and an idle connection stay with the old process; the data is the new one's long before."""
    gate = threading.Event()

    def slow(handler, seen):
        if seen.path.endswith("slow"):
            gate.wait(15)
        send_json(handler, {"path": seen.path})

    with Upstream(slow) as upstream:
        server = start_server(config(upstream))
        port, answers = server.ports["http"], []
        with kept_connection(port) as idle:
            assert idle("GET", "/v").headers["connection"] != "close"
            thread = threading.Thread(target=lambda: answers.append(request(port, "GET", "/v/slow", timeout_s=20)))
            thread.start()
            until(lambda: upstream.count() == 2, "it is at the upstream")
            before = server.upgrade()
            assert request(port, "POST", "/q", b"x").status == 202, "the new process has the data"
            assert before.poll() is None
            last = idle("GET", "/v")
            assert (last.status, last.headers["connection"]) == (200, "close")
        gate.set()
        thread.join(timeout=15)
        assert (answers[0].status, answers[0].headers["connection"]) == (200, "close")
        assert before.wait(timeout=20) == 0


def test_systemd_is_told_who_the_service_is(start_server, tmp_path):
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(path))
        notify.settimeout(10)
        server = start_server(env={"NOTIFY_SOCKET": str(path)})
        assert notify.recv(100) == b"READY=1"
        server.upgrade()
        assert notify.recv(100).decode() == f"MAINPID={server.process.pid}"
        assert notify.recv(100) == b"READY=1"
