"""Upgraded connections: WebSocket over HTTP/1.1 and over HTTP/2 (RFC 8441), Socket.IO over both of its transports, other
protocols; and requests that stay open: long polling, server-sent events, clients that leave."""

import contextlib
import http.client
import os
import socket
import threading
import time
import types

import flask
import flask_socketio
import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
import socketio
import werkzeug.serving
import wsproto
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.sync.server import serve

from harness.http_client import request
from harness.server import Server
from harness.upstream import Upstream, send
from harness.wait import until

pytestmark = pytest.mark.ours


def chat(socket_):
    """Echoes; `close <code>` closes with it, `die` drops the connection, `flood` sends until nobody listens."""
    state = socket_.server.state
    with state["lock"]:
        state["open"] += 1
    try:
        for message in socket_:
            if message == "die":
                socket_.socket.shutdown(socket.SHUT_RDWR)
                return
            if isinstance(message, str) and message.startswith("close "):
                socket_.close(int(message.split()[1]), "as asked")
                return
            if message == "headers":
                message = "\n".join(f"{name.lower()}: {value}" for name, value in socket_.request.headers.raw_items())
            if message == "path":
                message = socket_.request.path
            socket_.send(message)
    except ConnectionClosed:
        pass
    finally:
        with state["lock"]:
            state["open"] -= 1


@contextlib.contextmanager
def chat_server():
    state = {"open": 0, "lock": threading.Lock()}

    def handler(connection):
        connection.server = server
        chat(connection)

    with serve(handler, "127.0.0.1", 0, max_size=None, compression=None, ping_interval=None,
               select_subprotocol=lambda _, offered: "chat.v1" if "chat.v1" in offered else None) as server:
        server.state = state
        server.port = server.socket.getsockname()[1]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()


def patient(handler, seen):
    """/hang and /events go on until told or left; /events sends one event first. Counts who is being served."""
    server = handler.server
    if seen.path == "/events":
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"d\r\ndata: first\n\n\r\n")
    if seen.path in ("/events", "/hang"):
        server.waiting.append(handler)
        handler.connection.settimeout(20)
        with contextlib.suppress(OSError):
            if handler.connection.recv(1) == b"":
                server.left.append(time.monotonic())
        handler.close_connection = True
    else:
        send(handler, 200, b"no switch here", {"Upgrade": "websocket", "Connection": "Upgrade"})


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with chat_server() as chatter, Upstream(patient) as waiter, raw_upstream() as raw:
        waiter.server.waiting, waiter.server.left = [], []
        server = Server(tmp_path_factory.mktemp("ws") / "server", {"services": [
            {"name": "chat", "url": f"http://127.0.0.1:{chatter.port}/base",
             "routes": [{"name": "chat", "paths": ["/chat"]}]},
            {"name": "patient", "url": waiter.url(), "routes": [{"name": "patient", "paths": ["/patient"]}]},
            {"name": "impatient", "url": f"http://127.0.0.1:{chatter.port}", "read_timeout": 400,
             "routes": [{"name": "impatient", "paths": ["/impatient"]}]},
            {"name": "guarded", "url": f"http://127.0.0.1:{chatter.port}", "routes": [
                {"name": "guarded", "paths": ["/guarded"], "plugins": [{"name": "key-auth"}]}]},
            {"name": "raw", "url": f"http://127.0.0.1:{raw.port}", "retries": 0,
             "routes": [{"name": "raw", "paths": ["/raw"]}]},
        ], "consumers": [{"username": "ann", "keyauth_credentials": [{"key": "ann-key"}]}]})
        server.chatter, server.waiter, server.raw = chatter, waiter, raw
        server.start()
        yield server
        server.close()


