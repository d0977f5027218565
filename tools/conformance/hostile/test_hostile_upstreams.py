"""Upstreams that lie about lengths, hang, reset, or answer garbage: the status Kong has for it, no reuse, bounded memory."""

import socket
import struct
import threading
import time

import pytest

from harness.http_client import request
from harness.server import Server
from harness.sockets import serve_each
from harness.wait import until

pytestmark = pytest.mark.ours
OK = b"HTTP/1.1 200 OK\r\n"
INVALID = (502, "An invalid response was received from the upstream server")
TIMED_OUT = (504, "The upstream server is timing out")
READ_TIMEOUT_MS = 700


class Liar:
    """Reads a head and answers what the path says; `connections` counts, so that reuse shows."""

    def __init__(self):
        self.connections, self.counting, self.stopped = 0, threading.Lock(), threading.Event()
        self.server = serve_each(self.serve)
        self.port = self.server.getsockname()[1]

    def serve(self, connection):
        with self.counting:
            self.connections += 1
        with connection:
            data = b""
            while True:
                while b"\r\n\r\n" not in data:
                    try:
                        piece = connection.recv(65536)
                    except OSError:
                        return
                    if not piece:
                        return
                    data += piece
                head, data = data.split(b"\r\n\r\n", 1)
                case = head.split(b" ")[1].decode().rsplit("/", 1)[1].split("?")[0]
                try:
                    if not LIES[case][0](self, connection):
                        return
                except OSError:
                    return

    def close(self):
        self.stopped.set()
        self.server.close()


def bytes_then(data, then):
    def answer(liar, connection):
        connection.sendall(data)
        if then == "hang":
            liar.stopped.wait(20)
        if then == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return then == "stay"
    return answer


def flood(liar, connection):
    """A head without end."""
    connection.sendall(OK)
    while True:
        connection.sendall(b"X-Flood: " + b"f" * 1000 + b"\r\n")


def drip(liar, connection):
    """A head a byte at a time, never done: the time between two bytes is short, the whole is not."""
    for _ in range(100):
        connection.sendall(b"H")
        if liar.stopped.wait(0.2):
            break


