"""Bad input on the HTTP, admin and management ports: ambiguous framing, floods, silence, other protocols.

Every ambiguous message must be answered 400 (or a better fitting error) and end the connection, and nothing of it, above all
not the request smuggled behind it, may reach the upstream."""

import os
import socket
import ssl
import struct
import time

import pytest

from harness.http_client import request
from harness.keys import tls_files
from harness.ports import free_ports
from harness.raw_http import statuses, until_closed
from harness.server import Server
from harness.upstream import Upstream
from harness.wait import until

pytestmark = pytest.mark.ours
SMUGGLED = b"GET /x/smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    files = tls_files(folder)
    plain, tls = free_ports(2)
    with Upstream() as upstream:
        server = Server(folder / "server", {
            "services": [{"name": "x", "url": upstream.url(), "routes": [{"name": "x", "paths": ["/x"]}]},
                         {"name": "q", "protocol": "queue", "host": "q", "routes": [{"name": "q", "paths": ["/q"]}]}],
        }, listen={"http": [f"127.0.0.1:{plain}", {"address": f"127.0.0.1:{tls}", "tls": files}]})
        server.ports.update(http=plain, tls=tls)
        server.upstream = upstream
        server.start()
        yield server
        server.close()


@pytest.fixture(autouse=True)
def still_serves(gateway):
    yield
    answer = request(gateway.ports["http"], "GET", "/x/good")
    assert (answer.status, answer.json["path"]) == (200, "/good")
    gateway.check_no_panic()


