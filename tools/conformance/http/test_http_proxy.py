"""The gateway as a proxy: routing as Kong's traditional_compatible router, paths and hosts to the upstream, headers, error
bodies, rate limiting, streaming, pooling, timeouts, TLS and HTTP/2 (reference kong.md 1.3 to 1.7)."""

import hashlib
import http.client
import json
import re
import socket
import ssl
import threading
import time

import httpx
import pytest
import trustme

from harness.http_client import request
from harness.ports import free_ports
from harness.server import Server
from harness.upstream import Upstream, echo, send, send_json
from harness.wait import until

pytestmark = pytest.mark.ours

ROUTES = [
    {"name": "prefix", "paths": ["/api"]},
    {"name": "longer", "paths": ["/api/longer"]},
    {"name": "regex", "paths": [r"~/api/v\d+/items$"]},
    {"name": "method", "paths": ["/api"], "methods": ["PATCH"]},
    {"name": "host", "hosts": ["special.example.com"]},
    {"name": "host-path", "hosts": ["special.example.com"], "paths": ["/api"]},
    {"name": "wild", "hosts": ["*.wild.example.com"]},
    {"name": "wild-tail", "hosts": ["tail.example.*"]},
    {"name": "header", "paths": ["/api"], "headers": {"x-version": ["2", "two"]}},
    {"name": "header-regex", "paths": ["/api"], "headers": {"x-variant": ["~*^blue.*"]}},
    {"name": "kept", "paths": ["/kept"], "strip_path": False},
    {"name": "preserved", "paths": ["/preserved"], "preserve_host": True},
    {"name": "priority-low", "paths": ["~/rank/.*"], "regex_priority": 1},
    {"name": "priority-high", "paths": ["~/rank/[a-z]+"], "regex_priority": 5},
]


