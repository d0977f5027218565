"""Where a request comes from: trusted proxies and their headers (Kong's `trusted_ips`, `real_ip_header`,
`real_ip_recursive`), and the PROXY protocol on listeners of HTTP and AMQP."""

import contextlib
import json
import socket
import ssl
import struct
import threading

import pika
import pytest

from harness.http_client import request
from harness.keys import tls_files
from harness.ports import free_ports
from harness.server import Server
from harness.upstream import Upstream
from harness.wait import until

pytestmark = pytest.mark.ours

TOLD = {"Host": "client.example", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "told.example",
        "X-Forwarded-Port": "8443", "X-Forwarded-Path": "/told/path", "X-Forwarded-Prefix": "/told"}


def config(upstream, **gateway):
    return {"gateway": gateway, "services": [{"name": "echo", "url": upstream.url(), "routes": [
        {"name": "echo", "paths": ["/echo"]},
        {"name": "secure", "paths": ["/secure"], "protocols": ["https"]},
        {"name": "limited", "paths": ["/limited"], "plugins": [
            {"name": "rate-limiting", "config": {"hour": 1, "limit_by": "ip", "policy": "local"}}]}]}]}


@pytest.fixture(scope="module")
def upstream():
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def server(tmp_path_factory, upstream):
    server = Server(tmp_path_factory.mktemp("forwarding") / "server", config(upstream))
    server.start()
    yield server
    server.close()


def ask(server, target="/echo/x", **headers):
    return request(server.ports["http"], "GET", target, headers={**TOLD, **headers})


def test_nobody_is_trusted_unless_configured(server, upstream):
    server.take_over(config(upstream))
    answer = ask(server, **{"X-Real-IP": "203.0.113.9"})
    assert answer.echoed("x-real-ip") == ["127.0.0.1"]
    assert answer.echoed("x-forwarded-for") == ["127.0.0.1"]
    assert answer.echoed("x-forwarded-proto") == ["http"]
    assert answer.echoed("x-forwarded-host") == ["client.example"]
    assert answer.echoed("x-forwarded-port") == [str(server.ports["http"])]
    assert answer.echoed("x-forwarded-path") == ["/echo/x"]
    assert answer.echoed("x-forwarded-prefix") == ["/echo"]
    assert ask(server, "/secure").status == 426


def test_a_trusted_peer_is_believed(server, upstream):
    server.take_over(config(upstream, trusted_ips=["10.0.0.0/8", "127.0.0.0/8"]))
    answer = ask(server, **{"X-Real-IP": "203.0.113.9"})
    assert answer.echoed("x-real-ip") == ["203.0.113.9"]
    assert answer.echoed("x-forwarded-for") == ["203.0.113.9"]
    assert answer.echoed("x-forwarded-proto") == ["https"]
    assert answer.echoed("x-forwarded-host") == ["told.example"]
    assert answer.echoed("x-forwarded-port") == ["8443"]
    assert answer.echoed("x-forwarded-path") == ["/told/path"]
    assert answer.echoed("x-forwarded-prefix") == ["/told"]
    assert ask(server, "/secure").status == 200
    # What it does not say is as we see it.
    answer = request(server.ports["http"], "GET", "/echo/y", headers={"Host": "client.example"})
    assert (answer.echoed("x-real-ip"), answer.echoed("x-forwarded-proto")) == (["127.0.0.1"], ["http"])
    assert (answer.echoed("x-forwarded-path"), answer.echoed("x-forwarded-prefix")) == (["/echo/y"], ["/echo"])
    assert request(server.ports["http"], "GET", "/secure").status == 426


def test_a_peer_outside_of_the_ranges_is_not(server, upstream):
    server.take_over(config(upstream, trusted_ips=["10.0.0.0/8", "127.0.0.2", "::/0"]))
    answer = ask(server, **{"X-Real-IP": "203.0.113.9"})
    assert (answer.echoed("x-real-ip"), answer.echoed("x-forwarded-host")) == (["127.0.0.1"], ["client.example"])