@contextlib.contextmanager
def raw_upstream():
    """Answers each request's head with `answers[path]`, then echoes bytes until the end, upper-cased, and says `bye`."""
    listener = socket.create_server(("127.0.0.1", 0))
    heads = []

    def one(peer):
        with peer, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                head += peer.recv(65536)
            heads.append(head)
            head, early = head.split(b"\r\n\r\n", 1)
            path = head.split(b" ")[1].decode()
            peer.sendall(RAW_ANSWERS[path])
            while data := early or peer.recv(65536):
                early = b""
                peer.sendall(data.upper())
            peer.sendall(b"bye")

    def accept():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield types.SimpleNamespace(port=listener.getsockname()[1], heads=heads)
    listener.close()


SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\nX-Mine: kept\r\n\r\n"
RAW_ANSWERS = {
    "/spdy": SWITCH % b"SPDY/3.1" + b"early ",
    "/other": SWITCH % b"something-else",
    "/unnamed": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: SPDY/3.1\r\n\r\n",
}


def url(gateway, path):
    return f"ws://127.0.0.1:{gateway.ports['http']}{path}"


def open_chat(gateway, path="/chat", **options):
    options = {"max_size": None, "compression": None, "ping_interval": None, "proxy": None, **options}
    return connect(url(gateway, path), **options)


def n_tunnels(gateway):
    page = request(gateway.ports["admin"], "GET", "/metrics").text
    (line,) = [line for line in page.splitlines() if line.startswith("sluicegate_http_upgraded_connections ")]
    return int(line.split()[1])


def count_of(gateway, route, code):
    page = request(gateway.ports["admin"], "GET", "/metrics").text
    wanted = f'sluicegate_http_requests_total{{route="{route}",code="{code}"}} '
    return sum(int(line.split()[1]) for line in page.splitlines() if line.startswith(wanted))


# --- WebSocket over HTTP/1.1 ------------------------------------------------------------------------------------------

def test_echo_and_what_the_upstream_is_told(gateway):
    with open_chat(gateway, "/chat/room?x=1", subprotocols=["chat.v1"],
                   additional_headers={"X-Public": "1"}) as client:
        assert client.subprotocol == "chat.v1"
        assert client.response.status_code == 101
        assert client.response.headers["Upgrade"] == "websocket"
        assert client.response.headers["Via"].startswith("1.1 ")
        assert len(client.response.headers["X-Kong-Request-Id"]) == 32
        client.send("hello")
        assert client.recv(timeout=5) == "hello"
        client.send(b"\x00\xff")
        assert client.recv(timeout=5) == b"\x00\xff"
        client.send("path")
        assert client.recv(timeout=5) == "/base/room?x=1"
        client.send("headers")
        headers = dict(line.split(": ", 1) for line in client.recv(timeout=5).splitlines())
        assert headers["x-forwarded-for"] == "127.0.0.1"
        assert (headers["upgrade"], headers["connection"].lower()) == ("websocket", "upgrade")
        assert headers["x-public"] == "1"


def test_a_thousand_messages(gateway):
    with open_chat(gateway) as client:
        for n in range(1000):
            client.send(f"message {n}")
        assert [client.recv(timeout=10) for _ in range(1000)] == [f"message {n}" for n in range(1000)]


def test_large_messages(gateway):
    with open_chat(gateway) as client:
        for size in (1, 125, 126, 65535, 65536, 1 << 20, 16 << 20):
            message = os.urandom(size)
            client.send(message)
            assert client.recv(timeout=30) == message


def test_pings_are_answered_by_the_other_end(gateway):
    with open_chat(gateway) as client:
        assert client.ping(b"are you there").wait(timeout=5)


@pytest.mark.parametrize("code", [1000, 1001, 1011, 4000, 4999])
def test_close_codes_pass(gateway, code):
    with open_chat(gateway) as client:
        client.send(f"close {code}")
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=5)
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (code, "as asked")


def test_it_is_counted_while_it_is_open_and_logged_when_it_ends(gateway):
    before, logged = n_tunnels(gateway), count_of(gateway, "chat", 101)
    with open_chat(gateway), open_chat(gateway):
        assert n_tunnels(gateway) == before + 2
        assert count_of(gateway, "chat", 101) == logged
    until(lambda: n_tunnels(gateway) == before, "both have ended", 5)
    assert count_of(gateway, "chat", 101) == logged + 2