def stream(handler, seen):
    """/sha: digest of the body. /down?n: n bytes. /slow: a chunk, then one more when told. Others: echo."""
    if seen.path.endswith("/sha"):
        send(handler, 200, hashlib.sha256(seen.body).hexdigest() + f" {len(seen.body)}")
    elif seen.path.endswith("/down"):
        size = int(seen.target.split("?")[1])
        handler.send_response(200)
        handler.send_header("Content-Length", str(size))
        handler.end_headers()
        for _ in range(size // 65536):
            handler.wfile.write(b"d" * 65536)
        handler.wfile.write(b"d" * (size % 65536))
    elif seen.path.endswith("/slow"):
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"5\r\nfirst\r\n")
        handler.wfile.flush()
        handler.server.go_on.wait(10)
        handler.wfile.write(b"6\r\nsecond\r\n0\r\n\r\n")
    elif seen.path.endswith("/status"):
        status = int(seen.target.split("?")[1])
        send(handler, status, b"" if status in (204, 304) else b"x" * 10, {"X-Mine": "kept"})
    elif seen.path.endswith("/cookies"):
        handler.send_response(200)
        for value in ("a=1", "b=2"):
            handler.send_header("Set-Cookie", value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
    elif seen.path.endswith("/hang"):
        handler.server.go_on.wait(3)
        send(handler, 200)
    elif seen.path.endswith("/garbage"):
        handler.wfile.write(b"\x00\x01 this is not HTTP\r\n\r\n")
        handler.close_connection = True
    elif seen.path.endswith("/close"):
        send(handler, 200, b"closing")
        handler.close_connection = True
    else:
        echo(handler, seen)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    folder = tmp_path_factory.mktemp("proxy")
    certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    plain_port, tls_port, dead_port = free_ports(3)
    with Upstream(stream) as upstream, Upstream(echo, tls=certificate) as secure:
        upstream.server.go_on = threading.Event()
        services = [{"name": route["name"], "url": upstream.url("/svc/" + route["name"]), "routes": [route]}
                    for route in ROUTES]
        services += [
            {"name": "plain", "url": upstream.url(), "routes": [{"name": "plain", "paths": ["/plain"]}]},
            {"name": "impatient", "url": upstream.url(), "read_timeout": 300, "retries": 0,
             "routes": [{"name": "impatient", "paths": ["/impatient"]}]},
            {"name": "dead", "url": f"http://127.0.0.1:{dead_port}", "connect_timeout": 500,
             "routes": [{"name": "dead", "paths": ["/dead"]}]},
            {"name": "unresolved", "url": "http://does-not-exist.invalid",
             "routes": [{"name": "unresolved", "paths": ["/unresolved"]}]},
            {"name": "secure", "url": secure.url(), "routes": [{"name": "secure", "paths": ["/secure"]}]},
            {"name": "verified", "url": secure.url(), "tls_verify": True,
             "routes": [{"name": "verified", "paths": ["/verified"]}]},
            {"name": "https-only", "url": upstream.url(),
             "routes": [{"name": "https-only", "paths": ["/https-only"], "protocols": ["https"]},
                        {"name": "https-moved", "paths": ["/https-moved"], "protocols": ["https"],
                         "https_redirect_status_code": 301}]},
            {"name": "limited", "url": upstream.url(), "routes": [
                {"name": "limited", "paths": ["/limited"], "plugins": [
                    {"name": "rate-limiting", "config": {"hour": 3, "policy": "local"}}]},
                {"name": "limited-silent", "paths": ["/limited-silent"], "plugins": [
                    {"name": "rate-limiting", "config": {"hour": 1, "policy": "local", "hide_client_headers": True,
                                                         "error_code": 420, "error_message": "calm down"}}]},
                {"name": "limited-consumer", "paths": ["/limited-consumer"], "plugins": [
                    {"name": "key-auth"}, {"name": "rate-limiting", "config": {"hour": 2, "limit_by": "consumer"}}]}]},
        ]
        server = Server(folder / "server", {
            "services": services, "routes": [{"name": "no-service", "paths": ["/no-service"]}],
            "consumers": [{"username": "ann", "keyauth_credentials": [{"key": "ann-key"}]},
                          {"username": "bob", "keyauth_credentials": [{"key": "bob-key"}]}],
        }, listen={"http": [f"127.0.0.1:{plain_port}", {
            "address": f"127.0.0.1:{tls_port}",
            "tls": {"cert": str(folder / "cert.pem"), "key": str(folder / "key.pem")}}]})
        server.ports["http"] = plain_port
        server.upstream, server.tls_port, server.ca = upstream, tls_port, str(folder / "ca.pem")
        server.start()
        yield server
        server.close()


@pytest.fixture
def port(gateway):
    return gateway.ports["http"]


# --- routing ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("method, target, headers, expected", [
    ("GET", "/api", {}, "/svc/prefix"),
    ("GET", "/api/", {}, "/svc/prefix/"),
    ("GET", "/api/x", {}, "/svc/prefix/x"),
    ("GET", "/apix", {}, "/svc/prefix/x"),
    ("GET", "/api/longer/1", {}, "/svc/longer/1"),
    ("GET", "/api/v2/items", {}, "/svc/regex"),
    ("GET", "/api/v2/items/3", {}, "/svc/prefix/v2/items/3"),
    ("GET", "/api/vx/items", {}, "/svc/prefix/vx/items"),
    ("PATCH", "/api/x", {}, "/svc/method/x"),
    ("PATCH", "/api/longer/1", {}, "/svc/method/longer/1"),
    ("GET", "/other", {"Host": "special.example.com"}, "/svc/host/other"),
    ("GET", "/other", {"Host": "SPECIAL.example.com"}, "/svc/host/other"),
    ("GET", "/other", {"Host": "special.example.com:8000"}, "/svc/host/other"),
    ("GET", "/api/x", {"Host": "special.example.com"}, "/svc/host-path/x"),
    ("GET", "/z", {"Host": "a.wild.example.com"}, "/svc/wild/z"),
    ("GET", "/z", {"Host": "a.b.wild.example.com"}, "/svc/wild/z"),
    ("GET", "/z", {"Host": "tail.example.org"}, "/svc/wild-tail/z"),
    ("GET", "/api/x", {"x-version": "2"}, "/svc/header/x"),
    ("GET", "/api/x", {"X-Version": "TWO"}, "/svc/header/x"),
    ("GET", "/api/x", {"x-version": "3"}, "/svc/prefix/x"),
    ("GET", "/api/x", {"x-variant": "blueish"}, "/svc/header-regex/x"),
    ("GET", "/api/x", {"x-variant": "not blue"}, "/svc/prefix/x"),
    ("GET", "/kept/x", {}, "/svc/kept/kept/x"),
    ("GET", "/a/../api/x", {}, "/svc/prefix/x"),
    ("GET", "/%61pi/x", {}, "/svc/prefix/x"),
    ("GET", "//api//x", {}, "/svc/prefix/x"),
    ("GET", "/rank/abc", {}, "/svc/priority-high"),
    ("GET", "/rank/123", {}, "/svc/priority-low"),
])
def test_which_route_wins_and_what_path_the_upstream_sees(port, method, target, headers, expected):
    answer = request(port, method, target, headers=headers)
    assert answer.status == 200, answer
    assert (answer.json["method"], answer.json["path"]) == (method, expected)