@pytest.mark.parametrize("recursive, said, client", [
    (False, "192.0.2.1, 203.0.113.9, 10.0.0.2", "10.0.0.2"),
    (True, "192.0.2.1, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
    (True, "[2001:db8::7]:555, 10.0.0.2", "2001:db8::7"),
    (True, "10.0.0.3, 10.0.0.2", "10.0.0.3"),
    (False, "not an address", "127.0.0.1"),
])
def test_the_client_in_a_list(server, upstream, recursive, said, client):
    server.take_over(config(upstream, trusted_ips=["10.0.0.0/8", "127.0.0.1"], real_ip_header="X-Forwarded-For",
                            real_ip_recursive=recursive))
    answer = ask(server, **{"X-Forwarded-For": said})
    assert answer.echoed("x-real-ip") == [client]
    assert answer.echoed("x-forwarded-for") == [f"{said}, 127.0.0.1"]


def test_plugins_see_the_client_and_not_the_proxy(server, upstream):
    server.take_over(config(upstream, trusted_ips=["127.0.0.1"]))
    for client in ("203.0.113.1", "203.0.113.2"):
        assert [ask(server, "/limited", **{"X-Real-IP": client}).status for _ in range(2)] == [200, 429]


# --- the PROXY protocol --------------------------------------------------------------------------------------------------

V2 = b"\r\n\r\n\0\r\nQUIT\n"


def v2(command, family, rest):
    return V2 + bytes([command, family]) + struct.pack(">H", len(rest)) + rest


def v2_tcp4(source, destination, more=b""):
    addresses = socket.inet_aton(source[0]) + socket.inet_aton(destination[0])
    return v2(0x21, 0x11, addresses + struct.pack(">HH", source[1], destination[1]) + more)


@pytest.fixture(scope="module")
def behind(tmp_path_factory, upstream):
    folder = tmp_path_factory.mktemp("proxied")
    files = tls_files(folder)
    plain, tls, amqp = free_ports(3)
    server = Server(folder / "server", config(upstream), listen={
        "http": [{"address": f"127.0.0.1:{plain}", "proxy_protocol": True},
                 {"address": f"127.0.0.1:{tls}", "proxy_protocol": True,
                  "tls": files}],
        "amqp": [{"address": f"127.0.0.1:{amqp}", "proxy_protocol": True}]})
    server.ports.update(http=plain, tls=tls, amqp=amqp)
    server.start()
    yield server
    server.close()


def exchange(port, header, tls=False, pieces=1):
    """Sends the PROXY header, then a request; the answer's JSON, or None if the connection was closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        size = max(1, -(-len(header) // pieces))
        for at in range(0, len(header), size):
            peer.sendall(header[at:at + size])
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            peer = context.wrap_socket(peer)
        came = b""
        try:
            peer.sendall(b"GET /echo/x HTTP/1.1\r\nHost: client.example\r\nConnection: close\r\n\r\n")
            while data := peer.recv(65536):
                came += data
        except ConnectionError:
            pass
        return json.loads(came.split(b"\r\n\r\n", 1)[1]) if came else None


def told(answer, name):
    return [value for key, value in answer["headers"] if key == name]


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("header, client, port", [
    (b"PROXY TCP4 203.0.113.9 198.51.100.1 40000 8443\r\n", "203.0.113.9", "8443"),
    (b"PROXY TCP6 2001:db8::9 2001:db8::1 40000 443\r\n", "2001:db8::9", "443"),
    (b"PROXY UNKNOWN\r\n", "127.0.0.1", None),
    (v2_tcp4(("203.0.113.9", 40000), ("198.51.100.1", 8443)), "203.0.113.9", "8443"),
    (v2_tcp4(("203.0.113.9", 40000), ("198.51.100.1", 8443), b"\x04\x00\x10" + b"t" * 16), "203.0.113.9", "8443"),
    (v2(0x21, 0x21, socket.inet_pton(socket.AF_INET6, "2001:db8::9") * 2 + struct.pack(">HH", 1, 443)),
     "2001:db8::9", "443"),
    (v2(0x20, 0x00, b""), "127.0.0.1", None),
])
def test_where_a_connection_comes_from(behind, header, client, port, tls):
    listener = behind.ports["tls" if tls else "http"]
    for pieces in (1, 5):
        answer = exchange(listener, header, tls, pieces)
        assert told(answer, "x-real-ip") == [client] == told(answer, "x-forwarded-for")
        assert told(answer, "x-forwarded-port") == [port or str(listener)]


@pytest.mark.parametrize("header", [
    b"", b"PROXY TCP4 203.0.113.9 198.51.100.1 40000\r\n", b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n",
    b"PROXY TCP4 1.1.1.1 2.2.2.2 65536 1\r\n", b"PROXY UNKNOWN " + b"x" * 200 + b"\r\n", b"PROXY\r\n",
    v2(0x31, 0x11, b"\0" * 12), v2(0x21, 0x11, b"\0" * 4), v2(0x21, 0x00, b"\0" * 60000)[:100],
])
def test_a_malformed_header_closes(behind, header):
    assert exchange(behind.ports["http"], header) is None
    assert exchange(behind.ports["http"], b"PROXY UNKNOWN\r\n") is not None


def test_silence_closes(behind):
    with socket.create_connection(("127.0.0.1", behind.ports["http"]), timeout=10) as peer:
        peer.sendall(b"PROXY TC")
        assert peer.recv(1) == b""


def amqp_through(behind, header):
    """A tiny proxy in front of the AMQP listener that sends `header` first."""
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def serve():
        with contextlib.suppress(OSError):
            client, _ = listener.accept()
            server = socket.create_connection(("127.0.0.1", behind.ports["amqp"]))
            server.sendall(header)
            threading.Thread(target=pump, args=(client, server), daemon=True).start()
            pump(server, client)

    threading.Thread(target=serve, daemon=True).start()
    return listener


def test_amqp_behind_a_proxy(behind):
    header = b"PROXY TCP4 127.0.0.7 127.0.0.1 40001 5672\r\n"
    with amqp_through(behind, header) as listener:
        connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", listener.getsockname()[1]))
        channel = connection.channel()
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.basic_publish("", queue, b"through")
        assert until(lambda: channel.basic_get(queue, auto_ack=True)[2], "it came") == b"through"
        shown = request(behind.ports["management"], "GET", "/api/connections", headers={
            "Authorization": "Basic Z3Vlc3Q6Z3Vlc3Q="})
        assert any("127.0.0.7:40001" in one["name"] for one in shown.json), shown
        connection.close()


def test_guest_stays_on_this_machine_whatever_the_header_says(behind):
    with amqp_through(behind, b"PROXY TCP4 203.0.113.9 127.0.0.1 40001 5672\r\n") as listener:
        with pytest.raises(pika.exceptions.AMQPConnectionError):
            pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", listener.getsockname()[1],
                                                              connection_attempts=1))