#: what it does, and the answer; a number alone is a status whose body must come short or the connection end.
LIES = {
    "good": (bytes_then(OK + b"Content-Length: 2\r\n\r\nok", "stay"), 200),
    "nothing": (bytes_then(b"", "close"), INVALID),
    "reset": (bytes_then(b"", "reset"), INVALID),
    "silence": (bytes_then(b"", "hang"), TIMED_OUT),
    "half-a-head": (bytes_then(OK + b"X: y\r\n", "close"), INVALID),
    "half-a-head-then-silence": (bytes_then(OK + b"X: y\r\n", "hang"), TIMED_OUT),
    "half-a-head-then-reset": (bytes_then(OK + b"X: y\r\n", "reset"), INVALID),
    "garbage": (bytes_then(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 40 + b"\r\n\r\n", "hang"), INVALID),
    "html": (bytes_then(b"<html>not http</html>\r\n\r\n", "hang"), INVALID),
    "http-0.9": (bytes_then(b"hello\r\n\r\n", "close"), INVALID),
    "http-2": (bytes_then(b"HTTP/2.0 200 OK\r\n\r\n", "hang"), INVALID),
    "status-of-four-digits": (bytes_then(b"HTTP/1.1 2000 OK\r\n\r\n", "hang"), INVALID),
    "status-of-letters": (bytes_then(b"HTTP/1.1 abc OK\r\n\r\n", "hang"), INVALID),
    "status-zero": (bytes_then(b"HTTP/1.1 000 OK\r\nContent-Length: 0\r\n\r\n", "hang"), INVALID),
    "switching-protocols-unasked": (bytes_then(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "hang"), INVALID),
    "bare-lf": (bytes_then(b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", "hang"), INVALID),
    "nul-in-a-value": (bytes_then(OK + b"X: a\0b\r\nContent-Length: 2\r\n\r\nok", "hang"), INVALID),
    "cr-in-a-value": (bytes_then(OK + b"X: a\rSet-Cookie: x\r\nContent-Length: 2\r\n\r\nok", "hang"), INVALID),
    "length-and-encoding": (bytes_then(OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "hang"), INVALID),
    "two-lengths": (bytes_then(OK + b"Content-Length: 2\r\nContent-Length: 5\r\n\r\nhello", "hang"), INVALID),
    "negative-length": (bytes_then(OK + b"Content-Length: -1\r\n\r\n", "hang"), INVALID),
    "huge-length": (bytes_then(OK + b"Content-Length: 99999999999999999999999\r\n\r\n", "hang"), INVALID),
    "odd-encoding": (bytes_then(OK + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "hang"), INVALID),
    "head-without-end": (flood, INVALID),
    "dripping-head": (drip, (INVALID[0], TIMED_OUT[0])),
    "shorter-than-its-length": (bytes_then(OK + b"Content-Length: 100\r\n\r\nshort", "close"), 200),
    "shorter-then-reset": (bytes_then(OK + b"Content-Length: 100\r\n\r\nshort", "reset"), 200),
    "shorter-then-silence": (bytes_then(OK + b"Content-Length: 100\r\n\r\nshort", "hang"), 200),
    "chunks-without-end": (bytes_then(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "close"), 200),
    "bad-chunk": (bytes_then(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n", "hang"), 200),
    "chunk-too-large": (bytes_then(OK + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nhello", "hang"), 200),
    "longer-than-its-length": (bytes_then(OK + b"Content-Length: 2\r\n\r\nok" + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", "stay"), 200),
}
CUT_SHORT = {"shorter-than-its-length", "shorter-then-reset", "shorter-then-silence", "chunks-without-end", "bad-chunk", "chunk-too-large"}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    liar = Liar()
    server = Server(tmp_path_factory.mktemp("upstreams"), {"services": [
        {"name": "x", "url": f"http://127.0.0.1:{liar.port}", "retries": 0, "read_timeout": READ_TIMEOUT_MS, "connect_timeout": 500,
         "routes": [{"name": "x", "paths": ["/x"], "strip_path": False}]}]})
    server.liar = liar
    server.start()
    yield server
    liar.close()
    server.close()


def raw(port, case, within_s=10):
    """The whole answer, and whether the connection ended by itself."""
    with socket.create_connection(("127.0.0.1", port), timeout=within_s) as s:
        s.sendall(f"GET /x/{case} HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n".encode())
        s.settimeout(2.5)
        came = b""
        try:
            while piece := s.recv(65536):
                came += piece
        except TimeoutError:
            return came, False
        except ConnectionResetError:
            pass
        return came, True


@pytest.mark.parametrize("case", sorted(LIES))
def test_an_upstream_that_lies(gateway, case):
    before, began = gateway.rss_kib(), time.monotonic()
    expected = LIES[case][1]
    if case in CUT_SHORT:
        came, ended = raw(gateway.ports["http"], case)
        assert came.startswith(OK) and ended, came
        assert not came.endswith(b"0\r\n\r\n"), "a cut body must not look whole"
    else:
        answer = request(gateway.ports["http"], "GET", f"/x/{case}", headers={"Accept": "application/json"})
        if isinstance(expected, int):
            assert (answer.status, answer.body) == (expected, b"ok"), answer
        elif isinstance(expected[1], int):
            assert answer.status in expected, answer
        else:
            assert (answer.status, answer.json["message"]) == expected, answer
    assert time.monotonic() - began < 8
    assert gateway.rss_kib() - before < 20_000
    # Nothing of the lie is left for the next one.
    for _ in range(3):
        good = request(gateway.ports["http"], "GET", "/x/good")
        assert (good.status, good.body) == (200, b"ok"), good


def test_many_lies_leave_nothing_behind(gateway):
    """Memory and descriptors after a thousand lies."""
    quick = [case for case in sorted(LIES) if LIES[case][0] is not flood and case not in CUT_SHORT
             and case not in ("silence", "half-a-head-then-silence", "dripping-head")]

    def wave(rounds):
        for _ in range(rounds):
            for case in quick:
                request(gateway.ports["http"], "GET", f"/x/{case}")

    wave(5)
    rss, fds = gateway.rss_kib(), gateway.fds()
    wave(45)
    until(lambda: gateway.fds() <= fds + 5, "descriptors are back", 15)
    grown = gateway.rss_kib() - rss
    print(f"{45 * len(quick)} lies: {grown} KiB more")
    assert grown < 6_000
