"""What is said before the answer (100 Continue, 103 Early Hints; RFC 9110 10.1.1 and 15.2, RFC 8297), and what clients that ask
are told of their route (Kong-Debug)."""

import contextlib
import socket
import threading

import pytest

from harness.http_client import request
from harness.upstream import Upstream

pytestmark = pytest.mark.ours

HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"


class Hinting:
    """Says 103, and its answer when it is told to."""

    def __init__(self):
        self.socket, self.go = socket.create_server(("127.0.0.1", 0)), threading.Event()
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.socket.accept()
                threading.Thread(target=self.answer, args=(connection,), daemon=True).start()

    def answer(self, connection):
        with connection, contextlib.suppress(OSError):
            while connection.recv(65536):
                connection.sendall(HINTS)
                self.go.wait(10)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def config(port, **gateway):
    return {"gateway": gateway, "services": [{"name": "one", "url": f"http://127.0.0.1:{port}", "routes": [
        {"name": "all", "paths": ["/"]}, {"name": "guarded", "paths": ["/guarded"], "plugins": [{"name": "key-auth"}]}]}]}


def read_head(connection):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = connection.recv(1)
        assert piece, head
        head += piece
    return head.decode()


def test_early_hints_come_before_the_answer_where_they_are_asked_for(start_server):
    hinting = Hinting()
    with contextlib.closing(hinting.socket):
        server = start_server(config(hinting.port, early_hints=True))
        with socket.create_connection(("127.0.0.1", server.ports["http"]), timeout=10) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert read_head(client).lower() == HINTS.decode().lower()
            hinting.go.set()
            assert read_head(client).startswith("HTTP/1.1 200 OK\r\n") and client.recv(2) == b"ok"
        server.take_over(config(hinting.port))
        with socket.create_connection(("127.0.0.1", server.ports["http"]), timeout=10) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert read_head(client).startswith("HTTP/1.1 200 OK\r\n"), "many clients would take a 103 for the answer"


def test_continue_is_said_when_the_body_is_wanted_and_not_before_a_refusal(start_server):
    expecting = "POST {} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    with Upstream() as upstream:
        server = start_server(config(upstream.port))
        with socket.create_connection(("127.0.0.1", server.ports["http"]), timeout=10) as client:
            client.sendall(expecting.format("/").encode())
            assert read_head(client) == "HTTP/1.1 100 Continue\r\n\r\n"
            client.sendall(b"hi")
            assert read_head(client).startswith("HTTP/1.1 200 OK\r\n")
        assert upstream.last().body == b"hi" and "Expect" not in upstream.last().headers
        with socket.create_connection(("127.0.0.1", server.ports["http"]), timeout=10) as client:
            client.sendall(expecting.format("/guarded").encode())
            head = read_head(client)
            assert head.startswith("HTTP/1.1 401 ") and "connection: close" in head.lower()
        with socket.create_connection(("127.0.0.1", server.ports["http"]), timeout=10) as client:
            client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: a miracle\r\n\r\n")
            assert read_head(client).startswith("HTTP/1.1 417 ")
        assert upstream.count() == 1


def test_who_asks_is_told_which_route_took_the_request_if_that_is_allowed(start_server):
    with Upstream() as upstream:
        server = start_server(config(upstream.port, allow_debug_header=True))

        def told(path, **headers):
            answer = request(server.ports["http"], "GET", path, headers=headers)
            return answer.status, answer.headers["Kong-Route-Name"], answer.headers["Kong-Service-Name"]

        asking = {"Kong-Debug": "1"}
        assert told("/x", **asking) == (200, "all", "one")
        assert told("/guarded", **asking) == (401, "guarded", "one"), "refused requests have a route too"
        assert told("/x") == (200, None, None)
        routes = request(server.ports["admin"], "GET", "/routes").json["data"]
        answer = request(server.ports["http"], "GET", "/x", headers=asking)
        assert answer.headers["Kong-Route-Id"] == next(route["id"] for route in routes if route["name"] == "all")
        server.take_over(config(upstream.port))
        assert told("/x", **asking) == (200, None, None)