@pytest.mark.parametrize("target, headers", [
    ("/", {}), ("/ap", {}), ("/API/x", {}), ("/z", {"Host": "wild.example.com"}), ("/api/../z", {}),
    ("/z", {"Host": "xspecial.example.com"}),
])
def test_no_route(port, target, headers):
    answer = request(port, "GET", target, headers=headers)
    assert (answer.status, answer.json["message"]) == (404, "no Route matched with those values")


@pytest.mark.parametrize("query", ["?a=1&b=%20%2F&a=2", "?", "", "?x=a+b&%C3%A9=1"])
def test_the_query_is_passed_as_it_is(port, query):
    assert request(port, "GET", "/api/q" + query).json["target"] == "/svc/prefix/q" + query


def test_encoded_slashes_stay_encoded(port):
    assert request(port, "GET", "/api/a%2Fb").json["path"] == "/svc/prefix/a%2Fb"


# --- headers ---------------------------------------------------------------------------------------------------------

def test_host_is_the_upstream_s_or_the_client_s(gateway, port):
    assert request(port, "GET", "/api/x", headers={"Host": "client.example"}).echoed("host") == [
        f"127.0.0.1:{gateway.upstream.port}"]
    assert request(port, "GET", "/preserved", headers={"Host": "client.example"}).echoed("host") == ["client.example"]


def test_what_the_upstream_is_told_about_the_client(port):
    answer = request(port, "GET", "/api/x?q=1", headers={
        "Host": "client.example", "X-Forwarded-For": "10.1.1.1", "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "spoofed", "X-Forwarded-Port": "1", "X-Forwarded-Prefix": "/spoofed",
        "X-Forwarded-Path": "/spoofed"})
    assert answer.echoed("x-forwarded-for") == ["10.1.1.1, 127.0.0.1"]
    assert answer.echoed("x-forwarded-proto") == ["http"]
    assert answer.echoed("x-forwarded-host") == ["client.example"]
    assert answer.echoed("x-forwarded-port") == [str(port)]
    assert answer.echoed("x-forwarded-path") == ["/api/x"]
    assert answer.echoed("x-forwarded-prefix") == ["/api"]
    assert answer.echoed("x-real-ip") == ["127.0.0.1"]
    (request_id,) = answer.echoed("x-kong-request-id")
    assert re.fullmatch(r"[0-9a-f]{32}", request_id)
    assert answer.headers["X-Kong-Request-Id"] == request_id
    assert answer.echoed("via")[0].startswith("1.1 ")


def test_hop_by_hop_headers_stay_on_their_hop(port):
    answer = request(port, "GET", "/api/x", headers={
        "Connection": "keep-alive, X-Private", "X-Private": "mine", "Keep-Alive": "timeout=5", "TE": "gzip",
        "Proxy-Connection": "keep-alive", "Upgrade": "nonsense", "X-Public": "ours"})
    names = {key for key, _ in answer.json["headers"]}
    assert "x-public" in names
    assert not names & {"x-private", "keep-alive", "proxy-connection", "te", "upgrade"}


def test_repeated_headers_and_cookies_are_all_passed(port):
    answer = request(port, "GET", "/api/x", headers=[("X-Many", "1"), ("X-Many", "2"), ("Cookie", "a=1")])
    assert [value.strip() for each in answer.echoed("x-many") for value in each.split(",")] == ["1", "2"]
    assert answer.echoed("cookie") == ["a=1"]
    assert request(port, "GET", "/plain/cookies").headers.get_all("Set-Cookie") == ["a=1", "b=2"]


def test_latency_headers(port):
    proxied = request(port, "GET", "/api/x").headers
    assert proxied["X-Kong-Upstream-Latency"].isdigit() and proxied["X-Kong-Proxy-Latency"].isdigit()
    assert proxied["Via"].startswith("1.1 ")
    ours = request(port, "GET", "/nowhere").headers
    assert ours["X-Kong-Response-Latency"].isdigit()
    assert ours["X-Kong-Upstream-Latency"] is None
    assert re.fullmatch(r"[0-9a-f]{32}", ours["X-Kong-Request-Id"])