def test_an_upstream_that_dies_ends_the_client(gateway):
    with open_chat(gateway) as client:
        client.send("die")
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=5)
        assert closed.value.rcvd is None


def test_a_client_that_dies_ends_the_upstream(gateway):
    client = open_chat(gateway)
    client.send("x")
    assert client.recv(timeout=5) == "x"
    state = gateway.chatter.state
    assert state["open"] >= 1
    client.socket.shutdown(socket.SHUT_RDWR)
    until(lambda: state["open"] == 0, "the upstream has seen its end", 5)


def test_silence_ends_it_after_the_read_timeout(gateway):
    with open_chat(gateway, "/impatient") as client:
        for _ in range(4):
            time.sleep(0.2)
            client.send("awake")
            assert client.recv(timeout=5) == "awake"
        began = time.monotonic()
        with pytest.raises(ConnectionClosed):
            client.recv(timeout=5)
        assert 0.3 < time.monotonic() - began < 3


def test_plugins_decide_before_the_switch(gateway):
    with pytest.raises(InvalidStatus) as refused:
        open_chat(gateway, "/guarded")
    assert refused.value.response.status_code == 401
    with open_chat(gateway, "/guarded", additional_headers={"apikey": "ann-key"}) as client:
        client.send("in")
        assert client.recv(timeout=5) == "in"


def test_what_is_no_switch_passes_as_any_response(gateway):
    with pytest.raises(InvalidStatus) as refused:
        open_chat(gateway, "/patient/plain")
    response = refused.value.response
    assert (response.status_code, response.body) == (200, b"no switch here")
    assert "Upgrade" not in response.headers
    with pytest.raises(InvalidStatus) as refused:
        open_chat(gateway, "/nowhere")
    assert refused.value.response.status_code == 404


def test_it_survives_a_reload(gateway):
    with open_chat(gateway) as client:
        said = gateway.stderr().count("configuration reloaded")
        gateway.reload()
        until(lambda: gateway.stderr().count("configuration reloaded") > said, "the reload is done", 30)
        client.send("still here")
        assert client.recv(timeout=5) == "still here"


def test_a_stop_does_not_wait_for_it(start_server):
    with chat_server() as chatter:
        server = start_server({"services": [{"name": "chat", "url": f"http://127.0.0.1:{chatter.port}",
                                             "routes": [{"name": "chat", "paths": ["/chat"]}]}]})
        with open_chat(server) as client:
            client.send("x")
            assert client.recv(timeout=5) == "x"
            began = time.monotonic()
            server.stop()
            assert time.monotonic() - began < 5
            with pytest.raises(ConnectionClosed):
                client.recv(timeout=5)


# --- other protocols ---------------------------------------------------------------------------------------------------

def talk(gateway, path, upgrade, then=b"", more=""):
    """Sends an upgrade and `then` in one piece, ends its side, and returns all that came."""
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n{more}\r\n".encode()
    with socket.create_connection(("127.0.0.1", gateway.ports["http"]), timeout=10) as peer:
        peer.sendall(head + then)
        came = b""
        while b"\r\n\r\n" not in came:
            came += peer.recv(65536)
        peer.shutdown(socket.SHUT_WR)
        while data := peer.recv(65536):
            came += data
    return came


def test_any_protocol_is_carried_with_what_was_sent_early_and_half_closes(gateway):
    came = talk(gateway, "/raw/spdy", "SPDY/3.1", b"ahead")
    head, body = came.split(b"\r\n\r\n", 1)
    assert head.startswith(b"HTTP/1.1 101 ") and b"x-mine: kept" in head.lower()
    assert b"upgrade: spdy/3.1" in head.lower() and b"connection: upgrade" in head.lower()
    assert body == b"early AHEADbye"


@pytest.mark.parametrize("path", ["/raw/other", "/raw/unnamed"])
def test_a_switch_that_was_not_asked_for_is_a_502(gateway, path):
    assert talk(gateway, path, "SPDY/3.1").startswith(b"HTTP/1.1 502 ")