HEAD = b"POST /x/y HTTP/1.1\r\nHost: a\r\n"
AMBIGUOUS = {
    "CL and TE": HEAD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE and CL": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "two different CL": HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "two equal CL": HEAD + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na",
    "CL list": HEAD + b"Content-Length: 1, 1\r\n\r\na",
    "CL with plus": HEAD + b"Content-Length: +1\r\n\r\na",
    "CL negative": HEAD + b"Content-Length: -1\r\n\r\na",
    "CL hex": HEAD + b"Content-Length: 0x1\r\n\r\na",
    "CL empty": HEAD + b"Content-Length:\r\n\r\n",
    "CL with space inside": HEAD + b"Content-Length: 1 0\r\n\r\na",
    "CL larger than u64": HEAD + b"Content-Length: 18446744073709551617\r\n\r\na",
    "CL with a letter": HEAD + b"Content-Length: 1a\r\n\r\na",
    "space before the colon of CL": HEAD + b"Content-Length : 1\r\n\r\na",
    "TE identity": HEAD + b"Transfer-Encoding: identity\r\n\r\n",
    "TE xchunked": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "TE chunked twice": HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE chunked, chunked": HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "TE chunked, identity": HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "TE with a vertical tab": HEAD + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "TE quoted": HEAD + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "TE empty": HEAD + b"Transfer-Encoding:\r\n\r\n0\r\n\r\n",
    "space before the colon of TE": HEAD + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "TE in HTTP/1.0": b"POST /x/y HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE folded": HEAD + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "obs-fold": b"GET /x/y HTTP/1.1\r\nHost: a\r\nX-A: one\r\n two\r\n\r\n",
    "header before the first": b"GET /x/y HTTP/1.1\r\n Host: a\r\n\r\n",
    "bare LF after the request line": b"GET /x/y HTTP/1.1\nHost: a\r\n\r\n",
    "bare LF after a header": b"GET /x/y HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
    "bare LF at the end of the head": b"GET /x/y HTTP/1.1\r\nHost: a\r\n\n",
    "bare CR in a value": b"GET /x/y HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
    "bare CR before the value ends": b"GET /x/y HTTP/1.1\r\nHost: a\r\nX: a\r\r\n\r\n",
    "NUL in a value": b"GET /x/y HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
    "NUL in a name": b"GET /x/y HTTP/1.1\r\nHost: a\r\nX\0: a\r\n\r\n",
    "control character in a value": b"GET /x/y HTTP/1.1\r\nHost: a\r\nX: a\x01b\r\n\r\n",
    "DEL in a value": b"GET /x/y HTTP/1.1\r\nHost: a\r\nX: a\x7fb\r\n\r\n",
    "space in a name": b"GET /x/y HTTP/1.1\r\nHost: a\r\nX Y: a\r\n\r\n",
    "empty name": b"GET /x/y HTTP/1.1\r\nHost: a\r\n: a\r\n\r\n",
    "no colon": b"GET /x/y HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n",
    "no Host": b"GET /x/y HTTP/1.1\r\nX: a\r\n\r\n",
    "two Hosts": b"GET /x/y HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "two equal Hosts": b"GET /x/y HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "Host with a space": b"GET /x/y HTTP/1.1\r\nHost: a b\r\n\r\n",
    "Host with a path": b"GET /x/y HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "Host with a user": b"GET /x/y HTTP/1.1\r\nHost: u@a\r\n\r\n",
    "control character in the target": b"GET /x/\x01y HTTP/1.1\r\nHost: a\r\n\r\n",
    "space in the target": b"GET /x/ y HTTP/1.1\r\nHost: a\r\n\r\n",
    "tab for a space": b"GET\t/x/y\tHTTP/1.1\r\nHost: a\r\n\r\n",
    "no target": b"GET HTTP/1.1\r\nHost: a\r\n\r\n",
    "fragment-only target": b"GET #x HTTP/1.1\r\nHost: a\r\n\r\n",
    "no version": b"GET /x/y\r\nHost: a\r\n\r\n",
    "odd version": b"GET /x/y HTTP/1.10\r\nHost: a\r\n\r\n",
    "version 3": b"GET /x/y HTTP/3.0\r\nHost: a\r\n\r\n",
    "lower-case version": b"GET /x/y http/1.1\r\nHost: a\r\n\r\n",
    "method with a control character": b"GE\x01T /x/y HTTP/1.1\r\nHost: a\r\n\r\n",
}
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
BAD_CHUNKS = {
    "size with 0x": b"0x5\r\nhello\r\n0\r\n\r\n", "size not hex": b"5g\r\nhello\r\n0\r\n\r\n",
    "empty size": b"\r\nhello\r\n0\r\n\r\n", "negative size": b"-5\r\nhello\r\n0\r\n\r\n",
    "size with plus": b"+5\r\nhello\r\n0\r\n\r\n", "size with a leading space": b" 5\r\nhello\r\n0\r\n\r\n",
    "size with a trailing space": b"5 \r\nhello\r\n0\r\n\r\n", "size beyond u64": b"1" + b"0" * 16 + b"5\r\nhello\r\n0\r\n\r\n",
    "size of 64 zeros": b"0" * 64 + b"5\r\nhello\r\n0\r\n\r\n", "size line ends with LF": b"5\nhello\r\n0\r\n\r\n",
    "no CRLF after data": b"5\r\nhelloX0\r\n\r\n", "data ends with LF": b"5\r\nhello\n0\r\n\r\n",
    "data longer than the size": b"5\r\nhello world\r\n0\r\n\r\n",
    "last chunk ends with LF": b"5\r\nhello\r\n0\n\r\n", "end with LF": b"5\r\nhello\r\n0\r\n\n",
    "extension with LF": b"5;a=b\nhello\r\n0\r\n\r\n", "extension with bare CR": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "extension without end": b"5;" + b"a" * 20_000 + b"\r\nhello\r\n0\r\n\r\n",
    "extension with NUL": b"5;a\0\r\nhello\r\n0\r\n\r\n",
    "trailer that frames": b"5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n",
    "trailer without a colon": b"5\r\nhello\r\n0\r\nnonsense\r\n\r\n",
    "trailer folded": b"5\r\nhello\r\n0\r\nX: a\r\n b\r\n\r\n",
    "trailers without end": b"5\r\nhello\r\n0\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
}
refused_count = {"heads": 0, "chunks": 0}


@pytest.mark.parametrize("case", sorted(AMBIGUOUS))
def test_an_ambiguous_head(gateway, case):
    before = gateway.upstream.count()
    came = until_closed(gateway.ports["http"], AMBIGUOUS[case] + SMUGGLED)
    got = statuses(came)
    assert len(got) == 1, f"{len(got)} answers to one bad request: {came[:500]!r}"
    assert got[0] in ((400, 501) if case.startswith("TE") else (400, 505) if "version" in case else (400,)), came[:300]
    assert gateway.upstream.count() == before, gateway.upstream.seen[before:]
    refused_count["heads"] += 1
    print(f"{case}: {got[0]}; {refused_count['heads']} of {len(AMBIGUOUS)} heads refused")