# --- errors ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("target, status, message", [
    ("/nowhere", 404, "no Route matched with those values"),
    ("/no-service", 503, "no Service found with those values"),
    ("/dead", 502, "An invalid response was received from the upstream server"),
    ("/unresolved", 503, "name resolution failed"),
    ("/impatient/hang", 504, "The upstream server is timing out"),
    ("/plain/garbage", 502, "An invalid response was received from the upstream server"),
    ("/verified", 502, "An invalid response was received from the upstream server"),
    ("/https-only", 426, "Please use HTTPS protocol"),
])
def test_error_bodies_as_json(port, target, status, message):
    answer = request(port, "GET", target, headers={"Accept": "application/json"})
    assert (answer.status, answer.json["message"]) == (status, message)
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.json.get("request_id") in (None, answer.headers["X-Kong-Request-Id"])
    assert set(answer.json) <= {"message", "request_id"}


def test_json_when_nothing_is_asked_for_and_with_a_request_id(port):
    answer = request(port, "GET", "/nowhere")
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.json == {"message": "no Route matched with those values",
                           "request_id": answer.headers["X-Kong-Request-Id"]}


@pytest.mark.parametrize("accept, kind, marker", [
    ("text/html", "text/html", "<h1>"), ("application/xml", "application/xml", "<error>"),
    ("text/plain", "text/plain", "request_id: "), ("text/html;q=0.1, application/json", "application/json", '"message"'),
])
def test_error_bodies_as_the_client_asks(port, accept, kind, marker):
    answer = request(port, "GET", "/nowhere", headers={"Accept": accept})
    assert answer.headers["Content-Type"].startswith(kind)
    assert "no Route matched with those values" in answer.text
    assert marker in answer.text
    assert answer.headers["X-Kong-Request-Id"] in answer.text