@pytest.mark.parametrize("upgrade, more", [
    ("h2c", "HTTP2-Settings: AAMAAABkAAQAAP__\r\n"), ("HTTP/2.0", ""), ("TLS/1.2", ""), ("websocket, h2c", ""),
])
def test_no_other_http_is_passed_on(gateway, upgrade, more):
    seen = gateway.raw.heads
    n_seen = len(seen)
    # The upstream says 101 to anything; nobody asked it to.
    assert talk(gateway, "/raw/spdy", upgrade, more=more).startswith(b"HTTP/1.1 502 ")
    assert len(seen) == n_seen + 1 and b"upgrade" not in seen[-1].lower()


# --- WebSocket over HTTP/2 ---------------------------------------------------------------------------------------------

class Http2WebSocket:
    """One extended CONNECT over a plain connection with prior knowledge."""

    def __init__(self, port, path, protocol="websocket"):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.flush()
        self.status, self.headers, self.ended, self.data = None, {}, False, b""
        self.settings = {}
        self.pump_until(lambda: self.settings)
        self.stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(self.stream, [
            (":method", "CONNECT"), (":protocol", protocol), (":scheme", "http"), (":path", path),
            (":authority", f"127.0.0.1:{port}"), ("sec-websocket-version", "13"), ("origin", "http://x")])
        self.flush()
        self.ws = wsproto.connection.Connection(wsproto.ConnectionType.CLIENT)
        self.pump_until(lambda: self.status)

    def flush(self):
        self.socket.sendall(self.h2.data_to_send())

    def pump_until(self, done):
        while not done() and not self.ended:
            data = self.socket.recv(65536)
            if not data:
                self.ended = True
            for event in self.h2.receive_data(data):
                if isinstance(event, h2.events.RemoteSettingsChanged):
                    self.settings.update({key: change.new_value for key, change in event.changed_settings.items()})
                elif isinstance(event, h2.events.ResponseReceived):
                    self.headers = dict(event.headers)
                    self.status = int(self.headers[":status"])
                elif isinstance(event, h2.events.DataReceived):
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    self.data += event.data
                elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
                    self.ended = True
            self.flush()

    def say(self, event):
        data = self.ws.send(event)
        while data:
            room = min(self.h2.local_flow_control_window(self.stream), self.h2.max_outbound_frame_size, len(data))
            if room == 0:
                before = self.h2.local_flow_control_window(self.stream)
                self.pump_until(lambda: self.h2.local_flow_control_window(self.stream) > before)
                continue
            self.h2.send_data(self.stream, data[:room])
            data = data[room:]
            self.flush()

    def hear(self):
        text = b""
        while True:
            if self.data:
                self.ws.receive_data(self.data)
                self.data = b""
            for event in self.ws.events():
                if isinstance(event, wsproto.events.Message):
                    text += event.data.encode() if isinstance(event.data, str) else event.data
                    if event.message_finished:
                        return text
                else:
                    return event
            self.pump_until(lambda: self.data)
            assert not self.ended or self.data, "the stream ended"


def test_a_websocket_over_http2(gateway):
    client = Http2WebSocket(gateway.ports["http"], "/chat/two")
    assert client.settings[h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL] == 1
    assert client.status == 200 and "sec-websocket-accept" not in client.headers
    client.say(wsproto.events.TextMessage("over two"))
    assert client.hear() == b"over two"
    large = os.urandom(1 << 20)
    client.say(wsproto.events.BytesMessage(large))
    assert client.hear() == large
    client.say(wsproto.events.TextMessage("path"))
    assert client.hear() == b"/base/two"
    assert n_tunnels(gateway) >= 1
    client.say(wsproto.events.TextMessage("close 4001"))
    closed = client.hear()
    assert (closed.code, closed.reason) == (4001, "as asked")
    client.socket.close()
    until(lambda: n_tunnels(gateway) == 0, "its end was seen", 5)