@pytest.mark.parametrize("target", ["/x/y", "/q"], ids=["proxied", "queued"])
@pytest.mark.parametrize("case", sorted(BAD_CHUNKS))
def test_a_bad_chunk(gateway, case, target):
    before = gateway.upstream.count()
    came = until_closed(gateway.ports["http"], CHUNKED.replace(b"/x/y", target.encode()) + BAD_CHUNKS[case] + SMUGGLED)
    got = statuses(came)
    # The answer can only be missing when the request was already on its way to the upstream; never may it be a success.
    assert got in ([400], [413], []) if target == "/x/y" else got in ([400], [413]), came[:500]
    assert gateway.upstream.count() == before, gateway.upstream.seen[before:]
    refused_count["chunks"] += 1
    print(f"{case}: {got}; {refused_count['chunks']} of {2 * len(BAD_CHUNKS)} bad chunks refused")


def test_odd_but_right_framing_is_accepted(gateway):
    """The counterpart, so that refusing everything does not pass: leading zeros, extensions, trailers, upper-case hex."""
    came = until_closed(gateway.ports["http"], (CHUNKED + b"0A;name=value\r\n0123456789\r\n00\r\nX-T: 1\r\n\r\n")
                    + b"GET /x/last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert statuses(came) == [200, 200], came[:600]
    assert b'"body": "0123456789"' in came
    came = until_closed(gateway.ports["http"], b"\r\nGET http://a/x/absolute HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert statuses(came) == [200] and b'"path": "/absolute"' in came


@pytest.mark.parametrize("case, payload, expected", [
    ("one huge header", b"GET /x HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 2_000_000 + b"\r\n\r\n", (400, 431)),
    ("many headers", b"GET /x HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 5_000 + b"\r\n", (400, 431)),
    ("headers without end", b"GET /x HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 200_000, (400, 431)),
    ("huge target", b"GET /x/" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", (414, 400, 431)),
    ("giant cookie", b"GET /x HTTP/1.1\r\nHost: a\r\nCookie: " + b"a=" + b"b" * 1_000_000 + b"\r\n\r\n", (400, 431)),
    ("many cookies", b"GET /x HTTP/1.1\r\nHost: a\r\n" + b"Cookie: a=b\r\n" * 5_000 + b"\r\n", (400, 431)),
    ("giant query", b"GET /x?" + b"a=b&" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", (414, 400, 431)),
    ("request line without end", b"G" * 1_000_000, (400, 414, 431)),
    ("huge method", b"A" * 10_000 + b" /x HTTP/1.1\r\nHost: a\r\n\r\n", (400, 405, 414, 431, 501)),
], ids=lambda value: value if isinstance(value, str) else "")
def test_floods_in_the_head(gateway, case, payload, expected):
    before, rss = gateway.upstream.count(), gateway.rss_kib()
    got = statuses(until_closed(gateway.ports["http"], payload))
    # A reset may overtake the answer when we are still sending; then there is none.
    assert got in [[status] for status in expected] + [[]], got
    assert gateway.upstream.count() == before
    assert gateway.rss_kib() - rss < 20_000


TLS_HELLO = bytes.fromhex("16030100c8010000c40303") + os.urandom(194)
OTHER = {"amqp": b"AMQP\x00\x00\x09\x01", "tls": TLS_HELLO, "random": os.urandom(3000) + b"\r\n\r\n",
         "zeros": b"\0" * 3000, "ssh": b"SSH-2.0-OpenSSH_9.2\r\n", "http2 preface then garbage":
         b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 3000}


@pytest.mark.parametrize("listener", ["http", "admin", "management", "tls"])
@pytest.mark.parametrize("kind", sorted(OTHER))
def test_other_protocols_and_garbage_on_every_port(gateway, listener, kind):
    if (listener, kind) == ("tls", "tls"):
        payload = TLS_HELLO + os.urandom(1000)
    else:
        payload = OTHER[kind]
    came = until_closed(gateway.ports[listener], payload, half_close=True)
    assert not any(200 <= status < 300 for status in statuses(came)), came[:200]


def h2_frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + h2_frame(4, 0, 0, b"")
# GET, http, /x, authority "a", with static-table indexes and literals.
H2_GET = b"\x82\x86\x44\x02/x\x41\x01a"


@pytest.mark.parametrize("case", ["continuation flood", "rapid reset", "settings flood", "ping flood", "frame too large",
                                  "bad hpack", "data on stream 0", "hpack bomb", "giant header", "giant cookie in crumbs",
                                  "window of nothing", "window flood", "priority flood", "empty data flood",
                                  "reset of what was never opened"])
def test_http_2_abuse(gateway, case):
    """Whatever a peer sends, memory stays bounded and others are served while it goes on."""
    attack = {
        "continuation flood": h2_frame(1, 0, 1, H2_GET) + h2_frame(9, 0, 1, b"\x40\x01b\x01c" * 1000) * 2000,
        "rapid reset": b"".join(h2_frame(1, 5, n, H2_GET) + h2_frame(3, 0, n, b"\0\0\0\x08")
                                for n in range(1, 20_001, 2)),
        "settings flood": h2_frame(4, 0, 0, b"") * 100_000,
        "ping flood": h2_frame(6, 0, 0, b"12345678") * 100_000,
        "frame too large": h2_frame(0, 0, 1, b"x" * 1_000_000),
        "bad hpack": h2_frame(1, 5, 1, b"\xff" * 50),
        "data on stream 0": h2_frame(0, 1, 0, b"hello"),
        "hpack bomb": h2_frame(1, 4, 1, H2_GET + b"\x40\x01b\x7f\x81\x1e" + b"v" * 4000) + h2_frame(
            1, 5, 3, H2_GET + b"\xbe" * 16_000),
        "giant header": h2_frame(1, 1, 1, H2_GET + b"\x00\x01b\x7f\x81\xff\x3f" + b"v" * 10_000) + b"".join(
            h2_frame(9, 0, 1, b"v" * 16_384) for _ in range(63)) + h2_frame(9, 4, 1, b"v" * 6_384),
        "giant cookie in crumbs": b"".join(h2_frame(1, 5, n, H2_GET + b"\x00\x06cookie\x03a=b" * 1_400) for n in range(1, 61, 2)),
        # Streams that may never be answered: the client grants no byte and goes on asking.
        "window of nothing": h2_frame(4, 0, 0, b"\0\4\0\0\0\0") + b"".join(h2_frame(1, 5, n, H2_GET) for n in range(1, 4_001, 2)),
        "window flood": h2_frame(1, 4, 1, H2_GET) + h2_frame(8, 0, 1, b"\0\0\0\1") * 100_000,
        "priority flood": h2_frame(2, 0, 1, b"\0\0\0\0\x10") * 100_000,
        "empty data flood": h2_frame(1, 4, 1, H2_GET) + h2_frame(0, 0, 1, b"") * 100_000,
        "reset of what was never opened": b"".join(h2_frame(3, 0, n, b"\0\0\0\x08") for n in range(1, 40_001, 2)),
    }[case]
    before = gateway.rss_kib()
    with socket.create_connection(("127.0.0.1", gateway.ports["http"]), timeout=1) as s:
        try:
            s.sendall(PREFACE)
            for at in range(0, len(attack), 65536):
                s.sendall(attack[at:at + 65536])
        except (ConnectionResetError, BrokenPipeError, TimeoutError):
            pass
        assert request(gateway.ports["http"], "GET", "/x/other").status == 200, "others must be served meanwhile"
        assert gateway.rss_kib() - before < 40_000


@pytest.mark.timeout(120)
def test_silent_and_slow_peers_are_cut_off(gateway):
    """A silent one, one that stops in the head, one that sends a byte a second, one that stops in the TLS handshake,
    and ones that stop in a body, proxied or queued, or in HTTP/2's preface: all at once, none may stay. A keep-alive
    connection that is merely idle may stay longer."""
    limit_s = 75
    silent = socket.create_connection(("127.0.0.1", gateway.ports["http"]))
    headless = socket.create_connection(("127.0.0.1", gateway.ports["http"]))
    headless.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\n")
    trickle = socket.create_connection(("127.0.0.1", gateway.ports["http"]))
    trickle.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\n")
    tls = socket.create_connection(("127.0.0.1", gateway.ports["tls"]))
    tls.sendall(TLS_HELLO[:20])
    bodies = {"proxied body": b"POST /x/y", "queued body": b"POST /q"}
    open_ones = {"silent": silent, "headless": headless, "trickle": trickle, "tls": tls}
    for name, start in bodies.items():
        open_ones[name] = socket.create_connection(("127.0.0.1", gateway.ports["http"]))
        open_ones[name].sendall(start + b" HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf")
    open_ones["preface"] = socket.create_connection(("127.0.0.1", gateway.ports["http"]))
    open_ones["preface"].sendall(PREFACE[:10])
    began, ended = time.monotonic(), {}
    for each in open_ones.values():
        each.settimeout(0.05)
    while open_ones and time.monotonic() - began < limit_s:
        if "trickle" in open_ones:
            try:
                open_ones["trickle"].sendall(b"X")
            except OSError:
                pass
        for name in list(open_ones):
            try:
                closed = not open_ones[name].recv(65536)
            except TimeoutError:
                closed = False
            except OSError:
                closed = True
            if closed:
                ended[name] = time.monotonic() - began
                open_ones.pop(name).close()
        time.sleep(0.3)
    print("cut off after", {name: f"{seconds:.0f} s" for name, seconds in ended.items()})
    for each in open_ones.values():
        each.close()
    assert not open_ones, f"still open after {limit_s} s: {sorted(open_ones)}"


def test_a_client_that_never_reads_does_not_fill_memory(gateway):
    before = gateway.rss_kib()
    with socket.create_connection(("127.0.0.1", gateway.ports["http"])) as s:
        s.settimeout(0.5)
        one = b"POST /x/big HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n" + b"b" * 60000
        try:
            for _ in range(1000):
                s.sendall(one)
        except TimeoutError:
            pass
        assert gateway.rss_kib() - before < 40_000
        assert request(gateway.ports["http"], "GET", "/x/other").status == 200


@pytest.mark.timeout(120)
def test_nothing_leaks(gateway):
    """Waves of bad requests; memory and descriptors return to about where they were."""

    def wave(count):
        cases = list(AMBIGUOUS.values()) + [CHUNKED + body for body in BAD_CHUNKS.values() if len(body) < 1000]
        for number in range(count):
            with socket.create_connection(("127.0.0.1", gateway.ports["http"]), timeout=5) as s:
                s.sendall(cases[number % len(cases)][:: 1])
                if number % 3:
                    s.recv(100)

    wave(300)
    until(lambda: gateway.fds() < 80, "settled", 15)
    rss, fds = gateway.rss_kib(), gateway.fds()
    wave(1500)
    until(lambda: gateway.fds() <= fds + 5, "descriptors are back", 15)
    grown = gateway.rss_kib() - rss
    print(f"1,500 bad requests: {grown} KiB more, {gateway.fds()} descriptors")
    assert grown < 6_000


def test_upgrades_that_nobody_takes_leave_nothing_behind(gateway):
    """The upstream and the other listeners answer as if nothing was asked for, and what was sent ahead is no request."""
    upgrade = (b"GET /x/ws HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
               b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    fds = gateway.fds()
    for _ in range(100):
        came = until_closed(gateway.ports["http"], upgrade + b"\x81\x85\x00\x00\x00\x00hello")
        assert statuses(came) == [200, 400], came
    for listener in ("admin", "management"):
        assert statuses(until_closed(gateway.ports[listener], upgrade + b"\x81")) == [404, 400]
    until(lambda: gateway.fds() <= fds + 5, "descriptors are back", 15)


def test_tls_with_an_old_version_or_a_plain_request(gateway):
    came = until_closed(gateway.ports["tls"], b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b" 200 " not in came
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(("127.0.0.1", gateway.ports["tls"]), timeout=5) as plain:
        with context.wrap_socket(plain) as s:
            assert s.version() in ("TLSv1.2", "TLSv1.3")