def test_an_error_for_head_has_no_body_and_the_connection_lives_on(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    assert (request(port, "HEAD", "/nowhere", connection=connection).status,) == (404,)
    assert request(port, "GET", "/api/x", connection=connection).status == 200
    connection.close()


def test_https_only_tells_how(port):
    answer = request(port, "GET", "/https-only", headers={"Host": "h.example"})
    assert (answer.headers["Upgrade"], "upgrade" in answer.headers["Connection"].lower()) == ("TLS/1.2, HTTP/1.1", True)
    moved = request(port, "GET", "/https-moved?a=1", headers={"Host": "h.example"})
    assert (moved.status, moved.headers["Location"]) == (301, "https://h.example/https-moved?a=1")


# --- rate limiting ---------------------------------------------------------------------------------------------------

def test_rate_limiting_by_address(port):
    answers = [request(port, "GET", "/limited") for _ in range(5)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
    assert [answer.headers["X-RateLimit-Remaining-Hour"] for answer in answers] == ["2", "1", "0", "0", "0"]
    assert {answer.headers["X-RateLimit-Limit-Hour"] for answer in answers} == {"3"}
    assert [answer.headers["RateLimit-Remaining"] for answer in answers[:3]] == ["2", "1", "0"]
    assert answers[0].headers["RateLimit-Limit"] == "3"
    assert 0 < int(answers[0].headers["RateLimit-Reset"]) <= 3600
    assert answers[3].json["message"] == "API rate limit exceeded"
    assert 0 < int(answers[3].headers["Retry-After"]) <= 3600


def test_rate_limiting_with_its_own_words_and_no_headers(port):
    first, second = request(port, "GET", "/limited-silent"), request(port, "GET", "/limited-silent")
    assert (first.status, second.status, second.json["message"]) == (200, 420, "calm down")
    assert not [name for name in first.headers if "ratelimit" in name.lower()]


def test_rate_limiting_counts_each_consumer(port):
    def ask(key):
        return request(port, "GET", "/limited-consumer", headers={"apikey": key}).status

    assert [ask("ann-key") for _ in range(3)] == [200, 200, 429]
    assert [ask("bob-key") for _ in range(3)] == [200, 200, 429]


# --- bodies ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("size", [0, 1, 65536, 5_000_000])
@pytest.mark.parametrize("chunked", [False, True], ids=["content-length", "chunked"])
def test_request_bodies_arrive_whole(port, size, chunked):
    body = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    pieces = (body[at:at + 10007] for at in range(0, size, 10007)) if chunked else body
    answer = request(port, "POST", "/plain/sha", pieces)
    assert answer.text == f"{hashlib.sha256(body).hexdigest()} {size}"


def test_a_large_response_streams_without_piling_up(gateway, port):
    before = gateway.rss_kib()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/plain/down?200000000")
    response = connection.getresponse()
    read, most = 0, 0
    while piece := response.read(1 << 20):
        read += len(piece)
        most = max(most, gateway.rss_kib())
    connection.close()
    assert read == 200_000_000
    assert most - before < 40_000, f"RSS grew by {most - before} KiB while 200 MB streamed"


def test_the_first_chunk_comes_before_the_last_is_made(gateway, port):
    gateway.upstream.server.go_on.clear()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", "/plain/slow")
    response = connection.getresponse()
    assert response.read(5) == b"first"
    gateway.upstream.server.go_on.set()
    assert response.read() == b"second"
    gateway.upstream.server.go_on.clear()
    connection.close()


@pytest.mark.parametrize("status", [200, 201, 204, 206, 301, 304, 400, 404, 418, 500, 503])
def test_any_status_passes_and_the_connection_lives_on(port, status):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    answer = request(port, "GET", f"/plain/status?{status}", connection=connection)
    assert (answer.status, answer.headers["X-Mine"]) == (status, "kept")
    assert request(port, "GET", "/api/x", connection=connection).status == 200
    connection.close()


def test_head_has_the_length_and_no_body(port):
    answer = request(port, "HEAD", "/plain/status?200")
    assert (answer.status, answer.headers["Content-Length"], answer.body) == (200, "10", b"")


def test_expect_100_continue(port):
    with socket.create_connection(("127.0.0.1", port), timeout=5) as s:
        s.sendall(b"POST /plain/sha HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert s.recv(65536).startswith(b"HTTP/1.1 100")
        s.sendall(b"hi")
        came = b""
        while hashlib.sha256(b"hi").hexdigest().encode() not in came:
            piece = s.recv(65536)
            assert piece, came
            came += piece
        assert came.startswith(b"HTTP/1.1 200")


def test_pipelined_requests_are_answered_in_order(port):
    with socket.create_connection(("127.0.0.1", port), timeout=5) as s:
        s.sendall(b"".join(b"GET /plain/p%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(5)))
        came = b""
        while came.count(b'"target"') < 5:
            came += s.recv(65536)
        assert re.findall(rb'"target": "/p(\d)"', came) == [b"0", b"1", b"2", b"3", b"4"]


def test_http_1_0_gets_an_answer_it_understands(port):
    with socket.create_connection(("127.0.0.1", port), timeout=5) as s:
        s.sendall(b"GET /plain/down?100 HTTP/1.0\r\n\r\n")
        came = b""
        while piece := s.recv(65536):
            came += piece
    assert came.startswith(b"HTTP/1.") and b" 200 " in came.split(b"\r\n")[0]
    assert came.endswith(b"\r\n\r\n" + b"d" * 100), "HTTP/1.0 knows no chunks"


# --- upstream connections --------------------------------------------------------------------------------------------

def test_upstream_connections_are_kept_and_used_again(gateway, port):
    before = gateway.upstream.connections
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    for _ in range(100):
        assert request(port, "GET", "/api/x", connection=connection).status == 200
    connection.close()
    assert gateway.upstream.connections - before <= 4


def test_an_upstream_that_closes_after_each_answer_is_no_trouble(port):
    for _ in range(20):
        assert request(port, "GET", "/plain/close").text == "closing"
        assert request(port, "GET", "/api/x").status == 200


def test_a_client_that_gives_up_does_not_hold_the_upstream(gateway, port):
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as s:
            s.sendall(b"GET /plain/down?200000000 HTTP/1.1\r\nHost: a\r\n\r\n")
            assert s.recv(100).startswith(b"HTTP/1.1 200")
    until(lambda: request(port, "GET", "/api/x").status == 200, "still serving")
    until(lambda: gateway.fds() < 80, "descriptors of abandoned requests are closed", 10)


def test_many_at_once(port):
    statuses, lock = [], threading.Lock()

    def hammer():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        for number in range(50):
            answer = request(port, "POST", "/api/x", b"%d" % number, connection=connection)
            with lock:
                statuses.append(answer.status == 200 and answer.json["body"] == str(number))
        connection.close()

    threads = [threading.Thread(target=hammer) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(statuses) == 1600 and all(statuses)


# --- TLS and HTTP/2 --------------------------------------------------------------------------------------------------

def test_tls_in(gateway):
    context = ssl.create_default_context(cafile=gateway.ca)
    connection = http.client.HTTPSConnection("localhost", gateway.tls_port, context=context, timeout=5)
    connection.request("GET", "/https-only")
    answer = connection.getresponse()
    echoed = dict(json.loads(answer.read())["headers"])
    assert (answer.status, echoed["x-forwarded-proto"], echoed["x-forwarded-port"]) == (200, "https",
                                                                                         str(gateway.tls_port))
    connection.close()


def test_tls_to_the_upstream(port):
    answer = request(port, "POST", "/secure/x", b"over TLS")
    assert (answer.status, answer.json["path"], answer.json["body"]) == (200, "/x", "over TLS")


@pytest.mark.parametrize("over", ["prior knowledge", "TLS with ALPN"])
def test_http_2_in(gateway, port, over):
    context = ssl.create_default_context(cafile=gateway.ca)
    base = f"http://127.0.0.1:{port}" if over == "prior knowledge" else f"https://localhost:{gateway.tls_port}"
    with httpx.Client(http1=over != "prior knowledge", http2=True, verify=context, timeout=10, base_url=base) as client:
        answer = client.get("/api/x", params={"a": "1"})
        assert (answer.http_version, answer.status_code) == ("HTTP/2", 200)
        assert answer.json()["target"] == "/svc/prefix/x?a=1"
        body = b"2" * 3_000_000
        answer = client.post("/plain/sha", content=body)
        assert answer.text == f"{hashlib.sha256(body).hexdigest()} {len(body)}"
        answer = client.get("/nowhere")
        assert (answer.status_code, answer.json()["message"]) == (404, "no Route matched with those values")
        assert len(client.get("/plain/down?3000000").content) == 3_000_000


def test_http_2_streams_are_served_side_by_side(gateway, port):
    """While one stream waits for its upstream, a hundred others on the connection are answered."""
    import asyncio

    gateway.upstream.server.go_on.clear()

    async def talk():
        async with httpx.AsyncClient(http1=False, http2=True, timeout=10) as client:
            base = f"http://127.0.0.1:{port}"
            hanging = asyncio.create_task(client.get(base + "/plain/hang"))
            began = time.monotonic()
            answers = await asyncio.gather(*(client.get(f"{base}/api/{n}") for n in range(100)))
            assert [answer.json()["path"] for answer in answers] == [f"/svc/prefix/{n}" for n in range(100)]
            assert not hanging.done() and time.monotonic() - began < 2.9
            gateway.upstream.server.go_on.set()
            assert (await hanging).status_code == 200

    asyncio.run(talk())
    gateway.upstream.server.go_on.clear()


def test_idle_connections_do_not_keep_the_server_from_stopping(start_server):
    with Upstream() as upstream:
        server = start_server({"services": [{"name": "s", "url": upstream.url(),
                                             "routes": [{"name": "r", "paths": ["/"]}]}]})
        connection = http.client.HTTPConnection("127.0.0.1", server.ports["http"], timeout=5)
        assert request(server.ports["http"], "GET", "/", connection=connection).status == 200
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 10
        connection.close()


def test_what_is_in_flight_at_sigterm_is_finished(start_server):
    """SIGTERM while the upstream is thinking: the answer still comes, and the exit code is 0."""
    import signal

    gate = threading.Event()

    def thinking(handler, _seen):
        gate.wait(10)
        send_json(handler, {"finished": True})

    with Upstream(thinking) as upstream:
        server = start_server({"services": [{"name": "s", "url": upstream.url(),
                                             "routes": [{"name": "r", "paths": ["/"]}]}]})
        answers = []
        thread = threading.Thread(target=lambda: answers.append(request(server.ports["http"], "GET", "/")))
        thread.start()
        until(lambda: upstream.count() == 1, "the request is at the upstream")
        server.process.send_signal(signal.SIGTERM)
        until(lambda: refuses(server.ports["http"]), "no new connection is accepted", 5)
        gate.set()
        thread.join(timeout=10)
        assert answers and answers[0].json == {"finished": True}
        assert server.wait_exit() == 0


def refuses(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return False
    except OSError:
        return True