@pytest.mark.parametrize("path, protocol, status", [
    ("/nowhere", "websocket", 404), ("/guarded", "websocket", 401), ("/chat", "other", 405),
    ("/patient/plain", "websocket", 502),
])
def test_refusals_over_http2(gateway, path, protocol, status):
    client = Http2WebSocket(gateway.ports["http"], path, protocol)
    assert client.status == status
    client.socket.close()


# --- Socket.IO -----------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def socket_io(tmp_path_factory):
    app = flask.Flask("chat")
    io = flask_socketio.SocketIO(app, async_mode="threading")

    @io.on("say")
    def _say(text):
        flask_socketio.emit("heard", text, broadcast=True)
        return len(text)

    @io.on("whoami")
    def _whoami():
        return flask.request.environ.get("HTTP_X_FORWARDED_FOR")

    httpd = werkzeug.serving.make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    server = Server(tmp_path_factory.mktemp("socketio") / "server", {"services": [
        {"name": "io", "url": f"http://127.0.0.1:{httpd.server_port}",
         "routes": [{"name": "io", "paths": ["/app"], "preserve_host": True}]}]})
    server.start()
    yield server
    server.close()
    httpd.shutdown()


@pytest.mark.parametrize("transports", [["polling"], ["websocket"], ["polling", "websocket"]])
def test_socket_io(socket_io, transports):
    heard = []
    client, other = socketio.Client(), socketio.Client()
    client.on("heard", heard.append)
    address = f"http://127.0.0.1:{socket_io.ports['http']}"
    for one in (client, other):
        one.connect(address, transports=transports, socketio_path="/app/socket.io", wait_timeout=10)
    try:
        assert client.transport() == transports[-1]
        assert client.call("whoami", timeout=10) == "127.0.0.1"
        for n in range(50):
            assert other.call("say", f"message {n}", timeout=10) == len(f"message {n}")
        until(lambda: len(heard) == 50, "all were heard", 10)
        assert heard == [f"message {n}" for n in range(50)]
    finally:
        client.disconnect()
        other.disconnect()


# --- requests that stay open -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("path", ["/patient/hang", "/patient/events"])
def test_a_client_that_leaves_takes_its_request_with_it(gateway, path):
    server = gateway.waiter.server
    n_waiting, n_left = len(server.waiting), len(server.left)
    connection = http.client.HTTPConnection("127.0.0.1", gateway.ports["http"], timeout=10)
    connection.request("GET", path)
    if path.endswith("events"):
        response = connection.getresponse()
        assert response.headers["Content-Type"] == "text/event-stream"
        assert response.read1() == b"data: first\n\n"
    until(lambda: len(server.waiting) > n_waiting, "the upstream has the request", 5)
    assert len(server.left) == n_left
    left_at = time.monotonic()
    if path.endswith("events"):
        response.close()
    connection.close()
    until(lambda: len(server.left) > n_left, "the upstream has been left", 5)
    assert server.left[-1] - left_at < 1
    if path.endswith("hang"):
        until(lambda: count_of(gateway, "patient", 499) > 0, "it was logged", 5)


def test_a_request_sent_ahead_does_not_look_like_leaving(gateway):
    waiting = gateway.waiter.server.waiting
    n_waiting = len(waiting)
    with socket.create_connection(("127.0.0.1", gateway.ports["http"]), timeout=10) as peer:
        peer.sendall(b"GET /patient/events HTTP/1.1\r\nHost: x\r\n\r\n")
        came = peer.recv(65536)
        until(lambda: len(waiting) > n_waiting, "the upstream has the request", 5)
        peer.sendall(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
        waiting = waiting[-1]
        time.sleep(0.2)
        waiting.wfile.write(b"0\r\n\r\n")
        waiting.connection.shutdown(socket.SHUT_RD)
        while b" 404 " not in came:
            data = peer.recv(65536)
            assert data, came
            came += data
        assert came.startswith(b"HTTP/1.1 200 ")
